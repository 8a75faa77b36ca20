"""The paper's MNIST run: adversarial nets learn handwritten digits, and are measured as in Table 1.

    python examples/mnist.py                          the whole run; every option: --help
    python examples/mnist.py --out DIR --resume       go on after Ctrl-C, a crash or a reboot, bit for bit
    python examples/mnist.py --evaluate CHECKPOINT    only the measurement, of an earlier epoch's checkpoint
"""

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np

from tinygan import (
    GAN,
    Dropout,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    ReLU,
    Sigmoid,
    Uniform,
    bias_from_marginals,
    get_backend,
    learning_rate_schedule,
    momentum_schedule,
    random_generator,
    to_device,
)
from tinygan.checkpoint import load_checkpoint
from tinygan.datasets import Dataset, load_mnist, pixels
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate, select_sigma
from tinygan.training import Trainer, generate

# The authors' recipe. What the paper and the released code do not state is the number of epochs.
NOISE = 100  # dimensions of z
GENERATOR_WIDTH = 1200  # units in each of G's two hidden layers
DISCRIMINATOR_WIDTH = 240  # units in each of D's two hidden layers, the largest of PIECES each
PIECES = 5
KEEP_IMAGE, KEEP_HIDDEN = 0.8, 0.5  # dropout in D: the probability of keeping an input of a layer
DEFAULTS: dict[str, Any] = {
    "batch_size": 100,
    "k": 1,
    "generator_steps": 1,
    "variant": "simultaneous",
    "prior": "uniform",
    "learning_rate": 0.1,
    "schedule_compression": 1.0,
    "seed": 0,
    "dtype": "float32",
    "backend": "auto",
}
DECAY = 1.000004  # of η, per update
EPOCHS = 40  # of 500 iterations
SUBSET_EPOCHS = 250  # of 40 iterations, on the 5,000 images

# The authors' protocol of evaluation.
SAMPLES = 10_000
SIGMA_ROWS = 1_000  # the first rows of the validation set choose σ
EVALUATION_SEED = 2014  # of the samples' noise, the same for every run and epoch

PICTURE = 10  # rows and columns of digits


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    common.add_options(parser, **DEFAULTS, evaluate_every=10)
    for name, width in ("generator", GENERATOR_WIDTH), ("discriminator", DISCRIMINATOR_WIDTH):
        parser.add_argument(
            f"--{name}-width",
            type=common.positive,
            default=width,
            metavar="N",
            help=f"units in a hidden layer of the {name} (default: %(default)s)",
        )
    parser.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="only evaluate this one, on the test set too")
    return parser.parse_args()


def build(args: argparse.Namespace, xp: Any, bias: Any) -> GAN:
    """G and D of the paper's MNIST experiment, and the momentum SGD of each."""
    network = partial(Network, seed=args.seed, dtype=args.dtype, xp=xp)
    h = args.generator_width
    G = network(
        [
            Linear(NOISE, h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, len(bias), weight=Uniform(0.05), bias=bias),
            Sigmoid(),
        ]
    )
    h = args.discriminator_width
    D = network(
        [
            Dropout(KEEP_IMAGE),
            Maxout(len(bias), h, PIECES, weight=Uniform(0.005)),
            Dropout(KEEP_HIDDEN),
            Maxout(h, h, PIECES, weight=Uniform(0.005)),
            Dropout(KEEP_HIDDEN),
            Linear(h, 1, weight=Uniform(0.005)),
        ]
    )
    decay = DECAY**args.schedule_compression
    rate = partial(learning_rate_schedule, initial=args.learning_rate, decay=decay)
    return GAN(
        G,
        D,
        MomentumSGD(G.theta, rate),
        MomentumSGD(D.theta, rate),
        variant=args.variant,
        generator_cost=args.generator_cost,
        k=args.k,
        generator_steps=args.generator_steps,
    )


def evaluation_samples(G: Network, prior: str, n: int) -> Any:
    """Raw samples of G for the Parzen window, from the evaluation's own noise."""
    return generate(G, n, random_generator(G.xp, EVALUATION_SEED, "evaluation"), prior=prior, noise=NOISE)


def measure(G: Network, prior: str, dataset: Dataset, n: int) -> dict[str, Any]:
    """Table 1's measure by the authors' grid of σ and by a fine one, printed and returned. Reads the test set."""
    samples = evaluation_samples(G, prior, n)
    validation, test = (pixels(split.images, G.xp, G.dtype) for split in (dataset.validation, dataset.test))
    results = {}
    for name, sigmas in ("authors_grid", AUTHORS_SIGMAS), ("fine_grid", FINE_SIGMAS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            result = evaluate(samples, validation[:SIGMA_ROWS], test, sigmas)
        cautions = [str(warning.message) for warning in caught]
        print(f"{name.replace('_', ' ')}: {str(result).splitlines()[0]}, σ = {result.sigma:.4g}, {result.samples:,} samples")
        for caution in cautions:
            print(f"  warning: {caution}")
        results[name] = result.as_dict() | {"warnings": cautions}
    return results


def program() -> int:
    args = parse_arguments()
    xp = get_backend(args.backend)
    dataset = load_mnist(args.data, download=not args.smoke)
    if args.epochs is None:
        args.epochs = SUBSET_EPOCHS if dataset.name == "mnist-subset" else EPOCHS
    train, validation = dataset.train.images, dataset.validation.images
    gan = build(args, xp, bias_from_marginals(train))
    samples = SAMPLES

    if args.evaluate:
        checkpoint = load_checkpoint(args.evaluate, {"G": repr(gan.G)})
        gan.G.theta = to_device(checkpoint.theta_g, xp)
        results = measure(gan.G, checkpoint.configuration["prior"], dataset, samples)
        facts = {"checkpoint": args.evaluate.name, "epoch": checkpoint.epoch, "data": dataset.name}
        common.write_json(args.evaluate.with_suffix(".evaluation.json"), facts | results)
        return 0

    run = common.Run("mnist", args)
    trainer = Trainer(
        gan,
        train,
        validation,
        prior=args.prior,
        noise=NOISE,
        batch_size=args.batch_size,
        seed=args.seed,
        momentum=lambda epoch: momentum_schedule((epoch - 1) * args.schedule_compression + 1),
    )
    sizes = {"train": len(train), "validation": len(validation), "test": len(dataset.test)}
    configuration = common.configuration_of(args) | {"data": dataset.name, **sizes, "noise": NOISE, "backend": xp.__name__}
    configuration["generator_cost"] = gan.generator_cost
    run.start(trainer, configuration, {"data": {"name": dataset.name, "source": dataset.source, **sizes}})

    picture_z = trainer.sample_noise(random_generator(xp, args.seed, "picture"), PICTURE**2)
    held_out = pixels(validation[:SIGMA_ROWS], xp, args.dtype)

    def validation_log_likelihood() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParzenWarning)  # the measurement at the end repeats them
            _, means = select_sigma(evaluation_samples(gan.G, args.prior, samples), held_out, AUTHORS_SIGMAS)
        return float(means.max())

    try:
        run.train(lambda path: common.draw_samples(path, gan.G(picture_z), dataset.image_shape), validation_log_likelihood)
    except KeyboardInterrupt:
        kept = f"go on with:\n  {run.resume_command()}" if run.checkpoint.exists() else "before the first checkpoint"
        print(f"\nstopped in epoch {trainer.epoch + 1}; {kept}", file=sys.stderr)
        return 130
    run.finish({"evaluation": measure(gan.G, args.prior, dataset, samples)})
    return 0


if __name__ == "__main__":
    common.main(program)
