"""How often is the reading of a run wrong? Counts false alarms and misses of its rule in all committed runs.

    python benchmarks/study/reading.py                                     count, print the table
    python benchmarks/study/reading.py --measure simultaneous:0:6 …        first train this variant, seed, epochs (minutes)

The rule is tinygan.run.verdict. It is asked after every epoch of every run, with what was known then. How the run ended is
known too: it learned, or it was lost (D won, G collapsed, or the parameters diverged).

    false alarm   the words were "D has won" or "collapsed", and later the run learned
    miss          the words were "learning" or "too early to tell", and the run was lost

The number of distinct samples is known at the end of each run, and after each epoch of the runs of --measure. Elsewhere it is
not known. So all epochs are counted twice: as if all samples were alike, and as if all were distinct. The rule before this
one is counted beside it: D has won if the mean of V over the last five epochs is above −0.01, at any time; collapsed if fewer
than one sample in ten is distinct, unless V was always within 0.05 of −log 4.

The results are in benchmarks/results/reading.json.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import records
from records import load_data, markdown_table, read_records, train_with

from tinygan import Generator, bias_from_marginals, recipes, run

RESULTS = records.RESULTS / "reading.json"
N = 1000  # samples in a reading
IMAGES = 50_000  # of MNIST, in an epoch


def before(values: Sequence[float], iterations: int, distinct: int, n: int) -> str:
    """The rule before this one."""
    words = ["D has won"] if sum(values[-5:]) / len(values[-5:]) > -0.01 else []
    if distinct < n / 10:
        early = all(abs(value + np.log(4)) < 0.05 for value in values)
        words.append("too early to tell" if early else "collapsed")
    return " and ".join(words) or "learning"


def alarm(words: str) -> bool:
    return "D has won" in words or "collapsed" in words


def trainings(early: list[dict[str, Any]]) -> Iterator[tuple[list[float], int, bool, dict[int, int]]]:
    """Of each run: V after each epoch, the iterations of an epoch, whether it learned, and the known numbers of distinct
    samples by epoch."""
    for path in sorted(records.RESULTS.glob("mnist-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        settings = recipes.MNIST | record["departs_in"]
        words = record["reading"] or ""
        found = re.search(r"(\d+) of 1000 samples distinct", words)
        known = {record.get("reading_at_epoch") or record["epochs"]: int(found[1])} if found else {}
        values = [row["value"] for row in record["traces"]]
        yield values, IMAGES // (settings["batch_size"] * settings["k"]), words.startswith("learning"), known
    for record in read_records(records.RESULTS / "balance.json"):
        values, distinct = [row["value"] for row in record["curve"]], record["distinct_of_1000"]
        yield values, 500, values[-1] <= run.WON and distinct >= N / 10, {len(values): distinct}
    for record in early:
        learned = record["variant"] == "simultaneous"  # the committed runs of these seeds say so
        yield record["values"], 500, learned, dict(enumerate(record["distinct_samples"], 1))


def count(rule: Callable[[Sequence[float], int, int, int], str], early: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Of each kind of epoch: false alarms, epochs of runs that learned, misses, epochs of runs that were lost."""
    found = {name: [0, 0, 0, 0] for name in ("distinct samples known", "as if all were alike", "as if all were distinct")}
    for values, iterations, learned, known in trainings(early):
        for epoch in range(1, len(values) + 1):
            cases = {"as if all were alike": 1, "as if all were distinct": N}
            if epoch in known:
                cases["distinct samples known"] = known[epoch]
            if learned and iterations * epoch >= run.PATIENCE:
                del cases["as if all were alike"]  # after so long they never were
            for name, distinct in cases.items():
                wrong = alarm(rule(values[:epoch], iterations, distinct, N)) == learned
                counts = found[name]
                counts[0 if learned else 2] += wrong
                counts[1 if learned else 3] += 1
    return found


def counts(early: list[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    return {"before": count(before, early), "now": count(run.verdict, early)}


def table(found: dict[str, dict[str, list[int]]]) -> str:
    rows = []
    for name in found["now"]:
        for rule, by_name in found.items():
            alarms, learned, misses, lost = by_name[name]
            rows.append([name, rule, f"{alarms} of {learned}", f"{misses} of {lost}"])
    return markdown_table(["epochs", "rule", "false alarms", "misses"], rows)


def measure(variant: str, seed: int, epochs: int, data: str | None) -> dict[str, Any]:
    """Train the released recipe, and count the distinct samples after each epoch."""
    dataset = load_data(data)
    settings = recipes.MNIST | {"seed": seed, "variant": variant}
    gan = recipes.mnist(settings, bias_from_marginals(dataset.train.images))
    trainer, rows = train_with(settings, gan, dataset), []
    for _ in range(epochs):
        row = trainer.train_epoch()
        rows.append((row["value"], run.read(trainer, Generator(gan.G, gan.noise), dataset)["distinct_samples"]))
        print(f"{variant} seed {seed} epoch {row['epoch']}: V = {rows[-1][0]:.3f}, {rows[-1][1]} distinct", flush=True)
    values, distinct = zip(*rows, strict=True)
    return {"variant": variant, "seed": seed, "values": [*values], "distinct_samples": [*distinct]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "train this, and keep its distinct samples by epoch"
    parser.add_argument("--measure", nargs="+", default=[], metavar="VARIANT:SEED:EPOCHS", help=text)
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    args = parser.parse_args()
    early = json.loads(RESULTS.read_text(encoding="utf-8"))["early"] if RESULTS.exists() else []
    for words in args.measure:
        variant, seed, epochs = words.split(":")
        made = measure(variant, int(seed), int(epochs), args.data)
        early = [*(one for one in early if (one["variant"], one["seed"]) != (variant, int(seed))), made]
    found = counts(early)
    run.write_json(RESULTS, {"early": early, "counts": found})
    print(table(found))


if __name__ == "__main__":
    run.main(main)
