"""Several foci: the model has one origin, so only the largest focus is fitted; the others are kept apart.

Parts of the core that lie within `JOIN` of each other count as one focus; the edema goes to the nearest one, and specks
of core with it. A part of the edema that is further than `JOIN` from any edema with a core in it, or with a speck at
most, is a focus of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from morph.resample import bounding_box
from morph.segmentation import Masks
from morph.volume import Volume

JOIN = 5.0
"""Distance [mm] up to which two parts may belong to one tumor (ours)."""
SPECK = 0.5
"""Volume [ml] below which a focus is taken for noise of the outline and left with the largest (ours)."""


@dataclass(frozen=True, eq=False)
class Unfitted:
    """What is seen and not explained by the model.

    Attributes:
        core: bool (x, y, z); empty where nothing but edema is seen.
        edema: bool (x, y, z), contains the core.
    """

    core: NDArray[np.bool_]
    edema: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Foci:
    """A tumor in parts.

    Attributes:
        largest: the focus that the model explains, and specks.
        others: the other foci; None where there is none.
        second: volume [ml] of the second largest focus, 0 without one.
    """

    largest: Masks
    others: Unfitted | None
    second: float


def split_foci(masks: Masks, t1: Volume) -> Foci:
    """Find the largest focus of a tumor on the grid of its T1; one without a core is left whole, nothing is fitted."""
    if not masks.core.any():
        return Foci(masks, None, 0.0)
    box = bounding_box(masks.edema, 1)
    core, edema, brain = masks.core[box], masks.edema[box], t1.array[box] > 0
    groups, sizes = _joined(core, brain, t1)
    fitted = int(np.argmax(sizes))
    apart = [group for group in np.flatnonzero(sizes >= SPECK) if group != fitted]
    cores = core & np.isin(groups, [fitted, *apart])
    regions, extents = _joined(edema, brain, t1)
    extents[regions[cores]] = 0  # the others show no core, or a speck of one
    coreless = np.flatnonzero(extents >= SPECK)
    second = float(max(np.sort(sizes)[-2], extents.max()))
    if not apart and not len(coreless):
        return Foci(masks, None, second)
    nearest = ndimage.distance_transform_edt(~cores, sampling=t1.spacing, return_distances=False, return_indices=True)
    elsewhere = np.isin(groups[tuple(nearest)], apart) | np.isin(regions, coreless)
    parts = []
    for part in (~elsewhere, elsewhere):
        inner, outer = np.zeros_like(masks.core), np.zeros_like(masks.edema)
        inner[box], outer[box] = core & part, edema & part
        parts.append((inner, outer))
    (core, edema), others = parts
    return Foci(replace(masks, core=core, edema=edema), Unfitted(*others), second)


def _joined(
    mask: NDArray[np.bool_], brain: NDArray[np.bool_], t1: Volume
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Parts of a mask within `JOIN` of each other: numbers from 1 on, (x, y, z), and volumes [ml] inside the brain."""
    groups, count = ndimage.label(ndimage.distance_transform_edt(~mask, sampling=t1.spacing) <= JOIN / 2)
    volumes = np.asarray(np.bincount(groups[mask & brain], minlength=count + 1) * t1.voxel_volume, dtype=np.float64)
    return groups.astype(np.int32), volumes
