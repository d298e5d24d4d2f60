"""How well a simulated tumor explains the patient's masks.

The densities at which T1Gd and FLAIR begin to show tumor are unknown; instead of searching for them, the best ones
of their ranges are read off each simulated density, which costs two histograms. A wide front with thresholds close
together looks like a narrow one with thresholds far apart, so a search left alone runs along that valley to the end
of a range. What the masks leave open is settled by expectation: the middle of a range costs nothing, its ends cost
`THRESHOLD_PULL` each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    Atlas,
    FisherKolmogorovParameters,
    MassEffectParameters,
    nearest_tissue,
)
from engine.parameters import Parameters
from morph.displacement import look_up
from morph.growth import grow

MU1_RANGE = (2.5, 50.0)
MU2_RANGE = (2.5, 18.0)
"""What accepted samples of the prior reach (2.7-45 mm, 2.8-16.6), slightly wider: bounds of the search."""
THRESHOLD_PULL = 0.03
"""Loss of a threshold at an end of its range (ours: of 0, .003, .01 and .03 the best on nine twins at 3.6 mm).

It costs tumors whose true thresholds lie at an end: their fronts come out too narrow or too wide."""
THRESHOLD_STEP = 0.01
"""Step [1] of the thresholds that are tried (ours)."""
PUSH_ACCURACY = 0.5
"""Accuracy of the simulations that a search compares where tumors push: half the time, and on two tumors of some
100 ml a Dice of at least .99 with the default's at c = .01, .1, .5 and .8 (ours)."""
HOPELESS = 1.5
"""A tumor that pushes is given up where c >= 0.7 in this many times the visible edema: its core cannot fit (ours)."""


@dataclass(frozen=True)
class Estimate:
    """The identifiable numbers of a tumor.

    Attributes:
        mu1: sqrt(D_w T) [mm].
        mu2: sqrt(rho T) [1].
        origin: seed point, fraction of the grid's extent.
        coupling: gamma [kPa] of the mass-effect model; None for a tumor of the first model.
        spread: how unsure a network is that predicts a distribution: standard deviations of log(mu1 mu2), of
            log(mu1 / mu2) and of the origin along x, y, z [mm], as in the atlas; None where that is not known.
    """

    mu1: float
    mu2: float
    origin: tuple[float, float, float]
    coupling: float | None = None
    spread: tuple[float, ...] | None = None

    def within_ranges(self) -> Estimate:
        """The same with mu1 and mu2 cut to what a search may reach."""
        mu1, mu2 = (float(np.clip(v, *r)) for v, r in ((self.mu1, MU1_RANGE), (self.mu2, MU2_RANGE)))
        return replace(self, mu1=mu1, mu2=mu2)

    def parameters(self) -> Parameters:
        """The tumor to simulate."""
        growth = FisherKolmogorovParameters.from_invariants(self.mu1, self.mu2, self.origin)
        if self.coupling is None:
            return growth
        return MassEffectParameters(
            growth.diffusivity, growth.proliferation, growth.duration, growth.origin, self.coupling
        )  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """A simulated tumor held against the patient's masks.

    Attributes:
        estimate: its numbers.
        core_threshold: density [1] at which its core fits best; `edema_threshold` likewise.
        core_dice: Dice of its core with the patient's, over the tissue; `edema_dice` likewise.
        updates: voxel updates that its simulation took.
    """

    estimate: Estimate
    core_threshold: float
    edema_threshold: float
    core_dice: float
    edema_dice: float
    updates: int = 0

    @property
    def loss(self) -> float:
        """1 - the mean of both Dice, and what its thresholds cost."""
        core = threshold_cost(self.core_threshold, CORE_THRESHOLD_RANGE)
        edema = threshold_cost(self.edema_threshold, EDEMA_THRESHOLD_RANGE)
        return 1.0 - 0.5 * (self.core_dice + self.edema_dice) + float(core + edema)


class Evidence:
    """The patient's masks on a simulation grid, ready to be compared with many densities."""

    def __init__(
        self, core: NDArray[np.bool_], edema: NDArray[np.bool_], atlas: Atlas, rest: Atlas | None = None
    ) -> None:
        """Masks on a grid.

        Args:
            core: bool (x, y, z).
            edema: bool (x, y, z).
            atlas: the brain as it is seen, in whose tissue densities are compared with the masks.
            rest: the brain that tumors start in, if they push it; the same by default.
        """
        self.atlas, self.rest = atlas, rest or atlas
        self.back: NDArray[np.float32] | None = None
        self.core, self.edema = core[atlas.tissue], (edema | core)[atlas.tissue]

    def starting_in(self, rest: Atlas, back: NDArray[np.float32] | None = None) -> Evidence:
        """The same masks, for tumors that start in another brain than is seen.

        Args:
            rest: that brain.
            back: from where it is seen to where it was [voxels], (3, x, y, z). A tumor of the first model is held
                against the masks after it has been carried along by this: a quick stand-in for one that pushes.
        """
        if rest is self.rest:
            return self
        core, edema = (np.zeros(self.atlas.grid.shape, dtype=bool) for _ in range(2))
        core[self.atlas.tissue], edema[self.atlas.tissue] = self.core, self.edema
        evidence = Evidence(core, edema, self.atlas, rest)
        evidence.back = back
        return evidence

    @property
    def hopeless(self) -> float:
        """Volume [ml at c >= 0.7] beyond which a tumor that pushes is given up."""
        return HOPELESS * float(self.edema.sum()) * self.atlas.grid.voxel_volume

    def compare(self, estimates: Sequence[Estimate]) -> list[Fit]:
        """Simulate a batch of one model and hold each tumor against the masks, each with its best thresholds."""
        tumors, most, accuracy = [e.parameters() for e in estimates], None, 1.0
        if any(estimate.coupling for estimate in estimates):
            most, accuracy = self.hopeless, PUSH_ACCURACY
        result = grow(tumors, self.rest, most, accuracy)
        fields = (
            field * np.float32(ended == "duration") for field, ended in zip(result.density, result.ended, strict=True)
        )
        if self.back is not None and all(estimate.coupling is None for estimate in estimates):
            fields = (look_up(field, self.back) for field in fields)
        rows = zip(estimates, fields, result.updates, strict=True)
        return [self.fit(estimate, field, int(updates)) for estimate, field, updates in rows]

    def fit(self, estimate: Estimate, density: NDArray[np.float32], updates: int = 0) -> Fit:
        """One density (x, y, z) against the masks."""
        values = density[self.atlas.tissue]
        core = best_threshold(values, self.core, CORE_THRESHOLD_RANGE)
        edema = best_threshold(values, self.edema, EDEMA_THRESHOLD_RANGE)
        return Fit(estimate, core[0], edema[0], core[1], edema[1], updates)

    def in_tissue(self, origin: NDArray[np.float64]) -> tuple[float, float, float]:
        """`origin` (fractions), moved to the center of the nearest tissue voxel where it lies outside."""
        return nearest_tissue(origin.tolist(), self.rest)


def threshold_cost(threshold: ArrayLike, bounds: tuple[float, float]) -> NDArray[np.float64]:
    """What thresholds within `bounds` cost a fit: nothing in the middle, `THRESHOLD_PULL` at the ends; any shape."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    return THRESHOLD_PULL * ((np.asarray(threshold, dtype=np.float64) - middle) / half) ** 2


def best_threshold(
    values: NDArray[np.float32], mask: NDArray[np.bool_], bounds: tuple[float, float]
) -> tuple[float, float]:
    """The threshold t in `bounds` that costs a fit least, and the Dice between {c >= t} and the mask.

    Args:
        values: density c [1], (n,).
        mask: bool (n,).
        bounds: lowest and highest threshold [1].
    """
    steps = round((bounds[1] - bounds[0]) / THRESHOLD_STEP)
    thresholds = np.linspace(*bounds, steps + 1, dtype=np.float64)
    edges = np.append(thresholds, np.inf)
    inside = np.histogram(values[mask], edges)[0][::-1].cumsum()[::-1]
    outside = np.histogram(values[~mask], edges)[0][::-1].cumsum()[::-1]
    scores = 2.0 * inside / (inside + outside + max(int(mask.sum()), 1))
    worth = 0.5 * scores - threshold_cost(thresholds, bounds)
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    middle = int(best[len(best) // 2])
    return float(thresholds[middle]), float(scores[middle])
