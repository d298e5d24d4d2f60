"""Where simulations run: the protocol, and the choice by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from engine.domain import Domain, Voxels
from engine.errors import InputError
from engine.time_steps import Schedule

BACKENDS = ("auto", "cpu", "cuda")


@dataclass(frozen=True, eq=False)
class Job:
    """One simulation as a backend sees it.

    Attributes:
        start: makes the density at time 0, the voxels that are not 0; called once, maybe in another thread.
        schedule: its time steps.
    """

    start: Callable[[], Voxels]
    schedule: Schedule


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a job became.

    Attributes:
        density: gives the flat density (domain size,), on the host in the type asked for or one that is cast to it, or
            in float32 on the backend's device; nothing is copied before it is called.
        count: voxels with c >= the density asked for.
        updates: tissue voxels that were computed, once for every stage of every step.
        large: voxels that hold at least `Size.density`.
        stopped: whether it was stopped as too big.
    """

    density: Callable[[DTypeLike], Any]
    count: Callable[[float], int]
    updates: int
    large: int
    stopped: bool


@dataclass(frozen=True)
class Size:
    """What counts as a tumor's size, and when it is too big.

    Attributes:
        density: c [1] of a voxel that counts.
        most: a simulation stops once more voxels count; never by default.
    """

    density: float
    most: int = np.iinfo(np.int64).max


Span = tuple[float, float]
"""From when to when, on the clock of `time.monotonic` [s]."""


class Backend(Protocol):
    """Runs jobs over one domain, results in the jobs' order.

    Attributes:
        name: as `choose_backend` takes it.
        width: simulations that keep it busy for a while.
    """

    name: str
    width: int

    def run(self, domain: Domain, jobs: Iterable[Job], size: Size, on_device: bool = False) -> Iterator[Outcome]:
        """Advance every job to its end; densities stay where they were computed if `on_device`.

        The first jobs start at the call, and several calls may be under way at a time.
        """
        ...

    def take_busy(self) -> list[Span] | None:
        """When its device had work since the last call; None where it is this process that computes."""
        ...

    def zeros(self, shape: tuple[int, ...], on_device: bool = False) -> Any:
        """A float32 array on the host, or where this backend computes."""
        ...


def choose_backend(name: str) -> Backend:
    """The backend called `name`; `auto` is CUDA where a GPU and CuPy are present, otherwise the CPU.

    Raises:
        InputError: the name is unknown, or what it needs is missing.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown: use {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    from engine.backends import cpu, cupy_device

    if name == "cuda" or (name == "auto" and cupy_device.is_present()):
        return _cuda_backend()
    return cpu.CpuBackend()


@lru_cache(maxsize=1)
def _cuda_backend() -> Backend:
    """Made once a process: it keeps its compiled kernel and the last brain on the device."""
    from engine.backends.cuda import CudaBackend

    return CudaBackend()
