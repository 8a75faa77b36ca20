"""The Toronto Face Dataset (TFD): the file TFD_48x48.mat, in MATLAB's format 5.

A file of this format is a header of 128 bytes, then one element for each variable, compressed or not. scipy reads the numbers
in an element. But it believes the sizes that are stated there, and allocates them first. So this module looks at each
element before, and lets scipy see those alone whose parts are all there and are plain numbers. Objects, functions, cells
and other kinds of variables are never read.

Source: Susskind, Anderson and Hinton 2010, The Toronto Face Dataset, UTML TR 2010-001, University of Toronto
"""

import io
import math
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygan.backend import Array
from tinygan.datasets.dataset import Dataset, Split
from tinygan.errors import DataError
from tinygan.files import open_file

FILE = "TFD_48x48.mat"
SHAPE = (48, 48)
FACES = 102_236  # in TFD
LARGEST = 250_000 * 48 * 48  # bytes of a variable: no more are read
FOLDS = 5
UNLABELLED, VALIDATION, TEST = 0, 2, 3  # in `folds`; 1 is for labelled faces to train with
ASK = (
    "TFD is not public. Ask its authors at the University of Toronto for it (Susskind, Anderson and Hinton 2010, The "
    f"Toronto Face Dataset, UTML TR 2010-001), and name the file, {FILE}, with --data or path"
)
NEEDED = ("images", "folds", "labs_ex")  # the variables
AGAIN = f"take {FILE} as its authors give it"

HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of one number, by the type of a part
REAL = range(6, 16)  # classes of arrays: double, single, and integers of 1, 2, 4 and 8 bytes
COMPLEX = 0x800  # a flag
START = 512  # bytes of an element that hold the flags, the shape, the name and the size of the numbers


@dataclass(frozen=True, eq=False)
class Faces(Dataset):
    """A data set with folds.    folds  (validation, test) of each fold; the first pair is `validation` and `test`, too"""

    folds: tuple[tuple[Split, Split], ...]

    @property
    def splits(self) -> tuple[Split, ...]:
        return (self.train, *(split for fold in self.folds for split in fold))


def load_tfd(path: str | os.PathLike[str] | None = None) -> Faces:
    """TFD: the unlabelled faces to train with, and five folds of labelled ones to measure with. images (n, 2304) uint8.

    path      TFD_48x48.mat, or the folder that it is in
    .train                 the faces that are unlabelled in every fold, whose labels are −1
    .folds                 five pairs (validation, test), labels 1 to 7: the expression
    .validation, .test     those of the first fold

    `name` is "tfd" for a file of 102,236 faces, as TFD has; no checksum is published, so it is not verified. Any other file in
    this format is "mat-" with the name of its folder, and `source` says how many faces it has.
    Raises DataError for a file that is missing, damaged, or of a different kind. It says what is wrong, or whom to ask for TFD.
    """
    if path is None or not str(path):
        raise DataError(f"no file is named. {ASK}")
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        found = _read(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. {ASK}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: name {FILE}, a file that can be read") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    images, folds, labels = (found[name] for name in NEEDED)
    try:
        _require(images, folds, labels)
    except DataError as error:
        raise DataError(f"{path}: {error}: {AGAIN}") from error

    def split(rows: Array) -> Split:
        return Split(np.ascontiguousarray(images[rows]).reshape(-1, math.prod(SHAPE)), labels.ravel()[rows].astype(np.int16))

    pairs = tuple((split(fold == VALIDATION), split(fold == TEST)) for fold in folds.T)
    train, where = split((folds == UNLABELLED).all(axis=1)), path.resolve().parent.name
    if len(images) == FACES:
        name, source = "tfd", f"{path.name}: {FACES:,} faces, as TFD has; not verified, since no checksum of TFD is published"
    else:
        name = f"mat-{where}"
        source = f"{path.name} in {where}, not TFD: {len(images):,} faces in its format, where TFD has {FACES:,}"
    return Faces(name, source, SHAPE, train, *pairs[0], pairs)


def _require(images: Array, folds: Array, labels: Array) -> None:
    """Raise DataError unless the arrays are what TFD has."""
    n = len(images)
    if images.dtype != np.uint8 or images.shape[1:] != SHAPE:
        raise DataError(f"its images are {images.dtype} of shape {images.shape}, not uint8 (n, 48, 48)")
    if folds.shape != (n, FOLDS) or labels.shape not in ((n, 1), (1, n)):
        raise DataError(f"{n} images, folds {folds.shape}, labs_ex {labels.shape}: ({n}, {FOLDS}) and ({n}, 1) are needed")
    for name, array, low, high in ("folds", folds, 0, 3), ("labs_ex", labels, -1, 7):
        if not np.isin(array, np.arange(low, high + 1)).all():
            raise DataError(f"{name} goes from {array.min()} to {array.max()}, not in whole numbers from {low} to {high}")
    if not (folds == UNLABELLED).all(axis=1).any():
        raise DataError("no face is unlabelled, 0 in all folds: these are the training set")
    for i, fold in enumerate(folds.T):
        for name, number in ("validation", VALIDATION), ("test", TEST):
            if not (fold == number).any():
                raise DataError(f"fold {i} has no {name} set, no {number}")


# ---- MATLAB's format


def _read(path: Path) -> dict[str, Array]:
    """The variables in NEEDED."""
    found: dict[str, Array] = {}
    others = []
    with open_file(path) as file:
        left, header = os.fstat(file.fileno()).st_size - HEADER, file.read(HEADER)
        order = _byte_order(header)
        while left > 0:
            tag = file.read(8)
            kind, stored = struct.unpack(f"{order}2I", tag.ljust(8))
            left -= 8 + stored
            if kind not in (MATRIX, COMPRESSED) or left < 0 or stored > LARGEST:
                raise DataError(f"an element states the type {kind} and {stored} bytes, and {left + stored} are there: {AGAIN}")
            try:
                element = file.read(stored)
                start = zlib.decompressobj().decompress(element, START) if kind == COMPRESSED else tag + element[:START]
                name, size = _describe(start, order)
                if name not in NEEDED:
                    others.append(name)
                elif name in found:
                    raise ValueError(f"{name} is there twice")
                else:
                    found[name] = _numbers(header, name, _inflate(element, size) if kind == COMPRESSED else tag + element)
            except Exception as error:  # on damaged bytes struct, zlib and scipy raise a dozen kinds
                raise DataError(f"damaged ({error}): {AGAIN}") from error
    if missing := [name for name in NEEDED if name not in found]:
        there = ", ".join([*found, *others]) or "nothing"
        raise DataError(f"{', '.join(missing)} missing, there is {there:.200}: this is no {FILE}. {ASK}")
    return found


def _byte_order(header: bytes) -> str:
    """That of the file, as struct writes it. Raises DataError for any other format."""
    if header.startswith(b"MATLAB 7.3") or header.startswith(b"\x89HDF"):
        raise DataError(f"it is of MATLAB's format 7.3, which is HDF5: save it again with MATLAB's -v7. {FILE} is of format 5")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(header[124:])  # version 1, and the letters MI in the file's order
    if order is None or not header.startswith(b"MATLAB 5.0"):
        raise DataError(f"it starts with {header[:20]!r}, and is no file of MATLAB's format 5: this is no {FILE}. {ASK}")
    return order


def _describe(start: bytes, order: str) -> tuple[str, int]:
    """The name of the variable in an element that starts like this, and the element's size, with its tag.

    The name is one in words where the variable is no array of real numbers. Raises ValueError, or what struct raises, unless
    the numbers fill the element.
    """
    kind, size, flags = struct.unpack_from(f"{order}2I8xI", start)
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} in the place of an array")
    if flags & 0xFF not in REAL or flags & COMPLEX:
        return f"a variable of class {flags & 0xFF}{' (complex)' if flags & COMPLEX else ''}", 8 + size
    _, length, at, stop = _part(start, 24, order)
    shape = struct.unpack_from(f"{order}{length // 4}i", start, at)
    _, length, at, stop = _part(start, stop, order)
    name = start[at : at + length].decode("ascii", "replace")
    kind, length, at, stop = _part(start, stop, order)
    if min(shape) < 0 or kind not in NUMBERS or length != NUMBERS[kind] * math.prod(shape):
        raise ValueError(f"{name} states the shape {shape}, and {length} bytes of numbers of type {kind}")
    if size > LARGEST or not at + length <= 8 + size <= stop:
        raise ValueError(f"{name} states {size} bytes, and {length} of them for its numbers")
    return name, 8 + size


def _part(start: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """A part of an element: its type, how many bytes it has, where they start, where the next part starts."""
    kind, length = struct.unpack_from(f"{order}2I", start, at)
    if kind >> 16:  # a short one: type, size and bytes in 8 bytes
        return kind & 0xFFFF, kind >> 16, at + 4, at + 8
    return kind, length, at + 8, at + 8 + -(-length // 8) * 8


def _inflate(element: bytes, size: int) -> bytes:
    """What is compressed in the element. Memory grows with what comes out, not with what is stated."""
    stream = zlib.decompressobj()
    data = stream.decompress(element, size)
    more = stream.decompress(stream.unconsumed_tail, 1)  # reads the checksum
    if len(data) != size or more or not stream.eof or stream.unused_data:
        raise ValueError(f"a compressed element states {size} bytes, and has {len(data)}, or more")
    return data


def _numbers(header: bytes, name: str, element: bytes) -> Array:
    """The numbers in an element that _describe has accepted."""
    from scipy.io import loadmat  # not at the top: it is slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = loadmat(io.BytesIO(header + element), variable_names=[name])[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise ValueError(f"{name} is no array of numbers")
    return array
