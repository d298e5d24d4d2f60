"""Several foci: the model has one origin, so only the largest focus is fitted; the others are kept apart.

Parts of the core that lie within `JOIN` of each other count as one focus; the edema goes to the nearest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from morph.resample import bounding_box
from morph.segmentation import Masks
from morph.volume import Volume

JOIN = 5.0
"""Distance [mm] up to which two parts of the core may belong to one tumor (ours)."""
SPECK = 0.5
"""Volume [ml] below which a focus is taken for noise of the outline and left with the largest (ours)."""


@dataclass(frozen=True, eq=False)
class Foci:
    """A tumor in parts.

    Attributes:
        largest: the focus that the model explains, and specks.
        others: the other foci; None where there is none.
        second: volume [ml] of the second largest focus, 0 without one.
    """

    largest: Masks
    others: Masks | None
    second: float


def split_foci(masks: Masks, t1: Volume) -> Foci:
    """Find the largest focus of a tumor on the grid of its T1."""
    box = bounding_box(masks.edema, 1)
    core, edema = masks.core[box], masks.edema[box]
    reach = ndimage.distance_transform_edt(~core, sampling=t1.spacing) <= JOIN / 2
    groups, count = ndimage.label(reach)
    sizes = np.bincount(groups[core], minlength=count + 1) * t1.voxel_volume
    first = int(np.argmax(sizes))
    apart = [group for group in range(1, count + 1) if group != first and sizes[group] >= SPECK]
    second = float(np.sort(sizes)[-2])
    if not apart:
        return Foci(masks, None, second)
    nearest = ndimage.distance_transform_edt(~core, sampling=t1.spacing, return_distances=False, return_indices=True)
    elsewhere = np.isin(groups[tuple(nearest)], apart)
    parts = []
    for part in (~elsewhere, elsewhere):
        inner, outer = np.zeros_like(masks.core), np.zeros_like(masks.edema)
        inner[box], outer[box] = core & part, edema & part
        parts.append(replace(masks, core=inner, edema=outer))
    return Foci(parts[0], parts[1], second)
