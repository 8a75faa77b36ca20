"""The folder of a run, and what a script that trains a GAN needs around its loop: options, settings, metrics, pictures,
checkpoints, resume, the measurement, and a plain sentence on how the run went.

    with Run("mnist", args) as run:
        …                                        # data, model and trainer
        run.start(trainer, dataset)              # restores the trainer with --resume
        while trainer.epoch < args.epochs:
            with run.timed():
                row = trainer.train_epoch(run.after_iteration)
            if run.due("picture"):
                run.save_picture(picture())
            run.record(row)
        run.finish("a title", results)

load_generator(path) is the generator of any checkpoint, for sampling.
"""

import argparse
import ast
import contextlib
import csv
import importlib
import json
import operator
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.backend import (
    BACKENDS,
    Array,
    ArrayModule,
    pixels,
    random_generator,
    to_host,
    write_atomically,
)
from tinygan.checkpoint import MOST_EPOCHS, Checkpoint, load_checkpoint
from tinygan.console import can_draw, prepare_streams, progress_bar
from tinygan.datasets import Dataset, Split
from tinygan.description import build_layers, parameter_count
from tinygan.errors import ArgumentError, CheckpointError, DataError, DivergenceError, TinyganError
from tinygan.files import FolderLock, make_folder, read_bytes
from tinygan.gan import PRIORS, VARIANTS, Generator, Noise, generate
from tinygan.layers import Layer
from tinygan.losses import GENERATOR_COSTS
from tinygan.network import Network
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate, select_sigma
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
TIMING = ("examples_per_second", "seconds")  # the columns in which two runs of the same settings differ
NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")  # in a column of timing
MOST_BYTES = 2**28  # of run.json and of metrics.csv: no more is read
FRAMES = 60  # at most, in samples.gif

# The options that decide none of a run's numbers: they may differ when a run is resumed.
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

# The authors' evaluation.
SAMPLES = 10_000
SIGMA_ROWS = 1_000  # so many images of the validation set, its first, choose σ
EVALUATION_SEED = 2014  # of the noise behind the samples, in every run

SMOKE = "-smoke"  # the end of a data set's name where a run takes only a few of its images


# ---- The command line


def add_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """The options that the training examples share, under the same names."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="the data: a folder, or a file (default: found, else downloaded)")
    add("--epochs", type=positive, metavar="N", help="passes over the training set (default: the data's, or the resumed run's)")
    add("--batch-size", type=positive, metavar="M", help="m, examples in a minibatch (default: %(default)s)")
    add("--k", type=positive, metavar="K", help="updates of D in an iteration (default: %(default)s)")
    add("--generator-steps", type=positive, metavar="J", help="updates of G in an iteration (default: %(default)s)")
    add("--variant", choices=VARIANTS, help="the order of the players' updates (default: %(default)s)")
    add("--generator-cost", choices=GENERATOR_COSTS, help="what G descends (default: the variant's own)")
    add("--prior", choices=PRIORS, help="p_z, the noise prior (default: %(default)s)")
    add("--learning-rate", type=positive_number, metavar="ETA", help="η of the first update (default: %(default)s)")
    add("--schedule-compression", type=positive_number, metavar="C", help="η decays and μ grows C times as fast (default: 1)")
    add("--backend", choices=BACKENDS, default="auto", help="auto (default): CuPy where a GPU works, else NumPy")
    add("--dtype", choices=("float32", "float64"), help="type of every number (default: %(default)s)")
    add("--seed", type=natural, metavar="S", help="seed of every random draw (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: a new one under runs/)")
    either = parser.add_mutually_exclusive_group().add_argument
    either("--resume", action="store_true", help="resume from the checkpoint in --out; if there is none, start a new run")
    either("--overwrite", action="store_true", help="start a new run in --out, and delete the run it holds")
    add("--picture-every", type=positive, metavar="N", help="epochs between pictures (default: about 500 iterations)")
    add("--checkpoint-every", type=positive, metavar="N", help="epochs between checkpoints (default: as for pictures)")
    add("--evaluate-every", type=positive, metavar="N", help="epochs between evaluations (default: about 1000 iterations)")
    add("--keep-checkpoints", type=positive, metavar="N", help="keep every N-th epoch's checkpoint, as checkpoint-0100.npz")
    add("--smoke", action="store_true", help="run everything once, in seconds: few images, two epochs, no download")
    parser.set_defaults(**defaults)


def natural(text: str, least: int = 0) -> int:
    value = int(text)
    if value < least:
        raise ValueError  # argparse makes the message, with the name of the type
    return value


def positive(text: str) -> int:
    return natural(text, 1)


def positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(program: Callable[[], None]) -> None:
    """Run a script's program. An error that its user can fix ends it with one line instead of a traceback.

    Its words can be printed in any encoding. If the reader of its output goes away, as in `… | head -1`, the program runs
    to its end. Exit code 0 if all is well, 1 after an error, 130 after Ctrl-C, 141 if a reader has gone away.
    """
    streams = prepare_streams()
    try:
        program()
        sys.stdout.flush()
    except (TinyganError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if any(stream.gone for stream in streams):
        sys.exit(141)


# ---- The folder


def claim_folder(name: str, out: Path | None) -> tuple[Path, list[Path]]:
    """`out`, or a new folder under runs/ for the example `name`, which no other process gets; and the folders made for it.

    Raises ArgumentError if `out` is a file.
    """
    if out:
        if out.exists() and not out.is_dir():
            raise ArgumentError(f"--out {out} is a file: name a folder, existing or new")
        return out, make_folder(out)
    stem, number = time.strftime(f"{name}-%Y%m%d-%H%M%S"), 1
    while True:
        folder = Path("runs", f"{stem}-{number}" if number > 1 else stem)
        try:
            return folder, make_folder(folder, exist_ok=False)
        except FileExistsError:  # of a start within the same second
            number += 1


def open_folder(name: str, out: Path | None) -> Path:
    """Make the folder `out`, or a new one under runs/, and print its name. An example without checkpoints needs no more."""
    folder, _ = claim_folder(name, out)
    print(f"run: {folder}", file=sys.stderr)
    return folder


def read_facts(path: Path) -> tuple[dict[str, Any], str]:
    """What a resumed run takes from its run.json, as far as it is sound: `epochs`, `commits` and `results`. And in words,
    what is lost. Raises CheckpointError for what is no file, and for what may not be read."""
    content: Any = {}
    fault = ""
    try:
        content = json.loads(read_bytes(path, MOST_BYTES))
        json.dumps(content, allow_nan=False)  # Python reads NaN, which is no JSON
        if not isinstance(content, dict):
            fault = f"it is no JSON object, but {content!r:.20}"
    except FileNotFoundError:
        fault = "it is not there"
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}: move it away, or make it readable") from error
    except (ValueError, RecursionError) as error:
        fault = f"it is damaged: {error}"
    content = {} if fault else content
    epochs, results = content.get("epochs"), content.get("results", {})
    environment, commits = content.get("environment", {}), content.get("earlier_commits", [])
    commits = [*(commits if isinstance(commits, list) else [0])]
    commits += [environment.get("commit") if isinstance(environment, dict) else 0]
    sound: dict[str, Any] = {"epochs": epochs if type(epochs) is int and 0 < epochs <= MOST_EPOCHS else None}
    sound["commits"] = [commit for commit in commits if isinstance(commit, str)]
    sound["results"] = results if isinstance(results, dict) and type(results.get("epochs")) is int else {}
    lost = ["the number of epochs"] if sound["epochs"] is None else []
    if fault or not all(isinstance(commit, str | None) for commit in commits):
        lost.append("the commits of earlier epochs")
    if fault or not isinstance(results, dict):
        lost.append("the results")
    words = f"{path}: {fault or 'a field is missing, or of a wrong kind'}. Lost: {', '.join(lost)}"
    return sound, words if lost else ""


class Run:
    """The folder of a run, and all that is written into it:

    checkpoint.npz    all that a resume needs
    metrics.csv       a line for each epoch, with these `columns`
    run.json          settings, data, environment; at the end, results, or how the run diverged
    samples/          epoch-0000.png …, G(z) of the same z;  samples.gif shows them all
    curves.png        the columns of metrics.csv
    run.lock          while the run lasts, who holds the folder: no second process writes into it
    """

    def __init__(self, name: str, args: argparse.Namespace, columns: tuple[str, ...] = COLUMNS) -> None:
        self.args, self.columns, self.started, self.started_training = args, columns, time.perf_counter(), False
        if args.out is None and args.resume:
            raise CheckpointError("--resume needs --out: name the folder of the run to resume")
        self.folder, made = claim_folder(name, args.out)
        self.lock = FolderLock(self.folder, made)
        try:
            self._open(args)
        except BaseException:
            self.lock.release()
            raise

    def _open(self, args: argparse.Namespace) -> None:
        self.checkpoint = self.folder / "checkpoint.npz"
        self.samples = self.folder / "samples"
        self.resumes = args.resume and self.checkpoint.exists()
        if self.checkpoint.exists() and not (args.resume or args.overwrite):
            raise CheckpointError(
                f"{self.checkpoint} exists: resume its run with --resume, replace it by a new run with --overwrite, "
                f"or choose a different folder with --out"
            )
        self.earlier: dict[str, Any] = {"epochs": None, "commits": [], "results": {}}
        if args.resume:
            self.earlier, lost = read_facts(self.folder / "run.json")
            if lost and self.resumes:
                repeat = "" if args.epochs or self.earlier["epochs"] else ". Repeat --epochs, or the data's default is taken"
                print(f"{lost}{repeat}", file=sys.stderr)
        self.timing: dict[int, tuple[str, ...]] = {}
        self.bar: Any = None
        print(f"run: {self.folder}", file=sys.stderr)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        try:
            self._leave(kind, error)
        finally:
            self.lock.release()

    def _leave(self, kind: type[BaseException] | None, error: object) -> None:
        if self.bar is not None:
            self.bar.close()
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
            print(f"\nstopped; {kept}. Resume with\n  {command}", file=sys.stderr)

    def start(self, trainer: Trainer, dataset: Dataset) -> None:
        """Restore the trainer if this run resumes. Remove temporary files; if the run is new, all files of an earlier one."""
        self.trainer = trainer
        settings = {key: value for key, value in sorted(vars(self.args).items()) if key not in FREE}
        settings |= {"backend": trainer.xp.__name__} | getattr(trainer.model, "settings", {})
        sizes = {name: len(getattr(dataset, name)) for name in ("train", "validation", "test")}
        # Given by the data. Older checkpoints do not have them.
        of_data = {"image_shape": list(dataset.image_shape), "data_digest": dataset.digest}
        self.configuration = settings | {"data": dataset.name} | sizes | of_data
        stale = ["checkpoint*.tmp", "metrics.csv*.tmp", "run.json*.tmp", "*.gif*.tmp", "*.png*.tmp", "samples/epoch-*.tmp"]
        if self.resumes:
            self._require_same_settings(trainer.restore(self.checkpoint).configuration, of_data)
            epochs = [row.get("epoch") for row in trainer.metrics]
            if epochs != list(range(1, trainer.epoch + 1)):
                raise CheckpointError(
                    f"{self.checkpoint}: after epoch {trainer.epoch} it has the metrics of {len(epochs)} epochs, "
                    f"{str(epochs):.100}: take a different checkpoint, or start a new run"
                )
            print(f"resumed after epoch {trainer.epoch}", file=sys.stderr)
            self._read_timing()
        else:  # the checkpoint first: whenever this process is killed, a resume never takes the old run for the new one
            stale = ["checkpoint.npz", "run.json", *stale, "checkpoint*.npz", "checkpoint*.evaluation.json", "metrics.csv"]
            stale += ["curves.png", "samples.gif", "samples/epoch-*.png", "annealing-*.npz"]
            stale += ["samples.npy", "samples.png", "nearest.png", "interpolation.png"]  # of examples/sample.py
        for pattern in stale:
            for path in self.folder.glob(pattern):
                path.unlink()
        self.lock.made[:0] = make_folder(self.samples)
        lines = [",".join(self.columns + TIMING) + "\n", *map(self._line, trainer.metrics)]
        write_text(self.folder / "metrics.csv", "".join(lines))
        pictures = self.args.picture_every or max(1, round(500 / trainer.iterations))
        self.every = {
            "picture": pictures,
            "checkpoint": self.args.checkpoint_every or pictures,
            "evaluation": self.args.evaluate_every or max(1, round(1000 / trainer.iterations)),
        }
        self.facts: dict[str, Any] = {
            "data": {"name": dataset.name, "source": dataset.source} | sizes,
            "epochs": self.args.epochs,
            "every": self.every,
            "configuration": self.configuration,
            "environment": environment(trainer.xp),
        }
        # The commits of tinygan at which earlier epochs of the run were trained.
        before = self.earlier if self.resumes else {"commits": [], "results": {}}
        present = self.facts["environment"]["commit"]
        self.facts["earlier_commits"] = [commit for commit in dict.fromkeys(before["commits"]) if commit != present]
        if before["results"].get("epochs") == trainer.epoch == self.args.epochs:  # valid until the new measurement
            self.facts["results"] = before["results"]
        write_json(self.folder / "run.json", self.facts)
        self.started_training = True
        can_draw("curves.png is")
        if trainer.epoch < self.args.epochs:
            self.bar = progress_bar(self.args.epochs * trainer.iterations, trainer.epoch * trainer.iterations)

    def _require_same_settings(self, saved: dict[str, Any], of_data: dict[str, Any]) -> None:
        """Raise CheckpointError unless the settings are those of the checkpoint; what older ones lack is not compared.

        Data are the same if their digest is, whatever their name. The backend may change if --backend names the new one.
        """
        now = self.configuration
        if saved.get("data_digest") == now["data_digest"]:
            now["data"] = saved.get("data")
        saved = of_data | saved
        before = saved.get("earlier_backends") or []
        if saved.get("backend") != now["backend"] and self.args.backend != "auto":
            before = [*before, f"{saved.get('backend')} until epoch {self.trainer.epoch}"]
            print(
                f"the backend changes from {saved.get('backend')} to {now['backend']}: their random streams differ, so the run "
                f"is not bit-identical to one that stays with {saved.get('backend')}",
                file=sys.stderr,
            )
            saved = saved | {"backend": now["backend"]}
        if before:
            now["earlier_backends"] = before
        differences = [
            f"{key} is {saved.get(key)!s:.200} in the checkpoint, {now.get(key)!s:.200} now"
            for key in sorted(saved.keys() | now.keys())
            if (saved.get(key) or None) != (now.get(key) or None)  # a setting that an older checkpoint lacks was off
            and key != "earlier_backends"
        ]
        if not differences:
            return
        remedy = "resume with the same settings"
        if saved["data_digest"] != now["data_digest"]:
            remedy = "name the folder of the same data with --data"
        elif saved.get("backend") != now["backend"]:
            remedy = (
                f"resume with --backend {saved.get('backend')}; or change to --backend {now['backend']}, "
                f"whose random streams differ, so that the run is not bit-identical"
            )
        raise CheckpointError(f"{self.checkpoint}: {'; '.join(differences)}: {remedy}")

    def _read_timing(self) -> None:
        """Read the timing of earlier epochs from metrics.csv, before it is rebuilt: no checkpoint holds it."""
        path, fault = self.folder / "metrics.csv", ""
        try:
            for row in csv.DictReader(read_bytes(path, MOST_BYTES).decode().splitlines()):
                epoch, *timing = [row.get(name) or "" for name in ("epoch", *TIMING)]
                if epoch.isdecimal() and all(map(NUMBER.fullmatch, (epoch, *timing))):
                    self.timing[int(epoch)] = tuple(timing)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise CheckpointError(f"{path}: {error.strerror or error}: move it away, or make it readable") from error
            fault = " (it is not there)"
        except (ValueError, csv.Error) as error:  # after a power cut it may hold anything
            fault = f" ({error})"
        lost = [epoch for epoch in range(1, self.trainer.epoch + 1) if epoch not in self.timing]
        if lost:
            which = f"{len(lost)} of {self.trainer.epoch} epochs, the first is epoch {lost[0]}"
            print(f"{path}: rebuilt from the checkpoint, without the timing of {which}{fault}", file=sys.stderr)

    def _line(self, row: dict[str, Any]) -> str:
        numbers = [f"{row[name]:.6g}" if name in row else "" for name in self.columns]
        return ",".join([*numbers, *self.timing.get(row["epoch"], ("", ""))]) + "\n"

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the seconds of the epoch that is trained inside `with`; they go into metrics.csv."""
        start = time.perf_counter()
        yield
        seconds, trainer = time.perf_counter() - start, self.trainer
        examples = trainer.iterations * trainer.model.draws * trainer.batch_size
        self.timing[trainer.epoch] = (f"{examples / seconds:.0f}", f"{seconds:.3f}")

    def after_iteration(self) -> None:
        """Move the progress bar by one iteration."""
        self.bar.update()

    def due(self, what: str) -> bool:
        """Whether it is time for a "picture", a "checkpoint" or an "evaluation". In the last epoch the first two are due."""
        last = self.trainer.epoch == self.args.epochs and what != "evaluation"
        return self.trainer.epoch % self.every[what] == 0 or last

    def save_picture(self, picture: Array) -> None:
        """Write the picture of this epoch's samples."""
        from tinygan.images import save_png  # not at the top: `import tinygan` is quicker without Pillow

        save_png(self.samples / f"epoch-{self.trainer.epoch:04d}.png", picture)

    def record(self, row: dict[str, Any]) -> None:
        """Write this epoch's line of metrics.csv, and the checkpoints that are due."""
        trainer = self.trainer
        with open(self.folder / "metrics.csv", "a", encoding="utf-8") as file:
            file.write(self._line(row))
        shown = [f"{name} {row[key]:.3f}" for key, name in (("D_x", "D(x)"), ("D_G_z", "D(G(z))")) if key in row]
        self.bar.set_postfix_str(", ".join([f"epoch {trainer.epoch}", *shown]))
        keep = self.args.keep_checkpoints
        if keep and trainer.epoch % keep == 0:
            trainer.save(self.folder / f"checkpoint-{trainer.epoch:04d}.npz", self.configuration)
        if self.due("checkpoint"):
            trainer.save(self.checkpoint, self.configuration)
        if trainer.epoch == self.args.epochs:
            self.bar.close()  # the measurement that follows is not training

    def finish(self, title: str, results: dict[str, Any]) -> None:
        """Write the results, time and memory into run.json, then the pictures: these can be drawn again, results cannot."""
        from tinygan.images import save_gif

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
            # An older version of tinygan may have drawn the first pictures with a different margin.
            pictures = [picture for picture in pictures if picture.shape == pictures[-1].shape]
            pictures = pictures[:: -(-len(pictures) // FRAMES)] + pictures[-1:] * 5  # the last one stays for a while
            save_gif(self.folder / "samples.gif", pictures)
        draw_curves(self.folder / "curves.png", self.trainer.metrics, title)


def read_png(path: Path) -> npt.NDArray[Any]:
    """The picture in a file, as an array."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def write_text(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing."""
    with write_atomically(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a surrogate pair becomes \udcff, as JSON writes it


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, all of it or nothing."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def environment(xp: ArrayModule = np) -> dict[str, Any]:
    """What a result was made with: versions, cores, commit."""
    import importlib.metadata as metadata  # here: it is slow to import

    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # not a checkout, or no git
        commit = None
    try:
        version = metadata.version("tinygan")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        version = None
    return {
        "tinygan": version,
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        xp.__name__: xp.__version__,
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


# ---- Checkpoints of any run


def load_generator(
    path: str | os.PathLike[str], *, xp: ArrayModule = np, layers: Iterable[str | type[Layer]] = ()
) -> Generator:
    """The generator in a checkpoint, or in the folder of a run: .network, .noise, .sample(n, rng).

    layers  classes of your own among its layers, or their names as "module:Class". Only what you name is imported.
    Raises CheckpointError for a damaged or altered file, for one that lacks a generator G or its noise, and for a generator
    that does not fit its parameters, its statistics or its noise. Raises ArgumentError for an entry of `layers` that is no
    class of layers.
    """
    return load_run(path, xp, layers)[1]


def load_run(
    path: str | os.PathLike[str], xp: ArrayModule = np, layers: Iterable[str | type[Layer]] = ()
) -> tuple[Checkpoint, Generator]:
    """The checkpoint at path, or in the folder of a run, and its generator: see load_generator."""
    own = [_layer_class(layer) for layer in ([layers] if isinstance(layers, str | type) else layers)]
    path = checkpoint_in(path)
    checkpoint = load_checkpoint(path)
    theta, architecture = checkpoint.vectors.get("G.theta"), checkpoint.architecture.get("G")
    if theta is None or architecture is None:
        raise CheckpointError(f"{path}: it has no generator G, its players are {', '.join(checkpoint.architecture)}")
    try:
        noise = Noise(checkpoint.configuration["prior"], operator.index(checkpoint.configuration["noise"]))
    except (KeyError, TypeError, ArgumentError) as error:
        raise CheckpointError(f"{path}: it does not say which noise its generator takes: name a checkpoint of a GAN") from error
    try:
        if isinstance(architecture, str):
            made = _layers_of_format_1(architecture)
        else:
            made = build_layers(architecture, own)
        if (size := parameter_count(made)) != theta.size:  # known before anything of that size is allocated
            raise ArgumentError(f"it has {size} parameters, but the checkpoint has {theta.size}")
        G = Network(made, dtype=theta.dtype, xp=xp)
        G.theta = xp.asarray(theta)
        if G.statistics.size:
            if "G.statistics" not in checkpoint.vectors:
                raise ArgumentError("it has running statistics, but the checkpoint holds none")
            G.statistics = xp.asarray(checkpoint.vectors["G.statistics"])
    except ValueError as error:  # an ArgumentError, or NumPy's own for an absurd size
        raise CheckpointError(f"{path}: its generator cannot be built: {error}") from error
    try:
        G(xp.broadcast_to(xp.zeros((1, 1), G.dtype), (1, noise.n)))  # one z, without memory: n may be any number
    except ValueError as error:
        raise CheckpointError(f"{path}: its generator does not take noise of {noise.n} dimensions: {error}") from error
    return checkpoint, Generator(G, noise)


def checkpoint_in(path: str | os.PathLike[str]) -> Path:
    """The checkpoint in the folder of a run; any other path as it is."""
    path = Path(path)
    return path / "checkpoint.npz" if path.is_dir() else path


def _layer_class(layer: str | type[Layer]) -> type[Layer]:
    """A class of layers, imported where it is named: "module:Class"."""
    kind: Any = layer
    if isinstance(layer, str):
        module, _, name = layer.partition(":")
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ArgumentError(f"{layer!r} names no class: write module:Class, as python would import it ({error})") from error
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise ArgumentError(f"{layer!r} is no class of layers: give a subclass of Layer, or its name as module:Class")
    return kind


def _layers_of_format_1(words: str) -> list[Layer]:
    """The layers of a network that a checkpoint of format 1 holds as text, "Network([Linear(3, 4), ReLU()])"."""
    try:
        entries = []
        for call in ast.parse(words, mode="eval").body.args[0].elts:  # type: ignore[attr-defined]
            entries.append((call.func.id, [ast.literal_eval(argument) for argument in call.args]))
    except (AttributeError, IndexError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{words[:200]!r} is no description of layers") from error
    names = {
        "Linear": ("n_in", "n_out"),
        "Maxout": ("n_in", "n_out", "pieces"),
        "Dropout": ("keep",),
        "Reshape": ("shape",),
    }
    return build_layers(
        [{"class": name, "config": dict(zip(names.get(name, ()), values, strict=False))} for name, values in entries]
    )


def trained_on(settings: dict[str, Any], dataset: Dataset) -> Dataset:
    """This data set; for a smoke run, its few images. Raises DataError unless the run with these settings used the same."""
    if str(settings.get("data")).endswith(SMOKE):
        dataset = smaller(dataset)
    require_same_data(settings, dataset)
    return dataset


def require_same_data(settings: dict[str, Any], dataset: Dataset) -> None:
    """Raise DataError unless the run with these settings was trained on this data set."""
    if "data" not in settings:
        raise DataError("the checkpoint does not say which data it was trained on: take one of a run's folder")
    digest = settings.get("data_digest", dataset.digest)  # older checkpoints have none, and go by name and size
    same_name = (dataset.name, len(dataset.train)) == (settings["data"], settings.get("train"))
    if digest != dataset.digest or ("data_digest" not in settings and not same_name):
        raise DataError(
            f"the run was trained on {settings.get('train')} images of {settings['data']} (digest {digest}), these are "
            f"{len(dataset.train)} of {dataset.name} (digest {dataset.digest}): name the folder of the same data with --data"
        )


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


# ---- The measurement: the authors' protocol of Table 1


def evaluation_samples(generator: Generator, n: int, seed: int = EVALUATION_SEED) -> Array:
    """n raw samples of G for the Parzen window, (n, d), from the evaluation's own noise."""
    return generate(generator, n, random_generator(generator.network.xp, seed, "evaluation"))


def validation_log_likelihood(generator: Generator, dataset: Dataset, n: int) -> float:
    """The mean log-likelihood of the validation images that choose σ, with the best σ of the authors' grid, in nats."""
    G = generator.network
    validation = pixels(dataset.validation.images[:SIGMA_ROWS], G.xp, G.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)  # the measurement at the end repeats them
        _, means = select_sigma(evaluation_samples(generator, n), validation, AUTHORS_SIGMAS)
    return float(means.max())


def measure(generator: Generator, dataset: Dataset, n: int) -> dict[str, Any]:
    """Return Table 1's measure, with the authors' grid of σ and with a fine one. This reads the test set."""
    G = generator.network
    samples = evaluation_samples(generator, n)
    validation, test = (pixels(split.images, G.xp, G.dtype) for split in (dataset.validation, dataset.test))
    results = {}
    for grid, sigmas in ("authors", AUTHORS_SIGMAS), ("fine", FINE_SIGMAS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            result = evaluate(samples, validation[:SIGMA_ROWS], test, sigmas)
        results[grid] = result.as_dict() | {"warnings": [str(warning.message) for warning in caught]}
    return results


def tell(evaluation: dict[str, Any]) -> None:
    """Print what `measure` returned, each warning once. Call it when the results are written: words can get lost."""
    for grid, result in evaluation.items():
        print(
            f"test log-likelihood: {result['log_likelihood']:.1f} ± {result['standard_error']:.1f} nats (Parzen window of "
            f"{result['samples']:,} samples, σ = {result['sigma']:.3f} of the {grid} grid, {result['test_rows']:,} test images)"
        )
    for caution in dict.fromkeys(caution for result in evaluation.values() for caution in result["warnings"]):
        print(f"  warning: {caution}")


def evaluate_checkpoint(path: Path, dataset: Dataset, xp: ArrayModule) -> None:
    """Measure the generator of a checkpoint, and write the result beside it, as checkpoint-….evaluation.json.

    path   a checkpoint, or the folder of a run
    A run may train in the folder meanwhile: the file says which epoch it is about. Raises DataError unless the run
    was trained on this data set, CheckpointError if the run was replaced by a different one during the measurement.
    """
    checkpoint, generator = load_run(path, xp)
    path = checkpoint_in(path)
    dataset = trained_on(checkpoint.configuration, dataset)  # else it may have been trained on some of the test images
    facts = {"checkpoint": path.name, "epoch": checkpoint.epoch, "configuration": checkpoint.configuration}
    facts["data"] = {"name": dataset.name, "source": dataset.source}
    evaluation = measure(generator, dataset, SAMPLES)
    if load_checkpoint(path).configuration != checkpoint.configuration:
        raise CheckpointError(f"{path}: a different run replaced it during the measurement: evaluate it again")
    write_json(path.with_suffix(".evaluation.json"), facts | {"evaluation": evaluation})
    tell(evaluation)


# ---- The plain reading


def distinct(images: npt.NDArray[Any], radius: float) -> int:
    """How many images remain. They are taken in order, and an image is removed if it is closer than `radius` (L2) to an
    earlier one that remains."""
    left = np.ones(len(images), bool)
    distances = _distances(images)
    for i in range(len(images)):
        if left[i]:
            left[i + 1 :] &= distances[i, i + 1 :] >= radius
    return int(left.sum())


def _distances(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    x = images.reshape(len(images), -1).astype(np.float64)
    squares = (x * x).sum(axis=1)
    distances: npt.NDArray[Any] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * (x @ x.T), 0))
    return distances


def diversity(samples: Array, data: Array) -> dict[str, Any]:
    """How many of the samples are distinct, and how many of as many held-out data.

    Two images count as one if their distance is below `radius`: 95 % of the data are further than this from their nearest
    neighbour. Of a single image there is no such distance: the radius is 0, and all samples are distinct.
    """
    samples, data = to_host(samples), to_host(data)
    neighbours = _distances(data)
    np.fill_diagonal(neighbours, np.inf)
    radius = float(np.quantile(neighbours.min(axis=1), 0.05)) if len(data) > 1 else 0.0
    return {"distinct_samples": distinct(samples, radius), "distinct_data": distinct(data, radius), "radius": radius}


def read(trainer: Trainer, generator: Generator, dataset: Dataset) -> dict[str, Any]:
    """The `reading` of this training: samples of its generator beside the validation images that choose σ."""
    held_out = pixels(dataset.validation.images[:SIGMA_ROWS])
    return reading(trainer.metrics, evaluation_samples(generator, len(held_out)), held_out, trainer.iterations)


WON = -0.01  # nats
FIRST_LOOK = 1_000  # iterations: before, no V is a verdict
PATIENCE = 5_000  # iterations after which the samples of a generator that learns differ


def verdict(values: Sequence[float], iterations: int, distinct: int, n: int) -> str:
    """In words, how a training stands, from V after each of its epochs so far.

    iterations    of an epoch
    distinct, n   of n samples so many are distinct

    D has won if V > −0.01 nats, as the mean of the last two epochs: the maximum of V is 0, where D is sure and right. This is
    said after 1,000 iterations at the earliest. In the first epoch D is ahead of every G.

    G has collapsed if fewer than one sample in ten is distinct, and D has won or 5,000 iterations were done. Every G begins
    with samples that are alike. So without these two it is too early to tell. It is also too early if V never was further
    than 0.05 from −log 4: D has not learned yet.

    benchmarks/study/reading.py counts how often this was wrong in the committed runs.
    """
    done, last = iterations * len(values), values[-2:]
    if done >= FIRST_LOOK and sum(last) / len(last) > WON:
        words, collapsed = ["D has won: G is stuck"], True
    else:
        words, collapsed = [], done >= PATIENCE and any(abs(value + np.log(4)) >= 0.05 for value in values)
    if distinct < n / 10:
        words.append(f"collapsed to {distinct} distinct sample{'s' * (distinct > 1)}" if collapsed else "too early to tell")
    return " and ".join(words) or "learning"


def reading(metrics: list[dict[str, Any]], samples: Array, data: Array, iterations: int) -> dict[str, Any]:
    """How a run ended, in plain words (see verdict), with the figures that show it.

    samples, data   the same number of each; the data are held out
    iterations      of an epoch

    D(x), D(G(z)) and V are means over the last two epochs.
    """
    figures = diversity(samples, data)
    count = figures["distinct_samples"]
    last = metrics[-2:]
    value, D_x, D_G_z = (sum(row[key] for row in last) / len(last) for key in ("value", "D_x", "D_G_z"))
    words = verdict([row["value"] for row in metrics], iterations, count, len(samples))
    epochs = f"over the last {len(last)} epochs" if len(last) > 1 else "after the only epoch"
    text = (
        f"{words}: {epochs}, D(x) = {D_x:.3f}, D(G(z)) = {D_G_z:.3f}, V = {value:.3f} "
        f"(−1.386 where D cannot tell); {count} of {len(samples)} samples distinct, of as many data "
        f"{figures['distinct_data']}"
    )
    return {"reading": text} | figures


def draw_curves(path: Path, metrics: list[dict[str, Any]], title: str) -> None:
    """V, D(x) and D(G(z)), the two costs, and the validation log-likelihood, by epoch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # Run.start has said so
        return

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
    with write_atomically(path) as file:
        figure.savefig(file, format="png", dpi=80)
