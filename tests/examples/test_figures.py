"""Figures of the examples: each function that draws one returns it, and draws into axes of a notebook's own."""

import inspect
import re

import collapse
import costs
import figure1
import pytest
import theory
from helpers import refused
from matplotlib.figure import Figure
from scripts import ROOT

DRAWN = [(theory.draw_theorem_1, 2), (costs.draw_curves, 2), (collapse.draw_bilinear, 2)]  # those that need no run


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "n"), DRAWN, ids=lambda value: getattr(value, "__module__", None))
def test_a_figure_is_returned_and_axes_are_taken(draw, n):
    mine = Figure(figsize=(10, 4))
    axes = mine.subplots(1, n)
    assert draw(axes=axes) is mine
    assert all(axis.lines for axis in axes)
    other = draw()
    assert isinstance(other, Figure)
    assert [len(axis.lines) for axis in other.axes] == [len(axis.lines) for axis in axes]
    with refused(f"{n} axes", n + 1):
        draw(axes=mine.subplots(1, n + 1))


@pytest.mark.parametrize("module", [theory, costs, collapse, figure1], ids=lambda module: module.__name__)
def test_every_function_that_draws_takes_axes(module):
    films = ("draw_gif", "draw_film")  # of many figures
    drawing = {name: f for name, f in vars(module).items() if name.startswith("draw_") and name not in films}
    assert len(drawing) > 2
    for name, f in drawing.items():
        parameters = list(inspect.signature(f).parameters)
        assert "axes" in parameters or parameters[0] == "axis", name


def test_no_picture_is_written_but_whole():
    """Each is written into the file of write_atomically, not to a path."""
    written = re.compile(r"savefig\(|np\.save\(|\.save\(.*(?:optimize|save_all)=")
    for path in [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/study/*.py"), *ROOT.glob("tinygan/**/*.py")]:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if written.search(line)]
        assert [line for line in lines if "(file, " not in line] == [], path.name
