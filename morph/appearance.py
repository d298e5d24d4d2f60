"""What the patient's images say about themselves and about the masks.

Without a look at the images a mask that is mirrored, or another patient's, fits as well as the right one: a tumor
can be grown anywhere. Edema is bright on FLAIR and the core's rim is bright on T1Gd, brighter than the same place
of the other hemisphere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morph.patient import Patient

FLAIR_QUANTILE = 0.5
CORE_QUANTILE = 0.9
"""Which intensities are compared: the middle one of an edema, the bright ones of a core, whose necrosis is dark."""
LEAST_MIRROR = 0.1
"""Share of a mask whose mirror image must be healthy brain; below, the whole healthy brain is compared with."""
THIN = 1.0
"""Volume [ml] of edema beyond the core below which it is a rim, and the whole edema is looked at (ours)."""
INSET = 3.0
"""Depth [mm] below its outermost voxel at which the brain's section is measured: a complete brain ends round."""


def flair_contrast(patient: Patient) -> float | None:
    """How much brighter FLAIR is inside the edema than in its mirror image [standard deviations of the brain]."""
    if patient.flair is None:
        return None
    beyond = patient.masks.edema & ~patient.masks.core
    is_thin = np.count_nonzero(beyond) * patient.t1.voxel_volume < THIN
    return _contrast(patient.flair.array, patient.masks.edema if is_thin else beyond, patient, FLAIR_QUANTILE)


def core_contrast(patient: Patient) -> float | None:
    """How much brighter the bright parts of the core are on T1Gd than those of its mirror image [likewise]."""
    return None if patient.t1ce is None else _contrast(patient.t1ce.array, patient.masks.core, patient, CORE_QUANTILE)


def t1_contrast(patient: Patient) -> float:
    """How much darker T1 is inside the visible tumor than in its mirror image [likewise]."""
    return -_contrast(patient.t1.array, patient.masks.edema, patient, FLAIR_QUANTILE)


def largest_end(patient: Patient) -> float:
    """The largest section at an end of the brain, as a share of its largest section along the same axis.

    About 0.1 for a brain that ends round, up to 1 for one that the image cuts off.
    """
    brain, spacing = patient.brain, patient.t1.spacing
    worst = 0.0
    for axis in range(3):
        areas = np.count_nonzero(brain, axis=tuple(a for a in range(3) if a != axis))
        present = np.flatnonzero(areas)
        inset = round(INSET / float(spacing[axis]))
        ends = areas[[min(present[0] + inset, present[-1]), max(present[-1] - inset, present[0])]]
        worst = max(worst, float(ends.max() / areas.max()))
    return worst


def _contrast(image: NDArray[np.float32], mask: NDArray[np.bool_], patient: Patient, quantile: float) -> float:
    """Quantile of the image inside the mask less that of its mirror image [standard deviations of the brain]."""
    brain, tumor = patient.brain, patient.masks.edema
    mask = mask & brain
    healthy = brain & ~tumor
    if not mask.any() or not healthy.any():
        return 0.0
    mirrored = _mirror(mask, brain) & healthy
    other = mirrored if np.count_nonzero(mirrored) >= LEAST_MIRROR * np.count_nonzero(mask) else healthy
    width = float(image[brain].std())
    return float(np.quantile(image[mask], quantile) - np.quantile(image[other], quantile)) / width if width else 0.0


def _mirror(mask: NDArray[np.bool_], brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask on the other side of the brain's middle along the R axis."""
    areas = np.count_nonzero(brain, axis=(1, 2))
    middle = float((areas * np.arange(len(areas))).sum() / areas.sum())
    columns = np.round(2 * middle - np.arange(len(areas))).astype(int)
    inside = (columns >= 0) & (columns < len(areas))
    mirrored = np.zeros_like(mask)
    mirrored[inside] = mask[columns[inside]]
    return mirrored
