"""A GAN that grows: digits of 7 × 7 pixels, then 14 × 14, then 28 × 28. Beside it, the same nets trained at 28 × 28 at once.

    python examples/progressive.py            both, with pictures on the way, in a new folder under runs/
    python examples/progressive.py --smoke    the same in seconds, with a few iterations

The idea is Karras et al. (2018): learn what is coarse first. When the nets grow, G gets new last layers and D new first
layers. They are faded in. For a while G's picture is (1 − α) times that of the old layers, enlarged, plus α times that of the
new ones, and α goes from 0 to 1. D's new layers are faded in likewise, and the data are mixed with the same α.

The fully grown nets are those of examples/dcgan.py, layer for layer. The other run trains these from the start, for about as
much CPU time. Both are measured by the Parzen window, and by how many of 1,000 samples are distinct.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dcgan
import numpy as np

from tinygan import GAN, Array, Batch, Conv2d, Generator, Network, Noise, Streams, guard, load_mnist, pixels, recipes, run
from tinygan.console import progress_bar
from tinygan.datasets import Dataset
from tinygan.images import image_grid, save_png
from tinygan.init import Uniform
from tinygan.layers import Cache, Grads, Layer, LeakyReLU, Reshape, Sigmoid

PHASES = [(4, False, 400), (2, True, 300), (2, False, 300), (1, True, 300), (1, False, 500)]
"""Of each phase: how many times smaller than the data its pictures are, whether layers are faded in, and the iterations."""

AT_ONCE = 2000  # iterations at 28 × 28 that take as much time as all PHASES do
SHOWN = 12  # samples in a line of the picture


class Half(Layer):
    """y: the mean of each 2 × 2 pixels. x (m, h, w, c), y (m, h/2, w/2, c). Backward: each pixel gets dy/4."""

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Cache]:
        m, h, w, c = x.shape
        return x.reshape(m, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)), None

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        return Double().forward(dy / 4)[0] if need_dx else None


class Double(Layer):
    """y: each pixel four times. x (m, h, w, c), y (m, 2h, 2w, c). Backward: the sum over the four."""

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Cache]:
        return x.repeat(2, axis=1).repeat(2, axis=2), None

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        return 4 * Half().forward(dy)[0] if need_dx else None


class Fade(Layer):
    """y = (1 − α) old(x) + α new(x), where old and new are layers in a row; α is set from outside

    Backward   ∂L/∂x = old's backward of (1 − α) dy, plus new's backward of α dy
    """

    def __init__(self, old: Sequence[Layer], new: Sequence[Layer]) -> None:
        self.parts, self.split, self.alpha = (*old, *new), len(old), 0.0

    def branches(self) -> list[tuple[float, range]]:
        return [(1 - self.alpha, range(self.split)), (self.alpha, range(self.split, len(self.parts)))]

    def forward(self, x: Array, train: bool = False, rng: Any = None) -> tuple[Array, Cache]:
        y, caches = 0, []
        for share, indices in self.branches():
            part = x
            for i in indices:
                part, cache = self.parts[i].forward(part, train, rng)
                caches.append(cache)
            y = y + share * part
        return y, tuple(caches)

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        dx = 0
        for share, indices in self.branches():
            part = share * dy
            for i in reversed(indices):
                part = self.parts[i].backward(part, cache[i], self.part_grads(grads, i))
            dx = dx + part
        return dx if need_dx else None

    def observe(self, cache: Cache) -> None:
        for part, part_cache in zip(self.parts, cache, strict=True):
            part.observe(part_cache)


Blocks = dict[str, list[Layer]]
"""Layers by names that stay the same while the nets grow."""


def all_blocks(settings: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
    """New layers: those of the DCGAN, and those that come after G's blocks and before D's while the pictures are small."""
    G, D = dcgan.blocks(settings, shape)
    found = {f"G{i}": block for i, block in enumerate(G)} | {f"D{i}": block for i, block in enumerate(D)}
    weight = Uniform(settings["weight_range"])
    for size, n in (4, settings["width"]), (2, settings["width"] // 2):
        found[f"to {size}"] = [Conv2d(n, 1, 1, weight=weight), Sigmoid()]
        found[f"from {size}"] = [Conv2d(1, n, 3, padding=1, weight=weight), LeakyReLU(0.2)]
    return found


def grown(blocks: Blocks, size: int, fade: bool) -> tuple[list[Layer], list[Layer]]:
    """The layers of G and of D between noise, images `size` times smaller than the data, and the logit."""
    names = {
        (4, False): (["G0", "to 4"], [], [], [], [], ["from 4", "D2"]),
        (2, True): (["G0"], ["to 4"], ["G1", "to 2"], ["from 4"], ["from 2", "D1"], ["D2"]),
        (2, False): (["G0", "G1", "to 2"], [], [], [], [], ["from 2", "D1", "D2"]),
        (1, True): (["G0", "G1"], ["to 2"], ["G2"], ["from 2"], ["D0"], ["D1", "D2"]),
        (1, False): (["G0", "G1", "G2"], [], [], [], [], ["D0", "D1", "D2"]),
    }[size, fade]
    G, G_old, G_new, D_old, D_new, D = ([layer for name in part for layer in blocks[name]] for part in names)
    if fade:
        G, D = [*G, Fade([*G_old, Double()], G_new)], [Fade([Half(), *D_old], D_new), *D]
    return G, D


def take_over(blocks: Blocks, earlier: Blocks) -> None:
    """Copy the parameters and the statistics of every layer that was in a network."""
    for name, layers in blocks.items():
        for new, old in zip(layers, earlier[name], strict=True):
            for ours, theirs in (new.params, old.params), (new.statistics, old.statistics):
                for key in ours.keys() & theirs.keys():
                    ours[key][...] = theirs[key]


def shrunk(x: Array, size: int, alpha: float) -> Array:
    """Images (m, h, w, 1), `size` times smaller; with α < 1, mixed with still smaller ones, enlarged."""
    while size > 1:
        x, size = Half().forward(x)[0], size // 2
    return x if alpha == 1 else (1 - alpha) * Double().forward(Half().forward(x)[0])[0] + alpha * x


def play(gan: GAN, dataset: Dataset, size: int, fade: bool, iterations: int, streams: Streams, bar: Any) -> None:
    """So many iterations of the game, with data of this size. With `fade`, α goes from 0 to 1."""
    fades = [layer for player in (gan.G, gan.D) for layer in player.layers if isinstance(layer, Fade)]
    images = dataset.train.images
    for i in range(iterations):
        alpha = i / iterations if fade else 1.0
        for layer in fades:
            layer.alpha = alpha
        x = pixels(images[streams["data"].integers(0, len(images), gan.batch_size)]).reshape(-1, *dataset.image_shape, 1)
        x = shrunk(x, size, alpha).astype(np.float32)
        guard(gan.iteration(iter([Batch(x.reshape(len(x), -1))]), streams), gan.players, f"iteration {i + 1}")
        bar.update()


def game(settings: Mapping[str, Any], G: list[Layer], D: list[Layer], shape: tuple[int, ...]) -> GAN:
    """The DCGAN's game between these layers, on rows."""
    h, w = shape
    ends = [*G, Reshape((h * w,))], [Reshape((h, w, 1)), *D]
    return recipes.game(settings, *(Network(layers, seed=settings["seed"]) for layers in ends))


def picture(gan: GAN, z: Array, size: int, shape: tuple[int, ...]) -> Array:
    """G(z) of one noise, in the size of the data: one line of the picture."""
    x = gan.G(z).reshape(len(z), shape[0] // size, shape[1] // size)
    return x.repeat(size, axis=1).repeat(size, axis=2).reshape(len(z), -1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder of MNIST's files (default: found, else downloaded)")
    add("--length", type=run.positive_number, default=1.0, metavar="L", help="L times as many iterations (default: 1)")
    add("--width", type=run.positive, default=dcgan.DCGAN["width"], metavar="N", help="as in dcgan.py (default: %(default)s)")
    add("--seed", type=run.natural, default=0, metavar="S", help="of every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder to write into (default: a new one under runs/)")
    add("--smoke", action="store_true", help="run everything once, in seconds: few images and iterations, no download")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    out = run.open_folder("progressive", args.out)
    dataset, samples, length = load_mnist(args.data, download=not args.smoke), run.SAMPLES, args.length
    if args.smoke:
        dataset, samples, length = run.smaller(dataset), 1000, 0.01
    shape, settings = dataset.image_shape, dcgan.DCGAN | {"width": args.width, "seed": args.seed}
    facts: dict[str, Any] = {"data": dataset.name, "source": dataset.source, "length": length, "settings": settings}
    lines, z = [], Noise(settings["prior"], settings["noise"])(Streams(args.seed)["picture"], SHOWN)
    for name, phases in ("grown", PHASES), ("at once", [(1, False, AT_ONCE)]):
        phases = [(size, fade, max(1, round(length * n))) for size, fade, n in phases]
        earlier: Blocks = {}
        start = time.process_time()
        with progress_bar(sum(n for *_, n in phases), title=name) as bar:
            for i, (size, fade, iterations) in enumerate(phases):
                blocks = all_blocks(settings, shape)
                gan = game(settings, *grown(blocks, size, fade), tuple(n // size for n in shape))
                take_over(blocks, earlier or blocks)
                play(gan, dataset, size, fade, iterations, Streams(args.seed, i), bar)
                lines.append(picture(gan, z, size, shape))
                earlier = blocks
        seconds, generator = time.process_time() - start, Generator(gan.G, gan.noise)
        held_out = pixels(dataset.validation.images[: run.SIGMA_ROWS])
        figures = run.diversity(run.evaluation_samples(generator, len(held_out)), held_out)
        evaluation = run.measure(generator, dataset, samples)
        facts[name] = {"phases": phases, "cpu_seconds": round(seconds, 1), "evaluation": evaluation} | figures
        iterations = sum(n for *_, n in phases)
        print(f"{name}: {iterations} iterations in {seconds:.0f} s of the CPU; of {len(held_out)} samples", end=" ")
        print(f"{figures['distinct_samples']} are distinct, of as many data {figures['distinct_data']}")
        run.tell(evaluation)
    run.write_json(out / "results.json", facts | {"environment": run.environment()})
    save_png(out / "progressive.png", image_grid(np.concatenate(lines), shape, SHOWN))
    print(f"{out / 'progressive.png'}: a line of samples after each phase of growth, and below them those of the other run")


if __name__ == "__main__":
    run.main(program)
