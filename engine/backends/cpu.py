"""The CPU backend: one simulation a thread, as many threads as this process may use cores.

A simulation never shares its arrays with another, so results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from engine.backends import NEVER, Job, Outcome, coefficients
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

    def run(
        self, domain: Domain, jobs: Iterable[Job], scheme: str, stop_voxels: int | None, stop_density: float
    ) -> Iterator[Outcome]:
        """See `engine.backends.Backend.run`; at most two jobs a thread are held at a time."""
        running: deque[Future[Outcome]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for job in jobs:
                running.append(pool.submit(_run_one, domain, job, scheme, stop_voxels, stop_density))
                if len(running) >= 2 * self.threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()


def _run_one(domain: Domain, job: Job, scheme: str, stop_voxels: int | None, stop_density: float) -> Outcome:
    exact = scheme == "converged"
    k, q, q_half, seen = coefficients(job.schedule, exact, stop_density)
    steps, updates, stopped = kernels.evolve(
        job.initial, domain.faces, domain.starts, domain.fill, domain.links, domain.link_offsets, *domain.strides,
        exact, job.schedule.steps, k, q, q_half, NEVER if stop_voxels is None else stop_voxels, seen,
    )  # fmt: skip
    return Outcome(job.initial, int(steps), int(updates), bool(stopped))
