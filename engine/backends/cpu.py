"""The CPU backend: one simulation a thread, as many threads as this process may use cores.

A simulation never shares its arrays with another, so results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engine.backends import Job, Outcome, Size
from engine.domain import Domain
from engine.errors import InputError
from engine.kernels import fisher_kolmogorov as kernels


def available_cores() -> int:
    """Cores that this process may use; LMI_THREADS lowers it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("LMI_THREADS", str(cores))
    if not wanted.isdigit():
        raise InputError(f"LMI_THREADS={wanted} is not a number of threads")
    return max(1, min(cores, int(wanted)))


class CpuBackend:
    """Numba kernels on a thread pool."""

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        """Use `threads` threads (default: every core that this process may use)."""
        self.threads = threads or available_cores()

    def run(self, domain: Domain, jobs: Iterable[Job], size: Size, on_device: bool = False) -> Iterator[Outcome]:
        """See `engine.backends.Backend.run`; at most two jobs a thread are held at a time."""
        running: deque[Future[Outcome]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for job in jobs:
                running.append(pool.submit(_run_one, domain, job, size))
                if len(running) >= 2 * self.threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

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
    return Outcome(density, int(updates), int(large), bool(stopped))
