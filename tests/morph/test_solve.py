"""The tumor to deliver: of the anatomy that fits better, or sampled in all that may be the patient's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest

from engine import InputError, simulate
from morph.checks import check_posterior
from morph.evidence import Estimate
from morph.posterior import NothingPossibleError, PosteriorSettings
from morph.refine import RefinementSettings, refine
from morph.scene import Scene
from morph.solve import choose, find_tumor
from tests.morph.known_tumor import TRUTH, all_white, known_scene, with_gray_right_of_origin
from tests.morph.same_place import tiny_brain

SEARCH = RefinementSettings(evaluations=72, fine_evaluations=12)
BRIEF = RefinementSettings(evaluations=12, fine_evaluations=12)
SHORT = PosteriorSettings(simulations=300, rounds=6, seed=3)


def two_anatomies(grew_in_white: bool) -> list[Scene]:
    """The tiny brain half gray, and all white; the tumor grew in one of them."""
    brain = tiny_brain()
    anatomies = [
        tuple(change(a) for a in (brain.coarse, brain.fine)) for change in (with_gray_right_of_origin, all_white)
    ]
    return [
        replace(known_scene(anatomy, anatomies[grew_in_white][1]), tissue=SimpleNamespace(tumor=tumor))
        for anatomy, tumor in zip(anatomies, ("maps", "white_matter"), strict=True)
    ]


@pytest.mark.parametrize("grew_in_white", [False, True])
def test_the_outlines_tell_in_which_anatomy_a_tumor_grew(grew_in_white: bool) -> None:
    scenes = two_anatomies(grew_in_white)
    solved = find_tumor(scenes, TRUTH, SEARCH, None)
    assert solved.scene is scenes[grew_in_white] and solved.posterior is None
    assert solved.fit == refine(solved.scene.coarse, solved.scene.fine, TRUTH, SEARCH)
    assert find_tumor(scenes[::-1], TRUTH, SEARCH, None).scene is solved.scene  # whichever comes first


def test_the_first_anatomy_is_kept_where_it_is_close() -> None:
    assert choose([0.2, 0.19001]) == 0 and choose([0.2, 0.18999]) == 1
    assert choose([0.2, 0.1, 0.15]) == 1 and choose([0.1, 0.2]) == 0 and choose([0.1]) == 0


def test_without_a_search_nothing_is_chosen() -> None:
    scenes = two_anatomies(True)
    solved = find_tumor(scenes, TRUTH, None, None)
    assert solved.scene is scenes[0] and solved.posterior is None and not solved.losses
    assert (solved.fit.estimate.mu1, solved.fit.estimate.mu2) == (TRUTH.mu1, TRUTH.mu2)
    with pytest.raises(InputError, match="refine=false"):
        find_tumor(scenes, None, None, None)


def test_what_is_sampled_is_of_both_anatomies_and_the_answer_of_one() -> None:
    scenes = two_anatomies(True)
    solved = find_tumor(scenes, TRUTH, SEARCH, SHORT)
    assert solved.posterior is not None and set(solved.posterior.tissue) == set(solved.losses)
    assert solved.posterior.tissue["white_matter"] > 0.5
    found = solved.fit.estimate
    assert abs(np.log(found.mu1 * found.mu2 / (TRUTH.mu1 * TRUTH.mu2))) < 0.15
    assert any(solved.scene is scene for scene in scenes)
    density = simulate([found.parameters()], solved.scene.fine.atlas).density[0]
    assert solved.fit.loss == pytest.approx(solved.scene.fine.fit(found, density).loss, abs=1e-6)


def test_what_fits_far_worse_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Scene]] = []

    def find(found: list[tuple[Scene, Estimate]], settings: PosteriorSettings) -> NoReturn:
        asked.append([scene for scene, _ in found])
        raise NothingPossibleError("not asked")

    monkeypatch.setattr("morph.solve.find_posterior", find)
    scenes = two_anatomies(True)
    lost = find_tumor(scenes, TRUTH, BRIEF, SHORT).losses.values()
    for hopeless, count in ((max(lost) - min(lost) + 0.01, 2), (max(lost) - min(lost) - 0.01, 1)):
        monkeypatch.setattr("morph.solve.FAR_WORSE", hopeless)
        solved = find_tumor(scenes, TRUTH, BRIEF, SHORT)
        assert asked[-1][-1] is scenes[1] and len(asked[-1]) == count and solved.posterior is None


def test_where_no_tumor_is_possible_the_best_fit_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morph.log_posterior.log_prior", lambda *numbers: -np.inf)
    scene = known_scene()
    solved = find_tumor([scene], TRUTH, BRIEF, SHORT)
    assert solved.posterior is None and solved.fit == refine(scene.coarse, scene.fine, TRUTH, BRIEF)
    (check,) = check_posterior(None)
    assert (check.name, check.verdict, check.value) == ("posterior_sampled", "warn", 0.0)
