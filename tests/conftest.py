"""The fixtures that run one test on every backend.

    from strict_cupy import host, no_transfers

    def test_something(xp):                     # runs three times: numpy, strict-cupy, cupy (skipped without a GPU)
        x = xp.asarray([1.0, 2.0], dtype=xp.float32)
        with no_transfers():                    # fails if anything is copied between host and device in here
            y = x * 2
        assert host(y).tolist() == [2.0, 4.0]   # host() copies to NumPy and is not counted

    def test_counted(xp, transfers):            # the counter, at 0: transfers.to_host, transfers.to_device, .reset()
        ...

"strict-cupy" is the stand-in of strict_cupy.py, which explains what it refuses. On NumPy and on the real CuPy nothing
is counted, so `assert transfers.to_host == 1` belongs in a test that takes `strict_xp`, the stand-in alone. There,
`with strict_cupy.no_gpu():` is a machine that has CuPy and no driver.
"""

import functools
import signal
import sys

import numpy as np
import pytest
import strict_cupy

from tinygan.backend import cupy_problem, get_backend

no_device = functools.cache(cupy_problem)

# A job in the background may ignore Ctrl-C, and all its children with it: the tests of Ctrl-C need Python's own answer.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def strict_xp(monkeypatch):
    """The stand-in for CuPy, in the place of cupy."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy.cupy)
    strict_cupy.transfers.reset()
    return strict_cupy.cupy


@pytest.fixture(params=["numpy", "strict-cupy", "cupy"])
def xp(request):
    """The array module that the test runs on."""
    if request.param == "numpy":
        return np
    if request.param == "strict-cupy":
        return request.getfixturevalue("strict_xp")
    if no_device():
        pytest.skip(f"needs a GPU: {no_device()}")
    return get_backend("cupy")


@pytest.fixture
def transfers():
    """The counter of copies between host and device, set to 0."""
    strict_cupy.transfers.reset()
    return strict_cupy.transfers
