"""How good a registration is, in numbers that a check can hold against limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import Grid
from morph.registration import Warp
from morph.resample import resample
from morph.volume import Volume

NEAR = 15.0
"""Distance [mm] from the ignored tumor within which displacements count as near it (ours)."""
COORDINATE_STEPS = 16
"""Voxels along an edge of an image of coordinates, less one (ours)."""
INNER = 3.0
"""Depth [mm] in the brain from which on a warp is judged: beyond its surface it is not driven (ours)."""


@dataclass(frozen=True)
class Quality:
    """How well two brains lie on each other after registration, tumor left out.

    Attributes:
        correlation: Pearson correlation of the T1 intensities inside both brains.
        brain_dice: Dice of the two brain masks.
        folded: share of the brain that the warp turns inside out.
        displacement: largest (95th percentile) displacement near the tumor beyond the affine part [mm].
    """

    correlation: float
    brain_dice: float
    folded: float
    displacement: float


def measure_quality(warp: Warp, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_], grid: Grid) -> Quality:
    """Look at a registration.

    Args:
        warp: what was found.
        patient: skull-stripped T1.
        atlas: skull-stripped T1.
        ignore: what the registration did not look at, bool (x, y, z) on the patient's grid.
        grid: lies over the patient's brain; where the warp is sampled.
    """
    correlation, dice = _agreement(warp, patient, atlas, ignore)
    folded, displacement = _deformation(warp, patient, atlas, ignore, grid)
    return Quality(correlation, dice, folded, displacement)


def _agreement(warp: Warp, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation and Dice on the patient's grid."""
    warped = warp.to_patient(atlas, patient, "linear").array
    seen = ~ignore
    ours, theirs = (patient.array > 0) & seen, (warped > 0.01 * atlas.array.max()) & seen
    both = ours & theirs
    total = int(ours.sum()) + int(theirs.sum())
    dice = 2.0 * int(both.sum()) / total if total else 0.0
    if both.sum() < 2 or patient.array[both].std() == 0 or warped[both].std() == 0:
        return 0.0, dice
    return float(np.corrcoef(patient.array[both], warped[both])[0, 1]), dice


def _deformation(
    warp: Warp, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_], grid: Grid
) -> tuple[float, float]:
    """Share of folded voxels, and displacement near the tumor [mm], from the atlas places of the grid's voxels."""
    like = Volume(np.zeros(grid.shape, dtype=np.float32), grid.affine)
    brain = _nearest(patient.with_array(patient.array > 0), like)
    inner = ndimage.distance_transform_edt(brain) * grid.spacing > INNER
    if not inner.any():
        return 1.0, float("inf")
    targets = np.stack([warp.to_patient(axis, like, "linear").array for axis in _coordinates(atlas)])
    slopes = np.stack([np.stack(np.gradient(axis, grid.spacing)) for axis in targets])
    turned = np.linalg.det(np.moveaxis(slopes[:, :, inner], -1, 0)) <= 0
    sources = np.c_[like.to_world(np.argwhere(inner)), np.ones(np.count_nonzero(inner))]
    affine = np.linalg.lstsq(sources, targets[:, inner].T, rcond=None)[0]
    moved = np.linalg.norm(targets[:, inner].T - sources @ affine, axis=1)
    hidden = _nearest(patient.with_array(ignore), like)
    if not hidden.any():
        return float(turned.mean()), 0.0
    near = (ndimage.distance_transform_edt(~hidden) * grid.spacing <= NEAR)[inner]
    return float(turned.mean()), float(np.quantile(moved[near], 0.95)) if near.any() else 0.0


def _coordinates(atlas: Volume) -> list[Volume]:
    """World x, y and z [mm] as images over the atlas: linear, so that few voxels hold them exactly."""
    step = np.ceil((np.array(atlas.array.shape) - 1) / COORDINATE_STEPS)
    affine = atlas.affine @ np.diag([*step, 1.0])
    voxels = np.moveaxis(np.indices((COORDINATE_STEPS + 1,) * 3), 0, -1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return [Volume(np.ascontiguousarray(axis, dtype=np.float32), affine) for axis in np.moveaxis(world, -1, 0)]


def _nearest(mask: Volume, like: Volume) -> NDArray[np.bool_]:
    """A mask at the voxel centers of a grid, bool (x, y, z)."""
    return resample(mask, like, 0).array > 0.5
