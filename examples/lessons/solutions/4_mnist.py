"""Lesson 4: the answers. Each part below takes the place of the exercise's cell of the same name."""

import numpy as np
from scipy.special import logsumexp

# %% exercise-parzen


def log_density(x, samples, sigma):
    """log p(x) of one row x (d,), under Gaussians of width σ on the samples (n, d)"""
    n, d = samples.shape
    exponents = -((x - samples) ** 2).sum(axis=1) / (2 * sigma**2)
    return logsumexp(exponents) - np.log(n) - d * np.log(sigma * np.sqrt(2 * np.pi))


# %% exercise-stopping


def reported(validation, test):
    """The score to report, from the scores of all copies"""
    return test[np.argmax(validation)]


# %% exercise-blurred


def blurred(train):
    """1,000 rows in [0, 1]: each is the mean of a training image and its seven nearest neighbours"""
    some = train[:1000]
    distances = (some**2).sum(axis=1)[:, None] + (train**2).sum(axis=1) - 2 * some @ train.T
    nearest = np.argsort(distances, axis=1)[:, :8]  # the image itself is one of them
    return train[nearest].mean(axis=1)
