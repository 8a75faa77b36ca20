"""benchmarks/study/batch_norm.py: what it takes from runs of examples/dcgan.py, on tiny pictures."""

import json

import batch_norm
import numpy as np
import pytest
import records
from PIL import Image

from tinygan import load_checkpoint, load_generator, load_mnist, random_generator


@pytest.mark.slow
def test_a_record_says_what_its_run_says(train_dcgan, call, pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(batch_norm, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(batch_norm, "PICTURE", tmp_path / "results.png")
    monkeypatch.setattr(batch_norm, "TIMED", 2)
    monkeypatch.setattr(records, "DATA", f"idx-{pictures.name}")
    plain = train_dcgan("plain", "--epochs", 2, "--no-batch-norm", "--learning-rate", 0.01)
    normalised = train_dcgan("bn", "--epochs", 2)
    call(batch_norm.main, plain, normalised, "--data", pictures)
    facts = json.loads((tmp_path / "results.json").read_text())
    assert facts["milliseconds_of_an_iteration"].keys() == {"with", "without"}
    with Image.open(batch_norm.PICTURE) as picture:
        assert picture.size == (960, 130)

    found = facts["runs"]
    assert [(record["batch_norm"], record["learning_rate"]) for record in found] == [(True, 0.05), (False, 0.01)]
    assert found[1]["command"] == "python examples/dcgan.py --seed 0 --learning-rate 0.01 --no-batch-norm --epochs 2"
    train = load_mnist(pictures).train
    for record, folder in zip(found, (normalised, plain), strict=True):
        results = json.loads((folder / "run.json").read_text())["results"]
        assert record["iterations"] == 12
        assert record["distinct_samples"] == results["distinct_samples"]
        for grid, figures in record["evaluation"].items():
            assert figures.items() <= results["evaluation"][grid].items()
        last = load_checkpoint(folder / "checkpoint.npz").metrics[-1]
        assert record["curve"][-1] == pytest.approx({name: last[name] for name in record["curve"][-1]}, rel=1e-5)

        # a sample counts as the digit of the nearest training image
        samples = load_generator(folder).sample(1000, random_generator(np, 2014, "evaluation")).astype(np.float64)
        distances = ((samples[:, None] - train.images[None] / 255) ** 2).sum(axis=2)
        assert record["digits_of_1000"] == np.bincount(train.labels[distances.argmin(axis=1)], minlength=10).tolist()

        # without batch norm, D judges in training as it does in a report
        same = record["as_in_training"] == pytest.approx({name: last[name] for name in ("D_x", "D_G_z")}, abs=1e-3)
        assert same == (folder == plain)


def test_the_table_has_a_row_for_each_run():
    curve = [{"value": -1.0, "D_x": 0.75, "D_G_z": 0.25, "validation_log_likelihood": nats} for nats in (1.4, 20.0)]
    evaluation = {grid: {"log_likelihood": 90.0, "standard_error": 1.0} for grid in ("authors", "fine")}
    common = {"weight_range": 0.035, "curve": curve, "iterations": 7, "distinct_samples": 3, "diverged": None}
    common |= {"digits_of_1000": [5] * 10}
    found = [
        common | {"batch_norm": False, "learning_rate": 0.5, "seed": 0, "evaluation": {}, "diverged": "in an iteration"},
        common | {"batch_norm": True, "learning_rate": 0.1, "seed": 1, "evaluation": evaluation},
        common | {"batch_norm": True, "learning_rate": 0.1, "seed": 0, "evaluation": evaluation},
    ]
    rest = "3 of 1,000 | 5 of 1,000 | 0.75, 0.25 |"
    assert batch_norm.table({"runs": found}).splitlines()[2:] == [
        f"| yes | 0.035 | 0.1 | 0 | 7 | 1, 20 | 90.0 ± 1.0 (90.0) | {rest}",
        f"| yes | 0.035 | 0.1 | 1 | 7 | 1, 20 | 90.0 ± 1.0 (90.0) | {rest}",
        f"| no | 0.035 | 0.5 | 0 | 7 | 1, 20 | diverged | {rest}",
    ]
