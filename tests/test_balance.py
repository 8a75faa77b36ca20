"""The ends of the scale that benchmarks/balance.py walks along are the two variants themselves."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tinygan import GAN, Dropout, Linear, Maxout, MomentumSGD, Network, ReLU, Sigmoid, random_generator, sample_noise

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import balance


def game(variant: str) -> GAN:
    G = Network([Linear(5, 8), ReLU(), Linear(8, 6), Sigmoid()], seed=1, dtype=np.float64)
    D = Network([Dropout(0.8), Maxout(6, 4, 3), Dropout(0.5), Linear(4, 1)], seed=2, dtype=np.float64)
    return GAN(G, D, MomentumSGD(G.theta, 0.3, 0.5), MomentumSGD(D.theta, 0.3, 0.5), variant=variant)


def play(gan: GAN) -> np.ndarray:
    noise_rng, dropout_rng, data_rng = (random_generator(np, 0, name) for name in ("noise", "dropout", "data"))
    for _ in range(3):
        batches = iter([data_rng.random((7, 6))])
        gan.iteration(lambda: sample_noise("uniform", noise_rng, 7, 5, np.float64), batches, dropout_rng)
    return np.concatenate([gan.G.theta, gan.D.theta])


@pytest.mark.parametrize("choice", balance.CHOICES)
def test_each_choice_is_the_variant_of_its_name_or_none(choice):
    between = play(balance.BetweenGAN(game("simultaneous"), choice))
    for name, variant in ("old-same-same", "simultaneous"), ("new-fresh-fresh", "alternating"):
        difference = abs(between - play(game(variant))).max()
        assert (difference < 1e-14) == (choice == name), f"{choice} and {variant} end {difference:.1e} apart"
