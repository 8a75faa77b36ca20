"""Lesson 2: the answers. Each part below takes the place of the exercise's cell of the same name."""

import numpy as np
from scipy.special import expit

from tinygan import softplus

# %% exercise-value


def V(a_real, a_fake):
    """V(D, G) = mean log D(x) + mean log(1 − D(G(z)))   (Eq. 1)"""
    return -softplus(-a_real).mean() - softplus(a_fake).mean()


# %% exercise-optimal


def optimal_discriminator(p_data, p_g):
    """D*(x), from the two densities at x   (Eq. 2): a/y − b/(1 − y) = 0 at y = a/(a + b)"""
    return p_data / (p_data + p_g)


# %% exercise-gradient


def discriminator_gradient(a_real, a_fake):
    """∂J/∂a_real, ∂J/∂a_fake of J(D) = −½ [mean log D(x) + mean log(1 − D(G(z)))]"""
    m = len(a_real)
    return -0.5 * expit(-a_real) / m, 0.5 * expit(a_fake) / m


# %% exercise-jsd


def jsd(p, q, dx):
    """JSD(p‖q) of two densities on a grid with the step dx"""
    mixture = (p + q) / 2
    return 0.5 * (p * np.log(p / mixture) + q * np.log(q / mixture)).sum() * dx
