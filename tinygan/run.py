"""The folder of a run, and what a script that trains a GAN needs around its loop: options, settings, metrics, pictures,
checkpoints, resume, the measurement, and a plain sentence on how the run went.

    add_options(parser)
    args = parse(parser, "mnist.py")             # with --resume, the options of the run
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

generators.py reads the generator of any checkpoint, reading.py says how a training stands, figures.py draws its curves,
report makes a page of the run's files.
Their names are here too.
"""

import argparse
import contextlib
import csv
import inspect
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinygan.backend import (
    BACKENDS,
    Array,
    ArrayModule,
    Streams,
    get_array_module,
    pixels,
    random_generator,
    to_host,
    write_atomically,
)
from tinygan.checkpoint import MOST_EPOCHS, load_checkpoint
from tinygan.console import can_draw, prepare_streams, progress_bar
from tinygan.datasets import SUBSET, Dataset, Faces, Split, contrast_pixels, normalise_contrast
from tinygan.errors import ArgumentError, CheckpointError, DataError, DivergenceError, TinyganError
from tinygan.figures import draw_curves
from tinygan.files import LOCK, FolderLock, holds_run, make_folder, nearest_run, read_bytes, runs_in
from tinygan.gan import GAN, PRIORS, VARIANTS, Generator, generate
from tinygan.generators import checkpoint_in, existing_checkpoint, load_run
from tinygan.generators import load_generator as load_generator
from tinygan.losses import GENERATOR_COSTS
from tinygan.parallel import Part, distribute
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate, select_sigma
from tinygan.ranks import one_job, require_alone, world
from tinygan.reading import FIRST_LOOK as FIRST_LOOK
from tinygan.reading import PATIENCE as PATIENCE
from tinygan.reading import WON as WON
from tinygan.reading import distinct as distinct
from tinygan.reading import diversity as diversity
from tinygan.reading import reading
from tinygan.reading import verdict as verdict
from tinygan.report import write_report
from tinygan.training import Model, Trainer

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
BINS = 20  # of the histograms of D(x) and D(G(z))
NEIGHBOURS = 6, 10  # rows and columns of neighbours.png

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
    "enlarge",
    "evaluate",
    "script",  # parse compares it
    "recipe",  # the defaults, for run.json to say what departs from them
    "first_stage",  # of examples/tfd.py: its checkpoints say when their stage began
)
# Of these, a resume takes from run.json what is not given.
KEPT = tuple(name for name in FREE if name not in ("epochs", "out", "resume", "overwrite", "evaluate", "recipe"))

Prepare: TypeAlias = Callable[[Array, ArrayModule, npt.DTypeLike], Array]
"""What makes a Trainer's floats of stored rows: pixels, or normalise_contrast."""

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
    either("--resume", action="store_true", help="resume the run in --out, or the only one under runs/, with its own options")
    either("--overwrite", action="store_true", help="start a new run in --out, and delete the run it holds")
    add("--picture-every", type=positive, metavar="N", help="epochs between pictures (default: about 500 iterations)")
    add("--checkpoint-every", type=positive, metavar="N", help="epochs between checkpoints (default: as for pictures)")
    add("--evaluate-every", type=positive, metavar="N", help="epochs between evaluations (default: about 1000 iterations)")
    add("--keep-checkpoints", type=positive, metavar="N", help="keep every N-th epoch's checkpoint, as checkpoint-0100.npz")
    add("--enlarge", "--scale", type=positive, default=1, metavar="N", help="enlarge pictures N times (default: %(default)s)")
    add("--smoke", action="store_true", help="run everything once, in seconds: few images, two epochs, no download")
    parser.set_defaults(**defaults, recipe=defaults)


def parse(parser: argparse.ArgumentParser, script: str | None = None) -> argparse.Namespace:
    """The options on the command line. With --resume, those that are not given are the run's own.

    script   a name for the script, such as "mnist.py". run.json keeps it, and no script of a different name resumes the run.

    Without --out, --resume takes the only run under runs/. The run's own options are in its checkpoint, and in run.json.
    Raises CheckpointError for an option that contradicts the run's, for a run of a different script, and for a folder that
    holds no run.
    """
    args = parser.parse_args()
    if not args.resume:
        args.script = script
        return args
    folder = folder_to_resume(args.out)
    known = options_of(folder) if holds_run(folder) else {}  # in an empty folder a run starts
    its = known.pop("script", None)  # an older run does not know it
    if script and isinstance(its, str) and its != script:
        raise CheckpointError(f"{folder}: this is a run of {its:.100}, not of {script}: resume it with {its:.100}")
    own = {name: value for name, value in known.items() if name in vars(args)}
    words = [f"--{name.replace('_', '-')}" + f"={value}" * (value is not True) for name, value in own.items() if value]
    parser.parse_known_args([*words, *sys.argv[1:]])  # so what is in run.json is checked as if it were given
    parser.set_defaults(**own)
    args = parser.parse_args()
    args.out, args.script = folder, script
    contradictions = [
        f"{name} is {value} in the run, {getattr(args, name)} now"
        for name, value in own.items()
        if (name == "smoke" or name not in (*FREE, "backend")) and (getattr(args, name) or None) != (value or None)
    ]
    if contradictions:
        raise CheckpointError(f"{folder}: {'; '.join(contradictions)}: leave these options out, or start a new run with --out")
    return args


def options_of(path: Path) -> dict[str, Any]:
    """The options of a run, by name. Its checkpoint knows those that decide numbers, run.json all.

    path   the run's folder, or a checkpoint in it
    """
    facts, _ = read_facts((path if path.is_dir() else path.parent) / "run.json")
    checkpoint, settings = checkpoint_in(path), facts["configuration"]
    if checkpoint.exists():
        settings = load_checkpoint(checkpoint).configuration
    data = str(settings.get("data"))
    options = {name: value for name, value in settings.items() if name not in FREE} | {"smoke": data.endswith(SMOKE)}
    # The run.json of a finished run whose checkpoint is gone may be of a run that was being overwritten: it says less.
    kept = KEPT if checkpoint.exists() or not facts["results"] else ("data",)
    options |= {name: value for name, value in facts["options"].items() if name in kept}
    if not options.get("data") and data.removesuffix(SMOKE) == SUBSET:  # MNIST may be there by now
        options["data"] = SUBSET
    return options


def data_of(path: Path) -> str | None:
    """What --data has to be for the data of a run: what the run was given, or SUBSET; None where it was given nothing.

    path   the run's folder, or a checkpoint in it. Raises CheckpointError, which names the nearest run, if there is none
    """
    existing_checkpoint(path)
    found = options_of(path).get("data")
    return found if isinstance(found, str) else None


def folder_to_resume(out: Path | None) -> Path:
    """`out`, or the only run under runs/. Raises CheckpointError, which names the nearest run, if this holds no run.

    An empty folder is one where a run may start.
    """
    if out is None:
        found = runs_in(Path("runs"))
        if len(found) == 1:
            return found[0]
        there = f"there are {len(found)} under runs/, the latest is {found[0]}" if found else "there is none under runs/"
        raise CheckpointError(f"--resume needs --out, the folder of the run to resume: {there}")
    if holds_run(out) or out.is_file() or (out.is_dir() and {path.name for path in out.iterdir()} <= {LOCK}):
        return out
    what = "it holds no run" if out.exists() else "there is no such folder"
    raise CheckpointError(
        f"--out {out}: {what}; {nearest_run(out)}: name the folder of a run, or leave --resume out to start a new one"
    )


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


class Stopped(KeyboardInterrupt):
    """Ctrl-C in a run that has said how to resume it."""


def main(program: Callable[[], None]) -> None:
    """Run a script's program. An error that its user can fix ends it with one line instead of a traceback.

    Its words can be printed in any encoding. If the reader of its output goes away, as in `… | head -1`, the program runs
    to its end. Exit code 0 if all is well, 1 after an error, 130 after Ctrl-C, 141 if a reader has gone away.
    Of several ranks, the first one speaks for all: see ranks.one_job.
    """
    streams = prepare_streams()
    try:
        with one_job():
            program()
        sys.stdout.flush()
    except (TinyganError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interrupt:
        if not isinstance(interrupt, Stopped):
            print("\ninterrupted", file=sys.stderr)
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
    """Make the folder `out`, or a new one under runs/, and print its name. An example without checkpoints needs no more.

    Raises ArgumentError if mpiexec has started several processes.
    """
    require_alone(f"the example {name}")
    folder, _ = claim_folder(name, out)
    print(f"run: {folder}", file=sys.stderr)
    return folder


def read_facts(path: Path) -> tuple[dict[str, Any], str]:
    """What a resumed run takes from its run.json: `epochs`, `commits`, `results`, and the options in `configuration` and
    `options`. What is missing or damaged is left out, and the second value says so in words; it is empty if nothing is lost.

    Raises CheckpointError if the path is no file, or may not be read.
    """
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
    for name in "configuration", "options":
        found = content.get(name)
        sound[name] = {key: value for key, value in found.items() if _is_plain(value)} if isinstance(found, dict) else {}
    sound["results"] = results if isinstance(results, dict) and type(results.get("epochs")) is int else {}
    lost = ["the number of epochs"] if sound["epochs"] is None else []
    if fault or not all(isinstance(commit, str | None) for commit in commits):
        lost.append("the commits of earlier epochs")
    if fault or not isinstance(results, dict):
        lost.append("the results")
    words = f"{path}: {fault or 'a field is missing, or of a wrong kind'}. Lost: {', '.join(lost)}"
    return sound, words if lost else ""


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


class Run:
    """The folder of a run, and all that is written into it:

    checkpoint.npz    all that a resume needs
    metrics.csv       a line for each epoch, with these `columns`
    run.json          settings, data, environment; at the end, results, or how the run diverged
    samples/          epoch-0000.png …, G(z) of the same z; the first has images of the data on its left
    samples.gif       all of them, at the end, without the data
    curves.png        the columns of metrics.csv, and a row of the latest samples; written with each picture
    report.json       at each picture: histograms of D(x) and D(G(z)), how many samples are distinct, the verdict
    neighbours.png    at the end: samples, and the training images nearest to some of them
    report.html       at the end: a page that shows all of this; python -m tinygan report writes it at any time
    run.lock          while the run lasts, who holds the folder: no second process writes into it

    Of several ranks (see parallel.py) rank 0 holds the folder and writes; the others only read its checkpoint on a resume.
    """

    def __init__(self, name: str, args: argparse.Namespace, columns: tuple[str, ...] = COLUMNS) -> None:
        self.args, self.columns, self.started, self.started_training = args, columns, time.perf_counter(), False
        self.ranks = world()
        self.lock: FolderLock | None = None
        if self.ranks is None or self.ranks.rank == 0:
            self.folder, made = claim_folder(name, folder_to_resume(args.out) if args.resume else args.out)
            self.lock = FolderLock(self.folder, made)
        try:
            self._open(args)
        except BaseException:
            self._release()
            raise

    def _open(self, args: argparse.Namespace) -> None:
        if self.ranks is not None:
            self.folder = self.ranks.share(self.folder if self.lock else None)
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
        self.scale, self.asked = getattr(args, "enlarge", 1), args.epochs  # as given: a script sets its default later
        self.options = {name: getattr(args, name, None) for name in KEPT if name != "first_stage" or name in args}
        if args.data and os.path.exists(args.data):  # a resume may start in a different folder
            self.options["data"] = os.path.abspath(args.data)
        self.timing: dict[int, tuple[str, ...]] = {}
        self.bar: Any = None
        self.row: Array | None = None
        self.of_data: dict[str, Any] | None = None
        self.report: Path | None = None
        print(f"run: {self.folder}", file=sys.stderr)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        try:
            self._leave(kind, error)
        finally:
            self._release()

    def _release(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def _leave(self, kind: type[BaseException] | None, error: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if kind is None:
            print(f"report: {self.report}" if self.report else f"run: {self.folder}", file=sys.stderr)
        elif self.started_training and issubclass(kind, DivergenceError):
            self.facts["diverged"] = str(error)
            self._write_facts()
        elif self.started_training and issubclass(kind, KeyboardInterrupt | OSError | CheckpointError):
            started = ["mpiexec", "-n", str(self.ranks.size)] if self.ranks else []
            command = shlex.join([*started, "python", sys.argv[0], "--out", str(self.folder), "--resume"])
            words = f"there is no checkpoint yet. Start again with\n  {command}"
            if self.checkpoint.exists():
                words = f"the last checkpoint is kept. Resume with\n  {command}"
            elif not holds_run(self.folder):
                words = "its folder is gone"
            print(f"\nstopped; {words}", file=sys.stderr)
            if issubclass(kind, KeyboardInterrupt):
                raise Stopped from None

    def start(self, trainer: Trainer, dataset: Dataset) -> None:
        """Restore the trainer if this run resumes. Remove temporary files; if the run is new, all files of an earlier one."""
        self.trainer, self.dataset = trainer, dataset
        settings = {key: value for key, value in sorted(vars(self.args).items()) if key not in FREE}
        settings |= {"backend": trainer.xp.__name__} | getattr(trainer.model, "settings", {})
        sizes = {name: len(getattr(dataset, name)) for name in ("train", "validation", "test")}
        # Given by the data. Older checkpoints do not have them.
        of_data = {"image_shape": list(dataset.image_shape), "data_digest": dataset.digest}
        self.configuration = settings | {"data": dataset.name} | sizes | of_data
        stale = ["checkpoint*.tmp", "metrics.csv*.tmp", "run.json*.tmp", "*.gif*.tmp", "*.png*.tmp", "samples/epoch-*.tmp"]
        stale += ["report.*.tmp"]
        if self.resumes:
            self._require_same_settings(trainer.restore(self.checkpoint).configuration, of_data)
            epochs = [row.get("epoch") for row in trainer.metrics]
            if epochs != list(range(1, trainer.epoch + 1)):
                raise CheckpointError(
                    f"{self.checkpoint}: after epoch {trainer.epoch} it has the metrics of {len(epochs)} epochs, "
                    f"{str(epochs):.100}: take a different checkpoint, or start a new run"
                )
            if (self.asked or trainer.epoch) < trainer.epoch:
                done = f"--epochs {self.asked}: the run has {trainer.epoch} epochs already"
                raise CheckpointError(f"{self.folder}: {done}: leave --epochs out, or give more")
            print(f"resumed after epoch {trainer.epoch}", file=sys.stderr)
            self._read_timing()
        else:  # the checkpoint first: whenever this process is killed, a resume never takes the old run for the new one
            stale = ["checkpoint.npz", "run.json", *stale, "checkpoint*.npz", "checkpoint*.evaluation.json", "metrics.csv"]
            stale += ["curves.png", "samples.gif", "samples/epoch-*.png", "annealing-*.npz"]
            stale += ["report.json", "report.html", "neighbours.png"]
            stale += ["samples.npy", "samples.png", "nearest.png", "interpolation.png"]  # of examples/sample.py
        if self.ranks is not None:  # all have read the folder when they get here, so rank 0 may write
            self.ranks.require_same({"the settings": json.dumps([self.configuration, self.args.epochs, trainer.epoch])})
            distribute(trainer, self.ranks)
        if self.lock is not None:
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
            "options": self.options,
            "every": self.every,
            "configuration": self.configuration,
            **self._recipe(),
            "environment": environment(trainer.xp) | {"ranks": self.ranks.size if self.ranks else 1},
        }
        # The commits of tinygan at which earlier epochs of the run were trained.
        before = self.earlier if self.resumes else {"commits": [], "results": {}}
        present = self.facts["environment"]["commit"]
        self.facts["earlier_commits"] = [commit for commit in dict.fromkeys(before["commits"]) if commit != present]
        if before["results"].get("epochs") == trainer.epoch == self.args.epochs:  # valid until the new measurement
            self.facts["results"] = before["results"]
        self._write_facts()
        self.looks = self._read_looks()
        self.started_training = True
        can_draw("curves.png is")
        if trainer.epoch < self.args.epochs:
            self.bar = progress_bar(self.args.epochs * trainer.iterations, trainer.epoch * trainer.iterations)

    def _recipe(self) -> dict[str, Any]:
        """The recipe's values where the run has its own, and the options that repeat the run."""
        recipe, given = dict(getattr(self.args, "recipe", {})), vars(self.args) | {"backend": self.configuration["backend"]}
        if recipe.get("generator_cost", "") is None:  # the variant's own
            recipe["generator_cost"] = inspect.signature(VARIANTS[given["variant"]]).parameters["generator_cost"].default
            given["generator_cost"] = self.configuration["generator_cost"]
        own = {name: value for name, value in given.items() if name not in FREE and value != recipe.get(name)}
        repeat = {name: given[name] for name in ("model", "seed") if name in given} | own
        repeat |= {name: value for name, value in self.options.items() if value and name != "script"}
        if repeat.get("enlarge") == 1:
            del repeat["enlarge"]
        if self.configuration["data"].removesuffix(SMOKE) == SUBSET:  # MNIST may be there by then
            repeat["data"] = repeat.get("data", SUBSET)
        repeat["epochs"] = self.args.epochs
        departures = {name: recipe[name] for name in own if name in recipe and name != "seed"}
        return {
            "departures": {name: value for name, value in departures.items() if _is_plain(value)},
            "repeat": {name: value for name, value in repeat.items() if value is not None and _is_plain(value)},
        }

    def _write_facts(self) -> None:
        if self.lock is not None:
            write_json(self.folder / "run.json", self.facts)

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

    def save_picture(self, picture: Array, real: Array | None = None) -> None:
        """Write the picture of this epoch's samples.

        real  a picture of the data: it is drawn on the left, the samples on the right
        """
        from tinygan.images import beside, enlarge, save_png  # not at the top: Pillow is slow to import

        if self.lock is None:
            return
        self.row = self._first_row(picture)
        if real is not None:
            picture = beside(real, picture)
        save_png(self.samples / f"epoch-{self.trainer.epoch:04d}.png", enlarge(picture, self.scale))
        self._look()

    def _first_row(self, picture: Array, scale: int = 1) -> Array:
        from tinygan.images import GAP

        return picture[: scale * (self.configuration["image_shape"][0] + 2 * GAP)]

    def _game(self) -> Model:
        """The model itself, where each of several ranks computes a part of it."""
        model = self.trainer.model
        return model.model if isinstance(model, Part) else model

    def _look(self) -> None:
        """Write into report.json how D judges the held-out data and the samples of this epoch, and how the training stands.

        Both are those of GAN.report: D_x and D_G_z of metrics.csv are the means of these histograms. A model that is no GAN
        is not looked at.
        """
        gan, held_out = self._game(), self.trainer.held_out.x
        if not isinstance(gan, GAN):
            return
        z = gan.noise(Streams(self.trainer.seed, 0, gan.G.xp)["report"], len(held_out), gan.G.dtype)
        fake = gan.G(z)
        samples, data = to_host(fake), to_host(held_out)
        if self.of_data is None:
            self.of_data = diversity(samples, data)
        n = distinct(samples, self.of_data["radius"])
        values = [row["value"] for row in self.trainer.metrics]
        look = {"D_x": histogram(gan.D(held_out)), "D_G_z": histogram(gan.D(fake)), "distinct": n}
        if values:
            look["verdict"] = verdict(values, self.trainer.iterations, n, len(samples))
        self.looks[str(self.trainer.epoch)] = look
        facts = {"rows": len(samples), "distinct_data": self.of_data["distinct_data"], "epochs": self.looks}
        write_text(self.folder / "report.json", json.dumps(facts) + "\n")

    def _read_looks(self) -> dict[str, Any]:
        """What report.json says of the epochs until now. If it is lost or damaged, nothing."""
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
            looks = json.loads(read_bytes(self.folder / "report.json", MOST_BYTES))["epochs"]
            return {epoch: look for epoch, look in looks.items() if int(epoch) <= self.trainer.epoch}
        return {}

    def _save_neighbours(self) -> None:
        """Write neighbours.png, as Figure 2: samples, and in the last column the training images nearest to their left."""
        from tinygan.images import enlarge, neighbour_grid, save_png

        gan, prepare = self._game(), self.trainer.prepare
        shown = {pixels: lambda x: x, normalise_contrast: contrast_pixels}.get(prepare)  # floats as pictures show them
        if shown is None or not isinstance(gan, GAN):
            return
        images, (rows, columns) = self.dataset.train.images, NEIGHBOURS
        if prepare is not pixels:  # some rows at a time, to save memory
            blocks = [images[first : first + SIGMA_ROWS] for first in range(0, len(images), SIGMA_ROWS)]
            images = np.concatenate([shown(prepare(block, np, np.float32)) for block in blocks])
        rng = random_generator(gan.G.xp, 0, "nearest")  # those of examples/sample.py --nearest
        samples = shown(to_host(gan.sample(rows * (columns - 1), rng)))
        try:
            grid = neighbour_grid(samples, images, self.dataset.image_shape, columns)
        except ArgumentError as error:  # a game of one's own may have values that no picture shows
            return print(f"neighbours.png is not drawn: {error}", file=sys.stderr)
        save_png(self.folder / "neighbours.png", enlarge(grid, self.scale))

    def record(self, row: dict[str, Any]) -> None:
        """Write this epoch's line of metrics.csv, and the checkpoints that are due."""
        trainer = self.trainer
        if self.lock is None:
            return
        with open(self.folder / "metrics.csv", "a", encoding="utf-8") as file:
            file.write(self._line(row))
        shown = [f"{name} {row[key]:.3f}" for key, name in (("D_x", "D(x)"), ("D_G_z", "D(G(z))")) if key in row]
        self.bar.set_postfix_str(", ".join([f"epoch {trainer.epoch}", *shown]))
        keep = self.args.keep_checkpoints
        if keep and trainer.epoch % keep == 0:
            self.keep_checkpoint()
        if self.due("checkpoint"):
            trainer.save(self.checkpoint, self.configuration)
        if trainer.epoch == self.args.epochs:
            self.bar.close()  # the measurement that follows is not training
        elif self.due("picture"):
            title = f"{self.folder.name}, epoch {trainer.epoch} of {self.args.epochs}"
            draw_curves(self.folder / "curves.png", trainer.metrics, title, self.row)

    def keep_checkpoint(self) -> None:
        """Write a checkpoint of this epoch that later ones do not replace."""
        if self.lock is not None:
            self.trainer.save(self.folder / f"checkpoint-{self.trainer.epoch:04d}.npz", self.configuration)

    def finish(self, title: str, results: dict[str, Any]) -> None:
        """Write the results, time and memory into run.json, then the pictures: these can be drawn again, results cannot."""
        from tinygan.images import save_gif, scale_of

        if self.lock is None:
            return
        self.facts["results"] = results | {
            "epochs": self.trainer.epoch,
            "iterations": self.trainer.epoch * self.trainer.iterations,
            "seconds_of_epochs": round(sum(float(seconds) for _, seconds in self.timing.values()), 1),
            "seconds_of_this_process": round(time.perf_counter() - self.started, 1),
            "peak_memory_mb": peak_memory(),
        }
        self._write_facts()
        frames = sorted(self.samples.glob("epoch-*.png"))
        if frames:
            pictures = [read_png(path) for path in frames]
            # Its own scale: a run that has all its epochs draws no picture with a new one.
            self.row = self._first_row(pictures[-1], scale_of(pictures[-1], self.configuration["image_shape"]))
            pictures = [picture[:, -pictures[-1].shape[1] :] for picture in pictures]  # without the data on the left
            # An older version of tinygan may have drawn the first pictures with a different margin.
            pictures = [picture for picture in pictures if picture.shape == pictures[-1].shape]
            pictures = pictures[:: -(-len(pictures) // FRAMES)] + pictures[-1:] * 5  # the last one stays for a while
            save_gif(self.folder / "samples.gif", pictures)
        draw_curves(self.folder / "curves.png", self.trainer.metrics, title, self.row)
        self._save_neighbours()
        write_report([self.folder], self.folder / "report.html")
        self.report = self.folder / "report.html"


def histogram(a: Array) -> list[int]:
    """How many of the logits a have D = σ(a) in each of BINS equal parts of [0, 1]."""
    with np.errstate(over="ignore"):  # e^∞: σ is 0
        D = 1 / (1 + np.exp(-to_host(a).ravel().astype(np.float64)))
    counts: list[int] = np.histogram(D, BINS, (0, 1))[0].tolist()
    return counts


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


# ---- The run's data


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


def validation_log_likelihood(generator: Generator, dataset: Dataset, n: int, prepare: Prepare = pixels) -> float:
    """The mean log-likelihood of the validation images that choose σ, with the best σ of the authors' grid, in nats.

    prepare  as the Trainer's. The density is one of prepared rows, so nats of different `prepare` cannot be compared.
    """
    G = generator.network
    validation = prepare(dataset.validation.images[:SIGMA_ROWS], G.xp, G.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)  # the measurement at the end repeats them
        _, means = select_sigma(evaluation_samples(generator, n), validation, AUTHORS_SIGMAS, world())
    return float(means.max())


def measure(generator: Generator, dataset: Dataset, n: int, prepare: Prepare = pixels) -> dict[str, Any]:
    """Return Table 1's measure, with the authors' grid of σ and with a fine one. This reads the test set.

    If the data set has folds, the measure is of each of them (see measure_folds).
    prepare  as for validation_log_likelihood
    """
    G = generator.network
    samples = evaluation_samples(generator, n)
    if isinstance(dataset, Faces):
        return measure_folds(samples, dataset, prepare)
    validation, test = (prepare(split.images, G.xp, G.dtype) for split in (dataset.validation, dataset.test))
    results = {}
    for grid, sigmas in ("authors", AUTHORS_SIGMAS), ("fine", FINE_SIGMAS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            result = evaluate(samples, validation[:SIGMA_ROWS], test, sigmas, world())
        results[grid] = result.as_dict() | {"warnings": [str(warning.message) for warning in caught]}
    return results


def measure_folds(samples: Array, dataset: Faces, prepare: Prepare = pixels) -> dict[str, Any]:
    """Table 1's measure of TFD: the mean over the folds of each fold's log-likelihood, and its standard error, in nats.

    In each fold the whole validation set chooses σ, and log p is averaged over the whole test set: ℓ₁ … ℓₙ.
    The mean is ℓ̄ = Σ ℓᵢ/n, its standard error s/√n with s² = Σ (ℓᵢ − ℓ̄)²/(n − 1), n = 5. The paper does not give a formula.

    samples  (n, 2304), rows like prepared ones. Returns the figures by the authors' grid of σ and by the fine one.
    prepare  as for validation_log_likelihood
    """
    results = {}
    xp = get_array_module(samples)
    for grid, sigmas in ("authors", AUTHORS_SIGMAS), ("fine", FINE_SIGMAS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            folds = []
            for fold in dataset.folds:
                validation, test = (prepare(split.images, xp, samples.dtype) for split in fold)
                folds.append(evaluate(samples, validation, test, sigmas, world()))
        scores = np.array([fold.log_likelihood for fold in folds])
        results[grid] = {
            "log_likelihood": float(scores.mean()),
            "standard_error": float(scores.std(ddof=1)) / len(scores) ** 0.5,
            "samples": len(samples),
            "folds": [fold.as_dict() for fold in folds],
            "warnings": list(dict.fromkeys(str(warning.message) for warning in caught)),
        }
    return results


def tell(evaluation: dict[str, Any]) -> None:
    """Print what `measure` returned, each warning once. Call it when the results are written: words can get lost."""
    for grid, result in evaluation.items():
        words = "the authors' grid" if grid == "authors" else f"the {grid} grid"
        score = f"test log-likelihood: {result['log_likelihood']:.1f} ± {result['standard_error']:.1f} nats"
        window = f"Parzen window of {result['samples']:,} samples"
        if "folds" in result:
            print(f"{score} ({window}, mean ± standard error of {len(result['folds'])} folds, σ of {words})")
            print("  fold   validation      test   σ      validation and test images")
            for i, fold in enumerate(result["folds"]):
                best = f"{max(fold['validation_log_likelihoods']):10.1f}  {fold['log_likelihood']:8.1f}   {fold['sigma']:.3f}"
                print(f"  {i:4}   {best}  {fold['validation_rows']:,} and {fold['test_rows']:,}")
        else:
            print(f"{score} ({window}, σ = {result['sigma']:.3f} of {words}, {result['test_rows']:,} test images)")
    for caution in dict.fromkeys(caution for result in evaluation.values() for caution in result["warnings"]):
        print(f"  warning: {caution}")


def evaluate_checkpoint(path: Path, dataset: Dataset, xp: ArrayModule, prepare: Prepare = pixels) -> None:
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
    evaluation = measure(generator, dataset, SAMPLES, prepare)
    if load_checkpoint(path).configuration != checkpoint.configuration:
        raise CheckpointError(f"{path}: a different run replaced it during the measurement: evaluate it again")
    ranks = world()
    if ranks is None or ranks.rank == 0:
        write_json(path.with_suffix(".evaluation.json"), facts | {"evaluation": evaluation})
    tell(evaluation)


# ---- The plain reading


def read(trainer: Trainer, generator: Generator, dataset: Dataset) -> dict[str, Any]:
    """The `reading` of this training: samples of its generator beside the validation images that choose σ."""
    held_out = trainer.prepare(dataset.validation.images[:SIGMA_ROWS], np, np.float32)
    return reading(trainer.metrics, evaluation_samples(generator, len(held_out)), held_out, trainer.iterations)
