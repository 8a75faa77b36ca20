"""Write the tables of benchmarks/speed/README.md from benchmarks/results.

python benchmarks/speed/tables.py
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import allreduce
import convolution
import gpu
import parzen
import step_time

from tinygan import DataError, run

PAGE = Path(__file__).with_name("README.md")
RESULTS = Path(__file__).parents[1] / "results"


def tables() -> dict[Path, dict[str, str]]:
    """The tables of the page, by the names in their markers. Of some only if their results are there."""
    sweep = read("step_sweep")
    found = {
        "two cores": step_time.table(read("step_time")),
        "one core": step_time.table(read("step_time_one_core")),
        "batch sizes": step_time.sweep_table("m", sweep["batch_size"]),
        "widths": step_time.sweep_table(step_time.WIDTHS, sweep["width"]),
        "convolution": convolution.table(read("convolution")),
    }
    if (RESULTS / "allreduce.json").exists():
        found |= allreduce.tables(read("allreduce"))
    if (RESULTS / "gpu.json").exists():
        facts = read("gpu")
        found["gpu"] = gpu.table({name: facts[name] for name in gpu.NETS})
    if (RESULTS / "parzen.json").exists():
        found["evaluator"] = parzen.table(read("parzen"))
    return {PAGE: found}


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def filled(page: Path, tables: Mapping[str, str]) -> str:
    """The text of a page with these tables between their markers: as filled in benchmarks/study/records.py."""
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


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page, found in tables().items():
        run.write_text(page, filled(page, found))
        print(page)


if __name__ == "__main__":
    run.main(main)
