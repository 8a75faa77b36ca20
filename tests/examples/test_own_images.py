"""examples/mnist.py and examples/sample.py on a reader's own images: a run, its resume, its evaluation and its pictures."""

import json
import re

import mnist
import numpy as np
import pytest
import sample
from helpers import SMALL, refused
from PIL import Image
from scripts import EXAMPLES

from tinygan import CheckpointError, DataError, load_checkpoint, load_generator, load_images, load_mnist
from tinygan.images import neighbour_grid

pytestmark = pytest.mark.slow

SHORT = ("--epochs", 2, "--evaluate-every", 2, *SMALL)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 pictures in colour, of three sizes, in two classes; they do not go from 0 to 255."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(60):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        h, w = [(6, 8), (9, 6), (7, 7)][i % 3]
        x = rng.integers(20, 140, (h, w, 3), dtype=np.uint8)
        Image.fromarray(x).save(folder / "ab"[i % 2] / f"{i:02}.png")
    return folder


@pytest.fixture
def trained(call, photographs, tmp_path):
    call(mnist.program, "--data", photographs, "--size", 5, "--out", tmp_path / "run", *SHORT)
    return tmp_path / "run"


def test_a_run_on_photographs_says_what_it_was_given(call, photographs, tmp_path, capsys):
    trained = tmp_path / "run"
    call(mnist.program, "--data", photographs, "--size", 5, "--out", trained, *SHORT)
    facts = json.loads((trained / "run.json").read_text())
    assert facts["data"]["name"] == f"images-{photographs.name}"
    for words in str(photographs), "60", "2 classes: a, b", "resized to 5 × 5", "colour", "values", "48/6/6":
        assert words in facts["data"]["source"]
    configuration = facts["configuration"]
    assert (configuration["size"], configuration["image_shape"]) == (5, [5, 5, 3])
    assert configuration["data_digest"] == load_images(photographs, size=5).digest
    assert facts["data"]["source"] in capsys.readouterr().out
    with Image.open(trained / "samples" / "epoch-0002.png") as picture:
        assert picture.mode == "RGB"
        assert picture.size == (2 + 10 * 7, 2 + 10 * 7)


def test_the_networks_follow_the_images(trained):
    checkpoint = load_checkpoint(trained / "checkpoint.npz")
    layers = {name: [layer["config"] for layer in network] for name, network in checkpoint.architecture.items()}
    assert next(layer["n_in"] for layer in layers["D"] if "n_in" in layer) == 75
    assert [layer["n_out"] for layer in layers["G"] if "n_out" in layer][-1] == 75


def test_a_run_starts_near_the_mean_image_though_it_has_no_black_and_no_white(trained, photographs):
    dataset = load_images(photographs, size=5)
    assert 0 < dataset.train.images.min() < dataset.train.images.max() < 255
    samples, mean = 255 * load_generator(trained).sample(50, 0), dataset.train.images.mean(axis=0)
    assert np.abs(samples - mean).mean() < 10  # after 8 iterations
    assert np.abs(samples - 127.5).mean() > 15


def test_a_resumed_run_knows_its_images(call, trained, photographs, tmp_path):
    again = ("--data", photographs, "--size", 5, "--out", trained, "--resume", *SHORT)
    call(mnist.program, *again, "--epochs", 3)
    call(mnist.program, "--data", photographs, "--size", 5, "--out", tmp_path / "straight", *SHORT, "--epochs", 3)
    assert (trained / "checkpoint.npz").read_bytes() == (tmp_path / "straight" / "checkpoint.npz").read_bytes()
    Image.fromarray(np.zeros((7, 7, 3), np.uint8)).save(photographs / "a" / "new.png")
    try:
        with refused("data_digest", "--data", error=CheckpointError):
            call(mnist.program, *again, "--epochs", 4)
    finally:
        (photographs / "a" / "new.png").unlink()


def test_a_checkpoint_is_measured_and_sampled_at_its_own_size(call, trained, photographs, capsys):
    before = json.loads((trained / "run.json").read_text())["results"]["evaluation"]
    call(mnist.program, "--evaluate", trained, "--data", photographs, "--backend", "numpy")
    assert json.loads((trained / "checkpoint.evaluation.json").read_text())["evaluation"] == before
    call(sample.program, trained, "--nearest", "--interpolate", "--data", photographs, "--backend", "numpy")
    dataset = load_images(photographs, size=5)
    for name, size in {"samples": 10, "nearest": 8, "interpolation": 8}.items():
        with Image.open(trained / f"{name}.png") as picture:
            assert (picture.mode, picture.height) == ("RGB", 2 + size * 7)
    with Image.open(trained / "nearest.png") as picture:
        tile = np.asarray(picture)[2:7, 2 + 9 * 7 : 7 + 9 * 7].reshape(-1)
    assert (dataset.train.images == tile).all(axis=1).any()  # a training image, every pixel of it
    with refused("trained on 48 images", "--data", error=DataError):
        call(mnist.program, "--evaluate", trained, "--data", photographs, "--size", 4, "--backend", "numpy")


def test_later_commands_need_neither_the_folder_nor_the_size(call, trained, photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(mnist.program, "--out", trained, "--resume", "--epochs", 3, "--backend", "numpy")
    assert load_checkpoint(trained / "checkpoint.npz").epoch == 3
    call(mnist.program, "--evaluate", trained, "--backend", "numpy")
    call(sample.program, trained, "--nearest", "--backend", "numpy")
    assert (trained / "nearest.png").exists()
    moved = photographs.rename(tmp_path / "moved")
    try:
        for program, *arguments in (mnist.program, "--evaluate", trained), (sample.program, trained, "--nearest"):
            with refused(photographs, "no such file or folder", error=DataError):
                call(program, *arguments, "--backend", "numpy")
            call(program, *arguments, "--data", moved, "--backend", "numpy")
    finally:
        moved.rename(photographs)


def test_neighbours_in_colour_are_nearest_over_all_channels():
    data = np.zeros((2, 12), np.uint8)
    data[0, ::3], data[1, 1::3] = 255, 255  # red, green
    samples = np.tile([[0.1, 0.9, 0.1], [0.9, 0.1, 0.1]], (1, 4))
    grid = neighbour_grid(samples, data, (2, 2, 3), columns=2)
    assert grid[2, 6].tolist() == [0, 255, 0]
    assert grid[6, 6].tolist() == [255, 0, 0]


def test_ten_images_are_enough_for_a_run(call, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "ten.npy", rng.random((10, 4, 4)))
    call(mnist.program, "--data", tmp_path / "ten.npy", "--out", tmp_path / "run", *SHORT, "--batch-size", 8)
    text = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))["results"]["distinct_data"] == 1


@pytest.mark.parametrize(("n", "epochs"), [(100, 15_000 * 10 // 80), (2_000_000, 1)])
def test_a_small_set_gets_as_many_iterations_as_mnist(call, monkeypatch, tmp_path, n, epochs):
    np.save(tmp_path / "x.npy", np.arange(100 * 16, dtype=np.uint8).reshape(100, 4, 4))
    chosen = []
    dataset = load_images(tmp_path / "x.npy")
    images = np.broadcast_to(dataset.train.images[:1], (n * 8 // 10, 16))
    monkeypatch.setattr(mnist, "load_data", lambda *_, **__: replaced(dataset, images))
    monkeypatch.setattr(mnist.recipes, "mnist", lambda settings, *_: chosen.append(settings["epochs"]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(mnist.program, "--data", tmp_path / "x.npy", "--out", tmp_path / "run", *SMALL)
    assert chosen == [epochs]


def replaced(dataset, images):
    from dataclasses import replace

    return replace(dataset, train=replace(dataset.train, images=images, labels=np.zeros(len(images), np.int16)))


def test_the_code_on_the_page_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (EXAMPLES / "IMAGES.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "faces").mkdir()
    for i in range(12):
        Image.linear_gradient("L").rotate(30 * i).save(tmp_path / "faces" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "IMAGES.md", "exec"), names)
    first, again = names["dataset"], names["again"]
    assert first.source in capsys.readouterr().out
    images = [sorted(bytes(row) for part in (x.train, x.validation, x.test) for row in part.images) for x in (first, again)]
    assert images[0] == images[1]
    np.testing.assert_array_equal(names["read_idx"]("faces.idx.gz").reshape(12, 784), names["faces"])


def test_the_folder_above_mnist_works(call, data, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist").symlink_to(data)
    call(mnist.program, "--data", tmp_path / "data", "--out", tmp_path / "run", *SHORT)
    configuration = json.loads((tmp_path / "run" / "run.json").read_text())["configuration"]
    assert configuration["data_digest"] == load_mnist(data).digest
