"""What several ranks cost: the time of an Allreduce, that of an iteration, and a model of both for other machines.

    python benchmarks/speed/allreduce.py --json FILE     measure (minutes); needs mpi4py and an MPI (mpiexec)
    python benchmarks/speed/allreduce.py --check         a few small sizes, to see that it runs
    python benchmarks/speed/tables.py                    write the tables of README.md from benchmarks/results

The model of an iteration on p ranks, each with its own cores:

    T(m, p) = a · m/p + b + Σ (2 (p − 1)/p · bytes/B + 2 ⌈log₂ p⌉ · L)      the sum is over the networks

a is the time of a row: its share of the products. b is what does not depend on m: the update, which reads θ, v and ∇. The
rest is an Allreduce of ∇ of each network: B is the bandwidth and L the latency of a message. a and b are fitted to
iterations of one process, B and L to Allreduces. Both fits minimise relative errors.

Each rank has one thread of BLAS. All times are of rank 0, medians. One process with two threads is measured beside the ranks.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import step_time

from tinygan import BackendError, Batch, DataError, Streams, recipes, run
from tinygan.gan import GAN
from tinygan.parallel import Part
from tinygan.ranks import world

SIZES = [4 * 4**i for i in range(13)]  # bytes of an Allreduce, to 67 MB
NETS = {  # (n_in, n_out) of each affine map of G and of D; 8,000 units: CIFAR-10's fully connected nets
    "MNIST": step_time.shapes(1200, 240, 5),
    "8,000 units": ([(100, 8000), (8000, 8000), (8000, 3072)], [(3072, 8000), (1600, 8000), (1600, 1)]),
}
ROWS = {"MNIST": [25, 50, 100, 200, 400, 1600], "8,000 units": [25, 50, 100, 200]}  # m, of one process
TOGETHER = {"MNIST": [100, 200, 400, 1600], "8,000 units": [100, 200]}  # m, of ranks, and of one process with two threads
LINKS = {  # bytes a second, seconds: assumed, not measured
    "10 Gbit/s": (10e9 / 8, 20e-6),
    "100 Gbit/s": (100e9 / 8, 2e-6),
    "NVLink": (300e9, 5e-6),
}
GPU = 20e12  # FLOP/s that a GPU behind NVLink is assumed to achieve; and bytes a second that its memory gives
GPU_MEMORY = 1.5e12
NODES = (2, 4, 8, 16, 32, 64)
BATCHES = (100, 400, 1600, 6400)


def game(nets: str, m: int) -> GAN:
    """The paper's game of these nets, with random initial values: their time does not depend on the values."""
    if nets == "MNIST":
        return recipes.mnist({"batch_size": m}, np.zeros(784))
    return recipes.cifar10({"model": "fully-connected", "batch_size": m})


def median_ms(call: Callable[[], object], seconds: float, least: int = 5) -> float:
    """The median milliseconds of a call that all ranks make, as often as fit into these seconds. Rank 0 decides."""
    ranks, spent = world(), [0.0]
    call()
    while more(ranks, len(spent) <= least or sum(spent) < seconds):
        if ranks is not None:
            ranks.comm.Barrier()
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:]) * 1e3


def more(ranks: Any, wanted: bool) -> bool:
    return wanted if ranks is None else bool(ranks.share(wanted))


def time_allreduce(sizes: Sequence[int], seconds: float) -> dict[str, float]:
    """{bytes: milliseconds} of an Allreduce in place, float32."""
    ranks, found = world(), {}
    assert ranks is not None
    for size in sizes:
        array = np.zeros(size // 4, np.float32)
        found[str(size)] = median_ms(lambda array=array: ranks.comm.Allreduce(ranks.in_place, array), seconds)  # type: ignore[misc]
    return found


def time_iteration(nets: str, m: int, seconds: float) -> float:
    """Milliseconds of an iteration of these nets, of m rows over all ranks."""
    ranks, gan = world(), game(nets, m)
    model: Any = gan if ranks is None else Part(gan, m, ranks)  # type: ignore[arg-type]
    x = np.random.default_rng(0).random((m, gan.sample_shape[0]), dtype=np.float32)
    streams = Streams(0, 1)

    def batches() -> Iterator[Batch]:
        while True:
            yield Batch(x)

    rows = batches()
    return median_ms(lambda: model.iteration(rows, streams), seconds)


def ask(p: int, task: Mapping[str, Any], threads: int = 1) -> Any:
    """The answer of p ranks to a task, each with so many threads of BLAS; one process where p is 1."""
    launcher = shutil.which("mpiexec")
    if launcher is None:
        raise BackendError("mpiexec is missing: python -m pip install mpi4py mpich")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, __file__, "--worker", json.dumps(task), "--answer", str(answer)]
        start = [launcher, "-n", str(p)] if p > 1 else []
        subprocess.run([*start, *command], check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)})
        return json.loads(answer.read_text(encoding="utf-8"))


def work(args: argparse.Namespace) -> None:
    task, ranks = json.loads(args.worker), world()
    kind = task.pop("kind")
    found = time_allreduce(**task) if kind == "allreduce" else time_iteration(**task)
    if ranks is None or ranks.rank == 0:
        run.write_json(Path(args.answer), found)


def measure(args: argparse.Namespace) -> None:
    load = os.getloadavg()
    sizes, seconds = (SIZES[:3], 0.01) if args.check else (SIZES, 0.5)
    nets = ["MNIST"] if args.check else list(NETS)
    found: dict[str, Any] = {"allreduce": {}, "alone": {}, "two threads": {}, "together": {}}
    for p in 2, 4:
        found["allreduce"][str(p)] = ask(p, {"kind": "allreduce", "sizes": sizes, "seconds": seconds})
    for name in nets:
        task, span = {"kind": "iteration", "nets": name}, 0.01 if args.check else 4.0
        for part in "alone", "two threads", "together":
            found[part][name] = {"2": {}, "4": {}} if part == "together" else {}
        for m in ROWS[name][:2] if args.check else ROWS[name]:  # what is compared is measured one after the other
            asked = task | {"m": m, "seconds": span}
            found["alone"][name][str(m)] = ask(1, asked)
            if m in TOGETHER[name] or args.check:
                found["two threads"][name][str(m)] = ask(1, asked, threads=2)
                for p in (2,) if args.check or name == "8,000 units" else (2, 4):
                    if m % p == 0:
                        found["together"][name][str(p)][str(m)] = ask(p, asked)
    if args.check:
        print("an Allreduce, an iteration alone and one of two ranks were timed; nothing was written")
        return
    facts = {
        "command": " ".join(["python", *sys.argv]),
        "machine": step_time.machine("mpi4py", "mpich"),
        "load": {"before": load, "after": os.getloadavg()},
    }
    print("\n\n".join(tables(found).values()))
    if args.json:
        run.write_json(Path(args.json), facts | found)


# ---- The model


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(slope, constant) of the line through (x, y) that minimises relative errors; slope > 0, constant ≥ 0.

    Raises DataError if the points fall: on a busy machine they can.
    """
    x, y = np.array(points).T
    A = np.stack([x, np.ones_like(x)], axis=1) / y[:, None]
    (slope, constant), *_ = np.linalg.lstsq(A, np.ones_like(y), rcond=None)
    if constant < 0:
        slope, constant = float(np.sum(x / y) / np.sum((x / y) ** 2)), 0.0
    if slope <= 0:
        raise DataError(f"the times {y.tolist()} s do not grow with {x.tolist()}: measure again on a quiet machine")
    return float(slope), float(constant)


def link(found: Mapping[str, Any], p: int) -> tuple[float, float]:
    """B in bytes a second and L in seconds, fitted to the Allreduces of p ranks."""
    points = [(2 * (p - 1) / p * int(size), ms / 1e3) for size, ms in found["allreduce"][str(p)].items()]
    slope, constant = fit(points)
    return 1 / slope, constant / (2 * math.ceil(math.log2(p)))


def allreduce(p: int, size: float, B: float, L: float) -> float:
    """Seconds: 2 (p − 1)/p · bytes/B + 2 ⌈log₂ p⌉ · L."""
    return 2 * (p - 1) / p * size / B + 2 * math.ceil(math.log2(p)) * L


def compute(found: Mapping[str, Any], nets: str) -> tuple[float, float]:
    """a, seconds for a row, and b, seconds for the rest, of one process with one thread."""
    return fit([(int(m), ms / 1e3) for m, ms in found["alone"][nets].items()])


def parameters(nets: str) -> list[int]:
    """How many G has, and how many D has."""
    return [sum((n_in + 1) * n_out for n_in, n_out in maps) for maps in NETS[nets]]


def gpu_compute(nets: str) -> tuple[float, float]:
    """a and b of the assumed GPU: the products of one row; and the update, which reads θ, v and ∇ and writes θ and v."""
    flop = step_time.gflop(step_time.products("simultaneous", 1, *NETS[nets])) * 1e9
    return flop / GPU, 5 * 4 * sum(parameters(nets)) / GPU_MEMORY


def iteration(nets: str, m: float, p: int, a: float, b: float, B: float, L: float) -> float:
    """Seconds of an iteration of m rows on p ranks, by the model."""
    return a * m / p + b + sum(allreduce(p, 4 * n, B, L) for n in parameters(nets)) * (p > 1)


# ---- The tables


def tables(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        "allreduce": allreduce_table(found),
        "ranks on two cores": together_table(found),
        "strong scaling": scaling_table(found, "strong"),
        "weak scaling": scaling_table(found, "weak"),
    }


def allreduce_table(found: Mapping[str, Any]) -> str:
    columns, rows = ["bytes"], []
    for p in found["allreduce"]:
        B, L = link(found, int(p))
        columns += [f"{p} ranks, ms", f"the model: {B / 1e9:.2f} GB/s, {L * 1e6:.0f} µs"]
    for size in found["allreduce"]["2"]:
        cells = [f"{int(size):,}"]
        for p, times in found["allreduce"].items():
            cells += [f"{times[size]:.3g}", f"{allreduce(int(p), int(size), *link(found, int(p))) * 1e3:.3g}"]
        rows.append(cells)
    return step_time.markdown_table(columns, rows)


def together_table(found: Mapping[str, Any]) -> str:
    columns = ["nets", "m", "processes", "ms, measured", "ms, the model", "speed-up, measured", "speed-up, the model"]
    rows = []
    for nets, alone in found["alone"].items():
        a, b = compute(found, nets)
        for m, ms in alone.items():
            expected = iteration(nets, int(m), 1, a, b, 1.0, 0.0) * 1e3
            rows.append([nets, m, "1", f"{ms:.0f}", f"{expected:.0f}", "", ""])
            if m in found["two threads"][nets]:
                of_two = found["two threads"][nets][m]
                rows.append([nets, m, "1, with two threads", f"{of_two:.0f}", "", f"{ms / of_two:.2f}", ""])
            for p, times in found["together"][nets].items():
                if m in times:
                    model = iteration(nets, int(m), int(p), a, b, *link(found, int(p))) * 1e3
                    gains = f"{ms / times[m]:.2f}", f"{expected / model:.2f}"
                    rows.append([nets, m, f"{p} ranks", f"{times[m]:.0f}", f"{model:.0f}", *gains])
    return step_time.markdown_table(columns, rows)


def scaling_table(found: Mapping[str, Any], kind: str) -> str:
    """Predicted: strong, T(m, 1)/T(m, p); weak, T(m, 1)/T(p m, p), the share of time that is not spent on communication."""
    given = "m" if kind == "strong" else "m for each node"
    rows = []
    for nets in found["alone"]:
        for name, (B, L) in LINKS.items():
            a, b = gpu_compute(nets) if name == "NVLink" else compute(found, nets)
            for m in BATCHES:
                alone = iteration(nets, m, 1, a, b, B, L)
                cells = []
                for p in NODES:
                    together = iteration(nets, m * (p if kind == "weak" else 1), p, a, b, B, L)
                    gain = f"{alone / together:.2f}" if kind == "weak" else f"{alone / together:.1f}"
                    cells.append("" if kind == "strong" and m % p else gain)
                rows.append([nets, name, f"{m:,}", *cells])
    return step_time.markdown_table(["nets", "link", given, *(f"{p} nodes" for p in NODES)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="a few small sizes, to see that it runs; nothing is written")
    parser.add_argument("--json", metavar="FILE", help="also write here what was measured, and where")
    for hidden in "--worker", "--answer":
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    work(args) if args.worker else measure(args)


if __name__ == "__main__":
    run.main(main)
