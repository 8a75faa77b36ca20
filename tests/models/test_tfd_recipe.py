"""The two stages of the TFD recipe: the released code's layers and sizes, the max column norm, one update against PyTorch."""

import numpy as np
import pytest
from helpers import refused
from strict_cupy import host

from tinygan import (
    VARIANTS,
    Dropout,
    Linear,
    Maxout,
    Network,
    Noise,
    ReLU,
    Sigmoid,
    Streams,
    Trainer,
    bias_from_marginals,
    recipes,
)
from tinygan.init import Constant, Sparse, Uniform
from tinygan.recipes import CALM, TFD, limit_columns, tfd, tfd_networks

STAGES = 1, 2
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 2304), dtype=np.uint8)
BIAS = bias_from_marginals(IMAGES)
FIRST = [Linear(100, 8000), ReLU(), Linear(8000, 8000), Sigmoid(), Linear(8000, 2304), Sigmoid()]
G_LAYERS = {1: FIRST, 2: [Linear(100, 8000), ReLU(), Linear(8000, 100), Sigmoid(), *FIRST]}
D_LAYERS = [Dropout(0.8), Maxout(2304, 1200, 5), Dropout(0.5), Maxout(1200, 1200, 5), Dropout(0.5), Linear(1200, 1)]
SMALL = {"scale": 400, "batch_size": 5}


@pytest.fixture
def layers(monkeypatch):
    """layers(stage, …): the lists of layers of G and D at full width, with no memory for their parameters."""

    def layers(stage, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(recipes, "Network", lambda layers, **_: layers)
            return tfd_networks({"stage": stage} | settings, BIAS)

    return layers


def count(layers):
    return sum(int(np.prod(shape)) for layer in layers for shape, _ in layer.declarations.values())


def starts(layers):
    """How each W and b starts."""
    declared = [declaration[1] for layer in layers for declaration in layer.declarations.values()]
    return [each.radius if isinstance(each, Uniform) else each for each in declared]


@pytest.mark.parametrize("stage", STAGES)
def test_the_layers_are_the_recipes(layers, stage):
    G, D = layers(stage)
    assert list(map(repr, G)) == list(map(repr, G_LAYERS[stage]))
    assert list(map(repr, D)) == list(map(repr, D_LAYERS))
    assert (count(G), count(D)) == ({1: 83_250_304, 2: 84_858_404}[stage], 21_037_201)


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_start_as_in_the_recipe(layers, stage):
    G, D = layers(stage)
    weights, biases = starts(G)[::2], starts(G)[1::2]
    assert weights[:-1] == [0.05] * (2 * stage)
    assert isinstance(weights[-1], Sparse)
    assert weights[-1].n == 100
    assert all(isinstance(bias, Constant) for bias in biases)
    assert [float(bias.value) for bias in biases[:-1]] == [0, -2] * stage
    assert np.array_equal(biases[-1].value, BIAS)
    assert starts(D)[::2] == [0.005] * 3
    assert [float(bias.value) for bias in starts(D)[1::2]] == [0] * 3


@pytest.mark.parametrize("scale", [2, 8, 40])
def test_a_narrower_layer_gives_outputs_as_large_as_the_papers(layers, scale):
    """The variance of Σ w x over n inputs is n·r²/3·E[x²]."""
    for stage in STAGES:
        for narrow, whole in zip(layers(stage, scale=scale), layers(stage), strict=True):
            for a, b in zip(narrow, whole, strict=True):
                if "W" in a.declarations and isinstance(a.declarations["W"][1], Uniform):
                    spreads = [each.n_in * each.declarations["W"][1].radius ** 2 for each in (a, b)]
                    assert spreads[0] == pytest.approx(spreads[1])
    assert layers(2, scale=scale)[0][2].n_out == 100  # what stage 1 takes


def test_a_new_generator_draws_the_mean_face():
    faces = np.tile(np.linspace(0, 255, 2304).astype(np.uint8), (3, 1))
    gan = tfd(SMALL, bias_from_marginals(faces))
    gan.G.parameters()["4.W"][...] = 0
    assert gan.sample(3, 0) == pytest.approx(faces / 255, abs=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_the_game_is_the_recipes(stage):
    gan = tfd(SMALL | {"stage": stage, "batch_size": 100}, BIAS)
    assert type(gan) is VARIANTS["simultaneous"]
    assert gan.noise == Noise("gaussian", 100)
    assert (gan.generator_cost, gan.k, gan.generator_steps, TFD["batch_size"]) == ("non_saturating", 1, 1, 100)
    for optimizer in gan.G_optimizer, gan.D_optimizer:
        assert optimizer.learning_rate(1) == 0.05
        assert optimizer.momentum == 0.5
    assert type(tfd(SMALL | {"calm": True}, BIAS)) is CALM["simultaneous"]
    assert recipes.TFD_EPOCHS == (50, 22)


def test_stage_2_goes_on_with_the_generator_of_stage_1():
    one = tfd(SMALL, BIAS)
    one.G.theta += 1
    two = tfd(SMALL | {"stage": 2}, BIAS, trained=one.G.theta)
    assert np.array_equal(two.G.theta[-one.G.theta.size :], one.G.theta)
    z = one.noise(Streams(0)["noise"], 3)
    front, inner = Network.build(two.G.describe()[:4]), Network.build(one.G.describe())
    inner.theta = one.G.theta
    front.theta = two.G.theta[: front.theta.size]
    np.testing.assert_array_equal(two.G(z), inner(front(z)))
    assert np.array_equal(two.D.theta, tfd(SMALL, BIAS).D.theta)  # a new D


WRONG = [("stage", 3), ("stage", "2"), ("scale", 0.5), ("max_column_norm", -1), ("max_column_norm", 0)]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_settings_that_make_no_sense_are_refused(name, value):
    with refused(name, value):
        tfd(SMALL | {name: value}, BIAS)


def test_a_generator_that_is_not_stage_1s_is_refused():
    theta = tfd(SMALL, BIAS).G.theta
    with refused("stage 1"):
        tfd(SMALL, BIAS, trained=theta)
    with refused("trained", theta.size, theta.size - 1):
        tfd(SMALL | {"stage": 2}, BIAS, trained=theta[1:].copy())
    with refused("trained"):
        tfd(SMALL | {"stage": 2, "dtype": "float64"}, BIAS, trained=theta)


# ---- The max column norm


@pytest.mark.parametrize("stage", STAGES)
def test_after_each_update_no_column_is_longer_than_the_limit(stage, xp):
    gan = tfd(SMALL | {"stage": stage, "scale": 100}, BIAS, xp)
    rng = np.random.default_rng(1)
    for network, optimizer in (gan.G, gan.G_optimizer), (gan.D, gan.D_optimizer):
        theta = rng.normal(0, 0.2, network.theta.shape).astype(np.float32)
        grad = rng.normal(0, 1, network.theta.shape).astype(np.float32)
        network.theta = xp.asarray(theta)
        optimizer.velocity[...] = xp.asarray(-grad)
        optimizer.step(xp.asarray(grad))
        v = -0.5 * grad - 0.05 * grad
        np.testing.assert_allclose(host(optimizer.velocity), v, rtol=1e-5, atol=1e-7)  # as it would be without a limit
        before, long = network.views(theta + v), 0
        for name, values in network.parameters().items():
            expected = before[name]
            if name.endswith("W"):
                n = np.sqrt((expected.astype(float) ** 2).sum(axis=0))
                expected = expected * np.clip(n, 0, 1.9365) / (1e-7 + n)
                long += (n > 1.9365).sum()
                assert (np.sqrt((host(values).astype(float) ** 2).sum(axis=0)) < 1.93651).all()
            np.testing.assert_allclose(host(values), expected, rtol=1e-4, atol=1e-6)
        assert long > 10, "no column was too long: this would show nothing"


def test_without_a_limit_columns_stay_long():
    gan = tfd(SMALL | {"max_column_norm": None}, BIAS)
    theta = gan.G.theta.copy()
    gan.G_optimizer.step(np.zeros_like(theta))
    assert np.array_equal(gan.G.theta, theta)
    limit_columns(gan.G, 1.9365)
    assert not np.array_equal(gan.G.theta, theta)


@pytest.mark.parametrize("stage", STAGES)
def test_the_recipe_trains_on_every_backend(stage, xp):
    gan = tfd(SMALL | {"stage": stage}, BIAS, xp)
    assert gan.G.xp is gan.D.xp is xp
    row = Trainer(gan, IMAGES[:10], IMAGES[:5]).train_epoch()
    assert np.isfinite(list(row.values())).all()


# ---- One update, against PyTorch


@pytest.mark.parametrize("stage", STAGES)
def test_one_update_is_pytorchs(stage):
    torch = pytest.importorskip("torch")
    m, limit = 4, 0.9
    gan = tfd({"stage": stage, "scale": 100, "batch_size": m, "dtype": "float64", "max_column_norm": limit}, BIAS)
    for network in gan.G, gan.D:
        network.theta += 0.02 * np.random.default_rng(3).standard_normal(network.theta.shape)
    x = IMAGES[:m] / 255
    z = gan.noise(Streams(0)["noise"], m, np.float64)
    G, D = ({name: torch.tensor(v, requires_grad=True) for name, v in net.parameters().items()} for net in (gan.G, gan.D))

    masks, forward = [], gan.D.forward

    def recording_forward(*args, **kwargs):
        a, cache = forward(*args, **kwargs)
        masks.append([torch.tensor(c) for layer, c in zip(gan.D.layers, cache, strict=True) if isinstance(layer, Dropout)])
        return a, cache

    gan.D.forward = recording_forward
    D_cost, G_cost = gan.simultaneous_step(x, z, Streams(0)["dropout"])
    (masks,) = masks

    y = torch.tensor(z)
    for i in range(0, 4 * stage + 2, 2):  # each affine map is followed by ReLU or a sigmoid, in turn; the last by a sigmoid
        y = y @ G[f"{i}.W"] + G[f"{i}.b"]
        y = torch.relu(y) if i % 4 == 0 and i < 4 * stage else torch.sigmoid(y)
    a = torch.cat([torch.tensor(x), y])
    for i, mask in (1, masks[0]), (3, masks[1]):
        a = ((a * mask) @ D[f"{i}.W"] + D[f"{i}.b"]).reshape(2 * m, 5, -1).amax(1)
    a = (a * masks[2]) @ D["5.W"] + D["5.b"]
    J_D = (torch.nn.functional.softplus(-a[:m]).mean() + torch.nn.functional.softplus(a[m:]).mean()) / 2
    J_G = torch.nn.functional.softplus(-a[m:]).mean()
    assert D_cost == pytest.approx(J_D.item(), rel=1e-10)
    assert G_cost == pytest.approx(J_G.item(), rel=1e-10)
    long = 0
    for cost, network, parameters in (J_D, gan.D, D), (J_G, gan.G, G):
        gradients = torch.autograd.grad(cost, list(parameters.values()), retain_graph=True)
        for (name, theta), gradient in zip(parameters.items(), gradients, strict=True):
            assert abs(gradient).max() > 1e-9, f"{name} is not moved: this would show nothing"
            new = theta.detach() - 0.05 * gradient
            if name.endswith("W"):
                n = torch.linalg.vector_norm(new, dim=0)
                new, long = new * n.clip(max=limit) / (1e-7 + n), long + int((n > limit).sum())
            change = 1e-9 * 0.05 * float(abs(gradient).max()) + 1e-15
            np.testing.assert_allclose(network.parameters()[name], new.numpy(), rtol=1e-14, atol=change)
    assert long > 10, "no column was too long"
