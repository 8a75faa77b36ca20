"""Lesson 3: the answers. Each part below takes the place of the exercise's cell of the same name."""

import numpy as np
from scipy.special import expit

from tinygan import generator_loss

# %% exercise-backward


def generator_gradient(G, D, z):
    """∂J(G)/∂θ_g, a vector like G.theta"""
    grad = np.zeros_like(G.theta)
    x, G_cache = G.forward(z)
    a, D_cache = D.forward(x)
    cost, da = generator_loss(a)
    dx = D.backward(da, D_cache)
    G.backward(dx, G_cache, grad, need_dx=False)
    return grad


# %% exercise-iteration


def iteration(gan, x, z, new_z):
    """One iteration of Algorithm 1 with k = 1: data x, noise z, and new noise"""
    gan.discriminator_step(x, z, None)
    gan.generator_step(new_z, None)


# %% exercise-slopes


def slopes(a):
    """∂/∂a of log(1 − D), and ∂/∂a of −log D, where D = σ(a)"""
    return -expit(a), -expit(-a)


# %% exercise-response


def response(D):
    """The p_g with the largest E log D: D holds D(x) at 24 points"""
    p_g = np.zeros_like(D)
    p_g[D.argmax()] = 1
    return p_g
