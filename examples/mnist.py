"""The paper's MNIST run: adversarial nets learn handwritten digits, and are measured as in Table 1.

    python examples/mnist.py                          the whole run
    python examples/mnist.py --out DIR --resume       go on after Ctrl-C, a crash or a reboot, bit for bit; with the
                                                      options of the start, but for --epochs, which it remembers
    python examples/mnist.py --evaluate CHECKPOINT    only the measurement, of a checkpoint of such a run
"""

import argparse
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np

from tinygan import (
    GAN,
    Array,
    Dropout,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    ReLU,
    Sigmoid,
    Uniform,
    bias_from_marginals,
    generator_loss,
    get_backend,
    learning_rate_schedule,
    momentum_schedule,
    random_generator,
)
from tinygan.backend import pixels
from tinygan.datasets import Dataset, Split, load_mnist
from tinygan.images import image_grid
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate, select_sigma
from tinygan.training import Trainer, generate

# The authors' recipe. The only thing that neither the paper nor the released code states is the number of epochs.
NOISE = 100  # dimensions of z
GENERATOR_WIDTH = 1200  # units in each of G's two hidden layers
DISCRIMINATOR_WIDTH, PIECES = 240, 5  # maxout units in each of D's two hidden layers, and pieces of each
KEEP_IMAGE, KEEP_HIDDEN = 0.8, 0.5  # dropout in D: the probability of keeping an input of a layer
DECAY = 1.000004  # of η, per update
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
EPOCHS = 30  # of 500 iterations
SUBSET_EPOCHS = 140  # of 40 iterations, where only 4,000 training images are there

# The authors' evaluation.
SAMPLES = 10_000
SIGMA_ROWS = 1_000  # the first of the validation set choose σ
EVALUATION_SEED = 2014  # of the noise behind the samples, whatever the run

PICTURE = 100  # samples in a picture
SMOKE = "-smoke"  # at the end of a data set's name: only a few of its images


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    common.add_options(parser, **DEFAULTS)
    add = parser.add_argument
    for name, default in ("generator", GENERATOR_WIDTH), ("discriminator", DISCRIMINATOR_WIDTH):
        text = f"units in a hidden layer of the {name} (default: {default})"
        add(f"--{name}-width", type=common.positive, default=default, metavar="N", help=text)
    add("--calm", action="store_true", help="a departure: no dropout in D while G is trained")
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="evaluate this checkpoint, and do nothing else")
    return parser.parse_args()


class CalmGAN(GAN):
    """A departure from the authors' recipe: G is trained against D as it is without dropout."""

    def generator_step(self, z: Array, rng: Any) -> Any:
        G_cost = self._generator_gradient(*self.G.forward(z, train=True, rng=rng))
        self.G_optimizer.step(self.G_grad)
        return G_cost

    def simultaneous_step(self, x: Array, z: Array, rng: Any) -> tuple[Any, Any]:
        samples, G_cache = self.G.forward(z, train=True, rng=rng)
        G_cost = self._generator_gradient(samples, G_cache)  # at the old θ_d
        D_cost = self.discriminator_step(x, samples, rng)
        self.G_optimizer.step(self.G_grad)
        return D_cost, G_cost

    def _generator_gradient(self, samples: Array, G_cache: list[Any]) -> Any:
        a, D_cache = self.D.forward(samples)
        G_cost, da = generator_loss(a, self.generator_cost)
        self.G.backward(self.D.backward(da, D_cache), G_cache, self.G_grad, need_dx=False)
        return G_cost


def build(args: argparse.Namespace, xp: Any, bias: Any) -> GAN:
    """G and D of the paper's MNIST experiment, and the optimiser of each. bias: where G's output starts, (784,)."""
    network = partial(Network, seed=args.seed, dtype=args.dtype, xp=xp)
    n, h = len(bias), args.generator_width
    G = network(
        [
            Linear(NOISE, h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, n, weight=Uniform(0.05), bias=bias),
            Sigmoid(),
        ]
    )
    h = args.discriminator_width
    D = network(
        [
            Dropout(KEEP_IMAGE),
            Maxout(n, h, PIECES, weight=Uniform(0.005)),
            Dropout(KEEP_HIDDEN),
            Maxout(h, h, PIECES, weight=Uniform(0.005)),
            Dropout(KEEP_HIDDEN),
            Linear(h, 1, weight=Uniform(0.005)),
        ]
    )
    decay = DECAY**args.schedule_compression
    rate = partial(learning_rate_schedule, initial=args.learning_rate, decay=decay)
    return (CalmGAN if args.calm else GAN)(
        G,
        D,
        MomentumSGD(G.theta, rate),
        MomentumSGD(D.theta, rate),
        variant=args.variant,
        generator_cost=args.generator_cost,
        k=args.k,
        generator_steps=args.generator_steps,
    )


def resume(path: Path, dataset: Dataset) -> tuple[Trainer, argparse.Namespace]:
    """The training that wrote this checkpoint, at its epoch, on the same data; and its settings."""
    settings = {"calm": False} | common.load_run(path)[0].configuration  # what an older checkpoint does not know was off
    common.require_same_data(settings, dataset)
    args = argparse.Namespace(**settings)
    trainer = train_with(args, build(args, np, bias_from_marginals(dataset.train.images)), dataset)
    trainer.restore(path)
    return trainer, args


def train_with(args: argparse.Namespace, gan: GAN, dataset: Dataset) -> Trainer:
    """The recipe's training of these nets on this data."""
    return Trainer(
        gan,
        dataset.train.images,
        dataset.validation.images,
        prior=args.prior,
        noise=NOISE,
        batch_size=args.batch_size,
        seed=args.seed,
        momentum=lambda epoch: momentum_schedule((epoch - 1) * args.schedule_compression + 1),
    )


def evaluation_samples(G: Network, prior: str, n: int, seed: int = EVALUATION_SEED) -> Array:
    """n raw samples of G for the Parzen window, (n, d), from the evaluation's own noise."""
    return generate(G, n, random_generator(G.xp, seed, "evaluation"), prior=prior, noise=NOISE)


def validation_log_likelihood(G: Network, prior: str, dataset: Dataset, n: int) -> float:
    """The mean on the validation images that choose σ, of the best σ of the authors' grid."""
    validation = pixels(dataset.validation.images[:SIGMA_ROWS], G.xp, G.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)  # the measurement at the end repeats them
        _, means = select_sigma(evaluation_samples(G, prior, n), validation, AUTHORS_SIGMAS)
    return float(means.max())


def measure(G: Network, prior: str, dataset: Dataset, n: int) -> dict[str, Any]:
    """Table 1's measure, with the authors' grid of σ and with a fine one: printed, and returned. Reads the test set."""
    samples = evaluation_samples(G, prior, n)
    validation, test = (pixels(split.images, G.xp, G.dtype) for split in (dataset.validation, dataset.test))
    results = {}
    for grid, sigmas in ("authors", AUTHORS_SIGMAS), ("fine", FINE_SIGMAS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            result = evaluate(samples, validation[:SIGMA_ROWS], test, sigmas)
        cautions = [str(warning.message) for warning in caught]
        print(
            f"test log-likelihood: {result.log_likelihood:.1f} ± {result.standard_error:.1f} nats (Parzen window of "
            f"{result.samples:,} samples, σ = {result.sigma:.3f} of the {grid} grid, {result.test_rows:,} test images)"
        )
        print("".join(f"  warning: {caution}\n" for caution in cautions), end="")
        results[grid] = result.as_dict() | {"warnings": cautions}
    return results


def read(trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """What the run says after so many epochs, as common.reading has it, against the validation images that choose σ."""
    held_out = pixels(dataset.validation.images[:SIGMA_ROWS])
    return common.reading(trainer.metrics, evaluation_samples(trainer.gan.G, trainer.prior, len(held_out)), held_out)


def evaluate_checkpoint(path: Path, dataset: Dataset, xp: Any) -> None:
    checkpoint, G = common.load_run(path, xp)
    if checkpoint.configuration["data"].endswith(SMOKE):
        dataset = smaller(dataset)
    common.require_same_data(checkpoint.configuration, dataset)  # or test images may be among those it was trained on
    facts = {"checkpoint": path.name, "epoch": checkpoint.epoch, "configuration": checkpoint.configuration}
    facts["data"] = {"name": dataset.name, "source": dataset.source}
    results = measure(G, checkpoint.configuration["prior"], dataset, SAMPLES)
    common.write_json(path.with_suffix(".evaluation.json"), facts | {"evaluation": results})


def smaller(dataset: Dataset) -> Dataset:
    """A few images of each split, for --smoke."""

    def cut(split: Split, n: int) -> Split:
        return Split(split.images[:n], split.labels[:n])

    return replace(
        dataset,
        name=dataset.name + SMOKE,
        train=cut(dataset.train, 1000),
        validation=cut(dataset.validation, 200),
        test=cut(dataset.test, 200),
    )


def program() -> None:
    args = parse_arguments()
    xp = get_backend(args.backend)
    if args.evaluate:
        return evaluate_checkpoint(args.evaluate, load_mnist(args.data), xp)
    with common.Run("mnist", args) as run:
        dataset = load_mnist(args.data, download=not args.smoke)
        samples = SAMPLES
        if args.smoke:
            dataset, samples = smaller(dataset), 1000
            args.picture_every = args.evaluate_every = 1
        own = {"mnist-subset": SUBSET_EPOCHS}.get(dataset.name, 2 if args.smoke else EPOCHS)
        args.epochs = args.epochs or run.earlier.get("epochs") or own
        gan = build(args, xp, bias_from_marginals(dataset.train.images))
        trainer = train_with(args, gan, dataset)
        run.start(trainer, dataset)
        print(f"{dataset.name} ({dataset.source})")
        print(f"{args.variant}, seed {args.seed}, {args.epochs} epochs of {trainer.iterations} iterations")

        picture_z = trainer.sample_noise(random_generator(xp, args.seed, "picture"), PICTURE)

        def picture() -> Array:
            return image_grid(gan.G(picture_z), dataset.image_shape)

        run.train(picture, lambda: validation_log_likelihood(gan.G, args.prior, dataset, samples))
        results = measure(gan.G, args.prior, dataset, samples)
        reading = read(trainer, dataset)
        print(reading["reading"])
        run.finish(f"{dataset.name}, {args.variant}, seed {args.seed}", {"evaluation": results} | reading)


if __name__ == "__main__":
    common.main(program)
