"""The costs by equation, against closed forms of Python's math module, on every backend."""

import math

import numpy as np
import pytest
from helpers import arrays, bits, numeric_gradient, refused
from strict_cupy import host, no_transfers

from tinygan import (
    GENERATOR_COSTS,
    DivergenceError,
    bernoulli_cross_entropy,
    discriminator_loss,
    generator_loss,
    softmax_cross_entropy,
    softplus,
    squared_error,
    value_function,
)

SIZES = [0.0, 1e-3, 1.0, 20.0, 40.0, 88.0, 100.0]
LOGITS = [s * a for a in SIZES for s in (1, -1)]


def log1pexp(a):
    """log(1 + eᵃ) in Python's floats."""
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))


def D(a):
    """D(x) = σ(a) in Python's floats."""
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def column(xp, values, dtype=np.float64):
    return xp.asarray(np.array(values, dtype).reshape(-1, 1))


def near(x, dtype):
    """x to the precision of the dtype; e^−100 is no normal float32, so the smallest of those is the floor."""
    info = np.finfo(dtype)
    return pytest.approx(x, rel=8 * float(info.eps), abs=4 * float(info.smallest_subnormal))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


# ---------------------------------------------------------------------------------------------------------------------
# Equations
# ---------------------------------------------------------------------------------------------------------------------


def test_equation_1_the_value_function(xp):
    """Eq. 1: V(D, G) = E_x[log D(x)] + E_z[log(1 − D(G(z)))], means over batches that need not be of one size."""
    a_real, a_fake = [0.3, -1.2, 2.5], [-0.7, 1.9]
    V = sum(math.log(D(a)) for a in a_real) / 3 + sum(math.log(1 - D(a)) for a in a_fake) / 2
    assert float(host(value_function(column(xp, a_real), column(xp, a_fake)))) == pytest.approx(V, rel=1e-14)


def test_v_is_minus_log_4_where_D_is_one_half(xp, dtype):
    half = column(xp, [0.0] * 7, dtype)
    assert float(host(value_function(half, half))) == near(-math.log(4), dtype)


def test_v_is_0_where_D_is_right_and_never_above(xp, dtype):
    right = column(xp, [100.0], dtype)
    V = float(host(value_function(right, -right)))
    assert V == near(-2 * log1pexp(-100), dtype)
    assert V <= 0


def test_lecture_notes_discriminator_cost_is_minus_half_v(xp, dtype):
    a_real, a_fake = column(xp, LOGITS, dtype), column(xp, LOGITS[::-1], dtype) * 0.7
    J, da_real, da_fake = discriminator_loss(a_real, a_fake)
    assert float(host(J)) == near(-0.5 * float(host(value_function(a_real, a_fake))), dtype)
    for a, da in zip(host(a_real)[:, 0].tolist(), host(da_real)[:, 0].tolist(), strict=True):
        assert da == near(-0.5 * D(-a) / len(LOGITS), dtype), "∂J/∂a_real = −½(1 − D(x))/m"
    for a, da in zip(host(a_fake)[:, 0].tolist(), host(da_fake)[:, 0].tolist(), strict=True):
        assert da == near(0.5 * D(a) / len(LOGITS), dtype), "∂J/∂a_fake = ½ D(G(z))/m"


@pytest.mark.parametrize("a", LOGITS)
def test_softplus_is_log_of_1_plus_exp(xp, dtype, a):
    assert float(host(softplus(column(xp, [a], dtype)))[0, 0]) == near(log1pexp(dtype.type(a)), dtype)


GENERATOR = {
    "minimax": (lambda a: -log1pexp(a), lambda a: -D(a)),
    "non_saturating": (lambda a: log1pexp(-a), lambda a: -D(-a)),
    "maximum_likelihood": (lambda a: -math.exp(a), lambda a: -math.exp(a)),
}


@pytest.mark.parametrize("a", [a for a in LOGITS if a != 100])
@pytest.mark.parametrize("kind", GENERATOR)
def test_generator_cost_and_gradient(xp, dtype, kind, a):
    """minimax: log(1 − D), −D;  non-saturating: −log D, −(1 − D);  maximum likelihood: −eᵃ, −eᵃ."""
    loss, da = generator_loss(column(xp, [a], dtype), kind)
    cost, gradient = (f(float(dtype.type(a))) for f in GENERATOR[kind])
    assert float(host(loss)) == near(cost, dtype)
    assert float(host(da)[0, 0]) == near(gradient, dtype)


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
def test_generator_cost_at_a_logit_of_100(xp, dtype, kind):
    for a in (100.0, -100.0):
        loss, da = generator_loss(column(xp, [a], dtype), kind)
        cost, gradient = (f(a) for f in GENERATOR[kind])
        assert float(host(loss)) == near(cost, dtype)
        assert float(host(da)[0, 0]) == near(gradient, dtype)


def test_generator_cost_is_a_mean_over_the_minibatch(xp):
    a = [-1.0, 0.5, 2.0]
    for kind, (cost, gradient) in GENERATOR.items():
        loss, da = generator_loss(column(xp, a), kind)
        assert float(host(loss)) == pytest.approx(sum(map(cost, a)) / 3, rel=1e-14)
        assert host(da)[:, 0].tolist() == pytest.approx([gradient(x) / 3 for x in a], rel=1e-14)


def test_section_3_non_saturating_is_strong_where_minimax_saturates(xp):
    """Early in training D rejects samples with confidence, a = −10: the one gradient is 22,026 times the other."""
    a = column(xp, [-10.0])
    strong, weak = (float(host(generator_loss(a, kind)[1])[0, 0]) for kind in ("non_saturating", "minimax"))
    assert strong / weak == pytest.approx(math.exp(10), rel=1e-12)
    same_fixed_point = [float(host(generator_loss(a * 0, kind)[1])[0, 0]) for kind in ("non_saturating", "minimax")]
    assert same_fixed_point == [-0.5, -0.5]


def test_the_default_generator_cost_is_non_saturating(xp):
    a = column(xp, [0.3])
    assert bits(generator_loss(a)) == bits(generator_loss(a, "non_saturating"))


# ---------------------------------------------------------------------------------------------------------------------
# Costs for other models: means over rows of sums over a row
# ---------------------------------------------------------------------------------------------------------------------


def test_softmax_cross_entropy_by_hand(xp, dtype):
    """p = (¼, ¾) and (½, ½); the labels have −log ¾ and −log ½."""
    logits = xp.asarray(np.array([[0, math.log(3)], [5, 5]], dtype))
    loss, dlogits = softmax_cross_entropy(logits, xp.asarray(np.array([1, 0])))
    assert float(host(loss)) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2, rel=2e-6)
    np.testing.assert_allclose(host(dlogits), np.array([[0.25, -0.25], [-0.5, 0.5]]) / 2, rtol=2e-6)


def test_softmax_cross_entropy_of_equal_logits_is_log_n(xp, dtype):
    for level in (-100.0, 0.0, 1e4):
        loss, dlogits = softmax_cross_entropy(xp.full((3, 7), level, dtype), xp.asarray(np.array([0, 6, 3])))
        assert float(host(loss)) == pytest.approx(math.log(7), rel=1e-6)
        np.testing.assert_allclose(host(dlogits), (1 / 7 - np.eye(7)[[0, 6, 3]]) / 3, rtol=1e-6)


@pytest.mark.parametrize("size", [100.0, 1e4, 3e38])
def test_softmax_cross_entropy_at_extreme_logits(xp, dtype, size):
    """Right with confidence: a cost of 0. Wrong with confidence: the cost is the gap, and the gradient is whole."""
    logits = xp.asarray(np.array([[size, 0, 0]], dtype))
    right, dright = softmax_cross_entropy(logits, xp.asarray(np.array([0])))
    wrong, dwrong = softmax_cross_entropy(logits, xp.asarray(np.array([2])))
    assert (float(host(right)), float(host(wrong))) == (0, float(dtype.type(size)))
    assert abs(host(dright)).max() < 1e-40
    np.testing.assert_allclose(host(dwrong), [[1, 0, -1]], atol=1e-40)


@pytest.mark.parametrize("labels", [np.int8, np.uint8, np.int16, np.int64])
def test_softmax_cross_entropy_takes_labels_of_every_integer_type(xp, dtype, labels):
    logits = np.random.default_rng(0).standard_normal((4, 10)).astype(dtype)
    c = np.array([9, 0, 3, 9])
    expected = np.mean([math.log(sum(math.exp(a) for a in row)) - row[j] for row, j in zip(logits, c, strict=True)])
    loss, dlogits = softmax_cross_entropy(xp.asarray(logits), xp.asarray(c.astype(labels)))
    assert float(host(loss)) == pytest.approx(expected, rel=1e-6)
    assert dlogits.dtype == dtype


def test_squared_error_by_hand(xp, dtype):
    """There is no ½: L = (1² + 2² + 0² + 3²)/2 and 2(y − t)/m = y − t where m = 2."""
    y, t = xp.asarray(np.array([[1, 2], [3, 4]], dtype)), xp.asarray(np.array([[0, 4], [3, 1]], dtype))
    loss, dy = squared_error(y, t)
    assert float(host(loss)) == 7
    assert host(dy).tolist() == [[1, -2], [0, 3]]


def test_squared_error_of_images_sums_over_all_of_a_row(xp):
    y = xp.asarray(np.arange(24.0).reshape(2, 2, 3, 2))
    loss, dy = squared_error(y, xp.zeros((2, 2, 3, 2)))
    assert float(host(loss)) == sum(i * i for i in range(24)) / 2
    assert bits(dy) == bits(y)


def test_bernoulli_cross_entropy_by_hand(xp, dtype):
    """Sums over a row, a mean over rows; a target may be a grey level."""
    a = xp.asarray(np.array([[0, math.log(3)], [-math.log(3), 0]], dtype))
    x = xp.asarray(np.array([[1, 1], [1, 0.25]], dtype))
    loss, da = bernoulli_cross_entropy(a, x)
    by_row = [-math.log(0.5) - math.log(0.75), -math.log(0.25) - 0.25 * math.log(0.5) - 0.75 * math.log(0.5)]
    assert float(host(loss)) == pytest.approx(sum(by_row) / 2, rel=1e-6)
    np.testing.assert_allclose(host(da), np.array([[-0.5, -0.25], [-0.75, 0.25]]) / 2, rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("a", LOGITS)
def test_bernoulli_cross_entropy_at_extreme_logits(xp, dtype, a, x):
    """No clip: wrong with confidence it is the logit, and its gradient is whole; right with confidence it is 0 to rounding."""
    loss, da = bernoulli_cross_entropy(column(xp, [a], dtype), column(xp, [x], dtype))
    expected = x * log1pexp(-a) + (1 - x) * log1pexp(a)
    rounding = 2 * float(np.finfo(dtype).eps)
    assert float(host(loss)) == pytest.approx(expected, rel=rounding, abs=rounding * max(1, abs(a)))
    assert float(host(da)[0, 0]) == pytest.approx(D(a) - x, rel=8 * rounding, abs=rounding)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives, dtypes, and what a loss leaves alone
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_generator_gradient_is_that_of_the_cost(kind):
    a = np.random.default_rng(0).standard_normal((5, 1))
    _, da = generator_loss(a, kind)
    np.testing.assert_allclose(da, numeric_gradient(lambda: generator_loss(a, kind)[0], a), rtol=1e-6)


def test_discriminator_gradients_are_those_of_the_cost():
    """The batches need not be of one size."""
    rng = np.random.default_rng(0)
    a_real, a_fake = rng.standard_normal((5, 1)), rng.standard_normal((3, 1))
    _, da_real, da_fake = discriminator_loss(a_real, a_fake)

    def J():
        return discriminator_loss(a_real, a_fake)[0]

    np.testing.assert_allclose(da_real, numeric_gradient(J, a_real), rtol=1e-6)
    np.testing.assert_allclose(da_fake, numeric_gradient(J, a_fake), rtol=1e-6)


OF_A_TARGET = {
    "softmax_cross_entropy": (softmax_cross_entropy, np.array([1, 0, 2])),
    "squared_error": (squared_error, np.arange(12.0).reshape(3, 4) / 7),
    "bernoulli_cross_entropy": (bernoulli_cross_entropy, np.arange(12.0).reshape(3, 4) / 11),
}


def target_for(xp, name, dtype):
    """The loss and its target: labels stay integers."""
    loss, target = OF_A_TARGET[name]
    return loss, xp.asarray(target if target.dtype.kind == "i" else target.astype(dtype))


@pytest.mark.parametrize("name", OF_A_TARGET)
def test_gradients_of_the_costs_for_other_models_are_those_of_the_cost(name):
    loss, target = OF_A_TARGET[name]
    y = np.random.default_rng(0).standard_normal((3, 4))
    numeric = numeric_gradient(lambda: loss(y, target)[0], y)
    np.testing.assert_allclose(loss(y, target)[1], numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", OF_A_TARGET)
def test_costs_for_other_models_keep_the_dtype_and_leave_their_arguments_alone(xp, dtype, name):
    loss, target = target_for(xp, name, dtype)
    y = xp.asarray(np.random.default_rng(0).standard_normal((3, 4)).astype(dtype))
    before = bits([y, target])
    with no_transfers():
        results = loss(y, target)
    kept = bits(results)
    loss(y * 2, target)
    assert [(x.dtype, x.shape) for x in arrays(results)] == [(dtype, ()), (dtype, (3, 4))]
    assert bits([y, target]) == before
    assert bits(results) == kept


@pytest.mark.parametrize("name", OF_A_TARGET)
def test_every_backend_computes_numpys_costs(xp, dtype, name):
    y = np.random.default_rng(0).standard_normal((3, 4)).astype(dtype)
    (loss, target), (_, numpys) = target_for(xp, name, dtype), target_for(np, name, dtype)
    for got, expected in zip(loss(xp.asarray(y), target), loss(y, numpys), strict=True):
        np.testing.assert_allclose(host(got), expected, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


LOSSES = {
    "value_function": lambda a: [value_function(a, a)],
    "discriminator_loss": lambda a: discriminator_loss(a, a),
    **{kind: lambda a, kind=kind: generator_loss(a, kind) for kind in GENERATOR_COSTS},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_dtype_in_is_dtype_out_and_nothing_is_mutated_or_aliased(xp, dtype, loss):
    a = column(xp, [0.3, -1.5, 2.0], dtype)
    before = bits(a)
    results = LOSSES[loss](a)
    kept = bits(results)
    LOSSES[loss](a * 2)
    assert {x.dtype for x in arrays(results)} == {dtype}
    assert [x.shape for x in arrays(results)] == [(), (3, 1), (3, 1)][: len(results)]
    assert bits(a) == before
    assert bits(results) == kept


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "a"), [(np.float32, 89.0), (np.float64, 710.0), (np.float32, math.nan)])
def test_maximum_likelihood_that_leaves_the_numbers_is_a_divergence(dtype, a):
    with refused(np.dtype(dtype), a, "maximum likelihood", error=DivergenceError):
        generator_loss(column(np, [1.0, a], dtype), "maximum_likelihood")
    assert issubclass(DivergenceError, ArithmeticError)


def test_maximum_likelihood_does_not_wait_for_a_device(strict_xp, transfers):
    a = column(strict_xp, [1.0, 100.0], np.float32)
    transfers.reset()
    loss, _ = generator_loss(a, "maximum_likelihood")
    assert (transfers.to_host, transfers.to_device) == (0, 0)
    assert host(loss) == -math.inf


@pytest.mark.parametrize("shape", [(3,), (3, 2), (0, 1), (1, 3, 1), ()])
@pytest.mark.parametrize("loss", LOSSES)
def test_logits_of_another_shape_are_refused(loss, shape):
    with refused("(m, 1)", shape):
        LOSSES[loss](np.zeros(shape))


def test_an_unknown_generator_cost_is_refused_with_the_known_ones():
    with refused("'saturating'", *GENERATOR_COSTS):
        generator_loss(np.zeros((2, 1)), "saturating")


@pytest.mark.parametrize("loss", [squared_error, bernoulli_cross_entropy])
@pytest.mark.parametrize(
    ("y", "target"), [((3, 4), (3, 1)), ((3, 4), (4,)), ((3, 1), (3, 4)), ((3,), (3,)), ((0, 4), (0, 4)), ((), ())]
)
def test_targets_of_another_shape_are_refused_even_where_they_would_broadcast(xp, loss, y, target):
    with refused(y, target):
        loss(xp.zeros(y), xp.zeros(target))


@pytest.mark.parametrize("loss", [squared_error, bernoulli_cross_entropy])
@pytest.mark.parametrize("target", [np.uint8, np.float64, np.int64, bool])
def test_targets_of_another_dtype_are_refused_not_cast(xp, loss, target):
    """Bytes from 0 to 255 in the place of probabilities would train without complaint."""
    with refused("float32", np.dtype(target)):
        loss(xp.zeros((3, 4), np.float32), xp.ones((3, 4), target))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((3, 4), (4,)), ((3, 4), (3, 1)), ((3, 4), (3, 4)), ((3, 4), ()), ((3,), (3,)), ((3, 4, 1), (3,)), ((0, 4), (0,))],
)
def test_logits_and_labels_of_other_shapes_are_refused(xp, logits, labels):
    with refused("(m, n)", logits, labels):
        softmax_cross_entropy(xp.zeros(logits), xp.zeros(labels, np.int64))


@pytest.mark.parametrize("dtype", [np.float32, bool, np.complex64])
def test_labels_that_are_no_integers_are_refused(xp, dtype):
    with refused("integer", np.dtype(dtype)):
        softmax_cross_entropy(xp.zeros((3, 4)), xp.zeros(3, dtype))


@pytest.mark.parametrize("labels", [[0, 4, 1], [0, -1, 1]])
def test_labels_out_of_range_are_refused_on_the_host(labels):
    """−1 would name the last class in Python's way, and here none: the cost would be that of no label."""
    with refused(min(labels), max(labels), "0 … 3"):
        softmax_cross_entropy(np.zeros((3, 4)), np.array(labels))


def test_labels_out_of_range_do_not_wait_for_a_device(strict_xp):
    logits, labels = strict_xp.zeros((3, 4)), strict_xp.asarray(np.array([0, 4, 1]))
    with no_transfers():
        softmax_cross_entropy(logits, labels)
