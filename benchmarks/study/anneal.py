"""How much of a generator's score is the noise of its last updates? Trains a checkpoint on while η goes to 0.

    python benchmarks/study/anneal.py RUN/checkpoint-0100.npz --epochs 10     train (minutes), and print the table
    python benchmarks/study/anneal.py                                         print the table of all that were trained

From the checkpoint on, η falls along a straight line to 0, for both players. All else is as in examples/mnist.py. This is a
departure from the released recipe, whose η is still at 0.037 after 500 epochs and at its floor of 10⁻⁶ in epoch 5,757.

A row of the table has the validation log-likelihood of the checkpoint and of the annealed nets. Where study.py has taken in
the run, the row also has that of the released schedule, when it was first measured after as many epochs. The test set is
measured once, at the end. The results are in benchmarks/results/anneal.json.

To resume after Ctrl-C or a power cut, repeat the command. The result is the same, bit for bit: every measured epoch is kept
in RUN/annealing-….npz until all results of the command are written.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import records
from records import figures, keep_record, load_data, markdown_table, read_records, resume, score

from tinygan import CheckpointError, Generator, run
from tinygan.files import hold

RESULTS = records.RESULTS / "anneal.json"
EVERY = 2  # epochs between two measurements


def anneal(path: Path, epochs: int, data: str | None) -> dict[str, Any]:
    path, dataset = path.resolve(), load_data(data)
    trainer, recipe = resume(path, dataset)
    gan = trainer.model
    generator = Generator(gan.G, gan.noise)
    first = trainer.epoch

    def log_likelihood() -> float:
        return round(run.validation_log_likelihood(generator, dataset, run.SAMPLES), 2)

    for optimizer, steps in (gan.G_optimizer, gan.generator_steps), (gan.D_optimizer, gan.k):
        length = epochs * trainer.iterations * steps
        optimizer.learning_rate = straight_line(optimizer.next_learning_rate, optimizer.updates, length)
    start, environment, kept = time.perf_counter(), run.environment(trainer.xp), kept_for(path, epochs)
    if kept.exists():
        before = trainer.metrics
        done = trainer.restore(kept).configuration.get("annealing")
        if not done or trainer.metrics[:first] != before:
            raise CheckpointError(f"{kept}: it did not start from this {path.name}: remove it")
        print(f"{path.parent.name}: resumes after epoch {trainer.epoch}", flush=True)
    else:
        done = {"curve": {str(first): log_likelihood()}, "seconds": 0.0, "commits": []}
    start, curve, commits = start - done["seconds"], done["curve"], dict.fromkeys([*done["commits"], environment["commit"]])
    while trainer.epoch < first + epochs:
        trainer.train_epoch()
        if (trainer.epoch - first) % EVERY == 0 or trainer.epoch == first + epochs:
            curve[str(trainer.epoch)] = log_likelihood()
            print(f"{path.parent.name}, epoch {trainer.epoch}: {curve[str(trainer.epoch)]} nats on validation", flush=True)
            done |= {"seconds": time.perf_counter() - start, "commits": list(commits)}
            trainer.save(kept, vars(recipe) | {"annealing": done})
    return {
        "run": path.parent.name,
        "variant": recipe.variant,
        "seed": recipe.seed,
        "from_epoch": first,
        "epochs": epochs,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "commit": ", ".join(filter(None, commits)) or None,
        "cores": environment["cores"],
        "threads": environment["threads"],
        "validation_log_likelihoods": curve,
        "test": {grid: figures(result) for grid, result in run.measure(generator, dataset, run.SAMPLES).items()},
    }


def kept_for(path: Path, epochs: int) -> Path:
    """Where the training from this checkpoint is kept until its result is written."""
    return path.with_name(f"annealing-{epochs}-from-{path.stem}.npz")


def straight_line(eta: float, updates: int, length: int) -> Any:
    """η(t) = η (1 − (t − t₀ − 1)/T) for the T updates after the t₀ that were made: from η to η/T."""
    return lambda t: eta * (1 - (t - updates - 1) / length)


def table(records: list[dict[str, Any]]) -> str:
    columns = ["run", "from epoch", "η to 0 in", "before", "annealed", "released schedule", "test (fine σ)", "minutes"]
    rows = []
    for r in sorted(records, key=lambda r: (r["seed"], r["from_epoch"], r["epochs"])):
        first, last = str(r["from_epoch"]), str(r["from_epoch"] + r["epochs"])
        before, after = (f"{r['validation_log_likelihoods'][epoch]:.1f}" for epoch in (first, last))
        test = score(r["test"]) if "test" in r else ""  # of the first two runs only validation was measured
        name, span = f"{r['variant']}, seed {r['seed']}", f"{r['epochs']} epochs"
        rows.append([name, first, span, before, after, released(r["run"], int(last)), test, r["minutes"]])
    return markdown_table(columns, rows)


def released(name: str, epoch: int) -> str:
    path = RESULTS.with_name(f"mnist-{name}.json")
    curve = json.loads(path.read_text(encoding="utf-8"))["validation_log_likelihoods"] if path.exists() else {}
    later = [(int(measured), value) for measured, value in curve.items() if int(measured) >= epoch]
    return "{1:.1f} @{0}".format(*min(later)) if later else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="of --keep-checkpoints")
    parser.add_argument("--epochs", type=run.positive, default=10, metavar="N", help="until η is 0 (default: %(default)s)")
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    args = parser.parse_args()
    with contextlib.ExitStack() as held:
        for folder in sorted({path.resolve().parent for path in args.checkpoints if path.is_file()}):
            held.enter_context(hold(folder))  # no run, and no other annealing, writes into it meanwhile
        for path in args.checkpoints:
            keep_record(RESULTS, anneal(path, args.epochs, args.data), ("run", "from_epoch", "epochs"))
        for path in args.checkpoints:  # only now: the same command must not begin again with the first
            kept_for(path, args.epochs).unlink(missing_ok=True)
    print(table(read_records(RESULTS)))


if __name__ == "__main__":
    run.main(main)
