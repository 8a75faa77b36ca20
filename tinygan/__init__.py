"""tinygan: Generative Adversarial Nets (Goodfellow et al., 2014) from scratch in NumPy and CuPy."""

from tinygan.backend import (
    Array,
    Streams,
    get_array_module,
    get_backend,
    pixels,
    random_generator,
    to_device,
    to_host,
)
from tinygan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinygan.convolution import ChannelMaxout, Conv2d, ConvTranspose2d, MaxPool2d
from tinygan.datasets import load_images, load_mnist, read_idx, write_idx
from tinygan.errors import (
    ArgumentError,
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    TinyganError,
)
from tinygan.gan import GAN, PRIORS, VARIANTS, Batch, Generator, Noise, Player, Printed, Simultaneous, generate
from tinygan.gradcheck import check_gradient, check_layer
from tinygan.init import Constant, Sparse, Uniform, bias_from_marginals
from tinygan.layers import Dropout, Layer, LeakyReLU, Linear, Maxout, ReLU, Reshape, Sigmoid, Tanh
from tinygan.losses import (
    GENERATOR_COSTS,
    bernoulli_cross_entropy,
    discriminator_loss,
    generator_loss,
    softmax_cross_entropy,
    softplus,
    squared_error,
    value_function,
)
from tinygan.network import Network
from tinygan.normalisation import BatchNorm
from tinygan.optim import Adam, MomentumSGD, learning_rate_schedule, max_column_norm, momentum_schedule
from tinygan.parzen import ParzenWindow, select_sigma
from tinygan.recipes import AuthorsUniform, authors_stream
from tinygan.run import load_generator
from tinygan.training import Model, Trainer, guard

__version__ = "0.1.0"

__all__ = [
    "GAN",
    "GENERATOR_COSTS",
    "PRIORS",
    "VARIANTS",
    "Adam",
    "ArgumentError",
    "Array",
    "AuthorsUniform",
    "BackendError",
    "Batch",
    "BatchNorm",
    "ChannelMaxout",
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "Conv2d",
    "ConvTranspose2d",
    "DataError",
    "DivergenceError",
    "Dropout",
    "Generator",
    "GradientError",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Maxout",
    "Model",
    "MomentumSGD",
    "Network",
    "Noise",
    "ParzenWindow",
    "Player",
    "Printed",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Simultaneous",
    "Sparse",
    "Streams",
    "Tanh",
    "TinyganError",
    "Trainer",
    "Uniform",
    "authors_stream",
    "bernoulli_cross_entropy",
    "bias_from_marginals",
    "check_gradient",
    "check_layer",
    "discriminator_loss",
    "generate",
    "generator_loss",
    "get_array_module",
    "get_backend",
    "guard",
    "learning_rate_schedule",
    "load_checkpoint",
    "load_generator",
    "load_images",
    "load_mnist",
    "max_column_norm",
    "momentum_schedule",
    "pixels",
    "random_generator",
    "read_idx",
    "save_checkpoint",
    "select_sigma",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "to_device",
    "to_host",
    "value_function",
    "write_idx",
]
