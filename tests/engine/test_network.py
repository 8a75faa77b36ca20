"""Network: θ as one flat vector with views, the chain rule, and what it refuses, on every backend."""

import copy
import pickle

import numpy as np
import pytest
from helpers import arrays, bits, discriminator, generator
from strict_cupy import cupy as stand_in
from strict_cupy import host

from tinygan import (
    ArgumentError,
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
from tinygan.network import rows


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
    with pytest.raises(ArgumentError, match="rng"):
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
    half = net.backward(dy[2:5], rows(cache, 2, 5))
    np.testing.assert_allclose(host(half), host(dx)[2:5], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_a_layer_belongs_to_one_network_once():
    layer = Linear(3, 3)
    with pytest.raises(ArgumentError, match=r"layer 2, Linear\(3, 3\), is in a network already"):
        Network([layer, ReLU(), layer])
    net = Network([layer])
    before = bits(net.theta)
    with pytest.raises(ArgumentError, match=r"layer 1, Linear\(3, 3\), is in a network already"):
        Network([ReLU(), layer], seed=1)
    assert bits(net.theta) == before, "the network that has it is left alone"
    relu = net = ReLU()
    Network([relu])
    with pytest.raises(ArgumentError, match=r"ReLU\(\), is in a network already"):
        Network([relu])


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.complex64])
def test_a_network_is_float32_or_float64(dtype):
    with pytest.raises(ArgumentError, match="float32 or float64"):
        Network([Linear(2, 2)], dtype=dtype)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros((2, 3), np.uint8), [[0.0] * 3], None])
def test_another_dtype_is_refused_not_cast(wrong):
    net = Network([Linear(3, 3)])
    y, cache = net.forward(np.zeros((2, 3), np.float32))
    with pytest.raises(ArgumentError, match="numpy in float32, its input is of .*: convert the input"):
        net(wrong)
    with pytest.raises(ArgumentError, match="numpy in float32, its dy is of .*: convert the dy"):
        net.backward(wrong, cache)


@pytest.mark.usefixtures("strict_xp")
def test_an_array_of_the_other_backend_is_refused_by_both_names():
    on_host = np.zeros((2, 3), np.float32)
    on_device = stand_in.asarray(on_host)
    host_net, device_net = Network([Linear(3, 3)]), Network([Linear(3, 3)], xp=stand_in)
    with pytest.raises(ArgumentError, match="computes with cupy in float32, its input is of numpy in float32"):
        device_net(on_host)
    with pytest.raises(ArgumentError, match="computes with numpy in float32, its input is of cupy in float32"):
        host_net(on_device)
    with pytest.raises(ArgumentError, match="computes with cupy in float32, its dy is of numpy in float32"):
        device_net.backward(on_host, device_net.forward(on_device)[1])


@pytest.mark.parametrize("grad", [np.zeros(14, np.float32), np.zeros(15, np.float64), np.zeros((3, 5), np.float32)])
def test_a_grad_that_is_not_like_theta_is_refused(grad):
    net = Network([Linear(4, 3)])
    y, cache = net.forward(np.zeros((2, 4), np.float32))
    with pytest.raises(ArgumentError, match=r"grad must be like θ, \(15,\) in float32"):
        net.backward(y, cache, grad)


@pytest.mark.parametrize("bias", [np.zeros(4), np.zeros((1, 3))])
def test_a_bias_of_another_shape_is_refused(bias):
    with pytest.raises(ArgumentError, match=r"parameter of shape \(3,\)"):
        Network([Linear(4, 3, bias=bias)])


def test_a_class_in_place_of_a_layer_is_refused_and_left_alone():
    with pytest.raises(ArgumentError, match="layer 1 is .*ReLU.*no layer"):
        Network([Linear(2, 3), ReLU])
    Network([ReLU()])  # the class was not marked as being in a network


def test_a_parameter_is_not_shadowed_by_an_attribute():
    net = Network([Linear(2, 3)])
    with pytest.raises(ArgumentError, match=r"layer\.W\[\.\.\.\] = "):
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
    with pytest.raises(ArgumentError, match=r"parameter 1\.b of Linear\(3, 4\): .*shape \(2,\)"):
        Network([ReLU(), Linear(3, 4, bias=np.zeros(2))])


def test_theta_takes_only_its_own_shape():
    net = Network([Linear(2, 3)])
    for wrong in (np.zeros(1, np.float32), np.zeros((1, 9), np.float32), [0.0] * 9):
        with pytest.raises(ArgumentError, match=r"shape \(9,\)"):
            net.theta = wrong


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copy_and_pickle_are_refused_with_the_remedy(duplicate):
    with pytest.raises(ArgumentError, match=r"build another and assign its θ, net.theta = old.theta"):
        duplicate(Network([Linear(3, 2)]))
