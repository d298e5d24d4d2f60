"""The bench that holds intervals against known tumors: its errors are what the likelihood takes them for."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from engine import InputError
from morph.inference import Brain
from morph.outlines import Drawn
from morph.resample import average_onto
from morph.volume import Volume


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    return import_module("calibration")


@pytest.mark.parametrize(("correlation", "observations"), [(None, 9.0), (None, 25.0), (20 / 3, 25.0)])
def test_an_outline_is_worth_its_number_of_observations(
    bench: ModuleType, correlation: float | None, observations: float
) -> None:
    """The mean error of an outline is smaller than that of a place by the root of what it is worth."""
    axis, radius = np.arange(64) - 31.5, 20.0
    ball = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij"))) <= radius
    blank, rng = Volume(np.zeros(ball.shape, np.float32), np.eye(4)), np.random.default_rng(1)
    settings = {"correlation": correlation, "observations": observations}
    moved = [bench.move(ball, blank, rng, settings).sum() / ball.sum() for _ in range(60)]
    error = radius * (np.cbrt(moved) - 1)
    worth = 9.0 if correlation else observations  # 4 pi g² of 4 pi r² are one
    assert error.std() == pytest.approx(bench.DEVIATION / np.sqrt(worth), rel=0.3)


@pytest.mark.parametrize(
    ("given", "said"), [("correlation=0", "> 0"), ("correlation=far", "> 0"), ("count=x", "whole number")]
)
def test_settings_without_a_meaning_are_refused(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibration", given])
    with pytest.raises((SystemExit, InputError), match=said):
        bench.main()


def test_intervals_are_counted_with_the_range_of_chance(bench: ModuleType) -> None:
    even = (np.arange(100) + 0.5) / 100
    counted = bench.count_covered(even)
    assert (counted["interval_50"], counted["interval_90"]) == (0.5, 0.9)
    assert counted["ranks_uniform_p"] > 0.99
    low, high = bench.count_covered(0.25 + even / 2)["interval_50_expected"]
    assert bench.count_covered(0.25 + even / 2)["interval_50"] == 1 > high > 0.5 > low


def test_a_patients_anatomy_is_true_outside_the_tumor_and_tissue_inside(bench: ModuleType, brain: Brain) -> None:
    found = brain.fine
    true = bench.misplace(found, np.random.default_rng(0))
    assert 0.5 < (true.tissue & found.tissue).sum() / (true.tissue | found.tissue).sum() < 0.99
    mask = np.zeros(found.grid.shape, np.float32)
    mask[tuple(slice(n // 3, n // 2) for n in mask.shape)] = 1
    visible = Volume(mask, found.grid.affine)
    seen = bench.see_as_a_patients(true, found, Drawn(visible, visible, true.tissue))
    np.testing.assert_array_equal(seen.white_matter[mask == 0], true.white_matter[mask == 0])
    np.testing.assert_array_equal(seen.white_matter[mask == 1], found.white_matter[mask == 1])
    assert seen.tissue[mask == 1].all()


def test_the_matter_of_a_drawn_image_is_the_brains(bench: ModuleType, brain: Brain) -> None:
    density = np.where(brain.fine.tissue, np.float32(0.9), np.float32(0))
    density[: density.shape[0] // 2] = 0
    settings = {"correlation": 4.0, "observations": 9.0}
    drawn, thresholds = bench.draw(density, brain.fine, np.random.default_rng(0), settings)
    blocks = drawn.matter.reshape([side for n in drawn.matter.shape for side in (n // 2, 2)])
    assert np.all(blocks.max(axis=(1, 3, 5)) == blocks.min(axis=(1, 3, 5)))  # a voxel of the brain's grid as a whole
    shown = average_onto(Volume(drawn.matter.astype(np.float32), drawn.core.affine), brain.fine.grid)
    seen = average_onto(Volume(np.ones(drawn.matter.shape, np.float32), drawn.core.affine), brain.fine.grid) > 0.5
    np.testing.assert_array_equal(shown[seen] > 0.5, brain.fine.tissue[seen])
    assert not (drawn.edema.array[~drawn.matter]).any() and thresholds[0] > thresholds[1]
