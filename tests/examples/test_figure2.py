"""examples/figure2.py: the panels of Figure 2, of runs on tiny data in the formats of MNIST and of CIFAR-10."""

import figure2
import numpy as np
import pytest
from helpers import refused
from PIL import Image

from tinygan import (
    ConvTranspose2d,
    DataError,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Sigmoid,
    Simultaneous,
    Trainer,
    load_cifar10,
    load_mnist,
    random_generator,
)
from tinygan.datasets import contrast_pixels, normalise_contrast
from tinygan.images import GAP
from tinygan.run import load_run

ROWS, COLUMNS, TOP = figure2.ROWS, figure2.COLUMNS, figure2.MARGIN + 2 * figure2.LINE


@pytest.fixture(scope="session")
def cifar(tmp_path_factory):
    """Ten training images in CIFAR-10's binary format, two of them for validation, and one for the test."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name, n in ("data_batch_1", 10), ("test_batch", 1):
        records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] = 0
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


@pytest.fixture
def cifar_run(cifar, tmp_path):
    """A checkpoint with the configuration of a run on `cifar`."""
    dataset = load_cifar10(cifar)
    G, D = Network([Linear(3, 3072)], seed=1), Network([Linear(3072, 1)])
    players = G, D, MomentumSGD(G.theta, 0.01), MomentumSGD(D.theta, 0.01)
    gan = Simultaneous(*players, noise=Noise("gaussian", 3), batch_size=2)
    trainer = Trainer(gan, dataset.train, dataset.validation, prepare=normalise_contrast)
    facts = {"data": dataset.name, "train": len(dataset.train), "data_digest": dataset.digest}
    trainer.save(tmp_path / "cifar.npz", facts)
    return tmp_path / "cifar.npz"


def tiles(picture, left, size, times):
    """The images in a panel: (rows, columns, size, size, 3). Each pixel is drawn as times × times equal ones."""
    step, start = (size + GAP) * times, GAP * times
    found = np.empty((ROWS, COLUMNS, size, size, 3), np.uint8)
    for i in range(ROWS):
        for j in range(COLUMNS):
            y, x = TOP + start + i * step, left + start + j * step
            tile = picture[y : y + size * times, x : x + size * times].reshape(size, times, size, times, 3)
            assert (tile == tile[:, :1, :, :1]).all()
            found[i, j] = tile[:, 0, :, 0]
    return found


def nearest(samples, rows):
    """The row that is nearest to each sample, by the definition."""
    distances = ((samples[:, None].astype(float) - rows[None].astype(float)) ** 2).sum(axis=2)
    return rows[distances.argmin(axis=1)]


def test_each_panel_has_its_runs_samples_and_beside_them_the_nearest_training_examples(
    call, run, data, cifar, cifar_run, tmp_path, capsys
):
    """In the paper's order, whatever the order in which the runs are named. The first run knows where its data are."""
    folder = run("a", "--epochs", 1)
    capsys.readouterr()
    call(figure2.program, cifar_run, folder, "--cifar10", cifar, "--seed", 3, "--out", tmp_path / "out")
    first, run_of_first, second, _, where = capsys.readouterr().out.splitlines()
    assert run_of_first == "simultaneous, seed 0, epoch 1"
    assert first.startswith("a) MNIST, fully connected")
    assert second.startswith("c) CIFAR-10, fully connected")
    for title, stand_in, n in (first, f"idx-{data.name}", 60), (second, f"bin-{cifar.name}", 8):
        assert f"Stand-in: {stand_in}, {n} images" in title
    assert str(tmp_path / "out" / "figure2.png") in where

    picture = np.asarray(Image.open(tmp_path / "out" / "figure2.png"))
    mnist, photographs = load_mnist(data).train.images, load_cifar10(cifar).train.images
    second_left = figure2.MARGIN + (picture.shape[1] - figure2.MARGIN) // 2
    panels = [
        (folder, mnist, lambda x: 255 * x, 6, 11, figure2.MARGIN),
        (cifar_run, contrast_pixels(normalise_contrast(photographs)), contrast_pixels, 32, 2, second_left),
    ]
    for path, rows, as_pixels, size, times, left in panels:
        generator = load_run(path)[1]
        samples = as_pixels(generator.sample(ROWS * (COLUMNS - 1), random_generator(np, 3, "nearest")))
        expected = np.rint(samples).reshape(ROWS, COLUMNS - 1, size, size, -1)
        found = tiles(picture, left, size, times)
        np.testing.assert_array_equal(found[:, :-1], np.broadcast_to(expected, found[:, :-1].shape))
        beside = nearest(samples[COLUMNS - 2 :: COLUMNS - 1], rows).reshape(ROWS, size, size, -1)
        np.testing.assert_array_equal(found[:, -1], np.broadcast_to(beside, found[:, -1].shape))


def test_the_panels_are_the_papers():
    dataset = type("Dataset", (), {"name": "mnist", "train": range(50_000)})

    def title(kind, *layers):
        generator = type("Generator", (), {"network": Network(layers)})
        return figure2.title(kind, dataset, generator, {"variant": "simultaneous", "seed": 4}, 7)

    assert title(figure2.MNIST, Sigmoid()) == "a) MNIST, fully connected\nsimultaneous, seed 4, epoch 7"
    assert title(figure2.CIFAR10, Sigmoid()).startswith("c) CIFAR-10, fully connected. Stand-in: mnist, 50,000 images")
    assert title(figure2.CIFAR10, ConvTranspose2d(1, 1, 2)).startswith("d) CIFAR-10, convolutional")
    assert title(figure2.MNIST, ConvTranspose2d(1, 1, 2)).startswith("MNIST, not in the paper's figure, convolutional")


def test_one_run_is_one_panel(call, run, data, tmp_path):
    folder = run("a", "--epochs", 1)
    call(figure2.program, folder, "--mnist", data, "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "figure2.png") as picture:
        assert picture.height == figure2.MARGIN * 2 + 2 * figure2.LINE + 11 * (GAP + ROWS * (6 + GAP))


def test_with_a_scale_all_of_the_figure_is_larger(call, run, data, tmp_path):
    folder, read = run("a", "--epochs", 1), {}
    for name, options in ("plain", ()), ("large", ("--scale", 2)):
        call(figure2.program, folder, "--mnist", data, *options, "--out", tmp_path / name)
        with Image.open(tmp_path / name / "figure2.png") as picture:
            read[name] = np.asarray(picture)
    plain, large = read["plain"], read["large"]
    assert len(large) == 2 * len(plain)
    side = 11 * (GAP + COLUMNS * (6 + GAP))  # of the panel, without the margins and the title
    panel = plain[TOP : TOP + 11 * 50, figure2.MARGIN : figure2.MARGIN + side]
    found = large[2 * TOP : 2 * (TOP + 11 * 50), 2 * figure2.MARGIN : 2 * (figure2.MARGIN + side)]
    np.testing.assert_array_equal(found, panel.repeat(2, axis=0).repeat(2, axis=1))


def test_data_that_have_no_panel_and_other_data_are_refused(call, run, data, other_data, cifar, cifar_run, tmp_path):
    dataset = load_cifar10(cifar)
    G, D = Network([Linear(3, 3072)], seed=1), Network([Linear(3072, 1)])
    gan = Simultaneous(G, D, *(MomentumSGD(net.theta, 0.1) for net in (G, D)), noise=Noise("gaussian", 3), batch_size=2)
    trainer = Trainer(gan, dataset.train, dataset.validation, prepare=normalise_contrast)
    own = "images-mine", "MNIST", "CIFAR-10", f"sample.py {tmp_path / 'c.npz'} --nearest"
    for settings, facts in ({"data": "images-mine"}, own), ({}, ("which data",)):
        trainer.save(tmp_path / "c.npz", settings)
        with refused(tmp_path / "c.npz", *facts, error=DataError):
            call(figure2.program, tmp_path / "c.npz", "--cifar10", cifar)
    with refused(60, 50, error=DataError):
        call(figure2.program, run("a", "--epochs", 1), "--mnist", other_data)
    assert not list(tmp_path.rglob("figure2.png"))
