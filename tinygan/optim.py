"""Momentum SGD on one flat vector, the released code's two schedules, and the max column norm."""

from collections.abc import Callable

import numpy as np

from tinygan.backend import Array, get_array_module
from tinygan.errors import ArgumentError

CHUNK = 1 << 16
"""Entries of θ updated at a time: θ, v, ∇ and η∇ of this many float32 fit into a core's own cache (1 MB)."""


class MomentumSGD:
    """v ← μ v − η ∇;  θ ← θ + v   (classical momentum; section 4: "We used momentum in our experiments")

    theta          1-D, updated in place
    learning_rate  η, a number, or a function of t that gives the η of the t-th update (from 1)
    momentum       μ, 0 ≤ μ < 1
    .velocity      v, like theta, starts at 0
    .updates       how many updates were made
    learning_rate and momentum may be changed between steps.
    """

    def __init__(self, theta: Array, learning_rate: float | Callable[[int], float], momentum: float = 0.0) -> None:
        if theta.ndim != 1:
            raise ArgumentError(f"MomentumSGD updates one flat vector, not an array of shape {theta.shape}")
        if not 0 <= momentum < 1:
            raise ArgumentError(f"the momentum must be in [0, 1), not {momentum}")
        if not callable(learning_rate) and not learning_rate > 0:
            raise ArgumentError(f"the learning rate must be positive, not {learning_rate}")
        self.theta = theta
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.velocity = get_array_module(theta).zeros_like(theta)
        self.updates = 0

    def learning_rate_at(self, t: int) -> float:
        """The η of the t-th update, t = 1, 2, …"""
        rate = self.learning_rate
        return float(rate(t) if callable(rate) else rate)

    @property
    def next_learning_rate(self) -> float:
        """The η that the next update will use."""
        return self.learning_rate_at(self.updates + 1)

    def step(self, grad: Array) -> None:
        """One update, in place, with the gradient ∇ of what is to be minimised; `grad` is not changed."""
        if grad.shape != self.theta.shape or grad.dtype != self.theta.dtype:
            raise ArgumentError(f"grad must be like θ, {self.theta.shape} in {self.theta.dtype}")
        xp = get_array_module(grad)
        eta, mu = self.next_learning_rate, float(self.momentum)
        # Memory bounds the update, not arithmetic: it walks θ, v and ∇ once, a cache's worth at a time. A device has one
        # fast memory, and takes the vector at once.
        chunk = CHUNK if xp is np else max(len(grad), 1)
        eta_grad = xp.empty_like(grad[:chunk])
        for start in range(0, len(grad), chunk):
            part = slice(start, start + chunk)
            v, theta, g = self.velocity[part], self.theta[part], grad[part]
            v *= mu
            v -= xp.multiply(g, eta, out=eta_grad[: len(g)])
            theta += v
        self.updates += 1


def learning_rate_schedule(t: int, initial: float, decay: float = 1.000004, minimum: float = 1e-6) -> float:
    """η(t) = max(10⁻⁶, η₀ / 1.000004^(t − 1)), t = 1, 2, … the number of the player's own update (released code)."""
    return float(max(minimum, initial * decay ** (1 - t)))


def momentum_schedule(epoch: float, initial: float = 0.5, final: float = 0.7, saturate: int = 250) -> float:
    """μ(e) = ½ + 0.2 · clip((e − 1)/249, 0, 1), e = 1, 2, … the number of the epoch (the released code)."""
    return float(initial + (final - initial) * min(max((epoch - 1) / (saturate - 1), 0.0), 1.0))


def max_column_norm(W: Array, limit: float) -> None:
    """W ← W · min(n, c)/(10⁻⁷ + n), n = ‖column‖₂, in place: no column of W is longer than c = `limit`.

    One column is one output unit (one piece of it in Maxout). The paper's TFD networks: c = 1.9365, after every update;
    velocity and biases are left alone (the released code).
    """
    if not limit > 0:
        raise ArgumentError(f"max_column_norm: the limit must be positive, not {limit}")
    xp = get_array_module(W)
    norms = xp.sqrt((W * W).sum(axis=0))
    W *= xp.minimum(norms, limit) / (norms + 1e-7)
