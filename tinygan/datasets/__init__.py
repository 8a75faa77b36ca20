"""Data sets: find, fetch, verify, read. Pixels stay uint8 in memory; tinygan.backend.pixels scales one minibatch."""

from tinygan.datasets.cifar10 import load_cifar10
from tinygan.datasets.contrast import contrast_pixels, normalise_contrast
from tinygan.datasets.dataset import SUBSET, Dataset, Split
from tinygan.datasets.download import cache_folder
from tinygan.datasets.find import load_data
from tinygan.datasets.folder import load_images
from tinygan.datasets.idx import read_idx, write_idx
from tinygan.datasets.mnist import load_mnist
from tinygan.datasets.tfd import Faces, load_tfd

__all__ = [
    "SUBSET",
    "Dataset",
    "Faces",
    "Split",
    "cache_folder",
    "contrast_pixels",
    "load_cifar10",
    "load_data",
    "load_images",
    "load_mnist",
    "load_tfd",
    "normalise_contrast",
    "read_idx",
    "write_idx",
]
