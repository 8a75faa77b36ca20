"""Checks of arguments. Each returns the argument, or raises ArgumentError with what was given and what is needed.

    self.n = integer("n", n)                        a whole number of at least 1
    mu = real("the momentum", mu, "[0, 1)")         a number in this interval: NaN and infinity are in none

Strings, None and booleans are no numbers. NumPy's numbers, and arrays without dimensions, are numbers.
Most checks run once, where a thing is made. Those of every iteration take less than a microsecond.
"""

import functools
import math
import numbers
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.errors import ArgumentError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

MASKED = (np.ma.MaskedArray, np.matrix)
"""Arrays with rules of their own, which would be lost without a word: a mask, or * as the matrix product."""


def shown(value: object) -> str:
    """The value in a message: arrays by shape and dtype, classes by name, everything else by a short repr."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(shape, tuple) and shape and dtype is not None:
        return f"{type(value).__name__} of shape {shape} in {dtype}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}… ({type(value).__name__})"


def _number(value: object) -> object:
    """A number of NumPy's, or an array without dimensions, as Python's number."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def integer(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if type(value) is int and value >= least:  # what nearly every call is
        return value
    number = _number(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < least:
        raise ArgumentError(f"{name} must be an integer and at least {least}, not {shown(value)}")
    return int(number)


def real(name: str, value: Any, interval: str = "(-inf, inf)", *which: int) -> float:
    """A number in the interval, such as "[0, 1)" or "(0, inf)". `which` fills the braces of the name, if an error needs it."""
    low, high, with_low, with_high, words = _interval(interval)
    if type(value) is float and low < value < high:  # what nearly every call is
        return value
    number = _number(value)
    try:
        if isinstance(number, numbers.Real) and not isinstance(number, bool):
            number = float(number)
            if low < number < high or (with_low and number == low) or (with_high and number == high):
                return number
    except OverflowError:  # an integer beyond the largest float
        pass
    raise ArgumentError(f"{name.format(*which) if which else name} must be {words}, not {shown(value)}")


@functools.cache
def _interval(interval: str) -> tuple[float, float, bool, bool, str]:
    low, high = map(float, interval[1:-1].split(","))
    with_low = interval[0] == "["
    words = f"a number in {interval}"
    if high == math.inf:
        words = "a finite number"
        if low != -math.inf:
            words += f"{' of at least' if with_low else ' above'} {low:g}"
    return low, high, with_low, interval[-1] == "]", words


def choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of the words in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"unknown {name} {shown(value)}: choose one of {', '.join(choices)}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if value is not True and value is not False and not isinstance(value, np.bool_):
        raise ArgumentError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def function(name: str, value: Any, example: str) -> Any:
    """Something that can be called, but is no class; the example says how one is written."""
    if not callable(value) or isinstance(value, type):
        raise ArgumentError(f"{name} must be a function, as in {example}, not {shown(value)}")
    return value


def instance(name: str, value: Any, kind: type | tuple[type, ...], example: str) -> Any:
    """An object of this class; the example says how one is made."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{name} must be {example}, not {shown(value)}")
    return value


def having(name: str, value: Any, attributes: Collection[str], example: str) -> Any:
    """An object of any class that has these attributes; the example says how one is made."""
    if any(not hasattr(value, attribute) for attribute in attributes):
        raise ArgumentError(f"{name} must be {example}, not {shown(value)}")
    return value


def float_dtype(name: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """float32 or float64. None is refused: NumPy would take it for float64."""
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found is None or found not in FLOATS:  # NumPy takes None for float64 when it compares, too
        raise ArgumentError(f"{name} must be float32 or float64, not {shown(dtype)}")
    return found


def items(name: str, given: Any, example: str) -> list[Any]:
    """The items of a list, a tuple or a generator."""
    if isinstance(given, str | bytes | dict) or not hasattr(given, "__iter__") or isinstance(given, type):
        raise ArgumentError(f"{name} must be a list, as in {example}, not {shown(given)}")
    return list(given)


def sizes(name: str, given: Any) -> tuple[int, ...]:
    """A shape: whole numbers of at least 1."""
    found = items(name, given, "(28, 28)")
    return tuple(integer(f"{name}[{i}]", size) for i, size in enumerate(found))


def pair(name: str, given: Any, least: int = 1) -> tuple[int, int]:
    """Two whole numbers of at least `least`, for rows and columns. One number counts for both."""
    if not isinstance(given, list | tuple) and not getattr(given, "ndim", 0):
        size = integer(name, given, least)
        return size, size
    if len(given) != 2:
        raise ArgumentError(f"{name} must be an integer, or a pair for rows and columns, not {shown(given)}")
    rows, columns = (integer(f"{name}[{i}]", size, least) for i, size in enumerate(given))
    return rows, columns


def array_module(xp: Any) -> ModuleType:
    """numpy or cupy, the module itself."""
    if not hasattr(xp, "asarray") or not hasattr(xp, "ndarray"):
        raise ArgumentError(f"xp must be the module numpy or cupy, as get_backend(…) returns it, not {shown(xp)}")
    module: ModuleType = xp
    return module


def generator(rng: Any, name: str = "rng", reason: str = "a seed would draw the same each time") -> Any:
    """A generator of random numbers. An integer is refused, since each call would draw the same numbers."""
    if not hasattr(rng, "integers"):
        raise ArgumentError(f"{name} must be a generator, random_generator(xp, seed), not {shown(rng)}: {reason}")
    return rng


def seed_or_generator(rng: Any) -> Any:
    """A generator of random numbers, where an integer, which is no generator, would be a seed."""
    return generator(rng, reason="or give an integer, the seed of a new one")


def stream(streams: Any, purpose: str) -> Any:
    """streams[purpose], a generator of random numbers."""
    try:
        rng = streams[purpose]
    except (TypeError, KeyError, IndexError) as error:
        needed = "a generator for each purpose, since a seed would draw the same each time"
        raise ArgumentError(f"streams must be Streams(seed), {needed}, not {shown(streams)}") from error
    return generator(rng, f'streams["{purpose}"]')


def unmasked(name: str, value: Any) -> Any:
    """The value, unless it is a masked array or a matrix."""
    if isinstance(value, MASKED):
        raise ArgumentError(f"{name} is a {type(value).__name__}: give a plain array, such as x.filled(0) of a masked array")
    return value


def array(name: str, value: Any, shape: str = "(m, d)", kinds: str = "f") -> Any:
    """An array of as many axes as the words `shape` have, whose dtype is of these kinds. "…" stands for any axes."""
    axes = _axes(shape)
    if type(value) is np.ndarray and value.dtype.char in "fd" and "f" in kinds and axes in (None, value.ndim):
        return value  # what nearly every call is
    ndim = getattr(value, "ndim", None)
    kind = getattr(getattr(value, "dtype", None), "kind", "no array")
    wrong = ndim is None or kind not in kinds or (axes is not None and ndim != axes)
    if wrong or (kind == "f" and value.itemsize not in (4, 8)):
        words = " or ".join(WORDS[kind] for kind in kinds if kind in WORDS)
        found = shown(value) if ndim is None else f"{type(value).__name__} of shape {value.shape} in {value.dtype}"
        raise ArgumentError(f"{name} must be an array {shape} of {words}, not {found}")
    return unmasked(name, value)


WORDS = {"f": "float32 or float64", "i": "integers"}
"""The kinds of dtypes in words."""


@functools.cache
def _axes(shape: str) -> int | None:
    return None if "…" in shape else sum(bool(size.strip()) for size in shape.strip("()").split(","))


def uint8(name: str, value: Any) -> Any:
    """An array of uint8."""
    found = getattr(value, "dtype", None)
    if found != np.uint8:
        raise ArgumentError(f"{name} are {found or shown(value)}, not uint8: pixels are scaled once, from uint8")
    return unmasked(name, value)


def numeric(name: str, value: Any) -> Any:
    """A finite number, or an array of finite numbers, as a host array."""
    try:
        found = np.asarray(unmasked(name, value))
    except (ValueError, TypeError):  # lists of different lengths, or an array on a device
        found = np.empty(0, object)
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise ArgumentError(f"{name} must be a finite number, or an array of finite numbers, not {shown(value)}")
    return found


def assigned(values: Any, vector: Any) -> Any:
    """What may be copied into the vector: one number, or an array like it. Nothing is cast silently."""
    number = _number(values)
    if isinstance(number, numbers.Real) and not isinstance(number, bool):
        return number
    kind = getattr(values, "dtype", None)
    if getattr(values, "shape", None) != vector.shape or kind != vector.dtype or not isinstance(values, type(vector)):
        needed = f"an array {vector.shape} in {vector.dtype} of {type(vector).__module__}, or a number for all"
        raise ArgumentError(f"assign {needed}, not {shown(values)}{f' of {type(values).__module__}' if kind else ''}")
    return unmasked("the vector", values)


def like(name: str, vector: Any, theta: Any, xp: Any, others: Mapping[str, Any]) -> Any:
    """A vector like θ, in memory of its own: it shares none with θ, nor with the others."""
    if getattr(vector, "shape", None) != theta.shape or vector.dtype != theta.dtype or not isinstance(vector, xp.ndarray):
        raise ArgumentError(f"{name} must be like θ, {shown(theta)}, not {shown(vector)}")
    if type(vector) is not xp.ndarray:
        unmasked(name, vector)
    # A view's `base` is the array that owns the memory. Different owners, different memory.
    owner = vector if vector.base is None else vector.base
    if owner is theta or owner is theta.base:
        _own_memory(name, vector, "θ", theta, xp)
    for other, array in others.items():
        if owner is array or owner is array.base:
            _own_memory(name, vector, other, array, xp)
    return vector


def _own_memory(name: str, vector: Any, other: str, array: Any, xp: Any) -> None:
    if array.size and xp.may_share_memory(vector, array):
        raise ArgumentError(f"{name} shares memory with {other}, which must not change with it: give an array of its own")


def following(batches: Any, m: int, taken: str) -> Any:
    """The x of the next minibatch, of m rows. An iterator that has ended is an error that has a name, not the end of a loop."""
    try:
        batch = next(batches)
    except StopIteration:
        needed = f"one iteration takes {taken}; give more, or an iterator without end"
        raise ArgumentError(f"the minibatches have ended: {needed}") from None
    except TypeError as error:
        if hasattr(batches, "__next__"):
            raise  # from inside the iterator
        found = shown(batches)
        raise ArgumentError(f"batches must be an iterator of Batch(x), not {found}: write iter([Batch(x), …])") from error
    x = getattr(batch, "x", None)
    if x is None:
        raise ArgumentError(f"a minibatch must be Batch(x), not {shown(batch)}")
    if getattr(x, "ndim", 0) >= 2 and len(x) != m:
        raise ArgumentError(f"a minibatch must have as many rows as the game's batch_size, {m}, not {x.shape}")
    return x


def optimizer_of(network: Any, optimizer: Any, name: str) -> Any:
    """The optimiser, which must be over this network's own θ."""
    if getattr(optimizer, "theta", None) is not network.theta:
        raise ArgumentError(
            f"{name} must be an optimiser over the network's own θ, as MomentumSGD(G.theta, 0.1) is, not {shown(optimizer)}"
        )
    return optimizer


def optimizer_attribute(held: Mapping[str, Any], name: str, value: Any, intervals: Mapping[str, str]) -> Any:
    """The value that an optimiser's attribute is set to: a number in its interval; θ and the state are never replaced."""
    if name == "updates":  # which every step sets
        return value
    if name in intervals and not (name == "learning_rate" and callable(value)):
        return real(f"the {name.replace('_', ' ')}", value, intervals[name])
    if name in held and name in ("theta", *held.get("state", ())) and value is not held[name]:
        raise ArgumentError(f"write into {name}, which a checkpoint holds: optimizer.{name}[...] = …, not {shown(value)}")
    return value


def rows_like(name: str, shape: tuple[int, ...], low: float, high: float, needed: tuple[int, ...], ends: Any) -> None:
    """Raise ArgumentError unless these rows, with values from `low` to `high`, can be outputs of G.

    needed  the shape of one output     ends  the range of its last layer
    """
    if shape[1:] != needed:
        words = f"{name} must be rows like G's samples, {('n', *needed)}, not {shape}".replace("'n'", "n")
        flat = " (x.reshape(len(x), -1) makes rows)" if math.prod(shape[1:]) == math.prod(needed) else ""
        raise ArgumentError(words + flat)
    if low < ends[0] - ROUNDING or high > ends[1] + ROUNDING:
        raise ArgumentError(
            f"{name} go from {low:.4g} to {high:.4g}, but G's last layer makes values from {ends[0]} to {ends[1]}: scale the "
            f"data to this range, or end G in a different layer"
        )


ROUNDING = 1e-3
"""How far beyond a range a value may be because of rounding."""


def same_scale(training: Any, validation: Any) -> None:
    """Raise ArgumentError if one set is 50 times as wide as the other, or if their means are far apart.

    Far apart: by 5 standard deviations of the rows' means, and by a twentieth of the training data's range.
    """
    many = len(validation) >= 10  # the mean of a few rows says little
    means, others = (rows.reshape(len(rows), -1).mean(axis=1) for rows in (training, validation))
    widths = [float(abs(rows - rows.mean()).mean()) for rows in (training, validation)]
    apart, width = abs(float(means.mean()) - float(others.mean())), float(training.max() - training.min())
    ratio = widths[1] / widths[0] if many and min(widths) > 0 else 1
    far = many and width > 0 and apart > max(5 * float(means.std()), width / 20)
    if far or not 1 / 50 < ratio < 50:
        ranges = (f"{float(rows.min()):.4g} to {float(rows.max()):.4g}" for rows in (training, validation))
        raise ArgumentError(
            "training data go from {}, validation data from {}: their means and widths differ too much, scale both in the "
            "same way".format(*ranges)
        )


def finite_range(name: str, x: Any, dtype: np.dtype[Any], first: int = 0) -> tuple[float, float]:
    """The smallest and the largest number of x. Raises ArgumentError if one is NaN, or beyond the dtype.

    first  the number of x's first row in a larger array
    """
    low, high = float(x.min()), float(x.max())
    largest = float(np.finfo(dtype).max)
    if not (-largest <= low and high <= largest):
        rows = (~(abs(x) <= largest)).reshape(len(x), -1).any(axis=1)
        raise ArgumentError(
            f"{name}: {int(rows.sum())} of {len(x)} rows have NaN or numbers that are not finite in {dtype}, the first is row "
            f"{first + int(rows.argmax())}: correct or remove these rows"
        )
    return low, high


def rates(initial: Any, decay: Any, minimum: Any) -> None:
    """Raise ArgumentError unless a learning rate can decay from `initial` to `minimum`. A schedule asks at each update."""
    try:
        _rates(initial, decay, minimum)
    except TypeError:  # a list, or another value that cannot be remembered
        _rates.__wrapped__(initial, decay, minimum)


@functools.lru_cache(maxsize=64, typed=True)
def _rates(initial: Any, decay: Any, minimum: Any) -> None:
    real("minimum", minimum, "[0, inf)")
    real("decay, by which the learning rate is divided,", decay, "[1, inf)")
    if real("the initial learning rate", initial, "(0, inf)") < minimum:
        raise ArgumentError(f"the initial learning rate, {initial}, is below the minimum, {minimum}: lower the minimum")
