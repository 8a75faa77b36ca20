"""The paper's model of the Toronto Face Dataset (TFD), in two stages, and its measure: Figure 2b and Table 1's second column.

    python examples/tfd.py --data TFD_48x48.mat            both stages at the paper's width: 105 million parameters, 2 GB
    python examples/tfd.py --data FILE --scale 8           narrower nets
    python examples/tfd.py --out DIR --resume              resume after Ctrl-C, a crash or a reboot
    python examples/tfd.py --evaluate CHECKPOINT           only measure the generator of a checkpoint
    python examples/tfd.py --smoke                         a few seconds, on faces that this script draws

TFD is not public: load_tfd says whom to ask for it. Any other faces in its format are a stand-in, and results name them.

Stage 1 trains a generator on the unlabelled faces for 50 epochs. Stage 2 puts a new net in front of it, and trains both against
a new D for 22. The last checkpoint of stage 1 is kept. A resumed run needs no other options: it has its own. It ends with the
same numbers, bit for bit, as one that never stopped. While no epoch of stage 2 is done, --first-stage may still be changed.

The log-likelihood is the mean over five folds of the labelled faces. In each, the validation set chooses σ.
"""

import argparse
from pathlib import Path

import numpy as np

from tinygan import (
    CheckpointError,
    Generator,
    Streams,
    Trainer,
    bias_from_marginals,
    get_backend,
    load_checkpoint,
    load_tfd,
    recipes,
    run,
)
from tinygan.backend import Array, write_atomically
from tinygan.images import image_grid
from tinygan.parallel import distribute

PICTURE, COLUMNS = 100, 10  # samples in a picture, and images in a row
SMOKE_SCALE = 40.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",  # elsewhere --scale is --enlarge
    )
    run.add_options(parser, **recipes.TFD, stage_since=0)
    add = parser.add_argument
    add("--data", metavar="FILE", help="TFD_48x48.mat, or other faces in its format")
    first, second = recipes.TFD_EPOCHS
    add("--epochs", type=run.positive, metavar="N", help=f"of both stages together (default: {first + second}, or the run's)")
    add("--first-stage", type=run.positive, metavar="N", help=f"of these, epochs of stage 1 (default: {first})")
    text = "divide the widths by S; initial weights widen to match (default: 1)"
    add("--scale", type=run.positive_number, metavar="S", default=None, help=text)
    text = "the largest norm of a column of any W, after each update (default: %(default)s)"
    add("--max-column-norm", type=run.positive_number, metavar="C", help=text)
    text = "a departure from the released code: no limit"
    add("--no-max-column-norm", dest="max_column_norm", action="store_const", const=None, help=text)
    add("--calm", action="store_true", help="a departure from the released code: no dropout in D while G is trained")
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="only measure this checkpoint, or that in this folder of a run")
    args = run.parse(parser, "tfd.py")
    args.scale = args.scale or (SMOKE_SCALE if args.smoke else 1.0)
    return args


def program() -> None:
    args = parse_arguments()
    xp = get_backend(args.backend)
    if args.evaluate:
        return run.evaluate_checkpoint(args.evaluate, load_tfd(args.data or run.data_of(args.evaluate)), xp)
    with run.Run("tfd", args) as folder:
        if args.smoke and not args.data:
            args.data = folder.options["data"] = str(folder.folder / "drawn_faces.mat")
            if folder.lock:  # of several ranks, rank 0 alone writes
                draw_faces(Path(args.data))
            if folder.ranks:  # the others wait for it
                folder.ranks.share()
        dataset = load_tfd(args.data)
        samples, epochs = run.SAMPLES, recipes.TFD_EPOCHS
        if args.smoke:
            dataset, samples, epochs = run.smaller(dataset), 1000, (1, 1)
            args.picture_every = args.evaluate_every = 1
        if args.stage == 2 and args.first_stage not in (None, args.stage_since):
            began = f"stage 2 of this run began after epoch {args.stage_since}"
            raise CheckpointError(f"--first-stage {args.first_stage}: {began}: leave --first-stage out")
        args.first_stage = folder.options["first_stage"] = args.stage_since or args.first_stage or epochs[0]
        done = load_checkpoint(folder.checkpoint).epoch if folder.resumes else 0
        if args.stage == 1 and done > args.first_stage:
            has = f"--first-stage {args.first_stage}: stage 1 of this run has {done} epochs already"
            raise CheckpointError(f"{folder.folder}: {has}: give --first-stage {done}, or more")
        args.epochs = args.epochs or folder.earlier.get("epochs") or sum(epochs)

        bias = bias_from_marginals(dataset.train.images, any_range=True)
        momentum = recipes.momentum(vars(args))
        trainer = Trainer(
            recipes.tfd(vars(args), bias, xp),
            dataset.train,
            dataset.validation,
            batch_size=args.batch_size,
            seed=args.seed,
            momentum=lambda epoch: momentum(epoch - args.stage_since),
        )
        folder.start(trainer, dataset)
        print(f"{dataset.name} ({dataset.source})")
        print(f"seed {args.seed}, {args.epochs} epochs, {args.first_stage} of stage 1, each of {trainer.iterations} iterations")
        describe(trainer, args.stage)

        z = trainer.model.noise(Streams(args.seed, 0, xp)["picture"], PICTURE, trainer.dtype)

        def picture() -> Array:
            return image_grid(trainer.model.G(z), dataset.image_shape)

        if trainer.epoch == 0:
            folder.save_picture(picture(), image_grid(dataset.train.images[:PICTURE], dataset.image_shape))
        while trainer.epoch < args.epochs:
            if args.stage == 1 and trainer.epoch == args.first_stage:
                begin_second_stage(args, folder, trainer, bias)
            with folder.timed():
                row = trainer.train_epoch(folder.after_iteration)
            if folder.due("evaluation"):
                row["validation_log_likelihood"] = run.validation_log_likelihood(generator_of(trainer), dataset, samples)
            if folder.due("picture"):
                folder.save_picture(picture())
            folder.record(row)
        generator = generator_of(trainer)
        results = run.measure(generator, dataset, samples)
        reading = run.read(trainer, generator, dataset)
        title = f"{dataset.name}, stage {args.stage}, {args.variant}, seed {args.seed}"
        folder.finish(title, {"evaluation": results} | reading)
        run.tell(results)  # only now: the results are written, whatever happens to the words
        print(reading["reading"])


def begin_second_stage(args: argparse.Namespace, folder: run.Run, trainer: Trainer, bias: Array) -> None:
    """Give the trainer the game of stage 2, with the generator as stage 1 leaves it, and keep this as a checkpoint."""
    folder.keep_checkpoint()
    theta = trainer.model.G.theta
    trainer.model = None  # the velocities and gradients of stage 1 take 1 GB: free it before stage 2 takes as much
    args.stage, args.stage_since = 2, trainer.epoch
    folder.configuration |= {"stage": 2, "stage_since": trainer.epoch}
    trainer.model = recipes.tfd(vars(args), bias, trainer.xp, trained=theta)
    distribute(trainer, folder.ranks)  # as folder.start did it in stage 1
    describe(trainer, 2)


def describe(trainer: Trainer, stage: int) -> None:
    sizes = f"{trainer.model.G.theta.size:,} and {trainer.model.D.theta.size:,} parameters"
    print(f"stage {stage}, after epoch {trainer.epoch}: G and D have {sizes}")


def generator_of(trainer: Trainer) -> Generator:
    return Generator(trainer.model.G, trainer.model.noise)


def draw_faces(path: Path, unlabelled: int = 1000, labelled: int = 300) -> Path:
    """A file in TFD's format: drawn faces with a grey of skin, a place, a width, and a mouth that is more or less open."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    images = np.zeros((unlabelled + labelled, 48, 48), np.uint8)
    for image in images:
        skin, wide, mouth, left, up = rng.uniform((120, 0.5, 0.03, -0.15, -0.15), (255, 0.8, 0.2, 0.15, 0.15))
        u, v = (x - left) / wide, y - up
        image[u**2 + v**2 < 0.7] = skin
        image[(abs(abs(u) - 0.35) < 0.13) & (abs(v + 0.25) < 0.08)] = 30  # eyes
        image[(abs(u) < 0.3) & (abs(v - 0.4) < mouth)] = 60
    folds = np.zeros((len(images), 5), np.uint8)
    for fold in folds.T:
        fold[unlabelled:] = rng.permutation(labelled) % 3 + 1
    labels = np.full((len(images), 1), -1, np.int16)
    labels[unlabelled:] = rng.integers(1, 8, (labelled, 1))
    with write_atomically(path) as file:
        savemat(file, {"images": images, "folds": folds, "labs_ex": labels}, do_compression=True)
    return path


if __name__ == "__main__":
    run.main(program)
