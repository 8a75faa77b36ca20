"""Each layer: its equation, its derivative at the kinks, and the protocol that all of them keep, on every backend."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import LAYERS, SameDraws, arrays, bits, refused
from strict_cupy import host

from tinygan import (
    Constant,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    Maxout,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
    random_generator,
)
from tinygan.backend import random_uint16


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=LAYERS)
def case(request, xp, dtype):
    """A layer of each kind, two inputs, an upstream gradient, and gradients that start as rubbish."""
    layer = LAYERS[request.param]()
    Network([layer], dtype=dtype, xp=xp)
    rng = np.random.default_rng(0)
    x, other_x = (xp.asarray(rng.standard_normal((5, 4)).astype(dtype)) for _ in range(2))
    dy = xp.asarray(rng.standard_normal(layer.forward(x)[0].shape).astype(dtype))
    grads = {key: xp.full_like(value, math.nan) for key, value in layer.params.items()}

    def forward(x=x, seed=0):
        return layer.forward(x, True, SameDraws(xp, seed))

    return SimpleNamespace(name=request.param, layer=layer, x=x, other_x=other_x, dy=dy, grads=grads, forward=forward)


def with_parameters(layer, dtype=np.float64, xp=np, **params):
    """The layer, with the parameters given."""
    Network([layer], dtype=dtype, xp=xp)
    for key, value in params.items():
        layer.params[key][...] = value
    return layer


# ---------------------------------------------------------------------------------------------------------------------
# The protocol
# ---------------------------------------------------------------------------------------------------------------------


def test_dtype_in_is_dtype_out(case, dtype):
    y, cache = case.forward()
    dx = case.layer.backward(case.dy, cache, case.grads)
    assert {a.dtype for a in arrays([y, cache, dx, case.grads])} == {dtype}
    assert dx.shape == case.x.shape


def test_nothing_is_mutated(case):
    held = [case.x, case.layer.params, case.layer.statistics]
    before = bits(held)
    _, cache = case.forward()
    assert bits(held) == before
    held += [case.dy, cache]
    before = bits(held)
    case.layer.backward(case.dy, cache, case.grads)
    assert bits(held) == before


def test_nothing_is_aliased(case):
    """What forward and backward returned is never used again as a workspace."""
    y, cache = case.forward()
    dx = case.layer.backward(case.dy, cache)
    before = bits([y, cache, dx])
    _, other_cache = case.forward(case.other_x, seed=1)
    case.layer.backward(case.dy * 3, other_cache, case.grads)
    assert bits([y, cache, dx]) == before


def test_several_forwards_are_alive_at_once(case):
    def backward_after(between):
        _, cache = case.forward()
        between()
        return bits([case.layer.backward(case.dy, cache, case.grads), case.grads])

    assert backward_after(lambda: None) == backward_after(lambda: case.forward(case.other_x, seed=1))


def test_grads_are_overwritten_not_accumulated(case):
    _, cache = case.forward()
    case.layer.backward(case.dy, cache, case.grads)
    first = bits(case.grads)
    case.layer.backward(case.dy, cache, case.grads)
    assert bits(case.grads) == first
    assert all(np.isfinite(host(grad)).all() for grad in case.grads.values())


def test_without_grads_dx_is_the_same(case):
    _, cache = case.forward()
    assert bits(case.layer.backward(case.dy, cache)) == bits(case.layer.backward(case.dy, cache, case.grads))


def test_need_dx_false_returns_none_and_the_same_grads(case):
    _, cache = case.forward()
    case.layer.backward(case.dy, cache, case.grads)
    before = bits(case.grads)
    assert case.layer.backward(case.dy, cache, case.grads, need_dx=False) is None
    assert bits(case.grads) == before


def test_the_layer_keeps_nothing(case):
    before = dict(vars(case.layer))
    _, cache = case.forward()
    case.layer.backward(case.dy, cache, case.grads)
    assert vars(case.layer) == before


def test_every_backend_computes_what_numpy_computes(case, dtype):
    layer = LAYERS[case.name]()
    Network([layer], dtype=dtype)
    grads = {key: np.empty_like(value) for key, value in layer.params.items()}
    y, cache = case.forward()
    numpy_y, numpy_cache = layer.forward(host(case.x), True, SameDraws(np))
    dx = case.layer.backward(case.dy, cache, case.grads)
    numpy_dx = layer.backward(host(case.dy), numpy_cache, grads)
    for got, expected in zip(arrays([y, dx, case.grads]), arrays([numpy_y, numpy_dx, grads]), strict=True):
        np.testing.assert_allclose(host(got), expected, rtol=20 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


# ---------------------------------------------------------------------------------------------------------------------
# Linear and Maxout
# ---------------------------------------------------------------------------------------------------------------------


def test_linear_y_is_xW_plus_b(xp):
    layer = with_parameters(Linear(2, 3), xp=xp, W=xp.asarray([[1.0, 2, 3], [4, 5, 6]]), b=xp.asarray([0.5, 0, -0.5]))
    x, dy = xp.asarray([[1.0, 1], [2, 0]]), xp.asarray([[1.0, 0, 0], [0, 1, 2]])
    y, cache = layer.forward(x)
    assert host(y).tolist() == [[5.5, 7, 8.5], [2.5, 4, 5.5]]
    grads = {key: xp.empty_like(value) for key, value in layer.params.items()}
    assert host(layer.backward(dy, cache, grads)).tolist() == [[1, 4], [8, 17]]
    assert host(grads["W"]).tolist() == [[1, 2, 4], [1, 0, 0]]
    assert host(grads["b"]).tolist() == [1, 1, 2]


def test_maxout_is_the_largest_of_its_affine_pieces(xp):
    """Column i·n_out + j is piece i of unit j."""
    m, n_in, n_out, p = 6, 3, 4, 5
    rng = np.random.default_rng(0)
    x, W, b = rng.standard_normal((m, n_in)), rng.standard_normal((n_in, p * n_out)), rng.standard_normal(p * n_out)
    layer = with_parameters(Maxout(n_in, n_out, p), xp=xp, W=xp.asarray(W), b=xp.asarray(b))
    expected = [[max(x[r] @ W[:, i * n_out + j] + b[i * n_out + j] for i in range(p)) for j in range(n_out)] for r in range(m)]
    np.testing.assert_allclose(host(layer.forward(xp.asarray(x))[0]), expected, rtol=1e-13)


@pytest.mark.parametrize("tied", [[0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_maxout_tie_pieces_add_up_to_dy(xp, tied):
    """Σᵢ ∂L/∂zᵢⱼ = dyⱼ, also where several pieces are the largest; ∂L/∂b is the sum of ∂L/∂z."""
    b = np.zeros((3, 2))
    b[tied] = 1.0
    layer = with_parameters(Maxout(1, 2, 3), xp=xp, W=0.0, b=xp.asarray(b.ravel()))
    dy = xp.asarray([[0.7, -0.3]])
    y, cache = layer.forward(xp.zeros((1, 1)))
    grads = {key: xp.empty_like(value) for key, value in layer.params.items()}
    layer.backward(dy, cache, grads)
    dz = host(grads["b"]).reshape(3, 2)
    assert host(y).tolist() == [[1, 1]]
    assert dz.sum(axis=0).tolist() == [0.7, -0.3]
    assert dz[tied[0]].tolist() == [0.7, -0.3], "the first of the largest takes dy whole"


def test_maxout_of_one_piece_is_linear(xp):
    x = xp.asarray(np.random.default_rng(0).standard_normal((5, 4)))
    one_piece, linear = (Network([layer], dtype=np.float64, xp=xp) for layer in (Maxout(4, 3, 1), Linear(4, 3)))
    assert bits(one_piece(x)) == bits(linear(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [Linear, Maxout])
def test_without_a_bias_it_is_the_layer_whose_bias_is_0(xp, kind, dtype):
    sizes = (4, 3) if kind is Linear else (4, 3, 2)
    without, zero = (Network([kind(*sizes, bias=bias)], seed=3, dtype=dtype, xp=xp) for bias in (None, 0.0))
    assert list(without.parameters()) == ["0.W"]
    assert bits(without.theta) == bits(zero.parameters()["0.W"].ravel())
    x = xp.asarray(np.random.default_rng(0).standard_normal((5, 4)).astype(dtype))
    results = []
    for net in without, zero:
        y, cache = net.forward(x)
        grad = xp.full_like(net.theta, math.nan)
        dx = net.backward(y, cache, grad)
        results.append(bits([y, dx, net.views(grad)["0.W"]]))
    assert results[0] == results[1]
    with pytest.raises(AttributeError, match="b"):
        _ = without.layers[0].b


@pytest.mark.parametrize("kind", [Linear, Maxout])
def test_a_bias_starts_at_a_number_or_at_an_array(kind):
    sizes, n = ((4, 3), 3) if kind is Linear else ((4, 3, 2), 6)
    for bias, start in (0.25, [0.25] * n), (np.arange(n), np.arange(n).tolist()), (list(range(n)), list(range(n))):
        assert Network([kind(*sizes, bias=bias)]).parameters()["0.b"].tolist() == start


def test_a_maxout_is_a_linear_with_p_columns_for_each_unit():
    """So whatever is said of Linear's W, a max column norm for example, holds for each of a Maxout's pieces."""
    assert isinstance(Maxout(4, 3, 2), Linear)
    assert {name: shape for name, (shape, _) in Maxout(4, 3, 2).declarations.items()} == {"W": (4, 6), "b": (6,)}


# ---------------------------------------------------------------------------------------------------------------------
# ReLU, LeakyReLU, Tanh and Sigmoid
# ---------------------------------------------------------------------------------------------------------------------


def test_relu_is_max_of_x_and_0_and_its_derivative_at_0_is_0(xp):
    y, cache = ReLU().forward(xp.asarray([[-2.0, -0.0, 0.0, 1e-300, 3.0]]))
    assert host(y).tolist() == [[0, 0, 0, 1e-300, 3]]
    assert host(ReLU().backward(xp.full((1, 5), 7.0), cache)).tolist() == [[0, 0, 0, 7, 7]]


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2, 0.99])
def test_leaky_relu_is_x_or_slope_times_x_and_its_derivative_at_0_is_the_slope(xp, dtype, slope):
    x = np.array([[-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0]], dtype)
    s = dtype.type(slope)
    y, cache = LeakyReLU(slope).forward(xp.asarray(x))
    dx = LeakyReLU(slope).backward(xp.full((1, 6), 7.0, dtype), cache)
    assert host(y).tolist() == np.where(x > 0, x, s * x).tolist()
    assert host(dx).tolist() == [[7 * s, 7 * s, 7 * s, 7 * s, 7, 7]]
    assert LeakyReLU().slope == 0.2


@pytest.mark.parametrize("slope", [-0.1, 1.0, 2, math.nan])
def test_leaky_relu_refuses_a_slope_outside_0_to_1(slope):
    with refused("LeakyReLU", "slope", slope):
        LeakyReLU(slope)


@pytest.mark.parametrize("x", [-350, -100, -20, -3, -1e-3, -1e-9, 0, 1e-9, 1e-3, 0.5, 3, 20, 100, 350])
def test_tanh_is_exact_on_both_sides(xp, x):
    """tanh′(x) = 1/cosh²(x): at x = 20, where 1 − tanh²(x) rounds to 0, it is 1.7·10⁻¹⁷."""
    y, cache = Tanh().forward(xp.asarray([[float(x)]]))
    dx = Tanh().backward(xp.asarray([[2.0]]), cache)
    assert float(host(y)[0, 0]) == pytest.approx(math.tanh(x), rel=1e-14, abs=0)
    assert float(host(dx)[0, 0]) == pytest.approx(2 / math.cosh(x) ** 2, rel=1e-13, abs=0)


def test_tanh_in_float32_has_a_derivative_far_out(xp):
    _, cache = Tanh().forward(xp.asarray([[-40.0, 40.0]]).astype(np.float32))
    dx = Tanh().backward(xp.ones((1, 2), np.float32), cache)
    assert host(dx)[0].tolist() == pytest.approx([1 / math.cosh(40) ** 2] * 2, rel=1e-5, abs=0)


@pytest.mark.parametrize("x", [-1e4, 1e4])
def test_tanh_far_out_is_1_without_a_warning(xp, dtype, x):
    y, cache = Tanh().forward(xp.asarray([[x]]).astype(dtype))
    assert host(y).tolist() == [[math.copysign(1, x)]]
    assert host(Tanh().backward(xp.ones_like(y), cache)).tolist() == [[0]]


@pytest.mark.parametrize("layer", [LeakyReLU(np.float64(0.2)), Dropout(np.float64(0.5))])
def test_a_numpy_scalar_as_slope_or_keep_promotes_nothing(xp, layer):
    y, cache = layer.forward(xp.asarray([[1.0, -1.0]]).astype(np.float32), True, SameDraws(xp))
    assert {a.dtype for a in arrays([y, cache, layer.backward(y, cache)])} == {np.dtype(np.float32)}


@pytest.mark.parametrize("x", [-700, -100, -40, -1, 0, 1, 40, 100, 700])
def test_sigmoid_is_exact_on_both_sides(xp, x):
    """σ(x) = 1/(1 + e⁻ˣ), σ′(x) = e^−|x|/(1 + e^−|x|)²: no overflow, and no derivative of 0 at x = 40."""
    e = math.exp(-abs(x))
    y, cache = Sigmoid().forward(xp.asarray([[float(x)]]))
    dx = Sigmoid().backward(xp.asarray([[2.0]]), cache)
    assert float(host(y)[0, 0]) == pytest.approx(1 / (1 + e) if x >= 0 else e / (1 + e), rel=1e-14)
    assert float(host(dx)[0, 0]) == pytest.approx(2 * e / (1 + e) ** 2, rel=1e-14)


@pytest.mark.parametrize("x", [-1000.0, 1000.0])
def test_sigmoid_far_out_is_0_or_1_without_a_warning(xp, dtype, x):
    y, cache = Sigmoid().forward(xp.asarray([[x]]).astype(dtype))
    assert host(y).tolist() == [[float(x > 0)]]
    assert host(Sigmoid().backward(xp.ones_like(y), cache)).tolist() == [[0]]


# ---------------------------------------------------------------------------------------------------------------------
# Dropout and Reshape
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.8, 0.5, 0.1, 2**-16])
def test_dropout_mask_is_0_or_one_over_the_realised_probability(xp, dtype, keep):
    realised = round(keep * 2**16) / 2**16
    x = xp.ones((100, 1000), dtype)
    y, mask = Dropout(keep).forward(x, True, random_generator(xp, 0))
    assert set(np.unique(host(mask))) <= {0, dtype.type(1 / realised)}
    assert bits(y) == bits(mask), "y = x · mask with x = 1"
    share, deviation = (host(mask) > 0).mean(), math.sqrt(realised * (1 - realised) / x.size)
    assert abs(share - realised) < 5 * deviation, "so the mean of y is that of x"


def test_dropout_keeps_where_16_random_bits_are_below_the_threshold(xp, monkeypatch):
    """P(kept) is the realised probability exactly: t = round(2¹⁶ keep) of the 2¹⁶ equally likely draws are kept."""
    every_draw = xp.asarray(np.arange(2**16, dtype=np.uint16))
    monkeypatch.setattr("tinygan.layers.random_uint16", lambda rng, shape: every_draw.reshape(shape))
    x = xp.ones((1, 2**16))
    y, _ = Dropout(0.3).forward(x, True, random_generator(xp, 0))
    assert int((host(y) > 0).sum()) == round(0.3 * 2**16)
    assert float(host(y).mean()) == pytest.approx(1, rel=1e-12)


def test_dropout_uses_both_halves_of_each_draw(xp):
    draws = random_uint16(random_generator(xp, 0), (301, 333))
    assert draws.shape == (301, 333)
    assert draws.dtype == np.uint16
    values = host(draws).ravel().astype(np.float64) / 2**16
    assert abs(values[::2].mean() - 0.5) < 0.01
    assert abs(values[1::2].mean() - 0.5) < 0.01
    assert abs(np.corrcoef(values[:-1:2], values[1::2])[0, 1]) < 0.02


def test_dropout_backward_is_dy_times_the_mask(xp):
    x = xp.asarray(np.random.default_rng(0).standard_normal((20, 30)))
    _, mask = Dropout(0.5).forward(x, True, random_generator(xp, 0))
    dx = Dropout(0.5).backward(xp.full_like(x, 3.0), mask)
    assert bits(dx) == bits(mask * 3.0)
    assert set(np.unique(host(dx))) == {0, 6}


def test_dropout_is_the_identity_outside_training_and_with_keep_1(xp):
    x = xp.asarray([[1.0, -2.0]])
    for layer, train in [(Dropout(0.5), False), (Dropout(1), True), (Dropout(1.0), True)]:
        y, cache = layer.forward(x, train)
        assert bits(y) == bits(x)
        assert bits(layer.backward(x, cache)) == bits(x)


def test_dropout_without_an_rng_raises(xp):
    with refused("Dropout", "train=True", "rng"):
        Dropout(0.5).forward(xp.ones((2, 2)), train=True)


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, math.nan, 2**-18])
def test_dropout_refuses_what_is_no_probability_of_keeping(keep):
    with refused("Dropout", "keep", keep):
        Dropout(keep)


def test_reshape_keeps_the_numbers_in_c_order(xp):
    x = xp.asarray(np.arange(24.0).reshape(2, 12))
    y, cache = Reshape((2, 3, 2)).forward(x)
    assert host(y).tolist() == np.arange(24.0).reshape(2, 2, 3, 2).tolist()
    assert bits(Reshape((2, 3, 2)).backward(y, cache)) == bits(x)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, with a message that names it
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 2, 4), ()])
@pytest.mark.parametrize("layer", [Linear(4, 3), Linear(4, 3, bias=None), Maxout(4, 3, 2)], ids=repr)
def test_a_wrong_input_shape_names_the_layer_and_both_shapes(layer, shape):
    with refused(repr(layer), "(m, 4)", shape):
        layer.forward(np.zeros(shape))


@pytest.mark.parametrize("shape", [(5, 7), (5,), (5, 2, 2)])
def test_reshape_refuses_another_number_of_values(shape):
    with refused("Reshape((2, 3))", shape):
        Reshape((2, 3)).forward(np.zeros(shape))


NO_SIZES = [
    (lambda n: Linear(n, 3), "n_in"),
    (lambda n: Linear(3, n), "n_out"),
    (lambda n: Maxout(n, 3, 2), "n_in"),
    (lambda n: Maxout(3, n, 2), "n_out"),
    (lambda n: Maxout(3, 3, n), "pieces"),
    (lambda n: Reshape((3, n)), "shape"),
]


@pytest.mark.parametrize("n", [0, -1, 2.0, 2.5, math.nan, "3", None])
@pytest.mark.parametrize(("make", "name"), NO_SIZES)
def test_a_size_that_is_no_number_from_1_up_is_refused_by_name(make, name, n):
    with refused(name, "at least 1", n):
        make(n)


def test_numpys_integers_are_sizes_and_become_pythons():
    """np.prod(image_shape), for one; JSON knows Python's integers alone."""
    for layer in Linear(np.int64(4), np.prod((2, 3))), Maxout(np.int64(4), np.int32(3), np.uint8(2)), Reshape(np.array([2, 3])):
        sizes = [x for value in layer.config().values() for x in (value if isinstance(value, list) else [value])]
        assert {type(size) for size in sizes} == {int}


def test_a_layer_outside_a_network_says_where_parameters_come_from():
    with refused("Linear(4, 3)", "W", "Network"):
        Linear(4, 3).forward(np.zeros((2, 4)))
    with pytest.raises(AttributeError, match="Linear.*'V'"):
        _ = Linear(4, 3).V


def test_a_layer_of_your_own_needs_its_declarations_and_two_methods(xp):
    class Scale(Layer):
        """y = s x"""

        def __init__(self, n):
            self.declarations = {"s": ((n,), Constant(2.0))}

        def forward(self, x, train=False, rng=None):
            return x * self.s, x

        def backward(self, dy, cache, grads=None, need_dx=True):
            if grads is not None:
                grads["s"][...] = (dy * cache).sum(axis=0)
            return dy * self.s if need_dx else None

    net = Network([Scale(2)], dtype=np.float64, xp=xp)
    y, cache = net.forward(xp.asarray([[1.0, 2.0], [3.0, 4.0]]))
    grad = xp.empty_like(net.theta)
    dx = net.backward(xp.ones_like(y), cache, grad)
    net.observe(cache)  # there is nothing to observe, and nothing to define
    assert [host(a).tolist() for a in (y, grad, dx)] == [[[2, 4], [6, 8]], [4, 6], [[2, 2], [2, 2]]]
    assert (net.statistics.shape, net.mixes_rows, net.layers[0].mixes_rows) == ((0,), False, False)
