"""What the examples share: their common options, the folder of a run with all that goes into it, and the reading."""

import argparse
import ast
import contextlib
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

import tinygan
from tinygan import ArgumentError, CheckpointError, DataError, DivergenceError, Layer, Network, TinyganError, to_host
from tinygan.backend import BACKENDS
from tinygan.checkpoint import Checkpoint, load_checkpoint
from tinygan.datasets import Dataset
from tinygan.images import save_gif, save_png
from tinygan.training import Trainer

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
FRAMES = 60  # of samples.gif, at most
TIMING = ("examples_per_second", "seconds")  # the columns in which two runs of the same settings differ

# The options that decide none of a run's numbers: it may be resumed with others.
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
    """The options that the training examples share, under the same names."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder of the data set's files (default: found, else downloaded)")
    add("--epochs", type=positive, metavar="N", help="passes over the training set (default: its own, or the resumed run's)")
    add("--batch-size", type=positive, metavar="M", help="m, examples in a minibatch (default: %(default)s)")
    add("--k", type=positive, metavar="K", help="updates of D in an iteration (default: %(default)s)")
    add("--generator-steps", type=positive, metavar="J", help="updates of G in an iteration (default: %(default)s)")
    add("--variant", choices=tinygan.VARIANTS, help="whose updates, and their order (default: %(default)s)")
    add("--generator-cost", choices=tinygan.GENERATOR_COSTS, help="what G descends (default: the variant's own)")
    add("--prior", choices=tinygan.PRIORS, help="p_z, the noise prior (default: %(default)s)")
    add("--learning-rate", type=positive_number, metavar="ETA", help="η of the first update (default: %(default)s)")
    add("--schedule-compression", type=positive_number, metavar="C", help="η decays and μ grows C times as fast (default: 1)")
    add("--backend", choices=BACKENDS, help="auto (default): CuPy where a GPU works, else NumPy")
    add("--dtype", choices=("float32", "float64"), help="of every number (default: %(default)s)")
    add("--seed", type=natural, metavar="S", help="of every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: a new one under runs/)")
    either = parser.add_mutually_exclusive_group().add_argument
    either("--resume", action="store_true", help="go on from the checkpoint in --out; start afresh where there is none")
    either("--overwrite", action="store_true", help="start afresh in --out, whatever run it holds")
    add("--picture-every", type=positive, metavar="N", help="epochs between pictures (default: about 500 iterations)")
    add("--checkpoint-every", type=positive, metavar="N", help="… between checkpoints (default: as pictures)")
    add("--evaluate-every", type=positive, metavar="N", help="… between evaluations (default: about 1000 iterations)")
    add("--keep-checkpoints", type=positive, metavar="N", help="keep that of every N-th epoch, as checkpoint-0100.npz")
    add("--smoke", action="store_true", help="everything once, in seconds: few images, two epochs, no download")
    parser.set_defaults(**defaults)


def natural(text: str, least: int = 0) -> int:
    value = int(text)
    if value < least:
        raise ValueError  # argparse makes a message of it, with the name of the function
    return value


def positive(text: str) -> int:
    return natural(text, 1)


def positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(program: Callable[[], None]) -> None:
    """Run an example. What its user can mend ends it with one line, not with a traceback."""
    try:
        program()
    except (TinyganError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def folder_of(name: str, out: Path | None) -> Path:
    """`out`, or a new folder under runs/ for the example `name`. Raises ArgumentError where that is a file."""
    folder = out or Path("runs", time.strftime(f"{name}-%Y%m%d-%H%M%S"))
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"--out {folder} is a file: name a folder, existing or new")
    return folder


def open_folder(name: str, out: Path | None) -> Path:
    """folder_of(name, out), made and named to the user: all that an example without checkpoints needs."""
    folder = folder_of(name, out)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"run: {folder}", file=sys.stderr)
    return folder


class Run:
    """The folder of a run, and all that is written into it:

    checkpoint.npz    all that is needed to go on
    metrics.csv       a line per epoch
    run.json          settings, data, environment; at the end, results, or how it diverged
    samples/          epoch-0000.png …, G(z) of fixed z;  samples.gif of them all
    curves.png        the columns of metrics.csv
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.args, self.started, self.started_training = args, time.perf_counter(), False
        if args.out is None and args.resume:
            raise CheckpointError("--resume needs --out, the folder of the run that is to go on")
        self.folder = folder_of(name, args.out)
        self.checkpoint = self.folder / "checkpoint.npz"
        self.samples = self.folder / "samples"
        self.resumes = args.resume and self.checkpoint.exists()
        if self.checkpoint.exists() and not (args.resume or args.overwrite):
            raise CheckpointError(
                f"{self.checkpoint} exists: go on from it with --resume, start afresh with --overwrite, "
                f"or choose another folder with --out"
            )
        self.earlier = self._read_facts() if args.resume else {}
        self.timing: dict[int, tuple[str, ...]] = {}
        print(f"run: {self.folder}", file=sys.stderr)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            print(f"run: {self.folder}", file=sys.stderr)
        elif self.started_training and issubclass(kind, DivergenceError):
            self.facts["diverged"] = str(error)
            write_json(self.folder / "run.json", self.facts)
        elif self.started_training and issubclass(kind, KeyboardInterrupt | OSError | CheckpointError):
            arguments = [argument for argument in sys.argv if argument not in ("--resume", "--overwrite")]
            if self.args.out is None:
                arguments += ["--out", str(self.folder)]
            command = shlex.join(["python", *arguments, "--resume"])
            kept = "the last checkpoint is kept" if self.checkpoint.exists() else "no checkpoint was written yet"
            print(f"\nstopped; {kept}. Go on with\n  {command}", file=sys.stderr)

    def start(self, trainer: Trainer, dataset: Dataset) -> None:
        """Clear what is left of an earlier run, or of an interrupted one; restore the trainer if this run goes on."""
        self.trainer = trainer
        self.samples.mkdir(parents=True, exist_ok=True)  # not earlier: a start that fails leaves no folder behind
        settings = {key: value for key, value in sorted(vars(self.args).items()) if key not in FREE}
        settings |= {"backend": trainer.xp.__name__, "generator_cost": trainer.gan.generator_cost}
        sizes = {name: len(getattr(dataset, name)) for name in ("train", "validation", "test")}
        shape = {"image_shape": list(dataset.image_shape)}  # follows from the data: older checkpoints do without
        self.configuration = settings | {"noise": trainer.noise, "data": dataset.name} | sizes | shape
        stale = ["checkpoint*.npz.tmp", "metrics.csv.tmp", "run.json.tmp", "samples.gif.tmp", "samples/epoch-*.png.tmp"]
        if self.resumes:
            saved, now = shape | trainer.restore(self.checkpoint).configuration, self.configuration
            differences = [
                f"{key} is {saved.get(key)} in the checkpoint, {now.get(key)} now"
                for key in sorted(saved.keys() | now.keys())
                if (saved.get(key) or None) != (now.get(key) or None)  # what an older checkpoint does not know was off
            ]
            if differences:
                raise CheckpointError(f"{self.checkpoint}: {'; '.join(differences)}: resume with the same settings")
            print(f"resumed after epoch {trainer.epoch}", file=sys.stderr)
            self._read_timing()
        else:
            stale += ["checkpoint*.npz", "checkpoint*.evaluation.json", "metrics.csv", "run.json", "curves.png"]
            stale += ["samples.gif", "samples/epoch-*.png", "annealing-*.npz"]
        for pattern in stale:
            for path in self.folder.glob(pattern):
                path.unlink()
        lines = [",".join(COLUMNS + TIMING) + "\n", *map(self._line, trainer.metrics)]
        write_text(self.folder / "metrics.csv", "".join(lines))
        pictures = self.args.picture_every or max(1, round(500 / trainer.iterations))
        evaluations = self.args.evaluate_every or max(1, round(1000 / trainer.iterations))
        self.intervals = pictures, self.args.checkpoint_every or pictures, evaluations
        self.facts = {
            "data": {"name": dataset.name, "source": dataset.source} | sizes,
            "epochs": self.args.epochs,
            "every": dict(zip(("picture", "checkpoint", "evaluation"), self.intervals, strict=True)),
            "configuration": self.configuration,
            "environment": environment(trainer),
        }
        # The commits of this project at which the run's earlier epochs were trained.
        before = self.earlier if self.resumes else {}
        commits = [*before.get("earlier_commits", []), before.get("environment", {}).get("commit")]
        present = self.facts["environment"]["commit"]
        self.facts["earlier_commits"] = [commit for commit in dict.fromkeys(commits) if commit not in (present, None)]
        if before.get("results", {}).get("epochs") == trainer.epoch == self.args.epochs:  # until they are measured again
            self.facts["results"] = before["results"]
        write_json(self.folder / "run.json", self.facts)

    def _read_facts(self) -> dict[str, Any]:
        """The run.json of the run that goes on; where it is lost, so are its number of epochs and its earlier commits."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return dict(json.loads((self.folder / "run.json").read_text(encoding="utf-8")))
        return {}

    def _read_timing(self) -> None:
        """The timing of earlier epochs, which no checkpoint holds, from the metrics.csv that is about to be rebuilt."""
        # After a power cut it may hold anything; then the timing is lost, and nothing else.
        with contextlib.suppress(OSError, ValueError, csv.Error):
            with open(self.folder / "metrics.csv", newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if all(row.get(name) for name in ("epoch", *TIMING)):
                        self.timing[int(row["epoch"])] = tuple(row[name] for name in TIMING)

    def _line(self, row: dict[str, Any]) -> str:
        numbers = [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS]
        return ",".join([*numbers, *self.timing.get(row["epoch"], ("", ""))]) + "\n"

    def train(self, picture: Callable[[], Any], evaluate: Callable[[], float]) -> None:
        """Train to the last epoch. picture() is one of samples; evaluate() is the validation log-likelihood."""
        args, trainer, self.started_training = self.args, self.trainer, True
        pictures, checkpoints, evaluations = self.intervals

        def due(interval: int) -> bool:
            return trainer.epoch % interval == 0 or trainer.epoch == args.epochs

        if trainer.epoch == 0:
            save_png(self.samples / "epoch-0000.png", picture())
        total = args.epochs * trainer.iterations
        seldom = 0.1 if sys.stderr.isatty() else 60  # seconds between two drawings of the bar
        with tqdm(total=total, initial=trainer.epoch * trainer.iterations, mininterval=seldom, unit="it") as bar:
            while trainer.epoch < args.epochs:
                start = time.perf_counter()
                row = trainer.train_epoch(bar.update)
                seconds = time.perf_counter() - start
                if trainer.epoch % evaluations == 0:
                    row["validation_log_likelihood"] = evaluate()
                if due(pictures):
                    save_png(self.samples / f"epoch-{trainer.epoch:04d}.png", picture())
                examples = trainer.iterations * trainer.gan.k * trainer.batch_size
                self.timing[trainer.epoch] = (f"{examples / seconds:.0f}", f"{seconds:.3f}")
                with open(self.folder / "metrics.csv", "a", encoding="utf-8") as file:
                    file.write(self._line(row))
                bar.set_postfix_str(f"epoch {trainer.epoch}, D(x) {row['D_x']:.3f}, D(G(z)) {row['D_G_z']:.3f}")
                if args.keep_checkpoints and trainer.epoch % args.keep_checkpoints == 0:
                    trainer.save(self.folder / f"checkpoint-{trainer.epoch:04d}.npz", self.configuration)
                if due(checkpoints):
                    trainer.save(self.checkpoint, self.configuration)

    def finish(self, title: str, results: dict[str, Any]) -> None:
        """Write the results into run.json, with what the run took. Pictures come last: they can be redrawn, results cannot."""
        self.facts["results"] = results | {
            "epochs": self.trainer.epoch,
            "iterations": self.trainer.epoch * self.trainer.iterations,
            "seconds_of_epochs": round(sum(float(seconds) for _, seconds in self.timing.values()), 1),
            "seconds_of_this_process": round(time.perf_counter() - self.started, 1),
            "peak_memory_mb": peak_memory(),
        }
        write_json(self.folder / "run.json", self.facts)
        frames = sorted(self.samples.glob("epoch-*.png"))
        if frames:
            pictures = [read_png(path) for path in frames]
            # An older version, which the run began with, may have drawn another margin.
            pictures = [picture for picture in pictures if picture.shape == pictures[-1].shape]
            pictures = pictures[:: -(-len(pictures) // FRAMES)] + pictures[-1:] * 5  # the last one stays for a while
            save_gif(self.folder / "samples.gif", pictures)
        draw_curves(self.folder / "curves.png", self.trainer.metrics, title)


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def write_text(path: Path, text: str) -> None:
    """All or nothing, as far as a killed process goes."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def environment(trainer: Trainer) -> dict[str, Any]:
    """Where a run was made: versions, cores, commit."""
    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # not a checkout, or no git
        commit = None
    return {
        "tinygan": tinygan.__version__,
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        trainer.xp.__name__: trainer.xp.__version__,
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {key: value for key, value in os.environ.items() if key.endswith("_NUM_THREADS")},
    }


def peak_memory() -> int | None:
    """The largest resident size of this process so far, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def generator_of(checkpoint: Checkpoint, xp: Any = np) -> Network:
    """The generator that a checkpoint holds, built from its own description."""
    words = checkpoint.architecture.get("G", "")
    try:
        layers = []
        for call in ast.parse(words, mode="eval").body.args[0].elts:  # type: ignore[attr-defined]
            kind = getattr(tinygan, call.func.id)
            if not issubclass(kind, Layer):
                raise TypeError(f"{kind} is no layer")
            layers.append(kind(*map(ast.literal_eval, call.args)))
    except (AttributeError, IndexError, SyntaxError, TypeError, ValueError) as error:
        raise CheckpointError(f"its generator, {words!r}, cannot be built from the layers of tinygan") from error
    size = sum(int(np.prod(shape)) for layer in layers for shape, _ in layer.declarations.values())
    if size != checkpoint.theta_g.size:  # known before anything of that size is allocated
        raise CheckpointError(f"its generator, {words!r}, has {size} parameters, not {checkpoint.theta_g.size}")
    G = Network(layers, dtype=checkpoint.theta_g.dtype, xp=xp)
    G.theta = xp.asarray(checkpoint.theta_g)
    return G


def load_run(path: Path, xp: Any = np) -> tuple[Checkpoint, Network]:
    """A checkpoint of an example's run, and its generator. Raises CheckpointError where it does not say how it was trained."""
    checkpoint = load_checkpoint(path)
    if missing := {"prior", "noise", "data", "train"} - checkpoint.configuration.keys():
        raise CheckpointError(f"{path}: it does not say {', '.join(sorted(missing))}: take one that an example wrote")
    try:
        return checkpoint, generator_of(checkpoint, xp)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def require_same_data(settings: dict[str, Any], dataset: Dataset) -> None:
    """Raise DataError unless the run with these settings was trained on this data set."""
    if (dataset.name, len(dataset.train)) != (settings["data"], settings["train"]):
        raise DataError(
            f"the run was trained on {settings['train']} images of {settings['data']}, these are "
            f"{len(dataset.train)} of {dataset.name}: name the folder of the same data with --data"
        )


def distinct(images: np.ndarray, radius: float) -> int:
    """How many images are left when each one closer than `radius` (L2) to an earlier one that is left is removed."""
    left = np.ones(len(images), bool)
    distances = _distances(images)
    for i in range(len(images)):
        if left[i]:
            left[i + 1 :] &= distances[i, i + 1 :] >= radius
    return int(left.sum())


def _distances(images: np.ndarray) -> np.ndarray:
    x = images.reshape(len(images), -1).astype(np.float64)
    squares = (x * x).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * (x @ x.T), 0))


def diversity(samples: Any, data: Any) -> dict[str, Any]:
    """How many of the samples are distinct, and, to compare with, of as many held-out data.

    Two images count as one if they are closer than 95 % of all data are to their nearest neighbour: `radius`.
    """
    samples, data = to_host(samples), to_host(data)
    neighbours = _distances(data)
    np.fill_diagonal(neighbours, np.inf)
    radius = float(np.quantile(neighbours.min(axis=1), 0.05))
    return {"distinct_samples": distinct(samples, radius), "distinct_data": distinct(data, radius), "radius": radius}


def reading(metrics: list[dict[str, Any]], samples: Any, data: Any) -> dict[str, Any]:
    """What a run says at its end, in plain words, with the figures that say so.

    samples, data   the same number of each; data held out

    D has won if it tells data from samples without doubt: V > −0.01 nats (0 is its maximum). G has collapsed if fewer
    than one sample in ten is distinct; unless the game has not begun: V never was further than 0.05 from −log 4.
    D(x), D(G(z)) and V are means over the last five epochs.
    """
    figures = diversity(samples, data)
    count = figures["distinct_samples"]
    last = metrics[-5:]
    value, D_x, D_G_z = (sum(row[key] for row in last) / len(last) for key in ("value", "D_x", "D_G_z"))
    words = []
    if value > -0.01:
        words.append("D has won: G is stuck")
    if count < len(samples) / 10:
        early = all(abs(row["value"] + np.log(4)) < 0.05 for row in metrics)
        words.append("too early to tell" if early else f"collapsed to {count} distinct sample{'s' if count > 1 else ''}")
    epochs = f"over the last {len(last)} epochs" if len(last) > 1 else "after the only epoch"
    text = (
        f"{' and '.join(words) or 'learning'}: {epochs}, D(x) = {D_x:.3f}, D(G(z)) = {D_G_z:.3f}, V = {value:.3f} "
        f"(−1.386 where D cannot tell); {count} of {len(samples)} samples distinct, of as many data "
        f"{figures['distinct_data']}"
    )
    return {"reading": text} | figures


def draw_curves(path: Path, metrics: list[dict[str, Any]], title: str) -> None:
    """V, D(x) and D(G(z)), the two costs, and the validation log-likelihood, by epoch."""
    from matplotlib.figure import Figure

    panels: tuple[tuple[str, dict[str, str], float | None], ...] = (
        ("V(D, G), nats", {"value": "V"}, -float(np.log(4))),
        ("D on held-out images and on samples", {"D_x": "D(x)", "D_G_z": "D(G(z))"}, 0.5),
        ("training costs, nats", {"discriminator_cost": "J(D)", "generator_cost": "J(G)"}, None),
        ("validation log-likelihood, nats", {"validation_log_likelihood": "Parzen window"}, None),
    )
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axis, (name, lines, equilibrium) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for key, label in lines.items():
            rows = [row for row in metrics if key in row]
            axis.plot([row["epoch"] for row in rows], [row[key] for row in rows], ".-", markersize=4, label=label)
        if equilibrium is not None:
            axis.axhline(equilibrium, color="grey", linestyle=":", label="where D = ½ everywhere")
        axis.set(title=name, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=80)
