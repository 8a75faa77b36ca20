"""benchmarks/balance.py sets three differences one by one; all and none of them are the two variants themselves."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tinygan import GAN, Dropout, Linear, Maxout, MomentumSGD, Network, ReLU, Sigmoid, random_generator, sample_noise


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


@pytest.mark.parametrize("choice", balance.CHOICES)
def test_each_word_of_a_choice_sets_its_own_difference(choice, monkeypatch):
    gan = balance.BetweenGAN(game("simultaneous"), choice)
    D_gradient, forward, theta = gan._discriminator_gradient, balance.forward, gan.D.theta.copy()
    updates = []  # θ_d, the samples and the masks of D's update, then of G's

    def of_D(x, samples, rng):
        result = D_gradient(x, samples, rng)
        updates.append((theta, samples, result[2][0][len(x) :]))
        return result

    def of_G(D, x, like, rng):
        result = forward(D, x, like, rng)
        updates.append((D.theta.copy(), x, result[1][0]))
        return result

    monkeypatch.setattr(gan, "_discriminator_gradient", of_D)
    monkeypatch.setattr(balance, "forward", of_G)
    rng = random_generator(np, 0, "all")
    gan.iteration(lambda: sample_noise("uniform", rng, 7, 5, np.float64), iter([rng.random((7, 6))]), rng)
    same = [np.array_equal(a, b) for a, b in zip(*updates, strict=True)]
    assert same == [word in ("old", "same") for word in choice.split("-")]
