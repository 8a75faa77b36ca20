"""Training: epochs of any model over a data set, their report, and the guard against divergence.

    trainer = Trainer(gan, dataset.train, dataset.validation, seed=0)
    for _ in range(40):
        print(trainer.train_epoch())
        trainer.save("checkpoint.npz")

Every random draw comes from a generator that is seeded by (seed, purpose, epoch). So a checkpoint needs no generator state,
and a resumed run ends with the same numbers, bit for bit, as a run that never stopped.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tinygan import checks
from tinygan.backend import Array, ArrayModule, Scalar, Streams, pixels, random_generator, to_device, to_host
from tinygan.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint
from tinygan.errors import ArgumentError, CheckpointError, DivergenceError
from tinygan.gan import Batch, Player
from tinygan.network import Network
from tinygan.optim import Optimizer, momentum_schedule

REPORT_ROWS = 1000
"""A report is over the first so many held-out rows, with dropout off."""

COST_BOUND = 1e4
"""A training cost beyond so many nats counts as divergence: D would be wrong by a factor of e^10,000."""

LOOK = 100
"""On a device the costs are checked after so many iterations, since each check waits for the device; on the host after each."""


class Model(Protocol):
    """What a Trainer trains: a GAN, or anything with these six names. If it has `settings` too, a checkpoint holds them.
    If it has `require_rows` (see GAN.require_rows), a Trainer asks it whether the data fit, before it trains.

    players    {"G": Player(network, optimizer), …} under any names; all on one backend and of one dtype
    draws      how many minibatches one iteration takes (GAN: k)
    state      {"chains": array, …}: other arrays that the next iteration needs, changed in place; or {}
    iteration  one iteration of training; returns its costs by name
    report     returns figures by name, of held-out rows. The streams are those of epoch 0, so z is the same in every report.
    sample     returns n rows that the model makes
    """

    @property
    def players(self) -> Mapping[str, Player]: ...

    @property
    def draws(self) -> int: ...

    @property
    def state(self) -> Mapping[str, Array]: ...

    def iteration(self, batches: Iterator[Batch], streams: Streams) -> dict[str, Scalar]: ...

    def report(self, held_out: Batch, streams: Streams) -> dict[str, Scalar]: ...

    def sample(self, n: int, rng: Any) -> Array: ...


class Rows(Protocol):
    """Part of a data set, as datasets.Split is: images (n, d), and labels (n,)."""

    @property
    def images(self) -> Array: ...

    @property
    def labels(self) -> Array: ...


class Trainer:
    """Trains a model in epochs of ⌊n/(draws·m)⌋ iterations: no example comes twice, and a short last minibatch is dropped.

    model        a Model, such as a GAN
    train        the training data: images and labels (a Split), or images alone, (n, d). They are moved to the networks'
                 device once. `prepare` turns rows into floats, one minibatch at a time.
    validation   held-out data of the same kind, for the reports
    batch_size   m; by default the model's own
    seed         of shuffles, noise and dropout (initial parameters have the seeds of their networks)
    momentum     μ as a function of the epoch, from 1, for the optimisers that have a momentum
    prepare      prepare(rows, xp, dtype) makes the networks' floats of stored rows. By default it scales uint8 to [0, 1], and
                 floats are converted to the networks' dtype.
    Raises ArgumentError for rows that `prepare` does not accept, that are not finite, or that do not fit the model; for
    validation rows on a different scale; for too few rows; for a batch_size that is not the model's; and for a model whose
    players or state a checkpoint could not hold.

    .epoch         how many epochs were trained
    .metrics       what train_epoch returned for each of them
    .iterations    how many iterations an epoch has
    """

    def __init__(
        self,
        model: Model,
        train: Rows | Array,
        validation: Rows | Array,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        momentum: Callable[[int], float] = momentum_schedule,
        prepare: Callable[[Array, ArrayModule, npt.DTypeLike], Array] = pixels,
    ) -> None:
        _require_model(model)
        networks = [player.network for player in model.players.values()]
        self.model, self.xp, self.dtype = model, networks[0].xp, networks[0].dtype
        if any((network.xp, network.dtype) != (self.xp, self.dtype) for network in networks):
            raise ArgumentError("the players' networks must be of one backend and one dtype")
        own = getattr(model, "batch_size", None)
        batch_size = own or 100 if batch_size is None else batch_size
        if own not in (None, batch_size):
            raise ArgumentError(f"the model's minibatches have {own} rows, the trainer's {batch_size}: give one batch_size")
        self.batch_size, self.seed = checks.integer("batch_size", batch_size), checks.integer("seed", seed, 0)
        self.momentum = checks.function("momentum", momentum, "momentum=lambda epoch: 0.5")
        self.prepare = checks.function("prepare", prepare, "prepare=pixels")
        self.images, self.labels = self._arrays(train)
        images, labels = self._arrays(validation, REPORT_ROWS)
        for name, rows in ("training", self.images), ("validation", images):
            if not len(rows):
                raise ArgumentError(f"there are no {name} rows: an epoch needs rows to train on, and others for its report")
            if rows.dtype.kind == "f":
                checks.finite_range(f"{name} data", rows, self.dtype)
            self._floats(rows[:1], f"{name} data: ")
        self.held_out = Batch(self._floats(images), labels)
        self._require_rows(images)
        if len(self.images) < model.draws * batch_size:
            raise ArgumentError(
                f"{len(self.images)} rows are too few to train with, an iteration takes {model.draws} × {batch_size}: "
                "lower batch_size or k"
            )
        self.iterations = len(self.images) // (model.draws * batch_size)
        self.epoch = 0
        self.metrics: list[dict[str, Any]] = []

    def train_epoch(self, after_iteration: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Train for one epoch, calling after_iteration() after each iteration. Returns the epoch's metrics:

        epoch                     its number, from 1
        what `report` returns     at its end; for a GAN value, D_x, D_G_z
        each cost                 its mean over the epoch; for a GAN discriminator_cost, generator_cost
        learning_rate             η of the first player's last update
        momentum                  μ, where an optimiser has one

        Costs and report stay on the device. They are read once, at the end, and in long epochs every LOOK iterations.
        Raises DivergenceError, as `guard` does. The epoch then does not count, and the networks cannot be used any more:
        restore a checkpoint.
        """
        model, epoch = self.model, self.epoch + 1
        checks.function("after_iteration", after_iteration, "train_epoch(lambda: None)")
        optimizers = [player.optimizer for player in model.players.values()]
        with_momentum = [optimizer for optimizer in optimizers if hasattr(optimizer, "momentum")]
        for optimizer in with_momentum:
            optimizer.momentum = checks.real(f"the momentum of epoch {epoch}", self.momentum(epoch), "[0, 1)")
        batches, streams = Minibatches(self.batches(epoch), model.draws), Streams(self.seed, epoch, self.xp)
        look = 1 if self.xp is np else LOOK
        names: list[str] = []
        costs = self.xp.empty((self.iterations, 0), self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # the guard reports the same, with the place
            for i in range(self.iterations):
                try:
                    iteration_costs = model.iteration(batches, streams)
                except DivergenceError as error:
                    self._require_finite_data()
                    raise DivergenceError(f"{_place(epoch, i)}: {describe_divergence(str(error), model.players)}") from error
                batches.require(i + 1)
                if i == 0:
                    names = list(_figures("iteration", iteration_costs))
                    costs = self.xp.empty((self.iterations, len(names)), self.dtype)
                if len(iteration_costs) != len(names) or any(name not in iteration_costs for name in names):
                    raise ArgumentError(f"{_place(epoch, i)}: its costs are {list(iteration_costs)}, those before it {names}")
                for j, name in enumerate(names):
                    costs[i, j] = iteration_costs[name]
                after_iteration()
                if (i + 1) % look == 0 and i + 1 < self.iterations:
                    self._guard(names, to_host(costs[i + 1 - look : i + 1]), epoch, i + 1 - look)
            report = model.report(self.held_out, Streams(self.seed, 0, self.xp))
            _figures("report", report)
            given = [*report, *names, "epoch", "learning_rate", "momentum"]
            twice = sorted({name for name in given if given.count(name) > 1})
            if twice:
                raise ArgumentError(f"two figures of an epoch are named {', '.join(twice)}: rename one, a cost or a report")
            figures = self.xp.stack([self.xp.asarray(figure, self.dtype) for figure in (*report.values(), self._finite())])
            numbers = to_host(self.xp.concatenate([costs.ravel(), figures])).astype(np.float64)
        costs, figures = numbers[: costs.size].reshape(costs.shape), numbers[costs.size :].tolist()
        self._guard(names, costs, epoch, 0)
        if not figures.pop():
            self._require_finite_data()
            what = describe_divergence("a parameter or a running statistic is not finite", model.players)
            raise DivergenceError(f"{_place(epoch, self.iterations - 1)}: {what}")
        row = {"epoch": epoch} | dict(zip(report, figures, strict=True))
        row |= dict(zip(names, costs.mean(axis=0).tolist(), strict=True))
        row["learning_rate"] = _learning_rate(optimizers[0])
        if with_momentum:
            row["momentum"] = with_momentum[0].momentum
        self.epoch = epoch
        self.metrics.append(row)
        return row

    def save(self, path: str | os.PathLike[str], configuration: dict[str, Any] | None = None) -> None:
        """Write a checkpoint: all that `restore` needs, the model's settings, and `configuration`.

        Raises CheckpointError, as save_checkpoint does.
        """
        players = self.model.players
        checkpoint = Checkpoint(
            vectors={name: to_host(array).ravel() for name, array in self._vectors().items()},
            epoch=self.epoch,
            updates={name: player.optimizer.updates for name, player in players.items()},
            architecture={name: player.network.describe() for name, player in players.items()},
            metrics=self.metrics,
            configuration=getattr(self.model, "settings", {}) | (configuration or {}),
        )
        save_checkpoint(path, checkpoint)

    def restore(self, path: str | os.PathLike[str]) -> Checkpoint:
        """Resume from the checkpoint at path; returns it. Raises CheckpointError, as load_checkpoint does.

        If the checkpoint lacks anything that this model needs, nothing is changed.

        The networks must be those of the checkpoint. k, m, the noise, the seed and the data are yours to give as before:
        a Trainer does not compare them. run.Run does, for all settings of a run.
        """
        players = self.model.players
        checkpoint = load_checkpoint(path, {name: player.network for name, player in players.items()})
        mine = self._vectors()
        if mine.keys() != checkpoint.vectors.keys() or players.keys() != checkpoint.updates.keys():
            raise CheckpointError(
                f"{path}: it holds {', '.join(checkpoint.vectors)}, but this model needs {', '.join(mine)}: "
                f"resume with the model that wrote it"
            )
        for name, array in mine.items():
            saved = checkpoint.vectors[name]
            if array.size != saved.size or array.dtype != saved.dtype:
                raise CheckpointError(
                    f"{path}: its {name} has {saved.size} numbers in {saved.dtype}, where {array.size} in {array.dtype} are "
                    f"needed: ask for the networks that it was trained with"
                )
        for name, array in mine.items():
            array[...] = to_device(checkpoint.vectors[name].reshape(array.shape), self.xp)
        for name, player in players.items():
            player.optimizer.updates = checkpoint.updates[name]
        self.epoch, self.metrics = checkpoint.epoch, checkpoint.metrics
        return checkpoint

    def _vectors(self) -> dict[str, Array]:
        """All arrays of a run by their names in a checkpoint: "G.theta", "G.velocity", …, "state.chains"."""
        vectors: dict[str, Array] = {}
        for name, (network, optimizer) in self.model.players.items():
            vectors |= {f"{name}.theta": network.theta}
            vectors |= {f"{name}.{key}": array for key, array in optimizer.state.items()}
            if network.statistics.size:
                vectors |= {f"{name}.statistics": network.statistics}
        return vectors | {f"state.{key}": array for key, array in self.model.state.items()}

    def _arrays(self, data: Rows | Array, n: int | None = None) -> tuple[Array, Array | None]:
        """The first n rows of the data and their labels, if they have any, on the networks' device."""
        images: Any = getattr(data, "images", data)
        labels: Any = getattr(data, "labels", None)
        if getattr(images, "ndim", 0) < 2 or not hasattr(images, "dtype"):
            raise ArgumentError(f"the data are {checks.shown(images)}: give an array (n, d), or a data set's split")
        checks.unmasked("an array of data", images)
        if labels is not None and not getattr(labels, "shape", (1,)):
            raise ArgumentError(f"labels must be an array (n,), not {checks.shown(labels)}")
        if labels is not None and len(labels) != len(images):
            raise ArgumentError(f"{len(images)} rows have {len(labels)} labels: each row needs one")
        return to_device(images[:n], self.xp), None if labels is None else to_device(labels[:n], self.xp)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's minibatches. The shuffle is drawn on the host: the same on every backend."""
        order = random_generator(np, self.seed, "shuffle", epoch).permutation(len(self.images))
        order = to_device(order[: self.iterations * self.model.draws * self.batch_size], self.xp)
        return map(self._batch, order.reshape(-1, self.batch_size))

    def _batch(self, rows: Array) -> Batch:
        return Batch(self._floats(self.images[rows]), None if self.labels is None else self.labels[rows])

    def _floats(self, rows: Array, name: str = "") -> Array:
        if rows.dtype.kind == "f" and self.prepare is pixels:
            return rows.astype(self.dtype)
        try:
            return self.prepare(rows, self.xp, self.dtype)
        except ArgumentError as error:
            raise ArgumentError(f"{name}{error}") from error

    def _require_rows(self, validation: Array) -> None:
        """Raise ArgumentError unless the data are finite, on one scale, and like what the model makes."""
        some = self._floats(self.images[:: max(1, len(self.images) // REPORT_ROWS)])
        if not self.xp.isfinite(some).all():
            self._require_finite_data()
        fit = getattr(self.model, "require_rows", lambda *_: None)
        for name, stored, floats in ("training", self.images, some), ("validation", validation, self.held_out.x):
            whole = stored if stored.dtype.kind == "f" else floats
            fit(f"{name} data", whole.shape, *checks.finite_range(f"{name} data", whole, self.dtype))
        checks.same_scale(some, self.held_out.x)

    def _require_finite_data(self) -> None:
        """Raise ArgumentError if `prepare` makes numbers that are not finite. Asked where training has diverged."""
        for first in range(0, len(self.images), REPORT_ROWS):
            rows = self._floats(self.images[first : first + REPORT_ROWS])
            checks.finite_range("training data", rows, self.dtype, first)

    def _finite(self) -> Array:
        """1 if every parameter and every statistic is finite, else 0: on the device."""
        networks = [player.network for player in self.model.players.values()]
        vectors = [vector for network in networks for vector in (network.theta, network.statistics)]
        finite: Array = self.xp.stack([self.xp.isfinite(vector).all() for vector in vectors]).all()
        return finite

    def _guard(self, names: list[str], costs: npt.NDArray[Any], epoch: int, first: int) -> None:
        if not np.isfinite(costs).all():
            self._require_finite_data()
        for i, row in enumerate(costs.tolist(), first):
            guard(dict(zip(names, row, strict=True)), self.model.players, _place(epoch, i))


class Minibatches(Iterator[Batch]):
    """An epoch's minibatches, counted: a model takes as many in each iteration as its `draws` says."""

    def __init__(self, batches: Iterator[Batch], draws: int) -> None:
        self.batches, self.draws, self.taken = batches, draws, 0

    def __next__(self) -> Batch:
        self.taken += 1
        try:
            return next(self.batches)
        except StopIteration:
            words = f"an iteration took more than the model's draws, {self.draws}: let draws say how many it takes"
            raise ArgumentError(f"the minibatches have ended: {words}") from None

    def require(self, iterations: int) -> None:
        """Raise ArgumentError unless so many iterations have taken what `draws` says."""
        if self.taken != iterations * self.draws:
            taken = self.taken - (iterations - 1) * self.draws
            remedy = "let draws say how many it takes"
            raise ArgumentError(f"an iteration took {taken} minibatches, but the model's draws is {self.draws}: {remedy}")


def _require_model(model: Any) -> None:
    """Raise ArgumentError unless this is a Model that a Trainer can train, and a checkpoint can hold."""
    missing = [name for name in ("players", "draws", "state", "iteration", "report") if not hasattr(model, name)]
    if missing:
        raise ArgumentError(f"{checks.shown(model)} is no model: it lacks {', '.join(missing)} (see training.Model)")
    checks.integer("the model's draws", model.draws)
    for name in "players", "state":
        checks.instance(f"the model's {name}", getattr(model, name), Mapping, 'a dict, {"name": …}')
    if not model.players:
        raise ArgumentError("the model has no players: a Trainer needs at least one, a network with its optimiser")
    vectors: dict[str, Any] = {}
    for player, pair in model.players.items():
        checks.having(f"the player {player!r}", pair, ("network", "optimizer"), "Player(network, optimizer)")
        checks.instance(f"the network of {player!r}", pair.network, Network, "a Network")
        checks.optimizer_of(pair.network, pair.optimizer, f"the optimizer of {player!r}")
        if player == "state":
            raise ArgumentError("a player is named 'state': checkpoints use this name for the model's state, choose another")
        vectors |= {f"{player}.theta": pair.network.theta}
        vectors |= {f"{player}.{key}": array for key, array in pair.optimizer.state.items()}
    for name, array in (vectors | {f"state.{key}": array for key, array in model.state.items()}).items():
        if not NAME.fullmatch(name):
            raise ArgumentError(f"{name!r} is no name that a checkpoint can hold: use letters, digits and _, first a letter")
        checks.array(f"{name}, which a checkpoint holds,", array, "(…)")


def _figures(method: str, figures: Any) -> Mapping[str, Scalar]:
    """What a model's method returns, if it is a dict of numbers by name."""
    checks.instance(f"what the model's {method} returns", figures, Mapping, 'a dict of numbers, {"cost": …}')
    for name, figure in figures.items():
        number = hasattr(figure, "__float__") and getattr(figure, "shape", ()) == ()
        if not isinstance(name, str) or not number or getattr(figure, "dtype", np.dtype(float)).kind == "c":
            needed = "give a number, or an array without dimensions"
            raise ArgumentError(f"{method} returns {checks.shown(figure)} as {name!r}: {needed}")
    return figures


def guard(costs: Mapping[str, float], players: Mapping[str, Player], place: str = "divergence") -> None:
    """Raise DivergenceError if one of these costs is not finite, or beyond COST_BOUND. For loops without a Trainer, too.

    The message says which cost it is, at which place, and how large the parameters of each player are.
    """
    checks.instance("costs", costs, Mapping, 'a dict of numbers, {"cost": …}')
    for name, cost in costs.items():
        if isinstance(cost, str) or not hasattr(cost, "__float__"):
            raise ArgumentError(f"the {name} must be a number, not {checks.shown(cost)}")
        if not abs(cost) <= COST_BOUND:  # so that NaN raises too
            what = f"the {name.replace('_', ' ')} is {cost:.4g}, beyond the bound of {COST_BOUND:.0f}"
            raise DivergenceError(f"{place}: {describe_divergence(what, players)}")


def describe_divergence(what: str, players: Mapping[str, Player]) -> str:
    """What went wrong, with the largest parameter and the learning rate of each player, and what to do."""
    largest = (_worst_values(name, player.network) for name, player in players.items())
    rates = (f"{_learning_rate(player.optimizer):.4g} for {name}" for name, player in players.items())
    return (
        f"{what}; {'; '.join(largest)}. The learning rate is {', '.join(rates)}: if the data are finite, lower it; "
        f"checkpoints of earlier epochs are intact"
    )


def _learning_rate(optimizer: Optimizer) -> float:
    """η of the last update; before any update, that of the first, since a schedule begins at t = 1."""
    return optimizer.learning_rate_at(max(1, optimizer.updates))


def _place(epoch: int, i: int) -> str:
    return f"iteration {i + 1} of epoch {epoch}"


def _worst_values(player: str, network: Network) -> str:
    """In words: the first parameter that is not finite, else the largest entry; and how many statistics are not finite."""
    statistics = network.statistics
    lost = int((~network.xp.isfinite(statistics)).sum())
    and_statistics = f", and {lost} of its {statistics.size} running statistics are not finite" if lost else ""
    largest = {name: float(abs(values).max()) for name, values in network.parameters().items()}
    if not largest:
        return f"{player} has no parameters{and_statistics}"
    spoilt = [name for name in largest if not np.isfinite(largest[name])]
    name = spoilt[0] if spoilt else max(largest, key=lambda name: largest[name])
    layer = network.layers[int(name.split(".")[0])]
    if spoilt:
        words = f"{len(spoilt)} of {player}'s {len(largest)} parameters are not finite, the first is {name} of {layer!r}"
    else:
        words = f"the largest entry of {player} is {largest[name]:.4g}, in {name} of {layer!r}"
    return words + and_statistics
