"""The mass-effect model on a GPU: a batch in one launch, one simulation at a time in each CTA (a CUDA thread block).

What runs there is kernels/moving_brain.cu. Here a brain is laid out for it, batches are cut into chunks that fit the
device's memory, and what comes back, the brain's voxels only, is put on the atlas' grid by all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count as counting
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import elasticity, kernels, mass_effect, multigrid, transport
from engine.atlas import Atlas
from engine.backends.cuda import CudaBackend
from engine.backends.device import COPY_LANE, LAUNCH_LANES, Device, Kernel
from engine.cutout import Cutout
from engine.domain import GRAY_MATTER_SHARE, LANES
from engine.elasticity import MATERIALS, TOLERANCE, Elasticity
from engine.errors import InputError
from engine.fisher_kolmogorov import seed_voxels
from engine.kernels import fisher_kolmogorov as growth
from engine.mass_effect import SHIFT, cutout_for, times_of
from engine.moving_brain import TISSUES
from engine.parameters import MassEffectParameters
from engine.pushed import Counts, Pushed, pushed_of
from engine.threads import available_cores, run_in_order
from engine.time_steps import Schedule

MOST_LEVELS = 8
"""Grids of a displacement solve at most: enough for 1,000 voxels along the shortest edge."""
FIELDS = 1 + len(TISSUES)
"""Density and tissues, in this order."""
GROWTH_FIELDS, FINE_FIELDS, COARSE_FIELDS, LEVEL_FIELDS, GRID_FIELDS = 6, 2 * FIELDS + 3, 2 * FIELDS + 18, 23, 8
"""Numbers that a simulation holds for every voxel of the domain of growth, of the box, coarse cell and cell of a level,
and what all simulations share of a level's cell (moving_brain.cu, `lay_out`)."""
REPORT = 5
"""Numbers that a simulation reports: how it ended, updates, solves, iterations, sub-steps of the transport."""
ENDED = ("duration", "too_big", "not_converged")
SIMULATIONS_PER_CTA = 2
"""Of one launch: results wait on the host until the last is done, 6 MB each at 128³ (chosen by us)."""
MEMORY_SHARE = 0.4
"""Part of the free device memory that a launch may take (chosen by us: growth alone may run beside it)."""

_LAUNCHES = counting()
_FOLDER = Path(kernels.__file__).parent
_FILES = ("fisher_kolmogorov", "elasticity", "multigrid", "transport", "mass_effect", "moving_brain")
PUSH = Kernel(
    "push",
    tuple(_FOLDER / f"{name}.cu" for name in _FILES),
    threads=256,
    ctas_per_sm=3,
    constants={
        "LANES": LANES, "CHECK_EVERY": growth.CHECK_EVERY, "CUTOFF": f"{growth.CUTOFF}f",
        "SMOOTHING": multigrid.SMOOTHING, "SMOOTHED_BAND": multigrid.SMOOTHED_BAND,
        "COARSEST_STEPS": multigrid.COARSEST_STEPS, "COARSEST_BAND": multigrid.COARSEST_BAND,
        "COURANT": transport.COURANT, "GRAY_SHARE": f"{GRAY_MATTER_SHARE}f",
        "FIRST_INTERVAL": f"{float(mass_effect.FIRST_INTERVAL)}", "MOST_LEVELS": MOST_LEVELS, "FIELDS": FIELDS,
        "GROWTH_FIELDS": GROWTH_FIELDS, "FINE_FIELDS": FINE_FIELDS, "COARSE_FIELDS": COARSE_FIELDS,
        "LEVEL_FIELDS": LEVEL_FIELDS, "GRID_FIELDS": GRID_FIELDS, "WITHOUT_EVOLVE": 1,
    },
)  # fmt: skip
"""3 x 256 threads leave 80 registers each, so the 27 displacements of a force do not spill (ptxas); three CTAs cover
each other's barriers."""


@dataclass(frozen=True, eq=False)
class _Push:
    """One simulation: where its density begins, as places among the brain's voxels and values, and its time steps."""

    places: NDArray[np.int64]
    values: NDArray[np.float32]
    schedule: Schedule
    coupling: float


@dataclass(frozen=True, eq=False)
class _Launch:
    """A chunk on the device; its rows are the simulations in the order `order`."""

    order: NDArray[np.intp]
    state: Any
    carried: Any
    report: Any
    running: Any


class _Brain:
    """A brain on the device.

    Attributes:
        cutout: the brain.
        arrays: arguments of the kernel that all launches share.
        scalars: sizes, likewise.
        scratch: shapes (without the CTAs) and types of what each CTA needs.
    """

    def __init__(self, cutout: Cutout, device: Device) -> None:
        """Lay out and upload."""
        self.cutout, atlas, domain = cutout, cutout.atlas, cutout.domain
        solver = Elasticity(cutout.coarse_brain, cutout.coarse_spacing)
        levels, box = solver.levels, atlas.grid.shape
        shapes, places, fields = lay_out_levels(solver)
        self.voxels = np.flatnonzero(atlas.brain)
        filled = np.flatnonzero(_counts(atlas.brain, cutout.factor))
        halvings = cutout.factor.bit_length() - 1
        sizes = np.array([len(levels), len(self.voxels), len(filled), halvings, *box, *np.ravel(shapes)])
        if len(levels) > MOST_LEVELS or max(domain.tissue.size, atlas.brain.size) > np.iinfo(np.int32).max // FIELDS:
            raise InputError(f"a brain of {box} voxels is too large for backend=cuda: use a coarser grid")
        rest = np.stack([getattr(atlas, name).ravel()[self.voxels] for name in TISSUES])
        lame = [[m.lame_lambda, m.lame_mu] for m in (MATERIALS["tumor"], *(MATERIALS[name] for name in TISSUES))]
        integers = (domain.starts, domain.fill, domain.links, domain.link_offsets, sizes, self.voxels,
                    np.flatnonzero(domain.tissue), filled)  # fmt: skip
        floats = (rest, atlas.brain, cutout.share, np.array(lame))
        self.arrays = [device.upload(values.astype(np.int32)) for values in integers]
        self.arrays += [device.upload(values.astype(np.float32)) for values in floats]
        self.arrays += [device.upload(places), device.upload(fields)]
        size, blocks, words = domain.tissue.size, len(domain.starts), (len(domain.starts) + 31) // 32
        coarse, level_cells = levels[0].inside.size, sum(level.inside.size for level in levels)
        middle = sum(3 * atlas.brain.size // 8**n for n in range(1, halvings))
        self.scalars: list[Any] = [np.int32(n) for n in (size, blocks, words, *domain.strides, middle, level_cells)]
        self.scalars += [np.float32(atlas.grid.spacing), np.float32(cutout.coarse_spacing)]
        self.scratch = (
            ((GROWTH_FIELDS, size), np.float32), ((FINE_FIELDS, atlas.brain.size), np.float32),
            ((COARSE_FIELDS, coarse), np.float32), ((middle,), np.float32), ((LEVEL_FIELDS, level_cells), np.float32),
            ((3, blocks), np.int32), ((words,), np.uint32),
        )  # fmt: skip
        device.settle()

    @property
    def bytes_of_cta(self) -> int:
        """What a CTA's scratch takes."""
        return sum(4 * int(np.prod(shape)) for shape, _ in self.scratch)

    @property
    def bytes_of_simulation(self) -> int:
        """What a simulation's state takes."""
        return 4 * (FIELDS * len(self.voxels) + 3 * self.cutout.coarse_brain.size)

    def box(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fields of the brain's voxels, one after the other, on the box, (FIELDS, x, y, z)."""
        shape = self.cutout.atlas.grid.shape
        fields = np.zeros((FIELDS, int(np.prod(shape))), dtype=np.float32)
        fields[:, self.voxels] = state.reshape(FIELDS, -1)
        return fields.reshape(FIELDS, *shape)

    def find(self, voxels: NDArray[np.intp]) -> NDArray[np.int64]:
        """Places among the brain's voxels of voxels (n, 3) of the atlas' grid that are brain."""
        flat = np.ravel_multi_index(tuple((voxels - self.cutout.low).T), self.cutout.atlas.grid.shape)
        return np.searchsorted(self.voxels, flat)


def lay_out_levels(solver: Elasticity) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.floating]]:
    """A solver's grids for the kernel: shapes (levels, 4), places of the cells with a free face, and fields."""
    levels = solver.levels
    places = [np.flatnonzero((level.free > 0).any(axis=0)) for level in levels]
    shapes = [(*level.inside.shape, len(own)) for level, own in zip(levels, places, strict=True)]
    shares = [np.zeros_like(levels[0].inside), *(coarsening.share for coarsening in solver.coarsenings)]
    fields = [
        values.ravel()
        for level, share in zip(levels, shares, strict=True)
        for values in (level.inside, level.free, level.edge_share, share)
    ]
    return np.array(shapes, dtype=np.int32), np.concatenate(places).astype(np.int32), np.concatenate(fields)


def run_all_on_device(
    batch: Iterable[MassEffectParameters],
    atlas: Atlas,
    backend: CudaBackend,
    *,
    accuracy: float = 1.0,
    initial: Iterable[NDArray[np.floating]] | None = None,
    stop_volume: float | None = None,
    stop_density: float,
    tolerance: float = TOLERANCE,
) -> Iterator[Pushed]:
    """`engine.mass_effect.run` for many tumors; results in the batch's order. Those of two launches are held.

    Raises:
        InputError: not even one simulation fits the device's memory, or an origin lies outside tissue.
    """
    device: Any = backend.device
    brain = _brain_on(device, cutout_for(atlas))
    ctas, most = _plan(brain, device)
    starts = repeat(None) if initial is None else iter(initial)
    pushes = (_push(one, atlas, brain, accuracy, start) for one, start in zip(batch, starts, strict=False))
    most_voxels = np.iinfo(np.int64).max if stop_volume is None else atlas.grid.voxels_in(stop_volume)
    asked = [
        np.float64(SHIFT / accuracy), np.float64(tolerance), np.int32(elasticity.MAX_ITERATIONS),
        np.int64(most_voxels), np.float32(stop_density),
    ]  # fmt: skip

    def begin() -> _Launch | None:
        chunk = list(islice(pushes, most))
        return _launch(device, brain, chunk, ctas, asked) if chunk else None

    return _results(backend, brain, begin(), begin)


def _results(
    backend: CudaBackend, brain: _Brain, launch: _Launch | None, begin: Callable[[], _Launch | None]
) -> Iterator[Pushed]:
    """Results of a launch and of those that follow it; the next one begins before those of one are unpacked."""
    device = backend.device
    while launch:
        backend.wait(launch.running)
        with device.lane(COPY_LANE):
            state, carried, report = (
                device.download(values) for values in (launch.state, launch.carried, launch.report)
            )
        order, launch = np.argsort(launch.order), begin()
        tasks = (partial(_pushed, brain, state[row], carried[row], report[row]) for row in order)
        yield from run_in_order(tasks, available_cores())


@lru_cache(maxsize=2)
def _brain_on(device: Any, cutout: Cutout) -> _Brain:
    """A brain that stays on the device for the next call."""
    return _Brain(cutout, device)


def _counts(brain: NDArray[np.bool_], factor: int) -> NDArray[np.int64]:
    """Voxels of the brain in every coarse cell, (X, Y, Z)."""
    split = brain.reshape([n for side in brain.shape for n in (side // factor, factor)])
    return np.asarray(split.sum(axis=(1, 3, 5)))


def _plan(brain: _Brain, device: Device) -> tuple[int, int]:
    """CTAs of a launch and simulations in it, as many as run at a time and as memory allows."""
    free = int(MEMORY_SHARE * device.free_memory())
    one = brain.bytes_of_cta + brain.bytes_of_simulation
    ctas = min(device.ctas(PUSH), free // one)
    if ctas < 1:
        raise InputError(
            f"a simulation needs {one / 2**20:.0f} MiB of device memory and {free / 2**20:.0f} are free: "
            "use a coarser grid or backend=cpu"
        )
    return ctas, min(SIMULATIONS_PER_CTA * ctas, (free - ctas * brain.bytes_of_cta) // brain.bytes_of_simulation)


def _push(
    parameters: MassEffectParameters, atlas: Atlas, brain: _Brain, accuracy: float, initial: NDArray | None
) -> _Push:
    if initial is None:
        voxels, values = seed_voxels(atlas, parameters.origin)
    else:
        voxels = np.argwhere(atlas.tissue & (initial != 0))
        values = initial[tuple(voxels.T)].astype(np.float32)
    times = times_of(parameters, atlas.grid.spacing, accuracy)
    return _Push(brain.find(voxels), values, times, parameters.coupling)


def _launch(device: Device, brain: _Brain, pushes: list[_Push], ctas: int, asked: list[Any]) -> _Launch:
    """Start a chunk, longest simulations first, so that the last to end are short."""
    order = np.argsort([-push.schedule.sweeps for push in pushes], kind="stable")
    ordered = [pushes[row] for row in order]
    count, ctas = len(pushes), min(ctas, len(pushes))
    with device.lane(next(_LAUNCHES) % LAUNCH_LANES):
        state = device.zeros((count, FIELDS * len(brain.voxels)), np.float32)
        rows = np.repeat(np.arange(count), [len(push.places) for push in ordered])
        places, values = (np.concatenate([getattr(p, name) for p in ordered]) for name in ("places", "values"))
        device.scatter(device.upload(rows), device.upload(places), device.upload(values), state)
        carried = device.zeros((count, 3, *brain.cutout.coarse_brain.shape), np.float32)
        report = device.zeros((count, REPORT), np.int64)
        scratch = [device.zeros((ctas, *shape), dtype) for shape, dtype in brain.scratch]
        running = device.launch(
            PUSH, ctas, [state, carried, *_steps(device, ordered), report, device.zeros((1,), np.int32),
                         *brain.arrays, *scratch, np.int32(count), *brain.scalars, *asked],
        )  # fmt: skip
    return _Launch(order, state, carried, report, running)


def _steps(device: Device, pushes: list[_Push]) -> list[Any]:
    """Pairs (n, 4) of all simulations, where each one's begin, what comes before the first, time steps, couplings."""
    times = [push.schedule for push in pushes]
    pairs = np.concatenate([np.column_stack([s.weights, s.decays, s.ahead]) for s in times])
    offsets = np.cumsum([0, *(len(s.decays) for s in times)]).astype(np.int32)
    first = np.array([s.first for s in times], dtype=np.float32)
    steps = np.array([s.steps for s in times], dtype=np.int32)
    couplings = np.array([push.coupling for push in pushes], dtype=np.float32)
    return [device.upload(values) for values in (pairs, offsets, first, steps, couplings)]


def _pushed(
    brain: _Brain, state: NDArray[np.float32], carried: NDArray[np.float32], report: NDArray[np.int64]
) -> Pushed:
    ended, updates, solves, iterations, _ = (int(number) for number in report)
    counts = Counts(updates, solves, iterations)
    return pushed_of(brain.cutout, list(brain.box(state)), carried, ENDED[ended], counts)
