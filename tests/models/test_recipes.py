"""tinygan/recipes.py: the MNIST recipe is the released code's, each of its settings reaches the game, and `calm` departs."""

import numpy as np
import pytest
from helpers import bits, discriminator, generator

from tinygan import (
    GENERATOR_COSTS,
    PRIORS,
    VARIANTS,
    ArgumentError,
    Batch,
    MomentumSGD,
    Noise,
    Streams,
    Trainer,
    bias_from_marginals,
    learning_rate_schedule,
    momentum_schedule,
)
from tinygan.recipes import CALM, MNIST, Calm, mnist, mnist_networks, momentum

SMALL = MNIST | {"generator_width": 16, "discriminator_width": 8, "batch_size": 10}
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 36), dtype=np.uint8)
IMAGES[:, 0] = 0
BIAS = bias_from_marginals(IMAGES)


def game(**settings):
    return mnist(SMALL | settings, BIAS)


# ---- The released recipe


def test_the_networks_and_their_start_are_the_recipes():
    bias = np.linspace(-16, 1, 784)
    gan = mnist(MNIST, bias)
    assert (gan.G.theta.size, gan.D.theta.size) == (2_503_984, 1_231_441)
    assert repr(gan.G) == (
        "Network([Linear(100, 1200), ReLU(), Linear(1200, 1200), ReLU(), Linear(1200, 784), Sigmoid()])"
    )
    assert repr(gan.D) == (
        "Network([Dropout(0.8), Maxout(784, 240, 5), Dropout(0.5), Maxout(240, 240, 5), Dropout(0.5), Linear(240, 1)])"
    )
    for network, radius in (gan.G, 0.05), (gan.D, 0.005):
        for name, values in network.parameters().items():
            if name.endswith("W"):  # uniform: to both ends, and half of them in the middle half
                assert 0.95 * radius < values.max() <= radius
                assert -radius <= values.min() < -0.95 * radius
                assert (abs(values) < radius / 2).mean() == pytest.approx(0.5, abs=2 / values.size**0.5)
            elif name != "4.b" or network is gan.D:
                assert not values.any()
    assert gan.G.parameters()["4.b"].tolist() == bias.astype(np.float32).tolist()


def test_the_game_is_the_recipes():
    gan = mnist(MNIST, np.zeros(784))
    assert type(gan) is VARIANTS["simultaneous"]
    assert gan.noise == Noise("uniform", 100)
    assert (gan.generator_cost, gan.batch_size, gan.k, gan.generator_steps) == ("non_saturating", 100, 1, 1)
    assert (gan.G.dtype, gan.D.dtype) == (np.float32, np.float32)
    for optimizer in gan.G_optimizer, gan.D_optimizer:
        assert isinstance(optimizer, MomentumSGD)
        assert optimizer.learning_rate(1) == 0.1
        assert optimizer.learning_rate(50_001) == pytest.approx(0.1 / 1.000004**50_000, rel=1e-9)
        assert optimizer.learning_rate(10**7) == 1e-6
    assert [momentum(MNIST)(epoch) for epoch in (1, 250, 300)] == pytest.approx([0.5, 0.7, 0.7])
    assert momentum(MNIST)(51) == momentum_schedule(51)


def test_a_G_that_has_learned_nothing_gives_each_pixel_its_mean():
    gan = game()
    gan.G.parameters()["4.W"][...] = 0
    np.testing.assert_allclose(gan.sample(3), np.tile(IMAGES.mean(axis=0) / 255, (3, 1)), atol=1e-6)


# ---- Each setting

REACHES = {
    "noise": (7, lambda gan: (gan.noise.n, gan.G.layers[0].n_in), (7, 7)),
    "prior": ("spherical", lambda gan: gan.noise.kind, "spherical"),
    "generator_width": (5, lambda gan: [layer.n_out for layer in gan.G.layers[::2]], [5, 5, 36]),
    "discriminator_width": (5, lambda gan: [layer.n_out for layer in gan.D.layers[1::2]], [5, 5, 1]),
    "batch_size": (4, lambda gan: gan.batch_size, 4),
    "k": (3, lambda gan: (gan.k, gan.draws), (3, 3)),
    "generator_steps": (2, lambda gan: gan.generator_steps, 2),
    "variant": ("printed", lambda gan: (type(gan), gan.generator_cost), (VARIANTS["printed"], "minimax")),
    "generator_cost": ("maximum_likelihood", lambda gan: gan.generator_cost, "maximum_likelihood"),
    "learning_rate": (0.3, lambda gan: [o.learning_rate(1) for o in (gan.G_optimizer, gan.D_optimizer)], [0.3, 0.3]),
    "schedule_compression": (
        10,
        lambda gan: [o.learning_rate(18) for o in (gan.G_optimizer, gan.D_optimizer)],
        pytest.approx([learning_rate_schedule(10 * (18 - 1) + 1, 0.1)] * 2, rel=1e-9),
    ),
    "calm": (True, lambda gan: type(gan), CALM["simultaneous"]),
    "seed": (
        1,
        lambda gan: bits([gan.G.theta, gan.D.theta]),
        bits([network.theta for network in mnist_networks(SMALL | {"seed": 1}, BIAS)]),
    ),
    "dtype": ("float64", lambda gan: (gan.G.dtype, gan.D.dtype), (np.float64, np.float64)),
}
"""Of each setting: another value than the recipe's, what it decides, and as what."""


SHARED = {
    "seed": {"noise", "generator_width", "discriminator_width", "dtype"},  # the parameters at the start have their shapes
    "variant": {"calm", "generator_cost"},
    "calm": {"variant"},
    "generator_cost": {"variant"},
    "schedule_compression": {"learning_rate"},
}
"""Of each setting: the others that have a part in what it decides."""


@pytest.mark.parametrize("name", MNIST)
def test_every_setting_reaches_the_game_and_no_other_thing_changes(name):
    value, decided, expected = REACHES[name]
    changed, plain = game(**{name: value}), game()
    assert decided(changed) == expected
    assert decided(plain) != expected
    for other in REACHES.keys() - {name}:
        if name not in SHARED.get(other, ()):
            decides = REACHES[other][1]
            assert decides(changed) == decides(plain), f"{name} changes what {other} decides"


def test_a_setting_that_is_not_given_is_the_recipes():
    small = {name: SMALL[name] for name in ("generator_width", "discriminator_width")}
    assert mnist(small, BIAS).settings == mnist(MNIST | small, BIAS).settings
    assert bits(mnist(small, BIAS).G.theta) == bits(mnist(MNIST | small, BIAS).G.theta)


@pytest.mark.parametrize("compression", [1, 3, 10.0])
def test_compressed_schedules_run_through_in_a_fraction_of_the_time(compression):
    of_epoch = momentum({"schedule_compression": compression})
    assert of_epoch(1) == 0.5
    assert of_epoch(1 + 249 / compression) == pytest.approx(0.7)
    assert of_epoch(1 + 124.5 / compression) == pytest.approx(0.6)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("cost", GENERATOR_COSTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_checkpoint_says_of_the_game_is_what_was_set(variant, cost, prior):
    settings = {"variant": variant, "generator_cost": cost, "prior": prior, "k": 2, "generator_steps": 3}
    for calm in False, True:
        saved = game(**settings, calm=calm).settings
        assert saved == settings | {"batch_size": 10, "noise": 100}


@pytest.mark.parametrize("wrong", [{"variant": "other"}, {"prior": "other"}, {"generator_cost": "other"}, {"k": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises((ArgumentError, KeyError), match="other|k"):
        game(**wrong)


def test_the_recipe_trains_on_every_backend(xp):
    gan = mnist(SMALL | {"calm": True, "k": 2}, BIAS, xp)
    assert gan.G.xp is gan.D.xp is xp
    trainer = Trainer(gan, IMAGES, IMAGES[:5], momentum=momentum(SMALL))
    row = trainer.train_epoch()
    assert row["momentum"] == 0.5
    assert np.isfinite(list(row.values())).all()


def test_a_loop_without_a_trainer_has_the_momentum_of_the_first_epoch():
    assert [optimizer.momentum for optimizer in (game().G_optimizer, game().D_optimizer)] == [0.5, 0.5]


# ---- Calm


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_calm_generator_meets_D_without_dropout_and_all_else_is_the_same(variant):
    def theta(kind, keep):
        G, D = generator(), discriminator(keep=keep)
        gan = kind(G, D, MomentumSGD(G.theta, 0.5), MomentumSGD(D.theta, 0.5), noise=Noise("gaussian", 3), batch_size=5)
        streams, x = Streams(0), np.random.default_rng(1).random((5, 4))
        for _ in range(3):
            gan.iteration(iter([Batch(x)]), streams)
        return np.concatenate([G.theta, D.theta])

    np.testing.assert_allclose(theta(CALM[variant], 1.0), theta(VARIANTS[variant], 1.0), rtol=1e-9)
    assert not np.allclose(theta(CALM[variant], 0.5), theta(VARIANTS[variant], 0.5), rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_calm_gradient_draws_no_mask_and_D_keeps_its_own(variant):
    """G's gradient is that of a D without dropout; D's gradient is as ever."""

    def play(kind, keep):
        G, D = generator(), discriminator(keep=keep)
        gan = kind(G, D, MomentumSGD(G.theta, 0.5), MomentumSGD(D.theta, 0.5), noise=Noise("gaussian", 3), batch_size=5)
        rng, z = Streams(0)["dropout"], np.random.default_rng(2).standard_normal((5, 3))
        samples, cache = G.forward(z)
        gan.discriminator_gradient(np.random.default_rng(1).random((5, 4)), samples, rng)
        drawn = rng.bit_generator.state["state"]["state"].tolist()
        gan.generator_gradient(samples, cache, rng)
        return gan, rng.bit_generator.state["state"]["state"].tolist() == drawn

    calm, drew_none = play(CALM[variant], 0.5)
    wild, wild_drew_none = play(VARIANTS[variant], 0.5)
    without, _ = play(VARIANTS[variant], 1.0)
    assert drew_none
    assert not wild_drew_none
    np.testing.assert_allclose(calm.G_grad, without.G_grad, rtol=1e-12)
    np.testing.assert_array_equal(calm.D_grad, wild.D_grad)
    assert not np.allclose(calm.D_grad, without.D_grad, rtol=1e-3)


def test_each_variant_has_its_calm_one():
    assert CALM.keys() == VARIANTS.keys()
    for name, kind in CALM.items():
        assert issubclass(kind, Calm)
        assert issubclass(kind, VARIANTS[name])
        assert kind.variant == name
        assert kind.iteration is VARIANTS[name].iteration
