"""The game: noise priors, and Algorithm 1 of the paper.

Symbols are the paper's: G, D, x, z, m, k. Three variants have names, which every result states:

simultaneous   the released code: one minibatch, one z, one set of samples; both gradients are taken at the old θ_d, θ_g
alternating    Algorithm 1's order, with the released code's costs: J(D) = −½ V, G maximises log D(G(z))
printed        Algorithm 1 as printed: its order, D ascends V itself, G descends mean log(1 − D(G(z)))
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygan.backend import Array
from tinygan.errors import ArgumentError
from tinygan.losses import GENERATOR_COSTS, discriminator_loss, generator_loss
from tinygan.network import Network, rows
from tinygan.optim import MomentumSGD

VARIANTS = ("simultaneous", "alternating", "printed")
PRIORS = ("uniform", "gaussian", "spherical")


def sample_noise(kind: str, rng: Any, m: int, n: int, dtype: Any = np.float32) -> Array:
    """z ~ p_z, shape (m, n), every entry of mean 0:

    "uniform"    U(−√3, √3), variance 1 (the paper's MNIST generator)
    "gaussian"   N(0, 1) (its TFD and CIFAR-10 generators)
    "spherical"  z/‖z‖ with z ~ N(0, I), on the unit sphere (in the released code, unused)
    """
    if kind == "uniform":
        return (rng.random((m, n), dtype=dtype) * 2 - 1) * 3**0.5
    if kind in PRIORS:
        z = rng.standard_normal((m, n), dtype=dtype)
        return z if kind == "gaussian" else z / (z * z).sum(axis=1, keepdims=True) ** 0.5
    raise ArgumentError(f"unknown noise prior {kind!r}: choose one of {', '.join(PRIORS)}")


class GAN:
    """min_G max_D V(D, G), played by Algorithm 1 with a momentum step for each player.

    G, D                       networks; D ends in one logit
    G_optimizer, D_optimizer   over G.theta and D.theta
    variant                    one of VARIANTS
    generator_cost             one of GENERATOR_COSTS; by default the variant's own
    k, generator_steps         updates of D and of G in one iteration (the paper: 1 and 1)
    """

    def __init__(
        self,
        G: Network,
        D: Network,
        G_optimizer: MomentumSGD,
        D_optimizer: MomentumSGD,
        *,
        variant: str = "simultaneous",
        generator_cost: str | None = None,
        k: int = 1,
        generator_steps: int = 1,
    ) -> None:
        if variant not in VARIANTS:
            raise ArgumentError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
        if generator_cost is None:
            generator_cost = "minimax" if variant == "printed" else "non_saturating"
        if generator_cost not in GENERATOR_COSTS:
            raise ArgumentError(f"unknown generator cost {generator_cost!r}: choose one of {', '.join(GENERATOR_COSTS)}")
        if k < 1 or generator_steps < 1:
            raise ArgumentError(f"k and generator_steps must be at least 1, not {k} and {generator_steps}")
        if G_optimizer.theta is not G.theta or D_optimizer.theta is not D.theta:
            raise ArgumentError("each optimiser must be over its network's own θ, as MomentumSGD(G.theta, 0.1) is")
        self.G, self.D, self.G_optimizer, self.D_optimizer = G, D, G_optimizer, D_optimizer
        self.variant, self.generator_cost, self.k, self.generator_steps = variant, generator_cost, k, generator_steps
        self.G_grad = G.xp.empty_like(G.theta)
        self.D_grad = D.xp.empty_like(D.theta)

    def iteration(self, prior: Callable[[], Array], batches: Iterator[Array], rng: Any) -> tuple[Any, Any]:
        """One training iteration of Algorithm 1. Returns the costs of its last updates, on the device: J(D) or −V, and J(G).

        prior    prior() draws a minibatch of m noise samples, (m, n)
        batches  next(batches) is a minibatch of m examples, (m, d)
        rng      where dropout masks come from
        """
        # "for k steps do"
        for _ in range(self.k if self.variant != "simultaneous" else self.k - 1):
            # "Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z)."
            z = prior()
            # "Sample minibatch of m examples {x⁽¹⁾, …, x⁽ᵐ⁾} from data generating distribution p_data(x)."
            x = next(batches)
            # "Update the discriminator by ascending its stochastic gradient"
            D_cost = self.discriminator_step(x, self.G.forward(z, train=True, rng=rng)[0], rng)
        # "end for"
        # The released code takes the last update of D together with the first of G, from one z and one forward pass.
        if self.variant == "simultaneous":
            D_cost, G_cost = self.simultaneous_step(next(batches), prior(), rng)
        for _ in range(self.generator_steps if self.variant != "simultaneous" else self.generator_steps - 1):
            # "Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z)."
            z = prior()
            # "Update the generator by descending its stochastic gradient"
            G_cost = self.generator_step(z, rng)
        return D_cost, G_cost

    def discriminator_step(self, x: Array, samples: Array, rng: Any) -> Any:
        """θ_d ← one update on ∇ J(D), J(D) = −½ V (printed: −V). θ_g is not touched: G's backward is never called."""
        D_cost, _, _ = self._discriminator_gradient(x, samples, rng)
        self.D_optimizer.step(self.D_grad)
        return D_cost

    def generator_step(self, z: Array, rng: Any) -> Any:
        """θ_g ← one update on ∇ J(G), through a fresh forward pass. θ_d stays: D's backward gets no gradient vector."""
        samples, G_cache = self.G.forward(z, train=True, rng=rng)
        a, D_cache = self.D.forward(samples, train=True, rng=rng)
        G_cost, da = generator_loss(a, self.generator_cost)
        dsamples = self.D.backward(da, D_cache)
        self.G.backward(dsamples, G_cache, self.G_grad, need_dx=False)
        self.G_optimizer.step(self.G_grad)
        return G_cost

    def simultaneous_step(self, x: Array, z: Array, rng: Any) -> tuple[Any, Any]:
        """θ_d and θ_g ← one update each, both gradients at the old θ_d and θ_g, from one forward pass of each network.

        D's fake half is walked backwards twice, with two upstream gradients: that of J(D) for θ_d, that of J(G) for θ_g.
        """
        m = len(x)
        samples, G_cache = self.G.forward(z, train=True, rng=rng)
        D_cost, a_fake, D_cache = self._discriminator_gradient(x, samples, rng)
        G_cost, da = generator_loss(a_fake, self.generator_cost)
        dsamples = self.D.backward(da, rows(D_cache, m, m + len(samples)))
        self.G.backward(dsamples, G_cache, self.G_grad, need_dx=False)
        self.D_optimizer.step(self.D_grad)
        self.G_optimizer.step(self.G_grad)
        return D_cost, G_cost

    def _discriminator_gradient(self, x: Array, samples: Array, rng: Any) -> tuple[Any, Array, Any]:
        # Data and samples go through D as one minibatch of 2m rows: half the matrix products, each twice as large.
        m = len(x)
        xp = self.D.xp
        a, cache = self.D.forward(xp.concatenate([x, samples]), train=True, rng=rng)
        D_cost, da_real, da_fake = discriminator_loss(a[:m], a[m:])
        da = xp.concatenate([da_real, da_fake])
        if self.variant == "printed":
            D_cost, da = 2 * D_cost, 2 * da  # −V = 2 J(D)
        self.D.backward(da, cache, self.D_grad, need_dx=False)
        return D_cost, a[m:], cache
