"""The paper's own nets and their settings, for every script that needs them: MNIST's, TFD's and CIFAR-10's.

The values are those of the released code. It states a number of epochs for TFD alone, and the paper states none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, ArrayModule, Rng, Scalar
from tinygan.convolution import ChannelMaxout, Conv2d, ConvTranspose2d, MaxPool2d
from tinygan.errors import ArgumentError
from tinygan.gan import GAN, VARIANTS, Judged, Noise
from tinygan.init import Sparse, Uniform
from tinygan.layers import Dropout, Layer, Linear, Maxout, ReLU, Reshape, Sigmoid
from tinygan.network import Caches, Network
from tinygan.optim import MomentumSGD, learning_rate_schedule, max_column_norm, momentum_schedule

MNIST: dict[str, Any] = {
    "noise": 100,  # dimensions of z
    "prior": "uniform",
    "generator_width": 1200,  # units in each of G's two hidden layers
    "discriminator_width": 240,  # maxout units in each of D's two hidden layers
    "batch_size": 100,
    "k": 1,
    "generator_steps": 1,
    "variant": "simultaneous",
    "generator_cost": None,  # the variant's own
    "learning_rate": 0.1,
    "schedule_compression": 1.0,  # how many times as fast η decays and μ grows
    "calm": False,
    "seed": 0,
    "dtype": "float32",
}
TFD: dict[str, Any] = MNIST | {
    "prior": "gaussian",
    "generator_width": 8000,
    "discriminator_width": 1200,
    "scale": 1.0,  # what all widths are divided by
    "learning_rate": 0.05,
    "stage": 1,  # 2: a new net in front of the whole generator of stage 1
    "max_column_norm": 1.9365,  # of each W, after each update; None: no limit
}
TFD_EPOCHS = (50, 22)  # of the two stages
_CIFAR10 = MNIST | {"prior": "gaussian", "generator_width": 8000, "scale": 1.0}  # scale: what all widths are divided by
CIFAR10: dict[str, dict[str, Any]] = {  # by the model's name
    "fully-connected": _CIFAR10 | {"model": "fully-connected", "discriminator_width": 1600, "learning_rate": 0.025},
    "convolutional": _CIFAR10
    | {
        "model": "convolutional",
        "generator_channels": 80,  # of the deconvolution's input, 10 × 10 pixels
        "discriminator_channels": [32, 32, 192],  # after each maxout over two pieces
        "discriminator_width": 500,
        "batch_size": 128,
        "learning_rate": 0.004,
    },
}
IMAGE, PIXELS = (32, 32, 3), 32 * 32 * 3  # of CIFAR-10
PIECES = 5  # of each maxout unit
KEEP_IMAGE, KEEP_HIDDEN = 0.8, 0.5  # dropout in D: the probability of keeping an input of a layer
DECAY = 1.000004  # of η, per update


class AuthorsUniform:
    """w ~ U(−r, r) from the random stream of the paper's released code, number for number.

    That code gives each network one stream, RandomState([2013, 1, 4]). For each layer it draws the weights, and then as
    many numbers again that it does not use. Its maxout columns are unit-major (j·p + i is piece i of unit j); tinygan's are
    piece-major (i·n_out + j), so `pieces` permutes the columns.

    All layers of one network share one stream:

        stream = authors_stream()
        Linear(100, 1200, weight=AuthorsUniform(0.05, stream))
        Maxout(784, 240, 5, weight=AuthorsUniform(0.005, stream, pieces=5))
    """

    def __init__(self, radius: float, stream: np.random.RandomState, pieces: int = 1) -> None:
        self.radius = checks.real("AuthorsUniform: the radius", radius, "[0, inf)")
        self.stream = checks.instance("AuthorsUniform: the stream", stream, np.random.RandomState, "authors_stream()")
        self.pieces = checks.integer("AuthorsUniform: pieces", pieces)

    def __call__(self, rng: np.random.Generator, out: np.ndarray) -> None:
        if out.ndim != 2:
            raise ArgumentError(f"AuthorsUniform starts a matrix (n_in, n_out), not a parameter of shape {out.shape}")
        columns = int(out.shape[1])
        if columns % self.pieces:
            raise ArgumentError(f"AuthorsUniform: {columns} columns are no multiple of {self.pieces} pieces")
        for row in out:
            unit_major = self.stream.uniform(-self.radius, self.radius, columns)
            row[...] = unit_major.reshape(columns // self.pieces, self.pieces).T.ravel()
        for _ in out:
            self.stream.uniform(0, 1, columns)  # drawn and not used, as in the released code


def authors_stream() -> np.random.RandomState:
    """The random stream of the released code for a network's initial weights. Each network needs a new one."""
    return np.random.RandomState([2013, 1, 4])


class Calm(GAN):
    """A departure from the released code: while G is trained, D has no dropout."""

    def generator_gradient(self, samples: Array, G_cache: Caches, rng: Rng | None, judged: Judged | None = None) -> Scalar:
        """As GAN.generator_gradient, from a pass of D without dropout."""
        return super().generator_gradient(samples, G_cache, rng, self.D.forward(samples))


CALM: dict[str, type[GAN]] = {name: type(f"Calm{kind.__name__}", (Calm, kind), {}) for name, kind in VARIANTS.items()}
"""The variants by their names, each with Calm's gradient of G."""


def _complete(settings: Mapping[str, Any], recipe: Mapping[str, Any] = MNIST) -> dict[str, Any]:
    """All settings: the recipe's where `settings` has none. ArgumentError for values that no check of the parts sees."""
    checks.instance("settings", settings, Mapping, "a dict, such as recipes.MNIST")
    settings = {**recipe, **settings}
    checks.choice("variant", settings["variant"], VARIANTS)
    checks.flag("calm", settings["calm"])
    checks.real("schedule_compression", settings["schedule_compression"], "[0, inf)")
    checks.real("learning_rate", settings["learning_rate"], "(0, inf)")
    for name in "noise", "generator_width", "discriminator_width":
        checks.integer(name, settings[name])
    checks.real("scale", settings.get("scale", 1), "[1, inf)")
    limit = settings.get("max_column_norm")
    limit is None or checks.real("max_column_norm", limit, "(0, inf)")
    return settings


def mnist_networks(settings: Mapping[str, Any], bias: npt.ArrayLike, xp: ArrayModule = np) -> tuple[Network, Network]:
    """G and D of the MNIST experiment. bias: the first biases of G's output, (784,) (see init.bias_from_marginals)."""
    settings = _complete(settings)
    bias = checks.numeric("bias", bias)
    network = partial(Network, seed=settings["seed"], dtype=settings["dtype"], xp=xp)
    n, h = np.size(bias), settings["generator_width"]
    G = network(
        [
            Linear(settings["noise"], h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, h, weight=Uniform(0.05)),
            ReLU(),
            Linear(h, n, weight=Uniform(0.05), bias=bias),
            Sigmoid(),
        ]
    )
    return G, network(_maxout_discriminator(n, settings))


def _maxout_discriminator(n: int, settings: Mapping[str, Any]) -> list[Layer]:
    """D of every model but the convolutional one, for inputs (m, n): two maxout layers and a logit, each behind dropout."""
    d = _Width(settings["discriminator_width"], settings.get("scale", 1.0))
    return [
        Dropout(KEEP_IMAGE),
        Maxout(n, d.n, PIECES, weight=Uniform(0.005)),
        Dropout(KEEP_HIDDEN),
        Maxout(d.n, d.n, PIECES, weight=d.range(0.005)),
        Dropout(KEEP_HIDDEN),
        Linear(d.n, 1, weight=d.range(0.005)),
    ]


def mnist(settings: Mapping[str, Any], bias: npt.ArrayLike, xp: ArrayModule = np) -> GAN:
    """The game of the MNIST experiment: nets, optimisers and noise. settings: what differs from MNIST."""
    settings = _complete(settings)
    return game(settings, *mnist_networks(settings, bias, xp))


def game(settings: Mapping[str, Any], G: Network, D: Network) -> GAN:
    """The game of these networks: noise, variant and optimisers. settings: a whole recipe, such as MNIST with what differs.

    v ← μ v − η ∇;  θ ← θ + v, η and μ by the released schedules. A loop without a Trainer has the μ of the first epoch.
    settings["max_column_norm"], if there is one, limits the columns of every W after each update.
    """
    decay = DECAY ** settings["schedule_compression"]
    rate, mu = partial(learning_rate_schedule, initial=settings["learning_rate"], decay=decay), momentum(settings)(1)
    options = {name: settings[name] for name in ("batch_size", "k", "generator_steps")}
    if settings["generator_cost"]:
        options["generator_cost"] = settings["generator_cost"]
    kind = (CALM if settings.get("calm") else VARIANTS)[settings["variant"]]
    noise = Noise(settings["prior"], settings["noise"])
    limit = settings.get("max_column_norm")
    after = [None if limit is None else partial(limit_columns, network, limit) for network in (G, D)]
    optimizers = [MomentumSGD(network.theta, rate, mu, after=each) for network, each in zip((G, D), after, strict=True)]
    return kind(G, D, *optimizers, noise=noise, **options)


def limit_columns(network: Network, limit: float) -> None:
    """max_column_norm of every W of a network, in place: each output unit's, and in Maxout that of each of its pieces."""
    for name, values in network.parameters().items():
        if name.endswith("W"):
            max_column_norm(values, limit)


def tfd_networks(settings: Mapping[str, Any], bias: npt.ArrayLike, xp: ArrayModule = np) -> tuple[Network, Network]:
    """G and D of the TFD experiment. bias: the first biases of G's output, (2304,) (see init.bias_from_marginals).

    settings["stage"] is 1 or 2. In stage 2 the layers of stage 1 follow a new net, which maps the noise to 100 sigmoid units,
    as many as stage 1 takes. All of G is trained, and D is a new one. settings["scale"] divides the width of each hidden layer;
    initial weights widen to match, as in cifar10_networks. The sparse start has 100 weights for each pixel at any scale.
    """
    settings = _complete(settings, TFD)
    bias = checks.numeric("bias", bias)
    if settings["stage"] not in (1, 2):
        raise ArgumentError(f"stage must be 1 or 2, not {settings['stage']!r:.50}")
    network = partial(Network, seed=settings["seed"], dtype=settings["dtype"], xp=xp)
    n, noise, g = np.size(bias), settings["noise"], _Width(settings["generator_width"], settings["scale"])
    new = [
        Linear(noise, g.n, weight=Uniform(0.05)),
        ReLU(),
        Linear(g.n, noise, weight=g.range(0.05), bias=-2.0),
        Sigmoid(),
    ]
    first = [
        Linear(noise, g.n, weight=Uniform(0.05)),
        ReLU(),
        Linear(g.n, g.n, weight=g.range(0.05), bias=-2.0),
        Sigmoid(),
        Linear(g.n, n, weight=Sparse(min(100, g.n)), bias=bias),
        Sigmoid(),
    ]
    return network(first if settings["stage"] == 1 else [*new, *first]), network(_maxout_discriminator(n, settings))


def tfd(settings: Mapping[str, Any], bias: npt.ArrayLike, xp: ArrayModule = np, trained: Array | None = None) -> GAN:
    """The game of one stage of the TFD experiment. settings: what differs from TFD.

    trained  for stage 2: θ_g at the end of stage 1. It becomes the end of the new θ_g. Without it those weights are random.
    Raises ArgumentError for a `trained` that is not like the θ_g of stage 1 at these settings, or that is given to stage 1.
    """
    settings = _complete(settings, TFD)
    gan = game(settings, *tfd_networks(settings, bias, xp))
    if trained is not None:
        if settings["stage"] != 2:
            raise ArgumentError("θ_g of stage 1 was given, and stage 1 starts anew: ask for stage 2")
        new = sum(values.size for values in list(gan.G.parameters().values())[:4])  # W and b of two layers
        gan.G.theta[new:] = checks.like("trained", trained, gan.G.theta[new:], xp, {})
    return gan


def cifar10_networks(settings: Mapping[str, Any], xp: ArrayModule = np) -> tuple[Network, Network]:
    """G and D of one of the CIFAR-10 experiments, settings["model"]: rows of 3,072 normalised values (normalise_contrast).

    settings["scale"] divides the width of each hidden layer, but the channels of D's convolutions by √scale. A layer with fewer
    inputs than in the paper starts in a wider range, r·√(inputs in the paper / inputs), so that its outputs start as large as
    in the paper.
    """
    settings = cifar10_settings(settings)
    network = partial(Network, seed=settings["seed"], dtype=settings["dtype"], xp=xp)
    G, D = MODELS[settings["model"]](settings)
    return network(G), network(D)


def cifar10(settings: Mapping[str, Any], xp: ArrayModule = np) -> GAN:
    """The game of a CIFAR-10 experiment. settings: what differs from CIFAR10[model], and the model."""
    settings = cifar10_settings(settings)
    return game(settings, *cifar10_networks(settings, xp))


def cifar10_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a CIFAR-10 experiment: those of CIFAR10[settings["model"]] where `settings` has none."""
    checks.instance("settings", settings, Mapping, 'a dict, such as {"model": "fully-connected"}')
    recipe = CIFAR10[checks.choice("model", settings.get("model"), CIFAR10)]
    return _complete(settings, recipe)


def _fully_connected(settings: Mapping[str, Any]) -> tuple[list[Layer], list[Layer]]:
    g = _Width(settings["generator_width"], settings["scale"])
    G = [
        Linear(settings["noise"], g.n, weight=Uniform(0.05)),
        ReLU(),
        Linear(g.n, g.n, weight=g.range(0.05)),
        Sigmoid(),
        Linear(g.n, PIXELS, weight=g.range(0.5)),
    ]
    return G, _maxout_discriminator(PIXELS, settings)


def _convolutional(settings: Mapping[str, Any]) -> tuple[list[Layer], list[Layer]]:
    scale = settings["scale"]
    g, g2 = _Width(settings["generator_width"], scale), _Width(settings["generator_channels"], scale)
    G = [
        Linear(settings["noise"], g.n, weight=Uniform(0.05)),
        ReLU(),
        Linear(g.n, 100 * g2.n, weight=g.range(0.05)),
        Sigmoid(),
        Reshape((10, 10, g2.n)),
        ConvTranspose2d(g2.n, 3, 5, stride=3, weight=g2.range(0.05), bias=np.zeros(IMAGE)),
        Reshape((PIXELS,)),
    ]
    # Convolutions are fast only with many channels, so these are divided by √scale alone.
    c1, c2, c3 = (_Width(channels, scale**0.5) for channels in settings["discriminator_channels"])
    d = _Width(settings["discriminator_width"], scale)
    D = [
        Dropout(KEEP_IMAGE),
        Reshape(IMAGE),
        Conv2d(3, 2 * c1.n, 8, padding=4, weight=Uniform(0.005)),
        ChannelMaxout(2),
        MaxPool2d(4, 2),
        Dropout(KEEP_HIDDEN),
        Conv2d(c1.n, 2 * c2.n, 8, padding=3, weight=c1.range(0.005)),
        ChannelMaxout(2),
        MaxPool2d(4, 2),
        Dropout(KEEP_HIDDEN),
        Conv2d(c2.n, 2 * c3.n, 5, padding=3, weight=c2.range(0.005)),
        ChannelMaxout(2),
        MaxPool2d(2, 2),
        Reshape((25 * c3.n,)),
        Dropout(KEEP_HIDDEN),
        Maxout(25 * c3.n, d.n, PIECES, weight=c3.range(0.005)),
        Dropout(KEEP_HIDDEN),
        Linear(d.n, 1, weight=d.range(0.005)),
    ]
    return G, D


class _Width:
    """n, the width of a layer, or its channels: those of the paper, divided by a scale."""

    def __init__(self, paper: int, scale: float) -> None:
        self.paper, self.n = paper, max(1, round(paper / scale))

    def range(self, radius: float) -> Uniform:
        """How the weights start that take this layer's outputs: r·√(paper's width / width)."""
        return Uniform(radius * (self.paper / self.n) ** 0.5)


MODELS = {"fully-connected": _fully_connected, "convolutional": _convolutional}
"""The layers of G and of D of each CIFAR-10 model, from all its settings."""


def momentum(settings: Mapping[str, Any]) -> Callable[[int], float]:
    """μ as a function of the epoch, for a Trainer: the released schedule, compressed as the settings say."""
    compression = _complete(settings)["schedule_compression"]
    return lambda epoch: momentum_schedule((epoch - 1) * compression + 1)
