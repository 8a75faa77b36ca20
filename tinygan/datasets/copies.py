"""Two copies of one file, gzipped and plain, as `gunzip --keep` leaves them. They must say the same."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygan.backend import Array
from tinygan.datasets.idx import read_idx
from tinygan.errors import DataError


def read_copies(paths: Sequence[Path]) -> Array:
    """The array that is in each of these IDX files, which are copies of one.

    If one is damaged, the sound one is read, and one line on stderr names the other. Raises DataError if two sound ones
    differ, with both names, and if none is sound.
    """
    sound: list[tuple[Path, Array]] = []
    faults = []
    for path in paths:
        try:
            sound.append((path, read_idx(path)))
        except DataError as error:
            faults.append(error)
    if not sound:
        raise faults[0]
    for fault in faults:
        print(f"data: {sound[0][0]} is read in the place of a damaged copy. {fault}", file=sys.stderr)
    (path, array), others = sound[0], sound[1:]
    for other, copy in others:
        if copy.dtype != array.dtype or not np.array_equal(copy, array):
            raise DataError(
                f"{path} ({array.dtype} of shape {array.shape}) and {other} ({copy.dtype} of shape {copy.shape}) hold "
                f"different data: remove the wrong one"
            )
    return array
