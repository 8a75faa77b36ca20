"""One run on several processes, the ranks of MPI: each computes a part of every minibatch.

    mpiexec -n 4 python examples/mnist.py

Rank r of p draws the same random numbers as all others, and uses rows r, r + p, r + 2p, … of each minibatch, of z, and of every
dropout mask. Its gradient ∇ᵣ is that of the mean over its m/p rows. Before each update the ranks average it, in one Allreduce:

    ∇ = (1/p) Σᵣ ∇ᵣ

This is the gradient of one process, up to the order of additions. So any number of ranks computes the same run, and all ranks
hold the same θ. The μ and σ² of batch norm are averaged too, so they are those of the whole minibatch.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tinygan.backend import Rng, Scalar, random_uint16, to_host
from tinygan.description import with_parts
from tinygan.errors import ArgumentError
from tinygan.gan import Batch
from tinygan.optim import Optimizer
from tinygan.ranks import Ranks
from tinygan.training import Model, Trainer


def distribute(trainer: Trainer, ranks: Ranks | None) -> None:
    """Let the ranks share the trainer's iterations. Without ranks it stays as it is.

    Raises ArgumentError if p does not divide the minibatch; if the model has a `state`; and if a layer that mixes rows has no
    `average`, as BatchNorm has. Raises BackendError, as at the end of each epoch, unless all ranks have the same θ.
    """
    if ranks is not None:
        trainer.model = cast(Model, Part(trainer.model, trainer.batch_size, ranks))


class Part:
    """A model of which each rank computes a part. Other attributes than these are the model's own."""

    def __init__(self, model: Model, batch_size: int, ranks: Ranks) -> None:
        p = ranks.size
        if (m := batch_size) % p:
            fewer = max(n for n in range(1, p) if m % n == 0)
            raise ArgumentError(f"{m} rows do not divide by {p}: start {fewer} processes, or give --batch-size {m - m % p + p}")
        if model.state:
            raise ArgumentError(f"the model has a state ({', '.join(model.state)}), which ranks cannot divide: start it alone")
        self.model, self.ranks, self.rows = model, ranks, m // p
        for player in model.players.values():
            layers = [layer for whole in player.network.layers for layer in with_parts(whole) if not layer.parts]
            for layer in [layer for layer in layers if layer.mixes_rows]:
                if not hasattr(layer, "average"):
                    raise ArgumentError(f"{layer!r} mixes rows, and has no `average` for several ranks: start it alone")
                layer.average = ranks.average
            average_first(player.optimizer, ranks)
        self.require_same()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def iteration(self, batches: Iterator[Batch], streams: Mapping[str, Rng]) -> dict[str, Scalar]:
        """One iteration of the model, over this rank's rows; costs are the means over the ranks. A model's batch_size is m/p
        meanwhile."""
        mine = slice(self.ranks.rank, None, self.ranks.size)
        parts = (Batch(x[mine], None if y is None else y[mine]) for x, y in batches)
        whole = getattr(self.model, "batch_size", None)
        try:
            vars(self.model).update({"batch_size": self.rows} if whole else {})
            costs = self.model.iteration(parts, cast(Any, PartStreams(streams, self.ranks, self.rows)))
        finally:
            vars(self.model).update({"batch_size": whole} if whole else {})
        means = self.ranks.average(np.array([float(to_host(cost)) for cost in costs.values()]))
        return dict(zip(costs, means.tolist(), strict=True))

    def report(self, held_out: Batch, streams: Any) -> dict[str, Scalar]:
        """The model's report, the same on all ranks. Raises BackendError unless they have the same θ."""
        self.require_same()
        return self.model.report(held_out, streams)

    def require_same(self) -> None:
        """Raise BackendError unless all ranks have the same parameters, statistics and states of the optimisers."""
        vectors: dict[str, Any] = {}
        for name, (network, optimizer) in self.model.players.items():
            vectors |= {f"{name}.theta": network.theta, f"{name}.statistics": network.statistics}
            vectors |= {f"{name}.{key}": vector for key, vector in optimizer.state.items()}
        self.ranks.require_same(vectors)


def average_first(optimizer: Optimizer, ranks: Ranks) -> None:
    """Let each step of the optimiser average its gradient over the ranks first, in place."""
    step = optimizer.step
    optimizer.step = lambda grad: step(ranks.average(grad))  # type: ignore[method-assign]


class PartStreams(dict[str, "PartRng"]):
    """Streams of which each rank gets its rows: PartRng(streams[purpose], ranks, rows)."""

    def __init__(self, streams: Mapping[str, Rng], ranks: Ranks, rows: int) -> None:
        self.streams, self.ranks, self.rows = streams, ranks, rows

    def __missing__(self, purpose: str) -> "PartRng":
        self[purpose] = PartRng(self.streams[purpose], self.ranks, self.rows)
        return self[purpose]


class PartRng:
    """A random generator that draws p times as many rows as it is asked for, and returns rows r, r + p, …

    These are the rows that one process would draw. A single number, size=None or (), is the same on all ranks.
    rows     m/p. Raises ArgumentError for a draw of other rows than once, twice, … as many: they could not be divided.
    """

    def __init__(self, rng: Rng, ranks: Ranks, rows: int) -> None:
        self.rng, self.ranks, self.rows = rng, ranks, rows

    def random(self, size: Any = None, dtype: npt.DTypeLike = np.float64) -> Any:
        return self._rows(lambda whole: self.rng.random(whole, dtype=dtype), size)

    def standard_normal(self, size: Any = None, dtype: npt.DTypeLike = np.float64) -> Any:
        return self._rows(lambda whole: self.rng.standard_normal(whole, dtype=dtype), size)

    def integers(self, low: Any, high: Any = None, size: Any = None, dtype: npt.DTypeLike = np.int64) -> Any:
        if np.dtype(dtype) == np.uint16 and (low, high) == (0, 2**16):  # the bits of one process's dropout masks
            return self._rows(lambda whole: random_uint16(self.rng, whole), size)
        return self._rows(lambda whole: self.rng.integers(low, high, size=whole, dtype=dtype), size)

    def _rows(self, draw: Callable[[Any], Any], size: Any) -> Any:
        shape = (size,) if isinstance(size, int | np.integer) else tuple(size or ())
        if not shape:
            return draw(size)
        if shape[0] % self.rows:
            raise ArgumentError(f"a draw of {shape} for {self.rows} rows: draw numbers for each row, rng.random((len(x), …))")
        return draw((shape[0] * self.ranks.size, *shape[1:]))[self.ranks.rank :: self.ranks.size]
