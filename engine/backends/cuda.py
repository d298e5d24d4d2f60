"""The CUDA backend: a batch in one launch, one simulation at a time in each CTA (a CUDA thread block).

The brain stays on the device from call to call. Batches are cut into chunks that fit its memory; the next chunk is
prepared while one runs. `Device` is all that touches CuPy, so the tests run the same kernel on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends import Job, Outcome, Size
from engine.domain import LANES, Domain
from engine.errors import InputError
from engine.kernels import fisher_kolmogorov as twin
from engine.threads import available_cores

SOURCE = Path(twin.__file__).with_suffix(".cu")
KERNEL = "evolve"
THREADS = 768
CTAS_PER_SM = 2
"""Two CTAs cover each other's barriers; 2 x 768 threads leave 40 registers each, 2 x 1024 would spill (ptxas)."""
SIMULATIONS_PER_CTA = 4
"""Simulations that a CTA takes from one launch, on average: long enough to even out, short enough for host memory."""
MEMORY_SHARE = 0.9
"""Part of the free device memory that a launch may take (chosen by us, room for the driver's own)."""


class Device(Protocol):
    """Where the kernel runs; arrays are whatever `upload` and `zeros` return.

    Attributes:
        ctas: CTAs that run at a time.
    """

    ctas: int

    def free_memory(self) -> int:
        """Bytes that can be allocated."""
        ...

    def upload(self, values: NDArray) -> Any:
        """A copy on the device."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """A new array on the device."""
        ...

    def scatter(self, rows: Any, places: Any, values: Any, out: Any) -> None:
        """Set out[rows, places] = values; the three are of one length."""
        ...

    def download(self, values: Any) -> NDArray:
        """A copy on the host, once every launch before is done."""
        ...

    def launch(self, ctas: int, arguments: Sequence[Any]) -> None:
        """Start the kernel; may return before it is done."""
        ...


def compile_options(threads: int = THREADS) -> tuple[str, ...]:
    """Options of every build of the kernel: nothing fused but what is written so, and the constants of its twin."""
    constants = {
        "THREADS": threads,
        "CTAS_PER_SM": CTAS_PER_SM,
        "LANES": LANES,
        "CHECK_EVERY": twin.CHECK_EVERY,
        "CUTOFF": f"{twin.CUTOFF}f",
    }
    return ("--fmad=false", *(f"-D{name}={value}" for name, value in constants.items()))


def is_present() -> bool:
    """Whether CuPy and a GPU are there."""
    if find_spec("cupy") is None:
        return False
    try:
        _import_cupy()
    except InputError:
        return False
    return True


def _import_cupy() -> ModuleType:
    """CuPy, once it has found a GPU."""
    try:
        import cupy
    except ImportError as error:
        raise InputError(
            "backend=cuda needs an NVIDIA GPU and CuPy, and CuPy cannot be imported: "
            "pip install 'learn-morph-infer[gpu]', or use backend=cpu"
        ) from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise InputError(f"backend=cuda needs an NVIDIA GPU and its driver ({error}): use backend=cpu") from error
    return cupy


class CupyDevice:
    """The current NVIDIA GPU (CUDA_VISIBLE_DEVICES chooses it)."""

    def __init__(self) -> None:
        """Find it and load the kernel.

        Raises:
            InputError: CuPy or a GPU is missing.
        """
        self._cupy = _import_cupy()
        module = self._cupy.RawModule(code=SOURCE.read_text(), options=compile_options())
        self._kernel = module.get_function(KERNEL)
        self.ctas = CTAS_PER_SM * self._cupy.cuda.Device().attributes["MultiProcessorCount"]

    def free_memory(self) -> int:
        """See `Device`."""
        return self._cupy.cuda.Device().mem_info[0] + self._cupy.get_default_memory_pool().free_bytes()

    def upload(self, values: NDArray) -> Any:
        """See `Device`."""
        return self._cupy.asarray(values)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """See `Device`."""
        return self._cupy.zeros(shape, dtype)

    def scatter(self, rows: Any, places: Any, values: Any, out: Any) -> None:
        """See `Device`."""
        out[rows, places] = values

    def download(self, values: Any) -> NDArray:
        """See `Device`."""
        return self._cupy.asnumpy(values)

    def launch(self, ctas: int, arguments: Sequence[Any]) -> None:
        """See `Device`."""
        self._kernel((ctas,), (THREADS,), tuple(arguments))


@dataclass(frozen=True)
class _Launch:
    """A chunk on the device; its rows are the jobs in the order `order`."""

    order: NDArray[np.intp]
    density: Any
    report: Any


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
        self._brain: tuple[Domain, list[Any]] | None = None

    def run(self, domain: Domain, jobs: Iterable[Job], size: Size, on_device: bool = False) -> Iterator[Outcome]:
        """See `engine.backends.Backend.run`; two chunks of jobs are held at a time.

        Raises:
            InputError: not even one simulation fits the device's memory.
        """
        brain = self._upload_brain(domain)
        plan = self._plan(domain)
        running: _Launch | None = None
        remaining = iter(jobs)
        while chunk := list(islice(remaining, plan.simulations)):
            finished, running = self._collect(running, on_device), None
            running = self._launch(domain, brain, chunk, plan.ctas, size)
            yield from finished
        yield from self._collect(running, on_device)

    def zeros(self, shape: tuple[int, ...], on_device: bool = False) -> Any:
        """See `engine.backends.Backend.zeros`."""
        return self.device.zeros(shape, np.float32) if on_device else np.zeros(shape, dtype=np.float32)

    def _upload_brain(self, domain: Domain) -> list[Any]:
        if self._brain is None or self._brain[0] is not domain:
            self._brain = None
            arrays = (domain.starts, domain.fill, domain.links, domain.link_offsets)
            integers = [self.device.upload(values.astype(np.int32)) for values in arrays]
            self._brain = (domain, [self.device.upload(domain.faces), *integers])
        return self._brain[1]

    def _plan(self, domain: Domain) -> _Plan:
        """As many CTAs as run at a time, and simulations for each, as memory allows."""
        simulation = 4 * domain.tissue.size
        scratch = simulation + 4 * (3 * len(domain.starts) + _words(domain))
        free = int(MEMORY_SHARE * self.device.free_memory())
        ctas = min(self.device.ctas, free // (scratch + simulation))
        if ctas < 1:
            raise InputError(
                f"a simulation needs {(scratch + simulation) / 2**20:.0f} MiB of device memory and {free / 2**20:.0f} "
                "are free: use a coarser grid or backend=cpu"
            )
        return _Plan(ctas, min(SIMULATIONS_PER_CTA * ctas, (free - ctas * scratch) // simulation))

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
        device.launch(ctas, [density, *self._upload_steps(ordered), report, queue, *brain, *scratch, *sizes, *stop])
        return _Launch(order, density, report)

    def _start(self, jobs: list[Job], length: int) -> Any:
        """Densities at time 0 on the device, float32 (jobs, length)."""
        density = self.device.zeros((len(jobs), length), np.float32)
        with ThreadPoolExecutor(available_cores()) as pool:
            starts = list(pool.map(lambda job: job.start(), jobs))
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

    def _collect(self, launch: _Launch | None, on_device: bool) -> list[Outcome]:
        """Wait for a chunk; its outcomes in the order of its jobs."""
        if launch is None:
            return []
        report = self.device.download(launch.report)
        density = launch.density if on_device else self.device.download(launch.density)
        place = np.argsort(launch.order)
        return [Outcome(density[p], int(report[p, 0]), int(report[p, 1]), bool(report[p, 2])) for p in place]


def _words(domain: Domain) -> int:
    """Words that hold a bit per block."""
    return (len(domain.starts) + 31) // 32
