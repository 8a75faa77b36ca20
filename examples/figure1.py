"""Figure 1 of the paper, from a real training run on the line: it ends with D = ½ everywhere.

    python examples/figure1.py            the figure and the film of the run, in under a minute
    python examples/figure1.py --smoke    the same in seconds, long before the end

z is uniform and p_data = N(0, 1). G and D are small networks. They see only minibatches. The four panels are four
moments of one run, as the paper tells it:

(a)  near convergence: p_g resembles p_data, and D is partly right
(b)  only D has learned since, until it converged: D is D* of Eq. 2
(c)  only G has learned since, for a few steps: D's gradient has led G(z) to where D says "data"
(d)  both have learned since, by Algorithm 1: p_g = p_data, and D = ½

Then the script measures what (d) claims, in two ways. It compares the distance between p_g and p_data with the distance
between two sets of data. And it trains a fresh D until it converges, with G held fixed. With the G of (a) this D must find D*.
With the G of (d) it must find no difference.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import expit
from theory import SUPPORT, Check, generator_cdf, line_discriminator, midpoints, normal, opposite, train_discriminator

from tinygan import (
    GAN,
    Batch,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    Streams,
    Uniform,
    get_backend,
    random_generator,
    to_device,
    to_host,
)
from tinygan.backend import BACKENDS, write_atomically
from tinygan.console import need_matplotlib, progress_bar
from tinygan.figures import as_pixels, figure_and_axes, save_figure
from tinygan.init import Constant
from tinygan.run import main, natural, open_folder, positive, write_json

P_DATA = normal(0, 1)
M = 128  # examples in a minibatch
NEAR = 1.0  # the Wasserstein-1 distance at which (a) is taken
ARRIVED = 0.03  # the distance below which (d) is reached
PATIENCE = 500  # iterations of Algorithm 1 before (a), at most
INNER_LOOP = 3000  # updates of D between (a) and (b)
GUIDED = 24  # updates of G between (b) and (c)
FIRST_RATE = 0.003  # η of G until then
ITERATIONS = 5000  # of Algorithm 1 between (c) and (d)
K = 5  # updates of D in each of them
GENERATOR_RATE = 0.05, 0.002  # η of G at first, and at the end
FRESH = 2000  # updates of a fresh D
DISCRIMINATOR_RATE, DISCRIMINATOR_MOMENTUM = 0.05, 0.8

LIVES = 1.96  # the data live in |x| < 1.96: 95 % of p_data
EDGES = np.linspace(-6, 6, 601)  # of the bins in which p_g is computed
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
WIDTH = EDGES[1] - EDGES[0]


def build_generator(seed: int, xp: Any, units: int = 32) -> Network:
    """G: z ↦ x, a sum of sigmoid steps, which starts as a rising curve, so that p_g starts as a bell left of the data.

    The steps stand closer towards the ends of z, where G must become steep to make the tails of p_data.
    """
    angle = np.pi * midpoints(units)
    slope = 4 / (np.sin(angle) + 0.1)

    def rising(rng: np.random.Generator, out: np.ndarray) -> None:
        out[...] = rng.uniform(0.8, 1.2, out.shape) * 4.6 / units

    steps = Linear(1, units, weight=Constant(slope[None]), bias=slope * SUPPORT * np.cos(angle))
    return Network([steps, Sigmoid(), Linear(units, 1, weight=rising, bias=-4.1)], seed=seed, xp=xp)


def build_discriminator(seed: int, xp: Any, units: int = 32) -> Network:
    """D: two hidden layers of ReLU, whose kinks start spread over the line."""
    kinks = random_generator(np, seed, "kinks of D").uniform(-2, 2, units)
    hidden = Linear(1, units, weight=Uniform(1), bias=kinks), ReLU(), Linear(units, units, weight=Uniform(0.4)), ReLU()
    return Network([*hidden, Linear(units, 1, weight=Uniform(0.1))], seed=seed + 1, xp=xp)


ARROWS = SUPPORT * (2 * midpoints(28) - 1)  # the z from which arrows are drawn


@dataclass
class Moment:
    """The game at one moment; curves are given on CENTRES. p_g is the mean over each bin, without error (generator_cdf)."""

    title: str
    theta_g: Any
    p_g: np.ndarray
    D: np.ndarray
    D_star: np.ndarray  # Eq. 2
    G: np.ndarray  # G(z) for z of ARROWS
    wasserstein: float  # W₁(p_g, p_data)


def column(values: np.ndarray, network: Network) -> Any:
    return to_device(values[:, None].astype(network.dtype), network.xp)


def evaluate(network: Network, x: np.ndarray) -> np.ndarray:
    return to_host(network(column(x, network)))[:, 0].astype(np.float64)


def probability(D: Network, x: np.ndarray) -> np.ndarray:
    """D(x) = σ(a)"""
    return expit(evaluate(D, x))


def wasserstein(cdf: np.ndarray) -> float:
    """W₁(p_g, p_data) = ∫ |F_g(x) − F_data(x)| dx, F_g given on EDGES"""
    return float(abs(cdf - P_DATA.cdf(EDGES)).sum() * WIDTH)


def look(G: Network, D: Network, title: str) -> Moment:
    cdf = generator_cdf(G, EDGES)
    p_g, p_data = np.diff(cdf) / WIDTH, P_DATA(CENTRES)
    return Moment(
        title,
        G.theta.copy(),
        p_g,
        probability(D, CENTRES),
        p_data / (p_data + p_g),
        evaluate(G, ARROWS),
        wasserstein(cdf),
    )


def play(seed: int, iterations: int, inner_loop: int, xp: Any, bar: Any) -> tuple[list[Moment], list[Moment]]:
    """The run: its four moments (a)–(d), and the moments of the film."""
    G, D = build_generator(seed, xp), build_discriminator(seed, xp)
    gan = GAN(
        G,
        D,
        MomentumSGD(G.theta, FIRST_RATE),
        MomentumSGD(D.theta, DISCRIMINATOR_RATE, DISCRIMINATOR_MOMENTUM),
        noise=Noise("uniform", 1),
        batch_size=M,
    )
    streams = Streams(seed, 0, xp)

    def examples() -> Iterator[Batch]:
        while True:
            yield Batch(streams["data"].standard_normal((M, 1), dtype=np.float32))

    batches = examples()
    panels: list[Moment] = []
    film: list[Moment] = []

    def panel(title: str) -> None:
        panels.append(look(G, D, title))
        film.extend([panels[-1]] * 5)  # the film rests here

    for i in range(PATIENCE):
        moment = look(G, D, "Algorithm 1, k = 1")
        if moment.wasserstein < NEAR:
            break
        if i % 8 == 0:
            film.append(moment)
        gan.iteration(batches, streams)
        bar.update()
    panel("(a) near convergence")

    for i in range(inner_loop):
        if i in (10, 100, 1000):
            film.append(look(G, D, "G fixed, D learns"))
        gan.discriminator_step(next(batches).x, gan.sample_noise(streams), None)
        bar.update()
    panel("(b) $D$ has converged to $D^*$")

    for i in range(GUIDED):
        if i % 6 == 5:
            film.append(look(G, D, "D fixed, G follows its gradient"))
        gan.generator_step(gan.sample_noise(streams), None)
        bar.update()
    panel("(c) $G$ was led towards the data")

    gan.k = K
    start, end = GENERATOR_RATE
    filmed = set(np.geomspace(1, iterations, 20).astype(int))
    for i in range(1, iterations + 1):
        gan.G_optimizer.learning_rate = start * (end / start) ** max(0.0, (i / iterations - 0.3) / 0.7)
        gan.iteration(batches, streams)
        if i in filmed:
            film.append(look(G, D, f"Algorithm 1, k = {K}: iteration {i}"))
        bar.update()
    arrived = wasserstein(generator_cdf(G, EDGES)) < ARRIVED
    panel("(d) $p_g = p_{data}$, $D$ = ½" if arrived else f"(d) after {iterations} iterations, not there yet")
    return panels, film


def fresh_discriminator(moment: Moment, steps: int) -> np.ndarray:
    """D(x) on CENTRES of a new D, trained to convergence against the frozen G of a moment.

    Its minibatch is 1,000 quantiles of p_data and as many of z, so its gradient has no sampling error.
    """
    G = build_generator(0, np)
    G.theta = to_host(moment.theta_g)
    D = line_discriminator(0, reach=5, units=64, slope=8)
    x = P_DATA.quantiles(1000)[:, None]
    samples = evaluate(G, SUPPORT * (2 * midpoints(1000) - 1))[:, None]
    train_discriminator(D, lambda: x, lambda: samples, steps, 0.5)
    return probability(D, CENTRES)


def two_sample_distances(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Wasserstein-1 and Kolmogorov–Smirnov distance of two sets of equal size."""
    from scipy.stats import ks_2samp  # not at the top: slow to import, and Ctrl-C there is a traceback

    return float(abs(np.sort(a) - np.sort(b)).mean()), float(ks_2samp(a, b).statistic)


def measure(panels: list[Moment], fresh: dict[str, np.ndarray], seed: int) -> list[Check]:
    """What Figure 1 claims, in numbers; ≠ marks the same measure where the claim is false."""
    a, b, c, d = panels
    p_data = P_DATA(CENTRES)
    lives = abs(CENTRES) < LIVES

    def error(moment: Moment, D: np.ndarray) -> float:
        return float(abs(D - moment.D_star) @ (p_data + moment.p_g)) / 2 * WIDTH

    def from_half(D: np.ndarray) -> float:
        return float(abs(D - 0.5)[lives].max())

    # Between n samples of p_g and n of p_data, beside two sets of n of p_data: 200 times
    n, rng = 1000, np.random.default_rng(seed)
    repeats = 200

    def against_data(moment: Moment | None) -> np.ndarray:
        G = build_generator(0, np)
        if moment is not None:
            G.theta = to_host(moment.theta_g)

        def one() -> tuple[float, float]:
            samples = P_DATA.sample(rng, n) if moment is None else evaluate(G, rng.uniform(-SUPPORT, SUPPORT, n))
            return two_sample_distances(samples, P_DATA.sample(rng, n))

        return np.array([one() for _ in range(repeats)])

    data = against_data(None)
    expected, error_of_one = data.mean(axis=0), data.std(axis=0)
    in_a, in_d = against_data(a).mean(axis=0), against_data(d).mean(axis=0)
    sets = f"of {n:,} samples and {n:,} data"
    ends = CENTRES[a.p_g > 0][[0, -1]]  # where G's range ends D* jumps, and no smooth D can follow
    near_end = abs(CENTRES[:, None] - ends).min(axis=1) < 0.3
    return [
        Check("(a) mean |D − D*| in the game: D is partly right", error(a, a.D), ">", 0.04),
        Check("(b) mean |D − D*| in the game: D has converged", error(b, b.D), "<", 0.03),
        Check(f"(c) W₁(p_g, p_data) after {GUIDED} steps of G (bound: 0.7 of that in (b))", c.wasserstein,
              "<", 0.7 * b.wasserstein),
        Check("(d) W₁(p_g, p_data), exact: ∫ |F_g − F_data| dx, p_data has width 1", d.wasserstein, "<", ARRIVED),
        Check(f"(d) W₁ {sets} (expected: that of two sets of data, ± 1 s.d.)", in_d[0], "=", expected[0], error_of_one[0]),
        Check(f"(d) Kolmogorov–Smirnov {sets} (expected: the same)", in_d[1], "=", expected[1], error_of_one[1]),
        Check(f"(d) max |D* − ½| over |x| < {LIVES}", from_half(d.D_star), "<", 0.05),
        Check(f"(d) fresh D against the frozen G: max |D − ½| over |x| < {LIVES}", from_half(fresh["d"]), "<", 0.05),
        Check("(a) fresh D against the frozen G: mean |D − D*|", error(a, fresh["a"]), "<", 0.01),
        Check("(a) fresh D: max |D − D*| over the same x, 0.3 away from the ends of p_g",
              float(abs(fresh["a"] - a.D_star)[lives & ~near_end].max()), "<", 0.05),
        opposite(f"(a) W₁ {sets} (bound: that of two sets of data + 5 s.d.)", in_a[0], ">", (expected + 5 * error_of_one)[0]),
        opposite(f"(a) Kolmogorov–Smirnov {sets} (the same bound)", in_a[1], ">", (expected + 5 * error_of_one)[1]),
        opposite(f"(a) fresh D: max |D − ½| over |x| < {LIVES}", from_half(fresh["a"]), ">", 0.25),
    ]  # fmt: skip


# Colours and strokes as in the paper: D dashed blue, p_data dotted black, p_g solid green. D* is ours.
STROKES: dict[str, dict[str, Any]] = {
    "p_data": {"color": "black", "linestyle": (0, (1, 1.2)), "linewidth": 2.0, "label": "$p_{data}$"},
    "p_g": {"color": "#1a8a3a", "linestyle": "-", "linewidth": 2.0, "label": "$p_g$"},
    "D": {"color": "#1f4fd8", "linestyle": (0, (4, 1.6)), "linewidth": 2.0, "label": "$D$"},
    "D*": {"color": "#e08a1e", "linestyle": "-", "linewidth": 1.2, "label": "$D^*$ of Eq. 2"},
}
GREYS = 1, 0.85, 0.7, 0.4
SHOWN = 4.0  # x from −4 to 4


def draw_moment(axis: Any, moment: Moment, every: int = 1) -> None:
    """One panel: the curves, the densities at twice their height; below them the x axis, the z axis, and from z to x every
    so many of the arrows x = G(z).
    """
    x_axis, z_axis = -0.16, -0.46
    live = P_DATA(CENTRES) + moment.p_g > 0.01  # elsewhere D* is defined by next to nothing
    axis.plot(CENTRES, np.where(live, moment.D_star, np.nan), **STROKES["D*"])
    axis.plot(CENTRES, P_DATA(CENTRES) * 2, **STROKES["p_data"])
    axis.plot(CENTRES, moment.p_g * 2, **STROKES["p_g"])
    axis.plot(CENTRES, moment.D, **STROKES["D"])
    axis.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axis.axhline(0.5, color="0.85", linewidth=0.8, zorder=0)
    for height in (x_axis, z_axis):
        axis.plot([-SHOWN, SHOWN], [height, height], color="black", linewidth=0.9)
    z, x = (values[::every] for values in (ARROWS / SUPPORT * (SHOWN - 0.4), moment.G))
    axis.quiver(z, np.full_like(z, z_axis), x - z, np.full_like(z, x_axis - z_axis), angles="xy", scale_units="xy", scale=1,
                width=0.0025, headwidth=7, headlength=9, headaxislength=9, color="0.4", zorder=2)  # fmt: skip
    axis.text(-SHOWN, x_axis, "x ", ha="right", va="center", style="italic")
    axis.text(-SHOWN, z_axis, "z ", ha="right", va="center", style="italic")
    axis.set(xlim=(-SHOWN, SHOWN), ylim=(-0.5, 1.05), xticks=[], yticks=[0, 0.5, 1], yticklabels=["0", "½", "1"])
    axis.tick_params(axis="y", length=2, labelcolor=STROKES["D"]["color"])
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)
    axis.set_title(moment.title, fontsize=11)


def draw_panels(panels: list[Moment], axes: Any = None) -> Any:
    """A Figure of the four moments; axes: four of yours."""
    figure, ((*axes,),) = figure_and_axes(axes, 1, 4, (13, 4.1))
    for axis, moment in zip(axes, panels, strict=True):
        draw_moment(axis, moment)
        axis.set_xlabel(f"$W_1(p_g, p_{{data}})$ = {moment.wasserstein:.3f}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def draw_fresh(panels: list[Moment], fresh: dict[str, np.ndarray], axes: Any = None) -> Any:
    """A Figure of the fresh D beside D*, against the frozen G of (a) and of (d); axes: two of yours."""
    figure, ((*axes,),) = figure_and_axes(axes, 1, 2, (9, 3.4), sharey=True)
    titles = "a fresh D against the G of (a) finds D*", "a fresh D against the G of (d) finds nothing"
    for axis, moment, D, title in zip(axes, (panels[0], panels[-1]), fresh.values(), titles, strict=True):
        axis.axvspan(-LIVES, LIVES, color="0.95", zorder=0)
        axis.fill_between([-LIVES, LIVES], 0.45, 0.55, color="#cfdcff", linewidth=0, zorder=0.5, label="½ ± 0.05")
        axis.plot(CENTRES, P_DATA(CENTRES) * 2, **STROKES["p_data"])
        axis.plot(CENTRES, moment.p_g * 2, **STROKES["p_g"])
        live = P_DATA(CENTRES) + moment.p_g > 0.01
        axis.plot(CENTRES, np.where(live, moment.D_star, np.nan), **STROKES["D*"])
        axis.plot(CENTRES, np.where(live, D, np.nan), **STROKES["D"] | {"label": "fresh $D$"})
        axis.set(xlim=(-3.2, 3.2), ylim=(0, 1.02), xlabel="x (grey: 95 % of the data)", yticks=[0, 0.5, 1])
        axis.set_title(title, fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def draw_film(path: Path, film: list[Moment], bar: Any) -> None:
    from matplotlib.colors import to_rgb

    figure, ((axis,),) = figure_and_axes(None, 1, 1, (5, 4.2))
    frames = []
    for moment in film:
        axis.clear()
        draw_moment(axis, moment, every=2)
        axis.set_xlabel(f"$W_1(p_g, p_{{data}})$ = {moment.wasserstein:.3f}")
        frames.append(Image.fromarray(as_pixels(figure, 64)))
        bar.update(10)
    # One small palette for all frames keeps the file small: the strokes, their blends with white, and greys.
    strokes = [np.array(to_rgb(stroke["color"])) for stroke in STROKES.values()]
    colours = [blend * stroke + 1 - blend for stroke in strokes for blend in (1, 0.5)] + [np.full(3, grey) for grey in GREYS]
    palette = Image.new("P", (1, 1))
    palette.putpalette((255 * np.concatenate(colours)).astype(np.uint8).tobytes())
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with write_atomically(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=180, loop=0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--iterations", type=positive, default=ITERATIONS, metavar="N",
        help="iterations of Algorithm 1 between (c) and (d) (default: %(default)s)")  # fmt: skip
    add("--backend", choices=BACKENDS, default="numpy", help="array library (default: %(default)s: the networks are small)")
    add("--seed", type=natural, default=0, metavar="S", help="decides every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: a new one under runs/)")
    add("--smoke", action="store_true", help="everything once, in seconds; too short to reach (d)")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    need_matplotlib()
    started = time.perf_counter()
    iterations, inner_loop, fresh_steps = (200, 200, 200) if args.smoke else (args.iterations, INNER_LOOP, FRESH)
    xp = get_backend(args.backend)
    folder = open_folder("figure1", args.out)
    with progress_bar(inner_loop + GUIDED + iterations + 600, title="steps") as bar:
        panels, film = play(args.seed, iterations, inner_loop, xp, bar)
        fresh = {"a": fresh_discriminator(panels[0], fresh_steps), "d": fresh_discriminator(panels[-1], fresh_steps)}
        save_figure(folder / "figure1.png", draw_panels(panels), 90)
        save_figure(folder / "figure1_fresh.png", draw_fresh(panels, fresh), 90)
        draw_film(folder / "figure1.gif", film[:: 4 if args.smoke else 1], bar)
    checks = measure(panels, fresh, args.seed)
    write_json(
        folder / "results.json",
        {
            "settings": {"seed": args.seed, "iterations": iterations, "smoke": args.smoke},
            "checks": [check.as_dict() for check in checks],
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
    for check in checks:
        print(check)
    print(f"run: {folder}", file=sys.stderr)
    if not args.smoke and not all(check.holds for check in checks):
        sys.exit("error: some claims of Figure 1 are not true of this run: see FAILS above")


if __name__ == "__main__":
    main(program)
