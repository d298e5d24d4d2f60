"""The tumor of a patient: searched in each anatomy that may be the patient's, sampled in the likeliest.

Inside a visible tumor no image tells white from gray matter. Maps have it from an atlas, through a registration that
is blind there. That guess is held against another one: white matter throughout. Both are searched on the coarse grid,
and the outlines decide; the maps where it is close.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from morph.evidence import Estimate, Fit
from morph.posterior import NothingPossibleError, PosteriorSettings, find_posterior
from morph.refine import RefinementSettings, hold, refine
from morph.scene import Scene
from morph.uncertainty import Posterior

CLEARLY = 0.01
"""Loss by which another anatomy must explain the outlines better than the first one (ours: about twice what another
seed of the search changes it by, on five patients)."""


def find_tumor(
    scenes: Sequence[Scene],
    start: Estimate | None,
    refinement: RefinementSettings | None,
    settings: PosteriorSettings | None,
) -> tuple[Scene, Fit, Posterior | None]:
    """The tumor to deliver and the scene it is in, held against the masks on the fine grid, and what they leave open.

    Args:
        scenes: anatomies that may be the patient's, all on the same grids with the same masks; the first one is
            believed where the others do not explain the outlines clearly better.
        start: the network's answer, in the scenes' space; None to start from the masks.
        refinement: how to search; None keeps the start, in the first scene.
        settings: how to sample; None delivers the best fit. Otherwise the search leaves the fine grid to the ensemble.
            Where no tumor around the one that was found is possible, or too few were met, it does not.

    Raises:
        InputError: neither a start nor a search is wanted.
    """
    scene = scenes[0]
    if refinement is not None and (settings is not None or len(scenes) > 1):
        scene, found = likeliest(scenes, start, replace(refinement, fine_evaluations=0))
        if settings is not None:
            with suppress(NothingPossibleError):
                return scene, *find_posterior(scene, found, settings)
    return scene, refine(scene.coarse, scene.fine, start, refinement), None


def likeliest(
    scenes: Sequence[Scene], start: Estimate | None, refinement: RefinementSettings
) -> tuple[Scene, Estimate]:
    """The scene whose best tumor on the coarse grid explains the outlines best, and that tumor."""
    found = [refine(scene.coarse, scene.fine, start, refinement).estimate for scene in scenes]
    losses = [hold(one, scene.coarse).loss for scene, one in zip(scenes, found, strict=True)]
    losses[0] -= CLEARLY
    best = losses.index(min(losses))
    return scenes[best], found[best]
