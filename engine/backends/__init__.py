"""Where simulations run: the protocol, and the choice by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.domain import Domain
from engine.errors import InputError
from engine.fisher_kolmogorov import Schedule

BACKENDS = ("auto", "cpu")


@dataclass(frozen=True)
class Job:
    """One simulation as a backend sees it.

    Attributes:
        initial: density at time 0, flat, float32 (domain size,); the backend may overwrite it.
        schedule: its time steps.
    """

    initial: NDArray[np.float32]
    schedule: Schedule


@dataclass(frozen=True)
class Outcome:
    """What a job became: flat density, steps done, voxel updates, and whether it was stopped as too big."""

    density: NDArray[np.float32]
    steps: int
    updates: int
    stopped: bool


class Backend(Protocol):
    """Runs jobs over one domain, results in the jobs' order."""

    name: str

    def run(
        self, domain: Domain, jobs: Iterable[Job], scheme: str, stop_voxels: int | None, stop_density: float
    ) -> Iterator[Outcome]:
        """Advance every job; stop one early once more than `stop_voxels` voxels hold >= `stop_density`."""
        ...


def choose_backend(name: str) -> Backend:
    """The backend called `name`; `auto` is the fastest one present.

    Raises:
        InputError: the name is unknown.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown: use {' or '.join(BACKENDS)}")
    from engine.backends.cpu import CpuBackend

    return CpuBackend()
