"""Does growing pay? Collects the results of examples/progressive.py, and writes the table of DCGAN.md.

    python benchmarks/study/growth.py RUN [RUN …]    take in these folders; print the table
    python benchmarks/study/growth.py                print the table of benchmarks/results/growth.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import records
from records import figures, markdown_table, read_records

from tinygan import DataError, run

RESULTS = records.RESULTS / "growth.json"
KINDS = "grown", "at once"


def take_in(folder: Path) -> dict[str, Any]:
    """What one run says, as a record. Raises DataError unless it is about MNIST."""
    facts = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if facts["data"] != records.DATA:
        raise DataError(f"{folder}: trained on {facts['data']}: this is about MNIST")
    seed, environment = facts["settings"]["seed"], facts["environment"]
    record = {"command": f"python examples/progressive.py --seed {seed} --length {facts['length']:g}", "seed": seed}
    record |= {name: environment[name] for name in ("commit", "cores", "threads")}
    for kind in KINDS:
        mine = facts[kind]
        record[kind] = {"evaluation": {grid: figures(result) for grid, result in mine["evaluation"].items()}}
        record[kind] |= {name: mine[name] for name in ("phases", "cpu_seconds", "distinct_samples", "distinct_data")}
    return record


def table(found: list[dict[str, Any]]) -> str:
    rows = []
    for record in sorted(found, key=lambda record: record["seed"]):
        for kind in KINDS:
            mine = record[kind]
            iterations = " + ".join(str(n) for *_, n in mine["phases"])
            cells = [record["seed"], kind, iterations, f"{mine['cpu_seconds']:.0f}", records.score(mine["evaluation"])]
            rows.append([*cells, mine["distinct_samples"]])
    return markdown_table(["seed", "nets", "iterations", "CPU seconds", "test (fine σ)", "distinct of 1,000"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run of examples/progressive.py")
    args = parser.parse_args()
    if args.runs:
        run.write_json(RESULTS, [take_in(folder) for folder in args.runs])
    print(table(read_records(RESULTS)))


if __name__ == "__main__":
    run.main(main)
