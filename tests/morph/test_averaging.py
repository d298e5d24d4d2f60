"""Anatomies that may be the patient's: each counts as much as the outlines are probable under it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine import Atlas, simulate
from morph.averaging import Guess, find_posterior, gather, interval, shares_of, weigh
from morph.checks import check_posterior
from morph.ensemble import Ensemble
from morph.evidence import Estimate
from morph.outlines import Drawn
from morph.posterior import NothingPossibleError, PosteriorSettings, Tumors, describe_tumors, sample_tumors
from morph.scene import Scene
from tests.morph.known_tumor import TRUTH, known_scene
from tests.morph.test_solve import two_anatomies

AWAY = Estimate(7.4, 3.8, (0.45, 0.475, 0.495))
"""Another place to begin."""
SETTINGS = PosteriorSettings(simulations=300, rounds=6, fine_simulations=150, observations=14.0, seed=3)


@pytest.fixture(scope="module")
def found() -> list[tuple[Scene, Estimate]]:
    """The tumor grew in the second anatomy."""
    return [(scene, TRUTH) for scene in two_anatomies(True)]


@pytest.fixture(scope="module")
def guesses(found: list[tuple[Scene, Estimate]]) -> list[Guess]:
    return weigh(found, SETTINGS)


def test_the_anatomy_in_which_it_grew_is_the_more_probable_one(guesses: list[Guess]) -> None:
    half_gray, white = (guess.share for guess in guesses)
    assert half_gray + white == pytest.approx(1) and white > 0.6
    other = weigh([(scene, TRUTH) for scene in two_anatomies(False)], SETTINGS)
    assert other[0].share > 0.6


def test_two_equal_guesses_are_as_one() -> None:
    scene = known_scene()
    once, *twice = (weigh([(scene, start)], SETTINGS)[0] for start in (TRUTH, TRUTH, AWAY))
    logs = [guess.tumors.sample.log_evidence for guess in twice]
    assert logs[0] != logs[1] and logs[0] == pytest.approx(logs[1], abs=0.5)  # the error of so few tumors
    both = weigh([(scene, TRUTH), (scene, AWAY)], SETTINGS)
    doubled, alone = (
        interval(
            np.concatenate([describe_tumors(g.tumors, scene.to_world, 0)["mu1"] for g in some]),
            np.concatenate([g.weights for g in some]),
        )
        for some in (both, [once])
    )
    assert doubled.most == pytest.approx(alone.most, abs=0.2 * (alone.most[1] - alone.most[0]))


def test_a_guess_that_was_sampled_too_poorly_does_not_count(
    found: list[tuple[Scene, Estimate]], guesses: list[Guess], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = iter([guess.tumors for guess in guesses] * 2)
    monkeypatch.setattr("morph.averaging.sample_tumors", lambda *asked: next(kept))
    worth = [guess.tumors.sample.effective for guess in guesses]
    assert worth[0] != worth[1]
    monkeypatch.setattr("morph.averaging.STARVED", sum(worth) / 2)
    better = int(np.argmax(worth))
    (only,) = weigh(found, SETTINGS)
    assert only.scene is found[better][0] and only.share == pytest.approx(1)
    posterior = find_posterior(found, SETTINGS)[2]
    assert posterior.missed == (found[1 - better][0].tumor_tissue,)
    assert check_posterior(posterior)[0].verdict == "warn" and check_posterior(posterior)[0].value == 0
    monkeypatch.setattr("morph.averaging.STARVED", sum(worth))
    kept = iter([guess.tumors for guess in guesses])
    monkeypatch.setattr("morph.averaging.sample_tumors", lambda *asked: next(kept))
    with pytest.raises(NothingPossibleError, match=r"raise posterior\.fine_simulations"):
        weigh(found, SETTINGS)


def test_intervals_and_ensemble_hold_the_tumors_of_both(
    found: list[tuple[Scene, Estimate]], guesses: list[Guess], monkeypatch: pytest.MonkeyPatch
) -> None:
    even = [Guess(guess.scene, guess.tumors, guess.tumors.sample.weights / 2) for guess in guesses]
    monkeypatch.setattr("morph.averaging.weigh", lambda *asked: even)
    scene, fit, posterior = find_posterior(found, SETTINGS)
    assert scene in [guess.scene for guess in even]
    assert posterior.tissue == pytest.approx({"maps": 0.5, "white_matter": 0.5}) and not posterior.missed
    assert posterior.effective == min(guess.tumors.sample.effective for guess in guesses)
    assert len(posterior.weights) == sum(len(guess.weights) for guess in guesses)
    mu1 = [[mapping.estimate(place)[0] for place in g.tumors.sample.places]
           for g in guesses for mapping in [g.tumors.mapping]]  # fmt: skip
    both = interval(np.concatenate(mu1), posterior.weights)
    assert posterior.intervals["mu1"] == both
    alone = [interval(np.array(m), g.tumors.sample.weights) for m, g in zip(mu1, guesses, strict=True)]
    assert min(a.most[0] for a in alone) <= both.most[0] and both.most[1] <= max(a.most[1] for a in alone)
    assert min(a.median for a in alone) <= both.median <= max(a.median for a in alone)
    density = simulate([fit.estimate.parameters()], scene.fine.atlas).density[0]
    assert scene.fine.fit(fit.estimate, density).loss == pytest.approx(fit.loss, abs=1e-6)
    where = found[0][0].fine.atlas.tissue | found[1][0].fine.atlas.tissue
    ensembles = [gather(guess, where) for guess in even]
    mean = np.mean([2 * ensemble.mean for ensemble in ensembles], axis=0)  # each has half of the weight
    np.testing.assert_allclose(scene.deliver(on_grid(mean, where)).array, posterior.density_mean.array, atol=1e-5)
    assert any(fit.estimate == one for ensemble in ensembles for one in ensemble.estimates)


def on_grid(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    field = np.zeros(where.shape, dtype=np.float32)
    field[where] = values
    return field


def test_an_anatomy_where_nothing_is_possible_does_not_count(
    found: list[tuple[Scene, Estimate]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(drawn: Drawn, coarse: Atlas, *asked: Any) -> Tumors:
        if coarse is found[0][0].coarse.atlas:
            raise NothingPossibleError("no tumor around the one that was found is possible")
        return sample_tumors(drawn, coarse, *asked)

    monkeypatch.setattr("morph.averaging.sample_tumors", sample)
    (only,) = weigh(found, SETTINGS)
    assert only.scene is found[1][0] and only.weights.sum() == pytest.approx(1)
    with pytest.raises(NothingPossibleError, match="no tumor around"):
        weigh(found[:1], SETTINGS)


def test_evidence_far_apart_leaves_one_anatomy(guesses: list[Guess]) -> None:
    first, second = (guess.tumors for guess in guesses)
    far = replace(second, sample=replace(second.sample, log_evidence=first.sample.log_evidence - 2000.0))
    np.testing.assert_array_equal(shares_of([first, far]), [1.0, 0.0])


def test_a_tumor_of_an_improbable_anatomy_is_not_delivered(
    found: list[tuple[Scene, Estimate]], guesses: list[Guess], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shares in ((0.96, 0.04), (0.04, 0.96)):
        uneven = [replace(g, weights=s * g.tumors.sample.weights) for g, s in zip(guesses, shares, strict=True)]
        monkeypatch.setattr("morph.averaging.weigh", lambda *asked, uneven=uneven: uneven)
        monkeypatch.setattr("morph.ensemble.AGREED", (2.0,))  # which no density reaches: only the masks decide
        losses = [fit.loss for guess in uneven for fit in every(guess).held_against_masks(everywhere(guess))]
        ends = np.cumsum([0, *(len(every(guess).estimates) for guess in uneven)])
        likely = int(np.argmax(shares))
        scene, fit, _ = find_posterior(found, SETTINGS)
        assert scene is uneven[likely].scene
        assert fit.loss == pytest.approx(min(losses[ends[likely] : ends[likely + 1]]), abs=2e-3)


def everywhere(guess: Guess) -> np.ndarray:
    return np.ones(guess.scene.fine.atlas.grid.shape, dtype=bool)


def every(guess: Guess) -> Ensemble:
    return gather(guess, everywhere(guess))
