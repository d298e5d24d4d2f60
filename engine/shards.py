"""One task is one shard: solve its samples, write them, say how it went.

While a shard is quantized, compressed and written the next one is solved: the solver is a lock that the tasks of a
process take in turn, and `IN_FLIGHT` tasks run at once, so the solver waits for a writer only when writing is slower.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.backends import Backend
from engine.errors import InputError
from engine.parameters import Parameters
from engine.places import UNREACHABLE, reason
from engine.recipe import Recipe, recipe_of
from engine.store import Store, open_store

IN_FLIGHT = 3
"""Tasks a process runs at once: one solves, one writes, and one has a shard ready should a write take long."""
_SOLVER = threading.Lock()


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        rows: how many were written.
        proposals: how many were simulated for them.
        solving: seconds with the solver; `writing`: seconds of quantizing, compressing and writing.
        process: host and number of the process that did it.
    """

    rows: int
    proposals: int
    solving: float
    writing: float
    process: str


class Maker(Protocol):
    """Makes shards of one store, and looks at a sample that cannot be made. What it raises is why it failed."""

    def make(self, rows: range) -> ShardReport:
        """Solve and write a shard."""
        ...

    def check(self, sample: int) -> None:
        """Solve one sample and write nothing."""
        ...

    def attempt(self, sample: int, proposal: int) -> None:
        """Simulate one proposal of a sample."""
        ...

    def propose(self, sample: int, proposal: int) -> Parameters:
        """The parameters of a proposal."""
        ...


@dataclass(frozen=True, eq=False)
class Workshop:
    """Makes shards in this process."""

    store: Store
    recipe: Recipe

    def make(self, rows: range) -> ShardReport:
        """See `Maker`.

        Raises:
            InputError: the store's place cannot be written.
        """
        with _SOLVER:
            started = time.monotonic()
            accepted, proposals = self.recipe.accept(rows)
            solved = time.monotonic()
        for sample, row in zip(rows, accepted, strict=True):
            _refuse_impossible(sample, row)
        try:
            self.store.write_shard(rows.start, accepted)
        except UNREACHABLE as error:
            raise InputError(f"cannot write the store {self.store.place}: {reason(error)}") from error
        written = time.monotonic()
        process = f"{os.uname().nodename}:{os.getpid()}"
        return ShardReport(len(rows), proposals, solved - started, written - solved, process)

    def check(self, sample: int) -> None:
        """See `Maker`."""
        with _SOLVER:
            accepted, _ = self.recipe.accept(range(sample, sample + 1))
        _refuse_impossible(sample, accepted[0])

    def attempt(self, sample: int, proposal: int) -> None:
        """See `Maker`."""
        with _SOLVER:
            self.recipe.attempt(sample, proposal)

    def propose(self, sample: int, proposal: int) -> Parameters:
        """See `Maker`."""
        return self.recipe.propose(sample, proposal)


@dataclass(frozen=True)
class RemoteWorkshop:
    """Makes shards wherever it is called: it carries the store's place, and everything else is read there.

    Attributes:
        place: path or URL of the store, the same on every machine.
        backend: by name, or an object that can be sent to a worker.
    """

    place: str
    backend: str | Backend

    def make(self, rows: range) -> ShardReport:
        """See `Maker`."""
        return self._workshop().make(rows)

    def check(self, sample: int) -> None:
        """See `Maker`."""
        self._workshop().check(sample)

    def attempt(self, sample: int, proposal: int) -> None:
        """See `Maker`."""
        self._workshop().attempt(sample, proposal)

    def propose(self, sample: int, proposal: int) -> Parameters:
        """See `Maker`."""
        return self._workshop().propose(sample, proposal)

    def _workshop(self) -> Workshop:
        """The store is opened anew, it may have grown; its recipe is kept from task to task."""
        store = open_store(self.place, "r+")
        with _SOLVER:
            return Workshop(store, recipe_of(store.attributes, self.backend))


def _refuse_impossible(sample: int, row: Mapping[str, Any]) -> None:
    """Stop a row that no tumor can have, before it is in a data set."""
    density = row["density"]
    if not 0 <= float(np.min(density)) <= float(np.max(density)) < np.inf:
        raise ArithmeticError(f"the density of sample {sample} ({row['parameters']}) is negative or not finite")
