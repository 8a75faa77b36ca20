"""When G collapses, and how to see it: a ring of eight Gaussians in two dimensions, where everything can be drawn.

    python examples/collapse.py             about a minute on two cores
    python examples/collapse.py --smoke     everything once, in seconds; too short to show anything

Section 6 of the paper: "G must not be trained too much without updating D, in order to avoid 'the Helvetica scenario' in
which G collapses too many values of z to the same value of x to have enough diversity to model p_data."

collapse.png, .gif     the ring: balanced updates cover it; G collapses with 50 updates for each of D, or with twice D's η.
                       With twice D's η a few seeds do not collapse. Which ones depends on the machine's rounding.
collapse_sweeps.png    modes covered and share of good samples, by updates of D, by updates of G, by ratio of learning rates
collapse_traces.png    what D(x) and D(G(z)) say about a run, and what only a fresh D says
collapse_bilinear.png  min over x, max over y of xy: why two players that follow their gradients may circle for ever
collapse_line.png      data on a line: a Parzen window blurs it, G does not
results.json           every number behind the figures

How do we know that a game has converged? D(x) = D(G(z)) = ½ and V = −log 4 say that this D finds no difference. That is so
at the optimum. It is also so where D is too weak to find a difference. So we train a fresh D, with G held fixed: it finds
a difference if there is one. Curves that swing show that G and D circle each other. This need not end, since each follows its
own gradient.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tinygan import (
    GAN,
    Batch,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Streams,
    Uniform,
    random_generator,
    value_function,
)
from tinygan.backend import write_atomically
from tinygan.console import need_matplotlib, progress_bar
from tinygan.figures import as_pixels, figure_and_axes, save_figure
from tinygan.parzen import ParzenWarning, select_sigma
from tinygan.run import main, natural, open_folder, positive, positive_number, write_json

# The ring: eight Gaussians of width σ, their centres 10 σ apart
MODES, RADIUS, WIDTH = 8, 2.0, 0.15
ANGLES = 2 * np.pi * np.arange(MODES) / MODES
CENTRES = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)

# The game. These values balance: of the seeds 0 to 5, five cover eight modes of eight, one seven.
NOISE = Noise("gaussian", 2)  # p_z
HIDDEN = 64  # units in each of G's two hidden layers; maxout pieces in each of D's
BATCH = 128  # m
MOMENTUM = 0.5
DECAY = 0.1  # what is left of the learning rates at the end of a run
ITERATIONS, LEARNING_RATE, RATIO = 3000, 0.1, 0.125  # of the balanced run; η of D; η of G / η of D
SEEDS = 3

# What is changed, one at a time
DISCRIMINATOR_STEPS = 1, 2, 5, 10
GENERATOR_STEPS = 1, 2, 5, 50
RATIOS = 1 / 32, RATIO, 0.5, 2.0

HELVETICA = GENERATOR_STEPS[-1]  # updates of G to each of D

# The line
LINE_LEARNING_RATE, LINE_RATIO = 0.03, 0.25  # with the ring's η, D grows so sure of a line that G is thrown about
LINE_ANGLE, LINE_HALF = math.radians(30), 2.0  # its direction; half of its length
LINE_POINTS = 100  # examples, all that G and the Parzen window are given
THICK = 0.3  # standard deviation across the line, in the contrary case
PARZEN_SIGMAS = np.logspace(-3, 0, 31)

HELD_OUT = 2000  # examples and samples that judge a run


@dataclass(frozen=True)
class Setting:
    """What decides the balance of D and G."""

    k: int = 1  # updates of D in an iteration
    generator_steps: int = 1  # updates of G
    ratio: float = RATIO  # η of G / η of D
    weak: bool = False  # a D without hidden layers: all that it can see of the ring is its mean


# ---- Data and measures


def ring(rng: np.random.Generator, m: int) -> np.ndarray:
    """m examples of the ring, (m, 2)."""
    x = CENTRES[rng.integers(0, MODES, m)] + WIDTH * rng.standard_normal((m, 2))
    return x.astype(np.float32)


def line(rng: np.random.Generator, m: int, thickness: float = 0.0) -> np.ndarray:
    """m examples of a line in the plane, uniform along it; N(0, thickness²) across it."""
    along, across = rng.uniform(-LINE_HALF, LINE_HALF, m), thickness * rng.standard_normal(m)
    c, s = math.cos(LINE_ANGLE), math.sin(LINE_ANGLE)
    return np.stack([c * along - s * across, s * along + c * across], axis=1).astype(np.float32)


def line_coordinates(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far along the line, and how far off it, each row of x lies."""
    c, s = math.cos(LINE_ANGLE), math.sin(LINE_ANGLE)
    return x @ np.array([c, s]), x @ np.array([-s, c])


def drawn_from(points: np.ndarray, rng: np.random.Generator, m: int) -> np.ndarray:
    """m of the points, with replacement: a finite training set."""
    return points[rng.integers(0, len(points), m)]


def coverage(samples: np.ndarray) -> tuple[int, float]:
    """Modes covered, and the share of good samples.

    A sample is good within 3 σ of a centre: of p_data itself 1 − e^(−9/2) = 98.9 % are. A mode is covered if it gets at
    least a quarter of its fair share of good samples. Neither number is enough alone: all samples in one mode are all
    good, and a few in each mode cover the ring while most lie between.
    """
    distance = np.linalg.norm(samples[:, None] - CENTRES, axis=2)
    good = distance.min(axis=1) < 3 * WIDTH
    counts = np.bincount(distance.argmin(axis=1)[good], minlength=MODES)
    return int((counts >= 0.25 * len(samples) / MODES).sum()), float(good.mean())


def spread(samples: np.ndarray) -> float:
    """Root mean square distance of the samples from their mean: 2.01 for the ring, 0 where every z gives the same x."""
    return float(np.sqrt(samples.var(axis=0).sum()))


# ---- The game


def generator(seed: int, units: int = HIDDEN) -> Network:
    def hidden(n: int) -> Uniform:
        return Uniform(math.sqrt(6 / n))  # keeps the size of a ReLU layer's values

    return Network(
        [
            Linear(NOISE.n, units, weight=hidden(NOISE.n)),
            ReLU(),
            Linear(units, units, weight=hidden(units)),
            ReLU(),
            Linear(units, 2, weight=Uniform(1 / math.sqrt(units))),
        ],
        seed=seed,
    )


def discriminator(seed: int, pieces: int = HIDDEN) -> Network:
    units = pieces // 2
    return Network(
        [
            Maxout(2, units, 2, weight=Uniform(math.sqrt(3 / 2))),
            Maxout(units, units, 2, weight=Uniform(math.sqrt(3 / units))),
            Linear(units, 1, weight=Uniform(1 / math.sqrt(pieces))),
        ],
        seed=seed + 1_000_003,  # other draws than G's
    )


def optimizer(net: Network, initial: float, updates: int) -> MomentumSGD:
    """η decays exponentially from `initial` to a tenth of it over so many updates."""
    return MomentumSGD(net.theta, lambda t: initial * DECAY ** (t / updates), MOMENTUM)


def endless(data: Callable[..., np.ndarray], rng: np.random.Generator) -> Iterator[Batch]:
    """Minibatches of examples without end."""
    while True:
        yield Batch(data(rng, BATCH))


def play(
    setting: Setting,
    seed: int,
    iterations: int = ITERATIONS,
    learning_rate: float = LEARNING_RATE,
    data: Callable[..., np.ndarray] = ring,
    records: int = 40,
    watched: bool = False,
) -> dict[str, Any]:
    """Algorithm 1 on `data`, recorded. Returns "trace", a list per name, and "samples", the last.

    iterations   of the game with one update each; every setting gets 2 · iterations updates of G and D together, so that
                 all take as long: with more updates of G, D gets fewer
    records      how often modes, share, spread, V, D(x), D(G(z)) are taken, on held-out examples and fixed z
    watched      also return "frames", (samples, θ_d) at each record, and "fresh", V of a fresh D at the first and the last G
    """
    fresh_updates = iterations // 2
    iterations = max(1, round(2 * iterations / (setting.k + setting.generator_steps)))
    G, D = generator(seed), Network([Linear(2, 1)], seed=seed) if setting.weak else discriminator(seed)
    gan = GAN(
        G,
        D,
        optimizer(G, learning_rate * setting.ratio, iterations * setting.generator_steps),
        optimizer(D, learning_rate, iterations * setting.k),
        noise=NOISE,
        batch_size=BATCH,
        k=setting.k,
        generator_steps=setting.generator_steps,
    )
    streams = Streams(seed)
    batches = endless(data, streams["examples"])
    x = data(random_generator(np, seed, "held-out examples"), HELD_OUT)
    z = NOISE(random_generator(np, seed, "held-out noise"), HELD_OUT)
    trace: dict[str, list[float]] = {name: [] for name in ("progress", "modes", "good", "spread", "V", "D_x", "D_G_z")}
    frames: list[tuple[np.ndarray, np.ndarray]] = []

    def record(done: int) -> None:
        samples = G(z)
        a_real, a_fake = D(x), D(samples)
        modes, good = coverage(samples)
        numbers = (done / iterations, modes, good, spread(samples), value_function(a_real, a_fake))
        for name, number in zip(trace, (*numbers, mean_D(a_real), mean_D(a_fake)), strict=True):
            trace[name].append(float(number))
        if watched:
            frames.append((samples, D.theta.copy()))

    fresh = [fresh_value(G, seed, data, fresh_updates)] if watched else []
    due = {round(i * iterations / records) for i in range(1, records + 1)}
    record(0)
    with np.errstate(over="ignore", invalid="ignore"):  # a game out of balance may end in NaN, and is recorded so
        for done in range(1, iterations + 1):
            gan.iteration(batches, streams)
            if done in due:
                record(done)
    fresh += [fresh_value(G, seed, data, fresh_updates)] if watched else []
    return {"trace": trace, "samples": G(z), "frames": frames, "fresh": fresh}


def mean_D(a: np.ndarray) -> float:
    return float((1 / (1 + np.exp(-a.astype(np.float64)))).mean())


def fresh_value(G: Network, seed: int, data: Callable[..., np.ndarray], updates: int) -> float:
    """V on held-out rows of a new D, trained against the frozen G: −log 4 only if it finds no difference.

    By Theorem 1, V ≤ −log 4 + 2 JSD(p_data‖p_g) for any D: V is a lower bound of how far apart the two are.
    """
    D = discriminator(seed + 1)
    D_optimizer = optimizer(D, LEARNING_RATE, updates)
    gan = GAN(G, D, MomentumSGD(G.theta, LEARNING_RATE), D_optimizer, noise=NOISE, batch_size=BATCH)
    examples, noise = random_generator(np, seed, "fresh examples"), random_generator(np, seed, "fresh noise")
    for x in (data(examples, BATCH) for _ in range(updates)):
        gan.discriminator_step(x, NOISE(noise, BATCH), None)
    z = NOISE(noise, HELD_OUT)
    return float(value_function(D(data(examples, HELD_OUT)), D(G(z))))


# ---- The bilinear game


def bilinear(eta: float, steps: int, simultaneous: bool, damping: float = 0.0) -> np.ndarray:
    """min over x, max over y of V = xy + (λ/2)(x² − y²), by gradient steps from (1, 0): the orbit, (steps + 1, 2).

    The equilibrium is (0, 0). With λ = 0:
    simultaneous   both gradients at the old point: ‖(x, y)‖ grows by √(1 + η²) at every step, for any η > 0
    alternating    y steps at the new x: x² + y² − ηxy never changes, so the orbit stays on one ellipse
    With λ > 0, simultaneous: ‖(x, y)‖ changes by √((1 − ηλ)² + η²), which is below 1 where λ > η/2 (about)
    """
    x, y = np.array([1.0]), np.array([0.0])
    x_optimizer, y_optimizer = MomentumSGD(x, eta), MomentumSGD(y, eta)
    orbit = [(1.0, 0.0)]
    for _ in range(steps):
        dx, dy = y + damping * x, x - damping * y
        x_optimizer.step(dx)
        y_optimizer.step(-dy if simultaneous else -(x - damping * y))  # y ascends
        orbit.append((float(x[0]), float(y[0])))
    return np.array(orbit)


# ---- The line


def blurred(points: np.ndarray, rng: np.random.Generator, m: int) -> tuple[np.ndarray, float]:
    """m draws from the Parzen window of the points, and its σ, chosen as the paper's evaluation chooses it.

    Half of the points are the window's centres while the other half choose σ; the draws then use them all.
    """
    half = len(points) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)  # few points are the point
        sigma, _ = select_sigma(points[:half], points[half:], list(PARZEN_SIGMAS))
    return drawn_from(points, rng, m) + sigma * rng.standard_normal((m, 2), dtype=np.float32), sigma


def play_line(thickness: float, seed: int, iterations: int) -> dict[str, Any]:
    """G and a Parzen window, both given the same few points of the line: samples of each, and how far they lie off it."""
    points = line(random_generator(np, seed, "line"), LINE_POINTS, thickness)
    window, sigma = blurred(points, random_generator(np, seed, "window"), HELD_OUT)
    run = play(Setting(ratio=LINE_RATIO), seed, iterations, LINE_LEARNING_RATE, partial(drawn_from, points), records=1)
    samples = {"data": line(random_generator(np, seed, "more"), HELD_OUT, thickness), "window": window}
    samples["G"] = run["samples"]
    off = {name: float(np.sqrt((line_coordinates(x)[1] ** 2).mean())) for name, x in samples.items()}
    along = {name: float(line_coordinates(x)[0].std()) for name, x in samples.items()}
    return {"points": points, "samples": samples, "off": off, "along": along, "sigma": sigma}


# ---- Pictures

BLUE, RED, GREY = "#0072b2", "#d55e00", "#777777"


def draw_ring(axis: Any, samples: np.ndarray, theta_d: np.ndarray | None = None) -> None:
    """Samples over the centres' 3 σ circles, and over D(x): red where D says data, blue where it says G."""
    from matplotlib.patches import Circle

    limit = 1.7 * RADIUS
    if theta_d is not None:
        side = np.linspace(-limit, limit, 60, dtype=np.float32)
        grid = np.stack(np.meshgrid(side, side), axis=-1)
        D = discriminator(0)
        D.theta = theta_d
        probability = 1 / (1 + np.exp(-D(grid.reshape(-1, 2)).reshape(60, 60)))
        box = (-limit, limit, -limit, limit)
        axis.imshow(
            probability, extent=box, origin="lower", cmap="RdBu_r", vmin=0, vmax=1, alpha=0.45, interpolation="bilinear"
        )
    for centre in CENTRES:
        axis.add_patch(Circle(tuple(centre), 3 * WIDTH, fill=False, color="black", linewidth=0.7))
    axis.plot(*samples[:600].T, ".", color="black", markersize=2.5, markeredgewidth=0, alpha=0.8)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])


def draw_frames(runs: dict[str, dict[str, Any]], columns: int = 6, axes: Any = None) -> Any:
    """A Figure of the samples at some moments, a row for each run; axes: yours, as many as `columns` for each run."""
    figure, grid = figure_and_axes(axes, len(runs), columns, (2 * columns, 2.4 * len(runs)))
    for row, (name, run) in zip(grid, runs.items(), strict=True):
        row[0].set_ylabel(name)
        last = len(run["frames"]) - 1
        for axis, i in zip(row, np.linspace(0, 1, columns) ** 1.5 * last, strict=True):
            i = round(i)
            draw_ring(axis, *run["frames"][i])
            trace = run["trace"]
            axis.set_title(f"{trace['modes'][i]:.0f} of {MODES} modes, {trace['good'][i]:.0%} good", fontsize=9)
            axis.set_xlabel(f"{i / last:.0%} of the run", fontsize=9)
    return figure


def draw_gif(path: Path, runs: dict[str, dict[str, Any]], pictures: int = 25) -> None:
    figure, (axes,) = figure_and_axes(None, 1, len(runs), (2.6 * len(runs), 2.8))
    pages = []
    for share in np.linspace(0, 1, pictures):
        for axis, (name, run) in zip(axes, runs.items(), strict=True):
            i = round(share * (len(run["frames"]) - 1))
            axis.clear()
            draw_ring(axis, run["frames"][i][0][:240])
            axis.set_title(f"{name}: {run['trace']['modes'][i]:.0f} of {MODES} modes", fontsize=8)
        pages.append(Image.fromarray(as_pixels(figure, 85)).convert("L").quantize(4))
    durations = [150] * (len(pages) - 1) + [2500]
    with write_atomically(path) as file:
        pages[0].save(file, "GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)


def draw_traces(runs: dict[str, dict[str, Any]], axes: Any = None) -> Any:
    """A Figure of D, V and the modes on the way, a column for each run; axes: yours, three for each run."""
    figure, grid = figure_and_axes(axes, 3, len(runs), (3.3 * len(runs), 6), sharex=True, sharey="row")
    for column, (name, run) in zip(grid.T, runs.items(), strict=True):
        top, middle, bottom = column
        trace, x = run["trace"], np.array(run["trace"]["progress"])
        top.plot(x, trace["D_x"], color=RED, label="D(x), data")
        top.plot(x, trace["D_G_z"], color=BLUE, label="D(G(z)), samples")
        top.axhline(0.5, color=GREY, linestyle=":")
        top.set(title=name, ylim=(0, 1))
        middle.plot(x, trace["V"], color="black", label="V of the run's own D")
        middle.plot(
            [0, 1], run["fresh"], "D", color=RED, clip_on=False, zorder=3, label="V of a fresh D, before and after"
        )
        middle.axhline(-math.log(4), color=GREY, linestyle=":", label="−log 4")
        middle.set(ylim=(-2.6, 0.1))
        bottom.step(x, trace["modes"], color="black", where="post", label="modes covered")
        bottom.set(ylim=(-0.3, MODES + 0.3), xlabel="share of the run")
    for axis, name in zip(grid[:, 0], ("D", "V, nats (cut off below)", "modes of 8"), strict=True):
        axis.set_ylabel(name)
        axis.legend(fontsize=8, loc="best")
    return figure


def draw_sweeps(sweeps: dict[str, dict[str, list[dict[str, float]]]], axes: Any = None) -> Any:
    """A Figure of modes and good samples, a column for each sweep, {what is varied: {value: [results of each seed]}}.

    axes: yours, two for each sweep.
    """
    figure, rows = figure_and_axes(axes, 2, len(sweeps), (11, 5.2), sharey="row", sharex="col")
    for row, key, label, best in (
        (rows[0], "modes", f"modes covered, of {MODES}", MODES),
        (rows[1], "good", "share of good samples", 1 - math.exp(-4.5)),
    ):
        for axis, (name, values) in zip(row, sweeps.items(), strict=True):
            numbers = np.array([[result[key] for result in results] for results in values.values()], dtype=float)
            x = np.arange(len(values))
            axis.axhline(best, color=GREY, linestyle=":", label="p_data itself")
            axis.plot(x, numbers.mean(axis=1), "-", color=BLUE, label="mean of the seeds")
            axis.plot(x, numbers, "o", color="black", markersize=4, alpha=0.6)
            axis.set(xticks=x, xticklabels=list(values), ylim=(-0.05 * best, 1.1 * best))
            if key == "good":
                axis.set_xlabel(name)
        row[0].set_ylabel(label)
    rows[0][0].legend(fontsize=8, loc="lower left")
    return figure


def draw_bilinear(eta: float = 0.1, steps: int = 150, damping: float = 0.2, axes: Any = None) -> Any:
    """A Figure of three orbits of V = xy: in the plane, and their distance from the equilibrium; axes: two of yours."""
    orbits = {
        "simultaneous: spirals out": (bilinear(eta, steps, True), RED, math.sqrt(1 + eta**2)),
        "alternating: goes round": (bilinear(eta, steps, False), "black", None),
        f"simultaneous, V + {damping / 2:g}(x² − y²): spirals in": (
            bilinear(eta, steps, True, damping),
            BLUE,
            math.hypot(1 - eta * damping, eta),
        ),
    }
    figure, ((plane, distance),) = figure_and_axes(axes, 1, 2, (10, 4.2))
    for name, (orbit, colour, growth) in orbits.items():
        plane.plot(*orbit.T, "-", color=colour, linewidth=1.2, label=name)
        distance.semilogy(np.linalg.norm(orbit, axis=1), color=colour, linewidth=1.5)
        if growth is not None:
            n = np.arange(0, steps + 1, 10)
            distance.semilogy(n, growth**n, "o", color="black", markersize=2.5, zorder=3)
            distance.text(steps + 3, growth**steps, f"{growth:.4f}ⁿ", color=colour, va="center")
    plane.plot(0, 0, "+", color="black", markersize=10)
    plane.set(title="min over x, max over y of V = xy", xlabel="x", ylabel="y", aspect="equal")
    figure.legend(*plane.get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=3, frameon=False)
    distance.plot([], [], "o", color="black", markersize=2.5, label="closed form")
    distance.legend(fontsize=8, loc="center right")
    distance.set(title="distance from the equilibrium", xlabel=f"step n, η = {eta:g}", xlim=(0, 1.2 * steps))
    return figure


def draw_lines(cases: dict[str, dict[str, Any]], axes: Any = None) -> Any:
    """A Figure of data on a line, of a Parzen window's samples and of G's, a row for each case; axes: yours, four for each."""
    figure, grid = figure_and_axes(axes, len(cases), 4, (12, 2.6 * len(cases)))
    for row, (name, case) in zip(grid, cases.items(), strict=True):
        titles = {
            "data": f"{name}: {LINE_POINTS} points",
            "window": f"Parzen window, σ = {case['sigma']:.2g}",
            "G": "G",
        }
        for axis, (key, title) in zip(row, titles.items(), strict=False):
            x = case["points"] if key == "data" else case["samples"][key][:1000]
            axis.plot(*x.T, ".", color=COLOURS[key], markersize=3, markeredgewidth=0)
            axis.set(title=title, xlim=(-2.4, 2.4), ylim=(-1.8, 1.8), aspect="equal", xticks=[], yticks=[])
        for key, x in case["samples"].items():
            off = np.sort(np.abs(line_coordinates(x)[1])).clip(1e-5)
            text = f"{key}: {case['off'][key]:.2g}" if case["off"][key] > 1e-6 else f"{key}: 0"
            row[-1].plot(off, np.linspace(0, 1, len(off)), color=COLOURS[key], label=text)
        row[-1].set(xscale="log", xlim=(1e-4, 2), ylim=(0, 1.02), xlabel="distance off the line", ylabel="share within")
        row[-1].legend(fontsize=8, title="root mean square", title_fontsize=8)
    return figure


COLOURS = {"data": "black", "window": RED, "G": BLUE}


# ---- The programme


def late(run: dict[str, Any]) -> dict[str, float | None]:
    """How a run ends: means over its last quarter, since a collapsed G moves about. None: NaN."""
    trace = run["trace"]
    means = {key: float(np.mean(trace[key][-len(trace[key]) // 4 :])) for key in ("modes", "good", "spread")}
    return {key: mean if math.isfinite(mean) else None for key, mean in means.items()}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--iterations", type=positive, default=ITERATIONS, metavar="N", help="iterations of a run (default: %(default)s)")
    add("--k", type=positive, default=1, help="updates of D in the balanced run (default: %(default)s)")
    text = "updates of G in the balanced run (default: %(default)s)"
    add("--generator-steps", type=positive, default=1, metavar="J", help=text)
    text = "η of D at the start, on the ring (default: %(default)s)"
    add("--learning-rate", type=positive_number, default=LEARNING_RATE, metavar="ETA", help=text)
    add("--seed", type=natural, default=0, metavar="S", help=f"the first of {SEEDS} seeds (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the figures (default: a new one under runs/)")
    add("--smoke", action="store_true", help="everything once, in seconds; too short to show anything")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    need_matplotlib()
    started = time.perf_counter()
    folder = open_folder("collapse", args.out)
    seeds = [args.seed + i for i in range(1 if args.smoke else SEEDS)]
    iterations = min(args.iterations, 100) if args.smoke else args.iterations

    balanced = Setting(args.k, args.generator_steps)
    shown = {
        "balanced": balanced,
        f"{HELVETICA} updates of G to {args.k} of D": replace(balanced, generator_steps=HELVETICA),
        f"η of G {RATIOS[-1]:g} times that of D": replace(balanced, ratio=RATIOS[-1]),
        "a D without hidden layers": replace(balanced, weak=True),
    }
    sweeps = {
        "k, updates of D": {str(k): replace(balanced, k=k) for k in DISCRIMINATOR_STEPS},
        "updates of G": {str(j): replace(balanced, generator_steps=j) for j in GENERATOR_STEPS},
        "η of G / η of D": {str(Fraction(r)): replace(balanced, ratio=r) for r in RATIOS},
    }
    swept_settings = (setting for sweep in sweeps.values() for setting in sweep.values())
    tasks: dict[Any, Any] = {
        (setting, seed): (play, (setting, seed, iterations, args.learning_rate))
        for setting in dict.fromkeys(swept_settings)  # each different one once
        for seed in seeds
    }
    for setting in shown.values():
        tasks[setting, args.seed] = (play, (setting, args.seed, iterations, args.learning_rate, ring, 80, True))
    lines = {(thickness, seed): (thickness, seed, iterations) for thickness in (0.0, THICK) for seed in seeds}
    runs = in_parallel(tasks | {key: (play_line, case) for key, case in lines.items()}, "games")

    shown_runs = {name: runs[setting, args.seed] for name, setting in shown.items()}
    collapses = dict(list(shown_runs.items())[:3])
    picture = Image.fromarray(as_pixels(draw_frames(collapses), 75)).quantize(96)  # a quarter of the size
    with write_atomically(folder / "collapse.png") as file:
        picture.save(file, "PNG", optimize=True)
    draw_gif(folder / "collapse.gif", collapses)
    save_figure(folder / "collapse_traces.png", draw_traces(shown_runs), 75)
    swept = {
        name: {value: [late(runs[setting, seed]) for seed in seeds] for value, setting in sweep.items()}
        for name, sweep in sweeps.items()
    }
    save_figure(folder / "collapse_sweeps.png", draw_sweeps(swept), 75)
    save_figure(folder / "collapse_bilinear.png", draw_bilinear(), 75)
    names = {0.0: "a line", THICK: f"thickness {THICK:g}"}
    line = draw_lines({name: runs[thickness, args.seed] for thickness, name in names.items()})
    save_figure(folder / "collapse_line.png", line, 75)

    results: dict[str, Any] = {"settings": {k: v for k, v in vars(args).items() if k != "out"}, "seeds": seeds}
    results["sweeps"] = swept
    results["V"] = {name: {"own": run["trace"]["V"][-1], "fresh": run["fresh"]} for name, run in shown_runs.items()}
    results["line"] = {
        name: [{key: runs[thickness, seed][key] for key in ("off", "along", "sigma")} for seed in seeds]
        for thickness, name in names.items()
    }
    results["seconds"] = round(time.perf_counter() - started, 1)
    write_json(folder / "results.json", results)
    report(results)
    print(f"run: {folder}", file=sys.stderr)


def in_parallel(tasks: dict[Any, tuple[Callable[..., Any], tuple[Any, ...]]], title: str) -> dict[Any, Any]:
    """{key: function(*arguments)}, on all cores: one process a core, one thread a process. The matrices are small."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by each new process when it loads NumPy
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        try:
            with without_ctrl_c():
                futures: dict[Future[Any], Any] = {pool.submit(f, *arguments): key for key, (f, arguments) in tasks.items()}
            done = {}
            with progress_bar(len(futures), title=title) as bar:
                for future in as_completed(futures):
                    done[futures[future]] = future.result()
                    bar.update()
            return done
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


@contextlib.contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes that are started in here ignore Ctrl-C: this one gets it, at the end, and stops them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report(results: dict[str, Any]) -> None:
    """The numbers in words."""
    print(
        f"seeds {results['seeds']}: of each, the mean over the last quarter of its run; all runs of as many updates in all"
    )
    for name, values in results["sweeps"].items():
        print(f"\n{name:18s}  modes covered      good samples        spread (ring 2.01)")
        for value, seeds in values.items():
            columns = (
                " ".join("    –" if result[key] is None else f"{result[key]:5.2f}" for result in seeds)
                for key in ("modes", "good", "spread")
            )
            print(f"{value:>18s}  {'   '.join(columns)}")
    print("\nV, nats (−1.386 where D cannot tell): of the run's own D at the end, of a fresh D before and after")
    for name, values in results["V"].items():
        print(f"{name:28s} {values['own']:6.3f}   {values['fresh'][0]:6.3f} {values['fresh'][1]:6.3f}")
    print("\nroot mean square distance off the line (in brackets: standard deviation along it)")
    for name, cases in results["line"].items():
        for case in cases:
            print(f"{name:20s}", *(f"  {key} {case['off'][key]:.3f} ({case['along'][key]:.2f})" for key in case["off"]))


if __name__ == "__main__":
    main(program)
