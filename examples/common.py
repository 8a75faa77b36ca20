"""What the examples share: their common options, the folder of a run, the loop over epochs, and the reading of its end."""

import argparse
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinygan import GENERATOR_COSTS, PRIORS, VARIANTS, CheckpointError, TinyganError, random_generator, to_host
from tinygan.backend import BACKENDS
from tinygan.training import Trainer, generate

COLUMNS = (
    "epoch",
    "value",
    "discriminator_cost",
    "generator_cost",
    "D_x",
    "D_G_z",
    "learning_rate",
    "momentum",
    "validation_log_likelihood",
)
TIMING = ("examples_per_second", "seconds")  # the columns that differ between two runs of the same settings

# Options that change where and how far a run goes, but none of its numbers: a run may be resumed with other values.
FREE = (
    "data",
    "epochs",
    "out",
    "resume",
    "overwrite",
    "smoke",
    "picture_every",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluate_every",
    "evaluate",
)


def add_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """The options that every training example has, under the same names."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder of the data set's files (default: found, or downloaded)")
    add("--epochs", type=positive, metavar="N", help="passes over the training set (default: %(default)s)")
    add("--batch-size", type=positive, metavar="M", help="m, examples in a minibatch (default: %(default)s)")
    add("--k", type=positive, metavar="K", help="updates of D per iteration (default: %(default)s)")
    add("--generator-steps", type=positive, metavar="J", help="updates of G per iteration (default: %(default)s)")
    add("--variant", choices=VARIANTS, help="how the two are updated (default: %(default)s, as the authors' code)")
    add("--generator-cost", choices=GENERATOR_COSTS, help="what G descends (default: the variant's own)")
    add("--prior", choices=PRIORS, help="the noise prior p_z (default: %(default)s)")
    add("--learning-rate", type=float, metavar="ETA", help="η of the first update (default: %(default)s)")
    add(
        "--schedule-compression",
        type=float,
        metavar="C",
        help="C times faster decay of η and ramp of μ (default: %(default)s)",
    )
    add("--backend", choices=BACKENDS, help="the array library (default: %(default)s: CuPy where a GPU works)")
    add("--dtype", choices=("float32", "float64"), help="of all numbers (default: %(default)s)")
    add("--seed", type=int, metavar="S", help="of every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: a new one under runs/)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out; start afresh where there is none")
    add("--overwrite", action="store_true", help="start afresh in --out, whatever it holds")
    add("--picture-every", type=positive, metavar="N", help="epochs between pictures (default: every 500 iterations)")
    add("--checkpoint-every", type=positive, metavar="N", help="epochs between checkpoints (default: as pictures)")
    add("--keep-checkpoints", type=positive, metavar="N", help="keep that of every N-th epoch, checkpoint-0100.npz")
    add("--evaluate-every", type=positive, metavar="N", help="epochs between validation log-likelihoods in metrics.csv")
    add("--smoke", action="store_true", help="everything once, in seconds, on a few images, without a download")
    parser.set_defaults(generator_cost=None, **defaults)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError  # argparse makes its own message of it
    return value


def main(program: Callable[[], int]) -> None:
    """Run an example: an error of tinygan's own ends it with one line, not with a traceback."""
    try:
        sys.exit(program())
    except TinyganError as error:
        sys.exit(f"error: {error}")


class Run:
    """The folder of a run, and all that is written into it.

    checkpoint.npz  metrics.csv  run.json  samples/epoch-0001.png …  samples.gif  curves.png
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.args = args
        if args.out is None:
            if args.resume:
                raise CheckpointError("--resume needs the folder to go on in: name it with --out")
            args.out = Path("runs", time.strftime(f"{name}-%Y%m%d-%H%M%S"))
        self.folder: Path = args.out
        self.checkpoint = self.folder / "checkpoint.npz"
        self.resumed = args.resume and self.checkpoint.exists()
        if self.checkpoint.exists() and not (args.resume or args.overwrite):
            raise CheckpointError(
                f"{self.checkpoint} exists: go on from it with --resume, replace it with --overwrite, "
                f"or choose another folder with --out"
            )
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        stale = ["*.tmp"]
        if not self.resumed:
            stale += ["checkpoint*.npz", "metrics.csv", "run.json", "curves.png", "samples.gif", "samples/epoch-*.png"]
        for pattern in stale:
            for path in self.folder.glob(pattern):
                path.unlink()
        self.timing: dict[int, tuple[str, ...]] = {}
        self.started = time.perf_counter()
        print(f"run: {self.folder}", file=sys.stderr)

    def start(self, trainer: Trainer, configuration: dict[str, Any], facts: dict[str, Any]) -> None:
        """Restore the trainer if the run goes on, and write metrics.csv and run.json as far as they are known."""
        self.trainer, self.configuration = trainer, configuration
        if self.resumed:
            saved = trainer.restore(self.checkpoint).configuration
            differing = [
                f"{key} is {saved.get(key)!r} in the checkpoint, {configuration.get(key)!r} now"
                for key in sorted(saved.keys() | configuration.keys())
                if saved.get(key) != configuration.get(key)
            ]
            if differing:
                raise CheckpointError(f"{self.checkpoint}: other settings: {'; '.join(differing)}: resume with the same")
            print(f"resumed after epoch {trainer.epoch}", file=sys.stderr)
        self._rebuild_metrics()
        self.facts = facts | {"configuration": configuration, "environment": environment(trainer)}
        write_json(self.folder / "run.json", self.facts)

    def _rebuild_metrics(self) -> None:
        """metrics.csv from the checkpoint's rows, with the timing that the old file has for them."""
        path, temporary = self.folder / "metrics.csv", self.folder / "metrics.csv.tmp"
        if path.exists():
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if (row.get("epoch") or "").isdigit() and all(row.get(name) for name in TIMING):
                        self.timing[int(row["epoch"])] = tuple(row[name] for name in TIMING)
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            file.write(",".join(COLUMNS + TIMING) + "\n")
            file.writelines(self._line(row) for row in self.trainer.metrics)
        os.replace(temporary, path)

    def _line(self, row: dict[str, float]) -> str:
        numbers = [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS]
        return ",".join([*numbers, *self.timing.get(int(row["epoch"]), ("", ""))]) + "\n"

    def train(self, draw: Callable[[Path], None], evaluate: Callable[[], float]) -> None:
        """Train to the last epoch. draw(path) writes a picture, evaluate() is the validation log-likelihood."""
        args, trainer = self.args, self.trainer
        by_iterations = max(1, round(500 / trainer.iterations))
        pictures = args.picture_every or by_iterations
        checkpoints = args.checkpoint_every or pictures
        bar = tqdm(
            total=args.epochs * trainer.iterations,
            initial=trainer.epoch * trainer.iterations,
            mininterval=0.1 if sys.stderr.isatty() else 60,
            unit="it",
        )

        def due(interval: int) -> bool:
            return trainer.epoch % interval == 0 or trainer.epoch == args.epochs

        if trainer.epoch == 0:
            draw(self.folder / "samples" / "epoch-0000.png")
        with bar:
            while trainer.epoch < args.epochs:
                start = time.perf_counter()
                row = trainer.train_epoch(bar.update)
                seconds = time.perf_counter() - start
                if args.evaluate_every and trainer.epoch % args.evaluate_every == 0:
                    row["validation_log_likelihood"] = evaluate()
                if due(pictures):
                    draw(self.folder / "samples" / f"epoch-{trainer.epoch:04d}.png")
                examples = trainer.iterations * trainer.gan.k * trainer.batch_size
                self.timing[trainer.epoch] = f"{examples / seconds:.0f}", f"{seconds:.3f}"
                with open(self.folder / "metrics.csv", "a", encoding="utf-8") as file:
                    file.write(self._line(row))
                bar.set_postfix_str(f"epoch {trainer.epoch} D(x) {row['D_x']:.3f} D(G(z)) {row['D_G_z']:.3f}")
                if due(checkpoints):
                    trainer.save(self.checkpoint, self.configuration)
                if args.keep_checkpoints and trainer.epoch % args.keep_checkpoints == 0:
                    trainer.save(self.folder / f"checkpoint-{trainer.epoch:04d}.npz", self.configuration)

    def resume_command(self) -> str:
        arguments = [argument for argument in sys.argv if argument not in ("--resume", "--overwrite")]
        if not any(argument.split("=")[0] == "--out" for argument in arguments):
            arguments += ["--out", str(self.folder)]
        return shlex.join(["python", *arguments, "--resume"])

    def finish(self, results: dict[str, Any]) -> None:
        seconds = [float(self.timing[row["epoch"]][1]) for row in self.trainer.metrics if row["epoch"] in self.timing]
        self.facts["results"] = results | {
            "epochs": self.trainer.epoch,
            "iterations": self.trainer.epoch * self.trainer.iterations,
            "seconds_of_epochs": round(sum(seconds), 1),
            "seconds_of_this_process": round(time.perf_counter() - self.started, 1),
            "peak_memory_mb": peak_memory(),
        }
        write_json(self.folder / "run.json", self.facts)


def write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def configuration_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that decide a run's numbers."""
    return {key: value for key, value in sorted(vars(args).items()) if key not in FREE}


def environment(trainer: Trainer) -> dict[str, Any]:
    """Where a run was made: versions, cores, commit."""
    packages = ["tinygan", "numpy", *(["cupy"] if trainer.xp is not np else [])]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "backend": trainer.xp.__name__,
        "cores": cores,
        "threads": {key: os.environ[key] for key in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS") if key in os.environ},
        "commit": commit,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        module = sys.modules.get(name)
        return getattr(module, "__version__", None)


def peak_memory() -> int | None:
    """The largest resident size of this process so far, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024))


def draw_samples(path: Path, samples: Any, image_shape: tuple[int, ...]) -> None:
    from PIL import Image

    height, width = image_shape
    tiles = (to_host(samples) * 255).round().astype(np.uint8).reshape(10, 10, height, width)
    Image.fromarray(tiles.swapaxes(1, 2).reshape(10 * height, 10 * width)).save(path)


def draw_curves(path: Path, metrics: list[dict[str, float]], title: str) -> None:
    """curves.png: V, D(x) and D(G(z)), the two costs, and the validation log-likelihood, by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    epochs = [row["epoch"] for row in metrics]
    panels: tuple[tuple[str, dict[str, str], float | None], ...] = (
        ("V(D, G), nats", {"value": "V"}, -np.log(4)),
        ("D on held-out images and on samples", {"D_x": "D(x)", "D_G_z": "D(G(z))"}, 0.5),
        ("training costs, nats", {"discriminator_cost": "J(D)", "generator_cost": "J(G)"}, None),
        ("validation log-likelihood, nats", {"validation_log_likelihood": "Parzen window"}, None),
    )
    for axis, (name, lines, equilibrium) in zip(axes, panels, strict=True):
        for key, label in lines.items():
            points = [(epoch, row[key]) for epoch, row in zip(epochs, metrics, strict=True) if key in row]
            axis.plot(*zip(*points, strict=True) if points else ((), ()), ".-" if len(points) < 50 else "-", label=label)
        if equilibrium is not None:
            axis.axhline(equilibrium, color="grey", linestyle=":", label="D = ½ everywhere")
        axis.set(title=name, xlabel="epoch")
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=80)
