"""tinygan: Generative Adversarial Nets (Goodfellow et al., 2014) from scratch in NumPy and CuPy."""

from tinygan.backend import Array, get_array_module, get_backend, pixels, random_generator, to_device, to_host
from tinygan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinygan.datasets import load_mnist, read_idx, write_idx
from tinygan.errors import (
    ArgumentError,
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    TinyganError,
)
from tinygan.gan import GAN, PRIORS, VARIANTS, sample_noise
from tinygan.gradcheck import check_gradient, check_layer
from tinygan.init import AuthorsUniform, Constant, Sparse, Uniform, authors_stream, bias_from_marginals
from tinygan.layers import Dropout, Layer, Linear, Maxout, ReLU, Reshape, Sigmoid
from tinygan.losses import GENERATOR_COSTS, discriminator_loss, generator_loss, softplus, value_function
from tinygan.network import Network
from tinygan.optim import MomentumSGD, learning_rate_schedule, max_column_norm, momentum_schedule
from tinygan.parzen import ParzenWindow, select_sigma

__version__ = "0.1.0"

__all__ = [
    "GAN",
    "GENERATOR_COSTS",
    "PRIORS",
    "VARIANTS",
    "ArgumentError",
    "Array",
    "AuthorsUniform",
    "BackendError",
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "DataError",
    "DivergenceError",
    "Dropout",
    "GradientError",
    "Layer",
    "Linear",
    "Maxout",
    "MomentumSGD",
    "Network",
    "ParzenWindow",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Sparse",
    "TinyganError",
    "Uniform",
    "authors_stream",
    "bias_from_marginals",
    "check_gradient",
    "check_layer",
    "discriminator_loss",
    "generator_loss",
    "get_array_module",
    "get_backend",
    "learning_rate_schedule",
    "load_checkpoint",
    "load_mnist",
    "max_column_norm",
    "momentum_schedule",
    "pixels",
    "random_generator",
    "read_idx",
    "sample_noise",
    "save_checkpoint",
    "select_sigma",
    "softplus",
    "to_device",
    "to_host",
    "value_function",
    "write_idx",
]
