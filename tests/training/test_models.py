"""Models that are not a GAN of two networks, each a short class. Nothing in tinygan knows one of them."""

import numpy as np
import pytest
from helpers import bits, discriminator, everything, generator
from strict_cupy import host, no_transfers

from tinygan import (
    GAN,
    Adam,
    ArgumentError,
    BatchNorm,
    CheckpointError,
    DivergenceError,
    Dropout,
    LeakyReLU,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Player,
    ReLU,
    Sigmoid,
    Streams,
    Tanh,
    Trainer,
    Uniform,
    load_checkpoint,
    softmax_cross_entropy,
    squared_error,
)

M = 5


class Rows:
    """Three patterns of 4 pixels, some of them noisy, and which pattern each row is."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 3, n).astype(np.int16)
        self.images = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 0]], np.uint8)[self.labels]
        self.images ^= (rng.random((n, 4)) < 0.05).astype(np.uint8) * 255


TRAIN, VALIDATION = Rows(60, 0), Rows(30, 1)


def linear(n_in, n_out):
    return Linear(n_in, n_out, weight=Uniform(0.8))


def player(layers, optimizer, rate, xp, seed):
    network = Network(layers, seed=seed, xp=xp)
    return Player(network, optimizer(network.theta, rate))


class Model:
    """What these models share: a gradient for each player."""

    draws = 1
    state = {}

    def __init__(self, **players):
        self.players = players
        self.grads = {name: network.xp.empty_like(network.theta) for name, (network, _) in players.items()}

    def sample(self, n, rng):
        raise NotImplementedError


class Classifier(Model):
    """One player, and labels."""

    def __init__(self, xp, seed):
        super().__init__(C=player([linear(4, 8), ReLU(), Dropout(0.8), linear(8, 3)], Adam, 0.02, xp, seed))

    def iteration(self, batches, streams):
        network, optimizer = self.players["C"]
        x, y = next(batches)
        logits, cache = network.forward(x, train=True, rng=streams["dropout"])
        cost, dlogits = softmax_cross_entropy(logits, y)
        network.backward(dlogits, cache, self.grads["C"], need_dx=False)
        optimizer.step(self.grads["C"])
        return {"cross_entropy": cost}

    def report(self, held_out, streams):
        network = self.players["C"].network
        return {"accuracy": (network(held_out.x).argmax(axis=1) == held_out.y).mean()}


class Autoencoder(Model):
    """Two players, and one cost; each with an optimiser of its own kind."""

    def __init__(self, xp, seed, rate=0.1):
        super().__init__(
            encoder=player([linear(4, 3), Tanh()], MomentumSGD, rate, xp, seed),
            decoder=player([linear(3, 4), Sigmoid()], Adam, 0.02, xp, seed + 1),
        )

    def iteration(self, batches, streams):
        encoder, decoder = (player.network for player in self.players.values())
        x = next(batches).x
        code, encoder_cache = encoder.forward(x, train=True)
        y, decoder_cache = decoder.forward(code, train=True)
        cost, dy = squared_error(y, x)
        dcode = decoder.backward(dy, decoder_cache, self.grads["decoder"])
        encoder.backward(dcode, encoder_cache, self.grads["encoder"], need_dx=False)
        self.update()
        return {"cost": cost}

    def update(self):
        for name, (_, optimizer) in self.players.items():
            optimizer.step(self.grads[name])

    def report(self, held_out, streams):
        encoder, decoder = (player.network for player in self.players.values())
        return {"held_out_cost": squared_error(decoder(encoder(held_out.x)), held_out.x)[0]}


def small_gan(xp, seed, kind=GAN):
    G, D = generator(np.float32, xp, seed), discriminator(np.float32, xp, seed + 1, keep=0.5)
    players = (MomentumSGD(network.theta, 0.1) for network in (G, D))
    return kind(G, D, *players, noise=Noise("uniform", 3), batch_size=M)


class Inference(GAN):
    """A GAN with a third player: E learns z from G(z). G does not learn from E."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.E = player([linear(4, 8), ReLU(), linear(8, 3)], Adam, 0.02, self.G.xp, 3)
        self.E_grad = self.G.xp.empty_like(self.E.network.theta)

    @property
    def players(self):
        return {**super().players, "E": self.E}

    def iteration(self, batches, streams):
        costs = super().iteration(batches, streams)
        z = self.noise(streams["E's noise"], self.batch_size)
        guess, cache = self.E.network.forward(self.G(z), train=True)
        E_cost, dguess = squared_error(guess, z)
        self.E.network.backward(dguess, cache, self.E_grad, need_dx=False)
        self.E.optimizer.step(self.E_grad)
        return costs | {"inference_cost": E_cost}


def normalised_gan(xp, seed):
    """Batch norm in both players: running statistics, which a resume needs too."""
    G = [linear(3, 8), BatchNorm(8), ReLU(), linear(8, 4), Sigmoid()]
    D = [linear(4, 8), BatchNorm(8), LeakyReLU(), linear(8, 1)]
    (G, G_optimizer), (D, D_optimizer) = (player(layers, Adam, 0.01, xp, seed) for layers in (G, D))
    return GAN(G, D, G_optimizer, D_optimizer, noise=Noise("gaussian", 3), batch_size=M, k=2)


class Boltzmann(Model):
    """A restricted Boltzmann machine: persistent contrastive divergence, whose chains the next iteration needs.

    p(hⱼ = 1) = σ(v W + b)ⱼ, p(vᵢ = 1) = σ(h Wᵀ)ᵢ; ∂ log p/∂W is vᵀh over data less vᵀh over the chains.
    """

    def __init__(self, xp, seed):
        super().__init__(RBM=player([linear(4, 6)], MomentumSGD, 0.1, xp, seed))
        self.chains = xp.zeros((M, 4), np.float32)
        self.state = {"chains": self.chains}
        self.W, self.xp = self.players["RBM"].network.parameters()["0.W"], xp

    def hidden(self, v):
        return 1 / (1 + self.xp.exp(-self.players["RBM"].network(v)))

    def visible(self, h):
        return 1 / (1 + self.xp.exp(-(h @ self.W.T)))

    def error(self, x):
        return squared_error(self.visible(self.hidden(x)), x)[0]

    def iteration(self, batches, streams):
        network, optimizer = self.players["RBM"]
        x, rng = next(batches).x, streams["chains"]
        h = (rng.random((M, 6), dtype=np.float32) < self.hidden(self.chains)).astype(np.float32)
        self.chains[...] = (rng.random((M, 4), dtype=np.float32) < self.visible(h)).astype(np.float32)
        h_data, h_chains = self.hidden(x), self.hidden(self.chains)
        grads = network.views(self.grads["RBM"])
        grads["0.W"][...] = (self.chains.T @ h_chains - x.T @ h_data) / M
        grads["0.b"][...] = (h_chains - h_data).mean(axis=0)
        optimizer.step(self.grads["RBM"])
        return {"reconstruction_error": self.error(x)}

    def report(self, held_out, streams):
        return {"held_out_error": self.error(held_out.x)}


MODELS = {
    "classifier": Classifier,
    "autoencoder": Autoencoder,
    "a third player": lambda xp, seed: small_gan(xp, seed, Inference),
    "batch norm": normalised_gan,
    "chains": Boltzmann,
}
COSTS = {
    "classifier": "cross_entropy",
    "autoencoder": "cost",
    "a third player": "inference_cost",
    "batch norm": "discriminator_cost",
    "chains": "reconstruction_error",
}
VECTORS = {
    "classifier": {"C.theta", "C.first_moment", "C.second_moment"},
    "autoencoder": {"encoder.theta", "encoder.velocity", "decoder.theta", "decoder.first_moment", "decoder.second_moment"},
    "a third player": {
        *("G.theta", "G.velocity", "D.theta", "D.velocity", "E.theta", "E.first_moment", "E.second_moment"),
    },
    "batch norm": {f"{name}.{what}" for name in "GD" for what in ("theta", "first_moment", "second_moment", "statistics")},
    "chains": {"RBM.theta", "RBM.velocity", "state.chains"},
}
ROWS = {
    "classifier": {"accuracy"},
    "autoencoder": {"held_out_cost", "momentum"},
    "a third player": {"value", "D_x", "D_G_z", "discriminator_cost", "generator_cost", "momentum"},
    "batch norm": {"value", "D_x", "D_G_z", "generator_cost"},
    "chains": {"held_out_error", "momentum"},
}


def trainer(name, xp=np, seed=1, models=MODELS):
    return Trainer(models[name](xp, seed), TRAIN, VALIDATION, batch_size=M, seed=7)


@pytest.mark.parametrize("name", MODELS)
def test_its_cost_falls_and_is_reported_under_its_own_name(xp, name):
    ours = trainer(name, xp)
    rows = [ours.train_epoch() for _ in range(4)]
    assert rows[3][COSTS[name]] < rows[0][COSTS[name]]
    assert set(rows[3]) == ROWS[name] | {"epoch", "learning_rate", COSTS[name]}


@pytest.mark.parametrize("name", MODELS)
def test_a_run_resumed_after_2_epochs_of_4_is_the_run_that_never_stopped_bit_for_bit(xp, tmp_path, name):
    whole, resumed = trainer(name, xp), trainer(name, xp, seed=5)
    for _ in range(4):
        whole.train_epoch()
        if whole.epoch == 2:
            whole.save(tmp_path / "c.npz")
            halfway = everything(whole)
    resumed.train_epoch()  # whatever it did before
    resumed.restore(tmp_path / "c.npz")
    assert everything(resumed) == halfway
    for _ in range(2):
        resumed.train_epoch()
    assert everything(resumed) == everything(whole)


@pytest.mark.parametrize("name", MODELS)
def test_its_checkpoint_holds_what_its_players_optimisers_layers_and_state_name(tmp_path, name):
    ours = trainer(name)
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    saved = load_checkpoint(tmp_path / "c.npz", {name: player.network for name, player in ours.model.players.items()})
    assert set(saved.vectors) == VECTORS[name]
    for vector, values in saved.vectors.items():
        who, what = vector.split(".")
        network, optimizer = ours.model.players.get(who, (None, None))
        kept = (
            ours.model.state if who == "state" else {"theta": network.theta, "statistics": network.statistics} | optimizer.state
        )
        assert values.tobytes() == kept[what].tobytes()
        assert values.any(), f"{vector} is all 0: an epoch has not moved it"


@pytest.mark.parametrize("name", MODELS)
def test_on_a_device_nothing_is_copied_in_its_iterations_and_one_reading_ends_the_epoch(
    strict_xp, transfers, monkeypatch, name
):
    ours = trainer(name, strict_xp)
    iteration = ours.model.iteration

    def watched(*args):
        with no_transfers():
            return iteration(*args)

    monkeypatch.setattr(ours.model, "iteration", watched)
    transfers.reset()
    ours.train_epoch()
    assert (transfers.to_host, transfers.to_device) == (1, 1)  # the report; the shuffle


def test_a_checkpoint_of_any_other_model_is_refused_and_changes_nothing(tmp_path):
    models = MODELS | {"two players": small_gan}
    ours = {name: trainer(name, models=models) for name in models}
    for name in models:
        ours[name].train_epoch()
        ours[name].save(tmp_path / f"{name}.npz")
    for name in models:
        for other in models:
            before = everything(ours[name])
            if other != name:
                with pytest.raises(CheckpointError, match=f"{other}.npz"):
                    ours[name].restore(tmp_path / f"{other}.npz")
            assert everything(ours[name]) == before, (name, other)


# ---------------------------------------------------------------------------------------------------------------------
# Each by itself
# ---------------------------------------------------------------------------------------------------------------------


def test_the_held_out_labels_are_those_of_the_held_out_rows(xp):
    ours = trainer("classifier", xp)
    row = ours.train_epoch()
    guesses = host(ours.model.players["C"].network(xp.asarray(VALIDATION.images.astype(np.float32) / 255))).argmax(axis=1)
    assert row["accuracy"] == pytest.approx((guesses == VALIDATION.labels).mean(), rel=1e-6)


def test_a_third_player_that_only_watches_leaves_the_game_as_it_was_bit_for_bit(xp):
    two, three = trainer("gan", xp, models={"gan": small_gan}), trainer("a third player", xp)
    rows = [[ours.train_epoch() for _ in range(2)] for ours in (two, three)]
    for with_E in rows[1]:
        del with_E["inference_cost"]
    assert rows[0] == rows[1]
    assert bits([two.model.G.theta, two.model.D.theta]) == bits([three.model.G.theta, three.model.D.theta])
    assert three.model.players["E"].optimizer.updates == 24


def test_state_is_restored_in_place(xp, tmp_path):
    ours = trainer("chains", xp)
    chains = ours.model.chains
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    saved = bits(chains)
    ours.train_epoch()
    assert bits(chains) != saved
    ours.restore(tmp_path / "c.npz")
    assert ours.model.chains is chains
    assert bits(chains) == saved


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        ({"chains": np.zeros((M + 1, 4), np.float32)}, ["state.chains", "20", "24"]),
        ({"chains": np.zeros((M, 4), np.float64)}, ["state.chains", "float32", "float64"]),
        ({"particles": np.zeros((M, 4), np.float32)}, ["state.chains", "state.particles"]),
        ({}, ["state.chains"]),
    ],
)
def test_state_of_another_size_dtype_or_name_is_refused_and_changes_nothing(tmp_path, state, facts):
    ours, other = trainer("chains"), trainer("chains")
    ours.train_epoch()
    ours.save(tmp_path / "c.npz")
    other.model.state = state
    before = everything(other)
    with pytest.raises(CheckpointError) as caught:
        other.restore(tmp_path / "c.npz")
    assert all(fact in str(caught.value) for fact in (str(tmp_path / "c.npz"), *facts))
    assert everything(other) == before


def test_the_report_is_computed_with_the_running_statistics(xp):
    """So a checkpoint without them would not resume the run."""
    ours = trainer("batch norm", xp)
    value = ours.train_epoch()["value"]

    def report():
        return ours.model.report(ours.held_out, Streams(7, 0, xp))["value"]

    assert float(report()) == value
    ours.model.D.statistics = 1.0
    assert float(report()) != value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_divergence_and_the_message_names_them(xp, value):
    ours = trainer("batch norm", xp)

    def spoil():
        if ours.model.G_optimizer.updates == ours.iterations:
            ours.model.G.statistics[9] = value

    with pytest.raises(
        DivergenceError, match=r"iteration 6 of epoch 1: .*entry of G is.* 1 of its 16 running statistics.*of D"
    ):
        ours.train_epoch(spoil)
    assert ours.epoch == 0


class Patient(Autoencoder):
    """Its first player does not learn before the fourth epoch. η = 0.1/t, t = 1, 2, …: there is no η of update 0."""

    def __init__(self, xp, seed):
        super().__init__(xp, seed, rate=lambda t: 0.1 / t)

    def update(self):
        self.players["decoder"].optimizer.step(self.grads["decoder"])


def test_the_learning_rate_of_a_player_that_has_not_learned_yet_is_that_of_its_first_update():
    ours = trainer("patient", models={"patient": Patient})
    assert ours.train_epoch()["learning_rate"] == 0.1
    ours.model.players["decoder"].network.theta[0] = np.nan
    with pytest.raises(DivergenceError, match=r"0\.1 for encoder, 0\.02 for decoder"):
        ours.train_epoch()


@pytest.mark.parametrize("name", ["cost", "epoch", "learning_rate", "momentum"])
def test_two_figures_of_one_name_are_refused_since_one_would_hide_the_other(monkeypatch, name):
    ours = trainer("autoencoder")
    monkeypatch.setattr(ours.model, "report", lambda *_: {name: np.float32(1), "fine": np.float32(2)})
    with pytest.raises(ArgumentError, match=name) as caught:
        ours.train_epoch()
    assert "fine" not in str(caught.value)
    assert ours.epoch == len(ours.metrics) == 0


def test_a_model_without_a_batch_size_has_minibatches_of_100_or_what_it_is_given():
    model = Classifier(np, 1)
    assert Trainer(model, TRAIN, VALIDATION, batch_size=7).iterations == 60 // 7
    with pytest.raises(ArgumentError, match="60 rows .* 1 × 100"):
        Trainer(model, TRAIN, VALIDATION)
