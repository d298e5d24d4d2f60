"""Speed of both models on the GPU, beside what its memory and arithmetic allow and beside the CPU of the same machine.

    python benches/gpu/simulate.py json=simulate.json

An update is a tissue voxel computed in one stage of a time step. Rates are over wall time, everything included that a
caller waits for except the copies of densities, which stay on the device. The batch is what generation meets: proposals
of the prior that are stopped once they are too big.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from probe import limits
from report import arguments, machine, publish

from engine import (
    GRIDS,
    PRIORS,
    Atlas,
    FisherKolmogorovParameters,
    InputError,
    MassEffectParameters,
    load_atlas,
    simulate_stream,
)
from engine.backends import Backend, choose_backend
from engine.parameters import Parameters
from engine.tally import covered

BYTES_PER_UPDATE = 11.6
FLOPS_PER_UPDATE = 20.0
"""Of the growth kernel, counted in `engine/kernels/fisher_kolmogorov.cu`: 10 bytes a lane of which 86% are tissue; 7
fused and 6 plain operations."""
TYPICAL = FisherKolmogorovParameters(0.25, 0.05, 400.0, (0.3, 0.55, 0.5))
REFINEMENT = 512
"""Simulations of a patient's refinement."""
DEFAULTS = {"backend": "cuda", "grid": "full", "tiny": False, "json": None}


def main() -> None:
    """Measure and report."""
    settings = arguments(DEFAULTS, __doc__)
    atlas, backend, cpu = (
        load_atlas("sri24", GRIDS[settings.grid]),
        choose_backend(settings.backend),
        choose_backend("cpu"),
    )
    many, few = (8, 4) if settings.tiny else (4224, 32)
    result: dict[str, Any] = {"machine": machine(), "tiny": settings.tiny, "grid": settings.grid}
    result["fisher_kolmogorov"] = {
        "device": rate(proposals(atlas, many), atlas, backend),
        "cpu": rate(proposals(atlas, few), atlas, cpu),
        "one_tumor_ms": 1000 * seconds([TYPICAL], atlas, backend),
        "refinement_seconds": seconds([TYPICAL] * (4 if settings.tiny else REFINEMENT), atlas, backend),
    }
    fk = result["fisher_kolmogorov"]
    fk["times_the_cpu"] = fk["device"]["updates_per_second"] / fk["cpu"]["updates_per_second"]
    if backend.name == "cuda":
        found = limits()
        updates = fk["device"]["updates_per_second"]
        result["limits"] = found | {
            "share_of_bandwidth": updates * BYTES_PER_UPDATE / found["bytes_per_second"],
            "share_of_flops": updates * FLOPS_PER_UPDATE / found["flops_per_second"],
        }
    result["mass_effect"] = mass_effect(atlas, backend, cpu, *((2, 1) if settings.tiny else (264, 4)))
    publish("Engine on a GPU", result, settings.json)


def proposals(atlas: Atlas, count: int) -> list[FisherKolmogorovParameters]:
    """Draws of the prior."""
    return [PRIORS["whole_brain"].propose(0, sample, 0, atlas) for sample in range(count)]


def rate(batch: Sequence[Parameters], atlas: Atlas, backend: Backend) -> dict[str, float]:
    """Updates and simulations a second of wall time, and the share of it in which the device had work."""
    stop = PRIORS["whole_brain"].size[1]
    list(simulate_stream(batch[: min(len(batch), backend.width)], atlas, backend=backend, stop_volume=stop))
    backend.take_busy()
    started = time.monotonic()
    updates = sum(one.updates for one in simulate_stream(batch, atlas, backend=backend, stop_volume=stop))
    ended = time.monotonic()
    spent, busy = ended - started, backend.take_busy()
    result = {"simulations": len(batch), "updates_per_second": updates / spent, "per_second": len(batch) / spent}
    return result if busy is None else result | {"busy_share": covered(busy, started, ended) / spent}


def seconds(batch: Sequence[Parameters], atlas: Atlas, backend: Backend) -> float:
    """Wall time of a batch, the median of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        for _ in simulate_stream(batch, atlas, backend=backend):
            pass
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def mass_effect(atlas: Atlas, backend: Backend, cpu: Backend, many: int, few: int) -> dict[str, Any]:
    """The second model on the GPU and on the CPU, or why it does not run there."""
    fitting = [g for g in proposals(atlas, 40 * many) if 5 < g.mu1 < 25 and 2.8 < g.mu2 < 5][:many]
    batch = [MassEffectParameters(g.diffusivity, g.proliferation, g.duration, g.origin, 16.0) for g in fitting]
    found: dict[str, Any] = {"cpu": rate(batch[:few], atlas, cpu)}
    try:
        found["device"] = rate(batch, atlas, backend)
    except InputError as error:
        return found | {"refused": str(error)}
    return found | {"times_the_cpu": found["device"]["per_second"] / found["cpu"]["per_second"]}


if __name__ == "__main__":
    main()
