"""What the Parzen window log-likelihood says of samples whose worth is known, through tinygan's own evaluator.

    python benchmarks/study/anchors.py                 MNIST, minutes on two cores, 2.5 GB (k-means)

Prints the table and writes benchmarks/results/anchors.json. Each line is a set of samples, scored by the authors'
protocol: σ on the first 1,000 validation images, the mean and its standard error on all 10,000 test images. Twice: σ
from the authors' ten values, and from 46.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy
from scipy.cluster.vq import kmeans2

from tinygan import Generator, Linear, Network, Noise, ReLU, Sigmoid, bias_from_marginals, random_generator
from tinygan.backend import pixels
from tinygan.datasets import load_mnist
from tinygan.images import nearest_neighbours
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, ParzenWindow, evaluate
from tinygan.run import environment, write_json

SEED = 2014
NOISE = 0.05  # standard deviation, in pixels of [0, 1]: 13 grey levels of 255
ITERATIONS = 10  # of k-means
RESULTS = Path(__file__).parents[1] / "results" / "anchors.json"


def anchors(train: np.ndarray, test: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each set of samples (n, 784), float32, with its name. train: uint8, 50,000 rows; test: floats, what is scored."""
    real = pixels(train)
    for n in 1_000, 10_000, len(real):
        yield f"{n:,} training images, the first", real[:n]
    for start in range(10_000, len(real), 10_000):
        yield f"10,000 training images, from row {start:,}", real[start : start + 10_000]
    yield "the 10,000 test images themselves", test
    rng = random_generator(np, SEED, "noise")
    noise = rng.standard_normal((10_000, real.shape[1]), dtype=np.float32)
    yield f"10,000 training images + N(0, {NOISE}²) on each pixel", real[:10_000] + np.float32(NOISE) * noise
    chosen = random_generator(np, SEED, "k-means").choice(len(real), 10_000, replace=False)
    centroids, _ = kmeans2(real, real[chosen], iter=ITERATIONS, minit="matrix")
    yield f"10,000 k-means centroids of the {len(real):,} training images", centroids
    bias = bias_from_marginals(train)
    layers = [Linear(100, 1200), ReLU(), Linear(1200, 1200), ReLU(), Linear(1200, 784, bias=bias), Sigmoid()]
    G = Network(layers, seed=SEED)
    samples = Generator(G, Noise("uniform", 100)).sample(10_000, SEED)
    yield "10,000 samples of the untrained generator", samples


def nearest_share(samples: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """Of each p(x), the share that the nearest sample alone contributes: (len(x),), float64."""
    _, distances = nearest_neighbours(x, samples)
    n, d = samples.shape
    log_kernel = -(distances**2) / (2 * sigma**2) - np.log(n) - d * np.log(sigma * np.sqrt(2 * np.pi))
    return np.exp(log_kernel - ParzenWindow(sigma).fit(samples).score_samples(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST's files (default: found, else downloaded)")
    args = parser.parse_args()
    started = time.perf_counter()
    data = load_mnist(args.data)
    if data.name != "mnist":
        sys.exit(f"error: {data.name} is not MNIST: name its folder with --data")
    validation, test = pixels(data.validation.images[:1000]), pixels(data.test.images)
    rows = []
    print(f"{'samples':60}  {'σ of 10':>8}  {'nats':>13}  {'σ of 46':>8}  {'nats':>13}")
    for name, samples in anchors(data.train.images, test):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            authors, fine = (evaluate(samples, validation, test, grid) for grid in (AUTHORS_SIGMAS, FINE_SIGMAS))
        cells = "".join(
            f"  {result.sigma:8.4f}  {result.log_likelihood:6.1f} ± {result.standard_error:4.1f}" for result in (authors, fine)
        )
        print(f"{name:60}{cells}", flush=True)
        cautions = sorted({str(warning.message) for warning in caught})
        for caution in cautions:
            print(f"  warning: {caution}")
        rows.append({"name": name, "authors": authors.as_dict(), "fine": fine.as_dict(), "warnings": cautions})
    share = nearest_share(pixels(data.train.images[:10_000]), test, float(AUTHORS_SIGMAS[2]))
    mostly = float((share > 0.9).mean())
    print(f"10,000 training images, σ {AUTHORS_SIGMAS[2]:.4f}: the nearest one makes more than 90 % of p(x) for", end=" ")
    print(f"{mostly:.0%} of the test images")
    seconds = time.perf_counter() - started
    print(f"{seconds / 60:.1f} minutes")
    facts = {"command": "python benchmarks/study/anchors.py", "seed": SEED, "minutes": round(seconds / 60, 2)}
    facts |= environment() | {"scipy": scipy.__version__}
    facts |= {"anchors": rows, "nearest_makes_90_percent": mostly}
    write_json(RESULTS, facts)


if __name__ == "__main__":
    main()
