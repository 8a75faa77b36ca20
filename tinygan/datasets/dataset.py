"""What every loader returns: a data set in three parts."""

from dataclasses import dataclass

from tinygan.backend import Array


@dataclass(frozen=True, eq=False)
class Split:
    """Part of a data set.    images (n, d) uint8, one image per row in C order    labels (n,) int16"""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in its three parts. Every result states `name` and `source`, which says in words where the data came from."""

    name: str
    source: str
    image_shape: tuple[int, ...]
    train: Split
    validation: Split
    test: Split
