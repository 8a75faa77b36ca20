"""The one file that knows CuPy: which module, why not, to and fro, and random numbers."""

import sys

import numpy as np
import pytest
from strict_cupy import cupy as stand_in
from strict_cupy import host, no_gpu, no_transfers

from tinygan.backend import (
    cupy_problem,
    get_array_module,
    get_backend,
    random_generator,
    random_uint16,
    to_device,
    to_host,
)
from tinygan.errors import ArgumentError, BackendError, TinyganError

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
    ("not_installed", "CuPy is not installed"),
    ("broken_cuda", "CuPy does not import (OSError: libcudart.so.13: cannot open shared object file)"),
    ("no_driver", "CuPy 14.2.0 finds no usable GPU (cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
]


@pytest.mark.parametrize(("machine", "reason"), PROBLEMS)
def test_cupy_without_a_gpu_fails_with_the_reason_and_the_remedy(machine, reason, request):
    request.getfixturevalue(machine)
    with pytest.raises(BackendError) as raised:
        get_backend("cupy")
    message = str(raised.value)
    assert message.startswith(reason)
    assert 'python -m pip install "cupy-cuda13x[ctk]"' in message
    assert "--backend numpy" in message
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
    assert "NumPy" in err
    assert reason in err


@pytest.mark.parametrize("name", ["torch", "", "CuPy", None])
def test_an_unknown_backend_is_refused_and_the_names_listed(name):
    with pytest.raises(ArgumentError, match="unknown backend .*: choose one of auto, numpy, cupy"):
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
