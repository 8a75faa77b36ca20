"""What the studies share: their data, the training behind a checkpoint, what a departure is, their results and their pages."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinygan import GAN, DataError, Trainer, bias_from_marginals, load_mnist, recipes
from tinygan.datasets import Dataset
from tinygan.run import load_run, require_same_data, write_json

RESULTS = Path(__file__).parents[1] / "results"

DATA = "mnist"  # what the committed results are about


def load_data(folder: str | None) -> Dataset:
    """MNIST, from this folder or wherever it is found. Raises DataError for any other data: its results do not belong here."""
    dataset = load_mnist(folder)
    if dataset.name != DATA:
        raise DataError(f"{dataset.name}: this is about MNIST; name the folder of its four files with --data")
    return dataset


def train_with(settings: dict[str, Any], gan: GAN, dataset: Dataset) -> Trainer:
    """The recipe's training of this game on this data."""
    options = {"batch_size": settings["batch_size"], "seed": settings["seed"], "momentum": recipes.momentum(settings)}
    return Trainer(gan, dataset.train, dataset.validation, **options)


def resume(path: Path, dataset: Dataset) -> tuple[Trainer, argparse.Namespace]:
    """The training that wrote this checkpoint, at its epoch, on the same data; and its settings."""
    settings = {"calm": False} | load_run(path)[0].configuration  # what an older checkpoint does not know was off
    require_same_data(settings, dataset)
    trainer = train_with(settings, recipes.mnist(settings, bias_from_marginals(dataset.train.images)), dataset)
    trainer.restore(path)
    return trainer, argparse.Namespace(**settings)


def departures(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a run's settings, those in which it departs from the recipe as the authors released it."""
    own = {"generator_cost": "minimax" if settings["variant"] == "printed" else "non_saturating"}
    recipe = {name: value for name, value in (recipes.MNIST | own).items() if name != "seed"}
    return {name: value for name, value in settings.items() if name in recipe and value != recipe[name]}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records in a file of results; none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep_record(path: Path, record: dict[str, Any], key: tuple[str, ...]) -> None:
    """Put a record into a file of results, in the place of an earlier one of the same key.

    The file is read again each time: another process may have written into it while this one trained.
    """
    others = [other for other in read_records(path) if any(other[name] != record[name] for name in key)]
    write_json(path, [*others, record])


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Of an evaluation with one grid: σ, unless each fold has its own; the log-likelihood and its standard error, in nats."""
    return {name: result[name] for name in ("sigma", "log_likelihood", "standard_error") if name in result}


def score(evaluation: dict[str, dict[str, float]]) -> str:
    """The test log-likelihood ± its standard error in nats, by the authors' grid of σ, and in brackets by the fine one."""
    authors, fine = evaluation["authors"], evaluation["fine"]
    return f"{authors['log_likelihood']:.1f} ± {authors['standard_error']:.1f} ({fine['log_likelihood']:.1f})"


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def filled(page: Path, tables: Mapping[str, str]) -> str:
    """The text of a page with these tables between their markers. All else, blank lines too, is as it was.

        <!-- table NAME -->
        …
        <!-- end of table NAME -->

    Raises DataError, with page and marker, for a marker that is not there once, and for a pair in the wrong order.
    """
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        markers = f"<!-- table {name} -->", f"<!-- end of table {name} -->"
        for marker in markers:
            if text.count(marker) != 1:
                raise DataError(f"{page}: it has the marker {marker} {text.count(marker)} times: it needs it once")
        start, stop = text.index(markers[0]) + len(markers[0]), text.index(markers[1])
        if stop < start:
            raise DataError(f"{page}: {markers[1]} stands before its {markers[0]}: change their order")
        old = text[start:stop]
        new = old.replace(old.strip(), table) if old.strip() else f"\n\n{table}\n\n"
        text = text[:start] + new + text[stop:]
    return text
