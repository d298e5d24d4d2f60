"""Two grids, one tumor: with which numbers the coarse grid shows what the fine grid shows.

A front that is narrow for its grid runs too fast on it, the more so in gray matter, and thin sheets of tissue close or
open with the size of voxels. The same numbers can give half as much volume again on voxels of 3.6 mm as on 1.8 mm. So
whoever samples tumors of the fine grid with simulations of the coarse one must simulate other numbers than are meant.

Which ones is found where the search ended: a tumor is simulated on the fine grid, averaged over the voxels of the
coarse one, and the numbers of the coarse tumor that is closest to it are found by damped least squares. Four more pairs
around it tell how the difference changes with the path and the width of the front. What differs still is kept voxel by
voxel, as the logarithm of the ratio of the odds c / (1 - c): where cells multiply logistically that is the growth rate
times how much earlier the front arrived, which tumors beside the center share.

Source: space mapping, Bandler, Biernacki, Chen, Grobelny and Hemmers, Space mapping technique for electromagnetic
optimization, IEEE Transactions on Microwave Theory and Techniques 42 (1994) 2536-2544. The odds are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine import Atlas, nearest_tissue, simulate
from morph.evidence import Estimate
from morph.refine import STEPS, at_place
from morph.resample import averaging_weights

Place = NDArray[np.float64]
DIFFERENCES = np.array([0.1, 0.1, 0.2, 0.2, 0.2])
"""Steps of finite differences, in the search's steps (ours)."""
ITERATIONS = 3
"""Steps of damped least squares, at most (ours)."""
DAMPING = 0.01
"""Added to the normal equations, as a share of their mean diagonal: undetermined numbers stay where they are (ours)."""
SHORTER = (1.0, 0.5, 0.25)
"""Shares of a step that are tried until one comes closer."""
AWAY = 0.4
"""How far from the center the change with path and width is measured, in the search's steps (ours)."""
LEAST = 0.01
"""Density [1] below which, and below 1 by which, odds do not tell tumors apart (ours)."""
MOST = 4.0
"""Largest logarithm of a ratio of odds: beyond it, what the center shows would hold for every tumor (ours)."""


@dataclass(frozen=True, eq=False)
class SpaceMapping:
    """From the numbers of a tumor on the fine grid to those that show it on the coarse grid.

    Attributes:
        center: zero of the coordinates (`morph.refine.at_place`), on the fine grid.
        coarse: the brain on the grid that is simulated.
        fine: the brain on the grid that is meant.
        offset: added to coordinates, (5,).
        slope: change of the offset with the coordinates, (5, 5).
        odds: logarithm of the ratio of the odds on the fine grid to those of the stand-in, at the center, over the
            tissue of the coarse grid, (n,).
    """

    center: Estimate
    coarse: Atlas
    fine: Atlas
    offset: Place
    slope: NDArray[np.float64]
    odds: NDArray[np.float64]

    def estimate(self, place: Place) -> tuple[float, float, Place]:
        """mu1, mu2 and origin (fractions) of the tumor that is meant; the origin may be outside tissue."""
        return at_place(self.center, place, self.fine.grid)

    def meant(self, place: Place) -> Estimate:
        """The tumor that is meant, its origin in tissue."""
        return _in_tissue(self.center, place, self.fine)

    def stand_in(self, place: Place) -> Estimate:
        """The tumor that shows it on the coarse grid."""
        return _in_tissue(self.center, place + self.offset + self.slope @ place, self.coarse)

    def moved_to(self, place: Place) -> SpaceMapping:
        """The same comparison around another place; it costs five tumors on the fine grid."""
        center = _in_tissue(self.center, place, self.fine)
        return _compare(center, self.offset + self.slope @ place, self.coarse, self.fine)

    def correct(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        """Densities of a stand-in as the fine grid would show them, both (n,) over the tissue of the coarse grid."""
        ratio = np.exp(_log_odds(density) + self.odds)
        return np.clip((ratio * (1 + LEAST) - LEAST) / (1 + ratio), 0, 1).astype(np.float32)


def map_space(coarse: Atlas, fine: Atlas, found: Estimate) -> SpaceMapping:
    """Compare both grids around a tumor that was found on the coarse one.

    Args:
        coarse: the brain on the grid of the search.
        fine: the same brain in the same cube on finer voxels.
        found: what the search on the coarse grid found.
    """
    center, offset = found, np.zeros(len(STEPS))
    for _ in range(2):
        offset, _ = _difference(center, np.zeros(len(STEPS)), offset, coarse, fine)
        center = _in_tissue(found, -offset, fine)
    return _compare(center, offset, coarse, fine)


def _compare(center: Estimate, guess: Place, coarse: Atlas, fine: Atlas) -> SpaceMapping:
    """Both grids around a tumor of the fine one."""
    nowhere, slope = np.zeros(len(STEPS)), np.zeros((len(STEPS), len(STEPS)))
    offset, odds = _difference(center, nowhere, guess, coarse, fine)
    for axis in (0, 1):
        step = AWAY * np.eye(len(STEPS))[axis]
        further, nearer = (_difference(center, sign * step, offset, coarse, fine)[0] for sign in (1, -1))
        slope[:, axis] = (further - nearer) / (2 * AWAY)
    return SpaceMapping(center, coarse, fine, offset, slope, odds)


def _difference(
    center: Estimate, place: Place, guess: Place, coarse: Atlas, fine: Atlas
) -> tuple[Place, NDArray[np.float64]]:
    """What must be added to a place so that the coarse tumor is like the fine one, and the odds that differ then."""
    if coarse.grid == fine.grid:
        return np.zeros(len(STEPS)), np.zeros(int(coarse.tissue.sum()))
    meant = simulate([_in_tissue(center, place, fine).parameters()], fine).density[0]
    averaging = _averaging(fine, coarse)
    wanted = averaging.of(meant)

    def grow(differences: list[Place]) -> NDArray[np.float64]:
        tumors = [_in_tissue(center, place + d, coarse).parameters() for d in differences]
        return simulate(tumors, coarse).density[:, coarse.tissue].astype(np.float64)

    found, density = guess, grow([guess])[0]
    for _ in range(ITERATIONS):
        varied = grow([found + step for step in np.diag(DIFFERENCES)])
        slopes = ((varied - density) / DIFFERENCES[:, None]).T
        step = _damped_step(slopes, wanted - density)
        tried = grow([found + share * step for share in SHORTER])
        distances = ((tried - wanted) ** 2).sum(axis=1)
        best = int(np.argmin(distances))
        if distances[best] >= ((density - wanted) ** 2).sum():
            break
        found, density = found + SHORTER[best] * step, tried[best]
    odds = np.clip(_log_odds(wanted) - _log_odds(density), -MOST, MOST)
    return found, np.where(averaging.present, odds, 0.0)


def _damped_step(slopes: NDArray[np.float64], missing: NDArray[np.float64]) -> Place:
    """The step (d,), each number by 1 at most, that reduces `missing` (n,) most, by its derivatives (n, d)."""
    normal = slopes.T @ slopes
    damped = normal + DAMPING * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.clip(np.linalg.lstsq(damped, slopes.T @ missing, rcond=None)[0], -1, 1)


def _log_odds(density: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(c / (1 - c)), within what `LEAST` leaves."""
    return np.log((density.astype(np.float64) + LEAST) / (1 + LEAST - density))


def _in_tissue(center: Estimate, place: Place, atlas: Atlas) -> Estimate:
    """The tumor at a place, its origin in the tissue of this grid."""
    mu1, mu2, origin = at_place(center, place, atlas.grid)
    return Estimate(mu1, mu2, nearest_tissue(origin.tolist(), atlas))


@dataclass(frozen=True, eq=False)
class Averaging:
    """Means of a density of the fine grid over the tissue in each coarse tissue voxel.

    Attributes:
        tissue: flat places of the fine grid's tissue voxels, (m,).
        weights: of these in every mean, (n, m).
        present: whether there is any tissue to average, (n,).
    """

    tissue: NDArray[np.intp]
    weights: sparse.csr_array
    present: NDArray[np.bool_]

    def of(self, density: NDArray[np.float32]) -> NDArray[np.float64]:
        """The means (n,) of a density (x, y, z)."""
        return np.asarray(self.weights @ density.reshape(-1)[self.tissue])


@lru_cache(maxsize=2)
def _averaging(fine: Atlas, coarse: Atlas) -> Averaging:
    """The means from one brain onto another, kept for the next call."""
    along_axes = averaging_weights(fine.grid.affine, fine.grid.shape, coarse.grid)
    assert along_axes is not None  # no grid is tilted
    along_x, along_y, along_z = along_axes
    rows, tissue = np.flatnonzero(coarse.tissue), np.flatnonzero(fine.tissue)
    weights = sparse.kron(sparse.kron(along_x, along_y), along_z, "csr")[rows][:, tissue]
    share = weights.sum(axis=1)
    scale = np.divide(1, share, out=np.zeros_like(share), where=share > 0)
    return Averaging(tissue, sparse.csr_array(sparse.diags_array(scale) @ weights), share > 0)
