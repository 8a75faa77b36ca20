"""Training: epochs of Algorithm 1 over a data set, what is reported of them, and the guard against divergence.

    trainer = Trainer(gan, dataset.train.images, dataset.validation.images, seed=0)
    for _ in range(40):
        print(trainer.train_epoch())
        trainer.save("checkpoint.npz")

Every random draw comes from a generator seeded by (seed, purpose, epoch). So a run that goes on from a checkpoint is
bit for bit the run that never stopped, and a checkpoint holds no generator's state.
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
from tinygan.optim import momentum_schedule

REPORT_ROWS = 1000
"""V, D(x) and D(G(z)) are reported over this many validation images, and over as many fixed z, with dropout off."""

COST_BOUND = 1e4
"""A training cost beyond this many nats is divergence: D would be wrong by a factor of e^10,000."""

LOOK = 100
"""Iterations between two looks at the costs on a device, each of which waits for it; on the host every cost is seen."""

BLOCK = 1000  # samples that are made at a time


class Trainer:
    """Epochs of Algorithm 1. One is ⌊n/(k·m)⌋ iterations: no example twice, and a short last minibatch is dropped.

    gan            a GAN
    images         the training data, (n, d): uint8, scaled to [0, 1] one minibatch at a time, or floats, taken as they
                   are. Moved to the networks' device once.
    validation     held-out data of the same kind, for the reports
    prior, noise   the noise prior, one of PRIORS, and how many dimensions z has
    batch_size     m
    seed           of shuffles, noise and dropout (the initial parameters are the networks' matter)
    momentum       μ as a function of the epoch, from 1
    Raises ArgumentError for images of any other dtype, for none to validate on, and for too few to train on.

    .epoch         how many epochs were trained
    .metrics       what train_epoch returned for each
    .iterations    of one epoch
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
        for name, array in ("images", images), ("validation", validation):
            dtype = getattr(array, "dtype", None)
            if dtype != np.uint8 and getattr(dtype, "kind", None) != "f":
                found = type(array).__name__ if dtype is None else dtype
                raise ArgumentError(f"{name} are {found}: give uint8, which is scaled to [0, 1], or floats in [0, 1]")
        if not len(validation):
            raise ArgumentError("validation is empty: every epoch's report needs held-out images")
        if batch_size < 1 or len(images) < gan.k * batch_size:
            raise ArgumentError(
                f"{len(images)} images make no iteration with k = {gan.k} and minibatches of {batch_size}: "
                f"lower k or batch_size"
            )
        self.gan, self.xp = gan, gan.G.xp
        self.prior, self.noise, self.batch_size, self.seed, self.momentum = prior, noise, batch_size, seed, momentum
        self.images = to_device(images, self.xp)
        self.held_out = self._floats(to_device(validation[:REPORT_ROWS], self.xp))
        self.fixed_z = self.sample_noise(self._generator("report"), len(self.held_out))
        self.iterations = len(images) // (gan.k * batch_size)
        self.epoch = 0
        self.metrics: list[dict[str, Any]] = []

    def train_epoch(self, after_iteration: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Train for one epoch, calling after_iteration() after each iteration. Returns the epoch's metrics:

        epoch                                 its number, from 1
        value, D_x, D_G_z                     V(D, G), mean D(x), mean D(G(z)) at its end (see REPORT_ROWS)
        discriminator_cost, generator_cost    J(D), J(G): means over its iterations, with dropout
        learning_rate, momentum               η of its last update of G, and μ

        Costs and report stay on the device; they are read once, at the end, and in long epochs every LOOK iterations.
        Raises DivergenceError where a cost or a parameter is not finite, or a cost is beyond COST_BOUND. The epoch then
        does not count, and the networks are spoilt: go on from a checkpoint.
        """
        gan, epoch = self.gan, self.epoch + 1
        G_optimizer, D_optimizer = gan.G_optimizer, gan.D_optimizer
        G_optimizer.momentum = D_optimizer.momentum = self.momentum(epoch)
        updates = G_optimizer.updates, D_optimizer.updates
        batches = self._batches(epoch)
        noise_rng, dropout_rng = self._generator("noise", epoch), self._generator("dropout", epoch)
        costs = self.xp.empty((self.iterations, 2), gan.G.dtype)
        look = 1 if self.xp is np else LOOK
        with np.errstate(over="ignore", invalid="ignore"):  # _guard says what these warnings would, and where
            for i in range(self.iterations):
                try:
                    costs[i, 0], costs[i, 1] = gan.iteration(
                        lambda: self.sample_noise(noise_rng, self.batch_size), batches, dropout_rng
                    )
                except DivergenceError as error:
                    raise self._divergence(str(error), epoch, i, updates) from error
                after_iteration()
                if (i + 1) % look == 0 and i + 1 < self.iterations:
                    self._guard(to_host(costs[i + 1 - look : i + 1]), epoch, i + 1 - look, updates)
            numbers = to_host(self.xp.concatenate([costs.ravel(), self._report()])).astype(np.float64)
        costs = numbers[: costs.size].reshape(costs.shape)
        self._guard(costs, epoch, 0, updates)
        value, D_x, D_G_z, finite = numbers[costs.size :].tolist()
        if not finite:
            raise self._divergence("a parameter is not finite", epoch, self.iterations - 1, updates)
        D_cost, G_cost = costs.mean(axis=0).tolist()
        self.epoch = epoch
        self.metrics.append(
            {
                "epoch": epoch,
                "value": value,
                "discriminator_cost": D_cost,
                "generator_cost": G_cost,
                "D_x": D_x,
                "D_G_z": D_G_z,
                "learning_rate": G_optimizer.learning_rate_at(G_optimizer.updates),
                "momentum": G_optimizer.momentum,
            }
        )
        return self.metrics[-1]

    def sample_noise(self, rng: Any, n: int) -> Array:
        """n noise samples from this run's prior, (n, noise)."""
        return sample_noise(self.prior, rng, n, self.noise, self.gan.G.dtype)

    def save(self, path: str | os.PathLike[str], configuration: dict[str, Any] | None = None) -> None:
        """Write a checkpoint: all that `restore` needs. Raises CheckpointError, as save_checkpoint does."""
        G, D = self.gan.G_optimizer, self.gan.D_optimizer
        checkpoint = Checkpoint(
            theta_g=to_host(G.theta),
            theta_d=to_host(D.theta),
            v_g=to_host(G.velocity),
            v_d=to_host(D.velocity),
            epoch=self.epoch,
            updates={"G": G.updates, "D": D.updates},
            architecture={"G": repr(self.gan.G), "D": repr(self.gan.D)},
            metrics=self.metrics,
            configuration=configuration or {},
        )
        save_checkpoint(path, checkpoint)

    def restore(self, path: str | os.PathLike[str]) -> Checkpoint:
        """Go on from the checkpoint at path; returns it. Raises CheckpointError, as load_checkpoint does."""
        checkpoint = load_checkpoint(path, {"G": repr(self.gan.G), "D": repr(self.gan.D)})
        G, D = self.gan.G_optimizer, self.gan.D_optimizer
        pairs = [
            (G.theta, checkpoint.theta_g),
            (D.theta, checkpoint.theta_d),
            (G.velocity, checkpoint.v_g),
            (D.velocity, checkpoint.v_d),
        ]
        for mine, saved in pairs:
            if mine.shape != saved.shape or mine.dtype != saved.dtype:
                raise CheckpointError(
                    f"{path}: it has {saved.size} parameters in {saved.dtype} where the networks have {mine.size} in "
                    f"{mine.dtype}: ask for the networks that it was trained with"
                )
        for mine, saved in pairs:
            mine[...] = to_device(saved, self.xp)
        G.updates, D.updates = checkpoint.updates["G"], checkpoint.updates["D"]
        self.epoch, self.metrics = checkpoint.epoch, checkpoint.metrics
        return checkpoint

    def _generator(self, purpose: str, epoch: int = 0) -> Any:
        return random_generator(self.xp, self.seed, purpose, epoch)

    def _batches(self, epoch: int) -> Iterator[Array]:
        """The epoch's minibatches. The shuffle is drawn on the host: the same on every backend."""
        order = random_generator(np, self.seed, "shuffle", epoch).permutation(len(self.images))
        order = to_device(order[: self.iterations * self.gan.k * self.batch_size], self.xp)
        return (self._floats(self.images[rows]) for rows in order.reshape(-1, self.batch_size))

    def _floats(self, images: Array) -> Array:
        x = images.astype(self.gan.G.dtype)
        if images.dtype == np.uint8:
            x /= 255
        return x

    def _report(self) -> Array:
        """V, mean D(x), mean D(G(z)), and 1 if every parameter is finite: four numbers on the device."""
        gan, xp = self.gan, self.xp
        a_real, a_fake = gan.D(self.held_out), gan.D(gan.G(self.fixed_z))
        D_x, D_G_z = (xp.exp(-softplus(-a)).mean() for a in (a_real, a_fake))
        finite = xp.isfinite(gan.G.theta).all() & xp.isfinite(gan.D.theta).all()
        return xp.stack([value_function(a_real, a_fake), D_x, D_G_z, finite.astype(gan.G.dtype)])

    def _guard(self, costs: np.ndarray, epoch: int, first: int, updates: tuple[int, int]) -> None:
        """Raises DivergenceError if one of these costs, (iterations from `first` on, 2), is not within the bound."""
        beyond = np.argwhere(~(abs(costs) <= COST_BOUND))  # NaN is not below anything
        if len(beyond):
            i, player = beyond[0].tolist()
            what = f"the cost of {'DG'[player]} is {costs[i, player]:.4g}, beyond the bound of {COST_BOUND:.0f} nats"
            raise self._divergence(what, epoch, first + i, updates)

    def _divergence(self, what: str, epoch: int, i: int, updates: tuple[int, int]) -> DivergenceError:
        gan = self.gan
        G_rate = gan.G_optimizer.learning_rate_at(updates[0] + (i + 1) * gan.generator_steps)
        D_rate = gan.D_optimizer.learning_rate_at(updates[1] + (i + 1) * gan.k)
        return DivergenceError(
            f"iteration {i + 1} of epoch {epoch}: {what}; {_worst_parameter('D', gan.D)}; "
            f"{_worst_parameter('G', gan.G)}. The learning rate is {G_rate:.4g} for G, {D_rate:.4g} for D: lower it; "
            f"checkpoints of earlier epochs are intact"
        )


def generate(G: Network, n: int, rng: Any, *, prior: str = "uniform", noise: int = 100) -> Array:
    """n samples G(z), (n, d), on G's device, z drawn from rng. G's hidden layers are held for 1,000 at a time."""
    sizes = (min(BLOCK, n - start) for start in range(0, n, BLOCK))
    return G.xp.concatenate([G(sample_noise(prior, rng, size, noise, G.dtype)) for size in sizes])


def _worst_parameter(player: str, network: Network) -> str:
    """The first parameter that is not finite, else the one with the largest entry, in words."""
    largest = {name: float(abs(values).max()) for name, values in network.parameters().items()}
    if not largest:
        return f"{player} has no parameters"
    spoilt = [name for name in largest if not np.isfinite(largest[name])]
    name = spoilt[0] if spoilt else max(largest, key=lambda name: largest[name])
    layer = network.layers[int(name.split(".")[0])]
    if spoilt:
        return f"{len(spoilt)} of {player}'s {len(largest)} parameters are not finite, the first is {name} of {layer!r}"
    return f"the largest entry of {player} is {largest[name]:.4g}, in {name} of {layer!r}"
