"""The oracle: PyTorch's automatic differentiation, with the same θ, z, x and masks, agrees to 1e-12 in float64.

PyTorch is not needed to use or to test tinygan; where it is installed, these tests run.
"""

import numpy as np
import pytest
from helpers import LAYERS, M, SameDraws, batches, game, same_streams

from tinygan import (
    GENERATOR_COSTS,
    VARIANTS,
    Adam,
    Batch,
    BatchNorm,
    Dropout,
    LeakyReLU,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
    bernoulli_cross_entropy,
    discriminator_loss,
    generator_loss,
    softmax_cross_entropy,
    squared_error,
    value_function,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional

torch.set_num_threads(1)  # for matrices this small, waiting for a second thread is most of the work


def close(got, expected, tolerance=1e-12):
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def tensor(array):
    return torch.tensor(array, requires_grad=True)


# ---------------------------------------------------------------------------------------------------------------------
# The same mathematics in PyTorch's words
# ---------------------------------------------------------------------------------------------------------------------


def torch_linear(layer, x, parts):
    return F.linear(x, next(parts).T, next(parts) if "b" in layer.declarations else None)


def torch_batch_norm(layer, x, parts, train):
    mean, var = (torch.tensor(array) for array in (layer.mean, layer.var))  # copies: PyTorch moves them by itself
    return F.batch_norm(x, mean, var, next(parts), next(parts), training=train, eps=layer.epsilon)


# layer, x, an iterator over θ's parts, an iterator over masks, whether in training
TORCH = {
    Linear: lambda layer, x, parts, masks, train: torch_linear(layer, x, parts),
    Maxout: lambda layer, x, parts, masks, train: (
        torch_linear(layer, x, parts).reshape(len(x), layer.pieces, layer.n_out).max(dim=1).values
    ),
    ReLU: lambda layer, x, parts, masks, train: torch.relu(x),
    LeakyReLU: lambda layer, x, parts, masks, train: F.leaky_relu(x, layer.slope),
    Tanh: lambda layer, x, parts, masks, train: torch.tanh(x),
    Sigmoid: lambda layer, x, parts, masks, train: torch.sigmoid(x),
    Dropout: lambda layer, x, parts, masks, train: x * next(masks) if train else x,
    Reshape: lambda layer, x, parts, masks, train: x.reshape(len(x), *layer.shape),
    BatchNorm: lambda layer, x, parts, masks, train: torch_batch_norm(layer, x, parts, train),
}


def torch_forward(net, theta, x, masks=(), train=True):
    shapes = [shape for layer in net.layers for shape, _ in layer.declarations.values()]
    parts = theta.split([int(np.prod(shape)) for shape in shapes])
    parts = iter([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    masks = iter(masks)
    for layer in net.layers:
        x = TORCH[type(layer)](layer, x, parts, masks, train)
    return x


def bce(a, target):
    """−log D for the target 1, −log(1 − D) for the target 0, means over the batch."""
    return F.binary_cross_entropy_with_logits(a, torch.full_like(a, target))


TORCH_COST = {
    "non_saturating": lambda a: bce(a, 1.0),
    "minimax": lambda a: -bce(a, 0.0),
    "maximum_likelihood": lambda a: -torch.exp(a).mean(),
}


def torch_discriminator_cost(a_real, a_fake):
    return (bce(a_real, 1.0) + bce(a_fake, 0.0)) / 2


# ---------------------------------------------------------------------------------------------------------------------
# Layers and losses
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_and_its_gradients(name, train):
    net = Network([LAYERS[name]()], dtype=np.float64)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((M, 4))
    net.statistics += rng.random(net.statistics.shape)
    y, cache = net.forward(x, train, SameDraws(np))
    dy, grad = rng.standard_normal(y.shape), np.empty_like(net.theta)
    dx = net.backward(dy, cache, grad)

    torch_x, theta = tensor(x), tensor(net.theta)
    masks = map(torch.tensor, cache if name == "Dropout" and train else [])
    torch_y = torch_forward(net, theta, torch_x, masks, train)
    (torch_y * torch.tensor(dy)).sum().backward()
    close(y, torch_y)
    close(dx, torch_x.grad)
    if grad.size:
        close(grad, theta.grad)


def logits(scale=3.0):
    return np.random.default_rng(0).standard_normal((2, M, 1)) * scale


def test_value_function_and_discriminator_cost():
    a_real, a_fake = logits()
    J, da_real, da_fake = discriminator_loss(a_real, a_fake)
    torch_real, torch_fake = tensor(a_real), tensor(a_fake)
    torch_J = torch_discriminator_cost(torch_real, torch_fake)
    torch_J.backward()
    close(J, torch_J)
    close(value_function(a_real, a_fake), -2 * torch_J)
    close(da_real, torch_real.grad)
    close(da_fake, torch_fake.grad)


@pytest.mark.parametrize("kind", GENERATOR_COSTS)
def test_generator_cost(kind):
    _, a = logits()
    J, da = generator_loss(a, kind)
    torch_a = tensor(a)
    torch_J = TORCH_COST[kind](torch_a)
    torch_J.backward()
    close(J, torch_J)
    close(da, torch_a.grad)


RNG = np.random.default_rng(1)
LABELS = np.array([0, 3, 1, 3, 2])
TARGET = RNG.random((M, 4))
OTHER_COSTS = {
    "softmax": (softmax_cross_entropy, LABELS, lambda y: F.cross_entropy(y, torch.tensor(LABELS))),
    "squared": (squared_error, TARGET, lambda y: F.mse_loss(y, torch.tensor(TARGET), reduction="sum") / M),
    "Bernoulli": (
        bernoulli_cross_entropy,
        TARGET,
        lambda y: F.binary_cross_entropy_with_logits(y, torch.tensor(TARGET), reduction="sum") / M,
    ),
}


@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("cost", OTHER_COSTS)
def test_costs_for_other_models(cost, scale):
    loss, target, torch_loss = OTHER_COSTS[cost]
    y = RNG.standard_normal((M, 4)) * scale
    J, dy = loss(y, target)
    torch_y = tensor(y)
    torch_J = torch_loss(torch_y)
    torch_J.backward()
    close(J, torch_J)
    close(dy, torch_y.grad)


# ---------------------------------------------------------------------------------------------------------------------
# Three iterations of Algorithm 1
# ---------------------------------------------------------------------------------------------------------------------

ETAS, MUS = (0.3, 0.2, 0.05), (0.5, 0.6, 0.7)  # both change, as the schedules have it


class Recorder:
    """Plays tinygan's three iterations and keeps what they drew: z, x, and the masks of each pass through D."""

    def __init__(self, variant, cost, normalised):
        self.z, self.x, self.masks, self.costs = [], [], [], []
        gan = game(variant, keep=0.5, normalised=normalised, generator_cost=cost)
        self.gan, self.start = gan, [gan.G.theta.copy(), gan.D.theta.copy()]
        forward, noise = gan.D.forward, gan.noise

        def recording_forward(*args, **kwargs):
            a, cache = forward(*args, **kwargs)
            self.masks.append([c for layer, c in zip(gan.D.layers, cache, strict=True) if isinstance(layer, Dropout)])
            return a, cache

        def draw(kept, array):
            kept.append(array)
            return array

        gan.D.forward = recording_forward
        gan.noise = lambda *args: draw(self.z, noise(*args))
        stock = (Batch(draw(self.x, batch.x)) for batch in batches())
        streams = same_streams(np)
        for eta, mu in zip(ETAS, MUS, strict=True):
            for optimizer in (gan.G_optimizer, gan.D_optimizer):
                optimizer.learning_rate, optimizer.momentum = eta, mu
            self.costs.append(gan.iteration(stock, streams).values())


class TorchMomentum:
    """PyTorch's form of momentum, buf ← μ buf + ∇; θ ← θ − η buf: another method than the paper's where η changes.

    With its own rate at 1 and fed with η∇ it is the paper's: v = −buf obeys v ← μv − η∇; θ ← θ + v.
    """

    def __init__(self, theta):
        self.theta, self.buf = theta, torch.zeros_like(theta)

    def step(self, eta, mu, gradient):
        with torch.no_grad():
            self.buf.mul_(mu).add_(eta * gradient)
            self.theta -= self.buf


@pytest.mark.slow  # torch.optim takes seconds to import
def test_momentum_is_torch_optim_sgd():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(7)
    theta, torch_theta = start.copy(), tensor(start)
    ours, torchs = MomentumSGD(theta, 1.0), torch.optim.SGD([torch_theta], lr=1.0, momentum=0.5)
    for eta, mu in zip(ETAS, MUS, strict=True):
        gradient = rng.standard_normal(7)
        ours.learning_rate, ours.momentum = eta, mu
        torchs.param_groups[0]["momentum"] = mu
        torch_theta.grad = eta * torch.tensor(gradient)
        ours.step(gradient)
        torchs.step()
        close(theta, torch_theta)


@pytest.mark.slow  # torch.optim takes seconds to import
def test_adam_is_torch_optim_adam():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(7)
    theta, torch_theta = start.copy(), tensor(start)
    ours = Adam(theta, 0.1, 0.5, 0.9, 1e-3)
    torchs = torch.optim.Adam([torch_theta], lr=0.1, betas=(0.5, 0.9), eps=1e-3)
    for scale in 1, 1e-4, 100, 1, 1:
        gradient = scale * rng.standard_normal(7)
        torch_theta.grad = torch.tensor(gradient)
        ours.step(gradient)
        torchs.step()
        close(theta, torch_theta)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("cost", GENERATOR_COSTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_iterations_of_algorithm_1(variant, cost, normalised):
    ours = Recorder(variant, cost, normalised)
    theta_g, theta_d = (tensor(theta) for theta in ours.start)
    sgd_g, sgd_d = TorchMomentum(theta_g), TorchMomentum(theta_d)
    z, x, masks = (map(torch.tensor, ours.z), map(torch.tensor, ours.x), iter(ours.masks))

    def G(z):
        return torch_forward(ours.gan.G, theta_g, z)

    def D(x):
        return torch_forward(ours.gan.D, theta_d, x, map(torch.tensor, next(masks)))

    for (D_cost, G_cost), eta, mu in zip(ours.costs, ETAS, MUS, strict=True):
        # Algorithm 1 takes fresh noise for G; the simultaneous update takes both gradients before any step.
        samples, data = G(next(z)), next(x)
        if normalised:
            a_real, a_fake = D(data), D(samples)
        else:
            a_real, a_fake = D(torch.cat([data, samples])).split(M)
        J_D = torch_discriminator_cost(a_real, a_fake) * (2 if variant == "printed" else 1)
        (D_gradient,) = torch.autograd.grad(J_D, theta_d, retain_graph=True)
        if variant != "simultaneous":
            sgd_d.step(eta, mu, D_gradient)
            a_fake = D(G(next(z)))
        J_G = TORCH_COST[cost](a_fake)
        (G_gradient,) = torch.autograd.grad(J_G, theta_g)
        if variant == "simultaneous":
            sgd_d.step(eta, mu, D_gradient)
        sgd_g.step(eta, mu, G_gradient)
        close(D_cost, J_D)
        close(G_cost, J_G)

    assert next(masks, None) is None, "PyTorch has made as many passes through D"
    for name, theta, sgd in ("G", theta_g, sgd_g), ("D", theta_d, sgd_d):
        network, optimizer = ours.gan.players[name]
        close(network.theta, theta)
        close(optimizer.velocity, -sgd.buf)
