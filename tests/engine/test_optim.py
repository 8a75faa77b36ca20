"""Classical momentum, Adam, the schedules and the max column norm, by formula, on every backend."""

import functools
import math

import numpy as np
import pytest
from helpers import bits, discriminator, refused
from strict_cupy import host, no_transfers

from tinygan import Adam, Linear, MomentumSGD, learning_rate_schedule, max_column_norm, momentum_schedule
from tinygan.optim import CHUNK, Optimizer

OPTIMIZERS = {
    "MomentumSGD": functools.partial(MomentumSGD, learning_rate=0.1, momentum=0.5),
    "Adam": functools.partial(Adam, learning_rate=0.1, beta1=0.5, beta2=0.75, epsilon=0.01),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def plain(kind):
    """update(state, θ, ∇, t) -> state, θ: the equations of OPTIMIZERS in plain NumPy, where state starts at None."""

    def momentum(v, theta, g, t):
        v = 0.5 * (0 if v is None else v) - 0.1 * g
        return v, theta + v

    def adam(state, theta, g, t):
        m, s = (0, 0) if state is None else state
        m, s = 0.5 * m + 0.5 * g, 0.75 * s + 0.25 * g * g
        return (m, s), theta - 0.1 * (m / (1 - 0.5**t)) / (np.sqrt(s / (1 - 0.75**t)) + 0.01)

    return {"MomentumSGD": momentum, "Adam": adam}[kind]


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


# ---------------------------------------------------------------------------------------------------------------------
# Adam
# ---------------------------------------------------------------------------------------------------------------------


def test_adam_three_steps_by_hand(xp, dtype):
    """β₁ = ½, β₂ = ¾, η = ε = 1, θ = (0, 0), ∇ = (2, 0), (−2, 0), (2, 3). In the first entry ∇² is always 4, so √ŝ = 2:

    t = 1   m = 1      m̂ = 1/(1 − ½) = 2         θ = −2/3
    t = 2   m = −½     m̂ = −½/(1 − ¼) = −2/3     θ = −2/3 + (2/3)/3 = −4/9
    t = 3   m = ¾      m̂ = ¾/(1 − ⅛) = 6/7       θ = −4/9 − (6/7)/3 = −46/63

    In the second nothing moves until t = 3:  m = 3/2, m̂ = (3/2)/(7/8) = 12/7;  s = 9/4, ŝ = (9/4)/(37/64) = 144/37.
    """
    theta = xp.zeros(2, dtype)
    optimizer = Adam(theta, 1.0, 0.5, 0.75, 1.0)
    path = []
    for gradient in [2, 0], [-2, 0], [2, 3]:
        optimizer.step(xp.asarray(np.array(gradient, dtype)))
        path.append([host(a).tolist() for a in (optimizer.first_moment, optimizer.second_moment)])
        path[-1].append(host(theta).tolist())
    assert [m for m, _, _ in path] == [[1, 0], [-0.5, 0], [0.75, 1.5]]
    assert [s for _, s, _ in path] == [[1, 0], [1.75, 0], [2.3125, 2.25]]
    expected = [[-2 / 3, 0], [-4 / 9, 0], [-46 / 63, -12 / 7 / (12 / math.sqrt(37) + 1)]]
    np.testing.assert_allclose([theta for _, _, theta in path], expected, rtol=4 * np.finfo(dtype).eps)


def test_adams_first_step_is_eta_whatever_the_size_of_the_gradient(xp):
    """m̂/√ŝ = ∇/|∇|: without the two corrections it would be √(1 − β₂)/(1 − β₁) times less or more."""
    theta = xp.zeros(4)
    Adam(theta, 0.25, epsilon=1e-300).step(xp.asarray([1e-8, -1e-3, 1.0, -1e6]))
    np.testing.assert_allclose(host(theta), [-0.25, 0.25, -0.25, 0.25], rtol=1e-12)


def test_adams_defaults_are_those_of_its_paper():
    optimizer = Adam(np.zeros(1), 0.001)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.999, 1e-8)


def test_without_beta_adam_takes_the_sign_of_the_gradient(xp):
    theta = xp.zeros(2)
    optimizer = Adam(theta, 0.5, 0.0, 0.0, 1e-300)
    for _ in range(3):
        optimizer.step(xp.asarray([3.0, -0.1]))
    assert host(theta).tolist() == [-1.5, 1.5]


# ---------------------------------------------------------------------------------------------------------------------
# What both share
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 5 * CHUNK + 7])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_chunks_cover_theta_once(xp, kind, n):
    rng = np.random.default_rng(0)
    theta, grad = rng.standard_normal((2, n))
    updated = xp.asarray(theta.copy())
    optimizer, update, state = OPTIMIZERS[kind](updated), plain(kind), None
    for t in (1, 2):
        optimizer.step(xp.asarray(grad))
        state, theta = update(state, theta, grad, t)
    np.testing.assert_allclose(host(updated), theta, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose([host(v) for v in optimizer.state.values()], np.atleast_2d(state), rtol=1e-14, atol=1e-14)


@every_optimizer
def test_a_step_is_in_place_and_leaves_the_gradient_alone(xp, dtype, make):
    theta, grad = xp.ones(5, dtype), xp.full(5, 2.0, dtype)
    optimizer = make(theta)
    vectors, before = list(optimizer.state.values()), bits(grad)
    with no_transfers():
        optimizer.step(grad)
        optimizer.step(grad)
    assert bits(grad) == before
    assert optimizer.theta is theta
    assert [a is b for a, b in zip(optimizer.state.values(), vectors, strict=True)] == [True] * len(vectors)
    assert {a.dtype for a in (theta, *vectors)} == {dtype}


def test_the_state_is_the_named_vectors_that_the_next_update_needs(xp):
    """Assigned to another optimiser, with θ and the count of updates, they make it the same."""
    for make, names in zip(OPTIMIZERS.values(), (["velocity"], ["first_moment", "second_moment"]), strict=True):
        optimizer, other = make(xp.ones(3)), make(xp.zeros(3))
        assert list(optimizer.state) == names
        assert [optimizer.state[name] is getattr(optimizer, name) for name in names] == [True] * len(names)
        for _ in range(2):
            optimizer.step(xp.asarray([1.0, -2.0, 3.0]))
        other.theta[...], other.updates = optimizer.theta, optimizer.updates
        for name in names:
            other.state[name][...] = optimizer.state[name]
        for each in optimizer, other:
            each.step(xp.asarray([0.5, 0.5, -0.5]))
        assert bits([other.theta, other.state]) == bits([optimizer.theta, optimizer.state])


@pytest.mark.parametrize(
    ("kind", "arguments"), [(MomentumSGD, (0.1, 0.5)), (Adam, (0.1, 0.9, 0.999, 1e-8))], ids=["MomentumSGD", "Adam"]
)
def test_a_numpy_scalar_as_an_argument_promotes_nothing(xp, kind, arguments):
    theta, other = xp.ones(3, np.float32), xp.ones(3, np.float32)
    optimizer, twin = kind(theta, *map(np.float64, arguments)), kind(other, *arguments)
    for _ in range(3):
        optimizer.step(xp.asarray([1.0, 2.0, 3.0]).astype(np.float32))
        twin.step(xp.asarray([1.0, 2.0, 3.0]).astype(np.float32))
    assert bits([theta, optimizer.state]) == bits([other, twin.state])


@pytest.mark.parametrize("n", [1, 5 * CHUNK])
@pytest.mark.parametrize("kind", [MomentumSGD, Adam])
def test_a_rate_that_is_a_function_is_asked_once_an_update(kind, n):
    asked = []
    optimizer = kind(np.zeros(n), lambda t: asked.append(t) or 0.1)
    for _ in range(3):
        optimizer.step(np.ones(n))
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("kind", [MomentumSGD, Adam])
def test_after_is_called_after_each_update_with_the_count_made(xp, kind):
    seen = []
    theta = xp.zeros(2)
    optimizer = kind(theta, 0.1, after=lambda: seen.append((optimizer.updates, host(theta).tolist())))
    path = []
    for _ in range(3):
        optimizer.step(xp.ones(2))
        path.append(host(theta).tolist())
    assert seen == list(enumerate(path, 1))
    assert path[0] != [0, 0]


def test_after_is_not_called_for_a_gradient_that_is_refused():
    called = []
    optimizer = MomentumSGD(np.zeros(2), 0.1, after=lambda: called.append(1))
    with refused("(2,)"):
        optimizer.step(np.zeros(3))
    assert (called, optimizer.updates) == ([], 0)


@pytest.mark.parametrize("kind", [MomentumSGD, Adam])
def test_after_each_update_no_column_is_longer_than_its_limit(xp, kind):
    """As the paper's TFD networks have it: every W of Linear and Maxout, and neither b nor the optimiser's state."""
    net, free = discriminator(xp=xp), discriminator(xp=xp)
    weights = [layer.W for layer in net.layers if isinstance(layer, Linear)]
    assert len(weights) == 3
    limited = kind(net.theta, 0.5, after=lambda: [max_column_norm(W, 0.4) for W in weights])
    unlimited = kind(free.theta, 0.5)
    grad = xp.asarray(np.random.default_rng(0).standard_normal(net.theta.shape))
    with no_transfers():
        limited.step(grad)
    unlimited.step(grad)
    longest = [max(np.linalg.norm(host(layer.W), axis=0)) for layer in free.layers if isinstance(layer, Linear)]
    assert min(longest) > 0.4, "without it they would be"
    for name, value in net.parameters().items():
        kept = host(free.parameters()[name])
        if name.endswith("W"):
            n = np.linalg.norm(kept, axis=0)
            kept = kept * np.minimum(n, 0.4) / (1e-7 + n)
        np.testing.assert_allclose(host(value), kept, rtol=1e-12)
    assert bits(limited.state) == bits(unlimited.state)


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
    ("kind", "arguments", "facts"),
    [
        (MomentumSGD, (np.zeros((2, 2)), 0.1), ["(2, 2)"]),
        (MomentumSGD, (np.zeros(2), 0.0), ["learning rate", 0.0]),
        (MomentumSGD, (np.zeros(2), math.nan), ["learning rate", "nan"]),
        (MomentumSGD, (np.zeros(2), 0.1, 1.0), ["momentum", 1.0]),
        (MomentumSGD, (np.zeros(2), 0.1, -0.1), ["momentum", -0.1]),
        (MomentumSGD, (np.zeros(2), 0.1, math.nan), ["momentum", "nan"]),
        (Adam, (np.zeros((2, 2)), 0.1), ["(2, 2)"]),
        (Adam, (np.zeros(2), -0.1), ["learning rate", -0.1]),
        (Adam, (np.zeros(2), 0.1, 1.0), ["beta", 1.0]),
        (Adam, (np.zeros(2), 0.1, -0.5), ["beta", -0.5]),
        (Adam, (np.zeros(2), 0.1, 0.9, 1.0), ["beta", 1.0]),
        (Adam, (np.zeros(2), 0.1, 0.9, math.nan), ["beta", "nan"]),
        (Adam, (np.zeros(2), 0.1, 0.9, 0.999, 0.0), ["epsilon", 0.0]),
        (Adam, (np.zeros(2), 0.1, 0.9, 0.999, math.nan), ["epsilon", "nan"]),
    ],
)
def test_arguments_out_of_range_are_refused(kind, arguments, facts):
    with refused(*facts):
        kind(*arguments)


@pytest.mark.parametrize("grad", [np.zeros(3), np.zeros((2, 1)), np.zeros(2, np.float32)])
@every_optimizer
def test_a_gradient_that_is_not_like_theta_is_refused(make, grad):
    with refused("grad", "(2,)", "float64"):
        make(np.zeros(2)).step(grad)


def test_an_optimizer_of_ones_own_states_its_update_alone():
    class Sign(Optimizer):
        def update(self, grad, chunk):
            self.theta -= self.next_learning_rate * np.sign(grad)

    theta = np.zeros(2)
    optimizer = Sign(theta, lambda t: 1.0 / t)
    for _ in range(2):
        optimizer.step(np.array([3.0, -0.1]))
    assert theta.tolist() == [-1.5, 1.5]
    assert (optimizer.updates, optimizer.state) == (2, {})


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
    with refused("limit", limit):
        max_column_norm(np.ones((2, 2)), limit)
