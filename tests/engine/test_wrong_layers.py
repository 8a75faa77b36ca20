"""Seeded faults: layers and costs that are wrong in one way each. The checker rejects every one of them, and accepts its twin.

A case is one function of `wrong`: with True it makes the fault, with False the correct twin.
"""

from typing import NamedTuple

import numpy as np
import pytest
from helpers import Residual, refused

from tinygan import (
    ArgumentError,
    BatchNorm,
    Constant,
    Dropout,
    GradientError,
    Layer,
    Linear,
    Network,
    Sigmoid,
    Tanh,
    Uniform,
    check_gradient,
    check_layer,
)

pytestmark = [pytest.mark.gradcheck, pytest.mark.slow]  # the checker judges a hundred layers that are wrong on purpose

CASES = {}
"""By name: the function of `wrong`, the input, and the facts that one message names."""


def case(*facts, x=(5, 4)):
    def add(make):
        CASES[make.__name__] = make, x, facts
        return make

    return add


def variant(base, *arguments, **attributes):
    """A layer of this class, with other methods."""
    return type(f"My{base.__name__}", (base,), attributes)(*arguments)


class Elementwise(Layer):
    """y = f(x), dx = dy · slope(x)"""

    def __init__(self, f, slope):
        self.f, self.slope = f, slope

    def forward(self, x, train=False, rng=None):
        return self.f(x), x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * self.slope(cache) if need_dx else None


def affine(**methods):
    return variant(Linear, 4, 3, **methods)


def like(array, x):
    return np.asarray(array, x.dtype)


# ---- Hidden by rounding, or beside what is larger


@case("x[", "hidden by rounding", "UNDECIDABLE", "centre", "scale")
def an_offset_of_10_to_the_12_and_a_gradient_of_zero(wrong):
    return Elementwise(lambda x: x + (1e12 if wrong else 1e3), lambda x: (not wrong) * np.ones_like(x))


@case("x[", "hidden by rounding", "UNDECIDABLE", "centre", "scale")
def an_offset_of_10_to_the_10_and_the_right_gradient(wrong):
    return Elementwise(lambda x: x + (1e10 if wrong else 1e3), np.ones_like)


@case("x[", "backward 0, numeric")
def an_offset_of_10_to_the_10_and_a_gradient_of_zero(wrong):
    """The rounding leaves enough to see that 0 is wrong."""
    return Elementwise(lambda x: x + (1e10 if wrong else 10), lambda x: (not wrong) * np.ones_like(x))


@case("UNDECIDABLE", "centre")
def an_offset_that_leaves_nothing_of_x(wrong):
    return Elementwise(lambda x: x + 1e30 * wrong, np.ones_like)


@case("x[", "backward 0, numeric")
def an_offset_in_one_column_alone(wrong):
    offset, kept = [0, 1e10 if wrong else 1, 0, 0], [1, 0 if wrong else 1, 1, 1]
    return Elementwise(lambda x: x + like(offset, x), lambda x: np.ones_like(x) * like(kept, x))


@case("x[", "backward 0, numeric")
def outputs_of_10_to_the_160_and_no_gradient(wrong):
    return Elementwise(lambda x: x * 1e80 * 1e80, lambda x: (0 if wrong else 1) * np.ones_like(x) * 1e80 * 1e80)


@case("x[", "ratio 1.001,")
def a_column_is_off_beside_one_of_10_to_the_8(wrong):
    columns, off = [1, 1e8, 1, 1], [1.001 if wrong else 1, 1, 1, 1]
    return Elementwise(lambda x: x * like(columns, x), lambda x: np.ones_like(x) * like(columns, x) * like(off, x))


@case("x", "WRONG")
def a_column_is_off_where_a_larger_one_depends_on_the_same_x(wrong):
    matrix = np.linspace(-1, 1.5, 16).reshape(4, 4) * [1, 1e8, 1, 1]

    class Mixes(Layer):
        def forward(self, x, train=False, rng=None):
            return x @ like(matrix, x), None

        def backward(self, dy, cache, grads=None, need_dx=True):
            return (dy * like([1.001 if wrong else 1, 1, 1, 1], dy)) @ like(matrix, dy).T if need_dx else None

    return Mixes()


@case("W", "ratio 1.001,")
def a_weight_of_a_small_column_is_off(wrong):
    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = Linear.backward(self, dy * like([1, 1e8, 1], dy), cache, grads, need_dx)
        if grads is not None and wrong:
            grads["W"][:, 0] *= 1.001
        return dx

    def forward(self, x, train=False, rng=None):
        y, cache = Linear.forward(self, x)
        return y * like([1, 1e8, 1], x), cache

    return affine(forward=forward, backward=backward)


@case("output", "not finite")
def an_output_that_is_infinite(wrong):
    return Elementwise(lambda x: x + like([np.inf if wrong else 0, 0, 0, 0], x), np.ones_like)


@case("output", "not finite")
def an_output_that_is_NaN(wrong):
    return Elementwise(lambda x: x * like([np.nan if wrong else 1, 1, 1, 1], x), np.ones_like)


@case("x[", "ratio 1.5,", x=np.full((3, 2), 1e-8))
def a_cube_near_zero(wrong):
    return Elementwise(lambda x: x**3, lambda x: (4.5 if wrong else 3) * x**2)


# ---- Not linear in dy


@case("not linear in dy", "dx")
def dx_memoised_for_each_cache(wrong):
    memo = []

    def backward(self, dy, cache, grads=None, need_dx=True):
        if not need_dx:
            return None
        for known, dx in memo if wrong else ():
            if known is cache:
                return dx.copy()
        memo.append((cache, dy * cache))
        return dy * cache

    return variant(Tanh, backward=backward)


@case("not linear in dy", "W")
def gradients_memoised_for_each_cache(wrong):
    memo = []

    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = Linear.backward(self, dy, cache, grads, need_dx)
        if grads is not None and wrong:
            for known, kept in memo:
                if known is cache:
                    for name, gradient in kept.items():
                        grads[name][...] = gradient
                    return dx
            memo.append((cache, {name: gradient.copy() for name, gradient in grads.items()}))
        return dx

    return affine(backward=backward)


@case("not linear in dy", "dx")
def dx_is_clipped(wrong):
    return variant(
        Tanh, backward=lambda self, dy, cache, grads=None, need_dx=True: np.clip(dy * cache, -50, 50) if wrong else dy * cache
        if need_dx else None,
    )  # fmt: skip


@case("not linear in dy", "W")
def a_gradient_is_clipped_to_a_norm(wrong):
    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = Linear.backward(self, dy, cache, grads, need_dx)
        if grads is not None and wrong:
            grads["W"] /= max(1, np.linalg.norm(grads["W"]) / 100)
        return dx

    return affine(backward=backward)


@case("not linear in dy", "dx")
def small_gradients_are_set_to_zero(wrong):
    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = dy * cache
        return np.where(abs(dx) > 1e-5 * wrong, dx, 0) if need_dx else None

    return variant(Tanh, backward=backward)


# ---- What grads held before


def affine_that_writes(write):
    def backward(self, dy, cache, grads=None, need_dx=True):
        if grads is not None:
            write(grads, "W", cache.T @ dy)
            write(grads, "b", dy.sum(axis=0))
        return dy @ self.W.T if need_dx else None

    return affine(backward=backward)


def overwrite(grads, name, gradient):
    grads[name][...] = gradient


@case("backward", "NaN", "W[0, 0]")
def gradients_accumulate(wrong):
    def add(grads, name, gradient):
        grads[name] += gradient

    return affine_that_writes(add if wrong else overwrite)


@case("backward adds", "W")
def gradients_accumulate_unless_grads_held_NaN(wrong):
    def add(grads, name, gradient):
        grads[name][...] = np.nan_to_num(grads[name]) + gradient

    return affine_that_writes(add if wrong else overwrite)


@case("backward adds", "b")
def one_gradient_accumulates_unless_it_held_NaN(wrong):
    def add(grads, name, gradient):
        held = grads[name] if name == "b" and np.isfinite(grads[name]).all() else 0
        grads[name][...] = gradient + held

    return affine_that_writes(add if wrong else overwrite)


@case("backward adds", "W")
def an_average_with_what_grads_held(wrong):
    def average(grads, name, gradient):
        held = np.where(np.isnan(grads[name]), gradient, grads[name])
        grads[name][...] = (gradient + held) / 2

    return affine_that_writes(average if wrong else overwrite)


# ---- State on the layer


class Centres(Layer):
    """y = x − mean in testing; `mean` is moved by `move`, in training or by observe"""

    def forward(self, x, train=False, rng=None):
        return x - like(self.mean, x), x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy.copy() if need_dx else None


class CorrectlyCentres(Centres):
    def __init__(self):
        self.statistic_declarations = {"mean": ((4,), Constant(0.5))}

    def observe(self, cache):
        self.mean[...] = 0.9 * self.mean + 0.1 * cache.mean(axis=0)


@case("train=False", "different y", "statistic_declarations")
def a_running_mean_kept_on_the_layer(wrong):
    def forward(self, x, train=False, rng=None):
        if train:
            self.mean = tuple(0.9 * np.array(self.mean) + 0.1 * x.mean(axis=0))
            return x * 1, x
        return x - like(self.mean, x), x

    return variant(Centres, forward=forward, mean=(0.0,) * 4) if wrong else CorrectlyCentres()


@case("different y", "state")
def a_mean_that_observe_keeps_on_the_layer(wrong):
    def observe(self, cache):
        self.mean = tuple(0.9 * np.array(self.mean) + 0.1 * cache.mean(axis=0))

    return variant(Centres, observe=observe, mean=(0.0,) * 4) if wrong else CorrectlyCentres()


@case("different y")
def a_scale_that_is_the_largest_x_so_far(wrong):
    def forward(self, x, train=False, rng=None):
        if train and wrong:
            self.scale = max(self.scale, float(abs(x).max()))
        return x * self.scale, self.scale

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None

    return variant(Layer, forward=forward, backward=backward, scale=0.01)


@case("different y", "same x")
def a_forward_that_counts_its_calls(wrong):
    def forward(self, x, train=False, rng=None):
        self.calls += wrong
        return x * (1 + self.calls / 1000), 1 + self.calls / 1000

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None

    return variant(Layer, forward=forward, backward=backward, calls=0)


@case("second forward", "backward")
def what_backward_needs_is_kept_on_the_layer(wrong):
    def forward(self, x, train=False, rng=None):
        y, self.x = Linear.forward(self, x)
        return y, None if wrong else self.x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return Linear.backward(self, dy, self.x if wrong else cache, grads, need_dx)

    return affine(forward=forward, backward=backward)


# ---- Statistics that are moved wrongly


class Normalises(Layer):
    """y = (x − μ)/√(σ² + 10⁻³), of the minibatch in training, of the statistics otherwise. `becomes` says what they become."""

    mixes_rows = True

    def __init__(self, becomes, **statistics):
        self.statistic_declarations = {
            name: ((4,), Constant(value)) for name, value in ({"mean": 0.0, "var": 1.0} | statistics).items()
        }
        self.becomes = becomes

    def running(self):
        return self.mean, self.var

    def forward(self, x, train=False, rng=None):
        mean, var = (x.mean(axis=0), x.var(axis=0)) if train else self.running()
        var = var + 1e-3
        x_hat = (x - mean) / np.sqrt(var)
        return x_hat, (x_hat, like(var, x), like(mean, x), x) if train else (x_hat, like(var, x))

    def backward(self, dy, cache, grads=None, need_dx=True):
        x_hat, var, *minibatch = cache
        if minibatch:
            dy = dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)
        return dy / np.sqrt(var) if need_dx else None

    def observe(self, cache):
        _, var, mean, x = cache
        for name, value in self.becomes(self, mean, var - 1e-3, x).items():
            self.statistics[name][...] = value


def averages(momentum, mean=lambda layer, mean, var, x: mean, var=lambda layer, mean, var, x: var):
    """A running average of these two, in a layer that Normalises."""

    def becomes(layer, *minibatch):
        rest = 1 - momentum
        return {
            "mean": momentum * layer.mean + rest * mean(layer, *minibatch),
            "var": momentum * layer.var + rest * var(layer, *minibatch),
        }

    return Normalises(becomes)


def or_not(wrong, value):
    """Averages with this value in place of the mean, or correct ones."""
    return averages(0.9, mean=value) if wrong else averages(0.9)


@case("observe", "the same numbers")
def observe_writes_constants(wrong):
    return Normalises(lambda *_: {"mean": 7.0, "var": 2.0}) if wrong else averages(0.0)


@case("observe", "the second time")
def observe_writes_random_numbers(wrong):
    rng = np.random.default_rng(0)
    return or_not(wrong, lambda *_: rng.standard_normal(4))


@case("observe", "the second time")
def observe_counts_its_calls(wrong):
    calls = iter(range(10**6))
    return or_not(wrong, lambda layer, mean, var, x: mean * (1 + next(calls)))


@case("observe", "where a row stands")
def observe_takes_the_first_row(wrong):
    return or_not(wrong, lambda layer, mean, var, x: x[0])


@case("do not become", "train=False", "train=True")
def observe_writes_a_constant_for_the_mean(wrong):
    return or_not(wrong, lambda *_: 7.0)


@case("do not become")
def observe_takes_the_sum_for_the_mean(wrong):
    return or_not(wrong, lambda layer, mean, var, x: x.sum(axis=0))


@case("do not become")
def observe_has_the_sign_of_the_mean_wrong(wrong):
    return or_not(wrong, lambda layer, mean, var, x: -mean)


@case("do not become")
def observe_takes_the_minibatch_for_a_step(wrong):
    """mean ← mean + (1 − ρ) μ: the old mean is never reduced."""
    return or_not(wrong, lambda layer, mean, var, x: mean + layer.mean)


@case("do not become")
def observe_grows_without_end(wrong):
    return or_not(wrong, lambda layer, mean, var, x: mean + 20 * layer.mean)


@case("do not become")
def observe_only_shrinks_the_variance(wrong):
    return averages(0.9, var=lambda *_: 0.0) if wrong else averages(0.9)


@case("do not become")
def observe_takes_the_deviation_for_the_variance(wrong):
    return averages(0.9, var=lambda layer, mean, var, x: var**0.5) if wrong else averages(0.9)


@case("do not become")
def observe_takes_the_mean_square_for_the_variance(wrong):
    return averages(0.9, var=lambda layer, mean, var, x: (x * x).mean(axis=0) + 0.1 * wrong) if wrong else averages(0.9)


@case("do not become")
def observe_mixes_up_the_two(wrong):
    return averages(0.9, *(lambda layer, mean, var, x: var, lambda layer, mean, var, x: mean)[: 2 * wrong])


@case("do not become")
def in_testing_the_root_is_forgotten(wrong):
    """The statistics are right, and used wrongly."""

    def running(self):
        return self.mean, self.var**2 if wrong else self.var

    return variant(Normalises, averages(0.9).becomes, running=running)


# ---- Other rows, and where a row stands


class Rowwise(Layer):
    """y = factor(x, train) · x, factor a column (m, 1) that backward takes for a constant"""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x, train=False, rng=None):
        factor = like(np.broadcast_to(self.factor(x, train), (len(x), 1)), x).copy()
        return x * factor, factor

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None


@case("where a row stands")
def a_factor_that_is_the_rows_index(wrong):
    return Rowwise(lambda x, train: np.arange(1.0, len(x) + 1)[:, None] if wrong else 2.0)


@case("where a row stands")
def the_first_row_is_treated_differently(wrong):
    return Rowwise(lambda x, train: np.where(np.arange(len(x)) == 0, 1.0 + wrong, 1.0)[:, None])


@case("where a row stands")
def even_rows_are_treated_differently(wrong):
    return Rowwise(lambda x, train: (1.0 + wrong * (np.arange(len(x)) % 2))[:, None])


@case("where a row stands", "train=False")
def a_rows_index_counts_in_testing_alone(wrong):
    return Rowwise(lambda x, train: 1.0 if train or not wrong else np.arange(1.0, len(x) + 1)[:, None])


@case("where a row stands")
def weights_for_each_place_in_the_minibatch(wrong):
    return Rowwise(lambda x, train: np.linspace(1, 2, len(x))[:, None] if wrong else 1.5)


@case("each row", "rows 2 … 4")
def a_factor_that_is_one_over_m(wrong):
    return Rowwise(lambda x, train: 1 / len(x) if wrong else 1 / 5)


@case("each row")
def a_sign_that_all_rows_decide(wrong):
    return Rowwise(lambda x, train: np.sign(x.mean()) if wrong else np.sign(x[:, :1]))


@case("each row")
def a_rank_among_all_rows(wrong):
    return Rowwise(lambda x, train: 1.0 + wrong * np.argsort(np.argsort(x[:, 0]))[:, None])


@case("each row")
def a_threshold_that_is_the_median_of_all_rows(wrong):
    return Rowwise(lambda x, train: 1.0 + (x[:, :1] > (np.median(x[:, 0]) if wrong else 0.05)))


@case("other rows", "mixes_rows")
def the_mean_of_all_rows_without_a_declaration(wrong):
    def forward(self, x, train=False, rng=None):
        return x - x.mean(axis=0), None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy - dy.mean(axis=0) if need_dx else None

    return variant(Layer, forward=forward, backward=backward, mixes_rows=not wrong)


@case("where a row stands")
def a_layer_that_mixes_rows_and_weighs_them_by_their_place(wrong):
    def weights(x):
        return like(np.arange(1, len(x) + 1) / (0.5 * len(x) * (len(x) + 1)) if wrong else np.full(len(x), 1 / len(x)), x)

    def forward(self, x, train=False, rng=None):
        return x - weights(x) @ x, None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy - weights(dy)[:, None] * dy.sum(axis=0) if need_dx else None

    return variant(Layer, forward=forward, backward=backward, mixes_rows=True)


# ---- Random numbers


class Masked(Layer):
    """y = x · mask(x, rng) in training"""

    def __init__(self, mask, always=False):
        self.mask, self.always = mask, always

    def forward(self, x, train=False, rng=None):
        if not (train or self.always):
            return x * 1, np.ones_like(x)
        mask = like(self.mask(x, rng), x)
        return x * mask, mask

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None


def halves(rng, x):
    return 2.0 * (rng.random(x.shape) < 0.5)


def required(x, rng):
    if rng is None:
        raise ArgumentError("an rng is needed")
    return halves(rng, x)


@case("where a row stands", "rng")
def a_mask_that_ignores_rng(wrong):
    return Masked((lambda x, rng: halves(np.random.default_rng(0), x)) if wrong else required)


@case("where a row stands", "rng")
def a_mask_that_takes_a_draw_and_ignores_it(wrong):
    return Masked((lambda x, rng: 0 * required(x, rng) + halves(np.random.default_rng(1), x)) if wrong else required)


@case("same x", "rng")
def a_mask_from_numpys_global_generator(wrong):
    return Masked((lambda x, rng: halves(np.random, x)) if wrong else required)


@case("rng is None", "different y")
def hidden_randomness_where_rng_is_None(wrong):
    return Masked((lambda x, rng: halves(rng or np.random.default_rng(), x)) if wrong else required)


@case("rng is None")
def the_same_mask_each_time_where_rng_is_None(wrong):
    return Masked((lambda x, rng: halves(rng or np.random.default_rng(0), x)) if wrong else required)


@case("rng is None")
def no_dropout_where_rng_is_None(wrong):
    return Masked((lambda x, rng: np.ones_like(x) if rng is None else halves(rng, x)) if wrong else required)


@case("train is True", "train=False")
def dropout_in_testing_too(wrong):
    return Masked(required, always=wrong)


@case("train is True", "train=False")
def dropout_in_testing_with_a_mask_of_ones_where_rng_is_None(wrong):
    mask = lambda x, rng: np.ones_like(x) if rng is None else halves(rng, x)  # noqa: E731
    return Masked(mask, always=True) if wrong else Masked(required)


@case("where a row stands")
def dropout_that_scales_by_the_rows_index(wrong):
    def mask(x, rng):
        return required(x, rng) * (1 + 0.1 * wrong * np.arange(len(x)))[:, None]

    return Masked(mask)


# ---- Weights that nobody declared


class Scales(Layer):
    """y = s x"""

    def __init__(self):
        self.declarations = {"s": ((4,), Constant(1.5))}

    def forward(self, x, train=False, rng=None):
        return x * self.s, x

    def backward(self, dy, cache, grads=None, need_dx=True):
        if grads is not None:
            grads["s"][...] = (dy * cache).sum(axis=0)
        return dy * self.s if need_dx else None


class Holds(Layer):
    """y = weight(self) · x, and no gradient of the weight"""

    def __init__(self, held=None):
        self.held = held

    def weight(self):
        return self.held

    def forward(self, x, train=False, rng=None):
        return x * like(self.weight(), x), None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * like(self.weight(), dy) if need_dx else None


def weights():
    return np.array([0.5, 1.0, 2.0, 3.0])


def constant():
    array = weights()
    array.flags.writeable = False
    return array


@case("self.held", "declar", "read-only")
def a_weight_on_self(wrong):
    return Holds(weights() if wrong else constant())


@case("self.held[1]", "declar")
def a_weight_in_a_list(wrong):
    return variant(Holds, [0, weights() if wrong else constant()], weight=lambda self: self.held[1])


@case("self.shared", "declar")
def a_weight_on_the_class(wrong):
    return variant(Holds, weight=lambda self: self.shared, shared=weights() if wrong else constant())


@case("self.held.array", "declar")
def a_weight_in_an_object(wrong):
    class Weight:
        array = None

    weight = Weight()
    weight.array = weights() if wrong else constant()
    return variant(Holds, weight, weight=lambda self: self.held.array)


@case("self.held", "Holds", "declar")
def a_weight_on_a_part(wrong):
    return Residual(Tanh(), Holds(weights()) if wrong else Scales())


@case("self.inner", "parts")
def a_layer_inside_that_is_no_part(wrong):
    class Wraps(Layer):
        def __init__(self):
            self.inner = Linear(4, 4)
            self.parts = () if wrong else (self.inner,)

        def forward(self, x, train=False, rng=None):
            return self.inner.forward(x, train, rng)

        def backward(self, dy, cache, grads=None, need_dx=True):
            return self.inner.backward(dy, cache, self.part_grads(grads, 0), need_dx)

    return Wraps()


@case("self.held", "declar")
def a_network_inside(wrong):
    class Wraps(Layer):
        def __init__(self):
            self.held = {dtype: Network([Scales()], dtype=dtype) for dtype in ("float32", "float64")}

        def forward(self, x, train=False, rng=None):
            return self.held[str(x.dtype)].forward(x)

        def backward(self, dy, cache, grads=None, need_dx=True):
            return self.held[str(dy.dtype)].backward(dy, cache) if need_dx else None

    return Wraps() if wrong else Scales()


# ---- Wrong in float32 only, or in another order in memory


def single(x):
    return x.dtype == np.float32


@case("dx", "float32")
def dx_is_off_in_float32(wrong):
    return Elementwise(lambda x: x * x, lambda x: 2 * x * like(1.01 if wrong and single(x) else 1, x))


@case("y", "float32")
def y_is_computed_in_float16_in_float32(wrong):
    return Elementwise(lambda x: x.astype(np.float16).astype(x.dtype) if wrong and single(x) else x * 1, np.ones_like)


@case("W", "float32")
def a_gradient_is_zero_in_float32(wrong):
    def write(grads, name, gradient):
        grads[name][...] = gradient * like(not (wrong and name == "W" and single(gradient)), gradient)

    return affine_that_writes(write)


@case("b", "float32")
def a_gradient_is_averaged_in_float32(wrong):
    def write(grads, name, gradient):
        grads[name][...] = gradient / like(5 if wrong and name == "b" and single(gradient) else 1, gradient)

    return affine_that_writes(write)


@case("y", "float32")
def an_epsilon_that_is_larger_in_float32(wrong):
    def square_root(x):
        return np.sqrt(x * x + like(1e-2 if wrong and single(x) else 1e-6, x))

    return Elementwise(square_root, lambda x: x / square_root(x))


@case("y", "float32", x=np.linspace(-200, 200, 20).reshape(5, 4) + 1)
def an_exponential_that_overflows_in_float32_alone(wrong):
    def softplus(x):
        with np.errstate(all="ignore"):
            return np.log(1 + np.exp(x)) if wrong else np.logaddexp(x, like(0, x))

    return Elementwise(softplus, lambda x: np.exp(-np.logaddexp(like(0, x), -x)))


@case("stored by columns", "backward")
def dy_is_read_in_the_order_of_memory(wrong):
    def backward(self, dy, cache, grads=None, need_dx=True):
        return (dy.ravel("K" if wrong else "C") * cache.ravel()).reshape(dy.shape) if need_dx else None

    return variant(Tanh, backward=backward)


@case("stored by columns", "forward")
def x_is_read_in_the_order_of_memory(wrong):
    return Elementwise(lambda x: x.ravel("K" if wrong else "C").reshape(x.shape) * 2, lambda x: 2 * np.ones_like(x))


# ---- A student's mistakes, in the words of the protocol


@case("forward(x)", "def forward(self, x, train=False, rng=None)")
def forward_of_x_alone(wrong):
    def forward(self, x):
        return Linear.forward(self, x)

    return affine(forward=forward) if wrong else affine()


@case("forward(", "def forward(self, x, train=False, rng=None)")
def forward_without_defaults(wrong):
    def forward(self, x, train, rng):
        return Linear.forward(self, x)

    return affine(forward=forward) if wrong else affine()


@case("backward(", "def backward(self, dy, cache, grads=None, need_dx=True)")
def backward_of_dy_and_cache_alone(wrong):
    def backward(self, dy, cache):
        return dy * cache

    return variant(Tanh, **({"backward": backward} if wrong else {}))


@case("no backward", "def backward(self, dy, cache, grads=None, need_dx=True)")
def no_backward(wrong):
    methods = {"forward": lambda self, x, train=False, rng=None: (x * 2, None)}
    return variant(Layer, **methods) if wrong else Elementwise(lambda x: x * 2, lambda x: 2 * np.ones_like(x))


def returns(result):
    return lambda wrong: affine(forward=lambda self, x, train=False, rng=None: result(*Linear.forward(self, x), wrong))


@case("ndarray", "return y, cache")
def y_without_a_cache(wrong):
    return returns(lambda y, cache, wrong: y if wrong else (y, cache))(wrong)


@case("ndarray", "return y, cache", x=(2, 4))
def y_of_two_rows_without_a_cache(wrong):
    return returns(lambda y, cache, wrong: y if wrong else (y, cache))(wrong)


@case("NoneType", "return y, cache")
def a_forward_that_returns_nothing(wrong):
    return returns(lambda y, cache, wrong: None if wrong else (y, cache))(wrong)


@case("3 values", "return y, cache")
def a_forward_that_returns_too_much(wrong):
    return returns(lambda y, cache, wrong: (y, cache, y) if wrong else (y, cache))(wrong)


@case("y as a list", "array")
def y_as_a_list(wrong):
    return returns(lambda y, cache, wrong: (y.tolist() if wrong else y, cache))(wrong)


@case("y as an array of bool", "floats")
def y_as_booleans(wrong):
    return Elementwise(lambda x: x > 0 if wrong else x * 1, np.ones_like)


def backward_with(body):
    """A class like Linear(4, 3), with this backward(self, dy, x, grads, need_dx)."""
    return affine(backward=lambda self, dy, cache, grads=None, need_dx=True: body(self, dy, cache, grads, need_dx))


@case("without grads", "if grads is not None")
def no_if_grads_is_not_None(wrong):
    def body(self, dy, x, grads, need_dx):
        if wrong or grads is not None:
            grads["W"][...] = x.T @ dy
            grads["b"][...] = dy.sum(axis=0)
        return dy @ self.W.T if need_dx else None

    return backward_with(body)


@case("rebinds", 'grads["W"][...] =')
def grads_are_rebound(wrong):
    def write(grads, name, gradient):
        grads[name] = gradient

    return affine_that_writes(write if wrong else overwrite)


@case("NaN", 'grads["W"][...] =')
def the_name_grads_is_rebound(wrong):
    def body(self, dy, x, grads, need_dx):
        new = {"W": x.T @ dy, "b": dy.sum(axis=0)}
        if grads is not None and not wrong:
            for name in new:
                grads[name][...] = new[name]
        return dy @ self.W.T if need_dx else None

    return backward_with(body)


@case("(4, 3)", "(5, 3)", "transpose", "dy @ self.W.T")
def a_forgotten_transpose_of_W(wrong):
    def body(self, dy, x, grads, need_dx):
        if grads is not None:
            grads["W"][...], grads["b"][...] = x.T @ dy, dy.sum(axis=0)
        return (dy @ self.W if wrong else dy @ self.W.T) if need_dx else None

    return backward_with(body)


@case("(4, 3)", "(5, 4)", "transpose", "x.T @ dy")
def a_forgotten_transpose_of_x(wrong):
    def body(self, dy, x, grads, need_dx):
        if grads is not None:
            grads["W"][...], grads["b"][...] = (x @ dy if wrong else x.T @ dy), dy.sum(axis=0)
        return dy @ self.W.T if need_dx else None

    return backward_with(body)


@case("(4, 3)", "transpose", "x.T @ dy")
def a_gradient_that_is_transposed(wrong):
    def body(self, dy, x, grads, need_dx):
        if grads is not None:
            grads["W"][...], grads["b"][...] = (dy.T @ x if wrong else x.T @ dy), dy.sum(axis=0)
        return dy @ self.W.T if need_dx else None

    return backward_with(body)


@case("dx", "tuple", "alone")
def backward_returns_dx_and_the_gradients(wrong):
    def body(self, dy, x, grads, need_dx):
        dx = Linear.backward(self, dy, x, grads, need_dx)
        return (dx, grads) if wrong else dx

    return backward_with(body)


def declared(wrong, declaration):
    layer = Scales()
    layer.declarations = {"s": declaration if wrong else ((4,), Constant(1.5))}
    return layer


@case('"s"', "an array", "Constant(")
def an_array_as_init(wrong):
    return declared(wrong, ((4,), np.ones(4)))


@case('"s"', "0.05", "Constant(0.05)")
def a_number_as_init(wrong):
    return declared(wrong, ((4,), 0.05))


@case('"s"', "(shape, init)")
def a_shape_without_an_init(wrong):
    return declared(wrong, (4,))


@case('"s"', "(shape, init)")
def a_shape_that_is_a_number(wrong):
    return declared(wrong, (4, Constant(1.5)))


@case("declarations", "(shape, init)")
def declarations_that_are_a_list(wrong):
    return variant(Scales) if not wrong else variant(Holds, constant(), declarations=["s"])


@case('params["s"]', "(shape, init)")
def parameters_set_by_hand(wrong):
    layer = Scales()
    if wrong:
        layer.declarations = {}
        layer.params = {"s": np.ones(4)}
    return layer


@case("'s'", "declarations", "(shape, init)")
def a_parameter_that_is_used_and_not_declared(wrong):
    return declared(False, None) if not wrong else variant(Scales, __init__=lambda self: None)


class Part(Scales):
    """Computes ∂L/∂s, and does not declare s."""

    def __init__(self):
        pass

    def forward(self, x, train=False, rng=None):
        return x * 1.5, x

    def backward(self, dy, cache, grads=None, need_dx=True):
        if grads is not None:
            grads["s"][...] = (dy * cache).sum(axis=0)
        return dy * 1.5 if need_dx else None


@case('grads["s"]', "declare", '{"s": (shape, init)}')
def a_part_that_uses_undeclared_grads(wrong):
    return Residual(Tanh(), Part() if wrong else Scales())


@case('grads["s"]', "declare", '{"s": (shape, init)}')
def a_layer_that_uses_undeclared_grads(wrong):
    return Part() if wrong else Scales()


@case("parts", "(part,)")
def a_part_that_is_in_no_sequence(wrong):
    layer = Residual(Scales())
    layer.parts = Scales() if wrong else (Scales(),)
    return layer


@case("IndexError", "floats alone", x=np.array([[0, 2], [1, 1], [2, 0]]))
def a_layer_for_integers(wrong):
    table = constant()
    return Elementwise(lambda x: like(table, x)[x] if wrong else x * 1, np.ones_like)


@case("y has the shape (4,)", "x has (5, 4)")
def a_forward_that_sums_over_the_rows(wrong):
    def forward(self, x, train=False, rng=None):
        return x.sum(axis=0) if wrong else x * 1, np.ones_like(x)

    return variant(Elementwise, None, np.ones_like, forward=forward)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_layer_is_rejected_in_the_protocols_words(name):
    make, x, facts = CASES[name]
    with refused(*facts, error=GradientError):
        check_layer(make(True), x)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_its_correct_twin_is_accepted_again_and_again_and_can_be_trained_then(name):
    make, x, _ = CASES[name]
    layer = make(False)
    before = dict(vars(layer))
    for seed in 0, 1:
        assert check_layer(layer, x, seed=seed).passed
        assert vars(layer) == before
    network = Network([layer], dtype=np.float64)
    assert layer.in_network
    assert network.theta.size == sum(value.size for value in layer.params.values())


def test_there_are_many():
    assert len(CASES) + len(COSTS) >= 60


# ---- Costs

COSTS = {}


def cost_case(*facts):
    def add(make):
        COSTS[make.__name__] = make, facts
        return make

    return add


@cost_case("UNDECIDABLE", "hidden by rounding", "centre", "scale")
def a_cost_of_10_to_the_12_and_no_gradient(v, wrong):
    return lambda: (v**2).sum() + 1e12 * wrong, v * 2 * (not wrong)


@cost_case("UNDECIDABLE", "hidden by rounding")
def a_cost_of_10_to_the_12_and_its_gradient(v, wrong):
    return lambda: (v**2).sum() + 1e12 * wrong, v * 2


@cost_case("UNDECIDABLE")
def a_cost_of_10_to_the_30(v, wrong):
    return lambda: (v**2).sum() + 1e30 * wrong, v * 2 * (not wrong)


@cost_case("v[1]", "hidden by rounding")
def one_term_that_hides_another(v, wrong):
    def gradient():
        return np.concatenate([2 * large * v[:1], [not wrong], 2 * v[2:]])

    large = 1e12 if wrong else 1e3
    return lambda: large * v[0] ** 2 + v[1] + (v[2:] ** 2).sum(), gradient()


@cost_case("cost", "not finite")
def a_cost_that_is_NaN(v, wrong):
    return lambda: (v**2).sum() * (np.nan if wrong else 1), v * 2


@cost_case("cost", "not finite", "scale")
def a_cost_near_the_largest_number(v, wrong):
    factor = 1e306 if wrong else 1e300
    return lambda: (v**2).sum() * factor, v * 2 * factor


@cost_case("backward 0, numeric")
def a_cost_of_10_to_the_160_and_no_gradient(v, wrong):
    return lambda: (v**2).sum() * 1e160, v * 2e160 * (not wrong)


@cost_case("v[1]", "ratio 1.001,")
def a_small_gradient_that_is_off_beside_a_large_one(v, wrong):
    return lambda: 1e6 * v[0] ** 2 + v[1] ** 2, np.array([2e6 * v[0], (2.002 if wrong else 2) * v[1], 0, 0])


def numbers():
    return np.array([0.5, -0.7, 1.1, 0.3])


@pytest.mark.parametrize("name", COSTS)
def test_a_wrong_cost_is_rejected(name):
    make, facts = COSTS[name]
    v = numbers()
    cost, gradient = make(v, True)
    with refused(*facts, error=GradientError):
        check_gradient(cost, {"v": v}, {"v": gradient})
    assert (v == numbers()).all()


@pytest.mark.parametrize("name", COSTS)
def test_its_correct_twin_passes(name):
    v = numbers()
    cost, gradient = COSTS[name][0](v, False)
    assert check_gradient(cost, {"v": v}, {"v": gradient}).passed


# ---- What can be no input, and what is one


@pytest.mark.parametrize("x", [(0, 4), (1, 4), np.ones((0, 4)), np.ones((1, 4)), (5, 0), [1, 4], np.ones((5, 0))])
def test_one_row_or_none_decides_nothing(x):
    """With m = 1 a gradient of b that is averaged looks right."""
    with refused("m > 1", str(np.shape(x) if isinstance(x, np.ndarray) else tuple(x))):
        check_layer(Linear(4, 3), x)


def test_a_list_of_integers_is_a_shape():
    for shape in [5, 4], (5, 4), [np.int64(5), 4]:
        assert check_layer(Linear(4, 3), shape).blocks[0].shape == (5, 4)


@pytest.mark.parametrize(
    "x",
    [[0.5, 1.5], (5.0, 4.0), np.array([5, 3]), 5, 5.0, None, "5, 3", [True, False], [[1, 2], [3]], np.ones((2, 2)) * 1j, []],
    ids=str,
)
def test_what_is_neither_a_shape_nor_an_input_is_refused(x):
    with refused("x"):
        check_layer(Tanh(), x)


def test_an_input_that_is_not_finite_is_refused():
    with refused("x", "finite"):
        check_layer(Tanh(), np.array([[0.5, np.nan], [1.0, 2.0]]))


@pytest.mark.parametrize("layer", [Linear, None, "Linear", [Linear(4, 3)]], ids=str)
def test_what_is_no_layer_is_refused(layer):
    with refused("a layer is needed"):
        check_layer(layer, (5, 4))


# ---- What is right, and was or could be rejected


@pytest.mark.parametrize("power", [2, 3, 5])
@pytest.mark.parametrize("near", [1e-8, -1e-6, 1e-3, 1e3, 1e6])
def test_a_power_is_accepted_wherever_it_is_taken(power, near):
    for x in np.full((3, 2), near), near * np.arange(1.0, 7).reshape(3, 2), np.arange(6.0).reshape(3, 2) * near:
        assert check_layer(Elementwise(lambda x: x**power, lambda x: power * x ** (power - 1)), x).passed


def test_a_power_is_accepted_at_zero():
    layer = Elementwise(lambda x: x**3, lambda x: 3 * x**2)
    for x in np.zeros((3, 2)), np.arange(6.0).reshape(3, 2):
        assert check_layer(layer, x).passed


def test_the_minimum_of_a_cost_is_accepted():
    v = numbers()
    t = v.copy()
    assert check_gradient(lambda: ((v - t) ** 2).sum(), {"v": v}, {"v": 2 * (v - t)}).passed


def test_a_derivative_of_zero_is_accepted():
    assert check_layer(Elementwise(lambda x: 0 * x + 1, np.zeros_like), (5, 4)).passed


@pytest.mark.parametrize("offset", [1e14, 1e30, 1e60, 1e200])
def test_and_one_that_an_offset_makes_zero_is_refused(offset):
    with refused("UNDECIDABLE", error=GradientError):
        check_layer(Elementwise(lambda x: x + offset, np.zeros_like), (5, 4))


def test_batch_norm_of_two_rows_is_accepted():
    """dx is 0 up to ε there, and in float32 it is rounding alone."""
    for seed in range(10):
        assert check_layer(BatchNorm(4), (2, 4), seed=seed).passed


def test_a_bias_before_batch_norm_is_accepted():
    """Its gradient is 0, up to rounding of everything else."""
    for seed in range(3):
        assert check_layer(Residual(Linear(4, 4, weight=Uniform(0.5)), BatchNorm(4)), (5, 4), seed=seed).passed


class Pair(NamedTuple):
    slope: np.ndarray
    factor: float


def test_a_cache_may_be_a_named_tuple():
    class Named(Sigmoid):
        def forward(self, x, train=False, rng=None):
            y, slope = super().forward(x)
            return y, Pair(slope, 1.0)

        def backward(self, dy, cache, grads=None, need_dx=True):
            return dy * cache.slope if need_dx else None

    assert check_layer(Named(), (5, 4)).passed
    network = Network([Named()], dtype=np.float64)
    x, dy = np.linspace(-1, 1, 20).reshape(5, 4), np.ones((5, 4))
    _, cache = network.forward(x)
    half = network.rows(cache, 1, 3)
    assert isinstance(half[0], Pair)
    assert half[0].factor == 1.0
    assert (network.backward(dy[1:3], half) == network.backward(dy, cache)[1:3]).all()


def test_a_rejected_layer_is_given_back_too():
    layer = Linear(4, 3)
    for x in (5, 3), (1, 4):
        with pytest.raises(ArgumentError):
            check_layer(layer, x)
    wrong = Residual(Tanh(), Part())
    with pytest.raises(GradientError):
        check_layer(wrong, (5, 4))
    for each in layer, *wrong.parts, wrong:
        assert not each.in_network
        assert each.params == {}
    assert Network([layer]).theta.size == 15


def test_a_layer_that_draws_is_accepted_however_it_draws():
    kinds = {
        "random": lambda rng, x: rng.random(x.shape, x.dtype) < 0.5,
        "standard_normal": lambda rng, x: rng.standard_normal(x.shape, x.dtype),
        "uniform": lambda rng, x: rng.uniform(0.5, 1.5, x.shape),
        "integers": lambda rng, x: rng.integers(1, 5, x.shape),
        "normal": lambda rng, x: rng.normal(1, 0.1, x.shape),
        "binomial": lambda rng, x: rng.binomial(1, 0.5, x.shape),
        "choice": lambda rng, x: rng.choice([0.0, 2.0], x.shape),
        "gamma": lambda rng, x: rng.gamma(2.0, 1.0, x.shape),
        "one for each row": lambda rng, x: rng.standard_normal((len(x), 1)),
        "out": lambda rng, x: rng.random(out=np.empty(x.shape)),
    }

    def mask(kind):
        def draw(x, rng):
            if rng is None:
                raise ArgumentError("an rng is needed")
            return kind(rng, x)

        return draw

    for kind in kinds.values():
        assert check_layer(Masked(mask(kind)), (5, 4)).passed
    for keep in 0.001, 0.5, 0.999, 1:
        assert check_layer(Dropout(keep), (5, 4)).passed


def unbiased(layer, mean, var, x):
    return var * len(x) / (len(x) - 1)


def counted(layer, mean, var, x):
    """The average of all minibatches so far, with their number."""
    n = layer.n + 1
    return {"n": n, "mean": layer.mean + (mean - layer.mean) / n, "var": layer.var + (var - layer.var) / n}


class Sums(Normalises):
    """It keeps the sums of x and of x², and the number of rows."""

    def running(self):
        mean = self.sums / self.n
        return mean, self.squares / self.n - mean**2


def summed(layer, mean, var, x):
    return {"n": layer.n + len(x), "sums": layer.sums + x.sum(axis=0), "squares": layer.squares + (x * x).sum(axis=0)}


def after_the_first(layer, mean, var, x):
    """The first minibatch sets the statistics. `seen` says whether it was there."""
    keep = np.where(layer.seen < 1, 0.0, 0.9)
    becomes = averages(0.9).becomes(layer, mean, var, x)
    return {"seen": 1.0} | {name: np.where(keep, becomes[name], value) for name, value in (("mean", mean), ("var", var))}


class LargestSoFar(Layer):
    """y = x / the largest |x| so far, which each column has for itself"""

    def __init__(self):
        self.statistic_declarations = {"largest": ((4,), Constant(0.1))}

    def forward(self, x, train=False, rng=None):
        return x / self.largest, (x, self.largest.copy())

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy / self.largest if need_dx else None

    def observe(self, cache):
        self.largest[...] = np.maximum(self.largest, np.abs(cache[0]).max(axis=0))


A_COLUMN_IS_CONSTANT = np.array([[0.3, 2.0, -1.0, 0.7], [0.9, 2.0, 0.4, -0.6], [-0.5, 2.0, 0.8, 0.2]])


@pytest.mark.slow
@pytest.mark.parametrize("x", [(2, 4), (5, 4), (64, 4), A_COLUMN_IS_CONSTANT], ids=["2", "5", "64", "a constant column"])
@pytest.mark.parametrize(
    "layer",
    [
        *(lambda momentum=momentum: averages(momentum) for momentum in (0.0, 0.5, 0.99, 0.9999, 0.999999)),
        lambda: averages(0.9, var=unbiased),
        lambda: Normalises(counted, n=0.0),
        lambda: Sums(summed, n=1.0, sums=0.0, squares=1.0),
        lambda: Normalises(after_the_first, seen=0.0),
        lambda: LargestSoFar(),
        lambda: Residual(Dropout(0.5), averages(0.9), Tanh(), LargestSoFar()),
        lambda: Residual(averages(0.9), Linear(4, 4), Tanh(), BatchNorm(4), averages(0.999)),
    ],
)
def test_statistics_are_accepted_whichever_way_they_are_kept(layer, x):
    for seed in range(2):
        assert check_layer(layer(), x, seed=seed).passed


def test_a_gradient_that_accumulates_hides_no_other_fault():
    class Many(Layer):
        """y = s x"""

        def __init__(self):
            self.declarations = {"s": ((4,), Constant(1.0))}

        def forward(self, x, train=False, rng=None):
            self.x = x
            return x * self.s, None

        def backward(self, dy, cache, grads=None, need_dx=True):
            if grads is not None:
                grads["s"] += (dy * self.x).mean(axis=0)
            return dy * self.s if need_dx else None

    with refused("leaves NaN in s", "second forward", "ratio 0.2,", error=GradientError):
        check_layer(Many(), (5, 4))
