"""How probable tumors are: prior times likelihood, shown by stand-ins on the coarse grid or on the fine grid itself.

Stand-ins are cheap, but right only near the place where both grids were compared (`morph.space_mapping`): a step away
the coarse grid may close a sulcus that the fine one leaves open. So the comparison must be made where the posterior of
the fine grid is. `most_probable` looks for that place with some simulations on the fine grid, seconds in all. Even
there what stand-ins say scatters by far more than sampling allows (standard deviations of 2.5 to 3.4 in the logarithm
on three of four known tumors, held against the coarse grid's outlines), so it only tells where to sample on the fine
grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import simulate_stream
from engine.sampling import Range
from morph.evidence import Estimate
from morph.outlines import Judgment, Outlines
from morph.prior import DENSE, log_prior
from morph.sampler import Sample, Values, pick
from morph.space_mapping import Place, SpaceMapping

Judge = Callable[[Values], tuple[Values, list[Judgment | None]]]
"""Of places (n, 5): logarithm of the posterior, (n,), and what the outlines say, if they were asked."""
TOO_LARGE = 1.2
"""A simulation is given up beyond this many times the upper limit of size: the other grid may show less (ours)."""
CANDIDATES = 24
"""Tumors of the coarse grid's sample that are simulated on the fine grid, and as many around the best (ours)."""
CLOSER = 0.5
"""Spread of the second ones over the sample's (ours)."""


@dataclass(frozen=True, eq=False)
class LogPosterior:
    """Logarithm of the posterior, up to a constant, -inf where no tumor can be.

    Attributes:
        coarse: both outlines on the grid of stand-ins.
        fine: the same on the grid that is meant.
        mapping: what coordinates mean, and how the coarse grid shows them.
        sizes: volumes [ml at c >= 0.7] between which a tumor can be.
    """

    coarse: Outlines
    fine: Outlines
    mapping: SpaceMapping
    sizes: Range

    def by_stand_ins(self, places: Values) -> tuple[Values, list[Judgment | None]]:
        """Of places (n, 5), (n,), by simulations on the coarse grid; and what the outlines say, if they were asked."""
        return self._judge(places, self.coarse, self.mapping.stand_in, self.mapping.correct)

    def on_fine_grid(self, places: Values) -> tuple[Values, list[Judgment | None]]:
        """The same by simulations on the fine grid."""
        return self._judge(places, self.fine, self.mapping.meant, lambda density: density)

    def _judge(
        self,
        places: Values,
        outlines: Outlines,
        tumor: Callable[[Place], Estimate],
        show: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> tuple[Values, list[Judgment | None]]:
        """`tumor` is what to simulate on the grid of `outlines`, `show` says what its density (n,) is taken for."""
        atlas = outlines.atlas
        logs = np.array([log_prior(*self.mapping.estimate(place), self.mapping.fine) for place in places])
        seen: list[Judgment | None] = [None] * len(places)
        is_meant = atlas.grid == self.fine.atlas.grid
        numbers = np.flatnonzero(np.isfinite(logs))
        tumors = [tumor(place).parameters() for place in places[numbers]]
        runs = simulate_stream(tumors, atlas, stop_volume=TOO_LARGE * self.sizes[1])
        for number, one in zip(numbers, runs, strict=True):
            field = np.zeros(atlas.grid.shape, dtype=np.float32)
            one.write(field)
            shown = show(field[atlas.tissue])
            judgment = outlines.judge(shown)
            volume = np.count_nonzero(shown >= DENSE) * atlas.grid.voxel_volume
            possible = one.ended == "duration" and self.sizes[0] <= volume <= self.sizes[1]
            logs[number] += judgment.log_likelihood if possible else -np.inf
            seen[number] = replace(judgment, density=shown.astype(np.float16)) if possible and is_meant else judgment
        return logs, seen


def most_probable(log_posterior: LogPosterior, sample: Sample, rng: np.random.Generator) -> Place:
    """The place (5,) with the highest posterior on the fine grid that some simulations there meet.

    Args:
        log_posterior: of the sample's coordinates.
        sample: by stand-ins; its mean is returned where nothing is possible on the fine grid.
        rng: decides which places are tried.
    """
    mean = sample.mean
    if log_posterior.mapping.coarse.grid == log_posterior.mapping.fine.grid:
        return mean
    wide = sample.flattened()
    away = wide.places - wide.mean
    covariance = CLOSER**2 * (wide.weights[:, None] * away).T @ away
    places = np.concatenate([mean[None], wide.places[np.unique(pick(wide.weights, CANDIDATES, rng))]])
    logs = log_posterior.on_fine_grid(places)[0]
    closer = rng.multivariate_normal(places[np.argmax(logs)], covariance, CANDIDATES)
    places, logs = np.concatenate([places, closer]), np.append(logs, log_posterior.on_fine_grid(closer)[0])
    return np.asarray(places[np.argmax(logs)])
