"""The studies of benchmarks/: what they take in and train, and that what is written of them is what their results say."""

import argparse
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import rows
from PIL import Image

from tinygan import (
    CheckpointError,
    DataError,
    DivergenceError,
    MomentumSGD,
    TinyganError,
    Uniform,
    learning_rate_schedule,
    load_checkpoint,
    load_mnist,
)
from tinygan.backend import pixels
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, evaluate
from tinygan.training import Trainer

ROOT = Path(__file__).parents[2]

import anneal
import balance
import common
import evaluator
import mnist
import records
import step_time
import study


def test_the_study_tells_of_every_run(run, data, tmp_path, monkeypatch, capsys):
    """Finished, stopped, and diverged; the released recipe, and a departure from it."""
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "TEST_ROWS", 10)
    monkeypatch.setattr(study, "PLOT", tmp_path / "results" / "curves.png")
    monkeypatch.setattr(study, "SHOWN", (1, 2))
    widths = {"generator_width": mnist.GENERATOR_WIDTH, "discriminator_width": mnist.DISCRIMINATOR_WIDTH, "batch_size": 100}
    folders = {
        "whole": run("whole", "--epochs", 2, "--evaluate-every", 1),
        "calm": run("calm", "--epochs", 2, "--evaluate-every", 2, "--calm", "--seed", 1),
        "printed": run("printed", "--epochs", 1, "--variant", "printed", "--seed", 2),
        "stopped": run("stopped", "--epochs", 1, "--seed", 4),
    }
    with monkeypatch.context() as patch:
        patch.setattr(mnist, "learning_rate_schedule", lambda t, **options: 1e9)
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


def test_balance_trains_as_the_example_does_and_looks_into_its_checkpoint(run, data, monkeypatch):
    monkeypatch.setattr(mnist, "GENERATOR_WIDTH", 16)
    monkeypatch.setattr(mnist, "DISCRIMINATOR_WIDTH", 8)
    monkeypatch.setattr(mnist, "Uniform", lambda _: Uniform(0.3))  # nets this small do not leave smaller weights
    monkeypatch.setitem(mnist.DEFAULTS, "batch_size", 10)
    for choice, variant in ("old-same-same", "simultaneous"), ("new-fresh-fresh", "alternating"):
        folder = run(variant, "--epochs", 2, "--variant", variant, "--seed", 3)
        trained, trainer = load_checkpoint(folder / "checkpoint.npz"), balance.prepare(3, data, choice)
        for _ in range(2):
            trainer.train_epoch()
        np.testing.assert_allclose(trainer.gan.G.theta, trained.theta_g, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(trainer.gan.D.theta, trained.theta_d, rtol=1e-4, atol=1e-6)
    record = balance.look(folder / "checkpoint.npz", data, repeats=6)
    assert (record["variant"], record["seed"], record["epoch"]) == ("alternating", 3, 2)
    assert record["moved_own"] < 0, "D's update lowers the logits of the samples it was made on"
    cosines = [record[f"cosine_{what}"] for what in ("z", "masks", "both", "theta_d")]
    assert -1 <= min(cosines[:3]) < cosines[3] <= 1
    assert f"| alternating | 3 | 2 | {record['moved_own']:+.2f} | " in balance.table_of_looks([record])
    monkeypatch.setitem(mnist.DEFAULTS, "k", 2)
    for name, words in ("mnist", "departs from the released recipe in k$"), ("idx-tiny", "this is about MNIST"):
        monkeypatch.setattr(records, "load_mnist", lambda path, name=name: argparse.Namespace(name=name))
        monkeypatch.setattr(sys, "argv", ["balance.py", "--look", str(folder / "checkpoint.npz")])
        with pytest.raises(TinyganError, match=words):
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
        with pytest.raises(DataError, match="idx-tiny.*: this is about MNIST; name the folder"):
            module.main()
        assert not module.RESULTS.exists()


@pytest.mark.usefixtures("tiny_counts")
def test_annealing_goes_on_from_a_checkpoint_while_eta_falls_to_0(run, data, monkeypatch):
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
def test_annealing_that_was_interrupted_goes_on_bit_for_bit(run, data, monkeypatch, reached, again):
    """In mid-training, and at the end, before the test set was read."""
    path = run("a", "--epochs", 2, "--keep-checkpoints", 2) / "checkpoint-0002.npz"
    monkeypatch.setattr(anneal, "RESULTS", path.with_name("anneal.json"))
    monkeypatch.setattr(sys, "argv", ["anneal.py", str(path), "--epochs", "3", "--data", str(data)])
    kept, train_epoch, trained = anneal.kept_for(path, 3), Trainer.train_epoch, []
    expected = anneal.anneal(path, 3, data)
    whole = load_checkpoint(kept)
    kept.unlink()
    environment, clock = common.environment, itertools.count(0, 3600)
    monkeypatch.setattr(anneal.time, "perf_counter", lambda: next(clock))

    def interrupted(trainer, *_):
        if trainer.epoch == reached:
            raise KeyboardInterrupt
        return train_epoch(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", interrupted)
        if reached == 5:
            patch.setattr(mnist, "measure", lambda *_: interrupted(argparse.Namespace(epoch=5)))
        with pytest.raises(KeyboardInterrupt):
            anneal.main()
    assert not anneal.RESULTS.exists()
    monkeypatch.setattr(common, "environment", lambda trainer: environment(trainer) | {"commit": "another"})
    monkeypatch.setattr(Trainer, "train_epoch", lambda trainer: trained.append(1) or train_epoch(trainer))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda _, missing_ok: None)
        anneal.main()
    assert len(trained) == again
    for name in "theta_g", "theta_d", "v_g", "v_d":
        np.testing.assert_array_equal(getattr(load_checkpoint(kept), name), getattr(whole, name))
    (record,) = records.read_records(anneal.RESULTS)
    assert record["commit"] == f"{expected['commit']}, another"
    assert record["minutes"] == 180, "an hour from one reading of the clock to the next, those before the interruption too"
    assert record | {"minutes": 0, "commit": ""} == expected | {"minutes": 0, "commit": ""}
    anneal.main()
    assert not kept.exists()


@pytest.mark.usefixtures("tiny_counts")
def test_annealing_goes_on_from_its_own_checkpoint_alone(run, data, monkeypatch):
    """Not where another run has come into the folder, nor from a checkpoint that was never annealed."""
    options = "--epochs", 4, "--keep-checkpoints", 2
    path, other = (run(name, *options, "--seed", seed) / "checkpoint-0002.npz" for name, seed in (("a", 0), ("b", 1)))
    anneal.anneal(other, 1, data)
    kept = anneal.kept_for(path, 1)
    for strange in anneal.kept_for(other, 1), path, path.with_name("checkpoint-0004.npz"):
        kept.write_bytes(strange.read_bytes())
        with pytest.raises(CheckpointError, match=r"annealing-1-from-checkpoint-0002.npz: it did not start .*: remove it"):
            anneal.anneal(path, 1, data)


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
    monkeypatch.setattr(mnist, "SIGMA_ROWS", 5)
    monkeypatch.setattr(evaluator, "SIZES", (20, 50))
    monkeypatch.setattr(evaluator, "RESULTS", path.with_name("evaluator.json"))
    monkeypatch.setattr(sys, "argv", ["evaluator.py", "--data", str(data)])
    with pytest.raises(SystemExit):
        evaluator.main()
    assert "evaluator.json yet: name a checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["evaluator.py", str(path), "--data", str(data)])
    evaluator.main()
    record = json.loads(evaluator.RESULTS.read_text())
    assert [(row["samples"], row["seed"]) for row in record["rows"]] == [(20, 0), (50, 0), (50, 1), (50, 2), (50, 3)]
    G = mnist.resume(path, dataset)[0].gan.G
    images = pixels(dataset.validation.images)
    for row, n in zip(record["rows"], (20, 50), strict=False):
        for grid, sigmas in ("fine", FINE_SIGMAS), ("authors", AUTHORS_SIGMAS):
            expected = evaluate(mnist.evaluation_samples(G, "uniform", n), images[:5], images[5:], sigmas)
            assert row[grid]["log_likelihood"] == pytest.approx(expected.log_likelihood, abs=1e-4)
        assert row["fine"] != row["authors"]
    assert len({row["authors"]["log_likelihood"] for row in record["rows"]}) == 5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 20", "| 50"]
    assert f"| 50 | {expected.log_likelihood:.1f} ± {expected.standard_error:.1f} (σ {expected.sigma:.3f}) | " in lines[3]


# ---- What is written of the studies is what their committed results say


def written(name="benchmarks/STUDY.md"):
    """A text of the project without its line ends: a claim in it may stand on two lines."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def test_the_readme_repeats_no_other_figures_than_the_studys():
    readme, told = written("README.md"), written()
    start, end = readme.index("The released recipe learns with all five seeds."), readme.index("[benchmarks/STUDY.md]")
    figures = set(re.findall(r"[\d.]+ ± [\d.]+|\d+ below|[\d,]+ (?:epochs|samples)", readme[start:end]))
    assert len(figures) > 4
    assert not {figure for figure in figures if figure.replace(" below", " nats below") not in told}


def test_the_tables_are_those_of_the_committed_results():
    runs, stored = study.runs(), records.read_records
    texts = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "benchmarks/STUDY.md", "examples/GUIDE.md"))
    readme, whole, guide = texts
    assert study.table_1(runs) in readme
    for table in (
        study.table_1(runs),
        study.table_of_departures(runs),
        study.table_of_runs(runs),
        anneal.table(stored(anneal.RESULTS)),
        evaluator.table(json.loads(evaluator.RESULTS.read_text())),
    ):
        assert table in whole
    assert balance.table(stored(balance.RESULTS)) in guide
    assert balance.table_of_looks(stored(balance.LOOKED)) in guide


def test_the_studys_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / "benchmarks" / "STUDY.md").read_text(encoding="utf-8"))
    assert len(links) > 3
    assert all((ROOT / "benchmarks" / link).exists() for link in links)


def test_the_guide_counts_the_runs_that_learn():
    """By the criterion of the reading: V ≤ −0.01, and one sample in ten is distinct."""
    guide = (ROOT / "examples" / "GUIDE.md").read_text(encoding="utf-8")
    runs, between = study.runs(), records.read_records(balance.RESULTS)

    def variant(name):
        return sum(runs[f"{name}-s{seed}"]["reading"].startswith("learning: ") for seed in range(5))

    def choice(name):
        ends = [(r["curve"][-1]["value"], r["distinct_of_1000"]) for r in between if r["choice"] == name]
        assert len(ends) == 5
        return sum(value <= -0.01 and distinct >= 100 for value, distinct in ends)

    assert f"| at the old θ_d | {variant('sim')} of 5 (`simultaneous`) | {choice('old-fresh-fresh')} of 5 |" in guide
    assert f"| at the new θ_d | {choice('new-same-same')} of 5 (seeds 0 and 3) | {variant('alternating')} of 5 (`alt" in guide


def test_the_study_counts_the_departures_that_collapse():
    told = written()
    strong = {"learning rate 0.05", "batch size 200", "k 2", "variant alternating"}
    readings = [record["reading"] for record in study.runs().values() if study.departs_in(record) in strong]
    collapsed = sum("collapsed to" in reading for reading in readings)
    won = sum(reading.startswith("D has won") for reading in readings)
    text = f"of these {len(readings)} runs {collapsed} have collapsed after ten epochs, and in {won} of them D has won"
    assert text in told


def test_the_studys_slopes_and_the_gains_of_the_fine_grid_are_those_of_the_committed_results():
    told = written()
    runs = study.runs()
    at_30 = [f"{runs[f'sim-s{seed}']['validation_log_likelihoods']['30']:.0f}" for seed in range(5)]
    assert f"after 30 they have {listed(at_30)} on validation" in told
    curve = runs["sim-s0"]["validation_log_likelihoods"]
    epochs, nats = np.array(list(curve), dtype=int), np.array(list(curve.values()))

    def slope(first, last):
        among = (epochs >= first) & (epochs <= last)
        (rise, _), covariance = np.polyfit(epochs[among], nats[among], 1, cov=True)
        return f"{rise:.3f} ± {covariance[0, 0] ** 0.5:.3f}".replace("-", "−")

    text = f"{slope(300, 400)} nat an epoch from epoch 300 to 400, by {slope(400, 600)} from 400 to 600"
    text += f", by {slope(600, 800)} from 600 to 800 and by {slope(800, epochs[-1])} from 800 to {epochs[-1]:,}"
    assert f"{text} (least squares, " in told
    late = epochs >= 800
    residuals = nats[late] - np.polyval(np.polyfit(epochs[late], nats[late], 1), epochs[late])
    scatter = (residuals @ residuals / (len(residuals) - 2)) ** 0.5
    assert f"around the last line the points scatter by {scatter:.1f} nats" in told

    def gains(evaluations):
        each = [e["fine"]["log_likelihood"] - e["authors"]["log_likelihood"] for e in evaluations]
        return f"{min(each):.0f} to {max(each):.0f}"

    recipe = gains(record["evaluation"] for _, record in study.candidates(runs))
    annealed = gains(record["test"] for record in records.read_records(anneal.RESULTS) if "test" in record)
    text = f"46 values give {recipe} nats more on the test set than the authors' ten ({annealed} for the annealed nets)."
    assert text in told


def listed(words):
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def test_the_study_says_what_twenty_epochs_with_eta_to_0_bring():
    runs, gains = study.runs(), {}
    for record in records.read_records(anneal.RESULTS):
        first, curve = str(record["from_epoch"]), record["validation_log_likelihoods"]
        assert curve[first] == pytest.approx(runs[record["run"]]["validation_log_likelihoods"][first], abs=0.01)
        if record["epochs"] == 20:
            gain = curve[str(record["from_epoch"] + 20)] - curve[first]
            gains.setdefault(record["seed"], {})[record["from_epoch"]] = f"{gain:.0f}"
    each = [
        f"seed {seed}{' gains' * (seed < 2)} {listed(of[epoch] for epoch in sorted(of))}{' nats' * (seed < 1)} from "
        f"{'epoch ' * (seed < 1)}{listed(f'{epoch:,}' for epoch in sorted(of))}"
        for seed, of in sorted(gains.items())
    ]
    assert f"In twenty such epochs {', '.join(each[:-1])} and {each[-1]}." in written()
    of_all = [int(gain) for of in gains.values() for gain in of.values()]
    assert f"gain {min(of_all)} to {max(of_all)} nats on validation" in written("README.md")


def test_the_study_says_how_far_seeds_0_and_1_came():
    told, runs, scores = written(), study.runs(), []
    record = runs["sim-s0"]
    curve, test = record["validation_log_likelihoods"], record["evaluation"]["authors"]
    assert max(curve, key=curve.get) == str(record["evaluated_at_epoch"])
    assert f"the best on validation of the {len(curve)} that were measured" in told
    text = f"{test['log_likelihood']:.1f} ± {test['standard_error']:.1f} on the test set"
    assert f"{text}, {225 - test['log_likelihood']:.0f} nats below the paper's" in told
    ends = [r for r in records.read_records(anneal.RESULTS) if r["run"] == "sim-s0" and r["from_epoch"] >= 600]
    for end in ends:
        nats = end["validation_log_likelihoods"][str(end["from_epoch"] + end["epochs"])]
        scores.append((nats, *(end["test"][grid]["log_likelihood"] for grid in ("authors", "fine"))))
    nats, authors, fine = (f"{min(values):.1f} to {max(values):.1f}" for values in zip(*scores, strict=True))
    text = f"the {len(scores)} ends from epoch 600 on have {nats} nats on validation, {authors} on the test set"
    assert f"{text}, and {fine} with σ from 46 values" in told
    assert max(curve.values()) < min(scores)[0]
    _, authors, fine = max(scores)
    text = f"The best of them by validation has {authors:.1f} ({fine:.1f}) on the test set: {225 - authors:.0f} nats below"
    assert f"{text} the paper's, {225 - fine:.0f} with σ from 46 values." in told
    readme = written("README.md")
    score = f"{test['log_likelihood']:.1f} ± {test['standard_error']:.1f} nats on the test set"
    below = f"{225 - test['log_likelihood']:.0f} below the paper's"
    assert f"its best epoch on validation has {score}, {below}" in readme
    assert f"chosen on validation, has {authors:.1f} ± " in readme
    assert f"with σ from 46 values that end has {fine:.1f}" in readme


def test_the_study_says_what_the_evaluators_options_do():
    record = json.loads(evaluator.RESULTS.read_text())
    (run,) = (run for name, run in study.runs().items() if name == record["run"])
    assert record["epoch"] == run["evaluated_at_epoch"]
    assert f"Seed 0 after {record['epoch']} epochs, scored on the {record['scored_on']} that chose nothing" in written()
    scores = [row["authors"]["log_likelihood"] for row in record["rows"] if row["samples"] == 10_000]
    text = f"Table 1's z gives {scores[0]:.1f}, three others {min(scores[1:]):.1f} to {max(scores[1:]):.1f}"
    assert f"{text}: an epoch that was chosen with one z scores higher with it." in written()
    lift = f"{scores[0] - np.mean(scores[1:]):.0f}"
    assert f"Some {lift} nats of Table 1's score may be this." in written()
    assert f"some {lift} nats of it may be" in written("README.md")
    twice = next(row["authors"]["log_likelihood"] for row in record["rows"] if row["samples"] == 20_000)
    more = f"20,000 samples instead of 10,000 give the same net {twice - scores[0]:.0f} nats more"
    assert more in written()
    assert more in written("README.md")


def test_the_studys_learning_rates_are_those_of_the_released_schedule():
    told = written()
    floor = next(epoch for epoch in range(1, 10_000) if learning_rate_schedule(500 * epoch, 0.1) == 1e-6)
    rates = [learning_rate_schedule(500 * epoch + 1, 0.1) for epoch in (600, 1000, 3 * 100, 10 * 100)]
    after_600, after_1000, by_3, by_10 = (f"{rate:.3f}" for rate in rates)
    assert f"still at η = {after_600} after 600 epochs" in told
    assert f"to {after_1000} after 1,000 epochs and to its floor of 10⁻⁶ in epoch {floor:,}" in told
    assert f"compressed by 10 (η then {by_10}) and 153 by 3 ({by_3})" in told


def test_the_study_compares_ends_and_compressions_as_measured():
    told = written()
    runs, ends = study.runs(), {(r["run"], r["from_epoch"]): r for r in records.read_records(anneal.RESULTS)}
    end, short = ends["sim-s2", 100], ends["sim-s0", 100]
    zero, one = (runs[run] for run in ("sim-s0", "sim-s1"))
    text = f"seed 2 has {end['validation_log_likelihoods']['120']:.1f} on validation"
    text += f" and {end['test']['authors']['log_likelihood']:.1f} on the test set"
    before = [f"{run['validation_log_likelihoods']['300']:.1f}" for run in (zero, one)]
    tested = {f"{run['test_log_likelihoods']['300']:.1f}" for run in (zero, one)}
    assert f"{text}; after 300 without, seeds 0 and 1 have {' and '.join(before)}, and {tested.pop()} each" in told
    assert not tested
    last = {seed: run["evaluation"]["authors"] for seed, run in enumerate((zero, one))}
    scores = {seed: f"{test['log_likelihood']:.1f} ± {test['standard_error']:.1f}" for seed, test in last.items()}
    text = f"On the test set seed 1 has {one['test_log_likelihoods']['300']:.1f} after 300 epochs and {scores[1]} after 500,"
    assert f"{text} its last, and seed 0 {scores[0]} after 920, its best on validation." in told
    assert (one["epochs"], one["evaluated_at_epoch"], zero["evaluated_at_epoch"]) == (500, 500, 920)
    after_500 = [ends[run, 500]["test"]["authors"]["log_likelihood"] for run in ("sim-s0", "sim-s1")]
    text = f"After 500 epochs, annealed, two seeds differ by {after_500[0] - after_500[1]:.0f} nats: seed 1 has"
    assert f"{text} {after_500[1]:.1f} on the test set, seed 0 {after_500[0]:.1f} " in told
    three = (runs[run]["validation_log_likelihoods"]["100"] for run in ("compress10-s0", "compress3-s0", "sim-s0"))
    by_10, by_3, released = (f"{nats:.0f}" for nats in three)
    assert f"After a hundred epochs seed 0 has {by_10} nats with both schedules compressed by 10" in told
    after = f"{short['validation_log_likelihoods']['108']:.0f} eight epochs later"
    assert f"and {by_3} by 3 (0.055), with the released ones {released}, and {after}" in told


def test_readme_and_study_say_who_learns_and_how_far_each_seed_ran():
    readme, told, runs = written("README.md"), written(), study.runs()
    epochs = [runs[f"sim-s{seed}"]["epochs"] for seed in range(5)]
    assert all(runs[f"sim-s{seed}"]["reading"].startswith("learning: ") for seed in range(5))
    assert "The released recipe learns with all five seeds." in readme
    assert f"The longest run rises for all of its {epochs[0]:,} epochs" in readme
    assert epochs[3] == epochs[4]
    assert f"seed 2 ran for {epochs[2]} epochs, seeds 3 and 4 for {epochs[3]}" in told
    assert f"beyond {epochs[0]:,} epochs, where its η still falls; seeds 1 to 4 beyond {listed(epochs[1:])} epochs" in told
    loses = sum(not runs[f"alternating-s{seed}"]["reading"].startswith("learning: ") for seed in range(5))
    assert (loses, sum(bool(runs[f"printed-s{seed}"]["diverged"]) for seed in range(5))) == (3, 5)
    assert "in ten epochs `alternating` loses with three of five seeds, `printed` with all" in readme
    assert "within ten epochs `alternating` loses with three of five seeds" in told


def test_the_study_compares_departures_as_measured():
    told, runs = written(), study.runs()
    rows = [line.strip("| ").split(" | ") for line in study.table_of_departures(runs).splitlines()[2:]]
    quantiles, apart, ahead = {3: 4.3, 5: 2.8}, set(), set()
    for departs, seeds, _, ours, theirs, difference in rows:
        mean, error = map(float, difference.split(" ± "))
        ours, theirs = ([float(nats) for nats in cell.split(", ")] for cell in (ours, theirs))
        if abs(mean) > quantiles[len(seeds.split(", "))] * error:
            apart.add(departs)
        if all(np.greater(ours, theirs)):
            ahead.add(departs)
    assert apart == {"learning rate 0.05", "batch size 200", "variant alternating"}
    assert "only η = 0.05, m = 200 and `alternating` differ from the recipe by more" in told
    assert f"of {'ten' if len(rows) == 10 else len(rows)} comparisons with the same runs" in told
    assert ahead == {"learning rate 0.2", "batch size 50"}
    assert "Half of m and twice η are ahead with each of the three seeds." in told

    def nats(name, epoch):
        return [f"{runs[f'{name}-s{seed}']['validation_log_likelihoods'][epoch]:.0f}" for seed in range(3)]

    text = f"the recipe has {listed(nats('sim', '20'))} nats (@20 below), m = 50 has {listed(nats('batch50', '10'))}:"
    assert text in told
    longer = (runs[run]["validation_log_likelihoods"][epoch] for run, epoch in (("batch50-s0", "30"), ("sim-s0", "60")))
    assert "with {:.0f} after 30 epochs and the recipe {:.0f} after 60".format(*longer) in told


def test_the_study_says_what_the_values_of_sigma_are_worth():
    told, runs = written(), study.runs()
    ends = [r["test"] for r in records.read_records(anneal.RESULTS) if r["run"] == "sim-s0" and r["from_epoch"] >= 600]
    each = [e["fine"]["log_likelihood"] - e["authors"]["log_likelihood"] for e in [*ends, runs["sim-s0"]["evaluation"]]]
    assert f"The first is worth {min(each):.0f} to {max(each):.0f} nats here." in told
    assert f"The ten values are {AUTHORS_SIGMAS[1] / AUTHORS_SIGMAS[0] - 1:.0%} apart".replace("%", " %") in told
    assert (len(AUTHORS_SIGMAS), len(FINE_SIGMAS)) == (10, 46)


def test_the_study_says_when_the_released_schedule_comes_to_where_annealing_comes():
    curve, later, never = study.runs()["sim-s0"]["validation_log_likelihoods"], [], []
    ends = [end for end in records.read_records(anneal.RESULTS) if end["run"] == "sim-s0"]
    for end in ends:
        last = end["from_epoch"] + end["epochs"]
        reached = [int(epoch) for epoch in curve if curve[epoch] >= end["validation_log_likelihoods"][str(last)]]
        if reached:
            later.append(min(reached) - last)
        else:
            never.append(end["from_epoch"])
    text = f"comes {min(later)} to {max(later)} epochs later, and from epoch {min(never)} on to where it never was"
    assert text in written()
    assert len(never) == sum(end["from_epoch"] >= min(never) for end in ends)


def test_table_1_has_the_released_recipes_best_run_by_validation():
    """Not the best on the test set, no departure, and no run that was not measured."""

    def record(seed, validation, test, **departs):
        evaluation = {grid: {"log_likelihood": test, "standard_error": 1.0} for grid in ("authors", "fine")}
        curve = {"5": 999.0, "10": validation}  # chosen by the epoch that was measured, not by the curve's best
        facts = {"departs_in": departs, "seed": seed, "evaluated_at_epoch": 10, "validation_log_likelihoods": curve}
        return facts | {"evaluation": evaluation if test else {}}

    records = [record(0, 50.0, 90.0), record(1, 60.0, 55.0), record(2, 70.0, None), record(3, 80.0, 80.0, k=2)]
    row = study.table_1(dict(enumerate(records))).splitlines()[-1]
    assert "55.0 ± 1.0 (55.0), epoch 10, seed 1, the best of 2 by validation" in row


def test_a_departure_is_read_beside_the_released_recipe_with_the_same_seeds():
    """At the last epoch that all of them have; no departure in two things, and none of a single seed."""

    def record(seed, curve, **departs):
        curve = {str(epoch): nats for epoch, nats in curve.items()}
        return {"seed": seed, "variant": "simultaneous", "departs_in": departs, "validation_log_likelihoods": curve}

    records = [
        record(0, {9: 1.0, 20: 10.0, 30: 50.0}),
        record(1, {9: 2.0, 20: 20.0}),
        record(2, {9: 3.0}),
        record(0, {9: 9.0, 20: 14.0, 30: 99.0}, k=2),
        record(1, {9: 9.0, 20: 44.0, 30: 99.0}, k=2),
        record(4, {9: 9.0, 20: 9.0, 30: 99.0}, k=2),  # the recipe was not run with this seed
        record(0, {9: 41.0}, learning_rate=0.2),
        record(1, {9: 32.0}, learning_rate=0.2),
        record(0, {9: 7.0}, calm=True),
        record(0, {9: 9.0}, k=2, calm=True),
        record(1, {9: 9.0}, k=2, calm=True),
    ]
    assert study.table_of_departures(dict(enumerate(records))).splitlines()[2:] == [
        "| learning rate 0.2 | 0, 1 | 9 | 41, 32 | 1, 2 | +35 ± 5 |",
        "| k 2 | 0, 1 | 20 | 14, 44 | 10, 20 | +14 ± 10 |",  # of 4 and 24: s.e. = √200/√2
    ]


def test_the_size_that_the_sweep_states_is_that_of_the_three_vectors():
    args = argparse.Namespace(width=20, d_width=6, pieces=3, learning_rate=0.1, variant="alternating")
    gan = step_time.make_tinygan(args, step_time.initial(args), dropout=True).gan
    optimizers = (gan.G_optimizer, gan.G_grad), (gan.D_optimizer, gan.D_grad)
    held = sum(o.theta.nbytes + o.velocity.nbytes + grad.nbytes for o, grad in optimizers)
    assert step_time.vectors_size(*step_time.shapes(args.width, args.d_width, args.pieces)) == held


def test_the_readmes_speed_is_that_of_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sweep, one_core = (
        json.loads((study.RESULTS / f"{name}.json").read_text()) for name in ("step_sweep", "step_time_one_core")
    )
    for row in sweep["batch_size"] + sweep["width"]:
        assert step_time.sweep_line(row) in readme
    for name in "alternating", "simultaneous":
        work = step_time.gflop(step_time.products(name, 100, *step_time.shapes(1200, 240, 5)))
        assert f"the matrix products of `{name}` ({work:.2f} GFLOP)" in readme
    median = {name: np.median(times) for name, times in one_core["milliseconds"].items()}
    alternating, simultaneous = (median[f"tinygan, {v}"] / median[f"floor, {v}"] for v in ("alternating", "simultaneous"))
    assert f"the ratio is {alternating:.2f} for `alternating` and {simultaneous:.2f} for `simultaneous`" in readme


def test_a_record_replaces_the_one_of_its_key_and_no_other(tmp_path):
    path, key = tmp_path / "records.json", ("run", "seed")
    assert records.read_records(path) == []
    for record in {"run": "a", "seed": 0, "x": 1}, {"run": "a", "seed": 1, "x": 2}, {"run": "a", "seed": 0, "x": 3}:
        records.keep_record(path, record, key)
    assert [record["x"] for record in records.read_records(path)] == [2, 3]


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
    with pytest.raises(DataError, match="other test images than MNIST's 10,000"):
        study.take_in(folder)
    run("a", "--epochs", 2, "--overwrite")
    assert not list(folder.glob("*.evaluation.json"))
