"""What the lessons' check cells use: check(…), and for each exercise without a layer the equation that its answer must satisfy.

    check(lambda: check_layer(Softplus(), (5, 3)))
    check(lambda: equation_2(optimal_discriminator))

A check knows no code of an answer. It executes the paper's statement: no other D may have a larger V than D*, a density must
integrate to 1, a gradient must agree with central differences. The checks of `momentum` and `stopping` have an example by hand.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.special import expit, softmax, xlogy
from scipy.stats import norm

from tinygan import (
    GAN,
    ArgumentError,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    ParzenWindow,
    Tanh,
    Uniform,
    check_gradient,
    discriminator_loss,
    generator_loss,
    select_sigma,
    value_function,
)

LOG_4 = float(np.log(4))
X = np.linspace(-10, 10, 2001)  # a grid on the line, for integrals
DX = X[1] - X[0]
PAIRS = {  # densities (p_data, p_g) on the grid, by their names
    "p_data = N(0, 1), p_g = N(1, 1)": (norm.pdf(X), norm.pdf(X, 1)),
    "p_data = N(0, 1), p_g = N(0, 2²)": (norm.pdf(X), norm.pdf(X, 0, 2)),
    "p_data = p_g = N(0, 1)": (norm.pdf(X), norm.pdf(X)),
    "p_data = ½ N(−2, ½²) + ½ N(2, ½²), p_g = N(0, 2²)": (
        (norm.pdf(X, -2, 0.5) + norm.pdf(X, 2, 0.5)) / 2,
        norm.pdf(X, 0, 2),
    ),
}
SIGMAS = np.linspace(0.1, 0.4, 13)  # the widths that a Parzen window is tried with


class NotAnswered(Exception):
    """What an exercise raises until its line is replaced by an answer."""


class Wrong(AssertionError):
    """What the check of an equation says of a wrong answer."""


def check(examine: Callable[[], object]) -> None:
    """Run a check. Print "right", "not answered yet", or what is wrong, in the checker's own words. It raises nothing."""
    try:
        with np.errstate(all="ignore"):  # the check says what an infinite value means
            report = examine()
    except Exception as error:
        if any(isinstance(cause, NotAnswered) for cause in causes(error)):
            print("not answered yet: replace the line `raise NotAnswered`, and run both cells again")
        elif isinstance(error, NameError):
            print(f"not right yet: {error}. Has the cell above been run?")
        elif isinstance(error, AssertionError | ArgumentError):
            print(f"not right yet: {error}")
        else:
            print(f"not right yet: the answer fails with {type(error).__name__}: {error}")
    else:
        print("right" if report is None else f"right\n{report}")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def require(condition: object, words: str) -> None:
    if not condition:
        raise Wrong(words)


def number(value: Any, name: str) -> float:
    require(np.size(value) == 1, f"{name} must be one number, not {describe(value)}")
    return float(np.asarray(value).item())


def like(value: Any, wanted: np.ndarray, name: str) -> np.ndarray:
    require(np.shape(value) == wanted.shape, f"{name} must have the shape {wanted.shape}, not {describe(value)}")
    return np.asarray(value, dtype=float)


def describe(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)


def pair(value: Any) -> tuple[Any, Any]:
    require(isinstance(value, tuple) and len(value) == 2, f"return two arrays, not {describe(value)}")
    return value


# ---- Lesson 1


def momentum_by_hand(step: Callable[..., Any]) -> None:
    """v ← μ v − η ∇;  θ ← θ + v: three updates of a network of two parameters, computed by hand for η = 0.1 and μ = ½."""
    network = Network([Linear(1, 1)], dtype=np.float64)
    network.theta = np.array([1.0, -2.0])
    v = np.zeros(2)
    gradients = [1.0, 2.0], [-2.0, 0.0], [0.5, 1.0]
    by_hand = [([-0.1, -0.2], [0.9, -2.2]), ([0.15, -0.1], [1.05, -2.3]), ([0.025, -0.15], [1.075, -2.45])]
    for i, (gradient, (v_i, theta_i)) in enumerate(zip(map(np.array, gradients), by_hand, strict=True), 1):
        before, given = network.theta.copy(), gradient.copy()
        step(network.theta, v, gradient, 0.1, 0.5)
        require(np.array_equal(gradient, given), "the step has changed the gradient, which is not its own: copy it first")
        moved = not np.array_equal(network.theta, before)
        require(moved, "θ has not moved. `theta = …` only gives the name to a new array: write into it, theta[...] = …")
        require(np.allclose(v, v_i), f"after update {i}, v is {v}. By hand it is {v_i}")
        require(np.allclose(network.theta, theta_i), f"after update {i}, θ is {network.theta}. By hand it is {theta_i}")


# ---- Lesson 2


def equation_1(V: Callable[..., Any]) -> None:
    """V(D, G) = mean log D(x) + mean log(1 − D(G(z))), from the logits, also where D(x) or 1 − D(x) is rounded to 0 or 1."""
    a_real, a_fake = np.random.default_rng(0).normal(size=(2, 5, 1))
    half = number(V(0 * a_real, 0 * a_fake), "V")
    require(np.isclose(half, -LOG_4), f"where D = ½ everywhere, V = −log 4 = {-LOG_4:.4f}. Yours is {half:.4f}")
    expected = np.log(expit(a_real)).mean() + np.log(1 - expit(a_fake)).mean()
    found = number(V(a_real, a_fake), "V")
    require(np.isclose(found, expected), f"for five logits of each kind Eq. 1 gives {expected:.4f}. Yours gives {found:.4f}")
    for real, fake in (-100.0, 0.0), (0.0, 100.0), (-800.0, 800.0):
        expected = float(value_function(np.array([[real]]), np.array([[fake]])))
        found = number(V(np.array([[real]]), np.array([[fake]])), "V")
        exact = np.isclose(found, expected)
        require(exact, f"for a_real = {real:g}, a_fake = {fake:g}, V is {expected:.4f}. Yours is {found}: compute log D from a")


def integrated_value(D: np.ndarray, p_data: np.ndarray, p_g: np.ndarray) -> float:
    """V(G, D) = ∫ p_data log D + p_g log(1 − D) dx   (Eq. 3)"""
    return float((xlogy(p_data, D) + xlogy(p_g, 1 - D)).sum() * DX)


def equation_2(optimal_discriminator: Callable[..., Any]) -> None:
    """No D has a larger V than D*: 100 others, a little above and below it, are tried for each pair of densities."""
    rng = np.random.default_rng(0)
    for name, (p_data, p_g) in PAIRS.items():
        D = like(optimal_discriminator(p_data, p_g), X, "D*")
        low, high = D.min(), D.max()
        require(0 <= low and high <= 1, f"D(x) is a probability. For {name} yours goes from {low:.3g} to {high:.3g}")
        V = integrated_value(D, p_data, p_g)
        inner = np.clip(D, 1e-300, 1 - 1e-16)
        a = np.log(inner) - np.log1p(-inner)
        for _ in range(50):
            wave = 0.1 * np.sin(rng.uniform(0, 2) * X + rng.uniform(0, 2 * np.pi))
            best = max(integrated_value(expit(a + sign * wave), p_data, p_g) for sign in (-1, 1))
            require(best <= V + 1e-9, f"for {name} your D has V = {V:.4f}. A slightly different D has more, {best:.4f}")


def gradient_of_D(discriminator_gradient: Callable[..., Any]) -> Any:
    """∂J/∂a_real and ∂J/∂a_fake of J(D) = −½ V, against central differences."""
    a_real, a_fake = np.random.default_rng(0).normal(size=(2, 5, 1))
    da_real, da_fake = pair(discriminator_gradient(a_real, a_fake))
    logits, gradients = {"a_real": a_real, "a_fake": a_fake}, {"a_real": da_real, "a_fake": da_fake}
    return check_gradient(lambda: discriminator_loss(a_real, a_fake)[0], logits, gradients)


def equation_6(jsd: Callable[..., Any]) -> None:
    """C(G) = −log 4 + 2 JSD(p_data‖p_g): the right side must be V at D*."""
    for name, (p_data, p_g) in PAIRS.items():
        C = integrated_value(p_data / (p_data + p_g), p_data, p_g)
        found = -LOG_4 + 2 * number(jsd(p_data, p_g, DX), "the divergence")
        equal = np.isclose(found, C, atol=1e-6)
        require(equal, f"for {name} your −log 4 + 2 JSD is {found:.4f}. V at D* is {C:.4f}, and Eq. 6 says that they are equal")


# ---- Lesson 3


def small_game(dtype: Any = np.float64) -> GAN:
    G = Network([Linear(2, 5, weight=Uniform(1)), Tanh(), Linear(5, 1, weight=Uniform(1))], seed=1, dtype=dtype)
    D = Network([Linear(1, 6, weight=Uniform(1)), Tanh(), Linear(6, 1, weight=Uniform(1))], seed=2, dtype=dtype)
    return GAN(G, D, *(MomentumSGD(net.theta, 0.1) for net in (G, D)), noise=Noise("gaussian", 2), batch_size=4)


def gradient_of_G(generator_gradient: Callable[..., Any]) -> Any:
    """∂J(G)/∂θ_g of J(G) = −mean log D(G(z)), through D, against central differences. θ_d must stay."""
    gan = small_game()
    G, D, z, theta_d = gan.G, gan.D, np.random.default_rng(0).normal(size=(4, 2)), gan.D.theta.copy()
    grad = generator_gradient(G, D, z)
    require(np.array_equal(D.theta, theta_d), "θ_d has changed. In G's step D is held fixed")
    return check_gradient(lambda: generator_loss(D(G(z)))[0], {"theta_g": G.theta}, {"theta_g": like(grad, G.theta, "∇")})


def algorithm_1(iteration: Callable[..., Any]) -> None:
    """θ_d and θ_g after one iteration, bit for bit as after D's update and then G's, with fresh noise and the new D."""
    x, z, new_z = (np.random.default_rng(seed).normal(size=(4, n)) for seed, n in ((0, 1), (1, 2), (2, 2)))

    def after(*steps: Callable[[GAN], Any]) -> tuple[bytes, bytes]:
        gan = small_game()
        for step in steps:
            step(gan)
        return gan.D.theta.tobytes(), gan.G.theta.tobytes()

    def D_step(gan: GAN) -> Any:
        return gan.discriminator_step(x, z, None)

    def G_step(gan: GAN) -> Any:
        return gan.generator_step(new_z, None)

    def at_the_old_D(gan: GAN) -> None:
        samples, G_cache = gan.G.forward(new_z)
        gan.generator_gradient(samples, G_cache, None)
        D_step(gan)
        gan.G_optimizer.step(gan.G_grad)

    mistakes = {
        after(): "neither θ_d nor θ_g has moved",
        after(D_step): "θ_d has moved, θ_g has not: G's update is missing",
        after(G_step): "θ_g has moved, θ_d has not: D's update is missing",
        after(G_step, D_step): "G is updated before D. Algorithm 1 updates D first",
        after(D_step, lambda gan: gan.generator_step(z, None)): "G's step uses D's noise. Algorithm 1 samples new noise for it",
        after(lambda gan: gan.discriminator_step(x, new_z, None), G_step): "D's step uses the noise that is meant for G's",
        after(at_the_old_D): "G's gradient was taken before D's update",
    }
    found = after(lambda gan: iteration(gan, x, z, new_z))
    require(found not in mistakes, mistakes.get(found, ""))
    D_is, G_is = ("right" if mine == wanted else "wrong" for mine, wanted in zip(found, after(D_step, G_step), strict=True))
    require((D_is, G_is) == ("right", "right"), f"after the iteration θ_d is {D_is}, and θ_g is {G_is}")


def slopes_of_G(slopes: Callable[..., Any]) -> None:
    """∂J/∂a of the minimax and of the non-saturating cost of one sample, against central differences, at seven logits."""
    a = np.array([[-12.0], [-5.0], [-1.0], [0.0], [1.0], [5.0], [12.0]])
    for kind, slope in zip(("minimax", "non_saturating"), pair(slopes(a)), strict=True):
        name = f"a ({kind})"

        def cost(kind: str = kind) -> Any:
            return generator_loss(a, kind)[0] * len(a)

        check_gradient(cost, {name: a}, {name: like(slope, a, f"the slope of {kind}")})


def best_response(answer: Callable[..., Any]) -> None:
    """Against a fixed D, no p_g has a larger E log D than the answer: 200 others are tried, for each of three D."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        D = expit(rng.normal(size=24))
        p_g = like(answer(D.copy()), D, "p_g")
        require((p_g >= 0).all(), f"p_g holds probabilities, and yours goes down to {p_g.min():.3g}")
        require(np.isclose(p_g.sum(), 1), f"probabilities add up to 1, and yours to {p_g.sum():.3g}")
        mine = p_g @ np.log(D)
        others = [softmax(8 * rng.normal(size=24)) @ np.log(D) for _ in range(200)] + list(np.log(D))
        require(mine >= max(others) - 1e-12, f"your p_g has E log D = {mine:.4f}. A different p_g has more, {max(others):.4f}")


# ---- Lesson 4


def parzen_window(log_density: Callable[..., Any]) -> None:
    """log p of the Parzen window: p integrates to 1, it is the sum of its Gaussians, and it is finite in 784 dimensions."""
    rng = np.random.default_rng(0)
    for sigma in 0.5, 0.8:
        p = np.exp([number(log_density(x, np.array([[-1.0], [2.0]]), sigma), "log p(x)") for x in X[::20, None]])
        area = float(p.sum() * DX * 20)
        one = np.isclose(area, 1, atol=1e-3)
        require(one, f"on the line, with σ = {sigma}, your density integrates to {area:.3f} and not to 1")
    for d, sigma in (2, 0.7), (784, 0.2):
        x, samples = rng.random((2, d)), rng.random((3, d))
        expected = ParzenWindow(sigma).fit(samples).score_samples(x)
        for x_i, wanted in zip(x, expected, strict=True):
            found = number(log_density(x_i, samples, sigma), "log p(x)")
            words = f"ParzenWindow finds log p(x) = {wanted:.3f}. Yours is {found:.3f}"
            require(np.isclose(found, wanted), f"in {d} dimensions, with σ = {sigma}, {words}")


def stopping(reported: Callable[..., Any]) -> None:
    """The score to report is the test score of the epoch that is the best on validation images."""
    validation, test = np.array([10.0, 40.0, 55.0, 35.0, 50.0]), np.array([12.0, 41.0, 52.0, 58.0, 47.0])
    found = number(reported(validation, test), "the score")
    mistakes = {
        58.0: "this is the best test score. The test images chose the epoch, so the score is too good",
        55.0: "this is the validation score. It chose the epoch, so it is too good itself",
        47.0: "this is the last epoch's test score, and the last epoch is not the best on validation images",
        50.0: "this is the last epoch's validation score",
    }
    require(found == 52.0, mistakes.get(found, f"{found:g} is not the test score of the best epoch on validation images, 52"))


def parzen_score(samples: np.ndarray, validation: np.ndarray, test: np.ndarray) -> float:
    """The mean log-likelihood of the test rows, with the σ that is the best on the validation rows."""
    sigma, _ = select_sigma(samples, validation, SIGMAS)
    return ParzenWindow(sigma).fit(samples).log_likelihood(test)[0]


def beats_real_images(blurred: Callable[..., Any], train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> None:
    """1,000 rows, made of the training images alone, must score 20 nats more than 1,000 training images."""
    wanted = train[:1000]
    rows = like(blurred(train.copy()), wanted, "the rows")
    low, high = rows.min(), rows.max()
    require(0 <= low and high <= 1, f"pixels lie in [0, 1]. Yours go from {low:.3g} to {high:.3g}")
    unseen = {row.tobytes() for row in np.concatenate([validation, test]).astype(np.float32)}
    taken = sum(row.tobytes() in unseen for row in rows.astype(np.float32))
    require(not taken, f"{taken} of your rows are validation or test images: make them out of the training images")
    mine, real = (parzen_score(images.astype(np.float32), validation, test) for images in (rows, wanted))
    require(mine > real + 20, f"your rows score {mine:.1f} nats. 1,000 real images score {real:.1f}: get 20 more than that")
    print(f"your rows score {mine:.1f} nats, 1,000 real images {real:.1f}")
