"""The paper's two CIFAR-10 models: Figure 2c, fully connected, and Figure 2d, a convolutional D and a deconvolutional G.

    python examples/cifar10.py --model fully-connected          at the paper's width: 127 million parameters, 2 GB of memory
    python examples/cifar10.py --model convolutional --scale 8  narrower nets
    python examples/cifar10.py --out DIR --resume               resume after Ctrl-C, a crash or a reboot
    python examples/cifar10.py --evaluate CHECKPOINT            only measure the generator of a checkpoint

A resumed run needs no other options: it has its own. It ends with the same numbers, bit for bit, as one that never stopped.

The nets are trained on normalised images: from each image its mean is subtracted, then it is scaled to length 55. So
log-likelihoods are those of normalised images; the paper gives none for CIFAR-10. In pictures −3 is black and 3 is white,
for data and samples alike.
"""

import argparse
from pathlib import Path

from tinygan import Generator, Streams, Trainer, get_backend, load_cifar10, recipes, run
from tinygan.backend import Array
from tinygan.datasets import contrast_pixels, normalise_contrast
from tinygan.images import image_grid

EPOCHS = 30  # of 400 iterations, or 312 in the convolutional model: neither the paper nor its code states a number
PICTURE = 100  # samples in a picture
SMOKE_SCALE = 40.0
UNITS = "nats of normalised images (mean 0, length 55), 3,072 values each"


class OfTheModel:
    """In the place of an option's default: which value this is depends on the model."""

    def __str__(self) -> str:
        return "the model's"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",  # elsewhere --scale is --enlarge
    )
    add = parser.add_argument
    add("--model", choices=recipes.CIFAR10, help="which of the paper's two models")
    run.add_options(parser, **dict.fromkeys(recipes.MNIST, OfTheModel()))
    text = "divide the widths by S, the channels of D's convolutions by √S; initial weights widen to match (default: 1)"
    add("--scale", type=run.positive_number, metavar="S", help=text)
    add("--calm", action="store_true", help="a departure from the paper: no dropout in D while G is trained")
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="only measure this checkpoint, or that in this folder of a run")
    args = run.parse(parser, "cifar10.py")
    if args.model is None and not args.evaluate:
        parser.error(f"--model is missing: choose {' or '.join(recipes.CIFAR10)}")
    if args.scale is None and args.smoke:
        args.scale = SMOKE_SCALE
    for name, value in recipes.CIFAR10.get(args.model, {}).items():
        if isinstance(getattr(args, name, None), OfTheModel | None):
            setattr(args, name, value)
    args.recipe = recipes.CIFAR10.get(args.model, {})
    return args


def program() -> None:
    args = parse_arguments()
    xp = get_backend(args.backend)
    if args.evaluate:
        return run.evaluate_checkpoint(
            args.evaluate, load_cifar10(args.data or run.data_of(args.evaluate)), xp, normalise_contrast
        )
    with run.Run(f"cifar10-{args.model}", args) as folder:
        dataset = load_cifar10(args.data, download=not args.smoke)
        samples = run.SAMPLES
        if args.smoke:
            dataset, samples = run.smaller(dataset), 1000
            args.picture_every = args.evaluate_every = 1
        args.epochs = args.epochs or folder.earlier.get("epochs") or (2 if args.smoke else EPOCHS)

        gan = recipes.cifar10(vars(args), xp)
        generator = Generator(gan.G, gan.noise)
        trainer = Trainer(
            gan,
            dataset.train,
            dataset.validation,
            batch_size=args.batch_size,
            seed=args.seed,
            momentum=recipes.momentum(vars(args)),
            prepare=normalise_contrast,
        )
        folder.start(trainer, dataset)
        print(f"{dataset.name} ({dataset.source})")
        sizes = f"{gan.G.theta.size:,} and {gan.D.theta.size:,} parameters"
        print(f"{args.model}, {sizes}, seed {args.seed}, epochs: {args.epochs}, each of {trainer.iterations} iterations")

        z = gan.noise(Streams(args.seed, 0, xp)["picture"], PICTURE, gan.G.dtype)

        def picture() -> Array:
            return image_grid(contrast_pixels(gan.G(z)), dataset.image_shape)

        if trainer.epoch == 0:
            real = contrast_pixels(normalise_contrast(dataset.train.images[:PICTURE]))
            folder.save_picture(picture(), image_grid(real, dataset.image_shape))
        while trainer.epoch < args.epochs:
            with folder.timed():
                row = trainer.train_epoch(folder.after_iteration)
            if folder.due("evaluation"):
                row["validation_log_likelihood"] = run.validation_log_likelihood(
                    generator, dataset, samples, normalise_contrast
                )
            if folder.due("picture"):
                folder.save_picture(picture())
            folder.record(row)
        results = run.measure(generator, dataset, samples, normalise_contrast)
        reading = run.read(trainer, generator, dataset)
        title = f"{dataset.name}, {args.model}, {args.variant}, seed {args.seed}"
        folder.finish(title, {"evaluation": results, "units": UNITS} | reading)
        run.tell(results)  # only now: the results are written, whatever happens to the words
        print(f"the log-likelihood is in {UNITS}\n{reading['reading']}")


if __name__ == "__main__":
    run.main(program)
