"""Digital twins are drawn from the prior, repeat with their seed, and show only what a scanner would."""

from __future__ import annotations

import numpy as np
import pytest

from engine import GRIDS, Anatomy, Grid, observe
from morph.pipeline import Personalization
from morph.twin import Twin, compare, describe_twin, make_twin


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    voxels = np.indices((40, 48, 36)).T
    brain = (np.sum(((voxels - [19.5, 23.5, 17.5]) / [18, 22, 16]) ** 2, axis=-1) <= 1).T.astype(np.float32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-78, -94, -70)
    return Anatomy("tiny", 100 * brain, 0.8 * brain, 0.2 * brain, 0 * brain, affine)


GRID = Grid((48, 48, 48), GRIDS["half"].spacing * 64 / 48)


@pytest.fixture(scope="module")
def twin(anatomy: Anatomy) -> Twin:
    return make_twin(3, anatomy, GRID)


def perfect(twin: Twin) -> Personalization:
    return Personalization(twin.density, "refined", (), twin.parameters, twin.origin_mm, None, None, 1.0, {"all": 1.0})


def test_equal_seeds_make_equal_twins(twin: Twin, anatomy: Anatomy) -> None:
    again, other = make_twin(3, anatomy, GRID), make_twin(4, anatomy, GRID)
    assert again.parameters == twin.parameters != other.parameters
    np.testing.assert_array_equal(again.density.array, twin.density.array)


def test_masks_are_what_a_scanner_sees(twin: Twin) -> None:
    core, edema = observe(twin.density.array, *twin.thresholds)
    np.testing.assert_array_equal(twin.patient.masks.core, core)
    np.testing.assert_array_equal(twin.patient.masks.edema, edema | core)
    assert twin.density.array[~twin.patient.brain].max() == 0


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
    fallback = Personalization(twin.density, "fallback", (), None, None, None, None, 1.0, {})
    assert compare(twin, fallback)["mu1_relative_error"] is None
