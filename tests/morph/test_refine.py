"""The refinement finds a tumor again from its two masks, and thresholds are read off exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import CORE_THRESHOLD_RANGE, Atlas, InputError, observe, simulate
from morph.checks import at_least, at_most, check_size, check_thresholds, worst
from morph.evidence import THRESHOLD_PULL, Estimate, Evidence, Fit, best_threshold, threshold_cost
from morph.refine import RefinementSettings, Search, best_start, refine

TRUTH = Estimate(6.0, 3.2, (0.65, 0.45, 0.5))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.fixture(scope="module")
def truth(atlas: Atlas) -> np.ndarray:
    return simulate([TRUTH.parameters()], atlas).density[0]


@pytest.fixture(scope="module")
def evidence(atlas: Atlas, truth: np.ndarray) -> Evidence:
    return Evidence(*observe(truth, 0.6, 0.2), atlas)


def test_the_true_tumor_explains_its_masks(evidence: Evidence) -> None:
    fit = evidence.compare([TRUTH])[0]
    assert fit.core_dice == fit.edema_dice == 1
    assert fit.loss < 2 * THRESHOLD_PULL


def test_the_best_threshold_is_the_best() -> None:
    rng = np.random.default_rng(3)
    values = rng.random(400, dtype=np.float32)
    mask = values + 0.2 * rng.standard_normal(400) > 0.66
    threshold, score = best_threshold(values, mask, CORE_THRESHOLD_RANGE)
    tried = np.linspace(*CORE_THRESHOLD_RANGE, 36)
    worth = [0.5 * dice(values >= t, mask) - threshold_cost(t, CORE_THRESHOLD_RANGE) for t in tried]
    assert 0.5 * score - threshold_cost(threshold, CORE_THRESHOLD_RANGE) == pytest.approx(max(worth), abs=1e-9)
    assert dice(values >= threshold, mask) == pytest.approx(score, abs=1e-9)


def test_an_empty_mask_is_never_matched() -> None:
    values = np.linspace(0, 1, 50, dtype=np.float32)
    assert best_threshold(values, np.zeros(50, dtype=bool), CORE_THRESHOLD_RANGE)[1] == 0


@pytest.mark.parametrize("start", [Estimate(7.5, 2.9, (0.7, 0.5, 0.45)), Estimate(30.0, 12.0, (0.3, 0.8, 0.5)), None])
def test_good_poor_and_missing_starts_end_near_the_truth(
    evidence: Evidence, truth: np.ndarray, atlas: Atlas, start: Estimate | None
) -> None:
    fit = refine(evidence, evidence, start, RefinementSettings(evaluations=144, fine_evaluations=0, pull=0.001))
    found = simulate([fit.estimate.parameters()], atlas).density[0]
    assert dice(found >= 0.1, truth >= 0.1) > 0.85
    assert fit.loss < 0.12


def test_a_usable_estimate_is_kept_as_the_start(evidence: Evidence) -> None:
    assert best_start(evidence, TRUTH).estimate == TRUTH


def test_without_a_search_the_estimate_is_kept(evidence: Evidence) -> None:
    assert refine(evidence, evidence, TRUTH, None).estimate == TRUTH


def test_fine_simulations_keep_to_their_budget(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    compare = Evidence.compare

    def counting(self: Evidence, estimates: list[Estimate]) -> list[Fit]:
        calls.append(len(estimates))
        return compare(self, estimates)

    monkeypatch.setattr(Evidence, "compare", counting)
    one = compare(evidence, [TRUTH])[0].updates / 1e9
    for budget, simulations in ((0.5 * one, 1), (30 * one, 25)):
        calls.clear()
        refine(evidence, evidence, TRUTH, RefinementSettings(1, 60, budget, pull=100.0))
        coarse = 3 + 1 + 1 + 12
        assert abs(sum(calls) - coarse - simulations) <= 12
    assert one > 0


def test_the_search_starts_as_wide_as_the_network_is_unsure(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, tried = Evidence.compare, []

    def watched(self: Evidence, estimates: list[Estimate]) -> list[Fit]:
        tried.extend(estimates)
        return compare(self, estimates)

    monkeypatch.setattr(Evidence, "compare", watched)
    widths = []
    for spread in (None, (0.25, 0.3, 5.0, 5.0, 5.0), (0.25, 0.3, 0.01, 5.0, 5.0), (0.75, 0.3, 5.0, 5.0, 5.0)):
        tried.clear()
        refine(evidence, evidence, replace(TRUTH, spread=spread), RefinementSettings(12, 0))
        first = tried[-13:-1]  # the generation, before what is held against the fine grid
        paths = np.log([one.mu1 * one.mu2 for one in first])
        widths.append((paths.std(), np.std([one.origin[0] for one in first])))
    assert widths[0] == widths[1]  # the steps are the spread that is assumed where none is known
    assert widths[2][0] == widths[0][0]
    assert widths[2][1] < 0.6 * widths[0][1]  # a quarter, but origins move into tissue
    assert widths[3][0] == pytest.approx(3 * widths[0][0], rel=0.1)  # some reach the end of a range


def test_the_pull_is_weak_where_the_network_is_unsure(evidence: Evidence) -> None:
    fit, place = evidence.compare([TRUTH])[0], np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    pulled = [
        Search(replace(TRUTH, spread=spread), 0.1, fit, place).penalized(fit, place) - fit.loss
        for spread in (None, (0.5, 0.3, 5.0, 5.0, 5.0))
    ]
    assert pulled == [pytest.approx(0.1), pytest.approx(0.025)]


def test_equal_seeds_find_equal_tumors(evidence: Evidence) -> None:
    settings = RefinementSettings(evaluations=24, fine_evaluations=0, seed=4)
    assert refine(evidence, evidence, None, settings) == refine(evidence, evidence, None, settings)


def test_origins_are_moved_into_tissue(evidence: Evidence, atlas: Atlas) -> None:
    assert evidence.in_tissue(np.array(TRUTH.origin)) == TRUTH.origin
    moved = evidence.in_tissue(np.array([0.0, 0.0, 0.0]))
    voxel = tuple(np.round(atlas.grid.to_voxel(moved)).astype(int))
    assert atlas.tissue[voxel]


@pytest.mark.parametrize(
    "wrong", [{"evaluations": 0}, {"fine_updates": -1.0}, {"population": 2}, {"pull": -0.1}, {"pull": float("nan")}]
)
def test_impossible_searches_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="refinement with"):
        RefinementSettings(**wrong)  # type: ignore[arg-type]


def test_checks_say_what_they_mean() -> None:
    assert [at_least("n", v, 0.7, 0.4, "Dice").verdict for v in (0.8, 0.7, 0.5, 0.3, float("nan"))] == [
        "pass", "pass", "warn", "fail", "fail",
    ]  # fmt: skip
    assert [at_most("n", v, 1, 2, "distance").verdict for v in (1, 1.5, 3)] == ["pass", "warn", "fail"]
    assert at_least("n", 0.3, 0.7, 0.4, "Dice").message == "Dice is 0.3, below 0.4"
    assert [check_size(v).verdict for v in (5, 50, 500)] == ["warn", "pass", "warn"]
    assert worst([check_size(50), check_size(5)]) == "warn"
    assert worst([]) == "pass"


def test_every_place_is_moved_where_a_tumor_can_start(atlas: Atlas) -> None:
    fine = Evidence(*[np.ones(atlas.grid.shape, dtype=bool)] * 2, atlas)
    corners = atlas.grid.from_voxel(np.argwhere(atlas.tissue)[::7] + 0.5)  # where voxels of half the size would meet
    grown = simulate([Estimate(3.0, 3.0, fine.in_tissue(corner)).parameters() for corner in corners], atlas)
    assert grown.density.max(axis=(1, 2, 3)).min() > 0


def test_a_threshold_at_the_edge_of_its_range_warns() -> None:
    estimate = Estimate(10.0, 4.0, (0.5, 0.5, 0.5))
    verdicts = {
        (0.7, 0.3): ["pass", "pass"], (0.85, 0.3): ["warn", "pass"], (0.5, 0.05): ["warn", "warn"]
    }  # fmt: skip
    for thresholds, expected in verdicts.items():
        assert [check.verdict for check in check_thresholds(Fit(estimate, *thresholds, 0.9, 0.9))] == expected
