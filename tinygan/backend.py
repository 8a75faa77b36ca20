"""Which array library, and the one file that knows CuPy.

Everything else in tinygan uses operators and methods, which follow the array by themselves, and asks
`get_array_module(x)` where it needs a function. The device is named once, by the caller: `xp = get_backend("auto")`.
"""

import sys
import zlib
from typing import Any, TypeAlias

import numpy as np

from tinygan.errors import ArgumentError, BackendError

Array: TypeAlias = Any
"""A numpy.ndarray or a cupy.ndarray."""

BACKENDS = ("auto", "numpy", "cupy")

INSTALL_CUPY = (
    'install CuPy for your CUDA version: python -m pip install "cupy-cuda13x[ctk]" (CUDA 12: "cupy-cuda12x[ctk]"; '
    "python -m tinygan doctor says which); or use the CPU: --backend numpy"
)


def get_array_module(x: Array) -> Any:
    """cupy for an array on the device, numpy for everything else.

    CuPy is never imported here: an array of a module that is not loaded cannot exist.
    """
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def cupy_problem() -> str | None:
    """Why CuPy cannot be used on this machine, in one line; None if it can.

    CuPy imports without a driver and fails at the first allocation, so an allocation and a sum are tried.
    """
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is not installed ({error})"
    except Exception as error:  # a broken CUDA installation can raise anything at import
        return f"CuPy does not import ({type(error).__name__}: {error})"
    try:
        cupy.ones(2).sum()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"CuPy {cupy.__version__} finds no usable GPU ({reason})"
    return None


def get_backend(name: str = "auto") -> Any:
    """The array module named: "numpy", "cupy", or "auto" (cupy where a GPU works, else numpy with one line to stderr).

    Raises BackendError for "cupy" without a usable GPU, with the remedy; ArgumentError for another name.
    """
    if name not in BACKENDS:
        raise ArgumentError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    if name == "numpy":
        return np
    problem = cupy_problem()
    if problem is None:
        import cupy

        return cupy
    if name == "cupy":
        raise BackendError(f"{problem}: {INSTALL_CUPY}")
    print(f"backend: NumPy on the CPU ({problem})", file=sys.stderr)
    return np


def to_host(x: Array) -> Any:
    """x as a NumPy array; copies from the device if it is there."""
    return get_array_module(x).asnumpy(x) if get_array_module(x) is not np else np.asarray(x)


def to_device(x: Any, xp: Any) -> Array:
    """A host array as an array of the module xp; nothing is copied if it is one already."""
    return xp.asarray(x)


def random_generator(xp: Any, seed: int, purpose: str = "", epoch: int = 0) -> Any:
    """A random generator of module xp, determined by (seed, purpose, epoch) and by nothing else.

    One stream per purpose and epoch: no draw depends on how many others were made before it, and a run that resumes
    at an epoch's end needs no generator state. The streams of NumPy and CuPy differ.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch])
    if xp is np:
        return np.random.Generator(np.random.SFC64(sequence))
    return xp.random.Generator(xp.random.XORWOW(int(sequence.generate_state(1, np.uint64)[0])))


def random_uint16(rng: Any, shape: tuple[int, ...]) -> Array:
    """Uniform random integers of 16 bits: four are cut from each 64-bit draw, since drawing is what a mask costs.

    CuPy draws each by itself: before 14.2 its integers() returns garbage, without an error, for ranges beyond 31 bits.
    """
    if not isinstance(rng, np.random.Generator):
        return rng.integers(0, 2**16, size=shape, dtype=np.uint16)
    size = int(np.prod(shape))
    words = rng.integers(0, 2**64 - 1, size=-(-size // 4), dtype=np.uint64, endpoint=True)
    return words.view(np.uint16)[:size].reshape(shape)
