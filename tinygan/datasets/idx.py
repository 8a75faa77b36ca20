"""IDX files, as LeCun published MNIST: one array, big-endian, gzipped or plain.

    2 bytes of 0, 1 byte: the type, 1 byte: how many dimensions, 4 bytes for each dimension, then the data in C order

Source: the format's description at http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import io
import math
import os
import struct
import sys
import zlib

import numpy as np

from tinygan.backend import Array, to_host, write_atomically
from tinygan.errors import ArgumentError, DataError
from tinygan.files import open_file

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
DTYPES = {code: np.dtype(name) for name, code in CODES.items()}

MAX_BYTES = 2**30  # no more than 1 GiB is read or written
MAX_DIMENSIONS = 32
DEFLATE_RATIO = 1032  # deflate makes at most 1032 bytes out of one


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in one IDX file, in its own shape and dtype (native byte order).

    Gzipped or plain, as its first bytes say; a gzipped file may have several members, and zeros after them. Nothing is
    allocated before the header has been checked: against the file's size, against a limit of 1 GiB, and against what
    so many compressed bytes can hold. No more is decompressed than the header promises, plus one buffer of `gzip`
    (128 KiB at most). Raises DataError, with the file's name, for a file that cannot be read, for a wrong magic
    number, and for data that are truncated, too long, or fail gzip's checksum.
    """
    try:
        with open_file(path) as file:
            return _read(file)
    except (DataError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: {error}: delete it and fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: name an IDX file that can be read") from error


def _read(file: io.BufferedReader) -> Array:
    zipped = file.peek(2)[:2] == b"\x1f\x8b"
    source: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if zipped else file

    magic = source.read(4)
    if len(magic) < 4 or any(magic[:2]) or magic[2] not in DTYPES or not 1 <= magic[3] <= MAX_DIMENSIONS:
        raise DataError(f"it starts with {magic!r}, which is no IDX magic number")
    dtype, ndim = DTYPES[magic[2]], magic[3]
    header = source.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise DataError("it ends within its header")
    shape = struct.unpack(f">{ndim}I", header)
    promised = dtype.itemsize * math.prod(shape)  # Python integers: the product cannot overflow
    if not 0 < promised <= MAX_BYTES:
        raise DataError(f"its header promises an array of {shape}: 1 byte to 1 GiB is accepted")
    size = os.fstat(file.fileno()).st_size
    held = size * DEFLATE_RATIO if zipped else size - 4 - 4 * ndim  # for a gzipped file an upper bound
    if promised > held or (promised < held and not zipped):
        raise DataError(f"its header promises {promised} bytes of data, {'at most ' if zipped else ''}{held} are there")

    array: Array = np.empty(shape, dtype)
    view, filled = array.data.cast("B"), 0
    while count := source.readinto(view[filled : filled + 2**18]):
        filled += count
    if filled < promised or source.read(1):  # gzip compares its checksum only at the end, which is here
        raise DataError(f"its header promises {promised} bytes of data, {filled if filled < promised else 'more'} are there")
    return array.byteswap(inplace=True) if sys.byteorder == "little" else array


def write_idx(path: str | os.PathLike[str], array: Array) -> None:
    """Writes one array into an IDX file, gzipped where the path ends in .gz: read_idx(path) returns an equal array.

    All or nothing: if anything fails, path is as it was. Raises ArgumentError for what read_idx would refuse (a dtype
    that IDX does not have, no dimension or more than 32, no byte or more than 1 GiB), DataError where path cannot be
    written. Both name the file.
    """
    host = to_host(array)
    if host.dtype.str[1:] not in CODES or not 1 <= host.ndim <= MAX_DIMENSIONS or not 1 <= host.nbytes <= MAX_BYTES:
        holds = f"IDX holds {', '.join(map(str, DTYPES.values()))}; 1 to {MAX_DIMENSIONS} dimensions; 1 byte to 1 GiB"
        raise ArgumentError(f"{path}: {host.dtype} of shape {host.shape} cannot be written: {holds}")
    content = idx_header(host) + host.astype(host.dtype.newbyteorder(">")).tobytes()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)  # without the time: equal arrays make equal files
    try:
        with write_atomically(path) as file:
            file.write(content)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: name a file that can be written") from error


def idx_header(array: Array) -> bytes:
    """The bytes of array's IDX file that stand before its data. The first four are the magic number."""
    return struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
