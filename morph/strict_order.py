"""A density whose voxels are strictly ordered: no two alike, none 0 inside the brain.

Where a benchmark takes as many of the highest voxels as a plan may have, equal values and zeros leave open which. So
densities from `FLOOR` on keep their values, and equal ones are set apart by single steps of float32, the deeper one
the higher. Below the floor a voxel gets a value below it by its distance to the density's support: a tail that never
overtakes the density. Tissue maps are least certain at the tumor's edge, so the tail takes CSF like tissue. Where it is
not known how far the brain reaches, the tail goes on beyond it, below all that is inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import InputError
from learn.metrics import SUPPORT
from morph.resample import bounding_box

FLOOR = SUPPORT
"""Density [1] below which the tail begins: where a tumor no longer counts as present."""


def order_strictly(
    density: NDArray[np.float32], brain: NDArray[np.bool_], spacing: NDArray[np.float64], beyond: bool = False
) -> NDArray[np.float32]:
    """The density with strictly ordered, positive values in the brain and 0 outside.

    Args:
        density: c [1] in [0, 1], (x, y, z); at least `FLOOR` somewhere in the brain.
        brain: bool (x, y, z).
        spacing: voxel edges [mm], (3,).
        beyond: whether what is outside follows what is in the brain, in place of 0.

    Raises:
        InputError: the density has no support in the brain.
    """
    support = brain & (density >= FLOOR)
    if not support.any():
        raise InputError(f"no density in the brain reaches {FLOOR}: there is nothing to order voxels by")
    ordered = np.zeros(density.shape, dtype=np.float32)
    where = np.ones_like(brain) if beyond else brain
    box = bounding_box(where, 1)
    away, depth = (ndimage.distance_transform_edt(apart, sampling=spacing) for apart in (~support[box], support[box]))
    values, far = np.where(brain, density, 0)[where].astype(np.float32), (away - depth)[where[box]]
    values[values < FLOOR] = 0
    order = np.lexsort((density[where], -far, brain[where], values))
    tail = int(np.count_nonzero(values == 0))
    rising = values[order]
    rising[:tail] = FLOOR * np.arange(1, tail + 1) / (tail + 1)
    values[order] = _set_apart(rising)
    ordered[where] = values
    return ordered


def _set_apart(rising: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positive values (n,) that do not fall, made to rise: each lowered by as few steps of float32 as it takes.

    Positive floats are ordered as their bits are, read as whole numbers.
    """
    place = np.arange(len(rising))
    bits = rising.view(np.int32).astype(np.int64) - place
    apart = np.minimum.accumulate(bits[::-1])[::-1] + place
    return apart.astype(np.int32).view(np.float32)
