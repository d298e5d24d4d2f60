"""What the patient's images say about themselves and about the masks.

Without a look at the images a mask that is mirrored, or another patient's, fits as well as the right one: a tumor
can be grown anywhere. Edema is bright on FLAIR and the core's rim is bright on T1Gd, brighter than the same place
of the other hemisphere. And what FLAIR shows in one hemisphere only is tumor, so it lies in the edema: a mask that
happens to cover part of it is noticed by the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from morph.patient import Patient

FLAIR_QUANTILE = 0.5
CORE_QUANTILE = 0.9
"""Which intensities are compared: the middle one of an edema, the bright ones of a core, whose necrosis is dark."""
LEAST_MIRROR = 0.1
"""Share of a mask whose mirror image must be healthy brain; below, the whole healthy brain is compared with."""
SMOOTH = 3.0
"""Gauss [mm] that FLAIR is smoothed by before regions are looked for in it: a fifth of a small focus (ours)."""
BRIGHT, BRIGHTER = 1.0, 1.5
"""How far [standard deviations of the brain] a region is above FLAIR's median, and above its mirror image (ours: on
five patients only tumor is both)."""
AWAY = 5.0
"""Distance [mm] from the edema up to which brightness is its blurred edge (ours: twice what readers differ by)."""
TILT = 6.0
"""How far [mm] along each axis the mirror image may be off: heads are tilted, and lie beside the middle (ours)."""
COARSE = 2.0
"""Voxel edge [mm] that the brain's ends are measured with, if it has no longer ones, and thickness of the sections."""
INSET = 3.0
"""Depth [mm] below its outermost voxel at which the brain's section is measured: a complete brain ends round."""
FACETS = 20
"""Of the convex hull, the largest ones: a plane that cuts the brain off lies in some of them (ours)."""


def flair_contrast(patient: Patient) -> float | None:
    """How much brighter FLAIR is inside the edema than in its mirror image [standard deviations of the brain].

    Of the edema without the core, whose necrosis may be dark, and of all of it, because the errors of two outlines may
    put a thin rim beside the edema, whichever says more.
    """
    if patient.flair is None:
        return None
    masks = patient.masks
    places = (masks.edema & ~masks.core, masks.edema)
    said = [_contrast(patient.flair.array, m, patient, FLAIR_QUANTILE) for m in places if (m & patient.brain).any()]
    return max(said, default=0.0)


def flair_outside(patient: Patient) -> float | None:
    """Volume [ml] of the largest region well outside the edema that is bright on FLAIR, and not on the other side."""
    if patient.flair is None:
        return None
    brain, spacing = patient.brain, patient.t1.spacing
    flair, share = (
        ndimage.gaussian_filter(np.where(brain, image, 0).astype(np.float32), SMOOTH / spacing)
        for image in (patient.flair.array, 1.0)
    )
    flair = np.where(brain, flair / np.maximum(share, 1e-6), 0)
    reach = tuple(2 * np.round(TILT / spacing).astype(int) + 1)
    other = ndimage.maximum_filter(mirrored_image(flair, brain), size=reach)
    values = patient.flair.array[brain]
    width = float(values.std())
    lone = brain & (flair > np.median(values) + BRIGHT * width) & (flair > other + BRIGHTER * width)
    lone &= ndimage.distance_transform_edt(~patient.masks.edema, sampling=spacing) > AWAY
    regions, count = ndimage.label(lone)
    largest = np.bincount(regions[lone]).max() if count else 0
    return float(largest) * patient.t1.voxel_volume


def core_contrast(patient: Patient) -> float | None:
    """How much brighter the bright parts of the core are on T1Gd than those of its mirror image [likewise]."""
    if patient.t1ce is None or not patient.masks.core.any():
        return None
    return _contrast(patient.t1ce.array, patient.masks.core, patient, CORE_QUANTILE)


def t1_contrast(patient: Patient) -> float:
    """How much darker T1 is inside the visible tumor than in its mirror image [likewise]."""
    return -_contrast(patient.t1.array, patient.masks.edema, patient, FLAIR_QUANTILE)


def largest_end(patient: Patient) -> float:
    """The largest section at an end of the brain, as a share of the largest one parallel to it.

    The ends are where its convex hull is flattest. Ours: .17 to .31 for seven whole brains (up to .40 in
    slices of 5 mm), .32 to .48 where 10 mm are cut off in any direction, .52 to .70 where 20 mm are; up to 1. A brain
    without a hull has 1.
    """
    steps = np.maximum(np.round(COARSE / patient.t1.spacing).astype(int), 1)
    places = np.argwhere(patient.brain[:: steps[0], :: steps[1], :: steps[2]]) * (steps * patient.t1.spacing)
    try:
        hull = ConvexHull(places)
    except (QhullError, ValueError):  # a few voxels, or all of them in a plane
        return 1.0
    first, second, third = places[hull.simplices].swapaxes(0, 1)
    flattest = np.argsort(-np.linalg.norm(np.cross(second - first, third - first), axis=1))[:FACETS]
    thickness = max(COARSE, float((steps * patient.t1.spacing).max()))
    return max(_end_section(places, normal, thickness) for normal in hull.equations[flattest, :3])


def _end_section(places: NDArray[np.float64], outward: NDArray[np.float64], thickness: float) -> float:
    """The section `INSET` below the end in a direction (3,), as a share of the largest; places (n, 3) [mm]."""
    heights = places @ outward
    above = int(np.ceil(INSET / thickness))  # number of thinner sections beyond it
    sections = np.bincount(((heights.max() - heights - INSET) // thickness).astype(int) + above)
    return float(sections[above] / sections.max()) if len(sections) > above else 1.0


def _contrast(image: NDArray[np.float32], mask: NDArray[np.bool_], patient: Patient, quantile: float) -> float:
    """Quantile of the image inside the mask less that of its mirror image [standard deviations of the brain]."""
    brain, tumor = patient.brain, patient.masks.edema
    mask = mask & brain
    healthy = brain & ~tumor
    if not mask.any() or not healthy.any():
        return 0.0
    mirrored = mirrored_image(mask, brain) & healthy
    other = mirrored if np.count_nonzero(mirrored) >= LEAST_MIRROR * np.count_nonzero(mask) else healthy
    width = float(image[brain].std())
    return float(np.quantile(image[mask], quantile) - np.quantile(image[other], quantile)) / width if width else 0.0


def mirrored_image(image: NDArray, brain: NDArray[np.bool_]) -> NDArray:
    """The image, (x, y, z), on the other side of the brain's middle along the R axis; 0 where there is none."""
    areas = np.count_nonzero(brain, axis=(1, 2))
    middle = float((areas * np.arange(len(areas))).sum() / areas.sum())
    columns = np.round(2 * middle - np.arange(len(areas))).astype(int)
    inside = (columns >= 0) & (columns < len(areas))
    mirrored = np.zeros_like(image)
    mirrored[inside] = image[columns[inside]]
    return mirrored
