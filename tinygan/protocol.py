"""The layer protocol, examined: whether forward, backward and observe do what a Layer must do.

Here is all that can be seen without a numeric derivative: what is returned, what is written to, and what depends on what. The
values of the derivatives are compared in gradcheck.py. There, check_layer puts a layer through both, and lists what must hold.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygan.backend import Array, random_generator
from tinygan.description import with_parts
from tinygan.errors import ArgumentError, GradientError
from tinygan.layers import Layer
from tinygan.network import Caches, Network, bind
from tinygan.probes import (
    EqualDraws,
    Float64Draws,
    agrees,
    arrays_and_layers,
    close,
    identical,
    magnitude,
    masks,
    nudged,
    ranges,
)

SAME_ROWS = 1e-6  # how far dx of some rows alone may be from theirs in dx of all: matrix products of both sizes are rounded
ROWS_ALONE = 8  # so many rows are also given to forward one by one
# The statistics have settled once observe has seen one minibatch 2 · 250 times. It has so many rows that a variance over m − 1
# is like one over m; but a minibatch that already has a million numbers is not made larger.
SETTLED_TIMES = 250
SETTLED_ROWS = 200
SETTLED_NUMBERS = 10**6
SETTLED_NEAR = 0.03  # how far y in testing may then be from y in training, as a part of its range
SETTLED_ROUNDS = 4  # statistics that training uses, too, change the minibatch of the next layer inside: then again

PROMISES = {
    "runs": "forward and backward can be called as the protocol says, and return arrays of finite numbers",
    "shapes_and_dtypes": "y has the rows and the dtype of x, and dx has its shape and dtype",
    "linear_in_dy": "backward is linear in dy",
    "writes_to_grads_alone": "forward writes to nothing, backward to grads alone, observe to the statistics alone",
    "grads_overwritten": "backward overwrites every entry of grads",
    "grads_and_dx_optional": "without grads dx is the same; with need_dx=False dx is None and the gradients are the same",
    "no_state": "nothing is kept on the layer: other calls change neither y nor dx",
    "draws_from_rng_alone": "random numbers come from rng, in training alone",
    "arrays_declared": "y depends on no array of the layer that is not declared",
    "rows": "each row is treated by itself and alike, unless mixes_rows is declared",
    "any_order_in_memory": "x and dy may be stored by rows or by columns",
    "float32": "float32 stays float32, with the same values up to rounding",
    "statistics": "observe moves the statistics, from the cache alone, to those of the minibatch",
}
"""What a layer must do beside having the right derivatives. Each fault breaks one of these."""


class Fault(str):
    """What is wrong, in words, and which of PROMISES it breaks."""

    promise: str

    def __new__(cls, promise: str, words: str) -> "Fault":
        fault = super().__new__(cls, words)
        fault.promise = promise
        return fault


# ---- What a layer must have before anything is computed

FORWARD = "def forward(self, x, train=False, rng=None)"
BACKWARD = "def backward(self, dy, cache, grads=None, need_dx=True)"
DECLARE = 'self.declarations = {{"{0}": (shape, init)}}'


def _require_layer(layer: Any) -> None:
    """Raise GradientError, with the line of code that is missing, unless the layer can be called as the protocol says."""
    if not isinstance(layer, Layer):
        what = f"the class {layer.__name__}" if isinstance(layer, type) else repr(layer)
        raise ArgumentError(f"a layer is needed, not {what}: check_layer(Linear(3, 4), (5, 3))")
    try:
        parts = [part for part in with_parts(layer) if isinstance(part, Layer)]
    except TypeError as error:
        raise GradientError(f"{type(layer).__name__}: parts must be a sequence: self.parts = (part,)") from error
    for part in parts:
        _require_declarations(part)
        _require_signature(part, "forward", FORWARD, [(("x",), {}), (("x", True, None), {}), (("x",), {"train": 0, "rng": 0})])
        calls = [(("dy", "cache"), {}), (("dy", "cache", None, True), {}), (("dy", "cache"), {"grads": 0, "need_dx": 0})]
        _require_signature(part, "backward", BACKWARD, calls)
        for path, held in arrays_and_layers(part):
            known = any(held is each for each in parts)
            if isinstance(held, Layer) and held.declarations and not known and not held.in_network:
                name = f"self.{path}"
                raise GradientError(f"{type(part).__name__}: {name} has parameters, and is no part: self.parts = ({name},)")


def _require_declarations(part: Layer) -> None:
    name = type(part).__name__
    for attribute in "declarations", "statistic_declarations":
        declared = getattr(part, attribute)
        if not isinstance(declared, Mapping):
            raise GradientError(f"{name}: {attribute} must be a dict, not {declared!r}: {DECLARE.format('W')}")
        for key, value in declared.items():
            shape, init = value if isinstance(value, tuple | list) and len(value) == 2 else (None, None)
            if not isinstance(shape, tuple | list) or not all(_is_size(size) for size in shape):
                raise GradientError(f'{name}: "{key}" needs a shape, a tuple of integers, and an init: {DECLARE.format(key)}')
            if not callable(init):
                found = "an array" if isinstance(init, np.ndarray) else repr(init)
                raise GradientError(
                    f'{name}: "{key}" starts at {found}, which is no init: "{key}": ({tuple(shape)}, Constant({found})), '
                    f"or Uniform(radius)"
                )
    for key in part.params.keys() - part.declarations.keys() if not part.in_network else ():
        raise GradientError(f'{name}: params["{key}"] is not declared, and a Network would drop it: {DECLARE.format(key)}')


def _is_size(size: Any) -> bool:
    return isinstance(size, int | np.integer) and not isinstance(size, bool)


def _require_signature(part: Layer, name: str, line: str, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    method = getattr(part, name)
    if getattr(type(part), name, None) is getattr(Layer, name):
        raise GradientError(f"{type(part).__name__} has no {name}: {line}: …")
    for arguments, keywords in calls:
        try:
            inspect.signature(method).bind(*arguments, **keywords)
        except TypeError as error:
            found = f"{name}{inspect.signature(method)}"
            raise GradientError(f"{type(part).__name__}: {found} cannot be called as a layer ({error}): {line}") from error


def read_input(x: Any, rng: Any) -> Array:
    """The input: as it was given, in float64, or drawn in the shape that was given. Raises ArgumentError for anything else."""
    if isinstance(x, tuple | list) and x and all(_is_size(size) for size in x):
        shape = tuple(int(size) for size in x)
        _require_rows(shape)
        return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 1.1, shape))
    try:
        given = np.asarray(x)
    except ValueError as error:
        raise ArgumentError(f"x is neither a shape, (5, 3), nor an array of numbers ({error})") from error
    if given.dtype.kind not in "fiu" or given.ndim == 0 or (given.ndim == 1 and not (given is x and given.dtype.kind == "f")):
        raise ArgumentError(f"x must be a shape, (5, 3), or an array of real numbers, (m, …), not {x!r}")
    _require_rows(given.shape)
    if not np.isfinite(given).all():
        raise ArgumentError("x must be finite: it holds NaN or an infinity")
    return np.array(given, np.float64, order="C")


def _require_rows(shape: tuple[int, ...]) -> None:
    if shape[0] < 2 or min(shape) < 1:
        raise ArgumentError(
            f"x of shape {shape}: m > 1 rows are needed, and no axis may be empty. With one row, a gradient that is averaged "
            f"over the minibatch looks right"
        )


# ---- The examination


@contextlib.contextmanager
def examined(layer: Layer, x: Any, seed: int) -> Iterator[list["Examination"]]:
    """The layer, examined with train=True, and with train=False if y or the cache is different then.

    In the block it is in a network of float64. Afterwards the layer is as it was.
    """
    _require_layer(layer)
    rng = random_generator(np, seed, "input and parameters")
    with _borrowed(layer, seed) as network:
        network.theta += rng.uniform(-0.5, 0.5, network.theta.shape)
        was_integer = getattr(x, "dtype", np.dtype(float)).kind in "iu"
        x = read_input(x, rng)
        # Statistics that start at 0 and 1 would hide a backward that forgets them.
        network.statistics += rng.uniform(0.1, 0.6, network.statistics.shape)
        training, testing = (Examination(network, x, train, seed, was_integer) for train in (True, False))
        later, _ = testing.forward(x)
        training.examine()
        now, cache = testing.forward(x)
        if not identical(now, later):
            training.fault(
                "no_state",
                "forward with train=False returns a different y after training passes: what they change on the layer must be "
                "running statistics, in self.statistic_declarations, which only observe(cache) moves",
            )
        if identical(training.forward(x), (now, cache)):
            testing.check_without_rng(now)
        else:
            testing.examine()
        yield [training, testing]


@contextlib.contextmanager
def _borrowed(layer: Layer, seed: int) -> Iterator[Network]:
    """A network of this layer. Afterwards the layer and its parts have the attributes that they had before."""
    before = [(part, dict(vars(part))) for part in with_parts(layer) if isinstance(part, Layer)]
    try:
        yield Network([layer], dtype=np.float64, seed=seed)
    finally:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)


class _Watch:
    """Arrays that nothing may write to, and copies of them to compare with, bit for bit."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, Array, Array]] = []

    def add(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self.watched.append((name, value, value.copy()))
        elif isinstance(value, list | tuple | dict):
            for part in value.values() if isinstance(value, dict) else value:
                self.add(name, part)

    def changed(self) -> Iterator[str]:
        """The names of arrays that were written to. The arrays are restored, so that each fault is reported only once."""
        for name, array, original in self.watched:
            if not identical(array, original):
                array[...] = original
                yield name


class _Grads(dict[str, Array]):
    def __missing__(self, name: str) -> Array:
        raise GradientError(_undeclared(name))


def _undeclared(name: str) -> str:
    return (
        f'backward uses grads["{name}"], a parameter that the layer does not declare: '
        f'self.declarations = {{"{name}": (shape, init)}} in __init__'
    )


class Examination:
    """One layer, with train=True or with train=False. Each `check` says one thing, and keeps the faults that it finds."""

    def __init__(self, network: Network, x: Array, train: bool, seed: int, was_integer: bool) -> None:
        (self.layer,) = network.layers
        self.subject = f"{self.layer!r} on an input of shape {x.shape}"
        self.network, self.x, self.train, self.seed = network, x, train, seed
        self.was_integer, self.mode = was_integer, "" if train else " (train=False)"
        self.params = self.layer.params
        self.faults: list[Fault] = []
        self.watch = _Watch()
        self.held = np.nan  # in each array of grads before backward writes to it
        self.gradients: list[tuple[str, Array, Array]] | None = None  # each (name, value, its gradient), once examined

    def examine(self) -> None:
        """Every check. What they call, and what it returns, is kept for the numeric comparison: y, dy and the gradients."""
        layer, x, rng = self.layer, self.x, random_generator(np, self.seed, "upstream gradient")
        self.watch.add("x", x)
        for name, value in self.params.items():
            self.watch.add(name, value)
        for name, value in layer.statistics.items():
            self.watch.add(f"the statistics {name}", value)
        self.y, self.cache = self.forward(x)
        self.dy = rng.standard_normal(self.y.shape) / ranges(self.y)
        self.check_y()
        self.check_without_rng(self.y)
        self.check_held()

        self.watch.add("dy", self.dy)
        self.watch.add("cache", self.cache)
        self.watch.add("y", self.y)
        self.dx, self.grads = self.backward(self.dy)
        self.watch.add("the dx that it returned before", self.dx)
        self.check_overwrites()
        if self.check_dx() and not layer.mixes_rows:
            self.check_cut_rows()
        self.check_second_forward()
        self.check_without_grads()
        self.check_need_dx()
        self.check_linear(rng)
        self.check_rows()
        self.check_mixing()
        if self.train:
            self.check_observe()
        self.check_order_in_memory()
        self.check_float32(rng)
        if not identical(self.y, self.forward(x)[0]):
            self.fault("no_state", "forward returns a different y after other passes: keep no state on the layer")

        self.gradients = [(name + self.mode, value, self.grads[name]) for name, value in self.params.items()]
        if isinstance(self.dx, np.ndarray):
            self.gradients.insert(0, ("x" + self.mode, x, self.dx))

    def found(self) -> tuple[Fault, ...]:
        """Each fault once."""
        return tuple(Fault(fault.promise, fault + self.mode) for fault in dict.fromkeys(self.faults))

    def fault(self, promise: str, words: str) -> None:
        self.faults.append(Fault(promise, words))

    def written_by(self, who: str) -> None:
        for name in self.watch.changed():
            self.fault("writes_to_grads_alone", f"{who} writes to {name}")

    def output(self) -> Array:
        """y, from the arrays as they are now, with the masks of the seed: what a numeric derivative calls again and again."""
        y: Array = self.layer.forward(self.x.copy(), self.train, masks(self.seed))[0]
        return y

    # Calls, whose errors become GradientErrors in the words of the protocol

    def forward(self, x: Array, rng: Any = None, caller: str = "forward") -> tuple[Array, Any]:
        """y and the cache, with the masks of the seed or with this rng."""
        with self.explain("forward", f"x {x.shape} {x.dtype}"):
            result = self.layer.forward(x, self.train, masks(self.seed) if rng is None else rng)
        self.written_by(caller)
        if not isinstance(result, tuple | list) or len(result) != 2:
            found = f"a {type(result).__name__} alone" if not isinstance(result, tuple) else f"{len(result)} values"
            raise GradientError(f"{self.subject}: forward returns {found}, not y and what backward needs: return y, cache")
        y, cache = result
        if not isinstance(y, np.ndarray) or y.dtype.kind != "f":
            found = f"an array of {y.dtype}" if isinstance(y, np.ndarray) else f"a {type(y).__name__}"
            raise GradientError(f"{self.subject}: forward returns y as {found}, not as an array of floats, in the dtype of x")
        return y, cache

    def backward(self, dy: Array, need_dx: bool = True, held: float | None = None) -> tuple[Any, dict[str, Array]]:
        """dx, and the gradients of the parameters, written where `held` was before."""
        held = self.held if held is None else held
        arrays = {name: np.full_like(value, held) for name, value in self.params.items()}
        grads = _Grads(arrays)
        with self.explain("backward", self.shapes(dy)):
            dx = self.layer.backward(dy, self.cache, grads, need_dx)
        for name in grads.keys() - self.params.keys():
            raise GradientError(f"{self.subject}: {_undeclared(name)}")
        self.written_by("backward")
        for name in arrays:
            if grads[name] is not arrays[name]:
                self.fault(
                    "grads_overwritten", f'backward rebinds grads["{name}"]: write into the array, grads["{name}"][...] = …'
                )
        return dx, grads

    def fixed_backward(self, dy: Array) -> Any:
        """dx without grads: the parameters are held fixed."""
        with self.explain("backward without grads", self.shapes(dy), "if grads is not None: grads[…][...] = …"):
            return self.layer.backward(dy, self.cache)

    def shapes(self, dy: Array) -> str:
        held = "".join(f", {name} {value.shape}" for name, value in self.params.items())
        return f"x {self.x.shape}, dy {dy.shape}{held}"

    @contextlib.contextmanager
    def explain(self, who: str, shapes: str, remedy: str = "") -> Iterator[None]:
        """Errors of this package are raised as they are. All others get the shapes, and the line that may be missing."""
        try:
            yield
        except (GradientError, ArgumentError):
            raise
        except Exception as error:
            if isinstance(error, KeyError) and who.startswith("backward") and isinstance(error.args[0], str):
                remedy = _undeclared(error.args[0])
            elif isinstance(error, ValueError) and who == "backward":
                remedy = 'a transpose may be missing: grads["W"][...] = x.T @ dy, dx = dy @ self.W.T'
            elif who == "forward" and (isinstance(error, IndexError) or self.was_integer):
                remedy = "Network takes floats alone, so x is float64 here: a layer for integers cannot stand in it"
            elif isinstance(error, AttributeError) and not self.params:
                remedy = f"each parameter must be declared: {DECLARE.format('W')}"
            after = f"forward(x, train={self.train})"
            words = f"{who} fails after {after}" if who != "forward" else f"{after} fails"
            text = f"{self.subject}: {words}, {type(error).__name__}: {error} ({shapes})"
            raise GradientError(f"{text}. {remedy}" if remedy else text) from error

    # What forward must do

    def check_y(self) -> None:
        if self.y.dtype != self.x.dtype:
            self.fault("shapes_and_dtypes", f"forward turns {self.x.dtype} into {self.y.dtype}")
        if not identical(self.y, self.forward(self.x)[0]):
            self.fault(
                "no_state", "forward returns a different y for the same x, train and rng: keep no state, draw from rng only"
            )
        if self.y.shape[:1] != self.x.shape[:1] and not self.layer.mixes_rows:
            self.fault(
                "shapes_and_dtypes", f"y has the shape {self.y.shape}, x has {self.x.shape}: each row of x gives one row of y"
            )

    def check_without_rng(self, y: Array) -> None:
        """Where rng is None there is nothing to draw from: with train=False no need, with train=True an error."""
        draws = self.draws()
        try:
            first, second = (np.array(self.layer.forward(self.x, self.train, None)[0]) for _ in range(2))
        except Exception as error:
            if not self.train:
                found = f"{type(error).__name__}: {error}"
                self.fault("draws_from_rng_alone", f"forward without an rng fails ({found}): draw only if train is True")
            return
        if not identical(first, second):
            self.fault(
                "draws_from_rng_alone",
                "forward returns a different y each time if rng is None: draw from rng only, or raise an error",
            )
        elif draws and self.train:
            self.fault(
                "draws_from_rng_alone",
                "forward draws from rng in training, but goes without one if rng is None: raise an error then",
            )
        elif draws and not identical(first, y):
            self.fault("draws_from_rng_alone", "forward returns a y that depends on rng: draw only if train is True")

    def draws(self) -> bool:
        """Whether forward draws from rng."""
        rng = masks(self.seed)
        before = str(rng.bit_generator.state)
        self.forward(self.x, rng)
        return str(rng.bit_generator.state) != before

    def check_held(self) -> None:
        """A writeable float array on the layer that y depends on is a parameter that nobody trains."""
        for owner in with_parts(self.layer):
            for path, held in arrays_and_layers(owner):
                where = f"self.{path}" if owner is self.layer else f"self.{path} of {owner!r}"
                if isinstance(held, np.ndarray) and self.depends_on(held):
                    self.fault(
                        "arrays_declared",
                        f'y depends on the array {where}, which is not declared: self.declarations = {{"{path}": '
                        f"({held.shape}, Constant(array))}}; a constant must be read-only: self.{path}.flags.writeable = False",
                    )

    def depends_on(self, held: Array) -> bool:
        if any(np.may_share_memory(held, own) for own in (self.network.theta, self.network.statistics)):
            return False
        original, x = held.copy(), self.x.copy()
        try:
            held[...] = original * 0.5 + 0.25
            with np.errstate(all="ignore"):
                y = self.layer.forward(x, self.train, masks(self.seed))[0]
            return not identical(np.asarray(y), self.y)
        except Exception:  # what cannot even be computed depends on it
            return True
        finally:
            held[...] = original

    def check_rows(self) -> None:
        """y of permuted rows is the permuted y, and y of some rows is a part of y: with the same draws for each row."""
        x, seeds = self.x, (self.seed, self.seed + 1)
        y, other = (self.forward(x, masks(seed))[0] for seed in seeds)
        draw: Callable[[], Any] = lambda: masks(self.seed)  # noqa: E731
        if not identical(y, other):  # the rows have masks of their own
            y, other = (self.forward(x, EqualDraws(np.random.PCG64(seed)))[0] for seed in seeds)
            draw = lambda: EqualDraws(np.random.PCG64(self.seed))  # noqa: E731
            if not identical(y, other):  # draws of a kind that cannot be made equal
                return
        if len(y) != len(x):
            return
        order = np.roll(np.arange(len(x)), 1)
        if not close(self.forward(x[order].copy(), draw())[0], y[order]):
            self.fault(
                "rows",
                "forward depends on where a row stands: y of permuted rows is not the permuted y. Draw masks from rng, and "
                "treat each row alike",
            )
        elif not self.layer.mixes_rows:
            for some in slice(len(x) // 2, len(x)), *(slice(i, i + 1) for i in range(min(len(x), ROWS_ALONE))):
                if not close(self.forward(x[some].copy(), draw())[0], y[some]):
                    self.fault(
                        "rows",
                        f"each row must be treated by itself: y of rows {some.start} … {some.stop - 1} alone is a different y. "
                        f"If rows influence each other, declare mixes_rows = True",
                    )
                    break

    def check_mixing(self) -> None:
        """Whether one row of x changes y in other rows, and whether mixes_rows says so."""
        layer, x, y = self.layer, self.x, self.y
        if len(y) != len(x) or (layer.mixes_rows and not self.train):
            return
        moved = x.copy()
        moved[-1] += 0.5  # added, not scaled: the row may be 0
        mixes = not identical(self.forward(moved)[0][:-1].copy(), y[:-1].copy())
        if mixes and not layer.mixes_rows:
            self.fault("rows", "one row of x changes y in other rows: treat each row by itself, or declare mixes_rows = True")
        elif layer.mixes_rows and not mixes:
            self.fault("rows", "mixes_rows is declared, but one row of x changes y in no other row: remove the declaration")

    # What backward must do

    def check_dx(self) -> bool:
        dx, x = self.dx, self.x
        if isinstance(dx, np.ndarray) and dx.shape == x.shape and dx.dtype == x.dtype:
            return True
        found = "None" if dx is None else f"a {type(dx).__name__}"
        if isinstance(dx, np.ndarray):
            found = f"{dx.dtype} of shape {dx.shape}"
        self.fault(
            "shapes_and_dtypes",
            f"backward returns dx as {found}, x is {x.dtype} of shape {x.shape}: return dx alone, and like x",
        )
        return False

    def check_overwrites(self) -> None:
        """grads held NaN, which += leaves there. Then they hold a number, which something more careful adds to."""
        for name, gradient in self.grads.items():
            if np.isnan(gradient).any():
                first = ", ".join(map(str, np.argwhere(np.isnan(gradient))[0]))
                self.fault(
                    "grads_overwritten",
                    f"backward leaves NaN in {name}, first at {name}[{first}]: overwrite every entry of grads, which held NaN: "
                    f'grads["{name}"][...] = …',
                )
        if any(np.isnan(gradient).any() for gradient in self.grads.values()):
            _, added = self.backward(self.dy, held=0.0)
            if all(added[name][np.isnan(gradient)].all() for name, gradient in self.grads.items()):
                self.held, self.grads = 0.0, added  # what it adds can be compared; what it forgets stays NaN
            return
        _, written = self.backward(self.dy, held=3.0)
        for name, gradient in self.grads.items():
            if not identical(written[name], gradient):
                self.fault(
                    "grads_overwritten", f'backward adds to what grads["{name}"] held: overwrite it, grads["{name}"][...] = …'
                )

    def check_cut_rows(self) -> None:
        """backward on the second half of a minibatch only, which GAN's simultaneous_step needs of D."""
        m, dx = len(self.dx), self.dx
        half = slice(m // 2, m)
        fault = f"each row must be treated by itself: from rows {m // 2} … {m - 1} of dy and of the cache alone, backward "
        try:
            (cache,) = self.network.rows(Caches(self.network, [self.cache], self.dy.shape), half.start, half.stop)
            alone: Any = self.layer.backward(self.dy[half], cache)
        except Exception as error:  # an array that lacks the rows can raise anything
            self.fault("rows", fault + f"fails ({type(error).__name__}: {error})")
            return
        bound = SAME_ROWS * magnitude(np.nan_to_num(dx))  # matrix products of a different size are rounded differently
        if np.shape(alone) != dx[half].shape or not np.allclose(alone, dx[half], SAME_ROWS, bound, equal_nan=True):
            self.fault("rows", fault + "returns a different dx")

    def check_second_forward(self) -> None:
        """A second forward pass, of other numbers and masks, must not change what belongs to the first."""
        self.forward(self.x[::-1] * 0.75, masks(self.seed + 1), "a second forward")
        self.later = self.backward(self.dy)
        dx, grads = self.later
        if not identical(self.dx, dx) or not all(identical(self.grads[name], grads[name]) for name in self.params):
            self.fault(
                "no_state",
                "backward returns something different after a second forward: take what it needs from its cache only",
            )

    def check_without_grads(self) -> None:
        if not identical(self.later[0], self.fixed_backward(self.dy)):
            self.fault("grads_and_dx_optional", "backward without grads returns a dx that differs from that with grads")
        self.written_by("backward without grads")

    def check_need_dx(self) -> None:
        nothing, grads = self.backward(self.dy, need_dx=False)
        if nothing is not None:
            self.fault(
                "grads_and_dx_optional", "backward with need_dx=False returns something: return None, and save the time of dx"
            )
        if not all(identical(self.later[1][name], grads[name]) for name in self.params):
            self.fault(
                "grads_and_dx_optional",
                "backward with need_dx=False computes gradients that differ from those with need_dx=True",
            )

    def check_linear(self, rng: Any) -> None:
        """Derivatives are linear in dy: of dy + dy′ the sum, of a large and of a small dy the same multiple."""
        other = rng.standard_normal(self.y.shape) / ranges(self.y)
        first, second = self.results(self.dy), self.results(other.copy())  # backward may write to it
        cases = [(1.0, self.dy + other, {name: first[name] + second[name] for name in first})]
        cases += [(factor, self.dy * factor, first) for factor in (2.0**20, 2.0**-20)]
        for factor, dy, expected in cases:
            largest = max(map(magnitude, expected.values()), default=0.0)
            for name, result in self.results(dy).items():
                if not close(result / factor, expected[name], largest) and np.isfinite(expected[name]).all():
                    self.fault(
                        "linear_in_dy",
                        f"backward is not linear in dy: see {name}. Compute it from this dy, keep no earlier result, and do "
                        f"not clip or round it",
                    )

    def results(self, dy: Array) -> dict[str, Array]:
        """dx and the gradients, by name."""
        dx, grads = self.backward(dy)
        return ({"dx": np.array(dx)} if isinstance(dx, np.ndarray) else {}) | grads

    def check_observe(self) -> None:
        """observe moves the statistics, towards those of the minibatch, and writes to nothing else."""
        start = self.network.statistics.copy()
        moved = self.observed(start, self.cache)
        self.written_by("observe")
        if not start.size:
            return
        if identical(moved, start):
            self.fault("statistics", "observe leaves the statistics as they were: move them towards those of the minibatch")
            return
        draws, x = self.draws(), self.x
        other = self.forward(x[::-1] * 0.5 + 0.25, masks(self.seed + 1))[1]
        if not identical(self.observed(start, self.cache), moved):
            self.fault(
                "statistics", "observe writes other numbers the second time: compute them from cache and the statistics alone"
            )
        elif all(identical(self.observed(*given), moved) for given in ((start, other), ((start + moved) / 2, self.cache))):
            self.fault(
                "statistics", "observe writes the same numbers whatever the minibatch and the statistics are: compute them"
            )
        elif not draws and not close(self.observed(start, self.forward(np.roll(x, 1, axis=0))[1]), moved):
            self.fault("statistics", "observe depends on where a row stands: statistics of permuted rows must be the same")
        elif not draws:
            self.check_settled()

    def observed(self, start: Array, cache: Any, times: int = 1) -> Array:
        """What observe(cache) makes of these statistics. Those of the network stay as they are."""
        statistics = self.network.statistics
        before = statistics.copy()
        statistics[...] = start
        try:
            with self.explain("observe", f"x {self.x.shape}"), np.errstate(all="ignore"):
                for _ in range(times):
                    self.layer.observe(cache)
            return statistics.copy()
        finally:
            statistics[...] = before

    def check_settled(self) -> None:
        """Statistics that have settled on one minibatch are its own. So y of its rows is then the same with train=False."""
        copies = min(-(-SETTLED_ROWS // len(self.x)), -(-SETTLED_NUMBERS // self.x.size))
        rows, statistics = np.concatenate([self.x] * copies), self.network.statistics
        before = statistics.copy()
        with self.explain("forward", f"x {rows.shape}"), np.errstate(all="ignore"):
            for _ in range(SETTLED_ROUNDS):
                statistics[...] = self.settled(self.layer.forward(rows, True)[1])
                expected, found = (np.array(self.layer.forward(rows, train)[0]) for train in (True, False))
                size = np.ptp(expected, axis=0)
                size = np.where(size > 1e-6 * np.ptp(expected), size, np.ptp(expected) or 1.0)  # a column may be constant
                off = np.nan_to_num(np.abs(found - expected) / size, nan=np.inf)
                if off.max() <= SETTLED_NEAR:
                    break
            else:
                at = np.unravel_index(np.argmax(off), off.shape)
                self.fault(
                    "statistics",
                    f"the statistics do not become those of the minibatch: after observe has seen one minibatch many times, an "
                    f"entry of y is {found[at]:.4g} with train=False, {expected[at]:.4g} with train=True. Move them to what "
                    f"forward uses in training: self.mean[...] = 0.9 * self.mean + 0.1 * mean",
                )
        statistics[...] = before

    def settled(self, cache: Any) -> Array:
        """Where the statistics end if observe sees this cache again and again."""
        start = self.network.statistics.copy()
        middle = self.observed(start, cache, SETTLED_TIMES)
        last = self.observed(middle, cache, SETTLED_TIMES)
        # With a momentum, what is left falls by the same factor in equal times: so the end can be computed.
        first, second = middle - start, last - middle
        falls = np.abs(second) < (1 - 1e-9) * np.abs(first)
        return np.where(falls, last + second * second / (first - second), last)

    # What both must do

    def check_order_in_memory(self) -> None:
        """x and dy may be stored by columns, as Linear's dx is."""
        y, _ = self.forward(np.asfortranarray(self.x))
        if not close(y, self.y):
            self.fault(
                "any_order_in_memory", "forward returns a different y if x is stored by columns: let NumPy follow its axes"
            )
        by_rows, by_columns = self.results(self.dy), self.results(np.asfortranarray(self.dy))
        largest = max(map(magnitude, by_rows.values()), default=0.0)
        if not all(close(by_columns[name], result, largest) for name, result in by_rows.items() if name in by_columns):
            self.fault(
                "any_order_in_memory",
                "backward returns something different if dy is stored by columns: let NumPy follow its axes",
            )

    def check_float32(self, rng: Any) -> None:
        """float32 in, float32 out, and the same values up to float32's rounding, which is measured.

        Meanwhile the layer and its parts hold arrays of that type.
        """
        x = self.x.astype(np.float32)
        with np.errstate(all="ignore"):  # numbers up to 10³⁰⁸ have no place in float32
            dy = rng.standard_normal(self.dy.shape).astype(np.float32)
            narrow, wide = (self.results_in(dtype, x, dy) for dtype in (np.float32, np.float64))
            for name, result in narrow.items():
                if result.dtype != np.float32:
                    self.fault("float32", f"{'forward' if name == 'y' else 'backward'} turns float32 into {result.dtype}")
                    return
            nearby = [self.results_in(np.float32, nudged(x, rng), nudged(dy, rng)) for _ in range(8)]
            for name, exact in wide.items():
                if name in narrow and not agrees(narrow[name], exact, [each[name] for each in nearby]):
                    self.fault("float32", f"{name} has different values in float32: compute the same in every dtype")

    def results_in(self, dtype: Any, x: Array, dy: Array) -> dict[str, Array]:
        """y, dx and the gradients, with x, dy and the parameters in this dtype, as float32 rounds them."""
        layer, held = self.layer, (self.layer.params, self.layer.statistics)
        params, statistics = ({name: a.astype(np.float32).astype(dtype) for name, a in arrays.items()} for arrays in held)
        bind(layer, params, statistics)
        try:
            with self.explain("forward", f"x {x.shape} {np.dtype(dtype)}"):
                rng = Float64Draws(np.random.PCG64(self.seed))
                y, cache = layer.forward(x.astype(dtype), self.train, rng)
            grads = {name: np.full_like(value, np.nan) for name, value in params.items()}
            with self.explain("backward", f"{self.shapes(dy)}, all {np.dtype(dtype)}"):
                dx = layer.backward(dy.astype(dtype), cache, grads)
        finally:
            bind(layer, *held)
        return {"y": y} | ({"dx": dx} if isinstance(dx, np.ndarray) else {}) | grads
