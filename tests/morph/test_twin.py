"""Digital twins are drawn from the prior, repeat with their seed, and show only what a scanner would."""

from __future__ import annotations

import numpy as np
import pytest

from engine import GRIDS, Anatomy, Grid, observe
from engine.model import Model
from morph.answer import Personalization
from morph.appearance import core_contrast, flair_contrast, t1_contrast
from morph.twin import Twin, compare, describe_twin, make_twin
from morph.twin_images import draw_outline
from tests.morph.same_place import answer_with


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    voxels = np.indices((40, 48, 36)).T
    brain = (np.sum(((voxels - [19.5, 23.5, 17.5]) / [18, 22, 16]) ** 2, axis=-1) <= 1).T.astype(np.float32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-78, -94, -70)
    ventricle = np.zeros_like(brain)
    ventricle[14:18, 16:32, 16:22] = 1
    matter = brain * (1 - ventricle)
    return Anatomy("tiny", 100 * brain - 60 * ventricle, 0.8 * matter, 0.2 * matter, ventricle, affine)


GRID = Grid((48, 48, 48), GRIDS["half"].spacing * 64 / 48)


@pytest.fixture(scope="module")
def twin(anatomy: Anatomy) -> Twin:
    return make_twin(3, anatomy, GRID)


def perfect(twin: Twin) -> Personalization:
    return answer_with(twin.density, method="refined", parameters=twin.parameters, origin_mm=twin.origin_mm)


def test_equal_seeds_make_equal_twins(twin: Twin, anatomy: Anatomy) -> None:
    again, other = make_twin(3, anatomy, GRID), make_twin(4, anatomy, GRID)
    assert again.parameters == twin.parameters != other.parameters
    np.testing.assert_array_equal(again.density.array, twin.density.array)


def test_masks_are_what_a_scanner_sees_up_to_their_outlines(twin: Twin, anatomy: Anatomy) -> None:
    exact = make_twin(3, anatomy, GRID, deviation=0.0)
    core, edema = observe(exact.density.array, *exact.thresholds)
    np.testing.assert_array_equal(exact.patient.masks.core, core)
    np.testing.assert_array_equal(exact.patient.masks.edema, edema | core)
    assert twin.density.array[~twin.patient.brain].max() == 0
    assert (twin.patient.masks.edema & ~twin.patient.brain).sum() == 0


def test_outlines_are_moved_by_what_is_asked() -> None:
    distance = np.linalg.norm(np.indices((60, 60, 60)) - 29.5, axis=0)
    ball, rng = distance < 18, np.random.default_rng(0)
    drawn = draw_outline(ball, np.ones(3), rng, 1.5)
    shell = np.abs(distance - 18) < 6
    moved = np.abs(ball.astype(float) - drawn)[shell].sum() / (4 * np.pi * 18**2)
    assert moved == pytest.approx(1.5 * np.sqrt(2 / np.pi), rel=0.25)
    assert (drawn != ball)[~shell].sum() == 0


def test_nothing_is_drawn_of_nothing() -> None:
    nothing = np.zeros((8, 8, 8), dtype=bool)
    assert not draw_outline(nothing, np.ones(3), np.random.default_rng(0)).any()


def test_images_show_the_tumor(twin: Twin) -> None:
    assert flair_contrast(twin.patient) > 1  # type: ignore[operator]
    assert core_contrast(twin.patient) > 0.5  # type: ignore[operator]
    assert t1_contrast(twin.patient) > 0.1


def test_the_origin_lies_in_the_tumor(twin: Twin) -> None:
    voxel = tuple(np.round(twin.density.to_voxel(twin.origin_mm)).astype(int))
    assert twin.density.array[voxel] > 0.5


def test_a_perfect_answer_scores_perfectly(twin: Twin) -> None:
    scores = compare(twin, perfect(twin))
    assert [scores[f"dice_{t}"] for t in ("0.01", "0.1")] == [1, 1]
    assert scores["origin_error_mm"] == scores["mu1_relative_error"] == scores["mu2_relative_error"] == 0


def test_twin_json_has_its_keys(twin: Twin) -> None:
    assert {
        "dice_0.01", "dice_0.1", "dice_0.8", "origin_error_mm", "mu1_relative_error", "mu2_relative_error", "seconds",
    } <= set(describe_twin(twin, perfect(twin), 3))  # fmt: skip


def test_a_fallback_has_no_parameter_errors(twin: Twin) -> None:
    assert compare(twin, answer_with(twin.density))["mu1_relative_error"] is None


@pytest.fixture(scope="module")
def pushed(anatomy: Anatomy) -> Twin:
    return make_twin(3, anatomy, GRID, deviation=0.0, model=Model("mass_effect"))


def test_a_tumor_that_pushes_takes_tissue_and_t1_along(pushed: Twin, anatomy: Anatomy) -> None:
    displacement, csf = pushed.displacement, pushed.tissue.csf.array
    assert displacement is not None
    assert np.linalg.norm(displacement, axis=0).max() > 4
    assert np.abs(displacement[:, ~pushed.patient.brain]).max() == 0
    before, now = (np.argwhere(m > 0.5) for m in (anatomy.csf, csf))
    moved, pushed_by = 4 * (now.mean(axis=0) - before.mean(axis=0)), displacement[:, csf > 0.5].mean(axis=1)
    assert np.linalg.norm(moved) > 1
    assert moved @ pushed_by > 0.9 * np.linalg.norm(moved) * np.linalg.norm(pushed_by)
    came_from = np.round(now - displacement[:, csf > 0.5].T / 4).astype(int)
    assert anatomy.csf[tuple(came_from.T)].mean() > 0.9
    assert len(now) < len(before)
    unseen = (csf > 0.99) & ~pushed.patient.masks.edema
    assert pushed.patient.t1.array[unseen] == pytest.approx(40, abs=3)


def test_tissue_lies_where_the_model_carries_it(pushed: Twin, anatomy: Anatomy) -> None:
    center, rim = pushed.density.to_voxel(pushed.origin_mm), pushed.patient.masks.edema
    displacement = pushed.displacement
    assert displacement is not None
    moved = rim & (np.linalg.norm(displacement, axis=0) > 1)
    outward = np.sum((np.argwhere(moved) - center) * displacement[:, moved].T, axis=1) > 0
    assert outward.mean() > 0.9


def test_without_coupling_a_twin_is_the_first_models(anatomy: Anatomy) -> None:
    first = make_twin(4, anatomy, GRID)
    same = make_twin(4, anatomy, GRID, model=Model("mass_effect", (0.0, 0.0)))
    np.testing.assert_allclose(same.density.array, first.density.array, atol=1e-6)
    np.testing.assert_array_equal(same.patient.masks.core, first.patient.masks.core)
    np.testing.assert_allclose(same.patient.t1.array, first.patient.t1.array, rtol=1e-6)
    assert same.displacement is not None and not same.displacement.any()
