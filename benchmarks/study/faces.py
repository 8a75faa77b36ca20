"""The Toronto faces, or a stand-in for them: collects runs of examples/tfd.py for FACES.md and for Table 1's second column.

    python benchmarks/study/faces.py RUN [RUN …]       take in these folders of runs, finished or not, and print the tables
    python benchmarks/study/faces.py --time FILE       time iterations of both stages at the paper's width, on these faces
    python benchmarks/study/faces.py                   print the tables of benchmarks/results/faces.json and faces_time.json

A run's scores are those at its end, and those that `examples/tfd.py --evaluate CHECKPOINT` has written beside a checkpoint.
Every number is of the data that its record names.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from records import RESULTS, figures, keep_record, markdown_table, read_records, score

from tinygan import Streams, Trainer, bias_from_marginals, load_tfd, recipes, run
from tinygan.datasets import Dataset
from tinygan.datasets.tfd import FILE

RUNS, TIME = RESULTS / "faces.json", RESULTS / "faces_time.json"
OPTIONS = ("seed", "scale", "learning_rate", "variant", "prior", "batch_size", "k", "calm", "max_column_norm")
TIMED = 15  # iterations of each stage
COLUMNS = ("value", "D_x", "D_G_z", "validation_log_likelihood")


def take_in(folder: Path) -> dict[str, Any]:
    """What a run says, as a record."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    settings, results, environment = facts["configuration"], facts.get("results", {}), facts["environment"]
    found = {str(results["epochs"]): results["evaluation"]} if results else {}
    for path in folder.glob("checkpoint*.evaluation.json"):
        measured = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(str(measured["epoch"]), measured["evaluation"])
    seconds = [float(row["seconds"]) for row in rows if row["seconds"]]
    return {
        "name": folder.name,
        "command": command(facts),
        **{name: settings.get(name) for name in ("data", "data_digest", *OPTIONS)},
        "source": facts["data"]["source"],
        "first_stage": facts["options"]["first_stage"],
        "epochs": len(rows),
        "iterations_of_an_epoch": settings["train"] // (settings["k"] * settings["batch_size"]),
        "commits": [*facts["earlier_commits"], environment["commit"]],
        "minutes": round(sum(seconds) / 60, 1),
        "cores": environment["cores"],
        "peak_memory_mb": results.get("peak_memory_mb"),
        "curve": [{"epoch": int(row["epoch"])} | {name: float(row[name]) for name in COLUMNS if row[name]} for row in rows],
        "evaluations": {epoch: shortened(found[epoch]) for epoch in sorted(found, key=int)},
        **{name: results.get(name) for name in ("distinct_samples", "distinct_data", "reading")},
        "diverged": facts.get("diverged"),
    }


def command(facts: dict[str, Any]) -> str:
    """How to repeat a run. Options that are the recipe's are left out."""
    settings, words = facts["configuration"], [f"python examples/tfd.py --data {FILE} --seed {facts['configuration']['seed']}"]
    for name in OPTIONS[1:]:
        if settings[name] != recipes.TFD[name]:
            option = name.replace("_", "-")
            words.append(f"--{option} {settings[name]}" if settings[name] is not None else f"--no-{option}")
    epochs = facts["epochs"], facts["options"]["first_stage"]
    first, second = recipes.TFD_EPOCHS
    words += [f"--epochs {epochs[0]}"] * (epochs[0] != first + second) + [f"--first-stage {epochs[1]}"] * (epochs[1] != first)
    return " ".join(words)


def shortened(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The mean over the folds and its standard error, by each grid of σ; by the authors' grid, each fold too."""
    short: dict[str, Any] = {}
    for grid, result in evaluation.items():
        short[grid] = {name: result[name] for name in ("log_likelihood", "standard_error")}
        short[grid]["validation"] = float(np.mean([max(fold["validation_log_likelihoods"]) for fold in result["folds"]]))
        if grid == "authors":
            rows = ("validation_rows", "test_rows")
            short[grid]["folds"] = [figures(fold) | {name: fold[name] for name in rows} for fold in result["folds"]]
            for fold, whole in zip(short[grid]["folds"], result["folds"], strict=True):
                fold["validation"] = max(whole["validation_log_likelihoods"])
        short["samples"] = result["samples"]
    return short


def is_recipe(record: dict[str, Any]) -> bool:
    """Whether only the seed may differ from the released recipe."""
    return all(record[name] == recipes.TFD[name] for name in OPTIONS[1:]) and record["first_stage"] == recipes.TFD_EPOCHS[0]


def best(records: list[dict[str, Any]]) -> tuple[dict[str, Any], str] | None:
    """The run of the recipe, and its epoch, whose mean over the validation sets is the highest."""
    pairs = [(record, epoch) for record in records if is_recipe(record) for epoch in record["evaluations"]]
    return max(pairs, key=lambda pair: pair[0]["evaluations"][pair[1]]["authors"]["validation"], default=None)


def cell() -> str:
    """What Table 1 says of the released recipe's best run by validation."""
    found = best(read_records(RUNS))
    if found is None:
        return "not run"
    record, epoch = found
    words = f"{score(record['evaluations'][epoch])}, epoch {epoch}, seed {record['seed']}"
    return words if record["data"] == "tfd" else f"on a stand-in, {record['data']}: {words}"


def departure(record: dict[str, Any]) -> str:
    """In words, how a run differs from the recipe."""
    words = [f"{name.replace('_', ' ')} {record[name] or 'none'}" for name in OPTIONS[1:] if record[name] != recipes.TFD[name]]
    words += [f"stage 1 for {record['first_stage']} epochs"] * (record["first_stage"] != recipes.TFD_EPOCHS[0])
    return ", ".join(words) or "the recipe"


def table_of_runs(records: list[dict[str, Any]]) -> str:
    """A row for each measured epoch of each run."""
    rows = []
    for record in sorted(records, key=lambda record: (record["scale"], departure(record), record["seed"])):
        for epoch in [*record["evaluations"], *([] if record["evaluations"] else [""])]:
            stage = "" if not epoch else 1 if int(epoch) <= record["first_stage"] else 2
            result = score(record["evaluations"][epoch]) if epoch else "diverged" if record["diverged"] else "not measured"
            at = record["curve"][int(epoch) - 1 if epoch else -1]
            D = f"{at['D_x']:.2f}, {at['D_G_z']:.2f}"
            last = epoch == str(record["epochs"])
            distinct = f"{record['distinct_samples']} of {record['distinct_data']}" if last and record["distinct_data"] else ""
            minutes = f"{record['minutes']:.0f}" if last or not epoch else ""
            rows.append([departure(record), record["seed"], stage, epoch or record["epochs"], result, D, distinct, minutes])
    columns = ["run", "seed", "stage", "after epoch", "test (fine σ), nats", "D(x), D(G(z))", "distinct samples, data"]
    return markdown_table([*columns, "minutes"], rows) if rows else "No run was taken in yet."


def table_of_folds(records: list[dict[str, Any]]) -> str:
    """Fold by fold, of the run that Table 1 shows."""
    found = best(records)
    if found is None:
        return "No run of the recipe at the paper's width was measured yet."
    record, epoch = found
    rows = [
        [i, f"{fold['sigma']:.3f}", f"{fold['validation']:.1f}", f"{fold['log_likelihood']:.1f}", fold["test_rows"]]
        for i, fold in enumerate(record["evaluations"][epoch]["authors"]["folds"])
    ]
    result = record["evaluations"][epoch]["authors"]
    total = f"{result['log_likelihood']:.1f} ± {result['standard_error']:.1f}"
    rows.append([f"mean, seed {record['seed']}, epoch {epoch}", "", f"{result['validation']:.1f}", total, ""])
    return markdown_table(["fold", "σ", "validation, nats", "test, nats", "test faces"], rows)


def table_of_times(record: dict[str, Any] | None) -> str:
    if record is None:
        return "Not measured yet."
    rows = [
        [stage, *(f"{figure:.2f} s" for figure in (one["median"], one["least"])), f"{one['cpu']:.2f} s", f"{one['share']:.1%}"]
        for stage, one in record["stages"].items()
    ]
    columns = ["stage", "an iteration, median", "least", "CPU seconds, median", "share of the projection"]
    return f"{markdown_table(columns, rows)}\n\nPeak memory: {record['peak_memory_mb']:,} MB."


def measure_time(path: str) -> dict[str, Any]:
    """Seconds of an iteration at the paper's width, and how much of it the max column norm takes."""
    dataset = load_tfd(path)
    record: dict[str, Any] = {"command": f"python benchmarks/study/faces.py --time {FILE}", "data": dataset.name, "stages": {}}
    for stage in 1, 2:
        record["stages"][str(stage)] = time_of_stage(stage, dataset)
    return record | {"peak_memory_mb": run.peak_memory(), "environment": run.environment()}


def time_of_stage(stage: int, dataset: Dataset) -> dict[str, float]:
    gan = recipes.tfd({"stage": stage}, bias_from_marginals(dataset.train.images, any_range=True))
    trainer, projection = Trainer(gan, dataset.train, dataset.validation), []
    for optimizer in gan.G_optimizer, gan.D_optimizer:
        optimizer.after = timed(optimizer.after, projection)
    batches, streams, rows = trainer.batches(1), Streams(0, 1), []
    for _ in range(TIMED + 1):
        before, began, cpu = sum(projection), time.perf_counter(), time.process_time()
        gan.iteration(batches, streams)
        rows.append((time.perf_counter() - began, sum(projection) - before, time.process_time() - cpu))
    whole, part, cpu = np.array(rows[1:]).T  # the first touches its memory for the first time
    seconds = {"median": np.median(whole), "least": whole.min(), "cpu": np.median(cpu), "share": np.median(part / whole)}
    return {name: round(float(figure), 4) for name, figure in seconds.items()}


def timed(function: Any, seconds: list[float]) -> Any:
    def call() -> None:
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)

    return call


def tables() -> dict[str, str]:
    """The tables of FACES.md, by the names in their markers."""
    records, times = read_records(RUNS), read_records(TIME)
    return {
        "faces": table_of_runs(records),
        "faces folds": table_of_folds(records),
        "faces time": table_of_times(times[0] if times else None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of examples/tfd.py")
    parser.add_argument("--time", metavar="FILE", help=f"{FILE}, or a stand-in in its format")
    args = parser.parse_args()
    for folder in args.runs:
        keep_record(RUNS, take_in(folder), ("name",))
    if args.time:
        run.write_json(TIME, [measure_time(args.time)])
    print("\n\n".join(tables().values()))


if __name__ == "__main__":
    run.main(main)
