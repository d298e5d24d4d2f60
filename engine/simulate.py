"""The only way to run a model: a batch of parameter sets in, densities out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine.atlas import Atlas
from engine.backends import Backend, Job, Outcome, Size, choose_backend
from engine.domain import Domain, Voxels, domain_of
from engine.errors import InputError
from engine.fisher_kolmogorov import check_origin, is_in_tissue, seed_voxels
from engine.parameters import FisherKolmogorovParameters
from engine.time_steps import schedule

SIZE_DENSITY = 0.7
"""Density [1] at which the size of a tumor is measured for the size filter and early stops."""


@dataclass(frozen=True)
class SimulationResult:
    """Densities of a batch.

    Attributes:
        density: c [1] at the end, float32 (batch, x, y, z); any array that speaks DLPack if it stays on a device.
        volumes: volume [ml] where c >= 0.7, float64 (batch,).
        ended: how each ended: `duration` (at T) or `too_big` (stopped early by `stop_volume`).
        updates: voxel updates spent on each, int64 (batch,): tissue voxels computed, once for every stage.
    """

    density: Any
    volumes: NDArray[np.float64]
    ended: tuple[str, ...]
    updates: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Simulated:
    """One tumor of a stream; its density is unpacked only when asked for.

    Attributes:
        volume: volume [ml] where c >= 0.7.
        ended: `duration` or `too_big`.
        updates: voxel updates spent.
    """

    volume: float
    ended: str
    updates: int
    _outcome: Outcome
    _domain: Domain

    def write(self, out: Any) -> None:
        """Write the density into an array (x, y, z) that is 0."""
        self._domain.unpack(self._outcome.density, out)


def simulate(
    batch: Sequence[FisherKolmogorovParameters],
    atlas: Atlas,
    *,
    backend: str | Backend = "auto",
    scheme: str = "converged",
    accuracy: float = 1.0,
    faces: str = "harmonic",
    initial: NDArray[np.floating] | None = None,
    stop_volume: float | None = None,
    on_device: bool = False,
) -> SimulationResult:
    """Grow a batch of tumors in one brain.

    Args:
        batch: parameter sets; their class chooses the model.
        atlas: the brain.
        backend: `auto`, `cpu`, `cuda`, or a backend.
        scheme: `converged`, or `gliomasolver` for comparisons with published data.
        accuracy: time steps are this many times shorter than the default's.
        faces: mean of the diffusivity at a face, `harmonic`, or `arithmetic` for comparisons.
        initial: density at time 0, (batch, x, y, z) in [0, 1]; replaces the seed. Values outside tissue are
            dropped.
        stop_volume: stop a simulation once c >= 0.7 in more than this volume [ml].
        on_device: leave the densities where they were computed, for `torch.from_dlpack` and the like.

    Raises:
        InputError: an origin outside tissue, an initial density of the wrong shape or range, an unknown name, or
            more densities than memory holds.
    """
    _check_initial(initial, len(batch), atlas)
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    if not on_device:
        _check_memory(len(batch), atlas)
    density = runner.zeros((len(batch), *atlas.grid.shape), on_device)
    volumes, ended, updates = np.zeros(len(batch)), [], np.zeros(len(batch), dtype=np.int64)
    stream = simulate_stream(
        batch, atlas, backend=runner, scheme=scheme, accuracy=accuracy, faces=faces, initial=initial,
        stop_volume=stop_volume, on_device=on_device,
    )  # fmt: skip
    for row, one in enumerate(stream):
        one.write(density[row])
        volumes[row], updates[row] = one.volume, one.updates
        ended.append(one.ended)
    return SimulationResult(density, volumes, tuple(ended), updates)


def simulate_stream(
    batch: Iterable[FisherKolmogorovParameters],
    atlas: Atlas,
    *,
    backend: str | Backend = "auto",
    scheme: str = "converged",
    accuracy: float = 1.0,
    faces: str = "harmonic",
    initial: Iterable[NDArray[np.floating]] | None = None,
    stop_volume: float | None = None,
    on_device: bool = False,
) -> Iterator[Simulated]:
    """Grow tumors one after the other, in the batch's order; a few are held at a time, however long the batch.

    Arguments are those of `simulate`; `batch` may be a generator that looks at what came out before.

    Raises:
        InputError: as `simulate`.
    """
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    domain, voxel_volume = domain_of(atlas, faces), atlas.grid.voxel_volume
    size = Size(SIZE_DENSITY) if stop_volume is None else Size(SIZE_DENSITY, int(stop_volume / voxel_volume + 1e-9))
    starts = None if initial is None else iter(initial)

    def jobs() -> Iterator[Job]:
        for parameters in batch:
            times = schedule(parameters, domain.spacing, scheme, accuracy)
            if starts is None:
                check_origin(atlas, parameters.origin)
                yield Job(partial(_seed, atlas, domain, parameters.origin), times)
            else:
                yield Job(_given(next(starts), atlas, domain), times)

    for outcome in runner.run(domain, jobs(), size, on_device):
        ended = "too_big" if outcome.stopped else "duration"
        yield Simulated(outcome.large * voxel_volume, ended, outcome.updates, outcome, domain)


def _seed(atlas: Atlas, domain: Domain, origin: Sequence[float]) -> Voxels:
    return domain.pack(*seed_voxels(atlas, origin))


def _given(initial: NDArray[np.floating], atlas: Atlas, domain: Domain) -> Callable[[], Voxels]:
    def start() -> Voxels:
        voxels = np.argwhere(atlas.tissue & (initial != 0))
        return domain.pack(voxels, initial[tuple(voxels.T)])

    return start


def _check_initial(initial: NDArray[np.floating] | None, count: int, atlas: Atlas) -> None:
    if initial is None:
        return
    expected = (count, *atlas.grid.shape)
    if initial.shape != expected:
        raise InputError(f"initial has shape {initial.shape}, expected (batch, x, y, z) = {expected}")
    if not np.all((initial >= 0) & (initial <= 1)):
        raise InputError("initial densities must lie in [0, 1]")


def _check_memory(count: int, atlas: Atlas) -> None:
    """Refuse more densities than the machine has memory for, instead of being killed half-way."""
    wanted = 4 * count * int(np.prod(atlas.grid.shape))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > installed:
        raise InputError(
            f"{count} densities take {wanted / 2**30:.0f} GiB and this machine has {installed / 2**30:.0f}: "
            "use engine.simulate_stream, which holds a few at a time"
        )


def nearest_tissue(origin: Sequence[float], atlas: Atlas) -> tuple[float, float, float]:
    """`origin` itself where it lies in tissue, otherwise the nearest tissue voxel's center (fractions)."""
    if is_in_tissue(atlas, origin):
        return (float(origin[0]), float(origin[1]), float(origin[2]))
    voxel = np.floor(np.clip(atlas.grid.to_voxel(origin) + 0.5, 0, np.array(atlas.grid.shape) - 1)).astype(int)
    place = atlas.grid.from_voxel(_nearest_voxels(atlas)[(slice(None), *voxel)])
    return (float(place[0]), float(place[1]), float(place[2]))


@lru_cache(maxsize=8)
def _nearest_voxels(atlas: Atlas) -> NDArray[np.int32]:
    """For every voxel the nearest one in tissue, int32 (3, x, y, z)."""
    return ndimage.distance_transform_edt(~atlas.tissue, return_distances=False, return_indices=True)
