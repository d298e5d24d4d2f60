"""Programs that others wrote, to read what we write: plastimatch (ITK) for series and contours, dcmqi for segments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

PROGRAMS = Path(sys.executable).parent


def read_with_plastimatch(series: Path, folder: Path) -> nib.Nifti1Image:
    """A DICOM series as NIfTI."""
    _call("plastimatch", "convert", "--input", series, "--output-img", folder / "image.nii.gz")
    return nib.load(folder / "image.nii.gz")


def contours_with_plastimatch(structures: Path, series: Path, folder: Path) -> dict[str, nib.Nifti1Image]:
    """The regions of an RT Structure Set, filled on the voxels of a series."""
    _call(
        "plastimatch", "convert", "--input", structures, "--referenced-ct", series, "--output-prefix", folder,
        "--prefix-format", "nii.gz",
    )  # fmt: skip
    return {path.name.removesuffix(".nii.gz"): nib.load(path) for path in folder.iterdir()}


def segments_with_dcmqi(segmentation: Path, folder: Path) -> dict[str, nib.Nifti1Image]:
    """The segments of a DICOM Segmentation."""
    folder.mkdir()
    _call("segimage2itkimage", "--inputDICOM", segmentation, "--outputDirectory", folder, "-t", "nii", "-p", "s")
    described = json.loads((folder / "s-meta.json").read_text())["segmentAttributes"]
    labels = {item["labelID"]: item["SegmentLabel"] for group in described for item in group}
    return {label: nib.load(folder / f"s-{number}.nii.gz") for number, label in labels.items()}


def same_voxels(image: nib.Nifti1Image, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where an image is not 0, on the voxels of a grid that holds the same voxel centers in any order of axes."""
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    inverse = np.linalg.inv(image.affine)
    voxels = places @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.round(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 0.02
    inside = np.all((nearest >= 0) & (nearest < image.shape[:3]), axis=-1)
    mask = np.zeros(shape, dtype=bool)
    mask[inside] = image.get_fdata()[tuple(nearest[inside].T)] > 0
    return mask


def _call(program: str, *arguments: str | Path) -> None:
    ended = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout + ended.stderr
