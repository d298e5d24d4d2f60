"""Equally probable tumors on the fine grid, and the one of them to deliver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morph.evidence import Estimate, Fit
from morph.scene import Scene
from morph.uncertainty import AGREED


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Equally probable tumors on the fine grid.

    Attributes:
        estimates: their numbers.
        density: (n, voxels of tissue).
    """

    estimates: list[Estimate]
    density: NDArray[np.float32]


def held_against(ensemble: Ensemble, scene: Scene) -> list[Fit]:
    """Every member held against the masks on the fine grid."""
    field = np.zeros(scene.fine.atlas.grid.shape, dtype=np.float32)
    fits = []
    for estimate, density in zip(ensemble.estimates, ensemble.density, strict=True):
        field[scene.fine.atlas.tissue] = density
        fits.append(scene.fine.fit(estimate, field))
    return fits


def dice_between(ensemble: Ensemble, level: float) -> NDArray[np.float64]:
    """Dice of every member with every other where density >= level, (n, n); two empty ones agree."""
    shown = (ensemble.density >= level).astype(np.float32)
    shared, sizes = (shown @ shown.T).astype(np.float64), shown.sum(axis=1, dtype=np.float64)
    total = sizes[:, None] + sizes[None]
    return np.divide(2 * shared, total, out=np.ones_like(shared), where=total > 0)


def representative(ensemble: Ensemble, losses: NDArray[np.float64]) -> tuple[int, dict[float, float]]:
    """The member that agrees best with the others and with the masks; its mean Dice with them at each of `AGREED`.

    The others speak for what is not seen, the masks for what is: where outlines say little, the typical tumor may
    explain them badly.

    Args:
        ensemble: equally probable tumors; a heavy one may be in it several times, and is no other to itself.
        losses: 1 minus the agreement of each with the masks (see `morph.evidence`), (n,).
    """
    other = np.array([[one != two for two in ensemble.estimates] for one in ensemble.estimates])
    count = other.sum(axis=1)
    agreement = {}
    for level in AGREED:
        total = (dice_between(ensemble, level) * other).sum(axis=1)
        agreement[level] = np.divide(total, count, out=np.ones_like(total), where=count > 0)
    best = int(np.argmax(np.mean(list(agreement.values()), axis=0) - losses))
    return best, {level: float(values[best]) for level, values in agreement.items()}
