"""Masks whose core and edema are exchanged, and labels in another program's order, are noticed; right ones pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from morph.input_checks import check_appearance, check_nesting
from morph.patient import Patient, crop, find_case, load_patient
from morph.resample import bounding_box
from morph.segmentation import Masks, masks_from_labels
from morph.volume import Frame, Volume, read_volume

SIZE = (48, 40, 40)
NNUNET, HD_GLIO = {2: 1, 1: 2, 4: 3}, {2: 1, 1: 2, 4: 2}
"""What the labels of BraTS (1 necrosis, 2 edema, 4 enhancing) are called elsewhere."""


@pytest.fixture
def balls() -> Patient:
    """A box of brain with a tumor of two balls that lie in each other, beside the box's wall."""
    x, y, z = np.indices(SIZE)
    near = [(x - 12) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < r**2 for r in (7, 11)]
    t1 = Volume(np.ones(SIZE, dtype=np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    return Patient("balls", t1, Frame(t1.affine, SIZE), Masks(*near))


def said(patient: Patient, core: np.ndarray, edema: np.ndarray) -> list[str]:
    return [check.verdict for check in check_nesting(replace(patient, masks=Masks(core, edema)))]


def test_an_exchange_is_noticed(balls: Patient) -> None:
    core, edema = balls.masks.core, balls.masks.edema
    assert said(balls, core, edema) == ["pass"]
    assert said(balls, edema & ~core, edema) == ["fail"]
    assert "labels=" in check_nesting(replace(balls, masks=Masks(edema & ~core, edema)))[0].message


def test_a_core_at_the_edge_and_an_edema_on_one_side_are_right(balls: Patient) -> None:
    core, edema = balls.masks.core, balls.masks.edema
    bare = edema.copy()
    bare[:14] &= core[:14]
    assert said(balls, core, bare) == ["pass"]
    small = np.zeros_like(core)
    small[20:23, 18:22, 18:22] = True
    assert said(balls, small & edema, edema) == ["pass"]


def test_an_edema_as_small_as_a_speck_only_warns(balls: Patient) -> None:
    core = balls.masks.core
    speck = np.zeros_like(core)
    speck[12, 20, 20] = True
    assert said(balls, core, core) == []
    assert said(balls, core & ~speck, core) == ["warn"]
    assert said(balls, core & ~ndimage.binary_dilation(speck, iterations=3), core) == ["fail"]


def test_patients_pass_and_other_orders_of_their_labels_fail(patients: Path) -> None:
    for folder in sorted(path for path in patients.iterdir() if path.is_dir()):
        whole = load_patient(find_case(folder))
        patient = crop(whole, bounding_box(whole.brain, 4))
        right = {check.name: check.verdict for check in [*check_nesting(patient), *check_appearance(patient)]}
        assert set(right.values()) == {"pass"}, folder.name
        labels = read_volume(folder / "seg.nii.gz")
        for order in (NNUNET, HD_GLIO):
            numbers = sum(np.where(labels.array == old, new, 0) for old, new in order.items())
            wrong = masks_from_labels(labels.with_array(numbers))
            assert [check.verdict for check in check_nesting(replace(whole, masks=wrong))] == ["fail"], folder.name


def test_masks_of_other_patients_never_pass(patients: Path) -> None:
    cases = [load_patient(find_case(path)) for path in sorted(patients.iterdir()) if path.is_dir()]
    box = bounding_box(cases[0].brain, 4)
    patient = crop(cases[0], box)
    for other in cases:
        for side in (1, -1) if other is not cases[0] else (-1,):
            masks = Masks(other.masks.core[::side][box], other.masks.edema[::side][box])
            found = {check.verdict for check in check_appearance(replace(patient, masks=masks))}
            assert "fail" in found, (other.name, side)
