"""How fast the Parzen window evaluator is: against its matrix products alone, scikit-learn, and the naive formula.

    python benchmarks/speed/parzen.py                  full size, MNIST: about two minutes on two cores
    python benchmarks/speed/parzen.py --check          few rows; only check that all agree: seconds

The work is the paper's protocol: 10,000 samples (training images), ten σ on 1,000 validation images, one σ on 10,000
test images, d = 784. The contenders take turns: a busy minute of the machine hits all of them. The slow ones do a part of
the rows in each turn, and the table scales their time up. All scores are compared, row by row: exit code 1 if any two
differ by more than 0.01 nat. The goals: tinygan takes at most twice as long as the products alone, KernelDensity at least
twenty times as long as tinygan.
"""

import argparse
import contextlib
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from step_time import PAUSE, machine, markdown_table

from tinygan import load_mnist, pixels
from tinygan.console import prepare_streams
from tinygan.parzen import AUTHORS_SIGMAS, ParzenWarning, ParzenWindow, evaluate
from tinygan.run import peak_memory, write_json

TOLERANCE = 0.01  # nats, in each row
DEFAULT_LEAF = 40  # of scikit-learn's trees


def main() -> int:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST's files (default: found, else downloaded)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the BLAS (default: its own choice)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare the scores of few rows, and time nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write here what was measured, and where")
    args = parser.parse_args()
    if args.json and args.check:
        parser.error("--check writes no --json")
    load_before = os.getloadavg()
    data = load_mnist(args.data, download=not args.check)
    n, n_validation, n_test = (300, 50, 100) if args.check else (10_000, 1_000, 10_000)
    samples = pixels(data.train.images[:n])
    validation, test = pixels(data.validation.images[:n_validation]), pixels(data.test.images[:n_test])
    with threads(args.threads):
        if args.check:
            return report_agreement(agreement(samples, validation, test))
        measured = benchmark(samples, validation, test, args.turns)
        load = {"before": load_before, "after": os.getloadavg()}
        differences = agreement(samples, validation, test)
    facts = {"command": " ".join(["python", *sys.argv]), "machine": machine("scikit-learn"), "load": load}
    facts |= {"data": data.name, "threads": args.threads, **measured, "largest_differences": differences}
    print(f"\n{table(facts)}\n\n{facts['machine']}")
    print(f"load average over the last minute: {load['before'][0]:.1f} before, {load['after'][0]:.1f} after")
    if args.json:
        write_json(args.json, facts)
    return report_agreement(differences)


def threads(count: int | None) -> contextlib.AbstractContextManager[Any]:
    if count is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(count)


# ---- Who takes part. Each is given rows and several σ, and returns log p of every row for every σ.


def matrix_products(samples: np.ndarray, x: np.ndarray) -> None:
    """The floor: x·s of all pairs, in float32 as the evaluator has it, and nothing else."""
    products = np.empty((1000, len(samples)), np.float32)
    for i in range(0, len(x), 1000):
        rows = x[i : i + 1000]
        np.matmul(rows, samples.T, out=products[: len(rows)])


def naive(samples: np.ndarray, x: np.ndarray, sigmas: Any) -> np.ndarray:
    """The formula by broadcasting, one row of x at a time (else n × d differences for each do not fit), for each σ."""
    d = samples.shape[1]
    log_p = np.empty((len(sigmas), len(x)))
    for k, sigma in enumerate(sigmas):
        for i, row in enumerate(x):
            exponents = -((row - samples) ** 2).sum(axis=1) / (2 * sigma**2)
            top = exponents.max()
            log_p[k, i] = top + np.log(np.exp(exponents - top).mean()) - d * np.log(sigma * np.sqrt(2 * np.pi))
    return log_p


def kernel_densities(samples: np.ndarray, sigmas: Any, leaf: int | None = None) -> list[Any]:
    """scikit-learn's, with one leaf: here it is quicker than with its default tree, and unlike that right."""
    from sklearn.neighbors import KernelDensity

    return [KernelDensity(bandwidth=sigma, leaf_size=leaf or len(samples)).fit(samples) for sigma in sigmas]


def scikit_learn(fitted: list[Any], x: np.ndarray) -> np.ndarray:
    return np.array([density.score_samples(x) for density in fitted])


def ours(samples: np.ndarray, x: np.ndarray, sigmas: Any) -> np.ndarray:
    return np.array([ParzenWindow(sigma).fit(samples).score_samples(x) for sigma in sigmas])


# ---- Do all agree?


def agreement(samples: np.ndarray, validation: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The largest difference in any row, in nats, from this evaluator in float64, at the ten σ and at the chosen one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParzenWarning)
        chosen = evaluate(samples, validation, test).sigma
    x, sigmas = np.concatenate([validation[:10], test[:20]]), [*AUTHORS_SIGMAS, chosen]
    double = ours(samples.astype(np.float64), x.astype(np.float64), sigmas)
    peers = {
        "ours, float32": ours(samples, x, sigmas),
        "naive": naive(samples, x, sigmas),
        "scikit-learn KernelDensity": scikit_learn(kernel_densities(samples, sigmas), x),
    }
    tree = scikit_learn(kernel_densities(samples, [chosen], leaf=DEFAULT_LEAF), x)
    print(f"\nfor information: KernelDensity's default tree is off by up to {abs(tree[0] - double[-1]).max():.1e} nats here")
    return {name: float(abs(scores - double).max()) for name, scores in peers.items()}


def report_agreement(differences: dict[str, float]) -> int:
    print("largest difference in any row from ours in float64, over ten σ (nats)")
    for name, difference in differences.items():
        print(f"  {name:28} {difference:.1e}")
    if max(differences.values()) > TOLERANCE:
        print(f"error: more than {TOLERANCE} nat", file=sys.stderr)
        return 1
    return 0


# ---- How long does it take?


PRODUCTS, OURS = "the matrix products alone", "**tinygan**, float32"


def benchmark(samples: np.ndarray, validation: np.ndarray, test: np.ndarray, turns: int) -> dict[str, Any]:
    """The seconds of every contender in each turn, and in which part of the rows; σ; the peak memory in MB."""
    memory = {"before the evaluation": peak_memory()}  # data set, NumPy
    result = evaluate(samples, validation, test)  # also warms up the BLAS
    memory["after"] = peak_memory()
    print(f"{result}\n\npeak memory of the process, MB: {memory}")

    samples64 = samples.astype(np.float64)
    fitted = kernel_densities(samples64, [*AUTHORS_SIGMAS, result.sigma])  # not timed

    def products() -> None:
        matrix_products(samples, validation)
        matrix_products(samples, test)

    def scikit_learn_part(turn: int) -> None:
        scikit_learn(fitted[:-1], validation[turn::50])
        scikit_learn(fitted[-1:], test[turn::50])

    def naive_part(turn: int) -> None:
        naive(samples, validation[turn::100], AUTHORS_SIGMAS)
        naive(samples, test[turn::100], [result.sigma])

    contenders: dict[str, tuple[int, Callable[[int], Any]]] = {
        PRODUCTS: (1, lambda turn: products()),
        OURS: (1, lambda turn: evaluate(samples, validation, test)),
        "tinygan, float64": (1, lambda turn: evaluate(samples64, validation, test)),
        "scikit-learn's KernelDensity": (50, scikit_learn_part),
        "the naive broadcast formula": (100, naive_part),
    }
    measured = {name: {"part": part, "seconds": []} for name, (part, _) in contenders.items()}
    order = random.Random(0)
    for turn in range(turns):
        for name in order.sample(list(contenders), len(contenders)):
            time.sleep(PAUSE)
            start = time.perf_counter()
            contenders[name][1](turn)
            measured[name]["seconds"].append(time.perf_counter() - start)
        print(f"turn {turn + 1} of {turns}", file=sys.stderr)
    return {"sigma": result.sigma, "peak_memory_mb": memory, "contenders": measured}


def table(facts: dict[str, Any]) -> str:
    """What was measured, in Markdown. The time of those that did a part of the rows is scaled up to all rows."""
    contenders = facts["contenders"]
    full = {name: statistics.median(one["seconds"]) * one["part"] for name, one in contenders.items()}
    rows = []
    for name, one in contenders.items():
        title = name if one["part"] == 1 else f"{name} (from 1/{one['part']} of the rows)"
        cells = [title, f"{full[name]:.1f}", f"{min(one['seconds']) * one['part']:.1f}"]
        rows.append([*cells, f"{full[name] / full[PRODUCTS]:.2f}", f"{full[name] / full[OURS]:.2f}"])
    return markdown_table(["the same work on", "seconds, median", "least", "÷ products", "÷ tinygan"], rows)


if __name__ == "__main__":
    sys.exit(main())
