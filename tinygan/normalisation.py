"""Batch normalisation: the one layer here that mixes the rows of a minibatch and keeps running statistics."""

from collections.abc import Callable
from typing import Any

from tinygan import checks
from tinygan.backend import Array, Rng, get_array_module
from tinygan.errors import ArgumentError
from tinygan.init import Constant
from tinygan.layers import Cache, Grads, Layer, require_positive


class BatchNorm(Layer):
    """y = γ x̂ + β, x̂ = (x − μ)/√(σ² + ε)

    In training, μ and σ² are the mean and the biased variance over all axes but the last: over the minibatch, and for images
    over the pixels. Otherwise they are the running statistics `mean` and `var`, and each row is treated by itself.

    Shapes     x, y (m, …, n)    γ, β, mean, var (n,)
    Backward   N values enter each mean, and x̂ depends on all of them through μ and σ²:
               ∂L/∂γ = Σ dy x̂        ∂L/∂β = Σ dy
               ∂L/∂x = γ/√(σ² + ε) · (dy − (∂L/∂β + x̂ ∂L/∂γ)/N);  with running statistics  γ/√(var + ε) · dy
    average    with several ranks, their mean of an array of sums or means, one Allreduce: it makes these those of all rows
    observe    mean ← ρ mean + (1 − ρ) μ,  var ← ρ var + (1 − ρ) σ², ρ = momentum; they start at 0 and 1
    Raises     ArgumentError in training if N = 1: a single value has no variance
    Source     Ioffe and Szegedy 2015
    """

    mixes_rows = True
    average: Callable[[Array], Array] = staticmethod(lambda own: own)  # parallel.distribute replaces it

    def __init__(self, n: int, *, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        require_positive(self, n=n)
        self.n, self.momentum = int(n), checks.real("BatchNorm: momentum", momentum, "[0, 1)")
        self.epsilon = checks.real("BatchNorm: epsilon", epsilon, "(0, inf)")
        self.declarations = {"gamma": ((self.n,), Constant(1.0)), "beta": ((self.n,), Constant(0.0))}
        self.statistic_declarations = {"mean": ((self.n,), Constant(0.0)), "var": ((self.n,), Constant(1.0))}

    def forward(self, x: Array, train: bool = False, rng: Rng | None = None) -> tuple[Array, Cache]:
        if x.ndim < 2 or x.shape[-1] != self.n:
            raise ArgumentError(f"{self!r} needs an input of shape (m, …, {self.n}), not {x.shape}")
        if train:
            if x.size <= self.n:
                raise ArgumentError(f"{self!r} in training needs two values or more to normalise, not an input {x.shape}")
            axes = tuple(range(x.ndim - 1))
            mean = self.average(x.mean(axis=axes))
            x_hat = x - mean
            var = self.average((x_hat * x_hat).mean(axis=axes))
        else:
            mean, var = self.mean, self.var
            x_hat = x - mean
        scale = 1 / get_array_module(x).sqrt(var + self.epsilon)
        x_hat *= scale
        return self.gamma * x_hat + self.beta, (x_hat, scale, (mean, var) if train else None)

    def backward(self, dy: Array, cache: Cache, grads: Grads = None, need_dx: bool = True) -> Array | None:
        x_hat, scale, minibatch = cache
        if grads is not None or minibatch is not None:
            axes = tuple(range(dy.ndim - 1))
            dgamma, dbeta = (dy * x_hat).sum(axis=axes), dy.sum(axis=axes)
        if grads is not None:
            grads["gamma"][...], grads["beta"][...] = dgamma, dbeta
        if not need_dx:
            return None
        if minibatch is None:
            return dy * (self.gamma * scale)
        dgamma, dbeta = self.average(dgamma), self.average(dbeta)
        return (dy - (dbeta + x_hat * dgamma) * (self.n / dy.size)) * (self.gamma * scale)

    def observe(self, cache: Cache) -> None:
        minibatch = cache[2]
        if minibatch is None:
            raise ArgumentError(f"{self!r} observes training minibatches: give it the cache of a forward with train=True")
        for running, value in zip((self.mean, self.var), minibatch, strict=True):
            running *= self.momentum
            running += (1 - self.momentum) * value

    def config(self) -> dict[str, Any]:
        return {"n": self.n, "momentum": self.momentum, "epsilon": self.epsilon}

    def __repr__(self) -> str:
        return f"BatchNorm({self.n})"
