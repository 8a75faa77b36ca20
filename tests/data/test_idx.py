"""IDX files: strict reading, bounded in memory, and writing that reading takes back."""

import gzip
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import CODES, idx

from tinygan.datasets import idx as module
from tinygan.datasets import read_idx, write_idx
from tinygan.errors import ArgumentError, DataError

# ---- read_idx


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx_reads_every_type_of_the_format(tmp_path, dtype, zipped):
    array = (np.random.default_rng(1).normal(size=(3, 4, 5)) * 50).astype(dtype)
    path = tmp_path / "file"  # the name says nothing about gzip: the content decides
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_read_idx_reads_more_than_one_chunk(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (3000, 28, 28), dtype=np.uint8)  # hardly compresses
    array[1000:2000] = 0  # compresses a thousandfold
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array), 1))
    np.testing.assert_array_equal(read_idx(str(path)), array)


GOOD = idx(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
GOOD_GZ = gzip.compress(GOOD)


def absurd(*shape):
    return bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no IDX magic number"),
        (GOOD[:3], "no IDX magic number"),
        (b"\x89PNG\r\n\x1a\n", "no IDX magic number"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", "no IDX magic number"),  # 0x0a is no type
        (b"PK\x08\x01\0\0\0\x01\0", "no IDX magic number"),  # the first two bytes are not 0
        (b"\0\0\x08\x00\x07", "no IDX magic number"),  # no dimension
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"\0", "no IDX magic number"),  # more than an array can have
        (GOOD[:10], "ends within its header"),
        (GOOD[:-1], "59 are there"),
        (GOOD + b"\0", "61 are there"),
        (absurd(0, 28, 28), "promises an array of"),
        (absurd(2**32 - 1, 2**32 - 1, 2**32 - 1), "promises an array of"),
        (absurd(2**32 - 1, 0, 2**32 - 1), "promises an array of"),
        (absurd(60000, 28, 28), "0 are there"),
        (gzip.compress(b""), "no IDX magic number"),
        (gzip.compress(GOOD[:10]), "ends within its header"),
        (gzip.compress(GOOD[:-1]), "59 are there"),
        (gzip.compress(GOOD + b"\0"), "more are there"),
        (GOOD_GZ + b"\0\1", "[Gg]zip"),
        (GOOD_GZ + b"\1", "[Gg]zip"),
        (GOOD_GZ + GOOD_GZ, "more are there"),
        (GOOD_GZ[:1], "no IDX magic number"),
        (GOOD_GZ[:5], "ended before"),
        (GOOD_GZ[:30], "ended before"),
        (GOOD_GZ[:-1], "ended before"),
        (GOOD_GZ[:-8], "ended before"),
        (GOOD_GZ[:-5] + bytes([GOOD_GZ[-5] ^ 1]) + GOOD_GZ[-4:], "CRC"),
        (GOOD_GZ[:-1] + b"\1", "length"),
        (GOOD_GZ + GOOD_GZ[:5], "ended before"),
        (GOOD_GZ[:20] + b"\xff\xff\xff" + GOOD_GZ[23:], "Error -3"),
        (gzip.compress(absurd(2**32 - 1, 28, 28)), "promises an array of"),
        (gzip.compress(absurd(1025, 1024, 1024)), "1 GiB"),
        (gzip.compress(absurd(1024, 1024, 1024)), "at most"),  # within the limit, but not within so small a file
    ],
)
def test_read_idx_refuses_by_name(tmp_path, content, words):
    path = tmp_path / "some-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "fetch it again" in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/dev/zero")]
)
def test_read_idx_refuses_what_is_no_file(tmp_path, make):
    path = tmp_path / "some-images"
    make(path)
    with pytest.raises(DataError, match="some-images"):
        read_idx(path)


def peak_of_refusal(path, words):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("members", [1, 2])
def test_a_gzip_bomb_costs_what_its_header_promises_and_one_buffer(tmp_path, members):
    content = absurd(100, 10) + bytes(50_000_000)
    bomb = tmp_path / "bomb.gz"
    if members == 1:
        bomb.write_bytes(gzip.compress(content))
    else:
        bomb.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    assert peak_of_refusal(bomb, "more are there") < 500_000


@pytest.mark.parametrize("members", [1, 2])
def test_what_follows_the_promised_bytes_is_not_decompressed(tmp_path, members):
    noise = np.random.default_rng(0).bytes(2_000_000)  # does not compress: 300,000 bytes in, as many bytes out
    content = absurd(100, 10) + noise
    zipped = gzip.compress(content) if members == 1 else gzip.compress(content[:1012]) + gzip.compress(content[1012:])
    spoilt = zipped[:300_000] + b"\xff" * 200_000 + zipped[500_000:]
    with pytest.raises(zlib.error):
        gzip.decompress(spoilt)  # so whoever reads on finds another fault than that there is more
    path = tmp_path / "file.gz"
    path.write_bytes(spoilt)
    with pytest.raises(DataError, match="1000 bytes of data, more are there"):
        read_idx(path)


@pytest.mark.parametrize("cuts", [(2,), (3, 7), (16,), (30,), (30, 30), (0, len(GOOD))])
@pytest.mark.parametrize("padding", [0, 1, 1000])
def test_a_gzipped_file_may_have_several_members_and_zeros_after_them(tmp_path, cuts, padding):
    bounds = [0, *cuts, len(GOOD)]
    members = [gzip.compress(GOOD[start:stop]) for start, stop in zip(bounds, bounds[1:], strict=False)]
    path = tmp_path / "file.gz"
    path.write_bytes(b"".join(members) + bytes(padding))
    np.testing.assert_array_equal(read_idx(path), np.arange(60).reshape(5, 4, 3))


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_absurd_dimensions_are_refused_before_anything_is_allocated(tmp_path, wrap, monkeypatch):
    path = tmp_path / "absurd"
    path.write_bytes(wrap(absurd(2**30) + bytes(20_000)))
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("allocated"))
    assert peak_of_refusal(path, "at most|1 GiB" if wrap is gzip.compress else "20000 are there") < 500_000


# ---- write_idx


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_write_idx_writes_every_type_of_the_format(tmp_path, dtype, order, ending):
    array = (np.random.default_rng(1).normal(size=(3, 4, 5)) * 50).astype(dtype).astype(order + dtype)
    path = tmp_path / f"file{ending}"
    write_idx(path, array)
    content = path.read_bytes()
    assert (gzip.decompress(content) if ending else content) == idx(array)
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, array)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("value", [np.nan, -0.0, np.inf, 5e-324, np.uint32(0x7F800001).view(np.float32)])
def test_every_float_comes_back_bit_by_bit(tmp_path, value):
    for dtype in np.float32, np.float64:
        array = np.array([value]).astype(dtype) if not isinstance(value, np.float32) else np.array([value])
        write_idx(tmp_path / "file", array)
        assert read_idx(tmp_path / "file").tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (1,) * 32])
def test_any_number_of_dimensions_comes_back(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    write_idx(str(tmp_path / "file.gz"), array)
    assert read_idx(tmp_path / "file.gz").shape == shape
    np.testing.assert_array_equal(read_idx(tmp_path / "file.gz"), array)


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2, 1:], np.asfortranarray])
def test_an_array_in_any_order_is_written_in_c_order(tmp_path, view):
    array = view(np.arange(24, dtype=np.int32).reshape(4, 6))
    write_idx(tmp_path / "file", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


def test_an_array_on_the_device_is_copied_from_it(tmp_path, xp):
    write_idx(tmp_path / "file", xp.asarray(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), np.arange(6).reshape(2, 3))


def test_equal_arrays_make_equal_files(tmp_path, monkeypatch):
    for name, now in ("a.gz", 1e9), ("b.gz", 1.5e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_idx(tmp_path / name, np.arange(6, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3, np.int64), r"int64.*uint8, int8, int16, int32, float32, float64"),
        (np.zeros(3, np.uint16), "uint16"),
        (np.zeros(3, np.uint32), "uint32"),
        (np.zeros(3, np.float16), "float16"),
        (np.zeros(3, np.complex64), "complex64"),
        (np.zeros(3, bool), "bool"),
        (np.zeros(3, "M8[s]"), "datetime64"),
        (np.zeros(3, "S1"), "S1"),
        (np.zeros(3, "u1,u1"), "u1"),
        (np.array([None]), "object"),
        (np.array(7, np.uint8), r"\(\).*1 to 32 dimensions"),
        (np.zeros((1,) * 33, np.uint8), "1 to 32 dimensions"),
        (np.zeros((3, 0), np.uint8), r"\(3, 0\).*1 byte"),
        (np.broadcast_to(np.uint8(0), 2**30 + 1), r"\(1073741825,\).*1 GiB"),
    ],
)
def test_write_idx_refuses_what_read_idx_would_refuse(tmp_path, array, words):
    path = tmp_path / "some-images"
    path.write_bytes(GOOD)
    tracemalloc.start()
    try:
        with pytest.raises(ArgumentError, match=words) as caught:
            write_idx(path, array)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == GOOD


def test_reader_and_writer_have_one_limit(tmp_path, monkeypatch):
    (tmp_path / "101").write_bytes(idx(np.zeros(101, np.uint8)))
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    write_idx(tmp_path / "100", np.zeros(100, np.uint8))
    assert len(read_idx(tmp_path / "100")) == 100
    with pytest.raises(DataError, match=r"\(101,\)"):
        read_idx(tmp_path / "101")
    with pytest.raises(ArgumentError, match=r"\(101,\)"):
        write_idx(tmp_path / "101", np.zeros(101, np.uint8))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch, ending, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / f"some-images{ending}"
    write_idx(path, np.arange(3, dtype=np.uint8))
    before = path.read_bytes()
    monkeypatch.setattr(os, step, full)
    with pytest.raises(DataError, match="some-images.*No space left"):
        write_idx(path, np.arange(4, dtype=np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_idx(tmp_path / "nowhere" / "images", np.arange(3, dtype=np.uint8))
