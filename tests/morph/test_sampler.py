"""The sampler: it finds what is known exactly, and says how well it did."""

from __future__ import annotations

import numpy as np
import pytest

from engine import random_stream
from morph.sampler import ENOUGH, NoneFoundError, Proposal, Sample, explore, flattened, normalized, pick, quantiles


def around_zero(scales: np.ndarray) -> Proposal:
    return np.zeros(len(scales)), np.diag(scales**2)


def test_a_tilted_gaussian_is_found_with_its_mean_and_covariance() -> None:
    rng = random_stream(3)
    mixing = rng.normal(size=(5, 5)) * 0.15
    covariance, center = mixing @ mixing.T + 1e-3 * np.eye(5), rng.normal(size=5) * 0.3
    precision = np.linalg.inv(covariance)

    def target(places: np.ndarray) -> np.ndarray:
        away = places - center
        return -0.5 * np.einsum("ni,ij,nj->n", away, precision, away)

    sample = explore(target, around_zero(np.full(5, 0.4)), 2000, 10, random_stream(0))
    assert sample.effective > 500
    away = sample.places - sample.weights @ sample.places
    found = (sample.weights[:, None] * away).T @ away
    np.testing.assert_allclose(sample.weights @ sample.places, center, atol=0.2 * np.sqrt(np.diag(covariance)).max())
    np.testing.assert_allclose(found, covariance, atol=0.15 * np.diag(covariance).max())
    assert sample.log_evidence == pytest.approx(0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1], abs=0.1)
    again = explore(target, sample.proposal(), 300, 6, random_stream(1))
    unaware = explore(target, around_zero(np.full(5, 0.4)), 300, 6, random_stream(1))
    assert again.effective > 1.5 * unaware.effective  # who knows where to look finds more


def test_forbidden_places_have_no_weight() -> None:
    def target(places: np.ndarray) -> np.ndarray:
        return np.where(places[:, 0] > 0, -0.5 * (places**2).sum(axis=1), -np.inf)

    sample = explore(target, around_zero(np.ones(2)), 4000, 8, random_stream(1))
    assert sample.weights[sample.places[:, 0] <= 0].max() == 0
    assert sample.weights @ sample.places[:, 0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)  # of half a normal
    assert sample.log_evidence == pytest.approx(np.log(np.pi), abs=0.03)  # the half of 2 pi


def test_sampling_goes_on_while_its_points_are_worth_too_few() -> None:
    center = np.array([0.5, -0.4, 0.2, 0.0, 0.0])

    def within(width: np.ndarray) -> Sample:
        def target(places: np.ndarray) -> np.ndarray:
            return -0.5 * (((places - center) / width) ** 2).sum(axis=1)

        return explore(target, around_zero(np.full(5, 0.4)), 200, 10, random_stream(2))

    wide, narrow = within(np.full(5, 0.4)), within(np.array([0.01, 0.02, 0.2, 0.2, 0.2]))
    assert len(wide.places) == 200
    assert 200 < len(narrow.places) < 600 and narrow.effective >= ENOUGH
    np.testing.assert_allclose(narrow.weights @ narrow.places, center, atol=0.1)
    endless = within(np.full(5, 1e-4))
    assert len(endless.places) == 600 and endless.effective < 20


def test_nothing_possible_is_said_after_the_points_asked_for() -> None:
    asked: list[int] = []

    def nowhere(places: np.ndarray) -> np.ndarray:
        asked.append(len(places))
        return np.full(len(places), -np.inf)

    with pytest.raises(NoneFoundError, match="no proposed point"):
        explore(nowhere, around_zero(np.ones(2)), 40, 4, random_stream(0))
    assert sum(asked) == 40


def test_equal_streams_make_equal_samples() -> None:
    def target(places: np.ndarray) -> np.ndarray:
        return -np.abs(places).sum(axis=1)

    first, second = (explore(target, around_zero(np.ones(3)), 200, 4, random_stream(5)) for _ in range(2))
    np.testing.assert_array_equal(first.places, second.places)
    np.testing.assert_array_equal(first.weights, second.weights)


@pytest.mark.parametrize("enough", [2.0, 10.0, 60.0])
def test_flattened_weights_keep_enough_points(enough: float) -> None:
    logs = np.append(-np.linspace(0, 500, 99), -np.inf)
    weights = flattened(logs, enough)
    assert 1 / np.sum(weights**2) == pytest.approx(enough, rel=0.05)
    assert weights[-1] == 0 and np.all(np.diff(weights[:-1]) <= 0)


def test_weights_that_carry_enough_points_stay() -> None:
    logs = -np.linspace(0, 1, 50)
    np.testing.assert_allclose(flattened(logs, 20.0), normalized(logs))


def test_picks_and_quantiles_follow_the_weights() -> None:
    values = np.arange(5.0)
    weights = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    counts = np.bincount(pick(weights, 1000, random_stream(0)), minlength=5)
    np.testing.assert_allclose(counts / 1000, weights, atol=0.0011)
    np.testing.assert_allclose(quantiles(values, weights, np.array([0.05, 0.5, 0.95])), [0.0, 2.0, 4.0])
