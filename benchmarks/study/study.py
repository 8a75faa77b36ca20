"""Table 1's MNIST row: collects runs of examples/mnist.py, draws their curves in one plot, writes the table in Markdown.

    python benchmarks/study/study.py RUN [RUN …]    take in these folders of runs, finished or not; then the plot and the table
    python benchmarks/study/study.py                the plot and the table of what is in benchmarks/results already

A run becomes benchmarks/results/mnist-NAME.json: its settings, commits, cores, minutes, its curve of validation
log-likelihoods and what its last checkpoint says; where the test set was measured, also σ and test log-likelihood, of several
such epochs at the best by validation. Every run that was started belongs in here, collapses included. NAME is that of the
run's folder.

The plot: above the validation log-likelihoods of all runs, those of anneal.py starred; below on the left their first epochs,
on the right V there for the released hyper-parameters, where 0 is a D that has won. The tables: Table 1 with the released
recipe's best run by validation; each single departure beside the released recipe, seed by seed; and every run, with its
validation log-likelihoods on the way and, if it was measured, that of the test set.
"""

import argparse
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from records import RESULTS, departures, figures, markdown_table, read_records, resume, score

from tinygan import DataError, Generator, load_mnist, run

PLOT = RESULTS / "curves.png"
TEST_ROWS = 10_000  # of MNIST: of the 5,000 images that work offline, some are training images
FIRST, EARLY = 10, 30  # epochs of V, and of log-likelihoods, in the plot's lower half: there is decided whether a run learns
LINES = {"simultaneous": ("-", "Blues"), "alternating": ("--", "Oranges"), "printed": (":", "Greens")}
MARKS = "osv^DPX<>ph"  # of the departures in the plot
SHOWN = (10, 20, 30, 50, 100, 200, 300, 400, 500, 600, 800)  # epochs whose validation log-likelihood the table has
PAPER = [  # Table 1 of the paper
    ("DBN", "138 ± 2", "1909 ± 66"),
    ("Stacked CAE", "121 ± 1.6", "2110 ± 50"),
    ("Deep GSN", "214 ± 1.1", "1890 ± 29"),
    ("Adversarial nets", "225 ± 2", "2057 ± 26"),
]


def take_in(folder: Path, data: str | None = None) -> None:
    """One run's folder as one JSON file among the results. Raises DataError unless it is about MNIST.

    data   the folder of MNIST's files, for runs that have not ended
    """
    folder = folder.resolve()
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    settings = facts["configuration"]
    if settings["data"] != "mnist":
        raise DataError(f"{folder}: trained on {settings['data']}: this study is about MNIST")
    environment = facts["environment"]
    results = facts.get("results", {})
    evaluations = {results["epochs"]: results["evaluation"]} if results else {}
    for path in folder.glob("checkpoint-*.evaluation.json"):  # of a kept checkpoint: examples/mnist.py --evaluate
        kept = json.loads(path.read_text(encoding="utf-8"))
        evaluations[kept["epoch"]] = kept["evaluation"]
    validation = {int(row["epoch"]): float(nats) for row in rows if (nats := row["validation_log_likelihood"])}
    evaluated_at = max(evaluations, key=lambda epoch: (validation.get(epoch, -np.inf), epoch), default=None)
    if {result["test_rows"] for kept in evaluations.values() for result in kept.values()} - {TEST_ROWS}:
        raise DataError(f"{folder}: measured on other test images than MNIST's {TEST_ROWS:,}")
    reading, read_at = results.get("reading"), results.get("epochs")
    if not reading and "diverged" not in facts and (folder / "checkpoint.npz").exists():
        dataset = load_mnist(data)
        trainer, _ = resume(folder / "checkpoint.npz", dataset)
        generator = Generator(trainer.model.G, trainer.model.noise)
        reading, read_at = run.read(trainer, generator, dataset)["reading"], trainer.epoch
    options = departures(settings)
    flags = "".join(f" --{name.replace('_', '-')}" + f" {value}" * (value is not True) for name, value in options.items())
    epochs = len(rows) + ("diverged" in facts)  # the one that it diverged in has no row
    record = {
        "command": f"python examples/mnist.py --data MNIST --seed {settings['seed']} --epochs {epochs}{flags}",
        "commits": [*facts.get("earlier_commits", []), environment["commit"]],
        "seed": settings["seed"],
        "variant": settings["variant"],
        "departs_in": options,
        "finished": bool(results),
        "epochs": len(rows),
        "minutes": round(sum(float(row["seconds"] or 0) for row in rows) / 60, 1),
        "cores": environment["cores"],
        "threads": environment["threads"],
        "versions": {name: environment[name] for name in ("tinygan", "python", "numpy")},
        "reading": reading,
        "reading_at_epoch": read_at,
        "diverged": facts.get("diverged"),
        "traces": [
            {"epoch": int(row["epoch"]), "D_x": float(row["D_x"]), "D_G_z": float(row["D_G_z"]), "value": float(row["value"])}
            for row in rows
        ],
        "validation_log_likelihoods": validation,
        "evaluation": {
            grid: figures(result) | {"samples": result["samples"]}
            for grid, result in evaluations.get(evaluated_at, {}).items()
        },
        "evaluated_at_epoch": evaluated_at,
        "test_log_likelihoods": {  # every time that the test set was read
            epoch: evaluations[epoch]["authors"]["log_likelihood"] for epoch in sorted(evaluations)
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"mnist-{folder.name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def runs() -> dict[str, dict[str, Any]]:
    found = sorted(RESULTS.glob("mnist-*.json"))
    return {path.stem.removeprefix("mnist-"): json.loads(path.read_text(encoding="utf-8")) for path in found}


def draw(records: dict[str, dict[str, Any]]) -> None:
    """All runs' validation log-likelihoods, beside the paper's 225; the same in the first epochs, and V there."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic([["whole", "whole"], ["early", "value"]], figsize=(12, 9), layout="constrained")
    whole, early, value = (axes[name] for name in ("whole", "early", "value"))
    departing = sorted({departure(record) for record in records.values()} - {""})
    named = set()

    def colour(record: dict[str, Any]) -> Any:
        return plt.get_cmap(LINES[record["variant"]][1])(0.95 - 0.13 * min(record["seed"], 4))

    for record in sorted(records.values(), key=lambda record: list(LINES).index(record["variant"])):
        line, _ = LINES[record["variant"]]
        style = {"color": colour(record), "linestyle": line, "marker": ".", "markersize": 4, "linewidth": 1.2}
        label = f"{record['variant']}, seed {record['seed']}"
        if words := departure(record):  # in more than its variant: a colour and a mark of its own, for all its seeds
            i = departing.index(words)
            style |= {"color": plt.get_cmap("turbo")((i + 0.5) / len(departing)), "marker": MARKS[i % len(MARKS)]}
            label = f"{record['variant']}, {words}"
        else:
            first = record["traces"][:FIRST]
            value.plot([row["epoch"] for row in first], [row["value"] for row in first], **style)
        label = f"_{label}" if label in named else label  # once in the legend
        named.add(label)
        curve = {int(epoch): nats for epoch, nats in record["validation_log_likelihoods"].items()}
        whole.plot(list(curve), list(curve.values()), label=label, **style)
        curve = {epoch: nats for epoch, nats in curve.items() if epoch <= EARLY}
        early.plot(list(curve), list(curve.values()), **style)
    for i, record in enumerate(read_records(RESULTS / "anneal.json")):
        curve = {int(epoch): nats for epoch, nats in record["validation_log_likelihoods"].items()}
        style = {"color": colour(record), "linewidth": 1}
        star = {"marker": "*", "markersize": 8, "markevery": [-1], "markerfacecolor": "black", "markeredgecolor": "black"}
        label = "_" * (i > 0) + "the same nets, η going to 0 (anneal.py)"  # once in the legend
        whole.plot(list(curve), list(curve.values()), label=label, **style, **star)
    whole.axhline(225, color="grey", linestyle="--", linewidth=1)
    whole.text(0.01, 225, "225, the paper", transform=whole.get_yaxis_transform(), va="bottom", color="grey")
    whole.set(xlabel="epoch", ylabel="validation log-likelihood, nats", ylim=(0, 240), title="every run, above 0")
    early.set(xlabel="epoch", ylabel="validation log-likelihood, nats", title=f"the first {EARLY} epochs, collapses included")
    value.axhline(-np.log(4), color="grey", linestyle=":", linewidth=1)
    value.text(0.99, -np.log(4), "−log 4: D = ½", transform=value.get_yaxis_transform(), va="bottom", ha="right", color="grey")
    value.set(xlabel="epoch", ylabel="V(D, G) on held-out data, nats", title="the three variants (0: D has won)")
    figure.legend(fontsize="small", loc="outside right upper")
    with io.BytesIO() as file:
        figure.savefig(file, dpi=100)
        plt.close(figure)
        picture = Image.open(file).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)  # a quarter of the size
        picture.save(PLOT, optimize=True)


def departure(record: dict[str, Any]) -> str:
    """In words, in what the run departs from the released recipe beside its variant."""
    others = sorted((name, value) for name, value in record["departs_in"].items() if name != "variant")
    return ", ".join(name.replace("_", " ") + f" {value}" * (value is not True) for name, value in others)


def departs_in(record: dict[str, Any]) -> str:
    """In words, in what the run departs from the released recipe; empty for the recipe itself."""
    variant = f"variant {record['variant']}" if "variant" in record["departs_in"] else ""
    return ", ".join(filter(None, (variant, departure(record))))


def measured_score(record: dict[str, Any]) -> str:
    return f"{score(record['evaluation'])}, epoch {record['evaluated_at_epoch']}" if record["evaluation"] else ""


def candidates(records: dict[str, dict[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """The runs of the released recipe that were measured on the test set, each with its validation log-likelihood then."""
    measured = [record for record in records.values() if record["evaluation"] and not record["departs_in"]]
    validation = [record["validation_log_likelihoods"].get(str(record["evaluated_at_epoch"])) for record in measured]
    return [(value, record) for value, record in zip(validation, measured, strict=True) if value is not None]


def table_1(records: dict[str, dict[str, Any]]) -> str:
    """The paper's Table 1 with a row of ours."""
    rows = [(f"{name}, the paper", *scores) for name, *scores in PAPER]
    measured = candidates(records)
    ours = "no run was measured yet"
    if measured:
        _, best = max(measured, key=lambda pair: pair[0])
        ours = f"{measured_score(best)}, seed {best['seed']}, the best of {len(measured)} by validation"
    rows.append(("Adversarial nets, tinygan, the released recipe", ours, "not run"))
    return markdown_table(["Table 1", "MNIST, nats", "TFD, nats"], rows)


def table_of_departures(records: dict[str, dict[str, Any]]) -> str:
    """Each single departure that was measured with several seeds, beside the released recipe with the same seeds.

    A run that diverged before it was first measured is not in it, but in the table of runs.
    Both are read at the last epoch at which all of these runs were measured, in nats on the validation images. The last
    column is the mean of the differences, seed by seed, ± its standard error; the rows go from the largest to the least.
    """
    curves = {seed: curve for departs, seed, curve in single(records) if not departs}
    found: dict[str, dict[int, dict[str, float]]] = {}
    for departs, seed, curve in single(records):
        if departs and curve and seed in curves:
            found.setdefault(departs, {})[seed] = curve
    rows = []
    for departs, ours in found.items():
        seeds = sorted(ours)
        common_epochs = set.intersection(*(set(ours[seed]) & set(curves[seed]) for seed in seeds))
        if len(seeds) < 2 or not common_epochs:
            continue
        epoch = max(common_epochs, key=int)
        theirs = [curves[seed][epoch] for seed in seeds]
        difference = np.subtract([ours[seed][epoch] for seed in seeds], theirs)
        error = difference.std(ddof=1) / len(seeds) ** 0.5
        cells = (", ".join(f"{value:.0f}" for value in values) for values in ([ours[seed][epoch] for seed in seeds], theirs))
        row = [departs, ", ".join(map(str, seeds)), epoch, *cells, f"{difference.mean():+.0f} ± {error:.0f}"]
        rows.append((difference.mean(), row))
    columns = ["departs in", "seeds", "epoch", "nats", "the released recipe", "difference"]
    return markdown_table(columns, (row for _, row in sorted(rows, key=lambda pair: -pair[0])))


def single(records: dict[str, dict[str, Any]]) -> list[tuple[str, int, dict[str, float]]]:
    """Of the runs that depart in one thing or in none: in what, the seed, the validation log-likelihoods."""
    few = (record for record in records.values() if len(record["departs_in"]) < 2)
    return [(departs_in(record), record["seed"], record["validation_log_likelihoods"]) for record in few]


def table_of_runs(records: dict[str, dict[str, Any]]) -> str:
    """Every run that was started: validation log-likelihoods on the way, the test set's, and how it ended."""
    columns = ["departs in", "seed", "epochs", *(f"@{epoch}" for epoch in SHOWN), "last", "test (fine σ)", "at its end"]
    rows = []
    for record in sorted(records.values(), key=lambda r: (len(r["departs_in"]), str(r["departs_in"]), r["seed"])):
        curve = record["validation_log_likelihoods"]
        cells = [departs_in(record) or "nothing", record["seed"], record["epochs"]]
        cells += [f"{curve[str(epoch)]:.0f}" if str(epoch) in curve else "" for epoch in SHOWN]
        last = max(curve, key=int, default="")
        cells.append(f"{curve[last]:.0f} @{last}" if last else "")
        rows.append([*cells, measured_score(record), ending(record)])
    return markdown_table(columns, rows)


def ending(record: dict[str, Any]) -> str:
    if record["diverged"]:
        return f"diverged in epoch {record['epochs'] + 1}"
    if not record["reading"]:
        return "no checkpoint"
    words = re.split(": (?:over|after|D\\()", record["reading"])[0]  # without the figures
    return words if record["finished"] else f"so far: {words}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of examples/mnist.py")
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    args = parser.parse_args()
    for folder in args.runs:
        take_in(folder, args.data)
    records = runs()
    if not records:
        parser.error(f"no runs in {RESULTS} yet: name the folder of one")
    draw(records)
    print(f"{table_1(records)}\n\n{table_of_departures(records)}\n\n{table_of_runs(records)}")


if __name__ == "__main__":
    run.main(main)
