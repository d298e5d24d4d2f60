"""Scores on cases whose answers are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine import Atlas, Grid
from learn.metrics import bootstrap_interval, density_errors, dice, parameter_errors, summarize


def make_line(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


@pytest.fixture
def line() -> Atlas:
    """Four voxels: white, white, gray, CSF."""
    return Atlas(make_line(1, 1, 0, 0), make_line(0, 0, 1, 0), make_line(0, 0, 0, 1), Grid((4, 1, 1), 2.0), "line")


def test_dice_counts_the_threshold_itself() -> None:
    assert dice(make_line(0.1, 0, 0), make_line(0.1, 0.1, 0), 0.1) == pytest.approx(2 / 3)
    assert dice(make_line(0.5), make_line(0.5), 0.5) == 1.0
    assert dice(make_line(1, 0), make_line(0, 1), 0.5) == 0.0


def test_dice_of_two_empty_tumors_is_undefined() -> None:
    assert math.isnan(dice(make_line(0.1), make_line(0.2), 0.8))


def test_errors_per_tissue(line: Atlas) -> None:
    true, predicted = make_line(1.0, 0.0, 0.5, 0.0), make_line(0.8, 0.4, 0.4, 0.2)
    scores = density_errors(true, predicted, line)
    assert scores["mae_white_matter"] == pytest.approx(0.2)  # the second voxel is not reached by the true tumor
    assert scores["mae_gray_matter"] == pytest.approx(0.1)
    assert scores["mae_csf"] == pytest.approx(0.2)  # reached by the predicted tumor
    assert scores["mae_symmetric"] == pytest.approx((0.2 + 0.4 + 0.1 + 0.2) / 4)


def test_perfect_answers_have_no_error(line: Atlas) -> None:
    density = make_line(0.9, 0.5, 0.05, 0)
    scores = density_errors(density, density, line)
    assert scores.pop("dice_0.8") == scores.pop("dice_0.1") == scores.pop("dice_0.01") == 1.0
    assert math.isnan(scores.pop("mae_csf"))
    assert set(scores.values()) == {0.0}


def test_parameter_errors() -> None:
    true = {"mu1": np.array([10.0]), "mu2": np.array([4.0]), "origin": np.array([[0.5, 0.5, 0.5]])}
    predicted = {"mu1": np.array([12.0]), "origin": np.array([[0.53, 0.5, 0.46]])}
    errors = parameter_errors(true, predicted, np.array([100.0, 100.0, 100.0]))
    assert set(errors) == {"mu1_relative_error", "origin_error_mm"}
    assert errors["mu1_relative_error"] == pytest.approx(0.2)
    assert errors["origin_error_mm"] == pytest.approx(5.0)


def test_undefined_scores_are_counted_not_dropped() -> None:
    summary = summarize({"dice_0.8": np.array([1.0, np.nan, 0.5, 0.6]), "mae_csf": np.array([np.nan] * 4)})
    assert summary["dice_0.8_mean"] == pytest.approx(0.7)
    assert summary["dice_0.8_median"] == pytest.approx(0.6)
    assert summary["dice_0.8_undefined"] == 1
    assert summary["mae_csf"] == 0.0
    nothing = summarize({"dice_0.8": np.array([np.nan])})
    assert nothing["dice_0.8_mean"] is None and nothing["dice_0.8_median_interval"] == [None, None]
    assert summary["mae_csf_undefined"] == 4


def test_a_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    low, high = bootstrap_interval(values, np.mean)
    assert low < values.mean() < high
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(400), rel=0.1)
    assert bootstrap_interval(values, np.mean) == [low, high]
    assert bootstrap_interval(values[:1], np.median) == [values[0], values[0]]
    assert bootstrap_interval(values[:0], np.median) == [0.0, 0.0]


def test_fractions_are_compared_by_their_difference() -> None:
    true, predicted = {"coupling": np.array([0.0]), "core_threshold": np.array([0.6])}, {"coupling": np.array([2.0])}
    assert parameter_errors(true, predicted | {"core_threshold": np.array([0.5])}, np.ones(3)) == {
        "coupling_error": pytest.approx([2.0]), "core_threshold_error": pytest.approx([0.1])
    }  # fmt: skip
