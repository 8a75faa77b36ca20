"""Sections 2 to 4 of the paper, executed: each statement in numbers, and beside it a condition under which it is false.

    python examples/theory.py            the table and the pictures, in well under two minutes
    python examples/theory.py --smoke    the same in seconds, with fewer updates of D

Each statement has a function under its name, in the paper's order. The function returns two kinds of checks. Some show that
the statement is true. The others, marked ≠, run the same code under a different condition, and show that it is false there.
So the checks can fail.

All values are in nats. An integral over the line is a sum over an even grid. For a smooth function that is 0 at both ends
the sum is exact up to rounding.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, logsumexp, ndtr, softmax

from tinygan import (
    GAN,
    Layer,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    Uniform,
    discriminator_loss,
    random_generator,
    softplus,
    to_device,
    to_host,
    value_function,
)
from tinygan.console import can_draw, progress_bar
from tinygan.figures import figure_and_axes, save_figure
from tinygan.init import Constant
from tinygan.run import main, natural, open_folder, positive, write_json

STEPS = 1000  # updates of a D that is trained to convergence
LOG_4 = float(np.log(4))
X = np.linspace(-15, 15, 3001)  # the grid for integrals over the line
DX = X[1] - X[0]
SUPPORT = 3**0.5  # the uniform noise prior is U(−√3, √3)


# The tools: checks, densities, divergences, and a discriminator that is trained to the end


@dataclass(frozen=True)
class Check:
    """A measured value and what it must be: "=" bound within tolerance, "<" bound or ">" bound."""

    what: str
    value: float
    relation: str
    bound: float
    tolerance: float = 0.0
    opposite: bool = False  # shows, by the same code, that the statement is false under a different condition

    @property
    def holds(self) -> bool:
        if self.relation == "=":
            return abs(self.value - self.bound) <= self.tolerance
        return self.value < self.bound if self.relation == "<" else self.value > self.bound

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {"what": self.what, "value": float(self.value), "relation": self.relation, "bound": float(self.bound),
                "tolerance": float(self.tolerance), "opposite": self.opposite, "holds": bool(self.holds)}  # fmt: skip

    def __str__(self) -> str:
        expected = f"{self.relation} {self.bound:.5g}" + (f" ± {self.tolerance:.2g}" if self.relation == "=" else "")
        verdict = "" if self.holds else "   FAILS"
        return f"  {'≠' if self.opposite else ' '} {self.what:<92} {self.value:>11.5g}   {expected}{verdict}"


def opposite(what: str, value: float, relation: str, bound: float, tolerance: float = 0.0) -> Check:
    return Check(what, value, relation, bound, tolerance, opposite=True)


class Mixture:
    """p(x) = Σᵢ wᵢ N(x; μᵢ, sᵢ²), a density on the line: components are (w, μ, s), the w add up to 1."""

    def __init__(self, *components: tuple[float, float, float]) -> None:
        self.w, self.mean, self.s = np.array(components).T

    def log(self, x: np.ndarray) -> np.ndarray:
        terms = -0.5 * ((x[..., None] - self.mean) / self.s) ** 2 - np.log(self.s * np.sqrt(2 * np.pi))
        return logsumexp(terms, b=self.w, axis=-1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self.log(x))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return ndtr((x[..., None] - self.mean) / self.s) @ self.w

    def sample(self, rng: np.random.Generator, m: int) -> np.ndarray:
        i = rng.choice(len(self.w), m, p=self.w)
        return self.mean[i] + self.s[i] * rng.standard_normal(m)

    def quantiles(self, m: int) -> np.ndarray:
        """m points of equal probability 1/m each: a minibatch whose means are integrals, without sampling error."""
        return np.interp(midpoints(m), self.cdf(X), X)


def normal(mean: float = 0.0, s: float = 1.0) -> Mixture:
    return Mixture((1.0, mean, s))


def midpoints(m: int) -> np.ndarray:
    """The middles of m equal parts of [0, 1]."""
    return (np.arange(m) + 0.5) / m


def integral(f: np.ndarray) -> float:
    return float(f.sum() * DX)


def kl(p: Mixture, q: Mixture) -> float:
    """KL(p‖q) = ∫ p log(p/q) dx"""
    return integral(p(X) * (p.log(X) - q.log(X)))


def jsd(p: Mixture, q: Mixture) -> float:
    """JSD(p‖q) = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2"""
    log_m = np.logaddexp(p.log(X), q.log(X)) - np.log(2)
    return 0.5 * integral(p(X) * (p.log(X) - log_m)) + 0.5 * integral(q(X) * (q.log(X) - log_m))


def optimal_logit(p_data: Mixture, p_g: Mixture, x: np.ndarray) -> np.ndarray:
    """a* = log p_data(x) − log p_g(x), so that σ(a*) = p_data/(p_data + p_g) = D*_G(x)   (Eq. 2)"""
    return p_data.log(x) - p_g.log(x)


def value(a: np.ndarray, p_data: Mixture, p_g: Mixture) -> float:
    """V(G, D) = ∫ p_data log D + p_g log(1 − D) dx   (Eq. 3), for D = σ(a) given on the grid X"""
    return integral(-p_data(X) * softplus(-a) - p_g(X) * softplus(a))


def criterion(p_data: Mixture, p_g: Mixture) -> float:
    """C(G) = max_D V(G, D) = V(G, D*_G)   (Eq. 4)"""
    return value(optimal_logit(p_data, p_g, X), p_data, p_g)


def line_discriminator(seed: int, reach: float = 6.0, units: int = 32, slope: float = 3.0) -> Network:
    """D on the line: one hidden layer of sigmoid steps, spread evenly over [−reach, reach] at the start."""
    centres = np.linspace(-reach, reach, units)
    hidden = Linear(1, units, weight=Constant(np.full((1, units), slope)), bias=-slope * centres)
    return Network([hidden, Sigmoid(), Linear(units, 1, weight=Uniform(0.01))], seed=seed, dtype=np.float64)


def train_discriminator(
    D: Network,
    x: Callable[[], Any],
    samples: Callable[[], Any],
    steps: int,
    rate: float,
    watch: Callable[[int], None] = lambda step: None,
) -> None:
    """D's inner loop alone, G held fixed: `steps` momentum updates on −½ V. x() and samples() give the minibatches.

    The learning rate falls to a hundredth over the last half of the steps, so that D converges. watch(step) is called
    before every update.
    """
    optimizer = MomentumSGD(D.theta, lambda t: rate * 0.01 ** max(0.0, 2 * t / steps - 1), 0.9)
    grad = D.xp.empty_like(D.theta)
    for step in range(steps):
        watch(step)
        real = x()
        a, cache = D.forward(D.xp.concatenate([real, samples()]))
        _, da_real, da_fake = discriminator_loss(a[: len(real)], a[len(real) :])
        D.backward(D.xp.concatenate([da_real, da_fake]), cache, grad, need_dx=False)
        optimizer.step(grad)


def trained_on(D: Network, p_data: Mixture, p_g: Mixture, steps: int, rate: float = 0.3, m: int = 400) -> np.ndarray:
    """The logits on X of D, trained to convergence on p_data against p_g (both as m quantiles)."""
    x, samples = (p.quantiles(m)[:, None].astype(D.dtype) for p in (p_data, p_g))
    train_discriminator(D, lambda: x, lambda: samples, steps, rate)
    return D(X[:, None].astype(D.dtype))[:, 0]


def generator_cdf(G: Network, x: np.ndarray, cells: int = 1024) -> np.ndarray:
    """F_g(x) = P(G(z) ≤ x), z ~ U(−√3, √3), for a G from the line to the line: the change of variables, integrated.

    [−√3, √3] is cut into cells of equal probability, and each cell's probability is spread evenly between the values of G at
    its two ends. That is p_g(x) = Σ p_z(z)/|G′(z)| over all z with G(z) = x, exact where G is straight within a cell. It has
    no sampling error and no bandwidth. Differences of F_g are the probabilities between the points x.
    """
    z = np.linspace(-SUPPORT, SUPPORT, cells + 1, dtype=G.dtype)
    y = to_host(G(to_device(z[:, None], G.xp)))[:, 0].astype(np.float64)
    low, high = np.minimum(y[:-1], y[1:]), np.maximum(y[:-1], y[1:])
    return np.clip((x[:, None] - low) / np.maximum(high - low, 1e-12), 0, 1).mean(axis=1)


# The statements, in the paper's order


def noise_limit(seed: int = 0) -> list[Check]:
    """Section 2: lim σ→0 ∇ₓ E_{ε ~ N(0, σ²)} f(x + ε) = ∇ₓ f(x).

    f is a network with sigmoids, its gradient is backward's, and E is a Gauss–Hermite sum. Where f has a kink the limit is
    not f's gradient: for f(x) = max(x, 0) at 0 it is ½ for every σ, and ReLU′(0) = 0 by convention.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights /= weights.sum()

    def error(f: Network, x: float, sigma: float) -> float:
        def gradient(points: np.ndarray) -> np.ndarray:
            y, cache = f.forward(points[:, None])
            return f.backward(np.ones_like(y), cache)[:, 0]

        return float(abs(weights @ gradient(x + sigma * nodes) - gradient(np.array([x]))[0]))

    smooth = line_discriminator(seed)
    smooth.theta += np.random.default_rng(seed).standard_normal(len(smooth.theta))
    kink = Network([ReLU()], dtype=np.float64)
    ratio = error(smooth, 0.4, 0.02) / error(smooth, 0.4, 0.01)
    return [
        Check("|∇E f(x + ε) − ∇f(x)| at σ = 0.001", error(smooth, 0.4, 0.001), "<", 1e-3),
        Check("the error at σ = 0.02 over that at σ = 0.01: it falls as σ²", ratio, "=", 4, 0.2),
        opposite("σ = 1, not small: the error", error(smooth, 0.4, 1.0), ">", 0.1),
        opposite("f with a kink at x, σ = 0.001: the error", error(kink, 0.0, 0.001), "=", 0.5, 1e-9),
    ]


def equation_1_value_function(seed: int = 0, m: int = 200_000) -> list[Check]:
    """Eq. 1: V(D, G) = E_{x ~ p_data}[log D(x)] + E_{z ~ p_z}[log(1 − D(G(z)))], as a number.

    p_data = N(0, 1), p_g = N(1, 1) (G(z) = z + 1, z ~ N(0, 1)); the mean over m samples beside the integral.
    """
    p_data, p_g = normal(), normal(1)
    x = p_data.sample(np.random.default_rng(seed), m)
    z = Noise("gaussian", 1)(random_generator(np, seed, "z"), m, np.float64)[:, 0]
    a_real, a_fake = optimal_logit(p_data, p_g, x), optimal_logit(p_data, p_g, z + 1)
    error = float(np.sqrt(softplus(-a_real).var() / m + softplus(a_fake).var() / m))
    sampled = float(value_function(a_real[:, None], a_fake[:, None]))
    half = np.zeros((m, 1))
    return [
        Check(f"V at D = D*, mean over {m:,} x and z (expected: the integral, ± 4 standard errors)", sampled,
              "=", criterion(p_data, p_g), 4 * error),
        Check("V at D = ½ everywhere (expected: −log 4)", float(value_function(half, half)), "=", -LOG_4, 1e-12),
        opposite("D that calls data samples and samples data, D = 1 − D*: V",
                 float(value_function(-a_real[:, None], -a_fake[:, None])), "<", -LOG_4),
    ]  # fmt: skip


def proposition_1_maximum(seed: int = 0) -> list[Check]:
    """Prop. 1, the lemma of its proof: y ↦ a·log y + b·log(1 − y) has its maximum over [0, 1] at a/(a + b).

    It is concave, for a, b ≥ 0 and not both 0. Densities are never negative; for a negative b the statement is false.
    """
    y = np.linspace(0, 1, 100_001)[1:-1]

    def objective(a: float, b: float) -> np.ndarray:
        return a * np.log(y) + b * np.log1p(-y)

    def distance(a: float, b: float) -> float:
        return float(abs(y[objective(a, b).argmax()] - a / (a + b)))

    pairs = np.random.default_rng(seed).uniform(0.05, 3, (50, 2))
    curvature = max(np.diff(objective(a, b), 2).max() for a, b in pairs)
    return [
        Check("50 random (a, b) > 0: the largest |arg max − a/(a + b)|, on a grid of 10⁻⁵",
              max(distance(a, b) for a, b in pairs), "<", 1.01e-5),
        Check("the largest second difference: negative, so concave (not convex)", curvature / 1e-10, "<", 0),
        opposite("b = −½, a = 1: |arg max − a/(a + b)|", distance(1, -0.5), ">", 0.5),
    ]  # fmt: skip


PAIRS = {
    "shifted": (normal(), normal(1.5)),
    "wider": (normal(), normal(0, 2)),
    "one mode for two": (Mixture((0.5, -2, 0.7), (0.5, 2, 0.7)), normal(0, 2)),
}


@cache
def trained_discriminators(seed: int = 0, steps: int = STEPS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each pair: D(x) on the grid after training, by a network with enough capacity and by one with a straight logit."""
    curves = {}
    for name, (p_data, p_g) in PAIRS.items():
        straight = Network([Linear(1, 1)], seed=seed, dtype=np.float64)
        networks = line_discriminator(seed), straight
        curves[name] = tuple(expit(trained_on(D, p_data, p_g, steps)) for D in networks)
    return curves


def equation_2_optimal_discriminator(seed: int = 0, steps: int = STEPS) -> list[Check]:
    """Eq. 2: D*_G(x) = p_data(x)/(p_data(x) + p_g(x)) is where a trained D arrives, pointwise.

    D is trained with G fixed, by momentum SGD on −½ V. Distances are over the x where (p_data + p_g)/2 > 0.01.
    """
    checks = []
    for name, trained in trained_discriminators(seed, steps).items():
        p_data, p_g = PAIRS[name]
        live = p_data(X) + p_g(X) > 0.02
        optimum = expit(optimal_logit(p_data, p_g, X))
        enough, straight = (float(abs(D - optimum)[live].max()) for D in trained)
        checks.append(Check(f"p_g {name}: max |D(x) − D*(x)| of a trained D", enough, "<", 0.04))
        if name != "shifted":  # there D*'s own logit is a straight line
            checks.append(opposite(f"p_g {name}, D of too little capacity (straight logit): the same", straight, ">", 0.2))
    p_data, other = normal(), normal(-1.5)
    D, _ = trained_discriminators(seed, steps)["shifted"]
    apart = abs(D - expit(optimal_logit(p_data, other, X)))
    checks.append(opposite("D trained against N(1.5, 1), compared with D* of N(−1.5, 1)", float(apart.max()), ">", 0.5))
    return checks


def equation_3_change_of_variables() -> list[Check]:
    """Eq. 3: E_{z ~ p_z}[log(1 − D(G(z)))] = ∫ p_g(x) log(1 − D(x)) dx, p_g the density of x = G(z).

    G is a network with random parameters. With p_z(x) in the place of p_g(x) it is false.
    """
    G = Network([Linear(1, 16, weight=Uniform(2.0)), Sigmoid(), Linear(16, 1, weight=Uniform(1.0))], seed=3, dtype=np.float64)
    edges = np.linspace(-5, 5, 1001)
    x = (edges[1:] + edges[:-1]) / 2
    z = SUPPORT * (2 * midpoints(100_000) - 1)

    def log_1_minus_D(x: np.ndarray) -> np.ndarray:
        return -softplus(1.5 * x - 0.5)  # some D

    over_z = float(log_1_minus_D(G(z[:, None])).mean())
    p_g = np.diff(generator_cdf(G, edges))
    p_z = np.diff(np.clip((edges + SUPPORT) / (2 * SUPPORT), 0, 1))
    return [
        Check("∫ p_g(x) dx", p_g.sum(), "=", 1, 1e-9),
        Check("∫ p_g(x) log(1 − D(x)) dx (expected: E_z[log(1 − D(G(z)))])", float(p_g @ log_1_minus_D(x)), "=", over_z, 1e-4),
        opposite("p_z in the place of p_g: |the integral − E_z|", abs(float(p_z @ log_1_minus_D(x)) - over_z), ">", 0.05),
    ]


def conditional_log_likelihood(seed: int = 0, m: int = 200_000) -> list[Check]:
    """Section 4.1: D maximises the log-likelihood of P(Y = y | x), Y = 1 for data and Y = 0 for samples.

    With as many of the one as of the other, ½ V is the mean log-likelihood of the labels, and D*(x) is the share of data among
    the rows near x. With three times as many data as samples neither is true.
    """
    p_data, p_g = PAIRS["wider"]
    tie = (8 / 3 * np.log(2)) ** 0.5  # p_data = p_g and D* = ½ at ± this x

    def rows(n_data: int, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        x = np.concatenate([p_data.sample(rng, n_data), p_g.sample(rng, n_samples)])
        return x, np.arange(len(x)) < n_data

    def log_likelihood(x: np.ndarray, y: np.ndarray) -> float:
        D = expit(optimal_logit(p_data, p_g, x))
        return float(np.log(np.where(y, D, 1 - D)).mean())

    def share_of_data(x: np.ndarray, y: np.ndarray) -> float:
        return float(y[abs(abs(x) - tie) < 0.05].mean())

    even, uneven = rows(m, m), rows(m, m // 3)
    a = optimal_logit(p_data, p_g, even[0])[:, None]
    half_V = 0.5 * float(value_function(a[:m], a[m:]))
    near = int((abs(abs(even[0]) - tie) < 0.05).sum())
    return [
        Check("mean log P(Y = y | x) under D* (expected: ½ V on the same rows)", log_likelihood(*even), "=", half_V, 1e-9),
        Check("share of data among the rows where D* = ½ (± 4 standard errors)",
              share_of_data(*even), "=", 0.5, 2 / near**0.5),
        opposite("three times as many data: |mean log P(Y = y | x) − ½ V|", abs(log_likelihood(*uneven) - half_V), ">", 0.005),
        opposite("three times as many data: the same share", share_of_data(*uneven), "=", 0.75, 0.02),
    ]  # fmt: skip


def equation_4_virtual_training_criterion(seed: int = 0, steps: int = STEPS) -> list[Check]:
    """Eq. 4: C(G) = max_D V(G, D) = V(G, D*_G): no D does better, and a trained D nearly as well.

    D* belongs to one G: for a different p_g it is not the maximum.
    """
    p_data, p_g = PAIRS["shifted"]
    C, a = criterion(p_data, p_g), optimal_logit(p_data, p_g, X)
    rng = np.random.default_rng(seed)

    def wave() -> np.ndarray:
        return rng.uniform(0.01, 2) * np.sin(rng.uniform(0, 5) * X + rng.uniform(0, 6.3))

    best_of_others = max(value(a + wave(), p_data, p_g) for _ in range(200))
    D, _ = trained_discriminators(seed, steps)["shifted"]
    trained = value(np.log(D) - np.log1p(-D), p_data, p_g)
    return [
        Check("200 other D, waves added to the logit of D*: the largest V − C(G)", best_of_others - C, "<", 0),
        Check("the trained D of Eq. 2: V(G, D) (expected: C(G))", trained, "=", C, 0.002),
        opposite("D* of p_g = N(−1.5, 1), used for p_g = N(1.5, 1): V − C(G)",
                 value(optimal_logit(p_data, normal(-1.5), X), p_data, p_g) - C, "<", -1),
    ]  # fmt: skip


def equation_5_two_divergences() -> list[Check]:
    """Eq. 5: C(G) = −log 4 + KL(p_data ‖ (p_data + p_g)/2) + KL(p_g ‖ (p_data + p_g)/2).

    KL(p_data ‖ p_g) + KL(p_g ‖ p_data), without the mixture, is something different. KL is not symmetric, unless the two
    densities mirror each other.
    """
    p, q = PAIRS["wider"]
    log_m = np.logaddexp(p.log(X), q.log(X)) - np.log(2)
    to_mixture = integral(p(X) * (p.log(X) - log_m)) + integral(q(X) * (q.log(X) - log_m))
    shifted = PAIRS["shifted"]
    return [
        Check("p_g wider: −log 4 + KL + KL (expected: C(G))", -LOG_4 + to_mixture, "=", criterion(p, q), 1e-9),
        Check("p_g wider: |KL(p_data‖p_g) − KL(p_g‖p_data)|", abs(kl(p, q) - kl(q, p)), ">", 0.1),
        opposite("KL to each other instead of to the mixture: |−log 4 + KL + KL − C(G)|",
                 abs(-LOG_4 + kl(p, q) + kl(q, p) - criterion(p, q)), ">", 0.1),
        opposite("p_g shifted (mirror images of each other): |KL(p_data‖p_g) − KL(p_g‖p_data)|",
                 abs(kl(*shifted) - kl(*shifted[::-1])), "=", 0, 1e-9),
    ]  # fmt: skip


def equation_6_jensen_shannon(seed: int = 0, m: int = 200_000) -> list[Check]:
    """Eq. 6: C(G) = −log 4 + 2·JSD(p_data‖p_g), for several pairs: by quadrature, and from samples alone at D = D*.

    JSD is symmetric, and at most log 2; with KL in its place the equation fails.
    """
    checks = []
    rng = np.random.default_rng(seed)
    for name, (p, q) in {"equal": (normal(), normal()), **PAIRS, "far apart": (normal(-6), normal(6))}.items():
        from_jsd = -LOG_4 + 2 * jsd(p, q)
        a_real, a_fake = optimal_logit(p, q, p.sample(rng, m)), optimal_logit(p, q, q.sample(rng, m))
        error = float(np.sqrt(softplus(-a_real).var() / m + softplus(a_fake).var() / m))
        sampled = float(value_function(a_real[:, None], a_fake[:, None]))
        checks += [
            Check(f"p_g {name}: C(G) by quadrature (expected: −log 4 + 2·JSD)", criterion(p, q), "=", from_jsd, 1e-8),
            Check(f"p_g {name}: C(G) from {m:,} samples of each (± 4 standard errors)",
                  sampled, "=", from_jsd, 4 * error + 1e-6),
        ]  # fmt: skip
    p, q = PAIRS["wider"]
    return [
        *checks,
        Check("p_g wider: |JSD(p_data‖p_g) − JSD(p_g‖p_data)|", abs(jsd(p, q) - jsd(q, p)), "=", 0, 1e-12),
        Check("p_g far apart: JSD (expected: log 2, its largest value)", jsd(normal(-6), normal(6)), "=", np.log(2), 1e-6),
        opposite("KL in the place of JSD, p_g wider: |−log 4 + 2·KL(p_data‖p_g) − C(G)|",
                 abs(-LOG_4 + 2 * kl(p, q) - criterion(p, q)), ">", 0.1),
    ]  # fmt: skip


def theorem_1_global_minimum(seed: int = 0, steps: int = STEPS) -> list[Check]:
    """Theorem 1: C(G) ≥ −log 4, with equality if and only if p_g = p_data.

    It is about the best of all D. If D must have a straight logit, p_g = N(0, 2²) reaches −log 4 against N(0, 1) too:
    the two have the same mean, and such a D sees only means.
    """
    p_data = Mixture((0.4, -1, 0.8), (0.6, 1.2, 0.6))
    rng = np.random.default_rng(seed)

    def random_density() -> Mixture:
        w = rng.dirichlet([1, 1, 1])
        return Mixture(*zip(w, rng.uniform(-3, 3, 3), rng.uniform(0.4, 2, 3), strict=True))

    lowest = min(criterion(p_data, random_density()) for _ in range(200))
    almost = Mixture((0.4, -1, 0.8), (0.6, 1.21, 0.6))
    narrow, wide = PAIRS["wider"]
    straight = Network([Linear(1, 1)], seed=seed, dtype=np.float64)
    restricted = value(trained_on(straight, narrow, wide, steps), narrow, wide)
    return [
        Check("C(G) at p_g = p_data (expected: −log 4)", criterion(p_data, p_data), "=", -LOG_4, 1e-12),
        Check("200 random p_g: the lowest C(G) + log 4", lowest + LOG_4, ">", 0),
        Check("one mode of p_g off by 0.01: C(G) + log 4, in units of 10⁻⁶", (criterion(p_data, almost) + LOG_4) * 1e6, ">", 1),
        Check("p_g = N(0, 2²), p_data = N(0, 1), best of all D: C(G) + log 4", criterion(narrow, wide) + LOG_4, ">", 0.1),
        opposite("the same pair, best D with a straight logit: V + log 4", restricted + LOG_4, "=", 0, 1e-3),
    ]


def discrete_criterion(p_data: np.ndarray, p_g: np.ndarray) -> float:
    """C on a discrete domain: U(p_g, D*)"""
    return discrete_value(p_data, p_g, np.log(p_data) - np.log(p_g))


def discrete_value(p_data: np.ndarray, p_g: np.ndarray, a: np.ndarray) -> float:
    """U(p_g, D) = Σₓ p_data(x) log D(x) + p_g(x) log(1 − D(x)), D = σ(a)"""
    return float(-p_data @ softplus(-a) - p_g @ softplus(a))


def proposition_2_convexity(seed: int = 0) -> list[Check]:
    """Prop. 2, first step of its proof: U(p_g, D) is convex in p_g (it is affine), and so is sup_D U(p_g, D) = C.

    Convex in p_g, not in the parameters of a network that makes p_g: already for p_g = N(θ, 1), C is not convex in θ.
    """
    rng = np.random.default_rng(seed)
    bend, sup_gap = 0.0, np.inf
    for _ in range(200):
        p_data, p, q = rng.dirichlet(np.ones(10), 3)
        a, t = rng.normal(0, 2, 10), rng.uniform(0.1, 0.9)
        between = t * p + (1 - t) * q
        chord = t * discrete_value(p_data, p, a) + (1 - t) * discrete_value(p_data, q, a)
        bend = max(bend, abs(chord - discrete_value(p_data, between, a)))
        chord = t * discrete_criterion(p_data, p) + (1 - t) * discrete_criterion(p_data, q)
        sup_gap = min(sup_gap, chord - discrete_criterion(p_data, between))
    in_theta = [criterion(normal(), normal(theta)) for theta in (1, 4, 7)]
    return [
        Check("200 random p, q, D: the largest |chord − U| between p and q: affine", bend, "=", 0, 1e-12),
        Check("the same for sup_D U: the smallest chord − C: convex", sup_gap, ">", 0),
        opposite("C as a function of θ, p_g = N(θ, 1), between θ = 1 and 7: chord − C",
                 (in_theta[0] + in_theta[2]) / 2 - in_theta[1], "<", -0.1),
    ]  # fmt: skip


def proposition_2_subderivative(seed: int = 0) -> list[Check]:
    """Prop. 2, second step: ∂U(p_g, D)/∂p_g = log(1 − D), taken at D = D*, is a subderivative of sup_D U.

    That is C(q) ≥ C(p) + ⟨log(1 − D*_p), q − p⟩ for all q; and C is smooth here, so it is the derivative. At a different D it
    is neither.
    """
    rng = np.random.default_rng(seed)
    support, support_elsewhere, slope_error = np.inf, np.inf, 0.0
    for _ in range(200):
        p_data, p, q, other = rng.dirichlet(np.ones(10), 4)
        a, elsewhere = np.log(p_data) - np.log(p), np.log(p_data) - np.log(other)
        rise = discrete_criterion(p_data, q) - discrete_criterion(p_data, p)
        support = min(support, rise + softplus(a) @ (q - p))
        support_elsewhere = min(support_elsewhere, rise + softplus(elsewhere) @ (q - p))
        step = 1e-4 * p * (q - p)
        step -= step.sum() * p
        numeric = (discrete_criterion(p_data, p + step) - discrete_criterion(p_data, p - step)) / 2
        slope_error = max(slope_error, abs(numeric + softplus(a) @ step) / np.linalg.norm(step))
    return [
        Check("200 random p, q: the smallest C(q) − C(p) − ⟨log(1 − D*_p), q − p⟩", support, ">", 0),
        Check("⟨log(1 − D*), v⟩ against the difference quotient of C along v", slope_error, "=", 0, 1e-6),
        opposite("log(1 − D) at a D that is optimal for another p_g: the same smallest value", support_elsewhere, "<", -0.1),
    ]


POINTS = np.arange(24)
TWO_MODES = (lambda p: p / p.sum())(
    np.exp(-0.5 * ((POINTS - 6) / 1.8) ** 2) + 0.8 * np.exp(-0.5 * ((POINTS - 16) / 2.5) ** 2) + 0.003
)
DESCENTS: dict[str, dict[str, Any]] = {
    "Prop. 2": {},
    "k = 1": {"discriminator": "one step"},
    "parametric G": {"parametric": True},
    "k = 1, parametric G": {"discriminator": "one step", "parametric": True},
    "step too large": {"rate": 4.5},
    "D never updated": {"discriminator": "fixed"},
}


def bell(theta: np.ndarray) -> np.ndarray:
    """A G with two parameters: p_g(x) ∝ exp(−½ (x − θ₁)²/s²), s = e^θ₂"""
    return softmax(-0.5 * ((POINTS - theta[0]) / np.exp(theta[1])) ** 2)


def descend(steps: int, rate: float = 0.2, discriminator: str = "optimal", parametric: bool = False) -> dict[str, Any]:
    """Prop. 2's descent of U(p_g, D) on 24 points, p_data = TWO_MODES; returns p_g, and the JSD before each step.

    discriminator  "optimal": D = D* before every step. "one step": k = 1, one gradient step on the table of D's logits.
                   "fixed": the D* of the first p_g.
    p_g            moves by p_g ← p_g exp(−rate·log(1 − D)), normalised: a small update in p_g space that leaves it a
                   distribution. Near p_data it multiplies the distance by 1 − rate/2, so "sufficiently small" is rate < 4.
    parametric     p_g = bell(θ), and θ descends instead, by the chain rule.
    """
    theta = np.array([9.0, np.log(3.0)])
    p_g = bell(theta) if parametric else np.full(len(POINTS), 1 / len(POINTS))
    a = np.log(TWO_MODES) - np.log(p_g) if discriminator == "fixed" else np.zeros(len(POINTS))
    distances = []
    for _ in range(steps):
        distances.append(0.5 * (discrete_criterion(TWO_MODES, p_g) + LOG_4))
        if discriminator == "optimal":
            a = np.log(TWO_MODES) - np.log(p_g)
        elif discriminator == "one step":
            a = a + 5 * (TWO_MODES * expit(-a) - p_g * expit(a))  # ∂V/∂a
        slope = -softplus(a)  # ∂U/∂p_g = log(1 − D)
        if parametric:
            s = np.exp(theta[1])
            score = np.stack([(POINTS - theta[0]) / s**2, ((POINTS - theta[0]) / s) ** 2])  # of the unnormalised bell
            centred = score - (score @ p_g)[:, None]  # ∂ log p_g/∂θ
            theta = theta - rate * np.array([5.0, 0.2]) * (centred @ (p_g * slope))
            p_g = bell(theta)
        else:
            p_g = np.exp(log_softmax(np.log(p_g) - rate * slope))
        p_g = np.maximum(p_g, 1e-300)  # keeps log p_g finite
    return {"p_g": p_g, "jsd": np.array(distances)}


def proposition_2_convergence(steps: int = 400) -> list[Check]:
    """Prop. 2: with D at its optimum before each small step of p_g down U(p_g, D), p_g converges to p_data.

    On 24 points, from the uniform distribution, in p_g space. Each condition of the proposition is then taken away alone.
    """
    from scipy.optimize import minimize  # not at the top: slow to import, and Ctrl-C there is a traceback

    runs = {name: descend(steps, **condition) for name, condition in DESCENTS.items()}
    jsd = {name: run["jsd"] for name, run in runs.items()}
    reachable = minimize(lambda theta: discrete_criterion(TWO_MODES, bell(theta)), [10.0, 1.5], method="Nelder-Mead")
    floor = 0.5 * (reachable.fun + LOG_4)
    return [
        Check(f"JSD(p_data‖p_g) after {steps} steps, in units of 10⁻⁶", jsd["Prop. 2"][-1] * 1e6, "<", 1),
        Check("max |p_g − p_data|", float(abs(runs["Prop. 2"]["p_g"] - TWO_MODES).max()), "<", 1e-4),
        Check("steps at which JSD rose", int((np.diff(jsd["Prop. 2"]) > 1e-12).sum()), "=", 0, 0),
        opposite("k = 1: steps at which JSD rose", int((np.diff(jsd["k = 1"]) > 1e-12).sum()), ">", 5),
        opposite("parametric G, two parameters for two modes: JSD (expected: the least that such a G can reach)",
                 jsd["parametric G"][-1], "=", floor, 1e-3),
        opposite("step of 4.5 instead of 0.2: JSD", jsd["step too large"][-1], ">", 0.01),
        opposite("D never updated: the probability that p_g puts on a single x (Helvetica)",
                 float(runs["D never updated"]["p_g"].max()), ">", 0.9),
    ]  # fmt: skip


class OptimalDiscriminator(Layer):
    """a = log p_data(x) − log p_g(x): D* of Eq. 2 as a layer without parameters, for a p_g that is held fixed

    Backward   ∂L/∂x = da · a′(x), a′ by central differences of the two log densities
    """

    def __init__(self, p_data: Mixture, p_g: Mixture) -> None:
        self.p_data, self.p_g = p_data, p_g

    def forward(self, x: Any, train: bool = False, rng: Any = None) -> tuple[Any, Any]:
        return optimal_logit(self.p_data, self.p_g, x), x

    def backward(self, dy: Any, cache: Any, grads: Any = None, need_dx: bool = True) -> Any:
        x, h = cache, 1e-5
        slope = optimal_logit(self.p_data, self.p_g, x + h) - optimal_logit(self.p_data, self.p_g, x - h)
        return dy * slope / (2 * h)


def generator_gradient(cost: str, p_data: Mixture, theta: np.ndarray, m: int = 20_000) -> np.ndarray:
    """∇_θ of a generator cost at D = D*, for G(z) = w z + b, z ~ N(0, 1), θ = (w, b): a whole generator step of tinygan's GAN.

    The minibatch is m quantiles of z, so the mean is an integral.
    """
    w, b = theta
    G = Network([Linear(1, 1, weight=Constant(w), bias=b)], dtype=np.float64)
    D = Network([OptimalDiscriminator(p_data, normal(b, w))], dtype=np.float64)
    gan = GAN(G, D, MomentumSGD(G.theta, 1e-9), MomentumSGD(D.theta, 1e-9), noise=Noise("gaussian", 1), generator_cost=cost)
    gan.generator_step(normal().quantiles(m)[:, None], None)
    return gan.G_grad


def divergence_gradient(divergence: Callable[[Mixture, Mixture], float], p_data: Mixture, theta: Any) -> np.ndarray:
    """∇_θ of a divergence between p_data and p_g = N(b, w²), θ = (w, b), by central differences of the integral."""
    h = 1e-4
    steps = np.eye(2) * h
    return np.array(
        [
            (divergence(p_data, normal(b1, w1)) - divergence(p_data, normal(b0, w0))) / (2 * h)
            for (w1, b1), (w0, b0) in zip(theta + steps, theta - steps, strict=True)
        ]
    )


GENERATOR_DIVERGENCES = {
    "maximum_likelihood": ("KL(p_data‖p_g)", kl),
    "minimax": ("2·JSD(p_data‖p_g)", lambda p, q: 2 * jsd(p, q)),
    "non_saturating": ("KL(p_g‖p_data) − 2·JSD(p_data‖p_g)", lambda p, q: kl(q, p) - 2 * jsd(p, q)),
}


def maximum_likelihood_cost() -> list[Check]:
    """Goodfellow's tutorial (2016), third cost: at D = D*, −E_z[e^a] has the gradient of KL(p_data‖p_g): maximum likelihood.

    With e^a* = p_data/p_g held fixed, −∇ ∫ p_g (p_data/p_g) dx = −∫ p_data ∇ log p_g dx. The other two costs descend
    different divergences: minimax that of Theorem 1, non-saturating one that Arjovsky and Bottou (2017) name.
    """
    p_data, theta = Mixture((0.5, -1, 0.6), (0.5, 1, 0.6)), np.array([1.6, 0.7])
    descent = {cost: generator_gradient(cost, p_data, theta) for cost in GENERATOR_DIVERGENCES}
    checks = []
    for cost, (name, divergence) in GENERATOR_DIVERGENCES.items():
        exact = divergence_gradient(divergence, p_data, theta)
        checks.append(Check(f"{cost}: largest difference from ∇{name}", abs(descent[cost] - exact).max(), "=", 0, 2e-3))
    likelihood = divergence_gradient(kl, p_data, theta)
    for cost in ("minimax", "non_saturating"):
        difference = abs(descent[cost] - likelihood).max()
        checks.append(opposite(f"{cost}: largest difference from ∇KL(p_data‖p_g)", difference, ">", 0.1))
    return checks


# D on rows that it has not seen: in 20 dimensions, two halves of one set of N(0, I), or the second half moved by μ

DIMENSIONS = 20
BUDGET = 1000  # updates of D, on minibatches of 100 of each kind
MOVED = 1.0  # ‖μ‖
FEW, MANY = 50, 50_000  # rows of each kind


@dataclass(frozen=True)
class Judgement:
    """What a D says: V on the rows it was trained on; V, its standard error and the mean D(x) and D(G(z)) on others."""

    train: float
    held_out: float
    error: float
    D_x: float
    D_G_z: float
    trace: np.ndarray  # rows of (updates made, V on the rows it was trained on, V on the others)


def judge(moved: float, rows: int, seed: int, budget: int, held_out: int = 10_000) -> Judgement:
    """Train a D on `rows` rows of each half, judge it on the `held_out` others of each. ‖μ‖ = moved, 0 for equal halves."""
    rng = np.random.default_rng(seed)
    x, samples = rng.standard_normal((2, rows + held_out, DIMENSIONS), dtype=np.float32)
    samples[:, 0] += moved
    hidden = Linear(DIMENSIONS, 64, weight=Uniform(0.2)), ReLU(), Linear(64, 64, weight=Uniform(0.2)), ReLU()
    D = Network([*hidden, Linear(64, 1, weight=Uniform(0.05))], seed=seed)
    seen, others = slice(min(rows, held_out)), slice(rows, None)
    trace = []

    def watch(step: int) -> None:
        if step % max(1, budget // 20) == 0:
            trace.append((step, *(float(value_function(D(x[part]), D(samples[part]))) for part in (seen, others))))

    def minibatch(table: np.ndarray) -> np.ndarray:
        return table[rng.integers(0, rows, 100)]

    train_discriminator(D, lambda: minibatch(x), lambda: minibatch(samples), budget, 0.2, watch)
    watch(budget)
    a_real, a_fake = D(x[others]), D(samples[others])
    error = float(np.sqrt(softplus(-a_real).var() / held_out + softplus(a_fake).var() / held_out))
    _, train, held_out_V = trace[-1]
    return Judgement(train, held_out_V, error, float(expit(a_real).mean()), float(expit(a_fake).mean()), np.array(trace))


@cache
def judgements(seed: int = 0, budget: int = BUDGET) -> dict[str, Judgement]:
    cases = {"equal, many": (0, MANY), "moved, many": (MOVED, MANY), "moved, few": (MOVED, FEW)}
    return {name: judge(moved, rows, seed, budget) for name, (moved, rows) in cases.items()}


def two_sample_reading(seed: int = 0, budget: int = BUDGET) -> list[Check]:
    """D as a two-sample test, read on held-out rows: equal halves of one set leave it at D = ½ and V = −log 4.

    With the same budget it separates a pair whose means are 1 apart, and comes near that pair's own C(G).
    """
    judged = judgements(seed, budget)
    same, moved = judged["equal, many"], judged["moved, many"]
    C = criterion(normal(), normal(MOVED))  # only the direction of μ matters
    return [
        Check(f"two halves of one set, {MANY:,} rows each: V on held-out rows (expected: −log 4)", same.held_out,
              "=", -LOG_4, 0.01),
        Check("two halves of one set: mean D on the one half", same.D_x, "=", 0.5, 0.01),
        Check("two halves of one set: mean D on the other", same.D_G_z, "=", 0.5, 0.01),
        opposite("the second half moved by 1: V on held-out rows (expected: C(G))", moved.held_out, "=", C, 0.03),
        opposite("the second half moved by 1: mean D(x) − mean D(G(z))", moved.D_x - moved.D_G_z, ">", 0.15),
    ]  # fmt: skip


def finite_set_overfitting(seed: int = 0, budget: int = BUDGET) -> list[Check]:
    """Section 3: D optimised to completion on a finite set overfits it: V rises to 0 on these rows and falls on others.

    On others it falls below −log 4, the V of D = ½. With a thousand times the rows and the same number of updates
    the two V agree, near C(G).
    """
    judged = judgements(seed, budget)
    few, many = judged["moved, few"], judged["moved, many"]
    return [
        Check(f"{FEW} rows of each kind: V on them (0: D is certain, and right)", few.train, ">", -0.05),
        Check(f"{FEW} rows of each kind: V on held-out rows (bound: −log 4)", few.held_out, "<", -LOG_4),
        opposite(f"{MANY:,} rows of each kind: V on them − V on held-out rows", many.train - many.held_out, "=", 0, 0.05),
        opposite(f"{MANY:,} rows of each kind: V on held-out rows", many.held_out, ">", -LOG_4 + 0.1),
    ]


# The pictures


BLUE, GREEN, ORANGE, RED, GREY = "#1f4fd8", "#1a8a3a", "#e08a1e", "#c0392b", "0.5"
P_DATA = {"color": "black", "linestyle": (0, (1, 1.2)), "linewidth": 2.0, "label": "$p_{data}$"}
P_G = {"color": GREEN, "linewidth": 2.0, "label": "$p_g$"}
D_STAR = {"color": ORANGE, "linewidth": 3.0, "label": "$D^*$, Eq. 2"}


def draw_equation_2(seed: int, steps: int, axes: Any = None) -> Any:
    """A Figure of D* and of trained D, for each pair of densities; axes: three of yours."""
    figure, ((*axes,),) = figure_and_axes(axes, 1, 3, (11, 3.4), sharey=True)
    for axis, (name, (enough, straight)) in zip(axes, trained_discriminators(seed, steps).items(), strict=True):
        p_data, p_g = PAIRS[name]
        live = p_data(X) + p_g(X) > 0.005
        axis.plot(X, 2 * p_data(X), **P_DATA)
        axis.plot(X, 2 * p_g(X), **P_G)
        axis.plot(X[live], expit(optimal_logit(p_data, p_g, X))[live], **D_STAR)
        axis.plot(X[live], enough[live], color=BLUE, linestyle="--", linewidth=1.5, label="trained $D$")
        axis.plot(X[live], straight[live], color=RED, linestyle="-.", linewidth=1.2, label="trained $D$, straight logit")
        axis.set(title=f"$p_g$ {name}", xlim=(-5, 5), ylim=(0, 1.02), xlabel="x", yticks=[0, 0.5, 1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def name_minus_log_4(axis: Any) -> None:
    corner = (axis.get_xlim()[1], -LOG_4)
    axis.annotate("$-$log 4", corner, (-4, -5), textcoords="offset points", ha="right", va="top", color=GREY)


def draw_theorem_1(axes: Any = None) -> Any:
    """A Figure of C(G) along two families of p_g, and of what a D of too little capacity makes of the second; axes: two of
    yours."""
    figure, ((left, right),) = figure_and_axes(axes, 1, 2, (10, 3.6))
    p_data = normal()
    means, widths = np.linspace(-5, 5, 81), np.geomspace(0.3, 4, 81)
    curves = {
        "$C(G)$": ([criterion(p_data, normal(mean)) for mean in means], BLUE, "-", 3.5),
        "$-$log 4 + 2 JSD": ([-LOG_4 + 2 * jsd(p_data, normal(mean)) for mean in means], ORANGE, "--", 1.5),
        "$-$log 4 + KL": ([-LOG_4 + kl(p_data, normal(mean)) for mean in means], RED, ":", 1.5),
    }
    for label, (values, colour, stroke, width) in curves.items():
        left.plot(means, values, color=colour, linestyle=stroke, linewidth=width, label=label)
    left.set(xlabel="θ, where $p_g$ = N(θ, 1) and $p_{data}$ = N(0, 1)", xlim=(-5, 5), ylim=(-1.55, 0.1), ylabel="nats")
    left.legend(loc="lower left", bbox_to_anchor=(0, 0.1), frameon=False, fontsize=9, borderaxespad=0.2)
    best = [criterion(p_data, normal(0, s)) for s in widths]
    right.plot(widths, best, color=BLUE, linewidth=3.5, label="the best of all $D$")
    # The best D with a straight logit is ½: both means are 0, so V's gradient in its weight and bias vanishes at 0.
    right.plot(widths, [value(0 * X, p_data, normal(0, s)) for s in widths], color=RED, linestyle="-.", linewidth=2,
               label="the best $D$ with a straight logit")  # fmt: skip
    right.set(xlabel="s, where $p_g$ = N(0, s²)", xlim=(0.3, 4), ylim=(-1.55, 0.1), xscale="log")
    right.set_xticks([0.3, 0.5, 1, 2, 4], ["0.3", "0.5", "1", "2", "4"])
    right.minorticks_off()
    right.legend(frameon=False, loc="upper center")
    for axis in (left, right):
        axis.axhline(-LOG_4, color=GREY, linewidth=0.8, zorder=0)
        name_minus_log_4(axis)
    return figure


def draw_proposition_2(steps: int = 400, axes: Any = None) -> Any:
    """A Figure of C as the upper envelope of straight lines; of the descent with, and without, each condition; of where it
    ends. axes: three of yours."""
    figure, ((envelope, descent, end),) = figure_and_axes(axes, 1, 3, (13, 3.9))

    # Along p_t = (1 − t) p_data + t q, q far from p_data
    q = bell(np.array([11.0, 0.6])) + 1e-4
    q /= q.sum()
    t = np.linspace(-0.02, 1, 103)
    path_of = [(1 - u) * TWO_MODES + u * q for u in t]
    path_of = [np.maximum(p, 1e-12) for p in path_of]
    envelope.plot(t, [discrete_criterion(TWO_MODES, p) for p in path_of], color=BLUE, linewidth=2.5, label="$C$ = sup$_D$ $U$")
    for i, touch in enumerate((0.02, 0.3, 0.7, 1.0)):
        at = (1 - touch) * TWO_MODES + touch * q
        a = np.log(TWO_MODES) - np.log(at)
        envelope.plot(t, [discrete_value(TWO_MODES, p, a) for p in path_of], color=ORANGE, linewidth=1,
                      label=None if i else "$U(p_t, D)$, $D$ fixed")  # fmt: skip
        envelope.plot(touch, discrete_criterion(TWO_MODES, at), "o", color=ORANGE, markersize=4)
    envelope.set(xlabel="t, where $p_t = (1-t)\\,p_{data} + t\\,q$", ylabel="nats", ylim=(-1.6, None), xlim=(-0.02, 1))
    envelope.set_title("$U$ is affine in $p_g$, so $C$ is convex", fontsize=11)
    envelope.legend(frameon=False, loc="upper left")

    strokes = dict(zip(DESCENTS, (BLUE, RED, GREEN, "#7b3fa0", ORANGE, GREY), strict=True))
    runs = {name: descend(steps, **condition) for name, condition in DESCENTS.items()}
    for name, run in runs.items():
        width = {"Prop. 2": 2.5, "step too large": 0.4}.get(name, 1.3)
        descent.semilogy(np.maximum(run["jsd"], 1e-16), color=strokes[name], linewidth=width, label=name)
    descent.set(xlabel="step of $p_g$", ylim=(1e-9, 2), xlim=(0, steps // 2))
    descent.set_title("JSD($p_{data}$‖$p_g$) while $p_g$ descends", fontsize=11)
    for line in descent.legend(frameon=False, fontsize=8, loc="lower right").get_lines():
        line.set_linewidth(2)

    end.plot(POINTS, TWO_MODES, "o", color="black", markersize=5, label="$p_{data}$")
    for name in ("Prop. 2", "parametric G", "D never updated"):
        end.plot(POINTS, runs[name]["p_g"], "-", color=strokes[name], linewidth=1.5, label=f"$p_g$: {name}")
    end.set(xlabel="x", ylim=(0, 0.2))
    end.set_title(f"$p_g$ after {steps} steps", fontsize=11)
    end.legend(frameon=False, fontsize=8)
    return figure


def draw_held_out(seed: int, budget: int, axes: Any = None) -> Any:
    """A Figure of V on the rows that D was trained on, and on others, while D learns; axes: two of yours."""
    figure, ((left, right),) = figure_and_axes(axes, 1, 2, (10, 3.6))
    judged = judgements(seed, budget)
    titles = "$D$ to completion on a finite set", "$D$ as a two-sample test"
    cases: tuple[dict[str, tuple[str, str]], ...] = (
        {"moved, few": (f"{FEW} rows of each kind", RED), "moved, many": (f"{MANY:,} rows of each kind", BLUE)},
        {"moved, many": ("the second half moved by 1", BLUE), "equal, many": ("two halves of one set", GREEN)},
    )
    for axis, title, pair in zip((left, right), titles, cases, strict=True):
        for case, (name, colour) in pair.items():
            step, seen, others = judged[case].trace.T
            axis.plot(step, seen, color=colour, linewidth=1.2, linestyle="--", label=f"{name}: trained on")
            axis.plot(step, others, color=colour, linewidth=2, label=f"{name}: held-out")
        axis.axhline(-LOG_4, color=GREY, linewidth=0.8, linestyle=":")
        axis.set(xlabel="updates of $D$", ylabel="V(G, D), nats", xlim=(0, budget))
        name_minus_log_4(axis)
        axis.set_title(title, fontsize=11)
        axis.legend(frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1, 0.55))
    C = criterion(normal(), normal(MOVED))
    right.axhline(C, color=GREY, linewidth=0.8, linestyle=":")
    right.text(budget, C + 0.02, "dotted: C(G) of the moved pair ", ha="right", va="bottom", color=GREY)
    right.set(ylim=(-1.44, -1.1))
    return figure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--iterations", type=positive, default=STEPS, metavar="N", help="updates of a D that is trained (default: %(default)s)")
    add("--seed", type=natural, default=0, metavar="S", help="decides every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the pictures (default: a new one under runs/)")
    add("--smoke", action="store_true", help="everything, in seconds, with fewer updates of D")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    seed, steps, budget = args.seed, 600 if args.smoke else args.iterations, 300 if args.smoke else BUDGET
    folder = open_folder("theory", args.out)
    statements: tuple[partial[list[Check]], ...] = (
        partial(noise_limit, seed),
        partial(equation_1_value_function, seed),
        partial(finite_set_overfitting, seed, budget),
        partial(proposition_1_maximum, seed),
        partial(equation_2_optimal_discriminator, seed, steps),
        partial(equation_3_change_of_variables),
        partial(conditional_log_likelihood, seed),
        partial(equation_4_virtual_training_criterion, seed, steps),
        partial(equation_5_two_divergences),
        partial(equation_6_jensen_shannon, seed),
        partial(theorem_1_global_minimum, seed, steps),
        partial(proposition_2_convexity, seed),
        partial(proposition_2_subderivative, seed),
        partial(proposition_2_convergence),
        partial(maximum_likelihood_cost),
        partial(two_sample_reading, seed, budget),
    )
    results = {}
    draws = can_draw("the figures are")
    with progress_bar(len(statements), title="statements") as bar:
        for statement in statements:
            results[statement.func.__name__] = checks = statement()
            title = f"\n{statement.func.__name__}: {(statement.func.__doc__ or '').splitlines()[0]}"
            bar.write("\n".join([title, *map(str, checks)]))
            bar.update()
    every = [check for checks in results.values() for check in checks]
    write_json(
        folder / "results.json",
        {
            "settings": {"seed": seed, "iterations": steps, "budget": budget, "smoke": args.smoke},
            "checks": {name: [check.as_dict() for check in checks] for name, checks in results.items()},
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
    if draws:
        save_figure(folder / "theory_equation2.png", draw_equation_2(seed, steps), 80)
        save_figure(folder / "theory_theorem1.png", draw_theorem_1(), 80)
        save_figure(folder / "theory_proposition2.png", draw_proposition_2(), 80)
        save_figure(folder / "theory_held_out.png", draw_held_out(seed, budget), 80)
    failed = [check for check in every if not check.holds]
    print(f"\n{len(every)} checks, {len(failed)} fail; lines marked ≠ show the opposite, under a different condition")
    print(f"run: {folder}", file=sys.stderr)
    if failed:
        sys.exit("error: some checks fail: see FAILS above")


if __name__ == "__main__":
    main(program)
