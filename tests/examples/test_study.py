"""The studies of benchmarks/study: what they take in, train and measure, how they resume, and what they refuse."""

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

import anneal
import balance
import evaluator
import mnist
import numpy as np
import pytest
import reading
import records
import study
from helpers import SMALL, bits, refused, rows
from PIL import Image

import tinygan.run
from tinygan import (
    CheckpointError,
    DataError,
    DivergenceError,
    MomentumSGD,
    TinyganError,
    Trainer,
    Uniform,
    learning_rate_schedule,
    load_checkpoint,
    load_generator,
    load_mnist,
    pixels,
    recipes,
)
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, evaluate

pytestmark = pytest.mark.slow


def test_the_study_tells_of_every_run(run, data, tmp_path, monkeypatch, capsys):
    """Finished, stopped, and diverged; the released recipe, and a departure from it."""
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "TEST_ROWS", 10)
    monkeypatch.setattr(study, "SHOWN", (1, 2))
    widths = {name: recipes.MNIST[name] for name in ("generator_width", "discriminator_width", "batch_size")}
    folders = {
        "whole": run("whole", "--epochs", 2, "--evaluate-every", 1),
        "calm": run("calm", "--epochs", 2, "--evaluate-every", 2, "--calm", "--seed", 1),
        "printed": run("printed", "--epochs", 1, "--variant", "printed", "--seed", 2),
        "stopped": run("stopped", "--epochs", 1, "--seed", 4),
    }
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "learning_rate_schedule", lambda t, **options: 1e9)
        with pytest.raises(DivergenceError):
            run("diverged", "--epochs", 2, "--learning-rate", 2)
    folders["diverged"] = folders["whole"].parent / "diverged"
    for folder in folders.values():
        facts = json.loads((folder / "run.json").read_text())
        facts["configuration"] |= {"data": "mnist"} | widths
        if folder.name == "stopped":
            del facts["results"]
        (folder / "run.json").write_text(json.dumps(facts))
    monkeypatch.setattr(sys, "argv", ["study.py", "--data", str(data), *map(str, folders.values())])
    study.main()
    table_1, departures, table = capsys.readouterr().out.split("\n\n")
    assert len(departures.splitlines()) == 2, "no departure has several seeds"
    whole = json.loads((tmp_path / "results" / "mnist-whole.json").read_text())
    assert "the best of 1 by validation" in table_1
    assert f"released recipe | {whole['evaluation']['authors']['log_likelihood']:.1f} ± " in table_1
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[:3] for row in rows] == [
        ["nothing", "0", "2"],
        ["nothing", "4", "1"],
        ["calm", "1", "2"],
        ["learning rate 2.0", "0", "0"],
        ["variant printed", "2", "1"],
    ]
    first, second = (whole["validation_log_likelihoods"][epoch] for epoch in "12")
    assert rows[0][3:6] == [f"{first:.0f}", f"{second:.0f}", f"{second:.0f} @2"]
    assert rows[2][3] == ""
    assert rows[3][-1] == "diverged in epoch 1"
    assert rows[0][-1] == "too early to tell"
    assert rows[1][-1] == "so far: too early to tell"
    assert all(row[-1] and "epochs, D" not in row[-1] and "D(" not in row[-1] for row in rows)
    taken = {name: json.loads((tmp_path / "results" / f"mnist-{name}.json").read_text()) for name in folders}
    assert not any("/" in json.dumps(record).replace("examples/mnist.py", "") for record in taken.values())
    assert "--epochs 1 --learning-rate 2.0" in taken["diverged"]["command"]
    with Image.open(tmp_path / "results" / "curves.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.slow
def test_runs_of_ones_own_are_compared_apart_from_the_committed_ones(run, call, data, tmp_path, capsys):
    """Smoke runs too, stopped ones, and those without an epoch; all on one data set, whose folder each run knows."""
    folders = [
        run("first", "--smoke", "--epochs", 2, "--evaluate-every", 1),
        run("second", "--smoke", "--epochs", 1, "--evaluate-every", 1, "--seed", 1),
    ]
    facts = json.loads((folders[1] / "run.json").read_text())
    del facts["results"]  # it was stopped
    (folders[1] / "run.json").write_text(json.dumps(facts))
    committed = sorted(path.name for path in records.RESULTS.iterdir())
    capsys.readouterr()
    call(study.main, "--results", tmp_path / "compared", *folders)
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert table[0][:4] == ["run", "departs in", "seed", "epochs"]
    assert [(row[0], *row[2:4]) for row in table[2:4]] == [("first", "0", "2"), ("second", "1", "1")]
    assert "too early to tell" in table[2][-1]
    assert "so far: too early" in table[3][-1]
    assert sorted(path.name for path in (tmp_path / "compared").iterdir()) == [
        "curves.png",
        "mnist-first.json",
        "mnist-second.json",
    ]
    assert sorted(path.name for path in records.RESULTS.iterdir()) == committed
    (tmp_path / "others").mkdir()
    for path in data.iterdir():
        content = path.read_bytes()
        (tmp_path / "others" / path.name).write_bytes(content[:100] + content[:99:-1])
    other = run("other", "--epochs", 1, "--data", tmp_path / "others")
    with refused(other, "idx-others", "first", f"{load_mnist(data).name}-smoke", "digest", error=DataError):
        call(study.main, "--results", tmp_path / "compared", other)
    with refused(other, "idx-others", "--results", error=DataError):
        call(study.main, other)
    for nothing in tmp_path, tmp_path / "no such", folders[0] / "run.json":
        with refused(nothing, "run.json", error=DataError):
            call(study.main, "--results", tmp_path / "compared", nothing)
    with pytest.raises(SystemExit):
        call(study.main, "--results", tmp_path / "compared", "--write")


@pytest.mark.slow
def test_stopped_runs_of_other_data_and_other_nets_are_compared_too(call, train_dcgan, pictures, tmp_path, capsys):
    own = tmp_path / "own.npy"
    np.save(own, np.random.default_rng(0).integers(0, 256, (40, 6, 8), dtype=np.uint8))
    call(mnist.program, "--data", own, "--size", 5, "--out", tmp_path / "sized", *SMALL, "--batch-size", 10, "--epochs", 1)
    for folder in tmp_path / "sized", train_dcgan("images", "--epochs", 1, "--no-batch-norm"):
        facts = json.loads((folder / "run.json").read_text())
        whole = facts.pop("results")["reading"]
        (folder / "run.json").write_text(json.dumps(facts))
        call(study.main, "--results", tmp_path / f"with {folder.name}", folder)
        record = json.loads((tmp_path / f"with {folder.name}" / f"mnist-{folder.name}.json").read_text())
        assert record["reading"] == whole
    assert "width" in capsys.readouterr().out
    assert record["departs_in"]["batch_norm"] is False
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit):
        call(study.main, "--results", folder, tmp_path / "sized")
    assert "is the folder of a run" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_balance_trains_as_the_example_does_and_looks_into_its_checkpoint(run, data, monkeypatch):
    for name, value in ("generator_width", 16), ("discriminator_width", 8), ("batch_size", 10):
        monkeypatch.setitem(recipes.MNIST, name, value)
    monkeypatch.setattr(recipes, "Uniform", lambda _: Uniform(0.3))  # nets this small do not leave smaller weights
    for choice, variant in ("old-same-same", "simultaneous"), ("new-fresh-fresh", "alternating"):
        folder = run(variant, "--epochs", 2, "--variant", variant, "--seed", 3)
        trained, trainer = load_checkpoint(folder / "checkpoint.npz"), balance.prepare(3, data, choice)
        for _ in range(2):
            trainer.train_epoch()
        for name in "GD":
            theta = trainer.model.players[name].network.theta
            np.testing.assert_allclose(theta, trained.vectors[f"{name}.theta"], rtol=1e-4, atol=1e-6)
    record = balance.look(folder / "checkpoint.npz", data, repeats=6)
    assert (record["variant"], record["seed"], record["epoch"]) == ("alternating", 3, 2)
    assert record["moved_own"] < 0, "D's update lowers the logits of the samples it was made on"
    cosines = [record[f"cosine_{what}"] for what in ("z", "masks", "both", "theta_d")]
    assert -1 <= min(cosines[:3]) < cosines[3] <= 1
    assert f"| alternating | 3 | 2 | {record['moved_own']:+.2f} | " in balance.table_of_looks([record])
    monkeypatch.setitem(recipes.MNIST, "k", 2)
    for name, facts in ("mnist", [folder / "checkpoint.npz", "in k"]), ("idx-tiny", ["idx-tiny", "MNIST", "--data"]):
        monkeypatch.setattr(records, "load_mnist", lambda path, name=name: argparse.Namespace(name=name))
        monkeypatch.setattr(sys, "argv", ["balance.py", "--look", str(folder / "checkpoint.npz")])
        with refused(*facts, error=TinyganError):
            balance.main()


@pytest.fixture
def tiny_counts(data, monkeypatch):
    """The studies take the tiny set for MNIST."""
    monkeypatch.setattr(records, "DATA", load_mnist(data).name)


def test_other_data_than_mnist_do_not_get_among_the_results(run, data, monkeypatch, tmp_path):
    path = run("a", "--epochs", 2, "--keep-checkpoints", 2) / "checkpoint-0002.npz"
    for module in anneal, evaluator:
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
        monkeypatch.setattr(sys, "argv", ["", str(path), "--data", str(data)])
        with refused("idx-tiny", "MNIST", "--data", error=DataError):
            module.main()
        assert not module.RESULTS.exists()


@pytest.mark.usefixtures("tiny_counts")
def test_annealing_trains_on_from_a_checkpoint_while_eta_falls_to_0(run, data, monkeypatch):
    folder = run("a", "--epochs", 6, "--keep-checkpoints", 2, "--seed", 3)
    rates, step = [], MomentumSGD.step

    def watched(optimizer, grad):
        rates.append(optimizer.next_learning_rate)
        step(optimizer, grad)

    monkeypatch.setattr(MomentumSGD, "step", watched)
    record = anneal.anneal(folder / "checkpoint-0002.npz", 3, data)
    start = learning_rate_schedule(2 * 6 + 1, 0.1)
    np.testing.assert_allclose(rates, np.repeat(start * np.arange(18, 0, -1) / 18, 2))  # two players, 3 epochs of 6
    assert (record["run"], record["seed"], record["from_epoch"], record["epochs"]) == ("a", 3, 2, 3)
    annealed, released = record["validation_log_likelihoods"], [float(line[8]) for line in rows(folder)[2::2]]
    assert list(annealed) == ["2", "4", "5"]
    assert annealed["2"] == pytest.approx(released[0], abs=0.01)
    monkeypatch.setattr(anneal, "RESULTS", folder / "anneal.json")
    row = f"| simultaneous, seed 3 | 2 | 3 epochs | {annealed['2']:.1f} | {annealed['5']:.1f} | "
    score = record["test"]["authors"]["log_likelihood"]
    assert row + f" | {score:.1f} ± " in anneal.table([record])
    curve = {"validation_log_likelihoods": dict(zip(("2", "4", "6"), released, strict=True))}
    (folder / "mnist-a.json").write_text(json.dumps(curve))
    assert row + f"{released[2]:.1f} @6 | {score:.1f} ± " in anneal.table([record])


@pytest.mark.usefixtures("tiny_counts")
@pytest.mark.parametrize(("reached", "again"), [(4, 1), (5, 0)])
def test_annealing_that_was_interrupted_resumes_bit_for_bit(run, data, monkeypatch, reached, again):
    """In mid-training, and at the end, before the test set was read."""
    path = run("a", "--epochs", 2, "--keep-checkpoints", 2) / "checkpoint-0002.npz"
    monkeypatch.setattr(anneal, "RESULTS", path.with_name("anneal.json"))
    monkeypatch.setattr(sys, "argv", ["anneal.py", str(path), "--epochs", "3", "--data", str(data)])
    kept, train_epoch, trained = anneal.kept_for(path, 3), Trainer.train_epoch, []
    expected = anneal.anneal(path, 3, data)
    whole = load_checkpoint(kept)
    kept.unlink()
    environment, clock = tinygan.run.environment, itertools.count(0, 3600)
    monkeypatch.setattr(anneal.time, "perf_counter", lambda: next(clock))

    def interrupted(trainer, *_):
        if trainer.epoch == reached:
            raise KeyboardInterrupt
        return train_epoch(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", interrupted)
        if reached == 5:
            patch.setattr(tinygan.run, "measure", lambda *_: interrupted(argparse.Namespace(epoch=5)))
        with pytest.raises(KeyboardInterrupt):
            anneal.main()
    assert not anneal.RESULTS.exists()
    monkeypatch.setattr(tinygan.run, "environment", lambda xp: environment(xp) | {"commit": "another"})
    monkeypatch.setattr(Trainer, "train_epoch", lambda trainer: trained.append(1) or train_epoch(trainer))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda _, missing_ok: None)
        anneal.main()
    assert len(trained) == again
    assert bits(load_checkpoint(kept).vectors) == bits(whole.vectors)
    (record,) = records.read_records(anneal.RESULTS)
    assert record["commit"] == f"{expected['commit']}, another"
    assert record["minutes"] == 180, "an hour from one reading of the clock to the next, those before the interruption too"
    assert record | {"minutes": 0, "commit": ""} == expected | {"minutes": 0, "commit": ""}
    anneal.main()
    assert not kept.exists()


@pytest.mark.usefixtures("tiny_counts")
def test_annealing_resumes_from_its_own_checkpoint_alone(run, data, monkeypatch):
    """Not where another run has come into the folder, nor from a checkpoint that was never annealed."""
    options = "--epochs", 4, "--keep-checkpoints", 2
    path, other = (run(name, *options, "--seed", seed) / "checkpoint-0002.npz" for name, seed in (("a", 0), ("b", 1)))
    anneal.anneal(other, 1, data)
    kept = anneal.kept_for(path, 1)
    for strange in anneal.kept_for(other, 1), path, path.with_name("checkpoint-0004.npz"):
        kept.write_bytes(strange.read_bytes())
        with refused(kept, path.name, error=CheckpointError):
            anneal.anneal(path, 1, data)


@pytest.mark.usefixtures("tiny_counts")
def test_while_annealing_holds_the_folder_no_run_and_no_other_annealing_writes_into_it(run, data, monkeypatch):
    folder = run("a", "--epochs", 2, "--keep-checkpoints", 2)
    path, refusals = folder / "checkpoint-0002.npz", []
    monkeypatch.setattr(anneal, "RESULTS", folder / "anneal.json")
    monkeypatch.setattr(sys, "argv", ["anneal.py", str(path), "--epochs", "1", "--data", str(data)])

    def others(*_):
        with refused(folder, os.getpid()):
            run("a", "--epochs", 3, "--resume")
        monkeypatch.setattr(sys, "argv", ["anneal.py", str(path)])
        with refused(folder, os.getpid()):
            anneal.main()
        refusals.append(2)
        raise KeyboardInterrupt

    monkeypatch.setattr(anneal, "anneal", others)
    with pytest.raises(KeyboardInterrupt):
        anneal.main()
    assert refusals == [2]
    run("a", "--epochs", 3, "--resume")  # it is free again


@pytest.mark.usefixtures("tiny_counts")
def test_a_finished_annealing_is_not_repeated_when_a_later_one_was_interrupted(run, data, monkeypatch):
    folder = run("a", "--epochs", 4, "--keep-checkpoints", 2)
    paths = [folder / f"checkpoint-000{epoch}.npz" for epoch in (2, 4)]
    monkeypatch.setattr(anneal, "RESULTS", folder / "anneal.json")
    monkeypatch.setattr(sys, "argv", ["anneal.py", *map(str, paths), "--epochs", "1", "--data", str(data)])
    train_epoch, trained = Trainer.train_epoch, []

    def counted(trainer):
        if trained == [2]:
            trained.clear()
            raise KeyboardInterrupt
        trained.append(trainer.epoch)
        return train_epoch(trainer)

    monkeypatch.setattr(Trainer, "train_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        anneal.main()
    anneal.main()
    assert trained == [4]
    assert not list(folder.glob("annealing*"))


@pytest.mark.usefixtures("tiny_counts")
@pytest.mark.filterwarnings("ignore::tinygan.parzen.ParzenWarning")
def test_the_evaluators_options_are_measured_on_validation_images_that_chose_no_sigma(run, data, monkeypatch, capsys):
    path = run("a", "--epochs", 2) / "checkpoint.npz"
    dataset = load_mnist(data)
    monkeypatch.setattr(tinygan.run, "SIGMA_ROWS", 5)
    monkeypatch.setattr(evaluator, "SIZES", (20, 50))
    monkeypatch.setattr(evaluator, "RESULTS", path.with_name("evaluator.json"))
    monkeypatch.setattr(sys, "argv", ["evaluator.py", "--data", str(data)])
    with pytest.raises(SystemExit):
        evaluator.main()
    assert "evaluator.json" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["evaluator.py", str(path), "--data", str(data)])
    evaluator.main()
    record = json.loads(evaluator.RESULTS.read_text())
    assert [(row["samples"], row["seed"]) for row in record["rows"]] == [(20, 0), (50, 0), (50, 1), (50, 2), (50, 3)]
    generator = load_generator(path)
    images = pixels(dataset.validation.images)
    for row, n in zip(record["rows"], (20, 50), strict=False):
        for grid, sigmas in ("fine", FINE_SIGMAS), ("authors", AUTHORS_SIGMAS):
            expected = evaluate(tinygan.run.evaluation_samples(generator, n), images[:5], images[5:], sigmas)
            assert row[grid]["log_likelihood"] == pytest.approx(expected.log_likelihood, abs=1e-4)
        assert row["fine"] != row["authors"]
    assert len({row["authors"]["log_likelihood"] for row in record["rows"]}) == 5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 20", "| 50"]
    assert f"| 50 | {expected.log_likelihood:.1f} ± {expected.standard_error:.1f} (σ {expected.sigma:.3f}) | " in lines[3]


@pytest.mark.parametrize(("validation", "best"), [((7.0, 5.0), 2), ((5.0, 7.0), 4), (("", 5.0), 4)])
def test_the_study_shows_the_test_log_likelihood_at_the_best_epoch_by_validation(
    run, monkeypatch, tmp_path, validation, best
):
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "TEST_ROWS", 10)
    folder = run("a", "--epochs", 4, "--keep-checkpoints", 2)
    lines = rows(folder)
    for epoch, value in zip((2, 4), validation, strict=True):
        lines[epoch][8] = str(value)
    (folder / "metrics.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    facts = json.loads((folder / "run.json").read_text())
    facts["configuration"]["data"] = "mnist"
    (folder / "run.json").write_text(json.dumps(facts))
    kept = {"epoch": 2, "evaluation": facts["results"]["evaluation"]}
    (folder / "checkpoint-0002.evaluation.json").write_text(json.dumps(kept))
    study.take_in(folder)
    record = json.loads((tmp_path / "results" / "mnist-a.json").read_text())
    assert record["evaluated_at_epoch"] == best
    assert list(record["test_log_likelihoods"]) == ["2", "4"]
    monkeypatch.setattr(study, "TEST_ROWS", 10_000)
    with refused(folder, "10,000", error=DataError):
        study.take_in(folder)
    run("a", "--epochs", 2, "--overwrite")
    assert not list(folder.glob("*.evaluation.json"))


# ---- The counts of the reading


def test_the_committed_counts_of_the_reading_follow_from_the_committed_runs():
    committed = json.loads(reading.RESULTS.read_text(encoding="utf-8"))
    assert reading.counts(committed["early"]) == committed["counts"]
    before, now = (committed["counts"][rule]["distinct samples known"] for rule in ("before", "now"))
    assert before[0] > now[0] == 0
    assert all(counts[0] == 0 for counts in committed["counts"]["now"].values())


@pytest.mark.parametrize(
    ("values", "iterations", "distinct", "words"),
    [
        ([-0.009], 500, 1, "too early to tell"),  # the first epoch of a run that learned
        ([-0.009, -0.009], 500, 1, "D has won: G is stuck and collapsed to 1 distinct sample"),
        ([-0.009, -0.012], 500, 1, "too early to tell"),
        ([-0.009] * 24, 40, 1, "too early to tell"),
        ([-0.009] * 25, 40, 500, "D has won: G is stuck"),
        ([-0.3] * 9, 500, 99, "too early to tell"),
        ([-0.3] * 10, 500, 99, "collapsed to 99 distinct samples"),
        ([-0.3] * 10, 500, 100, "learning"),
        ([-1.386] * 20, 500, 1, "too early to tell"),
    ],
)
def test_the_verdict(values, iterations, distinct, words):
    assert tinygan.run.verdict(values, iterations, distinct, 1000) == words


@pytest.mark.parametrize(
    ("distinct", "n", "words"),
    [(1, 3, "collapsed to 1 distinct sample"), (2, 3, "learning"), (1, 1, "learning")],
)
def test_the_verdict_on_few_samples(distinct, n, words):
    assert tinygan.run.verdict([-0.3] * 10, 500, distinct, n) == words
