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

    |n − a| / max(|n|, rms, ‖t‖, floor)        u = 1 at one entry, or ±1/√N at all N entries of a block

    rms       ‖∇L ∘ u‖₂: |a| at one entry; along a direction the root mean square of ∇L
    t         what n sums: tₖ = dyₖ [yₖ(v + ε u) − yₖ(v − ε u)] / 2ε, one for each entry of y
    rounding  8 · 2⁻⁵² ‖dy ∘ (y + Δy max|v| / ε max|u|)‖₂ / ε, over the entries of y that v moves: how far the rounding of y,
              and of v, may move n
    floor     rounding / 10⁻⁶, so a difference up to the rounding passes

Unlike |a|, rms and ‖t‖ are never small by chance, and rms dilutes one wrong entry among N only by √N: an entry of typical
size that is wrong by 1 % gives an error of 10⁻⁵ among a million. Errors up to 10⁻⁶ pass. n is computed with ε = 10⁻⁵. If
that disagrees, it is computed with 10⁻⁶, in case the first step crossed a kink; with 10⁻³, where y is rounded less; and
with 10⁻⁵ |v|, where v is small or large. The best one counts.

A derivative of less than a thousand times the rounding is hidden: y + 10¹⁰ can have any gradient. Such a check is refused
as UNDECIDABLE. It does not pass. Three cases are not hidden. v changes y a lot, but further away (a unit that is off). Or v
changes y by less than 10⁻¹² of it, while other gradients are large beside the rounding (a unit that is saturated). Or v
changes nothing, however far it is moved.

Every block is checked along three random directions. A block of up to 512 entries is also checked entry by entry. A
larger one that fails is halved again and again until the wrong entries are found. Each column of dy is divided by the range
of y's, so that no column is hidden by a larger one. This works on NumPy only; other tests check that both backends agree.

What else a layer must do, apart from its derivatives' values, is examined in protocol.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinygan.backend import Array, random_generator
from tinygan.errors import ArgumentError, GradientError
from tinygan.layers import Layer
from tinygan.probes import magnitude
from tinygan.protocol import Examination, Fault, examined

TOLERANCE = 1e-6
STEPS = (1e-5, 1e-6, 1e-3)
RELATIVE_STEP = 1e-5
ROUNDING = 8 * 2.0**-52  # of an entry of y, relative to it
HIDDEN = 1e-3  # a derivative is hidden if the rounding is a larger part of it
NEGLIGIBLE = 1e-12  # of y: what a change of v by 1 may change in it without counting
FURTHER = (1.0, 1e3, 1e6, 1e12, 1e24, 1e48, 1e96, 1e192, 1e300)  # a v that changes nothing with any of these counts for nothing
DIRECTIONS = 3
EVERY_ENTRY = 512  # blocks of up to this many entries are checked entry by entry
SHOWN = 3  # wrong entries of a block that a report lists


@dataclass(frozen=True)
class Comparison:
    """One derivative, by backward and by central differences. If `index` is None, it is along a random direction.

    hidden: the two agree, but only because the rounding of y hides both.
    """

    block: str
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float
    hidden: bool = False

    def __str__(self) -> str:
        entry = " along a random direction" if self.index is None else f"[{', '.join(map(str, self.index))}]"
        ratio = f", ratio {self.analytic / self.numeric + 0.0:.6g}" if self.numeric else ""
        found = f"backward {self.analytic:.6g}, numeric {self.numeric:.6g}{ratio}, relative error {self.error:.1e}"
        return f"{self.block}{entry}: {found}{', hidden by rounding' * self.hidden}"


@dataclass(frozen=True)
class Block:
    """What was found for the input x, or for one parameter."""

    name: str
    shape: tuple[int, ...]
    entries: int
    directions: int
    worst: Comparison
    wrong: tuple[Comparison, ...]
    hidden: tuple[Comparison, ...] = ()

    @property
    def verdict(self) -> str:
        return "WRONG" if self.wrong else "UNDECIDABLE" if self.hidden else ""


@dataclass(frozen=True)
class Report:
    """What was found for one layer or one cost; print it. `faults` say where a layer breaks the protocol."""

    subject: str
    blocks: tuple[Block, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def error(self) -> float:
        """The worst relative error."""
        return max((block.worst.error for block in self.blocks), default=0.0)

    @property
    def undecidable(self) -> bool:
        """Whether the rounding of y, or of the cost, hides a derivative."""
        return any(block.hidden for block in self.blocks)

    @property
    def passed(self) -> bool:
        return not self.faults and self.error <= TOLERANCE and not self.undecidable

    def __str__(self) -> str:
        wrong = self.faults or self.error > TOLERANCE
        verdict = "WRONG" if wrong else "UNDECIDABLE" if self.undecidable else "passed"
        lines = [f"{self.subject}: {verdict}", *(f"  {fault}" for fault in self.faults)]
        name_width = max((len(block.name) for block in self.blocks), default=0)
        shape_width = max((len(str(block.shape)) for block in self.blocks), default=0)
        for block in self.blocks:
            checked = f"{block.entries} entries, {block.directions} directions  {block.verdict}".rstrip()
            lines.append(
                f"  {block.name:{name_width}}  {block.shape!s:{shape_width}}   "
                f"worst relative error {block.worst.error:.1e}   {checked}"
            )
            listed = block.wrong or block.hidden
            lines += [f"       {comparison}" for comparison in listed[:SHOWN]]
            if len(listed) > SHOWN:
                lines.append(f"       and {len(listed) - SHOWN} more")
        if self.undecidable:
            lines.append(
                "  float64 rounds the output by too much beside these derivatives, so they cannot be checked: centre the "
                "output (subtract its constant part), scale what is small in it, or choose values where nothing is saturated"
            )
        return "\n".join(lines)


def check_gradient(cost: Callable[[], Any], values: dict[str, Array], gradients: dict[str, Array], *, seed: int = 0) -> Report:
    """Check hand-written derivatives of any cost: gradients[name] against central differences in values[name].

    cost       cost() computes L, a number, from the arrays in `values`. These are changed in place and then restored.
    values     {"W": array, …}, float64, C-contiguous, more than 10⁻⁵ away from kinks and from the end of the domain
    gradients  {"W": ∂L/∂W, …}, in the same shapes

    Raises GradientError with the table if a relative error exceeds 10⁻⁶, and if the rounding of L hides a derivative;
    ArgumentError for arrays that it cannot use.
    """
    if not values or values.keys() != gradients.keys():
        has = (", ".join(names) or "nothing" for names in (values, gradients))
        raise ArgumentError("values has {}, gradients has {}: give both of each".format(*has))
    return require_passed(compare_cost("cost", cost, values, gradients, seed))


def check_layer(layer: Layer, x: Any, *, seed: int = 0) -> Report:
    """Check the backward pass of a layer, your own or tinygan's: every derivative, and the protocol.

    layer  not in a network. For the check it is put into one of float64, and its parameters are moved by up to ½ from where
           they start. Afterwards the layer is as it was, and can be checked again or be put into a network.
    x      the input, an array, or only its shape, (m, …) with m > 1: then |x| is drawn from [0.1, 1.1), away from a kink at 0
    seed   of x, dy, the directions, and the generator that forward gets. Each call of forward gets a new generator with
           this seed, so that the masks are the same throughout the numeric derivative.

    forward   writes to no argument, and depends only on x, the parameters, train and rng. Later calls do not change what it
              returned. Random numbers come from rng alone: with train=False, y is the same without an rng; with train=True,
              a layer that draws raises an error if rng is None.
    backward  is linear in dy, and writes only to `grads`: it overwrites every entry, whatever was there. Without `grads` it
              returns the same dx; with need_dx=False it returns None.
    Arrays    Shapes agree. float32 stays float32, with the same values up to rounding. y depends on no writeable float array
              that is held on the layer and is no parameter; make a constant array read-only.
    Rows      Each row is treated by itself, wherever it stands: y of half of the rows is half of y, and of permuted rows the
              permuted y. From the second half of dy and of the cache, which Network.rows cuts out, backward returns the
              second half of dx: the simultaneous variant of GAN needs this. A layer that declares mixes_rows need not do
              it, but permuting the rows must still permute y; in training, one row of x must then change y in a
              different row.
    Statistics  forward and backward do not change them; observe changes them and nothing else. The numbers it writes come from
              the cache and from the statistics before: the same ones the second time, and for permuted rows. If observe sees
              one minibatch again and again, the statistics become those of the minibatch: y of its rows with train=False is
              then y with train=True, up to 3 % of its range.
              Out of reach: how fast the statistics move; and in a layer that draws, or that uses them in training too, where
              they end.

    train=False is checked too if its y or its cache is different.

    Raises GradientError, whose message is the report, unless all of this holds; if forward or backward fails, with the line
    of code that may be missing. If a layer has kinks, a few wrong entries may lie on one: see whether they are wrong with a
    different seed too. Raises ArgumentError for an x that is no input and no shape.

    In a test suite, tinygan.testing makes a test of each of these. From the command line, and in CI:
    python -m tinygan gradcheck mylayers:Softplus --input 5,3
    """
    return require_passed(examine_layer(layer, x, seed))


def require_passed(report: Report) -> Report:
    """The report, if it has passed. Else raises GradientError, whose message is the report."""
    if not report.passed:
        raise GradientError(str(report))
    return report


def merge(subject: str, reports: Iterable[Report]) -> Report:
    """Several reports as one."""
    reports = list(reports)
    blocks = tuple(block for report in reports for block in report.blocks)
    faults = tuple(Fault(f.promise, f"{report.subject}: {f}") for report in reports for f in report.faults)
    return Report(subject, blocks, faults)


# ---- What the checks find, passed or not


def examine_layer(layer: Layer, x: Any, seed: int = 0) -> Report:
    """What check_layer finds: a report, passed or not."""
    with examined(layer, x, seed) as examinations:
        reports = [_report(examination) for examination in examinations]
    blocks = (block for report in reports for block in report.blocks)
    return Report(reports[0].subject, tuple(blocks), tuple(fault for report in reports for fault in report.faults))


def _report(examination: Examination) -> Report:
    """The faults that were found, and the derivatives compared, if there is something to compare."""
    subject, faults, gradients = examination.subject, examination.found(), examination.gradients
    if gradients is None:
        return Report(subject, (), faults)
    report = _compare(subject, examination.output, examination.dy, gradients, examination.seed)
    return Report(subject, report.blocks, (*faults, *report.faults))


def compare_cost(
    subject: str, cost: Callable[[], Any], values: dict[str, Array], gradients: dict[str, Array], seed: int = 0
) -> Report:
    """What check_gradient finds: a report, passed or not."""
    triples = [(name, values[name], gradients[name]) for name in values]
    return _compare(subject, lambda: np.asarray(cost()), np.ones(()), triples, seed)


# ---- Derivatives


def _compare(
    subject: str, output: Callable[[], Array], dy: Array, triples: Sequence[tuple[str, Array, Array]], seed: int
) -> Report:
    """Each (name, value, gradient), of L = Σ dy · output()."""
    for name, value, _ in triples:
        if getattr(value, "dtype", None) != np.float64 or not (value.flags.c_contiguous and value.flags.writeable):
            raise ArgumentError(
                f"{name} must be a C-contiguous float64 array that can be written to: central differences need its digits"
            )
    faults = [
        Fault("shapes_and_dtypes", f"the gradient of {name} has the shape {np.shape(gradient)}, {name} has {value.shape}")
        for name, value, gradient in triples
        if np.shape(gradient) != value.shape
    ]
    sound = [triple for triple in triples if np.shape(triple[2]) == triple[1].shape and triple[1].size]
    y = np.array(output())
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(_norm(dy * y) / min(STEPS)):
            what, size = ("the output", "check_layer an x") if y.ndim else ("the cost", "values"), magnitude(y)
            remedy = "scale it" if np.isfinite(size) else f"give {what[1]} for which it is finite"
            words = f"{what[0]} is not finite, or too large for float64 ({size:g}): {remedy}"
            return Report(subject, (), (*faults, Fault("runs", words)))
    rng = random_generator(np, seed, "directions")
    largest = max((magnitude(np.nan_to_num(gradient)) for _, _, gradient in sound), default=0.0)
    blocks = tuple(_compare_block(_Function(name, v, g, output, y, dy, largest), rng) for name, v, g in sound)
    return Report(subject, blocks, tuple(faults))


def _compare_block(function: "_Function", rng: Any) -> Block:
    """Along random directions, and entry by entry where the entries are few or wrong."""

    def compare(entries: Array) -> Comparison:
        n = len(entries)
        return function.compare(entries, rng.choice([-1.0, 1.0], n) / n**0.5 if n > 1 else np.ones(1))

    value = function.value
    everything = np.arange(value.size)
    along = [compare(everything) for _ in range(DIRECTIONS if value.size > 1 else 0)]
    if value.size <= EVERY_ENTRY:
        single = [compare(everything[i : i + 1]) for i in everything]
    else:
        single = _wrong_entries(compare, everything) if any(c.error > TOLERANCE for c in along) else []
    ranked = sorted(single + along, key=lambda c: -c.error)
    wrong = _entries_first([c for c in ranked if c.error > TOLERANCE])
    # Where each entry has been checked, a direction says nothing more.
    hidden = _entries_first([c for c in (single if len(single) == value.size else ranked) if c.hidden])
    return Block(function.name, value.shape, len(single), len(along), ranked[0], wrong, hidden)


def _entries_first(comparisons: list[Comparison]) -> tuple[Comparison, ...]:
    """An entry says more than a direction: directions are listed only if no entry is there."""
    return tuple([c for c in comparisons if c.index is not None] or comparisons)


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


class _Slope(NamedTuple):
    """A numeric derivative."""

    numeric: float  # n = Σ t
    terms: float  # ‖t‖₂
    rounded: Array  # |dy ∘ y|, and the part of it that the rounding of v changes
    moved: Array  # the entries of y that have changed


class _Reach(NamedTuple):
    """What a change of v by 1 does, in contrast to one by ε."""

    change: float  # ‖dy ∘ Δy‖₂
    moved: Array


@dataclass(frozen=True)
class _Function:
    """y = output() as a function of one block of values, and the gradient of L = Σ dy · y by it."""

    name: str
    value: Array
    gradient: Array
    output: Callable[[], Array]
    y: Array
    dy: Array
    largest: float  # of all gradients of L

    def compare(self, entries: Array, u: Array) -> Comparison:
        """∇L · u by backward, and by the step whose numeric derivative agrees best of those that show it."""
        v, g = self.value.reshape(-1)[entries], np.reshape(self.gradient, -1)[entries]
        analytic, rms = float(g @ u), _norm(g * u)
        reach: _Reach | None = None  # computed where it is needed
        found: list[tuple[bool, float, float, float]] = []  # hidden, error, n, ‖t‖: a step that hides it comes last
        for epsilon in _steps(v):
            slope = self._slope(entries, u, epsilon)
            size = max(abs(slope.numeric), rms, slope.terms)
            rounding, hidden = ROUNDING * _norm(slope.rounded) / epsilon, False
            if rounding > TOLERANCE * size:  # the floor counts: only what v moves is rounded
                reach = reach or self._reach(entries, u)
                moved = slope.moved | reach.moved
                rounding = ROUNDING * _norm(slope.rounded[moved] if moved.any() else slope.rounded) / epsilon
                hidden = rounding > HIDDEN * size and not self._shows(reach, rounding, entries, u)
            difference = abs(slope.numeric - analytic)
            error = difference / max(size, rounding / TOLERANCE) if difference else 0.0
            found.append((hidden, error if np.isfinite(error) else np.inf, slope.numeric, slope.terms))
            if not hidden and error < TOLERANCE / 10 and (size == 0 or rounding <= HIDDEN * size):
                break
        hidden, error, numeric, _ = min(found)
        if error > TOLERANCE and _vanishes(v, rms, [terms for *_, terms in found]):
            error = numeric = 0.0
        index = tuple(int(i) for i in np.unravel_index(entries[0], self.value.shape)) if len(entries) == 1 else None
        return Comparison(self.name, index, analytic, numeric, error, hidden and error <= TOLERANCE)

    def _slope(self, entries: Array, u: Array, epsilon: float) -> _Slope:
        """[L(v + ε u) − L(v − ε u)] / 2ε, as a sum of differences of y: it is rounded less than a difference of sums."""
        above, below = self._outputs(entries, epsilon * u)
        with np.errstate(all="ignore"):
            terms = self.dy * (above - below) / (2 * epsilon)
            change = np.maximum(abs(above - self.y), abs(below - self.y))
            part = magnitude(self.value.reshape(-1)[entries]) / (epsilon * magnitude(u))  # the step's rounding beside the step
            rounded = abs(self.dy) * (np.maximum(abs(above), abs(below)) + part * change)
            return _Slope(float(terms.sum()), _norm(terms), rounded, np.asarray(above != below))

    def _reach(self, entries: Array, u: Array, step: float = 1.0) -> _Reach:
        with np.errstate(all="ignore"):
            try:
                above, below = self._outputs(entries, step * u)
            except Exception:  # outside of its domain a layer may raise anything
                return _Reach(np.inf, np.ones(self.y.shape, bool))
            change = abs(self.dy) * np.maximum(abs(above - self.y), abs(below - self.y))
            moved = (above != self.y) | (below != self.y)
            return _Reach(float(np.nan_to_num(_norm(change), nan=np.inf)), np.asarray(moved))

    def _shows(self, reach: _Reach, rounding: float, entries: Array, u: Array) -> bool:
        """Whether v's derivative is 0 up to rounding for a reason: see the three cases at the top of this file."""
        if rounding <= HIDDEN * reach.change < np.inf:
            return True
        if reach.change <= NEGLIGIBLE * _norm(self.dy * self.y) and rounding <= HIDDEN * self.largest:
            return True
        return not any(self._reach(entries, u, step).moved.any() for step in FURTHER)

    def _outputs(self, entries: Array, step: Array) -> tuple[Array, Array]:
        """y with v + step and with v − step. Then v is as it was."""
        v = self.value.reshape(-1)
        start = v[entries]
        try:
            v[entries] = start + step
            above = np.array(self.output())  # a copy: y may be a view of x
            v[entries] = start - step
            return above, np.array(self.output())
        finally:
            v[entries] = start


def _steps(v: Array) -> list[float]:
    """ε: the absolute ones that are not lost in the rounding of v, and one relative to v."""
    largest, root = magnitude(v), len(v) ** 0.5
    steps = [epsilon for epsilon in STEPS if epsilon / root >= 1e-9 * largest]
    relative = RELATIVE_STEP * _norm(v) / root
    return [*steps, relative] if relative > 1e-290 else steps


def _vanishes(v: Array, rms: float, terms: list[float]) -> bool:
    """x³ at exactly 0: n is ε², never the 0 of backward. But it shrinks with ε, as n does not at a kink."""
    return not v.any() and rms == 0 and len(terms) > 1 and terms[1] <= terms[0] / 5


def _norm(a: Array) -> float:
    """‖a‖₂, where the squares may be too large for float64."""
    largest = magnitude(a)
    return largest * float(np.linalg.norm(a / largest)) if 0 < largest < np.inf else largest
