"""Check derivatives: any backward pass, tinygan's or your own, against central differences in float64.

    ∇L · u ≈ [L(v + ε u) − L(v − ε u)] / 2ε        L = Σ dy · y with a random upstream gradient dy

v is a block: the input x, or one parameter. One line checks your own layer. It returns a table. If something is wrong, it
raises GradientError, whose message is the table:

    >>> from tinygan import Constant, Layer, check_layer
    >>> class Scale(Layer):
    ...     '''yⱼ = sⱼ xⱼ'''
    ...     def __init__(self, n):
    ...         self.declarations = {"s": ((n,), Constant(1.0))}
    ...     def forward(self, x, train=False, rng=None):
    ...         return x * self.s, x
    ...     def backward(self, dy, cache, grads=None, need_dx=True):
    ...         x = cache
    ...         if grads is not None:
    ...             grads["s"][...] = (dy * x).sum(axis=0)
    ...         return dy * self.s if need_dx else None
    >>> check_layer(Scale(4), (3, 4)).passed
    True

    >>> class Wrong(Scale):
    ...     def backward(self, dy, cache, grads=None, need_dx=True):
    ...         if grads is not None:
    ...             grads["s"][...] = dy.sum(axis=0)  # x is forgotten
    ...         return dy * self.s if need_dx else None
    >>> check_layer(Wrong(4), (3, 4))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    tinygan.errors.GradientError: Wrong() on an input of shape (3, 4): WRONG
      x  (3, 4)   worst relative error ... 12 entries, 3 directions
      s  (4,)     worst relative error ... 4 entries, 3 directions  WRONG
           s[...]: backward ..., numeric ..., ratio ..., relative error ...
           ...

The relative error, of the numeric derivative n and the analytic one, a = ∇L · u:

    entry         u = 1 at one entry                         |n − a| / max(|n|, |a|, floor)
    direction     u = ±1/√N at all N entries of a block      |n − a| / max(|n|, rms(∇L), floor)
    floor         10⁻³ ‖dy ∘ y‖₂; for a cost, 10⁻³ |L|

At N = 1 the two are the same. Unlike |a|, the root mean square is never small by chance, and it dilutes one wrong entry
among N only by √N: an entry of typical size that is wrong by 1 % gives an error of 10⁻⁵ among a million. The floor is
needed because float64 rounds L by 10⁻¹⁶ |L|, and so n by up to 10⁻¹⁰ |L|. n is computed with ε = 10⁻⁵. If that
disagrees, it is computed with 10⁻⁶ too, in case the first step crossed a kink, and the better one counts. Errors up to
10⁻⁶ pass.

Every block is checked along three random directions. A block of up to 512 entries is also checked entry by entry. A
larger one that fails is halved again and again until the wrong entries are found. This works on NumPy only; other tests
check that both backends agree.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygan.backend import Array, random_generator
from tinygan.errors import ArgumentError, GradientError
from tinygan.layers import Cache, Layer
from tinygan.network import Caches, Network, bind

TOLERANCE = 1e-6
EPSILONS = (1e-5, 1e-6)
FLOOR = 1e-3
DIRECTIONS = 3
EVERY_ENTRY = 512  # blocks of up to this many entries are checked entry by entry
SHOWN = 3  # wrong entries of a block that a report lists


@dataclass(frozen=True)
class Comparison:
    """One derivative, by backward and by central differences. If `index` is None, it is along a random direction."""

    block: str
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float

    def __str__(self) -> str:
        entry = " along a random direction" if self.index is None else f"[{', '.join(map(str, self.index))}]"
        ratio = f", ratio {self.analytic / self.numeric + 0.0:.6g}" if self.numeric else ""
        found = f"backward {self.analytic:.6g}, numeric {self.numeric:.6g}{ratio}, relative error {self.error:.1e}"
        return f"{self.block}{entry}: {found}"


@dataclass(frozen=True)
class Block:
    """What was found for the input x, or for one parameter."""

    name: str
    shape: tuple[int, ...]
    entries: int
    directions: int
    worst: Comparison
    wrong: tuple[Comparison, ...]


@dataclass(frozen=True)
class Report:
    """What was found for one layer or one cost; print it. `faults` say in words where a layer breaks the protocol."""

    subject: str
    blocks: tuple[Block, ...]
    faults: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The worst relative error."""
        return max((block.worst.error for block in self.blocks), default=0.0)

    @property
    def passed(self) -> bool:
        return not self.faults and self.error <= TOLERANCE

    def __str__(self) -> str:
        lines = [f"{self.subject}: {'passed' if self.passed else 'WRONG'}", *(f"  {fault}" for fault in self.faults)]
        name_width = max((len(block.name) for block in self.blocks), default=0)
        shape_width = max((len(str(block.shape)) for block in self.blocks), default=0)
        for block in self.blocks:
            checked = f"{block.entries} entries, {block.directions} directions" + "  WRONG" * bool(block.wrong)
            lines.append(
                f"  {block.name:{name_width}}  {block.shape!s:{shape_width}}   "
                f"worst relative error {block.worst.error:.1e}   {checked}"
            )
            lines += [f"       {comparison}" for comparison in block.wrong[:SHOWN]]
            if len(block.wrong) > SHOWN:
                lines.append(f"       and {len(block.wrong) - SHOWN} more")
        return "\n".join(lines)


def check_gradient(
    cost: Callable[[], Any], values: dict[str, Array], gradients: dict[str, Array], *, seed: int = 0
) -> Report:
    """Check hand-written derivatives of any cost: gradients[name] against central differences in values[name].

    cost       cost() computes L, a number, from the arrays in `values`. These are changed in place and then restored.
    values     {"W": array, …}, float64, C-contiguous, more than 10⁻⁵ away from kinks and from the end of the domain
    gradients  {"W": ∂L/∂W, …}, in the same shapes

    Raises GradientError with the table if a relative error exceeds 10⁻⁶; ArgumentError for arrays that it cannot use.
    """
    if not values or values.keys() != gradients.keys():
        has = (", ".join(names) or "nothing" for names in (values, gradients))
        raise ArgumentError("values has {}, gradients has {}: give both of each".format(*has))
    return require_passed(compare_cost("cost", cost, values, gradients, seed))


def check_layer(layer: Layer, x: Any, *, seed: int = 0) -> Report:
    """Check the backward pass of a layer, your own or tinygan's: every derivative, and the protocol.

    layer  a new one. It is put into a float64 Network, and its parameters are moved by up to ½ from where they start.
    x      the input, or only its shape, (m, …) with m > 1: then |x| is drawn from [0.1, 1.1), away from a kink at 0
    seed   of x, dy, the directions, and the generator that forward gets. Each call of forward gets a new generator with
           this seed, so that the masks are the same throughout the numeric derivative.

    The protocol: forward writes to no argument, and depends only on x, the parameters, train and rng. Later calls do not
    change what it returned. backward writes only to `grads`, and overwrites every entry there (at first they are NaN). Without
    `grads` it returns the same dx; with need_dx=False it returns None. Shapes agree, and float32 stays float32.
    Running statistics: forward and backward do not change them; observe changes them and nothing else.
    Each row is treated by itself: from the second half of dy and of the cache, which Network.rows cuts out, backward
    returns the second half of dx. The simultaneous variant of GAN needs this. A layer that declares mixes_rows need not
    do it; in training, one row of x must then change y in a different row. Without this declaration it must not.
    train=False is checked too if its y or its cache is different.

    Raises GradientError, whose message is the report, unless all of this holds. If a layer has kinks, a few wrong entries
    may lie on one: see whether they are wrong with a different seed too.
    """
    return require_passed(examine_layer(layer, x, seed))


def require_passed(report: Report) -> Report:
    """The report, if it has passed. Else raises GradientError, whose message is the report."""
    if not report.passed:
        raise GradientError(str(report))
    return report


# ---- Derivatives


def compare_cost(
    subject: str, cost: Callable[[], Any], values: dict[str, Array], gradients: dict[str, Array], seed: int = 0
) -> Report:
    """What check_gradient finds: a report, passed or not."""
    triples = [(name, values[name], gradients[name]) for name in values]
    return _compare(subject, lambda: np.asarray(cost()), np.ones(()), triples, seed)


def _compare(
    subject: str, output: Callable[[], Array], dy: Array, triples: Sequence[tuple[str, Array, Array]], seed: int
) -> Report:
    """Each (name, value, gradient), of L = Σ dy · output()."""
    floor = FLOOR * float(np.linalg.norm(dy * output()))
    rng = random_generator(np, seed, "directions")
    blocks, faults = [], []
    for name, value, gradient in triples:
        if getattr(value, "dtype", None) != np.float64 or not (value.flags.c_contiguous and value.flags.writeable):
            raise ArgumentError(
                f"{name} must be a C-contiguous float64 array that can be written to: central differences need its digits"
            )
        if np.shape(gradient) != value.shape:
            faults.append(f"the gradient of {name} has the shape {np.shape(gradient)}, {name} has {value.shape}")
        elif value.size:
            blocks.append(_compare_block(name, value, gradient, output, dy, floor, rng))
    return Report(subject, tuple(blocks), tuple(faults))


def _compare_block(
    name: str, value: Array, gradient: Array, output: Callable[[], Array], dy: Array, floor: float, rng: Any
) -> Block:
    v, g = value.reshape(-1), gradient.reshape(-1)

    def compare(entries: Array) -> Comparison:
        n = len(entries)
        u = rng.choice([-1.0, 1.0], n) / n**0.5 if n > 1 else np.ones(1)
        analytic, rms = float(g[entries] @ u), float(np.linalg.norm(g[entries] * u))
        results = []
        for epsilon in EPSILONS:
            numeric = _slope(v, entries, u, epsilon, output, dy)
            difference = abs(numeric - analytic)
            error = difference / max(abs(numeric), rms, floor) if difference else 0.0
            results.append((error if np.isfinite(error) else np.inf, numeric))
            if error < TOLERANCE / 10:
                break
        error, numeric = min(results)
        index = tuple(int(i) for i in np.unravel_index(entries[0], value.shape)) if n == 1 else None
        return Comparison(name, index, analytic, numeric, error)

    everything = np.arange(len(v))
    along = [compare(everything) for _ in range(DIRECTIONS if len(v) > 1 else 0)]
    if len(v) <= EVERY_ENTRY:
        single = [compare(everything[i : i + 1]) for i in everything]
    else:
        single = _wrong_entries(compare, everything) if any(c.error > TOLERANCE for c in along) else []
    ranked = sorted(single + along, key=lambda c: -c.error)
    wrong = [c for c in ranked if c.error > TOLERANCE]
    # An entry says more than a direction: directions are listed only if no wrong entry was found.
    return Block(
        name, value.shape, len(single), len(along), ranked[0], tuple([c for c in wrong if c.index is not None] or wrong)
    )


def _slope(v: Array, entries: Array, u: Array, epsilon: float, output: Callable[[], Array], dy: Array) -> float:
    """[L(v + ε u) − L(v − ε u)] / 2ε, as a sum of differences of y: its rounding is smaller than for a difference of sums."""
    start = v[entries]
    try:
        v[entries] = start + epsilon * u
        above = np.array(output())  # a copy: y may be a view of x
        v[entries] = start - epsilon * u
        return float((dy * (above - output())).sum() / (2 * epsilon))
    finally:
        v[entries] = start


def _wrong_entries(compare: Callable[[Array], Comparison], entries: Array) -> list[Comparison]:
    """The first few wrong entries: each part that is wrong is halved, down to single entries."""
    found: list[Comparison] = []
    parts = [entries]
    while parts and len(found) < SHOWN:
        part = parts.pop()
        comparison = compare(part)
        if comparison.error <= TOLERANCE:
            continue
        if len(part) == 1:
            found.append(comparison)
        else:
            parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    return found


# ---- The protocol


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
            if not _identical(array, original):
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


def _identical(a: Any, b: Any) -> bool:
    """Whether two arrays, or two caches, are the same bit for bit: −0 is not 0, NaN is NaN."""
    numbers = np.ndarray | np.generic | int | float
    if isinstance(a, numbers) and isinstance(b, numbers):
        a, b = np.asarray(a), np.asarray(b)
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_identical, a, b))
    return a is None and b is None


def examine_layer(layer: Layer, x: Any, seed: int = 0) -> Report:
    """What check_layer finds: a report, passed or not."""
    rng = random_generator(np, seed, "input and parameters")
    network = Network([layer], dtype=np.float64, seed=seed)
    network.theta += rng.uniform(-0.5, 0.5, network.theta.shape)
    if isinstance(x, tuple):
        x = rng.choice([-1.0, 1.0], x) * rng.uniform(0.1, 1.1, x)
    else:
        x = np.array(x, np.float64, order="C")
    subject = f"{layer!r} on an input of shape {x.shape}"
    report = _check_mode(subject, network, x, True, seed)
    training, testing = (layer.forward(x.copy(), train, _masks(seed)) for train in (True, False))
    if _identical(training, testing):
        return report
    try:
        also = _check_mode(subject, network, x, False, seed)
    except (GradientError, ArgumentError):
        raise
    except Exception as error:
        raise GradientError(f"{subject}: after forward(x, train=False), {type(error).__name__}: {error}") from error
    return Report(subject, report.blocks + also.blocks, report.faults + also.faults)


def _masks(seed: int) -> Any:
    return random_generator(np, seed, "masks")


def _check_mode(subject: str, network: Network, x: Array, train: bool, seed: int) -> Report:
    faults: list[str] = []
    (layer,) = network.layers
    params = layer.params
    rng = random_generator(np, seed, "upstream gradient")
    watch = _Watch()

    def forward(x: Array, seed: int = seed, caller: str = "forward") -> tuple[Array, Any]:
        y, cache = layer.forward(x, train, _masks(seed))
        faults.extend(f"{caller} writes to {name}" for name in watch.changed())
        return y, cache

    def backward(dy: Array, need_dx: bool = True) -> tuple[Any, dict[str, Array]]:
        arrays = {name: np.full_like(value, np.nan) for name, value in params.items()}
        grads = _Grads(arrays)
        dx = layer.backward(dy, cache, grads, need_dx)
        for name in grads.keys() - params.keys():
            raise GradientError(f"{subject}: {_undeclared(name)}")
        faults.extend(f"backward writes to {name}" for name in watch.changed())
        for name in arrays:
            if grads[name] is not arrays[name]:
                faults.append(f'backward rebinds grads["{name}"]: write into the array, grads["{name}"][...] = …')
        return dx, grads

    watch.add("x", x)
    for name, value in params.items():
        watch.add(name, value)
    for name, value in layer.statistics.items():
        watch.add(f"the statistics {name}", value)
    y, cache = forward(x)
    if y.dtype != x.dtype:
        faults.append(f"forward turns {x.dtype} into {y.dtype}")
    if not _identical(y, forward(x)[0]):
        faults.append("forward returns a different y for the same x, train and rng: keep no state, draw from rng only")

    dy = rng.standard_normal(y.shape)
    watch.add("dy", dy)
    watch.add("cache", cache)
    watch.add("y", y)
    dx, grads = backward(dy)
    watch.add("the dx that it returned before", dx)
    for name, gradient in grads.items():
        if np.isnan(gradient).any():
            first = ", ".join(map(str, np.argwhere(np.isnan(gradient))[0]))
            faults.append(
                f"backward leaves NaN in {name}, first at {name}[{first}]: overwrite every entry of grads, which held NaN"
            )
    if dx is None or dx.shape != x.shape or dx.dtype != x.dtype:
        found = "None" if dx is None else f"{dx.dtype} of shape {dx.shape}"
        faults.append(f"backward returns dx as {found}, x is {x.dtype} of shape {x.shape}")
    else:
        faults += _check_rows(network, dy, dx, cache) if not layer.mixes_rows else []
    # A second forward pass, of other numbers and masks, must not change what belongs to the first.
    forward(x[::-1].copy(), seed + 1, "a second forward")
    dx_later, grads_later = backward(dy)
    if not _identical(dx, dx_later) or not all(_identical(grads[name], grads_later[name]) for name in params):
        faults.append("backward returns something different after a second forward: take what it needs from its cache only")
    if not _identical(dx_later, layer.backward(dy, cache)):
        faults.append("backward without grads returns a dx that differs from that with grads")
    faults.extend(f"backward without grads writes to {name}" for name in watch.changed())
    nothing, grads_alone = backward(dy, need_dx=False)
    if nothing is not None:
        faults.append("backward with need_dx=False returns something: return None, and save the time of dx")
    if not all(_identical(grads_later[name], grads_alone[name]) for name in params):
        faults.append("backward with need_dx=False computes gradients that differ from those with need_dx=True")
    backward(rng.standard_normal(y.shape))
    if train:
        faults += _check_mixing(layer, x, y, seed)
        faults += _check_observe(network, cache, watch)
    faults += _check_float32(layer, x, train, seed)

    blocks = [(name, params[name], grads[name]) for name in params]
    if isinstance(dx, np.ndarray):
        blocks.insert(0, ("x", x, dx))
    mode = "" if train else " (train=False)"
    report = _compare(
        subject,
        lambda: layer.forward(x.copy(), train, _masks(seed))[0],
        dy,
        [(name + mode, value, gradient) for name, value, gradient in blocks],
        seed,
    )
    return Report(subject, report.blocks, tuple(fault + mode for fault in dict.fromkeys(faults)) + report.faults)


def _check_rows(network: Network, dy: Array, dx: Array, cache: Cache) -> list[str]:
    """backward on the second half of a minibatch only, which GAN's simultaneous_step needs of D."""
    m = len(dx)
    half = slice(m // 2, m)
    fault = f"each row must be treated by itself: from rows {m // 2} … {m - 1} of dy and of the cache alone, backward "
    try:
        (cache,) = network.rows(Caches(network, [cache], dy.shape), half.start, half.stop)
        alone: Any = network.layers[0].backward(dy[half], cache)
    except Exception as error:  # an array that lacks the rows can raise anything
        return [fault + f"fails ({type(error).__name__}: {error})"]
    bound = TOLERANCE * abs(np.nan_to_num(dx)).max(initial=0.0)  # matrix products of a different size are rounded differently
    if np.shape(alone) == dx[half].shape and np.allclose(alone, dx[half], TOLERANCE, bound, equal_nan=True):
        return []
    return [fault + "returns another dx"]


def _check_mixing(layer: Layer, x: Array, y: Array, seed: int) -> list[str]:
    """Whether one row of x changes y in other rows, in training, and whether mixes_rows says so."""
    if len(x) < 2 or len(y) != len(x):
        return []
    moved = x.copy()
    moved[-1] *= 1.5
    mixes = not _identical(layer.forward(moved, True, _masks(seed))[0][:-1].copy(), y[:-1].copy())
    if mixes and not layer.mixes_rows:
        return ["one row of x changes y in other rows: treat each row by itself, or declare mixes_rows = True"]
    if layer.mixes_rows and not mixes:
        return ["mixes_rows is declared, but one row of x changes y in no other row: remove the declaration"]
    return []


def _check_observe(network: Network, cache: Cache, watch: _Watch) -> list[str]:
    """observe must move the statistics, and write to nothing else. Afterwards they are restored."""
    (layer,) = network.layers
    if not network.statistics.size:
        return []
    before = network.statistics.copy()
    layer.observe(cache)
    moved = network.statistics.copy()
    network.statistics[...] = before
    if _identical(moved, before):
        return ["observe leaves the statistics as they were: move them towards those of the minibatch"]
    return [f"observe writes to {name}" for name in watch.changed()]


def _check_float32(layer: Layer, x: Array, train: bool, seed: int) -> list[str]:
    """float32 in, float32 out. Meanwhile the layer and its parts hold float32 arrays."""
    held = layer.params, layer.statistics
    params, statistics = ({name: value.astype(np.float32) for name, value in arrays.items()} for arrays in held)
    bind(layer, params, statistics)
    try:
        y, cache = layer.forward(x.astype(np.float32), train, _masks(seed))
        if y.dtype != np.float32:
            return [f"forward turns float32 into {y.dtype}"]
        dx = layer.backward(np.ones_like(y), cache, {name: np.empty_like(value) for name, value in params.items()})
    finally:
        bind(layer, *held)
    return [f"backward turns float32 into {dx.dtype}"] if dx is not None and dx.dtype != np.float32 else []


def merge(subject: str, reports: Iterable[Report]) -> Report:
    """Several reports as one."""
    reports = list(reports)
    blocks = tuple(block for report in reports for block in report.blocks)
    return Report(subject, blocks, tuple(f"{report.subject}: {fault}" for report in reports for fault in report.faults))
