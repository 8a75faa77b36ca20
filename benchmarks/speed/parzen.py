"""How fast the Parzen window evaluator is: against its matrix products alone, scikit-learn, and the naive formula.

    python benchmarks/speed/parzen.py                  full size, MNIST: about two minutes on two cores
    python benchmarks/speed/parzen.py --check          tiny, agreement only: seconds

The work is the paper's protocol: 10,000 samples (training images), ten σ on 1,000 validation images, one σ on 10,000
test images, d = 784. All of it is timed in one run, in turns, so that a busy minute of the machine hits everyone. The
slow ones do a part of the rows in each turn, and the table scales them up. All scores are compared, row by row: exit
code 1 if any two differ by more than 0.01 nat.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.backend import pixels
from tinygan.datasets import load_mnist
from tinygan.parzen import AUTHORS_SIGMAS, ParzenWarning, ParzenWindow, evaluate

TOLERANCE = 0.01  # nats, in each row
DEFAULT_LEAF = 40  # of scikit-learn's trees


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST's files (default: found, else downloaded)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the BLAS (default: its own choice)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare the scores of few rows, and time nothing")
    args = parser.parse_args()
    data = load_mnist(args.data, download=not args.check)
    n, n_validation, n_test = (300, 50, 100) if args.check else (10_000, 1_000, 10_000)
    samples = pixels(data.train.images[:n])
    validation, test = pixels(data.validation.images[:n_validation]), pixels(data.test.images[:n_test])
    with threads(args.threads):
        if args.check:
            return report_agreement(agreement(samples, validation, test))
        return benchmark(data.name, samples, validation, test, args.turns)


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


def benchmark(name: str, samples: np.ndarray, validation: np.ndarray, test: np.ndarray, turns: int) -> int:
    before = peak_memory()
    result = evaluate(samples, validation, test)  # also warms up the BLAS
    after = peak_memory()
    print(result)
    print(f"\npeak memory of the process: {after} MB; {before} MB before the evaluation (data set, NumPy)")

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
        "matrix products alone": (1, lambda turn: products()),
        "ours": (1, lambda turn: evaluate(samples, validation, test)),
        "ours, float64": (1, lambda turn: evaluate(samples64, validation, test)),
        "scikit-learn KernelDensity": (50, scikit_learn_part),
        "naive": (100, naive_part),
    }
    seconds: dict[str, list[float]] = {contender: [] for contender in contenders}
    for turn in range(turns):
        for contender, (_, run) in contenders.items():
            start = time.perf_counter()
            run(turn)
            seconds[contender].append(time.perf_counter() - start)
        print(f"turn {turn + 1} of {turns}", file=sys.stderr)

    median = {contender: statistics.median(times) for contender, times in seconds.items()}
    full = {contender: median[contender] * share for contender, (share, _) in contenders.items()}
    print(f"\n{name}, {cpu()}, {os.cpu_count()} cores, NumPy {np.__version__}; median of {turns} turns (quickest)")
    print(f"  {'':28} {'part of the rows':>16} {'seconds':>16} {'full size':>10} {'/ products':>11} {'/ ours':>8}")
    for contender, (share, _) in contenders.items():
        measured = f"{median[contender]:.2f} ({min(seconds[contender]):.2f})"
        print(
            f"  {contender:28} {'all' if share == 1 else f'1/{share}':>16} {measured:>16} {full[contender]:9.1f}s"
            f" {full[contender] / full['matrix products alone']:10.2f}x {full[contender] / full['ours']:7.2f}x"
        )
    print("Goals: ours at most 2 x the products alone, KernelDensity at least 20 x ours. The slow ones score other rows in")
    print("each turn, and their full size is the part scaled up; the time to fit KernelDensity is left out.")
    return report_agreement(agreement(samples, validation, test))


def cpu() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """The largest resident size of this process so far, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


if __name__ == "__main__":
    sys.exit(main())
