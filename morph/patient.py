"""One patient's files: found by their BraTS names or given one by one, read and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import InputError
from morph.dicom_input import Series, read_image, read_series
from morph.resample import cut, resample
from morph.segmentation import Labels, Masks, masks_from_files, masks_from_labels
from morph.tissue import Tissue, normalized
from morph.volume import Frame, Volume, read_volume, share_grid

BRATS_NAMES = {
    "t1": ("t1", "t1n"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "flair": ("flair", "t2f"),
    "seg": ("seg",),
}
"""Endings of BraTS files, up to 2020 and from 2023 on (`..._t1.nii.gz`, `...-t1n.nii.gz`)."""
RECENT_ENDINGS = ("t1n", "t1c", "t2f")
"""Those that are in use only from 2023 on."""
SUFFIXES = (".nii.gz", ".nii")
TISSUES = ("white_matter", "gray_matter", "csf")
SEGMENTATIONS = ("seg", "core", "edema")
MASKS = (*SEGMENTATIONS, "brain")
IMAGES = ("t1", "t1ce", "flair")
"""What may come as the folder of a DICOM series."""
SERIES = "dicom"
"""Name of a case's folder with the DICOM series that contours shall refer to."""
LEAST_KEPT = 0.8
"""Share of a file's volume that must lie inside the T1's image when it comes on another grid; of an image it is
enough that it shows this share of the T1's brain (ours)."""
MOST_LOST = 0.02
"""Share of a segmentation that may lie outside the T1's image: a tumor that is cut off is another tumor (ours)."""
FRACTION_SLACK = 0.01
"""How far beyond 0 and 1 a fraction may lie: what interpolation overshoots (ours)."""
NEGATIVE_SHARE = 0.05
"""Negative T1 voxels as a share of the positive ones, whatever zeros lie around both, from which on the image has been
normalized and T1 > 0 is no brain mask (ours: interpolation leaves fewer, normalization about as many)."""


@dataclass(frozen=True, eq=False)
class Patient:
    """What the pipeline is given.

    Attributes:
        name: for titles and folders.
        t1: skull-stripped T1-weighted image, RAS axes; its positive voxels are the brain.
        frame: how the T1 lies on disk, for the outputs.
        masks: core and edema on the T1's grid.
        flair: for the picture and a check of the masks, on the T1's grid; likewise `t1ce`.
        tissue: the patient's own maps on the T1's grid; None to take the atlas'.
        files: where everything was read from.
        series: the DICOM series that contours refer to: the one given, or the T1's own; None without DICOM.
        mask_spacing: longest voxel edge [mm] of the masks as they came; 0 where they did not come from a file.
    """

    name: str
    t1: Volume
    frame: Frame
    masks: Masks
    t1ce: Volume | None = None
    flair: Volume | None = None
    tissue: Tissue | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    series: Series | None = None
    mask_spacing: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a T1 that shows no brain, and masks that lie beside it."""
        if not self.brain.any():
            raise InputError("the T1 has no positive voxel: give a skull-stripped T1 with a background of 0")
        if np.count_nonzero(self.t1.array < 0) > NEGATIVE_SHARE * np.count_nonzero(self.brain):
            raise InputError(
                "the T1 has negative intensities: give the skull-stripped image as it was before normalization"
            )
        if not (self.masks.target & self.brain).any():
            name = "core" if self.masks.core.any() else "edema"
            raise InputError(f"the {name} mask lies outside the brain of the T1: do both belong to the same patient?")

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Where the T1 is positive, bool (x, y, z)."""
        return self.t1.array > 0


def crop(patient: Patient, box: tuple[slice, ...]) -> Patient:
    """The same patient in a box of voxels; the frame stays that of the whole T1."""
    masks = replace(
        patient.masks,
        core=np.ascontiguousarray(patient.masks.core[box]),
        edema=np.ascontiguousarray(patient.masks.edema[box]),
    )
    tissue = None
    if patient.tissue is not None:
        white, gray, csf = (cut(m, box) for m in patient.tissue.maps)
        tissue = Tissue(white, gray, csf, patient.tissue.source)
    t1ce, flair = (None if image is None else cut(image, box) for image in (patient.t1ce, patient.flair))
    return replace(patient, t1=cut(patient.t1, box), masks=masks, tissue=tissue, t1ce=t1ce, flair=flair)


def distance_outside(point: NDArray[np.float64], mask: NDArray[np.bool_], t1: Volume) -> float:
    """How far [mm] a world point lies outside a mask on the T1's grid, (x, y, z); infinite outside the image."""
    voxel = np.round(t1.to_voxel(point)).astype(int)
    if np.any(voxel < 0) or np.any(voxel >= mask.shape):
        return float("inf")
    if mask[tuple(voxel)]:
        return 0.0
    return float(ndimage.distance_transform_edt(~mask, sampling=t1.spacing)[tuple(voxel)])


def find_case(folder: str | Path) -> dict[str, Path]:
    """The files of a folder with BraTS names; without such a file a folder of that name is a DICOM series.

    Raises:
        InputError: no such folder, no T1 or segmentation, or two files for the same role.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"case={folder} is not a folder: give one that holds t1.nii.gz and seg.nii.gz")
    files = {}
    for role, endings in BRATS_NAMES.items():
        found = sorted(path for path in folder.iterdir() if not path.is_dir() and _has_role(path, endings))
        if not found and role in IMAGES:
            found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() in endings)
        if len(found) > 1:
            raise InputError(f"{folder} has {len(found)} files for {role} ({found[0].name}, {found[1].name}): keep one")
        if found:
            files[role] = found[0]
    if (folder / SERIES).is_dir() and any(path.is_file() for path in (folder / SERIES).iterdir()):
        files[SERIES] = folder / SERIES
    for role, other in (("t1", ", or a folder t1 with a DICOM series"), ("seg", "")):
        if role not in files:
            raise InputError(
                f"{folder} has no {role} file: expected {role}.nii.gz or a name that ends in _{role}.nii.gz{other}"
            )
    return files


def load_patient(files: Mapping[str, str | Path], labels: Labels | str = "auto", name: str | None = None) -> Patient:
    """Read a patient.

    Args:
        files: `t1` and either `seg` or `core` and `edema`; `t1ce` and `flair` if there are any, `brain` for a T1 that
            is not skull-stripped, and the tissue maps `white_matter`, `gray_matter` and `csf`. What lies on another
            grid is resampled onto the T1's. T1, T1Gd and FLAIR may be folders of DICOM series; `dicom` is the series
            that contours shall refer to.
        labels: see `morph.segmentation.masks_from_labels`.
        name: what to call the patient; None takes the T1's folder.

    Raises:
        InputError: something is missing, unreadable, or lies beside the T1.
    """
    paths = {role: Path(path) for role, path in files.items()}
    if "t1" not in paths:
        raise InputError("no T1 is given: use t1=FILE, or case=FOLDER with BraTS names, or demo=true")
    if ("seg" in paths) == ("core" in paths):
        raise InputError("give the tumor either as seg=FILE (labels) or as core=FILE edema=FILE (masks)")
    if "edema" in paths and "core" not in paths:
        raise InputError("edema=FILE needs core=FILE beside it: the labels of seg already hold both")
    if "core" in paths and "edema" not in paths:
        raise InputError("core=FILE needs edema=FILE beside it: give the same file twice if FLAIR shows no more")
    images, frame, series = _read_images(paths)
    t1 = images.pop("t1")
    others = {role: _on_t1(image, t1, role, paths[role]) for role, image in images.items()}
    if "brain" in others:
        t1 = _strip(t1, others["brain"], paths["brain"])
    if "seg" in others:
        recent = any(_has_role(path, RECENT_ENDINGS) for path in paths.values())
        masks = masks_from_labels(others["seg"], labels, str(paths["seg"]), recent)
    else:
        masks = masks_from_files(others["core"], others["edema"], (str(paths["core"]), str(paths["edema"])))
    if series is not None:
        _check_place(series, t1.with_array(masks.target), "core" if masks.core.any() else "edema")
    name = name or paths["t1"].resolve().parent.name
    tissue = _own_tissue(others, t1)
    t1ce, flair = others.get("t1ce"), others.get("flair")
    coarsest = max(float(images[role].spacing.max()) for role in ("seg", "core", "edema") if role in images)
    patient = Patient(name, t1, frame, masks, t1ce, flair, tissue, paths, series, coarsest)
    for role in ("t1ce", "flair"):
        if role in others and not np.any(others[role].array[patient.brain] > 0):
            raise InputError(f"{paths[role]} is nowhere positive in the brain: leave it out, or give the whole image")
    return patient


def _read_images(paths: Mapping[str, Path]) -> tuple[dict[str, Volume], Frame, Series | None]:
    """Every image on its own grid, how the T1 lies on disk, and the DICOM series for contours.

    Raises:
        InputError: see `read_image`; a folder where only a file will do, or DICOM series of different worlds.
    """
    read = {role: read_image(paths[role]) for role in IMAGES if role in paths}
    images = {role: image for role, (image, _, _) in read.items()}
    images |= {role: read_volume(path) for role, path in paths.items() if role not in (*IMAGES, "dicom")}
    worlds = {role: series for role, (_, _, series) in read.items() if series is not None}
    if "dicom" in paths:
        worlds["dicom"] = read_series(paths["dicom"])
    for first, second in pairwise(worlds.items()):
        if first[1].frame_of_reference != second[1].frame_of_reference:
            raise InputError(
                f"{second[0]}={second[1].folder} has another frame of reference than {first[0]}={first[1].folder}: "
                "give series of one session, or register them and give NIfTI files"
            )
    return images, read["t1"][1], worlds.get("dicom", worlds.get("t1"))


def _strip(t1: Volume, brain: Volume, path: Path) -> Volume:
    """A T1 that is 0 outside a brain mask."""
    if not (brain.array > 0).any():
        raise InputError(f"brain={path} is empty: give the mask of the brain")
    return t1.with_array(np.where(brain.array > 0, t1.array, 0))


def _check_place(series: Series, target: Volume, name: str) -> None:
    """Refuse a series that does not show what margins go around: contours would be cut off or lie elsewhere."""
    missed = series.missed(target)
    if missed > 0:
        raise InputError(
            f"{series.folder} does not show {100 * missed:.0f}% of the {name}: "
            "is the T1 registered to another world than this DICOM series?"
        )


def _on_t1(volume: Volume, t1: Volume, role: str, path: Path) -> Volume:
    """A volume on the T1's grid, brought there by both affines; labels keep their values."""
    if share_grid(volume, t1):
        return volume
    placed = resample(volume, t1, 0 if role in MASKS else 1)
    if role in SEGMENTATIONS:
        lost, most = 1 - _inside(np.argwhere(volume.array), volume, t1), MOST_LOST
    else:
        before, after = (np.count_nonzero(v.array) * v.voxel_volume for v in (volume, placed))
        lost, most = 1 - after / max(before, 1e-9), 1 - LEAST_KEPT
    if lost > most and volume.array.any() and not (role in IMAGES and _covers(volume, t1)):
        raise InputError(
            f"{path} lies beside the T1: {100 * lost:.0f}% of it falls outside; "
            "are both affines right, do both show the same patient, and does the T1 show all of the tumor?"
        )
    return placed


def _covers(image: Volume, t1: Volume) -> bool:
    """Whether an image shows most of the T1's brain, whatever it shows beside it."""
    return _inside(np.argwhere(t1.array > 0), t1, image) >= LEAST_KEPT


def _inside(voxels: NDArray[np.intp], volume: Volume, image: Volume) -> float:
    """Share of a volume's voxels (n, 3) that another image shows; 0 of none."""
    places = image.to_voxel(volume.to_world(voxels))
    shown = np.all((places >= -0.5) & (places <= np.array(image.array.shape) - 0.5), axis=1)
    return float(shown.mean()) if len(shown) else 0.0


def _own_tissue(images: Mapping[str, Volume], t1: Volume) -> Tissue | None:
    """The patient's own maps, all three or none."""
    given = [role for role in TISSUES if role in images]
    if not given:
        return None
    if len(given) < len(TISSUES):
        raise InputError(f"{', '.join(given)} alone are not enough: give all of {', '.join(TISSUES)}, or none")
    for role in TISSUES:
        low, high = float(images[role].array.min()), float(images[role].array.max())
        if low < -FRACTION_SLACK or high > 1 + FRACTION_SLACK:
            raise InputError(f"{role} holds values from {low:g} to {high:g}: give fractions from 0 to 1")
    white, gray, csf = (images[role] for role in TISSUES)
    return normalized((white, gray, csf), t1.array > 0, "given")


def _has_role(path: Path, endings: tuple[str, ...]) -> bool:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            stem = path.name.removesuffix(suffix).lower()
            return any(stem == ending or stem.endswith((f"_{ending}", f"-{ending}")) for ending in endings)
    return False
