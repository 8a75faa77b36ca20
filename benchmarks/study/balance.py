"""Why does `alternating` lose its balance where `simultaneous` keeps it? Trains what lies between the two, on MNIST.

    python benchmarks/study/balance.py old-fresh-fresh new-same-same --seeds 0 1 2 3 4     train these (minutes an epoch)
    python benchmarks/study/balance.py --look CHECKPOINT …                                 measure what one update of D changes
    python benchmarks/study/balance.py                                                     print the tables

The two variants differ in three things. Here each is set by itself. G's gradient is taken

    at θ_d         old: as D was before its update           new: after it
    on z           same: the samples D was updated on        fresh: new ones
    under masks    same: the dropout masks of that update    fresh: new ones

So old-same-same is `simultaneous`, and new-fresh-fresh is `alternating`. A run goes into benchmarks/results/balance.json:
after every epoch D(x) and D(G(z)) on held-out data, and the share of pixels at which G's sigmoid is saturated (within 10⁻⁴ of
black or white); at the end, how many of 1,000 samples are distinct.

--look takes states of training that examples/mnist.py saved. In each it does one update of D, twenty times over, from the
state as it was. Into benchmarks/results/look.json goes how far that update moves the mean logit of the samples it was made
on, under its own masks, and that of fresh samples. So do the cosines between two gradients of G that differ in θ_d, in z, in
the masks, or in z and masks.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import records
from records import departures, keep_record, load_data, markdown_table, read_records, resume, train_with

from tinygan import (
    GAN,
    ArgumentError,
    Batch,
    Dropout,
    Network,
    Streams,
    Trainer,
    bias_from_marginals,
    load_mnist,
    random_generator,
    recipes,
    run,
)
from tinygan.backend import Array, Scalar
from tinygan.network import Caches

RESULTS = records.RESULTS / "balance.json"
LOOKED = RESULTS.with_name("look.json")
CHOICES = [f"{theta_d}-{z}-{masks}" for theta_d in ("old", "new") for z in ("same", "fresh") for masks in ("same", "fresh")]
SATURATED = 1e-4


class BetweenGAN(GAN):
    """One update of each player, as `choice` says: "old-same-same" … "new-fresh-fresh"."""

    def __init__(self, gan: GAN, choice: str) -> None:
        options = {"noise": gan.noise, "batch_size": gan.batch_size, "generator_cost": gan.generator_cost}
        super().__init__(gan.G, gan.D, gan.G_optimizer, gan.D_optimizer, **options)
        self.choice = choice

    def iteration(self, batches: Iterator[Batch], streams: Streams) -> dict[str, Scalar]:
        theta_d, z, masks = self.choice.split("-")
        rng = streams["dropout"]
        samples, G_cache = self.G.forward(self.sample_noise(streams), train=True, rng=rng)
        gradient = self.discriminator_gradient(next(batches).x, samples, rng)
        if theta_d == "new":
            self.D_optimizer.step(self.D_grad)
        if z == "fresh":
            samples, G_cache = self.G.forward(self.sample_noise(streams), train=True, rng=rng)
        judged = forward(self.D, samples, self.judged(gradient)[1] if masks == "same" else None, rng)
        G_cost = self.generator_gradient(samples, G_cache, rng, judged)
        if theta_d == "old":
            self.D_optimizer.step(self.D_grad)
        self.G_optimizer.step(self.G_grad)
        return {"discriminator_cost": gradient.cost, "generator_cost": G_cost}


def forward(D: Network, x: Array, like: Caches | None, rng: Any) -> tuple[Array, Caches]:
    """D's forward pass for training, with the dropout masks of the forward pass whose cache is `like`, or with new ones."""
    if like is None:
        return D.forward(x, train=True, rng=rng)
    cache = []
    for layer, layer_like in zip(D.layers, like, strict=True):
        if isinstance(layer, Dropout):
            x, layer_cache = x * layer_like, layer_like
        else:
            x, layer_cache = layer.forward(x, True, rng)
        cache.append(layer_cache)
    return x, Caches(D, cache, x.shape)


def prepare(seed: int, data: str | None, choice: str) -> Trainer:
    """The released recipe as examples/mnist.py has it, with a BetweenGAN."""
    dataset = load_mnist(data)
    settings = recipes.MNIST | {"seed": seed}
    gan = recipes.mnist(settings, bias_from_marginals(dataset.train.images))
    return train_with(settings, BetweenGAN(gan, choice), dataset)


def train(choice: str, seed: int, epochs: int, data: str | None) -> dict[str, Any]:
    trainer = prepare(seed, data, choice)
    start, curve = time.perf_counter(), []
    for _ in range(epochs):
        row = trainer.train_epoch()
        gan = trainer.model
        samples = gan.G(gan.noise(Streams(seed)["report"], len(trainer.held_out.x)))
        saturated = float(((samples < SATURATED) | (samples > 1 - SATURATED)).mean())
        curve.append({key: round(row[key], 6) for key in ("D_x", "D_G_z", "value")} | {"saturated": round(saturated, 4)})
        print(f"{choice} seed {seed} epoch {row['epoch']}: {curve[-1]}", flush=True)
    environment = run.environment(trainer.xp)
    return {
        "choice": choice,
        "seed": seed,
        "epochs": epochs,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "commit": environment["commit"],
        "cores": environment["cores"],
        "threads": environment["threads"],
        "distinct_of_1000": run.diversity(samples, trainer.held_out.x)["distinct_samples"],
        "curve": curve,
    }


def look(path: Path, data: str | None, repeats: int = 20) -> dict[str, Any]:
    """What one update of D changes for G in the state of this checkpoint: means over the repeats."""
    trainer, settings = resume(path, load_mnist(data))
    gan = trainer.model
    gan.D_optimizer.momentum = trainer.metrics[-1]["momentum"]
    batches, m = trainer.batches(trainer.epoch + 1), trainer.batch_size
    noise_rng, dropout_rng = (random_generator(np, 0, f"look, {purpose}") for purpose in ("noise", "dropout"))
    start = gan.D.theta.copy(), gan.D_optimizer.velocity.copy()

    def logit_and_gradient(z: Array, masks: Caches) -> tuple[float, Array]:
        samples, G_cache = gan.G.forward(z)
        judged = forward(gan.D, samples, masks, dropout_rng)
        gan.generator_gradient(samples, G_cache, dropout_rng, judged)
        return float(judged[0].mean()), gan.G_grad.copy()

    found = []
    for _ in range(repeats):
        gan.D.theta, gan.D_optimizer.velocity[:] = start
        own, fresh = (gan.noise(noise_rng, m) for _ in range(2))
        _, own_masks = gan.judged(gan.discriminator_gradient(next(batches).x, gan.G(own), dropout_rng))
        fresh_masks = gan.D.forward(gan.G(fresh), train=True, rng=dropout_rng)[1]
        before, before_fresh = logit_and_gradient(own, own_masks), logit_and_gradient(fresh, fresh_masks)
        before_masks, before_z = logit_and_gradient(own, fresh_masks), logit_and_gradient(fresh, own_masks)
        gan.D_optimizer.step(gan.D_grad)
        after, after_fresh = logit_and_gradient(own, own_masks), logit_and_gradient(fresh, fresh_masks)
        pairs = ((before, after), (before, before_z), (before, before_masks), (before, before_fresh))
        found.append([after[0] - before[0], after_fresh[0] - before_fresh[0], *(cosine(a[1], b[1]) for a, b in pairs)])
    state = {"variant": settings.variant, "seed": settings.seed, "epoch": trainer.epoch, "repeats": repeats}
    means = dict(zip(LOOK, np.mean(found, axis=0).round(4).tolist(), strict=True))
    return state | {"commit": run.environment(trainer.xp)["commit"]} | means


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


LOOK = {  # what --look measures: its name in look.json, and in the table
    "moved_own": "D's update moves a, own z and masks",
    "moved_fresh": "fresh z and masks",
    "cosine_theta_d": "cos ∇: θ_d old, new",
    "cosine_z": "z same, fresh",
    "cosine_masks": "masks same, fresh",
    "cosine_both": "both",
}


def table_of_looks(records: list[dict[str, Any]]) -> str:
    rows = []
    for record in sorted(records, key=lambda record: (record["variant"], record["seed"], record["epoch"])):
        cells = [record["variant"], record["seed"], record["epoch"]]
        rows.append([*cells, *(f"{record[key]:{'+' if key.startswith('moved') else ''}.2f}" for key in LOOK)])
    return markdown_table(["variant", "seed", "epoch", *LOOK.values()], rows)


def table(records: list[dict[str, Any]]) -> str:
    columns = ["θ_d", "z", "masks", "seed", "D(x), D(G(z))", "saturated pixels", "distinct of 1,000"]
    rows = []
    for record in sorted(records, key=lambda record: (CHOICES.index(record["choice"]), record["seed"])):
        last = record["curve"][-1]
        cells = [*record["choice"].split("-"), record["seed"], f"{last['D_x']:.3f}, {last['D_G_z']:.3f}"]
        rows.append([*cells, f"{last['saturated']:.0%}", record["distinct_of_1000"]])
    return markdown_table(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", nargs="*", metavar="CHOICE", help=f"what to train: any of {', '.join(CHOICES)}")
    parser.add_argument("--seeds", nargs="+", type=run.natural, default=[0, 1, 2], metavar="S", help="(default: 0 1 2)")
    parser.add_argument("--epochs", type=run.positive, default=6, metavar="N", help="of each run (default: %(default)s)")
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST (default: found, else downloaded)")
    parser.add_argument("--look", nargs="+", type=Path, default=[], metavar="CHECKPOINT", help="measure D's update")
    args = parser.parse_args()
    for choice in args.choices:
        if choice not in CHOICES:
            parser.error(f"unknown choice {choice!r}: choose from {', '.join(CHOICES)}")
    if args.look and args.choices:
        parser.error("--look trains nothing: give either choices or --look")
    if args.choices or args.look:
        load_data(args.data)
    for path in args.look:
        if departs := departures(run.load_run(path)[0].configuration).keys() - {"variant"}:
            raise ArgumentError(f"{path}: its run departs from the released recipe in {', '.join(sorted(departs))}")
        keep_record(LOOKED, look(path, args.data), ("variant", "seed", "epoch"))
    for seed in args.seeds:
        for choice in args.choices:
            keep_record(RESULTS, train(choice, seed, args.epochs, args.data), ("choice", "seed"))
    print(f"{table(read_records(RESULTS))}\n\n{table_of_looks(read_records(LOOKED))}")


if __name__ == "__main__":
    run.main(main)
