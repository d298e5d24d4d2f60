"""DICOM series as input: the same places and values as another program reads, and refusals in a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, RTStructureSetStorage

from engine import InputError
from morph.dicom_input import read_image, read_series
from morph.patient import load_patient
from tests.morph.conftest import AFFINE, SHAPE, make_arrays, save
from tests.morph.dicom_maker import LPS, lay, write_series
from tests.morph.other_readers import PROGRAMS, read_with_plastimatch

ARRAY = np.arange(6 * 5 * 4).reshape(6, 5, 4) + 1
LAYS = {
    "axial": lay((1.0, 1.5, 3.0), (0, 0, 0), np.array([-20.0, -30.0, 40.0])),
    "sagittal": lay((1.0, 1.5, 3.0), (90, 0, 90), np.array([5.0, 6.0, 7.0])),
    "oblique": lay((0.9, 1.1, 2.5), (20, -15, 30), np.array([-20.0, 10.0, -5.0])),
    "feet first": lay((1.0, 1.0, 2.0), (0, 180, 0), np.array([20.0, -10.0, 9.0])),
}


@pytest.mark.parametrize("name", LAYS)
def test_voxels_lie_where_the_header_says(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "t1", ARRAY, LAYS[name])
    volume, frame, series = read_image(tmp_path / "t1")
    assert series is not None and frame.shape == ARRAY.shape
    np.testing.assert_allclose(frame.affine, series.affine, atol=1e-6)
    places = np.argwhere(ARRAY > 0)
    world = (np.c_[places, np.ones(len(places))] @ (LPS @ LAYS[name]).T)[:, :3]
    voxels = np.round(volume.to_voxel(world)).astype(int)
    np.testing.assert_allclose(volume.to_voxel(world), voxels, atol=1e-4)
    np.testing.assert_array_equal(volume.array[tuple(voxels.T)], ARRAY.ravel())
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")


@pytest.mark.parametrize("name", LAYS)
def test_plastimatch_reads_the_same_volume(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "t1", ARRAY, LAYS[name])
    volume = read_image(tmp_path / "t1")[0]
    other = read_with_plastimatch(tmp_path / "t1", tmp_path)
    places = np.argwhere(np.ones(other.shape))
    world = places @ other.affine[:3, :3].T + other.affine[:3, 3]
    voxels = np.round(volume.to_voxel(world)).astype(int)
    np.testing.assert_allclose(volume.to_voxel(world), voxels, atol=1e-3)
    np.testing.assert_array_equal(volume.array[tuple(voxels.T)], other.get_fdata().ravel())


def test_rescaling_is_applied_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, ARRAY, LAYS["axial"], RescaleSlope="0.5", RescaleIntercept="-3", RescaleType="US")
    (tmp_path / "notes.txt").write_text("not DICOM")
    structure = dcmread(tmp_path / "IM0003")
    for keyword in ("PixelData", "Rows", "Columns", "NumberOfFrames"):
        structure.pop(keyword, None)
    structure.SOPClassUID = structure.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    structure.SeriesInstanceUID = "1.2.3"
    structure.save_as(tmp_path / "structures.dcm")
    volume = read_image(tmp_path)[0]
    assert sorted(np.unique(volume.array)) == sorted(ARRAY.ravel() * 0.5 - 3)


@pytest.mark.parametrize("kind", ["--jpeg", "--jpegls", "--rle"])
def test_compressed_pixels_are_read(tmp_path: Path, kind: str) -> None:
    write_series(tmp_path / "plain", ARRAY, LAYS["axial"])
    (tmp_path / "packed").mkdir()
    for path in (tmp_path / "plain").iterdir():
        subprocess.run([PROGRAMS / "gdcmconv", kind, path, tmp_path / "packed" / path.name], check=True)
        assert dcmread(tmp_path / "packed" / path.name).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_image(tmp_path / "packed")[0].array, read_image(tmp_path / "plain")[0].array)


def damage_pixels(folder: Path) -> None:
    write_series(folder, ARRAY, LAYS["axial"])
    dataset = dcmread(folder / "IM0003")
    dataset.file_meta.TransferSyntaxUID = JPEGLossless
    dataset.PixelData = encapsulate([b"no image"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(folder / "IM0003")


def cut_short(folder: Path) -> None:
    write_series(folder, ARRAY, LAYS["axial"])
    (folder / "IM0394").write_bytes((folder / "IM0394").read_bytes()[:-20])


def leave_out_a_slice(folder: Path) -> None:
    write_series(folder, ARRAY, LAYS["oblique"])
    (folder / "IM0394").unlink()  # the third of four


def write_text(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("not DICOM")


def write_twice(folder: Path) -> None:
    write_series(folder, ARRAY, LAYS["axial"])
    write_series(folder / "more", ARRAY, LAYS["axial"], SeriesDescription="FLAIR")
    for path in (folder / "more").iterdir():
        path.rename(folder / f"other_{path.name}")


def with_changes(**changed: object) -> Callable[[Path], object]:
    return lambda folder: write_series(folder, ARRAY, LAYS["axial"], **changed)


def last_differs(usual: object, other: object) -> Callable[[int], object]:
    return lambda at: other if at == 3 else usual


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no DICOM": (write_text, "holds no DICOM images"),
    "two series": (write_twice, "holds 2 DICOM series, MR 3 FLAIR .*; MR 3 T1 axial .*give a folder with one"),
    "missing slice": (leave_out_a_slice, "a slice is missing, 5.00 mm lie between"),
    "same place": (with_changes(ImagePositionPatient=["0", "0", "0"]), "lie at the same place"),
    "tilted": (with_changes(ImagePositionPatient=lambda at: [0, at, 3 * at]), "no right-angled box"),
    "multi-frame": (with_changes(NumberOfFrames=2), "multi-frame"),
    "localizer": (with_changes(ImageOrientationPatient=last_differs([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1])),
                  "1 of 4 slices have another ImageOrientationPatient"),
    "mixed world": (with_changes(FrameOfReferenceUID=last_differs("1.2.3", "1.2.4")), "another FrameOfReferenceUID"),
    "no world": (with_changes(FrameOfReferenceUID=None), "4 of 4 slices have no FrameOfReferenceUID"),
    "color": (with_changes(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
                           BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(3 * 30)), "holds color images"),
    "no pixels": (with_changes(PixelData=None), "DICOM files cannot be read"),
    "cut short": (cut_short, "DICOM files cannot be read"),
    "unknown kind": (with_changes(SOPClassUID="1.2.3"), "DICOM files cannot be read"),
    "wrong encoding": (damage_pixels, "DICOM files cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_series_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    make(tmp_path / "t1")
    with pytest.raises(InputError, match=said) as refused:
        read_image(tmp_path / "t1")
    assert "\n" not in str(refused.value)


def test_a_single_slice_and_a_single_file_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "t1", ARRAY[:, :, :1], LAYS["axial"])
    with pytest.raises(InputError, match="a single slice"):
        read_series(tmp_path / "t1")
    with pytest.raises(InputError, match="a single DICOM file"):
        read_image(tmp_path / "t1" / "IM0003")


@pytest.fixture
def session(tmp_path: Path) -> dict[str, Path]:
    """The tiny patient: T1 and FLAIR as DICOM series, the labels as NIfTI."""
    arrays = make_arrays()
    files = {"seg": save(tmp_path / "seg.nii.gz", arrays["seg"])}
    for role in ("t1", "flair"):
        write_series(tmp_path / role, np.round(arrays[role]), LPS @ AFFINE)
        files[role] = tmp_path / role
    return files


def test_a_patient_of_dicom_series_is_that_of_nifti_files(tmp_path: Path, session: dict[str, Path]) -> None:
    arrays = make_arrays()
    patient = load_patient(session)
    np.testing.assert_allclose(patient.t1.array, np.round(arrays["t1"]))
    np.testing.assert_allclose(patient.t1.affine, AFFINE, atol=1e-4)
    np.testing.assert_array_equal(patient.masks.core, np.isin(arrays["seg"], (1, 4)))
    assert patient.flair is not None and patient.series is not None
    assert patient.series.folder == tmp_path / "t1" and patient.series.shape == SHAPE
    nifti = load_patient(session | {"t1": save(tmp_path / "t1.nii.gz", arrays["t1"])})
    assert nifti.series is None
    assert load_patient(session | {"t1": tmp_path / "t1.nii.gz", "dicom": tmp_path / "flair"}).series is not None


def test_a_brain_mask_strips_the_skull(tmp_path: Path, session: dict[str, Path]) -> None:
    arrays = make_arrays()
    head = np.where(arrays["t1"] > 0, arrays["t1"], 300)
    files = session | {"t1": save(tmp_path / "head.nii.gz", head), "brain": tmp_path / "brain.nii.gz"}
    save(tmp_path / "brain.nii.gz", (arrays["t1"] > 0).astype(np.float32))
    np.testing.assert_array_equal(load_patient(files).brain, arrays["t1"] > 0)
    save(tmp_path / "brain.nii.gz", 0 * head)
    with pytest.raises(InputError, match="is empty"):
        load_patient(files)


def test_series_of_other_worlds_are_refused(tmp_path: Path, session: dict[str, Path]) -> None:
    array = np.round(make_arrays()["flair"])
    write_series(tmp_path / "other", array, LPS @ AFFINE, FrameOfReferenceUID="1.2.3")
    for role in ("flair", "dicom"):
        with pytest.raises(InputError, match="another frame of reference than"):
            load_patient(session | {role: tmp_path / "other"})
    away = (LPS @ AFFINE).copy()
    away[0, 3] += 60
    write_series(tmp_path / "away", array, away)
    with pytest.raises(InputError, match=r"does not show [0-9]+% of the core"):
        load_patient(session | {"dicom": tmp_path / "away"})
