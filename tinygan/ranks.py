"""The processes that mpiexec started for one job: who they are, what they do together, and how an error ends all of them.

p processes have the ranks 0 … p − 1. Rank 0 alone writes files and prints. Without mpiexec there is no job, and MPI is not
imported. parallel.py divides training among the ranks, and parzen.py the evaluation.
"""

import contextlib
import functools
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from tinygan.backend import Array, get_array_module, to_device, to_host
from tinygan.errors import ArgumentError, BackendError, TinyganError

LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables in which MPICH's relatives, Open MPI and Slurm say how many processes they started."""

GRACE = 2.0
"""Seconds that a rank leaves to rank 0 to tell an error: nearly every error is found by all ranks at once."""

Item = TypeVar("Item")
Found = TypeVar("Found")


class Ranks:
    """The processes of this job: rank, size = p, and what they do together. Each method is called by all of them."""

    def __init__(self, MPI: Any) -> None:
        self.comm, self.in_place = MPI.COMM_WORLD, MPI.IN_PLACE
        self.rank, self.size = int(self.comm.Get_rank()), int(self.comm.Get_size())

    def average(self, array: Array) -> Array:
        """array ← (1/p) Σᵣ arrayᵣ, in place, and the same bits on all ranks. Returns it."""
        host = to_host(array)
        self.comm.Allreduce(self.in_place, host)
        host /= self.size
        if host is not array:
            array[...] = to_device(host, get_array_module(array))
        return array

    def map(self, function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
        """[function(item), …] on all ranks. Rank r computes those of the items r, r + p, …"""
        items = list(items)
        found = self.comm.allgather([function(item) for item in items[self.rank :: self.size]])
        return [found[i % self.size][i // self.size] for i in range(len(items))]

    def share(self, value: Any = None) -> Any:
        """Rank 0's value, on all ranks."""
        return self.comm.bcast(value)

    def require_same(self, values: Mapping[str, Any]) -> None:
        """Raise BackendError unless all ranks have the same bytes: arrays, or texts, by name. Digests are compared."""
        data = {name: v.encode() if isinstance(v, str) else np.ascontiguousarray(to_host(v)).data for name, v in values.items()}
        found = self.comm.allgather({name: hashlib.sha256(each).hexdigest() for name, each in data.items()})
        for rank, digests in enumerate(found):
            different = [name for name in found[0] if digests.get(name) != found[0][name]]
            if different or len(digests) != len(found[0]):
                raise BackendError(
                    f"rank {rank} of {self.size} and rank 0 differ in {', '.join(different)}: give all ranks the same options, "
                    f"files, code, NumPy and kind of processor; checkpoints of earlier epochs are intact"
                )


@functools.cache
def world() -> Ranks | None:
    """The ranks that mpiexec started; None if it started none or one. Without mpiexec, MPI is not imported.

    Raises BackendError, with the remedy, if mpiexec started several processes that cannot find each other.
    """
    values = [os.environ.get(name, "") for name in LAUNCHERS]
    started = max([int(value) for value in values if value.isdecimal()], default=1)
    if started == 1:
        return None
    try:
        from mpi4py import MPI
    except Exception as error:  # an ImportError, or a RuntimeError if there is no MPI
        remedy = "python -m pip install mpi4py (and mpich, if this machine has no MPI)"
        raise BackendError(f"{started} processes were started, but mpi4py does not work ({error}): {remedy}") from error
    ranks = Ranks(MPI)
    if ranks.size != started:
        mine = MPI.Get_library_version().split("\n")[0]
        raise BackendError(
            f"{started} processes were started, but mpi4py sees {ranks.size} of them: it uses {mine}: use its own mpiexec"
        )
    return ranks


def require_alone(what: str) -> None:
    """Raise ArgumentError if mpiexec started several processes: `what` does not divide its work."""
    if (ranks := world()) is not None:
        raise ArgumentError(
            f"{what} does not divide its work, and {ranks.size} processes were started: start it without mpiexec"
        )


@contextlib.contextmanager
def one_job() -> Iterator[None]:
    """Inside `with`, only rank 0 prints, and an error on any rank ends all of them, with its name (MPI_Abort).

    The others first leave GRACE seconds to rank 0, which may have the same error, and a file to write. Alone, it does nothing.
    """
    ranks = world()
    if ranks is None:
        yield
        return
    try:
        with contextlib.ExitStack() as stack:
            if ranks.rank:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            raise
        time.sleep(GRACE if ranks.rank else 0)
        if not isinstance(error, TinyganError | OSError | SystemExit | KeyboardInterrupt):
            traceback.print_exc()
        stopped = isinstance(error, KeyboardInterrupt)  # whoever pressed Ctrl-C knows
        if not stopped:
            print(f"error: rank {ranks.rank} of {ranks.size}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        time.sleep(GRACE / 4)  # mpiexec passes the words on, and may drop what it still holds when a rank aborts
        ranks.comm.Abort(130 if stopped else 1)
