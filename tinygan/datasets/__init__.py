"""Data sets: find, fetch, verify, read. Pixels stay uint8 in memory; tinygan.backend.pixels scales one minibatch."""

from tinygan.datasets.dataset import Dataset, Split
from tinygan.datasets.download import cache_folder
from tinygan.datasets.find import load_data
from tinygan.datasets.folder import load_images
from tinygan.datasets.idx import read_idx, write_idx
from tinygan.datasets.mnist import load_mnist

__all__ = ["Dataset", "Split", "cache_folder", "load_data", "load_images", "load_mnist", "read_idx", "write_idx"]
