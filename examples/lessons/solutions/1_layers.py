"""Lesson 1: the answers. Each part below takes the place of the exercise's cell of the same name."""

import numpy as np
from scipy.special import expit

from tinygan import Constant, Layer, Uniform

# %% exercise-softplus


class Softplus(Layer):
    """y = log(1 + eˣ), y′ = eˣ/(1 + eˣ) = σ(x)"""

    def forward(self, x, train=False, rng=None):
        return np.logaddexp(x, 0), x

    def backward(self, dy, cache, grads=None, need_dx=True):
        x = cache
        return dy * expit(x) if need_dx else None


# %% exercise-affine


class Affine(Layer):
    """y = x W + b"""

    def __init__(self, n_in, n_out):
        self.declarations = {"W": ((n_in, n_out), Uniform(0.5)), "b": ((n_out,), Constant(0.0))}

    def forward(self, x, train=False, rng=None):
        return x @ self.W + self.b, x

    def backward(self, dy, cache, grads=None, need_dx=True):
        x = cache
        if grads is not None:
            grads["W"][...] = x.T @ dy
            grads["b"][...] = dy.sum(axis=0)
        return dy @ self.W.T if need_dx else None


# %% exercise-residual


class Residual(Layer):
    """y = x + g(f(x)), f and g two layers"""

    def __init__(self, f, g):
        self.parts = [f, g]

    def forward(self, x, train=False, rng=None):
        f, g = self.parts
        u, f_cache = f.forward(x, train, rng)
        y, g_cache = g.forward(u, train, rng)
        return x + y, (f_cache, g_cache)

    def backward(self, dy, cache, grads=None, need_dx=True):
        f, g = self.parts
        f_cache, g_cache = cache
        f_grads, g_grads = self.part_grads(grads, 0), self.part_grads(grads, 1)
        du = g.backward(dy, g_cache, g_grads)
        dx = f.backward(du, f_cache, f_grads, need_dx)
        return dy + dx if need_dx else None


# %% exercise-momentum


def momentum_step(theta, v, grad, eta, mu):
    """v ← μ v − η ∇;  θ ← θ + v"""
    v *= mu
    v -= eta * grad
    theta += v
