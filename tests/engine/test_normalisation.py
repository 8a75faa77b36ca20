"""Batch norm: its equations, its derivative, who moves its statistics, and what it refuses, on every backend."""

import math

import numpy as np
import pytest
from helpers import SameDraws, arrays, bits, discriminator, refused
from strict_cupy import host, no_transfers

from tinygan import BatchNorm, GradientError, Linear, Network, ReLU, check_layer

SHAPES = [(5, 3), (2, 3), (4, 2, 5, 3), (1, 2, 2, 3), (6, 7, 3)]
"""Rows, the fewest of them, images, a single image, sequences: the channels come last, n = 3."""


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


def normalised(xp, dtype, shape, seed=0, **options):
    """Batch norm whose parameters and statistics are not where they start, an input and an upstream gradient; and γ … var."""
    rng = np.random.default_rng(seed)
    net = Network([BatchNorm(3, **options)], dtype=dtype, xp=xp)
    x, dy = (rng.normal(2, 3, shape).astype(dtype) for _ in range(2))
    plain = {
        "gamma": rng.normal(1, 1, 3),
        "beta": rng.normal(0, 1, 3),
        "mean": rng.normal(2, 1, 3),
        "var": rng.uniform(1, 9, 3),
    }
    plain = {name: value.astype(dtype) for name, value in plain.items()}
    for name, value in plain.items():
        getattr(net.layers[0], name)[...] = xp.asarray(value)
    return net, xp.asarray(x), xp.asarray(dy), x.astype(np.float64), dy.astype(np.float64), plain


def near(got, expected, dtype, float32=1e-5):
    tolerance = 1e-10 if dtype == np.float64 else float32
    np.testing.assert_allclose(host(got), expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# Equations
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_training_the_minibatch_is_centred_and_scaled_by_its_own_biased_variance(xp, dtype, shape, epsilon):
    """y = γ (x − μ)/√(σ² + ε) + β, μ and σ² over all axes but the last."""
    net, x, _, plain_x, _, p = normalised(xp, dtype, shape, epsilon=epsilon)
    y, _ = net.forward(x, train=True)
    rows = plain_x.reshape(-1, 3)
    mu = sum(rows) / len(rows)
    var = sum((row - mu) ** 2 for row in rows) / len(rows)
    near(y, p["gamma"] * (plain_x - mu) / np.sqrt(var + epsilon) + p["beta"], dtype)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3), (1, 1, 1, 3)])
def test_outside_training_each_row_is_treated_by_itself_with_the_running_statistics(xp, dtype, shape):
    net, x, _, plain_x, _, p = normalised(xp, dtype, shape)
    y = net(x)
    near(y, p["gamma"] * (plain_x - p["mean"]) / np.sqrt(p["var"] + 1e-5) + p["beta"], dtype)
    for i in range(len(x)):
        assert bits(net(x[i : i + 1])) == bits(y[i : i + 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_in_training_the_derivative_is_that_of_ioffe_and_szegedy_step_by_step(xp, dtype, shape):
    """Their section 3, line by line, through x̂, σ² and μ: another form than the one that the layer computes."""
    net, x, dy, plain_x, plain_dy, p = normalised(xp, dtype, shape)
    _, cache = net.forward(x, train=True)
    grad = xp.full_like(net.theta, math.nan)
    dx = net.backward(dy, cache, grad)

    x, dy, epsilon = plain_x.reshape(-1, 3), plain_dy.reshape(-1, 3), 1e-5
    N, mu, var = len(x), x.mean(axis=0), x.var(axis=0)
    dx_hat = dy * p["gamma"]
    dvar = (dx_hat * (x - mu)).sum(axis=0) * -0.5 * (var + epsilon) ** -1.5
    dmu = (dx_hat * -1 / np.sqrt(var + epsilon)).sum(axis=0) + dvar * (-2 * (x - mu)).mean(axis=0)
    expected = dx_hat / np.sqrt(var + epsilon) + dvar * 2 * (x - mu) / N + dmu / N
    near(dx, expected.reshape(shape), dtype, float32=1e-3)  # of two rows that are close, little is left but rounding
    near(net.views(grad)["0.gamma"], (dy * (x - mu) / np.sqrt(var + epsilon)).sum(axis=0), dtype)
    near(net.views(grad)["0.beta"], dy.sum(axis=0), dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_outside_training_the_statistics_are_constants_to_the_derivative(xp, dtype, shape):
    net, x, dy, plain_x, plain_dy, p = normalised(xp, dtype, shape)
    _, cache = net.forward(x)
    grad = xp.full_like(net.theta, math.nan)
    dx = net.backward(dy, cache, grad)
    x_hat = (plain_x - p["mean"]) / np.sqrt(p["var"] + 1e-5)
    near(dx, plain_dy * p["gamma"] / np.sqrt(p["var"] + 1e-5), dtype)
    near(net.views(grad)["0.gamma"], (plain_dy * x_hat).reshape(-1, 3).sum(axis=0), dtype)
    near(net.views(grad)["0.beta"], plain_dy.reshape(-1, 3).sum(axis=0), dtype)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 1])
def test_the_derivative_agrees_with_central_differences(shape):
    assert check_layer(BatchNorm(3, momentum=0.5, epsilon=0.01), shape).passed


def test_it_starts_as_the_identity_of_a_standardised_input(xp):
    net = Network([BatchNorm(2)], xp=xp)
    start = {"gamma": [1, 1], "beta": [0, 0], "mean": [0, 0], "var": [1, 1]}
    assert {name: host(getattr(net.layers[0], name)).tolist() for name in start} == start
    assert host(net.theta).tolist() == [1, 1, 0, 0]
    assert host(net.statistics).tolist() == [0, 0, 1, 1]


def test_a_constant_feature_is_0_and_its_derivative_finite(xp, dtype):
    net = Network([BatchNorm(2)], dtype=dtype, xp=xp)
    x = xp.asarray(np.array([[3.0, 1.0], [3.0, 2.0], [3.0, 4.0]], dtype))
    y, cache = net.forward(x, train=True)
    grad = xp.empty_like(net.theta)
    dx = net.backward(xp.ones_like(y), cache, grad)
    assert host(y)[:, 0].tolist() == [0, 0, 0]
    assert all(np.isfinite(host(a)).all() for a in (dx, grad))


def test_a_large_mean_does_not_drown_the_variance(xp):
    """σ² is the mean of (x − μ)², not of x² less μ²: with μ = 1000 the second keeps no digit of float32."""
    x = 1000 + np.random.default_rng(0).standard_normal((100, 2))
    y, _ = Network([BatchNorm(2)], xp=xp).forward(xp.asarray(x.astype(np.float32)), train=True)
    assert host(y).std(axis=0) == pytest.approx([1, 1], rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# The statistics
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_observe_moves_the_statistics_towards_the_minibatch(xp, dtype, shape, momentum):
    """mean ← ρ mean + (1 − ρ) μ,  var ← ρ var + (1 − ρ) σ², once for each call."""
    net, *_, p = normalised(xp, dtype, shape, momentum=momentum)
    mean, var = p["mean"].astype(np.float64), p["var"].astype(np.float64)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(seed, 2, shape).astype(dtype)
        _, cache = net.forward(xp.asarray(x), train=True)
        net.observe(cache)
        rows = x.reshape(-1, 3).astype(np.float64)
        mean, var = momentum * mean + (1 - momentum) * rows.mean(axis=0), momentum * var + (1 - momentum) * rows.var(axis=0)
        near(net.layers[0].mean, mean, dtype)
        near(net.layers[0].var, var, dtype)
    assert {a.dtype for a in arrays(net.layers[0].statistics)} == {dtype}


def test_nothing_but_observe_moves_the_statistics(xp, dtype):
    net, x, dy, *_ = normalised(xp, dtype, (5, 3))
    before = bits(net.statistics)
    caches = [net.forward(x, train)[1] for train in (True, False, True)]
    for cache in caches:
        net.backward(dy, cache, xp.empty_like(net.theta))
    assert bits(net.statistics) == before
    held = [x, net.theta, caches]
    kept = bits(held)
    net.observe(caches[0])
    assert bits(net.statistics) != before
    assert bits(held) == kept, "and observe moves nothing else"


def test_observe_takes_the_minibatch_of_its_cache_whatever_passed_since(xp):
    net, x, *_ = normalised(xp, np.float64, (5, 3))
    twin, *_ = normalised(xp, np.float64, (5, 3))
    _, cache = net.forward(x, train=True)
    net.forward(x * 7, train=True)
    net.observe(cache)
    twin.observe(twin.forward(x, train=True)[1])
    assert bits(net.statistics) == bits(twin.statistics)


def test_the_normalisation_of_training_does_not_depend_on_the_statistics(xp):
    net, x, *_ = normalised(xp, np.float64, (5, 3))
    before = bits(net.forward(x, train=True)[0])
    net.statistics = 5.0
    assert bits(net.forward(x, train=True)[0]) == before


def test_no_copy_between_host_and_device(xp):
    net, x, dy, *_ = normalised(xp, np.float32, (4, 2, 5, 3))
    grad = xp.empty_like(net.theta)
    with no_transfers():
        y, cache = net.forward(x, train=True)
        net.backward(dy, cache, grad)
        net.observe(cache)
        net(x)


def test_a_numpy_scalar_as_momentum_or_epsilon_promotes_nothing(xp):
    net, x, dy, *_ = normalised(xp, np.float32, (5, 3), momentum=np.float64(0.5), epsilon=np.float64(0.1))
    twin, *_ = normalised(xp, np.float32, (5, 3), momentum=0.5, epsilon=0.1)
    results = []
    for each in net, twin:
        y, cache = each.forward(x, train=True)
        grad = xp.empty_like(each.theta)
        dx = each.backward(dy, cache, grad)
        each.observe(cache)
        results.append(bits([y, cache, dx, grad, each.statistics]))
    assert results[0] == results[1]


# ---------------------------------------------------------------------------------------------------------------------
# Rows that influence each other
# ---------------------------------------------------------------------------------------------------------------------


def test_it_mixes_rows_and_a_network_with_it_does_too():
    assert BatchNorm(3).mixes_rows
    assert Network([Linear(2, 3), BatchNorm(3)]).mixes_rows
    assert not Network([Linear(2, 3), ReLU()]).mixes_rows


@pytest.mark.parametrize("train", [True, False])
def test_rows_are_not_cut_out_of_a_cache_of_batch_norm(xp, train):
    """In training the gradient of some rows depends on all of them."""
    net, x, *_ = normalised(xp, np.float64, (5, 3))
    _, cache = net.forward(x, train)
    with refused("BatchNorm(3)"):
        net.rows(cache, 2, 5)


def test_the_layer_that_forbids_cutting_is_named():
    D = discriminator(normalised=True)
    _, cache = D.forward(np.ones((4, 4)), True, SameDraws(np))
    with refused("BatchNorm(5)"):
        D.rows(cache, 0, 2)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"n": 0}, ["n ", 0]),
        ({"n": 2.5}, ["n ", 2.5]),
        ({"momentum": 1.0}, ["momentum", 1.0]),
        ({"momentum": -0.1}, ["momentum", -0.1]),
        ({"momentum": math.nan}, ["momentum", "nan"]),
        ({"epsilon": 0.0}, ["epsilon", 0.0]),
        ({"epsilon": -1e-5}, ["epsilon", -1e-5]),
        ({"epsilon": math.nan}, ["epsilon", "nan"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, facts):
    with refused("BatchNorm", *facts):
        BatchNorm(**({"n": 3} | arguments))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 4), (5, 3, 2), ()])
def test_an_input_of_other_features_is_refused(xp, shape, train):
    net = Network([BatchNorm(3)], xp=xp)
    with refused("BatchNorm(3)", shape, "3)"):
        net.forward(xp.ones(shape, np.float32), train)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3), (0, 3)])
def test_in_training_fewer_than_two_values_are_refused(xp, shape):
    net = Network([BatchNorm(3)], xp=xp)
    with refused("BatchNorm(3)", shape):
        net.forward(xp.ones(shape, np.float32), train=True)


def test_a_minibatch_outside_training_is_not_observed(xp):
    net, x, *_ = normalised(xp, np.float64, (5, 3))
    before = bits(net.statistics)
    with refused("BatchNorm(3)", "train=True"):
        net.observe(net.forward(x)[1])
    assert bits(net.statistics) == before


def test_a_statistic_is_not_shadowed_by_an_attribute():
    layer = BatchNorm(3)
    Network([layer])
    with refused("layer.mean[...]"):
        layer.mean = np.zeros(3)
    with refused("var", "Network"):
        _ = BatchNorm(3).var


def test_the_checker_sees_a_backward_that_forgets_the_running_variance_and_takes_a_row_of_zeros():
    class Forgetful(BatchNorm):
        def backward(self, dy, cache, grads=None, need_dx=True):
            dx = super().backward(dy, cache, grads, need_dx)
            return dy * self.gamma if need_dx and cache[2] is None else dx

    with pytest.raises(GradientError):
        check_layer(Forgetful(3, epsilon=1e-7), (5, 3))
    x = np.random.default_rng(0).normal(size=(5, 3))
    x[-1] = 0
    assert check_layer(BatchNorm(3), x).passed
