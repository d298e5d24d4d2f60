"""The images are held against the masks: mirrored and foreign masks, cut brains and thick slices are noticed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from morph.appearance import core_contrast, flair_contrast, largest_end
from morph.foci import split_foci
from morph.input_checks import check_appearance, check_foci, check_patient, check_volume
from morph.patient import Patient
from morph.segmentation import Masks
from morph.volume import Frame, Volume

SIZE = (44, 52, 40)


@pytest.fixture(scope="module")
def patient() -> Patient:
    """A round brain of 3.5 mm voxels with a bright tumor on its left."""
    x, y, z = (np.stack(np.meshgrid(*[np.arange(n) for n in SIZE], indexing="ij")).T - (np.array(SIZE) - 1) / 2).T
    brain = (x / 19) ** 2 + (y / 23) ** 2 + (z / 18) ** 2 < 1
    distance = np.sqrt((x + 9) ** 2 + y**2 + z**2)
    core, edema = distance < 4, distance < 7
    noise = np.random.default_rng(0).normal(0, 5, SIZE)
    t1 = np.where(brain, 100 + noise - 20 * edema, 0).astype(np.float32)
    flair = np.where(brain, 60 + noise + 60 * edema, 0).astype(np.float32)
    t1ce = np.where(brain, 100 + noise + 80 * core, 0).astype(np.float32)
    volume = Volume(t1, np.diag([3.5, 3.5, 3.5, 1.0]))
    images = (volume.with_array(t1ce), volume.with_array(flair))
    return Patient("round", volume, Frame(volume.affine, SIZE), Masks(core, edema), *images)


def masked(patient: Patient, core: np.ndarray, edema: np.ndarray) -> Patient:
    return replace(patient, masks=Masks(core, edema))


def verdicts(patient: Patient) -> dict[str, str]:
    return {check.name: check.verdict for check in check_patient(patient)}


def test_right_masks_are_brighter_than_their_mirror_image(patient: Patient) -> None:
    assert flair_contrast(patient) > 1  # type: ignore[operator]
    assert core_contrast(patient) > 1  # type: ignore[operator]
    assert {check.verdict for check in check_appearance(patient)} == {"pass"}


def test_mirrored_masks_are_noticed(patient: Patient) -> None:
    mirrored = masked(patient, patient.masks.core[::-1], patient.masks.edema[::-1])
    assert {check.name: check.verdict for check in check_appearance(mirrored)} == {
        "flair_shows_edema": "fail",
        "flair_outside_masks": "fail",
        "t1gd_shows_core": "fail",
    }


def test_masks_elsewhere_are_noticed(patient: Patient) -> None:
    core, edema = (np.roll(mask, (9, 11), (0, 1)) for mask in (patient.masks.core, patient.masks.edema))
    assert "pass" not in {check.verdict for check in check_appearance(masked(patient, core, edema))}


def test_without_other_images_the_t1_is_asked(patient: Patient) -> None:
    alone = replace(patient, flair=None, t1ce=None)
    said = {"masks_can_be_checked": "warn", "core_can_be_checked": "warn", "t1_shows_tumor": "pass"}
    assert {check.name: check.verdict for check in check_appearance(alone)} == said
    mirrored = masked(alone, patient.masks.core[::-1], patient.masks.edema[::-1])
    assert [check.verdict for check in check_appearance(mirrored)] == ["warn"] * 3
    assert "give flair=" in check_appearance(alone)[0].message
    assert verdicts(replace(patient, flair=None))["masks_can_be_checked"] == "warn"
    lacking = verdicts(replace(patient, t1ce=None))
    assert lacking["core_can_be_checked"] == "warn" and "masks_can_be_checked" not in lacking


def test_a_tumor_across_the_middle_is_compared_with_the_healthy_brain(patient: Patient) -> None:
    middle = np.zeros(SIZE, dtype=bool)
    middle[12:32, 20:30, 15:25] = True
    assert patient.flair is not None
    bright = patient.flair.with_array(patient.flair.array + 50 * middle)
    across = replace(masked(patient, middle, middle), flair=bright)
    assert flair_contrast(across) > 1  # type: ignore[operator]


def test_masks_that_cover_part_of_the_tumor_are_noticed(patient: Patient) -> None:
    halved = patient.masks.edema.copy()
    halved[14:] = False
    some = masked(patient, patient.masks.core & halved, halved)
    found = {check.name: check for check in check_appearance(some)}
    assert (found["flair_shows_edema"].verdict, found["flair_outside_masks"].verdict) == ("pass", "fail")
    shown = patient.masks.edema.sum() * patient.t1.voxel_volume
    assert 0.1 * shown < found["flair_outside_masks"].value < shown


def test_what_is_bright_on_both_sides_is_no_tumor(patient: Patient) -> None:
    assert patient.flair is not None
    spots = np.zeros(SIZE, dtype=bool)
    spots[6:12, 36:42, 16:24] = True
    left, both = (patient.flair.with_array(patient.flair.array + 80 * s) for s in (spots, spots | spots[::-1]))
    assert verdicts(replace(patient, flair=left))["flair_outside_masks"] == "fail"
    assert verdicts(replace(patient, flair=both))["flair_outside_masks"] == "pass"


@pytest.mark.parametrize(("axis", "side"), [(2, slice(32, None)), (2, slice(0, 8)), (0, slice(0, 9))])
def test_a_brain_that_is_cut_off_is_noticed(patient: Patient, axis: int, side: slice) -> None:
    assert verdicts(patient)["brain_complete"] == "pass"
    cut = patient.t1.array.copy()
    cut[tuple(side if a == axis else slice(None) for a in range(3))] = 0
    assert largest_end(replace(patient, t1=patient.t1.with_array(cut))) > 0.4
    assert verdicts(replace(patient, t1=patient.t1.with_array(cut)))["brain_complete"] == "warn"


@pytest.mark.parametrize("degrees", [0, 5, 20, 45])
def test_a_cut_need_not_lie_along_an_axis(patient: Patient, degrees: float) -> None:
    tilt = np.deg2rad(degrees)
    heights = np.tensordot([0.6 * np.sin(tilt), 0.8 * np.sin(tilt), np.cos(tilt)], np.indices(SIZE) * 3.5, 1)
    inside = heights < heights[patient.brain].max() - 40
    cut = replace(patient, t1=patient.t1.with_array(patient.t1.array * inside))
    assert largest_end(patient) < 0.35 and largest_end(cut) > 0.7
    assert verdicts(cut)["brain_complete"] == "fail"


def test_a_brain_without_a_hull_is_not_complete(patient: Patient) -> None:
    for few in (np.s_[20:21], np.s_[20:21, 20:21, 20:22]):
        some = np.zeros_like(patient.t1.array)
        some[few] = patient.t1.array[few]
        assert largest_end(SimpleNamespace(brain=some > 0, t1=patient.t1)) == 1.0  # type: ignore[arg-type]


def test_a_t1_that_is_not_this_patients_is_noticed(patient: Patient) -> None:
    assert {name: verdict for name, verdict in verdicts(patient).items() if name.endswith("_patient")} == {
        "flair_shows_patient": "pass",
        "t1gd_shows_patient": "pass",
    }
    noise = np.random.default_rng(1).normal(0, 5, SIZE)
    other, mirrored, moved = (
        np.where(patient.brain, 100 + noise, 0), patient.t1.array[::-1], np.roll(patient.t1.array, 2, axis=1),
    )  # fmt: skip
    for t1 in (other, mirrored, moved):
        found = verdicts(replace(patient, t1=patient.t1.with_array(t1.astype(np.float32))))
        assert "pass" not in (found["flair_shows_patient"], found["t1gd_shows_patient"])
    assert found["flair_shows_patient"] == "fail"  # it tells more when it is moved, too
    assert "t1gd_shows_patient" not in verdicts(replace(patient, t1ce=None))
    assert patient.flair is not None
    found = verdicts(replace(patient, flair=patient.flair.with_array(patient.flair.array[::-1])))
    assert (found["flair_shows_patient"], found["t1gd_shows_patient"]) == ("warn", "pass")  # the T1 is one of them


def test_an_image_of_part_of_the_brain_shows_its_patient(patient: Patient) -> None:
    assert patient.flair is not None
    part = patient.flair.array.copy()
    part[:, :, :12] = 0
    assert verdicts(replace(patient, t1ce=None, flair=patient.flair.with_array(part)))["flair_shows_patient"] == "pass"
    nothing = patient.flair.with_array(0 * part)
    assert verdicts(replace(patient, t1ce=None, flair=nothing))["flair_shows_patient"] == "fail"


def test_thick_slices_are_noticed(patient: Patient) -> None:
    thick = Volume(patient.t1.array, np.diag([1.0, 1.0, 5.0, 1.0]))
    assert verdicts(replace(patient, t1=thick, flair=None, t1ce=None))["voxel_size"] == "warn"


def test_a_head_is_no_brain() -> None:
    assert [check_volume(v).verdict for v in (600, 1500, 2200, 3500)] == ["warn", "pass", "warn", "fail"]
    assert "skull" in check_volume(3500).message


def test_foci_are_told_apart_and_share_the_edema(patient: Patient) -> None:
    whole = split_foci(patient.masks, patient.t1)
    assert whole.others is None and check_foci(whole).verdict == "pass"
    second = np.zeros(SIZE, dtype=bool)
    second[30:34, 24:28, 18:22] = True  # 2.7 ml
    near = np.roll(second, 3, 1)
    foci = split_foci(Masks(patient.masks.core | second, patient.masks.edema | second | near), patient.t1)
    assert check_foci(foci).verdict == "warn"
    np.testing.assert_array_equal(foci.largest.core, patient.masks.core)
    np.testing.assert_array_equal(foci.largest.edema, patient.masks.edema)
    assert foci.others is not None
    np.testing.assert_array_equal(foci.others.edema, second | near)


def test_specks_beside_a_tumor_are_part_of_it(patient: Patient) -> None:
    core = patient.masks.core.copy()
    core[34, 25, 20:22] = True  # 0.09 ml
    assert split_foci(Masks(core, patient.masks.edema), patient.t1).others is None


@pytest.mark.parametrize("voxels", [0, 4, 9])
def test_a_second_edema_is_a_focus_whatever_speck_of_core_is_in_it(patient: Patient, voxels: int) -> None:
    lone, speck = np.zeros((2, *SIZE), dtype=bool)
    lone[30:34, 24:28, 18:22] = True  # 2.7 ml
    speck[tuple(np.argwhere(lone)[:voxels].T)] = True  # up to 0.39 ml
    foci = split_foci(Masks(patient.masks.core | speck, patient.masks.edema | lone), patient.t1)
    assert check_foci(foci).verdict == "warn" and foci.others is not None
    np.testing.assert_array_equal(foci.others.edema, lone)
    np.testing.assert_array_equal(foci.others.core, speck)
    np.testing.assert_array_equal(foci.largest.core, patient.masks.core)


def test_specks_of_core_in_another_focus_stay_there(patient: Patient) -> None:
    second, ring, speck = np.zeros((3, *SIZE), dtype=bool)
    second[30:34, 24:28, 18:22], ring[27:36, 22:30, 18:22], speck[27, 22, 18:20] = True, True, True
    foci = split_foci(Masks(patient.masks.core | second | speck, patient.masks.edema | ring), patient.t1)
    assert foci.others is not None
    np.testing.assert_array_equal(foci.others.core, second | speck)
    np.testing.assert_array_equal(foci.largest.core, patient.masks.core)


def test_what_is_drawn_outside_the_brain_is_no_focus(patient: Patient) -> None:
    beside = np.zeros(SIZE, dtype=bool)
    beside[36:, 40:, 30:] = True  # larger than the core, and nowhere in the brain
    assert not (beside & patient.brain).any() and beside.sum() > patient.masks.core.sum()
    foci = split_foci(Masks(patient.masks.core | beside, patient.masks.edema | beside), patient.t1)
    assert foci.others is None
    replace(patient, masks=foci.largest)  # is not refused


def test_an_edema_far_from_every_core_is_a_focus(patient: Patient) -> None:
    lone = np.zeros(SIZE, dtype=bool)
    lone[30:34, 24:28, 18:22] = True  # 2.7 ml
    foci = split_foci(Masks(patient.masks.core, patient.masks.edema | lone), patient.t1)
    assert check_foci(foci).verdict == "warn"
    assert foci.others is not None and not foci.others.core.any()
    np.testing.assert_array_equal(foci.others.edema, lone)
    np.testing.assert_array_equal(foci.largest.edema, patient.masks.edema)
    assert foci.second == pytest.approx(lone.sum() * patient.t1.voxel_volume)
    near = np.roll(patient.masks.edema, 1, 0) | patient.masks.edema
    assert split_foci(Masks(patient.masks.core, near), patient.t1).others is None


def test_a_core_that_does_not_enhance_is_no_wrong_mask(patient: Patient) -> None:
    assert patient.t1ce is not None
    dark = replace(patient, t1ce=patient.t1ce.with_array(patient.t1ce.array - 120 * patient.masks.core))
    assert verdicts(dark)["t1gd_shows_core"] == "warn"
    assert verdicts(replace(dark, flair=None))["t1gd_shows_core"] == "warn"
    dull = replace(dark, flair=patient.flair.with_array(patient.flair.array - 60 * patient.masks.edema))  # type: ignore[union-attr]
    assert verdicts(dull)["t1gd_shows_core"] == "fail"


def test_a_thin_rim_of_edema_is_looked_at_with_its_core(patient: Patient) -> None:
    rim = np.zeros(SIZE, dtype=bool)
    rim[tuple(np.argwhere(patient.masks.edema & ~patient.masks.core)[0])] = True
    assert patient.flair is not None
    noisy = patient.flair.with_array(patient.flair.array - 200 * rim)
    thin = replace(masked(patient, patient.masks.edema & ~rim, patient.masks.edema), flair=noisy)
    assert verdicts(thin)["flair_shows_edema"] == "pass"


def test_thick_masks_are_noticed(patient: Patient) -> None:
    assert verdicts(replace(patient, mask_spacing=5.0))["voxel_size"] == "warn"
    assert verdicts(replace(patient, mask_spacing=9.0))["voxel_size"] == "fail"
