"""Fisher-Kolmogorov model of glioma growth.

    ∂c/∂t = ∇·(D ∇c) + ρ c (1 - c)   in tissue,      D = D_w (p_w + p_g / 10),      D ∂c/∂n = 0 at its border

Space: finite volumes on isotropic voxels, six faces, harmonic mean of D at a face; second order. Time: Strang
splitting of an exact logistic and a stabilized diffusion step, second order, see `engine.time_steps`; 0 <= c <= 1.
Scheme `gliomasolver` is the published solver's: forward Euler for everything with dt = 0.99 h² / (6 D_w), not
converged in time; for comparisons only.

The seed is GliomaSolver's smoothed ball, s = (dist - 1.145 mm) / 3.578 mm, c = (1 - s - sin(π s) / π) / 2 for
|s| <= 1, 1 inside and 0 beyond, averaged over every voxel and set in tissue only.

Source: Ezhov et al., Learn-Morph-Infer, Medical Image Analysis 83 (2023) 102672, equations 1-2, and the authors'
published code for the seed and the scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.errors import InputError

SEED_CENTER = 1.145
SEED_WIDTH = 3.578
"""Offset and half-width [mm] of the seed's smooth edge; its support has radius 4.72 mm."""
SEED_SUBSAMPLES = 6


def seed_density(atlas: Atlas, origin: Sequence[float]) -> NDArray[np.float32]:
    """The seed on the grid [1], float32 (x, y, z), 0 outside tissue.

    Args:
        atlas: the brain.
        origin: fraction of the grid's extent along x, y, z.

    Raises:
        InputError: the origin lies outside tissue.
    """
    density = np.zeros(atlas.grid.shape, dtype=np.float32)
    voxels, values = seed_voxels(atlas, origin)
    density[tuple(voxels.T)] = values
    return density


def seed_voxels(atlas: Atlas, origin: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Voxels (n, 3) that the seed reaches, all in tissue, and its density [1] there, float32 (n,).

    Raises:
        InputError: the origin lies outside tissue.
    """
    check_origin(atlas, origin)
    center = atlas.grid.to_voxel(origin)
    reach = (SEED_CENTER + SEED_WIDTH) / atlas.grid.spacing + 1
    low = np.maximum(np.floor(center - reach).astype(int), 0)
    high = np.minimum(np.ceil(center + reach).astype(int) + 1, atlas.grid.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    ball = _average_ball(low, high, center, atlas.grid.spacing).astype(np.float32) * atlas.tissue[box]
    inside = np.argwhere(ball > 0)
    return inside + low, ball[tuple(inside.T)]


@njit(nogil=True, cache=True)
def _average_ball(low, high, center, spacing):  # type: ignore[no-untyped-def]
    """Mean of the smoothed ball over every voxel of a box, from equidistant subsamples, float64 (x, y, z)."""
    n = SEED_SUBSAMPLES
    ball = np.zeros((high[0] - low[0], high[1] - low[1], high[2] - low[2]))
    longest = int((high - low).max())
    squares, nearest = np.empty((3, longest * n)), np.full((3, longest), np.inf)
    for axis in range(3):
        for j in range((high[axis] - low[axis]) * n):
            squares[axis, j] = (low[axis] - 0.5 + (j + 0.5) / n - center[axis]) ** 2
            nearest[axis, j // n] = min(nearest[axis, j // n], squares[axis, j])
    for x, y, z in np.ndindex(ball.shape):
        distance = spacing * sqrt(nearest[0, x] + nearest[1, y] + nearest[2, z])
        if (distance - SEED_CENTER) / SEED_WIDTH >= 1.0:
            continue  # no part of the voxel is reached
        for i in range(x * n, (x + 1) * n):
            for j in range(y * n, (y + 1) * n):
                for k in range(z * n, (z + 1) * n):
                    distance = spacing * sqrt(squares[0, i] + squares[1, j] + squares[2, k])
                    s = max((distance - SEED_CENTER) / SEED_WIDTH, -1.0)
                    if s < 1.0:
                        ball[x, y, z] += 0.5 * (1.0 - s - sin(pi * s) / pi)
    return ball / n**3


def check_origin(atlas: Atlas, origin: Sequence[float]) -> None:
    """Refuse an origin whose voxel is not tissue."""
    if not is_in_tissue(atlas, origin):
        place = tuple(round(float(v), 4) for v in origin)
        raise InputError(f"origin {place} is outside tissue in {atlas.name}: choose a point in white or gray matter")


def is_in_tissue(atlas: Atlas, origin: Sequence[float]) -> bool:
    """Whether the voxel that holds `origin` (fraction of the extent) is tissue."""
    voxel = np.floor(atlas.grid.to_voxel(origin) + 0.5).astype(int)
    inside = bool(np.all(voxel >= 0) and np.all(voxel < atlas.grid.shape))
    return inside and bool(atlas.tissue[tuple(voxel)])
