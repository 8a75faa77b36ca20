"""The plateau at the start of the paper's convolutional CIFAR-10 model, and a search for the smallest departure without it.

    python benchmarks/study/plateau.py start                            signals and changes at the start, and a picture
    python benchmarks/study/plateau.py flow --scale 16 --faster 50      train, with η × 50, until V is off −log 4
    python benchmarks/study/plateau.py search --discriminator-gain 1    train with a departure, and see what becomes of it
    python benchmarks/study/plateau.py run RUN                          take in a run of examples/cifar10.py
    python benchmarks/study/plateau.py tables                           write the tables of PLATEAU.md

With --record the first four write a record into benchmarks/results/plateau.json. PLATEAU.md says what was found.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from records import RESULTS, filled, keep_record, markdown_table, read_records

from tinygan import GAN, Adam, Dropout, Streams, Trainer, load_cifar10, recipes, run, value_function
from tinygan.backend import Array, write_atomically
from tinygan.datasets import Dataset, contrast_pixels, normalise_contrast
from tinygan.figures import read_metrics
from tinygan.images import image_grid, save_png
from tinygan.layers import Layer
from tinygan.network import Network

RECORDS = RESULTS / "plateau.json"
PICTURE = RESULTS / "plateau.png"
PAGE = Path(__file__).with_name("PLATEAU.md")
MOVED = 0.01  # of the mean logits of data and samples, apart: 1,000 times as far as at the start. The plateau has ended
LEARNS = 0.05  # nats of V from −log 4, as in run.verdict
MINIBATCHES = 8  # over which a gradient is averaged, to see how much of it points the same way

Row = dict[str, Any]

# ---- The start


def name_of(layer: Layer) -> str:
    """A short name: "conv 8×8" for Conv2d(3, 64, 8, padding=4)."""
    kind = type(layer).__name__
    if hasattr(layer, "kernel"):
        return f"{'deconv' if kind == 'ConvTranspose2d' else 'conv'} {layer.kernel[0]}×{layer.kernel[1]}"
    return {"MaxPool2d": "pool", "ChannelMaxout": "maxout"}.get(kind, kind.lower())


def spreads(network: Network, x: Array) -> list[float]:
    """After each layer, without dropout: the standard deviation over the rows of x, its mean square over all values.

    What is the same for all rows is no signal. So this is not the standard deviation of all values.
    """
    found = []
    for layer in network.layers:
        x, _ = layer.forward(x)
        if not isinstance(layer, Dropout):
            found.append(float(np.sqrt(x.var(axis=0, dtype=np.float64).mean())))
    return found


def start(args: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """Signals, gradients and relative changes of the first update, at the recipe's η."""
    settings, gan, trainer = game(args, dataset)
    eta, mu, m = settings["learning_rate"], 0.5, gan.batch_size
    streams = Streams(args.seed, 1)
    sums = {name: np.zeros_like(player.network.theta) for name, player in gan.players.items()}
    squares = {name: np.zeros(len(player.network.parameters())) for name, player in gan.players.items()}
    for batch, _ in zip(trainer.batches(1), range(MINIBATCHES), strict=False):
        z = gan.sample_noise(streams)
        samples, cache = gan.G.forward(z, train=True)
        gradient = gan.discriminator_gradient(batch.x, samples, streams["dropout"])
        gan.generator_gradient(samples, cache, streams["dropout"], gan.judged(gradient))
        for name, network, grad in ("G", gan.G, gan.G_grad), ("D", gan.D, gan.D_grad):
            sums[name] += grad
            squares[name] += [float(np.vdot(view, view)) for view in network.views(grad).values()]
    record: dict[str, Any] = {"networks": {}}
    for name, network, x in ("G", gan.G, z), ("D", gan.D, np.concatenate([batch.x, samples])):
        stages = [name_of(layer) for layer in network.layers if not isinstance(layer, Dropout)]
        parameters = []
        for (key, theta), mean, square in zip(
            network.parameters().items(), network.views(sums[name]).values(), squares[name], strict=True
        ):
            size, one = float(np.linalg.norm(theta)), (square / MINIBATCHES) ** 0.5
            both = float(np.linalg.norm(mean)) / MINIBATCHES
            parameters.append({"name": key, "size": size, "gradient": one, "mean_gradient": both, "change": eta * one})
        record["networks"][name] = {
            "input": float(np.sqrt(x.var(axis=0, dtype=np.float64).mean())),
            "stages": [{"stage": stage, "spread": spread} for stage, spread in zip(stages, spreads(network, x), strict=True)],
            "parameters": parameters,
        }
    a_real, a_fake = gan.D(batch.x), gan.D(samples)
    record["logit"] = {"data": float(a_real.std()), "samples": float(a_fake.std()), "gap": float(a_real.mean() - a_fake.mean())}
    record |= {"m": m, "learning_rate": eta, "momentum": mu, "minibatches": MINIBATCHES}
    return record


def draw(record: dict[str, Any], path: Path) -> None:
    """The signal after each stage of G and of D, and how much one update changes each layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for (name, net), axis, below in zip(record["networks"].items(), *figure.subplots(2, 2), strict=True):
        stages = net["stages"]
        axis.semilogy([net["input"], *(stage["spread"] for stage in stages)], "o-")
        axis.set_xticks(range(len(stages) + 1), ["input", *(stage["stage"] for stage in stages)], rotation=45, ha="right")
        axis.set_title(f"{name}: spread over {'noise' if name == 'G' else 'images'} after each layer")
        weights = [p for p in net["parameters"] if p["name"].endswith("W")]
        below.semilogy([p["change"] / p["size"] for p in weights], "s-", label="of one minibatch")
        mean = [record["learning_rate"] * p["mean_gradient"] / p["size"] for p in weights]
        below.semilogy(mean, "x:", label=f"of the mean over {record['minibatches']}")
        below.set_xticks(range(len(weights)), [p["name"] for p in weights])
        below.set_title(f"{name}: η‖∇W‖/‖W‖, the first update of each W")
        below.legend()
        for each in axis, below:
            each.grid(alpha=0.3)
    figure.suptitle("The convolutional CIFAR-10 model as released, at its start")
    with write_atomically(path) as file:
        figure.savefig(file, format="png", dpi=80)


# ---- Training


def game(args: argparse.Namespace, dataset: Dataset, **departure: Any) -> tuple[dict[str, Any], GAN, Trainer]:
    settings = recipes.cifar10_settings({"model": "convolutional", "scale": args.scale, "seed": args.seed, **departure})
    gan = recipes.cifar10(settings)
    options = {"seed": args.seed, "momentum": recipes.momentum(settings), "prepare": normalise_contrast}
    return settings, gan, Trainer(gan, dataset.train, dataset.validation, **options)


def look(gan: GAN, held_out: Array, z: Array) -> Row:
    """How the game stands, without dropout."""
    samples = gan.G(z)
    a_real, a_fake = gan.D(held_out), gan.D(samples)
    return {
        "value": float(value_function(a_real, a_fake)),
        "D_x": float((1 / (1 + np.exp(-a_real))).mean()),
        "D_G_z": float((1 / (1 + np.exp(-a_fake))).mean()),
        "spread": float(a_real.std()),
        "gap": float(a_real.mean() - a_fake.mean()),
        "sample_size": float(samples.std()),
        "variety": float(np.sqrt(samples.var(axis=0).mean())),
    }


def play(
    args: argparse.Namespace, gan: GAN, trainer: Trainer, until_learns: bool = False
) -> tuple[list[Row], dict[str, float], float]:
    """Train, and look at the game every args.every iterations, until the time is up.

    μ is the recipe's in each epoch, as Trainer.train_epoch sets it, or args.momentum.
    Returns the rows, how far each W has gone from its start, in units of its own size, and the minutes.
    """
    held_out, z = trainer.held_out.x[:200], gan.noise(Streams(args.seed, 0)["report"], 200, gan.G.dtype)
    first = {name: player.network.theta.copy() for name, player in gan.players.items()}
    rows, epoch, done, began = [{"iteration": 0} | look(gan, held_out, z)], 0, 0, time.perf_counter()
    while True:
        epoch += 1
        for player in gan.players.values():
            if hasattr(player.optimizer, "momentum"):
                player.optimizer.momentum = trainer.momentum(epoch) if args.momentum is None else args.momentum
        batches, streams = trainer.batches(epoch), Streams(args.seed, epoch)
        for _ in range(trainer.iterations):
            gan.iteration(batches, streams)
            done += 1
            minutes = (time.perf_counter() - began) / 60
            if done % args.every == 0 or minutes > args.minutes:
                rows.append({"iteration": done} | look(gan, held_out, z))
                row = rows[-1]
                print(f"{minutes:6.1f} min " + " ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
                if args.picture:
                    save_png(args.picture, image_grid(contrast_pixels(gan.G(z[:50])), recipes.IMAGE, 10))
                learns = abs(row["value"] + np.log(4)) > LEARNS
                if minutes > args.minutes or (until_learns and learns) or not np.isfinite(row["value"]):
                    gone = {}
                    for name, player in gan.players.items():
                        network = player.network
                        before = network.views(first[name])
                        for key, theta in network.parameters().items():
                            if key.endswith("W"):
                                change = float(np.linalg.norm(theta - before[key]))
                                gone[f"{name}.{key}"] = change / float(np.linalg.norm(before[key]))
                    return rows, gone, minutes


def flow(args: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """The recipe with η × faster, and its schedules as much faster, until V is off −log 4.

    Where each update changes little, n updates at η are about n/c updates at c η: both follow the same slow flow.
    """
    eta = recipes.CIFAR10["convolutional"]["learning_rate"] * args.faster
    options = {"learning_rate": eta, "schedule_compression": args.faster, "batch_size": args.batch_size}
    _, gan, trainer = game(args, dataset, **options)
    rows, gone, minutes = play(args, gan, trainer, until_learns=True)
    facts = {"faster": args.faster, "batch_size": args.batch_size, "momentum": args.momentum}
    return facts | {"rows": rows, "gone": gone, "minutes": round(minutes, 2)}


# ---- The recipe itself


def of_run(folder: Path) -> dict[str, Any]:
    """What metrics.csv and run.json say of a run of the recipe: V, D(x) and D(G(z)) after each epoch, as far as it has got."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    configuration, metrics = facts["configuration"], read_metrics(folder)
    iterations = configuration["train"] // configuration["batch_size"]  # of one epoch
    names = "value", "D_x", "D_G_z"
    rows = [{"iteration": iterations * int(row["epoch"])} | {name: row[name] for name in names} for row in metrics]
    return {
        "scale": configuration["scale"],
        "seed": configuration["seed"],
        "iterations": iterations,
        "rows": rows,
        "minutes": round(sum(row["seconds"] for row in metrics) / 60, 1),
        "data": configuration["data"],
        "commit": facts["environment"]["commit"],
        "command": f"python examples/cifar10.py --model {configuration['model']} --seed {configuration['seed']} --data DIR",
    }


# ---- The search


def widen(network: Network, gain: float) -> None:
    """Start each W in ±gain·√(3/n), n the weights in a sum: inputs of mean square 1 then give outputs of variance gain²."""
    for layer in network.layers:
        if "W" in layer.declarations:
            shape, init = layer.declarations["W"]
            n = shape[-1] if type(layer).__name__ == "ConvTranspose2d" else int(np.prod(shape[:-1]))
            layer.W[...] *= gain * (3 / n) ** 0.5 / init.radius


def departed(args: argparse.Namespace, dataset: Dataset) -> tuple[GAN, Trainer]:
    """The game with the departures that the command line names."""
    settings = {"learning_rate": args.learning_rate, "batch_size": args.batch_size, "calm": args.calm}
    _, gan, trainer = game(args, dataset, **settings)
    if args.discriminator_gain:
        widen(gan.D, args.discriminator_gain)
    deconvolution = next(layer for layer in gan.G.layers if type(layer).__name__ == "ConvTranspose2d")
    deconvolution.W[...] *= args.deconvolution
    gan.G.layers[2].W[...] *= args.sigmoids
    rates = {"G": args.learning_rate * args.generator_rate, "D": args.learning_rate}
    if args.adam:
        gan.G_optimizer, gan.D_optimizer = (Adam(gan.players[name].network.theta, rates[name], args.adam) for name in "GD")
    elif args.generator_rate != 1:
        gan.G_optimizer.learning_rate = rates["G"]
    return gan, trainer


def search(args: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """Train with a departure, for some minutes."""
    gan, trainer = departed(args, dataset)
    rows, gone, minutes = play(args, gan, trainer)
    names = ("adam", "learning_rate", "batch_size", "calm", "discriminator_gain", "sigmoids", "deconvolution", "generator_rate")
    departure = {name: getattr(args, name) for name in names}
    facts = {"name": args.name, "departure": departure, "momentum": args.momentum}
    return facts | {"rows": rows, "gone": gone, "minutes": round(minutes, 2)}


# ---- The page


def moved(rows: Sequence[Row]) -> int | None:
    """The iteration at which the mean logits of data and samples were first seen further apart than MOVED."""
    return next((row["iteration"] for row in rows if abs(row["gap"]) > MOVED), None)


def momentum_of(record: dict[str, Any]) -> str:
    """μ of a training: a number, or the recipe's schedule."""
    return "as released" if record["momentum"] is None else f"{record['momentum']:g}"


def tables(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The tables of PLATEAU.md."""
    at_start, flows, runs, tries = ([r for r in records if r["what"] == what] for what in ("start", "flow", "run", "search"))
    rows: dict[str, list[list[Any]]] = {"start": [], "flow": [], "run": [], "search": []}
    for record in at_start:
        for name, net in record["networks"].items():
            stages = [stage for stage in net["stages"] if stage["stage"].startswith(("linear", "conv", "deconv", "maxout"))]
            weights = [p for p in net["parameters"] if p["name"].endswith("W")]
            if name == "D":  # a convolution's pieces are not taken for its outputs: its maxout follows
                stages = [stage for stage in stages if not stage["stage"].startswith("conv")]
            for stage, p in zip(stages, weights, strict=True):
                change = p["change"] / p["size"]
                rows["start"].append([f"{name}.{p['name']}", f"{stage['spread']:.1e}", f"{p['gradient']:.1e}", f"{change:.1e}"])
    for record in sorted(flows, key=lambda record: (-record["scale"], record["momentum"] or 0, record["faster"])):
        found, c = moved(record["rows"]), record["faster"]
        seen = f"{found} × {c:g} = {found * c:,.0f}" if found else f"not within {record['rows'][-1]['iteration'] * c:,.0f}"
        last = record["rows"][-1]
        ends = f"{last['D_x']:.2f}, {last['D_G_z']:.2f}"
        sizes = f"{record['scale']:g}", record["batch_size"], momentum_of(record), f"{c:g}"
        rows["flow"].append([*sizes, seen, ends, f"{record['minutes']:.1f}"])
    for record in runs:
        for row in record["rows"][3::4] + record["rows"][-1:] * (len(record["rows"]) % 4 > 0):
            epoch = row["iteration"] // record["iterations"]
            numbers = f"{row['value'] + np.log(4):.2g}", f"{row['D_x']:.4f}", f"{row['D_G_z']:.4f}"
            rows["run"].append([record["seed"], epoch, f"{row['iteration']:,}", *numbers])
    for record in tries:
        d, first, last = record["departure"], record["rows"][0], record["rows"][-1]
        game = f"{last['D_x']:.2f}, {last['D_G_z']:.2f}"
        optimiser = f"Adam, β₁ {d['adam']:g}" if d["adam"] else f"SGD, μ {momentum_of(record)}"
        rates = f"{d['learning_rate']:g}, {d['learning_rate'] * d['generator_rate']:g}"
        ranges = f"{d['discriminator_gain'] or 'as released'}, × {d['sigmoids']:g}, × {d['deconvolution']:g}"
        size, spread = (f"{first[name]:.2f} → {last[name]:.2f}" for name in ("sample_size", "variety"))
        facts = [
            record["name"],
            record["seed"],
            ranges,
            optimiser,
            rates,
            d["batch_size"],
            last["iteration"],
            f"{record['minutes']:.0f}",
        ]
        rows["search"].append([*facts, game, f"{last['value']:.2f}", size, spread])
    columns = {
        "start": ("weights", "spread of the layer's outputs", "‖∇W‖", "η‖∇W‖/‖W‖"),
        "flow": ("scale", "m", "μ", "c", "iterations of the plateau, × c", "then D(x), D(G(z))", "minutes"),
        "run": ("seed", "epoch", "iterations", "V + log 4", "D(x)", "D(G(z))"),
        "search": (
            *(
                "name",
                "seed",
                "D's gain, G's sigmoids, deconvolution",
                "optimiser",
                "η of D, of G",
                "m",
                "iterations",
                "minutes",
            ),
            *("D(x), D(G(z))", "V", "size of samples", "their spread"),
        ),
    }
    return {name: markdown_table(columns[name], rows[name]) for name in columns}


# ---- The command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=("start", "flow", "run", "search", "tables"))
    add("folder", nargs="?", type=Path, metavar="RUN", help="run: the folder that cifar10.py has written")
    add("--data", metavar="DIR", help="folder of CIFAR-10's files (default: found, else downloaded)")
    add("--scale", type=float, default=1.0)
    add("--seed", type=int, default=0)
    add("--minutes", type=float, default=10.0, help="how long to train (default: %(default)s)")
    add("--every", type=int, default=20, help="iterations between two looks (default: %(default)s)")
    add("--batch-size", type=int, default=128)
    add("--faster", type=float, default=1.0, help="flow: what η is multiplied by")
    add("--momentum", type=float, metavar="MU", help="flow, search: a constant μ (default: the recipe's schedule)")
    add("--name", help="search: a name for the departure")
    add("--learning-rate", type=float, default=0.004)
    add("--adam", type=float, default=0.0, help="search: Adam with this β₁ and a constant η; 0: momentum, as released")
    add("--generator-rate", type=float, default=1.0, help="search: G's η in units of D's, constant")
    add("--discriminator-gain", type=float, default=0.0, help="search: D starts in ±gain·√(3/n); 0: as released")
    add("--sigmoids", type=float, default=1.0, help="search: what the range of the sigmoids' weights is multiplied by")
    add("--deconvolution", type=float, default=1.0, help="search: what the deconvolution's range is multiplied by")
    add("--calm", action="store_true", help="search: no dropout in D while G is trained")
    add("--picture", type=Path, help="where to draw 50 samples at each look")
    add("--record", action="store_true", help="keep the record in benchmarks/results/plateau.json")
    args = parser.parse_args()
    if args.what == "tables":
        return run.write_text(PAGE, filled(PAGE, tables(read_records(RECORDS))))
    if args.what == "run":
        if args.folder is None:
            parser.error("run needs the folder of a run: plateau.py run RUN")
        record = {"what": "run"} | of_run(args.folder)
        return keep_record(RECORDS, record, ("command",)) if args.record else print(record)
    dataset = load_cifar10(args.data)
    began = time.perf_counter()
    record = {"start": start, "flow": flow, "search": search}[args.what](args, dataset)
    facts = run.environment()
    record = {"what": args.what, "scale": args.scale, "seed": args.seed} | record
    record |= {"data": dataset.name, "commit": facts["commit"], "minutes_in_all": round((time.perf_counter() - began) / 60, 2)}
    record["command"] = shlex.join(["python", "benchmarks/study/plateau.py", *sys.argv[1:]])
    if args.record:
        keep_record(RECORDS, record, ("command",))
        if args.what == "start":
            draw(record, PICTURE)
    else:
        print(record)


if __name__ == "__main__":
    run.main(main)
