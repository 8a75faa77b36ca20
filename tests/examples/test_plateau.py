"""benchmarks/study/plateau.py, on narrow nets: what it measures at the start, its training in larger steps, its departures."""

import argparse
import json

import numpy as np
import plateau
import pytest
import records

from tinygan import Adam, Linear, Network, load_cifar10
from tinygan.layers import Dropout

pytestmark = pytest.mark.slow


def arguments(**changed):
    plain = {"scale": 200.0, "seed": 0, "minutes": 1.0, "every": 2, "batch_size": 5, "faster": 1.0, "picture": None}
    plain |= {"momentum": None}
    plain |= {"name": "a", "learning_rate": 0.004, "generator_rate": 1.0, "adam": 0.0, "discriminator_gain": 0.0}
    return argparse.Namespace(**plain | {"sigmoids": 1.0, "deconvolution": 1.0, "calm": False} | changed)


@pytest.fixture
def dataset(colours):
    return load_cifar10(colours)


def test_a_spread_is_over_the_rows_alone_and_without_dropout():
    network = Network([Dropout(0.5), Linear(2, 2, bias=[100.0, -100.0])], dtype=np.float64)
    network.layers[1].W[...] = [[3, 0], [0, 4]]
    x = np.array([[1.0, 5], [-1, 5]])
    assert plateau.spreads(network, x) == [pytest.approx(3 / 2**0.5)]  # of 3 in one output, and of none in the other


def test_the_start_of_a_player(dataset, monkeypatch):
    monkeypatch.setattr(plateau, "MINIBATCHES", 2)
    monkeypatch.setitem(plateau.recipes.CIFAR10["convolutional"], "batch_size", 5)
    record = plateau.start(arguments(), dataset)
    _, gan, _ = plateau.game(arguments(), dataset)
    for name, network in ("G", gan.G), ("D", gan.D):
        found = {p["name"]: p for p in record["networks"][name]["parameters"]}
        assert list(found) == list(network.parameters())
        for key, values in network.parameters().items():
            assert found[key]["size"] == pytest.approx(float(np.linalg.norm(values)), rel=1e-5)
            assert 0 < found[key]["mean_gradient"] < found[key]["gradient"]  # two minibatches disagree in part
            assert found[key]["change"] == pytest.approx(0.004 * found[key]["gradient"])
    assert record["logit"]["data"] < 1e-4
    table = plateau.tables([{"what": "start"} | record])["start"].splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [
        *("| G.0.W", "| G.2.W", "| G.5.W", "| D.2.W", "| D.6.W", "| D.10.W", "| D.15.W", "| D.17.W"),
    ]


def test_larger_steps_take_the_schedules_with_them(dataset, monkeypatch):
    seen = {}

    def play(args, gan, trainer, until_learns):
        optimizer = gan.D_optimizer
        seen["eta"] = optimizer.learning_rate(1), optimizer.learning_rate(11)
        seen["mu"] = trainer.momentum(1), trainer.momentum(1 + 249 / 50)
        return [], {}, 0.0

    monkeypatch.setattr(plateau, "play", play)
    plateau.flow(arguments(faster=50.0), dataset)
    assert seen["eta"] == pytest.approx((0.2, 0.2 / 1.000004**500))
    assert seen["mu"] == pytest.approx((0.5, 0.7))


def test_a_training_is_looked_at_and_ends_when_V_moves(dataset, tmp_path):
    args = arguments(minutes=0.0, picture=tmp_path / "a.png")
    rows, gone, _ = plateau.play(args, *plateau.departed(args, dataset))
    assert [row["iteration"] for row in rows] == [0, 1]
    assert rows[0]["value"] == pytest.approx(-np.log(4), abs=1e-4)
    assert set(gone) == {"G.0.W", "G.2.W", "G.5.W", "D.2.W", "D.6.W", "D.10.W", "D.15.W", "D.17.W"}
    assert all(0 < share < 1e-2 for share in gone.values())
    assert (tmp_path / "a.png").exists()
    gan, trainer = plateau.departed(arguments(discriminator_gain=3.0), dataset)
    rows, _, _ = plateau.play(arguments(), gan, trainer, until_learns=True)
    assert rows[-1]["iteration"] == 2
    assert abs(rows[-1]["value"] + np.log(4)) > plateau.LEARNS


@pytest.mark.parametrize(("given", "expected"), [(None, 0.5), (0.3, 0.3)])
def test_a_training_has_the_recipes_momentum_unless_another_is_given(dataset, given, expected):
    gan, trainer = plateau.departed(arguments(minutes=0.0, momentum=given), dataset)
    plateau.play(arguments(minutes=0.0, momentum=given), gan, trainer)
    assert [player.optimizer.momentum for player in gan.players.values()] == [expected, expected]


def test_in_its_second_epoch_a_training_has_that_epochs_momentum(dataset, monkeypatch):
    args = arguments(every=1, faster=50.0, minutes=1.0)
    _, gan, trainer = plateau.game(args, dataset, schedule_compression=50.0, batch_size=5)
    seen = []

    def look(gan, held_out, z):
        seen.append(gan.D_optimizer.momentum)
        value = 0.0 if len(seen) == trainer.iterations + 2 else -np.log(4)  # the end, after an iteration of the second epoch
        return {"value": value}

    monkeypatch.setattr(plateau, "look", look)
    plateau.play(args, gan, trainer, until_learns=True)
    assert seen[1:] == pytest.approx([0.5] * trainer.iterations + [0.5 + 0.2 * 50 / 249])


def test_what_ends_a_plateau():
    rows = [{"iteration": i, "gap": gap} for i, gap in ((0, 1e-5), (4, -9e-3), (8, -2e-2), (12, 3.0))]
    assert plateau.moved(rows) == 8
    assert plateau.moved(rows[:2]) is None


def test_a_record_of_a_run_has_what_its_files_say(tmp_path):
    names = {"train": 8000, "batch_size": 128, "scale": 1.0, "seed": 3, "model": "convolutional", "data": "some"}
    (tmp_path / "run.json").write_text(json.dumps({"configuration": names, "environment": {"commit": "abc"}}))
    (tmp_path / "metrics.csv").write_text(
        "epoch,value,D_x,D_G_z,seconds\n1,-1.386,0.5,0.5,90\n2,-1.3,0.6,0.4,60\n3,-1.2,0.7,0.3,30\n"
    )
    record = plateau.of_run(tmp_path)
    assert [row["iteration"] for row in record["rows"]] == [62, 124, 186]
    assert record["rows"][1] == {"iteration": 124, "value": -1.3, "D_x": 0.6, "D_G_z": 0.4}
    assert (record["minutes"], record["seed"], record["commit"]) == (3.0, 3, "abc")
    table = plateau.tables([{"what": "run"} | record])["run"].splitlines()
    assert table[-1] == "| 3 | 3 | 186 | 0.19 | 0.7000 | 0.3000 |"


def test_what_the_page_says_of_the_end_of_the_plateau_is_in_the_record():
    """Between 1,400 and 1,500 iterations, in epoch 24; and as the computed flow, at three quarters of its iterations."""
    found = records.read_records(plateau.RECORDS)
    (run,) = [record for record in found if record["what"] == "run"]
    gaps = {row["iteration"]: 4 * (row["D_x"] - row["D_G_z"]) for row in run["rows"]}
    first = min(iteration for iteration, gap in gaps.items() if gap > plateau.MOVED)
    assert (first, run["iterations"]) == (24 * 62, 62)
    assert 1400 < first - 62 < first < 1500
    (flow,) = [r for r in found if r["what"] == "flow" and r["scale"] == 1 and r["momentum"] is None]
    at = {row["iteration"] * flow["faster"]: row["value"] for row in flow["rows"]}
    for computed, seen in (1600, 1240), (2000, 1488):
        value = next(row["value"] for row in run["rows"] if row["iteration"] == seen)
        assert value + np.log(4) == pytest.approx(at[computed] + np.log(4), rel=0.1)
        assert seen / computed == pytest.approx(0.75, abs=0.03)


def test_each_departure_changes_what_it_names(dataset):
    plain, _ = plateau.departed(arguments(), dataset)
    gan, _ = plateau.departed(
        arguments(discriminator_gain=0.5, sigmoids=5.0, deconvolution=3.0, learning_rate=0.01, generator_rate=40.0), dataset
    )
    for i in 2, 6, 10:  # the others have few weights here
        n = int(np.prod(gan.D.layers[i].W.shape[:-1]))
        assert abs(gan.D.layers[i].W).max() == pytest.approx(0.5 * (3 / n) ** 0.5, rel=0.05)
    for i, factor in (0, 1), (2, 5), (5, 3):
        np.testing.assert_allclose(gan.G.layers[i].W, factor * plain.G.layers[i].W, rtol=1e-5)
    assert (gan.D_optimizer.learning_rate_at(1), gan.G_optimizer.learning_rate_at(1)) == (0.01, pytest.approx(0.4))
    gan, _ = plateau.departed(arguments(adam=0.5, learning_rate=1e-4, generator_rate=10.0), dataset)
    assert isinstance(gan.G_optimizer, Adam)
    assert (gan.D_optimizer.learning_rate_at(1), gan.G_optimizer.learning_rate_at(1)) == (1e-4, pytest.approx(1e-3))
