"""50 iterations of these games, on as many ranks as mpiexec starts. Rank 0 writes what each ends with.

mpiexec -n 4 python tests/training/many_ranks.py FILE "batch norm" float32
"""

import sys

import numpy as np

from tinygan import (
    VARIANTS,
    Adam,
    BatchNorm,
    Conv2d,
    Dropout,
    LeakyReLU,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Reshape,
    Sigmoid,
    Trainer,
    Uniform,
)
from tinygan.parallel import distribute
from tinygan.ranks import one_job, world

M, ITERATIONS = 8, 10
ROWS = np.random.default_rng(0).integers(0, 256, (2 * M * ITERATIONS, 16), dtype=np.uint8)


def networks(dtype, normalised=False, convolutional=False):
    """G and D with dropout before every layer of D."""
    wide = Uniform(0.5)
    G = [Linear(3, 12, weight=wide, bias=0.1), ReLU(), Linear(12, 16, weight=wide), Sigmoid()]
    D = [Dropout(0.8), Maxout(16, 10, 3, weight=wide), Dropout(0.5), Linear(10, 1, weight=wide)]
    if convolutional:
        D = [Dropout(0.8), Reshape((4, 4, 1)), Conv2d(1, 3, 3, padding=1, weight=wide), LeakyReLU(), Reshape((48,))]
        D += [Dropout(0.5), Linear(48, 1, weight=wide)]
    if normalised:
        G.insert(1, BatchNorm(12))
        D.insert(3 if convolutional else 2, BatchNorm(3 if convolutional else 10))
    return [Network(layers, seed=seed, dtype=dtype) for seed, layers in enumerate((G, D), 1)]


def trainer(variant="simultaneous", prior="uniform", adam=False, k=1, generator_steps=1, dtype="float64", **nets):
    G, D = networks(dtype, **nets)
    optimizers = [Adam(net.theta, 0.01) if adam else MomentumSGD(net.theta, 0.1, 0.5) for net in (G, D)]
    options = {"noise": Noise(prior, 3), "batch_size": M, "k": k, "generator_steps": generator_steps}
    gan = VARIANTS[variant](G, D, *optimizers, **options)
    return Trainer(gan, ROWS[: k * M * ITERATIONS], ROWS[:40], seed=4)


GAMES = {
    "simultaneous": {},
    "alternating": {"variant": "alternating", "prior": "spherical"},
    "printed": {"variant": "printed", "prior": "gaussian"},
    "k = 2, two steps of G": {"variant": "alternating", "k": 2, "generator_steps": 2},
    "simultaneous, k = 2": {"k": 2, "generator_steps": 2},
    "Adam": {"adam": True},
    "batch norm": {"normalised": True},
    "batch norm, alternating": {"normalised": True, "variant": "alternating"},
    "batch norm of images": {"normalised": True, "convolutional": True},
    "convolutional": {"convolutional": True},
    "float32": {"dtype": "float32"},
    "float32, batch norm": {"dtype": "float32", "normalised": True},
}


def ends(games, ranks=None, epochs=5):
    """By game and name: every vector of the players after these epochs of 10 iterations, and the metrics of all."""
    found = {}
    for game in games:
        trained = trainer(**GAMES[game])
        distribute(trained, ranks)
        for _ in range(epochs):
            trained.train_epoch()
        for name, (network, optimizer) in trained.model.players.items():
            vectors = {"theta": network.theta, "statistics": network.statistics} | optimizer.state
            found |= {f"{game}: {name}.{key}": vector for key, vector in vectors.items()}
        found[f"{game}: metrics"] = np.array([list(row.values()) for row in trained.metrics])
    return found


if __name__ == "__main__":
    with one_job():
        ranks = world()
        found = ends(sys.argv[2:], ranks)
        if ranks is None or ranks.rank == 0:
            np.savez(sys.argv[1], **{name: array.copy() for name, array in found.items()})
