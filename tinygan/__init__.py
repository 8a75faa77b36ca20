"""Generative Adversarial Nets (Goodfellow et al., 2014) from scratch in NumPy and CuPy.

    layers     Linear Maxout ReLU LeakyReLU Tanh Sigmoid Dropout Reshape BatchNorm, and Layer for your own
               Conv2d ConvTranspose2d MaxPool2d ChannelMaxout, for rows (m, h, w, channels)
    network    Network: a list of layers, θ as one vector; net.summary() is a table of it. Noise: p_z
    losses     value_function discriminator_loss generator_loss, on the logit; softmax_cross_entropy squared_error …
    optimisers MomentumSGD Adam, with learning_rate_schedule momentum_schedule max_column_norm
    the game   GAN Simultaneous Printed: .iteration(batches, streams) is Algorithm 1; Batch, Streams
    training   Trainer(gan, train, validation).train_epoch(), .save, .restore; guard for a loop of your own
    data       load_mnist load_cifar10 load_tfd load_images read_idx write_idx pixels
    samples    generate(generator, n, seed), load_generator("runs/…").sample(n, seed), image_grid makes a picture
    measure    evaluate(samples, validation, test): the paper's log-likelihood; ParzenWindow select_sigma
    figures    figures.curves(metrics) draws a run: its costs, V, D(x) and D(G(z)), by epoch
    checks     check_layer(MyLayer(3, 4), (5, 3)) and check_gradient compare derivatives with numeric ones
               testing.parametrize_layers makes tests of them for pytest
    errors     TinyganError, and its kinds: ArgumentError DataError CheckpointError DivergenceError …

Rows are examples: images are flat, (n, 784), with values in [0, 1]. Functions that draw once take an integer as a seed.
help(tinygan.Network) explains a name. examples/ has the scripts, `python -m tinygan` the commands.
"""

import importlib
from typing import TYPE_CHECKING

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
from tinygan.convolution import ChannelMaxout, Conv2d, ConvTranspose2d, MaxPool2d
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

if TYPE_CHECKING:  # each of these modules is imported when one of its names is first asked for: `import tinygan` is quick
    from tinygan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from tinygan.datasets import load_cifar10, load_images, load_mnist, load_tfd, read_idx, write_idx
    from tinygan.generators import load_generator
    from tinygan.gradcheck import check_gradient, check_layer
    from tinygan.images import image_grid
    from tinygan.parzen import ParzenWindow, evaluate, select_sigma
    from tinygan.recipes import AuthorsUniform, authors_stream
    from tinygan.training import Model, Trainer, guard

LATER = {  # the same names, for Python
    "checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "datasets": ("load_cifar10", "load_images", "load_mnist", "load_tfd", "read_idx", "write_idx"),
    "figures": (),
    "generators": ("load_generator",),
    "gradcheck": ("check_gradient", "check_layer"),
    "images": ("image_grid",),
    "parzen": ("ParzenWindow", "evaluate", "select_sigma"),
    "recipes": ("AuthorsUniform", "authors_stream"),
    "training": ("Model", "Trainer", "guard"),
    "run": (),  # tinygan.run needs no import of its own, as the modules above
    "testing": (),
}

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
    "evaluate",
    "generate",
    "generator_loss",
    "get_array_module",
    "get_backend",
    "guard",
    "image_grid",
    "learning_rate_schedule",
    "load_checkpoint",
    "load_cifar10",
    "load_generator",
    "load_images",
    "load_mnist",
    "load_tfd",
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


if not TYPE_CHECKING:  # where mypy reads, a name that is in no module is still an error

    def __getattr__(name):
        """A name of a module in LATER, or such a module. Python asks for it once: then it is an attribute."""
        for module, names in LATER.items():
            if name == module or name in names:
                found = importlib.import_module(f"tinygan.{module}")
                globals()[name] = found = found if name == module else getattr(found, name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *LATER})
