"""The paper's MNIST run: adversarial nets learn handwritten digits, and are measured as in Table 1.

    python examples/mnist.py                          the whole run
    python examples/mnist.py --out DIR --resume       resume after Ctrl-C, a crash or a reboot
    python examples/mnist.py --evaluate CHECKPOINT    only measure the generator of a checkpoint
    python examples/mnist.py --data DIR --size 28     your own images: a folder of PNG or JPEG files (see IMAGES.md)

A resumed run needs no other options: it has its own. It ends with the same numbers, bit for bit, as one that never stopped.
"""

import argparse
from pathlib import Path

from tinygan import Generator, Streams, Trainer, bias_from_marginals, get_backend, load_checkpoint, recipes, run
from tinygan.datasets import load_data
from tinygan.images import image_grid

EPOCHS = 30  # of 500 iterations
SUBSET_EPOCHS = 140  # of 40 iterations, where only 4,000 training images are there
OWN_ITERATIONS = 15_000  # with your own images: about as many as with MNIST
PICTURE = 100  # samples in a picture


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    run.add_options(parser, **recipes.MNIST)
    add = parser.add_argument
    for name in "generator", "discriminator":
        text = f"units in a hidden layer of the {name} (default: %(default)s)"
        add(f"--{name}-width", type=run.positive, metavar="N", default=recipes.MNIST[f"{name}_width"], help=text)
    add("--size", type=run.positive, metavar="N", help="crop your own images to squares, and resize them to N × N")
    add("--calm", action="store_true", help="a departure from the paper: no dropout in D while G is trained")
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="only measure this checkpoint, or that in this folder of a run")
    return run.parse(parser, "mnist.py")


def program() -> None:
    args = parse_arguments()
    xp = get_backend(args.backend)
    if args.evaluate:
        size = args.size or load_checkpoint(run.existing_checkpoint(args.evaluate)).configuration.get("size")
        return run.evaluate_checkpoint(args.evaluate, load_data(args.data or run.data_of(args.evaluate), size=size), xp)
    with run.Run("mnist", args) as folder:
        dataset = load_data(args.data, size=args.size, download=not args.smoke)
        samples = run.SAMPLES
        if args.smoke:
            dataset, samples = run.smaller(dataset), 1000
            args.picture_every = args.evaluate_every = 1
        epochs = {"mnist-subset": SUBSET_EPOCHS}.get(dataset.name, 2 if args.smoke else EPOCHS)
        if dataset.name.startswith("images-") and not args.smoke:
            epochs = max(1, OWN_ITERATIONS * args.k * args.batch_size // len(dataset.train))
        args.epochs = args.epochs or folder.earlier.get("epochs") or epochs

        gan = recipes.mnist(vars(args), bias_from_marginals(dataset.train.images, any_range=True), xp)
        generator = Generator(gan.G, gan.noise)
        trainer = Trainer(
            gan,
            dataset.train,
            dataset.validation,
            batch_size=args.batch_size,
            seed=args.seed,
            momentum=recipes.momentum(vars(args)),
        )
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
        folder.finish(f"{dataset.name}, {args.variant}, seed {args.seed}", {"evaluation": results} | reading)
        run.tell(results)  # only now: the results are written, whatever happens to the words
        print(reading["reading"])


if __name__ == "__main__":
    run.main(program)
