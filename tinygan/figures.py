"""Figures of matplotlib, in a notebook or in a file: helpers for functions that draw, and the curves of a run.

A function that draws returns its Figure. It takes axes of the caller's, or makes new ones:

    %matplotlib inline
    from tinygan.figures import curves, read_metrics
    curves(read_metrics("runs/mnist-…"))                 # a new figure
    curves(read_metrics("runs/mnist-…"), axes=my_axes)   # in four axes of yours

matplotlib is imported where it is used.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan.backend import Array, write_atomically
from tinygan.console import new_figure
from tinygan.errors import ArgumentError, DataError

MANY = 100  # points of a line: beyond, they are not marked one by one
FAR = 1e100  # beyond, a difference of two numbers may overflow
CUT = 40  # points of a line: beyond, a few that lie far off do not stretch the axis


class Panel(NamedTuple):
    """One of the four: its title, a label for each column, D = ½ in its units, what its axis always shows, its least height."""

    title: str
    labels: dict[str, str]
    equal: float | None
    always: tuple[float, ...]
    least: float


LOG_4 = float(np.log(4))
PANELS = (
    Panel("V(D, G), nats", {"value": "V"}, -LOG_4, (-LOG_4,), 0.2),
    Panel("D on held-out images and on samples", {"D_x": "D(x)", "D_G_z": "D(G(z))"}, 0.5, (0, 1), 1),
    Panel("training costs, nats", {"discriminator_cost": "J(D)", "generator_cost": "J(G)"}, None, (), 0.2),
    Panel("validation log-likelihood, nats", {"validation_log_likelihood": "Parzen window"}, None, (), 10),
)


def figure_and_axes(axes: Any, rows: int, columns: int, figsize: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """The Figure that these axes are in, and the axes; for None, a new Figure with rows × columns of them.

    options  of matplotlib's subplots
    Raises ArgumentError for axes of a different number.
    """
    if axes is None:
        figure = new_figure(figsize=figsize, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)
    found = np.array(axes, dtype=object)
    if found.size != rows * columns:
        raise ArgumentError(f"this figure needs {rows * columns} axes, {rows} rows of {columns}, not {found.size}")
    found = found.reshape(rows, columns)
    return found[0, 0].get_figure(), found


def save_figure(path: str | os.PathLike[str], figure: Any, dpi: int, **options: Any) -> None:
    """Write a Figure as a PNG, the whole file or nothing. options: of matplotlib's savefig."""
    with write_atomically(path) as file:
        figure.savefig(file, format="png", dpi=dpi, **options)


def as_pixels(figure: Any, dpi: int) -> Array:
    """A Figure as an image, uint8 (h, w, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


# ---- The curves of a run


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The numbers of each epoch so far, from metrics.csv in the folder of a run. Raises DataError if there is none."""
    path = Path(folder) / "metrics.csv"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: name the folder of a run") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}): --resume rebuilds it") from error


def curves(metrics: Sequence[dict[str, Any]], title: str = "", samples: Array | None = None, *, axes: Any = None) -> Any:
    """A Figure of V, D(x) and D(G(z)), the two costs, and the validation log-likelihood, by epoch.

    metrics  what Trainer.train_epoch returned, epoch by epoch: trainer.metrics, or read_metrics(folder)
    samples  a picture to show below, such as a row of images
    axes     four axes to draw in, without samples
    """
    if axes is not None and samples is not None:
        raise ArgumentError("curves draws samples only into a figure of its own: give samples or axes, not both")
    if axes is None and samples is not None:
        figure = new_figure(figsize=(10, 8.2), layout="constrained")
        mosaic = figure.subplot_mosaic([[0, 1], [2, 3], ["samples"] * 2], height_ratios=[3, 3, 1.2])
        below = mosaic.pop("samples")
        below.imshow(samples, cmap="gray", vmin=0, vmax=255)
        below.set_title(f"samples after epoch {metrics[-1]['epoch']:.0f}" if metrics else "samples before the first epoch")
        below.set_axis_off()
        axes = list(mosaic.values())
    figure, axes = figure_and_axes(axes, 2, 2, (10, 7))
    for axis, panel in zip(axes.flat, PANELS, strict=True):
        _draw_panel(axis, metrics, panel)
    if title:
        figure.suptitle(title)
    return figure


def _draw_panel(axis: Any, metrics: Sequence[dict[str, Any]], panel: Panel) -> None:
    """One panel, which a person can read whether it has one point or a thousand."""
    for key, label in panel.labels.items():
        points = [(row["epoch"], row[key]) for row in metrics if key in row]
        if points:
            x, y = np.array(points, dtype=float).T
            style: dict[str, Any] = {"marker": "o", "markersize": 4} if len(x) <= MANY else {"linewidth": 0.9}
            axis.plot(x, y, label=label, **style)
    axis.set(title=panel.title, xlabel="epoch", xlim=(0, 1.03 * max([2, *(row["epoch"] for row in metrics)])))
    axis.xaxis.get_major_locator().set_params(integer=True)
    if not axis.lines:
        axis.text(0.5, 0.5, "not measured yet", transform=axis.transAxes, ha="center", va="center", color="grey")
        axis.set(yticks=[])
        return
    if panel.equal is not None:
        axis.axhline(panel.equal, color="grey", linestyle=":", label="where D = ½ everywhere")
    low, high = limits(panel, [[row[key] for row in metrics if key in row] for key in panel.labels])
    axis.set(ylim=(low, high))
    axis.yaxis.get_major_formatter().set_useOffset(False)
    outside = sum(not low <= row[key] <= high for row in metrics for key in panel.labels if key in row)
    if outside:
        text = f"{outside} point{'s' * (outside > 1)} outside"
        axis.text(0.5, 0.02, text, transform=axis.transAxes, ha="center", va="bottom", color="grey")
    axis.legend()


def limits(panel: Panel, lines: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The ends of a panel's axis for these lines. Numbers that are not finite, or beyond FAR, do not count."""
    ends = list(panel.always)
    for line in lines:
        y = np.array([value for value in line if abs(value) < FAR])  # of NaN this is not true
        ends += _most_of(y) if len(y) else []
    ends = ends or [0.0, 1.0]
    middle, height = (max(ends) + min(ends)) / 2, max(1.12 * (max(ends) - min(ends)), panel.least)
    return middle - height / 2, middle + height / 2


def _most_of(y: Array) -> list[float]:
    """The ends of the range to show: of all points, or without its outer 5 % where they would make it four times as wide."""
    low, high = float(y.min()), float(y.max())
    if len(y) > CUT:
        lower, upper = np.quantile(y, (0.05, 0.95)).tolist()
        low = lower if lower - low > 3 * (upper - lower) else low
        high = upper if high - upper > 3 * (upper - lower) else high
    return [low, high]


def draw_curves(
    path: str | os.PathLike[str], metrics: Sequence[dict[str, Any]], title: str, samples: Array | None = None
) -> None:
    """Write `curves` as a PNG. Without matplotlib, nothing: Run.start has said so."""
    try:
        figure = curves(metrics, title, samples)
    except ImportError:
        return
    save_figure(path, figure, 80)
