"""Contract of a patient's files: names, labels and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import InputError
from morph.patient import crop, find_case, load_patient
from morph.resample import bounding_box
from morph.segmentation import BRATS_2020, Masks, masks_from_labels
from morph.volume import Volume, read_volume
from tests.morph.conftest import AFFINE, make_arrays, save

Case = Callable[..., Path]


def labeled(*labels: float) -> Volume:
    array = np.zeros((4, 4, 4), dtype=np.float32)
    array.ravel()[: len(labels)] = labels
    return Volume(array, AFFINE)


@pytest.mark.parametrize("labels", [(1, 2, 4), (1, 2, 3)])
def test_both_brats_schemes_are_told_apart(labels: tuple[int, ...]) -> None:
    masks = masks_from_labels(labeled(*labels))
    assert masks.core.ravel()[:3].tolist() == [True, False, True]
    assert masks.edema.sum() == 3


def test_a_map_of_ones_own_is_taken_literally() -> None:
    masks = masks_from_labels(labeled(7, 9), {"core": [7], "edema": [9]})
    assert (masks.core.sum(), masks.edema.sum()) == (1, 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((1, 2, 5), "unknown label 5"),
        ((1, 3, 4), "labels 3 and 4"),
        ((1, 2.5), "no label"),
        ((), "both masks are empty"),
        ((1, -1), "unknown label -1"),
    ],
)
def test_wrong_labels_are_refused(labels: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        masks_from_labels(labeled(*labels))


@pytest.mark.parametrize(
    "labels",
    [
        "brats",
        None,
        3,
        {"core": [1]},
        {"core": 1, "edema": 2},
        {"core": [1.5], "edema": [2]},
        {"core": [0], "edema": []},
    ],
)
def test_a_malformed_map_is_refused(labels: object) -> None:
    with pytest.raises(InputError, match="labels"):
        masks_from_labels(labeled(1), labels)  # type: ignore[arg-type]


def test_label_4_beside_recent_names_must_be_explained(case: Case) -> None:
    folder = case()
    assert load_patient(find_case(folder)).masks.labels == BRATS_2020
    (folder / "t1.nii.gz").rename(folder / "BraTS-GLI-00000-100-t1n.nii.gz")
    with pytest.raises(InputError, match="resection cavity"):
        load_patient(find_case(folder))
    assert load_patient(find_case(folder), {"core": [1, 4], "edema": [2]}).masks.core.any()


def test_edema_always_contains_the_core() -> None:
    core = np.zeros((3, 3, 3), dtype=bool)
    core[1, 1, 1] = True
    assert Masks(core, np.zeros_like(core)).edema[1, 1, 1]


def test_a_case_folder_is_found_by_its_names(tmp_path: Path) -> None:
    for name in ("X_t1.nii.gz", "X_t1ce.nii.gz", "X_seg.nii.gz", "X_t2.nii.gz", "note.txt"):
        (tmp_path / name).touch()
    assert {role: path.name for role, path in find_case(tmp_path).items()} == {
        "t1": "X_t1.nii.gz",
        "t1ce": "X_t1ce.nii.gz",
        "seg": "X_seg.nii.gz",
    }


def test_newer_brats_names_are_known(tmp_path: Path) -> None:
    for ending in ("t1n", "t1c", "t2f", "t2w", "seg"):
        (tmp_path / f"BraTS-GLI-00000-000-{ending}.nii.gz").touch()
    assert set(find_case(tmp_path)) == {"t1", "t1ce", "flair", "seg"}


def test_incomplete_and_ambiguous_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        find_case(tmp_path / "absent")
    with pytest.raises(InputError, match="has no t1"):
        find_case(tmp_path)
    (tmp_path / "a_t1.nii.gz").touch()
    with pytest.raises(InputError, match="has no seg"):
        find_case(tmp_path)
    (tmp_path / "b_t1.nii.gz").touch()
    with pytest.raises(InputError, match="2 files for t1"):
        find_case(tmp_path)


@pytest.mark.parametrize("axes", ["LPS", "LAS"])
def test_a_patient_is_the_same_in_every_orientation(case: Case, axes: str) -> None:
    first, second = (load_patient(find_case(case(a))) for a in ("RAS", axes))
    np.testing.assert_array_equal(first.masks.core, second.masks.core)
    np.testing.assert_array_equal(first.t1.array, second.t1.array)
    assert second.flair is not None


def test_single_masks_give_the_same_as_labels(case: Case, tmp_path: Path) -> None:
    folder = case()
    labels = make_arrays()["seg"]
    core = save(tmp_path / "core.nii.gz", np.isin(labels, (1, 4)).astype(np.float32))
    edema = save(tmp_path / "edema.nii.gz", (labels == 2).astype(np.float32))
    single = load_patient({"t1": folder / "t1.nii.gz", "core": core, "edema": edema})
    both = load_patient(find_case(folder))
    np.testing.assert_array_equal(single.masks.core, both.masks.core)
    np.testing.assert_array_equal(single.masks.edema, both.masks.edema)


def test_one_file_twice_means_that_no_edema_is_visible(case: Case, tmp_path: Path) -> None:
    folder = case()
    core = save(tmp_path / "core.nii.gz", np.float32(255) * (make_arrays()["seg"] == 4))
    masks = load_patient({"t1": folder / "t1.nii.gz", "core": core, "edema": core}).masks
    np.testing.assert_array_equal(masks.core, masks.edema)
    assert masks.labels is None


def test_exchanged_files_are_refused(case: Case, tmp_path: Path) -> None:
    t1, labels = case() / "t1.nii.gz", make_arrays()["seg"]
    core = save(tmp_path / "core.nii.gz", np.isin(labels, (1, 4)).astype(np.float32))
    whole = save(tmp_path / "whole.nii.gz", (labels > 0).astype(np.float32))
    with pytest.raises(InputError, match=r"edema .*core\.nii\.gz is a part of the core .*whole\.nii\.gz.*exchanged"):
        load_patient({"t1": t1, "core": whole, "edema": core})
    beside = (labels == 2).astype(np.float32)
    beside[tuple(np.argwhere(labels == 4)[0])] = 1
    stray, tighter = (np.isin(labels, (1, 4)).astype(np.float32) for _ in range(2))
    stray[tuple(np.argwhere(stray)[1:].T)] = 0
    tighter[tuple(np.argwhere(tighter)[::24].T)] = 0
    drawn = {"beside": beside, "none": 0 * beside, "stray": stray, "tighter": tighter}
    for edema in (whole, *(save(tmp_path / f"{name}.nii.gz", array) for name, array in drawn.items())):
        assert load_patient({"t1": t1, "core": core, "edema": edema}).masks.core.sum() == np.isin(labels, (1, 4)).sum()


def test_a_tumor_that_the_t1_cuts_off_is_refused(case: Case) -> None:
    folder, arrays = case(), make_arrays()
    across = np.flatnonzero(arrays["seg"].any(axis=(1, 2)))
    for kept, whole in ((int(across[-1]) + 1, True), (int(across[-1]), False), (int(across[-1]) - 1, False)):
        save(folder / "t1.nii.gz", arrays["t1"][:kept])
        if whole:
            load_patient(find_case(folder))
            continue
        with pytest.raises(InputError, match=r"seg\.nii\.gz lies beside the T1: \d+% of it falls outside"):
            load_patient(find_case(folder))


def test_images_that_are_no_masks_are_refused(case: Case, tmp_path: Path) -> None:
    folder, labels = case(), make_arrays()["seg"]
    core = save(tmp_path / "core.nii.gz", (labels == 4).astype(np.float32))
    negative = save(tmp_path / "negative.nii.gz", -(labels == 2).astype(np.float32))
    for files in (
        {"core": folder / "seg.nii.gz", "edema": core},
        {"core": core, "edema": folder / "flair.nii.gz"},
        {"core": core, "edema": negative},
    ):
        with pytest.raises(InputError, match="is no mask"):
            load_patient({"t1": folder / "t1.nii.gz", **files})


def test_contradictory_files_are_refused(case: Case) -> None:
    folder = case()
    t1, seg = folder / "t1.nii.gz", folder / "seg.nii.gz"
    for files, message in (
        ({"seg": seg}, "no T1"),
        ({"t1": t1}, "either as seg"),
        ({"t1": t1, "seg": seg, "core": seg}, "either as seg"),
        ({"t1": t1, "seg": seg, "edema": seg}, "needs core"),
        ({"t1": t1, "core": seg}, "needs edema"),
    ):
        with pytest.raises(InputError, match=message):
            load_patient(files)


def test_images_without_a_brain_are_refused(case: Case) -> None:
    arrays = make_arrays()
    with pytest.raises(InputError, match="no positive voxel"):
        load_patient(find_case(case(t1=np.zeros_like(arrays["t1"]))))
    with pytest.raises(InputError, match="negative intensities"):
        load_patient(find_case(case(t1=arrays["t1"] - 100)))
    outside = np.zeros_like(arrays["seg"])
    outside[0, 0, 0] = 4
    with pytest.raises(InputError, match="outside the brain"):
        load_patient(find_case(case(seg=outside)))


def test_what_is_read_is_not_refused_in_its_box(case: Case) -> None:
    arrays = make_arrays()
    outside = np.flatnonzero(arrays["t1"] == 0)
    few = int(0.04 * np.count_nonzero(arrays["t1"]))
    ringing = arrays["t1"].copy()
    ringing.flat[outside[len(outside) // 2 :][:few]] = -1
    patient = load_patient(find_case(case(t1=ringing)))
    assert np.count_nonzero(crop(patient, bounding_box(patient.brain, 0)).t1.array < 0) > 0


def test_masks_without_a_core_are_read_and_margins_go_around_the_edema(case: Case) -> None:
    labels = make_arrays()["seg"]
    patient = load_patient(find_case(case(seg=np.where(labels > 0, np.float32(2), 0))))
    assert not patient.masks.core.any()
    np.testing.assert_array_equal(patient.masks.target, labels > 0)
    outside = np.zeros_like(labels)
    outside[0, 0, 0] = 2
    with pytest.raises(InputError, match="edema mask lies outside the brain"):
        load_patient(find_case(case(seg=outside)))


def test_images_on_other_grids_are_brought_to_the_t1(case: Case) -> None:
    folder, arrays = case(), make_arrays()
    whole = load_patient(find_case(folder))
    wide = AFFINE.copy()
    wide[:3, 3] -= 2 * 4.0
    for role in ("seg", "flair"):
        save(folder / f"{role}.nii.gz", np.pad(arrays[role], 2), wide, axes="LAS")
    padded = load_patient(find_case(folder))
    np.testing.assert_array_equal(padded.masks.core, whole.masks.core)
    assert padded.flair is not None and whole.flair is not None
    np.testing.assert_allclose(padded.flair.array, whole.flair.array, atol=1e-3)


def test_a_whole_head_beside_a_cut_out_brain_is_an_image_of_it(case: Case) -> None:
    folder = case("RAS")
    t1, flair = (read_volume(folder / f"{role}.nii.gz") for role in ("t1", "flair"))
    corners = np.argwhere(t1.array > 0)
    first, last = corners.min(axis=0), corners.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    affine = t1.affine.copy()
    affine[:3, 3] = t1.to_world(first)
    save(folder / "t1.nii.gz", t1.array[box], affine)
    save(folder / "flair.nii.gz", np.pad(flair.array + 5, 12), t1.affine @ shifted(-12))
    patient = load_patient(find_case(folder))
    assert patient.flair is not None
    np.testing.assert_allclose(patient.flair.array, flair.array[box] + 5, atol=1e-3)
    save(folder / "flair.nii.gz", np.pad(flair.array + 5, 12), t1.affine @ shifted(40))
    with pytest.raises(InputError, match="lies beside the T1"):
        load_patient(find_case(folder))


def test_the_voxels_that_masks_were_drawn_on_are_remembered(case: Case) -> None:
    folder = case("RAS")
    seg = read_volume(folder / "seg.nii.gz")
    spacing = float(seg.spacing.max())
    assert load_patient(find_case(folder)).mask_spacing == pytest.approx(spacing)
    thick = seg.array.reshape(*seg.array.shape[:2], -1, 2)[..., 0]
    save(folder / "seg.nii.gz", thick, seg.affine @ np.diag([1, 1, 2, 1]))
    assert load_patient(find_case(folder)).mask_spacing == pytest.approx(2 * spacing)


def shifted(voxels: int) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = voxels
    return affine


def test_own_tissue_maps_come_together_and_are_fractions(case: Case, tmp_path: Path) -> None:
    folder, brain = case(), (make_arrays()["t1"] > 0).astype(np.float32)
    white, gray, csf = (save(tmp_path / f"{n}.nii.gz", s * brain) for n, s in (("w", 0.5), ("g", 0.3), ("c", 0.1)))
    files = find_case(folder) | {"white_matter": white, "gray_matter": gray, "csf": csf}
    tissue = load_patient(files).tissue
    assert tissue is not None and tissue.source == "given"
    total = sum(m.array for m in tissue.maps)
    np.testing.assert_allclose(total, brain, atol=1e-6)
    with pytest.raises(InputError, match="alone are not enough"):
        load_patient(find_case(folder) | {"white_matter": white})
    with pytest.raises(InputError, match="fractions from 0 to 1"):
        load_patient(files | {"csf": save(tmp_path / "c.nii.gz", 90 * brain)})
