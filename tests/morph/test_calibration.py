"""The bench that holds intervals against known tumors: its errors are what the likelihood takes them for."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Anatomy, InputError
from engine.atlas import place
from morph.inference import Brain
from morph.outlines import Drawn
from morph.resample import average_onto
from morph.tissue import Tissue, normalized
from morph.volume import Volume


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    return import_module("calibration")


@pytest.fixture
def known_tumors(bench: ModuleType) -> ModuleType:
    """Where the bench has its tumors from."""
    return import_module("known_tumors")


@pytest.fixture
def striped(brain: Brain) -> Brain:
    """The tiny atlas with stripes of white matter, gray matter and CSF that its T1 shows."""
    rest = brain.anatomy
    inside = rest.t1 > 0
    stripe = (np.arange(rest.t1.shape[1]) // 3 % 3)[:, None]
    white, gray, csf = (np.float32(inside & (stripe == kind)) for kind in range(3))
    noise = np.random.default_rng(0).normal(0, 5, inside.shape)
    t1 = np.where(inside, 100 * white + 60 * gray + 20 * csf + noise, 0).astype(np.float32)
    anatomy = Anatomy("striped", t1, white, gray, csf, rest.affine)
    return replace(
        brain, anatomy=anatomy, coarse=place(anatomy, brain.coarse.grid), fine=place(anatomy, brain.fine.grid)
    )


@pytest.mark.parametrize(("correlation", "observations"), [(None, 9.0), (None, 25.0), (20 / 3, 25.0)])
def test_an_outline_is_worth_its_number_of_observations(
    known_tumors: ModuleType, correlation: float | None, observations: float
) -> None:
    """The mean error of an outline is smaller than that of a place by the root of what it is worth."""
    axis, radius = np.arange(64) - 31.5, 20.0
    ball = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij"))) <= radius
    blank, rng = Volume(np.zeros(ball.shape, np.float32), np.eye(4)), np.random.default_rng(1)
    settings = {"correlation": correlation, "observations": observations}
    moved = [known_tumors.move(ball, blank, rng, settings).sum() / ball.sum() for _ in range(60)]
    error = radius * (np.cbrt(moved) - 1)
    worth = 9.0 if correlation else observations  # 4 pi g² of 4 pi r² are one
    assert error.std() == pytest.approx(known_tumors.DEVIATION / np.sqrt(worth), rel=0.3)


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


def test_a_patients_anatomy_is_the_t1s_outside_the_tumor_and_the_atlas_inside(
    known_tumors: ModuleType, striped: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tumors, "MISPLACED", 6.0)  # mm, against voxels of 4
    t1, true = known_tumors.misplace(striped, np.random.default_rng(0))
    prior = normalized(tuple(known_tumors.around_the_brain(striped)[1:]), t1.array > 0, "atlas")
    mask = np.zeros(t1.array.shape, np.float32)
    mask[tuple(slice(n // 3, n // 2) for n in mask.shape)] = 1
    visible, inside = t1.with_array(mask), (mask > 0) & (t1.array > 0)
    maps, white = known_tumors.see_as_a_patients(t1, Drawn(visible, visible, true.matter), striped)
    assert wrong(maps, true, ~inside) < 0.7 * wrong(prior, true, ~inside)
    kept = inside & (prior.csf.array == 0)
    np.testing.assert_allclose(maps.white_matter.array[kept], prior.white_matter.array[kept], atol=1e-6)
    assert wrong(maps, true, kept) > wrong(maps, true, ~inside)
    assert not maps.csf.array[inside].any() and np.all(white.white_matter.array[inside] == 1)


def wrong(seen: Tissue, true: Tissue, where: NDArray[np.bool_]) -> float:
    """Share of voxels that are white matter in one of both only."""
    return float(((seen.white_matter.array > 0.5) != (true.white_matter.array > 0.5))[where].mean())


def test_a_case_has_both_guesses_and_the_true_anatomy_where_it_is_known(
    known_tumors: ModuleType, striped: Brain
) -> None:
    settings = {"anatomy": "registered", "observations": 9.0, "correlation": None}
    case = known_tumors.make_case(3, 0, settings, striped)
    again = known_tumors.make_case(3, 0, settings, striped)
    assert case.truth == again.truth
    (_, maps), (_, white) = case.anatomies
    assert maps.white_matter.mean() != white.white_matter.mean()
    np.testing.assert_array_equal(maps.tissue, white.tissue)
    np.testing.assert_array_equal(maps.white_matter, again.anatomies[0][1].white_matter)
    [(coarse, fine)] = known_tumors.make_case(3, 0, {**settings, "anatomy": "known"}, striped).anatomies
    assert coarse is striped.coarse and fine is striped.fine


def test_the_matter_of_a_drawn_image_is_the_brains(known_tumors: ModuleType, brain: Brain) -> None:
    density = np.where(brain.fine.tissue, np.float32(0.9), np.float32(0))
    density[: density.shape[0] // 2] = 0
    settings = {"correlation": 4.0, "observations": 9.0}
    drawn, thresholds = known_tumors.draw(density, brain.fine, np.random.default_rng(0), settings)
    blocks = drawn.matter.reshape([side for n in drawn.matter.shape for side in (n // 2, 2)])
    assert np.all(blocks.max(axis=(1, 3, 5)) == blocks.min(axis=(1, 3, 5)))  # a voxel of the brain's grid as a whole
    shown = average_onto(Volume(drawn.matter.astype(np.float32), drawn.core.affine), brain.fine.grid)
    seen = average_onto(Volume(np.ones(drawn.matter.shape, np.float32), drawn.core.affine), brain.fine.grid) > 0.5
    np.testing.assert_array_equal(shown[seen] > 0.5, brain.fine.tissue[seen])
    assert not (drawn.edema.array[~drawn.matter]).any() and thresholds[0] > thresholds[1]
