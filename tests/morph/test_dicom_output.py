"""Structure set and segmentation, read again by programs that others wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pydicom import dcmread
from scipy import ndimage

from engine import InputError
from morph.contours import outlines
from morph.dicom_input import Series, read_series
from morph.dicom_output import PATIENT, RESEARCH, STUDY, write_segmentation, write_structures
from morph.patient import Patient
from morph.segmentation import Masks
from morph.targets import _on_series, series_notes
from morph.volume import Frame, Volume
from tests.morph.conftest import AFFINE, make_arrays, save
from tests.morph.dicom_maker import LPS, lay, write_series
from tests.morph.other_readers import contours_with_plastimatch, same_voxels, segments_with_dcmqi

SHAPE = (48, 40, 20)
LAYS = {
    "axial": lay((1.0, 1.2, 3.0), (0, 0, 0), np.array([-25.0, -20.0, -30.0])),
    "oblique": lay((0.9, 1.1, 2.5), (20, -15, 30), np.array([-20.0, -35.0, -5.0])),
}


@pytest.fixture(params=LAYS)
def series(request: pytest.FixtureRequest, tmp_path: Path) -> Series:
    rng = np.random.default_rng(0)
    write_series(tmp_path / "series", rng.integers(0, 1000, SHAPE), LAYS[request.param], PatientName="Åse^Ø",
                 SpecificCharacterSet="ISO_IR 100")  # fmt: skip
    return read_series(tmp_path / "series")


def regions(series: Series) -> dict[str, np.ndarray]:
    """Masks on the series' own voxels: a ball, a shell with holes, two parts of which one touches the border."""
    world = np.moveaxis(np.indices(series.shape), 0, -1) @ series.affine[:3, :3].T + series.affine[:3, 3]
    center = series.affine[:3, :3] @ (np.array(series.shape) / 2) + series.affine[:3, 3]
    radius = np.linalg.norm(world - center, axis=-1)
    apart = (np.indices(series.shape)[0] < 5) | (radius < 5)
    return {"core": radius < 9, "ctv_15mm": (radius < 17) & (radius > 10), "ctv_density": apart}


def as_volumes(series: Series, masks: dict[str, np.ndarray]) -> dict[str, Volume]:
    return {name: Volume(mask.astype(np.float32), series.affine) for name, mask in masks.items()}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def center(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Center of mass in the world [mm]."""
    return affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]


@pytest.mark.parametrize("seed", range(6))
def test_filling_an_outline_gives_the_mask_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=(50, 40)), rng.uniform(0.3, 2.5)) > 0.02
    mask[15:35, 10:35], mask[20:25, 15:20], mask[28:31, 25:30], mask[22, 17] = True, False, False, True
    points = np.argwhere(np.ones_like(mask))
    united, odd = np.zeros(mask.size, dtype=bool), np.zeros(mask.size, dtype=bool)
    for polygon in outlines(mask.astype(np.float32)):
        filled = Outline(np.vstack([polygon, polygon[:1]])).contains_points(points)
        united |= filled
        odd ^= filled
    np.testing.assert_array_equal(united.reshape(mask.shape), mask)
    np.testing.assert_array_equal(odd.reshape(mask.shape), mask)
    assert outlines(np.zeros((4, 4), dtype=np.float32)) == []


def test_plastimatch_reads_the_contours_where_the_masks_are(tmp_path: Path, series: Series) -> None:
    masks = regions(series)
    write_structures(tmp_path / "rtstruct.dcm", series, as_volumes(series, masks), "")
    found = contours_with_plastimatch(tmp_path / "rtstruct.dcm", series.folder, tmp_path / "read")
    assert set(found) == set(masks)
    for name, mask in masks.items():
        again = same_voxels(found[name], series.affine, series.shape)
        assert overlap(mask, again) > 0.97, name
        assert np.linalg.norm(center(mask, series.affine) - center(again, series.affine)) < 0.3, name


def test_dcmqi_reads_the_same_segments(tmp_path: Path, series: Series) -> None:
    masks = regions(series)
    write_segmentation(tmp_path / "segmentation.dcm", series, as_volumes(series, masks), "")
    found = segments_with_dcmqi(tmp_path / "segmentation.dcm", tmp_path / "read")
    assert set(found) == set(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(same_voxels(found[name], series.affine, series.shape), mask)


def test_masks_on_another_grid_keep_their_place(tmp_path: Path, series: Series) -> None:
    masks = regions(series)
    fine = Volume(np.zeros((90, 90, 90), dtype=np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
    middle = center(masks["core"], series.affine)
    fine.affine[:3, 3] = middle - 45
    world = fine.to_world(np.moveaxis(np.indices((90, 90, 90)), 0, -1))
    ball = fine.with_array(np.linalg.norm(world - middle, axis=-1) < 9)
    write_structures(tmp_path / "rtstruct.dcm", series, {"core": ball}, "")
    found = contours_with_plastimatch(tmp_path / "rtstruct.dcm", series.folder, tmp_path / "read")
    again = same_voxels(found["core"], series.affine, series.shape)
    assert np.linalg.norm(center(again, series.affine) - middle) < 0.4
    volume = again.sum() * abs(np.linalg.det(series.affine[:3, :3]))
    assert volume == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.08)


def test_a_fallback_is_called_one_where_a_region_is_chosen(tmp_path: Path, series: Series) -> None:
    masks = {name: as_volumes(series, regions(series))["core"] for name in ("core", "ctv_15mm", "ctv_density")}
    write_structures(tmp_path / "rtstruct.dcm", series, masks, "", fallback=True)
    write_segmentation(tmp_path / "segmentation.dcm", series, masks, "", fallback=True)
    structures, segments = dcmread(tmp_path / "rtstruct.dcm"), dcmread(tmp_path / "segmentation.dcm")
    named = ["core", "ctv_15mm", "ctv_density_fallback"]
    assert structures.StructureSetLabel == "LMI FALLBACK"
    assert [region.ROIName for region in structures.StructureSetROISequence] == named
    assert [segment.SegmentLabel for segment in segments.SegmentSequence] == named


def test_both_belong_to_the_series_and_say_what_they_are(tmp_path: Path, series: Series) -> None:
    volumes = as_volumes(series, regions(series))
    for name, write in (("rtstruct.dcm", write_structures), ("segmentation.dcm", write_segmentation)):
        write(tmp_path / name, series, volumes, "Verdict: warn.")
        written, first = dcmread(tmp_path / name), series.headers[0]
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert written[keyword].value == first[keyword].value, keyword
        assert written.SeriesInstanceUID != first.SeriesInstanceUID
        assert written.SeriesDescription == RESEARCH
    structures = dcmread(tmp_path / "rtstruct.dcm")
    assert structures.ApprovalStatus == "UNAPPROVED"
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == list(volumes)
    segments = dcmread(tmp_path / "segmentation.dcm").SegmentSequence
    described = [roi.ROIDescription for roi in structures.StructureSetROISequence]
    assert described == [segment.SegmentDescription for segment in segments]
    assert all(RESEARCH in text and "Verdict: warn." in text for text in described)
    assert [o.RTROIInterpretedType for o in structures.RTROIObservationsSequence] == ["GTV", "CTV", "CTV"]
    slices = {header.SOPInstanceUID: np.array(header.ImagePositionPatient, dtype=float) for header in series.headers}
    normal = np.cross(*np.array(series.headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3))
    for roi in structures.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            corner = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            assert len(points) == contour.NumberOfContourPoints
            assert np.abs((points - corner) @ normal).max() < 0.01


def test_a_long_note_ends_where_dicom_has_room_for_no_more(tmp_path: Path, series: Series) -> None:
    masks = {"core": as_volumes(series, regions(series))["core"]}
    for name, write in (("rtstruct.dcm", write_structures), ("segmentation.dcm", write_segmentation)):
        write(tmp_path / name, series, masks, "word " * 300)
    structures, segments = dcmread(tmp_path / "rtstruct.dcm"), dcmread(tmp_path / "segmentation.dcm")
    texts = [structures.StructureSetDescription, structures.StructureSetROISequence[0].ROIDescription]
    for text in [*texts, segments.SegmentSequence[0].SegmentDescription]:
        assert len(text) <= 1024 and text.endswith("...") and RESEARCH in text


@pytest.mark.parametrize("keyword", [*PATIENT, *STUDY[1:]])
def test_what_somebody_took_out_of_the_series_stays_empty(tmp_path: Path, series: Series, keyword: str) -> None:
    for header in series.headers:
        if keyword in header:
            delattr(header, keyword)
    volumes = as_volumes(series, regions(series))
    for name, write in (("rtstruct.dcm", write_structures), ("segmentation.dcm", write_segmentation)):
        write(tmp_path / name, series, volumes, "")
        assert not dcmread(tmp_path / name).get(keyword)
    assert all(keyword not in header for header in series.headers)


@pytest.mark.parametrize("name", ["rtstruct.dcm", "segmentation.dcm"])
def test_the_validator_finds_no_error(tmp_path: Path, series: Series, name: str) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    write = write_structures if name == "rtstruct.dcm" else write_segmentation
    write(tmp_path / name, series, as_volumes(series, regions(series)), "")
    said = subprocess.run([validator, tmp_path / name], capture_output=True, text=True).stderr
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_the_command_writes_both_for_a_dicom_t1(tmp_path: Path, tiny_command: Callable[..., int]) -> None:
    arrays = make_arrays()
    for role in ("t1", "flair"):
        write_series(tmp_path / role, np.round(arrays[role]), LPS @ AFFINE)
    seg = save(tmp_path / "seg.nii.gz", arrays["seg"])
    out = tmp_path / "out"
    given = [f"t1={tmp_path / 't1'}", f"flair={tmp_path / 'flair'}", f"seg={seg}", f"out={out}"]
    assert tiny_command(*given) == 0
    record = json.loads((out / "parameters.json").read_text())
    assert len(record["hashes"]["t1"]) == 64
    found = contours_with_plastimatch(out / "rtstruct.dcm", tmp_path / "t1", tmp_path / "read")
    series = read_series(tmp_path / "t1")
    assert set(found) >= {"core", "edema", "ctv_15mm", "ctv_20mm", "ctv_density"}
    core = np.isin(arrays["seg"], (1, 4))
    again = same_voxels(found["core"], AFFINE, core.shape)
    assert overlap(core, again) > 0.95
    segments = segments_with_dcmqi(out / "segmentation.dcm", tmp_path / "segments")
    assert set(segments) == set(found)
    volume = abs(np.linalg.det(series.affine[:3, :3])) / 1000
    for name, segment in segments.items():
        count = np.count_nonzero(segment.get_fdata())
        assert count * volume == pytest.approx(record["targets"]["volumes_ml"][name], abs=0.01)
    assert record["targets"]["density"] in dcmread(out / "rtstruct.dcm").StructureSetDescription
    np.testing.assert_array_equal(same_voxels(nib.load(out / "core.nii.gz"), AFFINE, core.shape), core)
    t1 = save(tmp_path / "t1.nii.gz", arrays["t1"])
    assert tiny_command(f"t1={t1}", f"seg={seg}", f"out={out}") == 0
    assert not (out / "rtstruct.dcm").exists() and not (out / "segmentation.dcm").exists()
    assert tiny_command(f"t1={t1}", f"seg={seg}", f"dicom={tmp_path / 'flair'}", f"out={out}") == 0
    assert dcmread(out / "rtstruct.dcm").FrameOfReferenceUID == series.frame_of_reference


def test_a_series_that_cuts_a_target_off_is_said_to(
    tmp_path: Path, tiny_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = make_arrays()
    core = np.argwhere(np.isin(arrays["seg"], (1, 4)))[:, 2]
    low, high = core.min(), core.max() + 1
    affine = AFFINE.copy()
    affine[:3, 3] += low * AFFINE[:3, 2]
    write_series(tmp_path / "slab", np.round(arrays["t1"][:, :, low:high]), LPS @ affine)
    paths = [save(tmp_path / f"{role}.nii.gz", arrays[role]) for role in ("t1", "seg")]
    out = tmp_path / "out"
    given = [f"t1={paths[0]}", f"seg={paths[1]}", f"dicom={tmp_path / 'slab'}", f"out={out}"]
    assert tiny_command(*given) == 0
    record = json.loads((out / "parameters.json").read_text())
    ctv = nib.load(out / "ctv_20mm.nii.gz").get_fdata() > 0
    missing = 1 - ctv[:, :, low:high].sum() / ctv.sum()
    assert record["targets"]["cut_off_by_series"]["ctv_20mm"] == pytest.approx(missing) and missing > 0.1
    assert "ctv_20mm: the DICOM series does not show" in " ".join(capsys.readouterr().out.split())
    assert "ctv_20mm: the DICOM series does not show" in dcmread(out / "rtstruct.dcm").StructureSetDescription


def test_a_region_that_thick_slices_lose_is_said_to_be_lost(tmp_path: Path) -> None:
    """A core in one slice of 1 mm, midway between slices that are 5 mm apart."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    write_series(tmp_path / "thick", np.full((30, 30, 6), 100), LPS @ affine)
    series = read_series(tmp_path / "thick")
    shape, flat = (30, 30, 26), np.zeros((30, 30, 26), dtype=bool)
    flat[8:22, 8:22, 12] = True
    deep = np.zeros(shape, dtype=bool)
    deep[5:25, 5:25, 2:24] = True
    t1 = Volume(np.ones(shape, dtype=np.float32), np.eye(4))
    patient = Patient("thin", t1, Frame(t1.affine, shape), Masks(flat, deep), series=series)
    found = _on_series({"core": flat, "edema": deep}, patient)
    assert found == {"cut_off_by_series": {}, "changed_by_series": {"core": -1.0}}
    assert series_notes(found) == ["core: on the voxels of the DICOM series its volume changes by -100%"]
    write_structures(tmp_path / "rtstruct.dcm", series, {"core": t1.with_array(flat)}, "note")
    assert "ContourSequence" not in dcmread(tmp_path / "rtstruct.dcm").ROIContourSequence[0]


def test_the_folder_of_a_series_takes_no_answer(tmp_path: Path, tiny_command: Callable[..., int]) -> None:
    arrays = make_arrays()
    write_series(tmp_path / "t1", np.round(arrays["t1"]), LPS @ AFFINE)
    seg = save(tmp_path / "seg.nii.gz", arrays["seg"])
    with pytest.raises(InputError, match="the folder of an input series"):
        tiny_command(f"t1={tmp_path / 't1'}", f"seg={seg}", f"out={tmp_path / 't1'}")
