"""Momentum SGD and Adam on one flat vector, the released code's two schedules, and the max column norm."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tinygan import checks
from tinygan.backend import Array, get_array_module

CHUNK = 1 << 16
"""Entries of θ that are updated at a time: θ, v, ∇ and η∇ of so many float32 fit into one core's cache (1 MB)."""


Rate: TypeAlias = float | Callable[[int], float]
"""A learning rate η: a number, or a function of t that gives the η of the t-th update (from 1)."""

After: TypeAlias = Callable[[], object] | None
"""A function that is called after each update, as for a max column norm."""


class Optimizer:
    """What MomentumSGD and Adam share: θ, the learning rate, and the count of updates.

    theta          1-D, updated in place
    learning_rate  η, a number, or a function of t that gives the η of the t-th update (from 1); may be changed between steps
    after          after() is called after each update, as for a max column norm (max_column_norm)
    .updates       how many updates were made
    .state         named vectors like θ that the next update needs: saved with θ in a checkpoint
    .intervals     the numbers that may be set, and where they must lie: checked whenever one is set
    """

    intervals: Mapping[str, str] = {"learning_rate": "(0, inf)"}

    def __init__(self, theta: Array, learning_rate: Rate, after: After = None) -> None:
        checks.array("an optimiser's theta, such as net.theta,", theta, "(n,)")
        after is None or checks.function("after", after, "after=lambda: max_column_norm(net.layers[0].W, 2)")
        self.theta, self.learning_rate, self.after = theta, learning_rate, after
        self.updates = 0
        self.state: dict[str, Array] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, checks.optimizer_attribute(vars(self), name, value, self.intervals))

    def learning_rate_at(self, t: int) -> float:
        """The η of the t-th update, t = 1, 2, … Raises ArgumentError unless it is finite and at least 0."""
        rate = self.learning_rate
        eta = rate(t) if callable(rate) else rate
        return checks.real("the learning rate of update {}", eta, "[0, inf)", t)

    @property
    def next_learning_rate(self) -> float:
        """The η that the next update will use."""
        return self.learning_rate_at(self.updates + 1)

    def step(self, grad: Array) -> None:
        """One update, in place, with the gradient ∇ of the cost that is minimised. `grad` is not changed."""
        xp = get_array_module(self.theta)
        checks.like("grad", grad, self.theta, xp, self.state)
        # The update waits for memory, not for arithmetic. So it runs over the vectors once, in chunks that fit into the cache.
        # On a device there is one fast memory, and the whole vector is one chunk.
        chunk = CHUNK if xp is np else max(len(grad), 1)
        self.update(grad, chunk)
        self.updates += 1
        if self.after is not None:
            self.after()

    def update(self, grad: Array, chunk: int) -> None:
        """The equation, over `chunk` entries at a time."""
        raise NotImplementedError


class MomentumSGD(Optimizer):
    """v ← μ v − η ∇;  θ ← θ + v   (classical momentum; section 4: "We used momentum in our experiments")

    theta, learning_rate, after   as every Optimizer has them
    momentum                      μ, 0 ≤ μ < 1; may be changed between steps
    .velocity                     v, like theta, starts at 0
    """

    intervals = {**Optimizer.intervals, "momentum": "[0, 1)"}

    def __init__(self, theta: Array, learning_rate: Rate, momentum: float = 0.0, *, after: After = None) -> None:
        super().__init__(theta, learning_rate, after)
        self.momentum = momentum
        self.velocity: Array = get_array_module(theta).zeros_like(theta)
        self.state = {"velocity": self.velocity}

    def update(self, grad: Array, chunk: int) -> None:
        xp = get_array_module(grad)
        eta, mu = self.next_learning_rate, self.momentum
        eta_grad = xp.empty_like(grad[:chunk])
        for start in range(0, len(grad), chunk):
            part = slice(start, start + chunk)
            v, theta, g = self.velocity[part], self.theta[part], grad[part]
            v *= mu
            v -= xp.multiply(g, eta, out=eta_grad[: len(g)])
            theta += v


class Adam(Optimizer):
    """m ← β₁ m + (1 − β₁) ∇;  s ← β₂ s + (1 − β₂) ∇²;  θ ← θ − η m̂/(√ŝ + ε), m̂ = m/(1 − β₁ᵗ), ŝ = s/(1 − β₂ᵗ)

    theta, learning_rate, after      as every Optimizer has them; t counts the updates from 1
    beta1, beta2, epsilon            β₁ and β₂ in [0, 1), ε > 0
    .first_moment, .second_moment    m and s, like theta, start at 0
    Source: Kingma and Ba 2015, Algorithm 1. The paper's own nets use momentum.
    """

    intervals = {**Optimizer.intervals, "beta1": "[0, 1)", "beta2": "[0, 1)", "epsilon": "(0, inf)"}

    def __init__(
        self, theta: Array, learning_rate: Rate, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, *,
        after: After = None,
    ) -> None:  # fmt: skip
        super().__init__(theta, learning_rate, after)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        xp = get_array_module(theta)
        self.first_moment: Array = xp.zeros_like(theta)
        self.second_moment: Array = xp.zeros_like(theta)
        self.state = {"first_moment": self.first_moment, "second_moment": self.second_moment}

    def update(self, grad: Array, chunk: int) -> None:
        xp = get_array_module(grad)
        t, eta = self.updates + 1, self.next_learning_rate
        for start in range(0, len(grad), chunk):
            part = slice(start, start + chunk)
            m, s, theta, g = self.first_moment[part], self.second_moment[part], self.theta[part], grad[part]
            m *= self.beta1
            m += (1 - self.beta1) * g
            s *= self.beta2
            s += (1 - self.beta2) * (g * g)
            theta -= eta * (m / (1 - self.beta1**t)) / (xp.sqrt(s / (1 - self.beta2**t)) + self.epsilon)


def learning_rate_schedule(t: int, initial: float, decay: float = 1.000004, minimum: float = 1e-6) -> float:
    """η(t) = max(10⁻⁶, η₀ / 1.000004^(t − 1)), t = 1, 2, … the number of the player's own update (released code)."""
    checks.integer("t, the number of the update,", t)
    checks.rates(initial, decay, minimum)
    return float(max(minimum, initial * decay ** (1 - t)))


def momentum_schedule(epoch: float, initial: float = 0.5, final: float = 0.7, saturate: int = 250) -> float:
    """μ(e) = ½ + 0.2 · clip((e − 1)/249, 0, 1), e = 1, 2, … the number of the epoch (the released code)."""
    checks.real("epoch", epoch, "[0, inf)"), checks.integer("saturate", saturate, 2)
    checks.real("the initial momentum", initial, "[0, 1)"), checks.real("the final momentum", final, "[0, 1)")
    return float(initial + (final - initial) * min(max((epoch - 1) / (saturate - 1), 0.0), 1.0))


def max_column_norm(W: Array, limit: float) -> None:
    """W ← W · min(n, c)/(10⁻⁷ + n), n = ‖column‖₂, in place: no column of W is longer than c = `limit`.

    One column is one output unit (one piece of it in Maxout). The paper's TFD networks: c = 1.9365, after every update;
    velocity and biases are not changed (the released code).
    """
    checks.real("max_column_norm: the limit", limit, "(0, inf)")
    xp = get_array_module(checks.array("max_column_norm: W", W, "(n_in, n_out)"))
    norms = xp.sqrt(xp.einsum("ij,ij->j", W, W))  # without an array like W, which (W * W).sum(axis=0) makes
    W *= xp.minimum(norms, limit) / (norms + 1e-7)
