"""The tumor to deliver: the outlines decide which anatomy it grew in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from morph.checks import check_posterior
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings, refine
from morph.scene import Scene
from morph.solve import CLEARLY, find_tumor, likeliest
from tests.morph.known_tumor import TRUTH, all_white, known_scene, with_gray_right_of_origin
from tests.morph.same_place import tiny_brain

SEARCH = RefinementSettings(evaluations=72, fine_evaluations=12)
BRIEF = RefinementSettings(evaluations=12, fine_evaluations=12)
SHORT = PosteriorSettings(simulations=300, rounds=6, members=10, seed=3)


def two_anatomies(grew_in_white: bool) -> list[Scene]:
    """The tiny brain half gray, and all white; the tumor grew in one of them."""
    brain = tiny_brain()
    anatomies = [
        tuple(change(a) for a in (brain.coarse, brain.fine)) for change in (with_gray_right_of_origin, all_white)
    ]
    return [known_scene(anatomy, anatomies[grew_in_white][1]) for anatomy in anatomies]


@pytest.mark.parametrize("grew_in_white", [False, True])
def test_the_outlines_tell_in_which_anatomy_a_tumor_grew(grew_in_white: bool) -> None:
    scenes = two_anatomies(grew_in_white)
    scene, fit, posterior = find_tumor(scenes, TRUTH, SEARCH, None)
    assert scene is scenes[grew_in_white] and posterior is None
    assert fit == refine(scene.coarse, scene.fine, TRUTH, SEARCH)
    assert likeliest(scenes[::-1], TRUTH, SEARCH)[0] is scene  # whichever comes first


def test_the_first_anatomy_is_kept_where_it_is_close() -> None:
    scenes = [known_scene(), known_scene()]
    assert likeliest(scenes, TRUTH, BRIEF)[0] is scenes[0]
    assert 0 < CLEARLY < 0.05


def test_without_a_search_nothing_is_chosen() -> None:
    scenes = two_anatomies(True)
    scene, fit, posterior = find_tumor(scenes, TRUTH, None, None)
    assert scene is scenes[0] and posterior is None
    assert (fit.estimate.mu1, fit.estimate.mu2) == (TRUTH.mu1, TRUTH.mu2)


def test_what_is_sampled_lies_in_the_chosen_anatomy() -> None:
    scenes = two_anatomies(True)
    scene, fit, posterior = find_tumor(scenes, TRUTH, SEARCH, SHORT)
    assert scene is scenes[1] and posterior is not None
    assert abs(np.log(fit.estimate.mu1 * fit.estimate.mu2 / (TRUTH.mu1 * TRUTH.mu2))) < 0.15


def test_where_no_tumor_is_possible_the_best_fit_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morph.log_posterior.log_prior", lambda *numbers: -np.inf)
    scene = known_scene()
    _, fit, posterior = find_tumor([scene], TRUTH, BRIEF, replace(SHORT, observations=14.0))
    assert posterior is None and fit == refine(scene.coarse, scene.fine, TRUTH, BRIEF)
    (check,) = check_posterior(None)
    assert (check.name, check.verdict, check.value) == ("posterior_sampled", "warn", 0.0)
