"""Where a pushed brain's tissue came from, and where tissue at rest goes.

The mass-effect model carries tissue with the velocity ∂u/∂t at fixed points, so u(x) is neither where the tissue at x
came from nor where it went. If the push only grows in strength, u(x, t) = g(t) u(x), both are exact flows: tissue that
was at X is now at exp(u)(X), and what is at x was at exp(-u)(x). The flow of a stationary velocity is found by
squaring: exp(u) = exp(u / 2^n)^(2^n). In three brains pushed by up to 16 mm, fractions that were brought along so lie
as near to the model's own as with x - u(x) (mean distance .05-.08 where tissue moved by 2 mm or more), and forth and
back cancel to 0.1 mm in the mean; they cannot where u folds.

Source of the squaring: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms (MICCAI 2006).
"""

from __future__ import annotations

from math import ceil, log2

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from engine import Atlas, Grid
from engine.grid import block_mean
from engine.mass_effect import DISPLACEMENT_SPACING
from morph.volume import Volume

Vectors = NDArray[np.float32]
SMALLEST = 0.25
"""Displacement [voxels] that is small enough to begin the squaring with (ours)."""
WIDTH = DISPLACEMENT_SPACING
"""Voxel [mm] on which a flow is found for a finer one: that of the displacement itself."""
KNOWN = 0.05
"""Fractions that sum to less than this after they were moved say nothing: such a voxel of the brain is CSF (ours)."""


def flow(displacement: Vectors, spacing: float) -> Vectors:
    """How far the flow of a displacement brings what is at a place [mm], float32 (3, x, y, z).

    Args:
        displacement: u [mm] at voxel centers, (3, x, y, z); -u gives the way back.
        spacing: voxel edge [mm].
    """
    furthest = float(np.abs(displacement).max()) / spacing
    squarings = max(0, ceil(log2(furthest / SMALLEST))) if furthest > 0 else 0
    steps = (displacement / (spacing * 2**squarings)).astype(np.float32)
    for _ in range(squarings):
        steps = steps + np.stack([look_up(part, steps) for part in steps])
    return steps * np.float32(spacing)


def look_up(values: NDArray[np.float32], steps: Vectors, order: int = 1) -> NDArray[np.float32]:
    """`values` (x, y, z) at x + steps(x) [voxels, (3, x, y, z)], continued beyond the edge.

    Args:
        values: at voxel centers.
        steps: how far from each center to look.
        order: 1 linear, 0 nearest neighbor (for labels).
    """
    places = np.indices(values.shape, dtype=np.float32) + steps
    return np.asarray(ndimage.map_coordinates(values, places, order=order, mode="nearest"), dtype=np.float32)


def moved_volume(volume: Volume, displacement: Vectors, order: int = 1) -> Volume:
    """The volume at x + displacement(x), for world vectors [mm] at its own voxel centers, (3, x, y, z)."""
    return volume.with_array(look_up(volume.array, in_voxels(displacement, volume.affine), order))


def in_voxels(displacement: Vectors, affine: NDArray[np.float64]) -> Vectors:
    """World vectors [mm], (3, x, y, z), as steps along the voxel axes of an affine [voxels]."""
    return np.tensordot(np.linalg.inv(affine[:3, :3]), displacement, axes=1).astype(np.float32)


def at_points(displacement: Vectors, grid: Grid, affine: NDArray[np.float64], shape: tuple[int, ...]) -> Vectors:
    """Vectors of `grid`, (3, x, y, z), at other voxel centers of the same world, linear; components are not turned.

    Args:
        displacement: world vectors at the grid's voxel centers.
        grid: where they are.
        affine: voxel index -> world [mm] of where they are wanted, (4, 4).
        shape: of the result, without its first axis.
    """
    step = np.linalg.inv(grid.affine) @ affine
    parts = [
        ndimage.affine_transform(d, step[:3, :3], step[:3, 3], shape, order=1, mode="nearest") for d in displacement
    ]
    return np.stack(parts).astype(np.float32)


def flow_onto(
    displacement: Vectors, grid: Grid, affine: NDArray[np.float64], shape: tuple[int, ...], width: float = WIDTH
) -> Vectors:
    """`flow` of a displacement of `grid` at other voxel centers (see `at_points`), found on voxels of about `width`."""
    factor = max(1, round(width / grid.spacing))
    if any(n % factor for n in grid.shape):
        factor = 1
    means = np.stack([block_mean(part, factor) for part in displacement])
    coarse = grid.coarsened(factor)
    return at_points(flow(means, coarse.spacing), coarse, affine, shape)


def moved_origin(origin: ArrayLike, displacement: Vectors, grid: Grid) -> NDArray[np.float64]:
    """A place (fractions of the grid's extent), moved by the displacement [mm] there, (3,)."""
    voxel = grid.to_voxel(origin)
    by = [ndimage.map_coordinates(part, voxel[:, None], order=1, mode="nearest")[0] for part in displacement]
    return np.asarray(origin, dtype=np.float64) + np.asarray(by) / grid.extent


def moved_atlas(atlas: Atlas, displacement: Vectors) -> Atlas:
    """The brain whose tissue at x is that of `atlas` at x + displacement(x) [mm, (3, x, y, z)]; the skull stays."""
    if not displacement.any():
        return atlas
    steps = displacement / np.float32(atlas.grid.spacing)
    maps = [look_up(m, steps) for m in (atlas.white_matter, atlas.gray_matter, atlas.csf)]
    total = maps[0] + maps[1] + maps[2]
    known = total >= KNOWN
    white, gray, csf = (
        np.where(atlas.brain, np.divide(m, total, out=np.zeros_like(m), where=known), 0).astype(np.float32)
        for m in maps
    )
    return Atlas(white, gray, np.where(atlas.brain & ~known, 1, csf), atlas.grid, f"{atlas.name} at rest")
