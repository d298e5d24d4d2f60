"""How far voxels lie from a mask, straight and on the way that a cell would have to go.

A detour's length comes from the eikonal equation |grad d| = 1, solved twice by first-order fast marching (ITK), with
barriers and without: the difference is what is added to the exact Euclidean distance, so that errors of the scheme
cancel where nothing is in the way. Ways lead through the centers of voxels, half a voxel away from a wall's corner;
behind a wall with a hole they come out 0.3 mm too short to 1.6 mm too long, 0.7 mm on average, at voxels of 1 mm.

Source: Sethian, A fast marching level set method, PNAS 93 (1996) 1591-1595.
"""

from __future__ import annotations

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from morph.resample import bounding_box

Mask = NDArray[np.bool_]
ROOM = 4.0
"""Width [mm] of what is looked at beyond the reach, for ways around its edge (ours)."""
SHELL = 1
"""Voxels of the mask's rim that fast marching sees; its inside is at distance 0 anyhow (ours)."""
BARRED = 1e-12
"""Speed where no way leads; fast marching divides by it and ends long before (ours)."""


def margin_distances(
    core: Mask, medium: Mask, spacing: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far voxels lie from a core, straight and inside a medium.

    Args:
        core: bool (x, y, z), not empty.
        medium: where the way may go, bool (x, y, z), with the core.
        spacing: voxel edges [mm], (3,).
        reach: distances beyond this one [mm] may come out infinite.

    Returns:
        Euclidean distance [mm] between voxel centers, and the same with the detours around what is not medium, inside
        it; both float32 (x, y, z), 0 in the core, infinite where they exceed the reach.
    """
    box = bounding_box(core, int(np.ceil((reach + ROOM) / spacing.min())))
    inner, free = core[box], medium[box]
    straight = ndimage.distance_transform_edt(~inner, sampling=spacing).astype(np.float32)
    near = (straight <= reach) & ~ndimage.binary_erosion(inner, iterations=SHELL)
    reached, unhindered = (_march(inner, inside, spacing, 2 * reach) for inside in (near & free, near))
    detour = np.subtract(reached, unhindered, out=np.full_like(reached, np.inf), where=np.isfinite(reached))
    bent = straight + np.maximum(detour, 0)
    bent[inner] = 0
    direct, around = (np.full(core.shape, np.inf, dtype=np.float32) for _ in range(2))
    direct[box], around[box] = np.where(straight <= reach, straight, np.inf), bent
    return direct, around


def _march(core: Mask, medium: Mask, spacing: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Distance [mm] from the core inside a medium, infinite where no way leads or beyond the limit; (x, y, z)."""
    speed = SimpleITK.GetImageFromArray(np.where(medium, 1.0, BARRED).T)
    speed.SetSpacing(spacing.tolist())
    starts = np.argwhere(core & medium).tolist()
    marching = SimpleITK.FastMarchingImageFilter()
    marching.SetTrialPoints(starts)
    marching.SetInitialTrialValues([0.0] * len(starts))
    marching.SetStoppingValue(limit)
    reached = SimpleITK.GetArrayFromImage(marching.Execute(speed)).T
    return np.where(medium & (reached <= limit), reached, np.inf)
