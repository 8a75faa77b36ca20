"""benchmarks/study/faces.py: what it takes in of a run, and what Table 1 says of the faces."""

import json

import faces as study
import numpy as np
import pytest
import study as comparison
import tfd

from tinygan import load_checkpoint
from tinygan.recipes import TFD


def result(nats, validation):
    folds = [{"sigma": 0.2, "log_likelihood": nats, "standard_error": 1.0, "validation": validation, "test_rows": 8}] * 5
    authors = {"log_likelihood": nats, "standard_error": 2.0, "validation": validation, "folds": folds}
    return {"authors": authors, "fine": {"log_likelihood": nats + 1, "standard_error": 2.0, "validation": validation}}


def record(name, evaluations, data="mat-faces48", **settings):
    made = {option: TFD[option] for option in study.OPTIONS} | {"name": name, "data": data, "first_stage": 50, "epochs": 72}
    made["evaluations"] = {epoch: result(*scores) for epoch, scores in evaluations.items()}
    row = {"D_x": 0.9, "D_G_z": 0.1}
    made |= {"curve": [row] * 72, "minutes": 30, "distinct_samples": 7, "distinct_data": 400, "diverged": None}
    return made | settings


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """kept(*records): they are the results, in the place of the committed ones."""
    monkeypatch.setattr(study, "RUNS", tmp_path / "faces.json")

    def kept(*records):
        study.RUNS.write_text(json.dumps(records))

    return kept


def test_table_1_has_the_recipes_best_run_by_validation_and_names_a_stand_in(kept):
    assert study.cell() == "not run"
    kept(record("narrow", {"72": (999.0, 999.0)}, scale=8), record("no", {"72": (999.0, 999.0)}, max_column_norm=None))
    assert study.cell() == "not run"
    kept(record("a", {"50": (5.0, 9.0), "72": (7.0, 6.0)}), record("b", {"72": (6.0, 8.0)}, seed=1))
    assert study.cell() == "on a stand-in, mat-faces48: 5.0 ± 2.0 (6.0), epoch 50, seed 0"
    assert study.table_of_folds(study.read_records(study.RUNS)).count("| 5.0 |") == 5
    kept(record("a", {"72": (7.0, 6.0)}, data="tfd"))
    assert study.cell() == "7.0 ± 2.0 (8.0), epoch 72, seed 0"


def test_the_table_of_runs_has_a_row_for_each_measured_epoch(kept):
    runs = [
        record("a", {"50": (5.0, 9.0), "72": (7.0, 6.0)}),
        record("b", {}, max_column_norm=None, scale=8),
        record("c", {"72": (4.0, 4.0)}, first_stage=72),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in study.table_of_runs(runs).splitlines()[2:]]
    assert [row[:5] for row in rows] == [
        ["stage 1 for 72 epochs", "0", "1", "72", "4.0 ± 2.0 (5.0)"],
        ["the recipe", "0", "1", "50", "5.0 ± 2.0 (6.0)"],
        ["the recipe", "0", "2", "72", "7.0 ± 2.0 (8.0)"],
        ["scale 8, max column norm none", "0", "", "72", "not measured"],
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tinygan.parzen.ParzenWarning")
def test_a_run_is_taken_in_with_its_command_and_all_its_measurements(call, tmp_path):
    file, folder = tfd.draw_faces(tmp_path / "TFD_48x48.mat", 60, 30), tmp_path / "a"
    options = ["--scale", 400, "--batch-size", 20, "--first-stage", 1, "--epochs", 2, "--no-max-column-norm"]
    call(tfd.program, "--data", file, "--out", folder, "--backend", "numpy", *options)
    call(tfd.program, "--evaluate", folder / "checkpoint-0001.npz", "--backend", "numpy")
    found = study.take_in(folder)
    expected = "--data TFD_48x48.mat --seed 0 --scale 400.0 --batch-size 20 --no-max-column-norm --epochs 2 --first-stage 1"
    assert found["command"] == f"python examples/tfd.py {expected}"
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]["evaluation"]
    assert list(found["evaluations"]) == ["1", "2"]
    best = [max(fold["validation_log_likelihoods"]) for fold in facts["authors"]["folds"]]
    for name, value in {**facts["authors"], "validation": np.mean(best)}.items():
        if name in ("log_likelihood", "standard_error", "validation"):
            assert found["evaluations"]["2"]["authors"][name] == value
    assert [row["epoch"] for row in found["curve"]] == [1, 2]
    assert found["data_digest"] == load_checkpoint(folder / "checkpoint.npz").configuration["data_digest"]
    assert str(tmp_path) not in json.dumps(found)
    comparison.take_in(folder, results=tmp_path / "results")  # study.py --results compares such runs, too
    table = comparison.table_of_runs(comparison.runs(tmp_path / "results"), named=True)
    assert f"{facts['authors']['log_likelihood']:.1f} ±" in table
