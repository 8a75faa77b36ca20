"""examples/sample.py: pictures of any checkpoint, of runs of examples/mnist.py and of what a Trainer saves."""

import re
import struct

import numpy as np
import pytest
import sample
from helpers import refused
from PIL import Image

from tinygan import (
    BatchNorm,
    CheckpointError,
    DataError,
    Layer,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    Simultaneous,
    Trainer,
    load_generator,
)


@pytest.fixture
def checkpoint(run):
    return run("a", "--epochs", 2) / "checkpoint.npz"


class Swish(Layer):
    """y = x σ(x): a layer of the user's own"""

    def forward(self, x, train=False, rng=None):
        y, cache = Sigmoid().forward(x)
        return x * y, (x, y, cache)

    def backward(self, dy, cache, grads=None, need_dx=True):
        x, y, derivative = cache
        return dy * (y + x * derivative) if need_dx else None


def trained(*hidden, d=36):
    """The trainer of a small GAN after one epoch, with these layers in G."""
    G = Network([Linear(3, 8), *hidden, Linear(8, d), Sigmoid()])
    D = Network([Linear(d, 4), ReLU(), Linear(4, 1)], seed=1)
    optimizers = (MomentumSGD(network.theta, 0.1) for network in (G, D))
    gan = Simultaneous(G, D, *optimizers, noise=Noise("gaussian", 3), batch_size=10)
    x = np.random.default_rng(0).random((40, d), dtype=np.float32)
    trainer = Trainer(gan, x, x)
    trainer.train_epoch()
    return trainer


def test_samples_from_any_checkpoint(call, checkpoint, data, capsys):
    call(sample.program, checkpoint, "--n", 120, "--nearest", "--interpolate", "--data", data, "--backend", "numpy")
    folder, out = checkpoint.parent, capsys.readouterr().out
    x = np.load(folder / "samples.npy", allow_pickle=False)
    assert (x.shape, x.dtype) == ((120, 36), np.float32)
    assert (0 <= x).all()
    assert (x <= 1).all()
    np.testing.assert_array_equal(x, load_generator(checkpoint).sample(120, 0))
    sizes = {}
    for name in ("samples", "nearest", "interpolation"):
        with Image.open(folder / f"{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes == {"samples": (82, 82), "nearest": (82, 66), "interpolation": (82, 66)}
    assert "nearest training image" in out
    assert re.search(r"\d+ of 10 samples .* 10 ", out)
    call(sample.program, checkpoint, "--n", 120, "--out", folder / "again", "--backend", "numpy")
    assert (folder / "again" / "samples.npy").read_bytes() == (folder / "samples.npy").read_bytes()
    call(sample.program, checkpoint, "--n", 120, "--out", folder / "other", "--seed", 1, "--backend", "numpy")
    assert (folder / "other" / "samples.npy").read_bytes() != (folder / "samples.npy").read_bytes()


def test_a_runs_folder_is_as_good_as_its_checkpoint(call, checkpoint, tmp_path, capsys):
    call(sample.program, checkpoint, "--out", tmp_path / "apart", "--backend", "numpy")
    call(sample.program, checkpoint.parent, "--backend", "numpy")
    assert str(checkpoint.parent / "samples.npy") in capsys.readouterr().out
    for name in "samples.npy", "samples.png":
        assert (checkpoint.parent / name).read_bytes() == (tmp_path / "apart" / name).read_bytes()


def test_scale_enlarges_the_pictures_and_nothing_else(call, run, tmp_path):
    """--nearest needs no --data where the run was given it."""
    folder = run("a", "--smoke", "--epochs", 1)
    for out, *options in ("plain",), ("large", "--enlarge", 3):
        call(sample.program, folder, "--out", tmp_path / out, "--nearest", "--interpolate", "--backend", "numpy", *options)
    plain, large = tmp_path / "plain", tmp_path / "large"
    assert (plain / "samples.npy").read_bytes() == (large / "samples.npy").read_bytes()
    for name in "samples", "nearest", "interpolation":
        with Image.open(plain / f"{name}.png") as small, Image.open(large / f"{name}.png") as big:
            pixels = np.asarray(small)
            np.testing.assert_array_equal(np.asarray(big), pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_a_path_that_is_no_run_is_refused_with_the_nearest_run(call, run, tmp_path):
    folder = run("first", "--epochs", 1)
    (tmp_path / "second").mkdir()
    for wrong in tmp_path / "frist", tmp_path / "second", tmp_path, folder / "checkpoint-0001.npz", folder / "samples":
        with refused(wrong, folder, error=CheckpointError):
            call(sample.program, wrong, "--backend", "numpy")


def test_what_a_trainer_saves_by_itself_is_read(call, tmp_path):
    """Without a configuration. The pictures are square, in grey or in three colours; the statistics are those of the run."""
    for d, size in (36, (82, 82)), (12, (42, 42)):
        trainer = trained(BatchNorm(8), ReLU(), d=d)
        assert trainer.model.G.statistics.any()
        trainer.save(tmp_path / "c.npz")
        call(sample.program, tmp_path / "c.npz", "--interpolate", "--seed", 4, "--backend", "numpy")
        x = np.load(tmp_path / "samples.npy", allow_pickle=False)
        np.testing.assert_array_equal(x, trainer.model.sample(100, 4))
        with Image.open(tmp_path / "samples.png") as picture:
            assert (picture.size, picture.mode) == (size, "L" if d == 36 else "RGB")


def test_samples_that_are_no_square_images_are_written_and_not_drawn(call, tmp_path):
    trained(d=5).save(tmp_path / "c.npz")
    with refused("samples.npy", 5):
        call(sample.program, tmp_path / "c.npz", "--backend", "numpy")
    assert np.load(tmp_path / "samples.npy", allow_pickle=False).shape == (100, 5)
    assert not (tmp_path / "samples.png").exists()


def test_a_layer_of_ones_own_is_named(call, tmp_path):
    trainer = trained(Swish())
    trainer.save(tmp_path / "c.npz")
    arguments = tmp_path / "c.npz", "--backend", "numpy"
    with refused("test_sample_example:Swish", error=CheckpointError):
        call(sample.program, *arguments)
    assert not (tmp_path / "samples.npy").exists()
    call(sample.program, *arguments, "--layer", "test_sample_example:Swish")
    x = np.load(tmp_path / "samples.npy", allow_pickle=False)
    np.testing.assert_array_equal(x, trainer.model.sample(100, 0))
    for name in "test_sample_example:Other", "no_such_module:Swish", "Swish", ":Swish", ".:Swish", "numpy:ndarray":
        with refused(repr(name)):
            call(sample.program, *arguments, "--layer", name)


def test_pictures_have_the_shape_of_the_data(call, run, data, tmp_path):
    """9 × 4 pixels, which are as many as 6 × 6."""
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    for path in data.iterdir():
        content = path.read_bytes()
        if "images" in path.name:
            content = content[:8] + struct.pack(">2I", 9, 4) + content[16:]
        (narrow / path.name).write_bytes(content)
    folder = run("a", "--epochs", 1, "--data", narrow)
    call(sample.program, folder / "checkpoint.npz", "--backend", "numpy")
    with Image.open(folder / "samples.png") as picture:
        assert picture.size == (10 * (4 + 2) + 2, 10 * (9 + 2) + 2)
    for path in data.iterdir():
        (narrow / path.name).write_bytes(path.read_bytes())
    with refused("image_shape", [9, 4], [6, 6], error=CheckpointError):
        run("a", "--epochs", 2, "--data", narrow, "--resume")


def test_samples_of_a_device(strict_xp, call, checkpoint, data):
    call(sample.program, checkpoint, "--nearest", "--interpolate", "--data", data, "--backend", "cupy")
    assert np.load(checkpoint.parent / "samples.npy", allow_pickle=False).shape == (100, 36)


def test_nearest_training_examples_come_from_the_runs_own_data(call, checkpoint, data, other_data, tmp_path):
    with refused(60, "idx-tiny", 50, "idx-other", error=DataError):
        call(sample.program, checkpoint, "--nearest", "--data", other_data, "--backend", "numpy")
    trained().save(tmp_path / "c.npz")
    with pytest.raises(DataError, match="data") as nameless:
        call(sample.program, tmp_path / "c.npz", "--nearest", "--data", data, "--backend", "numpy")
    assert "None" not in str(nameless.value), "it does not say which"
    assert not list(tmp_path.rglob("nearest.png"))


def test_nearest_training_examples_of_a_smoke_run_come_from_its_few_images(call, run, data):
    folder = run("a", "--smoke", "--epochs", 1)
    call(sample.program, folder, "--nearest", "--data", data, "--backend", "numpy")
    assert (folder / "nearest.png").exists()


@pytest.mark.parametrize("arguments", ["", "c.npz --n 0", "c.npz --seed -1", "c.npz --backend other", "c.npz --near"])
def test_options_that_make_no_sense_are_refused_with_the_usage(call, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        call(sample.program, *arguments.split())
    assert stopped.value.code == 2
    assert "RUN" in capsys.readouterr().err
