"""Table 1's MNIST row: collects runs of examples/mnist.py, draws their curves in one plot, writes the table in Markdown.

    python benchmarks/study.py RUN [RUN …]    take in these folders of runs, finished or not; then the plot and the table
    python benchmarks/study.py                the plot and the table of what is in benchmarks/results already

A run becomes benchmarks/results/mnist-NAME.json: its settings, commit, cores, minutes and its curve of validation
log-likelihoods; once it has ended also its σ and test log-likelihood. Every run that was started belongs in here, collapses
included.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PLOT = RESULTS / "curves.png"
RELEASED = {  # the recipe as the authors released it; what differs from it is a departure
    "batch_size": 100,
    "discriminator_width": 240,
    "dtype": "float32",
    "generator_cost": "non_saturating",
    "generator_steps": 1,
    "generator_width": 1200,
    "k": 1,
    "learning_rate": 0.1,
    "prior": "uniform",
    "schedule_compression": 1.0,
    "variant": "simultaneous",
}
PAPER = [  # Table 1 of the paper, MNIST
    ("DBN", "138 ± 2"),
    ("Stacked CAE", "121 ± 1.6"),
    ("Deep GSN", "214 ± 1.1"),
    ("Adversarial nets", "225 ± 2"),
]


def take_in(folder: Path) -> None:
    """One run's folder as one JSON file among the results."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    settings = facts["configuration"]
    if settings["data"] != "mnist":
        raise SystemExit(f"{folder}: trained on {settings['data']}: this study is about MNIST")
    environment = facts["environment"]
    results = facts.get("results", {})
    evaluation, evaluated_at = results.get("evaluation", {}), results.get("epochs")
    for path in sorted(folder.glob("checkpoint-*.evaluation.json")):  # of a kept checkpoint: examples/mnist.py --evaluate
        kept = json.loads(path.read_text(encoding="utf-8"))
        evaluation, evaluated_at = kept["evaluation"], kept["epoch"]
    options = {name: value for name, value in settings.items() if name in RELEASED and value != RELEASED[name]}
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items())
    record = {
        "command": f"python examples/mnist.py --data MNIST --seed {settings['seed']} --epochs {len(rows)}{flags}",
        "commit": environment["commit"],
        "seed": settings["seed"],
        "variant": settings["variant"],
        "departs_in": options,
        "finished": bool(results),
        "epochs": len(rows),
        "minutes": round(sum(float(row["seconds"]) for row in rows) / 60, 1),
        "cores": environment["cores"],
        "threads": environment["threads"],
        "versions": environment["versions"],
        "reading": results.get("reading"),
        "traces": [
            {"epoch": int(row["epoch"]), "D_x": float(row["D_x"]), "D_G_z": float(row["D_G_z"]), "value": float(row["value"])}
            for row in rows
        ],
        "validation_log_likelihoods": {
            row["epoch"]: float(row["validation_log_likelihood"]) for row in rows if row["validation_log_likelihood"]
        },
        "evaluation": {
            grid: {name: result[name] for name in ("sigma", "log_likelihood", "standard_error", "samples")}
            for grid, result in evaluation.items()
        },
        "evaluated_at_epoch": evaluated_at,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"mnist-{folder.name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def runs() -> dict[str, dict[str, Any]]:
    found = sorted(RESULTS.glob("mnist-*.json"))
    return {path.stem.removeprefix("mnist-"): json.loads(path.read_text(encoding="utf-8")) for path in found}


def draw(records: dict[str, dict[str, Any]]) -> None:
    """Validation log-likelihood against epochs, every run a line, beside the paper's 225."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, record in records.items():
        curve = {int(epoch): value for epoch, value in record["validation_log_likelihoods"].items()}
        axes.plot(list(curve), list(curve.values()), marker=".", label=name)
    axes.axhline(225, color="grey", linestyle="--", linewidth=1)
    axes.text(0.01, 225, "225, the paper", transform=axes.get_yaxis_transform(), va="bottom", color="grey")
    axes.set(xlabel="epoch", ylabel="validation log-likelihood, nats", ylim=(-20, 250))
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(PLOT, dpi=110)


def table(records: dict[str, dict[str, Any]]) -> str:
    lines = ["| MNIST | test log-likelihood, nats | epochs run | departs from the recipe in |", "|---|---|---|---|"]
    lines += [f"| {name}, the paper | {value} | | |" for name, value in PAPER]
    for record in records.values():
        departs = ", ".join(f"{name} {value}" for name, value in record["departs_in"].items()) or "nothing"
        score = "not finished"
        if record["evaluation"]:
            result = record["evaluation"]["authors"]
            score = f"{result['log_likelihood']:.1f} ± {result['standard_error']:.1f} (σ {result['sigma']:.3f})"
            score += f" at epoch {record['evaluated_at_epoch']}"
        elif record["validation_log_likelihoods"]:
            epoch, value = list(record["validation_log_likelihoods"].items())[-1]
            score = f"{value:.1f} on validation at epoch {epoch}, not finished"
        lines.append(f"| tinygan, {record['variant']}, seed {record['seed']} | {score} | {record['epochs']} | {departs} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of examples/mnist.py")
    for folder in parser.parse_args().runs:
        take_in(folder)
    records = runs()
    if not records:
        parser.error(f"no runs in {RESULTS} yet: name the folder of one")
    draw(records)
    print(table(records))


if __name__ == "__main__":
    main()
