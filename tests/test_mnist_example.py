"""examples/mnist.py and examples/sample.py, on a tiny set in MNIST's format with tiny networks: all but the digits."""

import argparse
import csv
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import discriminator, generator
from PIL import Image

from tinygan import (
    GAN,
    VARIANTS,
    ArgumentError,
    CheckpointError,
    DataError,
    DivergenceError,
    MomentumSGD,
    TinyganError,
    Uniform,
    learning_rate_schedule,
    load_checkpoint,
    momentum_schedule,
    random_generator,
)
from tinygan.parzen import AUTHORS_SIGMAS, evaluate

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import common  # noqa: E402
import mnist  # noqa: E402
import sample  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import anneal  # noqa: E402
import balance  # noqa: E402
import records  # noqa: E402
import step_time  # noqa: E402
import study  # noqa: E402

SMALL = "--generator-width 16 --discriminator-width 8 --batch-size 10 --backend numpy".split()
WITHOUT_TIMING = len(common.COLUMNS)


def idx(images):
    header = struct.pack(f">HBB{images.ndim}I", 0, 8, images.ndim, *images.shape)
    return header + images.astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """72 images of 6 × 6 for training and validation, 10 for the test."""
    folder, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for name, n in ("train", 72), ("t10k", 10):
        images = rng.integers(0, 256, (n, 6, 6))
        images[0, 0, :2] = 0, 255
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(n)))
    return folder


@pytest.fixture
def other_data(tmp_path):
    """Fewer images, of the same size."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name, n in ("train", 60), ("t10k", 10):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 6, 6))))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(n)))
    return folder


@pytest.fixture(autouse=True)
def draw_curves(monkeypatch):
    """Few samples, and no curves: matplotlib takes longer than all the rest. Returns what draws them."""
    original = common.draw_curves
    monkeypatch.setattr(mnist, "SAMPLES", 50)
    monkeypatch.setattr(common, "draw_curves", lambda *_: None)
    return original


@pytest.fixture
def call(monkeypatch):
    """call(program, *arguments): run an example's program in this process."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", ["examples/mnist.py", *map(str, arguments)])
        return program()

    return call


@pytest.fixture
def run(call, data, tmp_path):
    """run(name, *arguments): examples/mnist.py, into a folder of that name."""

    def run(name, *arguments):
        call(mnist.program, "--data", data, "--out", tmp_path / name, "--evaluate-every", 2, *SMALL, *arguments)
        return tmp_path / name

    return run


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.reader(file))


def results(folder):
    """All of a run that has to be the same, to the bit, in any other of the same settings."""
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    metrics = [row[:WITHOUT_TIMING] for row in rows(folder)]
    return (folder / "checkpoint.npz").read_bytes(), metrics, pictures, (folder / "samples.gif").read_bytes()


def test_the_networks_and_schedules_are_the_recipes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    args = mnist.parse_arguments()
    args.backend = "numpy"
    gan = mnist.build(args, np, np.linspace(-16, 1, 784))
    assert (gan.G.theta.size, gan.D.theta.size) == (2_503_984, 1_231_441)
    assert repr(gan.G) == (
        "Network([Linear(100, 1200), ReLU(), Linear(1200, 1200), ReLU(), Linear(1200, 784), Sigmoid()])"
    )
    assert repr(gan.D) == (
        "Network([Dropout(0.8), Maxout(784, 240, 5), Dropout(0.5), Maxout(240, 240, 5), Dropout(0.5), Linear(240, 1)])"
    )
    for network, radius in (gan.G, 0.05), (gan.D, 0.005):
        for name, values in network.parameters().items():
            if name.endswith("W"):
                assert 0.99 * radius < abs(values).max() <= radius
            elif name != "4.b" or network is gan.D:
                assert not values.any()
    assert gan.G.parameters()["4.b"].tolist() == np.linspace(-16, 1, 784).astype(np.float32).tolist()
    assert (args.variant, args.prior, args.batch_size, args.k, mnist.NOISE) == ("simultaneous", "uniform", 100, 1, 100)
    for optimizer in (gan.G_optimizer, gan.D_optimizer):
        assert optimizer.learning_rate(1) == 0.1
        assert optimizer.learning_rate(50_001) == pytest.approx(0.1 / 1.000004**50_000, rel=1e-9)
    assert (mnist.SIGMA_ROWS, len(mnist.AUTHORS_SIGMAS)) == (1000, 10)


def test_a_run_writes_all_that_it_promises(run, capsys, data, draw_curves, monkeypatch):
    monkeypatch.setattr(common, "draw_curves", draw_curves)
    folder = run("a", "--epochs", 4, "--picture-every", 1, "--keep-checkpoints", 3)
    out, err = capsys.readouterr()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint-0003.npz",
        "checkpoint.npz",
        "curves.png",
        "metrics.csv",
        "run.json",
        "samples",
        "samples.gif",
    ]
    header, *lines = rows(folder)
    assert tuple(header) == common.COLUMNS + common.TIMING
    assert [line[0] for line in lines] == ["1", "2", "3", "4"]
    assert [bool(line[header.index("validation_log_likelihood")]) for line in lines] == [False, True, False, True]
    for epoch in range(5):
        with Image.open(folder / "samples" / f"epoch-{epoch:04d}.png") as picture:
            assert picture.size == (2 + 10 * 8, 2 + 10 * 8)  # 10 × 10 tiles
    facts = json.loads((folder / "run.json").read_text())
    assert facts["data"] == {
        "name": f"idx-{data.name}",
        "source": f"IDX files in {data}, not MNIST (other checksums)",
        "train": 60,
        "validation": 12,
        "test": 10,
    }
    assert facts["configuration"]["variant"] == "simultaneous"
    assert facts["configuration"]["generator_cost"] == "non_saturating"
    assert (facts["epochs"], facts["every"]) == (4, {"picture": 1, "checkpoint": 1, "evaluation": 2})
    assert facts["environment"]["numpy"] == np.__version__
    assert facts["results"]["iterations"] == 4 * 6
    assert facts["results"]["peak_memory_mb"] > 20
    assert facts["results"]["reading"] in out
    assert err.count(str(folder)) == 2  # named at the start and at the end
    assert load_checkpoint(folder / "checkpoint-0003.npz").epoch == 3


def test_the_evaluation_is_the_authors_protocol_on_raw_samples_of_the_last_epoch(run, data, call, capsys):
    folder = run("a", "--epochs", 2)
    checkpoint = load_checkpoint(folder / "checkpoint.npz")
    G, dataset = common.generator_of(checkpoint), mnist.load_mnist(data)
    x = mnist.evaluation_samples(G, "uniform", 50)
    assert x.shape == (50, 36)
    held_out, test = (split.images.astype(np.float32) / 255 for split in (dataset.validation, dataset.test))
    with pytest.warns(UserWarning, match="50 samples"):
        expected = evaluate(x, held_out, test, AUTHORS_SIGMAS)
    facts = json.loads((folder / "run.json").read_text())["results"]["evaluation"]
    assert any("50 samples" in warning for warning in facts["authors"]["warnings"])
    assert facts["authors"] == json.loads(json.dumps(expected.as_dict())) | {"warnings": facts["authors"]["warnings"]}
    assert len(facts["fine"]["sigmas"]) > 40
    assert checkpoint.metrics[1]["validation_log_likelihood"] == max(expected.validation_log_likelihoods)
    capsys.readouterr()
    call(mnist.program, "--data", data, "--evaluate", folder / "checkpoint.npz", "--backend", "numpy")
    assert f"test log-likelihood: {expected.log_likelihood:.1f} ± " in capsys.readouterr().out
    again = json.loads((folder / "checkpoint.evaluation.json").read_text())
    assert (again["evaluation"], again["epoch"]) == (facts, 2)


def test_a_checkpoint_is_evaluated_on_the_data_it_was_trained_on_alone(run, call, other_data):
    """The 5,000 images that work offline hold out what MNIST trains on."""
    checkpoint = run("a", "--epochs", 1) / "checkpoint.npz"
    with pytest.raises(DataError, match="was trained on 60 images of idx-tiny.*50 of idx-other"):
        call(mnist.program, "--evaluate", checkpoint, "--backend", "numpy", "--data", other_data)
    assert not list(checkpoint.parent.glob("*.evaluation.json"))


def test_a_smoke_runs_checkpoint_is_evaluated_on_its_few_images(run, call, data):
    checkpoint = run("a", "--smoke", "--epochs", 1) / "checkpoint.npz"
    call(mnist.program, "--evaluate", checkpoint, "--backend", "numpy", "--data", data)
    assert json.loads(checkpoint.with_suffix(".evaluation.json").read_text())["data"]["name"].endswith("-smoke")


def test_a_resumed_run_is_the_run_that_never_stopped(run, capsys):
    whole = run("whole", "--epochs", 4)
    folder = run("parts", "--epochs", 2)
    before = rows(folder)
    run("parts", "--epochs", 4, "--resume")
    assert results(folder)[:2] == results(whole)[:2]
    for name, picture in results(whole)[2].items():
        assert (folder / "samples" / name).read_bytes() == picture
    assert rows(folder)[:3] == before  # with the timing of the epochs before
    assert "resumed after epoch 2" in capsys.readouterr().err


@pytest.mark.parametrize("remains", [None, b"", b"\0" * 4096, b"\xff\xfe,\n", b"epoch,seconds,examples_per_second\nx,1,2\n"])
def test_resume_needs_nothing_but_the_checkpoint(run, remains):
    folder = run("a", "--epochs", 2)
    (folder / "metrics.csv").unlink()
    if remains is not None:
        (folder / "metrics.csv").write_bytes(remains)
    run("a", "--epochs", 3, "--resume")
    header, *lines = rows(folder)
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert [bool(line[-1]) for line in lines] == [False, False, True]


# What SIGKILL interrupts: it is sent by the process to itself, at the n-th call of a function.
KILLER = """
import os, signal, sys
sys.path.insert(0, {examples!r})
import mnist, numpy, tinygan
mnist.SAMPLES = 50
owner, name, count = {owner}, {name!r}, {count}
original, calls = getattr(owner, name), []
def deadly(*args, **options):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **options)
setattr(owner, name, deadly)
mnist.program()
"""


@pytest.mark.parametrize(
    ("owner", "name", "count", "epoch"),
    [
        pytest.param("tinygan.GAN", "iteration", 2 * 6 + 4, 2, id="in mid-epoch"),
        pytest.param("numpy.lib.format", "write_array", 2 * 6 + 3, 2, id="in mid-save"),
        pytest.param("os", "fsync", 2 * 2 + 1, 2, id="after the save, before the rename", marks=pytest.mark.slow),
        pytest.param("os", "fsync", 2 * 2 + 2, 3, id="after the rename", marks=pytest.mark.slow),
        pytest.param("tinygan.GAN", "iteration", 3, 0, id="in the first epoch", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(run, data, tmp_path, owner, name, count, epoch):
    options = ["--epochs", "4", "--picture-every", "1"]
    folder = tmp_path / "killed"
    code = KILLER.format(examples=str(EXAMPLES), owner=owner, name=name, count=count)
    arguments = ["--data", data, "--out", folder, "--evaluate-every", "2", *SMALL, *options]
    killed = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, timeout=100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    if epoch:
        assert load_checkpoint(folder / "checkpoint.npz").epoch == epoch
    run("killed", *options, "--resume")
    assert results(folder) == results(run("whole", *options))
    assert not list(folder.rglob("*.tmp"))


def test_a_finished_run_is_resumed_without_training(run, monkeypatch):
    folder = run("a", "--epochs", 2)
    before = results(folder)
    monkeypatch.setattr("tinygan.GAN.iteration", None)
    run("a", "--epochs", 2, "--resume")
    assert results(folder) == before


def test_a_resumed_run_remembers_how_many_epochs_it_was_to_have(run, monkeypatch):
    folder = run("a", "--epochs", 3)
    monkeypatch.setattr(mnist, "EPOCHS", 4)
    assert results(run("a", "--resume")) == results(folder)
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 3
    (folder / "checkpoint.npz").unlink()
    assert results(run("a", "--resume")) == results(folder)
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 3
    for lost in b"null", None:
        (folder / "run.json").write_bytes(lost) if lost else (folder / "run.json").unlink()
        assert load_checkpoint(run("a", "--resume") / "checkpoint.npz").epoch == 4


def test_resume_starts_afresh_where_there_is_no_checkpoint(run, tmp_path):
    (tmp_path / "b" / "samples").mkdir(parents=True)
    (tmp_path / "b" / "samples" / "epoch-0009.png").write_bytes(b"of a run without a checkpoint")
    (tmp_path / "b" / "metrics.csv").write_text("of the same")
    assert results(run("b", "--epochs", 2, "--resume")) == results(run("a", "--epochs", 2))


def test_a_folder_with_a_checkpoint_is_refused_or_overwritten(run, tmp_path):
    first = results(run("a", "--epochs", 3))
    notes = tmp_path / "a" / "notes.txt"
    notes.write_text("the user's own")
    with pytest.raises(CheckpointError, match=r"a/checkpoint\.npz exists: .*--resume.*--overwrite"):
        run("a", "--epochs", 2)
    assert results(tmp_path / "a") == first
    run("a", "--epochs", 2, "--seed", 1, "--overwrite")
    assert len(rows(tmp_path / "a")) == 3
    assert not (tmp_path / "a" / "samples" / "epoch-0003.png").exists()
    assert notes.exists()


def test_other_settings_than_the_checkpoints_are_refused_by_name(run, tmp_path):
    before = results(run("a", "--epochs", 2))
    with pytest.raises(CheckpointError, match=r"learning_rate is 0\.1 in the checkpoint, 0\.2 now; seed is 0 .*, 1 now"):
        run("a", "--epochs", 2, "--resume", "--learning-rate", 0.2, "--seed", 1)
    with pytest.raises(CheckpointError, match="another architecture: its G is .*16, 16"):
        run("a", "--epochs", 2, "--resume", "--generator-width", 17)
    assert results(tmp_path / "a") == before


def test_a_start_that_fails_leaves_no_folder(call, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        call(mnist.program, "--data", tmp_path / "empty", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder_for_a_run(call, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="file is a file: name a folder"):
        call(mnist.program, "--out", tmp_path / "file")


def test_resume_needs_a_folder(call):
    with pytest.raises(CheckpointError, match="--out"):
        call(mnist.program, "--resume")


def test_ctrl_c_keeps_the_last_checkpoint_and_says_how_to_go_on(run, call, tmp_path, monkeypatch, capsys):
    iteration, calls = mnist.GAN.iteration, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2 * 6 + 4:
            raise KeyboardInterrupt
        return iteration(*args)

    with monkeypatch.context() as patch:
        patch.setattr(mnist.GAN, "iteration", interrupted)
        with pytest.raises(SystemExit) as stopped:
            common.main(lambda: run("a", "--epochs", 3, "--picture-every", 1))
    assert stopped.value.code == 130
    message = capsys.readouterr().err
    assert "the last checkpoint is kept" in message
    command = message.strip().splitlines()[-1].split()
    assert command[:2] == ["python", "examples/mnist.py"]
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz").epoch == 2
    call(mnist.program, *command[2:])
    assert results(tmp_path / "a") == results(run("whole", "--epochs", 3, "--picture-every", 1))


def test_a_diverging_run_ends_with_one_line_and_the_last_good_checkpoint(run, tmp_path, monkeypatch):
    run("a", "--epochs", 2)
    before = load_checkpoint(tmp_path / "a" / "checkpoint.npz")
    monkeypatch.setattr(mnist, "learning_rate_schedule", lambda t, **options: 1e9)
    with pytest.raises(DivergenceError, match="of epoch 3"):
        run("a", "--epochs", 4, "--resume")
    assert load_checkpoint(tmp_path / "a" / "checkpoint.npz").theta_g.tobytes() == before.theta_g.tobytes()
    with pytest.raises(SystemExit, match="error: iteration .* of epoch 3"):
        common.main(lambda: run("a", "--epochs", 4, "--resume"))
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert re.match("iteration .* of epoch 3", facts["diverged"])
    assert "results" not in facts


def test_a_resumed_run_names_the_commits_of_its_earlier_epochs(run, tmp_path, monkeypatch):
    environment = common.environment

    def facts(commit, epochs):
        monkeypatch.setattr(common, "environment", lambda trainer: environment(trainer) | {"commit": commit})
        return json.loads((run("a", "--epochs", epochs, "--resume") / "run.json").read_text())

    assert facts("first", 1)["earlier_commits"] == []
    assert facts("first", 2)["earlier_commits"] == []
    assert facts("second", 3)["earlier_commits"] == ["first"]
    assert facts("third", 4)["earlier_commits"] == ["first", "second"]


@pytest.mark.parametrize("name", ["checkpoint.npz.tmp", "metrics.csv"])
def test_a_full_disk_ends_with_one_line_and_the_last_good_checkpoint(run, tmp_path, monkeypatch, capsys, name):
    folder, train_epoch = run("a", "--epochs", 2), mnist.Trainer.train_epoch

    def fill_the_disk(self, *args):
        (folder / name).unlink(missing_ok=True)
        os.symlink("/dev/full", folder / name)
        return train_epoch(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(mnist.Trainer, "train_epoch", fill_the_disk)
        with pytest.raises(SystemExit, match=r"error: .*No space left on device"):
            common.main(lambda: run("a", "--epochs", 3, "--resume"))
    assert "Go on with" in capsys.readouterr().err
    assert load_checkpoint(folder / "checkpoint.npz").epoch == 2
    (folder / name).unlink(missing_ok=True)  # read, /dev/full has no end
    run("a", "--epochs", 3, "--resume")
    assert results(folder)[:2] == results(run("whole", "--epochs", 3))[:2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_calm_generator_meets_D_without_dropout_and_all_else_is_the_same(variant):
    def theta(kind, keep):
        G, D = generator(), discriminator(keep=keep)
        gan = kind(G, D, MomentumSGD(G.theta, 0.5), MomentumSGD(D.theta, 0.5), variant=variant)
        rng, x = np.random.default_rng(0), np.random.default_rng(1).random((5, 4))
        for _ in range(3):
            gan.iteration(lambda: rng.random((5, 3)), iter([x]), random_generator(np, 0))
        return np.concatenate([G.theta, D.theta])

    np.testing.assert_allclose(theta(mnist.CalmGAN, 1.0), theta(GAN, 1.0), rtol=1e-9)
    assert not np.allclose(theta(mnist.CalmGAN, 0.5), theta(GAN, 0.5), rtol=1e-3)


def test_calm_is_an_option(run):
    plain, calm = (load_checkpoint(run(*a, "--epochs", 1) / "checkpoint.npz") for a in (("a",), ("b", "--calm")))
    assert not np.array_equal(plain.theta_g, calm.theta_g)


def test_compressed_schedules_anneal_faster(run):
    folder = run("a", "--epochs", 3, "--schedule-compression", 10)
    last = load_checkpoint(folder / "checkpoint.npz").metrics[-1]
    assert last["learning_rate"] == pytest.approx(learning_rate_schedule(10 * (18 - 1) + 1, 0.1), rel=1e-9)
    assert last["momentum"] == momentum_schedule(21)


def test_the_whole_run_works_on_a_device(strict_xp, run):
    folder = run("a", "--epochs", 2, "--backend", "cupy")
    run("a", "--epochs", 3, "--backend", "cupy", "--resume")
    assert results(folder)[:2] == results(run("whole", "--epochs", 3, "--backend", "cupy"))[:2]
    with pytest.raises(CheckpointError, match="backend is cupy in the checkpoint, numpy now"):
        run("a", "--epochs", 4, "--resume")  # their random streams differ


@pytest.mark.parametrize(
    "arguments",
    ["--epochs 0", "--seed -1", "--learning-rate 0", "--learning-rate nan", "--schedule-compression -1", "--k 1.5"]
    + ["--resume --overwrite", "--variant other", "--prior none", "--epoch 3"],
)
def test_options_that_make_no_sense_are_refused_with_the_usage(call, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        call(mnist.program, *arguments.split())
    assert stopped.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


# ---- The reading


def far_apart(n):
    return np.eye(n, dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "samples", "words"),
    [
        (-0.9, far_apart(40), "learning: "),
        (-1.38, far_apart(40), "learning: "),
        (-0.001, far_apart(40), "D has won: G is stuck: "),
        (-0.9, np.tile(far_apart(40)[:3], (40, 1))[:40], "collapsed to 3 distinct samples: "),
        (-0.001, np.tile(far_apart(40)[:3], (40, 1))[:40], "D has won: G is stuck and collapsed to 3 distinct samples"),
        (-4.0, np.zeros((40, 40), np.float32), "collapsed to 1 distinct sample: "),
    ],
)
def test_the_reading_says_what_the_figures_say(value, samples, words):
    metrics = [{"value": value, "D_x": 0.75, "D_G_z": 0.25}] * 7
    reading = common.reading(metrics, samples, far_apart(40))
    assert reading["reading"].startswith(words)
    assert "over the last 5 epochs, D(x) = 0.750, D(G(z)) = 0.250" in reading["reading"]
    only = common.reading(metrics[:1], samples, far_apart(40))
    assert "after the only epoch, D(x) = 0.750" in only["reading"]
    assert reading["distinct_data"] == 40


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1.38] * 20, "too early to tell: "),
        ([-0.9] + [-1.38] * 20, "collapsed to 1 distinct sample: "),
        ([-1.45] * 5, "collapsed to 1 distinct sample: "),
    ],
)
def test_while_D_has_always_said_one_half_it_is_too_early(values, words):
    metrics = [{"value": value, "D_x": 0.5, "D_G_z": 0.5} for value in values]
    assert common.reading(metrics, np.zeros((40, 40), np.float32), far_apart(40))["reading"].startswith(words)


def test_distinct_counts_images_that_are_further_apart_than_the_radius():
    line = np.array([[0.0], [0.6], [1.2], [5.0], [5.1]])
    assert common.distinct(line, 1.0) == 3  # 0.0, 1.2 (0.6 is removed, so 1.2 stays) and 5.0
    assert common.distinct(line, 0.05) == 5


# ---- examples/sample.py


@pytest.fixture
def checkpoint(run):
    return run("a", "--epochs", 2) / "checkpoint.npz"


def test_samples_from_any_checkpoint(call, checkpoint, data, capsys):
    call(sample.program, checkpoint, "--n", 120, "--nearest", "--interpolate", "--data", data, "--backend", "numpy")
    folder, out = checkpoint.parent, capsys.readouterr().out
    x = np.load(folder / "samples.npy", allow_pickle=False)
    assert (x.shape, x.dtype) == ((120, 36), np.float32)
    assert (0 <= x).all()
    assert (x <= 1).all()
    sizes = {}
    for name in ("samples", "nearest", "interpolation"):
        with Image.open(folder / f"{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes == {"samples": (82, 82), "nearest": (82, 66), "interpolation": (82, 66)}
    assert "Median distance to the nearest training image" in out
    assert re.search(r"\d+ of 10 samples distinct, of as many test images 10\.", out)
    call(sample.program, checkpoint, "--n", 120, "--out", folder / "again", "--backend", "numpy")
    assert (folder / "again" / "samples.npy").read_bytes() == (folder / "samples.npy").read_bytes()
    call(sample.program, checkpoint, "--n", 120, "--out", folder / "other", "--seed", 1, "--backend", "numpy")
    assert (folder / "other" / "samples.npy").read_bytes() != (folder / "samples.npy").read_bytes()


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
    with pytest.raises(CheckpointError, match=r"image_shape is \[9, 4\] in the checkpoint, \[6, 6\] now"):
        run("a", "--epochs", 2, "--data", narrow, "--resume")


def test_samples_of_a_device(strict_xp, call, checkpoint, data):
    call(sample.program, checkpoint, "--nearest", "--interpolate", "--data", data, "--backend", "cupy")
    assert np.load(checkpoint.parent / "samples.npy", allow_pickle=False).shape == (100, 36)


def test_nearest_training_examples_come_from_the_runs_own_data(call, checkpoint, other_data):
    with pytest.raises(DataError, match="was trained on 60 images of idx-tiny.*50 of idx-other"):
        call(sample.program, checkpoint, "--nearest", "--data", other_data, "--backend", "numpy")


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
        monkeypatch.setattr(balance, "load_mnist", lambda path, name=name: argparse.Namespace(name=name))
        monkeypatch.setattr(sys, "argv", ["balance.py", "--look", str(folder / "checkpoint.npz")])
        with pytest.raises(TinyganError, match=words):
            balance.main()


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


def test_readme_and_guide_have_the_tables_of_the_committed_results():
    runs, stored = study.runs(), records.read_records
    texts = ((EXAMPLES.parent / name).read_text(encoding="utf-8") for name in ("README.md", "examples/GUIDE.md"))
    readme, guide = (text.replace("\n  |", "\n|") for text in texts)
    assert study.table_1(runs) in readme
    assert study.table_of_departures(runs) in readme
    assert study.table_of_runs(runs) in readme
    assert anneal.table(stored(anneal.RESULTS)) in readme
    assert balance.table(stored(balance.RESULTS)) in guide
    assert balance.table_of_looks(stored(balance.LOOKED)) in guide


def test_the_guide_counts_the_runs_that_learn():
    """By the criterion of the reading: V ≤ −0.01, and one sample in ten is distinct."""
    guide = (EXAMPLES / "GUIDE.md").read_text(encoding="utf-8")
    runs, between = study.runs(), records.read_records(balance.RESULTS)

    def variant(name):
        return sum(runs[f"{name}-s{seed}"]["reading"].startswith("learning: ") for seed in range(5))

    def choice(name):
        ends = [(r["curve"][-1]["value"], r["distinct_of_1000"]) for r in between if r["choice"] == name]
        assert len(ends) == 5
        return sum(value <= -0.01 and distinct >= 100 for value, distinct in ends)

    assert f"| at the old θ_d | {variant('sim')} of 5 (`simultaneous`) | {choice('old-fresh-fresh')} of 5 |" in guide
    assert f"| at the new θ_d | {choice('new-same-same')} of 5 (seeds 0 and 3) | {variant('alternating')} of 5 (`alt" in guide


def readme_in_one_line():
    return " ".join((EXAMPLES.parent / "README.md").read_text(encoding="utf-8").split())


def test_the_readme_counts_the_departures_that_collapse():
    readme = readme_in_one_line()
    strong = {"learning rate 0.05", "batch size 200", "k 2", "variant alternating"}
    readings = [record["reading"] for record in study.runs().values() if study.departs_in(record) in strong]
    collapsed = sum("collapsed to" in reading for reading in readings)
    won = sum(reading.startswith("D has won") for reading in readings)
    text = f"of these {len(readings)} runs {collapsed} have collapsed after ten epochs, in {won} of them because D has won"
    assert text in readme


def test_the_readmes_slopes_and_the_gains_of_the_fine_grid_are_those_of_the_committed_results():
    readme = readme_in_one_line()
    runs = study.runs()
    curve = runs["sim-s0"]["validation_log_likelihoods"]
    epochs, nats = np.array(list(curve), dtype=int), np.array(list(curve.values()))

    def slope(first, last):
        among = (epochs >= first) & (epochs <= last)
        (rise, _), covariance = np.polyfit(epochs[among], nats[among], 1, cov=True)
        return f"{rise:.3f} ± {covariance[0, 0] ** 0.5:.3f}".replace("-", "−")

    text = f"{slope(300, 400)} nat an epoch from epoch 300 to 400, by {slope(400, 600)} from 400 to 600"
    assert f"{text} and by {slope(600, epochs[-1])} from 600 to {epochs[-1]} (least squares, " in readme
    late = epochs >= 600
    residuals = nats[late] - np.polyval(np.polyfit(epochs[late], nats[late], 1), epochs[late])
    assert f"which scatter by {(residuals @ residuals / (len(residuals) - 2)) ** 0.5:.1f} nats" in readme

    def gains(evaluations):
        each = [e["fine"]["log_likelihood"] - e["authors"]["log_likelihood"] for e in evaluations]
        return f"{min(each):.0f} to {max(each):.0f}"

    recipe = gains(record["evaluation"] for _, record in study.candidates(runs))
    annealed = gains(record["test"] for record in records.read_records(anneal.RESULTS) if "test" in record)
    assert f"46 values give {recipe} nats more than the authors' ten ({annealed} for the annealed nets below)" in readme


def test_the_readme_says_what_twenty_epochs_with_eta_to_0_bring():
    readme = readme_in_one_line()
    runs, gains, late = study.runs(), {}, []
    for record in records.read_records(anneal.RESULTS):
        first, curve = record["from_epoch"], record["validation_log_likelihoods"]
        released = runs[record["run"]]["validation_log_likelihoods"]
        assert curve[str(first)] == pytest.approx(released[str(first)], abs=0.01)
        if record["epochs"] == 20:
            gain = gains[record["run"], first] = curve[str(first + 20)] - curve[str(first)]
            if first >= 200:
                late.append(gain - (released[str(first)] - released[str(first - 100)]))
    assert min(late) > 0
    of_seed_0 = [gains[key] for key in sorted(gains) if key[0] == "sim-s0"]
    assert len(of_seed_0) > 2
    assert of_seed_0 == sorted(of_seed_0, reverse=True)
    span = f"{min(gains.values()):.0f} to {max(gains.values()):.0f}"
    text = f"Twenty such epochs bring {span} nats on validation, with seed 0 less the later they come,"
    assert f"{text} and from epoch 200 on more than the hundred epochs before them." in readme


def test_the_readme_says_how_far_seed_0_came():
    readme = readme_in_one_line()
    record, ends = study.runs()["sim-s0"], {}
    curve, test = record["validation_log_likelihoods"], record["evaluation"]["authors"]
    assert max(curve, key=curve.get) == str(record["evaluated_at_epoch"])
    assert f"the best on validation of the {len(curve)} that were measured" in readme
    text = f"{test['log_likelihood']:.1f} ± {test['standard_error']:.1f} on the test set"
    assert f"{text}, {225 - test['log_likelihood']:.0f} nats below the paper's" in readme
    for end in records.read_records(anneal.RESULTS):
        if end["run"] == "sim-s0" and end["from_epoch"] >= 600:
            last = end["validation_log_likelihoods"][str(end["from_epoch"] + end["epochs"])]
            ends[last] = end["test"]["authors"]["log_likelihood"]
    best, others = ends[max(ends)], sorted(ends.values())[1:]
    assert f"from epoch 600 and later all {len(ends)} end at {max(ends):.0f} nats on validation" in readme
    assert {f"{last:.0f}" for last in ends} == {f"{max(ends):.0f}"}
    assert best == min(ends.values())
    assert f"The best of these by validation has {best:.1f} on the test set, {225 - best:.0f} nats below" in readme
    assert f"to take {max(others):.1f} would be to choose on the test set" in readme
    assert f"on the test set {min(others) - best:.1f} to {max(others) - best:.1f} nats," in readme


def test_the_readmes_learning_rates_are_those_of_the_released_schedule():
    readme = readme_in_one_line()
    floor = next(epoch for epoch in range(1, 10_000) if learning_rate_schedule(500 * epoch, 0.1) == 1e-6)
    rates = [learning_rate_schedule(500 * epoch + 1, 0.1) for epoch in (600, 1000, 3 * 100, 10 * 100)]
    after_600, after_1000, by_3, by_10 = (f"{rate:.3f}" for rate in rates)
    assert f"still at η = {after_600} after 600 epochs" in readme
    assert f"to {after_1000} after 1,000 epochs and to its floor of 10⁻⁶ in epoch {floor:,}" in readme
    assert f"compressed by 10 (η then {by_10}) and 153 by 3 ({by_3})" in readme


def test_the_readme_compares_ends_and_compressions_as_measured():
    readme = readme_in_one_line()
    runs, ends = study.runs(), {(r["run"], r["from_epoch"]): r for r in records.read_records(anneal.RESULTS)}
    end, short = ends["sim-s2", 100], ends["sim-s0", 100]
    zero, one = (runs[run] for run in ("sim-s0", "sim-s1"))
    text = f"seed 2 has {end['validation_log_likelihoods']['120']:.1f} on validation"
    text += f" and {end['test']['authors']['log_likelihood']:.1f} on the test set"
    before = [f"{run['validation_log_likelihoods']['300']:.1f}" for run in (zero, one)]
    tested = {f"{run['test_log_likelihoods']['300']:.1f}" for run in (zero, one)}
    assert f"{text}; after 300 without, seeds 0 and 1 have {' and '.join(before)}, and {tested.pop()} each" in readme
    assert not tested
    three = (runs[run]["validation_log_likelihoods"]["100"] for run in ("compress10-s0", "compress3-s0", "sim-s0"))
    by_10, by_3, released = (f"{nats:.0f}" for nats in three)
    assert f"After a hundred epochs seed 0 has {by_10} nats with both schedules compressed by 10" in readme
    after = f"{short['validation_log_likelihoods']['108']:.0f} eight epochs later"
    assert f"and {by_3} by 3 (0.055), with the released ones {released}, and {after}" in readme


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
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
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


def test_a_generator_is_rebuilt_from_its_description_and_from_nothing_else(checkpoint):
    saved = load_checkpoint(checkpoint)
    assert repr(common.generator_of(saved)) == saved.architecture["G"]
    for words in ("", "print('x')", "[Linear(10**9, 2)]", "[Linear(100000, 100000)]", "[Network([])]", "[load_mnist()]"):
        words = f"Network({words})"
        saved.architecture["G"] = words
        with pytest.raises(CheckpointError, match="its generator"):
            common.generator_of(saved)


@pytest.mark.slow
def test_the_smoke_run_exercises_everything_in_15_seconds(tmp_path):
    command = [sys.executable, EXAMPLES / "mnist.py", "--smoke", "--out", tmp_path / "smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert done.returncode == 0, done.stderr
    assert "too early to tell" in done.stdout
    assert (tmp_path / "smoke" / "samples.gif").exists()
