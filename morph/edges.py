"""Do the outlines lie where FLAIR and T1Gd have their edges?

Masks of another patient, or on the other side, are noticed by what the images show far from them (`morph.appearance`).
Smaller errors are not: masks that lie some millimeters off (an affine that was lost or changed), an edema or a core
that was drawn with a margin (a target volume), a part of the enhancing tumor that was left out of the core. A model is
fitted to such masks as well as to right ones, and nothing that is compared with the masks can tell. The images can.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from morph.checks import Check, at_least, at_most
from morph.outlines import signed_distance
from morph.patient import Patient
from morph.resample import bounding_box
from morph.volume import Volume

INSIDE, OUTSIDE = 3.0, (2.0, 5.0)
"""Depth [mm] of an outline's inner shell, and distances that its outer one begins and ends at: between them lies what
readers differ by (ours)."""
EDGE = 0.25
"""Least step [standard deviations of the brain] of FLAIR across the edema's outline. Ours: on five patients the right
outline has .94 or more, one drawn 2 mm further out .32 or more, 4 mm .28 or less, 7 mm .23 or less."""
CORE_EDGE = 0.25
"""Likewise of T1Gd across the core's outline. Ours: the right one has .69 or more, one 2 mm further out .26 or more;
4 mm further out, in the edema, four of five have .24 or less, but only two of five digital twins."""
DARK = -0.5
"""Below it a core is darker than what is around it: where it does not enhance, or in a thin rim only, its edge says
nothing (ours)."""
RING, MOVE = 6.0, 4.0
"""Width [mm] of the ring that the edema is compared with, and how far the outline is moved each way (ours)."""
WAYS = np.array([way for way in product((-1, 0, 1), repeat=3) if any(way)])
"""The ways that it is moved: along the axes and along the diagonals between them, (26, 3)."""
IN_PLACE = -0.15
"""Least lead [likewise] of the outline's contrast over that of the best moved one. Ours: on five patients the right
outline has .08 or more, 2 mm further in or out -.10 or more; of those 5 and 8 mm off, along any of the ways, 257 of 260
are below it."""
ENHANCING = 0.6
"""Quantile of T1Gd in the core from which on what lies in the edema counts as enhancing, too (ours)."""
ENHANCED = 1.0
"""How far [standard deviations of the brain] above the healthy brain's median T1Gd counts as enhanced at all: a core
may be dark, or mostly necrosis (ours)."""
SLACK = 0.01
"""What [standard deviations of the brain] is less bright by this is as bright, too: a core may be even (ours)."""
APART, SMOOTH = 3.0, 1.0
"""Distance [mm] from the core up to which that is its blurred edge, and the Gauss [mm] against noise (ours)."""
LEFT_OUT = 3.5
"""Volume [ml] of it that is worth a warning. Ours: on five patients right cores leave .3 or less, cores drawn 2 mm
further in or out 2.5 or less; where half of the core was not drawn it is more in eleven of fifteen."""


def check_edges(patient: Patient) -> list[Check]:
    """Are the edema's outline and the core where FLAIR and T1Gd show them?"""
    checks = []
    if patient.flair is not None and (patient.masks.edema & patient.brain).any():
        unit = "in standard deviations of the brain,"
        edge = f"FLAIR just inside the edema less just outside (drawn with a margin?), {unit}"
        place = f"contrast of FLAIR at the edema's outline less the best {MOVE:g} mm away (masks not in place?), {unit}"
        step, lead = edge_contrast(patient, patient.flair, patient.masks.edema), lead_over_moved(patient)
        checks.append(at_least("flair_shows_outline", step, EDGE, -np.inf, edge))
        if lead is not None:
            checks.append(at_least("masks_in_place", lead, IN_PLACE, -np.inf, place))
    if patient.t1ce is not None and (patient.masks.core & patient.brain).any():
        subject = "volume in ml outside the core, in the edema, that T1Gd shows as bright as the core"
        edge = "T1Gd just inside the core less just outside (drawn too large?), in standard deviations of the brain,"
        step = edge_contrast(patient, patient.t1ce, patient.masks.core)
        if step > DARK:
            checks.append(at_least("t1gd_shows_outline", step, CORE_EDGE, -np.inf, edge))
        checks.append(at_most("t1gd_outside_core", enhancement_outside(patient), LEFT_OUT, np.inf, subject))
    return checks


def edge_contrast(patient: Patient, image: Volume, mask: NDArray[np.bool_]) -> float:
    """An image's median just inside a mask's outline less just outside [standard deviations of the brain].

    Args:
        patient: whose brain it is.
        image: on the T1's grid.
        mask: bool (x, y, z).
    """
    spacing = patient.t1.spacing
    box = bounding_box(mask, int(np.ceil((OUTSIDE[1] / spacing).max())) + 1)
    shown, brain, depth = image.array[box], patient.brain[box], signed_distance(mask[box], spacing)
    inner = brain & (depth > 0) & (depth <= INSIDE)
    outer = brain & (depth < -OUTSIDE[0]) & (depth >= -OUTSIDE[1])
    width = float(image.array[patient.brain].std())
    if not (inner.any() and outer.any() and width):
        return 0.0
    return float(np.median(shown[inner]) - np.median(shown[outer])) / width


def lead_over_moved(patient: Patient) -> float | None:
    """How much more FLAIR differs inside and around the edema than inside and around a moved one [likewise].

    The mean inside less that in a ring around, both in the brain, less the highest of the outline moved each way;
    None where one of them has nothing inside or around, or FLAIR is even.
    """
    spacing, brain = patient.t1.spacing, patient.brain
    shifts = [np.rint(MOVE * way / np.linalg.norm(way) / spacing).astype(int) for way in WAYS]
    box = bounding_box(patient.masks.edema, int(np.ceil((RING / spacing).max())) + 1)
    depth = signed_distance(patient.masks.edema[box], spacing)
    room = np.max(shifts, axis=0)
    image, shown = (np.pad(array, [(r, r) for r in room]) for array in (_flair(patient), brain))
    corner = room + [side.start for side in box]
    inside, around = (np.argwhere(part) + corner for part in (depth > 0, (depth < 0) & (depth > -RING)))

    def mean(places: NDArray[np.int64]) -> float:
        at = tuple(places.T)
        return float(image[at].mean(where=shown[at])) if shown[at].any() else np.nan

    def contrast(shift: NDArray[np.int64]) -> float:
        return mean(inside + shift) - mean(around + shift)

    width = float(_flair(patient)[brain].std())
    lead = contrast(0 * room) - np.max([contrast(shift) for shift in shifts])
    return lead / width if width and np.isfinite(lead) else None


def enhancement_outside(patient: Patient) -> float:
    """Volume [ml] of the largest region in the edema, well outside the core, that is as bright on T1Gd as the core."""
    assert patient.t1ce is not None
    masks, spacing = patient.masks, patient.t1.spacing
    box = bounding_box(masks.edema | masks.core, 1)
    image, core, brain = patient.t1ce.array, masks.core[box], patient.brain[box]
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(image[box], SMOOTH / spacing)
    healthy = image[patient.brain & ~masks.edema]
    if not healthy.size:
        return 0.0
    width, normal = image[patient.brain].std(), np.median(healthy)
    bright = max(np.quantile(smooth[core & brain], ENHANCING) - SLACK * width, normal + ENHANCED * width)
    apart = signed_distance(core, spacing) < -APART
    regions, count = ndimage.label((smooth > bright) & apart & masks.edema[box] & brain)
    largest = np.bincount(regions.ravel())[1:].max() if count else 0
    return float(largest) * patient.t1.voxel_volume


def _flair(patient: Patient) -> NDArray[np.float32]:
    assert patient.flair is not None
    return patient.flair.array
