"""The CPU backend: one simulation a thread, as many threads as this process may use cores.

A simulation never shares its arrays with another, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.backends import Job, Outcome, Size
from engine.domain import Domain
from engine.kernels import fisher_kolmogorov as kernels
from engine.threads import available_cores, run_in_order


class CpuBackend:
    """Numba kernels on a thread pool."""

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        """Use `threads` threads (default: every core that this process may use)."""
        self.threads = threads or available_cores()
        self.width = 2 * self.threads

    def run(self, domain: Domain, jobs: Iterable[Job], size: Size, on_device: bool = False) -> Iterator[Outcome]:
        """See `engine.backends.Backend.run`; at most two jobs a thread are held at a time."""
        return run_in_order((partial(_run_one, domain, job, size) for job in jobs), self.threads)

    def take_busy(self) -> None:
        """See `engine.backends.Backend.take_busy`."""

    def zeros(self, shape: tuple[int, ...], on_device: bool = False) -> NDArray[np.float32]:
        """See `engine.backends.Backend.zeros`."""
        return np.zeros(shape, dtype=np.float32)


def _run_one(domain: Domain, job: Job, size: Size) -> Outcome:
    times, (places, values) = job.schedule, job.start()
    density = np.zeros(domain.tissue.size, dtype=np.float32)
    density[places] = values
    brain = (domain.faces, domain.starts, domain.fill, domain.links, domain.link_offsets, *domain.strides)
    stop = (size.most, np.float32(size.density))
    if times.splits:
        steps = (times.weights, times.decays, times.ahead, times.first)
        updates, large, stopped = kernels.evolve(density, *brain, *steps, *stop)
    else:
        updates, large, stopped = kernels.evolve_by_euler(density, *brain, times.weights, *stop)
    return Outcome(lambda dtype: density, partial(_count, density), int(updates), int(large), bool(stopped))


def _count(density: NDArray[np.float32], threshold: float) -> int:
    return int(np.count_nonzero(density >= np.float32(threshold)))
