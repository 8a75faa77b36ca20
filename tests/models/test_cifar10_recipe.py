"""The two CIFAR-10 recipes: the released code's layers and sizes, what a scale changes, and one update against PyTorch."""

import numpy as np
import pytest
from helpers import refused

from tinygan import VARIANTS, Dropout, Linear, Maxout, Noise, ReLU, Reshape, Sigmoid, Streams, Trainer, Uniform
from tinygan.convolution import ChannelMaxout, Conv2d, ConvTranspose2d, MaxPool2d
from tinygan.datasets import normalise_contrast
from tinygan.description import parameter_count
from tinygan.recipes import CALM, CIFAR10, MODELS, cifar10, cifar10_networks, cifar10_settings, momentum

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 3072), dtype=np.uint8)


def layers(model, **settings):
    return MODELS[model](cifar10_settings({"model": model} | settings))


# ---- The released recipes

PARAMETERS = {"fully-connected": (89_395_072, 37_393_601), "convolutional": (64_825_072, 12_454_073)}

G_LAYERS = {
    "fully-connected": [Linear(100, 8000), ReLU(), Linear(8000, 8000), Sigmoid(), Linear(8000, 3072)],
    "convolutional": [
        *[Linear(100, 8000), ReLU(), Linear(8000, 8000), Sigmoid()],
        *[Reshape((10, 10, 80)), ConvTranspose2d(80, 3, 5, stride=3, bias=np.zeros((32, 32, 3))), Reshape((3072,))],
    ],
}
D_LAYERS = {
    "fully-connected": [
        *[Dropout(0.8), Maxout(3072, 1600, 5), Dropout(0.5), Maxout(1600, 1600, 5), Dropout(0.5), Linear(1600, 1)],
    ],
    "convolutional": [
        *[Dropout(0.8), Reshape((32, 32, 3)), Conv2d(3, 64, 8, padding=4), ChannelMaxout(2), MaxPool2d(4, 2)],
        *[Dropout(0.5), Conv2d(32, 64, 8, padding=3), ChannelMaxout(2), MaxPool2d(4, 2)],
        *[Dropout(0.5), Conv2d(32, 384, 5, padding=3), ChannelMaxout(2), MaxPool2d(2, 2), Reshape((4800,))],
        *[Dropout(0.5), Maxout(4800, 500, 5), Dropout(0.5), Linear(500, 1)],
    ],
}


@pytest.mark.parametrize("model", CIFAR10)
def test_the_layers_are_the_recipes(model):
    G, D = layers(model)
    assert (parameter_count(G), parameter_count(D)) == PARAMETERS[model]
    assert list(map(repr, G)) == list(map(repr, G_LAYERS[model]))
    assert list(map(repr, D)) == list(map(repr, D_LAYERS[model]))


def radii(layers):
    """(weights that one output sums over, radius) of each layer with weights."""
    found = []
    for layer in layers:
        if "W" in layer.declarations:
            shape, start = layer.declarations["W"]
            assert isinstance(start, Uniform)
            transposed = isinstance(layer, ConvTranspose2d)  # each output value sums over all its input channels
            found.append((shape[-1] if transposed else int(np.prod(shape[:-1])), start.radius))
    return found


@pytest.mark.parametrize("model", CIFAR10)
def test_weights_start_in_the_recipes_ranges_and_biases_at_zero(model):
    G, D = layers(model)
    assert [radius for _, radius in radii(G)] == [0.05, 0.05, {"fully-connected": 0.5, "convolutional": 0.05}[model]]
    assert {radius for _, radius in radii(D)} == {0.005}
    for network in cifar10_networks({"model": model, "scale": 40}):
        assert not any(values.any() for name, values in network.parameters().items() if name.endswith("b"))


@pytest.mark.parametrize("scale", [2, 5.5, 8, 40])
@pytest.mark.parametrize("model", CIFAR10)
def test_a_narrower_layer_gives_outputs_as_large_as_the_papers(model, scale):
    """The variance of Σ w x is (inputs)·r²/3·E[x²]."""
    for narrow, whole in zip(layers(model, scale=scale), layers(model), strict=True):
        for (n, radius), (n_whole, radius_whole) in zip(radii(narrow), radii(whole), strict=True):
            assert n * radius**2 == pytest.approx(n_whole * radius_whole**2)
            assert n_whole / n == 1 or n_whole / n > scale**0.5 / 1.2


def test_a_scale_divides_the_widths():
    G, D = layers("convolutional", scale=16)  # the channels of D by √16
    assert repr(G[:3]) == "[Linear(100, 500), ReLU(), Linear(500, 500)]"
    assert [D[i].c_out for i in (2, 6, 10)] == [16, 16, 96]
    assert (D[15].n_in, D[15].n_out) == (25 * 48, 31)
    G, D = layers("fully-connected", scale=1e9)
    assert [G[i].n_out for i in (0, 2, 4)] == [1, 1, 3072]


@pytest.mark.parametrize("model", CIFAR10)
def test_the_game_is_the_recipes(model):
    gan = cifar10({"model": model, "scale": 100})
    assert type(gan) is VARIANTS["simultaneous"]
    assert gan.noise == Noise("gaussian", 100)
    assert (gan.generator_cost, gan.k, gan.generator_steps) == ("non_saturating", 1, 1)
    assert gan.batch_size == {"fully-connected": 100, "convolutional": 128}[model]
    for optimizer in gan.G_optimizer, gan.D_optimizer:
        assert optimizer.learning_rate(1) == {"fully-connected": 0.025, "convolutional": 0.004}[model]
        assert optimizer.learning_rate(50_001) == pytest.approx(optimizer.learning_rate(1) / 1.000004**50_000, rel=1e-9)
    assert [momentum(cifar10_settings({"model": model}))(epoch) for epoch in (1, 250)] == pytest.approx([0.5, 0.7])
    assert type(cifar10({"model": model, "scale": 100, "calm": True})) is CALM["simultaneous"]


@pytest.mark.parametrize("wrong", [{"model": "other"}, {}, {"model": "convolutional", "scale": 0.5}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with refused(*(str(value) for value in wrong.values() if value != "convolutional")):
        cifar10(wrong)


@pytest.mark.parametrize("model", CIFAR10)
def test_the_recipe_trains_on_every_backend(model, xp):
    gan = cifar10({"model": model, "scale": 200, "batch_size": 5}, xp)
    assert gan.G.xp is gan.D.xp is xp
    row = Trainer(gan, IMAGES[:10], IMAGES[:5], prepare=normalise_contrast).train_epoch()
    assert np.isfinite(list(row.values())).all()


# ---- One update, against PyTorch, which works on the same numbers in its own layout (m, c, h, w)


def torch_parameters(torch, network):
    return {name: torch.tensor(values, requires_grad=True) for name, values in network.parameters().items()}


def torch_generator(torch, model, p, z):
    y = torch.sigmoid(torch.relu(z @ p["0.W"] + p["0.b"]) @ p["2.W"] + p["2.b"])
    if model == "fully-connected":
        return y @ p["4.W"] + p["4.b"]
    y = y.reshape(len(z), 10, 10, -1).permute(0, 3, 1, 2)
    y = torch.nn.functional.conv_transpose2d(y, p["5.W"].permute(3, 2, 0, 1), stride=3)
    return (y.permute(0, 2, 3, 1) + p["5.b"]).reshape(len(z), -1)


def torch_discriminator(torch, model, p, x, masks):
    def maxout(x, W, b, pieces):
        return (x @ W + b).reshape(len(x), pieces, -1).amax(1)

    if model == "fully-connected":
        x = maxout(x * masks[0], p["1.W"], p["1.b"], 5)
        x = maxout(x * masks[1], p["3.W"], p["3.b"], 5)
        return (x * masks[2]) @ p["5.W"] + p["5.b"]
    y = (x * masks[0]).reshape(-1, 32, 32, 3).permute(0, 3, 1, 2)
    for i, mask, padding, size in (2, None, 4, 4), (6, masks[1], 3, 4), (10, masks[2], 3, 2):
        y = y if mask is None else y * mask.permute(0, 3, 1, 2)
        y = torch.nn.functional.conv2d(y, p[f"{i}.W"].permute(3, 2, 0, 1), p[f"{i}.b"], padding=padding)
        y = y.reshape(len(y), 2, -1, *y.shape[2:]).amax(1)
        y = torch.nn.functional.max_pool2d(y, size, 2, ceil_mode=True)
    y = maxout(y.permute(0, 2, 3, 1).reshape(len(y), -1) * masks[3], p["15.W"], p["15.b"], 5)
    return (y * masks[4]) @ p["17.W"] + p["17.b"]


@pytest.mark.parametrize("model", CIFAR10)
def test_one_update_is_pytorchs(model):
    torch = pytest.importorskip("torch")
    m = 4
    gan = cifar10({"model": model, "scale": 40, "batch_size": m, "dtype": "float64"})
    gan.D.theta *= {"fully-connected": 1, "convolutional": 8}[model]  # at this one's start the gradients are very small
    for network in gan.G, gan.D:
        network.theta += 0.01 * np.random.default_rng(3).standard_normal(network.theta.shape)  # biases too
    x = normalise_contrast(IMAGES[:m], dtype=np.float64)
    z = gan.noise(Streams(0)["noise"], m, np.float64)
    G, D = (torch_parameters(torch, network) for network in (gan.G, gan.D))

    masks, forward = [], gan.D.forward

    def recording_forward(*args, **kwargs):
        a, cache = forward(*args, **kwargs)
        masks.append([torch.tensor(c) for layer, c in zip(gan.D.layers, cache, strict=True) if isinstance(layer, Dropout)])
        return a, cache

    gan.D.forward = recording_forward
    D_cost, G_cost = gan.simultaneous_step(x, z, Streams(0)["dropout"])
    (masks,) = masks

    samples = torch_generator(torch, model, G, torch.tensor(z))
    a = torch_discriminator(torch, model, D, torch.cat([torch.tensor(x), samples]), masks)
    J_D = (torch.nn.functional.softplus(-a[:m]).mean() + torch.nn.functional.softplus(a[m:]).mean()) / 2
    J_G = torch.nn.functional.softplus(-a[m:]).mean()
    assert D_cost == pytest.approx(J_D.item(), rel=1e-10)
    assert G_cost == pytest.approx(J_G.item(), rel=1e-10)
    eta = CIFAR10[model]["learning_rate"]
    for cost, network, parameters in (J_D, gan.D, D), (J_G, gan.G, G):
        gradients = torch.autograd.grad(cost, list(parameters.values()), retain_graph=True)
        for (name, theta), gradient in zip(parameters.items(), gradients, strict=True):
            update = eta * gradient.numpy()
            assert abs(update).max() > 1e-9, f"{name} is not moved: this would show nothing"
            expected = theta.detach().numpy() - update
            np.testing.assert_allclose(network.parameters()[name], expected, rtol=0, atol=1e-9 * abs(update).max() + 1e-15)
