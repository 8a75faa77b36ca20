"""tinygan.testing: one test for each promise of a layer. A wrong layer fails in the test that says so, and in no other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_wrong_layers
from helpers import Residual, refused

import tinygan
from tinygan import BatchNorm, Constant, Dropout, GradientError, Layer, Linear, Sigmoid, Tanh
from tinygan.protocol import PROMISES
from tinygan.testing import parametrize_layers


def cases(layers, **options):
    """{"Linear(3, 4)-runs": (layer, check), …}: what the decorator gives pytest."""
    names, tests = parametrize_layers(layers, **options).args
    assert names == ("layer", "check")
    found = {test.id: test.values for test in tests}
    assert len(found) == len(tests)
    return found


def failing(layers, **options):
    """The tests that fail, each with its message."""
    messages = {}
    for name, (layer, check) in cases(layers, **options).items():
        try:
            check(layer)
        except (GradientError, pytest.fail.Exception) as error:
            messages[name] = str(error)
    return messages


def checks_of(name, cases):
    return [check.removeprefix(f"{name}-") for check in cases if check.startswith(f"{name}-")]


# ---- What is tested, and under which name


def test_each_promise_and_each_derivative_is_a_test():
    (layer, names) = Residual(Linear(4, 4), Residual(BatchNorm(4))), ["x", "0.W", "0.b", "1.0.gamma", "1.0.beta"]
    found = checks_of(repr(layer), cases([(layer, (5, 4))]))
    assert [name for name in found if name not in PROMISES] == [f"derivative_by_{name}" for name in names]
    assert set(PROMISES) < set(found)
    assert found[0] == "runs"


def test_statistics_are_a_test_where_there_are_some():
    found = cases([Tanh, BatchNorm(3)])
    assert "statistics" in checks_of("BatchNorm(3)", found)
    assert "statistics" not in checks_of("Tanh()", found)


def make_linear():
    return Linear(3, 2)


def test_layers_classes_functions_and_pairs_are_taken():
    found = cases([Tanh, Linear(3, 1), make_linear, lambda: Linear(3, 4), (Linear(2, 2), (6, 2)), (Sigmoid, np.ones((2, 2)))])
    labels = dict.fromkeys(name.rpartition("-")[0] for name in found)
    assert list(labels) == ["Tanh()", "Linear(3, 1)", "Linear(3, 2)", "Linear(3, 4)", "Linear(2, 2)", "Sigmoid()"]
    assert failing([Tanh, Linear(3, 1), make_linear, (Linear(2, 2), (6, 2)), (Sigmoid, np.ones((2, 2)))]) == {}


def test_equal_layers_are_numbered():
    labels = {name.rpartition("-")[0] for name in cases([Tanh, Tanh, Sigmoid, (Tanh, (2, 1))])}
    assert labels == {"Tanh() 1", "Tanh() 2", "Sigmoid()", "Tanh() 3"}


class Elsewhere(Layer):
    """Its repr is Python's, with the address."""

    __repr__ = object.__repr__


def test_no_name_holds_an_address():
    assert [re.search("0x", name) for name in cases([Elsewhere])] == [None] * len(cases([Elsewhere]))
    assert list(cases([Elsewhere])) == list(cases([Elsewhere]))


def test_the_input_and_the_seed_are_those_of_check_layer():
    assert failing([Linear(4, 2)], x=(3, 4)) == {}
    assert "(5, 3)" in failing([Linear(4, 2)])["Linear(4, 2)-runs"]
    messages = [failing([with_fault(backward=doubles_b)], seed=seed) for seed in (0, 0, 1)]
    assert messages[0] == messages[1] != messages[2]


# ---- What fails


def with_fault(**methods):
    return type("Faulty", (Linear,), methods)(3, 4)


def accumulates(self, dy, cache, grads=None, need_dx=True):
    before = None if grads is None else grads["b"].copy()
    dx = Linear.backward(self, dy, cache, grads, need_dx)
    if grads is not None:
        grads["b"] += before
    return dx


def doubles_b(self, dy, cache, grads=None, need_dx=True):
    dx = Linear.backward(self, dy, cache, grads, need_dx)
    if grads is not None:
        grads["b"] *= 2
    return dx


def overwrites_dy(self, dy, cache, grads=None, need_dx=True):
    dx = Linear.backward(self, dy, cache, grads, need_dx)
    dy *= 2
    return dx


def always_dx(self, dy, cache, grads=None, need_dx=True):
    return Linear.backward(self, dy, cache, grads)


def one_over_m(self, x, train=False, rng=None):
    y, cache = Linear.forward(self, x)
    return y / len(x), cache


def float64(self, x, train=False, rng=None):
    y, cache = Linear.forward(self, x)
    return y * np.float64(1), cache


@pytest.mark.parametrize(
    ("layer", "promises"),
    [
        (with_fault(backward=doubles_b), ["derivative_by_b"]),
        (with_fault(backward=accumulates), ["grads_overwritten"]),
        (with_fault(backward=overwrites_dy), ["writes_to_grads_alone"]),
        (with_fault(backward=always_dx), ["grads_and_dx_optional"]),
        (with_fault(forward=one_over_m), ["rows", *(f"derivative_by_{name}" for name in "xWb")]),
        (with_fault(forward=float64), ["float32"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_fault_fails_in_its_own_test(layer, promises):
    label = repr(layer)
    messages = failing([(layer, (5, 3)), Linear(3, 4)])
    assert sorted(messages) == sorted(f"{label}-{promise}" for promise in promises)
    for name, message in messages.items():
        promise = name.removeprefix(f"{label}-")
        assert message.startswith(f"{label} on an input of shape (5, 3), {promise}: ")
        assert PROMISES.get(promise, "backward ") in message


@pytest.mark.slow
@pytest.mark.parametrize("name", test_wrong_layers.CASES)
def test_every_seeded_fault_fails_somewhere_and_its_correct_twin_nowhere(name):
    make, x, _ = test_wrong_layers.CASES[name]
    assert failing([(make(True), x)])
    assert failing([(make(False), x)]) == {}


def test_a_layer_that_cannot_be_called_says_so_in_one_test_and_no_other_test_passes():
    class Silent(Layer):
        def forward(self, x, train=False, rng=None):
            return x, None

    found = failing([Silent])
    assert len(found) == len(cases([Silent]))
    assert "def backward(" in found.pop("Silent()-runs")
    assert {message.partition(": see ")[2] for message in found.values()} == {"Silent()-runs"}


def test_a_derivative_that_is_not_there_is_not_a_derivative_that_is_right():
    class NoDx(Tanh):
        def backward(self, dy, cache, grads=None, need_dx=True):
            return None

    found = failing([NoDx])
    assert "NoDx()-shapes_and_dtypes" in found
    assert "NoDx()-shapes_and_dtypes" in found["NoDx()-derivative_by_x"]


def test_declarations_that_cannot_be_read_fail():
    class Listed(Tanh):
        def __init__(self):
            self.declarations = ["W"]

    assert "declarations" in failing([Listed])["Listed()-runs"]


def test_a_constructor_that_fails_is_a_test_that_fails():
    def broken():
        return Constant([1]).no_such_attribute

    assert "no_such_attribute" in failing([broken])["broken()-runs"]
    assert list(failing([broken, Tanh])) == ["broken()-runs"]


@pytest.mark.parametrize(
    ("layers", "facts"),
    [
        (Tanh, ["layers", "parametrize_layers(["]),
        ([], ["layers is empty", "parametrize_layers(["]),
        ("Tanh", ["layers", "Tanh"]),
        ([3], ["3", "class of layers"]),
        ([Linear], ["n_in, n_out", "lambda: Linear(…)"]),
        ([dict], ["dict", "tinygan.Layer"]),
        ([lambda: 3], ["3", "return"]),
        ([(Tanh, (5, 3), 1)], ["class of layers"]),
    ],
)
def test_what_is_no_list_of_layers_is_refused_when_the_tests_are_collected(layers, facts):
    with refused(*facts):
        parametrize_layers(layers)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"seed": "a"}, ["seed", "'a'"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"x": 5}, ["x must be", "(5, 3)", "not 5"]),
        ({"x": (1, 3)}, ["(1, 3)", "m > 1"]),
        ({"x": [[np.nan]] * 2}, ["x must be finite"]),
    ],
)
def test_an_input_or_a_seed_that_no_layer_can_have_is_refused_when_the_tests_are_collected(options, facts):
    with refused(*facts):
        parametrize_layers([Tanh], **options)


def test_without_pytest_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    with refused("python -m pip install pytest"):
        parametrize_layers([Tanh])


# ---- In pytest itself

SUITE = """
from tinygan import Dropout, Tanh
from tinygan.testing import parametrize_layers

class BadTanh(Tanh):
    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * (1 - cache) if need_dx else None

@parametrize_layers([BadTanh, Tanh, lambda: Dropout(0.5)])
def test_layer(layer, check):
    check(layer)
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 2])
def test_in_a_suite_of_its_own(tmp_path, processes):
    if processes:
        pytest.importorskip("xdist")
    (tmp_path / "test_mine.py").write_text(SUITE, encoding="utf-8")
    options = [
        "-v",
        "-W",
        "error",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        *(["-n", str(processes)] if processes else []),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(tinygan.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1", "CI": "true"}
    arguments = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = re.findall(r"^FAILED test_mine.py::test_layer\[(.*?)\] - (.*)", done.stdout, re.MULTILINE)
    assert [name for name, _ in failed] == ["BadTanh()-derivative_by_x"]
    assert "x[" in done.stdout
    passed = set(re.findall(r"test_layer\[(.*?)\].*PASSED|PASSED.*test_layer\[(.*?)\]", done.stdout))
    expected = set(cases([Tanh, lambda: Dropout(0.5)]))
    assert expected <= {a or b for a, b in passed}
    assert "tinygan/testing.py" not in done.stdout  # the frames of the library are hidden
