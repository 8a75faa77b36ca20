"""The three costs of the generator: their gradients, what saturation is, and which divergence covers which modes.

    python examples/costs.py             well under a minute on two cores
    python examples/costs.py --smoke     everything once, in seconds

Section 3 of the paper: "Early in learning, when G is poor, D can reject samples with high confidence because they are
clearly different from the training data. In this case, log(1 − D(G(z))) saturates. Rather than training G to minimize
log(1 − D(G(z))) we can train G to maximize log D(G(z))."

costs.png              the costs and their gradients against the logit a, D = σ(a): as computed, and in closed form
costs_saturation.png   the gradient that reaches θ_g under each cost while D alone learns; then how fast G learns
costs_modes.png        one Gaussian fitted to two modes by KL(p‖q), JSD and KL(q‖p): which covers both, which picks one
results.json           every number behind the figures

The fits do not show what a GAN does. By Theorem 1 a GAN descends JSD, and many say that GANs drop modes for this reason.
But Fedus et al. 2018 (Many Paths to Equilibrium) show GANs that learn where the descent of a divergence would fail. And
collapse.py covers eight modes, or three, or one, with the same cost.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from collapse import BATCH, NOISE, discriminator, endless, generator, in_parallel, mean_D

from tinygan import (
    GAN,
    GENERATOR_COSTS,
    DivergenceError,
    MomentumSGD,
    Network,
    generator_loss,
    random_generator,
)
from tinygan.console import need_matplotlib
from tinygan.figures import figure_and_axes, save_figure
from tinygan.run import main, natural, open_folder, positive, write_json

UPDATES = 3000  # of D, while G is frozen
LIMIT = 500  # iterations that G then gets to come half-way
LEARNING_RATE, MOMENTUM = 0.02, 0.5
DISTANCE = 6.0  # of the data from G's first samples, whose width is about 1
RECORDS = 31  # of D's training
SEEDS = 3
NOISE_ROWS = 1000  # z's that the gradient norms are taken over

# Of a fitted pair: modes at ±d, each of width 1. d from one mode to two that share nothing
SEPARATIONS = np.linspace(0, 7, 57)
SHOWN = 2.0, 4.0, 6.0  # those that are drawn
X = np.linspace(-24, 24, 4801)  # the quadrature's grid


# ---- Against the logit


def curves(kind: str, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J(G) and ∂J/∂a of one sample at each logit of a, by tinygan.generator_loss."""
    costs, gradients = zip(*(generator_loss(a_i.reshape(1, 1), kind) for a_i in a), strict=True)
    return np.array(costs), np.concatenate(gradients)[:, 0]


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


CLOSED_FORMS: dict[str, tuple[str, Callable[..., Any], str, Callable[..., Any]]] = {
    "minimax": ("log(1 − D)", lambda a: np.log(1 - sigmoid(a)), "−σ(a)", lambda a: -sigmoid(a)),
    "non_saturating": ("−log D", lambda a: -np.log(sigmoid(a)), "−(1 − σ(a))", lambda a: -(1 - sigmoid(a))),
    "maximum_likelihood": ("−eᵃ", lambda a: -np.exp(a), "−eᵃ", lambda a: -np.exp(a)),
}
"""Each cost and its gradient against the logit, as one would write them down."""


# ---- Live


def gradient_norms(G: Network, D: Network, z: np.ndarray) -> dict[str, float]:
    """‖∂J(G)/∂θ_g‖₂ under each cost, with θ_d fixed."""
    norms = {}
    grad = np.empty_like(G.theta)
    samples, G_cache = G.forward(z)
    a, D_cache = D.forward(samples)
    for kind in GENERATOR_COSTS:
        _, da = generator_loss(a, kind)
        G.backward(D.backward(da, D_cache), G_cache, grad, need_dx=False)
        norms[kind] = float(np.linalg.norm(grad.astype(np.float64)))
    return norms


def moved(G: Network, distance: float, rng: np.random.Generator, m: int) -> np.ndarray:
    """m samples of G, moved by `distance`: the data of the live part."""
    return G(NOISE(rng, m)) + np.array([distance, 0], dtype=G.dtype)


def get_ahead(seed: int, updates: int, distance: float = DISTANCE) -> dict[str, list[Any]]:
    """G stays as it starts while D is trained. Returns, by D's updates, mean D(G(z)), the gradient norms, and θ_d.

    distance   The data are G's own samples, from other z, moved by so much. Where that is several times their width, D
               rejects G's samples with ever more confidence. With 0, p_data = p_g, and D finds no difference.
    """
    G, D = generator(seed), discriminator(seed)
    gan = GAN(G, D, MomentumSGD(G.theta, LEARNING_RATE), MomentumSGD(D.theta, LEARNING_RATE, MOMENTUM), noise=NOISE)
    batches = endless(partial(moved, G, distance), random_generator(np, seed, "examples"))
    noise, z = random_generator(np, seed, "noise"), held_out_noise(seed)
    trace: dict[str, list[Any]] = {name: [] for name in ("updates", "D_G_z", *GENERATOR_COSTS, "theta_d")}
    due = {round(i) for i in np.geomspace(1, updates, RECORDS)} | stations(updates)
    for done in range(1, updates + 1):
        gan.discriminator_step(next(batches).x, NOISE(noise, BATCH), None)
        if done in due:
            numbers = {"updates": done, "D_G_z": mean_D(D(G(z)))} | gradient_norms(G, D, z)
            for name, number in (numbers | {"theta_d": D.theta.copy()}).items():
                trace[name].append(number)
    return trace


def stations(updates: int) -> set[int]:
    """The updates of D after which G is trained."""
    return {round(i) for i in np.geomspace(1, updates, 4)}


def held_out_noise(seed: int) -> np.ndarray:
    return NOISE(random_generator(np, seed, "held-out noise"), NOISE_ROWS)


def half_way(seed: int, theta_d: np.ndarray, kind: str, limit: int) -> int | None:
    """Algorithm 1 under one cost, from an untrained G and a trained D: after how many iterations the median
    sample is half-way to the data. None: not within the limit, or not before the cost or the parameters overflow.
    """
    G, D = generator(seed), discriminator(seed)
    D.theta = theta_d
    G_optimizer, D_optimizer = (MomentumSGD(net.theta, LEARNING_RATE, MOMENTUM) for net in (G, D))
    gan = GAN(G, D, G_optimizer, D_optimizer, noise=NOISE, batch_size=BATCH, generator_cost=kind)
    batches = endless(partial(moved, generator(seed), DISTANCE), random_generator(np, seed, "examples after"))
    streams = {"noise": random_generator(np, seed, "noise after"), "dropout": None}
    z = held_out_noise(seed)
    start = np.median(G(z)[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        for done in range(1, limit + 1):
            try:
                gan.iteration(batches, streams)
            except DivergenceError:  # eᵃ, once D takes samples for data with confidence
                return None
            if np.median(G(z)[:, 0]) - start > DISTANCE / 2:
                return done
    return None


# ---- Divergences


def log_normal(mean: float, width: float) -> np.ndarray:
    """log N(x; mean, width²) on the grid."""
    return -0.5 * ((X - mean) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))


def log_two_modes(d: float) -> np.ndarray:
    """log of ½ N(−d, 1) + ½ N(d, 1) on the grid."""
    return np.logaddexp(log_normal(-d, 1), log_normal(d, 1)) - math.log(2)


def integral(y: np.ndarray) -> float:
    return float(y.sum() * (X[1] - X[0]))


def kl(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """KL(p‖q) = ∫ p log(p/q), in nats, by quadrature."""
    return integral(np.exp(log_p) * (log_p - log_q))


def reverse_kl(log_p: np.ndarray, log_q: np.ndarray) -> float:
    return kl(log_q, log_p)


def jsd(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """JSD(p‖q) = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2   (Theorem 1): 0 … log 2."""
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * kl(log_p, log_m) + 0.5 * kl(log_q, log_m)


DIVERGENCES = {"KL(p‖q)": kl, "JSD": jsd, "KL(q‖p)": reverse_kl}


def fit(divergence: Callable[[np.ndarray, np.ndarray], float], d: float) -> tuple[float, float, float]:
    """The single Gaussian q nearest to the two modes p at ±d: its mean, its width, the divergence left.

    The best of several starts, one over both modes, the others over one: such divergences have several minima.
    """
    from scipy.optimize import minimize  # not at the top: slow to import, and Ctrl-C there is a traceback

    log_p = log_two_modes(d)

    def left(parameters: np.ndarray) -> float:
        mean, log_width = np.clip(parameters, (-10, -1.5), (10, 2.5))
        return divergence(log_p, log_normal(mean, math.exp(log_width)))

    starts = (0.0, 0.5 * math.log(1 + d * d)), (d, 0.0), (0.5 * d, 0.3)
    found = min((minimize(left, start, method="Nelder-Mead") for start in starts), key=lambda result: result.fun)
    return abs(float(found.x[0])), math.exp(float(found.x[1])), float(found.fun)


def fits_at(d: float) -> dict[str, tuple[float, float, float]]:
    return {name: fit(divergence, d) for name, divergence in DIVERGENCES.items()}


# ---- Pictures

NAMES = {"minimax": "minimax", "non_saturating": "non-saturating", "maximum_likelihood": "maximum likelihood"}
COLOURS = dict(zip(NAMES, ("#d55e00", "#0072b2", "#009e73"), strict=True))
STYLES = dict(zip(NAMES, ("--", "-", "-."), strict=True))
GREY = "#777777"


def draw_curves(axes: Any = None) -> Any:
    """A Figure of the three costs and their gradients against the logit; axes: two of yours."""
    a = np.linspace(-6, 6, 121)
    figure, ((left, right),) = figure_and_axes(axes, 1, 2, (10, 4.2))
    for kind, (cost_name, cost, gradient_name, gradient) in CLOSED_FORMS.items():
        values, gradients = curves(kind, a)
        for axis, y, closed, name in (left, values, cost, cost_name), (right, gradients, gradient, gradient_name):
            axis.plot(a, y, color=COLOURS[kind], linewidth=2, label=f"{NAMES[kind]}: {name}")
            axis.plot(a[::6], closed(a[::6]), "o", color="black", markersize=2.5, zorder=3)
    for axis in (left, right):
        axis.axvspan(-6, -2, color=GREY, alpha=0.12, linewidth=0)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_xlabel("logit a;   D(G(z)) = σ(a)")
        axis.legend(fontsize=8, loc="lower left" if axis is right else "upper right")
    left.set(title="cost J(G) of one sample, nats", xlim=(-6, 6), ylim=(-6.2, 6.2))
    right.set(title="gradient ∂J/∂a", xlim=(-6, 6), ylim=(-2.5, 0.15))
    left.text(-5.8, -5.8, "D rejects the sample", fontsize=8)
    right.plot([], [], "o", color="black", markersize=2.5, label="closed forms")
    right.legend(fontsize=8, loc="lower left")
    return figure


def draw_saturation(
    ahead: list[dict[str, Any]], level: list[dict[str, Any]], times: dict[str, Any], axes: Any = None
) -> Any:
    """A Figure of the gradient that reaches θ_g while D gets ahead, and of what G does then; axes: three of yours."""
    figure, ((*axes,),) = figure_and_axes(axes, 1, 3, (13, 4.2))
    cases = ("D gets ahead: data far from the samples", ahead), ("the contrary: p_data = p_g", level)
    for axis, (title, traces) in zip(axes, cases, strict=False):
        for i, trace in enumerate(traces):
            for kind, name in NAMES.items():
                label = {"label": name} if i == 0 else {}
                axis.loglog(trace["updates"], trace[kind], STYLES[kind], color=COLOURS[kind], linewidth=1.3, **label)
            axis.loglog(
                trace["updates"], trace["D_G_z"], ":", color="black", **({} if i else {"label": "D(G(z)), mean"})
            )
        axis.set(title=title, xlabel="updates of D, G frozen", ylim=(5e-4, 3e2))
    axes[0].set_ylabel("norm of ∂J/∂θ_g")
    axes[0].legend(fontsize=8, loc="lower left")
    for kind in NAMES:
        numbers = np.array([[time or np.nan for time in row] for row in times[kind]])
        axes[2].loglog(times["ahead"], np.median(numbers, axis=0), STYLES[kind], color=COLOURS[kind], label=NAMES[kind])
        axes[2].loglog(times["ahead"], numbers.T, "o", color=COLOURS[kind], markersize=5, alpha=0.7)
    axes[2].set(title="then both play: iterations to half-way", xlabel="updates by which D is ahead", ylim=(1, 100))
    axes[2].legend(fontsize=8, loc="upper left")
    return figure


def draw_modes(fits: dict[str, dict[float, tuple[float, float, float]]], axes: Any = None) -> Any:
    """A Figure of the Gaussians nearest to two modes, by each divergence; axes: yours, one more than SHOWN."""
    ratios = [1] * len(SHOWN) + [1.3]
    figure, ((*axes,),) = figure_and_axes(axes, 1, len(SHOWN) + 1, (13, 4.2), width_ratios=ratios)
    styles = {"KL(p‖q)": ("#009e73", "-"), "JSD": ("#0072b2", "--"), "KL(q‖p)": ("#d55e00", ":")}
    for axis, d in zip(axes, SHOWN, strict=False):
        axis.fill_between(X, np.exp(log_two_modes(d)), color="#bbbbbb", linewidth=0, label="p, two modes")
        for name, (colour, style) in styles.items():
            mean, width, _ = fits[name][d]
            axis.plot(X, np.exp(log_normal(mean, width)), style, color=colour, linewidth=2, label=name)
        axis.set(title=f"modes at ±{d:g}", xlim=(-10, 10), ylim=(0, 0.45), xlabel="x")
    axes[0].legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel("density")
    for name, (colour, style) in styles.items():
        pairs = [(d, mean / d) for d, (mean, *_) in fits[name].items() if d]
        axes[-1].plot(*zip(*pairs, strict=True), style, color=colour, linewidth=2, label=name)
    axes[-1].set(title="the mean of the best q", xlabel="d, modes at ±d", ylim=(-0.05, 1.1), yticks=[0, 1])
    axes[-1].set_yticklabels(["between\nthe modes", "on one\nmode"])
    figure.suptitle(
        "One Gaussian q, the nearest to p by each divergence. That this is why GANs drop modes is contested.", y=1.06
    )
    return figure


# ---- The programme


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    text = "updates of D while G is frozen (default: %(default)s)"
    add("--iterations", type=positive, default=UPDATES, metavar="N", help=text)
    add("--seed", type=natural, default=0, metavar="S", help=f"the first of {SEEDS} seeds (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the figures (default: a new one under runs/)")
    add("--smoke", action="store_true", help="everything once, in seconds; D hardly gets ahead")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    need_matplotlib()
    started = time.perf_counter()
    folder = open_folder("costs", args.out)
    updates = min(args.iterations, 100) if args.smoke else args.iterations
    seeds = [args.seed + i for i in range(1 if args.smoke else SEEDS)]
    separations = sorted({*SHOWN, *(SEPARATIONS[::8] if args.smoke else SEPARATIONS)})

    save_figure(folder / "costs.png", draw_curves(), 75)
    tasks: dict[Any, Any] = {("ahead", seed): (get_ahead, (seed, updates)) for seed in seeds}
    tasks |= {("level", seed): (get_ahead, (seed, updates, 0.0)) for seed in seeds}
    tasks |= {("fits", d): (fits_at, (d,)) for d in separations}
    done = in_parallel(tasks, "D alone, and fits")
    ahead, level = ([done[name, seed] for seed in seeds] for name in ("ahead", "level"))
    fits = {name: {d: done["fits", d][name] for d in separations} for name in DIVERGENCES}
    times: dict[str, Any] = {"ahead": sorted(stations(updates))}
    starts = {
        (seed, done_before): (seed, trace["theta_d"][trace["updates"].index(done_before)])
        for seed, trace in zip(seeds, ahead, strict=True)
        for done_before in times["ahead"]
    }
    tasks = {(*start, kind): (half_way, (*starts[start], kind, LIMIT)) for start in starts for kind in GENERATOR_COSTS}
    done = in_parallel(tasks, "both play")
    for kind in GENERATOR_COSTS:
        times[kind] = [[done[seed, done_before, kind] for done_before in times["ahead"]] for seed in seeds]
    save_figure(folder / "costs_saturation.png", draw_saturation(ahead, level, times), 75)
    save_figure(folder / "costs_modes.png", draw_modes(fits), 75, bbox_inches="tight")

    for trace in (*ahead, *level):
        del trace["theta_d"]
    results = {
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "seeds": seeds,
        "ahead": ahead,
        "level": level,
        "iterations_to_half_way": times,
        "fits": {name: {f"{d:g}": fits[name][d] for d in fits[name]} for name in fits},
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(folder / "results.json", results)
    report(results, fits)
    print(f"run: {folder}", file=sys.stderr)


def report(results: dict[str, Any], fits: dict[str, dict[float, tuple[float, float, float]]]) -> None:
    """The numbers in words."""
    print("norm of the gradient that reaches θ_g, after the first and the last update of D (G frozen)")
    for case, title in ("ahead", "D gets ahead"), ("level", "p_data = p_g"):
        for seed, trace in zip(results["seeds"], results[case], strict=True):
            norms = (f"{NAMES[kind]} {trace[kind][0]:.3f} → {trace[kind][-1]:.3f}" for kind in NAMES)
            D = f"D(G(z)) {trace['D_G_z'][0]:.3f} → {trace['D_G_z'][-1]:.4f}"
            print(f"  {title}, seed {seed}: {D};  {';  '.join(norms)}")
    times = results["iterations_to_half_way"]
    print(
        f"then both play; iterations until G is half-way, with D ahead by {', '.join(map(str, times['ahead']))} updates"
    )
    for kind, name in NAMES.items():
        print(f"  {name:18s}", "   ".join(" ".join(f"{time or '–':>3}" for time in row) for row in times[kind]))
    print(f"  (–: not within {LIMIT} iterations, or not before the cost overflowed)")
    for name, by_separation in fits.items():
        picks = [d for d, (mean, *_) in by_separation.items() if mean > d / 2 > 0]
        text = f"picks one mode from ±{picks[0]:g} on" if picks else "covers both at every separation"
        print(f"{name}: the nearest Gaussian {text}")
    print("That GANs drop modes because of JSD is contested: with one cost, examples/collapse.py drops them or covers them.")


if __name__ == "__main__":
    main(program)
