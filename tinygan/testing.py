"""Tests of your own layers, for pytest: one test for each derivative, and for each other thing that a layer must do.

    from tinygan.testing import parametrize_layers

    from mylayers import Gated, Softplus

    @parametrize_layers([Softplus, (lambda: Gated(4), (5, 4))])
    def test_layer(layer, check):
        check(layer)

    $ python -m pytest -v test_mylayers.py
    test_mylayers.py::test_layer[Softplus()-runs] PASSED
    test_mylayers.py::test_layer[Softplus()-derivative_by_x] PASSED
    …

All tests of a layer together are what check_layer checks at once. What a name in the brackets means is in examples/LAYERS.md,
and in the message of a test that fails. No mark needs to be registered. The names are the same in every process, so
pytest-xdist can share the tests out (pytest -n 2).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tinygan import checks
from tinygan.backend import random_generator
from tinygan.description import all_declarations
from tinygan.errors import ArgumentError, GradientError
from tinygan.gradcheck import Report
from tinygan.layers import Layer
from tinygan.named import examine, label, make_layer
from tinygan.protocol import PROMISES, Fault, read_input

_DERIVATIVE = "derivative_by_"
_EXAMPLE = "parametrize_layers([Softplus, (lambda: Gated(4), (5, 4))])"


def parametrize_layers(layers: Iterable[Any], *, x: Any = (5, 3), seed: int = 0) -> Callable[..., Any]:
    """A decorator for a test of the arguments `layer` and `check` that calls check(layer): it makes one test for each promise.

    layers  each one is a layer, a class without arguments, a function that returns a layer, or a pair of one of these and its
            x. A class or a function is called when pytest collects the tests.
    x       the input, or only its shape, of those that come without one (see check_layer)
    seed    of x, the parameters and dy (see check_layer)

    A test fails with a GradientError that says what is wrong. If a layer cannot even be called, its test `runs` says why, and
    its other tests fail with a line that points there.
    Raises ArgumentError for what is no list of layers, for an empty list, for an x or a seed that check_layer would refuse with
    any layer, and if pytest is not installed.
    """
    try:
        import pytest
    except ImportError as error:
        raise ArgumentError("parametrize_layers needs pytest: python -m pip install pytest") from error
    read_input(x, random_generator(np, seed))  # what is wrong here is wrong for every layer
    cases = []
    for entry in checks.items("layers", layers, _EXAMPLE):
        given, its_x = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, x)
        cases.append(_Case(given, its_x, seed))
    for name, n in Counter(case.label for case in cases).items():
        for i, case in enumerate(case for case in cases if n > 1 and case.label == name):
            case.label = f"{name} {i + 1}"
    tests = [
        pytest.param(case.layer, check, id=f"{case.label}-{name}") for case in cases for name, check in case.checks(pytest.fail)
    ]
    if not tests:  # pytest would skip the test, and CI would pass
        raise ArgumentError(f"layers is empty: give at least one layer, as in {_EXAMPLE}")
    decorator: Callable[..., Any] = pytest.mark.parametrize(("layer", "check"), tests)
    return decorator


class _Case:
    """One entry of the list: its layer, and what was found, which its tests share."""

    def __init__(self, given: Any, x: Any, seed: int) -> None:
        self.x, self.seed = x, seed
        self.layer: Layer | None = None
        self.reports: dict[int, Report] = {}  # by the id of the layer
        name = getattr(given, "__name__", "the layer")
        try:
            self.layer = make_layer(given, name, f"give a function that returns the layer, (lambda: {name}(…), (5, 4))")
            self.label = label(self.layer)
        except ArgumentError as error:
            if error.__cause__ is None:  # a mistake in the list, not in the code of the layer
                raise
            self.label = f"{name}()"
            self.not_made = Report(self.label, (), (Fault("runs", str(error)),))

    def checks(self, fail: Callable[..., Any]) -> Iterator[tuple[str, Callable[[Layer], None]]]:
        """The promises of this layer, by name, each with the function that checks it."""
        for name in self.names():
            yield name, _Check(self, name, fail)

    def names(self) -> list[str]:
        if self.layer is None:
            return ["runs"]
        try:
            declared = [name for name, _ in all_declarations(self.layer, lambda layer: layer.declarations)]
            statistics = list(all_declarations(self.layer, lambda layer: layer.statistic_declarations))
        except Exception:  # what is declared can be anything: `runs` says what is wrong with it
            return ["runs"]
        names = list(PROMISES) if statistics else [name for name in PROMISES if name != "statistics"]
        names[2:2] = [_DERIVATIVE + name for name in ("x", *declared)]
        return names

    def report(self, layer: Layer | None) -> Report:
        """What was found for this layer. The first test that asks examines it."""
        if layer is None:
            return self.not_made
        if id(layer) not in self.reports:
            try:
                self.reports[id(layer)] = examine(layer, self.x, self.seed)
            except ArgumentError as error:
                words = f"{error}. Give each layer with an x that fits, (layer, (5, 4))"
                self.reports[id(layer)] = Report(self.label, (), (Fault("runs", words),))
        return self.reports[id(layer)]


class _Check:
    """check(layer): raises GradientError if the layer breaks this promise."""

    def __init__(self, case: _Case, name: str, fail: Callable[..., Any]) -> None:
        self.case, self.name, self.fail = case, name, fail
        self.derivative = name.removeprefix(_DERIVATIVE) if name.startswith(_DERIVATIVE) else None

    def __call__(self, layer: Layer) -> None:
        __tracebackhide__ = True  # pytest shows the test and the message, not the way to it
        report = self.case.report(layer)
        blocks = tuple(block for block in report.blocks if block.name.removesuffix(" (train=False)") == self.derivative)
        faults = tuple(fault for fault in report.faults if fault.promise == self.name)
        if self.name != "runs" and any(fault.promise == "runs" for fault in report.faults):
            self.fail(f"not checked, since the layer does not run: see {self.case.label}-runs", pytrace=False)
        if self.derivative and not blocks:
            self.fail(f"not compared, since no array was returned: see {self.case.label}-shapes_and_dtypes", pytrace=False)
        found = Report(f"{report.subject}, {self.name}", blocks, faults)
        if not found.passed:
            promise = f"\n  What must hold: {PROMISES[self.name]}" if self.name in PROMISES else ""
            raise GradientError(f"{found}{promise}")

    def __repr__(self) -> str:
        return self.name
