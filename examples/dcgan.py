"""A DCGAN learns handwritten digits with momentum SGD: convolutional nets, batch normalisation, no dropout.

    python examples/dcgan.py                          the whole run, in less than ten minutes on one quiet core
    python examples/dcgan.py --out DIR --resume       resume after Ctrl-C, a crash or a reboot
    python examples/dcgan.py --no-batch-norm          the same nets without batch normalisation
    python examples/dcgan.py --evaluate CHECKPOINT    only measure the generator of a checkpoint

G makes a picture of 7 × 7 pixels with 64 channels from the noise, and doubles its size twice, by transposed convolutions of
stride 2. D is the way back. Strides take the place of pooling, and every layer but the first of D, and the last of G and
of D, is batch normalised. This is the architecture of Radford, Metz and Chintala (2016), small. Their optimiser is Adam;
here it is the paper's, momentum SGD, with both players updated in one step.

A resumed run needs no other options: it has its own. It ends with the same numbers, bit for bit, as one that never stopped.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import (
    ArgumentError,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Generator,
    Layer,
    LeakyReLU,
    Linear,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Streams,
    Trainer,
    Uniform,
    get_backend,
    load_mnist,
    recipes,
    run,
)
from tinygan.images import image_grid

DCGAN: dict[str, Any] = {
    "noise": 100,  # dimensions of z
    "prior": "uniform",
    "width": 64,  # channels of the smallest pictures, in G and in D; the next larger ones have half as many
    "weight_range": 0.035,  # r: every weight starts from U(−r, r)
    "batch_norm": True,
    "batch_size": 64,
    "k": 1,
    "generator_steps": 1,
    "variant": "simultaneous",
    "generator_cost": None,  # the variant's own
    "learning_rate": 0.05,
    "schedule_compression": 1.0,
    "seed": 0,
    "dtype": "float32",
}
TWICE = {"stride": 2, "padding": 1}  # with a kernel of 4 × 4: pictures of twice the size, or of half the size

EPOCHS = 5  # of 781 iterations
SUBSET_EPOCHS = 60  # of 62 iterations, where only 4,000 training images are there
PICTURE = 100  # samples in a picture


def blocks(settings: Mapping[str, Any], image_shape: tuple[int, ...]) -> tuple[list[list[Layer]], list[list[Layer]]]:
    """New layers for grey images (h, w), where 4 divides h and w: three blocks of G, and three of D.

    G   noise → (h/4, w/4, n) → (h/2, w/2, n/2) → (h, w, 1)
    D   (h, w, 1) → (h/2, w/2, n/2) → (h/4, w/4, n) → the logit
    A bias before batch normalisation would have no effect, since its mean is subtracted: so there is none.
    """
    h, w, *colours = image_shape
    if colours or h % 4 or w % 4:
        raise ArgumentError(f"images of shape {image_shape}: this script needs grey ones, with sides that 4 divides")
    n, flat = settings["width"], h // 4 * (w // 4) * settings["width"]
    weight, bias = Uniform(settings["weight_range"]), None if settings["batch_norm"] else 0.0

    def normalised(channels: int) -> list[Layer]:
        return [BatchNorm(channels)] if settings["batch_norm"] else []

    first = Linear(settings["noise"], flat, weight=weight, bias=bias), Reshape((h // 4, w // 4, n))
    G = [
        [*first, *normalised(n), ReLU()],
        [ConvTranspose2d(n, n // 2, 4, **TWICE, weight=weight, bias=bias), *normalised(n // 2), ReLU()],
        [ConvTranspose2d(n // 2, 1, 4, **TWICE, weight=weight), Sigmoid()],
    ]
    D = [
        [Conv2d(1, n // 2, 4, **TWICE, weight=weight), LeakyReLU(0.2)],
        [Conv2d(n // 2, n, 4, **TWICE, weight=weight, bias=bias), *normalised(n), LeakyReLU(0.2)],
        [Reshape((flat,)), Linear(flat, 1, weight=weight)],
    ]
    return G, D


def networks(settings: Mapping[str, Any], image_shape: tuple[int, ...], xp: Any = np) -> tuple[Network, Network]:
    """G and D: their blocks, between rows (m, h·w) and images (m, h, w, 1)."""
    G, D = ([layer for block in player for layer in block] for player in blocks(settings, image_shape))
    network = partial(Network, seed=settings["seed"], dtype=settings["dtype"], xp=xp)
    h, w = image_shape
    return network([*G, Reshape((h * w,))]), network([Reshape((h, w, 1)), *D])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    run.add_options(parser, **DCGAN)
    add = parser.add_argument
    add("--width", type=run.positive, metavar="N", help="channels of the smallest pictures (default: %(default)s)")
    add("--weight-range", type=run.positive_number, metavar="R", help="weights start from U(−R, R) (default: %(default)s)")
    add("--no-batch-norm", dest="batch_norm", action="store_false", help="leave out batch normalisation")
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="only measure this checkpoint, or that in this folder of a run")
    return run.parse(parser, "dcgan.py")


def program() -> None:
    args = parse_arguments()
    xp = get_backend(args.backend)
    if args.evaluate:
        return run.evaluate_checkpoint(args.evaluate, load_mnist(args.data or run.data_of(args.evaluate)), xp)
    with run.Run("dcgan", args) as folder:
        dataset = load_mnist(args.data, download=not args.smoke)
        samples = run.SAMPLES
        if args.smoke:
            dataset, samples = run.smaller(dataset), 1000
            args.picture_every = args.evaluate_every = 1
        epochs = {"mnist-subset": SUBSET_EPOCHS}.get(dataset.name, 2 if args.smoke else EPOCHS)
        args.epochs = args.epochs or folder.earlier.get("epochs") or epochs

        gan = recipes.game(vars(args), *networks(vars(args), dataset.image_shape, xp))
        generator = Generator(gan.G, gan.noise)
        momentum = recipes.momentum(vars(args))
        trainer = Trainer(gan, dataset.train, dataset.validation, seed=args.seed, momentum=momentum)
        folder.start(trainer, dataset)
        print(f"{dataset.name} ({dataset.source})")
        print(f"{args.variant}, seed {args.seed}, epochs: {args.epochs}, each of {trainer.iterations} iterations")

        z = gan.noise(Streams(args.seed, 0, xp)["picture"], PICTURE, gan.G.dtype)
        if trainer.epoch == 0:
            real = image_grid(dataset.train.images[:PICTURE], dataset.image_shape)
            folder.save_picture(image_grid(gan.G(z), dataset.image_shape), real)
        while trainer.epoch < args.epochs:
            with folder.timed():
                row = trainer.train_epoch(folder.after_iteration)
            if folder.due("evaluation"):
                row["validation_log_likelihood"] = run.validation_log_likelihood(generator, dataset, samples)
            if folder.due("picture"):
                folder.save_picture(image_grid(gan.G(z), dataset.image_shape))
            folder.record(row)
        results = run.measure(generator, dataset, samples)
        reading = run.read(trainer, generator, dataset)
        batch_norm = "with" if args.batch_norm else "without"
        title = f"DCGAN, {dataset.name}, {batch_norm} batch norm, {args.variant}, seed {args.seed}"
        folder.finish(title, {"evaluation": results} | reading)
        run.tell(results)  # only now: the results are written, whatever happens to the words
        print(reading["reading"])


if __name__ == "__main__":
    run.main(program)
