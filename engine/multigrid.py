"""The grids on which the displacement is solved, and one V-cycle over them.

A level holds the staggered elastic operator A (h² times minus the equation's) for its own Lame fields, which are the
means over a coarse cell's part of the brain. Smoothing is Chebyshev's polynomial in diag(A)⁻¹ A and the restriction is
the transpose of the interpolation, so the cycle is a symmetric positive operator, as conjugate gradients need.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.kernels import elasticity as kernels
from engine.kernels import multigrid as transfers

Fields = NDArray[np.floating]

SMOOTHING = 3
"""Chebyshev steps before and after a coarse correction (chosen by us: the fastest of 2 to 6)."""
SMOOTHED_BAND = 12.0
"""Ratio of the largest eigenvalue of diag(A)⁻¹ A to the smallest that the smoother damps (likewise)."""
COARSEST = 8
"""Cells along the shortest edge below which a level is not coarsened again."""
COARSEST_STEPS = 24
COARSEST_BAND = 256.0
"""Chebyshev steps on the coarsest level, and the band that they damp: nearly a solution, at 2% of the cost."""


class Level:
    """One grid of the hierarchy.

    Attributes:
        inside: 1 in the cells of the brain, 0 elsewhere, (x, y, z).
        free: 1 on the faces between two cells of the brain, 0 on the others, which are held; (3, x, y, z).
        edge_share: what the sum of the brain's cells around each edge is multiplied by, (3, x, y, z); see
            `_edge_share`.
    """

    def __init__(self, brain: NDArray[np.bool_], dtype: type) -> None:
        """Lay out the arrays for a brain, bool (x, y, z), False in the outermost layer."""
        self.inside: Fields = brain.astype(dtype)
        vector = (3, *brain.shape)
        self.free = np.zeros(vector, dtype)
        for axis in range(3):
            self.free[axis] = self.inside * np.roll(self.inside, 1, axis)
        self.lam: Fields = np.zeros(brain.shape, dtype)
        self.mu: Fields = np.zeros(brain.shape, dtype)
        self.edge, self.scale = np.zeros(vector, dtype), np.zeros(vector, dtype)
        self.u, self.b, self.r, self._step = (np.zeros(vector, dtype) for _ in range(4))
        self._zero = np.zeros(vector, dtype)
        self.span = _plane_spans(brain)
        self.rows = (self.free > 0).any((0, 3))
        self.edge_share = np.stack([_edge_share(self.inside, *axes) for axes in ((0, 1), (0, 2), (1, 2))])
        self.largest = 0.0

    @property
    def can_coarsen(self) -> bool:
        """Whether a coarser level is worth having."""
        return min(self.inside.shape) >= 2 * COARSEST and not any(n % 2 for n in self.inside.shape)

    def assemble(self, lam: Fields, mu: Fields) -> None:
        """Take the Lame fields [kPa] of the cells, (x, y, z)."""
        np.multiply(lam, self.inside, out=self.lam)
        np.multiply(mu, self.inside, out=self.mu)
        kernels.assemble(self.lam, self.mu, self.edge_share, self.free, self.edge, self.scale)
        ratio = max(float(np.max(self.lam / np.maximum(self.mu, np.finfo(self.mu.dtype).tiny))), 0.0)
        self.largest = 2 + (8 * ratio + 4) / (2 * ratio + 6)

    def residual(self, b: Fields, u: Fields, out: Fields) -> None:
        """Write out = b - A u on the free faces."""
        lam, mu, edge, free = (_planes(field) for field in (self.lam, self.mu, self.edge, self.free))
        kernels.residual(_planes(b), _planes(u), lam, mu, edge, free, self.span, self.lam.shape[2], _planes(out))

    def apply(self, u: Fields, out: Fields) -> None:
        """Write out = -A u on the free faces."""
        self.residual(self._zero, u, out)

    def smooth(self, steps: int, band: float, from_zero: bool) -> None:
        """Improve `u` towards A u = `b` by Chebyshev steps that damp eigenvalues in [largest / band, largest]."""
        kind, nz = self.u.dtype.type, self.u.shape[3]
        b, u, lam, mu, edge, scale, step = (
            _planes(f) for f in (self.b, self.u, self.lam, self.mu, self.edge, self.scale, self._step)
        )
        center, radius = self.largest * (1 + 1 / band) / 2, self.largest * (1 - 1 / band) / 2
        keep, add, rho = 0.0, 1 / center, radius / center
        for done in range(steps):
            if done == 0 and from_zero:
                kernels.relax_first(b.ravel(), u.ravel(), scale.ravel(), step.ravel(), kind(add))
            else:
                kernels.relax(b, u, lam, mu, edge, scale, self.span, nz, kind(keep), kind(add), step)
            following = 1 / (2 * center / radius - rho)
            keep, add, rho = following * rho, 2 * following / radius, following


def v_cycle(levels: list[Level]) -> Fields:
    """The approximate solution of A u = b for the finest level's `b`; it is the level's own `u`."""
    for fine, coarse in pairwise(levels):
        fine.smooth(SMOOTHING, SMOOTHED_BAND, from_zero=True)
        fine.residual(fine.b, fine.u, fine.r)
        transfers.restrict(fine.r, coarse.free, coarse.rows, coarse.b)
    levels[-1].smooth(COARSEST_STEPS, COARSEST_BAND, from_zero=True)
    for coarse, fine in pairwise(reversed(levels)):
        transfers.prolong_add(coarse.u, fine.u, fine.free, fine.rows)
        fine.smooth(SMOOTHING, SMOOTHED_BAND, from_zero=False)
    return levels[0].u


def _edge_share(inside: Fields, first: int, second: int) -> Fields:
    """1 / number of the brain's cells around each edge that the lower faces along two axes share; 1 at a flat wall.

    A wall has two cells on one side. What moves along it does so half a cell from where it is held, not a whole one,
    so the shear there is twice the difference: the sum of both cells instead of their mean.
    """
    behind, below = np.roll(inside, 1, first), np.roll(inside, 1, second)
    around = inside + behind + below + np.roll(behind, 1, second)
    flat = (around == 2) & (inside != np.roll(behind, 1, second))
    return np.where(flat, 1, 1 / np.maximum(around, 1)).astype(inside.dtype)


class Coarsening:
    """Means over the brain's part of the 2x2x2 cells of every coarse cell.

    Attributes:
        brain: coarse cells of which at least half is brain, without the outermost layer, bool (x, y, z).
        share: 1 / number of the brain's cells in each coarse cell (1 where there are none), (x, y, z).
    """

    def __init__(self, inside: Fields) -> None:
        """Prepare for a brain: 1 in its cells, 0 elsewhere, an even number of cells along each axis."""
        shape = tuple(n // 2 for n in inside.shape)
        count = np.zeros(shape, inside.dtype)
        transfers.coarse_mean(inside, np.ones_like(count), count)
        self.share = 1 / np.maximum(count, 1)
        self.brain = np.zeros(shape, dtype=bool)
        self.brain[1:-1, 1:-1, 1:-1] = count[1:-1, 1:-1, 1:-1] >= 4

    def mean(self, values: Fields) -> Fields:
        """The means of a cell field that is 0 outside the brain."""
        out = np.zeros_like(self.share)
        transfers.coarse_mean(values, self.share, out)
        return out


def _planes(field: Fields) -> Fields:
    """A view (..., x, y z) of a field (..., x, y, z)."""
    return field.reshape(*field.shape[:-2], -1)


def _plane_spans(brain: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each plane of constant x the flat part that its stresses and faces need, int64 (2, x); low = high: none."""
    around = np.logical_or(brain, np.roll(brain, 1, 0))
    filled = np.logical_or(around, np.roll(around, 1, 1)).any(axis=2)
    low, high = filled.argmax(1), filled.shape[1] - filled[:, ::-1].argmax(1)
    nz = brain.shape[2]
    spans = np.stack([np.maximum(low, 1) * nz, np.minimum(high, filled.shape[1] - 1) * nz])
    return np.where(filled.any(axis=1), spans, 0).astype(np.int64)
