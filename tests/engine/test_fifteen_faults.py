"""Fifteen ways in which hand-written GAN and layer code goes wrong in public, each with a test that sees it.

Each docstring states the fault as others had it; each test fails when that fault is put into tinygan.
"""

import ast
import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
from equations import EQUATIONS
from helpers import LAYERS, M, SameDraws, bits, discriminator, game, generator, numeric_gradient, same_streams

import tinygan
from tinygan import (
    GENERATOR_COSTS,
    VARIANTS,
    Batch,
    Dropout,
    GradientError,
    Layer,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    check_layer,
    discriminator_loss,
    generator_loss,
    value_function,
)

rng = np.random.default_rng(0)
X, Z = rng.random((M, 4)), rng.standard_normal((M, 3))


def bare(variant="alternating", **options):
    """A game with η = 1 and μ = 0: a step moves θ by its gradient."""
    return game(variant, learning_rate=1.0, momentum=0.0, **options)


def sigma(a):
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def log1pexp(a):
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))


def logit(a, dtype=np.float64):
    return np.full((1, 1), a, dtype)


@pytest.mark.parametrize("variant", VARIANTS)
def test_01_the_generator_never_moves(variant):
    """The generator never moves (caches flushed before its backward)."""
    steps = {
        "a step of G": (lambda gan: gan.generator_step(Z, None), {"θ_g": True, "θ_d": False}),
        "a step of D": (lambda gan: gan.discriminator_step(X, Z, None), {"θ_g": False, "θ_d": True}),
        "an iteration": (lambda gan: gan.iteration(iter([Batch(X)]), same_streams(np)), {"θ_g": True, "θ_d": True}),
    }
    for name, (step, moves) in steps.items():
        gan = bare(variant)
        before = bits(gan.G.theta), bits(gan.D.theta)
        step(gan)
        moved = {"θ_g": bits(gan.G.theta) != before[0], "θ_d": bits(gan.D.theta) != before[1]}
        assert moved == moves, f"what {name} moves"


def test_02_dropout_backward_ignores_the_mask():
    """Dropout's backward ignores the mask."""
    check_layer(Dropout(0.5), (20, 30))  # holds the mask while it takes the numeric derivative
    y, cache = Dropout(0.5).forward(np.ones((20, 30)), True, SameDraws(np))
    dx = Dropout(0.5).backward(np.full((20, 30), 3.0), cache)
    assert (dx[y == 0] == 0).all(), "a dropped input gets exactly 0"
    assert (dx[y != 0] == 6).all(), "a kept one gets dy / keep"


def test_03_activations_kept_on_the_layer():
    """Activations kept on the layer: D on fake overwrites D on real."""
    D, samples, dy = discriminator(), generator()(Z), rng.standard_normal((M, 1))
    _, on_real = D.forward(X)
    D.forward(samples)
    grad = np.empty_like(D.theta)
    dx = D.backward(dy, on_real, grad)
    numeric = numeric_gradient(lambda: (dy * D(X)).sum(), D.theta)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dx, numeric_gradient(lambda: (dy * D(X)).sum(), X), rtol=1e-6, atol=1e-8)


def test_04_gradient_check_with_an_all_ones_upstream_gradient():
    """Gradient check with an all-ones upstream gradient (sees nothing where outputs sum to a constant)."""

    class Centred(Layer):
        """y = x − mean(x), whose outputs sum to 0: with dy = 1 even a derivative of 0 looks right."""

        def forward(self, x, train=False, rng=None):
            return x - x.mean(axis=1, keepdims=True), None

        def backward(self, dy, cache, grads=None, need_dx=True):
            return dy - dy.mean(axis=1, keepdims=True) if need_dx else None

    class CentredWrongly(Centred):
        def backward(self, dy, cache, grads=None, need_dx=True):
            return 0 * dy if need_dx else None

    x = X.copy()
    ones = numeric_gradient(lambda: Centred().forward(x)[0].sum(), x)
    np.testing.assert_allclose(ones, 0, atol=1e-9, err_msg="an all-ones dy sees nothing")
    assert check_layer(Centred(), (5, 4)).passed
    with pytest.raises(GradientError, match="x"):
        check_layer(CentredWrongly(), (5, 4))


@pytest.mark.parametrize("parameter", ["W", "b"])
@pytest.mark.parametrize("kind", [Linear, Maxout])
def test_05_only_x_is_checked_never_W_and_b(kind, parameter):
    """Only x is checked, never W and b."""

    class Wrong(kind):
        def backward(self, dy, cache, grads=None, need_dx=True):
            dx = super().backward(dy, cache, grads, need_dx)
            if grads is not None:
                grads[parameter] *= 1.001
            return dx

    sizes = (4, 3) if kind is Linear else (4, 3, 2)
    assert {block.name for block in check_layer(kind(*sizes), (5, 4)).blocks} == {"x", "W", "b"}
    with pytest.raises(GradientError, match=rf"(?m)^  {parameter} .*WRONG$"):
        check_layer(Wrong(*sizes), (5, 4))


SKIPS = ("skip", "skipif", "xfail")


def test_06_the_only_numeric_gradient_test_is_skipped():
    """The only numeric gradient test is skipped: here nothing is, but for a missing GPU or an optional peer."""
    skipped = []
    tests = Path(__file__).parents[1]
    for path in sorted(tests.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if not any(name in source for name in SKIPS):
            continue  # need not be parsed
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr in SKIPS:
                skipped.append(f"{path.relative_to(tests).as_posix()}: {ast.unparse(node)}")
    assert skipped == ["standin/test_conformance.py: pytest.skip", "test_gpu.py: pytest.skip"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_07_the_discriminators_objective_is_unbounded(dtype):
    """The discriminator's objective unbounded (−log σ(a) where log(1 − σ(a)) is meant)."""
    for a_real in (-100.0, 0.0, 100.0):
        for a_fake in (-100.0, 0.0, 100.0):
            J, da_real, da_fake = discriminator_loss(logit(a_real, dtype), logit(a_fake, dtype))
            assert J >= 0, "−½V is bounded below by 0"
            assert J == pytest.approx((log1pexp(-a_real) + log1pexp(a_fake)) / 2, rel=1e-6, abs=1e-40)
            assert da_real.item() == pytest.approx(-sigma(-a_real) / 2, rel=1e-6, abs=1e-40)
            assert da_fake.item() == pytest.approx(sigma(a_fake) / 2, rel=1e-6, abs=1e-40)


@pytest.mark.parametrize("a", [-100.0, -3.0, 0.0, 3.0, 100.0])
def test_08_minimax_and_non_saturating_are_not_the_same(a):
    """Docstring says minimax, code does non-saturating, "the same"."""
    minimax, da_minimax = generator_loss(logit(a), "minimax")
    non_saturating, da_non_saturating = generator_loss(logit(a), "non_saturating")
    assert minimax == pytest.approx(-log1pexp(a), rel=1e-14, abs=0), "minimax: log(1 − D)"
    assert da_minimax.item() == pytest.approx(-sigma(a), rel=1e-14, abs=0), "minimax: −D"
    assert non_saturating == pytest.approx(log1pexp(-a), rel=1e-14, abs=0), "non-saturating: −log D"
    assert da_non_saturating.item() == pytest.approx(-sigma(-a), rel=1e-14, abs=0), "non-saturating: −(1 − D)"
    assert [bare(v).generator_cost for v in VARIANTS] == ["non_saturating", "non_saturating", "minimax"]


@pytest.mark.parametrize("tied", [(0, 1), (1, 2), (0, 1, 2)])
def test_09_each_maximiser_of_a_tie_gets_the_full_gradient(tied):
    """Each maximiser of a tie gets the full gradient."""
    layer = Maxout(4, 2, 3)
    net = Network([layer], dtype=np.float64)
    net.theta = 0.0
    layer.params["b"].reshape(3, 2)[list(tied)] = 1.0
    dy = rng.standard_normal((M, 2))
    _, cache = net.forward(X)
    grad = np.empty_like(net.theta)
    net.backward(dy, cache, grad)
    by_piece = net.views(grad)["0.b"].reshape(3, 2)
    np.testing.assert_allclose(by_piece.sum(axis=0), dy.sum(axis=0), rtol=1e-14, err_msg="Σ over pieces = dy")


@pytest.mark.parametrize("a", [20.0, 40.0, 88.0, 89.0, 100.0, 1000.0])
def test_10_cross_entropy_overflows_or_is_clipped(a):
    """Float32 cross-entropy gives inf at logit 20; clipped version gives gradient 0 to a confidently wrong D."""
    wrong_on_data, wrong_on_samples = logit(-a, np.float32), logit(a, np.float32)
    J, da_real, da_fake = discriminator_loss(wrong_on_data, wrong_on_samples)
    assert J == np.float32(a), "½ (a + a), neither inf nor a clip's bound"
    assert (da_real.item(), da_fake.item()) == (-0.5, 0.5), "the gradient of a confidently wrong D is whole"
    assert value_function(wrong_on_data, wrong_on_samples) == np.float32(-2 * a)
    cost, da = generator_loss(wrong_on_data, "non_saturating")
    assert (cost, da.item()) == (np.float32(a), -1.0), "so is that of a G whose samples are all rejected"


@pytest.mark.parametrize("cost", GENERATOR_COSTS)
def test_11_generator_loss_through_old_activations(cost):
    """G's loss goes back through old activations with already-updated weights."""
    gan = bare(generator_cost=cost)
    before = gan.G.theta.copy()
    gan.iteration(iter([Batch(X)]), same_streams(np))
    step = gan.G.theta - before
    gan.G.theta = before
    draws = same_streams(np)["noise"]
    gan.noise(draws, M, np.float64)  # z of D's step
    z = gan.noise(draws, M, np.float64)

    def J():
        return generator_loss(gan.D(gan.G(z)), cost)[0]

    np.testing.assert_allclose(step, -numeric_gradient(J, gan.G.theta), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_12_backward_overwrites_the_callers_dy(name):
    """Backward overwrites the caller's dy."""
    net = Network([LAYERS[name]()], dtype=np.float64)
    x = rng.standard_normal((M, 4))
    y, cache = net.forward(x, True, SameDraws(np))
    dy = rng.standard_normal(y.shape)
    arguments = {"dy": dy, "x": x, "cache": cache, "θ": net.theta}
    before = {name: bits(argument) for name, argument in arguments.items()}
    net.backward(dy, cache, np.empty_like(net.theta))
    assert [name for name in arguments if bits(arguments[name]) != before[name]] == [], "changed by backward"


def test_13_weights_updated_inside_backward():
    """Weights updated inside backward, so D takes two steps where Algorithm 1 takes one."""
    gan, samples = bare("printed"), generator()(Z)
    before = gan.D.theta.copy()
    gan.discriminator_step(X, Z, None)
    step = gan.D.theta - before
    gan.D.theta = before

    def V():
        return value_function(gan.D(X), gan.D(samples))

    np.testing.assert_allclose(step, numeric_gradient(V, gan.D.theta), rtol=1e-6, atol=1e-8)
    assert gan.D_optimizer.updates == 1


def test_14_momentum_as_an_average():
    """ "Momentum" as m·v + (1 − m)·g."""
    theta, velocities = np.zeros(1), []
    optimizer = MomentumSGD(theta, 1.0, 0.5)
    for _ in range(3):
        optimizer.step(np.ones(1))
        velocities.append(optimizer.velocity.item())
    assert velocities == [-1, -1.5, -1.75], "v ← ½v − 1; an average gives −½, −¾, −⅞"
    assert theta.item() == -4.25


def the_docstring(where):
    return " ".join(inspect.getdoc(where).split())


@pytest.mark.parametrize(("where", "texts", "values"), EQUATIONS, ids=[where.__name__ for where, *_ in EQUATIONS])
def test_15_equations_in_docs_that_their_code_contradicts(where, texts, values):
    """Equations in docs that their code contradicts: here each is executed, beside the code."""
    for text in texts:
        assert text in the_docstring(where), "equations.py executes another equation than the one printed"
    for code, equation in values():
        np.testing.assert_allclose(code, equation, rtol=1e-12, atol=1e-15)


def test_15_every_public_docstring_that_begins_with_an_equation_is_executed():
    names = (getattr(tinygan, name) for name in tinygan.__all__)
    public = [x for x in names if inspect.isclass(x) or inspect.isfunction(x)]
    equations = {x for x in public if re.search("[=←≈]", (inspect.getdoc(x) or "").split("\n")[0])}
    missing = [x.__name__ for x in equations - {where for where, *_ in EQUATIONS}]
    assert not missing, f"equations.py lacks {missing}"
