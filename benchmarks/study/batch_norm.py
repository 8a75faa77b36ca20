"""Is batch normalisation critical to a DCGAN's success? Collects runs of examples/dcgan.py, with it and without.

    python benchmarks/study/batch_norm.py RUN [RUN …]    take in these folders of runs; draw, time, print the table
    python benchmarks/study/batch_norm.py                print the table of benchmarks/results/batch_norm.json

Runs are compared after as many iterations. The time of an iteration is that of the process on the CPU, since seconds on a
clock depend on what else the machine does. It is measured here, with and without batch norm in turn, from the networks of
the runs: so whoever prefers equal seconds can convert. All weights start from U(−r, r).

A sample counts as the digit of the training image nearest to it. So the rarest digit's share says whether G makes all ten.

The picture, benchmarks/results/batch_norm.png, has the first samples of each run.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import records
from records import figures, load_data, markdown_table

from tinygan import GAN, Batch, Network, Streams, load_checkpoint, pixels, recipes, run, softplus
from tinygan.backend import write_atomically
from tinygan.console import can_draw, new_figure
from tinygan.datasets import Dataset
from tinygan.images import image_grid, nearest_neighbours

RESULTS = records.RESULTS / "batch_norm.json"
PICTURE = RESULTS.with_suffix(".png")
TIMED, WARM = 30, 3  # iterations
LABELLED = 1000  # samples whose digits are counted
ROWS, COLUMNS = 3, 10  # of samples in a panel
ACROSS = 3  # panels beside each other


def take_in(folder: Path, dataset: Dataset) -> dict[str, Any]:
    """What one finished run says, as a record; and the shares of the digits among its samples."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    settings, results, environment = facts["configuration"], facts.get("results", {}), facts["environment"]
    run.require_same_data(settings, dataset)
    samples = run.evaluation_samples(run.load_generator(folder), LABELLED)
    nearest, _ = nearest_neighbours(samples, dataset.train.images)
    counts = np.bincount(dataset.train.labels[nearest], minlength=10)
    names = "value", "D_x", "D_G_z", "validation_log_likelihood"
    command = ["python examples/dcgan.py", f"--seed {settings['seed']}", f"--learning-rate {settings['learning_rate']:g}"]
    settings = {"weight_range": 0.035} | settings  # the first runs had no such option
    command += [f"--weight-range {settings['weight_range']:g}"] if settings["weight_range"] != 0.035 else []
    command += [] if settings["batch_norm"] else ["--no-batch-norm"]
    return {
        "command": " ".join([*command, f"--epochs {facts['epochs']}"]),
        **{name: settings[name] for name in ("data", "seed", "batch_norm", "weight_range", "learning_rate")},
        "commits": [*facts["earlier_commits"], environment["commit"]],
        "minutes": round(results["seconds_of_epochs"] / 60, 1) if results else None,
        "cores": environment["cores"],
        "threads": environment["threads"],
        "epochs": len(rows),
        "iterations": results.get("iterations"),
        "curve": [{"epoch": int(row["epoch"])} | {name: float(row[name]) for name in names if row[name]} for row in rows],
        "evaluation": {grid: figures(result) for grid, result in results.get("evaluation", {}).items()},
        **{name: results.get(name) for name in ("distinct_samples", "distinct_data", "reading")},
        "digits_of_1000": counts.tolist(),
        "as_in_training": judged_as_in_training(game(folder), dataset),
        "diverged": facts.get("diverged"),
    }


def game(path: Path) -> GAN:
    """The game of a run's checkpoint: its networks with their statistics, and fresh optimisers."""
    checkpoint = load_checkpoint(run.checkpoint_in(path))
    settings, networks = checkpoint.configuration, {}
    for player in "G", "D":
        network = networks[player] = Network.build(checkpoint.architecture[player])
        network.theta = checkpoint.vectors[f"{player}.theta"]
        if network.statistics.size:
            network.statistics = checkpoint.vectors[f"{player}.statistics"]
    return recipes.game(settings, **networks)


def judged_as_in_training(each: GAN, dataset: Dataset) -> dict[str, float]:
    """D(x) and D(G(z)) of as many validation images and samples, each minibatch normalised by itself, as in training.

    metrics.csv has them with D's running statistics, which are those of data and samples together.
    """
    x = pixels(dataset.validation.images[: run.SIGMA_ROWS])
    samples = each.G(each.noise(Streams(0)["report"], len(x)))
    logits = {name: each.D.forward(rows, train=True)[0] for name, rows in (("D_x", x), ("D_G_z", samples))}
    return {name: round(float(np.exp(-softplus(-a)).mean()), 3) for name, a in logits.items()}


def iteration_times(folders: dict[str, Path]) -> dict[str, float]:
    """Milliseconds of the CPU in an iteration of each run, in turn: the median."""
    games = {name: game(folder) for name, folder in folders.items()}
    taken: dict[str, list[float]] = {name: [] for name in games}
    streams = Streams(0)
    for i in range(WARM + TIMED):
        for name, each in games.items():
            x = np.random.default_rng(i).random((each.batch_size, *each.sample_shape), dtype=np.float32)
            start = time.process_time()
            each.iteration(iter([Batch(x)]), streams)
            taken[name].append(1000 * (time.process_time() - start))
    return {name: round(float(np.median(times[WARM:])), 1) for name, times in taken.items()}


def draw(folders: list[Path], found: list[dict[str, Any]]) -> None:
    """The first samples of each run, by the same noise."""
    if not can_draw(f"{PICTURE.name} is"):
        return
    lines = -(-len(folders) // ACROSS)
    figure = new_figure(figsize=(3.2 * ACROSS, 1.3 * lines), layout="constrained")
    axes = figure.subplots(lines, ACROSS, squeeze=False).flat
    for axis in axes:
        axis.axis("off")
    for axis, folder, record in zip(figure.axes, folders, found, strict=False):
        settings = load_checkpoint(run.checkpoint_in(folder)).configuration
        samples = run.load_generator(folder).sample(ROWS * COLUMNS)
        axis.imshow(image_grid(samples, settings["image_shape"], COLUMNS), cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"{name_of(record)}, seed {record['seed']}", fontsize=8)
    with write_atomically(PICTURE) as file:
        figure.savefig(file, format="png", dpi=100)


def name_of(record: dict[str, Any]) -> str:
    kind = "with" if record["batch_norm"] else "without"
    return f"{kind} batch norm, r {record['weight_range']:g}, η {record['learning_rate']:g}"


def order(record: dict[str, Any]) -> Any:
    return not record["batch_norm"], record["weight_range"], -record["learning_rate"], record["seed"]


def table(facts: dict[str, Any]) -> str:
    """A row for each run: its settings, the Parzen scores, how many samples are distinct, the rarest digit, and what D says."""
    rows = []
    for record in sorted(facts["runs"], key=order):
        curve, last = record["curve"], record["curve"][-1]
        scores = ", ".join(f"{row['validation_log_likelihood']:.0f}" for row in curve if "validation_log_likelihood" in row)
        test = records.score(record["evaluation"]) if record["evaluation"] else "diverged" if record["diverged"] else ""
        distinct = f"{record['distinct_samples']} of 1,000" if record["distinct_samples"] is not None else ""
        D = f"{last['D_x']:.2f}, {last['D_G_z']:.2f}"
        cells = ["yes" if record["batch_norm"] else "no", f"{record['weight_range']:g}", f"{record['learning_rate']:g}"]
        rarest = f"{min(record['digits_of_1000'])} of 1,000"
        rows.append([*cells, record["seed"], record["iterations"], scores, test, distinct, rarest, D])
    columns = ["batch norm", "r", "η", "seed", "iterations", "validation, after each epoch", "test (fine σ)"]
    return markdown_table([*columns, "distinct samples", "rarest digit", "D(x), D(G(z))"], rows)


def table_of_times(facts: dict[str, Any]) -> str:
    times = facts["milliseconds_of_an_iteration"]
    return markdown_table([f"{name} batch norm" for name in times], [[f"{ms:.0f} ms" for ms in times.values()]])


def tables() -> dict[str, str]:
    """The tables of DCGAN.md, by the names in their markers."""
    facts = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {"batch norm": table(facts), "batch norm time": table_of_times(facts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of examples/dcgan.py")
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    args = parser.parse_args()
    if args.runs:
        dataset = load_data(args.data)
        pairs = sorted(((folder, take_in(folder, dataset)) for folder in args.runs), key=lambda pair: order(pair[1]))
        folders, found = [folder for folder, _ in pairs], [record for _, record in pairs]
        kinds = {"with" if record["batch_norm"] else "without": folder for folder, record in reversed(pairs)}
        facts = {"command": "python benchmarks/study/batch_norm.py RUN …", "environment": run.environment(), "runs": found}
        facts["milliseconds_of_an_iteration"] = iteration_times(kinds)
        run.write_json(RESULTS, facts)
        draw(folders, found)
    print("\n\n".join(tables().values()))


if __name__ == "__main__":
    run.main(main)
