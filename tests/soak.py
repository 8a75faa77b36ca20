"""The figures of the long tests, which carry the mark `soak`: kept in soak.json, and shown in a table of README.md.

    python -m pytest -m soak           run them all; each writes its figures into tests/soak.json
    python tests/soak.py               write the table of tests/README.md from tests/soak.json
    SOAK=0.1 python -m pytest -m soak  a tenth of each, to try them: its figures are printed and not kept
"""

import json
import os
import time
from pathlib import Path

from tinygan.run import environment

PAGE = Path(__file__).with_name("README.md")
FILE = Path(__file__).with_name("soak.json")
MARKERS = "<!-- table soak -->", "<!-- end of table soak -->"
SCALE = float(os.environ.get("SOAK", 1))


def times(n):
    """How many of n the long form does: all of them, or the share that $SOAK states."""
    return max(1, round(n * SCALE))


class Record:
    """with Record("what was done", seed) as record: record["kills"] = 100. It is kept if nothing fails."""

    def __init__(self, what, seed=None):
        self.what, self.seed, self.figures = what, seed, {}

    def __setitem__(self, name, figure):
        self.figures[name] = figure

    def __enter__(self):
        self.started = time.perf_counter()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            facts = environment()
            record = {"figures": self.figures, "seconds": round(time.perf_counter() - self.started, 1), "seed": self.seed}
            record |= {name: facts[name] for name in ("commit", "cores", "python", "numpy", "platform")}
            if SCALE == 1:
                text = json.dumps(dict(sorted((records() | {self.what: record}).items())), indent=2, ensure_ascii=False)
                FILE.write_text(text + "\n", encoding="utf-8")
            print(f"\n{self.what}: {self.figures}, {record['seconds']} s")


def records():
    """The records by what was done; none before the first long test has ended."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def table():
    lines = ["| What | Figures | Seed | Seconds | Cores | Commit |", "|---|---|---|---|---|---|"]
    for what, record in sorted(records().items()):
        figures = "; ".join(f"{name}: {shown(figure)}" for name, figure in record["figures"].items())
        seed = "–" if record["seed"] is None else record["seed"]
        lines.append(f"| {what} | {figures} | {seed} | {record['seconds']:.0f} | {record['cores']} | {record['commit']} |")
    return "\n".join(lines)


def shown(figure):
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.2g}" if isinstance(figure, float) else str(figure)


def filled():
    """The text of the page, with the table of soak.json between its markers."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKERS[0])
    _, after = rest.split(MARKERS[1])
    return f"{before}{MARKERS[0]}\n\n{table()}\n\n{MARKERS[1]}{after}"


if __name__ == "__main__":
    PAGE.write_text(filled(), encoding="utf-8")
    print(PAGE)
