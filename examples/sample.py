"""Samples from any checkpoint, and the two kinds of pictures that the paper shows of them.

    python examples/sample.py RUN                  samples.npy (floats in [0, 1]) and samples.png
    python examples/sample.py RUN --nearest        also nearest.png (Figure 2a): does G copy training images?
    python examples/sample.py RUN --interpolate    also interpolation.png (Figure 3)

RUN is the folder of a run, or any checkpoint. The samples are the first that the seed gives. None is picked. A CIFAR-10 model
makes normalised images. samples.npy holds them as they are. Pictures and distances are of pixels, by the map with which
examples/cifar10.py draws, for samples and photographs alike.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from tinygan import (
    ArgumentError,
    generate,
    get_backend,
    load_cifar10,
    pixels,
    random_generator,
    recipes,
    run,
    to_host,
)
from tinygan.backend import BACKENDS, Array, write_atomically
from tinygan.datasets import contrast_pixels, load_data, normalise_contrast
from tinygan.images import enlarge, image_grid, interpolate, memorisation, neighbour_grid, save_png

COLUMNS = 10  # of every picture
NEAREST = 72  # samples in nearest.png: 8 rows of 9, and beside the ninth its nearest training example
LINES = 8  # in interpolation.png
MEMORISATION = 1000  # samples, and test images, whose distances to the training set are compared


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="RUN", help="folder of a run, or a checkpoint")
    add("--n", type=run.positive, default=100, metavar="N", help="number of samples (default: %(default)s)")
    add("--seed", type=run.natural, default=0, metavar="S", help="decides the noise (default: %(default)s)")
    add("--enlarge", "--scale", type=run.positive, default=1, metavar="N", help="enlarge pictures N times")
    add("--out", type=Path, metavar="DIR", help="folder to write into (default: that of the checkpoint)")
    add("--nearest", action="store_true", help="draw samples beside their nearest training examples")
    add("--interpolate", action="store_true", help="draw samples along straight lines in z space")
    add("--data", metavar="DIR", help="the run's data, a folder or a file, for --nearest (default: that of the run)")
    text = "a class of layers of your own in the generator, importable by this name; repeat the option for several"
    add("--layer", action="append", default=[], metavar="MODULE:CLASS", help=text)
    add("--backend", choices=BACKENDS, default="auto", help="the array library (default: %(default)s)")
    return parser.parse_args()


def program() -> None:
    args = parse_arguments()
    run.require_alone("sample.py")
    xp = get_backend(args.backend)
    checkpoint, generator = run.load_run(args.checkpoint, xp, args.layer)
    settings = checkpoint.configuration
    out = args.out or (args.checkpoint if args.checkpoint.is_dir() else args.checkpoint.parent)
    out.mkdir(parents=True, exist_ok=True)

    normalised = settings.get("model") in recipes.CIFAR10
    shown = contrast_pixels if normalised else lambda samples: samples

    samples = to_host(generator.sample(args.n, args.seed))
    with write_atomically(out / "samples.npy") as file:
        np.save(file, samples, allow_pickle=False)
    shape = settings.get("image_shape") or square(samples.shape[1])  # earlier checkpoints do not have it
    save_png(out / "samples.png", enlarge(image_grid(shown(samples[: COLUMNS**2]), shape, COLUMNS), args.enlarge))
    print(f"{out / 'samples.npy'}, {out / 'samples.png'}: {args.n} samples after epoch {checkpoint.epoch}")

    if args.nearest:
        data, size = args.data or run.data_of(args.checkpoint), settings.get("size")
        dataset = run.trained_on(settings, load_cifar10(data) if normalised else load_data(data, size=size))
        train, test = dataset.train.images, dataset.test.images[:MEMORISATION]
        if normalised:
            train, test = normalised_pixels(train), normalised_pixels(test)
        rng = random_generator(xp, args.seed, "nearest")
        fair = shown(to_host(generate(generator, max(NEAREST, MEMORISATION), rng)))
        grid = neighbour_grid(fair[:NEAREST], train, dataset.image_shape, COLUMNS)
        save_png(out / "nearest.png", enlarge(grid, args.enlarge))
        report = memorisation(fair[:MEMORISATION], test, train)
        print(f"{out / 'nearest.png'}: a frame holds the training image nearest to the sample on its left")
        print(report.reading)
        x = fair[: len(test)]
        figures = run.diversity(pixels(x) if normalised else x, pixels(test))
        found, expected = figures["distinct_samples"], figures["distinct_data"]
        print(f"{found} of {len(test)} samples are distinct; of as many test images {expected} are.")

    if args.interpolate:
        rng = random_generator(xp, args.seed, "interpolation")
        G = generator.network
        start, end = (generator.noise(rng, LINES, G.dtype) for _ in range(2))
        grid = image_grid(shown(interpolate(G, start, end, COLUMNS)), shape, COLUMNS)
        save_png(out / "interpolation.png", enlarge(grid, args.enlarge))
        print(f"{out / 'interpolation.png'}: each row follows a straight line in z space")


def normalised_pixels(images: Array, rows: int = 1000) -> Array:
    """Images as pictures show them once they are normalised, (n, d) uint8; so many rows at a time, to save memory."""
    blocks = (images[first : first + rows] for first in range(0, len(images), rows))
    return np.concatenate([contrast_pixels(normalise_contrast(block)) for block in blocks])


def square(d: int) -> tuple[int, ...]:
    """The shape of square images with d values: grey, or in three colours. Raises ArgumentError where there is none."""
    for colours in (), (3,):
        side = math.isqrt(d // math.prod(colours))
        if math.prod((side, side, *colours)) == d:
            return side, side, *colours
    raise ArgumentError(f"samples.npy is written, but no picture: its rows of {d} values are no square images")


if __name__ == "__main__":
    run.main(program)
