"""Sound IDX files of other kinds than MNIST's own: read where the meaning is clear, refused with a remedy elsewhere."""

import math
import os
from pathlib import Path

import numpy as np

from tinygan.backend import Array
from tinygan.datasets.idx import idx_header
from tinygan.errors import DataError


def candidates(folder: Path, name: str) -> list[Path]:
    """Under which names a file is looked for: train-images-idx3-ubyte and train-images.idx3-ubyte, gzipped and plain."""
    return [folder / (form + end) for form in (name, name.replace("-idx", ".idx")) for end in (".gz", "")]


def remedy_for(folder: Path) -> str:
    """What to do where a file is missing from this folder, by what there is in its place."""
    if not folder.exists():
        return "there is no such folder: check the name of the folder"
    if not folder.is_dir():
        return "this is a file: name the folder that holds the four files"
    below = [path.parent for path in sorted(folder.glob("*/*")) + sorted(folder.glob("*/*/*")) if "train-images" in path.name]
    if below:
        return f"they are in a folder below: name {below[0]}"
    others = sorted(name for name in os.listdir(folder) if "idx" in name and not name.startswith(("train-", "t10k-")))
    if others:
        return (
            f"there are {', '.join(others[:8])}: copy the four files of one set into a folder of their own, and rename them to "
            f"these names (for a test set t10k). EMNIST stores its images transposed"
        )
    return "put MNIST's four IDX files there, or name no folder and they are downloaded"


def as_images(array: Array, path: Path) -> Array:
    """Images (n, h, w) of uint8. Accepts (n, h, w, 1), (n, 1, h, w), and (n, d) where d is a square."""
    if array.dtype == np.uint8 and array.ndim == 4 and 1 in (array.shape[-1], array.shape[1]):
        array = array[..., 0] if array.shape[-1] == 1 else array[:, 0]
    if array.dtype == np.uint8 and array.ndim == 2 and (side := math.isqrt(array.shape[1])) ** 2 == array.shape[1]:
        array = array.reshape(len(array), side, side)
    if array.dtype == np.uint8 and array.ndim == 3:
        return array
    remedy = "give each file its own name back"
    if array.dtype.kind == "f" and array.ndim > 1:
        scale = "" if array.max() > 1 else "255 * "
        remedy = f"save them as uint8: write_idx(path, np.rint({scale}read_idx(path)).astype(np.uint8))"
    elif array.ndim > 1:
        remedy = "save grey images as uint8 of shape (n, height, width), with write_idx"
    raise DataError(f"{path}: {_kind(array)} 2051 belongs (2051 means images of uint8, 2049 labels): {remedy}")


def as_labels(array: Array, path: Path) -> Array:
    """Labels (n,) of int16. Accepts integers of all types, and QMNIST's (n, 8) of int32, whose first column is the class."""
    if array.dtype == np.int32 and array.ndim == 2 and array.shape[1] == 8:
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        remedy = "save labels as uint8 of shape (n,), with write_idx" if array.ndim == 1 else "give each file its own name back"
        raise DataError(f"{path}: {_kind(array)} 2049 belongs (2051 means images of uint8, 2049 labels): {remedy}")
    if array.min() < 0 or array.max() > 32767:
        raise DataError(f"{path}: its labels are {array.min()} to {array.max()}: number the classes from 0 to at most 32767")
    return array.astype(np.int16)


def _kind(array: Array) -> str:
    number = int.from_bytes(idx_header(array)[:4], "big")
    return f"it has {array.dtype} of shape {array.shape}, its magic number is {number} where"
