"""How far do the evaluator's own options move the score of one generator? Varies the number of samples, z, and the values of σ.

    python benchmarks/study/evaluator.py RUN/checkpoint-0920.npz      measure (a minute or two), and print the table
    python benchmarks/study/evaluator.py                              print the table of the last measurement

The released evaluator takes the number of samples and the values of σ as options. Its defaults are 10,000 and ten values; the
paper names neither. As always, the first 1,000 validation images choose σ. The score is that of the other 9,000: no option is
chosen by it, and the test set is not read. The result is in benchmarks/results/evaluator.json.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import records
from records import figures, load_data, markdown_table, resume

from tinygan import Generator, pixels, run
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, evaluate

RESULTS = records.RESULTS / "evaluator.json"
SIZES = (1_000, 5_000, 10_000, 20_000, 50_000)  # samples
SEEDS = 4  # of z, at 10,000 samples; the first is examples/mnist.py's


def options(path: Path, data: str | None) -> dict[str, Any]:
    dataset = load_data(data)
    trainer, recipe = resume(path, dataset)
    G = trainer.model.G
    generator = Generator(G, trainer.model.noise)
    images = pixels(dataset.validation.images, G.xp, G.dtype)
    chosen_on, scored_on = images[: run.SIGMA_ROWS], images[run.SIGMA_ROWS :]
    start, rows = time.perf_counter(), []
    for n, seed in [(n, 0) for n in SIZES] + [(run.SAMPLES, seed) for seed in range(1, SEEDS)]:
        samples = run.evaluation_samples(generator, n, run.EVALUATION_SEED + seed)
        row: dict[str, Any] = {"samples": n, "seed": seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParzenWarning)  # few samples: that is what is looked at
            for grid, sigmas in ("authors", AUTHORS_SIGMAS), ("fine", FINE_SIGMAS):
                row[grid] = figures(evaluate(samples, chosen_on, scored_on, sigmas).as_dict())
        rows.append(row)
        print(f"{n:,} samples, z of seed {seed}: {row['authors']['log_likelihood']:.1f} nats", file=sys.stderr, flush=True)
    environment = run.environment(trainer.xp)
    return {
        "run": path.resolve().parent.name,
        "seed": recipe.seed,
        "epoch": trainer.epoch,
        "scored_on": f"{len(scored_on):,} validation images",
        "minutes": round((time.perf_counter() - start) / 60, 1),
        **{name: environment[name] for name in ("commit", "cores", "threads")},
        "rows": rows,
    }


def table(record: dict[str, Any]) -> str:
    lines = [[f"{row['samples']:,}", *map(cell, (row["authors"], row["fine"]))] for row in record["rows"] if not row["seed"]]
    return markdown_table(["samples of G", "σ from ten values", "σ from 46 values"], lines)


def cell(result: dict[str, float]) -> str:
    return f"{result['log_likelihood']:.1f} ± {result['standard_error']:.1f} (σ {result['sigma']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT", help="of a run of examples/mnist.py")
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    args = parser.parse_args()
    if args.checkpoint:
        run.write_json(RESULTS, options(args.checkpoint, args.data))
    if not RESULTS.exists():
        parser.error(f"there is no {RESULTS.name} yet: name a checkpoint")
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    run.main(main)
