"""A real GPU computes what NumPy computes: every layer, and ten iterations of the paper's nets at their full width.

    python -m pytest tests/test_gpu.py              one command, on a machine with a GPU and CuPy
    python -m pytest -k "cupy and not strict"       all other tests that a GPU can run

Without a GPU the first command runs the iterations, of narrower nets, on the stand-in for CuPy, and skips the rest. The other
tests of layers run on small arrays. Here the arrays are as large as the paper's, so that a GPU uses the kernels of real runs.
"""

import numpy as np
import pytest
from helpers import NO_GPU, SameDraws, game, same_streams
from strict_cupy import host

from tinygan import (
    VARIANTS,
    Batch,
    BatchNorm,
    ChannelMaxout,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
    evaluate,
    get_backend,
    recipes,
)

M = 100
LAYERS = {  # at the sizes of the paper's nets: a layer, and the shape of a row
    "Linear": (lambda: Linear(1200, 784), (1200,)),
    "Maxout": (lambda: Maxout(784, 240, 5), (784,)),
    "ReLU": (ReLU, (1200,)),
    "LeakyReLU": (LeakyReLU, (1200,)),
    "Tanh": (Tanh, (1200,)),
    "Sigmoid": (Sigmoid, (784,)),
    "Dropout": (lambda: Dropout(0.5), (784,)),
    "Reshape": (lambda: Reshape((28, 28, 1)), (784,)),
    "BatchNorm": (lambda: BatchNorm(32), (14, 14, 32)),
    "Conv2d": (lambda: Conv2d(3, 64, 8, padding=4), (32, 32, 3)),
    "Conv2d, stride 2": (lambda: Conv2d(32, 64, 4, stride=2, padding=1), (14, 14, 32)),
    "ConvTranspose2d": (lambda: ConvTranspose2d(80, 3, 5, stride=3), (10, 10, 80)),
    "MaxPool2d": (lambda: MaxPool2d(4, 2), (33, 33, 32)),
    "ChannelMaxout": (lambda: ChannelMaxout(2), (15, 15, 64)),
}


@pytest.fixture
def gpu():
    """CuPy, on a GPU."""
    if NO_GPU:
        pytest.skip(f"needs a GPU: {NO_GPU}")
    return get_backend("cupy")


def close(found, expected, dtype):
    """Each entry agrees but for rounding, in units of the largest. A sum of n numbers may round in any order."""
    found, scale = host(found), max(1e-30, float(abs(expected).max(initial=0)))
    assert found.dtype == expected.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2000 * float(np.finfo(dtype).eps) * scale)


def through(xp, dtype, make, shape):
    """y, ∂L/∂x, ∂L/∂θ and the statistics of a layer, in training."""
    net = Network([make()], seed=1, dtype=dtype, xp=xp)
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.standard_normal((M, *shape)).astype(dtype))
    y, cache = net.forward(x, True, SameDraws(xp))
    grad = xp.empty_like(net.theta)
    dx = net.backward(xp.asarray(rng.standard_normal(y.shape).astype(dtype)), cache, grad)
    net.observe(cache)
    return y, dx, grad, net.statistics


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(gpu, layer, dtype):
    for found, expected in zip(through(gpu, dtype, *LAYERS[layer]), through(np, dtype, *LAYERS[layer]), strict=True):
        close(found, expected, dtype)


def ten_iterations(xp, make, m):
    """Parameters, velocities, statistics and costs after ten iterations with the same z, examples and masks."""
    gan, rng = make(xp), np.random.default_rng(3)
    streams, dtype = same_streams(xp), gan.G.dtype
    costs = {}
    for _ in range(10):
        x = rng.random((gan.k * m, *gan.sample_shape)).astype(dtype)
        costs = gan.iteration(iter([Batch(part) for part in xp.split(xp.asarray(x), gan.k)]), streams)
    vectors = [v for net, optimizer in gan.players.values() for v in (net.theta, net.statistics, *optimizer.state.values())]
    return [*vectors, *(cost.reshape(1) for cost in map(xp.asarray, costs.values()))]


def mnist(dtype, variant, m=M, **widths):
    settings = {"dtype": dtype, "variant": variant, "batch_size": m} | widths
    return lambda xp: recipes.mnist(settings, np.zeros(784), xp)


def cifar10(dtype, model, scale, m):
    return lambda xp: recipes.cifar10({"dtype": dtype, "model": model, "scale": scale, "batch_size": m}, xp)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*VARIANTS, "fully-connected", "convolutional"])
def test_ten_iterations_of_the_papers_nets(gpu, name, dtype):
    make, m = (mnist(dtype, name), M) if name in VARIANTS else (cifar10(dtype, name, 1, 16), 16)
    for found, expected in zip(ten_iterations(gpu, make, m), ten_iterations(np, make, m), strict=True):
        close(found, expected, dtype)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_iterations_with_batch_norm(gpu, variant):
    def make(xp):
        return game(variant, xp, np.float64, keep=0.5, k=2, generator_steps=2, normalised=True)

    for found, expected in zip(ten_iterations(gpu, make, 5), ten_iterations(np, make, 5), strict=True):
        close(found, expected, np.float64)


def test_the_evaluator(gpu):
    rng = np.random.default_rng(0)
    sets = [rng.random((n, 30), dtype=np.float32) for n in (2000, 1000, 1500)]
    found, expected = (evaluate(*map(xp.asarray, sets), np.logspace(-1.5, 0, 7)) for xp in (gpu, np))
    assert found.sigma == expected.sigma
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=0.005)


@pytest.mark.parametrize("name", [*VARIANTS, "fully-connected", pytest.param("convolutional", marks=pytest.mark.slow)])
def test_the_iterations_run_on_the_stand_in_so_that_they_are_ready_for_a_gpu(strict_xp, name):
    if name in VARIANTS:
        make = mnist("float64", name, 4, generator_width=40, discriminator_width=12)
    else:
        make = cifar10("float64", name, 64 if name == "convolutional" else 400, 4)
    for found, expected in zip(ten_iterations(strict_xp, make, 4), ten_iterations(np, make, 4), strict=True):
        close(found, expected, "float64")


def test_6000_epochs_of_500_iterations_end_at_the_floor_of_the_released_learning_rate():
    eta = recipes.mnist({}, np.zeros(4)).G_optimizer.learning_rate_at
    assert eta(5756 * 500) > 1e-6 == eta(5757 * 500) == eta(6000 * 500)
