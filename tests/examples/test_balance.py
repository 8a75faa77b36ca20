"""benchmarks/study/balance.py sets three differences one by one; all and none of them are the two variants themselves."""

import balance
import numpy as np
import pytest

from tinygan import GAN, VARIANTS, Batch, Dropout, Linear, Maxout, MomentumSGD, Network, Noise, ReLU, Sigmoid, Streams


def game(variant: str) -> GAN:
    G = Network([Linear(5, 8), ReLU(), Linear(8, 6), Sigmoid()], seed=1, dtype=np.float64)
    D = Network([Dropout(0.8), Maxout(6, 4, 3), Dropout(0.5), Linear(4, 1)], seed=2, dtype=np.float64)
    optimizers = (MomentumSGD(network.theta, 0.3, 0.5) for network in (G, D))
    return VARIANTS[variant](G, D, *optimizers, noise=Noise("uniform", 5), batch_size=7)


def play(gan: GAN) -> np.ndarray:
    streams = Streams(0)
    for _ in range(3):
        gan.iteration(iter([Batch(streams["data"].random((7, 6)))]), streams)
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
    D_gradient, forward, theta = gan.discriminator_gradient, balance.forward, gan.D.theta.copy()
    updates = []  # θ_d, the samples and the masks of D's update, then of G's

    def of_D(x, samples, rng):
        gradient = D_gradient(x, samples, rng)
        updates.append((theta, samples, gan.judged(gradient)[1][0]))
        return gradient

    def of_G(D, x, like, rng):
        result = forward(D, x, like, rng)
        updates.append((D.theta.copy(), x, result[1][0]))
        return result

    monkeypatch.setattr(gan, "discriminator_gradient", of_D)
    monkeypatch.setattr(balance, "forward", of_G)
    streams = Streams(0)
    gan.iteration(iter([Batch(streams["data"].random((7, 6)))]), streams)
    same = [np.array_equal(a, b) for a, b in zip(*updates, strict=True)]
    assert same == [word in ("old", "same") for word in choice.split("-")]


def test_the_game_between_keeps_the_settings_of_the_game_that_it_is_given():
    gan = game("printed")
    between = balance.BetweenGAN(gan, "old-same-fresh")
    assert between.generator_cost == "minimax"
    for name in "noise", "batch_size", "generator_cost", "G", "D", "G_optimizer", "D_optimizer":
        assert getattr(between, name) is getattr(gan, name)
