"""Table 1's MNIST row: collects runs of examples/mnist.py, draws their curves, and writes the tables of all studies.

    python benchmarks/study/study.py RUN [RUN …]    take in these folders of runs, finished or not; draw; print the tables
    python benchmarks/study/study.py                draw and print what is in benchmarks/results already
    python benchmarks/study/study.py --write        write the tables of README.md and of all pages here between their markers
    python benchmarks/study/study.py --results DIR RUN RUN …    compare runs of your own, on any one data set, apart from these

A run becomes benchmarks/results/mnist-NAME.json, where NAME is that of its folder. The file has the run's settings, commits,
cores and minutes, its curve of validation log-likelihoods, and what its last checkpoint says. Where the test set was
measured, it has σ and the test log-likelihood too; of several such epochs, those of the best by validation. Every run that
was started belongs in there, collapses included.

The plot has the validation log-likelihoods of all runs above, those of anneal.py starred. Below are the first epochs on the
left; on the right is V in these epochs with the released hyper-parameters, where 0 is a D that has won.

Three tables are printed: Table 1 with the released recipe's best run by validation; each single departure beside the released
recipe, seed by seed; and every run, with its validation log-likelihoods on the way and its score on the test set, if it was
measured. With --results, only the last, and the plot has V and the validation log-likelihoods of these runs.
"""

import argparse
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import anchors
import anneal
import balance
import batch_norm
import evaluator
import faces
import growth
import numpy as np
from PIL import Image
from records import RESULTS, departures, figures, filled, markdown_table, read_records, score

from tinygan import DataError, load_cifar10, pixels, recipes, run
from tinygan.backend import write_atomically
from tinygan.console import can_draw, new_figure
from tinygan.datasets import SUBSET, load_data, normalise_contrast
from tinygan.figures import as_pixels, figure_and_axes

PLOT = "curves.png"  # in the folder of the results
ROOT = Path(__file__).parents[2]
README, STUDY = ROOT / "README.md", ROOT / "benchmarks/study/STUDY.md"
ANCHORS, DCGAN, FACES = (STUDY.with_name(f"{name}.md") for name in ("ANCHORS", "DCGAN", "FACES"))
TEST_ROWS = 10_000  # of MNIST: of the 5,000 images that work offline, some are training images
FIRST, EARLY = 10, 30  # epochs of V, and of log-likelihoods, in the plot's lower half: there is decided whether a run learns
LINES = {"simultaneous": ("-", "Blues"), "alternating": ("--", "Oranges"), "printed": (":", "Greens")}
OTHER_NETS = ("model", "scale", "width", "batch_norm")  # settings of the nets of cifar10.py and dcgan.py
_SHARED = [name for name in recipes.MNIST if name not in ("noise", "generator_width", "discriminator_width", "calm", "seed")]
OPTIONS = {"cifar10.py": [*_SHARED, "model", "scale", "calm"], "dcgan.py": [*_SHARED, "width", "weight_range"]}
MARKS = "osv^DPX<>ph"  # of the departures in the plot
WINDOWS = (300, 400, 600, 800, 1000)  # epochs between which lines are laid through the longest run
SHOWN = (10, 20, 30, 50, 100, 200, 300, 400, 500, 600, 800)  # epochs whose validation log-likelihood the table has
PAPER = [  # Table 1 of the paper
    ("DBN", "138 ± 2", "1909 ± 66"),
    ("Stacked CAE", "121 ± 1.6", "2110 ± 50"),
    ("Deep GSN", "214 ± 1.1", "1890 ± 29"),
    ("Adversarial nets", "225 ± 2", "2057 ± 26"),
]


def read_so_far(folder: Path, data: str | None = None) -> tuple[str, int]:
    """How a run that has not ended stands at its checkpoint, in words, and the epoch of this checkpoint."""
    checkpoint, generator = run.load_run(folder)
    settings, where = checkpoint.configuration, data or run.data_of(folder)
    normalised = settings.get("model") in recipes.CIFAR10
    found = load_cifar10(where) if normalised else load_data(where, size=settings.get("size"))
    dataset = run.trained_on(settings, found)
    prepare = normalise_contrast if normalised else pixels
    held_out = prepare(dataset.validation.images[: run.SIGMA_ROWS], np, np.float32)
    samples = run.evaluation_samples(generator, len(held_out))
    iterations = len(dataset.train) // (settings["k"] * settings["batch_size"])
    return run.reading(checkpoint.metrics, samples, held_out, iterations)["reading"], checkpoint.epoch


def take_in(folder: Path, data: str | None = None, results: Path | None = None) -> None:
    """One run's folder as one JSON file among the results. Raises DataError unless it is about the same data as the others;
    among the committed results, unless it is about MNIST.

    data   the folder of the data's files, for runs that have not ended (default: that of the run)
    """
    folder, results = folder.resolve(), results or RESULTS
    facts = json.loads(run_file(folder, "run.json"))
    rows = list(csv.DictReader(io.StringIO(run_file(folder, "metrics.csv"), newline="")))
    settings = facts["configuration"]
    if results == RESULTS and settings["data"] != "mnist":
        raise DataError(
            f"{folder}: trained on {settings['data']}: the committed study is about MNIST. Compare runs of your own "
            f"with --results DIR"
        )
    for name, record in runs(results).items():
        mine, other = settings.get("data_digest"), record.get("data_digest", settings.get("data_digest"))
        if name != folder.name and other != mine:
            words = f"trained on {settings['data']} (digest {mine}), but {name} on {record['data']} (digest {other})"
            raise DataError(f"{folder}: {words}: compare runs on the same data")
    environment = facts["environment"]
    ended = facts.get("results", {})
    evaluations = {ended["epochs"]: ended["evaluation"]} if ended else {}
    for path in folder.glob("checkpoint-*.evaluation.json"):  # of a kept checkpoint: examples/mnist.py --evaluate
        kept = json.loads(path.read_text(encoding="utf-8"))
        evaluations[kept["epoch"]] = kept["evaluation"]
    validation = {int(row["epoch"]): float(nats) for row in rows if (nats := row["validation_log_likelihood"])}
    evaluated_at = max(evaluations, key=lambda epoch: (validation.get(epoch, -np.inf), epoch), default=None)
    if results == RESULTS and {result["test_rows"] for kept in evaluations.values() for result in kept.values()} - {TEST_ROWS}:
        raise DataError(f"{folder}: measured on other test images than MNIST's {TEST_ROWS:,}")
    reading, read_at = ended.get("reading"), ended.get("epochs")
    if not reading and "diverged" not in facts and (folder / "checkpoint.npz").exists():
        reading, read_at = read_so_far(folder, data)
    others = {name: settings[name] for name in OTHER_NETS if name in settings}
    record = {
        "command": command(facts, len(rows) + ("diverged" in facts)),  # the epoch that it diverged in has no row
        "commits": [*facts.get("earlier_commits", []), environment["commit"]],
        "seed": settings["seed"],
        "variant": settings["variant"],
        "departs_in": departures(settings) | others,
        "finished": bool(ended),
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
            grid: figures(result) | {"samples": result["samples"]} for grid, result in evaluations.get(evaluated_at, {}).items()
        },
        "evaluated_at_epoch": evaluated_at,
        "test_log_likelihoods": {  # every time that the test set was read
            epoch: evaluations[epoch]["authors"]["log_likelihood"] for epoch in sorted(evaluations)
        },
    }
    if results != RESULTS:
        record |= {"data": settings["data"], "data_digest": settings.get("data_digest")}
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"mnist-{folder.name}.json"
    run.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def command(facts: dict[str, Any], epochs: int) -> str:
    """What trains a run with this run.json again: its script, with its departures from the released recipe.

    For cifar10.py and dcgan.py, which have recipes of their own, it names all of their options.
    """
    settings = facts["configuration"]
    script = facts.get("options", {}).get("script") or "mnist.py"  # an older run does not know it
    options = departures(settings) | ({"size": settings["size"]} if settings.get("size") else {})
    if script in OPTIONS:
        options = {name: settings[name] for name in OPTIONS[script] if settings[name] not in (None, False)}
    data = settings["data"].removesuffix(run.SMOKE)
    words = ["python", f"examples/{script}", "--data", {"mnist": "MNIST", SUBSET: SUBSET}.get(data, "DIR")]
    words += ["--seed", str(settings["seed"]), "--epochs", str(epochs)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + [str(value)] * (value is not True)
    words += ["--no-batch-norm"] if settings.get("batch_norm") is False else []
    return " ".join(words + ["--smoke"] * settings["data"].endswith(run.SMOKE))


def run_file(folder: Path, name: str) -> str:
    """What is in this file of a run. Raises DataError for a folder that has none."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: it has no {name}: name the folder of a run of examples/mnist.py") from None


def runs(results: Path | None = None) -> dict[str, dict[str, Any]]:
    found = sorted((results or RESULTS).glob("mnist-*.json"))
    return {path.stem.removeprefix("mnist-"): json.loads(path.read_text(encoding="utf-8")) for path in found}


def draw(records: dict[str, dict[str, Any]], annealed: list[dict[str, Any]]) -> Any:
    """A Figure: all runs' validation log-likelihoods, beside the paper's 225; the same in the first epochs, and V there."""
    from matplotlib import colormaps

    figure = new_figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplot_mosaic([["whole", "whole"], ["early", "value"]])
    whole, early, value = (axes[name] for name in ("whole", "early", "value"))
    departing = sorted({departure(record) for record in records.values()} - {""})
    named = set()

    def colour(record: dict[str, Any]) -> Any:
        return colormaps[LINES[record["variant"]][1]](0.95 - 0.13 * min(record["seed"], 4))

    for record in sorted(records.values(), key=lambda record: list(LINES).index(record["variant"])):
        line, _ = LINES[record["variant"]]
        style = {"color": colour(record), "linestyle": line, "marker": ".", "markersize": 4, "linewidth": 1.2}
        label = f"{record['variant']}, seed {record['seed']}"
        if words := departure(record):  # in more than its variant: a colour and a mark of its own, for all its seeds
            i = departing.index(words)
            style |= {"color": colormaps["turbo"]((i + 0.5) / len(departing)), "marker": MARKS[i % len(MARKS)]}
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
    for i, record in enumerate(annealed):
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
    return figure


def draw_compared(records: dict[str, dict[str, Any]], axes: Any = None) -> Any:
    """A Figure of V and of the validation log-likelihood of each run, under its name; axes: two of yours."""
    figure, ((left, right),) = figure_and_axes(axes, 1, 2, (12, 4.5))
    for name, record in records.items():
        curve = record["validation_log_likelihoods"]
        traces = [(row["epoch"], row["value"]) for row in record["traces"]]
        left.plot(*np.array(traces).reshape(-1, 2).T, ".-", label=name)
        right.plot([int(epoch) for epoch in curve], list(curve.values()), ".-", label=name)
    left.axhline(-np.log(4), color="grey", linestyle=":", label="−log 4: D = ½")
    left.set(title="V(D, G) on held-out data, nats (0: D has won)")
    right.set(title="validation log-likelihood, nats")
    last = max((row["epoch"] for record in records.values() for row in record["traces"]), default=1)
    for axis in (left, right):
        axis.set(xlabel="epoch", xlim=(0, 1.03 * max(2, last)))
        axis.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    return figure


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
    rows.append(("Adversarial nets, tinygan, the released recipe", ours, faces.cell()))
    return markdown_table(["Table 1", "MNIST, nats", "TFD, nats"], rows)


def table_of_slopes(record: dict[str, Any]) -> str:
    """How fast a run's validation log-likelihood rises: lines of least squares, each between two of these epochs."""
    curve = record["validation_log_likelihoods"]
    epochs, nats = np.array(list(curve), dtype=int), np.array(list(curve.values()))
    rows = []
    for first, last in zip(WINDOWS[:-1], WINDOWS[1:], strict=True):
        among = (epochs >= first) & (epochs <= last)
        line, covariance = np.polyfit(epochs[among], nats[among], 1, cov=True)
        residuals = nats[among] - np.polyval(line, epochs[among])
        scatter = (residuals @ residuals / (len(residuals) - 2)) ** 0.5
        rows.append([f"{first} to {last:,}", f"{line[0]:.3f} ± {covariance[0, 0] ** 0.5:.3f}", f"{scatter:.1f}"])
    return markdown_table(["epochs", "rise, nats an epoch", "scatter around the line, nats"], rows)


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


def table_of_runs(records: dict[str, dict[str, Any]], named: bool = False) -> str:
    """Every run that was started: validation log-likelihoods on the way, the test set's, and how it ended.

    named   with a column for the names of the runs
    """
    shown = [epoch for epoch in SHOWN if any(str(epoch) in r["validation_log_likelihoods"] for r in records.values())]
    columns = ["departs in", "seed", "epochs", *(f"@{epoch}" for epoch in shown), "last", "test (fine σ)", "at its end"]
    columns = ["run"] * named + columns
    rows = []
    for name, record in sorted(records.items(), key=lambda r: (len(r[1]["departs_in"]), str(r[1]["departs_in"]), r[1]["seed"])):
        curve = record["validation_log_likelihoods"]
        cells = [name] * named + [departs_in(record) or "nothing", record["seed"], record["epochs"]]
        cells += [f"{curve[str(epoch)]:.0f}" if str(epoch) in curve else "" for epoch in shown]
        last = max(curve, key=int, default="")
        cells.append(f"{curve[last]:.0f} @{last}" if last else "")
        rows.append([*cells, measured_score(record), ending(record)])
    return markdown_table(columns, rows)


def table_of_variants(records: dict[str, dict[str, Any]]) -> str:
    """The three variants with the released hyper-parameters: with which seeds each learns, and V after ten epochs."""
    rows = []
    for variant in LINES:
        ours = [record for record in of_variant(records, variant) if record["traces"]]
        ends = [record["traces"][min(record["epochs"], 10) - 1] for record in ours]
        won = [str(record["seed"]) for record, end in zip(ours, ends, strict=True) if end["value"] > run.WON]
        values = [
            f"diverged @{record['epochs'] + 1}" if end["epoch"] < 10 and record["diverged"] else f"{end['value']:.3f}"
            for record, end in zip(ours, ends, strict=True)
        ]
        rows.append([f"`{variant}`", count({r["seed"]: learns(r) for r in ours}), ", ".join(won), ", ".join(values)])
    return markdown_table(["variant", "learns", "D wins with seeds", "V after ten epochs, seed by seed"], rows)


def table_of_order(records: dict[str, dict[str, Any]], between: list[dict[str, Any]]) -> str:
    """With how many seeds G learns, by the θ_d at which its gradient is taken, and by whether z and masks are D's.

    records   has the two variants: runs, which have a reading
    between   has what lies between them; as in a reading V and the distinct samples decide, in their last epoch
    """

    def variant(name: str) -> str:
        return f"{count({record['seed']: learns(record) for record in of_variant(records, name)})} (`{name}`)"

    def choice(name: str) -> str:
        ours = [record for record in between if record["choice"] == name]
        return count({r["seed"]: r["curve"][-1]["value"] <= run.WON and r["distinct_of_1000"] >= 100 for r in ours})

    rows = [
        ["at the old θ_d", variant("simultaneous"), choice("old-fresh-fresh")],
        ["at the new θ_d", choice("new-same-same"), variant("alternating")],
    ]
    return markdown_table(["G's gradient is taken", "on the z and masks of D's update", "on fresh ones"], rows)


def of_variant(records: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The runs of this variant that depart in nothing else, by seed."""
    ours = (record for record in records.values() if record["variant"] == name and not departure(record))
    return sorted(ours, key=lambda record: record["seed"])


def learns(record: dict[str, Any]) -> bool:
    return (record["reading"] or "").startswith("learning")


def count(learning: dict[int, bool]) -> str:
    """How many seeds learn, and which, unless all or none do."""
    seeds = [str(seed) for seed, does in sorted(learning.items()) if does]
    which = f": seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if 0 < len(seeds) < len(learning) else ""
    return f"{len(seeds)} of {len(learning)}{which}"


def tables() -> dict[Path, dict[str, str]]:
    """The tables of each page, by the names in their markers, from the results."""
    records, between = runs(), read_records(balance.RESULTS)
    return {
        README: {"1": table_1(records)},
        STUDY: {
            "1": table_1(records),
            "slopes": table_of_slopes(records["sim-s0"]),
            "annealed": anneal.table(read_records(anneal.RESULTS)),
            "evaluator": evaluator.table(json.loads(evaluator.RESULTS.read_text(encoding="utf-8"))),
            "departures": table_of_departures(records),
            "variants": table_of_variants(records),
            "order": table_of_order(records, between),
            "between": balance.table(between),
            "looks": balance.table_of_looks(read_records(balance.LOOKED)),
            "runs": table_of_runs(records),
        },
        ANCHORS: anchors.tables(),
        FACES: faces.tables(),
        DCGAN: batch_norm.tables() | {"growth": growth.table(read_records(growth.RESULTS))},
    }


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
    parser.add_argument("--data", metavar="DIR", help="folder of the runs' data (default: that of each run)")
    text = "folder of the records and of curves.png (default: the committed ones, benchmarks/results)"
    parser.add_argument("--results", type=Path, metavar="DIR", help=text)
    parser.add_argument("--write", action="store_true", help="write the tables of all studies into their pages")
    args = parser.parse_args()
    results = args.results or RESULTS
    if args.write and results != RESULTS:
        parser.error("--write writes the committed tables: leave out --results")
    if run.holds_run(results):  # whose curves.png would be replaced
        parser.error(f"--results {results} is the folder of a run: name a folder for the comparison, and then the runs")
    for folder in args.runs:
        take_in(folder, args.data, results)
    records = runs(results)
    if not records:
        parser.error(f"no runs in {results} yet: name the folder of one")
    if (args.runs or not args.write) and can_draw(f"{PLOT} is"):
        figure = draw(records, read_records(results / "anneal.json")) if results == RESULTS else draw_compared(records)
        picture = Image.fromarray(as_pixels(figure, 100)).quantize(256, Image.Quantize.FASTOCTREE)  # a quarter of the size
        with write_atomically(results / PLOT) as file:
            picture.save(file, "PNG", optimize=True)
    if args.write:
        texts = {page: filled(page, tables_of_page) for page, tables_of_page in tables().items()}
        for page, text in texts.items():  # only now: a page that lacks a marker leaves all pages as they were
            run.write_text(page, text)
            print(page.relative_to(ROOT))
        return
    if results == RESULTS:
        print(f"{table_1(records)}\n\n{table_of_departures(records)}\n\n{table_of_runs(records)}")
    else:
        print(f"{table_of_runs(records, named=True)}\n\nvalidation and test log-likelihoods in nats; {results / PLOT}")


if __name__ == "__main__":
    run.main(main)
