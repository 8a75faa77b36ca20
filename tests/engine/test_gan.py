"""Algorithm 1: its order, what each step moves, its gradients, the variants, the noise priors, on every backend."""

import itertools
import math

import numpy as np
import pytest
from helpers import SameDraws, bits, discriminator, generator, numeric_gradient
from strict_cupy import host, no_transfers

from tinygan import (
    GAN,
    GENERATOR_COSTS,
    PRIORS,
    VARIANTS,
    ArgumentError,
    Linear,
    MomentumSGD,
    Network,
    ReLU,
    Sigmoid,
    discriminator_loss,
    generator_loss,
    random_generator,
    sample_noise,
    value_function,
)

M = 5


def game(xp=np, dtype=np.float64, keep=1.0, learning_rate=0.1, momentum=0.5, **options):
    G, D = generator(dtype, xp), discriminator(dtype, xp, keep=keep)
    players = [MomentumSGD(net.theta, learning_rate, momentum) for net in (G, D)]
    return GAN(G, D, *players, **options)


def noise(xp=np, dtype=np.float64, seed=0):
    """A noise prior that draws the same numbers on every backend."""
    rng = np.random.default_rng(seed)
    return lambda: xp.asarray(rng.uniform(-(3**0.5), 3**0.5, (M, 3)).astype(dtype))


def examples(xp=np, dtype=np.float64, seed=1):
    """Minibatches of examples, the same on every backend."""
    rng = np.random.default_rng(seed)
    while True:
        yield xp.asarray(rng.random((M, 4)).astype(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Algorithm 1: the order of its lines
# ---------------------------------------------------------------------------------------------------------------------


def spy(gan, log):
    """Writes every call of the networks and optimisers to the log."""

    def watch(owner, method, event):
        original = getattr(owner, method)

        def watched(*args, **kwargs):
            log.append(event(*args, **kwargs))
            return original(*args, **kwargs)

        setattr(owner, method, watched)

    for name in "GD":
        net, optimizer = getattr(gan, name), getattr(gan, f"{name}_optimizer")
        watch(net, "forward", lambda x, *_, name=name, **__: f"{name} forward {len(x)}")
        watch(net, "backward", lambda _, __, grad=None, name=name, **___: f"{name} backward{' θ' * (grad is not None)}")
        watch(optimizer, "step", lambda _, name=name: f"{name} step")


def one_iteration(gan, xp=np):
    log = []
    spy(gan, log)
    prior, batches = noise(xp), examples(xp)

    def logged_prior():
        log.append("z")
        return prior()

    def logged_batches():
        for x in batches:
            log.append("x")
            yield x

    gan.iteration(logged_prior, logged_batches(), random_generator(xp, 0))
    return log


D_UPDATE = ["z", "x", f"G forward {M}", f"D forward {2 * M}", "D backward θ", "D step"]
G_UPDATE = ["z", f"G forward {M}", f"D forward {M}", "D backward", "G backward θ", "G step"]
BOTH = ["x", "z", f"G forward {M}", f"D forward {2 * M}", "D backward θ", "D backward", "G backward θ"]
BOTH += ["D step", "G step"]


@pytest.mark.parametrize("generator_steps", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("variant", ["alternating", "printed"])
def test_algorithm_1_line_by_line(variant, k, generator_steps):
    """k times {m noise samples, m examples, D ascends}; then m new noise samples, G descends."""
    log = one_iteration(game(variant=variant, k=k, generator_steps=generator_steps))
    assert log == D_UPDATE * k + G_UPDATE * generator_steps


@pytest.mark.parametrize("generator_steps", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_simultaneous_takes_the_last_update_of_D_with_the_first_of_G(k, generator_steps):
    """One minibatch, one z, one forward pass of each network, and both gradients before either step."""
    log = one_iteration(game(variant="simultaneous", k=k, generator_steps=generator_steps))
    assert log == D_UPDATE * (k - 1) + BOTH + G_UPDATE * (generator_steps - 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_update_trains_both_networks_as_in_training(variant):
    """Dropout in G, too, is on in the updates of D: both players meet the same p_g."""
    gan, modes = game(variant=variant, k=2, generator_steps=2), []
    for net in gan.G, gan.D:
        original = net.forward

        def watched(x, train=False, rng=None, original=original):
            modes.append((train, rng is not None))
            return original(x, train, rng)

        net.forward = watched
    one_iteration(gan)
    assert set(modes) == {(True, True)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_update_has_its_own_noise(variant):
    gan, seen = game(variant=variant, k=2, generator_steps=2), []
    forward = gan.G.forward
    gan.G.forward = lambda z, *args, **kwargs: seen.append(bits(z)) or forward(z, *args, **kwargs)
    gan.iteration(noise(), examples(), None)
    prior = noise()
    assert seen == [bits(prior()) for _ in range(3 if variant == "simultaneous" else 4)]


# ---------------------------------------------------------------------------------------------------------------------
# What each step moves
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_D_moves_theta_d_alone(xp, variant):
    gan = game(xp, keep=0.5, variant=variant)
    theta_d, G_state = bits(gan.D.theta), bits([gan.G.theta, gan.G_optimizer.velocity])
    gan.discriminator_step(next(examples(xp)), gan.G(noise(xp)()), random_generator(xp, 0))
    assert bits([gan.G.theta, gan.G_optimizer.velocity]) == G_state
    assert bits(gan.D.theta) != theta_d
    assert (gan.D_optimizer.updates, gan.G_optimizer.updates) == (1, 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_G_moves_theta_g_alone(xp, variant):
    gan = game(xp, keep=0.5, variant=variant)
    theta_g, D_state = bits(gan.G.theta), bits([gan.D.theta, gan.D_optimizer.velocity])
    gan.generator_step(noise(xp)(), random_generator(xp, 0))
    assert bits([gan.D.theta, gan.D_optimizer.velocity]) == D_state
    assert bits(gan.G.theta) != theta_g
    assert (gan.D_optimizer.updates, gan.G_optimizer.updates) == (0, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_iteration_leaves_examples_and_noise_as_they_were(xp, variant):
    gan, x, z = game(xp, keep=0.5, variant=variant), next(examples(xp)), noise(xp)()
    before = bits([x, z])
    gan.iteration(lambda: z, itertools.repeat(x), random_generator(xp, 0))
    assert bits([x, z]) == before


# ---------------------------------------------------------------------------------------------------------------------
# The gradients of the two players, against central differences of the whole step
# ---------------------------------------------------------------------------------------------------------------------


def moved(net, step):
    """How far one step with η = 1 and μ = 0 moves θ: the negative of its gradient."""
    before = net.theta.copy()
    step()
    after = net.theta.copy()
    net.theta = before
    return after - before


@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize(("variant", "factor"), [("simultaneous", 0.5), ("alternating", 0.5), ("printed", 1.0)])
def test_one_step_of_D_ascends_equation_1(variant, factor, keep):
    """One step = ∇_θd V over both batches, V of Eq. 1: half of it with the released code's ½, all of it as printed."""
    gan = game(variant=variant, keep=keep, learning_rate=1.0, momentum=0.0)
    x, samples = next(examples()), gan.G(noise()())

    def V():
        a, _ = gan.D.forward(np.concatenate([x, samples]), train=True, rng=random_generator(np, 7))
        return value_function(a[:M], a[M:])

    ascent = moved(gan.D, lambda: gan.discriminator_step(x, samples, random_generator(np, 7)))
    np.testing.assert_allclose(ascent, factor * numeric_gradient(V, gan.D.theta), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_one_step_of_G_descends_its_cost_through_D(kind, keep):
    gan = game(variant="alternating", generator_cost=kind, keep=keep, learning_rate=1.0, momentum=0.0)
    z = noise()()

    def cost():
        a, _ = gan.D.forward(gan.G(z), train=True, rng=random_generator(np, 7))
        return generator_loss(a, kind)[0]

    descent = moved(gan.G, lambda: gan.generator_step(z, random_generator(np, 7)))
    np.testing.assert_allclose(descent, -numeric_gradient(cost, gan.G.theta), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", GENERATOR_COSTS)
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_simultaneous_equals_its_definition(xp, keep, kind):
    """Two separate computations at the old θ_d and θ_g, with one x, one z and one set of masks; D runs forward once."""
    gan = game(xp, keep=keep, generator_cost=kind)
    twin = game(xp, keep=keep, generator_cost=kind)
    x, z = next(examples(xp)), noise(xp)()
    G, D = twin.G, twin.D

    samples, G_cache = G.forward(z)
    a, D_cache = D.forward(xp.concatenate([x, samples]), train=True, rng=SameDraws(xp))
    _, da_real, da_fake = discriminator_loss(a[:M], a[M:])
    D_grad = xp.empty_like(D.theta)
    D.backward(xp.concatenate([da_real, da_fake]), D_cache, D_grad)

    a, D_cache = D.forward(xp.concatenate([x, samples]), train=True, rng=SameDraws(xp))
    _, da = generator_loss(a[M:], kind)
    dsamples = D.backward(xp.concatenate([xp.zeros_like(da), da]), D_cache)[M:]
    G_grad = xp.empty_like(G.theta)
    G.backward(dsamples, G_cache, G_grad)

    for optimizer, grad in [(twin.D_optimizer, D_grad), (twin.G_optimizer, G_grad)]:
        optimizer.step(grad)
    forwards = []
    forward = gan.D.forward
    gan.D.forward = lambda *args, **kwargs: forwards.append(1) or forward(*args, **kwargs)
    gan.simultaneous_step(x, z, SameDraws(xp))
    assert len(forwards) == 1
    for net, expected in [(gan.G, G), (gan.D, D)]:
        np.testing.assert_allclose(host(net.theta), host(expected.theta), rtol=1e-12, atol=1e-15)


def test_printed_is_twice_the_gradient_of_D_and_minimax_for_G():
    def steps(**options):
        gan = game(learning_rate=1.0, momentum=0.0, **options)
        x, z = next(examples()), noise()()
        D_cost = gan.discriminator_step(x, gan.G(z), None)
        gan.D.theta = discriminator().theta
        return D_cost, gan.D_grad.copy(), gan.generator_step(z, None), gan.G_grad.copy()

    printed, halved = steps(variant="printed"), steps(variant="alternating", generator_cost="minimax")
    assert printed[0] == pytest.approx(2 * halved[0], rel=1e-15)
    np.testing.assert_allclose(printed[1], 2 * halved[1], rtol=1e-15)
    assert bits(printed[2:]) == bits(halved[2:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_iteration_returns_the_costs_of_its_last_updates(xp, variant):
    gan = game(xp, variant=variant)
    theta_g, theta_d = gan.G.theta.copy(), gan.D.theta.copy()
    D_cost, G_cost = gan.iteration(noise(xp), examples(xp), None)
    prior, x = noise(xp), next(examples(xp))
    G, D = generator(xp=xp), discriminator(xp=xp)
    assert bits([G.theta, D.theta]) == bits([theta_g, theta_d])
    samples = G(prior())
    expected_D = float(host(discriminator_loss(D(x), D(samples))[0])) * (2 if variant == "printed" else 1)
    if variant != "simultaneous":
        D.theta = gan.D.theta
        samples = G(prior())
    kind = "minimax" if variant == "printed" else "non_saturating"
    assert float(host(D_cost)) == pytest.approx(expected_D, rel=1e-12)
    assert float(host(G_cost)) == pytest.approx(float(host(generator_loss(D(samples), kind)[0])), rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The whole step on two backends
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_backend_takes_numpys_steps(xp, variant, dtype, tolerance):
    """Three iterations with the same noise, examples and masks end at the same θ, v and costs."""
    ends = []
    for module in (np, xp):
        gan = game(module, dtype, keep=0.5, variant=variant, k=2, generator_steps=2)
        rng, prior, batches = SameDraws(module), noise(module, dtype), examples(module, dtype)
        costs = [gan.iteration(prior, batches, rng) for _ in range(3)][-1]
        state = [gan.G.theta, gan.D.theta, gan.G_optimizer.velocity, gan.D_optimizer.velocity]
        assert {a.dtype for a in state} == {np.dtype(dtype)}
        ends.append([host(a) for a in (*state, *costs)])
    for expected, got in zip(*ends, strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def own_stream(gan, xp):
    """A prior, examples and masks that never leave the device."""
    rng, x = random_generator(xp, 0, "noise"), next(examples(xp, np.float32))
    return lambda: sample_noise("uniform", rng, M, 3), itertools.repeat(x), random_generator(xp, 0, "dropout")


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_copy_between_host_and_device_inside_a_step(xp, variant):
    gan = game(xp, np.float32, keep=0.5, variant=variant, k=2, generator_steps=2)
    arguments = own_stream(gan, xp)
    with no_transfers():
        for _ in range(2):
            gan.iteration(*arguments)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_put_into_a_step_is_seen(strict_xp, variant):
    class Peeping(ReLU):
        def forward(self, x, train=False, rng=None):
            float(x.sum())
            return super().forward(x, train, rng)

    gan = game(strict_xp, np.float32, variant=variant)
    gan.G.layers[1] = Peeping()
    arguments = own_stream(gan, strict_xp)
    with pytest.raises(AssertionError, match=r"to host: float\(\)"), no_transfers():
        gan.iteration(*arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Variants, costs and what is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_each_variant_has_its_own_generator_cost_unless_told():
    assert [game(variant=v).generator_cost for v in VARIANTS] == ["non_saturating", "non_saturating", "minimax"]
    assert game(variant="printed", generator_cost="maximum_likelihood").generator_cost == "maximum_likelihood"
    assert game().variant == "simultaneous"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "sequential"}, "'sequential': choose one of simultaneous, alternating, printed"),
        ({"generator_cost": "hinge"}, "'hinge': choose one of non_saturating, minimax, maximum_likelihood"),
        ({"k": 0}, "k and generator_steps must be at least 1, not 0 and 1"),
        ({"generator_steps": 0}, "k and generator_steps must be at least 1, not 1 and 0"),
    ],
)
def test_what_is_no_game_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        game(**options)


# ---------------------------------------------------------------------------------------------------------------------
# Noise priors
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", PRIORS)
def test_noise_has_its_shape_dtype_and_stream(xp, kind, dtype):
    z = sample_noise(kind, random_generator(xp, 3), 50, 7, dtype)
    assert (z.shape, z.dtype) == ((50, 7), np.dtype(dtype))
    assert bits(z) == bits(sample_noise(kind, random_generator(xp, 3), 50, 7, dtype))
    assert bits(z) != bits(sample_noise(kind, random_generator(xp, 4), 50, 7, dtype))
    assert sample_noise(kind, random_generator(xp, 3), 2, 3).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "second", "fourth"), [("uniform", 1, 9 / 5), ("gaussian", 1, 3), ("spherical", 1 / 100, 3 / (100 * 102))]
)
def test_noise_has_the_moments_of_its_prior(xp, kind, second, fourth):
    """E[z] = 0, E[z²], E[z⁴] of U(−√3, √3), of N(0, 1), and of a coordinate on the sphere in 100 dimensions."""
    z = host(sample_noise(kind, random_generator(xp, 0), 2000, 100)).astype(np.float64)
    n = z.size
    for power, moment, variance in [(1, 0, second), (2, second, fourth - second**2)]:
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / n)
    assert (z**4).mean() == pytest.approx(fourth, rel=0.05)


def test_uniform_noise_fills_its_range(xp):
    z = host(sample_noise("uniform", random_generator(xp, 0), 1000, 100))
    assert abs(z).max() <= np.float32(math.sqrt(3))
    assert z.min() < -1.73
    assert z.max() > 1.73


def test_spherical_noise_has_norm_1(xp):
    z = host(sample_noise("spherical", random_generator(xp, 0), 100, 50, np.float64))
    np.testing.assert_allclose((z**2).sum(axis=1), 1, rtol=1e-12)


def test_an_unknown_prior_is_refused_with_the_known_ones():
    with pytest.raises(ArgumentError, match="'normal': choose one of uniform, gaussian, spherical"):
        sample_noise("normal", np.random.default_rng(0), 2, 3)


@pytest.mark.parametrize(("examples", "noise"), [(3, 5), (5, 3), (1, 3)])
def test_simultaneous_with_minibatches_of_two_sizes_has_the_gradients_of_its_definition(examples, noise):
    G = Network([Linear(2, 4), Sigmoid(), Linear(4, 3)], dtype=np.float64, seed=1)
    D = Network([Linear(3, 4), Sigmoid(), Linear(4, 1)], dtype=np.float64, seed=2)
    gan = GAN(G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1))
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((examples, 3)), rng.standard_normal((noise, 2))
    samples, G_cache = G.forward(z)
    a, D_cache = D.forward(samples)
    expected = np.empty_like(G.theta)
    G.backward(D.backward(generator_loss(a)[1], D_cache), G_cache, expected)
    gan.simultaneous_step(x, z, None)
    np.testing.assert_allclose(gan.G_grad, expected, rtol=1e-12, atol=1e-15)


def test_an_optimiser_over_anything_but_its_network_is_refused():
    G, D = Network([Linear(2, 2)]), Network([Linear(2, 1)])
    own = MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1)
    for pair in ((MomentumSGD(G.theta.copy(), 0.1), own[1]), (own[0], MomentumSGD(D.theta.copy(), 0.1)), own[::-1]):
        with pytest.raises(ArgumentError, match="over its network's own θ"):
            GAN(G, D, *pair)
