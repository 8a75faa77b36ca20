"""Images in one file, .npy or IDX, as uint8: which shapes and which ranges of values are clear, and what to do with others."""

import io
import math
import os
from pathlib import Path

import numpy as np

from tinygan.backend import Array
from tinygan.datasets.idx import read_idx
from tinygan.datasets.pictures import STARTS
from tinygan.errors import DataError
from tinygan.files import open_file

NPY = b"\x93NUMPY"
BLOCK = 2**22  # values converted at once
ROUNDING = 1e-3  # how far outside its range a value may be because of rounding
NEEDS = "give images of shape (n, height, width) or (n, height, width, 3)"


def read_array(path: Path) -> tuple[Array, str]:
    """The images in a .npy or IDX file: uint8 (n, h, w) or (n, h, w, 3); and how their values were read, in words.

    Raises DataError, with the file's name and the remedy, for other files, damaged ones, and for shapes and ranges of values
    that could mean several things.
    """
    try:
        with open_file(path) as file:
            start = file.peek(8)[:8]
            array = _read_npy(file) if start.startswith(NPY) else None
        if array is None:
            _require_idx(start)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # on damaged bytes the npy reader raises half a dozen kinds
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}: give a .npy file of numbers") from error
    array = read_idx(path) if array is None else array
    try:
        return as_uint8(image_stack(array))
    except DataError as error:
        raise DataError(f"{path}: {array.dtype} of shape {array.shape}: {error}") from None


def _read_npy(file: io.BufferedReader) -> Array:
    """The array in a .npy file. It stays on the disk: only what is used is read. Its header must fit its size."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # (2, 0) is for headers that no array of numbers has, and reads as many bytes as it states
        raise ValueError(f"version {version} of .npy")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise DataError("it holds Python objects, which are not read: save one array of numbers, all images of one size")
    promised, held = dtype.itemsize * math.prod(shape), os.fstat(file.fileno()).st_size - file.tell()
    if promised != held:
        raise ValueError(f"its header promises {promised} bytes of data, {held} are there")
    return np.lib.format.open_memmap(file.name, mode="r")


def _require_idx(start: bytes) -> None:
    """Raise DataError unless a file that starts like this can be IDX, gzipped or plain."""
    if start.startswith((b"\x1f\x8b", b"\0\0")):
        return
    if start.startswith(STARTS):
        raise DataError("this is one picture: name the folder that holds it and the others")
    if start.startswith(b"PK"):
        raise DataError("this is a zip archive: unpack it and name the folder, or save one array with numpy.save")
    found = f"it starts with {start!r}" if start else "it is empty"
    raise DataError(f"{found}: give a folder of PNG or JPEG files, a .npy file or an IDX file")


def image_stack(array: Array) -> Array:
    """The array as (n, h, w) or (n, h, w, 3). Accepts one channel, channels first, and rows (n, d) of square grey images."""
    shape = array.shape
    if array.ndim == 1:
        raise DataError(f"these may be labels: {NEEDS}")
    if array.ndim == 2:
        side = math.isqrt(shape[1])
        if side * side == shape[1] and side > 1:
            return array.reshape(len(array), side, side)
        raise DataError(f"rows of {shape[1]} values are no square grey images: reshape them, {NEEDS}")
    if array.ndim == 3 and (shape[-1] not in (3, 4) or shape[1] <= 8):  # else it is one picture in colour
        return array
    if array.ndim == 4 and shape[-1] in (1, 3):
        return array if shape[-1] == 3 else array[..., 0]
    if array.ndim == 4 and shape[1] in (1, 3):  # channels first
        return np.moveaxis(array, 1, -1) if shape[1] == 3 else array[:, 0]
    raise DataError(NEEDS)


def as_uint8(images: Array) -> tuple[Array, str]:
    """Images as uint8, and in words what their values were. The range is known by the smallest and the largest of them.

        booleans; integers 0 and 1        255 v
        integers 0 … 255                  v
        uint16 above 255                  v / 257
        floats in [0, 1]                  255 v
        floats in [−1, 1]                 255 (v + 1) / 2
        floats in [0, 255]                v

    All are rounded to the nearest integer. Raises DataError for NaN and for all other ranges.
    """
    if images.dtype.kind not in "buif" or not images.size:
        raise DataError(f"these are no pixels: {NEEDS}, in uint8 or floats")
    low, high = float(images.min()), float(images.max())  # NaN if there is one
    kind, found = images.dtype.kind, f"{images.dtype} from {low:.4g} to {high:.4g}"
    if kind == "b" or (kind in "ui" and 0 <= low and high <= 1):
        return _converted(images, 255, 0), f"{found}, × 255"
    if kind in "ui" and 0 <= low and high <= 255:
        return _converted(images, 1, 0), found
    if images.dtype == np.uint16:
        return _converted(images, 1 / 257, 0), f"{found}, / 257"
    if kind == "f" and -ROUNDING <= low and high <= 1 + ROUNDING:
        return _converted(images, 255, 0), f"{found}, read as [0, 1]"
    if kind == "f" and -1 - ROUNDING <= low and high <= 1 + ROUNDING:
        return _converted(images, 127.5, 127.5), f"{found}, read as [−1, 1]"
    if kind == "f" and 0 <= low and 32 <= high <= 255:  # the largest of many pixels is not near 1 by chance
        return _converted(images, 1, 0), f"{found}, read as [0, 255]"
    raise DataError(f"its values go from {low:.4g} to {high:.4g}: scale them to [0, 1], or to 0 … 255 in uint8")


def _converted(images: Array, scale: float, shift: float) -> Array:
    """round(scale · images + shift) as uint8, a few images at a time."""
    if images.dtype == np.uint8 and scale == 1:
        return images
    out: Array = np.empty(images.shape, np.uint8)
    rows = max(1, BLOCK // math.prod(images.shape[1:]))
    for start in range(0, len(images), rows):
        block = images[start : start + rows].astype(np.float64) * scale + shift
        out[start : start + rows] = np.rint(block)  # ROUNDING is too small to leave 0 … 255
    return out
