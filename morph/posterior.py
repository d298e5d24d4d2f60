"""What two outlines leave open: tumors in proportion to how probable they are.

The density of (mu1, mu2, origin) given the outlines is prior (`morph.prior`) times likelihood (`morph.outlines`), with
both thresholds averaged over. It is sampled (`morph.sampler`) around the tumor that the search found: first on the
coarse grid, each tumor of the fine grid by its stand-in there (`morph.log_posterior`), which tells where to look, then
on the fine grid itself. All this in one anatomy; `morph.averaging` weighs those that may be the patient's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, InputError, random_stream
from engine.sampling import Range
from morph.evidence import Estimate
from morph.log_posterior import Judge, LogPosterior, most_probable
from morph.outlines import Drawn, Judgment, Outlines
from morph.prior import possible_sizes
from morph.refine import STEPS
from morph.sampler import NoneFoundError, Proposal, Sample, explore, heaviest, normalized
from morph.space_mapping import SpaceMapping, map_space

AROUND: Proposal = np.zeros(len(STEPS)), 0.4**2 * np.eye(len(STEPS))
"""The first proposal, in the search's steps from where it ended (ours: about the search's own error)."""
FIRST_SHARE = 4
"""The first sample has this many times fewer simulations than the second (ours)."""
FINE_ROUND = 50
"""Simulations of a round on the fine grid, at least (ours)."""
NEGLIGIBLE = 0.01
"""Weight of the lightest tumors, all together, whose densities are not kept: about half of all (ours)."""
STARVED = 10.0
"""Effective tumors below which intervals and maps would be those of a few points, and none are given (ours)."""
SAMPLING, THRESHOLDS, FIRST, CENTER, FINE = 0, 2, 3, 4, 5
"""Counters of the random streams."""


class NothingPossibleError(InputError):
    """None of the simulated tumors can be one, or so few that they say nothing of the others."""


@dataclass(frozen=True)
class PosteriorSettings:
    """How thoroughly to sample, in each anatomy that may be the patient's.

    Attributes:
        simulations: on the coarse grid, after a quarter as many that say where to compare both grids; they tell where
            to look on the fine grid.
        rounds: that they are spread over; each learns from those before.
        fine_simulations: on the fine grid, which count. All three go on up to `morph.sampler.LONGEST` times as far
            where they are worth too few.
        observations: independent ones that an outline is taken to be worth, see `morph.outlines`; fewer are less sure
            (ours: chosen on 34 known tumors of `benches/calibration.py seed=15 correlation=17` and the twenty digital
            twins of `benches/twins.py`, for which 8 to 10 do about as well).
        seed: of the random numbers.
    """

    simulations: int = 1000
    rounds: int = 10
    fine_simulations: int = 300
    observations: float = 9.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        enough = self.rounds >= 1 and self.simulations >= 10 * self.rounds
        if not (enough and self.fine_simulations >= FINE_ROUND and 1 <= self.observations < np.inf):
            raise InputError(
                f"posterior with simulations={self.simulations}, rounds={self.rounds}, "
                f"fine_simulations={self.fine_simulations}, observations={self.observations}: rounds must be >= 1, "
                f"simulations at least ten times as many, fine_simulations >= {FINE_ROUND}, and observations finite "
                "and >= 1"
            )


@dataclass(frozen=True, eq=False)
class Tumors:
    """Weighted tumors of the fine grid.

    Attributes:
        mapping: what the sample's coordinates mean.
        outlines: that they were sampled for.
        sample: see `morph.sampler`.
        core: log likelihood of each at each threshold of the core, (n, m); `edema` likewise.
        kept: numbers of those that carry all but `NEGLIGIBLE` of the weight, (k,), the heaviest first.
        density: of these, over the tissue of the fine grid, (k, voxels); empty where they were only shown by stand-ins.
    """

    mapping: SpaceMapping
    outlines: Outlines
    sample: Sample
    core: NDArray[np.float64]
    edema: NDArray[np.float64]
    kept: NDArray[np.int64]
    density: NDArray[np.float16]


def sample_tumors(
    drawn: Drawn, coarse: Atlas, fine: Atlas, found: Estimate, settings: PosteriorSettings, sizes: Range | None = None
) -> Tumors:
    """Sample the tumors that two outlines allow.

    A first, short sample and some simulations on the fine grid say where both grids should be compared. A second one
    says where to begin on the fine grid, and the sample there counts.

    Args:
        drawn: both masks, in the world of the grids.
        coarse: the brain on the grid of the search.
        fine: the same on the grid that is meant.
        found: where to begin: what a search on the coarse grid found.
        settings: see there.
        sizes: volumes [ml at c >= 0.7] between which a tumor can be; by default the prior's, wider for what is seen.

    Raises:
        NothingPossibleError: none of the simulated tumors is possible at all.
    """
    on_coarse, on_fine = (Outlines(drawn, atlas, settings.observations) for atlas in (coarse, fine))
    sizes = sizes or possible_sizes(on_fine.core.volume)
    log_posterior = LogPosterior(on_coarse, on_fine, map_space(coarse, fine, found), sizes)
    log_posterior = _compare_grids(log_posterior, settings)
    asked = settings.simulations, settings.rounds, random_stream(settings.seed, SAMPLING)
    try:
        if coarse.grid == fine.grid:
            return _sample(log_posterior, log_posterior.by_stand_ins, AROUND, *asked)
        first = AROUND
        with suppress(NoneFoundError):  # what stand-ins show may be impossible, and the tumor itself not
            first = _sample(log_posterior, log_posterior.by_stand_ins, AROUND, *asked).sample.proposal()
        count, rng = settings.fine_simulations, random_stream(settings.seed, FINE)
        return _sample(log_posterior, log_posterior.on_fine_grid, first, count, count // FINE_ROUND, rng)
    except NoneFoundError as error:
        raise NothingPossibleError(
            "no tumor around the one that was found is possible: posterior.simulations=0 goes without a posterior"
        ) from error


def _compare_grids(log_posterior: LogPosterior, settings: PosteriorSettings) -> LogPosterior:
    """The same with both grids compared where a short sample, and the fine grid, find tumors probable."""
    few = max(settings.simulations // FIRST_SHARE, 10)
    rounds, rng = min(settings.rounds, few // 10), random_stream(settings.seed, FIRST)
    try:
        sample = _sample(log_posterior, log_posterior.by_stand_ins, AROUND, few, rounds, rng).sample
    except NoneFoundError:
        return log_posterior
    center = most_probable(log_posterior, sample, random_stream(settings.seed, CENTER))
    return replace(log_posterior, mapping=log_posterior.mapping.moved_to(center))


def _sample(
    log_posterior: LogPosterior, judge: Judge, first: Proposal, simulations: int, rounds: int, rng: np.random.Generator
) -> Tumors:
    """Sample what `judge`, one of its methods, says of places, from a first proposal on."""
    outlines = log_posterior.fine
    seen: list[Judgment | None] = []

    def target(places: NDArray[np.float64]) -> NDArray[np.float64]:
        logs, judged = judge(places)
        seen.extend(judged)
        return logs

    sample = explore(target, first, simulations, rounds, rng)
    core, edema = (
        np.array([np.full(len(o.thresholds), -np.inf) if j is None else getattr(j, name) for j in seen])
        for name, o in (("core", outlines.core), ("edema", outlines.edema))
    )
    kept = heaviest(sample.weights, 1 - NEGLIGIBLE)
    judged = [judgment for n in kept if (judgment := seen[n]) is not None]
    density = np.array([one.density for one in judged if one.density is not None], dtype=np.float16)
    return Tumors(log_posterior.mapping, outlines, sample, core, edema, kept, density)


def describe_tumors(
    tumors: Tumors, to_world: Callable[[NDArray[np.float64]], NDArray[np.float64]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Every number of every tumor, (n,) each; its thresholds are drawn by how probable they make the outlines.

    Args:
        tumors: sampled ones.
        to_world: places [mm] in the world of the grid, (n, 3) -> in the world that is wanted.
        seed: of the thresholds.
    """
    sample, grid, outlines = tumors.sample, tumors.mapping.fine.grid, tumors.outlines
    mu1, mu2, origins = zip(*(tumors.mapping.estimate(place) for place in sample.places), strict=True)
    world = to_world(grid.to_world(np.array(origins)))
    numbers = {"mu1": np.array(mu1), "mu2": np.array(mu2)} | {f"origin_{a}": world[:, i] for i, a in enumerate("xyz")}
    rng = random_stream(seed, THRESHOLDS)
    for name, logs, outline in (("core", tumors.core, outlines.core), ("edema", tumors.edema, outlines.edema)):
        ends, step = outline.thresholds[[0, -1]], outline.thresholds[1] - outline.thresholds[0]
        drawn = outline.thresholds[[_draw(row, rng) for row in logs]]
        numbers[f"{name}_threshold"] = np.clip(drawn + rng.uniform(-0.5, 0.5, len(drawn)) * step, *ends)
    return numbers


def _draw(logs: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Number of a threshold, drawn by likelihood; where there is none it does not matter which."""
    level = rng.uniform()
    if not np.isfinite(logs).any():
        return 0
    return min(int(np.searchsorted(np.cumsum(normalized(logs)), level)), len(logs) - 1)
