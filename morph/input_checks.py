"""Named checks of what goes in: images, masks, and how the atlas came to lie on them (limits as in `morph.checks`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from morph.alignment import check_images, check_series
from morph.appearance import core_contrast, flair_contrast, flair_outside, largest_end, t1_contrast
from morph.checks import Check, at_least, at_most, dice
from morph.edges import check_edges
from morph.foci import SPECK, Foci
from morph.nesting import nesting
from morph.patient import Patient
from morph.quality import Quality
from morph.tissue import Tissue

BRAIN_VOLUME = (900.0, 2000.0)
"""Volumes [ml] that stripped adult brains have with their CSF, widely taken (ours; SRI24 has 1452, MNI152 1887)."""

UNCHECKED = {
    "flair": Check(
        "masks_can_be_checked", 0.0, 1.0, "warn",
        "without FLAIR nothing shows for sure whether these masks are this patient's, on the right side: give flair=",
    ),
    "t1ce": Check(
        "core_can_be_checked", 0.0, 1.0, "warn",
        "without T1Gd nothing shows whether the core is drawn as large as it is, and where it is: give t1ce=",
    ),
}  # fmt: skip
"""What is said of masks that come without an image: without FLAIR `benches/foreign_masks.py` has mirrored and foreign
ones that pass for right; without T1Gd half a core does, or one elsewhere in the edema."""


def check_patient(patient: Patient) -> list[Check]:
    """Are the images those of a whole brain, and do the masks lie where the images show a tumor?"""
    coarsest = max(float(patient.t1.spacing.max()), patient.mask_spacing)
    return [
        *check_inputs(patient.masks.core, patient.masks.edema, patient.brain),
        check_core(patient),
        *check_nesting(patient),
        check_volume(float(np.count_nonzero(patient.brain)) * patient.t1.voxel_volume),
        at_most("voxel_size", coarsest, 2.5, 8.0, "longest voxel edge of the T1 and of the masks as given in mm"),
        at_most("brain_complete", largest_end(patient), 0.35, 0.70, "largest end section of the brain, as a share,"),
        *check_images(patient),
        *check_appearance(patient),
        *check_edges(patient),
        *check_series(patient),
    ]


def check_cube(share: float) -> Check:
    """Does all of the brain fit into the cube that tumors are simulated in (`morph.scene.share_in_cube`)?"""
    return at_least("brain_in_cube", share, 1.0, 1.0, "part of the T1's brain inside the cube that is simulated")


def check_inputs(core: NDArray[np.bool_], edema: NDArray[np.bool_], brain: NDArray[np.bool_]) -> list[Check]:
    """Do the patient's masks lie in the patient's brain, and do they show two things? All bool (x, y, z)."""
    total = max(int(edema.sum()), 1)
    inside, beyond = int((edema & brain).sum()) / total, int((edema & ~core).sum()) / total
    return [
        at_least("masks_in_brain", inside, 0.95, 0.5, "share of the masks inside the brain of the T1"),
        at_least("edema_beyond_core", beyond, 0.01, -np.inf, "share of the edema mask that is not core"),
    ]


def check_core(patient: Patient) -> Check:
    """Is there a core? The model is fitted to two outlines; an edema alone leaves it open, and gets a fallback."""
    found = float(np.count_nonzero(patient.masks.core)) * patient.t1.voxel_volume
    if found == 0:
        return Check("core_visible", 0.0, 0.0, "fail", "no core is given: nothing is fitted to an edema alone")
    return Check("core_visible", found, 0.0, "pass", f"{found:.3g} ml of core (necrosis or enhancing tumor) are given")


def check_nesting(patient: Patient) -> list[Check]:
    """Does the core lie inside the edema? Labels in another order, or exchanged masks, turn the tumor inside out.

    An edema as small as a speck is no reason to reject: labels in another order may leave one, or a coarse outline.
    """
    beyond = patient.masks.edema & ~patient.masks.core & patient.brain
    if not beyond.any() or not patient.masks.core.any():
        return []
    rejected = 1.15 if np.count_nonzero(beyond) * patient.t1.voxel_volume >= SPECK else -np.inf
    subject = (
        "depth of the core in the tumor over that of the edema, or twice the edema's share of the outline, (right "
        "masks: 1.5 or more; are core and edema exchanged, or the labels in another order? then give labels=)"
    )
    return [at_least("core_inside_edema", nesting(patient), 1.3, rejected, subject)]


def check_volume(volume: float) -> Check:
    """Is the T1's positive part [ml] a brain? A head that was not skull-stripped is larger."""
    low, high = BRAIN_VOLUME
    if volume < low:
        return at_least("brain_volume", volume, low, -np.inf, "volume of the T1's brain in ml")
    subject = "volume of the T1's brain in ml (skull-stripped? HD-BET does it, brain=FILE takes its mask)"
    return at_most("brain_volume", volume, high, 1.25 * high, subject)


def check_appearance(patient: Patient) -> list[Check]:
    """Do FLAIR and T1Gd, or without them T1, show a tumor inside the masks, and FLAIR none elsewhere?

    On five patients, whose outlines were also moved by up to 2 mm, right masks have a FLAIR contrast of 1.36 or more,
    a T1Gd contrast of 1.52 or more (five digital twins: 1.05) and less than 1 ml outside.
    """
    unit = "in standard deviations of the brain,"
    checks = []
    flair, outside, core = flair_contrast(patient), flair_outside(patient), core_contrast(patient)
    if flair is not None and outside is not None:
        subject = f"FLAIR in the edema less its mirror image, {unit}"
        checks.append(at_least("flair_shows_edema", flair, 1.0, 0.5, subject))
        subject = "volume in ml well outside the edema that FLAIR shows bright on one side of the brain only"
        checks.append(at_most("flair_outside_masks", outside, 2.0, 10.0, subject))
    if core is not None:
        subject = f"bright parts of T1Gd in the core less its mirror image, {unit}"
        doubted = any(check.verdict != "pass" for check in checks)  # by FLAIR; alone, T1Gd may show no enhancement
        checks.append(at_least("t1gd_shows_core", core, 0.8, 0.0 if doubted else -np.inf, subject))
    checks += [check for role, check in UNCHECKED.items() if getattr(patient, role) is None]
    if patient.flair is None and patient.t1ce is None:
        subject = f"darkness of T1 in the tumor less its mirror image (no FLAIR, no T1Gd given), {unit}"
        checks.append(at_least("t1_shows_tumor", t1_contrast(patient), 0.1, -np.inf, subject))
    return checks


def check_foci(foci: Foci) -> Check:
    """Is the tumor one? Otherwise only its largest focus is fitted."""
    subject = "volume in ml of a second focus, which the model does not explain and only distance covers,"
    return at_most("tumor_foci", foci.second, SPECK, np.inf, subject)


def check_orientation(margin: float) -> Check:
    """Does the patient's T1 lie the way its affine says? (half of the least lead; see `morph.orientation`)."""
    return at_least("orientation", margin, 0.035, 0.0, "lead of the T1's orientation over any other, in correlation,")


def check_found(reason: str | None) -> Check:
    """Was the atlas brought onto the patient at all? Otherwise a reason is given."""
    found = at_least("registration_found", float(reason is None), 1.0, 1.0, "number of registrations found")
    return found if reason is None else replace(found, message=reason)


def check_registration(quality: Quality) -> list[Check]:
    """Do atlas and patient lie on each other, by a warp that a brain can have?"""
    near = "displacement in mm near the tumor beyond the affine part"
    return [
        at_least("registration_brain_dice", quality.brain_dice, 0.93, 0.80, "Dice of the registered brain masks"),
        at_least("registration_correlation", quality.correlation, 0.35, 0.15, "correlation of the registered T1"),
        at_most("registration_folding", quality.folded, 0.001, 0.02, "share of the brain that the warp folds"),
        at_most("registration_displacement", quality.displacement, 15.0, 40.0, near),
    ]


def check_scale(scale: float, stretch: float) -> list[Check]:
    """Are the two brains of about one size and shape? Otherwise the voxel size in the header is likely wrong.

    Args:
        scale: `Warp.affine_scale`.
        stretch: `Warp.affine_stretch`. Ours: 1.05 to 1.13 on five patients and twelve twins, and 1.16 to 1.41 where
            slices claim to be a quarter thicker or thinner than they are.
    """
    ratio = max(scale, 1.0 / scale) if scale > 0 else float("inf")
    subject = "how many times more the patient is stretched against the atlas along one direction than another"
    return [
        at_most("registration_scale", ratio, 1.25, 1.5, "ratio of the sizes of patient and atlas"),
        at_most("registration_stretch", stretch, 1.15, np.inf, subject),
    ]


def check_tissue(warped: Tissue, seen: Tissue, hidden: NDArray[np.bool_]) -> list[Check]:
    """Does the atlas' tissue lie where the T1, or maps of the patient's own, show it?

    Only outside the tumor (`hidden`, bool (x, y, z)). On three patients and two twins the Dice of white matter is .74
    to .87, that of all tissue .92; of maps of which two are exchanged one or the other is below .2 or .67.
    """
    rejected = 0.7 if seen.source == "given" else -np.inf  # maps that are exchanged, not a brain that is hard to map
    white = dice(*((t.white_matter.array > 0.5) & ~hidden for t in (seen, warped)))
    tissue = dice(*(t.matter & ~hidden for t in (seen, warped)))
    return [
        at_least("registration_white_matter", white, 0.6, 0.3, "Dice of the atlas' white matter and the T1's"),
        at_least("registration_tissue", tissue, 0.8, rejected, "Dice of the atlas' white and gray matter and the T1's"),
    ]


def check_masks(visible: NDArray[np.bool_], matter: NDArray[np.bool_]) -> Check:
    """Does the visible tumor fall on tissue of the warped atlas, where a tumor can grow? Both bool (x, y, z)."""
    total = int(visible.sum())
    share = int((visible & matter).sum()) / total if total else 0.0
    return at_least("masks_in_tissue", share, 0.70, 0.30, "share of the visible tumor that lies on tissue of the atlas")


def check_shown(shown: bool) -> Check:
    """Is anything of the visible tumor left on the voxels that tumors are simulated on?"""
    subject = "whether the simulation's voxels show the tumor (1: they do)"
    return at_least("masks_on_grid", float(shown), 1.0, 1.0, subject)
