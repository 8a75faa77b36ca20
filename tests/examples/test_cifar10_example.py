"""examples/cifar10.py and examples/sample.py on its runs: narrow nets on a tiny set in CIFAR-10's format, in colour."""

import json
import warnings

import cifar10
import numpy as np
import pytest
import sample
from helpers import refused, rows
from PIL import Image

import tinygan.run
from tinygan import CheckpointError, load_checkpoint, load_cifar10, load_generator
from tinygan.datasets import contrast_pixels, normalise_contrast
from tinygan.images import image_grid, nearest_neighbours
from tinygan.parzen import AUTHORS_SIGMAS, ParzenWarning, evaluate
from tinygan.recipes import CIFAR10
from tinygan.run import COLUMNS

MODELS = list(CIFAR10)
NARROW = ["--scale", 200, "--batch-size", 10, "--backend", "numpy"]


@pytest.fixture
def train(call, colours, tmp_path):
    """train(name, model, *options): examples/cifar10.py, into a folder of that name."""

    def train(name, model, *options):
        given = ["--model", model, "--data", colours, "--out", tmp_path / name, "--evaluate-every", 2, *NARROW, *options]
        call(cifar10.program, *given)
        return tmp_path / name

    return train


@pytest.mark.parametrize("model", MODELS)
def test_the_options_are_the_recipes_settings(call, model):
    args = vars(call(cifar10.parse_arguments, "--model", model))
    assert {name: args[name] for name in CIFAR10[model]} == CIFAR10[model]
    args = vars(call(cifar10.parse_arguments, "--model", model, "--learning-rate", 0.3, "--calm", "--scale", 2))
    assert {name: args[name] for name in CIFAR10[model]} == CIFAR10[model] | {"learning_rate": 0.3, "calm": True, "scale": 2}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_run_writes_what_mnists_writes_in_colour(train, call, model, colours, capsys):
    folder = train("a", model, "--epochs", 2, "--picture-every", 1)
    out = capsys.readouterr().out
    names = {path.name for path in folder.iterdir()}
    assert {"checkpoint.npz", "metrics.csv", "run.json", "samples", "samples.gif"} <= names
    header, *lines = rows(folder)
    assert tuple(header[: len(COLUMNS)]) == COLUMNS
    assert len(lines) == 2
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert facts["data"]["name"] == f"bin-{colours.name}"
    assert "25 training and 10 test images" in facts["data"]["source"]
    assert (facts["configuration"]["model"], facts["configuration"]["scale"]) == (model, 200)
    assert "normalised" in facts["results"]["units"]
    assert facts["results"]["reading"] in out
    generator, dataset = load_generator(folder), load_cifar10(colours)
    held_out, test = (normalise_contrast(split.images) for split in (dataset.validation, dataset.test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)  # 50 samples that are far from the data
        expected = evaluate(tinygan.run.evaluation_samples(generator, 50), held_out, test, AUTHORS_SIGMAS)
    assert facts["results"]["evaluation"]["authors"]["log_likelihood"] == expected.log_likelihood
    assert load_checkpoint(folder / "checkpoint.npz").metrics[1]["validation_log_likelihood"] == max(
        expected.validation_log_likelihoods
    )
    for epoch in range(3):
        with Image.open(folder / "samples" / f"epoch-{epoch:04d}.png") as picture:
            left = 0 if epoch else 2 + 5 * 34 + 6  # the first has images of the data on its left, normalised as well
            assert (picture.size, picture.mode) == ((left + 2 + 10 * 34, 2 + 10 * 34), "RGB")
    call(cifar10.program, "--model", model, "--data", colours, "--evaluate", folder, "--backend", "numpy")
    again = json.loads((folder / "checkpoint.evaluation.json").read_text(encoding="utf-8"))
    assert again["evaluation"] == facts["results"]["evaluation"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_is_the_run_that_never_stopped(train, model):
    whole, parts = train("whole", model, "--epochs", 2), train("parts", model, "--epochs", 1)
    train("parts", model, "--epochs", 2, "--resume")
    assert (whole / "checkpoint.npz").read_bytes() == (parts / "checkpoint.npz").read_bytes()
    other = MODELS[1 - MODELS.index(model)]
    with refused(error=CheckpointError):
        train("parts", other, "--epochs", 3, "--resume")


@pytest.mark.slow
def test_smoke_takes_seconds_and_narrow_nets(call, colours, tmp_path):
    call(
        cifar10.program, "--model", "fully-connected", "--smoke", "--data", colours, "--out", tmp_path / "s", "--batch-size", 10
    )
    facts = json.loads((tmp_path / "s" / "run.json").read_text(encoding="utf-8"))
    assert facts["data"]["name"].endswith("-smoke")
    assert (facts["configuration"]["scale"], facts["epochs"]) == (cifar10.SMOKE_SCALE, 2)


def test_samples_beside_the_nearest_photographs_in_colour(train, call, colours, capsys):
    folder = train("a", "fully-connected", "--epochs", 1)
    call(sample.program, folder, "--n", 20, "--nearest", "--interpolate", "--data", colours, "--backend", "numpy")
    assert "nearest training image" in capsys.readouterr().out
    x = np.load(folder / "samples.npy", allow_pickle=False)
    np.testing.assert_array_equal(x, load_generator(folder).sample(20, 0))  # as G makes them
    with Image.open(folder / "samples.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), image_grid(contrast_pixels(x), (32, 32, 3), 10))
    with Image.open(folder / "nearest.png") as picture:
        grid = np.asarray(picture)
    assert grid.shape == (2 + 8 * 34, 2 + 10 * 34, 3)
    tiles = grid[2:, 2:].reshape(8, 34, 10, 34, 3)[:, :32, :, :32].transpose(0, 2, 1, 3, 4).reshape(8, 10, 3072)
    train_pixels = contrast_pixels(normalise_contrast(load_cifar10(colours).train.images))
    nearest, _ = nearest_neighbours(tiles[:, 8], train_pixels)
    np.testing.assert_array_equal(tiles[:, 9], train_pixels[nearest])
