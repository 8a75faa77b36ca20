"""Network: θ and the statistics as flat vectors with views, the chain rule, and what it refuses, on every backend."""

import copy
import pickle

import numpy as np
import pytest
from helpers import SameDraws, arrays, bits, discriminator, generator, refused
from strict_cupy import cupy as stand_in
from strict_cupy import host

from tinygan import (
    ArgumentError,
    BatchNorm,
    Constant,
    Dropout,
    Layer,
    Linear,
    Maxout,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Sparse,
    Uniform,
    random_generator,
)


def mixed(dtype=np.float64, xp=np, seed=0):
    """Layers with and without parameters, of both kinds."""
    layers = [Dropout(0.5), Linear(4, 3, bias=0.1), ReLU(), Reshape((3,)), Maxout(3, 2, 2, bias=-0.1), Sigmoid()]
    return Network(layers, dtype=dtype, xp=xp, seed=seed)


def batch(xp, m=5, n=4, dtype=np.float64, seed=0):
    return xp.asarray(np.random.default_rng(seed).standard_normal((m, n)).astype(dtype))


class Probe(Layer):
    """y = x; counts its calls."""

    def __init__(self, **declarations):
        self.declarations = declarations
        self.backwards = []

    def forward(self, x, train=False, rng=None):
        return x, None

    def backward(self, dy, cache, grads=None, need_dx=True):
        self.backwards.append((grads, need_dx))
        return dy if need_dx else None


# ---------------------------------------------------------------------------------------------------------------------
# θ
# ---------------------------------------------------------------------------------------------------------------------


def test_theta_is_every_parameter_in_order_w_then_b_in_c_order(xp):
    net = mixed(xp=xp)
    names = {"1.W": (4, 3), "1.b": (3,), "4.W": (3, 4), "4.b": (4,)}
    assert {name: value.shape for name, value in net.parameters().items()} == names
    assert list(net.parameters()) == list(names), "the index counts the layers without parameters too"
    in_order = [net.layers[1].W, net.layers[1].b, net.layers[4].W, net.layers[4].b]
    assert host(net.theta).tolist() == np.concatenate([host(a).ravel(order="C") for a in in_order]).tolist()
    assert net.theta.shape == (4 * 3 + 3 + 3 * 4 + 4,), "unpadded"


def test_theta_and_the_layers_share_their_memory(xp):
    net = mixed(xp=xp)
    net.theta[...] = xp.arange(31.0)
    assert host(net.layers[1].W).tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert host(net.layers[4].b).tolist() == [27, 28, 29, 30]
    net.layers[1].params["b"][...] = -1.0
    net.parameters()["4.W"][2, 3] = -2.0
    expected = np.arange(31.0)
    expected[12:15] = -1
    expected[26] = -2
    assert host(net.theta).tolist() == expected.tolist()


def test_assigning_theta_copies(xp):
    net, other = mixed(xp=xp), mixed(xp=xp, seed=1)
    vector, memory = other.theta.copy(), net.theta
    net.theta = vector
    vector[...] = 0.0
    assert net.theta is memory, "an optimiser that holds θ still holds it"
    assert bits(net.theta) == bits(other.theta)
    assert bits(net(batch(xp))) == bits(other(batch(xp)))


def test_views_cut_any_vector_like_theta(xp):
    net = mixed(xp=xp)
    gradient = xp.arange(31.0)
    views = net.views(gradient)
    views["1.b"][...] = 0.0
    assert {name: view.shape for name, view in views.items()} == {n: p.shape for n, p in net.parameters().items()}
    assert host(gradient)[12:15].tolist() == [0, 0, 0]


def test_no_layers_with_parameters_means_an_empty_theta(xp):
    net = Network([ReLU()], xp=xp)
    assert net.theta.shape == (0,)
    assert net.parameters() == {}


def test_float32_and_float64_on_every_backend_start_from_the_same_numbers(xp):
    def start(dtype, xp):
        layers = [Linear(4, 3, weight=Sparse(2)), Maxout(3, 2, 2), Linear(2, 3, bias=[0.1, 0.2, 0.3])]
        return Network(layers, seed=5, dtype=dtype, xp=xp).theta

    expected = start(np.float64, np)
    assert bits(start(np.float64, xp)) == bits(expected)
    assert bits(start(np.float32, xp)) == bits(expected.astype(np.float32))


def test_the_seed_decides_the_start():
    assert bits(mixed(seed=3).theta) == bits(mixed(seed=3).theta)
    assert bits(mixed(seed=3).theta) != bits(mixed(seed=4).theta)


def test_the_default_start_is_uniform_within_a_twentieth_and_no_bias():
    parameters = Network([Linear(50, 40), Maxout(40, 30, 2)]).parameters()
    for name in ("0.W", "1.W"):
        assert 0.049 < abs(parameters[name]).max() <= 0.05
    assert not parameters["0.b"].any()
    assert not parameters["1.b"].any()


# ---------------------------------------------------------------------------------------------------------------------
# Forward and backward
# ---------------------------------------------------------------------------------------------------------------------


def test_calling_a_network_is_forward_without_dropout(xp):
    net, x = mixed(xp=xp), batch(xp)
    assert bits(net(x)) == bits(net.forward(x)[0])
    assert bits(net(x)) == bits(net.forward(x, train=False, rng=random_generator(xp, 0))[0]), "train decides, not rng"
    trained, _ = net.forward(x, train=True, rng=random_generator(xp, 0))
    assert bits(trained) != bits(net(x))
    with refused("rng"):
        net.forward(x, train=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out(xp, dtype):
    for net in (mixed(dtype, xp), generator(dtype, xp), discriminator(dtype, xp, keep=0.5)):
        x = batch(xp, dtype=dtype, n=3 if net.layers[0].params else 4)
        y, cache = net.forward(x, True, random_generator(xp, 0))
        grad = xp.empty_like(net.theta)
        dx = net.backward(y, cache, grad)
        assert {a.dtype for a in arrays([y, cache, dx, grad, net.theta])} == {np.dtype(dtype)}


def test_nothing_is_mutated_and_grad_is_overwritten(xp):
    net, x = mixed(xp=xp), batch(xp)
    y, cache = net.forward(x, True, random_generator(xp, 0))
    dy, grad = batch(xp, n=2, seed=1), xp.full_like(net.theta, np.nan)
    before = bits([x, y, cache, dy, net.theta])
    net.backward(dy, cache, grad)
    first = bits(grad)
    net.backward(dy, cache, grad)
    assert bits([x, y, cache, dy, net.theta]) == before
    assert bits(grad) == first
    assert np.isfinite(host(grad)).all()


def test_several_forwards_are_alive_at_once(xp):
    net, dy = mixed(xp=xp), batch(xp, n=2, seed=1)
    caches = [net.forward(batch(xp, seed=s), True, random_generator(xp, s))[1] for s in range(3)]
    grads = [xp.empty_like(net.theta) for _ in caches]
    dxs = [net.backward(dy, cache, grad) for cache, grad in zip(caches, grads, strict=True)]
    for s in range(3):
        _, cache = net.forward(batch(xp, seed=s), True, random_generator(xp, s))
        grad = xp.empty_like(net.theta)
        assert bits([net.backward(dy, cache, grad), grad]) == bits([dxs[s], grads[s]])


def test_without_grad_theta_is_held_fixed_and_no_layer_computes_its_derivative(xp):
    probe = Probe(s=((2,), Constant(0)))
    net = Network([probe, Probe(s=((2,), Constant(0)))], dtype=np.float64, xp=xp)
    y, cache = net.forward(batch(xp, n=2))
    assert net.backward(y, cache) is not None
    assert probe.backwards == [(None, True)]


def test_need_dx_false_stops_at_the_lowest_layer_with_parameters(xp):
    below, lowest, above = Probe(), Probe(s=((1,), Constant(0))), Probe()
    net = Network([below, lowest, above], xp=xp)
    y, cache = net.forward(xp.ones((2, 2), np.float32))
    assert net.backward(y, cache, xp.empty_like(net.theta), need_dx=False) is None
    assert below.backwards == []
    assert [need_dx for _, need_dx in lowest.backwards] == [False]
    assert [need_dx for _, need_dx in above.backwards] == [True]


def test_need_dx_false_does_not_change_grad(xp):
    net, dy = mixed(xp=xp), batch(xp, n=2, seed=1)
    _, cache = net.forward(batch(xp), True, random_generator(xp, 0))
    grad, other = xp.empty_like(net.theta), xp.empty_like(net.theta)
    net.backward(dy, cache, grad)
    assert net.backward(dy, cache, other, need_dx=False) is None
    assert bits(other) == bits(grad)


def test_with_neither_grad_nor_dx_asked_for_nothing_is_computed(xp):
    probe = Probe(s=((1,), Constant(0)))
    net = Network([probe], xp=xp)
    y, cache = net.forward(xp.ones((2, 2), np.float32))
    assert net.backward(y, cache, need_dx=False) is None
    assert probe.backwards == []


def test_rows_of_a_cache_are_the_cache_of_these_rows(xp):
    """What the simultaneous update relies on: the samples' half of one pass through D."""
    net, x, dy = mixed(xp=xp), batch(xp, m=6), batch(xp, m=6, n=2, seed=1)
    _, cache = net.forward(x, True, random_generator(xp, 0))
    dx = net.backward(dy, cache)
    half = net.backward(dy[2:5], net.rows(cache, 2, 5))
    np.testing.assert_allclose(host(half), host(dx)[2:5], rtol=1e-12)


def test_rows_of_a_cache_are_views_and_the_cache_stays_whole(xp):
    net = discriminator(xp=xp, keep=0.5)
    _, cache = net.forward(batch(xp, m=6), True, random_generator(xp, 0))
    before, mask = bits(cache), cache[0]
    part = net.rows(cache, 2, 5)
    assert bits(cache) == before
    assert len(part) == len(cache)
    mask[2:5] = 7.0
    assert (host(part[0]) == 7).all(), "nothing is copied"


# ---------------------------------------------------------------------------------------------------------------------
# The statistics
# ---------------------------------------------------------------------------------------------------------------------


def normalised(dtype=np.float64, xp=np):
    """Two layers with statistics among layers without."""
    return Network([Linear(4, 3), BatchNorm(3), ReLU(), Linear(3, 2), BatchNorm(2, momentum=0.5)], dtype=dtype, xp=xp)


def test_statistics_are_one_vector_in_the_order_of_the_layers_mean_then_var(xp):
    net = normalised(xp=xp)
    assert host(net.statistics).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    net.statistics[...] = xp.arange(10.0)
    assert host(net.layers[1].mean).tolist() == [0, 1, 2]
    assert host(net.layers[1].var).tolist() == [3, 4, 5]
    assert host(net.layers[4].statistics["var"]).tolist() == [8, 9]
    net.layers[1].var[...] = -1.0
    assert host(net.statistics).tolist() == [0, 1, 2, -1, -1, -1, 6, 7, 8, 9]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_have_the_dtype_of_the_network_and_theta_does_not_hold_them(xp, dtype):
    net = normalised(dtype, xp)
    assert net.statistics.dtype == dtype
    assert list(net.parameters()) == ["0.W", "0.b", "1.gamma", "1.beta", "3.W", "3.b", "4.gamma", "4.beta"]
    assert net.theta.shape == (4 * 3 + 3 + 2 * 3 + 3 * 2 + 2 + 2 * 2,)
    assert Network([Linear(2, 3), ReLU()], dtype=dtype, xp=xp).statistics.shape == (0,)


def test_assigning_statistics_copies(xp):
    net, other = normalised(xp=xp), normalised(xp=xp)
    other.observe(other.forward(batch(xp), train=True)[1])
    vector, memory = other.statistics.copy(), net.statistics
    net.statistics = vector
    vector[...] = 0.0
    assert net.statistics is memory
    assert bits(net.statistics) == bits(other.statistics)
    assert bits(net(batch(xp))) == bits(other(batch(xp)))
    net.statistics = 2.0
    assert host(net.statistics).tolist() == [2] * 10


def test_observe_moves_every_layers_statistics_towards_the_minibatch_of_the_cache(xp):
    net, x = normalised(xp=xp), batch(xp)
    theta, (_, cache) = bits(net.theta), net.forward(x, train=True)
    net.observe(cache)
    hidden = host(net.layers[0].forward(x)[0])
    np.testing.assert_allclose(host(net.layers[1].mean), 0.1 * hidden.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(host(net.layers[1].var), 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-12)
    below = Network([Linear(4, 3), BatchNorm(3), ReLU(), Linear(3, 2)], dtype=np.float64, xp=xp)
    below.theta = net.theta[: below.theta.size]
    output = host(below.forward(x, train=True)[0])
    np.testing.assert_allclose(host(net.layers[4].mean), 0.5 * output.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(host(net.layers[4].var), 0.5 + 0.5 * output.var(axis=0), rtol=1e-12)
    assert bits(net.theta) == theta


def test_a_network_without_statistics_has_nothing_to_observe(xp):
    net = mixed(xp=xp)
    before = bits(net.theta)
    net.observe(net.forward(batch(xp), True, random_generator(xp, 0))[1])
    assert bits(net.theta) == before


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_a_layer_belongs_to_one_network_once():
    layer = Linear(3, 3)
    with refused("layer 2", "Linear(3, 3)", "in a network"):
        Network([layer, ReLU(), layer])
    net = Network([layer])
    before = bits(net.theta)
    with refused("layer 1", "Linear(3, 3)", "in a network"):
        Network([ReLU(), layer], seed=1)
    assert bits(net.theta) == before, "the network that has it is left alone"
    relu = ReLU()
    Network([relu])
    with refused("ReLU()", "in a network"):
        Network([relu])


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.complex64])
def test_a_network_is_float32_or_float64(dtype):
    with refused("float32", "float64", np.dtype(dtype)):
        Network([Linear(2, 2)], dtype=dtype)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros((2, 3), np.uint8), [[0.0] * 3], None])
def test_another_dtype_is_refused_not_cast(wrong):
    net = Network([Linear(3, 3)])
    y, cache = net.forward(np.zeros((2, 3), np.float32))
    for name, call in {"input": lambda: net(wrong), "dy": lambda: net.backward(wrong, cache)}.items():
        with refused("numpy", "float32", name, getattr(wrong, "dtype", type(wrong).__name__)):
            call()


@pytest.mark.usefixtures("strict_xp")
def test_an_array_of_the_other_backend_is_refused_by_both_names():
    on_host = np.zeros((2, 3), np.float32)
    on_device = stand_in.asarray(on_host)
    host_net, device_net = Network([Linear(3, 3)]), Network([Linear(3, 3)], xp=stand_in)
    with pytest.raises(ArgumentError, match="cupy in float32.*input.*numpy in float32"):
        device_net(on_host)
    with pytest.raises(ArgumentError, match="numpy in float32.*input.*cupy in float32"):
        host_net(on_device)
    with pytest.raises(ArgumentError, match="cupy in float32.*dy.*numpy in float32"):
        device_net.backward(on_host, device_net.forward(on_device)[1])


@pytest.mark.parametrize("seed", [0, 7, True, np.int64(0)])
@pytest.mark.parametrize("train", [True, False])
def test_a_seed_in_place_of_a_generator_is_refused(seed, train):
    """It would repeat its masks at every call."""
    with refused("rng", "random_generator(xp, seed)"):
        mixed().forward(batch(np), train, seed)


@pytest.mark.parametrize("shape", [(5, 1), (1, 2), (2,), (), (5, 3), (4, 2), (5, 2, 1), (2, 5)])
def test_a_dy_of_another_shape_than_the_output_is_refused_even_where_it_would_broadcast(xp, shape):
    net = mixed(xp=xp)
    y, cache = net.forward(batch(xp), True, SameDraws(xp))
    assert y.shape == (5, 2)
    for grad in None, xp.empty_like(net.theta):
        with refused("(5, 2)", shape):
            net.backward(xp.ones(shape), cache, grad)


def test_a_dy_of_a_part_of_the_rows_needs_the_cache_of_these(xp):
    net = mixed(xp=xp)
    _, cache = net.forward(batch(xp, m=6), True, SameDraws(xp))
    with refused("(3, 2)", "(6, 2)"):
        net.backward(xp.ones((6, 2)), net.rows(cache, 0, 3))
    with refused("(6, 2)", "(3, 2)"):
        net.backward(xp.ones((3, 2)), cache)


@pytest.mark.parametrize("use", ["backward", "observe", "rows"])
def test_a_cache_that_is_not_this_networks_is_refused(use):
    """θ or the layers of the other network would be those of the gradient."""
    net, twin, other = mixed(), mixed(), generator()
    _, own = net.forward(batch(np), True, SameDraws(np))
    uses = {
        "backward": lambda cache: net.backward(np.ones((5, 2)), cache),
        "observe": net.observe,
        "rows": lambda cache: net.rows(cache, 0, 2),
    }
    uses[use](own)
    _, twins = twin.forward(batch(np), True, SameDraws(np))
    _, others = other.forward(batch(np, n=3))
    for cache in twins, others, list(own), None:
        with refused("cache", "network"):
            uses[use](cache)


@pytest.mark.parametrize("grad", [np.zeros(14, np.float32), np.zeros(15, np.float64), np.zeros((3, 5), np.float32)])
def test_a_grad_that_is_not_like_theta_is_refused(grad):
    net = Network([Linear(4, 3)])
    y, cache = net.forward(np.zeros((2, 4), np.float32))
    with refused("grad", "(15,)", "float32", grad.shape, grad.dtype):
        net.backward(y, cache, grad)


@pytest.mark.parametrize("bias", [np.zeros(4), np.zeros((1, 3))])
def test_a_bias_of_another_shape_is_refused(bias):
    with refused("0.b", "(3,)", bias.shape):
        Network([Linear(4, 3, bias=bias)])


def test_a_class_in_place_of_a_layer_is_refused_and_left_alone():
    with refused("layer 1", "ReLU"):
        Network([Linear(2, 3), ReLU])
    with refused("layer 0", "None"):
        Network([None])
    Network([ReLU()])  # the class was not marked as being in a network


def test_a_parameter_is_not_shadowed_by_an_attribute():
    net = Network([Linear(2, 3)])
    with refused("layer.W[...]"):
        net.layers[0].W = np.zeros((2, 3))
    net.layers[0].W[...] = 7
    assert (net.theta[:6] == 7).all()


def test_a_layer_cannot_declare_parameters_for_all_others():
    with pytest.raises(TypeError):
        ReLU().declarations["s"] = ((3,), Uniform(1))


def test_a_layer_of_ones_own_may_have_a_vector_of_parameters():
    class Scale(Layer):
        def __init__(self, n):
            self.declarations = {"s": ((n,), Uniform(0.1))}

    net = Network([Scale(3)])
    assert net.theta.shape == (3,)
    assert 0 < abs(net.theta).max() <= 0.1


def test_a_start_that_does_not_fit_names_the_parameter():
    with refused("1.b", "Linear(3, 4)", "(2,)", "(4,)"):
        Network([ReLU(), Linear(3, 4, bias=np.zeros(2))])


@pytest.mark.parametrize("vector", ["theta", "statistics"])
def test_theta_and_statistics_take_only_their_own_shape(vector):
    net = Network([Linear(2, 3), BatchNorm(3)])
    n = getattr(net, vector).size
    before = bits(getattr(net, vector))
    for wrong in (np.zeros(1, np.float32), np.zeros((1, n), np.float32), [0.0] * n, np.zeros(n + 1, np.float32), None):
        with refused(f"({n},)"):
            setattr(net, vector, wrong)
    assert bits(getattr(net, vector)) == before


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copy_and_pickle_are_refused_with_the_remedy(duplicate):
    with refused("copied", "net.theta = old.theta"):
        duplicate(Network([Linear(3, 2)]))
