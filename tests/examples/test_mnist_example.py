"""examples/mnist.py and the folder of its runs, on a tiny set in MNIST's format with tiny networks: all but the digits."""

import builtins
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import mnist
import numpy as np
import pytest
from helpers import GAME_OPTIONS, SMALL, bits, rows
from PIL import Image
from scripts import ENVIRONMENT, EXAMPLES, ROOT, smoke

import tinygan.run
from tinygan import (
    ArgumentError,
    CheckpointError,
    DataError,
    DivergenceError,
    Simultaneous,
    Trainer,
    learning_rate_schedule,
    load_checkpoint,
    load_generator,
    load_mnist,
    momentum_schedule,
)
from tinygan.images import save_png
from tinygan.parzen import AUTHORS_SIGMAS, evaluate
from tinygan.recipes import MNIST
from tinygan.run import COLUMNS, TIMING


def results(folder):
    """All of a run that has to be the same, to the bit, in any other of the same settings."""
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    metrics = [row[: len(COLUMNS)] for row in rows(folder)]
    return (folder / "checkpoint.npz").read_bytes(), metrics, pictures, (folder / "samples.gif").read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *GAME_OPTIONS.items(),
        ("generator_width", 17),
        ("discriminator_width", 9),
        ("calm", True),
    ],
)
def test_every_option_is_a_setting_of_the_recipe(call, name, value):
    """The recipe's own test sees that each setting reaches the game."""
    assert name in MNIST
    option = f"--{name.replace('_', '-')}"
    changed = vars(call(mnist.parse_arguments, option, *([] if value is True else [value])))
    plain = vars(call(mnist.parse_arguments))
    assert {key: plain[key] for key in MNIST} == MNIST
    assert {key: changed[key] for key in MNIST} == MNIST | {name: value}


def test_a_run_writes_all_that_it_promises(run, capsys, data, draw_curves, monkeypatch):
    monkeypatch.setattr(tinygan.run, "draw_curves", draw_curves)
    folder = run("a", "--epochs", 4, "--picture-every", 1, "--keep-checkpoints", 3)
    out, err = capsys.readouterr()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint-0003.npz",
        "checkpoint.npz",
        "curves.png",
        "metrics.csv",
        "neighbours.png",
        "report.html",
        "report.json",
        "run.json",
        "samples",
        "samples.gif",
    ]
    header, *lines = rows(folder)
    assert tuple(header) == COLUMNS + TIMING
    assert [line[0] for line in lines] == ["1", "2", "3", "4"]
    assert [bool(line[header.index("validation_log_likelihood")]) for line in lines] == [False, True, False, True]
    for epoch in range(5):
        with Image.open(folder / "samples" / f"epoch-{epoch:04d}.png") as picture:
            left = 2 + 8 * 8 + 6 if epoch == 0 else 0  # 60 images of the data in 8 columns, and a bar
            assert picture.size == (left + 2 + 10 * 8, 2 + 10 * 8)  # 10 × 10 tiles
    facts = json.loads((folder / "run.json").read_text())
    source = facts["data"].pop("source")
    assert str(data) in source
    assert facts["data"] == {"name": f"idx-{data.name}", "train": 60, "validation": 12, "test": 10}
    assert facts["configuration"]["variant"] == "simultaneous"
    assert facts["configuration"]["generator_cost"] == "non_saturating"
    assert (facts["epochs"], facts["every"]) == (4, {"picture": 1, "checkpoint": 1, "evaluation": 2})
    assert facts["environment"]["numpy"] == np.__version__
    assert facts["results"]["iterations"] == 4 * 6
    assert facts["results"]["peak_memory_mb"] > 20
    assert facts["results"]["reading"] in out
    assert err.count(str(folder)) == 2  # named at the start and at the end
    assert load_checkpoint(folder / "checkpoint-0003.npz").epoch == 3


def test_the_evaluation_is_the_authors_protocol_on_raw_samples_of_the_last_epoch(run, data, call, capsys):
    folder = run("a", "--epochs", 2)
    checkpoint = load_checkpoint(folder / "checkpoint.npz")
    generator, dataset = load_generator(folder), load_mnist(data)
    x = tinygan.run.evaluation_samples(generator, 50)
    assert x.shape == (50, 36)
    held_out, test = (split.images.astype(np.float32) / 255 for split in (dataset.validation, dataset.test))
    with pytest.warns(UserWarning, match="50 samples"):
        expected = evaluate(x, held_out, test, AUTHORS_SIGMAS)
    facts = json.loads((folder / "run.json").read_text())["results"]["evaluation"]
    assert any("50 samples" in warning for warning in facts["authors"]["warnings"])
    assert facts["authors"] == json.loads(json.dumps(expected.as_dict())) | {"warnings": facts["authors"]["warnings"]}
    assert len(facts["fine"]["sigmas"]) > 40
    assert checkpoint.metrics[1]["validation_log_likelihood"] == max(expected.validation_log_likelihoods)
    capsys.readouterr()
    for path in folder / "checkpoint.npz", folder:
        call(mnist.program, "--data", data, "--evaluate", path, "--backend", "numpy")
        assert f"{expected.log_likelihood:.1f} ± {expected.standard_error:.1f}" in capsys.readouterr().out
        written = folder / "checkpoint.evaluation.json"
        again = json.loads(written.read_text())
        assert (again["evaluation"], again["epoch"], again["checkpoint"]) == (facts, 2, "checkpoint.npz")
        written.unlink()


def test_the_protocols_numbers_are_the_authors():
    """Table 1 of the released code: 10,000 samples, the first 1,000 validation images, ten σ from 0.1 to 1."""
    assert (tinygan.run.SAMPLES, tinygan.run.SIGMA_ROWS, len(AUTHORS_SIGMAS)) == (10_000, 1000, 10)


def test_a_checkpoint_is_evaluated_on_the_data_it_was_trained_on_alone(run, call, other_data):
    """The 5,000 images that work offline hold out what MNIST trains on."""
    checkpoint = run("a", "--epochs", 1) / "checkpoint.npz"
    with pytest.raises(DataError, match="60.*idx-tiny.*50.*idx-other"):
        call(mnist.program, "--evaluate", checkpoint, "--backend", "numpy", "--data", other_data)
    assert not list(checkpoint.parent.glob("*.evaluation.json"))


def test_a_smoke_runs_checkpoint_is_evaluated_on_its_few_images(run, call, data):
    checkpoint = run("a", "--smoke", "--epochs", 1) / "checkpoint.npz"
    call(mnist.program, "--evaluate", checkpoint, "--backend", "numpy", "--data", data)
    assert json.loads(checkpoint.with_suffix(".evaluation.json").read_text())["data"]["name"].endswith("-smoke")


def test_a_resumed_run_is_the_run_that_never_stopped(run, capsys):
    whole = run("whole", "--epochs", 4)
    folder = run("parts", "--epochs", 2)
    before = rows(folder)
    run("parts", "--epochs", 4, "--resume")
    assert results(folder)[:2] == results(whole)[:2]
    for name, picture in results(whole)[2].items():
        assert (folder / "samples" / name).read_bytes() == picture
    assert rows(folder)[:3] == before  # with the timing of the epochs before
    assert "resumed after epoch 2" in capsys.readouterr().err


@pytest.mark.parametrize("remains", [None, b"", b"\0" * 4096, b"\xff\xfe,\n", b"epoch,seconds,examples_per_second\nx,1,2\n"])
def test_resume_needs_nothing_but_the_checkpoint(run, remains):
    folder = run("a", "--epochs", 2)
    (folder / "metrics.csv").unlink()
    if remains is not None:
        (folder / "metrics.csv").write_bytes(remains)
    run("a", "--epochs", 3, "--resume")
    header, *lines = rows(folder)
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert [bool(line[-1]) for line in lines] == [False, False, True]


# SIGKILL is sent by the process to itself, at the n-th call of a function in whose arguments a word occurs: before, or after.
KILLER = """
import os, signal
import mnist, numpy, tinygan.images, tinygan.run
tinygan.run.SAMPLES = 50
original, calls = {owner}.{name}, []
def deadly(*args, **options):
    calls.append({word!r} in repr(args))
    dies = calls[-1] and sum(calls) == {count}
    if not dies:
        return original(*args, **options)
    if {after}:
        original(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = deadly
mnist.program()
"""
SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "word", "count", "after", "epoch"),
    [
        pytest.param("tinygan.Simultaneous", "iteration", "", 2 * 6 + 4, False, 2, id="in mid-epoch"),
        pytest.param("numpy.lib.format", "write_array", "", 2 * 6 + 3, False, 2, id="in mid-save"),
        pytest.param("os", "replace", "checkpoint.npz", 3, False, 2, id="before the checkpoint's rename", marks=SLOW),
        pytest.param("os", "replace", "checkpoint.npz", 3, True, 3, id="after the checkpoint's rename", marks=SLOW),
        pytest.param("os", "replace", "epoch-0003.png", 1, False, 2, id="before a picture's rename", marks=SLOW),
        pytest.param("os", "replace", "run.json", 2, False, 4, id="before the results' rename", marks=SLOW),
        pytest.param("tinygan.Simultaneous", "iteration", "", 3, False, 0, id="in the first epoch", marks=SLOW),
    ],
)
def test_a_killed_run_resumes_as_if_nothing_had_happened(run, data, tmp_path, owner, name, word, count, after, epoch):
    options = ["--epochs", "4", "--picture-every", "1"]
    folder = tmp_path / "killed"
    code = KILLER.format(owner=owner, name=name, word=word, count=count, after=after)
    arguments = ["--data", data, "--out", folder, "--evaluate-every", "2", *SMALL, *options]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES)))}
    killed = subprocess.run(command, capture_output=True, timeout=100, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (folder / "checkpoint.npz").exists() == (epoch > 0)
    if epoch:
        assert load_checkpoint(folder / "checkpoint.npz").epoch == epoch
    run("killed", *options, "--resume")
    assert results(folder) == results(run("whole", *options))
    assert json.loads((folder / "run.json").read_text())["results"]["epochs"] == 4
    assert not list(folder.rglob("*.tmp"))


def test_a_finished_run_is_resumed_without_training(run, monkeypatch):
    folder = run("a", "--epochs", 2)
    before = results(folder)
    monkeypatch.setattr(Simultaneous, "iteration", None)
    run("a", "--epochs", 2, "--resume")
    assert results(folder) == before


def test_a_run_that_an_older_version_began_with_pictures_of_another_size_ends_with_all_its_results(run):
    folder = run("a", "--epochs", 1)
    save_png(folder / "samples" / "epoch-0000.png", np.zeros((9, 9)))
    run("a", "--epochs", 2, "--resume")
    assert json.loads((folder / "run.json").read_text())["results"]["epochs"] == 2
    with Image.open(folder / "samples.gif") as film, Image.open(folder / "samples" / "epoch-0002.png") as last:
        assert film.size == last.size


def test_a_run_whose_pictures_cannot_be_drawn_keeps_its_results(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tinygan.images.save_gif", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("a", "--epochs", 1)
    stored = (tmp_path / "a" / "run.json").read_text()
    assert json.loads(stored)["results"]["evaluation"]
    monkeypatch.setattr(tinygan.run, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("a", "--epochs", 1, "--resume")
    assert (tmp_path / "a" / "run.json").read_text() == stored, "a resume must not lose them either"


def test_a_resumed_run_remembers_how_many_epochs_it_was_to_have(run, monkeypatch):
    folder = run("a", "--epochs", 3)
    monkeypatch.setattr(mnist, "EPOCHS", 4)
    assert results(run("a", "--resume")) == results(folder)
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 3
    (folder / "checkpoint.npz").unlink()
    assert results(run("a", "--resume")) == results(folder)
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 3
    for lost in b"null", None:
        (folder / "run.json").write_bytes(lost) if lost else (folder / "run.json").unlink()
        assert load_checkpoint(run("a", "--resume") / "checkpoint.npz").epoch == 4


def test_resume_starts_afresh_where_there_is_no_checkpoint(run, tmp_path):
    (tmp_path / "b" / "samples").mkdir(parents=True)
    (tmp_path / "b" / "samples" / "epoch-0009.png").write_bytes(b"of a run without a checkpoint")
    (tmp_path / "b" / "metrics.csv").write_text("of the same")
    assert results(run("b", "--epochs", 2, "--resume")) == results(run("a", "--epochs", 2))


def test_a_folder_with_a_checkpoint_is_refused_or_overwritten(run, tmp_path):
    first = results(run("a", "--epochs", 3))
    notes = tmp_path / "a" / "notes.txt"
    notes.write_text("the user's own")
    with pytest.raises(CheckpointError, match=r"a/checkpoint\.npz.*--resume.*--overwrite.*--out"):
        run("a", "--epochs", 2)
    assert results(tmp_path / "a") == first
    run("a", "--epochs", 2, "--seed", 1, "--overwrite")
    assert len(rows(tmp_path / "a")) == 3
    assert not (tmp_path / "a" / "samples" / "epoch-0003.png").exists()
    assert notes.exists()


def test_other_settings_than_the_checkpoints_are_refused_by_name(run, tmp_path):
    before = results(run("a", "--epochs", 2))
    with pytest.raises(CheckpointError, match=r"learning_rate.* 0\.1 .* 0\.2 .*seed.* 0 .* 1 "):
        run("a", "--epochs", 2, "--resume", "--learning-rate", 0.2, "--seed", 1)
    with pytest.raises(CheckpointError, match="generator_width.* 16 .* 17 "):
        run("a", "--epochs", 2, "--resume", "--generator-width", 17)
    assert results(tmp_path / "a") == before


def test_a_start_that_fails_leaves_no_folder(call, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        call(mnist.program, "--data", tmp_path / "empty", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder_for_a_run(call, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="--out .*file"):
        call(mnist.program, "--out", tmp_path / "file")


def test_ctrl_c_keeps_the_last_checkpoint_and_says_how_to_resume(run, call, tmp_path, monkeypatch, capsys):
    iteration, calls = Simultaneous.iteration, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2 * 6 + 4:
            raise KeyboardInterrupt
        return iteration(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Simultaneous, "iteration", interrupted)
        with pytest.raises(SystemExit) as stopped:
            tinygan.run.main(lambda: run("a", "--epochs", 3, "--picture-every", 1))
    assert stopped.value.code == 130
    message = capsys.readouterr().err
    command = message.strip().splitlines()[-1].split()
    assert command[:2] == ["python", "examples/mnist.py"]
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz").epoch == 2
    call(mnist.program, *command[2:])
    assert results(tmp_path / "a") == results(run("whole", "--epochs", 3, "--picture-every", 1))


def test_a_diverging_run_ends_with_one_line_and_the_last_good_checkpoint(run, tmp_path, monkeypatch):
    run("a", "--epochs", 2)
    before = load_checkpoint(tmp_path / "a" / "checkpoint.npz")
    monkeypatch.setattr("tinygan.recipes.learning_rate_schedule", lambda t, **options: 1e9)
    with pytest.raises(DivergenceError, match="epoch 3"):
        run("a", "--epochs", 4, "--resume")
    assert bits(load_checkpoint(tmp_path / "a" / "checkpoint.npz").vectors) == bits(before.vectors)
    with pytest.raises(SystemExit, match="^error: .*epoch 3"):
        tinygan.run.main(lambda: run("a", "--epochs", 4, "--resume"))
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert re.search("iteration .*epoch 3", facts["diverged"])
    assert "results" not in facts


def test_a_resumed_run_names_the_commits_of_its_earlier_epochs(run, tmp_path, monkeypatch):
    environment = tinygan.run.environment

    def facts(commit, epochs):
        monkeypatch.setattr(tinygan.run, "environment", lambda xp: environment(xp) | {"commit": commit})
        return json.loads((run("a", "--epochs", epochs, "--resume") / "run.json").read_text())

    (tmp_path / "a").mkdir()
    assert facts("first", 1)["earlier_commits"] == []
    assert facts("first", 2)["earlier_commits"] == []
    assert facts("second", 3)["earlier_commits"] == ["first"]
    assert facts("third", 4)["earlier_commits"] == ["first", "second"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epoch"),
    [("checkpoint.npz", 2), ("metrics.csv", 2), ("epoch-0003.png", 2), ("run.json", 3), ("samples.gif", 3)],
)
def test_a_full_disk_ends_with_one_line_and_the_last_good_checkpoint(run, tmp_path, monkeypatch, capsys, name, epoch):
    folder, train_epoch, real = run("a", "--epochs", 2), Trainer.train_epoch, builtins.open

    def full(path, mode="r", *args, **options):
        """What is written into the file goes to a device that takes nothing; so does what becomes the file."""
        if "r" in mode or not isinstance(path, Path) or not path.name.startswith(name):
            return real(path, mode, *args, **options)
        return real("/dev/full", mode.replace("x", "w"), *args, **options)

    with monkeypatch.context() as patch:

        def fill_the_disk(self, *args):
            patch.setattr(builtins, "open", full)
            return train_epoch(self, *args)

        patch.setattr(Trainer, "train_epoch", fill_the_disk)
        with pytest.raises(SystemExit, match=r"^error: .*No space left on device"):
            tinygan.run.main(lambda: run("a", "--epochs", 3, "--resume"))
    assert f"--out {folder}" in (command := capsys.readouterr().err.splitlines()[-1])
    assert "--resume" in command
    assert load_checkpoint(folder / "checkpoint.npz").epoch == epoch
    assert not list(folder.rglob("*.tmp"))
    run("a", "--epochs", 3, "--resume")
    assert results(folder)[:2] == results(run("whole", "--epochs", 3))[:2]


def test_calm_is_an_option(run):
    plain, calm = (load_checkpoint(run(*a, "--epochs", 1) / "checkpoint.npz") for a in (("a",), ("b", "--calm")))
    assert not np.array_equal(plain.vectors["G.theta"], calm.vectors["G.theta"])


def test_compressed_schedules_anneal_faster(run):
    folder = run("a", "--epochs", 3, "--schedule-compression", 10)
    last = load_checkpoint(folder / "checkpoint.npz").metrics[-1]
    assert last["learning_rate"] == pytest.approx(learning_rate_schedule(10 * (18 - 1) + 1, 0.1), rel=1e-9)
    assert last["momentum"] == momentum_schedule(21)


def test_the_whole_run_works_on_a_device(strict_xp, run):
    folder = run("a", "--epochs", 2, "--backend", "cupy")
    run("a", "--epochs", 3, "--backend", "cupy", "--resume")
    assert results(folder)[:2] == results(run("whole", "--epochs", 3, "--backend", "cupy"))[:2]


@pytest.mark.parametrize(
    "arguments",
    ["--epochs 0", "--seed -1", "--learning-rate 0", "--learning-rate nan", "--schedule-compression -1", "--k 1.5"]
    + ["--resume --overwrite", "--variant other", "--prior none", "--epoch 3"],
)
def test_options_that_make_no_sense_are_refused_with_the_usage(call, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        call(mnist.program, *arguments.split())
    assert stopped.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


# ---- The reading


def far_apart(n):
    return np.eye(n, dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "samples", "words"),
    [
        (-0.9, far_apart(40), "learning: "),
        (-1.38, far_apart(40), "learning: "),
        (-0.001, far_apart(40), "D has won: G is stuck: "),
        (-0.9, np.tile(far_apart(40)[:3], (40, 1))[:40], "collapsed to 3 distinct samples: "),
        (-0.001, np.tile(far_apart(40)[:3], (40, 1))[:40], "D has won: G is stuck and collapsed to 3 distinct samples"),
        (-4.0, np.zeros((40, 40), np.float32), "collapsed to 1 distinct sample: "),
    ],
)
def test_the_reading_says_what_the_figures_say(value, samples, words):
    metrics = [{"value": value, "D_x": 0.75, "D_G_z": 0.25}] * 7
    reading = tinygan.run.reading(metrics, samples, far_apart(40), 1000)
    assert reading["reading"].startswith(words)
    for fact in "last 2 epochs", "D(x) = 0.750", "D(G(z)) = 0.250", f"V = {value:.3f}":
        assert fact in reading["reading"]
    only = tinygan.run.reading(metrics[:1], samples, far_apart(40), 1000)
    assert "only epoch" in only["reading"]
    assert "D(x) = 0.750" in only["reading"]
    assert reading["distinct_data"] == 40


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1.38] * 20, "too early to tell: "),
        ([-0.9] + [-1.38] * 20, "collapsed to 1 distinct sample: "),
        ([-1.45] * 5, "collapsed to 1 distinct sample: "),
    ],
)
def test_while_D_has_always_said_one_half_it_is_too_early(values, words):
    metrics = [{"value": value, "D_x": 0.5, "D_G_z": 0.5} for value in values]
    assert tinygan.run.reading(metrics, np.zeros((40, 40), np.float32), far_apart(40), 1000)["reading"].startswith(words)


def test_distinct_counts_images_that_are_further_apart_than_the_radius():
    line = np.array([[0.0], [0.6], [1.2], [5.0], [5.1]])
    assert tinygan.run.distinct(line, 1.0) == 3  # 0.0, 1.2 (0.6 is removed, so 1.2 stays) and 5.0
    assert tinygan.run.distinct(line, 0.05) == 5


@pytest.mark.slow
def test_the_smoke_run_exercises_everything(tmp_path):
    assert "too early to tell" in smoke("mnist.py", tmp_path)
    assert len(list((tmp_path / "runs").glob("*/samples.gif"))) == 1
