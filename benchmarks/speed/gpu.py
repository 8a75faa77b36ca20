"""One iteration on a GPU: milliseconds, achieved TFLOP/s, the share of the products, and PyTorch beside it.

    python benchmarks/speed/gpu.py --json FILE     MNIST's nets (m = 100) and CIFAR-10's convolutional ones (m = 128)
    python benchmarks/speed/gpu.py --check         a few rows, on the GPU if there is one, else with NumPy: only that it runs

All contestants do the same work in float32, with dropout: Algorithm 1's order (alternating) for MNIST, both players' steps at
once (simultaneous) for CIFAR-10, as in step_time.py and convolution.py. PyTorch runs twice, the second time as one CUDA graph.
It is left out where it is not installed. Contestants take turns of a few iterations. A turn ends when the device has finished.
The table has medians over the turns.

The products are the matrix products of an iteration alone. A convolution counts as the product with its windows as rows,
which are ready in memory. TFLOP/s are those of the products, divided by the time of the whole iteration.
"""

import argparse
import itertools
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import convolution
import numpy as np
import step_time

from tinygan import Batch, Streams, get_backend, recipes, run, to_host
from tinygan.backend import Array

TURNS, ITERATIONS = 20, 20
NETS = {"MNIST": (step_time.SIZES, 784), "CIFAR-10, convolutional": (convolution.SIZES, 3072)}  # sizes, values of a row

Timed = Callable[[int], object]
"""Runs so many iterations, and returns when the device has finished them."""


def products_of(nets: str, m: int) -> list[tuple[str, int, int, int]]:
    sizes = NETS[nets][0]
    if nets == "MNIST":
        shapes = step_time.shapes(sizes["width"], sizes["d_width"], sizes["pieces"])
        return step_time.products("alternating", m, *shapes)
    return convolution.products(SimpleNamespace(**sizes | {"batch_size": m}))


def products_alone(nets: str, m: int, xp: Any) -> Timed:
    listed = products_of(nets, m)
    largest = max(max(rows * n_in, rows * n_out, n_in * n_out) for _, rows, n_in, n_out in listed)
    memory = [xp.ones(largest, np.float32) for _ in range(3)]  # the products share it

    def array(place: int, *shape: int) -> Array:
        found: Array = memory[place][: math.prod(shape)].reshape(shape)
        return found

    operands = []
    for kind, rows, n_in, n_out in listed:
        if kind == "forward":
            operands.append((array(0, rows, n_in), array(1, n_in, n_out), array(2, rows, n_out)))
        elif kind == "weights":
            operands.append((array(0, rows, n_in).T, array(1, rows, n_out), array(2, n_in, n_out)))
        else:
            operands.append((array(0, rows, n_out), array(1, n_in, n_out).T, array(2, rows, n_in)))

    def turn(n: int) -> None:
        for _ in range(n):
            for a, b, out in operands:
                xp.matmul(a, b, out=out)
        to_host(memory[2][:1])  # waits for the device

    return turn


def tinygan(nets: str, m: int, xp: Any) -> Timed:
    settings = {"batch_size": m, "learning_rate": step_time.LEARNING_RATE}
    if nets == "MNIST":
        gan = recipes.mnist(settings | {"variant": "alternating"}, np.zeros(784), xp)
    else:
        gan = recipes.cifar10(settings | {"model": "convolutional"}, xp)
    batches = itertools.repeat(Batch(xp.asarray(np.random.default_rng(0).random((m, NETS[nets][1]), np.float32))))
    streams = Streams(0, 1, xp)

    def turn(n: int) -> None:
        for _ in range(n):
            gan.iteration(batches, streams)
        to_host(gan.G.theta[:1])

    return turn


def pytorch(nets: str, m: int, device: str, graph: bool) -> Timed:
    """PyTorch's iteration of step_time.py or of convolution.py."""
    import torch

    torch.set_default_device(device)
    module = step_time if nets == "MNIST" else convolution
    args = SimpleNamespace(**NETS[nets][0], threads=torch.get_num_threads(), learning_rate=step_time.LEARNING_RATE)
    iteration = module.make_torch(args, module.initial(args), dropout=True)
    x = torch.rand(m, NETS[nets][1])

    def step() -> None:
        iteration(x, *[None] * (2 if nets == "MNIST" else 1))

    if graph:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            step()
        step = captured.replay

    def turn(n: int) -> None:
        for _ in range(n):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return turn


def contestants(nets: str, m: int, xp: Any) -> dict[str, Timed]:
    found = {"the products alone": products_alone(nets, m, xp), "**tinygan**": tinygan(nets, m, xp)}
    try:
        import torch
    except ImportError:
        return found
    on_gpu = xp is not np and torch.cuda.is_available()
    if on_gpu or xp is np:
        found["PyTorch eager"] = pytorch(nets, m, "cuda" if on_gpu else "cpu", graph=False)
    if on_gpu:
        found["PyTorch, one CUDA graph"] = pytorch(nets, m, "cuda", graph=True)
    return found


def measure(nets: str, m: int, xp: Any, turns: int, iterations: int) -> dict[str, Any]:
    """Milliseconds of an iteration in each turn, by contestant."""
    found = contestants(nets, m, xp)
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in found.values():
        turn(min(3, iterations))
    for _ in range(turns):
        for name in random.sample(list(found), len(found)):
            start = time.perf_counter()
            found[name](iterations)
            times[name].append((time.perf_counter() - start) / iterations * 1e3)
    return {"batch_size": m, "gflop": step_time.gflop(products_of(nets, m)), "milliseconds": times}


def table(found: dict[str, Any]) -> str:
    rows = []
    for nets, facts in found.items():
        medians = {name: statistics.median(times) for name, times in facts["milliseconds"].items()}
        for name, ms in medians.items():
            cells = [f"{ms:.3g}", f"{facts['gflop'] / ms:.3g}", f"{medians['the products alone'] / ms:.0%}"]
            rows.append([f"{nets}, m = {facts['batch_size']}", name, *cells])
    return step_time.markdown_table(["nets", "", "ms", "TFLOP/s", "share of the products"], rows)


def device_name(xp: Any) -> str:
    if xp is np:
        return step_time.processor()
    return str(xp.cuda.runtime.getDeviceProperties(0)["name"].decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="few rows and turns, with NumPy where there is no GPU")
    parser.add_argument("--json", metavar="FILE", help="also write here what was measured, and where")
    args = parser.parse_args()
    if args.check and args.json:
        parser.error("--check writes no --json")
    xp, load = get_backend("auto" if args.check else "cupy"), os.getloadavg()
    turns, iterations = (1, 1) if args.check else (TURNS, ITERATIONS)
    found = {}
    for nets, (sizes, _) in NETS.items():
        found[nets] = measure(nets, 2 if args.check else sizes["batch_size"], xp, turns, iterations)
    print(f"{device_name(xp)}\n\n{table(found)}")
    if args.check:
        print("\nThese figures are of single iterations with two rows: they say only that all contestants ran.")
    if args.json:
        facts = {"command": " ".join(["python", *sys.argv]), "device": device_name(xp), "load": [load, os.getloadavg()]}
        run.write_json(Path(args.json), facts | {"machine": step_time.machine("cupy-cuda13x", "cupy-cuda12x", "torch")} | found)


if __name__ == "__main__":
    run.main(main)
