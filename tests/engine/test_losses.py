"""The costs on the logit, by equation, against closed forms of Python's math module, on every backend."""

import math

import numpy as np
import pytest
from helpers import arrays, bits, numeric_gradient
from strict_cupy import host

from tinygan import (
    GENERATOR_COSTS,
    ArgumentError,
    DivergenceError,
    discriminator_loss,
    generator_loss,
    softplus,
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
    with pytest.raises(DivergenceError, match=f"not a finite {np.dtype(dtype)}, the largest logit is {a}"):
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
    with pytest.raises(ArgumentError, match=r"\(m, 1\)"):
        LOSSES[loss](np.zeros(shape))


def test_an_unknown_generator_cost_is_refused_with_the_known_ones():
    with pytest.raises(ArgumentError, match="'saturating': choose one of non_saturating, minimax, maximum_likelihood"):
        generator_loss(np.zeros((2, 1)), "saturating")
