"""Folders of runs, made up: what a report reads, without a training."""

import io
import json

import numpy as np
from PIL import Image

COLUMNS = "epoch,value,discriminator_cost,generator_cost,D_x,D_G_z,learning_rate,validation_log_likelihood,seconds"


def png(size=(12, 8), seed=0):
    """A picture of noise, as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], np.uint8)).save(file, "PNG")
    return file.getvalue()


def metrics(epochs):
    """metrics.csv: every number of an epoch is its own; each second epoch is measured."""
    rows = [
        f"{e},{-1 - e / 1000:g},0.{e:04d},1.{e:04d},0.6{e:04d},0.3{e:04d},0.1,{100 + e if e % 2 == 0 else ''},1.5"
        for e in range(1, epochs + 1)
    ]
    return "\n".join([COLUMNS, *rows, ""])


def run_json(epochs, **changes):
    sigmas = {"sigmas": [0.1, 0.2], "validation_log_likelihoods": [99.5, 100.5], "warnings": ["of the score"]}
    score = {"log_likelihood": 98.76, "standard_error": 1.25, "sigma": 0.2, "samples": 10000, "test_rows": 10000}
    return {
        "data": {"source": "made up"},
        "epochs": epochs,
        "options": {"script": "mnist.py"},
        "configuration": {"learning_rate": 0.05, "image_shape": [28, 28], "seed": 3, "calm": True},
        "departures": {"learning_rate": 0.1, "calm": False},
        "repeat": {"seed": 3, "learning_rate": 0.05, "calm": True, "data": "my data", "epochs": epochs},
        "environment": {"numpy": "2.0", "threads": {"OPENBLAS_NUM_THREADS": "1"}},
        "results": {"reading": "learning: so it is", "evaluation": {"authors": score | sigmas, "fine": score | sigmas}},
    } | changes


def make_run(folder, epochs=4, every=1, **changes):
    """A finished run of so many epochs. changes: of run.json."""
    (folder / "samples").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run_json(epochs, **changes)), encoding="utf-8")
    (folder / "metrics.csv").write_text(metrics(epochs), encoding="utf-8")
    at = range(0, epochs + 1, every)
    looks = {str(e): {"D_x": [0, e, 5], "D_G_z": [e, 7, 0], "distinct": 900 + e, "verdict": f"verdict {e}"} for e in at}
    (folder / "report.json").write_text(json.dumps({"rows": 1000, "distinct_data": 980, "epochs": looks}), encoding="utf-8")
    for e in at:
        (folder / "samples" / f"epoch-{e:04d}.png").write_bytes(png((30 if e == 0 else 12, 8), e))
    (folder / "neighbours.png").write_bytes(png())
    return folder
