"""How parameters start: the initialisers, the released code's own numbers, the bias from marginals."""

import math

import numpy as np
import pytest
from helpers import bits, refused

from tinygan import (
    AuthorsUniform,
    Constant,
    Dropout,
    Linear,
    Maxout,
    Network,
    ReLU,
    Sigmoid,
    Sparse,
    Uniform,
    authors_stream,
    bias_from_marginals,
)


def drawn(init, shape, dtype=np.float64, seed=0):
    out = np.full(shape, np.nan, dtype)
    init(np.random.default_rng(seed), out)
    return out


@pytest.mark.parametrize("init", [Uniform(0.05), Sparse(7), Constant(0.3)])
def test_float32_and_float64_start_from_the_same_numbers(init):
    assert bits(drawn(init, (20, 30), np.float32)) == bits(drawn(init, (20, 30)).astype(np.float32))


@pytest.mark.parametrize("init", [Uniform(0.05), Sparse(7)])
def test_the_generator_decides(init):
    assert bits(drawn(init, (20, 30))) == bits(drawn(init, (20, 30)))
    assert bits(drawn(init, (20, 30))) != bits(drawn(init, (20, 30), seed=1))


def test_uniform_has_the_range_and_the_moments():
    w = drawn(Uniform(0.05), (400, 500))
    n = w.size
    assert 0.0499 < abs(w).max() <= 0.05
    assert abs(w.mean()) < 5 * 0.05 / math.sqrt(3 * n)
    assert w.std() == pytest.approx(0.05 / math.sqrt(3), rel=0.01)
    assert len(np.unique(w)) == n


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (3, 1, 2)])
def test_uniform_fills_a_parameter_of_any_shape(shape):
    n = math.prod(shape)
    assert bits(drawn(Uniform(1), shape).reshape(n)) == bits(np.random.default_rng(0).uniform(-1, 1, n))


def test_uniform_of_radius_0_is_0():
    assert not drawn(Uniform(0), (3, 4)).any()


def test_sparse_gives_each_output_unit_n_normal_weights():
    w = drawn(Sparse(100), (1000, 300))
    used = w != 0
    assert (used.sum(axis=0) == 100).all()
    assert abs(w[used].mean()) < 5 / math.sqrt(30_000)
    assert w[used].std() == pytest.approx(1, rel=0.02)
    expected, deviation = 30.0, math.sqrt(300 * 0.1 * 0.9)
    assert (abs(used.sum(axis=1) - expected) < 6 * deviation).all(), "every input is as likely as any other"


def test_constant_is_a_number_or_an_array():
    assert drawn(Constant(-2), (3,)).tolist() == [-2, -2, -2]
    assert drawn(Constant([1, 2, 3]), (3,)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda: Uniform(-0.1), ["Uniform", "radius", "-0.1"]),
        (lambda: Uniform(math.nan), ["Uniform", "radius", "nan"]),
        (lambda: Sparse(0), ["Sparse", "1", "0"]),
        (lambda: drawn(Sparse(21), (20, 3)), ["Sparse(21)", "20"]),
        (lambda: drawn(Sparse(2), (20,)), ["Sparse", "(20,)"]),
        (lambda: drawn(AuthorsUniform(0.05, authors_stream()), (20,)), ["AuthorsUniform", "(20,)"]),
        (lambda: drawn(Constant([1, 2]), (3,)), ["(2,)", "(3,)"]),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, facts):
    with refused(*facts):
        make()


# ---------------------------------------------------------------------------------------------------------------------
# The released code's own numbers
# ---------------------------------------------------------------------------------------------------------------------


def authors_networks():
    stream = authors_stream()
    weights = [AuthorsUniform(0.05, stream) for _ in range(3)]
    G = [Linear(100, 1200, weight=weights[0]), ReLU(), Linear(1200, 1200, weight=weights[1]), ReLU()]
    G += [Linear(1200, 784, weight=weights[2]), Sigmoid()]
    stream = authors_stream()
    weights = [AuthorsUniform(0.005, stream, pieces) for pieces in (5, 5, 1)]
    D = [Dropout(0.8), Maxout(784, 240, 5, weight=weights[0]), Dropout(0.5), Maxout(240, 240, 5, weight=weights[1])]
    D += [Dropout(0.5), Linear(240, 1, weight=weights[2])]
    return Network(G), Network(D)


def test_authors_golden_values():
    """The first weights to 8 digits and the sums to 6, derived from the released code's random streams."""
    G, D = authors_networks()
    assert (G.theta.size, D.theta.size) == (2_503_984, 1_231_441)
    G, D = G.parameters(), D.parameters()
    assert [f"{w:.8f}" for w in G["0.W"][0, :3]] == ["0.01252568", "-0.01159974", "0.04597336"]
    # In the released code columns 0, 1, 2 are the pieces 0, 1, 2 of unit 0; here these are columns 0, 240, 480.
    assert [f"{w:.8f}" for w in D["1.W"][0, [0, 240, 480]]] == ["0.00125257", "-0.00115997", "0.00459734"]
    sums = [f"{W.sum(dtype=np.float64):.6f}" for W in (G["0.W"], G["2.W"], G["4.W"], D["1.W"], D["3.W"], D["5.W"])]
    assert sums == ["2.158884", "60.967881", "43.789997", "3.120632", "-1.490710", "0.022919"]


def test_authors_maxout_is_permuted_as_a_whole():
    """z = xW + b with the released code's unit-major columns, unit j the largest of columns j·p … j·p + p − 1."""
    n_in, n_out, p, r = 7, 4, 3, 0.5
    unit_major = np.random.RandomState([2013, 1, 4]).uniform(-r, r, (n_in, n_out * p))
    layer = Maxout(n_in, n_out, p, weight=AuthorsUniform(r, authors_stream(), pieces=p))
    x = np.random.default_rng(0).standard_normal((6, n_in))
    expected = (x @ unit_major).reshape(6, n_out, p).max(axis=2)
    np.testing.assert_allclose(Network([layer], dtype=np.float64)(x), expected, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The bias from marginals
# ---------------------------------------------------------------------------------------------------------------------


def test_bias_from_marginals_is_the_logit_of_the_clipped_mean():
    """b = log(p/(1 − p)); a pixel that is always 0 starts at −16.118, one that is always 1 at +16.118."""
    images = np.array([[0, 255, 51, 255], [0, 255, 51, 0], [0, 255, 51, 0]], np.uint8)
    b = bias_from_marginals(images)
    assert b.dtype == np.float64
    assert b.tolist() == pytest.approx([-16.118095550958, 16.118095550958, math.log(0.25), math.log(0.5)], rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_from_marginals_takes_floats_in_0_to_1_too(dtype):
    images = np.random.default_rng(0).integers(0, 256, (50, 7), np.uint8)
    images[0, :2] = 0, 255
    got = bias_from_marginals((images / 255).astype(dtype))
    np.testing.assert_allclose(got, bias_from_marginals(images), atol=4 * np.finfo(dtype).eps)


def test_a_generator_with_this_bias_starts_at_the_mean_image():
    images = np.random.default_rng(0).integers(0, 256, (50, 7), np.uint8)
    images[0, :2] = 0, 255
    G = Network([Linear(3, 7, weight=Uniform(0), bias=bias_from_marginals(images)), Sigmoid()], dtype=np.float64)
    np.testing.assert_allclose(G(np.ones((1, 3)))[0], images.mean(axis=0) / 255, rtol=1e-12)


@pytest.mark.parametrize(
    "images",
    [
        np.array([[0, 254]], np.uint8),
        np.array([[1, 255]], np.uint8),
        np.array([[-1.0, 1.0]]),
        np.array([[0.0, 255.0]]),
        np.array([[0.0, np.nan]]),
    ],
)
def test_bias_from_marginals_needs_data_that_span_the_range(images):
    with refused("minimum", "maximum", images.min(), images.max()):
        bias_from_marginals(images)


@pytest.mark.parametrize("images", [np.array([[51, 204], [153, 204]], np.uint8), np.array([[0.2, 0.8], [0.6, 0.8]])])
def test_bias_from_marginals_takes_a_part_of_the_range_where_it_is_told_to(images):
    assert bias_from_marginals(images, any_range=True).tolist() == pytest.approx([math.log(0.4 / 0.6), math.log(0.8 / 0.2)])
    for outside in np.array([[-1.0, 1.0]]), np.array([[0.0, 255.0]]), np.array([[0.0, np.nan]]):
        with refused("minimum", "maximum", outside.min(), outside.max()):
            bias_from_marginals(outside, any_range=True)


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 2, 2)])
def test_bias_from_marginals_needs_a_matrix_of_images(shape):
    with refused("(n, d)", shape):
        bias_from_marginals(np.zeros(shape))
