"""The tumor of a patient: searched in each anatomy that may be the patient's, sampled in all that explain the outlines.

Inside a visible tumor no image tells white from gray matter. Maps have it from an atlas, through a registration that
is blind there. That guess is held against another one: white matter throughout. Both are searched on the coarse grid.
The posterior is an average over both, each weighed by how probable the outlines are under it (`morph.averaging`); one
that is found much worse by the search is left out. A best fit alone, where no posterior is wanted, is that of the
anatomy whose outlines fit better; the maps where it is close. What explains the outlines better need not be the tissue:
white matter throughout also is a tumor that grows alike in all directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from morph.averaging import find_posterior
from morph.evidence import Estimate, Fit
from morph.posterior import NothingPossibleError, PosteriorSettings
from morph.refine import RefinementSettings, refine, search_coarsely, search_further
from morph.scene import Scene
from morph.uncertainty import Posterior

CLEARLY = 0.01
"""Loss by which another anatomy must explain the outlines better than the first one (ours: another seed of the search
changes it by .003 mostly and .009 at most, on five patients)."""
FAR_WORSE = 0.1
"""Loss above the lowest from which on an anatomy is not sampled (ours: its tumors would hardly count)."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A tumor and where it is.

    Attributes:
        scene: the anatomy that it was found in.
        fit: the tumor to deliver, held against the masks on the fine grid.
        posterior: what the masks leave open, in all anatomies that were sampled; None where it was not asked for, or
            not possible.
        losses: of the best tumor on the coarse grid, by what the visible tumor was taken for; empty without a search.
    """

    scene: Scene
    fit: Fit
    posterior: Posterior | None = None
    losses: dict[str, float] = field(default_factory=dict)


def find_tumor(
    scenes: Sequence[Scene],
    start: Estimate | None,
    refinement: RefinementSettings | None,
    settings: PosteriorSettings | None,
) -> Solved:
    """The tumor to deliver, with its anatomy.

    Args:
        scenes: anatomies that may be the patient's, all on the same grids with the same masks. Without a posterior the
            first one is believed where the others do not explain the outlines better by `CLEARLY`.
        start: the network's answer, in the scenes' space; None to start from the masks.
        refinement: how to search; None keeps the start, in the first scene.
        settings: how to sample; None delivers the best fit. Otherwise the search leaves the fine grid to the ensemble.
            Where no tumor around the one that was found is possible, or too few were met, it does not.

    Raises:
        InputError: neither a start nor a search is wanted.
    """
    if refinement is None:
        return Solved(scenes[0], refine(scenes[0].coarse, scenes[0].fine, start, None))
    searches = [search_coarsely(scene.coarse, start, refinement) for scene in scenes]
    lost = [search.best.loss for search in searches]
    losses = {scene.tumor_tissue: loss for scene, loss in zip(scenes, lost, strict=True)}
    chosen = choose(lost)
    if settings is not None:
        brief = replace(refinement, fine_evaluations=0)
        found = [(scenes[n], search_further(searches[n], scenes[n].fine, brief).estimate) for n in not_far_worse(lost)]
        try:
            return Solved(*find_posterior(found, settings), losses)
        except NothingPossibleError:
            pass
    return Solved(scenes[chosen], search_further(searches[chosen], scenes[chosen].fine, refinement), None, losses)


def choose(losses: Sequence[float]) -> int:
    """The lowest loss, if it is lower than the first one by `CLEARLY`; else the first."""
    best = min(range(len(losses)), key=losses.__getitem__)
    return best if losses[best] < losses[0] - CLEARLY else 0


def not_far_worse(losses: Sequence[float]) -> list[int]:
    """Which are not above the lowest one by `FAR_WORSE`."""
    return [number for number, loss in enumerate(losses) if loss < min(losses) + FAR_WORSE]
