"""The checker, checked: every seeded fault is rejected by name, beside a correct twin that is accepted."""

import numpy as np
import pytest
from helpers import Residual, refused

import tinygan.gan
from tinygan import (
    BatchNorm,
    Constant,
    Dropout,
    GradientError,
    Layer,
    Linear,
    Maxout,
    Network,
    ReLU,
    Sigmoid,
    Tanh,
    Uniform,
    check_gradient,
    check_layer,
    discriminator_loss,
    generator_loss,
)
from tinygan.derivatives import LAYERS, ROWS
from tinygan.gradcheck import TOLERANCE, compare_cost

pytestmark = pytest.mark.gradcheck


def rejected(layer, x=(5, 4), seed=0):
    """The message with which check_layer rejects it."""
    with pytest.raises(GradientError) as raised:
        check_layer(layer, x, seed=seed)
    return str(raised.value)


def names(message, *facts):
    """Whether one line of the message holds all of these: who does what to whom. The words between are its own."""
    return any(all(fact in line for fact in facts) for line in message.splitlines())


# ---- The engine itself


@pytest.mark.parametrize("row", ROWS)
def test_gradcheck(row):
    report = ROWS[row]()
    assert report.passed, str(report)
    assert report.subject == row
    assert sum(block.entries for block in report.blocks) > 10
    assert all(block.directions == 3 or block.entries == 1 for block in report.blocks)


def layers_of_tinygan(kind=Layer):
    for each in kind.__subclasses__():
        if each.__module__.startswith("tinygan.") and not each.__name__.startswith("_"):
            yield each.__name__
        yield from layers_of_tinygan(each)


def test_every_layer_has_a_row():
    assert set(layers_of_tinygan()) >= {"Linear", "Maxout", "BatchNorm"}
    assert set(layers_of_tinygan()) == set(LAYERS)
    assert set(LAYERS) < set(ROWS)


@pytest.mark.parametrize("normalised", ["", " with batch norm"])
@pytest.mark.parametrize("variant", tinygan.VARIANTS)
@pytest.mark.parametrize("player", "DG")
def test_every_variant_has_a_row_for_each_player(player, variant, normalised):
    assert f"{player} step{normalised}, {variant}" in ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_no_correct_layer_is_rejected_with_any_of_21_seeds(name):
    for make, shape in LAYERS[name]:
        for seed in range(21):
            assert check_layer(make(), shape, seed=seed).error < TOLERANCE / 10


# ---- Wrong derivatives


class Faulty(Linear):
    """Linear(4, 4), whose true results go through `dx_fault` and `grads_fault` on their way out."""

    def __init__(self, dx_fault=None, grads_fault=None, n=4):
        super().__init__(n, n)
        self.dx_fault, self.grads_fault = dx_fault, grads_fault

    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = super().backward(dy, cache, grads, need_dx)
        if grads is not None and self.grads_fault:
            self.grads_fault(grads, cache, dy)
        if dx is not None and self.dx_fault:
            dx = self.dx_fault(dx, dy, self.W)
        return dx


def scale_W(factor):
    def fault(grads, x, dy):
        grads["W"] *= factor

    return fault


def scale_b(factor):
    def fault(grads, x, dy):
        grads["b"] *= factor

    return fault


def test_the_correct_twin_is_accepted():
    assert check_layer(Faulty(), (5, 4)).passed
    assert check_layer(Faulty(lambda dx, dy, W: dx * 1.0, scale_W(1.0)), (5, 4)).passed


@pytest.mark.parametrize("factor", [1.0001, 0.9999, 2.001, 0.5, 0.0, -1.0])
@pytest.mark.parametrize("block", ["x", "W", "b"])
def test_a_factor_is_rejected_and_named(block, factor):
    faults = {
        "x": lambda: Faulty(dx_fault=lambda dx, dy, W: dx * factor),
        "W": lambda: Faulty(grads_fault=scale_W(factor)),
        "b": lambda: Faulty(grads_fault=scale_b(factor)),
    }
    message = rejected(faults[block]())
    assert f"ratio {factor:.6g}," in message
    wrong = [line.split()[0] for line in message.splitlines() if line.endswith("WRONG")][1:]
    assert wrong == [block]


@pytest.mark.parametrize("shape", [(5, 4), (300, 4)])  # entry by entry, and by directions
def test_a_missing_transpose_is_rejected(shape):
    assert "  x[" in rejected(Faulty(dx_fault=lambda dx, dy, W: dy @ W), shape)


def test_a_transposed_weight_gradient_is_rejected():
    def fault(grads, x, dy):
        grads["W"][...] = dy.T @ x

    assert "  W[" in rejected(Faulty(grads_fault=fault))


def test_zero_times_dy_is_rejected():
    assert "backward 0, numeric" in rejected(Faulty(dx_fault=lambda dx, dy, W: 0 * dy))


def test_a_bias_gradient_that_is_forgotten_is_rejected():
    class Forgetful(Linear):
        def backward(self, dy, cache, grads=None, need_dx=True):
            if grads is not None:
                grads["W"][...] = cache.T @ dy
            return dy @ self.W.T if need_dx else None

    message = rejected(Forgetful(4, 4))
    assert names(message, "backward", "NaN", "b[0]")
    assert "b[0]: backward nan" in message


def test_a_forgotten_sum_over_the_minibatch_is_rejected():
    def fault(grads, x, dy):
        grads["b"][...] = dy.mean(axis=0)

    assert "ratio 0.2," in rejected(Faulty(grads_fault=fault))  # m = 5


class MasklessDropout(Dropout):
    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy.copy() if need_dx else None


class UnscaledDropout(Dropout):
    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * (cache > 0) if need_dx and cache is not None else dy if need_dx else None


def test_a_dropped_mask_is_rejected():
    assert "numeric 0, relative error" in rejected(MasklessDropout(0.5))
    assert "ratio 0.75," in rejected(UnscaledDropout(0.75))
    assert check_layer(Dropout(0.5), (5, 4)).passed


class Doubles(Layer):
    """y = 2x in training, y = x otherwise; `slopes` is what backward takes for these."""

    def __init__(self, slopes):
        self.slopes = slopes

    def forward(self, x, train=False, rng=None):
        return (x * 2, self.slopes[0]) if train else (x, self.slopes[1])

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None


def test_a_fault_that_only_training_or_only_testing_has_is_rejected():
    assert check_layer(Doubles((2.0, 1.0)), (5, 4)).passed
    training, testing = rejected(Doubles((3.0, 1.0))), rejected(Doubles((2.0, 3.0)))
    assert "ratio 1.5," in training
    assert "x (train=False)[" not in training
    assert "x (train=False)[" in testing
    assert "ratio 3," in testing


class Squares(Layer):
    """y = x², with a cache that is right in training only."""

    def __init__(self, cache_in_test):
        self.cache_in_test = cache_in_test

    def forward(self, x, train=False, rng=None):
        return x * x, x if train else self.cache_in_test(x)

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * (2 * cache) if need_dx else None


def test_a_backward_that_is_right_in_training_only_is_rejected_though_forward_is_the_same():
    assert check_layer(Squares(lambda x: x.copy()), (5, 4)).passed
    assert "x (train=False)[" in rejected(Squares(lambda x: 0 * x))
    assert names(rejected(Squares(lambda x: None)), "train=False", "TypeError")


def test_a_kink_close_by_does_not_reject_a_correct_layer():
    """Nearer than the first step of the differences, 10⁻⁵, and further than the second, 10⁻⁶."""
    x = np.full((3, 2), 0.5)
    x[1, 1] = 5e-6
    assert check_layer(ReLU(), x).passed
    x[1, 1] = 0
    with refused("x[1, 1]: backward 0, numeric", error=GradientError):
        check_layer(ReLU(), x)


def test_a_derivative_is_rejected_that_an_all_ones_upstream_gradient_cannot_see():
    """The rows of a softmax sum to 1, so with dy = 1 a backward that returns 0 looks right."""

    class Softmax(Layer):
        def forward(self, x, train=False, rng=None):
            y = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
            return y, y

        def backward(self, dy, cache, grads=None, need_dx=True):
            return cache * (dy - (dy * cache).sum(axis=1, keepdims=True)) if need_dx else None

    class Blind(Softmax):
        def backward(self, dy, cache, grads=None, need_dx=True):
            return 0 * dy if need_dx else None

    assert check_layer(Softmax(), (5, 4)).passed
    assert "backward 0, numeric" in rejected(Blind())


def test_a_derivative_is_rejected_that_is_right_only_where_the_bias_starts():
    class StartsAtZero(Linear):
        def backward(self, dy, cache, grads=None, need_dx=True):
            dx = super().backward(dy, cache, grads, need_dx)
            if grads is not None:
                grads["W"] += self.b  # 0 in a new network
            return dx

    assert "  W[" in rejected(StartsAtZero(4, 4))


# ---- One wrong entry among thousands


class OneWrong(Linear):
    def __init__(self, n_in, n_out, i, j, factor, block="W"):
        super().__init__(n_in, n_out, weight=Uniform(0.1))
        self.i, self.j, self.factor, self.block = i, j, factor, block

    def backward(self, dy, cache, grads=None, need_dx=True):
        dx = super().backward(dy, cache, grads, need_dx)
        if self.block == "x" and dx is not None and len(dx) > self.i:
            dx[self.i, self.j] *= self.factor
        if self.block == "W" and grads is not None:
            grads["W"][self.i, self.j] *= self.factor
        return dx


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.01, 2.001])
@pytest.mark.parametrize("block", ["x", "W"])
def test_one_wrong_entry_among_thousands_is_found_and_named(block, factor):
    """W has 6,000 entries, and x 2,000: only directions are taken, and the wrong entry is found by halving."""
    report = check_layer(OneWrong(100, 60, 17, 23, 1.0, block), (20, 100))
    assert [b.entries for b in report.blocks] == [0, 0, 60]
    message = rejected(OneWrong(100, 60, 17, 23, factor, block), (20, 100))
    assert f"{block}[17, 23]: backward" in message
    assert message.count(": backward") == 1  # and no other entry is


@pytest.mark.slow
def test_one_entry_that_is_off_by_a_hundredth_among_a_million_is_found():

    class OffByAHundredth(Faulty):
        def backward(self, dy, cache, grads=None, need_dx=True):
            dx = super().backward(dy, cache, grads, need_dx)
            if grads is not None:
                grads["W"][321, 123] += 0.01 * grads["W"].std()
            return dx

    assert check_layer(Faulty(n=1000), (4, 1000)).passed
    assert "W[321, 123]: backward" in rejected(OffByAHundredth(n=1000), (4, 1000))


def test_few_wrong_entries_are_spelled_out_and_the_others_counted():
    message = rejected(Faulty(grads_fault=scale_W(2.001)))
    assert message.count("W[") == 3
    assert names(message, "13 more")


# ---- The protocol


def broken(forward=None, backward=None, base=Linear):
    """A correct layer, which before or after its own work also does what it should not."""

    class Broken(base):
        def forward(self, x, train=False, rng=None):
            y, cache = super().forward(x, train, rng)
            if forward:
                forward(self, x, y, cache)
            return y, cache

        def backward(self, dy, cache, grads=None, need_dx=True):
            dx = super().backward(dy, cache, grads, need_dx)
            return backward(self, dy, cache, grads, dx, need_dx) if backward else dx

    return Broken(4, 4) if base is Linear else Broken()


def overwrite(array):
    array *= 1.5


def and_return_dx(action):
    def backward(self, dy, cache, grads, dx, need_dx):
        action(self, dy, cache)
        return dx

    return backward


@pytest.mark.parametrize(
    ("layer", "who", "what"),
    [
        (lambda: broken(forward=lambda self, x, y, cache: overwrite(x), base=Sigmoid), "forward", "x"),
        (lambda: broken(forward=lambda self, x, y, cache: overwrite(self.W)), "forward", "W"),
        (lambda: broken(backward=and_return_dx(lambda self, dy, cache: overwrite(dy))), "backward", "dy"),
        (lambda: broken(backward=and_return_dx(lambda self, dy, cache: overwrite(self.b))), "backward", "b"),
        (lambda: broken(backward=and_return_dx(lambda self, dy, cache: overwrite(cache))), "backward", "x"),
        (lambda: broken(backward=and_return_dx(lambda self, dy, cache: overwrite(cache)), base=Sigmoid), "backward", "cache"),
    ],
)
def test_a_callers_array_that_is_overwritten_is_named(layer, who, what):
    words = rejected(layer()).splitlines()[1].split()
    assert (words[0], words[-1]) == (who, what)


def test_a_layer_that_overwrites_x_is_not_accused_of_a_wrong_derivative():
    message = rejected(broken(forward=lambda self, x, y, cache: overwrite(x), base=Sigmoid))
    assert message.count("WRONG") == 1


def test_a_last_bit_that_is_overwritten_is_seen():
    def nudge(self, dy, cache):
        dy[0, 0] = np.nextafter(dy[0, 0], 9)

    assert names(rejected(broken(backward=and_return_dx(nudge))), "backward", "writes", "dy")


def accumulate(self, dy, cache, grads, dx, need_dx):
    if grads is not None:
        grads["b"][...] = np.nan  # what `grads["b"] += …` leaves behind where grads held NaN
    return dx


def rebind(self, dy, cache, grads, dx, need_dx):
    if grads is not None:
        grads["W"] = cache.T @ dy
    return dx


def ignore_need_dx(self, dy, cache, grads, dx, need_dx):
    return dy @ self.W.T


def without_grads_differs(self, dy, cache, grads, dx, need_dx):
    return dx if grads is not None or dx is None else dx * 1.5


def gradients_without_need_dx_differ(self, dy, cache, grads, dx, need_dx):
    if not need_dx and grads is not None:
        grads["b"] *= 2
    return dx


@pytest.mark.parametrize(
    ("fault", "facts"),
    [
        (accumulate, ["backward", "NaN", "b[0]"]),
        (rebind, ["backward", "rebinds", 'grads["W"]']),
        (ignore_need_dx, ["backward", "need_dx=False", "None"]),
        (without_grads_differs, ["backward", "without grads", "dx"]),
        (gradients_without_need_dx_differ, ["backward", "need_dx=False", "gradients"]),
        (lambda self, dy, cache, grads, dx, need_dx: None, ["backward", "dx", "None", "(5, 4)"]),
        (
            lambda self, dy, cache, grads, dx, need_dx: dx.T if need_dx else None,
            ["backward", "dx", "(4, 5)", "(5, 4)"],
        ),
        (
            lambda self, dy, cache, grads, dx, need_dx: dx.astype(np.float32) if need_dx else None,
            ["backward", "dx", "float32", "float64"],
        ),
        (
            lambda self, dy, cache, grads, dx, need_dx: dx * np.float64(1) if need_dx else None,
            ["backward", "turns float32 into float64"],
        ),
    ],
)
def test_a_breach_of_the_protocol_is_named(fault, facts):
    assert names(rejected(broken(backward=fault)), *facts)


def test_a_forward_that_upcasts_is_named():
    class Upcasts(Sigmoid):
        def forward(self, x, train=False, rng=None):
            y, cache = super().forward(x)
            return y * np.float64(1), cache

    assert names(rejected(Upcasts()), "forward", "float32 into float64")


class KeepsState(Sigmoid):
    """The popular fault: what backward needs is kept on the layer, and D on fake overwrites D on real."""

    def forward(self, x, train=False, rng=None):
        y, self.derivative = super().forward(x)
        return y, None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return super().backward(dy, self.derivative, grads, need_dx)


class ReusesItsOutput(ReLU):
    workspace = None

    def forward(self, x, train=False, rng=None):
        if self.workspace is None or self.workspace.dtype != x.dtype:
            self.workspace = np.empty_like(x)
        return np.maximum(x, 0, out=self.workspace), self.workspace


class ReusesItsOutputButNotItsCache(ReusesItsOutput):
    def forward(self, x, train=False, rng=None):
        y, _ = super().forward(x, train, rng)
        return y, y.copy()


class ReusesItsDx(ReLU):
    workspace = None

    def backward(self, dy, cache, grads=None, need_dx=True):
        if not need_dx:
            return None
        if self.workspace is None or self.workspace.dtype != dy.dtype:
            self.workspace = np.empty_like(dy)
        return np.multiply(dy, cache > 0, out=self.workspace)


class HiddenRandomness(Layer):
    random = np.random.default_rng(0)

    def forward(self, x, train=False, rng=None):
        mask = self.random.choice([0.0, 2.0], x.shape).astype(x.dtype)
        return x * mask, mask

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * cache if need_dx else None


@pytest.mark.parametrize(
    ("layer", "facts"),
    [
        (KeepsState, ["backward", "second forward"]),
        (ReusesItsOutput, ["second forward", "writes", "cache"]),
        (ReusesItsOutputButNotItsCache, ["second forward", "writes", " y"]),
        (ReusesItsDx, ["backward", "writes", "dx"]),
        (HiddenRandomness, ["forward", "same x", "rng"]),
    ],
)
def test_state_on_a_layer_is_named(layer, facts):
    assert names(rejected(layer()), *facts)


class CentresTheMinibatch(Layer):
    """yᵢ = xᵢ − meanₖ xₖ: its derivative is right, but rows are not treated by themselves"""

    def forward(self, x, train=False, rng=None):
        return x - x.mean(axis=0), None

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy - dy.mean(axis=0) if need_dx else None


class Triples(Layer):
    """y = 3x; `cache` makes what backward is given, `slope` finds 3 in it again."""

    def __init__(self, cache, slope):
        self.cache, self.slope = cache, slope

    def forward(self, x, train=False, rng=None):
        return x * 3, self.cache(x)

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy * self.slope(cache) if need_dx else None


@pytest.mark.parametrize("shape", [(5, 4), (5, 1)])
@pytest.mark.parametrize(
    ("cache", "slope", "how"),
    [
        (lambda x: {"three": np.full_like(x, 3)}, lambda cache: cache["three"], ["ValueError"]),
        (lambda x: np.full(x.shape[1:], 3, x.dtype), lambda cache: cache, ["ValueError", "a different dx"]),
        (lambda x: np.full((1, 1), 3, x.dtype), lambda cache: cache, ["ValueError", "a different dx"]),
    ],
)
def test_a_cache_that_cannot_be_cut_into_rows_is_named(cache, slope, how, shape):
    message = rejected(Triples(cache, slope), shape)
    fault = message.splitlines()[1]
    assert "each row" in fault
    assert any(words in fault for words in how)
    assert message.count("WRONG") == 1


@pytest.mark.parametrize("rebind", [False, True])
def test_a_gradient_of_an_undeclared_parameter_is_named(rebind):
    class Forgetful(Layer):
        def forward(self, x, train=False, rng=None):
            return x * np.ones(4), x

        def backward(self, dy, cache, grads=None, need_dx=True):
            if grads is not None and rebind:
                grads["s"] = (dy * cache).sum(axis=0)
            elif grads is not None:
                grads["s"][...] = (dy * cache).sum(axis=0)
            return dy * np.ones(4)

    assert names(rejected(Forgetful()), "backward", 'grads["s"]', "declare")


# ---- Rows that influence each other


def test_a_layer_that_mixes_rows_without_a_word_is_named():
    """By its forward, where one row of x changes y in others; and by its backward, where dx of some rows needs all."""
    message = rejected(CentresTheMinibatch())
    assert names(message, "each row", "rows 2 … 4", "backward")
    assert names(message, "one row of x", "other rows", "mixes_rows")
    assert message.count("WRONG") == 1
    for shape in (5, 4), (2, 4):  # and what can be cut is not accused
        assert check_layer(Triples(lambda x: (np.full_like(x, 3), [3.0, None]), lambda cache: cache[0]), shape).passed


class SaysThatItCentres(CentresTheMinibatch):
    mixes_rows = True


class SaysTooMuch(Linear):
    mixes_rows = True


class SilentNorm(BatchNorm):
    mixes_rows = False


@pytest.mark.parametrize("shape", [(5, 4), (2, 4), (3, 2, 4)])
def test_a_layer_that_mixes_rows_and_says_so_is_accepted(shape):
    assert check_layer(SaysThatItCentres(), shape).passed
    assert check_layer(Residual(SaysThatItCentres()), shape).passed


@pytest.mark.parametrize("layer", [lambda: SaysTooMuch(4, 4), lambda: Residual(SaysTooMuch(4, 4))])
def test_a_layer_that_says_it_mixes_rows_and_does_not_is_named(layer):
    message = rejected(layer())
    assert names(message, "mixes_rows", "no other row")
    assert message.count("WRONG") == 1


@pytest.mark.parametrize(
    "layer", [lambda: SilentNorm(4), lambda: Residual(SilentNorm(4)), lambda: Residual(Tanh(), SilentNorm(4))]
)
def test_batch_norm_that_does_not_say_that_it_mixes_rows_is_named(layer):
    assert names(rejected(layer()), "one row of x", "other rows", "mixes_rows")


def test_rows_that_are_mixed_outside_training_alone_are_named():
    class CentresLater(CentresTheMinibatch):
        def forward(self, x, train=False, rng=None):
            return (x, True) if train else (super().forward(x)[0], False)

        def backward(self, dy, cache, grads=None, need_dx=True):
            return (dy.copy() if cache else super().backward(dy, cache)) if need_dx else None

    assert names(rejected(CentresLater()), "each row", "train=False")


# ---- Running statistics


class RunningMean(Layer):
    """y = x − mean, with the running mean in training too: it has statistics, and treats each row by itself"""

    def __init__(self, n=4):
        self.declarations = {"s": ((n,), Constant(1.0))}
        self.statistic_declarations = {"mean": ((n,), Constant(0.5))}

    def forward(self, x, train=False, rng=None):
        y = x - self.mean
        return self.s * y, (y, x)

    def backward(self, dy, cache, grads=None, need_dx=True):
        if grads is not None:
            grads["s"][...] = (dy * cache[0]).sum(axis=0)
        return dy * self.s if need_dx else None

    def observe(self, cache):
        self.mean[...] = 0.9 * self.mean + 0.1 * cache[1].mean(axis=0)


@pytest.mark.parametrize("layer", [RunningMean, lambda: BatchNorm(4), lambda: Residual(RunningMean(), Tanh(), BatchNorm(4))])
def test_correct_statistics_are_accepted(layer):
    assert check_layer(layer(), (5, 4)).passed


def with_fault(**methods):
    return type("Faulty" + RunningMean.__name__, (RunningMean,), methods)()


def forward_moves(self, x, train=False, rng=None):
    result = RunningMean.forward(self, x, train, rng)
    if train:
        RunningMean.observe(self, result[1])
    return result


def forward_moves_outside_training(self, x, train=False, rng=None):
    return forward_moves(self, x, not train, rng)[0], RunningMean.forward(self, x)[1] if train else (x - 0.1, x)


def backward_moves(self, dy, cache, grads=None, need_dx=True):
    self.mean[...] += 0.1
    return RunningMean.backward(self, dy, cache, grads, need_dx)


def observe_writes_to(name):
    def observe(self, cache):
        RunningMean.observe(self, cache)
        {"x": cache[1], "cache": cache[0], "s": self.s}[name][...] += 1.0

    return observe


@pytest.mark.parametrize(
    ("methods", "facts"),
    [
        ({"forward": forward_moves}, ["forward", "writes", "statistics", "mean"]),
        ({"backward": backward_moves}, ["backward", "writes", "statistics", "mean"]),
        ({"observe": observe_writes_to("x")}, ["observe", "writes", " x"]),
        ({"observe": observe_writes_to("s")}, ["observe", "writes", " s"]),
        ({"observe": observe_writes_to("cache")}, ["observe", "writes", "cache"]),
        ({"observe": lambda self, cache: None}, ["observe", "statistics", "as they were"]),
    ],
    ids=["forward", "backward", "observe x", "observe s", "observe cache", "observe nothing"],
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "as a part"])
def test_statistics_that_are_moved_wrongly_are_named(methods, facts, inside):
    layer = with_fault(**methods)
    message = rejected(Residual(layer) if inside else layer)
    assert names(message, *("0.s" if inside and fact == " s" else fact for fact in facts))


def test_statistics_that_forward_moves_outside_training_are_named():
    assert names(rejected(with_fault(forward=forward_moves_outside_training)), "forward", "writes", "statistics")


def test_statistics_without_an_observe_are_refused():
    with refused("RunningMean", "observe"):
        check_layer(with_fault(observe=Layer.observe), (5, 4))


def test_statistics_that_turn_float32_into_float64_are_named():
    class Wide(BatchNorm):
        def forward(self, x, train=False, rng=None):
            y, cache = super().forward(x, train, rng)
            return y * np.float64(1), cache

    assert names(rejected(Wide(4)), "forward", "float32 into float64")


# ---- Layers inside


def forgets_the_grads_of_its_parts(self, dy, cache, grads=None, need_dx=True):
    return Residual.backward(self, dy, cache, None, need_dx)


def forgets_x(self, dy, cache, grads=None, need_dx=True):
    dx = Residual.backward(self, dy, cache, grads, need_dx)
    return dx - dy if need_dx else None


def hands_dy_to_every_part(self, dy, cache, grads=None, need_dx=True):
    dxs = [part.backward(dy, c, self.part_grads(grads, i)) for i, (part, c) in enumerate(zip(self.parts, cache, strict=True))]
    return dy + dxs[0] if need_dx else None


@pytest.mark.parametrize(
    ("backward", "wrong"),
    [
        (forgets_the_grads_of_its_parts, ["0.W", "0.b", "2.W", "2.b"]),
        (forgets_x, ["x"]),
        (hands_dy_to_every_part, ["x", "0.W", "0.b"]),
    ],
)
def test_a_wrong_chain_rule_through_parts_is_named_by_part(backward, wrong):
    parts = [Linear(4, 4, weight=Uniform(0.8)), Tanh(), Linear(4, 4, weight=Uniform(0.8))]
    message = rejected(type("Broken", (Residual,), {"backward": backward})(*parts))
    assert [line.split()[0] for line in message.splitlines() if line.endswith("WRONG")][1:] == wrong


def test_a_wrong_part_is_named_inside_a_right_layer():
    assert check_layer(Residual(Tanh(), Faulty()), (5, 4)).passed
    message = rejected(Residual(Tanh(), Faulty(grads_fault=scale_W(1.01))))
    assert "ratio 1.01," in message
    assert [line.split()[0] for line in message.splitlines() if line.endswith("WRONG")][1:] == ["1.W"]


def test_a_part_that_overwrites_its_parameter_is_named():
    message = rejected(Residual(broken(forward=lambda self, x, y, cache: overwrite(self.W))))
    assert names(message, "forward", "writes", "0.W")


# ---- What a learner gives it


class Logarithm(Layer):
    """y = log x, for x > 0"""

    def forward(self, x, train=False, rng=None):
        return np.log(x), x

    def backward(self, dy, cache, grads=None, need_dx=True):
        return dy / cache if need_dx else None


def test_an_input_can_be_given_where_the_domain_is_not_everything():
    x = np.arange(1.0, 13).reshape(3, 4)
    assert check_layer(Logarithm(), x).passed
    assert np.array_equal(x, np.arange(1.0, 13).reshape(3, 4))


def test_a_layer_that_is_in_a_network_is_refused_and_stays_as_it_is():
    layer = Linear(4, 4)
    net = Network([layer])
    before = net.theta.copy()
    with refused("Linear(4, 4)", "in a network"):
        check_layer(layer, (5, 4))
    assert layer.in_network
    layer.W[...] = 2.0
    assert (net.theta[:16] == 2.0).all()
    assert (net.theta[16:] == before[16:]).all()


def test_an_upstream_gradient_of_any_shape():
    """A layer over more than two axes, whose parameter is a 0-d array."""

    class Gain(Layer):
        declarations = {"g": ((), Constant(1.0))}

        def forward(self, x, train=False, rng=None):
            return x * self.g, x

        def backward(self, dy, cache, grads=None, need_dx=True):
            if grads is not None:
                grads["g"][...] = (dy * cache).sum()
            return dy * self.g if need_dx else None

    report = check_layer(Gain(), (2, 3, 2, 2))
    assert [(block.name, block.shape, block.entries) for block in report.blocks] == [
        ("x", (2, 3, 2, 2), 24),
        ("g", (), 1),
    ]


def test_the_report_is_a_table():
    lines = str(check_layer(Maxout(3, 2, 4), (5, 3))).splitlines()
    assert lines[0] == "Maxout(3, 2, 4) on an input of shape (5, 3): passed"
    assert [line.split()[0] for line in lines[1:]] == ["x", "W", "b"]
    assert all("entries, 3 directions" in line for line in lines[1:])


def test_check_gradient_of_any_cost():
    W = np.random.default_rng(0).standard_normal((3, 2))
    before = W.copy()
    report = check_gradient(lambda: (W**3).sum(), {"W": W}, {"W": 3 * W**2})
    assert report.error < 1e-7
    assert W.tobytes() == before.tobytes()
    with pytest.raises(GradientError, match=r"W\[2, 1\]: backward"):
        check_gradient(lambda: (W**3).sum(), {"W": W}, {"W": 3 * W**2 + np.array([[0, 0], [0, 0], [0, 1]])})
    with refused("gradient of W", "(2, 3)", "(3, 2)", error=GradientError):
        check_gradient(lambda: (W**3).sum(), {"W": W}, {"W": 3 * W.T**2})


def test_check_gradient_of_a_cost_that_is_a_view():
    w = np.ones(1)
    assert check_gradient(lambda: w.reshape(()), {"w": w}, {"w": np.ones(1)}).passed


def test_check_gradient_puts_values_back_if_the_cost_raises():
    W = np.ones(3)

    def cost():
        if W[1] != 1:
            raise ZeroDivisionError
        return W.sum()

    with pytest.raises(ZeroDivisionError):
        check_gradient(cost, {"W": W}, {"W": np.ones(3)})
    assert W.tolist() == [1, 1, 1]


def test_check_gradient_refuses_what_it_cannot_use():
    W = np.ones((3, 2))
    for values in {"W": W.astype(np.float32)}, {"W": W.T}:
        with refused("W", "C-contiguous", "float64"):
            check_gradient(lambda: 0.0, values, values)
    fixed = W.copy()
    fixed.flags.writeable = False
    for value in fixed, [1.0, 2.0]:
        with refused("W", "written"):
            check_gradient(lambda: 0.0, {"W": value}, {"W": W})
    for values, gradients in ({"W": W}, {"V": W}), ({}, {}):
        with refused("values", "gradients", *values, *gradients):
            check_gradient(lambda: 0.0, values, gradients)


def test_the_floor_does_not_hide_small_gradients():
    """Gradients of 10⁻⁴⁰ are compared in full where nothing larger is beside them."""
    a = np.array([[-92.0]])

    def cost():
        return np.logaddexp(a, 0).mean()

    gradient = np.exp(a - np.logaddexp(a, 0))
    assert gradient < 1e-39
    assert check_gradient(cost, {"a": a}, {"a": gradient}).passed
    with pytest.raises(GradientError, match="ratio 1.0001,"):
        check_gradient(cost, {"a": a}, {"a": gradient * 1.0001})


# ---- Faults in costs and in whole steps


def scaled(loss, factor):
    def faulty(*args, **kwargs):
        cost, *gradients = loss(*args, **kwargs)
        return cost, *(factor * gradient for gradient in gradients)

    return faulty


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "normalised"), [(1.0001, ""), (-1.0, ""), (1.0001, " with batch norm")])
@pytest.mark.parametrize("variant", tinygan.gan.VARIANTS)
@pytest.mark.parametrize(("player", "loss"), [("D", discriminator_loss), ("G", generator_loss)])
def test_a_wrong_cost_is_seen_in_the_whole_step_of_its_player_alone(player, loss, variant, factor, normalised, monkeypatch):
    monkeypatch.setattr(tinygan.gan, loss.__name__, scaled(loss, factor))
    report = ROWS[f"{player} step{normalised}, {variant}"]()
    assert not report.passed
    assert f"ratio {factor:.6g}," in str(report)
    if variant == "simultaneous":  # in the others G's gradient is taken at the θ_d that D's step has reached
        assert ROWS[f"{'G' if player == 'D' else 'D'} step{normalised}, {variant}"]().passed


@pytest.mark.parametrize("player", "DG")
def test_a_dropped_mask_is_seen_in_the_whole_step(player, monkeypatch):
    monkeypatch.setattr(Dropout, "backward", MasklessDropout.backward)
    assert not ROWS[f"{player} step, simultaneous"]().passed


@pytest.mark.slow
@pytest.mark.parametrize("variant", tinygan.gan.VARIANTS)
@pytest.mark.parametrize("player", "DG")
def test_a_batch_norm_that_takes_mu_for_a_constant_is_seen_in_the_whole_step(player, variant, monkeypatch):
    def backward(self, dy, cache, grads=None, need_dx=True):
        x_hat, scale, _ = cache
        original(self, dy, cache, grads, need_dx=False)
        return dy * (self.gamma * scale) if need_dx else None

    original = BatchNorm.backward
    monkeypatch.setattr(BatchNorm, "backward", backward)
    assert not ROWS[f"{player} step with batch norm, {variant}"]().passed
    assert not ROWS["BatchNorm"]().passed


@pytest.mark.slow
@pytest.mark.parametrize("variant", tinygan.gan.VARIANTS)
def test_a_D_with_batch_norm_that_judges_data_and_samples_together_is_seen(variant, monkeypatch):
    """μ and σ² of both at once are other ones than those of each: the table sees it where nothing refuses it."""
    monkeypatch.setattr(tinygan.GAN, "apart", tinygan.GAN.together)
    row = ROWS[f"D step with batch norm, {variant}"]
    if variant == "simultaneous":  # there G's gradient needs the rows that cannot be cut out
        with refused("BatchNorm"):
            row()
    else:
        assert not row().passed


def test_a_clipped_probability_is_seen_in_the_cost():
    """The gradient of −log(D + 10⁻⁸) is 0 where D is confidently wrong; that of −log D is −1."""

    def clipped(a):
        p = 1 / (1 + np.exp(-a))
        return generator_loss(a)[0], -p * (1 - p) / (p + 1e-8) / len(a)

    wrong = []
    for logit in -100.0, -30.0, 100.0:
        a = np.full((1, 1), logit)
        for loss, kept in (generator_loss, []), (clipped, wrong):
            report = compare_cost("a cost", lambda loss=loss, a=a: loss(a)[0], {"a": a}, {"a": loss(a)[1]})
            kept += [logit] * (not report.passed)
            assert loss is clipped or report.passed
    assert wrong == [-100, -30, 100]
