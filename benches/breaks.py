"""Ways to break a case: masks that are wrong, out of place or drawn wrongly, images that are wrong or cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from engine import load_anatomy
from morph.appearance import mirrored_image
from morph.outlines import signed_distance
from morph.patient import IMAGES, Patient
from morph.resample import resample
from morph.segmentation import Masks, masks_from_files
from morph.volume import Frame, Volume

Break = Callable[[Patient, Patient], Patient]
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
    """The T1 with left and right exchanged, about a plane 1.5 voxels beside the brain's middle."""
    return replace(patient, t1=patient.t1.with_array(np.roll(mirrored_image(patient.t1.array, patient.brain), 3, 0)))


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
