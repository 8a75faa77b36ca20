"""A network as data: what describe() says, build() makes again, and nothing else."""

import json
import math
import sys

import numpy as np
import pytest
from helpers import LAYERS, SameDraws, bits, discriminator, generator, refused

from tinygan import (
    BatchNorm,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Sparse,
    Tanh,
)
from tinygan.derivatives import LAYERS as CHECKED

RNG = np.random.default_rng(0)

CASES = {
    **{name: (make, (5, 4)) for name, make in LAYERS.items()},
    **{f"{name} {i}": case for name, cases in CHECKED.items() for i, case in enumerate(cases)},
    "Linear, a start of its own": (lambda: Linear(4, 3, weight=Sparse(2), bias=[1.0, 2.0, 3.0]), (5, 4)),
    "LeakyReLU, a slope": (lambda: LeakyReLU(0.125), (5, 4)),
    "LeakyReLU, no slope": (lambda: LeakyReLU(0), (5, 4)),
    "Dropout, another share": (lambda: Dropout(0.3), (5, 4)),
    "BatchNorm, its numbers": (lambda: BatchNorm(4, momentum=0.25, epsilon=0.125), (5, 4)),
    "Reshape to nothing": (lambda: Reshape(()), (5, 1)),
}
"""Every layer that the other tests know, and arguments that are not the defaults."""


def moved(net):
    """The network, its θ and statistics away from where they start; variances stay positive."""
    net.theta += RNG.standard_normal(net.theta.shape).astype(net.dtype)
    net.statistics += RNG.random(net.statistics.shape).astype(net.dtype)
    return net


def same(net, built, x):
    """Bit for bit the same, once θ and the statistics are."""
    built.theta, built.statistics = net.theta, net.statistics
    for train in False, True:
        (y, cache), (built_y, built_cache) = (each.forward(x, train, SameDraws(np)) for each in (net, built))
        assert bits(built_y) == bits(y)
        if train:
            grads = [np.empty_like(each.theta) for each in (net, built)]
            dxs = [each.backward(y, c, g) for each, c, g in zip((net, built), (cache, built_cache), grads, strict=True)]
            net.observe(cache)
            built.observe(built_cache)
            assert bits([dxs[0], grads[0], net.statistics]) == bits([dxs[1], grads[1], built.statistics])


# ---------------------------------------------------------------------------------------------------------------------
# There and back
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_what_is_built_from_a_description_is_the_layer_described(case, dtype):
    """Through JSON; forward, backward and observe are the same bit for bit."""
    make, shape = CASES[case]
    net = moved(Network([make()], seed=5, dtype=dtype))
    description = json.loads(json.dumps(net.describe()))
    built = Network.build(description, dtype=dtype)
    assert built.dtype == dtype
    assert repr(built) == repr(net)
    assert built.describe() == net.describe() == description
    assert list(built.parameters()) == list(net.parameters())
    same(net, built, RNG.standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("make", [generator, discriminator])
def test_a_whole_network_goes_there_and_back(xp, make):
    net = make(np.float32, normalised=True)
    built = Network.build(json.loads(json.dumps(net.describe())), xp=xp)
    assert built.xp is xp
    assert repr(built) == repr(net)
    if xp is np:
        same(net, built, RNG.standard_normal((5, 3 if make is generator else 4)).astype(np.float32))


def test_a_description_says_what_fixes_shapes_and_forward_and_not_how_parameters_start():
    layers = [Linear(4, 6, weight=Sparse(2), bias=0.5), BatchNorm(6), LeakyReLU(0.1), Dropout(0.5), Linear(6, 6, bias=None)]
    layers += [Tanh(), Maxout(6, 4, 2, bias=[1] * 8), ReLU(), Maxout(4, 4, 3, bias=None), Reshape((2, 2)), Sigmoid()]
    assert Network(layers).describe() == [
        {"class": "Linear", "config": {"n_in": 4, "n_out": 6}},
        {"class": "BatchNorm", "config": {"n": 6, "momentum": 0.9, "epsilon": 1e-5}},
        {"class": "LeakyReLU", "config": {"slope": 0.1}},
        {"class": "Dropout", "config": {"keep": 0.5}},
        {"class": "Linear", "config": {"n_in": 6, "n_out": 6, "bias": None}},
        {"class": "Tanh", "config": {}},
        {"class": "Maxout", "config": {"n_in": 6, "n_out": 4, "pieces": 2}},
        {"class": "ReLU", "config": {}},
        {"class": "Maxout", "config": {"n_in": 4, "n_out": 4, "pieces": 3, "bias": None}},
        {"class": "Reshape", "config": {"shape": [2, 2]}},
        {"class": "Sigmoid", "config": {}},
    ]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Linear(4, 3), "Linear(4, 3)"),
        (Linear(4, 3, bias=0.5), "Linear(4, 3)"),
        (Linear(4, 3, bias=None), "Linear(4, 3, bias=None)"),
        (Maxout(4, 3, 2), "Maxout(4, 3, 2)"),
        (Maxout(4, 3, 2, bias=None), "Maxout(4, 3, 2, bias=None)"),
        (ReLU(), "ReLU()"),
        (Sigmoid(), "Sigmoid()"),
        (Dropout(0.5), "Dropout(0.5)"),
        (Dropout(1), "Dropout(1)"),
        (Reshape([2, 2]), "Reshape((2, 2))"),
    ],
)
def test_the_text_of_a_layer_is_that_of_earlier_versions(layer, text):
    """Checkpoints of format 1 hold it."""
    assert repr(layer) == text


def test_a_description_shares_nothing_with_the_network():
    net = Network([Reshape((2, 2))])
    net.describe()[0]["config"]["shape"].append(7)
    assert net.describe()[0]["config"] == {"shape": [2, 2]}


def test_building_leaves_the_description_as_it_was():
    description = discriminator(normalised=True).describe()
    before = json.dumps(description)
    Network.build(description)
    assert json.dumps(description) == before


# ---------------------------------------------------------------------------------------------------------------------
# Layers of one's own
# ---------------------------------------------------------------------------------------------------------------------


class Swish(Layer):
    """y = x σ(βx)"""

    def __init__(self, beta):
        self.beta = float(beta)

    def forward(self, x, train=False, rng=None):
        return x / (1 + np.exp(-self.beta * x)), None

    def config(self):
        return {"beta": self.beta}


class LinearOfMyOwn(Linear):
    """A subclass of a layer of tinygan, with its config."""


class Square(Layer):
    """A layer that has another attribute than its argument."""

    def __init__(self, side):
        self.height = self.width = side

    def config(self):
        return {"side": self.height}


def test_a_class_of_ones_own_is_named_with_its_module():
    assert Network([Swish(1)]).describe() == [{"class": f"{__name__}:Swish", "config": {"beta": 1.0}}]
    config = {"n_in": 2, "n_out": 3}
    assert Network([LinearOfMyOwn(2, 3)]).describe() == [{"class": f"{__name__}:LinearOfMyOwn", "config": config}]


def test_a_class_of_ones_own_is_built_only_where_it_is_given():
    net = moved(Network([Linear(4, 4), Swish(2), LinearOfMyOwn(4, 4), Square(3)], dtype=np.float64))
    description = json.loads(json.dumps(net.describe()))
    built = Network.build(description, dtype=np.float64, layers=[LinearOfMyOwn, Swish, Square])
    assert [type(layer) for layer in built.layers] == [Linear, Swish, LinearOfMyOwn, Square]
    assert (built.layers[1].beta, built.layers[3].width) == (2.0, 3)
    for given in [], [Swish, Square], [LinearOfMyOwn, Square]:
        with refused("layer", f"{__name__}:"):
            Network.build(description, layers=given)


def test_a_class_of_ones_own_does_not_take_the_place_of_tinygans():
    class Linear(Layer):
        pass

    Linear.__qualname__ = "Linear"
    (built,) = Network.build([{"class": "Linear", "config": {"n_in": 2, "n_out": 3}}], layers=[Linear]).layers
    assert type(built).__module__ == "tinygan.layers"


def test_nothing_is_imported_because_a_description_names_it(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in "planted:Layer", "planted", "planted.Layer", "tinygan.planted:Layer", "os:system", "subprocess:Popen":
        with refused("layer 0", name):
            Network.build([{"class": name, "config": {}}], layers=[Swish])
    assert "planted" not in sys.modules


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------

SMALL = {"n_in": 2, "n_out": 3}


@pytest.mark.parametrize(
    "entry",
    [
        "Linear",
        None,
        [],
        ["Linear", SMALL],
        {},
        {"class": "Linear"},
        {"config": SMALL},
        {"class": None, "config": {}},
        {"class": 3, "config": {}},
        {"class": ["ReLU"], "config": {}},
        {"class": "Nope", "config": {}},
        {"class": "linear", "config": SMALL},
        {"class": "Layer", "config": {}},
        {"class": "Network", "config": {}},
        {"class": "Network.build", "config": {}},
        {"class": ":ReLU", "config": {}},
        {"class": "tinygan.layers:ReLU", "config": {}},
        {"class": "", "config": {}},
        {"class": "Linear", "config": None},
        {"class": "Linear", "config": 7},
        {"class": "Linear", "config": ["n_in", 2]},
    ],
)
def test_what_names_no_layer_is_refused_by_its_place(entry):
    with refused("layer 1"):
        Network.build([{"class": "ReLU", "config": {}}, entry])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Linear", {}),
        ("Linear", {"n_in": 2}),
        ("Linear", SMALL | {"colour": 1}),
        ("Linear", SMALL | {"self": 1}),
        ("Linear", SMALL | {"weight": "x"}),
        ("Linear", SMALL | {"bias": "x"}),
        ("Linear", SMALL | {"bias": 0.5}),
        ("Linear", {"n_in": "2", "n_out": 3}),
        ("Linear", {"n_in": 2.5, "n_out": 3}),
        ("Linear", {"n_in": math.nan, "n_out": 3}),
        ("Linear", {"n_in": math.inf, "n_out": 3}),
        ("Linear", {"n_in": -2, "n_out": 3}),
        ("Linear", {"n_in": None, "n_out": 3}),
        ("Linear", {"n_in": [2], "n_out": 3}),
        ("Maxout", SMALL),
        ("Maxout", SMALL | {"pieces": 0}),
        ("ReLU", {"slope": 0.2}),
        ("LeakyReLU", {"slope": 2}),
        ("LeakyReLU", {"slope": "steep"}),
        ("LeakyReLU", {"slope": None}),
        ("Dropout", {}),
        ("Dropout", {"keep": 7}),
        ("Dropout", {"keep": "half"}),
        ("Dropout", {"keep": math.nan}),
        ("Reshape", {"shape": 4}),
        ("Reshape", {"shape": [-1]}),
        ("Reshape", {"shape": ["a"]}),
        ("Reshape", {"shape": {"a": 1}}),
        ("BatchNorm", {"n": 0}),
        ("BatchNorm", {"n": 3, "momentum": 2}),
        ("BatchNorm", {"n": 3, "epsilon": "small"}),
    ],
)
def test_a_config_that_its_class_does_not_take_is_refused_by_place_and_class(name, config):
    with refused("layer 1", name):
        Network.build([{"class": "ReLU", "config": {}}, {"class": name, "config": config}])


# ---- The summary


def table(text):
    """The cells of its lines, without the first; the lines behind the table."""
    lines = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return [row for row in cells[1:] if len(row) > 1], [row[0] for row in cells if len(row) == 1]


@pytest.mark.parametrize("name", CASES)
def test_the_summary_has_each_layer_with_its_shape_and_its_count(name):
    make, x = CASES[name]
    shape = x if isinstance(x, tuple) else x.shape
    net = Network([make(), Tanh()], dtype=np.float64)
    (given, *rows, total), behind = table(net.summary(shape[1:]))
    y = net.layers[0].forward(np.zeros((1, *shape[1:])))[0]
    assert given == ["input", str(("m", *shape[1:])).replace("'", "").replace(",)", ")")]
    assert [row[-1] for row in rows] == [f"{net.theta.size:,}", "0"]
    assert rows[0][:2] == ["0", repr(net.layers[0])]
    assert rows[1][2] == rows[0][2] == str(("m", *y.shape[1:])).replace("'", "").replace(",)", ")")
    assert total == ["all", f"{net.theta.size:,}"]
    assert behind == [f"and {net.statistics.size} running statistics"] * bool(net.statistics.size)


def test_the_first_layer_with_an_n_in_says_what_the_network_takes(xp):
    net = Network([Dropout(0.8), BatchNorm(1200), Maxout(1200, 6, 3), Linear(6, 1, bias=None)], xp=xp)
    before = bits([net.theta, net.statistics])
    rows, (last,) = table(net.summary())
    assert [row[-2] for row in rows[1:-1]] == ["(m, 1200)", "(m, 1200)", "(m, 6)", "(m, 1)"]
    assert [row[-1] for row in rows[1:]] == ["0", "2,400", f"{1201 * 18:,}", "6", f"{2400 + 1201 * 18 + 6:,}"]
    assert "2,400" in last
    assert bits([net.theta, net.statistics]) == before


def test_a_shape_that_is_not_known_is_asked_for_and_one_that_does_not_fit_is_refused():
    net = Network([Reshape((2, 2)), ReLU(), Reshape((4,)), Linear(4, 2)])
    (first, *_), behind = table(Network([Reshape((2, 2)), ReLU()]).summary())
    assert first == ["input", "?"]
    assert "summary((" in behind[0]
    assert "?" not in net.summary((2, 2))
    for wrong in [Reshape((2, 2)), Linear(3, 2)], [Reshape((2, 2, 3)), MaxPool2d(2, 2), Reshape((3,)), Linear(3, 2)]:
        rows, _ = table(Network(wrong).summary())
        assert {row[-2] for row in rows[1:-1]} == {rows[0][1]} == {"?"}, "a guess that does not fit is no shape"
    assert "(m, 3)" in Network([Linear(3, 4), Linear(5, 2)]).summary()
    with refused("layer 0", "Reshape((2, 2))", (5,)):
        net.summary((5,))
    with refused("shape", "-1"):
        net.summary((-1,))
