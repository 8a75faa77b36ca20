"""Training: epochs of Algorithm 1 over a data set, what is reported of them, and the guard against divergence.

    trainer = Trainer(gan, dataset.train.images, dataset.validation.images, seed=0)
    for _ in range(40):
        print(trainer.train_epoch())
        trainer.save("checkpoint.npz")

Every random draw comes from a generator seeded by (seed, purpose, epoch), so a run that is restored from a checkpoint goes
on bit for bit as if it had never stopped, and a checkpoint needs no generator's state.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygan.backend import Array, random_generator, to_device, to_host
from tinygan.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinygan.errors import ArgumentError, CheckpointError, DivergenceError
from tinygan.gan import GAN, sample_noise
from tinygan.losses import softplus, value_function
from tinygan.network import Network
from tinygan.optim import MomentumSGD, momentum_schedule

REPORT_ROWS = 1000
"""Reports are over the first 1,000 validation images and as many fixed z, with dropout off."""

COST_BOUND = 1e4
"""A cost beyond this, in nats, is divergence: D(x) would be off by e^−10,000, on average over a minibatch."""


BLOCK = 1000


def generate(G: Network, n: int, rng: Any, *, prior: str = "uniform", noise: int = 100) -> Array:
    """n samples G(z), (n, d), on G's device, z drawn from rng; the hidden layers of 1,000 at a time are held in memory."""
    blocks = (min(BLOCK, n - i) for i in range(0, n, BLOCK))
    return G.xp.concatenate([G(sample_noise(prior, rng, m, noise, G.dtype)) for m in blocks])


class Trainer:
    """Epochs of Algorithm 1. One epoch is ⌊n/(k·m)⌋ iterations: every example at most once, a short last minibatch dropped.

    gan            a GAN
    images         the training data, (n, d): uint8, scaled to [0, 1] one minibatch at a time, or floats taken as they are.
                   Moved to the networks' device once.
    validation     held-out data of the same kind, for the reports
    prior, noise   the noise prior, one of PRIORS, and the dimension of z
    batch_size     m
    seed           of shuffles, noise and dropout masks (a network's initial parameters have their own)
    momentum       μ as a function of the epoch's number (from 1)

    .epoch         how many epochs were trained
    .metrics       what train_epoch returned for each
    """

    def __init__(
        self,
        gan: GAN,
        images: Array,
        validation: Array,
        *,
        prior: str = "uniform",
        noise: int = 100,
        batch_size: int = 100,
        seed: int = 0,
        momentum: Callable[[int], float] = momentum_schedule,
    ) -> None:
        self.gan, self.prior, self.noise, self.batch_size, self.seed = gan, prior, noise, batch_size, seed
        self.momentum = momentum
        self.xp = gan.G.xp
        self.iterations = len(images) // (gan.k * batch_size) if batch_size > 0 else 0
        if self.iterations < 1:
            raise ArgumentError(f"{len(images)} images make no epoch with k = {gan.k} and batch_size = {batch_size}")
        self.images = to_device(images, self.xp)
        self.examples = self._floats(to_device(validation[:REPORT_ROWS], self.xp))
        self.fixed_z = self.sample_noise(self._generator("report"), len(self.examples))
        self.epoch = 0
        self.metrics: list[dict[str, float]] = []

    def sample_noise(self, rng: Any, n: int) -> Array:
        """n noise samples from this run's prior, (n, noise)."""
        return sample_noise(self.prior, rng, n, self.noise, self.gan.G.dtype)

    def train_epoch(self, after_iteration: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train for one epoch; after_iteration() is called after each iteration. Returns the epoch's metrics:

        epoch                                 its number, from 1
        value, D_x, D_G_z                     V(D, G), mean D(x), mean D(G(z)) after the epoch, in the definition of REPORT_ROWS
        discriminator_cost, generator_cost    means over the epoch's iterations, dropout on
        learning_rate, momentum               η of the epoch's last update of G, and μ

        Costs stay on the device and are read once. Raises DivergenceError if one of them or a parameter is not finite, or
        a cost exceeds COST_BOUND; then the epoch does not count, and the Trainer is of no further use.
        """
        epoch, gan = self.epoch + 1, self.gan
        for optimizer in (gan.G_optimizer, gan.D_optimizer):
            optimizer.momentum = self.momentum(epoch)
        batches = self._batches(epoch)
        noise_rng, dropout_rng = self._generator("noise", epoch), self._generator("dropout", epoch)
        costs = self.xp.empty((self.iterations, 2), gan.G.dtype)
        updates = gan.D_optimizer.updates, gan.G_optimizer.updates
        with np.errstate(over="ignore", invalid="ignore"):  # the guard below says what these warnings would, and where
            for i in range(self.iterations):
                try:
                    costs[i, 0], costs[i, 1] = gan.iteration(
                        lambda: self.sample_noise(noise_rng, self.batch_size), batches, dropout_rng
                    )
                except DivergenceError as error:
                    raise DivergenceError(f"iteration {i + 1} of epoch {epoch}: {error}") from error
                after_iteration()
            report = self._report()
        numbers = to_host(self.xp.concatenate([costs.ravel(), report])).astype(np.float64)  # the only reading
        self._guard(epoch, numbers[: costs.size].reshape(costs.shape), updates)
        value, D_x, D_G_z, finite = numbers[costs.size :].tolist()
        if not finite:
            self._raise_divergence(epoch, self.iterations - 1, updates, "a parameter is not finite")
        D_cost, G_cost = numbers[: costs.size].reshape(costs.shape).mean(axis=0).tolist()
        self.epoch = epoch
        self.metrics.append(
            {
                "epoch": epoch,
                "value": value,
                "discriminator_cost": D_cost,
                "generator_cost": G_cost,
                "D_x": D_x,
                "D_G_z": D_G_z,
                "learning_rate": _learning_rate(gan.G_optimizer, gan.G_optimizer.updates),
                "momentum": gan.G_optimizer.momentum,
            }
        )
        return self.metrics[-1]

    def save(self, path: str | os.PathLike[str], configuration: dict[str, Any] | None = None) -> None:
        """Write a checkpoint: all that `restore` needs to go on. Raises CheckpointError, as save_checkpoint does."""
        G, D = self.gan.G_optimizer, self.gan.D_optimizer
        save_checkpoint(
            path,
            Checkpoint(
                theta_g=to_host(G.theta),
                theta_d=to_host(D.theta),
                v_g=to_host(G.velocity),
                v_d=to_host(D.velocity),
                epoch=self.epoch,
                updates={"G": G.updates, "D": D.updates},
                architecture=self.architecture(),
                metrics=self.metrics,
                configuration=configuration or {},
            ),
        )

    def restore(self, path: str | os.PathLike[str]) -> Checkpoint:
        """Go on from the checkpoint at path, which is returned. Raises CheckpointError, as load_checkpoint does."""
        checkpoint = load_checkpoint(path, self.architecture())
        G, D = self.gan.G_optimizer, self.gan.D_optimizer
        pairs = (
            (G.theta, checkpoint.theta_g),
            (D.theta, checkpoint.theta_d),
            (G.velocity, checkpoint.v_g),
            (D.velocity, checkpoint.v_d),
        )
        for mine, saved in pairs:
            if mine.shape != saved.shape or mine.dtype != saved.dtype:
                raise CheckpointError(
                    f"{path}: {saved.size} parameters in {saved.dtype}, but the networks have {mine.size} in {mine.dtype}"
                )
        for mine, saved in pairs:
            mine[...] = to_device(saved, self.xp)
        G.updates, D.updates = checkpoint.updates["G"], checkpoint.updates["D"]
        self.epoch, self.metrics = checkpoint.epoch, checkpoint.metrics
        return checkpoint

    def architecture(self) -> dict[str, str]:
        """The two networks in words, as a checkpoint states them."""
        return {"G": repr(self.gan.G), "D": repr(self.gan.D)}

    def _generator(self, purpose: str, epoch: int = 0) -> Any:
        return random_generator(self.xp, self.seed, purpose, epoch)

    def _batches(self, epoch: int) -> Iterator[Array]:
        """The epoch's minibatches: a fresh shuffle, drawn on the host, so that it is the same on every backend."""
        order = random_generator(np, self.seed, "shuffle", epoch).permutation(len(self.images))
        order = to_device(order, self.xp)
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            yield self._floats(self.images[order[start : start + self.batch_size]])

    def _floats(self, images: Array) -> Array:
        x = images.astype(self.gan.G.dtype)
        if images.dtype == np.uint8:
            x /= 255
        return x

    def _report(self) -> Array:
        """V, mean D(x), mean D(G(z)), and 1 if all parameters are finite: four numbers, on the device."""
        gan, xp = self.gan, self.xp
        a_real, a_fake = gan.D(self.examples), gan.D(gan.G(self.fixed_z))
        D_x, D_G_z = (xp.exp(-softplus(-a)).mean() for a in (a_real, a_fake))
        finite = xp.isfinite(gan.G.theta).all() & xp.isfinite(gan.D.theta).all()
        return xp.stack([value_function(a_real, a_fake), D_x, D_G_z, finite.astype(gan.G.dtype)])

    def _guard(self, epoch: int, costs: np.ndarray, updates: tuple[int, int]) -> None:
        wrong = np.argwhere(~(np.abs(costs) <= COST_BOUND))  # NaN is not <= anything
        if len(wrong):
            i, player = wrong[0]
            what = f"{'DG'[player]}'s cost is {costs[i, player]:.4g} nats, beyond the bound of {COST_BOUND:.0f}"
            self._raise_divergence(epoch, int(i), updates, what)

    def _raise_divergence(self, epoch: int, i: int, updates: tuple[int, int], what: str) -> None:
        gan = self.gan
        players = (
            ("D", gan.D, gan.D_optimizer, updates[0] + (i + 1) * gan.k),
            ("G", gan.G, gan.G_optimizer, updates[1] + (i + 1) * gan.generator_steps),
        )
        where = "; ".join(_worst_layer(name, network) for name, network, _, _ in players)
        rates = ", ".join(f"{_learning_rate(optimizer, t):.4g} of {name}" for name, _, optimizer, t in players)
        raise DivergenceError(
            f"iteration {i + 1} of epoch {epoch}: {what}. At the end of the epoch: {where}. Learning rates {rates}: "
            f"lower them; checkpoints of earlier epochs are intact"
        )


def _worst_layer(name: str, network: Network) -> str:
    """The first parameter of the network that is not finite, else the one with the largest entry, in words."""
    largest = {key: float(abs(value).max()) for key, value in network.parameters().items()}
    key = next((key for key, value in largest.items() if not np.isfinite(value)), max(largest, key=lambda k: largest[k]))
    layer = network.layers[int(key.split(".")[0])]
    return f"{name}'s {key} of {layer!r} has a largest entry of {largest[key]:.4g}"


def _learning_rate(optimizer: MomentumSGD, t: int) -> float:
    rate = optimizer.learning_rate
    return float(rate(t) if callable(rate) else rate)
