"""Epochs, reports, the guard and resuming, against their definitions: with a GAN. Other models: test_models.py."""

import numpy as np
import pytest
from helpers import bits, discriminator, everything, forge, generator
from strict_cupy import host, no_transfers

from tinygan import (
    GAN,
    PRIORS,
    VARIANTS,
    Adam,
    ArgumentError,
    Batch,
    CheckpointError,
    DivergenceError,
    Generator,
    MomentumSGD,
    Network,
    Noise,
    Player,
    Sigmoid,
    Trainer,
    generate,
    guard,
    learning_rate_schedule,
    load_checkpoint,
    momentum_schedule,
    pixels,
    random_generator,
)
from tinygan.training import COST_BOUND


def images(n=40, seed=0):
    """n rows of 4 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (n, 4), dtype=np.uint8)


class Rows:
    """Part of a data set: its labels are the numbers of its rows."""

    def __init__(self, images):
        self.images, self.labels = images, np.arange(len(images), dtype=np.int16)


def rate(t):
    return learning_rate_schedule(t, 0.1, decay=1.01)


SGD = (MomentumSGD, MomentumSGD)


def game(xp=np, dtype=np.float32, learning_rate=rate, variant="simultaneous", optimizers=SGD, seed=1, keep=0.5, **options):
    G, D = generator(dtype, xp, seed), discriminator(dtype, xp, seed + 1, keep)
    players = (optimizer(network.theta, learning_rate) for optimizer, network in zip(optimizers, (G, D), strict=True))
    return VARIANTS[variant](G, D, *players, **{"noise": Noise("uniform", 3), "batch_size": 5} | options)


def trainer(gan=None, data=None, **options):
    data = images() if data is None else data
    return Trainer(game() if gan is None else gan, data, images(30, seed=1), **options)


def spy(monkeypatch, model, watch):
    """After each iteration of the model, watch(its costs)."""
    iteration = model.iteration

    def watched(*args):
        costs = iteration(*args)
        watch(costs)
        return costs

    monkeypatch.setattr(model, "iteration", watched)


# ---------------------------------------------------------------------------------------------------------------------
# An epoch
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "prior"), list(zip(VARIANTS, PRIORS, strict=True)))
def test_an_epoch_is_algorithm_1_with_the_generators_of_seed_purpose_and_epoch(xp, variant, prior):
    """The definition, written out: two epochs of a Trainer and of a plain loop end in the same bits."""
    options = {"variant": variant, "k": 2, "noise": Noise(prior, 3)}
    ours = trainer(game(xp, **options), images(43), seed=7)
    gan, x = game(xp, **options), xp.asarray(images(43))
    for epoch in (1, 2):
        ours.train_epoch()
        order = xp.asarray(random_generator(np, 7, "shuffle", epoch).permutation(43))
        batches = (Batch(pixels(x[order[i : i + 5]], xp)) for i in range(0, 40, 5))
        streams = {purpose: random_generator(xp, 7, purpose, epoch) for purpose in ("noise", "dropout")}
        gan.G_optimizer.momentum = gan.D_optimizer.momentum = momentum_schedule(epoch)
        for _ in range(43 // (2 * 5)):
            gan.iteration(batches, streams)
    assert bits([ours.model.G.theta, ours.model.D.theta]) == bits([gan.G.theta, gan.D.theta])
    assert bits([o.state for o in (ours.model.G_optimizer, ours.model.D_optimizer)]) == bits(
        [gan.G_optimizer.velocity, gan.D_optimizer.velocity]
    )


OF_THE_FIRST_RELEASE = {  # of these games, two epochs in float64: computed by the code of format 1
    ("simultaneous", "uniform"): (-1.4163453198774891, 0.4675730608721592, 0.7188587206512889, 0.669930917568338),
    ("alternating", "gaussian"): (-1.373732044649386, 0.5120621209822138, 0.6937290820145703, 0.6715398060062661),
    ("printed", "spherical"): (-1.3547140102198714, 0.5167674779407699, 1.3734216064711744, -0.7034216794475401),
}


@pytest.mark.parametrize(("variant", "prior"), OF_THE_FIRST_RELEASE)
def test_a_run_has_the_numbers_that_it_had_in_the_first_release(variant, prior):
    """Shuffles, noise, masks, initial parameters, updates and schedules: a change in any of them is seen here."""
    gan = game(dtype=np.float64, variant=variant, noise=Noise(prior, 3), k=2, generator_steps=2)
    ours = trainer(gan, images(43), seed=7)
    ours.train_epoch()
    row = ours.train_epoch()
    names = ("value", "D_x", "discriminator_cost", "generator_cost")
    assert [row[name] for name in names] == pytest.approx(OF_THE_FIRST_RELEASE[variant, prior], rel=1e-9)


SHUFFLES = {  # (seed, epoch): the first rows of 43
    (0, 1): [41, 35, 32, 20, 13, 33, 12, 28],
    (0, 2): [42, 9, 6, 32, 17, 22, 11, 36],
    (7, 1): [21, 20, 24, 23, 7, 30, 10, 18],
}


@pytest.mark.parametrize(("seed", "epoch"), SHUFFLES)
def test_the_shuffles_are_these_on_every_backend_and_labels_come_in_their_order(xp, monkeypatch, seed, epoch):
    data = Rows(np.arange(43 * 4, dtype=np.float32).reshape(43, 4) / 256)
    ours, seen = trainer(game(xp), data, seed=seed), []

    def iteration(batches, streams):
        seen.append(next(batches))
        return {"cost": 0.0}

    monkeypatch.setattr(ours.model, "iteration", iteration)
    for _ in range(epoch):
        seen.clear()
        ours.train_epoch()
    rows = np.concatenate([host(batch.x)[:, 0] for batch in seen]) * 64
    labels = np.concatenate([host(batch.y) for batch in seen])
    assert rows[:8].tolist() == SHUFFLES[seed, epoch]
    assert rows.tolist() == labels.tolist()
    assert (labels.dtype, len(set(labels.tolist()))) == (np.int16, 40)
    assert all(type(array) is type(ours.model.G.theta) for batch in seen for array in batch)


def test_one_epoch_shows_every_example_at_most_once_and_drops_the_short_minibatch(monkeypatch):
    data = np.arange(43 * 4).reshape(43, 4).astype(np.float32) / 256
    ours, seen = trainer(game(k=2), data), []

    def iteration(batches, streams):
        seen.append([next(batches).x for _ in range(2)])
        return {"cost": np.float32(0)}

    monkeypatch.setattr(ours.model, "iteration", iteration)
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


def test_another_seed_is_another_run():
    runs = [trainer(seed=seed) for seed in (0, 1)]
    assert runs[0].train_epoch() != runs[1].train_epoch()


def test_after_iteration_is_called_after_each():
    ours, calls = trainer(), []
    ours.train_epoch(lambda: calls.append(ours.model.D_optimizer.updates))
    assert calls == [1, 2, 3, 4, 5, 6, 7, 8]


# ---------------------------------------------------------------------------------------------------------------------
# The data
# ---------------------------------------------------------------------------------------------------------------------


def minibatches(ours, monkeypatch):
    """The minibatches of its next epoch."""
    seen = []
    monkeypatch.setattr(ours.model, "iteration", lambda batches, streams: seen.append(next(batches)) or {"cost": 0.0})
    ours.train_epoch()
    return seen


def test_pixels_stay_uint8_and_every_minibatch_is_scaled_as_pixels_scales(xp, monkeypatch):
    ours = trainer(game(xp), images())
    assert ours.images.dtype == np.uint8
    order = random_generator(np, 0, "shuffle", 1).permutation(40)
    seen = minibatches(ours, monkeypatch)
    assert bits([batch.x for batch in seen]) == bits([pixels(images()[order[i : i + 5]]) for i in range(0, 40, 5)])
    assert all(batch.y is None for batch in seen)  # images alone have no labels


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("prepare", [None, lambda rows, module, dtype: (rows / 2).astype(dtype)])
def test_floats_are_converted_and_prepared_only_as_told(xp, monkeypatch, dtype, prepare):
    data = np.random.default_rng(0).random((40, 4)).astype(dtype)
    ours = Trainer(game(xp), data, data[:9], **({"prepare": prepare} if prepare else {}))
    data = data / 2 if prepare else data
    order = random_generator(np, 0, "shuffle", 1).permutation(40)
    expected = data.astype(np.float32)
    seen = minibatches(ours, monkeypatch)
    assert bits([batch.x for batch in seen]) == bits([expected[order[i : i + 5]] for i in range(0, 40, 5)])
    assert bits(ours.held_out.x) == bits(expected[:9])


def test_all_other_rows_are_prepared_a_minibatch_at_a_time_with_the_networks_module_and_dtype(xp, monkeypatch):
    calls = []

    def prepare(rows, module, dtype):
        calls.append((len(rows), module, np.dtype(dtype)))
        return rows.astype(dtype) / 256

    data = np.arange(160, dtype=np.int32).reshape(40, 4)
    ours = Trainer(game(xp, np.float64), data, data[:30], prepare=prepare)
    assert (30, xp, np.dtype(np.float64)) in calls  # the held-out rows
    calls.clear()
    order = random_generator(np, 0, "shuffle", 1).permutation(40)
    seen = minibatches(ours, monkeypatch)
    assert bits([batch.x for batch in seen]) == bits([data[order[i : i + 5]] / 256 for i in range(0, 40, 5)])
    assert calls == [(5, xp, np.dtype(np.float64))] * 8
    assert bits(ours.held_out.x) == bits(data[:30] / 256)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool])
def test_rows_that_prepare_does_not_take_are_refused_before_an_epoch_is_spent(dtype):
    other = images().astype(dtype)
    for name, train, validation in (("training", other, images()), ("validation", images(), other)):
        with pytest.raises(ArgumentError, match=rf"{name}.* {np.dtype(dtype)}\b.*uint8"):
            Trainer(game(), train, validation)


@pytest.mark.parametrize(
    ("train", "validation", "facts"),
    [
        (images().tolist(), images(), "list"),
        (images(), images().tolist(), "list"),
        (images(), images(0), "no validation"),
        (images(0), images(), "no training"),
        (images(9), images(), "9 rows .* 2 × 5"),
    ],
)
def test_data_that_make_no_epoch_are_refused(train, validation, facts):
    with pytest.raises(ArgumentError, match=facts):
        Trainer(game(k=2), train, validation)


def test_labels_that_are_not_one_for_each_row_are_refused():
    data = Rows(images())
    data.labels = data.labels[:39]
    for train, validation in ((data, images()), (images(), data)):
        with pytest.raises(ArgumentError, match="40 rows have 39 labels"):
            Trainer(game(), train, validation)


@pytest.mark.parametrize(("own", "given"), [(5, 6), (5, 0), (5, 100)])
def test_a_batch_size_that_is_not_the_models_is_refused(own, given):
    with pytest.raises(ArgumentError, match=rf"{own} .*{given}\b"):
        trainer(game(batch_size=own), batch_size=given)


def test_the_batch_size_is_the_models_by_default():
    assert trainer(game(batch_size=4)).batch_size == trainer(game(batch_size=4), batch_size=4).batch_size == 4


@pytest.mark.parametrize("what", ["dtype", "backend"])
def test_players_of_two_dtypes_or_two_backends_are_refused(strict_xp, monkeypatch, what):
    gan = game()
    E = discriminator(np.float64) if what == "dtype" else discriminator(np.float32, strict_xp)
    monkeypatch.setattr(GAN, "players", {**gan.players, "E": Player(E, MomentumSGD(E.theta, 0.1))})
    with pytest.raises(ArgumentError, match=f"one .*{what}"):
        trainer(gan)


# ---------------------------------------------------------------------------------------------------------------------
# What is reported
# ---------------------------------------------------------------------------------------------------------------------


def test_the_report_is_V_and_mean_D_over_held_out_images_and_fixed_z_without_dropout(xp):
    gan = game(xp, np.float64)
    ours = Trainer(gan, images(), Rows(images(1100, seed=1)))
    assert (ours.held_out.x.shape, ours.held_out.y.shape) == ((1000, 4), (1000,))
    for _ in range(2):
        row = ours.train_epoch()
        x = pixels(xp.asarray(images(1100, seed=1)[:1000]), xp, np.float64)
        z = Noise("uniform", 3)(random_generator(xp, 0, "report"), 1000, np.float64)  # the same after every epoch
        D_x, D_G_z = (1 / (1 + np.exp(-host(gan.D(data)))) for data in (x, gan.G(z)))
        assert row["D_x"] == pytest.approx(D_x.mean(), rel=1e-12)
        assert row["D_G_z"] == pytest.approx(D_G_z.mean(), rel=1e-12)
        assert row["value"] == pytest.approx(np.log(D_x).mean() + np.log(1 - D_G_z).mean(), rel=1e-12)


def test_costs_are_means_over_the_epoch_and_rates_those_of_its_last_update(monkeypatch):
    ours, costs = trainer(game(dtype=np.float64, generator_steps=3)), []
    spy(monkeypatch, ours.model, costs.append)
    ours.train_epoch()
    row = ours.train_epoch()
    for name in ("discriminator_cost", "generator_cost"):
        assert row[name] == pytest.approx(np.mean([cost[name] for cost in costs[8:]]), rel=1e-12)
    assert (ours.model.D_optimizer.updates, ours.model.G_optimizer.updates) == (16, 48)  # each player counts its own
    assert row["learning_rate"] == pytest.approx(0.1 / 1.01 ** (48 - 1), rel=1e-12)
    assert (row["epoch"], row["momentum"]) == (2, momentum_schedule(2))
    assert ours.metrics[1] == row
    assert all(type(value) in (int, float) for value in row.values())


def test_momentum_is_a_function_of_the_epoch():
    ours = trainer(momentum=lambda epoch: epoch / 10)
    for epoch in (1, 2, 3):
        row = ours.train_epoch()
        assert row["momentum"] == ours.model.G_optimizer.momentum == ours.model.D_optimizer.momentum == epoch / 10


@pytest.mark.parametrize("optimizers", [(Adam, MomentumSGD), (MomentumSGD, Adam), (Adam, Adam)])
def test_a_momentum_is_set_and_reported_only_where_an_optimiser_has_one(optimizers):
    ours = trainer(game(optimizers=optimizers), momentum=lambda epoch: 0.25)
    row = ours.train_epoch()
    for optimizer in (ours.model.G_optimizer, ours.model.D_optimizer):
        assert getattr(optimizer, "momentum", None) == (0.25 if type(optimizer) is MomentumSGD else None)
    assert row.get("momentum") == (0.25 if MomentumSGD in optimizers else None)
    assert row["learning_rate"] == rate(8)


# ---------------------------------------------------------------------------------------------------------------------
# On a device
# ---------------------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_in_an_iteration_and_one_reading_ends_the_epoch(strict_xp, transfers, monkeypatch):
    ours = trainer(game(strict_xp), Rows(images()))
    iteration = ours.model.iteration

    def watched(*args):
        with no_transfers():
            return iteration(*args)

    monkeypatch.setattr(ours.model, "iteration", watched)
    transfers.reset()
    ours.train_epoch()
    assert (transfers.to_host, transfers.to_device) == (1, 1)  # the report; the shuffle


def test_a_long_epoch_is_looked_at_every_hundred_iterations(strict_xp, transfers, monkeypatch):
    monkeypatch.setattr("tinygan.training.LOOK", 3)
    ours, calls = trainer(game(strict_xp)), []
    transfers.reset()
    ours.train_epoch()
    assert transfers.to_host == 1 + 8 // 3

    def spoil():
        calls.append(1)
        if len(calls) == 4:
            ours.model.D.theta[...] = float("nan")

    with pytest.raises(DivergenceError, match="iteration 5 of epoch 2"):
        ours.train_epoch(spoil)
    assert len(calls) == 6


# ---------------------------------------------------------------------------------------------------------------------
# The guard
# ---------------------------------------------------------------------------------------------------------------------


def rates(gan):
    """The learning rates that a message has to name: those of the last updates."""
    return [f"{rate(gan.players[name].optimizer.updates):.4g} for {name}" for name in "GD"]


def test_a_cost_that_is_not_finite_is_divergence_and_the_message_says_all(xp):
    ours = trainer(game(xp))
    ours.train_epoch()
    ours.model.G.parameters()["2.W"][2, 1] = float("nan")
    with pytest.raises(DivergenceError) as caught:
        ours.train_epoch()
    assert ours.model.D_optimizer.updates == (9 if xp is np else 16)  # on the host every cost is seen at once
    for fact in (
        "iteration 1 of epoch 2: the discriminator cost is nan",
        "6 of D's 6 parameters",
        "1.W of Maxout",
        "4 of G's 4 parameters",
        "0.W of Linear",
        *rates(ours.model),
    ):
        assert fact in str(caught.value)
    assert ours.epoch == len(ours.metrics) == 1


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_parameter_lost_in_the_last_update_is_divergence_though_every_cost_is_finite(xp, monkeypatch, value):
    ours = trainer(game(xp))

    def spoil(costs):
        if ours.model.G_optimizer.updates == ours.iterations:
            ours.model.G.theta[-1] = value

    spy(monkeypatch, ours.model, spoil)
    with pytest.raises(DivergenceError, match=r"iteration 8 of epoch 1: .*1 of G's 4 parameters .*2\.b of Linear"):
        ours.train_epoch()
    assert ours.epoch == len(ours.metrics) == 0


def test_a_cost_beyond_the_bound_is_divergence_while_every_number_is_still_finite():
    """η = 1e6 sends the logits beyond the bound in a few updates. The layer named is the one that grew most."""
    ours = trainer(game(learning_rate=1e6))
    with pytest.raises(DivergenceError) as caught:
        ours.train_epoch()
    D = ours.model.D.parameters()
    largest = max(D, key=lambda name: abs(D[name]).max())
    assert np.isfinite(ours.model.D.theta).all()
    for fact in (
        f"the bound of {COST_BOUND:.0f}",
        f"of D is {abs(D[largest]).max():.4g}, in {largest} of {ours.model.D.layers[int(largest[0])]!r}",
        "1e+06 for G, 1e+06 for D",
    ):
        assert fact in str(caught.value)


def test_an_overflowing_maximum_likelihood_cost_says_when():
    ours = trainer(game(generator_cost="maximum_likelihood"))
    ours.model.D.parameters()["5.b"][...] = 100
    with pytest.raises(DivergenceError, match=r"iteration 1 of epoch 1: maximum likelihood cost.*of G is.*of D is.*for D"):
        ours.train_epoch()


def test_divergence_of_a_game_whose_generator_has_no_parameters(tmp_path):
    G, D = Network([Sigmoid()]), discriminator(np.float32)
    gan = GAN(G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1), noise=Noise("uniform", 4), batch_size=5)
    ours = trainer(gan)
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    D.theta[...] = np.nan
    with pytest.raises(DivergenceError, match=r"G has no parameters; 6 of D's 6 parameters"):
        ours.train_epoch()
    ours.restore(tmp_path / "c.npz")
    assert ours.train_epoch()["epoch"] == 2


@pytest.mark.parametrize(
    ("cost", "seen"),
    [(float("nan"), "nan"), (float("inf"), "inf"), (-float("inf"), "-inf"), (1.01e4, "1.01e+04"), (-1.01e4, "-1.01e+04")],
)
@pytest.mark.parametrize("kind", [float, np.float32, np.array])
def test_the_guard_of_a_plain_loop_says_which_cost_of_which_player_and_where(cost, seen, kind):
    gan = game()
    with pytest.raises(DivergenceError) as caught:
        guard({"first": kind(0.5), "generator_cost": kind(cost)}, gan.players, "step 12 of my loop")
    for fact in ("step 12 of my loop", f"generator cost is {seen}", "of G is", "of D is", "0.1 for G", "0.1 for D"):
        assert fact in str(caught.value)
    assert "first" not in str(caught.value)


@pytest.mark.parametrize("cost", [0.0, COST_BOUND, -COST_BOUND, np.float32(-3)])
def test_the_guard_lets_costs_within_the_bound_pass(cost):
    guard({"cost": cost}, game().players)


# ---------------------------------------------------------------------------------------------------------------------
# Saving and resuming
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizers", [(MomentumSGD, MomentumSGD), (Adam, MomentumSGD)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_run_is_the_run_that_never_stopped_bit_for_bit(xp, tmp_path, variant, optimizers):
    def fresh(seed=1):
        return trainer(game(xp, variant=variant, optimizers=optimizers, seed=seed))

    whole, first, second = fresh(), fresh(), fresh(seed=5)
    for _ in range(4):
        whole.train_epoch()
    for _ in range(2):
        first.train_epoch()
    first.save(tmp_path / "c.npz", {"note": 1})
    second.train_epoch()  # whatever it did before
    assert second.restore(tmp_path / "c.npz").configuration == first.model.settings | {"note": 1}
    assert everything(second) == everything(first)
    for _ in range(2):
        second.train_epoch()
    assert everything(second) == everything(whole)


def test_a_checkpoint_names_what_each_optimiser_keeps_and_says_the_models_settings(tmp_path):
    ours = trainer(game(optimizers=(Adam, MomentumSGD), k=2, noise=Noise("gaussian", 3)), images(60))
    ours.train_epoch()
    ours.save(tmp_path / "c.npz", {"variant": "my own name", "note": 1})
    saved = load_checkpoint(tmp_path / "c.npz")
    assert set(saved.vectors) == {"G.theta", "G.first_moment", "G.second_moment", "D.theta", "D.velocity"}
    assert bits(saved.vectors["G.second_moment"]) == bits(ours.model.G_optimizer.second_moment)
    assert saved.updates == {"G": 6, "D": 12}
    assert saved.architecture == {"G": ours.model.G.describe(), "D": ours.model.D.describe()}
    assert saved.configuration == {
        "variant": "my own name", "note": 1, "generator_cost": "non_saturating", "k": 2, "generator_steps": 1,
        "batch_size": 5, "prior": "gaussian", "noise": 3,
    }  # fmt: skip


def test_what_is_saved_is_not_changed_by_the_epochs_that_follow_a_restore(tmp_path):
    ours = trainer()
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    checkpoint = ours.restore(tmp_path / "c.npz")
    before = bits(checkpoint.vectors)
    ours.train_epoch()
    assert bits(checkpoint.vectors) == before


REFUSED = {
    "a D without dropout": (lambda: game(keep=1.0), ["its D is", "Dropout", "'keep': 0.5", "'keep': 1.0"]),
    "float64": (lambda: game(dtype=np.float64), ["G.theta", "float32", "float64"]),
    "Adam for G": (lambda: game(optimizers=(Adam, MomentumSGD)), ["G.velocity", "G.first_moment"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_checkpoint_of_other_networks_is_refused_and_changes_nothing(tmp_path, what):
    ours = trainer()
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    make, facts = REFUSED[what]
    other = trainer(make())
    before = everything(other)
    with pytest.raises(CheckpointError) as caught:
        other.restore(tmp_path / "c.npz")
    assert all(fact in str(caught.value) for fact in (str(tmp_path / "c.npz"), *facts))
    assert everything(other) == before


@pytest.mark.parametrize("updates", [{"G": 8}, {"G": 8, "D": None}, {"G": 8, "D": 8, "E": 8}])
def test_a_checkpoint_without_the_updates_is_refused_and_changes_nothing(tmp_path, updates):
    ours, other = trainer(), trainer()
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    saved = load_checkpoint(tmp_path / "c.npz")
    fields = {name: getattr(saved, name) for name in ("epoch", "architecture", "metrics", "configuration")}
    forge(tmp_path / "c.npz", saved.vectors, {"format": 2, "updates": updates} | fields)
    before = everything(other)
    with pytest.raises(CheckpointError, match="updates"):
        other.restore(tmp_path / "c.npz")
    assert everything(other) == before


# ---------------------------------------------------------------------------------------------------------------------
# Samples
# ---------------------------------------------------------------------------------------------------------------------


def test_what_draws_once_takes_a_seed_and_the_same_seed_gives_the_same_samples(xp):
    gan = game(xp)
    pair = Generator(gan.G, gan.noise)
    draws = (lambda seed: generate(pair, 5, seed)), (lambda seed: pair.sample(5, seed)), (lambda seed: gan.sample(5, seed))
    drawn = [bits(draw(seed)) for seed in (3, np.int64(3)) for draw in draws]
    assert all(each == drawn[0] for each in drawn)
    assert bits(pair.sample(5)) == bits(pair.sample(5, 0)) != drawn[0]


@pytest.mark.parametrize("n", [1, 1000, 2300])
def test_generate_is_G_of_noise_from_the_generator_given_block_by_block(xp, n):
    G, noise = generator(np.float32, xp), Noise("gaussian", 3)
    samples = generate(Generator(G, noise), n, random_generator(xp, 0, "x"))
    rng = random_generator(xp, 0, "x")
    z = [noise(rng, m) for m in [1000] * (n // 1000) + [n % 1000] * (n % 1000 > 0)]
    assert samples.shape == (n, 4)
    np.testing.assert_allclose(host(samples), host(G(xp.concatenate(z))), rtol=1e-5)
