"""Epochs, reports, checkpoints and the guard, against their definitions."""

import numpy as np
import pytest
from helpers import bits, discriminator, generator
from strict_cupy import host, no_transfers

from tinygan import (
    GAN,
    PRIORS,
    VARIANTS,
    ArgumentError,
    CheckpointError,
    DivergenceError,
    MomentumSGD,
    Network,
    Sigmoid,
    learning_rate_schedule,
    momentum_schedule,
    random_generator,
    sample_noise,
)
from tinygan.backend import pixels
from tinygan.training import COST_BOUND, Trainer, generate


def images(n=40, seed=0):
    """n rows of 4 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (n, 4), dtype=np.uint8)


def rate(t):
    return learning_rate_schedule(t, 0.1, decay=1.01)


def game(xp=np, dtype=np.float32, learning_rate=rate, **options):
    G, D = generator(dtype, xp), discriminator(dtype, xp, keep=0.5)
    return GAN(G, D, MomentumSGD(G.theta, learning_rate), MomentumSGD(D.theta, learning_rate), **options)


def trainer(gan=None, data=None, **options):
    data = images() if data is None else data
    return Trainer(game() if gan is None else gan, data, images(30, seed=1), **{"noise": 3, "batch_size": 5} | options)


def state(trainer):
    G, D = trainer.gan.G_optimizer, trainer.gan.D_optimizer
    return [*bits([G.theta, D.theta, G.velocity, D.velocity]), G.updates, D.updates, trainer.epoch, trainer.metrics]


@pytest.mark.parametrize(("variant", "prior"), list(zip(VARIANTS, PRIORS, strict=True)))
def test_an_epoch_is_algorithm_1_with_the_generators_of_seed_purpose_and_epoch(xp, variant, prior):
    """The definition, written out: two epochs of a Trainer and of a plain loop end in the same bits."""
    ours = trainer(game(xp, variant=variant, k=2), images(43), seed=7, prior=prior)
    gan, x = game(xp, variant=variant, k=2), xp.asarray(images(43))
    for epoch in (1, 2):
        ours.train_epoch()
        order = xp.asarray(random_generator(np, 7, "shuffle", epoch).permutation(43))
        batches = (pixels(x[order[i : i + 5]], xp) for i in range(0, 40, 5))
        noise, dropout = (random_generator(xp, 7, purpose, epoch) for purpose in ("noise", "dropout"))
        gan.G_optimizer.momentum = gan.D_optimizer.momentum = momentum_schedule(epoch)
        for _ in range(43 // (2 * 5)):
            gan.iteration(lambda noise=noise: sample_noise(prior, noise, 5, 3), batches, dropout)
    assert bits([ours.gan.G.theta, ours.gan.D.theta]) == bits([gan.G.theta, gan.D.theta])
    assert bits([ours.gan.G_optimizer.velocity]) == bits([gan.G_optimizer.velocity])


def test_one_epoch_shows_every_example_at_most_once_and_drops_the_short_minibatch(monkeypatch):
    data = np.arange(43 * 4).reshape(43, 4).astype(np.float32)
    ours, seen = trainer(game(k=2), data), []

    def iteration(prior, batches, rng):
        assert prior().shape == (5, 3)
        seen.append([next(batches) for _ in range(2)])
        return np.float32(0), np.float32(0)

    monkeypatch.setattr(ours.gan, "iteration", iteration)
    ours.train_epoch()
    assert ours.iterations == len(seen) == 43 // (2 * 5)
    rows = np.concatenate(sum(seen, []))
    assert {len(x) for pair in seen for x in pair} == {5}
    assert len(np.unique(rows, axis=0)) == 40
    assert set(map(tuple, rows)) <= set(map(tuple, data))  # floats are taken as they are
    first = rows[:, 0].copy()
    seen.clear()
    ours.train_epoch()
    assert not np.array_equal(first, np.concatenate(sum(seen, []))[:, 0])  # shuffled anew


def test_pixels_stay_uint8_and_every_minibatch_is_scaled_as_pixels_scales(xp):
    ours = trainer(game(xp), images())
    assert ours.images.dtype == np.uint8
    order = random_generator(np, 0, "shuffle", 1).permutation(40)
    assert bits(list(ours._batches(1))) == bits([pixels(images()[order[i : i + 5]]) for i in range(0, 40, 5)])


def test_the_report_is_V_and_mean_D_over_held_out_images_and_fixed_z_without_dropout(xp):
    gan = game(xp, np.float64)
    ours = Trainer(gan, images(), images(1100, seed=1), noise=3, batch_size=5)
    row = ours.train_epoch()
    x = pixels(xp.asarray(images(1100, seed=1)[:1000]), xp, np.float64)
    z = sample_noise("uniform", random_generator(xp, 0, "report"), 1000, 3, np.float64)
    D_x, D_G_z = (1 / (1 + np.exp(-host(gan.D(data)))) for data in (x, gan.G(z)))
    assert row["D_x"] == pytest.approx(D_x.mean(), rel=1e-12)
    assert row["D_G_z"] == pytest.approx(D_G_z.mean(), rel=1e-12)
    assert row["value"] == pytest.approx(np.log(D_x).mean() + np.log(1 - D_G_z).mean(), rel=1e-12)


def test_costs_are_means_over_the_epoch_and_rates_those_of_its_last_update(monkeypatch):
    ours, costs = trainer(game(dtype=np.float64, generator_steps=3)), []
    iteration = ours.gan.iteration

    def recorded(*args):
        costs.append(iteration(*args))
        return costs[-1]

    monkeypatch.setattr(ours.gan, "iteration", recorded)
    ours.train_epoch()
    row = ours.train_epoch()
    assert (row["discriminator_cost"], row["generator_cost"]) == pytest.approx(np.mean(costs[8:], axis=0), rel=1e-12)
    assert (ours.gan.D_optimizer.updates, ours.gan.G_optimizer.updates) == (16, 48)  # each player counts its own
    assert row["learning_rate"] == pytest.approx(0.1 / 1.01 ** (48 - 1), rel=1e-12)
    assert (row["epoch"], row["momentum"]) == (2, momentum_schedule(2))


def test_momentum_is_a_function_of_the_epoch():
    ours = trainer(momentum=lambda epoch: epoch / 10)
    for epoch in (1, 2, 3):
        assert ours.train_epoch()["momentum"] == ours.gan.D_optimizer.momentum == epoch / 10


def test_nothing_is_copied_in_an_iteration_and_one_reading_ends_the_epoch(strict_xp, transfers, monkeypatch):
    ours = trainer(game(strict_xp))
    iteration = ours.gan.iteration

    def watched(*args):
        with no_transfers():
            return iteration(*args)

    monkeypatch.setattr(ours.gan, "iteration", watched)
    transfers.reset()
    ours.train_epoch()
    assert (transfers.to_host, transfers.to_device) == (1, 1)  # the report; the shuffle


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_run_is_the_run_that_never_stopped_bit_for_bit(xp, tmp_path, variant):
    def fresh():
        return trainer(game(xp, variant=variant))

    whole, first, second = fresh(), fresh(), fresh()
    for _ in range(4):
        whole.train_epoch()
    for _ in range(2):
        first.train_epoch()
    first.save(tmp_path / "c.npz", {"note": 1})
    second.train_epoch()  # whatever it did before
    assert second.restore(tmp_path / "c.npz").configuration == {"note": 1}
    assert state(second) == state(first)
    for _ in range(2):
        second.train_epoch()
    assert state(second) == state(whole)


def test_another_seed_is_another_run():
    runs = [trainer(seed=seed) for seed in (0, 1)]
    assert runs[0].train_epoch() != runs[1].train_epoch()


def test_a_checkpoint_of_other_networks_is_refused_and_changes_nothing(tmp_path):
    ours = trainer()
    ours.save(tmp_path / "c.npz")
    wider, double = trainer(game()), trainer(game(dtype=np.float64))
    wider.gan.D = discriminator(keep=1.0)
    for other, words in (wider, "another architecture: its D is"), (double, "float32 where .* float64"):
        before = state(other)
        with pytest.raises(CheckpointError, match=words):
            other.restore(tmp_path / "c.npz")
        assert state(other) == before


def test_a_checkpoint_without_the_updates_is_refused_and_changes_nothing(tmp_path, monkeypatch):
    ours, other = trainer(), trainer()
    ours.train_epoch()
    ours.gan.G_optimizer.updates = None
    with monkeypatch.context() as patch:
        patch.setattr("tinygan.checkpoint._parse", lambda text: None)
        ours.save(tmp_path / "c.npz")
    before = state(other)
    with pytest.raises(CheckpointError, match="how many updates"):
        other.restore(tmp_path / "c.npz")
    assert state(other) == before


def test_a_cost_that_is_not_finite_is_divergence_and_the_message_says_all(xp):
    ours = trainer(game(xp))
    ours.train_epoch()
    weights = ours.gan.G.parameters()["2.W"]
    weights[2, 1] = float("nan")
    with pytest.raises(DivergenceError) as caught:
        ours.train_epoch()
    words = "iteration 1 of epoch 2|the cost of D is nan|of D's 6 parameters are not finite, the first is 1.W of Maxout"
    for part in (words + "|4 of G's 4 parameters|The learning rate is 0.09235 for G, 0.09235 for D|intact").split("|"):
        assert part in str(caught.value)
    assert ours.epoch == len(ours.metrics) == 1


def test_a_parameter_lost_in_the_last_update_is_divergence_though_every_cost_is_finite(monkeypatch):
    ours = trainer()
    iteration, count = ours.gan.iteration, []

    def spoil(*args):
        costs = iteration(*args)
        count.append(1)
        if len(count) == ours.iterations:
            ours.gan.G.theta[-1] = np.inf
        return costs

    monkeypatch.setattr(ours.gan, "iteration", spoil)
    with pytest.raises(DivergenceError, match=r"iteration 8 of epoch 1: a parameter is not finite.* first is 2\.b of Linear"):
        ours.train_epoch()


def test_a_cost_beyond_the_bound_is_divergence_while_every_number_is_still_finite():
    """η = 1e6 sends the logits beyond the bound in a few updates. The layer named is the one that grew most."""
    ours = trainer(game(learning_rate=1e6))
    with pytest.raises(DivergenceError) as caught:
        ours.train_epoch()
    D = ours.gan.D.parameters()
    largest = max(D, key=lambda name: abs(D[name]).max())
    assert np.isfinite(ours.gan.D.theta).all()
    assert f"beyond the bound of {COST_BOUND:.0f} nats; the largest entry of D is" in str(caught.value)
    assert f", in {largest} of {ours.gan.D.layers[int(largest[0])]!r}" in str(caught.value)
    assert "The learning rate is 1e+06 for G, 1e+06 for D: lower it" in str(caught.value)


def test_on_a_device_a_long_epoch_is_looked_at_every_hundred_iterations(strict_xp, transfers, monkeypatch):
    monkeypatch.setattr("tinygan.training.LOOK", 3)
    ours, calls = trainer(game(strict_xp)), []
    transfers.reset()
    ours.train_epoch()
    assert transfers.to_host == 1 + 8 // 3

    def spoil():
        calls.append(1)
        if len(calls) == 4:
            ours.gan.D.theta[...] = float("nan")

    with pytest.raises(DivergenceError, match="iteration 5 of epoch 2"):
        ours.train_epoch(spoil)
    assert len(calls) == 6


def test_an_overflowing_maximum_likelihood_cost_says_when():
    ours = trainer(game(generator_cost="maximum_likelihood"))
    ours.gan.D.parameters()["5.b"][...] = 100
    with pytest.raises(DivergenceError, match="iteration 1 of epoch 1: maximum likelihood cost: .* lower it"):
        ours.train_epoch()


def test_too_few_images_for_one_iteration_are_refused():
    with pytest.raises(ArgumentError, match="9 images make no iteration with k = 2 and minibatches of 5"):
        trainer(game(k=2), images(9))
    with pytest.raises(ArgumentError, match="minibatches of 0"):
        trainer(batch_size=0)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool])
def test_images_that_are_neither_uint8_nor_floats_are_refused(dtype):
    with pytest.raises(ArgumentError, match=f"images are {np.dtype(dtype)}: give uint8"):
        trainer(data=images().astype(dtype))
    with pytest.raises(ArgumentError, match=f"validation are {np.dtype(dtype)}: give uint8"):
        Trainer(game(), images(), images().astype(dtype))
    with pytest.raises(ArgumentError, match="images are list"):
        trainer(data=images().tolist())


def test_nothing_to_validate_on_is_refused_before_an_epoch_is_spent():
    with pytest.raises(ArgumentError, match="validation is empty"):
        Trainer(game(), images(), images(0), batch_size=5)


def test_divergence_of_a_game_whose_generator_has_no_parameters():
    G, D = Network([Sigmoid()]), discriminator(np.float32)
    ours = trainer(GAN(G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1)), noise=4)
    D.theta[...] = np.nan
    with pytest.raises(DivergenceError, match=r"6 of D's 6 parameters are not finite.*; G has no parameters\. The"):
        ours.train_epoch()


def test_after_iteration_is_called_after_each():
    calls = []
    trainer().train_epoch(lambda: calls.append(1))
    assert len(calls) == 8


@pytest.mark.parametrize("n", [1, 1000, 2300])
def test_generate_is_G_of_noise_from_the_generator_given_block_by_block(xp, n):
    G = generator(np.float32, xp)
    samples = generate(G, n, random_generator(xp, 0, "x"), prior="gaussian", noise=3)
    rng = random_generator(xp, 0, "x")
    z = [sample_noise("gaussian", rng, m, 3) for m in [1000] * (n // 1000) + [n % 1000] * (n % 1000 > 0)]
    assert samples.shape == (n, 4)
    np.testing.assert_allclose(host(samples), host(G(xp.concatenate(z))), rtol=1e-5)
