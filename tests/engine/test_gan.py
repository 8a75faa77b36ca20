"""Algorithm 1: its order, what each step moves, its gradients, the variants, noise and samples, on every backend."""

import itertools
import json
import math

import numpy as np
import pytest
from helpers import M, SameDraws, batches, bits, discriminator, game, generator, numeric_gradient, refused, same_streams
from strict_cupy import cupy as stand_in
from strict_cupy import host, no_transfers

from tinygan import (
    GAN,
    GENERATOR_COSTS,
    PRIORS,
    VARIANTS,
    Adam,
    ArgumentError,
    Batch,
    BatchNorm,
    Generator,
    Layer,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    Printed,
    ReLU,
    Reshape,
    Sigmoid,
    Simultaneous,
    Streams,
    discriminator_loss,
    generate,
    generator_loss,
    random_generator,
    value_function,
)

with_and_without_batch_norm = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm"])


def near(got, expected, normalised, rtol, atol):
    """Batch norm of five rows divides by what may be small: it is given ten times the rounding."""
    slack = 10 if normalised else 1
    np.testing.assert_allclose(host(got), host(expected), rtol=rtol * slack, atol=atol * slack)


def minibatch(xp=np, dtype=np.float64, seed=0):
    """x and z for one step, the same on every backend."""
    z = np.random.default_rng(seed).uniform(-(3**0.5), 3**0.5, (M, 3))
    return next(batches(xp, dtype)).x, xp.asarray(z.astype(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Algorithm 1: the order of its lines
# ---------------------------------------------------------------------------------------------------------------------


def spy(gan, log):
    """Writes every call of the networks, the optimisers and the noise to the log."""

    def watch(owner, method, event):
        original = getattr(owner, method)

        def watched(*args, **kwargs):
            log.append(event(*args, **kwargs))
            return original(*args, **kwargs)

        setattr(owner, method, watched)

    watch(gan, "noise", lambda rng, m, dtype: f"z {m}")
    for name in "GD":
        net, optimizer = getattr(gan, name), getattr(gan, f"{name}_optimizer")
        watch(net, "forward", lambda x, *_, name=name, **__: f"{name} forward {len(x)}")
        watch(net, "backward", lambda _, __, grad=None, name=name, **___: f"{name} backward{' θ' * (grad is not None)}")
        watch(net, "observe", lambda _, name=name: f"{name} observe")
        watch(optimizer, "step", lambda _, name=name: f"{name} step")


def log_of_one_iteration(gan):
    log = []
    spy(gan, log)

    def logged():
        for batch in batches():
            log.append("x")
            yield batch

    gan.iteration(logged(), Streams(0, 1))
    return log


TOGETHER = [f"D forward {2 * M}", "D backward θ"], ["D observe"]
APART = [f"D forward {M}"] * 2 + ["D backward θ"] * 2, ["D observe"] * 2
D_LINES = {False: TOGETHER, True: APART}
G_UPDATE = [f"z {M}", f"G forward {M}", f"D forward {M}", "D backward", "G backward θ", "G step", "G observe"]


def D_update(normalised):
    gradient, observe = D_LINES[normalised]
    return [f"z {M}", "x", f"G forward {M}", *gradient, "D step", *observe]


@with_and_without_batch_norm
@pytest.mark.parametrize("generator_steps", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("variant", ["alternating", "printed"])
def test_algorithm_1_line_by_line(variant, k, generator_steps, normalised):
    """k times {m noise samples, m examples, D ascends}; then m new noise samples, G descends."""
    log = log_of_one_iteration(game(variant, k=k, generator_steps=generator_steps, normalised=normalised))
    assert log == D_update(normalised) * k + G_UPDATE * generator_steps


@with_and_without_batch_norm
@pytest.mark.parametrize("generator_steps", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_simultaneous_takes_the_last_update_of_D_with_the_first_of_G(k, generator_steps, normalised):
    """One z, one minibatch, one forward pass of each network, and both gradients before either step."""
    gradient, observe = D_LINES[normalised]
    both = [f"z {M}", "x", f"G forward {M}", *gradient, "D backward", "G backward θ"]
    both += ["D step", *observe, "G step", "G observe"]
    log = log_of_one_iteration(game("simultaneous", k=k, generator_steps=generator_steps, normalised=normalised))
    assert log == D_update(normalised) * (k - 1) + both + G_UPDATE * (generator_steps - 1)


@with_and_without_batch_norm
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_update_trains_both_networks_as_in_training(variant, normalised):
    """Dropout in G, too, is on in the updates of D: both players meet the same p_g. All masks come from one stream."""
    gan, streams, modes = game(variant, k=2, generator_steps=2, normalised=normalised), Streams(0, 1), []
    for net in gan.G, gan.D:

        def watched(x, train=False, rng=None, original=net.forward):
            modes.append((train, rng is streams["dropout"]))
            return original(x, train, rng)

        net.forward = watched
    gan.iteration(batches(), streams)
    assert set(modes) == {(True, True)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_update_has_its_own_noise(variant):
    gan, seen = game(variant, k=2, generator_steps=2), []
    forward = gan.G.forward
    gan.G.forward = lambda z, *args, **kwargs: seen.append(bits(z)) or forward(z, *args, **kwargs)
    gan.iteration(batches(), Streams(0, 1))
    rng = Streams(0, 1)["noise"]
    assert seen == [bits(gan.noise(rng, M, np.float64)) for _ in range(3 if variant == "simultaneous" else 4)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_iteration_draws_as_many_minibatches_as_it_says(variant):
    gan, stock = game(variant, k=3), batches()
    gan.iteration(stock, Streams(0, 1))
    fresh = batches()
    for _ in range(gan.draws):
        next(fresh)
    assert bits(next(stock).x) == bits(next(fresh).x)


def test_a_D_that_mixes_rows_sees_data_and_samples_apart_data_first():
    gan, seen = game(normalised=True), []
    x, z = minibatch()
    samples, _ = gan.G.forward(z, train=True)
    forward = gan.D.forward
    gan.D.forward = lambda rows, *args, **kwargs: seen.append(bits(rows)) or forward(rows, *args, **kwargs)
    gan.discriminator_step(x, z, None)
    assert seen == [bits(x), bits(samples)]


# ---------------------------------------------------------------------------------------------------------------------
# What each step moves
# ---------------------------------------------------------------------------------------------------------------------


def state(net, optimizer):
    return bits([net.theta, net.statistics, *optimizer.state.values()])


@with_and_without_batch_norm
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_D_moves_theta_d_alone(xp, variant, normalised):
    gan = game(variant, xp, keep=0.5, normalised=normalised)
    theta_d, G_state = bits(gan.D.theta), state(gan.G, gan.G_optimizer)
    gan.discriminator_step(*minibatch(xp), random_generator(xp, 0))
    assert state(gan.G, gan.G_optimizer) == G_state
    assert bits(gan.D.theta) != theta_d
    assert (gan.D_optimizer.updates, gan.G_optimizer.updates) == (1, 0)


@with_and_without_batch_norm
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_G_moves_theta_g_alone(xp, variant, normalised):
    gan = game(variant, xp, keep=0.5, normalised=normalised)
    theta_g, D_state = bits(gan.G.theta), state(gan.D, gan.D_optimizer)
    gan.generator_step(minibatch(xp)[1], random_generator(xp, 0))
    assert state(gan.D, gan.D_optimizer) == D_state
    assert bits(gan.G.theta) != theta_g
    assert (gan.D_optimizer.updates, gan.G_optimizer.updates) == (0, 1)


def observed(net, layer, *minibatches, rho=0.9):
    """The running statistics of net's batch norm, `layer`, after these minibatches of input: in plain NumPy."""
    mean, var = np.zeros(net.layers[layer].n), np.ones(net.layers[layer].n)
    for x in minibatches:
        for below in net.layers[:layer]:
            x, _ = below.forward(x, train=True)
        mean, var = rho * mean + (1 - rho) * x.mean(axis=0), rho * var + (1 - rho) * x.var(axis=0)
    return np.concatenate([mean, var])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_observes_the_minibatches_of_its_own_player_at_the_old_theta(variant):
    """D's statistics move in D's step, towards those of data, then of samples; G's in G's step."""
    gan, twin = game(variant, normalised=True), game(variant, normalised=True)
    x, z = minibatch()
    samples, _ = twin.G.forward(z, train=True)
    D_statistics, G_statistics = observed(twin.D, 2, x, samples), observed(twin.G, 1, z)
    if variant == "simultaneous":
        gan.simultaneous_step(x, z, None)
    else:
        gan.discriminator_step(x, z, None)
        gan.generator_step(z, None)
    np.testing.assert_allclose(gan.D.statistics, D_statistics, rtol=1e-13)
    np.testing.assert_allclose(gan.G.statistics, G_statistics, rtol=1e-13)


@with_and_without_batch_norm
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_iteration_leaves_examples_as_they_were(xp, variant, normalised):
    gan, batch = game(variant, xp, keep=0.5, normalised=normalised), next(batches(xp))
    before = bits(batch.x)
    gan.iteration(itertools.repeat(batch), Streams(0, 1, xp))
    assert bits(batch.x) == before


@pytest.mark.parametrize("step", ["discriminator_step", "simultaneous_step", "generator_step"])
def test_a_step_leaves_x_and_z_as_they_were(xp, step):
    gan, (x, z) = game("simultaneous", xp, keep=0.5, normalised=True), minibatch(xp)
    before = bits([x, z])
    getattr(gan, step)(*([z] if step == "generator_step" else [x, z]), random_generator(xp, 0))
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


@with_and_without_batch_norm
@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize(("variant", "factor"), [("simultaneous", 0.5), ("alternating", 0.5), ("printed", 1.0)])
def test_one_step_of_D_ascends_equation_1(variant, factor, keep, normalised):
    """One step = ∇_θd V over both batches, V of Eq. 1: half of it with the released code's ½, all of it as printed."""
    gan = game(variant, keep=keep, learning_rate=1.0, momentum=0.0, normalised=normalised)
    x, z = minibatch()

    def V():
        rng = random_generator(np, 7)
        samples, _ = gan.G.forward(z, train=True, rng=rng)
        if normalised:
            return value_function(*(gan.D.forward(rows, train=True, rng=rng)[0] for rows in (x, samples)))
        a, _ = gan.D.forward(np.concatenate([x, samples]), train=True, rng=rng)
        return value_function(a[:M], a[M:])

    ascent = moved(gan.D, lambda: gan.discriminator_step(x, z, random_generator(np, 7)))
    np.testing.assert_allclose(ascent, factor * numeric_gradient(V, gan.D.theta), rtol=1e-6, atol=1e-9)


@with_and_without_batch_norm
@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_one_step_of_G_descends_its_cost_through_D(kind, keep, normalised):
    gan = game(generator_cost=kind, keep=keep, learning_rate=1.0, momentum=0.0, normalised=normalised)
    _, z = minibatch()

    def cost():
        rng = random_generator(np, 7)
        samples, _ = gan.G.forward(z, train=True, rng=rng)
        return generator_loss(gan.D.forward(samples, train=True, rng=rng)[0], kind)[0]

    descent = moved(gan.G, lambda: gan.generator_step(z, random_generator(np, 7)))
    near(descent, -numeric_gradient(cost, gan.G.theta), normalised, rtol=1e-6, atol=1e-9)


@with_and_without_batch_norm
@pytest.mark.parametrize("kind", GENERATOR_COSTS)
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_simultaneous_equals_its_definition(xp, keep, kind, normalised):
    """Two separate computations at the old θ_d and θ_g, with one x, one z and one set of masks; D judges each row once."""
    gan, twin = (game("simultaneous", xp, keep=keep, generator_cost=kind, normalised=normalised) for _ in range(2))
    x, z = minibatch(xp)
    G, D = twin.G, twin.D

    def judge(samples):
        """D's logits of data and of samples, and backward from the gradients by these."""
        rng, parts = SameDraws(xp), [x, samples] if normalised else [xp.concatenate([x, samples])]
        passes = [D.forward(part, train=True, rng=rng) for part in parts]

        def backward(*da):
            da = da if normalised else [xp.concatenate(da)]
            grads = [xp.empty_like(D.theta) for _ in passes]
            dxs = [D.backward(d, cache, grad) for d, (_, cache), grad in zip(da, passes, grads, strict=True)]
            return xp.concatenate(dxs)[M:], sum(grads)

        a = xp.concatenate([a for a, _ in passes])
        return a[:M], a[M:], backward

    samples, G_cache = G.forward(z, train=True)
    a_real, a_fake, backward = judge(samples)
    _, da_real, da_fake = discriminator_loss(a_real, a_fake)
    _, D_grad = backward(da_real, da_fake)

    _, a_fake, backward = judge(samples)
    _, da = generator_loss(a_fake, kind)
    dsamples, _ = backward(xp.zeros_like(da), da)
    G_grad = xp.empty_like(G.theta)
    G.backward(dsamples, G_cache, G_grad)

    for optimizer, grad in [(twin.D_optimizer, D_grad), (twin.G_optimizer, G_grad)]:
        optimizer.step(grad)
    judged = []
    forward = gan.D.forward
    gan.D.forward = lambda rows, *args, **kwargs: judged.append(len(rows)) or forward(rows, *args, **kwargs)
    gan.simultaneous_step(x, z, SameDraws(xp))
    assert sum(judged) == 2 * M
    for net, expected in [(gan.G, G), (gan.D, D)]:
        near(net.theta, expected.theta, normalised, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("examples", "noise"), [(3, 5), (5, 3), (1, 3)])
@pytest.mark.parametrize("normalised", [False, True])
def test_simultaneous_with_minibatches_of_two_sizes_has_the_gradients_of_its_definition(examples, noise, normalised):
    if normalised and examples == 1:
        examples = 2  # of one value batch norm has no variance
    gan = game("simultaneous", normalised=normalised)
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((examples, 4)), rng.standard_normal((noise, 3))
    samples, G_cache = gan.G.forward(z, train=True)
    a, D_cache = gan.D.forward(samples, train=True)
    expected = np.empty_like(gan.G.theta)
    gan.G.backward(gan.D.backward(generator_loss(a)[1], D_cache), G_cache, expected)
    gan.simultaneous_step(x, z, None)
    near(gan.G_grad, expected, normalised, rtol=1e-12, atol=1e-15)


@with_and_without_batch_norm
def test_printed_is_twice_the_gradient_of_D_and_minimax_for_G(normalised):
    def steps(variant, **options):
        gan = game(variant, learning_rate=1.0, momentum=0.0, normalised=normalised, **options)
        x, z = minibatch()
        D_cost = gan.discriminator_step(x, z, None)
        gan.D.theta = discriminator(normalised=normalised).theta
        return D_cost, gan.D_grad.copy(), gan.generator_step(z, None), gan.G_grad.copy()

    printed, halved = steps("printed"), steps("alternating", generator_cost="minimax")
    assert printed[0] == pytest.approx(2 * halved[0], rel=1e-15)
    np.testing.assert_allclose(printed[1], 2 * halved[1], rtol=1e-15)
    assert bits(printed[2:]) == bits(halved[2:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_iteration_returns_the_costs_of_its_last_updates(xp, variant):
    gan, streams = game(variant, xp), same_streams(xp)
    costs = gan.iteration(batches(xp), streams)
    G, D, rng, x = generator(xp=xp), discriminator(xp=xp), same_streams(xp)["noise"], next(batches(xp)).x
    samples = G(gan.noise(rng, M, np.float64))
    expected_D = float(host(discriminator_loss(D(x), D(samples))[0])) * (2 if variant == "printed" else 1)
    if variant != "simultaneous":
        D.theta = gan.D.theta
        samples = G(gan.noise(rng, M, np.float64))
    kind = "minimax" if variant == "printed" else "non_saturating"
    assert list(costs) == ["discriminator_cost", "generator_cost"]
    assert float(host(costs["discriminator_cost"])) == pytest.approx(expected_D, rel=1e-12)
    assert float(host(costs["generator_cost"])) == pytest.approx(float(host(generator_loss(D(samples), kind)[0])), rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The whole step on two backends
# ---------------------------------------------------------------------------------------------------------------------


@with_and_without_batch_norm
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_backend_takes_numpys_steps(xp, variant, dtype, tolerance, normalised):
    """Three iterations with the same noise, examples and masks end at the same θ, v, statistics and costs."""
    ends = []
    for module in (np, xp):
        gan = game(variant, module, dtype, keep=0.5, k=2, generator_steps=2, normalised=normalised)
        streams, stock = same_streams(module), batches(module, dtype)
        costs = [gan.iteration(stock, streams) for _ in range(3)][-1]
        vectors = [v for net, opt in gan.players.values() for v in (net.theta, net.statistics, *opt.state.values())]
        assert {a.dtype for a in vectors} == {np.dtype(dtype)}
        ends.append([host(a) for a in (*vectors, *costs.values())])
    for expected, got in zip(*ends, strict=True):
        near(got, expected, normalised, rtol=tolerance, atol=tolerance)


@with_and_without_batch_norm
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_copy_between_host_and_device_inside_a_step(xp, variant, normalised):
    gan = game(variant, xp, np.float32, keep=0.5, k=2, generator_steps=2, normalised=normalised)
    gan.D_optimizer = Adam(gan.D.theta, 0.01)
    stock, streams = itertools.repeat(next(batches(xp, np.float32))), Streams(0, 1, xp)
    with no_transfers():
        for _ in range(2):
            gan.iteration(stock, streams)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_put_into_a_step_is_seen(strict_xp, variant):
    class Peeping(ReLU):
        def forward(self, x, train=False, rng=None):
            float(x.sum())
            return super().forward(x, train, rng)

    gan = game(variant, strict_xp, np.float32)
    gan.G.layers[1] = Peeping()
    stock, streams = itertools.repeat(next(batches(strict_xp, np.float32))), Streams(0, 1, strict_xp)
    with pytest.raises(AssertionError, match=r"to host: float\(\)"), no_transfers():
        gan.iteration(stock, streams)


# ---------------------------------------------------------------------------------------------------------------------
# The variants, and what a Trainer asks of a model
# ---------------------------------------------------------------------------------------------------------------------


def test_the_three_variants_have_names_and_generator_costs_of_their_own():
    assert VARIANTS == {"simultaneous": Simultaneous, "alternating": GAN, "printed": Printed}
    assert {name: kind.variant for name, kind in VARIANTS.items()} == {name: name for name in VARIANTS}
    assert [game(v).generator_cost for v in VARIANTS] == ["non_saturating", "non_saturating", "minimax"]
    assert game("printed", generator_cost="maximum_likelihood").generator_cost == "maximum_likelihood"


def test_a_variation_may_replace_the_cost_of_D_alone():
    """One-sided label smoothing: the target of data is 0.9."""

    class Smoothed(GAN):
        def discriminator_loss(self, a_real, a_fake):
            cost, da_real, da_fake = super().discriminator_loss(a_real, a_fake)
            return cost + 0.05 * a_real.mean(), da_real + 0.05 / len(a_real), da_fake

    plain = game(learning_rate=1.0, momentum=0.0)
    gan = Smoothed(*plain.players["G"][:1], plain.D, plain.G_optimizer, plain.D_optimizer, noise=plain.noise, batch_size=M)
    x, z = minibatch()

    def cost():
        D_x, D_G_z = (1 / (1 + np.exp(-gan.D(rows))) for rows in (x, gan.G(z)))
        return -0.5 * (0.9 * np.log(D_x) + 0.1 * np.log(1 - D_x) + np.log(1 - D_G_z)).mean()

    descent = moved(gan.D, lambda: gan.discriminator_step(x, z, None))
    np.testing.assert_allclose(descent, -numeric_gradient(cost, gan.D.theta), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_players_draws_state_and_settings(variant):
    gan = game(variant, k=3, generator_steps=2)
    assert {name: (p.network, p.optimizer) for name, p in gan.players.items()} == {
        "G": (gan.G, gan.G_optimizer),
        "D": (gan.D, gan.D_optimizer),
    }
    assert (gan.draws, gan.state) == (3, {})
    settings = {"variant": variant, "k": 3, "generator_steps": 2, "batch_size": M, "prior": "uniform", "noise": 3}
    assert json.loads(json.dumps(gan.settings)) == settings | {"generator_cost": gan.generator_cost}


@with_and_without_batch_norm
def test_a_report_is_V_and_the_mean_judgements_without_dropout(xp, normalised):
    """Eq. 1 over held-out data and as many samples, at the running statistics; nothing moves."""
    gan, rng = game(xp=xp, keep=0.5, normalised=normalised), np.random.default_rng(4)
    gan.iteration(batches(xp), same_streams(xp))
    held_out = xp.asarray(rng.random((7, 4)))
    before = bits([held_out, *(v for net, _ in gan.players.values() for v in (net.theta, net.statistics))])
    report = gan.report(Batch(held_out), {"report": SameDraws(xp, 3)})
    z = gan.noise(SameDraws(xp, 3), 7, np.float64)
    D_x, D_G_z = (1 / (1 + np.exp(-host(gan.D(rows)))) for rows in (held_out, gan.G(z)))
    expected = {"value": np.log(D_x).mean() + np.log(1 - D_G_z).mean(), "D_x": D_x.mean(), "D_G_z": D_G_z.mean()}
    assert {name: float(host(value)) for name, value in report.items()} == pytest.approx(expected, rel=1e-12)
    assert bits([held_out, *(v for net, _ in gan.players.values() for v in (net.theta, net.statistics))]) == before


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def two(*layers, dtype=np.float64, xp=np):
    return Network(layers, dtype=dtype, xp=xp)


def small_G(**options):
    return two(Linear(3, 4), **options)


class RowsTogether(Layer):
    """One logit for the whole minibatch."""

    def forward(self, x, train=False, rng=None):
        return x.sum(axis=0, keepdims=True)[:, :1].reshape(1), None


NO_GAME = [
    ({"generator_cost": "hinge"}, ["'hinge'", *GENERATOR_COSTS]),
    ({"k": 0}, ["k ", "at least 1", "0"]),
    ({"k": -1}, ["k ", "-1"]),
    ({"generator_steps": 0}, ["generator_steps", "0"]),
    ({"batch_size": 0}, ["batch_size", "0"]),
    ({"D": lambda: two(Linear(4, 1), Sigmoid())}, ["Sigmoid", "logit"]),
    ({"D": lambda: two(Linear(5, 1))}, ["samples of G", "Linear(5, 1)", "(1, 4)"]),
    ({"D": lambda: two(Reshape((2, 2)))}, ["one logit", "(m, 1)", "(1, 2, 2)"]),
    ({"D": lambda: two(Linear(4, 2))}, ["one logit", "(m, 1)", "(1, 2)"]),
    ({"D": lambda: two(RowsTogether())}, ["one logit", "(m, 1)", "(1,)"]),
    ({"D": lambda: two(Linear(4, 1), dtype=np.float32)}, ["float32", "float64"]),
    ({"G": lambda: two(Linear(3, 4), dtype=np.float32)}, ["float32", "float64"]),
    ({"D": lambda: two(Linear(4, 1), xp=stand_in)}, ["numpy", "cupy"]),
    ({"noise": Noise("uniform", 2)}, ["noise of 2", "Linear(3, 4)"]),
    ({"noise": Noise("uniform", 100)}, ["noise of 100", "Linear(3, 4)"]),
    ({"G": lambda: two(Linear(3, 5))}, ["samples of G", "(1, 5)", "Linear(4, 1)"]),
]


@pytest.mark.usefixtures("strict_xp")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("options", "facts"), NO_GAME)
def test_what_is_no_game_is_refused(options, facts, variant):
    networks = {"G": small_G, "D": lambda: two(Linear(4, 1))} | {name: options[name] for name in "GD" if name in options}
    G, D = networks["G"](), networks["D"]()
    rest = {"noise": Noise("uniform", 3), "batch_size": M} | {n: o for n, o in options.items() if n not in "GD"}
    with refused(*facts):
        VARIANTS[variant](G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1), **rest)


def test_a_refused_game_moves_nothing():
    G, D = small_G(), two(BatchNorm(4), Linear(4, 1), Sigmoid())
    before = bits([G.theta, D.theta, D.statistics])
    with pytest.raises(ArgumentError):
        GAN(G, D, MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1), noise=Noise("uniform", 3))
    assert bits([G.theta, D.theta, D.statistics]) == before


def test_an_optimiser_over_anything_but_its_network_is_refused():
    G, D = small_G(), two(Linear(4, 1))
    own = MomentumSGD(G.theta, 0.1), MomentumSGD(D.theta, 0.1)
    for pair in ((MomentumSGD(G.theta.copy(), 0.1), own[1]), (own[0], Adam(D.theta.copy(), 0.1)), own[::-1]):
        with pytest.raises(ArgumentError, match="optimiser.*θ"):
            GAN(G, D, *pair, noise=Noise("uniform", 3))


X32 = np.full((M, 4), 0.5, np.float32)


@pytest.mark.parametrize("step", ["iteration", "discriminator_step"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("x", "facts"),
    [
        ((X32 * 255).astype(np.uint8), ["float32", "uint8", "data"]),
        (X32.astype(np.float64), ["float32", "float64", "data"]),
        (X32.tolist(), ["float32", "list", "data"]),
        (X32[:, :3], ["(5, 3)", "(5, 4)"]),
        (X32[0], ["(4,)", "(5, 4)"]),
        (X32.reshape(M, 2, 2), ["(5, 2, 2)", "(5, 4)"]),
    ],
    ids=["bytes", "float64", "a list", "narrow", "one row", "pictures"],
)
def test_data_of_another_dtype_or_shape_are_refused_not_cast(x, facts, variant, step):
    gan = game(variant, dtype=np.float32)
    before = bits([gan.G.theta, gan.D.theta])
    steps = {
        "iteration": lambda: gan.iteration(iter([Batch(x)]), Streams(0, 1)),
        "discriminator_step": lambda: gan.discriminator_step(x, np.zeros((M, 3), np.float32), None),
    }
    with refused(*facts):
        steps[step]()
    assert bits([gan.G.theta, gan.D.theta]) == before


@pytest.mark.usefixtures("strict_xp")
def test_data_on_the_host_are_refused_by_networks_on_a_device():
    gan = game(xp=stand_in, dtype=np.float32)
    with pytest.raises(ArgumentError, match=r"cupy.*data.*numpy"):
        gan.iteration(iter([Batch(X32)]), Streams(0, 1, stand_in))


@pytest.mark.parametrize("seed", [0, 7, np.int64(0)])
@pytest.mark.parametrize("step", ["discriminator_step", "simultaneous_step", "generator_step"])
def test_a_seed_in_place_of_a_generator_is_refused_by_every_step(step, seed):
    """It would give every step the same mask."""
    gan, (x, z) = game("simultaneous", keep=0.5), minibatch()
    with pytest.raises(ArgumentError, match=r"rng.*random_generator\(xp, seed\)"):
        getattr(gan, step)(*([z] if step == "generator_step" else [x, z]), seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_in_place_of_streams_is_refused_by_every_iteration(variant):
    with refused("Streams(seed)", 0):
        game(variant).iteration(batches(), 0)


# ---------------------------------------------------------------------------------------------------------------------
# Noise
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", PRIORS)
def test_noise_has_its_shape_dtype_and_stream(xp, kind, dtype):
    noise = Noise(kind, 7)
    z = noise(random_generator(xp, 3), 50, dtype)
    assert (z.shape, z.dtype) == ((50, 7), np.dtype(dtype))
    assert bits(z) == bits(noise(random_generator(xp, 3), 50, dtype))
    assert bits(z) != bits(noise(random_generator(xp, 4), 50, dtype))
    assert noise(random_generator(xp, 3), 2).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "second", "fourth"), [("uniform", 1, 9 / 5), ("gaussian", 1, 3), ("spherical", 1 / 100, 3 / (100 * 102))]
)
def test_noise_has_the_moments_of_its_prior(xp, kind, second, fourth):
    """E[z] = 0, E[z²], E[z⁴] of U(−√3, √3), of N(0, 1), and of a coordinate on the sphere in 100 dimensions."""
    z = host(Noise(kind, 100)(random_generator(xp, 0), 2000)).astype(np.float64)
    n = z.size
    for power, moment, variance in [(1, 0, second), (2, second, fourth - second**2)]:
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / n)
    assert (z**4).mean() == pytest.approx(fourth, rel=0.05)


def test_uniform_noise_fills_its_range(xp):
    z = host(Noise("uniform", 100)(random_generator(xp, 0), 1000))
    assert abs(z).max() <= np.float32(math.sqrt(3))
    assert z.min() < -1.73
    assert z.max() > 1.73


def test_spherical_noise_has_norm_1(xp):
    z = host(Noise("spherical", 50)(random_generator(xp, 0), 100, np.float64))
    np.testing.assert_allclose((z**2).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "facts"), [(("normal", 3), ["'normal'", *PRIORS]), (("uniform", 0), ["0"]), (("gaussian", -2), ["-2"])]
)
def test_what_is_no_prior_is_refused(arguments, facts):
    with refused(*facts):
        Noise(*arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Samples
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 2300])
@pytest.mark.parametrize("kind", PRIORS)
def test_samples_are_G_of_noise_from_the_generator_given_in_blocks_of_1000(xp, kind, n):
    G, noise, blocks = generator(np.float32, xp), Noise(kind, 3), []
    forward = G.forward
    G.forward = lambda z, *args: blocks.append(len(z)) or forward(z, *args)
    samples = generate(Generator(G, noise), n, random_generator(xp, 0, "x"))
    assert blocks == [1000] * (n // 1000) + [n % 1000] * (n % 1000 > 0)
    rng = random_generator(xp, 0, "x")
    expected = xp.concatenate([G(noise(rng, size)) for size in list(blocks)])
    assert samples.shape == (n, 4)
    assert bits(samples) == bits(expected)


SAMPLERS = {
    "generate": lambda gan, *args: generate(Generator(gan.G, gan.noise), *args),
    "Generator.sample": lambda gan, *args: Generator(gan.G, gan.noise).sample(*args),
    "GAN.sample": lambda gan, *args: gan.sample(*args),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_of_samples_is_that_of_a_new_generator_and_0_by_default(xp, sampler):
    gan, sample = game(xp=xp, dtype=np.float32, normalised=True), SAMPLERS[sampler]
    for seed in 0, 5, np.int64(5):
        assert bits(sample(gan, 8, seed)) == bits(sample(gan, 8, random_generator(xp, int(seed), "samples")))
    assert bits(sample(gan, 8)) == bits(sample(gan, 8, 0))
    assert bits(sample(gan, 8, 0)) != bits(sample(gan, 8, 1))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_made_without_dropout_at_the_running_statistics_and_move_nothing(xp, sampler):
    gan = game(xp=xp, normalised=True)
    gan.iteration(batches(xp), same_streams(xp))
    before = bits([gan.G.theta, gan.G.statistics])
    rows = SAMPLERS[sampler](gan, 6, 3)
    assert bits(rows) == bits(gan.G(gan.noise(random_generator(xp, 3, "samples"), 6, np.float64)))
    assert bits([gan.G.theta, gan.G.statistics]) == before


@pytest.mark.parametrize("n", [0, -1])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_fewer_samples_than_one_are_refused(sampler, n):
    with refused(n):
        SAMPLERS[sampler](game(), n)
