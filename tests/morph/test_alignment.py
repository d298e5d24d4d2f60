"""Does a DICOM series show the patient whose contours it takes?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from morph.alignment import (
    LEAD,
    NO_SIDE,
    SIDE,
    check_series,
    lead_in_place,
    lead_of_side,
    mutual_information,
)
from morph.patient import load_patient
from morph.volume import Volume
from tests.morph.conftest import AFFINE, make_arrays, save
from tests.morph.dicom_maker import LPS, write_series

AFFINE_2MM = np.diag([2.0, 2.0, 2.0, 1.0])


def head(seed: int) -> np.ndarray:
    """An ellipsoid of smooth noise, 120 x 150 x 110 mm."""
    shape = (80, 96, 76)
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.5)
    places = np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2
    inside = ((places / np.array([30, 37.5, 27.5])) ** 2).sum(axis=-1) < 1
    return np.where(inside, 5 + noise / noise.std(), 0).astype(np.float32)


def other_contrast(array: np.ndarray) -> np.ndarray:
    return np.where(array > 0, 10 + (array - 4.5) ** 2, 0).astype(np.float32)


def test_an_image_of_another_contrast_fits_best_where_it_lies() -> None:
    t1 = Volume(head(0), AFFINE_2MM)
    right = lead_in_place(t1, Volume(other_contrast(t1.array), AFFINE_2MM))
    assert right > LEAD
    moved = AFFINE_2MM.copy()
    moved[1, 3] += 8
    wrong = [
        Volume(other_contrast(t1.array), moved),
        Volume(other_contrast(head(1)), AFFINE_2MM),
        Volume(np.random.default_rng(2).uniform(size=t1.array.shape).astype(np.float32), AFFINE_2MM),
        Volume(np.zeros_like(t1.array), AFFINE_2MM),
    ]
    assert all(lead_in_place(t1, other) < LEAD for other in wrong)


@pytest.mark.parametrize("off", [-3, 0, 2])
def test_images_that_are_mirrored_are_noticed(off: int) -> None:
    t1 = Volume(head(0), AFFINE_2MM)
    flair = Volume(other_contrast(t1.array), AFFINE_2MM)
    assert lead_of_side(t1, flair) > SIDE
    wrong = Volume(np.roll(flair.array[::-1], off, 0), AFFINE_2MM)
    assert lead_of_side(t1, wrong) < NO_SIDE
    assert lead_of_side(t1, Volume(np.ones_like(t1.array), AFFINE_2MM)) == np.inf


@pytest.mark.parametrize("off", [-4, 4])
def test_an_image_that_lies_to_the_side_is_not_taken_for_mirrored(off: int) -> None:
    half = head(0)
    even = np.maximum(half, half[::-1])  # as alike as sides can be, but for a tumor
    even[20:30, 40:50, 30:40] *= 0.5
    t1 = Volume(even, AFFINE_2MM)
    flair = np.roll(other_contrast(even), off // 2, 0)
    assert lead_of_side(t1, Volume(flair, AFFINE_2MM)) > SIDE


def test_mutual_information_of_equal_levels_is_their_entropy() -> None:
    values = np.random.default_rng(0).permutation(3200).astype(np.float32)
    assert mutual_information(values, -values) == pytest.approx(np.log(32), rel=1e-3)
    assert mutual_information(values, np.ones_like(values)) == 0


@pytest.mark.parametrize("same", [True, False])
def test_contours_on_a_strangers_series_come_with_a_warning(tmp_path: Path, same: bool) -> None:
    arrays = make_arrays()
    shown = arrays["t1"] if same else np.random.default_rng(0).uniform(0, 500, arrays["t1"].shape)
    write_series(tmp_path / "series", np.round(shown), LPS @ AFFINE, PatientName="Somebody^Else")
    files = {role: save(tmp_path / f"{role}.nii.gz", arrays[role]) for role in ("t1", "seg")}
    patient = load_patient(files | {"dicom": tmp_path / "series"})
    (check,) = check_series(patient)
    assert check.name == "series_shows_patient" and (check.verdict == "warn") != same
    assert patient.series is not None and patient.series.patient == "Somebody^Else (made-up-1)"
    assert check_series(load_patient(files)) == []
    assert check_series(load_patient({"t1": tmp_path / "series", "seg": files["seg"]})) == []
