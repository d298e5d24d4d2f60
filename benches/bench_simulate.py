"""Speed of the forward engine.

    python benches/bench_simulate.py grid=full json=result.json
    python benches/bench_simulate.py grid=full model=mass_effect samples=16

An update is a tissue voxel of the active region computed in one stage of one time step; halo, CSF and empty voxels do
not count. Reported: updates a second of `simulate` over a batch, alone and beside what the kernel does when everything
lies in the first cache and beside what the memory could feed; accepted samples a second of the generator with
everything included (proposals, rejected ones, size filter, compression, writing); peak memory; and the time of one
simulation against the same scheme in float64 NumPy. Times differ between machines; the ratios are taken in one run.

With model=mass_effect: accepted samples a second with everything included (also the screen by the first model), the
seconds and the processor's seconds that one takes, and on the CPU the parts that these are spent in.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy_reference import solve
from report import arguments, machine, publish

from engine import GRIDS, Atlas, FisherKolmogorovParameters, load_atlas, simulate
from engine.backends import Backend, choose_backend, cpu
from engine.command import compose
from engine.cutout import Cutout
from engine.domain import LANES
from engine.generate import main as generate
from engine.kernels.fisher_kolmogorov import evolve
from engine.model import MODELS
from engine.moving_brain import MovingBrain
from engine.store import Store
from engine.threads import available_cores
from engine.transport import Transport

TUMOR = FisherKolmogorovParameters(0.25, 0.05, 400.0, (0.3, 0.55, 0.5))
PARTS = {
    "screen": (cpu, "_run_one"),
    "growth": (MovingBrain, "grow"),
    "elastic_solves": (MovingBrain, "_solve"),
    "transport": (Transport, "move"),
    "coarsening": (Cutout, "coarsen"),
    "refining": (Cutout, "refine"),
    "writing": (Store, "write_shard"),
}
"""Of a mass-effect data set on the CPU: the functions in which its time is spent."""
BYTES_PER_UPDATE = 22.0
"""Float32 through a cache that holds no field: c and three faces in and c out on every first stage, one more field
in on every second."""


def main() -> None:
    """Measure and report."""
    keys = {"grid": "full", "backend": "auto", "model": MODELS[0], "batch": 24, "samples": 96, "json": None}
    settings = arguments(keys, __doc__)
    if settings.model == "mass_effect":
        publish("Mass effect", mass_effect(settings), settings.json)
    else:
        publish("Forward engine", first_model(settings), settings.json)


def first_model(settings: SimpleNamespace) -> dict[str, Any]:
    """Speed and its limits."""
    atlas, backend = load_atlas("sri24", GRIDS[settings.grid]), choose_backend(settings.backend)
    simulate([TUMOR], atlas, backend=backend)
    rate = updates_per_second(atlas, backend, settings.batch)
    result: dict[str, Any] = {
        "machine": machine(),
        "grid": settings.grid,
        "backend": backend.name,
        "updates_per_second": rate,
    }
    if backend.name == "cpu":
        result |= limits(rate)
    return result | {
        "accepted_samples_per_second": settings.samples / Accepting(settings, warm=16).seconds,
        "speedup_over_numpy": speedup_over_numpy(atlas, backend, settings.batch),
        "peak_memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def mass_effect(settings: SimpleNamespace) -> dict[str, Any]:
    """Speed of generating, and where the time goes."""
    run = Accepting(settings, warm=2)
    result = {
        "machine": machine(),
        "grid": settings.grid,
        "backend": choose_backend(settings.backend).name,
        "accepted_samples_per_second": settings.samples / run.seconds,
        "seconds_per_accepted_sample": run.seconds / settings.samples,
        "processor_seconds_per_accepted_sample": run.processor / settings.samples,
    }
    shares = {f"share_of_{name}": spent / run.processor for name, spent in run.parts.items()}
    return result | (shares | {"share_of_rest": 1 - sum(shares.values())} if run.parts else {})


def updates_per_second(atlas: Atlas, backend: Backend, batch: int) -> float:
    """Tissue-voxel updates a second of wall time over a batch of one tumor."""
    started = time.perf_counter()
    result = simulate([TUMOR] * batch, atlas, backend=backend)
    return float(result.updates.sum()) / (time.perf_counter() - started)


def limits(rate: float) -> dict[str, float]:
    """What the kernel reaches in the first cache and what the memory could feed, on all cores, and our shares."""
    cores = available_cores()
    first_cache, memory = together(cores, kernel_rate), together(cores, copy_rate) / BYTES_PER_UPDATE
    return {
        "limit_first_cache": first_cache, "share_of_first_cache": rate / first_cache,
        "limit_memory": memory, "share_of_memory": rate / memory,
    }  # fmt: skip


def together(cores: int, measure: Any) -> float:
    """The sum of what every core measures at the same time."""
    rates: list[float] = []
    threads = [threading.Thread(target=lambda: rates.append(measure())) for _ in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def kernel_rate(pairs: int = 20_000) -> float:
    """Updates a second where every lane is tissue and all arrays together are a few kilobytes."""
    n, blocks = 8, 36
    size = (n + 2) ** 2 * 2 * LANES
    faces, c = np.full((3, size), 0.5, dtype=np.float32), np.full(size, 0.3, dtype=np.float32)
    starts = (2 * LANES * (n + 2) + LANES * np.arange(blocks)).astype(np.int64)
    nothing = (np.zeros(0, dtype=np.int32), np.zeros(blocks + 1, dtype=np.int64))
    weights, ahead = np.full((pairs, 2), 0.01, dtype=np.float32), np.zeros(pairs, dtype=np.float32)
    numbers = (weights, np.ones(pairs, dtype=np.float32), ahead, np.float32(1), 2**62, np.float32(0.7))
    fill = np.full(blocks, LANES, dtype=np.int32)
    started = time.perf_counter()
    updates, *_ = evolve(c, faces, starts, fill, *nothing, 2 * LANES * (n + 2), 2 * LANES, *numbers)
    return updates / (time.perf_counter() - started)


def copy_rate(megabytes: int = 256, repeats: int = 4) -> float:
    """Bytes a second read and written by a copy that no cache holds."""
    source = np.ones(megabytes * 2**18, dtype=np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    started = time.perf_counter()
    for _ in range(repeats):
        np.copyto(target, source)
    return 2 * repeats * source.nbytes / (time.perf_counter() - started)


class Accepting:
    """A store that is filled, everything included; its first rows warm up.

    Attributes:
        seconds: of wall time; `processor`: of all cores.
        parts: seconds of all cores in each of `PARTS` that was met.
    """

    def __init__(self, settings: SimpleNamespace, warm: int) -> None:
        """Fill it with `warm` rows, then `settings.samples` more."""
        with tempfile.TemporaryDirectory() as folder, watched(PARTS) as parts:
            keys = [f"{key}={getattr(settings, key)}" for key in ("grid", "backend", "model")]
            keys += [f"out={Path(folder) / 'bench.zarr'}", f"shard={min(16, settings.samples)}"]
            generate(compose("generate", [f"samples={warm}", *keys]))
            parts.clear()
            started, processor = time.perf_counter(), time.process_time()
            generate(compose("generate", [f"samples={warm + settings.samples}", *keys]))
            self.seconds, self.processor = time.perf_counter() - started, time.process_time() - processor
        self.parts = dict(parts)


@contextmanager
def watched(parts: Mapping[str, tuple[Any, str]]) -> Iterator[dict[str, float]]:
    """Seconds of the processor that each of some functions takes, by name; they must not call each other."""
    spent: dict[str, float] = {}
    lock = threading.Lock()

    def watch(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def timed(*arguments: Any, **keys: Any) -> Any:
            started = time.thread_time()
            try:
                return work(*arguments, **keys)
            finally:
                with lock:
                    spent[name] = spent.get(name, 0.0) + time.thread_time() - started

        return timed

    with ExitStack() as stack:
        for name, (owner, function) in parts.items():
            stack.enter_context(patch.object(owner, function, watch(name, getattr(owner, function))))
        yield spent


def speedup_over_numpy(atlas: Atlas, backend: Backend, batch: int) -> float:
    """Time of one simulation in NumPy over the time of one in the engine, within a batch."""
    started = time.perf_counter()
    expected = solve(TUMOR, atlas)
    numpy_seconds = time.perf_counter() - started
    started = time.perf_counter()
    result = simulate([TUMOR] * batch, atlas, backend=backend)
    seconds = (time.perf_counter() - started) / batch
    if np.abs(result.density[0] - expected).max() > 1e-3:
        sys.exit("error: the engine and NumPy disagree, so their times must not be compared")
    return numpy_seconds / seconds


if __name__ == "__main__":
    main()
