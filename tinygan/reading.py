"""How a training stands, in plain words, and the figures that show it: reading(metrics, samples, data, iterations)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.backend import Array, to_host


def distinct(images: npt.NDArray[Any], radius: float) -> int:
    """How many images remain. They are taken in order, and an image is removed if it is closer than `radius` (L2) to an
    earlier one that remains."""
    left = np.ones(len(images), bool)
    distances = _distances(images)
    for i in range(len(images)):
        if left[i]:
            left[i + 1 :] &= distances[i, i + 1 :] >= radius
    return int(left.sum())


def _distances(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    x = images.reshape(len(images), -1).astype(np.float64)
    squares = (x * x).sum(axis=1)
    distances: npt.NDArray[Any] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * (x @ x.T), 0))
    return distances


def diversity(samples: Array, data: Array) -> dict[str, Any]:
    """How many of the samples are distinct, and how many of as many held-out data.

    Two images count as one if their distance is below `radius`: 95 % of the data are further than this from their nearest
    neighbour. Of a single image there is no such distance: the radius is 0, and all samples are distinct.
    """
    samples, data = to_host(samples), to_host(data)
    neighbours = _distances(data)
    np.fill_diagonal(neighbours, np.inf)
    radius = float(np.quantile(neighbours.min(axis=1), 0.05)) if len(data) > 1 else 0.0
    return {"distinct_samples": distinct(samples, radius), "distinct_data": distinct(data, radius), "radius": radius}


WON = -0.01  # nats
FIRST_LOOK = 1_000  # iterations: before, no V is a verdict
PATIENCE = 5_000  # iterations after which the samples of a generator that learns differ


def verdict(values: Sequence[float], iterations: int, distinct: int, n: int) -> str:
    """In words, how a training stands, from V after each of its epochs so far.

    iterations    of an epoch
    distinct, n   of n samples so many are distinct

    D has won if V > −0.01 nats, as the mean of the last two epochs: the maximum of V is 0, where D is sure and right. This is
    said after 1,000 iterations at the earliest. In the first epoch D is ahead of every G.

    G has collapsed if fewer than one sample in ten is distinct, or only one of several, and D has won or 5,000 iterations were
    done. Every G begins with samples that are alike. So without these two it is too early to tell. It is also too early if V
    never was further than 0.05 from −log 4: D has not learned yet.

    benchmarks/study/reading.py counts how often this was wrong in the committed runs.
    """
    done, last = iterations * len(values), values[-2:]
    if done >= FIRST_LOOK and sum(last) / len(last) > WON:
        words, collapsed = ["D has won: G is stuck"], True
    else:
        words, collapsed = [], done >= PATIENCE and any(abs(value + np.log(4)) >= 0.05 for value in values)
    if distinct < max(n / 10, min(n, 2)):
        words.append(f"collapsed to {distinct} distinct sample{'s' * (distinct > 1)}" if collapsed else "too early to tell")
    return " and ".join(words) or "learning"


def reading(metrics: list[dict[str, Any]], samples: Array, data: Array, iterations: int) -> dict[str, Any]:
    """How a run ended, in plain words (see verdict), with the figures that show it.

    samples, data   the same number of each; the data are held out
    iterations      of an epoch

    D(x), D(G(z)) and V are means over the last two epochs.
    """
    figures = diversity(samples, data)
    count = figures["distinct_samples"]
    last = metrics[-2:]
    value, D_x, D_G_z = (sum(row[key] for row in last) / len(last) for key in ("value", "D_x", "D_G_z"))
    words = verdict([row["value"] for row in metrics], iterations, count, len(samples))
    epochs = f"over the last {len(last)} epochs" if len(last) > 1 else "after the only epoch"
    text = (
        f"{words}: {epochs}, D(x) = {D_x:.3f}, D(G(z)) = {D_G_z:.3f}, V = {value:.3f} "
        f"(−1.386 where D cannot tell); {count} of {len(samples)} samples distinct, of as many data "
        f"{figures['distinct_data']}"
    )
    return {"reading": text} | figures
