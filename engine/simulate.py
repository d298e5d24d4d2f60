"""The only way to run a model: a batch of parameter sets in, densities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine.atlas import Atlas
from engine.backends import Backend, Job, Outcome, choose_backend
from engine.domain import Domain, domain_of
from engine.errors import InputError
from engine.fisher_kolmogorov import SCHEMES, is_in_tissue, schedule, seed_density
from engine.parameters import FisherKolmogorovParameters

SIZE_DENSITY = 0.7
"""Density [1] at which the size of a tumor is measured for the size filter and early stops."""


@dataclass(frozen=True)
class SimulationResult:
    """Densities of a batch.

    Attributes:
        density: c [1] at the end, float32 (batch, x, y, z).
        volumes: volume [ml] where c >= 0.7, float64 (batch,).
        ended: how each ended: `duration` (at T) or `too_big` (stopped early by `stop_volume`).
        updates: voxel updates spent on each, int64 (batch,).
    """

    density: NDArray[np.float32]
    volumes: NDArray[np.float64]
    ended: tuple[str, ...]
    updates: NDArray[np.int64]


def simulate(
    batch: Sequence[FisherKolmogorovParameters],
    atlas: Atlas,
    *,
    backend: str | Backend = "auto",
    scheme: str = "converged",
    initial: NDArray[np.floating] | None = None,
    stop_volume: float | None = None,
) -> SimulationResult:
    """Grow a batch of tumors in one brain.

    Args:
        batch: parameter sets; their class chooses the model.
        atlas: the brain.
        backend: `auto`, `cpu`, `cuda`, or a backend.
        scheme: `converged`, or `gliomasolver` for comparisons with published data.
        initial: density at time 0, (batch, x, y, z) in [0, 1]; replaces the seed. Values outside tissue are
            dropped.
        stop_volume: stop a simulation once c >= 0.7 in more than this volume [ml].

    Raises:
        InputError: an origin outside tissue, an initial density of the wrong shape or range, an unknown name.
    """
    if scheme not in SCHEMES:
        raise InputError(f"scheme {scheme!r} is unknown: use {' or '.join(SCHEMES)}")
    _check_initial(initial, len(batch), atlas)
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    domain = domain_of(atlas)
    stop_voxels = None if stop_volume is None else int(stop_volume / atlas.grid.voxel_volume + 1e-9)
    density = np.zeros((len(batch), *atlas.grid.shape), dtype=np.float32)
    outcomes: list[Outcome] = []
    jobs = _jobs(batch, atlas, domain, initial, scheme)
    for row, outcome in enumerate(runner.run(domain, jobs, scheme, stop_voxels, SIZE_DENSITY)):
        domain.unpack(outcome.density, density[row])
        outcomes.append(outcome)
    volumes = np.array([_volume(field, atlas.grid.voxel_volume) for field in density], dtype=np.float64)
    ended = tuple("too_big" if o.stopped else "duration" for o in outcomes)
    return SimulationResult(density, volumes, ended, np.array([o.updates for o in outcomes], dtype=np.int64))


def _jobs(
    batch: Sequence[FisherKolmogorovParameters],
    atlas: Atlas,
    domain: Domain,
    initial: NDArray[np.floating] | None,
    scheme: str,
) -> Iterator[Job]:
    for row, parameters in enumerate(batch):
        start = seed_density(atlas, parameters.origin) if initial is None else initial[row]
        yield Job(domain.pack(start), schedule(parameters, domain.spacing, scheme))


def _check_initial(initial: NDArray[np.floating] | None, count: int, atlas: Atlas) -> None:
    if initial is None:
        return
    expected = (count, *atlas.grid.shape)
    if initial.shape != expected:
        raise InputError(f"initial has shape {initial.shape}, expected (batch, x, y, z) = {expected}")
    if not np.all((initial >= 0) & (initial <= 1)):
        raise InputError("initial densities must lie in [0, 1]")


def _volume(density: NDArray[np.float32], voxel_volume: float) -> float:
    return float(np.count_nonzero(density >= SIZE_DENSITY)) * voxel_volume


def nearest_tissue(origin: Sequence[float], atlas: Atlas) -> tuple[float, float, float]:
    """`origin` itself where it lies in tissue, otherwise the nearest tissue voxel's center (fractions)."""
    if is_in_tissue(atlas, origin):
        return (float(origin[0]), float(origin[1]), float(origin[2]))
    voxel = np.floor(np.clip(atlas.grid.to_voxel(origin) + 0.5, 0, np.array(atlas.grid.shape) - 1)).astype(int)
    nearest = ndimage.distance_transform_edt(~atlas.tissue, return_distances=False, return_indices=True)
    place = atlas.grid.from_voxel(nearest[(slice(None), *voxel)])
    return (float(place[0]), float(place[1]), float(place[2]))
