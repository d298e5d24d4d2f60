"""Throughput of the forward engine: voxel updates a second, and accepted samples a second.

    python benches/bench_simulate.py grid=half samples=32 json=result.json

An update is one tissue voxel of the active region advanced one time step. `accepted samples/s` counts everything
that a data set costs: proposals, rejected ones, the size filter, compression and writing. The ratio compares with
the same scheme in float64 NumPy, cropped to the brain, in this very run: it holds on any machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy_reference import solve
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, FisherKolmogorovParameters, load_atlas, simulate
from engine.backends import Backend, choose_backend
from engine.backends.cpu import CpuBackend
from engine.crew import this_process
from engine.fill import fill
from engine.recipe import Recipe, describe, this_machine
from engine.shards import Workshop
from engine.store import create_store

TUMOR = FisherKolmogorovParameters(0.2, 0.08, 150, (0.3, 0.55, 0.5))
"""A typical accepted tumor in SRI24's right hemisphere, about 40 ml at c >= 0.7."""


def main() -> None:
    """Measure and report."""
    settings = arguments({"grid": "half", "samples": 32, "batch": 16, "backend": "auto", "json": None}, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    backend = choose_backend(settings.backend)
    simulate([TUMOR], atlas, backend=backend)
    result = {
        "machine": machine(),
        "grid": settings.grid,
        "backend": backend.name,
        "updates_per_second": updates_per_second(atlas, backend, settings.batch),
        "updates_per_second_one_core": updates_per_second(atlas, CpuBackend(1), settings.batch // 2),
        "accepted_samples_per_second": accepted_per_second(atlas, backend, settings.samples),
        "speedup_over_numpy": speedup_over_numpy(atlas, backend, settings.batch),
    }
    publish("Forward engine", result, settings.json)


def updates_per_second(atlas: Atlas, backend: Backend, batch: int) -> float:
    """Tissue-voxel updates a second of wall time over a batch of one tumor."""
    started = time.perf_counter()
    result = simulate([TUMOR] * batch, atlas, backend=backend)
    return float(result.updates.sum()) / (time.perf_counter() - started)


def accepted_per_second(atlas: Atlas, backend: Backend, samples: int) -> float:
    """Rows a second of a store, everything included."""
    prior = PRIORS["whole_brain"]
    with tempfile.TemporaryDirectory() as folder:
        about = describe(atlas, prior, 0, "converged", 16, this_machine(backend))
        store = create_store(Path(folder) / "bench.zarr", samples, about)
        started = time.perf_counter()
        with this_process(backend) as crew:
            fill(store, crew, Workshop(store, Recipe(atlas, prior, 0, "converged", backend)))
        return samples / (time.perf_counter() - started)


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
