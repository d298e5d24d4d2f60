"""What is delivered when the model's answer is rejected: a density that only knows the distance to the masks.

The two visible edges get the middles of the thresholds' ranges, 0.675 at the core's and 0.275 at the edema's;
between them the density is interpolated by distance, outside it decays exponentially over 5 mm (ours; it reaches
0.015 at the 15 mm of a standard clinical margin), inside the core it rises to 1 over 10 mm. Where the tissue is known,
the distance outside the edema is that of a way around CSF, up to 30 mm, and nothing lies in CSF. Where no atlas could
be registered, the T1's dark parts are taken for CSF, if its brain has the volume of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE
from morph.checks import Check
from morph.distances import margin_distances
from morph.foci import Unfitted
from morph.patient import Patient
from morph.segmentation import Masks
from morph.tissue import Tissue, show_tumor_as_tissue, tissue_by_brightness
from morph.volume import Volume

DECAY = 5.0
RISE = 10.0
"""Lengths [mm] over which the density falls outside the edema and rises inside the core."""
REACH = 30.0
"""Longest way [mm] around CSF; the density is 0.0007 there."""


def tissue_without_atlas(patient: Patient, checks: Sequence[Check]) -> Tissue | None:
    """The patient's own tissue, or what its T1's brightness says; None if that may not be a brain (`brain_volume`)."""
    if patient.tissue is not None:
        return show_tumor_as_tissue(patient.tissue, patient.masks.edema & patient.brain)
    is_brain = ("brain_volume", "pass") in {(check.name, check.verdict) for check in checks}
    return tissue_by_brightness(patient.t1, patient.masks.edema) if is_brain else None


def distance_density(
    masks: Masks | Unfitted, t1: Volume, matter: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Density [1] from the masks alone, float32 (x, y, z) on the T1's grid, 0 outside its brain.

    Args:
        masks: of what is seen; without a core the edema's edge is all that is known.
        t1: skull-stripped.
        matter: where there is tissue, bool (x, y, z), if that is known.
    """
    core_edge, edema_edge = float(np.mean(CORE_THRESHOLD_RANGE)), float(np.mean(EDEMA_THRESHOLD_RANGE))
    spacing = t1.spacing
    brain = t1.array > 0
    from_core = ndimage.distance_transform_edt(~masks.core, sampling=spacing) if masks.core.any() else np.inf
    if matter is None:
        from_edema = ndimage.distance_transform_edt(~masks.edema, sampling=spacing)
    else:
        from_edema = margin_distances(masks.edema, matter & brain | masks.edema, spacing, REACH)[1]
    depth_in_core = ndimage.distance_transform_edt(masks.core, sampling=spacing)
    to_edge = ndimage.distance_transform_edt(masks.edema, sampling=spacing)
    share = 1 - to_edge / np.maximum(from_core + to_edge, 1e-6)
    density = np.where(
        masks.core,
        core_edge + (1 - core_edge) * np.minimum(depth_in_core / RISE, 1.0),
        np.where(masks.edema, core_edge + (edema_edge - core_edge) * share, edema_edge * np.exp(-from_edema / DECAY)),
    )
    return np.where(brain, density, 0.0).astype(np.float32)
