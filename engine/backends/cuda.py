"""The CUDA backend: a batch in one launch, one simulation at a time in each CTA (a CUDA thread block).

The brain stays on the device from call to call. Batches are cut into chunks that fit its memory; two of them are under
way at a time, in lanes (CUDA streams) of their own, so the CTAs of one start as those of another end. A density stays
on the device until it is asked for, and is quantized before it is copied. What runs the kernel is a
`engine.backends.device.Device`, so the tests run the same one on the host.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends import Job, Outcome, Size, Span
from engine.backends.cupy_device import CupyDevice
from engine.backends.device import COPY_LANE, LAUNCH_LANES, Device, Kernel
from engine.domain import LANES, Domain, Voxels
from engine.errors import InputError
from engine.kernels import fisher_kolmogorov as twin
from engine.threads import available_cores, run_in_order

GROWTH = Kernel(
    "evolve",
    (Path(twin.__file__).with_suffix(".cu"),),
    threads=768,
    ctas_per_sm=2,
    constants={"LANES": LANES, "CHECK_EVERY": twin.CHECK_EVERY, "CUTOFF": f"{twin.CUTOFF}f"},
)
"""Two CTAs cover each other's barriers; 2 x 768 threads leave 40 registers each, 2 x 1024 would spill (ptxas)."""
SIMULATIONS_PER_CTA = 4
"""Simulations for every CTA that runs at a time keep the device busy for a while, and even out their lengths."""
AHEAD = 2
"""Launches of one call that are under way at a time."""
LAUNCH_SHARE = 0.2
"""Part of the free device memory that a launch may take, as four may be under way (those of two calls)."""
MOST_ENTRIES = 2**31 - 1
"""Densities of a launch, simulations times tissue voxels: CuPy counts with 32 bits where seeds are scattered."""
BRAINS = 4
"""Brains that stay on the device: a screen's beside that of what it screens, and two more."""
SEEDS_PER_TASK = 32
"""Starting densities that a thread makes at a time."""


@dataclass(frozen=True, eq=False)
class _Launch:
    """A chunk on the device; its rows are the jobs in the order `order`."""

    order: NDArray[np.intp]
    density: Any
    report: Any
    running: Any


@dataclass(frozen=True)
class _Plan:
    """CTAs of a launch and simulations in it."""

    ctas: int
    simulations: int


class CudaBackend:
    """The CUDA kernel on one device."""

    name = "cuda"

    def __init__(self, device: Device | None = None) -> None:
        """Use `device` (default: the current GPU).

        Raises:
            InputError: there is no GPU or no CuPy.
        """
        self.device: Device = device or CupyDevice()
        self.width = SIMULATIONS_PER_CTA * self.device.ctas(GROWTH)
        self._upload_brain = lru_cache(maxsize=BRAINS)(self._upload_new_brain)
        self._lock = threading.Lock()
        self._launches = 0
        self._busy: list[Span] = []

    def run(self, domain: Domain, jobs: Iterable[Job], size: Size, on_device: bool = False) -> Iterator[Outcome]:
        """See `engine.backends.Backend.run`; `AHEAD` chunks of jobs are held at a time.

        Raises:
            InputError: not even one simulation fits the device's memory.
        """
        launches = deque[_Launch]()
        add = partial(self._add, launches, domain, iter(jobs), self._plan(domain), size)
        add()
        return self._outcomes(launches, add, on_device)

    def take_busy(self) -> list[Span]:
        """See `engine.backends.Backend.take_busy`."""
        with self._lock:
            taken, self._busy = self._busy, []
        return taken

    def wait(self, running: Any) -> None:
        """Wait for the end of a launch, and count it for `take_busy`."""
        busy = self.device.wait(running)
        with self._lock:
            self._busy.append(busy)

    def zeros(self, shape: tuple[int, ...], on_device: bool = False) -> Any:
        """See `engine.backends.Backend.zeros`."""
        return self.device.zeros(shape, np.float32) if on_device else np.zeros(shape, dtype=np.float32)

    def _upload_new_brain(self, domain: Domain) -> list[Any]:
        arrays = (domain.starts, domain.fill, domain.links, domain.link_offsets)
        integers = [self.device.upload(values.astype(np.int32)) for values in arrays]
        brain = [self.device.upload(domain.faces), *integers]
        self.device.settle()  # other lanes use it as well
        return brain

    def _plan(self, domain: Domain) -> _Plan:
        """As many CTAs as run at a time, and simulations for each, as memory allows."""
        simulation = 4 * domain.tissue.size
        scratch = simulation + 4 * (3 * len(domain.starts) + _words(domain))
        free = int(LAUNCH_SHARE * self.device.free_memory())
        ctas = min(self.device.ctas(GROWTH), free // (scratch + simulation))
        if ctas < 1:
            raise InputError(
                f"a simulation needs {(scratch + simulation) / 2**20:.0f} MiB of device memory and {free / 2**20:.0f} "
                "are free: use a coarser grid or backend=cpu"
            )
        return _Plan(ctas, min((free - ctas * scratch) // simulation, MOST_ENTRIES // domain.tissue.size))

    def _add(self, launches: deque[_Launch], domain: Domain, jobs: Iterator[Job], plan: _Plan, size: Size) -> None:
        """Start chunks of the jobs until `AHEAD` are under way."""
        while len(launches) < AHEAD and (chunk := list(islice(jobs, plan.simulations))):
            with self._lock, self.device.lane(self._launches % LAUNCH_LANES):
                launches.append(self._launch(domain, self._upload_brain(domain), chunk, plan.ctas, size))
                self._launches += 1

    def _launch(self, domain: Domain, brain: list[Any], jobs: list[Job], ctas: int, size: Size) -> _Launch:
        """Start a chunk, longest simulations first, so that the last to end are short."""
        device, length, blocks, words = self.device, domain.tissue.size, len(domain.starts), _words(domain)
        order = np.argsort([-job.schedule.sweeps for job in jobs], kind="stable")
        ordered = [jobs[row] for row in order]
        ctas = min(ctas, len(jobs))
        density = self._start(ordered, length)
        report = device.zeros((len(jobs), 3), np.int64)
        queue = device.zeros((1,), np.int32)
        scratch = (
            device.zeros((ctas, length), np.float32),
            device.zeros((ctas, 3, blocks), np.int32),
            device.zeros((ctas, words), np.uint32),
        )
        splits = ordered[0].schedule.splits
        sizes = [np.int32(n) for n in (len(jobs), length, blocks, words, *domain.strides, splits)]
        stop = (np.int64(size.most), np.float32(size.density))
        steps = self._upload_steps(ordered)
        running = device.launch(GROWTH, ctas, [density, *steps, report, queue, *brain, *scratch, *sizes, *stop])
        return _Launch(order, density, report, running)

    def _start(self, jobs: list[Job], length: int) -> Any:
        """Densities at time 0 on the device, float32 (jobs, length)."""
        density = self.device.zeros((len(jobs), length), np.float32)
        parts = (jobs[first : first + SEEDS_PER_TASK] for first in range(0, len(jobs), SEEDS_PER_TASK))
        made = run_in_order((partial(_start_all, part) for part in parts), available_cores())
        starts = [start for part in made for start in part]
        rows = np.repeat(np.arange(len(jobs)), [len(start.places) for start in starts])
        places = np.concatenate([start.places for start in starts])
        values = np.concatenate([start.values for start in starts])
        rows, places, values = (self.device.upload(part) for part in (rows, places, values))
        self.device.scatter(rows, places, values, density)
        return density

    def _upload_steps(self, jobs: list[Job]) -> tuple[Any, Any, Any]:
        """Pairs (n, 4) of all jobs, where each job's begin, and what comes before the first."""
        steps = [job.schedule for job in jobs]
        pairs = np.concatenate([np.column_stack([s.weights, s.decays, s.ahead]) for s in steps])
        offsets = np.cumsum([0, *(len(s.decays) for s in steps)]).astype(np.int32)
        first = np.array([s.first for s in steps], dtype=np.float32)
        return self.device.upload(pairs), self.device.upload(offsets), self.device.upload(first)

    def _outcomes(self, launches: deque[_Launch], add: Callable[[], None], on_device: bool) -> Iterator[Outcome]:
        while launches:
            outcomes = self._collect(launches.popleft(), on_device)
            add()
            yield from outcomes
            if on_device:
                self.device.settle()  # what was copied from the launch's memory, before another one gets it

    def _collect(self, launch: _Launch, on_device: bool) -> list[Outcome]:
        """Wait for a chunk; its outcomes in the order of its jobs."""
        self.wait(launch.running)
        with self.device.lane(COPY_LANE):
            report = self.device.download(launch.report)
        counts = lru_cache(maxsize=1)(partial(self._count, launch.density))
        return [
            Outcome(
                partial(self._fetch, launch.density[p], on_device), partial(_count_of, counts, int(p)),
                int(report[p, 0]), int(report[p, 1]), bool(report[p, 2]),
            ) for p in np.argsort(launch.order)
        ]  # fmt: skip

    def _fetch(self, density: Any, on_device: bool, dtype: DTypeLike) -> Any:
        if on_device:
            return density
        with self.device.lane(COPY_LANE):
            return self.device.download(density, dtype)

    def _count(self, density: Any, threshold: float) -> NDArray[np.int64]:
        with self.device.lane(COPY_LANE):
            return self.device.count(density, threshold)


def _start_all(jobs: Sequence[Job]) -> list[Voxels]:
    return [job.start() for job in jobs]


def _count_of(counts: Callable[[float], NDArray[np.int64]], row: int, threshold: float) -> int:
    """A row's share of what is counted for a whole launch, once."""
    return int(counts(threshold)[row])


def _words(domain: Domain) -> int:
    """Words that hold a bit per block."""
    return (len(domain.starts) + 31) // 32
