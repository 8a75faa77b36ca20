"""The game: the noise prior, samples of a generator, and Algorithm 1 of the paper.

Symbols are the paper's: G, D, x, z, m, k. Three variants have names, which every result states:

simultaneous   Simultaneous, the released code: one minibatch, one z, one set of samples; both gradients at the old θ_d, θ_g
alternating    GAN, Algorithm 1's order, with the released code's costs: J(D) = −½ V, G maximises log D(G(z))
printed        Printed, Algorithm 1 as printed: its order, D ascends V itself, G descends mean log(1 − D(G(z)))
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, Rng, Scalar, Streams, random_generator
from tinygan.errors import ArgumentError
from tinygan.layers import Dropout, ReLU, Reshape, Sigmoid, Tanh
from tinygan.losses import GENERATOR_COSTS, discriminator_loss, generator_loss, softplus, value_function
from tinygan.network import Caches, Network
from tinygan.optim import Optimizer

PRIORS = ("uniform", "gaussian", "spherical")
RANGES: dict[type, tuple[float, float]] = {Sigmoid: (0, 1), Tanh: (-1, 1), ReLU: (0, np.inf)}  # of a G's last layer
BLOCK = 1000  # samples made at a time


class Batch(NamedTuple):
    """A minibatch: rows x, (m, d), and their labels y, (m,), if the data have labels."""

    x: Array
    y: Array | None = None


class Player(NamedTuple):
    """A network and the optimiser over its θ."""

    network: Network
    optimizer: Optimizer


@dataclass(frozen=True)
class Noise:
    """p_z, the noise prior: noise(rng, m) is a minibatch z of m samples, (m, n), every entry of mean 0.

    "uniform"    U(−√3, √3), variance 1 (the paper's MNIST generator)
    "gaussian"   N(0, 1) (its TFD and CIFAR-10 generators)
    "spherical"  z/‖z‖ with z ~ N(0, I), on the unit sphere (in the released code, unused)
    """

    kind: str
    n: int

    def __post_init__(self) -> None:
        checks.choice("prior", self.kind, PRIORS), checks.integer("the noise's n", self.n)

    def __call__(self, rng: Rng, m: int, dtype: npt.DTypeLike = np.float32) -> Array:
        checks.generator(rng), checks.integer("m", m), checks.float_dtype("dtype", dtype)
        if self.kind == "uniform":
            return (rng.random((m, self.n), dtype=dtype) * 2 - 1) * 3**0.5
        z = rng.standard_normal((m, self.n), dtype=dtype)
        return z if self.kind == "gaussian" else z / (z * z).sum(axis=1, keepdims=True) ** 0.5


@dataclass(frozen=True)
class Generator:
    """A generator network and the noise that it was trained on. Sampling needs no more."""

    network: Network
    noise: Noise

    def sample(self, n: int, rng: Rng | int = 0) -> Array:
        """n samples G(z), (n, d): generate(self, n, rng)."""
        return generate(self, n, rng)


def generate(generator: Generator, n: int, rng: Rng | int = 0) -> Array:
    """n samples x = G(z), z ~ p_z: (n, d), on G's device. They are made 1,000 at a time, to save memory.

    rng  a generator of random numbers, or an integer, the seed of a new one
    """
    G, noise = checks.having("generator", generator, ("network", "noise"), "Generator(network, noise)").network, generator.noise
    checks.integer("the number of samples", n)
    drawn = random_generator(G.xp, rng, "samples") if isinstance(rng, int | np.integer) else checks.seed_or_generator(rng)
    sizes = (min(BLOCK, n - start) for start in range(0, n, BLOCK))
    return G.xp.concatenate([G(noise(drawn, size, G.dtype)) for size in sizes])


Judged: TypeAlias = tuple[Array, Caches]
"""D's logits of samples, and the cache of the forward pass that gave them."""


class Gradient(NamedTuple):
    """What discriminator_gradient returns: J(D), D's logits of the samples, and the caches of its one or two forward passes."""

    cost: Scalar
    a_fake: Array
    caches: tuple[Caches, ...]


class GAN:
    """min_G max_D V(D, G), played by Algorithm 1: k updates of D, then generator_steps of G, each from a fresh forward pass.

    G, D                       networks; D ends in one logit a, D(x) = σ(a)
    G_optimizer, D_optimizer   over G.theta and D.theta
    noise                      p_z, a Noise
    batch_size                 m, the rows in every minibatch of noise; minibatches of examples need as many
    generator_cost             one of GENERATOR_COSTS (see losses.generator_loss)
    k, generator_steps         updates of D and of G in one iteration (the paper: 1 and 1)

    A Trainer calls `iteration`, `report` and `sample`. Variations of the game override the other public methods:
    discriminator_loss, discriminator_gradient, together, apart, generator_gradient.
    Raises ArgumentError for a D that does not end in one logit, and for networks that do not fit each other or the noise.
    """

    variant = "alternating"
    state: Mapping[str, Array] = {}

    def __init__(
        self, G: Network, D: Network, G_optimizer: Optimizer, D_optimizer: Optimizer, *,
        noise: Noise = Noise("uniform", 100), batch_size: int = 100, generator_cost: str = "non_saturating",
        k: int = 1, generator_steps: int = 1,
    ) -> None:  # fmt: skip
        checks.instance("G", G, Network, "a Network"), checks.instance("D", D, Network, "a Network")
        checks.optimizer_of(G, G_optimizer, "G_optimizer"), checks.optimizer_of(D, D_optimizer, "D_optimizer")
        last = [layer for layer in D.layers if not isinstance(layer, Reshape | Dropout)][-1:]
        if last and isinstance(last[0], Sigmoid):  # the costs apply σ; applied twice, D still trains, and G collapses
            raise ArgumentError("D ends in a Sigmoid: leave it out. D must end in the logit a, to which the costs apply σ")
        self.sample_shape = _require_fit(G, D, noise)
        self.G, self.D, self.G_optimizer, self.D_optimizer = G, D, G_optimizer, D_optimizer
        self.noise, self.generator_cost = noise, checks.choice("generator cost", generator_cost, GENERATOR_COSTS)
        self.k, self.generator_steps = checks.integer("k", k), checks.integer("generator_steps", generator_steps)
        self.batch_size = checks.integer("batch_size", batch_size)
        self.G_grad, self.D_grad = G.xp.empty_like(G.theta), D.xp.empty_like(D.theta)

    # ---- Algorithm 1

    def iteration(self, batches: Iterator[Batch], streams: Streams) -> dict[str, Scalar]:
        """One training iteration of Algorithm 1. Returns the costs of its last updates, on the device: J(D) and J(G).

        batches  next(batches).x is a minibatch of m examples, (m, d)
        streams  streams["noise"] draws z, streams["dropout"] the masks
        """
        # "for k steps do"
        for _ in range(self.k):
            # "Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z)."
            z = self.sample_noise(streams)
            # "Sample minibatch of m examples {x⁽¹⁾, …, x⁽ᵐ⁾} from data generating distribution p_data(x)."
            x = self.next_examples(batches)
            # "Update the discriminator by ascending its stochastic gradient"
            D_cost = self.discriminator_step(x, z, streams["dropout"])
        # "end for"
        for _ in range(self.generator_steps):
            # "Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z)."
            z = self.sample_noise(streams)
            # "Update the generator by descending its stochastic gradient"
            G_cost = self.generator_step(z, streams["dropout"])
        return {"discriminator_cost": D_cost, "generator_cost": G_cost}

    def sample_noise(self, streams: Streams) -> Array:
        """z ~ p_z, a minibatch (m, n)."""
        return self.noise(checks.stream(streams, "noise"), self.batch_size, self.G.dtype)

    def next_examples(self, batches: Iterator[Batch]) -> Array:
        """x ~ p_data, the next minibatch (m, d)."""
        x: Array = checks.following(batches, self.batch_size, f"k = {self.k} of {self.batch_size} rows")
        return x

    def discriminator_step(self, x: Array, z: Array, rng: Rng | None) -> Scalar:
        """θ_d ← one update on ∇ J(D). θ_g is not touched: G's backward is never called."""
        samples, _ = self.G.forward(z, train=True, rng=rng)
        gradient = self.discriminator_gradient(x, samples, rng)
        self.D_optimizer.step(self.D_grad)
        for cache in gradient.caches:
            self.D.observe(cache)
        return gradient.cost

    def generator_step(self, z: Array, rng: Rng | None) -> Scalar:
        """θ_g ← one update on ∇ J(G), through a fresh forward pass. θ_d stays: D's backward gets no gradient vector."""
        samples, G_cache = self.G.forward(z, train=True, rng=rng)
        G_cost = self.generator_gradient(samples, G_cache, rng)
        self.G_optimizer.step(self.G_grad)
        self.G.observe(G_cache)
        return G_cost

    # ---- The two gradients

    def generator_gradient(self, samples: Array, G_cache: Caches, rng: Rng | None, judged: Judged | None = None) -> Scalar:
        """∇ J(G) by θ_g, written into G_grad; returns J(G).

        judged  D's logits of these samples and their cache, if D has judged them already
        """
        a, D_cache = judged or self.D.forward(samples, train=True, rng=rng)
        G_cost, da = generator_loss(a, self.generator_cost)
        dsamples = self.D.backward(da, D_cache)
        self.G.backward(dsamples, G_cache, self.G_grad, need_dx=False)
        return G_cost

    def discriminator_gradient(self, x: Array, samples: Array, rng: Rng | None) -> Gradient:
        """∇ J(D) by θ_d, written into D_grad. Data and samples go through D together, or apart if a layer of D mixes rows."""
        self.D.require_own(x, "data")
        if x.shape[1:] != samples.shape[1:]:
            raise ArgumentError(f"data must be rows like G's samples, {samples.shape}, not {x.shape}")
        return self.apart(x, samples, rng) if self.D.mixes_rows else self.together(x, samples, rng)

    def judged(self, gradient: Gradient) -> Judged:
        """D's logits of the samples in a gradient of D, and the cache of their rows."""
        (*_, cache), n = gradient.caches, len(gradient.a_fake)
        return gradient.a_fake, cache if len(gradient.caches) > 1 else self.D.rows(cache, cache.shape[0] - n, cache.shape[0])

    def together(self, x: Array, samples: Array, rng: Rng | None) -> Gradient:
        """Data and samples go through D as one minibatch of 2m rows: half the matrix products, each twice as large."""
        xp, m = self.D.xp, len(x)
        a, cache = self.D.forward(xp.concatenate([x, samples]), train=True, rng=rng)
        D_cost, da_real, da_fake = self.discriminator_loss(a[:m], a[m:])
        self.D.backward(xp.concatenate([da_real, da_fake]), cache, self.D_grad, need_dx=False)
        return Gradient(D_cost, a[m:], (cache,))

    def apart(self, x: Array, samples: Array, rng: Rng | None) -> Gradient:
        """Data and samples go through D in two passes, data first: a layer that mixes rows must not mix one with the other."""
        a_real, real_cache = self.D.forward(x, train=True, rng=rng)
        a_fake, fake_cache = self.D.forward(samples, train=True, rng=rng)
        D_cost, da_real, da_fake = self.discriminator_loss(a_real, a_fake)
        real_grad = self.D.xp.empty_like(self.D_grad)
        self.D.backward(da_real, real_cache, real_grad, need_dx=False)
        self.D.backward(da_fake, fake_cache, self.D_grad, need_dx=False)
        self.D_grad += real_grad
        return Gradient(D_cost, a_fake, (real_cache, fake_cache))

    def discriminator_loss(self, a_real: Array, a_fake: Array) -> tuple[Scalar, Array, Array]:
        """J(D) = −½ V and its gradients by D's logits of data and of samples."""
        return discriminator_loss(a_real, a_fake)

    # ---- What a Trainer needs of a model beside `iteration` and `state`

    @property
    def players(self) -> Mapping[str, Player]:
        """{"G": …, "D": …}: each network with its optimiser."""
        return {"G": Player(self.G, self.G_optimizer), "D": Player(self.D, self.D_optimizer)}

    @property
    def draws(self) -> int:
        """Minibatches of examples in one iteration: k."""
        return self.k

    @property
    def settings(self) -> dict[str, Any]:
        """The game's settings, for a checkpoint: values that JSON can hold."""
        names = ("variant", "generator_cost", "k", "generator_steps", "batch_size")
        return {name: getattr(self, name) for name in names} | {"prior": self.noise.kind, "noise": self.noise.n}

    def require_rows(self, name: str, shape: tuple[int, ...], low: float, high: float) -> None:
        """Raise ArgumentError unless data of this shape, from low to high, are like G's samples, in its last layer's range."""
        last = [type(layer) for layer in self.G.layers if not isinstance(layer, Reshape)] or [Network]
        checks.rows_like(name, shape, low, high, self.sample_shape, RANGES.get(last[-1], (-np.inf, np.inf)))

    def report(self, held_out: Batch, streams: Streams) -> dict[str, Scalar]:
        """V(D, G), mean D(x) and mean D(G(z)) over held-out data and as many samples, without dropout."""
        z = self.noise(streams["report"], len(held_out.x), self.G.dtype)
        a_real, a_fake = self.D(held_out.x), self.D(self.G(z))
        D_x, D_G_z = (self.D.xp.exp(-softplus(-a)).mean() for a in (a_real, a_fake))
        return {"value": value_function(a_real, a_fake), "D_x": D_x, "D_G_z": D_G_z}

    def sample(self, n: int, rng: Rng | int = 0) -> Array:
        """n samples G(z), (n, d); rng: a generator of random numbers, or a seed."""
        return generate(Generator(self.G, self.noise), n, rng)


class Simultaneous(GAN):
    """The released code: D's last update and G's first are one step, from one x, one z and one set of samples.

    Both gradients are taken at the old θ_d and θ_g. D's backward runs twice over the rows of the samples: with the gradient
    of J(D) for θ_d, and with the gradient of J(G) for θ_g.
    """

    variant = "simultaneous"

    def iteration(self, batches: Iterator[Batch], streams: Streams) -> dict[str, Scalar]:
        """As GAN.iteration, with both players' updates in one step."""
        rng = checks.stream(streams, "dropout")
        for _ in range(self.k - 1):
            z, x = self.sample_noise(streams), self.next_examples(batches)
            self.discriminator_step(x, z, rng)
        z, x = self.sample_noise(streams), self.next_examples(batches)
        D_cost, G_cost = self.simultaneous_step(x, z, rng)
        for _ in range(self.generator_steps - 1):
            G_cost = self.generator_step(self.sample_noise(streams), rng)
        return {"discriminator_cost": D_cost, "generator_cost": G_cost}

    def simultaneous_step(self, x: Array, z: Array, rng: Rng | None) -> tuple[Scalar, Scalar]:
        """θ_d and θ_g ← one update each, from one forward pass of each network."""
        samples, G_cache = self.G.forward(z, train=True, rng=rng)
        gradient = self.discriminator_gradient(x, samples, rng)
        G_cost = self.generator_gradient(samples, G_cache, rng, self.judged(gradient))
        self.D_optimizer.step(self.D_grad)
        for cache in gradient.caches:
            self.D.observe(cache)
        self.G_optimizer.step(self.G_grad)
        self.G.observe(G_cache)
        return gradient.cost, G_cost


class Printed(GAN):
    """Algorithm 1 as printed: D ascends V itself, with twice the gradient of `GAN`; G descends mean log(1 − D(G(z)))."""

    variant = "printed"

    def __init__(self, *players: Any, generator_cost: str = "minimax", **options: Any) -> None:
        super().__init__(*players, generator_cost=generator_cost, **options)

    def discriminator_loss(self, a_real: Array, a_fake: Array) -> tuple[Scalar, Array, Array]:
        """−V = 2 J(D) and its gradients by D's logits of data and of samples."""
        D_cost, da_real, da_fake = discriminator_loss(a_real, a_fake)
        return 2 * D_cost, 2 * da_real, 2 * da_fake


VARIANTS: dict[str, type[GAN]] = {"simultaneous": Simultaneous, "alternating": GAN, "printed": Printed}
"""The three variants by their names, for command lines."""


def _require_fit(G: Network, D: Network, noise: Noise) -> tuple[int, ...]:
    """One forward pass of one z through both networks; the shape of a sample. ArgumentError unless it ends in one logit."""
    checks.having("noise", noise, ("n", "__call__"), 'Noise("uniform", 100)')
    try:
        a = D(samples := G(G.xp.zeros((1, noise.n), G.dtype)))
    except ValueError as error:  # an ArgumentError, or NumPy's own from a layer that does not look
        raise ArgumentError(f"noise of {noise.n} dimensions, G, and D on samples of G do not fit: {error}") from error
    if a.shape != (1, 1):
        raise ArgumentError(f"D must end in one logit for each row, (m, 1): it gives {a.shape} for one sample")
    return samples.shape[1:]
