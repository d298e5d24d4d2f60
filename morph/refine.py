"""Refinement: the tumor whose simulated masks match the patient's, searched with CMA-ES from an estimate.

Loss of a simulation: 1 - (Dice of the cores + Dice of the edemas) / 2 over the tissue, with the best thresholds of
their ranges, plus a weak pull towards the start: with free thresholds a steeper and a flatter front can fit
alike, and the pull settles what two masks leave open.

The search runs over log(mu1 mu2) (how far the front went: 2 mu1 mu2), log(mu1 / mu2) (how wide it is) and the
origin [mm], because the masks fix the first well and the second badly. A generation is one batch. It runs on the
coarse grid, where a narrow front is simulated with an error, and then a little further on the fine grid. Fine
simulations of large tumors are slow, so they have a budget in voxel updates: a time that does not depend on the clock.

Source of the search: Hansen, The CMA Evolution Strategy: A Tutorial (2016), as in the package `cma`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cma
import numpy as np
from numpy.typing import NDArray

from engine import Grid, InputError
from morph.evidence import MU1_RANGE, MU2_RANGE, Estimate, Evidence, Fit

STEPS = np.array([0.25, 0.30, 5.0, 5.0, 5.0])
"""First steps in log(mu1 mu2), log(mu1 / mu2) and the origin [mm], about the errors of a network's point (ours)."""
SPREADS = (0.25, 3.0)
"""First steps over `STEPS` that a network's own spread may set: a network can be too sure, and too unsure (ours)."""
FINE_STEP = 0.15
"""First steps of the fine search, relative to `STEPS` (ours)."""
COUPLING_STEP = 0.25
"""First step of the coupling, as a share of the range that it is searched in (ours)."""
GAP = 3.5
"""Distance between the middle thresholds, 0.675 and 0.275, of a front in units of its width mu1 / mu2, read off the
Ablowitz-Zeppetella wave c = (1 + exp(z / sqrt(6)))^-2: a guess of the width from the two masks' radii."""
WIDTH_RANGE = (0.5, 8.0)
"""Front widths [mm] that a guess may have (ours: about the prior's 5 and 95%)."""
STRETCHES = (1.0, 1.4, 2.0)
"""Front path 2 mu1 mu2 of those starts over the radius of the core: a front starts late, slower in gray (ours)."""
START_MARGIN = 0.4
"""A guess replaces the network's estimate only where its loss is lower by this: the estimate knows more (ours)."""


@dataclass(frozen=True)
class RefinementSettings:
    """How long and how freely to search.

    Attributes:
        evaluations: simulations on the coarse grid.
        fine_evaluations: simulations on the fine grid, at most.
        fine_updates: voxel updates [1e9] after which the fine search starts no further generation.
        population: simulations of a generation.
        pull: loss per squared first step away from the start.
        seed: of the search's random numbers.
    """

    evaluations: int = 240
    fine_evaluations: int = 96
    fine_updates: float = 6.0
    population: int = 12
    pull: float = 0.003
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no search can run with."""
        enough = self.evaluations >= 1 and self.fine_evaluations >= 0 and self.population >= 4
        if not (enough and self.pull >= 0 and self.fine_updates >= 0):
            raise InputError(
                f"refinement with {self.evaluations} + {self.fine_evaluations} evaluations, population "
                f"{self.population}, pull {self.pull}, fine_updates {self.fine_updates}: evaluations must be >= 1, "
                "population >= 4, the others >= 0 (refine=false keeps the network's answer)"
            )


@dataclass
class Search:
    """One search: where it starts, and the best tumor that it met.

    Attributes:
        center: the start, zero of the search's coordinates.
        pull: see `RefinementSettings`.
        best: the fit with the lowest penalized loss, measured on the grid of the last `run`; never worse than
            where that run began.
        place: its coordinates (in `STEPS`), (5,); (6,) with the coupling behind them.
        couplings: range [kPa] that the coupling is searched in, if `place` has room for it.
    """

    center: Estimate
    pull: float
    best: Fit
    place: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STEPS)))
    couplings: tuple[float, float] = (0.0, 0.0)
    _lowest: float = np.inf

    def run(
        self, evidence: Evidence, evaluations: int, step: float, settings: RefinementSettings, updates: float = np.inf
    ) -> None:
        """Spend `evaluations` simulations around `place`, in whole generations, and at most about `updates`."""
        options = {"seed": settings.seed + 1, "popsize": settings.population, "verbose": -9, "CMA_stds": self._scales}
        strategy = cma.CMAEvolutionStrategy(self.place, step, options)
        self.best = evidence.compare([self.decode(self.place, evidence)])[0]
        self._lowest = self.penalized(self.best, self.place)
        spent = float(self.best.updates)
        for _ in range(-(-evaluations // settings.population)):
            if spent + settings.population * self.best.updates > updates:
                break
            places = strategy.ask()
            fits = evidence.compare([self.decode(place, evidence) for place in places])
            losses = [self.penalized(fit, place) for fit, place in zip(fits, places, strict=True)]
            strategy.tell(places, losses)
            spent += sum(fit.updates for fit in fits)
            first = int(np.argmin(losses))
            if losses[first] < self._lowest:
                self._lowest, self.best, self.place = losses[first], fits[first], np.asarray(places[first])

    @property
    def _scales(self) -> NDArray[np.float64]:
        """First step along each coordinate: the network's spread where it gave one, else 1."""
        scales = np.ones(len(self.place))
        if self.center.spread is not None:
            scales[: len(STEPS)] = np.clip(self.center.spread / STEPS, *SPREADS)
        return scales

    def penalized(self, fit: Fit, place: NDArray[np.float64]) -> float:
        """The loss, and the pull towards the start: weak along what the network left open."""
        away = place / self._scales
        return fit.loss + self.pull * float(away @ away)

    def decode(self, place: NDArray[np.float64], evidence: Evidence) -> Estimate:
        """The tumor at coordinates of the search, within bounds and in tissue."""
        mu1, mu2, wanted = at_place(self.center, place, evidence.atlas.grid)
        mu1, mu2 = float(np.clip(mu1, *MU1_RANGE)), float(np.clip(mu2, *MU2_RANGE))
        origin = evidence.in_tissue(np.clip(wanted, 0, 1))
        coupling = self.center.coupling
        if coupling is not None and len(place) > len(STEPS):
            low, high = self.couplings
            coupling = float(np.clip(coupling + place[5] * COUPLING_STEP * (high - low), low, high))
        return Estimate(mu1, mu2, origin, coupling)


def at_place(center: Estimate, place: NDArray[np.float64], grid: Grid) -> tuple[float, float, NDArray[np.float64]]:
    """mu1 [mm], mu2 and origin (fractions), wherever that is, at coordinates (in `STEPS`) around a center."""
    path = float(np.log(center.mu1 * center.mu2) + place[0] * STEPS[0])
    width = float(np.log(center.mu1 / center.mu2) + place[1] * STEPS[1])
    origin = np.asarray(center.origin) + place[2:5] * STEPS[2:] / grid.extent
    return float(np.exp((path + width) / 2)), float(np.exp((path - width) / 2)), origin


def refine(coarse: Evidence, fine: Evidence, estimate: Estimate | None, settings: RefinementSettings | None) -> Fit:
    """Find the tumor that explains the masks.

    Args:
        coarse: the masks on the search's grid.
        fine: the masks on the grid of the final simulation.
        estimate: the network's answer; None to start from guesses of the masks alone.
        settings: see `RefinementSettings`; None holds the estimate against the masks as it is.

    Returns:
        The best fit, measured on the fine grid.

    Raises:
        InputError: neither a network's answer nor a search is wanted.
    """
    if settings is None:
        if estimate is None:
            raise InputError("refine=false keeps the network's answer, and there is none: refine")
        return hold(estimate, fine)
    return search_further(search_coarsely(coarse, estimate, settings), fine, settings)


def search_coarsely(coarse: Evidence, estimate: Estimate | None, settings: RefinementSettings) -> Search:
    """The search on the coarse grid, from an estimate or, without one, from guesses of the masks."""
    start = best_start(coarse, estimate)
    search = Search(start.estimate, settings.pull, start)
    search.run(coarse, settings.evaluations, 1.0, settings)
    return search


def search_further(search: Search, fine: Evidence, settings: RefinementSettings) -> Fit:
    """The best fit on the fine grid, from where a search on the coarse one ended."""
    search.run(fine, settings.fine_evaluations, FINE_STEP, settings, 1e9 * settings.fine_updates)
    return search.best


def best_start(evidence: Evidence, estimate: Estimate | None) -> Fit:
    """The network's estimate, unless a guess from the core's place and size alone fits far better."""
    guesses = evidence.compare(guess_from_masks(evidence))
    guess = min(guesses, key=lambda fit: fit.loss)
    if estimate is None:
        return guess
    known = hold(estimate, evidence)
    return guess if guess.loss < known.loss - START_MARGIN else known


def guess_from_masks(evidence: Evidence) -> list[Estimate]:
    """Tumors at the core's center whose front is as far as the core's edge and as wide as the masks are apart."""
    grid, tissue = evidence.atlas.grid, evidence.atlas.tissue
    voxels = np.argwhere(tissue)[evidence.core if evidence.core.any() else evidence.edema]
    origin = evidence.in_tissue(grid.from_voxel(voxels.mean(axis=0)))
    radius, outer = (_radius(count * grid.spacing**3) for count in (len(voxels), int(evidence.edema.sum())))
    width = float(np.clip((outer - radius) / GAP, *WIDTH_RANGE))
    paths = [stretch * radius / 2.0 for stretch in STRETCHES]
    return [
        Estimate(
            float(np.clip(np.sqrt(path * width), *MU1_RANGE)), float(np.clip(np.sqrt(path / width), *MU2_RANGE)), origin
        )
        for path in paths
    ]


def _radius(volume: float) -> float:
    """Radius [mm] of the ball of a volume [mm³]."""
    return float((3.0 * volume / (4.0 * np.pi)) ** (1.0 / 3.0))


def hold(estimate: Estimate, evidence: Evidence) -> Fit:
    """An estimate, its origin moved into the tissue of the grid, held against the masks."""
    return evidence.compare([replace(estimate, origin=evidence.in_tissue(np.asarray(estimate.origin)))])[0]
