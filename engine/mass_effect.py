"""Fisher-Kolmogorov growth in a brain that the tumor pushes aside.

    ∂c/∂t + ∇·(c v) = ∇·(D ∇c) + ρ c (1 - c)      D = D_w (m_w + m_g / 10) / (m_w + m_g) in the current tissue
    ∂m/∂t + ∇·(m v) = 0                            for m the fractions of white matter, gray matter and CSF
    v = ∂u/∂t                                      u: engine.elasticity, with λ, μ of the current m and c

The current tissue is where m_w + m_g >= m_csf, the rule of the atlas; nothing diffuses or grows elsewhere, but what
is carried there stays. Growth is the first model's code with the first model's time steps, in intervals so short that
nothing moves by much more than `SHIFT`. After each, u is solved for on voxels of about `DISPLACEMENT_SPACING`, twice:
the first solution moves a coarse copy of all fields, the second sees where that took them. Fields are then moved to
the second plus half of what the next interval is expected to add, so that an interval's growth sees its mean anatomy;
the last move ends at T with exactly u(T). Observed order in time: 1 to 1.5 where nothing folds, below 1 where it does.

c >= 0 always. A move may compress it to above 1, the carrying capacity: the next interval's growth takes that for 1,
and what the last move leaves above 1 is reported (`highest_density`). Each tissue's mass is conserved to rounding, and
with γ = 0 the numbers are the first model's.

The model is the paper's, with its limit: strains are taken as small, and v as ∂u/∂t at a fixed point. Soft CSF between
hard walls is compressed by more than that allows; `folded` says how much of the brain is.

Source: Ezhov et al., Learn-Morph-Infer, Medical Image Analysis 83 (2023) 102672, equations 3-10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from math import ceil

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.cutout import Cutout, cutout_of
from engine.elasticity import TOLERANCE, NotConverged
from engine.fisher_kolmogorov import seed_density
from engine.moving_brain import MovingBrain
from engine.parameters import MassEffectParameters
from engine.pushed import Counts, Pushed, pushed_of
from engine.threads import run_in_order
from engine.time_steps import REACTION, Schedule, schedule

DISPLACEMENT_SPACING = 3.6
"""Voxel [mm] on which the displacement is solved for (chosen by us). On half of it, for six times the cost, five
tumors at 128³ moved by 0.16 to 2.5 mm in the mean, when the shear at the skull was of first order: the largest error
of the defaults (benches/mass_effect.py)."""
SHIFT = 0.25
"""Largest expected move of an interval [mm] (chosen by us: against a quarter of it densities are off by 1% to 5%, by
10% where 4% of the brain folds)."""
FIRST_INTERVAL = 32
"""The first interval is this fraction of all steps: a seed pushes little."""
FRONT = 1.0
"""Largest way of the front in a time step [mm] (chosen by us, likewise): where it is wide, rho dt alone allows more."""
FOLDED_WARNING = 0.01
"""Part of the brain with det(I + ∇u) <= 0 above which the displacement is not to be believed."""


def run(
    parameters: MassEffectParameters,
    atlas: Atlas,
    *,
    accuracy: float = 1.0,
    initial: NDArray[np.floating] | None = None,
    stop_volume: float | None = None,
    stop_density: float = 0.7,
    displacement_spacing: float = DISPLACEMENT_SPACING,
    tolerance: float = TOLERANCE,
) -> Pushed:
    """Grow one tumor in one brain.

    Args:
        parameters: the tumor.
        atlas: the brain.
        accuracy: time steps and intervals are this many times shorter than the default's.
        initial: density at time 0, (x, y, z) in [0, 1]; replaces the seed. Values outside tissue are dropped.
        stop_volume: stop once c >= `stop_density` in more than this volume [ml] at the end of an interval.
        stop_density: density [1] that counts for it.
        displacement_spacing: voxel on which the displacement is solved for [mm]; rounded to a power of 2 of voxels.
        tolerance: relative residual of the displacement.

    Raises:
        InputError: an origin outside tissue.
    """
    start = seed_density(atlas, parameters.origin) if initial is None else (initial * atlas.tissue).astype(np.float32)
    brain = MovingBrain(cutout_for(atlas, displacement_spacing), parameters.coupling, start, tolerance)
    most = None if stop_volume is None else atlas.grid.voxels_in(stop_volume)
    ended = "duration"
    try:
        for _ in _intervals(brain, times_of(parameters, atlas.grid.spacing, accuracy), SHIFT / accuracy):
            if most is not None and np.count_nonzero(brain.c >= stop_density) > most:
                ended = "too_big"
                break
    except NotConverged:
        ended = "not_converged"
    counts = Counts(brain.updates, brain.solves, brain.iterations)
    return pushed_of(brain.cutout, (brain.c, *brain.matter), brain.carried, ended, counts)


def run_all(
    batch: Iterable[MassEffectParameters],
    atlas: Atlas,
    threads: int,
    *,
    accuracy: float = 1.0,
    initial: Iterable[NDArray[np.floating]] | None = None,
    stop_volume: float | None = None,
    stop_density: float,
) -> Iterator[Pushed]:
    """`run` for many tumors, each on one of `threads` threads; results in the batch's order, a few held at a time."""
    starts = repeat(None) if initial is None else iter(initial)
    grow = partial(run, atlas=atlas, accuracy=accuracy, stop_volume=stop_volume, stop_density=stop_density)
    tasks = (partial(grow, parameters, initial=next(starts)) for parameters in batch)
    return run_in_order(tasks, threads)


def cutout_for(atlas: Atlas, displacement_spacing: float = DISPLACEMENT_SPACING) -> Cutout:
    """The cutout with coarse cells of about `displacement_spacing` [mm]."""
    return cutout_of(atlas, 2 ** max(0, round(np.log2(displacement_spacing / atlas.grid.spacing))))


def times_of(parameters: MassEffectParameters, spacing: float, accuracy: float) -> Schedule:
    """The first model's time steps, shorter where the front would move far in one."""
    growth = parameters.growth
    if parameters.coupling > 0 and growth.proliferation > 0:
        accuracy *= max(1.0, 2 * growth.mu1 / growth.mu2 * REACTION / FRONT)
    return schedule(growth, spacing, accuracy=accuracy)


def _intervals(brain: MovingBrain, times: Schedule, shift: float) -> Iterator[None]:
    """Advance through all steps; yields after every interval, when u is that of c.

    Args:
        brain: at time 0.
        times: time steps.
        shift: expected move of an interval [mm].
    """
    done, wanted = 0, float(times.steps if brain.coupling == 0 else times.steps / FIRST_INTERVAL)
    while done < times.steps:
        count = _share_out(times.steps - done, wanted)
        brain.grow(_part(times, done, done + count))
        done += count
        rate = brain.settle() / np.float32(count)
        furthest = float(np.abs(rate).max())
        wanted = float(np.clip(shift / furthest if furthest > 0 else np.inf, wanted / 2, 2 * wanted))
        brain.carry(rate * (np.float32(_share_out(times.steps - done, wanted)) / 2))
        yield


def _share_out(left: int, wanted: float) -> int:
    """Steps of the next interval if all that are left are cut into equal ones of about `wanted` steps."""
    return ceil(left / max(1, round(left / wanted))) if left else 0


def _part(times: Schedule, start: int, stop: int) -> Schedule:
    """Steps `start` to `stop` of a schedule, as one of their own."""
    ends = np.flatnonzero(times.ahead > 0) + 1
    low, high = ends[start - 1] if start else 0, ends[stop - 1]
    decays, ahead = times.decays[low:high].copy(), times.ahead[low:high].copy()
    decays[-1], ahead[-1] = decays[-1] / ahead[-1], 1
    first = times.ahead[low - 1] if start else times.first
    return Schedule(stop - start, times.weights[low:high], decays, ahead, first, times.splits)
