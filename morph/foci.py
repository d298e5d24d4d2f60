"""Several foci: the model has one origin, so only the largest focus is fitted; the others are kept apart.

Parts of the core that lie within `JOIN` of each other count as one focus; the edema goes to the nearest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from morph.segmentation import Masks
from morph.volume import Volume

JOIN = 5.0
"""Distance [mm] up to which two parts of the core may belong to one tumor (ours)."""
WHOLE = 0.9
"""Share of the core from which on its largest focus stands for all of it (ours): the rest is noise of the outline."""


@dataclass(frozen=True, eq=False)
class Foci:
    """A tumor in parts.

    Attributes:
        largest: the focus that the model explains; all of the tumor where `share` is at least `WHOLE`.
        others: the rest; None where there is none.
        share: of the core's volume that lies in its largest focus.
    """

    largest: Masks
    others: Masks | None
    share: float


def split_foci(masks: Masks, t1: Volume) -> Foci:
    """Find the largest focus of a tumor on the grid of its T1."""
    box = _bounding_box(masks.edema)
    core, edema = masks.core[box], masks.edema[box]
    reach = ndimage.distance_transform_edt(~core, sampling=t1.spacing) <= JOIN / 2
    groups, count = ndimage.label(reach)
    sizes = np.bincount(groups[core], minlength=count + 1)
    share = float(sizes.max() / sizes.sum())
    if share >= WHOLE:
        return Foci(masks, None, share)
    nearest = ndimage.distance_transform_edt(~core, sampling=t1.spacing, return_distances=False, return_indices=True)
    first = groups[tuple(nearest)] == int(np.argmax(sizes))
    parts = []
    for part in (first, ~first):
        inner, outer = np.zeros_like(masks.core), np.zeros_like(masks.edema)
        inner[box], outer[box] = core & part, edema & part
        parts.append(replace(masks, core=inner, edema=outer))
    return Foci(parts[0], parts[1], share)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, one voxel wider."""
    slices = []
    for axis in range(mask.ndim):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        slices.append(slice(max(int(present[0]) - 1, 0), int(present[-1]) + 2))
    return tuple(slices)
