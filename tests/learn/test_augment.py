"""Augmentation: masks differ as they were told to, and never otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from engine import InputError, observe
from learn.augment import Augmentation

SPACING, THRESHOLDS = 3.6, (0.7, 0.2)


@pytest.fixture(scope="module")
def density() -> np.ndarray:
    """A ball with a wide front, (32, 36, 28)."""
    x, y, z = np.meshgrid(np.arange(32), np.arange(36), np.arange(28), indexing="ij")
    radius = SPACING * np.sqrt((x - 15.5) ** 2 + (y - 17.5) ** 2 + (z - 13.5) ** 2)
    return (1 / (1 + np.exp((radius - 30) / 4))).astype(np.float32)


def volumes(density: np.ndarray, count: int = 40, **settings: float) -> np.ndarray:
    augmentation = Augmentation(share=1.0, **settings)
    masks = [augmentation.masks(density, THRESHOLDS, SPACING, np.random.default_rng(i)) for i in range(count)]
    return np.array([[mask.sum() for mask in pair] for pair in masks], dtype=float)


def test_nothing_is_changed_unless_asked_for(density: np.ndarray) -> None:
    exact = observe(density, *THRESHOLDS)
    for settings in ({"share": 1.0}, {"share": 0.0, "outline": 5.0, "holes": 1.0}):
        masks = Augmentation(**settings).masks(density, THRESHOLDS, SPACING, np.random.default_rng(0))
        for mask, expected in zip(masks, exact, strict=True):
            np.testing.assert_array_equal(mask, expected)


def test_an_offset_erodes_and_dilates_by_millimeters(density: np.ndarray) -> None:
    """A ball of radius r has dV/dr = 4 pi r²: the spread of volumes says by how much the outlines moved."""
    exact = np.array([mask.sum() for mask in observe(density, *THRESHOLDS)], dtype=float)
    found = volumes(density, offset=1.0)
    radius = (3 * exact / (4 * np.pi)) ** (1 / 3)
    moved = (found - exact) / (4 * np.pi * radius**2) * SPACING
    assert moved.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.3)
    assert (found < exact).any() and (found > exact).any()


def test_the_masks_err_each_by_itself(density: np.ndarray) -> None:
    found = volumes(density, offset=1.0)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.4


def test_an_outline_is_warped_smoothly(density: np.ndarray) -> None:
    core, edema = Augmentation(share=1.0, outline=2.0).masks(density, THRESHOLDS, SPACING, np.random.default_rng(1))
    exact = observe(density, *THRESHOLDS)
    for mask, expected in zip((core, edema), exact, strict=True):
        assert 0.7 < 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) < 1.0
        assert ndimage.label(mask)[1] == 1


def test_a_registration_error_shifts_both_masks_together(density: np.ndarray) -> None:
    center = np.array(ndimage.center_of_mass(density >= 0.2))
    moves = []
    for i in range(40):
        core, edema = Augmentation(share=1.0, shift=4.0).masks(density, THRESHOLDS, SPACING, np.random.default_rng(i))
        moves.append([np.array(ndimage.center_of_mass(mask)) - center for mask in (core, edema)])
    shifts = np.array(moves) * SPACING
    assert shifts[:, 1].std() == pytest.approx(4.0, rel=0.25)
    np.testing.assert_allclose(shifts[:, 0], shifts[:, 1], atol=1.0)


def test_holes_and_missing_slices(density: np.ndarray) -> None:
    exact = observe(density, *THRESHOLDS)
    core, edema = Augmentation(share=1.0, holes=1.0).masks(density, THRESHOLDS, SPACING, np.random.default_rng(0))
    assert core.sum() < exact[0].sum() and edema.sum() < exact[1].sum()
    lost = np.array(
        [
            [whole.sum() - left for whole, left in zip(exact, pair, strict=True)]
            for pair in volumes(density, missing=1.0)
        ]
    )
    assert lost.min() > 0 and lost[:, 1].max() > 0.02 * exact[1].sum()
    empty = Augmentation(share=1.0, holes=1.0).masks(0 * density, THRESHOLDS, SPACING, np.random.default_rng(0))
    assert not empty[0].any()


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"outline": -1.0}, {"holes": float("nan")}, {"shift": "far"}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(InputError, match="augmentation"):
        Augmentation(**settings)
