"""The oracle: PyTorch's automatic differentiation, with the same θ, z, x and masks, agrees to 1e-12 in float64.

PyTorch is not needed to use or to test tinygan; where it is installed, these tests run.
"""

import itertools

import numpy as np
import pytest
from helpers import LAYERS, SameDraws, discriminator, generator

from tinygan import (
    GAN,
    GENERATOR_COSTS,
    VARIANTS,
    Dropout,
    Linear,
    Maxout,
    MomentumSGD,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    discriminator_loss,
    generator_loss,
    value_function,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional

torch.set_num_threads(1)  # for matrices this small, waiting for a second thread is most of the work

M = 5


def close(got, expected, tolerance=1e-12):
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def tensor(array):
    return torch.tensor(array, requires_grad=True)


# ---------------------------------------------------------------------------------------------------------------------
# The same mathematics in PyTorch's words
# ---------------------------------------------------------------------------------------------------------------------

# layer, x, an iterator over θ's parts, an iterator over masks
TORCH = {
    Linear: lambda layer, x, parts, masks: F.linear(x, next(parts).T, next(parts)),
    Maxout: lambda layer, x, parts, masks: (
        F.linear(x, next(parts).T, next(parts)).reshape(len(x), layer.pieces, layer.n_out).max(dim=1).values
    ),
    ReLU: lambda layer, x, parts, masks: torch.relu(x),
    Sigmoid: lambda layer, x, parts, masks: torch.sigmoid(x),
    Dropout: lambda layer, x, parts, masks: x * next(masks),
    Reshape: lambda layer, x, parts, masks: x.reshape(len(x), *layer.shape),
}


def torch_forward(net, theta, x, masks=()):
    shapes = [shape for layer in net.layers for shape, _ in layer.declarations.values()]
    parts = theta.split([int(np.prod(shape)) for shape in shapes])
    parts = iter([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    masks = iter(masks)
    for layer in net.layers:
        x = TORCH[type(layer)](layer, x, parts, masks)
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


@pytest.mark.parametrize("name", LAYERS)
def test_layer_and_its_gradients(name):
    net = Network([LAYERS[name]()], dtype=np.float64)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((M, 4))
    y, cache = net.forward(x, True, SameDraws(np))
    dy, grad = rng.standard_normal(y.shape), np.empty_like(net.theta)
    dx = net.backward(dy, cache, grad)

    torch_x, theta = tensor(x), tensor(net.theta)
    torch_y = torch_forward(net, theta, torch_x, map(torch.tensor, cache if name == "Dropout" else []))
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


# ---------------------------------------------------------------------------------------------------------------------
# Three iterations of Algorithm 1
# ---------------------------------------------------------------------------------------------------------------------

ETAS, MUS = (0.3, 0.2, 0.05), (0.5, 0.6, 0.7)  # both change, as the schedules have it


class Recorder:
    """Plays tinygan's three iterations and keeps what they drew: z, x, and the masks of each pass through D."""

    def __init__(self, variant, cost):
        rng, dropout = np.random.default_rng(3), SameDraws(np)
        self.z, self.x, self.masks, self.costs = [], [], [], []
        G, D = generator(), discriminator(keep=0.5)
        self.G, self.D, self.start = G, D, [G.theta.copy(), D.theta.copy()]
        forward = D.forward

        def recording_forward(*args, **kwargs):
            a, cache = forward(*args, **kwargs)
            self.masks.append([c for layer, c in zip(D.layers, cache, strict=True) if isinstance(layer, Dropout)])
            return a, cache

        def draw(kept, array):
            kept.append(array)
            return array

        D.forward = recording_forward
        gan = GAN(G, D, MomentumSGD(G.theta, 1.0), MomentumSGD(D.theta, 1.0), variant=variant, generator_cost=cost)
        batches = (draw(self.x, rng.random((M, 4))) for _ in itertools.count())
        for eta, mu in zip(ETAS, MUS, strict=True):
            for player in (gan.G_optimizer, gan.D_optimizer):
                player.learning_rate, player.momentum = eta, mu
            self.costs.append(gan.iteration(lambda: draw(self.z, rng.standard_normal((M, 3))), batches, dropout))
        self.velocities = gan.G_optimizer.velocity, gan.D_optimizer.velocity


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


@pytest.mark.parametrize("cost", GENERATOR_COSTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_iterations_of_algorithm_1(variant, cost):
    ours = Recorder(variant, cost)
    theta_g, theta_d = (tensor(theta) for theta in ours.start)
    sgd_g, sgd_d = TorchMomentum(theta_g), TorchMomentum(theta_d)
    z, x, masks = (map(torch.tensor, ours.z), map(torch.tensor, ours.x), iter(ours.masks))

    def G(z):
        return torch_forward(ours.G, theta_g, z)

    def D(x):
        return torch_forward(ours.D, theta_d, x, map(torch.tensor, next(masks)))

    for (D_cost, G_cost), eta, mu in zip(ours.costs, ETAS, MUS, strict=True):
        # Algorithm 1 takes fresh noise for G; the simultaneous update takes both gradients before any step.
        samples = G(next(z))
        a = D(torch.cat([next(x), samples]))
        J_D = torch_discriminator_cost(a[:M], a[M:]) * (2 if variant == "printed" else 1)
        (D_gradient,) = torch.autograd.grad(J_D, theta_d, retain_graph=True)
        if variant != "simultaneous":
            sgd_d.step(eta, mu, D_gradient)
            J_G = TORCH_COST[cost](D(G(next(z))))
        else:
            J_G = TORCH_COST[cost](a[M:])
        (G_gradient,) = torch.autograd.grad(J_G, theta_g)
        if variant == "simultaneous":
            sgd_d.step(eta, mu, D_gradient)
        sgd_g.step(eta, mu, G_gradient)
        close(D_cost, J_D)
        close(G_cost, J_G)

    assert next(masks, None) is None, "PyTorch has made as many passes through D"
    for ours_end, torchs in zip([ours.G.theta, ours.D.theta], [theta_g, theta_d], strict=True):
        close(ours_end, torchs)
    for velocity, sgd in zip(ours.velocities, [sgd_g, sgd_d], strict=True):
        close(velocity, -sgd.buf)
