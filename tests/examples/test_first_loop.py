"""examples/first_loop.py: it runs and writes its picture, it is short and hides nothing; and G learns digits (slow)."""

import ast
import runpy
import sys
import tokenize

import numpy as np
import pytest
from PIL import Image
from scripts import EXAMPLES

import tinygan.run
from tinygan import load_mnist, pixels
from tinygan.images import nearest_neighbours

SCRIPT = EXAMPLES / "first_loop.py"


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Run the script in an empty folder. Returns its variables."""
    monkeypatch.chdir(tmp_path)

    def play(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        return runpy.run_path(str(SCRIPT), run_name="__main__")

    return play


def lines_of_code():
    """The numbers of the lines that hold code: no docstring, no comment alone, no empty line."""
    with open(SCRIPT, "rb") as file:
        kinds = tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING
        kinds += (tokenize.ENDMARKER,)
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in kinds]
    docstring = tokens[0]
    assert docstring.type == tokenize.STRING
    return {line for token in tokens[1:] for line in range(token.start[0], token.end[0] + 1)}


def test_it_has_at_most_30_lines_of_code_and_no_helper():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    assert 20 < len(lines_of_code()) <= 30
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.With | ast.Try)]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} == {"tinygan", "pathlib"}
    assert not {"tinygan.run", "tinygan.recipes", "tinygan.training"} & imported


def test_it_runs_and_writes_its_picture(play, tmp_path, capsys):
    variables = play("--smoke")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == ["runs/first_loop.png"]
    with Image.open(tmp_path / "runs" / "first_loop.png") as picture:
        assert picture.size == (2 + 10 * 30, 2 + 10 * 30)
        assert len(np.unique(np.asarray(picture))) > 100
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    for name, cost in variables["costs"].items():
        assert f"{name} {cost:.2f}" in lines[-1]
    assert "runs/first_loop.png" in last
    assert variables["gan"].G_optimizer.updates == variables["gan"].D_optimizer.updates == 10


def test_a_cost_that_is_no_number_ends_it(play, monkeypatch):
    iteration, calls = tinygan.Simultaneous.iteration, []

    def diverging(*arguments):
        calls.append(1)
        costs = iteration(*arguments)
        return costs if len(calls) < 4 else costs | {"generator_cost": np.float32("nan")}

    monkeypatch.setattr(tinygan.Simultaneous, "iteration", diverging)
    with pytest.raises(tinygan.DivergenceError, match="iteration 4.*generator cost.*nan"):
        play("--smoke")


@pytest.mark.slow
def test_G_learns_digits(play):
    """Its samples differ from each other as data do; they are about as near to training images as others of the data are."""
    gan, dataset = play()["gan"], load_mnist(download=False)
    test, train = pixels(dataset.test.images[:500]), pixels(dataset.train.images)
    samples = gan.sample(len(test), 1)
    assert tinygan.run.diversity(samples, test)["distinct_samples"] > 450
    nearest, distance = nearest_neighbours(samples, train)
    assert np.median(distance) < 1.25 * np.median(nearest_neighbours(test, train)[1])  # noise about the mean image: 1.7
    assert np.bincount(dataset.train.labels[nearest], minlength=10).min() > 0  # all ten digits
