"""What the Parzen window log-likelihood says of samples whose worth is known, through tinygan's own evaluator.

    python benchmarks/study/anchors.py                 MNIST: minutes on two cores, 2.5 GB (k-means)
    python benchmarks/study/anchors.py --faces FILE    TFD_48x48.mat, or a stand-in for it in its format: minutes, 1 GB

This prints the table and writes benchmarks/results/anchors.json, or anchors_faces.json. Each row is a set of samples, scored
by the authors' protocol. MNIST: the first 1,000 validation images choose σ, and the score is the mean over all 10,000 test
images ± its standard error. Faces: the mean over five folds ± its standard error, by run.measure_folds. Each is scored
twice, with σ from the authors' ten values and from 46.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import records
import scipy
from records import load_data, markdown_table
from scipy.cluster.vq import kmeans2

from tinygan import (
    Generator,
    Linear,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    bias_from_marginals,
    load_tfd,
    pixels,
    random_generator,
    recipes,
    run,
)
from tinygan.datasets.tfd import FILE
from tinygan.images import nearest_neighbours
from tinygan.parzen import AUTHORS_SIGMAS, FINE_SIGMAS, ParzenWarning, ParzenWindow, evaluate

SEED = 2014
NOISE = 0.05  # standard deviation, in pixels of [0, 1]: 13 grey levels of 255
ITERATIONS = 10  # of k-means
RESULTS = records.RESULTS / "anchors.json"
FACES = records.RESULTS / "anchors_faces.json"
CENTROIDS = 1_000, 3_000  # of the faces


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


def face_anchors(train: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same for faces: sets of samples (n, 2304), float32. train: uint8, the unlabelled faces."""
    real = pixels(train)
    rng = random_generator(np, SEED, "noise")
    noise = rng.standard_normal((10_000, real.shape[1]), dtype=np.float32)
    yield f"{len(real):,} unlabelled faces, all", real
    yield "1,000 unlabelled faces, the first", real[:1_000]
    yield f"{len(real):,} unlabelled faces + N(0, {NOISE}²) on each pixel", real + np.float32(NOISE) * noise[: len(real)]
    mean, deviation = real.mean(axis=0), real.std(axis=0)
    yield f"10,000 times the mean face + N(0, {NOISE}²) on each pixel", mean + np.float32(NOISE) * noise
    yield "10,000 times the mean face + noise as large as each pixel's deviation", mean + deviation * noise
    for n in CENTROIDS:
        chosen = random_generator(np, SEED, "k-means").choice(len(real), n, replace=False)
        centroids, _ = kmeans2(real, real[chosen], iter=ITERATIONS, minit="matrix")
        yield f"{n:,} k-means centroids of the {len(real):,} faces", centroids
    G, _ = recipes.tfd_networks({"scale": 8}, bias_from_marginals(train, any_range=True))
    samples = Generator(G, Noise("gaussian", 100)).sample(10_000, SEED)
    yield "10,000 samples of the untrained generator of stage 1, an eighth as wide", samples


def nearest_share(samples: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """Of each p(x), the share that the nearest sample alone contributes: (len(x),), float64."""
    _, distances = nearest_neighbours(x, samples)
    n, d = samples.shape
    log_kernel = -(distances**2) / (2 * sigma**2) - np.log(n) - d * np.log(sigma * np.sqrt(2 * np.pi))
    return np.exp(log_kernel - ParzenWindow(sigma).fit(samples).score_samples(x))


def table(facts: dict[str, Any]) -> str:
    """The log-likelihoods of all sets of samples, in Markdown."""
    rows = []
    for anchor in facts["anchors"]:
        authors, fine = anchor["authors"], anchor["fine"]
        nats = f"{authors['log_likelihood']:.1f} ± {authors['standard_error']:.1f}"
        with_fine = f"{fine['log_likelihood']:.1f} (σ {fine['sigma']:.3f})"
        rows.append([anchor["name"], nats, f"{authors['sigma']:.3f}", with_fine])
    return markdown_table(["samples", "log-likelihood, nats", "σ", "with σ from 46 values"], rows)


def table_of_faces(facts: dict[str, Any]) -> str:
    """The log-likelihoods of all sets of faces, in Markdown: means over the folds."""
    rows = []
    for anchor in facts["anchors"]:
        authors, fine = anchor["authors"], anchor["fine"]
        widths = sorted({fold["sigma"] for fold in authors["folds"]})
        nats = f"{authors['log_likelihood']:.1f} ± {authors['standard_error']:.1f}"
        rows.append([anchor["name"], nats, " and ".join(f"{width:.3f}" for width in widths), f"{fine['log_likelihood']:.1f}"])
    return markdown_table(["samples", "log-likelihood, nats", "σ", "with σ from 46 values"], rows)


def tables() -> dict[str, str]:
    """The tables of ANCHORS.md, by the names in their markers."""
    of_mnist, of_faces = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS, FACES))
    return {"anchors": table(of_mnist), "anchors faces": table_of_faces(of_faces)}


def measure_faces(path: str) -> None:
    started, dataset, rows = time.perf_counter(), load_tfd(path), []
    for name, samples in face_anchors(dataset.train.images):
        rows.append({"name": name} | run.measure_folds(samples, dataset))
        print(f"{name}: {rows[-1]['authors']['log_likelihood']:.1f} nats", file=sys.stderr, flush=True)
    facts = {"command": f"python benchmarks/study/anchors.py --faces {FILE}", "seed": SEED}
    facts |= {"data": dataset.name, "source": dataset.source, "data_digest": dataset.digest}
    facts |= {"minutes": round((time.perf_counter() - started) / 60, 2)} | run.environment() | {"scipy": scipy.__version__}
    run.write_json(FACES, facts | {"anchors": rows})
    print(table_of_faces(facts | {"anchors": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", metavar="DIR", help="folder of MNIST's files (default: found, else downloaded)")
    parser.add_argument("--faces", metavar="FILE", help=f"{FILE}, or its folder: measure faces, and not MNIST")
    args = parser.parse_args()
    if args.faces:
        return measure_faces(args.faces)
    started = time.perf_counter()
    data = load_data(args.data)
    validation, test = pixels(data.validation.images[:1000]), pixels(data.test.images)
    rows = []
    for name, samples in anchors(data.train.images, test):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ParzenWarning)
            authors, fine = (evaluate(samples, validation, test, grid) for grid in (AUTHORS_SIGMAS, FINE_SIGMAS))
        print(f"{name}: {authors.log_likelihood:.1f} nats", file=sys.stderr, flush=True)
        cautions = sorted({str(warning.message) for warning in caught})
        for caution in cautions:
            print(f"  warning: {caution}", file=sys.stderr)
        rows.append({"name": name, "authors": authors.as_dict(), "fine": fine.as_dict(), "warnings": cautions})
    share = nearest_share(pixels(data.train.images[:10_000]), test, float(AUTHORS_SIGMAS[2]))
    mostly = float((share > 0.9).mean())
    seconds = time.perf_counter() - started
    facts = {"command": "python benchmarks/study/anchors.py", "seed": SEED, "minutes": round(seconds / 60, 2)}
    facts |= run.environment() | {"scipy": scipy.__version__}
    facts |= {"anchors": rows, "nearest_makes_90_percent": mostly}
    run.write_json(RESULTS, facts)
    print(f"{table(facts)}\n\n10,000 training images with σ = {AUTHORS_SIGMAS[2]:.4f}: for {mostly:.0%} of the test images")
    print(f"the nearest training image makes more than 90 % of p(x). It took {seconds / 60:.1f} minutes.")


if __name__ == "__main__":
    run.main(main)
