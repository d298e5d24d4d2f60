"""Where simulations run: the protocol, what every kernel is told, and the choice by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.domain import Domain
from engine.errors import InputError
from engine.fisher_kolmogorov import Schedule

BACKENDS = ("auto", "cpu", "cuda")
NEVER = np.iinfo(np.int64).max
"""The `stop_count` of a kernel that is not to stop early."""


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


def coefficients(times: Schedule, exact: bool, stop_density: float) -> NDArray[np.float32]:
    """The numbers of a schedule that a kernel needs, float32 (4,).

    Returns:
        k; q, exp(-rho dt) if `exact` and rho dt otherwise; exp(-rho dt / 2); and the density that a voxel of
        `stop_density` has when the kernel looks: between two exact steps it is half a reaction ahead.
    """
    half = exp(-times.growth / 2)
    seen = stop_density / (stop_density + (1 - stop_density) * half) if exact else stop_density
    return np.array([times.diffusion, times.decay if exact else times.growth, half, seen], dtype=np.float32)


def choose_backend(name: str) -> Backend:
    """The backend called `name`; `auto` is CUDA where a GPU and CuPy are present, otherwise the CPU.

    Raises:
        InputError: the name is unknown, or what it needs is missing.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown: use {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    from engine.backends import cpu, cuda

    if name == "cuda" or (name == "auto" and cuda.is_present()):
        return _cuda_backend()
    return cpu.CpuBackend()


@lru_cache(maxsize=1)
def _cuda_backend() -> Backend:
    """Made once a process: it keeps its compiled kernel and the last brain on the device."""
    from engine.backends.cuda import CudaBackend

    return CudaBackend()
