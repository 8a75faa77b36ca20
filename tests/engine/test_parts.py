"""A layer with layers inside: their names in θ, their gradients, their statistics, on every backend."""

import numpy as np
import pytest
from helpers import Residual, SameDraws, batches, bits, refused
from strict_cupy import host

from tinygan import (
    GAN,
    BatchNorm,
    Constant,
    Dropout,
    Layer,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    Streams,
    Tanh,
    Uniform,
    check_layer,
)


def block():
    """A residual block on 4 numbers, with every kind of part: with parameters, without, with statistics, with masks."""
    return Residual(Linear(4, 6, weight=Uniform(0.8)), BatchNorm(6), Tanh(), Dropout(0.8), Linear(6, 4, bias=None))


def batch(xp, m=5, n=4, seed=0):
    return xp.asarray(np.random.default_rng(seed).standard_normal((m, n)))


class Scaled(Residual):
    """y = s (x + f(x)): parameters of its own beside those of its parts"""

    def __init__(self, n, *parts):
        super().__init__(*parts)
        self.declarations = {"s": ((n,), Constant(2.0))}

    def forward(self, x, train=False, rng=None):
        y, caches = super().forward(x, train, rng)
        return self.s * y, (y, caches)

    def backward(self, dy, cache, grads=None, need_dx=True):
        y, caches = cache
        if grads is not None:
            grads["s"][...] = (dy * y).sum(axis=0)
        return super().backward(dy * self.s, caches, grads, need_dx)

    def observe(self, cache):
        super().observe(cache[1])


# ---------------------------------------------------------------------------------------------------------------------
# Names and memory
# ---------------------------------------------------------------------------------------------------------------------


def test_parameters_of_parts_are_named_by_layer_and_part(xp):
    net = Network([ReLU(), block(), Linear(4, 2)], dtype=np.float64, xp=xp)
    shapes = {"1.0.W": (4, 6), "1.0.b": (6,), "1.1.gamma": (6,), "1.1.beta": (6,), "1.4.W": (6, 4), "2.W": (4, 2), "2.b": (2,)}
    assert {name: value.shape for name, value in net.parameters().items()} == shapes
    assert list(net.parameters()) == list(shapes)
    assert list(net.layers[1].params) == ["0.W", "0.b", "1.gamma", "1.beta", "4.W"]
    assert list(net.layers[1].statistics) == ["1.mean", "1.var"]


def test_a_layers_own_parameters_come_before_those_of_its_parts_and_parts_may_have_parts(xp):
    net = Network([Scaled(4, ReLU(), Scaled(4, Linear(4, 4)))], dtype=np.float64, xp=xp)
    assert list(net.parameters()) == ["0.s", "0.1.s", "0.1.0.W", "0.1.0.b"]
    inner = net.layers[0].parts[1].parts[0]
    assert list(inner.params) == ["W", "b"]
    net.theta[...] = xp.arange(float(net.theta.size))
    assert host(inner.W).tolist() == np.arange(8.0, 24).reshape(4, 4).tolist()


def test_the_eleventh_part_is_not_taken_for_the_first():
    net = Network([Residual(*(Linear(2, 2) for _ in range(12)))])
    for i, part in enumerate(net.layers[0].parts):
        part.W[...] = i
    assert {f"0.{i}.W": float(i) for i in range(12)} == {n: W[0, 0] for n, W in net.parameters().items() if n.endswith("W")}
    grads = {f"{i}.W": i for i in range(12)} | {f"{i}.b": -i for i in range(12)} | {"s": None}
    assert [Layer.part_grads(grads, i) for i in range(12)] == [{"W": i, "b": -i} for i in range(12)]
    assert Layer.part_grads(None, 1) is None


def test_parts_share_their_memory_with_theta_and_the_statistics(xp):
    net = Network([block()], dtype=np.float64, xp=xp)
    linear, norm = net.layers[0].parts[:2]
    linear.W[...] = 3.0
    norm.var[...] = 7.0
    assert (host(net.theta)[: 4 * 6] == 3).all()
    assert host(net.statistics).tolist() == [0] * 6 + [7] * 6
    net.theta = 0.5
    net.statistics = 0.25
    assert (host(linear.W) == 0.5).all()
    assert (host(norm.mean) == 0.25).all()


def test_parts_start_as_they_would_in_a_row(xp):
    """The draws of the parts are those of the same layers in a network of their own."""
    inside = Network([Residual(Linear(4, 6), ReLU(), Maxout(6, 4, 2))], seed=3, xp=xp)
    in_a_row = Network([Linear(4, 6), ReLU(), Maxout(6, 4, 2)], seed=3, xp=xp)
    assert bits(inside.theta) == bits(in_a_row.theta)


# ---------------------------------------------------------------------------------------------------------------------
# Forward and backward
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
def test_a_residual_of_a_row_is_x_plus_the_row_and_so_is_its_gradient(xp, train):
    layers = lambda: [Linear(4, 6, weight=Uniform(0.8)), BatchNorm(6), Dropout(0.5), Linear(6, 4)]  # noqa: E731
    residual, row = (Network(layers, seed=3, dtype=np.float64, xp=xp) for layers in ([Residual(*layers())], layers()))
    x, dy = batch(xp), batch(xp, seed=1)
    results = []
    for net in residual, row:
        y, cache = net.forward(x, train, SameDraws(xp))
        grad = xp.full_like(net.theta, np.nan)
        results.append((y, net.backward(dy, cache, grad), grad))
        if train:
            net.observe(cache)
    (y, dx, grad), (row_y, row_dx, row_grad) = results
    np.testing.assert_allclose(host(y), host(x + row_y), rtol=1e-14)
    np.testing.assert_allclose(host(dx), host(dy + row_dx), rtol=1e-14)
    assert bits(grad) == bits(row_grad)
    assert bits(residual.statistics) == bits(row.statistics)


@pytest.mark.parametrize("layer", [block, lambda: Scaled(4, block(), ReLU(), Scaled(4, Linear(4, 4)))], ids=["one", "nested"])
def test_the_checker_finds_every_gradient_of_the_parts_right(layer):
    report = check_layer(layer(), (5, 4))
    assert report.passed
    assert {block.name for block in report.blocks} >= {"x", *Network([layer()]).layers[0].params}


class Held(Residual):
    """A residual that holds its parts in its own way: `parts` is what the network asks."""

    def __init__(self, hold):
        self.inside = hold(Linear(4, 4), Tanh())

    @property
    def parts(self):
        return list(self.inside.values() if isinstance(self.inside, dict) else self.inside)


@pytest.mark.parametrize("hold", [lambda *parts: parts, lambda *parts: [*parts], lambda *parts: dict(enumerate(parts))])
def test_however_a_layer_holds_its_parts_the_checker_finds_it_right(hold):
    """It gives them float32 parameters for a moment, and the float64 ones back."""
    assert check_layer(Held(hold), (5, 4)).passed


def test_every_backend_computes_what_numpy_computes(xp):
    results = []
    for module in np, xp:
        net = Network([block()], seed=1, dtype=np.float64, xp=module)
        y, cache = net.forward(batch(module), True, SameDraws(module))
        grad = module.empty_like(net.theta)
        dx = net.backward(batch(module, seed=1), cache, grad)
        net.observe(cache)
        results.append([host(a) for a in (y, dx, grad, net.statistics)])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Rows, and statistics inside
# ---------------------------------------------------------------------------------------------------------------------


def test_a_layer_mixes_rows_where_any_of_its_parts_does():
    plain, mixing = Residual(Linear(4, 4)), Residual(Linear(4, 4), BatchNorm(4))
    assert (plain.mixes_rows, mixing.mixes_rows) == (False, True)
    assert (Residual(plain).mixes_rows, Residual(ReLU(), mixing).mixes_rows) == (False, True)
    assert Network([Linear(4, 4), Residual(mixing)]).mixes_rows


def test_rows_are_cut_through_parts_that_do_not_mix_them(xp):
    net = Network([Residual(Linear(4, 6), Dropout(0.5), Residual(Tanh()), Linear(6, 4))], dtype=np.float64, xp=xp)
    dy, (_, cache) = batch(xp, m=6, seed=1), net.forward(batch(xp, m=6), True, SameDraws(xp))
    part = net.backward(dy[2:5], net.rows(cache, 2, 5))
    np.testing.assert_allclose(host(part), host(net.backward(dy, cache))[2:5], rtol=1e-12)


def test_rows_are_not_cut_where_a_part_mixes_them():
    net = Network([Linear(4, 4), Residual(BatchNorm(4))])
    with refused("Residual"):
        net.rows(net.forward(np.ones((4, 4), np.float32), train=True)[1], 0, 2)


def two_players(D_layer):
    G = Network([Linear(3, 4), Sigmoid()], seed=1, dtype=np.float64)
    D = Network([D_layer, Linear(4, 1, weight=Uniform(0.8))], seed=2, dtype=np.float64)
    return GAN(G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1), noise=Noise("uniform", 3), batch_size=5)


@pytest.mark.parametrize(("layer", "passes"), [(lambda: Residual(Linear(4, 4)), [10, 5]), (block, [5, 5, 5])])
def test_a_game_takes_data_and_samples_apart_where_a_part_mixes_rows(layer, passes):
    gan, seen = two_players(layer()), []
    forward = gan.D.forward
    gan.D.forward = lambda x, *args, **kwargs: seen.append(len(x)) or forward(x, *args, **kwargs)
    before = bits([gan.G.theta, gan.D.theta])
    gan.iteration(batches(), Streams(0, 1))
    assert seen == passes
    assert bits([gan.G.theta, gan.D.theta]) != before


class Unobserved(Residual):
    """A residual whose author forgot observe."""

    observe = Layer.observe


class Forgetful(Layer):
    """A layer with a statistic, whose author forgot observe."""

    statistic_declarations = {"mean": ((4,), Constant(0.0))}

    def forward(self, x, train=False, rng=None):
        return x - self.mean, x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy if need_dx else None


@pytest.mark.parametrize(
    "layer", [lambda: Unobserved(BatchNorm(4)), lambda: Unobserved(ReLU(), Residual(BatchNorm(4))), Forgetful]
)
def test_a_layer_with_statistics_that_does_not_define_observe_is_refused_by_name(layer):
    net = Network([layer()], dtype=np.float64)
    _, cache = net.forward(batch(np), train=True)
    before = bits(net.statistics)
    with refused(repr(net.layers[0]), "observe"):
        net.observe(cache)
    assert bits(net.statistics) == before


def test_a_layer_without_statistics_needs_no_observe():
    net = Network([Unobserved(Linear(4, 4), Unobserved(ReLU()))], dtype=np.float64)
    net.observe(net.forward(batch(np), train=True)[1])


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_a_part_belongs_to_one_layer_of_one_network():
    linear = Linear(4, 4)
    for layers in [Residual(linear), Residual(linear)], [linear, Residual(linear)], [Residual(linear, linear)]:
        with refused("Linear(4, 4)", "in a network"):
            Network(layers)
    Network([Residual(linear)])
    for layers in [linear], [Residual(ReLU(), linear)]:
        with refused("Linear(4, 4)", "in a network"):
            Network(layers)


def test_a_refused_network_takes_hold_of_no_layer():
    relu, linear = ReLU(), Linear(4, 4)
    with refused("in a network"):
        Network([Residual(relu), linear, linear])
    Network([relu, linear])


@pytest.mark.parametrize("part", [ReLU, "ReLU", None])
def test_a_part_that_is_no_layer_is_refused(part):
    with refused("layer 1", part):
        Network([Linear(4, 4), Residual(part)])


def test_a_bias_that_does_not_fit_names_the_part():
    with refused("0.1.b", "(4,)", "(3,)"):
        Network([Residual(ReLU(), Linear(4, 4, bias=np.zeros(3)))])


def test_a_part_outside_a_network_says_where_its_arrays_come_from():
    with refused("Linear(4, 4)", "W", "Network"):
        Residual(Linear(4, 4)).forward(np.zeros((2, 4)))
