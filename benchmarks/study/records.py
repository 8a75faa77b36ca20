"""What the studies share: their data, what a departure is, their files of results, and the Markdown of their tables."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import common
import mnist

from tinygan import DataError, load_mnist
from tinygan.datasets import Dataset

DATA = "mnist"  # what the committed results are about


def load_data(folder: str | None) -> Dataset:
    """MNIST, from this folder or wherever it is found. Raises DataError for any other data: its results do not belong here."""
    dataset = load_mnist(folder)
    if dataset.name != DATA:
        raise DataError(f"{dataset.name}: this is about MNIST; name the folder of its four files with --data")
    return dataset


def released() -> dict[str, Any]:
    """The settings of the recipe as the authors released it, which are the defaults of examples/mnist.py."""
    widths = {"generator_width": mnist.GENERATOR_WIDTH, "discriminator_width": mnist.DISCRIMINATOR_WIDTH}
    return mnist.DEFAULTS | widths | {"calm": False}


def departures(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a run's settings, those in which it departs from the recipe as the authors released it."""
    own = {"generator_cost": "minimax" if settings["variant"] == "printed" else "non_saturating"}
    recipe = {name: value for name, value in (released() | own).items() if name not in ("seed", "backend")}
    return {name: value for name, value in settings.items() if name in recipe and value != recipe[name]}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records in a file of results; none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep_record(path: Path, record: dict[str, Any], key: tuple[str, ...]) -> None:
    """Put a record into a file of results, in the place of an earlier one of the same key.

    The file is read again each time: another process may have written into it while this one trained.
    """
    others = [other for other in read_records(path) if any(other[name] != record[name] for name in key)]
    common.write_json(path, [*others, record])


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Of an evaluation with one grid: σ, the log-likelihood and its standard error, in nats."""
    return {name: result[name] for name in ("sigma", "log_likelihood", "standard_error")}


def score(evaluation: dict[str, dict[str, float]]) -> str:
    """The test log-likelihood ± its standard error in nats, by the authors' grid of σ, and in brackets by the fine one."""
    authors, fine = evaluation["authors"], evaluation["fine"]
    return f"{authors['log_likelihood']:.1f} ± {authors['standard_error']:.1f} ({fine['log_likelihood']:.1f})"


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
