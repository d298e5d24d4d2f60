"""One task is one shard: solve its samples, write them, say how it went.

Several tasks run at once in a process (`WRITERS`, for a GPU `device_tasks` more). Their samples are searched together
(`engine.acceptance`), and while one compresses and writes its shard the search goes on for the others, so nothing
waits for a writer unless writing is slower.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.backends import Backend, Span
from engine.errors import InputError
from engine.parameters import Parameters
from engine.places import UNREACHABLE, reason
from engine.recipe import Recipe, recipe_of
from engine.store import Store, open_store

WRITERS = 3
"""Tasks of a process beyond those that a device needs: one searches, one writes, one has a shard ready should that take
long."""
DEVICE_SAMPLES = 4096
"""Samples that are searched at once for a GPU: two waves of 1,056 (two CTAs on each of 132 multiprocessors, four
simulations each) are under way, and as many samples are being screened for the next ones (chosen by us)."""
HELD_BYTES = 16e9
"""What the rows of a process that feeds a GPU may take until their shards are written (chosen by us)."""
_OPENING = threading.Lock()


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        rows: how many were written.
        proposals: how many were drawn for them.
        writing: seconds of quantizing, compressing and writing.
        process: host and number of the process that did it.
        solver: what simulated: the process, or host and device.
        busy: when it did since the process' last report.
    """

    rows: int
    proposals: int
    writing: float
    process: str
    solver: str
    busy: tuple[Span, ...]


def device_tasks(shard: int, row_bytes: int) -> int:
    """Tasks of a process that keep a GPU busy, as far as its memory allows.

    Args:
        shard: samples of a task.
        row_bytes: of the fields of one.
    """
    return max(1, int(min(DEVICE_SAMPLES, HELD_BYTES / row_bytes)) // shard)


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
        accepted, proposals = self.recipe.accept(rows)
        solved = time.monotonic()
        for sample, row in zip(rows, accepted, strict=True):
            _refuse_impossible(sample, row)
        try:
            self.store.write_shard(rows.start, accepted)
        except UNREACHABLE as error:
            raise InputError(f"cannot write the store {self.store.place}: {reason(error)}") from error
        written = time.monotonic()
        host, device = os.uname().nodename, os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        process = f"{host}:{os.getpid()}"
        solver = f"{host}, device {device}" if self.recipe.backend.name == "cuda" else process
        busy = tuple(self.recipe.acceptance.take_busy())
        return ShardReport(len(rows), proposals, written - solved, process, solver, busy)

    def check(self, sample: int) -> None:
        """See `Maker`."""
        accepted, _ = self.recipe.accept(range(sample, sample + 1))
        _refuse_impossible(sample, accepted[0])

    def attempt(self, sample: int, proposal: int) -> None:
        """See `Maker`."""
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
        with _OPENING:
            return Workshop(store, recipe_of(store.attributes, self.backend))


def _refuse_impossible(sample: int, row: Mapping[str, Any]) -> None:
    """Stop a row that no tumor can have, before it is in a data set."""
    bits = row["density"].view(np.uint16)  # of half precision; in their order the finite numbers >= 0 come first
    if bits.max() >= np.float16(np.inf).view(np.uint16):
        raise ArithmeticError(f"the density of sample {sample} ({row['parameters']}) is negative or not finite")
