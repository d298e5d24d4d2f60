"""Equally probable tumors on the fine grid, and the one to deliver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, simulate_stream
from morph.evidence import Estimate, Fit
from morph.scene import Scene
from morph.uncertainty import AGREED


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Tumors on the fine grid, equally probable ones if nothing else is said.

    Attributes:
        estimates: their numbers.
        density: (n, voxels).
    """

    estimates: list[Estimate]
    density: NDArray[np.float32]

    @classmethod
    def of(cls, parts: Sequence[Ensemble]) -> Ensemble:
        """All tumors of several ones over the same voxels."""
        return cls([e for part in parts for e in part.estimates], np.concatenate([part.density for part in parts]))

    def last(self, count: int) -> Ensemble:
        """The last tumors of this one."""
        return Ensemble(self.estimates[-count:], self.density[-count:])


def grow_ensemble(estimates: list[Estimate], atlas: Atlas, where: NDArray[np.bool_]) -> Ensemble:
    """Simulate tumors in a brain, whose tissue lies in the voxels `where` (x, y, z)."""
    density = np.empty((len(estimates), int(where.sum())), dtype=np.float32)
    field = np.zeros(atlas.grid.shape, dtype=np.float32)
    for row, one in zip(density, simulate_stream([e.parameters() for e in estimates], atlas), strict=True):
        field[...] = 0
        one.write(field)
        row[...] = field[where]
    return Ensemble(estimates, density)


def held_against(ensemble: Ensemble, scene: Scene, where: NDArray[np.bool_]) -> list[Fit]:
    """Every member, over the voxels `where` (x, y, z), held against the masks on the fine grid."""
    field = np.zeros(scene.fine.atlas.grid.shape, dtype=np.float32)
    fits = []
    for estimate, density in zip(ensemble.estimates, ensemble.density, strict=True):
        field[where] = density
        fits.append(scene.fine.fit(estimate, field))
    return fits


def dice_between(some: Ensemble, others: Ensemble, level: float) -> NDArray[np.float64]:
    """Dice of every tumor of one with every one of the other where density >= level, (n, m); two empty ones agree."""
    one, two = ((each.density >= level).astype(np.float32) for each in (some, others))
    shared = (one @ two.T).astype(np.float64)
    total = one.sum(axis=1, dtype=np.float64)[:, None] + two.sum(axis=1, dtype=np.float64)[None]
    return np.divide(2 * shared, total, out=np.ones_like(shared), where=total > 0)


def representative(
    candidates: Ensemble, ensemble: Ensemble, losses: NDArray[np.float64]
) -> tuple[int, dict[float, float]]:
    """The candidate that agrees best with the ensemble and with the masks; its mean Dice with it at each of `AGREED`.

    The ensemble speaks for what is not seen, the masks for what is: where outlines say little, the typical tumor may
    explain them badly.

    Args:
        candidates: tumors to choose from.
        ensemble: equally probable tumors; one that is among the candidates as well is not compared with itself.
        losses: 1 minus the agreement of each candidate with the masks (see `morph.evidence`), (n,).
    """
    other = np.array([[one is not two for two in ensemble.estimates] for one in candidates.estimates])
    count = other.sum(axis=1)
    agreement = {}
    for level in AGREED:
        total = (dice_between(candidates, ensemble, level) * other).sum(axis=1)
        agreement[level] = np.divide(total, count, out=np.ones_like(total), where=count > 0)
    best = int(np.argmax(np.mean(list(agreement.values()), axis=0) - losses))
    return best, {level: float(values[best]) for level, values in agreement.items()}
