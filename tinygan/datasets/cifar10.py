"""CIFAR-10, binary version: its six files in a folder, or the archive that holds them, which is downloaded and verified.

Each file is a row of records of 3073 bytes: the label, 0 to 9, then the red, the green and the blue values of one image of
32 × 32 pixels, each colour line by line. Rows of a data set have the three colours of a pixel side by side instead.

Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import os
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np

from tinygan.backend import Array
from tinygan.datasets.dataset import Dataset, Split
from tinygan.datasets.download import cache_folder, fetch
from tinygan.errors import DataError
from tinygan.files import open_file, read_bytes

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE, MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
LARGEST = 180_000_000  # bytes: no download is larger, the archive has 170,052,171
INSIDE = "cifar-10-batches-bin/"  # the folder in the archive
TRAIN, TEST = [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"
RECORDS = 10_000  # in each of the six files
BYTES = 3073  # of a record
SHAPE = (32, 32, 3)


def load_cifar10(data_dir: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """CIFAR-10: train[0:40000], validation train[40000:50000] and test, images (n, 3072) uint8, labels (n,) int16.

    A row is an image (32, 32, 3) in C order. data_dir holds data_batch_1.bin to data_batch_5.bin and test_batch.bin, or
    cifar-10-binary.tar.gz. Without data_dir, $TINYGAN_DATA/cifar10 is taken, else the archive in the user's cache, else it is
    downloaded into the cache. The archive is verified by its MD5, and read without being extracted.

    `name` is "cifar10" only if the data come from the verified archive. It is "bin-" with the folder's name for files, since
    no checksums of single files are published. There may be fewer batches than five, and fewer records than 10,000 in each.
    The last fifth of the training images is the validation set, as it is for CIFAR-10. `source` says how many there are.

    Raises DataError, with the file and the remedy, for a file that is missing or damaged, for the Python version of
    CIFAR-10, for a wrong checksum, and where nothing is found and the download fails.
    """
    if data_dir is not None:
        return _open(Path(data_dir), str(data_dir))
    if (root := os.environ.get("TINYGAN_DATA")) and os.path.isdir(Path(root, "cifar10")):
        return _open(Path(root, "cifar10"), "$TINYGAN_DATA/cifar10")
    cache, reason = cache_folder("cifar10"), "downloads are off (download=False)"
    if download and not os.path.lexists(cache / ARCHIVE):
        try:
            fetch(MIRRORS, {ARCHIVE: MD5}, cache, largest=LARGEST)
            print(f"data: CIFAR-10 downloaded into {cache}", file=sys.stderr)
        except OSError as error:  # no network, or a cache that cannot be written
            reason = str(error)
    if not os.path.lexists(cache / ARCHIVE):
        remedy = f"download {MIRRORS[0] if MIRRORS else ''}{ARCHIVE}, and name the folder that it is in, by --data or data_dir"
        raise DataError(f"CIFAR-10 is neither in $TINYGAN_DATA/cifar10 nor in {cache}, and not downloaded: {reason}: {remedy}")
    return _open(cache, "the user's cache")


def _open(folder: Path, words: str) -> Dataset:
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}: name the folder that holds CIFAR-10's files") from error
    train = [name for name in TRAIN if name in names]
    if not train and TEST not in names and ARCHIVE in names:
        files, name = _read_archive(folder / ARCHIVE), "cifar10"
        source = f"{ARCHIVE} in {words}, checksum of CIFAR-10"
    else:
        missing = [*TRAIN[: max(1, len(train))], TEST]
        if missing := [name for name in missing if name not in names]:
            raise DataError(f"{folder}: {', '.join(missing)} missing: {_remedy(folder, names)}")
        files = {name: _read(folder / name) for name in [*train, TEST]}
        name, source = f"bin-{folder.resolve().name}", f"binary files in {words}, not verified"
    x_test, y_test = _records(folder / TEST, files.pop(TEST))
    parts = [_records(folder / file, files[file]) for file in sorted(files)]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if len(x) < 5:
        raise DataError(f"{folder}: {len(x)} training images: at least 5 are needed, the last fifth is the validation set")
    if (len(x), len(x_test)) != (len(TRAIN) * RECORDS, RECORDS):
        source += f": {len(x):,} training and {len(x_test):,} test images, where CIFAR-10 has 50,000 and 10,000"
        source += "; the last fifth of the training images is the validation set"
    cut = len(x) - len(x) // 5
    splits = Split(x[:cut], y[:cut]), Split(x[cut:], y[cut:]), Split(x_test, y_test)
    return Dataset(name, source, SHAPE, *splits)


def _remedy(folder: Path, names: set[str]) -> str:
    """What to do where a file is missing from this folder, by what there is in its place."""
    below = [name for name in names if os.path.isfile(folder / name / TEST)]
    if below:
        return f"they are in a folder below: name {folder / min(below)}"
    if any(name.startswith(("data_batch", "test_batch", "cifar-10")) and ("bin" not in name) for name in names):
        return (
            f"there are files of a different version. The Python version is pickles, and to read a pickle is to run whatever "
            f"code it holds, so it is not read: take the binary version, {ARCHIVE}"
        )
    return f"put the six files of the binary version there, without gaps in their numbers, or {ARCHIVE}"


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, RECORDS * BYTES)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: take a file of CIFAR-10's binary version") from error


def _read_archive(path: Path) -> dict[str, bytes]:
    """The six files in the archive, by name. Nothing is written: no path in the archive matters."""
    again = "delete it and fetch it again"
    files: dict[str, bytes] = {}
    try:
        with open_file(path) as file:
            md5 = hashlib.md5(usedforsecurity=False)
            while part := file.read(2**20):
                md5.update(part)
            if md5.hexdigest() != MD5:
                raise DataError(f"{path}: its MD5 is {md5.hexdigest()}, that of CIFAR-10 is {MD5}: {again}")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:gz") as archive:
                for member in archive:
                    name, content = member.name.removeprefix(INSIDE), None
                    if member.name != INSIDE + name or name not in (*TRAIN, TEST):
                        continue
                    if member.isreg() and member.size == RECORDS * BYTES and name not in files:
                        content = archive.extractfile(member)
                    if content is None:
                        raise DataError(f"{path}: {member.name} is no file of {RECORDS * BYTES} bytes, or there twice: {again}")
                    files[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}: {again}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: {again}") from error
    if missing := [name for name in [*TRAIN, TEST] if name not in files]:
        raise DataError(f"{path}: it lacks {', '.join(missing)}: {again}")
    return files


def _records(path: Path, content: bytes) -> tuple[Array, Array]:
    """Images (n, 3072) and labels (n,) of one file."""
    if content[:2] == b"\x80\x02":
        raise DataError(f"{path}: it is a pickle, which is not read, since it can run code: take the binary version, {ARCHIVE}")
    if not content or len(content) % BYTES:
        raise DataError(f"{path}: it has {len(content)} bytes, which are no records of {BYTES}: it is damaged, fetch it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, BYTES)
    labels = records[:, 0].astype(np.int16)
    if labels.max() > 9:
        i = int((labels > 9).argmax())
        raise DataError(f"{path}: record {i} has the label {labels[i]}, labels are 0 to 9: it is damaged, fetch it again")
    h, w, colours = SHAPE
    planes = records[:, 1:].reshape(-1, colours, h * w)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(-1, h * w * colours), labels
