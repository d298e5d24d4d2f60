"""Broken cases: each must end in the check that is meant for it, by name, and the untouched case in none.

    python benches/broken.py seed=3 json=result.json
    python benches/broken.py case=DIR other=DIR only=foci

The case is a digital twin, or a real patient (`case=`) with another one for the foreign mask (`other=`). A case passes
if its check warned or failed; `silent` counts those that ended without. Exit status 1 if there is any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from engine import InputError, load_anatomy
from engine.command import compose
from morph.alignment import mirrored
from morph.ants import AntsRegistration
from morph.inference import Brain, prepare_brain
from morph.outlines import signed_distance
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.resample import resample
from morph.segmentation import Masks, masks_from_files
from morph.twin import make_twin
from morph.volume import Frame, Volume

Break = Callable[[Patient, Patient], Patient]
IMAGES = ("t1", "t1ce", "flair")
REFUSED = "refused as exchanged"
"""In place of a check's name: the masks are refused with a sentence that says so."""
FADED = 6.0
"""Distance [mm] from an edema within which a tumor that is taken out of an image leaves no trace (ours)."""


def of_masks(change: Callable[[np.ndarray], np.ndarray]) -> Break:
    """The same change of both masks."""
    return lambda patient, other: replace(patient, masks=Masks(*map(change, both(patient))))


def of_images(change: Callable[[np.ndarray], np.ndarray]) -> Break:
    """The same change of every image and of the masks."""

    def broken(patient: Patient, other: Patient) -> Patient:
        images = {role: image.with_array(change(image.array)) for role, image in present(patient).items()}
        return replace(patient, **images, masks=Masks(*map(change, both(patient))))

    return broken


def foreign(patient: Patient, other: Patient) -> Patient:
    """The masks of another patient."""
    masks = [resample(other.t1.with_array(m), patient.t1, 0).array > 0.5 for m in both(other)]
    return replace(patient, masks=Masks(masks[0], masks[1]))


def foreign_t1(patient: Patient, other: Patient) -> Patient:
    """FLAIR, T1Gd and masks beside the T1 of SRI24, whose middle lies where the patient's brain has its own."""
    strange = load_anatomy("sri24")
    brain = Volume(strange.t1, strange.affine.copy())
    middle, wanted = (v.to_world(np.argwhere(v.array > 0).mean(axis=0)) for v in (brain, patient.t1))
    brain.affine[:3, 3] += wanted - middle
    return replace(patient, t1=patient.t1.with_array(np.maximum(resample(brain, patient.t1, 1).array, 0)))


def t1_moved(patient: Patient, other: Patient) -> Patient:
    """The T1 lies 5 mm beside the other images."""
    affine = patient.t1.affine.copy()
    affine[1, 3] += 5.0
    return replace(patient, t1=resample(Volume(patient.t1.array, affine), patient.t1, 1))


def t1_mirrored(patient: Patient, other: Patient) -> Patient:
    """The T1 with left and right exchanged, about the middle of the brain."""
    return replace(patient, t1=patient.t1.with_array(mirrored(patient.t1.array, patient.brain)))


def two_foci(patient: Patient, other: Patient, radius: float = 8.0) -> Patient:
    """The tumor and a ball of 12 mm with a core, where the brain is deepest 45 mm away, in the images as well."""
    spacing = patient.t1.spacing
    far = ndimage.distance_transform_edt(~patient.masks.edema, sampling=spacing) > 45
    depth = ndimage.distance_transform_edt(patient.brain, sampling=spacing) * far
    places = np.indices(depth.shape).T * spacing - np.array(np.unravel_index(np.argmax(depth), depth.shape)) * spacing
    distance = np.linalg.norm(places, axis=-1).T
    core, edema = (distance < edge for edge in (radius, 12))
    masks = Masks(patient.masks.core | core, patient.masks.edema | edema)
    flair, t1ce = (
        None if image is None else brighter(image, ball)
        for image, ball in ((patient.flair, edema), (patient.t1ce, core))
    )
    return replace(patient, masks=masks, flair=flair, t1ce=t1ce)


def in_ventricle(patient: Patient, other: Patient) -> Patient:
    """A tumor where the brain is deepest in CSF, in the images as well, and none where it was."""
    dark = patient.t1.array < np.quantile(patient.t1.array[patient.brain], 0.15)
    wet = ndimage.binary_opening(dark & patient.brain & ~patient.masks.edema, iterations=2)
    depth = ndimage.distance_transform_edt(patient.brain)
    groups, _ = ndimage.label(wet & (depth > 20))
    largest = groups == 1 + np.argmax(np.bincount(groups[groups > 0])[1:])
    masks = Masks(ndimage.binary_erosion(largest), largest)
    old = ndimage.distance_transform_edt(~patient.masks.edema, sampling=patient.t1.spacing) < FADED
    flair, t1ce = (
        None if image is None else brighter(ordinary(image, old & patient.brain), mask)
        for image, mask in ((patient.flair, masks.edema), (patient.t1ce, masks.core))
    )
    return replace(patient, masks=masks, flair=flair, t1ce=t1ce)


def empty_core(patient: Patient, other: Patient) -> Patient:
    """Edema alone."""
    return replace(patient, masks=Masks(np.zeros_like(patient.masks.core), patient.masks.edema))


def exchanged(patient: Patient, other: Patient) -> Patient:
    """The edema beyond the core as the core, as with labels in another order."""
    core, edema = both(patient)
    return replace(patient, masks=Masks(edema & ~core, edema))


def exchanged_files(patient: Patient, other: Patient) -> Patient:
    """All that is visible as core=, the core as edema=."""
    core, edema = (patient.t1.with_array(mask.astype(np.float32)) for mask in both(patient))
    return replace(patient, masks=masks_from_files(edema, core))


def mirrored_with_t1_alone(patient: Patient, other: Patient) -> Patient:
    """Masks on the wrong side, and no image that could tell."""
    return replace(of_masks(lambda mask: mask[::-1])(patient, other), t1ce=None, flair=None)


def cut_off(patient: Patient, other: Patient, degrees: float = 0.0) -> Patient:
    """The field of view ends 35 mm below the vertex, in a plane that is tilted forward."""
    tilt = np.deg2rad(degrees)
    heights = np.tensordot([0, np.sin(tilt), np.cos(tilt)] * patient.t1.spacing, np.indices(patient.brain.shape), 1)
    above = heights > heights[patient.brain].max() - 35
    return of_images(lambda array: np.where(above, np.zeros((), array.dtype), array))(patient, other)


def thick_slices(patient: Patient, other: Patient) -> Patient:
    """Slices of 5 mm, each the mean of what it covers, masks by majority."""
    count = round(5 / float(patient.t1.spacing[2]))
    affine = patient.t1.affine @ np.diag([1, 1, count, 1.0])
    affine[:3, 3] += patient.t1.affine[:3, 2] * (count - 1) / 2

    def thick(array: np.ndarray) -> np.ndarray:
        whole = array[:, :, : array.shape[2] // count * count].astype(np.float32)
        return np.asarray(whole.reshape(*array.shape[:2], -1, count).mean(axis=3))

    images: dict[str, Any] = {role: Volume(thick(v.array), affine) for role, v in present(patient).items()}
    masks = Masks(*(thick(mask) >= 0.5 for mask in both(patient)))
    return replace(patient, **images, masks=masks, frame=Frame(affine, images["t1"].array.shape))


def out_of_place(patient: Patient, other: Patient, shift: Sequence[float]) -> Patient:
    """Masks whose file lies so far [mm along each axis] beside the images."""
    steps = np.round(np.asarray(shift) / patient.t1.spacing).astype(int)
    return replace(patient, masks=Masks(*(np.roll(mask, steps, (0, 1, 2)) & patient.brain for mask in both(patient))))


def with_margin(patient: Patient, other: Patient, margin: float) -> Patient:
    """A target volume as the edema: so far [mm] around it."""
    wide = (signed_distance(patient.masks.edema, patient.t1.spacing) > -margin) & patient.brain
    return replace(patient, masks=Masks(patient.masks.core, wide))


def wide_core(patient: Patient, other: Patient, margin: float) -> Patient:
    """A core drawn so far [mm] too large, in the edema."""
    core, edema = both(patient)
    return replace(patient, masks=Masks((signed_distance(core, patient.t1.spacing) > -margin) & edema, edema))


def half_core(patient: Patient, other: Patient, axis: int = 0) -> Patient:
    """Enhancing tumor that was left out of the core: half of it, along an axis."""
    core, edema = both(patient)
    places = np.indices(core.shape)[axis]
    return replace(patient, masks=Masks(core & (places < places[core].mean()), edema))


def with_skull(patient: Patient, other: Patient) -> Patient:
    """A shell of 22 mm around the brain: bone, fat and skin."""
    head = ndimage.distance_transform_edt(~patient.brain, sampling=patient.t1.spacing) < 22
    bright = float(np.quantile(patient.t1.array[patient.brain], 0.9))
    return replace(patient, t1=patient.t1.with_array(np.where(head & ~patient.brain, bright, patient.t1.array)))


def wrong_voxel_size(patient: Patient, other: Patient, shares: Sequence[float]) -> Patient:
    """A header that claims voxels with these shares of their edges."""
    affine = patient.t1.affine @ np.diag([*shares, 1.0])
    images: dict[str, Any] = {role: Volume(image.array, affine) for role, image in present(patient).items()}
    return replace(patient, **images)


FOREIGN = ("flair_shows_edema", "flair_outside_masks")
STRANGE = ("flair_shows_patient", "t1gd_shows_patient")
CASES: dict[str, tuple[Break, tuple[str, ...]]] = {
    "untouched": (lambda patient, other: patient, ()),
    "mirrored masks": (of_masks(lambda mask: mask[::-1]), FOREIGN),
    "masks of another patient": (foreign, FOREIGN),
    "T1 of another brain": (foreign_t1, STRANGE),
    "T1 moved by 5 mm": (t1_moved, STRANGE),
    "T1 mirrored": (t1_mirrored, ("sides_agree",)),
    "two distant foci": (two_foci, ("tumor_foci",)),
    "a second focus with a speck of core": (partial(two_foci, radius=4.5), ("tumor_foci",)),
    "tumor in the ventricle": (in_ventricle, ("masks_in_tissue",)),
    "empty core": (empty_core, ("core_visible",)),
    "core and edema exchanged": (exchanged, ("core_inside_edema",)),
    "files of core and edema exchanged": (exchanged_files, (REFUSED,)),
    "mirrored masks, T1 alone": (mirrored_with_t1_alone, ("masks_can_be_checked",)),
    "half of the core, no T1Gd": (lambda p, other: replace(half_core(p, other), t1ce=None), ("core_can_be_checked",)),
    "cut off at the top": (cut_off, ("brain_complete",)),
    "cut off at the top, head tilted": (partial(cut_off, degrees=12), ("brain_complete",)),
    "slices of 5 mm": (thick_slices, ("voxel_size",)),
    "not skull-stripped": (with_skull, ("brain_volume",)),
    "masks 6 mm out of place": (partial(out_of_place, shift=(3.5, 3.5, 3.5)), ("masks_in_place",)),
    "edema with a margin": (partial(with_margin, margin=7.0), ("flair_shows_outline",)),
    "core with a margin": (partial(wide_core, margin=5.0), ("t1gd_shows_outline",)),
    "half of the core left out": (half_core, ("t1gd_outside_core",)),
    "slices three quarters as thick": (partial(wrong_voxel_size, shares=(1, 1, 0.75)), ("registration_stretch",)),
    "wrong voxel size": (partial(wrong_voxel_size, shares=(0.7, 0.7, 0.7)), ("registration_scale",)),
    "facing backwards": (of_images(lambda array: array[:, ::-1]), ("orientation",)),
}
"""Name -> how to break a case, and the checks of which one at least must notice."""


def main() -> None:
    """Break the case in every way."""
    settings = arguments(
        {"seed": 3, "other_seed": 4, "case": None, "other": None, "only": None, "weights": "auto", "json": None},
        __doc__,
    )
    config = compose("run")
    patient, other = (
        make_twin(seed).patient if path is None else load_patient(find_case(path))
        for seed, path in ((settings.seed, settings.case), (settings.other_seed, settings.other))
    )
    brain = prepare_brain(load_anatomy("sri24"), settings.weights)
    rows = {}
    for name, (how, expected) in CASES.items():
        if settings.only is not None and settings.only not in name:
            continue
        rows[name] = judge(expected, *run(lambda how=how: how(patient, other), brain, config))
        Console().print(name, rows[name])
    Console().print(table(rows))
    silent = [name for name, row in rows.items() if not row["noticed"]]
    publish("Broken cases", {"machine": machine(), "silent": len(silent), "cases": [rows]}, settings.json)
    sys.exit(1 if silent else 0)


def run(make: Callable[[], Patient], brain: Brain, config: Any) -> tuple[str, dict[str, str]]:
    """The verdict on a case, and what did not pass."""
    search = RefinementSettings(**config.refinement)
    try:
        sampling = PosteriorSettings(**config.posterior)
        answer = run_pipeline(make(), brain, AntsRegistration(**config.registration), search, uncertainty=sampling)
    except InputError as refusal:
        return "refused", {REFUSED if "exchanged" in str(refusal) else str(refusal): "refused"}
    return answer.verdict, {check.name: check.verdict for check in answer.checks if check.verdict != "pass"}


def judge(expected: Sequence[str], verdict: str, raised: dict[str, str]) -> dict[str, Any]:
    """Whether a right check noticed; an untouched case must pass all."""
    noticed = not {*expected}.isdisjoint(raised) if expected else verdict == "pass"
    return {"expected": " or ".join(expected), "noticed": noticed, "verdict": verdict, "raised": raised}


def both(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Core and edema."""
    return patient.masks.core, patient.masks.edema


def present(patient: Patient) -> dict[str, Volume]:
    """The images that a patient has."""
    return {role: getattr(patient, role) for role in IMAGES if getattr(patient, role) is not None}


def brighter(image: Volume, mask: np.ndarray) -> Volume:
    """The image as bright inside the mask as its brightest healthy parts."""
    return image.with_array(np.where(mask, 1.3 * np.quantile(image.array[image.array > 0], 0.98), image.array))


def ordinary(image: Volume, mask: np.ndarray) -> Volume:
    """The image as bright inside the mask as the middle of the rest of the brain."""
    return image.with_array(np.where(mask, np.median(image.array[(image.array > 0) & ~mask]), image.array))


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """A line a case."""
    shown = Table("case", "must be noticed by", "noticed", "verdict", "checks that did not pass", title="broken cases")
    for name, row in rows.items():
        raised = ", ".join(f"{check} ({verdict})" for check, verdict in row["raised"].items())
        shown.add_row(name, row["expected"] or "-", "yes" if row["noticed"] else "NO", row["verdict"], raised)
    return shown


if __name__ == "__main__":
    main()
