"""What stands beside the checkpoint may be damaged in any way: a run resumes from it, or says which file is wrong."""

import json
import math
import os

import mnist
import numpy as np
import pytest
from helpers import forge, idx, refused, rows

import tinygan.backend
import tinygan.run
from tinygan import CheckpointError, DataError, load_checkpoint, load_mnist, save_checkpoint
from tinygan.run import COLUMNS, TIMING

pytestmark = pytest.mark.slow  # mostly processes of their own

DEEP = 100_000

# ---- run.json


def nested(depth):
    return '{"a": ' * depth + "1" + "}" * depth


def facts(**changes):
    """The text of a sound run.json of two epochs, with these fields in the place of its own."""
    sound = {
        "data": {"name": "idx-tiny0", "source": "a folder", "train": 60, "validation": 12, "test": 10},
        "epochs": 2,
        "every": {"picture": 1, "checkpoint": 1, "evaluation": 2},
        "configuration": {},
        "environment": {"commit": "first"},
        "earlier_commits": ["zeroth"],
        "results": {"epochs": 2, "evaluation": {}},
    }
    return json.dumps({name: value for name, value in (sound | changes).items() if value is not ...})


RUN_JSON = {  # the text, and what of it is lost: the epochs, the commits, the results
    "lost": (None, "epochs"),
    "empty": ("", "epochs"),
    "blank": (" \n", "epochs"),
    "zeros": ("\0" * 4096, "epochs"),
    "half of it": (facts()[:100], "epochs"),
    "not UTF-8": (b"\xff\xfe{}", "epochs"),
    "null": ("null", "epochs"),
    "a list": ("[1, 2]", "epochs"),
    "a string": ('"epochs"', "epochs"),
    "a number": ("3", "epochs"),
    "no fields": ("{}", "epochs"),
    "nested deeply": (nested(DEEP), "epochs"),
    "nested deeply in a field": (facts(results=...)[:-1] + ', "results": ' + nested(DEEP) + "}", "epochs"),
    "an integer without end": (facts()[:-1] + ', "x": ' + "9" * 5000 + "}", "epochs"),
    "NaN": (facts(results={"epochs": 2, "value": math.nan}), "epochs"),
    "infinity by overflow": (facts()[:-1] + ', "x": 1e999}', "epochs"),
    "a surrogate": (facts(earlier_commits=["\ud800"], results={"epochs": 2, "note": "\udcff"}), ""),
    "epochs null": (facts(epochs=None), "epochs"),
    "epochs missing": (facts(epochs=...), "epochs"),
    "epochs a string": (facts(epochs="2"), "epochs"),
    "epochs a list": (facts(epochs=[2]), "epochs"),
    "epochs a float": (facts(epochs=2.5), "epochs"),
    "epochs true": (facts(epochs=True), "epochs"),
    "epochs 0": (facts(epochs=0), "epochs"),
    "epochs −5": (facts(epochs=-5), "epochs"),
    "epochs 10⁴⁰⁰": (facts(epochs=10**400), "epochs"),
    "epochs 10¹²": (facts(epochs=10**12), "epochs"),
    "environment null": (facts(environment=None), "commit"),
    "environment a list": (facts(environment=[1]), "commit"),
    "environment a string": (facts(environment="first"), "commit"),
    "commit a dict": (facts(environment={"commit": {}}), "commit"),
    "commit a list": (facts(environment={"commit": ["first"]}), "commit"),
    "commits null": (facts(earlier_commits=None), "commit"),
    "commits a number": (facts(earlier_commits=7), "commit"),
    "commits of dicts": (facts(earlier_commits=[{}, 1, None]), "commit"),
    "results null": (facts(results=None), "results"),
    "results a list": (facts(results=[2]), "results"),
    "results a string": (facts(results="good"), "results"),
    "results of 10⁴⁰⁰ epochs": (facts(results={"epochs": 10**400}), ""),
    "results of true epochs": (facts(results={"epochs": True}), ""),
    "data null": (facts(data=None), ""),
    "configuration a list": (facts(configuration=[]), ""),
    "every null": (facts(every=None), ""),
}


def put(path, content):
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def strict_json(path):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def quick(monkeypatch):
    """No measurement, no git, no film: what a run reads is the same without them."""
    monkeypatch.setattr(tinygan.run, "measure", lambda *_: {})
    monkeypatch.setattr(tinygan.run, "environment", lambda _: {"commit": None})
    monkeypatch.setattr(tinygan.run, "read_png", lambda _: np.zeros((2, 2)))
    monkeypatch.setattr(tinygan.run, "validation_log_likelihood", lambda *_: -1.0)


@pytest.fixture
def resumable(run, quick, monkeypatch, capsys):
    """A run of two epochs; by default it would have three. resumable(name, content) replaces a file of it, and resumes."""
    folder = run("a", "--epochs", 2)
    monkeypatch.setattr(mnist, "EPOCHS", 3)
    capsys.readouterr()

    def resume(name, content, *arguments):
        put(folder / name, content)
        run("a", "--resume", *arguments)
        return folder, [line for line in capsys.readouterr().err.splitlines() if str(folder / name) in line]

    return resume


@pytest.mark.parametrize("what", RUN_JSON)
def test_of_run_json_what_is_sound_is_taken_and_the_rest_is_said_to_be_lost(tmp_path, what):
    content, lost = RUN_JSON[what]
    put(tmp_path / "run.json", content)
    facts, words = tinygan.run.read_facts(tmp_path / "run.json")
    assert bool(words) == bool(lost)
    assert lost in words
    assert facts["epochs"] == (None if lost == "epochs" else 2)
    assert all(isinstance(commit, str) for commit in facts["commits"])


QUICK = ["lost", "nested deeply", "a surrogate", "epochs a string", "epochs 10⁴⁰⁰", "environment null", "results a list"]


@pytest.mark.parametrize("what", [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in RUN_JSON])
def test_whatever_run_json_holds_the_run_resumes_and_one_line_says_what_is_lost(resumable, what):
    content, lost = RUN_JSON[what]
    folder, lines = resumable("run.json", content)
    assert len(lines) == bool(lost)
    assert all(lost in line for line in lines)
    facts = strict_json(folder / "run.json")
    assert load_checkpoint(folder / "checkpoint.npz").epoch == facts["epochs"] == (3 if lost == "epochs" else 2)
    assert facts["results"]["epochs"] == facts["epochs"]
    if not lost:
        before = json.loads(content)
        assert facts["earlier_commits"] == [*before["earlier_commits"], before["environment"]["commit"]]


def test_where_the_epochs_are_given_they_are_not_lost(resumable):
    _, (line,) = resumable("run.json", None, "--epochs", 2)
    assert "--epochs" not in line


# ---- metrics.csv

HEADER = ",".join(COLUMNS + TIMING)


def line(epoch, rate, seconds):
    return f"{epoch}{',' * (len(COLUMNS) - 1)},{rate},{seconds}"


METRICS_CSV = {  # the lines after the header, and how many timings are lost
    "sound": ([line(1, 100, 0.5), line(2, 120, 0.4)], 0),
    "two lines of one epoch": ([line(1, 100, 0.5), line(2, 1, 1), line(2, 120, 0.4)], 0),
    "abc": ([line(1, 100, "abc"), line(2, 120, 0.4)], 1),
    "nan": ([line(1, 100, "nan"), line(2, 120, "NaN")], 2),
    "inf": ([line(1, 100, "inf"), line(2, 120, "-Infinity")], 2),
    "overflow": ([line(1, 100, "1e999"), line(2, 120, "9" * 400)], 2),
    "negative": ([line(1, 100, -0.5), line(2, -120, 0.4)], 2),
    "other digits": ([line(1, 100, "٣.٥"), line("²", 120, 0.4)], 2),
    "an underscore and spaces": ([line(1, 100, "1_0"), line(2, 120, " 1 ")], 2),
    "no epoch": ([line("", 100, 0.5), line("x", 120, 0.4)], 2),
    "other epochs": ([line(-1, 100, 0.5), line(10**400, 120, 0.4), line(2.5, 100, 0.5)], 2),
    "too few fields": (["1,2", "2"], 2),
    "too many fields": ([line(1, 100, 0.5) + ",7,8", line(2, 120, 0.4)], 0),
    "zeros": (["\0" * 4096], 2),
    "a field without end": (['"' + "x" * 200_000], 2),
    "half a line": ([line(1, 100, 0.5), line(2, 120, 0.4)[:-7]], 1),
}


@pytest.mark.parametrize("what", METRICS_CSV)
def test_whatever_the_timing_is_the_run_resumes_and_run_json_is_json(resumable, what):
    lines, lost = METRICS_CSV[what]
    folder, said = resumable("metrics.csv", "\n".join([HEADER, *lines]) + "\n", "--epochs", 2)
    assert len(said) == bool(lost)
    assert all(f"{lost} of 2 epochs" in words for words in said)
    timing = [row[-1] for row in rows(folder)[1:]]
    assert timing.count("") == lost
    assert {*timing} <= {"", "0.5", "0.4"}
    assert math.isfinite(strict_json(folder / "run.json")["results"]["seconds_of_epochs"])


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe,\n", "epoch\n1\n", HEADER])
def test_a_lost_or_damaged_metrics_csv_is_rebuilt_with_a_line_that_says_so(resumable, content):
    folder, (words,) = resumable("metrics.csv", content, "--epochs", 2)
    assert "2 of 2 epochs" in words
    assert [row[0] for row in rows(folder)] == ["epoch", "1", "2"]


# ---- What is no file


@pytest.mark.parametrize("name", ["run.json", "metrics.csv", "checkpoint.npz"])
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: path.mkdir(), "folder"),
        (os.mkfifo, "pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: os.truncate(os.open(path, os.O_WRONLY | os.O_CREAT), 2**40), "1099511627776"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_what_is_no_file_and_what_is_absurdly_large_is_refused_by_name(run, name, make, word):
    folder = run("a", "--epochs", 1)
    (folder / name).unlink()
    make(folder / name)
    with refused(folder / name, "damaged" if "npz" in name and word[0] == "1" else word, error=CheckpointError):
        run("a", "--epochs", 2, "--resume")


# ---- A checkpoint whose digest is right


def test_metrics_of_other_epochs_are_refused_where_the_run_resumes(run):
    folder = run("a", "--epochs", 2)
    it = load_checkpoint(folder / "checkpoint.npz")
    for metrics in [], it.metrics[:1], it.metrics[::-1], [{"value": 1.0}] * 2:
        fields = {name: value for name, value in vars(it).items() if name != "vectors"} | {"metrics": metrics}
        forge(folder / "checkpoint.npz", it.vectors, {"format": 2} | fields)
        with refused(folder / "checkpoint.npz", f"{len(metrics)} epochs", error=CheckpointError):
            run("a", "--epochs", 3, "--resume")


# ---- The data are what they hold, not what their folder is called


def write_data(folder, seed):
    """A set of one size and, but for the seed, of any content, in a folder called raw."""
    folder, rng = folder / "raw", np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name, n in ("train", 72), ("t10k", 10):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (n, 6, 6), dtype=np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(n, np.uint8)))
    return folder


def without_digest(path):
    """As an older version wrote it."""
    it = load_checkpoint(path)
    del it.configuration["data_digest"]
    save_checkpoint(path, it)


def test_data_of_the_same_name_and_size_and_other_content_are_refused(run, call, tmp_path):
    fashion, kmnist = write_data(tmp_path / "Fashion", 1), write_data(tmp_path / "K", 2)
    folder = run("a", "--epochs", 1, "--data", fashion)
    digests = load_mnist(fashion).digest, load_mnist(kmnist).digest
    assert strict_json(folder / "run.json")["configuration"]["data_digest"] == digests[0]
    with refused(folder / "checkpoint.npz", "data_digest", *digests, "--data", error=CheckpointError):
        run("a", "--epochs", 2, "--data", kmnist, "--resume")
    with refused("idx-raw", *digests, "--data", error=DataError):
        call(mnist.program, "--evaluate", folder, "--data", kmnist, "--backend", "numpy")
    assert not (folder / "checkpoint.evaluation.json").exists()
    call(mnist.program, "--evaluate", folder, "--data", fashion, "--backend", "numpy")
    assert (folder / "checkpoint.evaluation.json").exists()


def test_the_same_data_in_a_folder_of_another_name_are_the_same(run, call, tmp_path):
    data = write_data(tmp_path / "one", 1)
    folder, whole = run("a", "--epochs", 1, "--data", data), run("whole", "--epochs", 2, "--data", data)
    moved = data.rename(tmp_path / "moved")
    run("a", "--epochs", 2, "--data", moved, "--resume")
    assert (folder / "checkpoint.npz").read_bytes() == (whole / "checkpoint.npz").read_bytes()
    call(mnist.program, "--evaluate", folder, "--data", moved, "--backend", "numpy")


def test_a_run_of_an_older_version_goes_by_name_and_sizes(run, call, tmp_path):
    data, same_name = write_data(tmp_path / "one", 1), write_data(tmp_path / "two", 2)
    folder = run("a", "--epochs", 1, "--data", data)
    without_digest(folder / "checkpoint.npz")
    call(mnist.program, "--evaluate", folder, "--data", same_name, "--backend", "numpy")
    moved = data.rename(tmp_path / "moved")
    with refused("idx-raw", "idx-moved", error=DataError):
        call(mnist.program, "--evaluate", folder, "--data", moved, "--backend", "numpy")
    with refused("idx-raw", "idx-moved", error=CheckpointError):
        run("a", "--epochs", 2, "--data", moved, "--resume")
    run("a", "--epochs", 2, "--data", moved.rename(tmp_path / "raw"), "--resume")
    assert "data_digest" in load_checkpoint(folder / "checkpoint.npz").configuration


def test_a_run_that_was_replaced_while_it_was_measured_gets_no_evaluation(run, call, data, monkeypatch):
    folder, measure = run("a", "--epochs", 1), tinygan.run.measure
    measure_of = {"replaced": ["--seed", 1], "removed": None}
    for what, options in measure_of.items():

        def meanwhile(*arguments, options=options):
            monkeypatch.setattr(tinygan.run, "measure", measure)
            if options:
                run("a", "--epochs", 1, "--overwrite", *options)
            else:
                (folder / "checkpoint.npz").unlink()
            return measure(*arguments)

        monkeypatch.setattr(tinygan.run, "measure", meanwhile)
        with refused(folder / "checkpoint.npz", error=CheckpointError):
            call(mnist.program, "--evaluate", folder, "--data", data, "--backend", "numpy")
        assert not (folder / "checkpoint.evaluation.json").exists(), what


# ---- From one backend to the other


def test_a_run_changes_its_backend_only_if_the_new_one_is_named(strict_xp, run, capsys, monkeypatch):
    folder = run("a", "--epochs", 1, "--backend", "cupy")
    with monkeypatch.context() as patch:
        patch.setattr(tinygan.backend, "cupy_problem", lambda: "no driver")
        with refused("cupy", "numpy", "--backend numpy", "--backend cupy", "bit-identical", error=CheckpointError):
            run("a", "--epochs", 2, "--resume", "--backend", "auto")
    capsys.readouterr()
    run("a", "--epochs", 2, "--resume", "--backend", "numpy")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "bit-identical" in line]
    assert "from cupy to numpy" in line
    settings = load_checkpoint(folder / "checkpoint.npz").configuration
    assert (settings["backend"], settings["earlier_backends"]) == ("numpy", ["cupy until epoch 1"])
    assert strict_json(folder / "run.json")["configuration"]["earlier_backends"] == ["cupy until epoch 1"]
    with monkeypatch.context() as patch:
        patch.setattr(tinygan.backend, "cupy_problem", lambda: "no driver")
        run("a", "--epochs", 3, "--resume", "--backend", "auto")
    assert "bit-identical" not in capsys.readouterr().err
    run("a", "--epochs", 4, "--resume", "--backend", "cupy")
    settings = load_checkpoint(folder / "checkpoint.npz").configuration
    assert settings["earlier_backends"] == ["cupy until epoch 1", "numpy until epoch 3"]
