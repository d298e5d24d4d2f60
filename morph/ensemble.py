"""Weighted tumors on the fine grid, and the one to deliver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morph.evidence import Estimate, Fit
from morph.scene import Scene
from morph.uncertainty import AGREED


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Tumors on the fine grid.

    Attributes:
        estimates: their numbers.
        scenes: the anatomy of each.
        density: (n, voxels).
        weights: sum to 1, (n,); a tumor that weighs nothing may be delivered, and counts nowhere else.
    """

    estimates: list[Estimate]
    scenes: list[Scene]
    density: NDArray[np.float16]
    weights: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float32]:
        """Density, (voxels,)."""
        return self._average(lambda density: density)

    @property
    def deviation(self) -> NDArray[np.float32]:
        """Standard deviation of the density, (voxels,)."""
        mean = self.mean
        return np.sqrt(self._average(lambda density: (density - mean) ** 2))

    def exceedance(self, level: float) -> NDArray[np.float32]:
        """Probability that the density exceeds a level, (voxels,)."""
        return np.clip(self._average(lambda density: density > level), 0, 1)

    def _average(self, show: Callable[[NDArray[np.float32]], NDArray]) -> NDArray[np.float32]:
        """Of what is shown of each density (voxels,)."""
        total = np.zeros(self.density.shape[1], dtype=np.float32)
        for weight, density in zip(self.weights.astype(np.float32), self.density, strict=True):
            total += weight * show(density.astype(np.float32))
        return total

    def dice(self, level: float) -> NDArray[np.float64]:
        """Dice of every tumor with every other where density >= level, (n, n); two empty ones agree."""
        shown = self.density >= level
        shown = shown[:, shown.any(axis=0)].astype(np.float32)
        shared = (shown @ shown.T).astype(np.float64)
        volume = np.diagonal(shared)
        total = volume[:, None] + volume
        return np.divide(2 * shared, total, out=np.ones_like(shared), where=total > 0)

    def held_against_masks(self, where: NDArray[np.bool_]) -> list[Fit]:
        """Every tumor, over the voxels `where` (x, y, z), held against the masks of its scene."""
        field = np.zeros(where.shape, dtype=np.float32)
        fits = []
        for estimate, scene, density in zip(self.estimates, self.scenes, self.density, strict=True):
            field[where] = density
            fits.append(scene.fine.fit(estimate, field))
        return fits


def joined(parts: Sequence[Ensemble]) -> Ensemble:
    """All tumors of several ensembles over the same voxels, whose weights sum to 1 together."""
    return Ensemble(
        [estimate for part in parts for estimate in part.estimates],
        [scene for part in parts for scene in part.scenes],
        np.concatenate([part.density for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def representative(ensemble: Ensemble, losses: NDArray[np.float64]) -> tuple[int, dict[float, float]]:
    """The tumor that agrees best with the others and with the masks; its mean Dice with them at each of `AGREED`.

    The ensemble speaks for what is not seen, the masks for what is: where outlines say little, the typical tumor may
    explain them badly.

    Args:
        ensemble: tumors to choose from; none is compared with itself.
        losses: 1 minus the agreement of each with the masks (see `morph.evidence`), (n,).
    """
    others = 1 - ensemble.weights
    agreement = {}
    for level in AGREED:
        total = ensemble.dice(level) @ ensemble.weights - ensemble.weights
        agreement[level] = np.divide(total, others, out=np.zeros_like(total), where=others > 0)
    best = int(np.argmax(np.mean(list(agreement.values()), axis=0) - losses))
    return best, {level: float(values[best]) for level, values in agreement.items()}
