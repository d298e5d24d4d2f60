"""Masks that are about right: some millimeters off, too wide, or without a part of the core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from morph.edges import WAYS, check_edges, enhancement_outside
from morph.patient import Patient
from morph.segmentation import Masks
from morph.volume import Frame, Volume

SPACING = np.array([1.0, 1.0, 2.0])
SHAPE = (100, 100, 50)
NOISE = np.random.default_rng(0).normal(0, 4, SHAPE)


def ball(radius: float, middle: tuple[float, float, float] = (60, 50, 50)) -> np.ndarray:
    away = (np.indices(SHAPE) * SPACING[:, None, None, None] - np.array(middle)[:, None, None, None]) ** 2
    return away.sum(axis=0) <= radius**2


@pytest.fixture
def patient() -> Patient:
    """A round tumor, its edema bright on FLAIR, its core on T1Gd."""
    brain, edema, core = ball(45, (50, 50, 50)), ball(22), ball(15)
    affine = np.diag([*SPACING, 1.0])
    t1 = Volume((100.0 * brain).astype(np.float32), affine)
    flair = np.where(brain, np.where(edema, 160, 80) + NOISE, 0)
    t1ce = np.where(brain, np.where(core, 160, 80) + NOISE, 0)
    frame = Frame(affine, SHAPE)
    images = {"t1ce": t1.with_array(t1ce), "flair": t1.with_array(flair)}
    return Patient("round", t1, frame, Masks(core, edema), **images)


def verdicts(patient: Patient, core: np.ndarray, edema: np.ndarray) -> dict[str, str]:
    return {check.name: check.verdict for check in check_edges(replace(patient, masks=Masks(core, edema)))}


ALL = ("flair_shows_outline", "masks_in_place", "t1gd_shows_outline", "t1gd_outside_core")


def test_right_masks_pass_and_so_do_those_that_readers_may_draw(patient: Patient) -> None:
    for more in (-1.5, 0.0, 1.5):
        assert verdicts(patient, ball(15 + more), ball(22 + more)) == dict.fromkeys(ALL, "pass")


@pytest.mark.parametrize("way", WAYS.tolist())
def test_masks_some_millimeters_off_are_noticed(patient: Patient, way: list[int]) -> None:
    middle = np.array([60.0, 50.0, 50.0]) + 5 * np.array(way) / np.linalg.norm(way)
    found = verdicts(patient, ball(15, tuple(middle)), ball(22, tuple(middle)))
    assert found["masks_in_place"] == "warn"


def test_an_edema_with_a_margin_is_noticed(patient: Patient) -> None:
    found = verdicts(patient, ball(15), ball(29))
    assert found == dict.fromkeys(ALL, "pass") | {"flair_shows_outline": "warn"}


def test_a_core_with_a_margin_is_noticed(patient: Patient) -> None:
    assert verdicts(patient, ball(20), ball(22)) == dict.fromkeys(ALL, "pass") | {"t1gd_shows_outline": "warn"}


def test_enhancement_that_the_core_leaves_out_is_noticed(patient: Patient) -> None:
    part = ball(15) & (np.indices(SHAPE)[0] < 54)
    assert verdicts(patient, part, ball(22))["t1gd_outside_core"] == "warn"
    left = (ball(15) & ~part).sum() * patient.t1.voxel_volume
    assert 0.3 * left < enhancement_outside(replace(patient, masks=Masks(part, ball(22)))) < left


def test_nothing_is_asked_of_images_that_are_not_there(patient: Patient) -> None:
    assert [check.name for check in check_edges(replace(patient, t1ce=None))] == list(ALL[:2])
    assert [check.name for check in check_edges(replace(patient, flair=None))] == list(ALL[2:])
    assert not check_edges(replace(patient, flair=None, t1ce=None))
    assert [c.name for c in check_edges(replace(patient, masks=Masks(ball(0.1) & False, ball(22))))] == list(ALL[:2])


def test_an_even_image_says_that_the_masks_are_not_shown(patient: Patient) -> None:
    even = replace(patient, flair=patient.t1)
    found = {check.name: (check.value, check.verdict) for check in check_edges(even)}
    assert found["flair_shows_outline"] == (0.0, "warn") and "masks_in_place" not in found
    everything = replace(patient, masks=Masks(ball(15), patient.brain))
    assert "masks_in_place" not in {check.name for check in check_edges(everything)}


def test_a_core_that_does_not_enhance_leaves_nothing_out(patient: Patient) -> None:
    dark = patient.t1.with_array(np.where(patient.brain, 80 + NOISE - 20 * ball(15), 0))
    assert enhancement_outside(replace(patient, t1ce=dark)) == 0
    rim = ball(15) & ~ball(13)  # the 60% quantile of such a core is necrosis
    thin = patient.t1.with_array(np.where(patient.brain, 80 + NOISE + 80 * rim - 20 * ball(13), 0))
    assert enhancement_outside(replace(patient, t1ce=thin)) < 0.5
    assert "t1gd_shows_outline" not in verdicts(replace(patient, t1ce=dark), ball(15), ball(22))
    assert verdicts(replace(patient, t1ce=thin), ball(15), ball(22))["t1gd_shows_outline"] == "pass"
