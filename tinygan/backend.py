"""NumPy or CuPy, random numbers, pixels, and files that are written whole or not at all.

Only this file imports CuPy. All other code uses operators and methods of arrays, which both libraries have, and calls
`get_array_module(x)` where it needs a function. The caller names the device once: `xp = get_backend("auto")`.
"""

import contextlib
import os
import secrets
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.errors import BackendError

Array: TypeAlias = npt.NDArray[Any]
"""A numpy.ndarray, or a cupy.ndarray, which has the same methods."""

ArrayModule: TypeAlias = ModuleType
"""numpy or cupy: usually named xp."""

Scalar: TypeAlias = float | np.floating[Any] | Array
"""One number: a Python or NumPy float, or an array of no dimensions on the device."""


class Rng(Protocol):
    """A generator of random numbers of either backend: numpy.random.Generator or cupy.random.Generator."""

    def random(self, size: Any = ..., dtype: Any = ...) -> Any: ...

    def standard_normal(self, size: Any = ..., dtype: Any = ...) -> Any: ...

    def integers(self, low: Any, high: Any = ..., size: Any = ..., dtype: Any = ...) -> Any: ...


BACKENDS = ("auto", "numpy", "cupy")

INSTALL_CUPY = (
    'install CuPy for your CUDA version: python -m pip install "cupy-cuda13x[ctk]" (CUDA 12: "cupy-cuda12x[ctk]"; '
    "python -m tinygan doctor says which); or use the CPU: --backend numpy"
)


def get_array_module(x: object) -> ArrayModule:
    """cupy for an array on the device, numpy for everything else.

    This never imports CuPy: while CuPy is not loaded, none of its arrays can exist.
    """
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def cupy_problem() -> str | None:
    """Why CuPy cannot be used on this machine, in one line; None if it can.

    Without a driver CuPy imports, and fails only at the first allocation. So this tries an allocation and a sum.
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


def get_backend(name: str = "auto") -> ArrayModule:
    """The array module named: "numpy", "cupy", or "auto" (cupy where a GPU works, else numpy with one line to stderr).

    Raises BackendError for "cupy" without a usable GPU, with the remedy; ArgumentError for an unknown name.
    """
    if checks.choice("backend", name, BACKENDS) == "numpy":
        return np
    problem = cupy_problem()
    if problem is None:
        import cupy

        return cupy
    if name == "cupy":
        raise BackendError(f"{problem}: {INSTALL_CUPY}")
    print(f"backend: NumPy on the CPU ({problem})", file=sys.stderr)
    return np


def to_host(x: Any) -> npt.NDArray[Any]:
    """x as a NumPy array; an array on the device is copied."""
    xp = get_array_module(checks.unmasked("x", x))
    return np.asarray(x) if xp is np else xp.asnumpy(x)


def to_device(x: Any, xp: ArrayModule) -> Array:
    """x as an array of the module xp; nothing is copied if it is one already."""
    return checks.array_module(xp).asarray(checks.unmasked("x", x))


def pixels(images: Array, xp: ArrayModule = np, dtype: npt.DTypeLike = np.float32) -> Array:
    """x = images / 255, in [0, 1]: one minibatch of uint8 pixels as floats of module xp.

    The bytes are copied to the device, and divided there, in dtype.
    Raises ArgumentError for anything but uint8. Nothing else would notice pixels that are scaled twice.
    """
    checks.uint8("images", images)
    x: Array = to_device(images, xp).astype(checks.float_dtype("dtype", dtype))
    x /= 255
    return x


# ---- Random numbers


def random_generator(xp: ArrayModule, seed: int, purpose: str = "", epoch: int = 0) -> Any:
    """A random generator of module xp, determined by (seed, purpose, epoch) and by nothing else.

    There is one stream per purpose and epoch. So no draw depends on how many draws other purposes made, and a run that
    resumes after an epoch needs no generator state. The streams of NumPy and CuPy differ.
    """
    words = [checks.integer("seed", seed, 0), zlib.crc32(str(purpose).encode()), checks.integer("epoch", epoch, 0)]
    sequence = np.random.SeedSequence(words)
    if checks.array_module(xp) is np:
        return np.random.Generator(np.random.SFC64(sequence))
    return xp.random.Generator(xp.random.XORWOW(int(sequence.generate_state(1, np.uint64)[0])))


class Streams(dict[str, Any]):
    """The random generators of one epoch, by purpose: streams["noise"] is made when it is first asked for.

    Each is random_generator(xp, seed, purpose, epoch). Epoch 0 is for reports, whose z must be the same in every epoch.
    """

    def __init__(self, seed: int, epoch: int = 0, xp: ArrayModule = np) -> None:
        self.seed, self.epoch, self.xp = checks.integer("seed", seed, 0), checks.integer("epoch", epoch, 0), xp

    def __missing__(self, purpose: str) -> Any:
        self[purpose] = random_generator(self.xp, self.seed, purpose, self.epoch)
        return self[purpose]


def random_uint16(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Uniform random integers of 16 bits. Four are cut from each draw of 64 bits, since drawing is most of a mask's time.

    On CuPy each is a draw of its own: before 14.2 its integers() returns wrong numbers, without an error, for ranges beyond
    31 bits.
    """
    if not isinstance(rng, np.random.Generator):
        return checks.generator(rng).integers(0, 2**16, size=shape, dtype=np.uint16)
    size = int(np.prod(shape))
    words = rng.integers(0, 2**64 - 1, size=-(-size // 4), dtype=np.uint64, endpoint=True)
    return words.view(np.uint16)[:size].reshape(shape)


# ---- Files


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for writing. It becomes `path` when it is complete: after a power cut path is the old file or the new.

    The file is written beside path under a temporary name of its own, forced to the disk, and then renamed. If anything
    fails, the temporary file is removed and path is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    file = open(temporary, "xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # Force the rename itself to the disk. Some systems cannot open or sync a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
