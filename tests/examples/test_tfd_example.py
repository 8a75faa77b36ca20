"""examples/tfd.py on the faces that it draws: two stages, the measure over five folds, a resume in either stage."""

import json

import figure2
import numpy as np
import pytest
import sample
import tfd
from helpers import refused, rows
from PIL import Image

import tinygan.run
from tinygan import CheckpointError, DataError, load_checkpoint, load_generator, load_tfd, pixels
from tinygan.parzen import AUTHORS_SIGMAS, evaluate
from tinygan.recipes import TFD
from tinygan.run import COLUMNS

NARROW = ["--scale", 400, "--batch-size", 20, "--backend", "numpy", "--evaluate-every", 2]


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A file in TFD's format: 60 unlabelled faces, 30 labelled."""
    return tfd.draw_faces(tmp_path_factory.mktemp("faces") / "TFD_48x48.mat", 60, 30)


@pytest.fixture
def train(call, faces, tmp_path):
    """train(name, *options): examples/tfd.py, into a folder of that name. A resume has no other options."""

    def train(name, *options):
        given = [] if "--resume" in options else ["--data", faces, "--first-stage", 2, *NARROW]
        call(tfd.program, "--out", tmp_path / name, *given, *options)
        return tmp_path / name

    return train


def test_the_options_are_the_recipes_settings(call):
    args = vars(call(tfd.parse_arguments))
    assert {name: args[name] for name in TFD} == TFD
    args = vars(call(tfd.parse_arguments, "--no-max-column-norm", "--scale", 2, "--calm", "--first-stage", 72))
    assert {name: args[name] for name in TFD} == TFD | {"max_column_norm": None, "scale": 2, "calm": True}
    assert args["first_stage"] == 72


def test_the_drawn_faces_are_in_tfds_format(faces):
    dataset = load_tfd(faces)
    assert [len(split) for split in dataset.splits] == [60] + [10] * 10
    assert len(np.unique(dataset.train.images, axis=0)) == 60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tinygan.parzen.ParzenWarning")
def test_a_run_has_two_stages_and_a_score_of_five_folds(train, call, faces, capsys):
    folder = train("a", "--epochs", 3, "--picture-every", 1)
    out = capsys.readouterr().out
    header, *lines = rows(folder)
    assert tuple(header[: len(COLUMNS)]) == COLUMNS
    assert len(lines) == 3
    first, last = (load_checkpoint(folder / name) for name in ("checkpoint-0002.npz", "checkpoint.npz"))
    assert len(last.architecture["G"]) == len(first.architecture["G"]) + 4 == 10
    assert [checkpoint.updates["G"] for checkpoint in (first, last)] == [6, 3]  # its schedule starts anew
    assert [checkpoint.configuration["stage"] for checkpoint in (first, last)] == [1, 2]
    assert [row["momentum"] for row in last.metrics] == pytest.approx([0.5, 0.5 + 0.2 / 249, 0.5])
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    result = facts["results"]["evaluation"]["authors"]
    samples, dataset = tinygan.run.evaluation_samples(load_generator(folder), 50), load_tfd(faces)
    expected = [
        evaluate(samples, *(pixels(split.images) for split in fold), AUTHORS_SIGMAS).as_dict() for fold in dataset.folds
    ]
    assert result["folds"] == [json.loads(json.dumps(fold)) for fold in expected]
    scores = np.array([fold["log_likelihood"] for fold in expected])
    assert result["log_likelihood"] == pytest.approx(scores.mean())
    assert result["standard_error"] == pytest.approx((((scores - scores.mean()) ** 2).sum() / 4 / 5) ** 0.5)
    for fold in expected:
        assert f"{fold['log_likelihood']:.1f}" in out
    with Image.open(folder / "neighbours.png") as picture:
        assert picture.size == (2 + 10 * 50, 2 + 6 * 50)
    call(tfd.program, "--evaluate", folder, "--backend", "numpy")
    again = json.loads((folder / "checkpoint.evaluation.json").read_text(encoding="utf-8"))
    assert again["evaluation"] == facts["results"]["evaluation"]
    call(sample.program, folder, "--nearest", "--backend", "numpy")
    call(figure2.program, folder, "--out", folder / "figure")
    title = capsys.readouterr().out
    assert "b) TFD, fully connected. Stand-in" in title


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_never_stopped(train):
    whole = train("whole", "--epochs", 4)
    for epoch in 1, 2, 3, 4:  # in stage 1, between the stages, in stage 2
        parts = train("parts", "--epochs", epoch, *(["--resume"] if epoch > 1 else []))
    for name in "checkpoint-0002.npz", "checkpoint.npz":
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert [row[: len(COLUMNS)] for row in rows(whole)] == [row[: len(COLUMNS)] for row in rows(parts)]


@pytest.mark.slow
def test_stage_1_may_go_on_while_stage_2_has_not_begun(train):
    folder = train("a", "--epochs", 2)
    train("a", "--resume", "--epochs", 3, "--first-stage", 5)
    assert load_checkpoint(folder / "checkpoint.npz").configuration["stage"] == 1
    with refused("--first-stage 2", "3 epochs", error=CheckpointError):
        train("a", "--resume", "--epochs", 4, "--first-stage", 2)
    train("a", "--resume", "--epochs", 6)
    assert load_checkpoint(folder / "checkpoint.npz").configuration["stage"] == 2
    with refused("--first-stage 6", "epoch 5", error=CheckpointError):
        train("a", "--resume", "--first-stage", 6)
    with refused("max_column_norm", "None", error=CheckpointError):
        train("a", "--resume", "--no-max-column-norm")


def test_without_a_file_it_says_whom_to_ask(call, tmp_path):
    with refused("Toronto", error=DataError):
        call(tfd.program, "--out", tmp_path / "a")
    assert not (tmp_path / "a").exists()
