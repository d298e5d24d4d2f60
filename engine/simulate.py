"""The only way to run a model: a batch of parameter sets in, densities out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.backends import Backend, Job, Outcome, Size, choose_backend
from engine.backends.cpu import CpuBackend
from engine.backends.cuda import CudaBackend
from engine.domain import Domain, Voxels, domain_of
from engine.errors import InputError
from engine.fisher_kolmogorov import check_origin, seed_voxels
from engine.mass_effect import FOLDED_WARNING, run_all
from engine.mass_effect_on_device import run_all_on_device
from engine.parameters import FisherKolmogorovParameters, MassEffectParameters, Parameters
from engine.pushed import Pushed
from engine.time_steps import schedule

Kind = TypeVar("Kind", FisherKolmogorovParameters, MassEffectParameters)

SIZE_DENSITY = 0.7
"""Density [1] at which the size of a tumor is measured for the size filter and early stops."""


@dataclass(frozen=True)
class SimulationResult:
    """Densities of a batch.

    Attributes:
        density: c [1] at the end, float32 (batch, x, y, z); any array that speaks DLPack if it stays on a device.
        volumes: volume [ml] where c >= 0.7, float64 (batch,).
        ended: how each ended: `duration` (at T), `too_big` (stopped early by `stop_volume`), or `not_converged` (the
            displacement could not be solved for; the density is where it stood then and not to be used).
        updates: voxel updates spent on each, int64 (batch,): tissue voxels computed, once for every stage.
        pushed: for the mass-effect model what it found beside the density, such as `minimum_jacobian` of each
            (`engine.pushed.Pushed`); empty for the first model.
    """

    density: Any
    volumes: NDArray[np.float64]
    ended: tuple[str, ...]
    updates: NDArray[np.int64]
    pushed: tuple[Pushed, ...] = ()

    @property
    def displacement(self) -> NDArray[np.float32]:
        """Displacement u [mm] of the mass-effect model, (batch, 3, x, y, z)."""
        return np.stack([one.displacement for one in self.pushed])

    @property
    def white_matter(self) -> NDArray[np.float32]:
        """Fraction [1] after the displacement, (batch, x, y, z); likewise `gray_matter` and `csf`."""
        return np.stack([one.white_matter for one in self.pushed])

    @property
    def gray_matter(self) -> NDArray[np.float32]:
        """See `white_matter`."""
        return np.stack([one.gray_matter for one in self.pushed])

    @property
    def csf(self) -> NDArray[np.float32]:
        """See `white_matter`."""
        return np.stack([one.csf for one in self.pushed])


@dataclass(frozen=True, eq=False)
class Simulated:
    """One tumor of a stream; its density is unpacked only when asked for.

    Attributes:
        volume: volume [ml] where c >= 0.7.
        ended: `duration`, `too_big` or `not_converged`.
        updates: voxel updates spent.
        write: writes the density into an array (x, y, z) that is 0, float32 or float16.
        count: voxels with c >= the density asked for.
        pushed: what the mass-effect model found beside the density.
    """

    volume: float
    ended: str
    updates: int
    write: Callable[[Any], None]
    count: Callable[[float], int]
    pushed: Pushed | None = None


def simulate(
    batch: Sequence[Parameters],
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
        on_device: leave the densities where they were computed, for `torch.from_dlpack` and the like; those of the
            second model come to the host all the same.

    Raises:
        InputError: an origin outside tissue, an initial density of the wrong shape or range, an unknown name, or
            more densities than memory holds.
    """
    _check_initial(initial, len(batch), atlas)
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    on_device = on_device and not any(isinstance(one, MassEffectParameters) for one in batch)
    if not on_device:
        _check_memory(len(batch), atlas)
    density = runner.zeros((len(batch), *atlas.grid.shape), on_device)
    volumes, ended, updates = np.zeros(len(batch)), [], np.zeros(len(batch), dtype=np.int64)
    pushed: list[Pushed] = []
    stream = simulate_stream(
        batch, atlas, backend=runner, scheme=scheme, accuracy=accuracy, faces=faces, initial=initial,
        stop_volume=stop_volume, on_device=on_device,
    )  # fmt: skip
    for row, one in enumerate(stream):
        one.write(density[row])
        volumes[row], updates[row] = one.volume, one.updates
        ended.append(one.ended)
        pushed += [] if one.pushed is None else [one.pushed]
    _warn_of_folds(pushed)
    _warn_of_failed_solves(batch, ended)
    return SimulationResult(density, volumes, tuple(ended), updates, tuple(pushed))


def simulate_stream(
    batch: Iterable[Parameters],
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

    The first ones start at the call. Arguments are those of `simulate`; `batch` may be a generator that looks at what
    came out before.

    Raises:
        InputError: as `simulate`.
    """
    first, batch = _first_of(batch)
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    if isinstance(first, MassEffectParameters):
        pushed = _runs_of_mass_effect(runner, scheme, faces)(
            _only(MassEffectParameters, batch), atlas,
            accuracy=accuracy, initial=initial, stop_volume=stop_volume, stop_density=SIZE_DENSITY,
        )  # fmt: skip
        return (_from_pushed(one, atlas.grid.voxel_volume) for one in pushed)
    domain, voxel_volume = domain_of(atlas, faces), atlas.grid.voxel_volume
    size = Size(SIZE_DENSITY) if stop_volume is None else Size(SIZE_DENSITY, atlas.grid.voxels_in(stop_volume))
    starts = None if initial is None else iter(initial)

    def jobs() -> Iterator[Job]:
        for parameters in _only(FisherKolmogorovParameters, batch):
            times = schedule(parameters, domain.spacing, scheme, accuracy)
            if starts is None:
                check_origin(atlas, parameters.origin)
                yield Job(partial(_seed, atlas, domain, parameters.origin), times)
            else:
                yield Job(_given(next(starts), atlas, domain), times)

    return (_from_outcome(one, domain, voxel_volume) for one in runner.run(domain, jobs(), size, on_device))


def _first_of(batch: Iterable[Parameters]) -> tuple[Parameters | None, Iterable[Parameters]]:
    """The first tumor, and all of them; no more than that one is drawn from a generator."""
    rest = iter(batch)
    first = next(rest, None)
    return first, rest if first is None else chain([first], rest)


def _only(kind: type[Kind], batch: Iterable[Parameters]) -> Iterator[Kind]:
    """The batch, as long as it is of one model."""
    for parameters in batch:
        if not isinstance(parameters, kind):
            raise InputError(f"a batch of {kind.__name__} holds {type(parameters).__name__}: give one model at a time")
        yield parameters


def _runs_of_mass_effect(runner: Backend, scheme: str, faces: str) -> Callable[..., Iterator[Pushed]]:
    """What runs a batch of the second model on a backend."""
    if (scheme, faces) != ("converged", "harmonic"):
        raise InputError(f"scheme {scheme} with {faces} faces is not of the mass-effect model: leave them at default")
    if isinstance(runner, CudaBackend):
        return partial(run_all_on_device, backend=runner)
    if isinstance(runner, CpuBackend):
        return partial(run_all, threads=runner.threads)
    raise InputError(f"the mass-effect model does not run on backend {runner.name}: use backend=cpu or backend=cuda")


def _from_outcome(one: Outcome, domain: Domain, voxel_volume: float) -> Simulated:
    def write(out: Any) -> None:
        domain.unpack(one.density(out.dtype), out)

    ended = "too_big" if one.stopped else "duration"
    return Simulated(one.large * voxel_volume, ended, one.updates, write, one.count)


def _from_pushed(one: Pushed, voxel_volume: float) -> Simulated:
    def write(out: Any) -> None:
        out[...] = one.density

    def count(threshold: float) -> int:
        return int(np.count_nonzero(one.density >= np.float32(threshold)))

    return Simulated(count(SIZE_DENSITY) * voxel_volume, one.ended, one.updates, write, count, one)


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


def _warn_of_folds(pushed: Sequence[Pushed]) -> None:
    worst = max((one.folded for one in pushed), default=0.0)
    if worst > FOLDED_WARNING:
        warnings.warn(
            f"the displacement folds {100 * worst:.1f}% of the brain, more than {100 * FOLDED_WARNING:.0f}%: the tumor "
            "is too large or the coupling too strong for small strains, so do not believe it",
            stacklevel=3,
        )


def _warn_of_failed_solves(batch: Sequence[Parameters], ended: Sequence[str]) -> None:
    failed = [str(one) for one, how in zip(batch, ended, strict=True) if how == "not_converged"]
    if failed:
        warnings.warn(
            f"the displacement of {len(failed)} of {len(batch)} tumors could not be solved for, do not use their "
            f"densities, which stopped there: {failed[0]}",
            stacklevel=3,
        )


def _check_memory(count: int, atlas: Atlas) -> None:
    """Refuse more densities than the machine has memory for, instead of being killed half-way."""
    wanted = 4 * count * int(np.prod(atlas.grid.shape))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > installed:
        raise InputError(
            f"{count} densities take {wanted / 2**30:.0f} GiB and this machine has {installed / 2**30:.0f}: "
            "use engine.simulate_stream, which holds a few at a time"
        )
