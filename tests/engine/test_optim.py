"""Classical momentum, the schedules and the max column norm, by formula, on every backend."""

import math

import numpy as np
import pytest
from helpers import bits
from strict_cupy import host, no_transfers

from tinygan import ArgumentError, MomentumSGD, learning_rate_schedule, max_column_norm, momentum_schedule
from tinygan.optim import CHUNK


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


# ---------------------------------------------------------------------------------------------------------------------
# Momentum
# ---------------------------------------------------------------------------------------------------------------------


def test_momentum_three_steps_by_hand(xp, dtype):
    """v ← μv − η∇; θ ← θ + v, with η = μ = ½ and θ = (1, 0). Every number is exact in binary.

    ∇ = (1, 0)     v = (−½, 0)                       θ = (½, 0)
    ∇ = (2, 1)     v = (−¼ − 1, −½) = (−1¼, −½)      θ = (−¾, −½)
    ∇ = (−4, 0)    v = (−⅝ + 2, −¼) = (1⅜, −¼)       θ = (⅝, −¾)
    """
    theta = xp.asarray([1.0, 0.0]).astype(dtype)
    optimizer = MomentumSGD(theta, 0.5, 0.5)
    path = []
    for gradient in [[1.0, 0.0], [2.0, 1.0], [-4.0, 0.0]]:
        optimizer.step(xp.asarray(gradient).astype(dtype))
        path.append((host(optimizer.velocity).tolist(), host(theta).tolist()))
    assert path == [([-0.5, 0], [0.5, 0]), ([-1.25, -0.5], [-0.75, -0.5]), ([1.375, -0.25], [0.625, -0.75])]


def test_momentum_is_a_sum_not_an_average(xp):
    """Under a constant gradient v → −η∇/(1 − μ), here −1; the average m·v + (1 − m)·∇ would stay at −η∇."""
    theta = xp.zeros(1)
    optimizer = MomentumSGD(theta, 0.1, 0.9)
    for n in range(1, 200):
        optimizer.step(xp.ones(1))
        assert float(host(optimizer.velocity)[0]) == pytest.approx(-(1 - 0.9**n), rel=1e-12)


def test_without_momentum_it_is_gradient_descent(xp):
    theta = xp.asarray([1.0, -2.0])
    optimizer = MomentumSGD(theta, 0.25)
    for _ in range(3):
        optimizer.step(xp.asarray([4.0, 8.0]))
    assert host(theta).tolist() == [-2, -8]


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 5 * CHUNK + 7])
def test_the_chunks_cover_theta_once(xp, n):
    rng = np.random.default_rng(0)
    theta, grad = rng.standard_normal((2, n))
    updated = xp.asarray(theta.copy())
    optimizer = MomentumSGD(updated, 0.1, 0.5)
    v = np.zeros(n)
    for _ in range(2):
        optimizer.step(xp.asarray(grad))
        v = 0.5 * v - 0.1 * grad
        theta = theta + v
    np.testing.assert_allclose(host(updated), theta, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(host(optimizer.velocity), v, rtol=1e-15, atol=1e-15)


def test_a_step_is_in_place_and_leaves_the_gradient_alone(xp, dtype):
    theta, grad = xp.ones(5, dtype), xp.full(5, 2.0, dtype)
    optimizer = MomentumSGD(theta, 0.1, 0.5)
    velocity, before = optimizer.velocity, bits(grad)
    with no_transfers():
        optimizer.step(grad)
        optimizer.step(grad)
    assert bits(grad) == before
    assert optimizer.theta is theta
    assert optimizer.velocity is velocity
    assert (theta.dtype, velocity.dtype) == (dtype, dtype)


def test_a_numpy_scalar_as_rate_or_momentum_promotes_nothing(xp):
    theta, other = xp.ones(3, np.float32), xp.ones(3, np.float32)
    MomentumSGD(theta, np.float64(0.1), np.float64(0.5)).step(xp.ones(3, np.float32))
    MomentumSGD(other, 0.1, 0.5).step(xp.ones(3, np.float32))
    assert bits(theta) == bits(other)


@pytest.mark.parametrize("n", [1, 5 * CHUNK])
def test_a_rate_that_is_a_function_is_asked_once_an_update(n):
    asked = []
    optimizer = MomentumSGD(np.zeros(n), lambda t: asked.append(t) or 0.1)
    for _ in range(3):
        optimizer.step(np.ones(n))
    assert asked == [1, 2, 3]


def test_the_rate_may_be_a_function_of_the_update_from_1_or_be_changed_between_steps(xp):
    optimizer = MomentumSGD(xp.zeros(1), lambda t: 1.0 / t)
    for _ in range(3):
        optimizer.step(xp.ones(1))
    assert optimizer.updates == 3
    assert optimizer.next_learning_rate == 0.25
    assert float(host(optimizer.theta)[0]) == pytest.approx(-(1 + 1 / 2 + 1 / 3))
    optimizer.learning_rate, optimizer.momentum = 2.0, 0.5
    optimizer.step(xp.ones(1))
    assert float(host(optimizer.velocity)[0]) == pytest.approx(-0.5 / 3 - 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2)), 0.1), r"one flat vector, not an array of shape \(2, 2\)"),
        ((np.zeros(2), 0.0), "learning rate must be positive, not 0.0"),
        ((np.zeros(2), math.nan), "learning rate must be positive"),
        ((np.zeros(2), 0.1, 1.0), r"momentum must be in \[0, 1\), not 1.0"),
        ((np.zeros(2), 0.1, -0.1), "momentum"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        MomentumSGD(*arguments)


@pytest.mark.parametrize("grad", [np.zeros(3), np.zeros((2, 1)), np.zeros(2, np.float32)])
def test_a_gradient_that_is_not_like_theta_is_refused(grad):
    with pytest.raises(ArgumentError, match=r"grad must be like θ, \(2,\) in float64"):
        MomentumSGD(np.zeros(2), 0.1).step(grad)


# ---------------------------------------------------------------------------------------------------------------------
# Schedules
# ---------------------------------------------------------------------------------------------------------------------


def test_learning_rate_schedule_is_the_released_codes():
    """After each update η ← max(10⁻⁶, η₀ / 1.000004^t): the t-th update uses η₀ / 1.000004^(t − 1)."""
    eta = 0.1
    for t in range(1, 1001):
        assert learning_rate_schedule(t, 0.1) == pytest.approx(eta, rel=1e-12)
        eta = max(1e-6, 0.1 / 1.000004**t)
    assert learning_rate_schedule(1, 0.1) == 0.1
    assert learning_rate_schedule(20_000, 0.1) == pytest.approx(0.1 * math.exp(-19_999 * math.log(1.000004)), rel=1e-12)


def test_learning_rate_schedule_never_falls_below_its_minimum():
    last = 1 + math.ceil(math.log(0.1 / 1e-6) / math.log(1.000004))
    assert learning_rate_schedule(last - 1, 0.1) > 1e-6
    assert learning_rate_schedule(last, 0.1) == learning_rate_schedule(100_000_000, 0.1) == 1e-6


def test_momentum_schedule_is_the_released_codes():
    """μ(e) = ½ + 0.2 · clip((e − 1)/249, 0, 1)."""
    for epoch in range(1, 300):
        assert momentum_schedule(epoch) == pytest.approx(0.5 + 0.2 * min((epoch - 1) / 249, 1.0), rel=1e-14)
    assert [momentum_schedule(e) for e in (0, 1, 250, 251, 1000)] == [0.5, 0.5, 0.7, 0.7, 0.7]


@pytest.mark.parametrize("number", [2, np.int64(2)])
def test_schedules_return_python_floats(number):
    """A float64 scalar of NumPy would promote float32 arrays."""
    assert type(momentum_schedule(number)) is float
    assert type(learning_rate_schedule(number, 0.1)) is float
    assert type(learning_rate_schedule(10**9, 0.1)) is float


# ---------------------------------------------------------------------------------------------------------------------
# Max column norm
# ---------------------------------------------------------------------------------------------------------------------


def test_max_column_norm_is_the_released_codes(xp, dtype):
    """W · clip(n, 0, c)/(10⁻⁷ + n), column by column, in place."""
    W = np.random.default_rng(0).standard_normal((30, 8)) * np.array([0, 0.01, 0.3, 1, 1, 1, 3, 100])
    n = np.sqrt((W**2).sum(axis=0))
    limited = xp.asarray(W.astype(dtype))
    with no_transfers():
        max_column_norm(limited, 1.9365)
    assert limited.dtype == dtype
    np.testing.assert_allclose(host(limited), W * np.clip(n, 0, 1.9365) / (1e-7 + n), rtol=20 * np.finfo(dtype).eps)
    assert np.sqrt((host(limited) ** 2).sum(axis=0)).max() <= 1.9365 * (1 + 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_max_column_norm_refuses_a_limit_that_is_not_positive(limit):
    with pytest.raises(ArgumentError, match="limit must be positive"):
        max_column_norm(np.ones((2, 2)), limit)
