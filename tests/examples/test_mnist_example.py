"""examples/mnist.py and examples/sample.py, on a tiny set in MNIST's format with tiny networks: all but the digits."""

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
from helpers import SMALL, discriminator, generator, idx, rows
from PIL import Image

from tinygan import (
    GAN,
    VARIANTS,
    ArgumentError,
    CheckpointError,
    DataError,
    DivergenceError,
    MomentumSGD,
    learning_rate_schedule,
    load_checkpoint,
    momentum_schedule,
    random_generator,
)
from tinygan.parzen import AUTHORS_SIGMAS, evaluate

EXAMPLES = Path(__file__).parents[2] / "examples"

import common
import mnist
import sample

WITHOUT_TIMING = len(common.COLUMNS)


@pytest.fixture
def other_data(tmp_path):
    """Fewer images, of the same size."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name, n in ("train", 60), ("t10k", 10):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 6, 6), np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(n, np.uint8)))
    return folder


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


def test_a_run_that_an_older_version_began_with_pictures_of_another_size_ends_with_all_its_results(run):
    folder = run("a", "--epochs", 1)
    common.save_png(folder / "samples" / "epoch-0000.png", np.zeros((9, 9)))
    run("a", "--epochs", 2, "--resume")
    assert json.loads((folder / "run.json").read_text())["results"]["epochs"] == 2
    with Image.open(folder / "samples.gif") as film, Image.open(folder / "samples" / "epoch-0002.png") as last:
        assert film.size == last.size


def test_a_run_whose_pictures_cannot_be_drawn_keeps_its_results(run, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "save_gif", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("a", "--epochs", 1)
    stored = (tmp_path / "a" / "run.json").read_text()
    assert json.loads(stored)["results"]["evaluation"]
    monkeypatch.setattr(mnist, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("a", "--epochs", 1, "--resume")
    assert (tmp_path / "a" / "run.json").read_text() == stored, "going on must not lose them either"


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
