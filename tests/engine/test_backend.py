"""The one file that knows CuPy: which module, why not, to and fro, pixels, random numbers; and files written whole."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import bits, refused
from strict_cupy import cupy as stand_in
from strict_cupy import host, no_gpu, no_transfers

from tinygan.backend import (
    Streams,
    cupy_problem,
    get_array_module,
    get_backend,
    pixels,
    random_generator,
    random_uint16,
    to_device,
    to_host,
    write_atomically,
)
from tinygan.errors import BackendError, TinyganError

ARRAYS = [np.arange(6.0).reshape(2, 3), np.float32(2) * np.ones((3, 1), np.float32), np.zeros((0, 4)), np.array(7)]


@pytest.fixture
def not_installed(monkeypatch):
    """A machine without CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def broken_cuda(monkeypatch, tmp_path):
    """A CuPy whose import fails with something else than ImportError."""
    (tmp_path / "cupy.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def no_driver(strict_xp):
    """A CuPy that imports, on a machine without a driver."""
    with no_gpu():
        yield


# Which module ---------------------------------------------------------------------------------------------------------


def test_the_module_of_an_array_is_the_one_that_made_it(xp):
    assert get_array_module(xp.zeros(3)) is xp
    assert get_array_module(xp.zeros(3).sum()) is xp


@pytest.mark.parametrize("x", [1, 2.5, None, [1, 2], np.float32(1), np.zeros(2)])
def test_the_module_of_everything_else_is_numpy(strict_xp, x):
    assert get_array_module(x) is np


def test_both_backends_live_in_one_process(strict_xp):
    assert get_array_module(np.zeros(1)) is np
    assert get_array_module(strict_xp.zeros(1)) is strict_xp


def test_asking_for_the_module_never_imports_cupy(broken_cuda):
    assert get_array_module(np.zeros(1)) is np
    assert "cupy" not in sys.modules


def test_numpy_by_name_never_imports_cupy(broken_cuda):
    assert get_backend("numpy") is np


@pytest.mark.parametrize("name", ["auto", "cupy"])
def test_a_working_gpu_is_used(strict_xp, name, capsys):
    assert cupy_problem() is None
    assert get_backend(name) is strict_xp
    assert capsys.readouterr() == ("", "")


def test_auto_is_the_default(strict_xp):
    assert get_backend() is strict_xp


PROBLEMS = [
    ("not_installed", ["CuPy", "not installed"]),
    ("broken_cuda", ["CuPy", "OSError", "libcudart.so.13: cannot open shared object file"]),
    ("no_driver", ["CuPy 14.2.0", "GPU", "cudaErrorInsufficientDriver: CUDA driver version is insufficient"]),
]


@pytest.mark.parametrize(("machine", "reason"), PROBLEMS)
def test_cupy_without_a_gpu_fails_with_the_reason_and_the_remedy(machine, reason, request):
    request.getfixturevalue(machine)
    with pytest.raises(BackendError) as raised:
        get_backend("cupy")
    message = str(raised.value)
    facts = [*reason, 'python -m pip install "cupy-cuda13x[ctk]"', "--backend numpy"]
    assert [fact for fact in facts if fact not in message] == []
    assert "\n" not in message
    assert isinstance(raised.value, TinyganError)
    assert isinstance(raised.value, RuntimeError)


@pytest.mark.parametrize(("machine", "reason"), PROBLEMS)
def test_auto_without_a_gpu_is_numpy_and_says_so_in_one_line(machine, reason, request, capsys):
    request.getfixturevalue(machine)
    assert get_backend("auto") is np
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert [fact for fact in ["NumPy", *reason] if fact not in err] == []


@pytest.mark.parametrize("name", ["torch", "", "CuPy", None])
def test_an_unknown_backend_is_refused_and_the_names_listed(name):
    with refused(repr(name), "auto", "numpy", "cupy"):
        get_backend(name)


# Host and device ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", ARRAYS, ids=lambda a: str(a.shape))
def test_to_the_device_and_back_changes_nothing(xp, a):
    x = to_device(a, xp)
    assert get_array_module(x) is xp
    assert (x.dtype, x.shape) == (a.dtype, a.shape)
    back = to_host(x)
    assert type(back) is np.ndarray
    assert back.dtype == a.dtype
    np.testing.assert_array_equal(back, a)


def test_each_way_is_one_copy(strict_xp, transfers):
    x = to_device(ARRAYS[0], strict_xp)
    assert (transfers.to_device, transfers.to_host) == (1, 0)
    to_host(x)
    assert (transfers.to_device, transfers.to_host) == (1, 1)


def test_what_is_there_already_is_not_copied(xp):
    x = xp.asarray(ARRAYS[0])
    with no_transfers():
        assert to_device(x, xp) is x
    a = ARRAYS[0]
    with no_transfers():
        assert to_host(a) is a


def test_host_data_of_every_kind_comes_to_the_host():
    for data in ([1.0, 2.0], (1, 2), 3.5):
        np.testing.assert_array_equal(to_host(data), np.asarray(data))


def test_a_device_array_does_not_slip_into_numpy(strict_xp):
    with pytest.raises(TypeError, match=r"\.get\(\)"):
        to_device(strict_xp.zeros(2), np)


# Pixels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_are_x_over_255_in_the_target_dtype(xp, dtype):
    images = np.arange(256, dtype=np.uint8).reshape(4, 64)
    x = pixels(images, xp, dtype)
    assert get_array_module(x) is xp
    assert x.dtype == dtype
    assert bits(x) == bits(images.astype(dtype) / dtype(255)), "divided, not multiplied by a rounded 1/255"
    assert (float(host(x).min()), float(host(x).max())) == (0, 1)


def test_pixels_are_float32_of_numpy_unless_told():
    x = pixels(np.full((2, 3), 255, np.uint8))
    assert type(x) is np.ndarray
    assert (x.dtype, x.tolist()) == (np.float32, [[1, 1, 1]] * 2)


def test_pixels_travel_as_bytes_and_only_once(strict_xp, transfers, monkeypatch):
    sent = []
    asarray = stand_in.asarray
    monkeypatch.setattr(stand_in, "asarray", lambda a, *args: sent.append(a.dtype) or asarray(a, *args))
    images = np.zeros((2, 3), np.uint8)
    pixels(images, strict_xp)
    assert (transfers.to_device, transfers.to_host, sent) == (1, 0, [np.uint8])
    on_device = asarray(images)
    with no_transfers():
        pixels(on_device, strict_xp)


def test_pixels_leave_the_images_as_they_were(xp):
    images = xp.asarray(np.arange(6, dtype=np.uint8))
    before = bits(images)
    pixels(images, xp)
    assert bits(images) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8, np.uint16, bool])
def test_pixels_are_scaled_from_bytes_alone(xp, dtype):
    """A second scaling would train without complaint, on images that are 255 times too dark."""
    with refused(np.dtype(dtype), "uint8"):
        pixels(xp.zeros((2, 3), dtype), xp)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_pixels_are_not_squeezed_into_integers(xp, dtype):
    with refused(np.dtype(dtype), "float32"):
        pixels(xp.zeros((2, 3), np.uint8), xp, dtype)


# Random numbers -------------------------------------------------------------------------------------------------------


def draws(xp, *key, **kwargs):
    return host(random_generator(xp, *key, **kwargs).random(8))


def test_a_stream_is_determined_by_seed_purpose_and_epoch(xp):
    first = draws(xp, 1, "noise", 2)
    np.testing.assert_array_equal(draws(xp, 1, "noise", 2), first)
    np.testing.assert_array_equal(draws(xp, seed=1, purpose="noise", epoch=2), first)
    for other in [(2, "noise", 2), (1, "dropout", 2), (1, "noise", 3), (2, "noise", 1), (1,), (1, "noise")]:
        assert not np.any(draws(xp, *other) == first), other


def test_a_stream_is_determined_by_nothing_else(xp):
    expected = draws(xp, 5, "noise", 1)
    np.random.default_rng(0).random(3)
    other = random_generator(xp, 5, "dropout", 1)
    other.random(100)
    rng = random_generator(xp, 5, "noise", 1)
    first = host(rng.random(4))
    other.random(7)
    np.testing.assert_array_equal(np.concatenate([first, host(rng.random(4))]), expected)


def test_a_stream_is_the_same_in_every_process():
    # hash("dropout") would differ from one process to the next; CRC-32 of the purpose does not
    sequence = np.random.SeedSequence([3, 0x9289EFC9, 4])
    expected = np.random.Generator(np.random.SFC64(sequence)).random(5)
    np.testing.assert_array_equal(random_generator(np, 3, "dropout", 4).random(5), expected)


def test_streams_are_the_generators_of_one_epoch_by_purpose(xp):
    streams = Streams(5, 2, xp)
    for purpose in "noise", "dropout", "report", "anything else":
        np.testing.assert_array_equal(host(streams[purpose].random(8)), draws(xp, 5, purpose, 2))
    assert not np.any(host(Streams(5, 3, xp)["noise"].random(8)) == draws(xp, 5, "noise", 2))
    assert not np.any(host(Streams(6, 2, xp)["noise"].random(8)) == draws(xp, 5, "noise", 2))


def test_a_stream_is_made_once_and_goes_on(xp):
    streams = Streams(5, 2, xp)
    rng = streams["noise"]
    drawn = [host(streams["noise"].random(3)), host(rng.random(5))]
    assert streams["noise"] is rng
    np.testing.assert_array_equal(np.concatenate(drawn), draws(xp, 5, "noise", 2))


def test_a_stream_is_made_when_it_is_first_asked_for_and_moves_no_other(monkeypatch):
    made = []
    monkeypatch.setattr("tinygan.backend.random_generator", lambda *key: made.append(key) or random_generator(*key))
    streams = Streams(5, 2)
    assert made == []
    streams["dropout"].random(100)
    streams["noise"].random(4)
    streams["dropout"].random(100)
    assert made == [(np, 5, "dropout", 2), (np, 5, "noise", 2)]
    np.testing.assert_array_equal(streams["noise"].random(4), draws(np, 5, "noise", 2)[4:])


def test_streams_are_of_epoch_0_and_of_numpy_unless_told():
    streams = Streams(5)
    assert (streams.seed, streams.epoch, streams.xp) == (5, 0, np)
    np.testing.assert_array_equal(streams["report"].random(8), draws(np, 5, "report", 0))


def test_streams_of_two_epochs_are_alive_at_once(xp):
    first, second = Streams(5, 1, xp), Streams(5, 2, xp)
    drawn = [host(streams["noise"].random(4)) for streams in (first, second, first, second)]
    np.testing.assert_array_equal(np.concatenate(drawn[::2]), draws(xp, 5, "noise", 1))
    np.testing.assert_array_equal(np.concatenate(drawn[1::2]), draws(xp, 5, "noise", 2))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (4,), (5,), (7, 3), (2, 3, 5), (4, 0)])
def test_uint16_of_every_shape(xp, shape):
    x = random_uint16(random_generator(xp, 0), shape)
    assert get_array_module(x) is xp
    assert x.dtype == np.uint16
    assert x.shape == shape


def test_uint16_is_reproducible_and_moves_on(xp):
    x = host(random_uint16(random_generator(xp, 7, "dropout"), (6, 5)))
    rng = random_generator(xp, 7, "dropout")
    np.testing.assert_array_equal(host(random_uint16(rng, (6, 5))), x)
    assert np.any(host(random_uint16(rng, (6, 5))) != x)


def test_uint16_is_uniform(xp):
    n = 1 << 20
    x = host(random_uint16(random_generator(xp, 0, "dropout"), (n,))).astype(np.int64)
    assert (x.min(), x.max()) == (0, 2**16 - 1)
    for bit in range(16):  # each a fair coin: 5 standard deviations are 5/(2√n)
        assert abs((x >> bit & 1).mean() - 0.5) < 2.5 / n**0.5, bit
    for lane in range(4):  # all that are cut from one draw alike; χ²(255) has mean 255 and variance 510
        counts = np.bincount(x[lane::4] >> 8, minlength=256)
        expected = n / 4 / 256
        assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 5 * 510**0.5, lane
    for lag in (1, 2, 3, 4):  # neighbours are independent
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 5 / n**0.5, lag


def test_uint16_makes_no_copy(xp):
    rng = random_generator(xp, 0)
    with no_transfers():
        random_uint16(rng, (100,))


def test_uint16_stays_within_the_31_bits_that_every_cupy_draws_right(strict_xp, monkeypatch):
    spans = []
    integers = stand_in.random.Generator.integers

    def recorded(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        spans.append((0, low) if high is None else (low, high))
        return integers(self, low, high, size, dtype, endpoint)

    monkeypatch.setattr(stand_in.random.Generator, "integers", recorded)
    random_uint16(random_generator(strict_xp, 0), (10,))
    assert spans
    assert all(high - low < 2**31 for low, high in spans)


def test_without_a_gpu_no_generator(no_driver):
    with pytest.raises(RuntimeError, match="CUDA driver"):
        random_generator(stand_in, 0)


# Files ----------------------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [Path, str])
def test_a_file_is_written_whole_and_nothing_is_left_beside_it(tmp_path, kind):
    path = kind(tmp_path / "file.bin")
    for data in b"first", b"second, longer", b"", b"third":
        with write_atomically(path) as file:
            file.write(data[:3])
            file.write(data[3:])
        assert contents(tmp_path) == {"file.bin": data}


def test_until_it_is_whole_the_file_is_the_old_one_or_none(tmp_path):
    path = tmp_path / "file.bin"
    with write_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    with write_atomically(path) as file:
        file.write(b"newer")
        file.flush()
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"


class Interrupted(BaseException):
    """What is no Exception, as Ctrl-C is not."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("x"), KeyboardInterrupt(), Interrupted()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, old, error):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    before = contents(tmp_path)

    def write():
        with write_atomically(path) as file:
            file.write(b"half of the new one")
            raise error

    with pytest.raises(type(error)):
        write()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, old, call):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    before = contents(tmp_path)

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output"), write_atomically(path) as file:
            file.write(b"new")
    assert contents(tmp_path) == before


def test_the_error_of_the_writer_is_the_one_that_is_raised(tmp_path, monkeypatch):
    """Not that of removing what it left."""

    def fail(*_, **__):
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ZeroDivisionError), write_atomically(tmp_path / "file.bin"):
        raise ZeroDivisionError


def test_all_bytes_are_forced_to_the_disk_before_the_rename_and_the_rename_after(tmp_path, monkeypatch):
    path, log = tmp_path / "file.bin", []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor):
        folder = os.path.samestat(os.fstat(descriptor), os.stat(tmp_path))
        log.append("fsync of the folder" if folder else f"fsync of {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def logged_replace(source, target):
        log.append(f"rename of {os.stat(source).st_size} bytes")
        assert Path(source).parent == Path(target).parent, "a rename across file systems would not be atomic"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    with write_atomically(path) as file:
        file.write(b"x" * 10_000)  # more than Python buffers
        file.write(b"y" * 10)  # and less
    assert log == ["fsync of 10010 bytes", "rename of 10010 bytes", "fsync of the folder"]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    """As on some network drives, and on Windows."""
    path, real = tmp_path / "file.bin", os.open

    def refuse(name, flags, *args, **kwargs):
        if Path(name) == tmp_path:
            raise PermissionError
        return real(name, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with write_atomically(path) as file:
        file.write(b"new")
    assert contents(tmp_path) == {"file.bin": b"new"}


def test_two_writers_of_one_file_do_not_write_into_each_other(tmp_path):
    path = tmp_path / "file.bin"
    with write_atomically(path) as first:
        first.write(b"first")
        with write_atomically(path) as second:
            second.write(b"second")
            assert len(contents(tmp_path)) == 2, "each has a temporary name of its own"
        assert path.read_bytes() == b"second"
    assert contents(tmp_path) == {"file.bin": b"first"}


def test_temporary_names_are_of_one_form_so_that_a_run_can_clear_them(tmp_path):
    """The power fails: the next run finds what was being written, by its name."""
    names = set()
    for _ in range(20):
        with write_atomically(tmp_path / "file.bin"):
            names |= {path.name for path in tmp_path.glob("file.bin.*.tmp")}
    assert len(names) == 20
    assert contents(tmp_path) == {"file.bin": b""}


def test_a_temporary_file_of_someone_else_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    other = tmp_path / "file.bin.00000000.tmp"
    other.write_bytes(b"someone else's")
    with pytest.raises(FileExistsError), write_atomically(tmp_path / "file.bin"):
        pass
    assert contents(tmp_path) == {other.name: b"someone else's"}


@pytest.mark.parametrize("path", ["missing/file.bin", ""])
def test_where_nothing_can_be_written_the_error_says_so_and_nothing_is_left(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError)), write_atomically(path):
        pass
    assert contents(tmp_path) == {}
