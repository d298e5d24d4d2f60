"""A tumor that pushes, found in a patient whose brain is already displaced.

The masks and the T1 show the brain after the push; the model needs it before. The registration leaves the tumor out
of its metric and follows what is displaced around it, so the tissue that it gives is taken for the displaced one, and
the brain at rest is what becomes of it when the model's own displacement is taken back (`morph.displacement`). The
displacement depends on the brain at rest, and that on the displacement: they are found in turn. What grows and pushes
in the brain at rest is then compared with the masks where they lie.

The first model's answer is the start. A tumor that pushes is larger than one that does not, so first a stand-in is
searched that costs a hundredth: the first model in the brain at rest, its density carried along by the displacement
that was found last. From there the tumor itself is searched on the coarse grid in `ROUNDS`, after each of which the
brain at rest is made anew, and a little further on the fine grid.

What is approximated: the share of white and gray matter inside the tumor is a guess (`morph.solve`), stretched as the
brain around the tumor is; the brain at rest is found for the best tumor and kept for its neighbors; what is
folded cannot be taken back. Masks say little about the coupling: what shows it, the displaced anatomy, is what the
registration removes. A coupling that is searched for is a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, InputError
from engine.mass_effect import Pushed
from engine.model import Model
from morph.displacement import Vectors, at_points, flow, flow_onto, moved_atlas, moved_origin, moved_volume
from morph.evidence import PUSH_ACCURACY, Estimate, Evidence, Fit
from morph.growth import grow
from morph.patient import Patient
from morph.refine import FINE_STEP, STEPS, RefinementSettings, Search
from morph.scene import Scene
from morph.volume import Volume

ROUNDS = (0.4, 0.2)
"""First steps of the coarse search in each round, relative to `STEPS` (ours: the stand-in's answer is near)."""
TURNS = 3
"""How often displacement, brain at rest and stand-in are found in turn before the first round (ours)."""
STAND_INS = 96
"""Simulations of the stand-in's search in each turn, and `STAND_IN_STEP`, its first step (ours)."""
STAND_IN_STEP = 0.5
MOVED = 1.0
"""Displacement [mm] from which on a place counts as pushed (ours)."""


@dataclass(frozen=True)
class PushSettings:
    """How to search for a tumor that pushes.

    Attributes:
        evaluations: simulations on the coarse grid.
        fine_evaluations: simulations on the fine grid, seconds each.
        population: simulations of a generation.
    """

    evaluations: int = 48
    fine_evaluations: int = 8
    population: int = 8

    def __post_init__(self) -> None:
        """Refuse what no search can run with."""
        if not (self.evaluations >= 1 and self.fine_evaluations >= 0 and self.population >= 4):
            raise InputError(
                f"push with {self.evaluations} + {self.fine_evaluations} evaluations, population {self.population}: "
                "evaluations must be >= 1, fine_evaluations >= 0 and population >= 4"
            )


@dataclass(frozen=True)
class MassEffect:
    """The second model for a patient.

    Attributes:
        model: with the range of its coupling; equal ends fix it.
        settings: of its search.
    """

    model: Model
    settings: PushSettings = PushSettings()


@dataclass(frozen=True, eq=False)
class Push:
    """What the second model says beside the density, on the patient's T1 grid.

    Attributes:
        displacement: how far the tissue now at a voxel has been moved [mm], components R, A, S of the world,
            float32 (3, x, y, z), 0 outside the brain.
        tissue_before: labels (see `Tissue.labels`) of the brain before it was pushed.
        minimum_jacobian: lowest det(I + grad u) in the brain [1].
        folded: part of the brain where it is not positive [1].
        agreement: part of the pushed places beside the tumor where the model's tissue is what is seen there [1]. The
            brain at rest was made by taking the push back, so this says whether that succeeded, not whether the brain
            was ever pushed.
        converged: whether the displacement could be solved for.
        first: the first model's fit, and `first_density` its density.
    """

    displacement: Vectors
    tissue_before: Volume
    minimum_jacobian: float
    folded: float
    agreement: float
    converged: bool
    first: Fit
    first_density: Volume

    @property
    def furthest(self) -> float:
        """The longest displacement [mm]."""
        return float(np.linalg.norm(self.displacement, axis=0).max())

    def on_whole(self, uncrop: Callable[[NDArray], Volume]) -> Push:
        """The same on the whole T1, onto which `uncrop` brings an array (x, y, z) of the box around the brain."""
        return replace(
            self,
            displacement=np.stack([uncrop(part).array for part in self.displacement]),
            tissue_before=uncrop(self.tissue_before.array),
            first_density=uncrop(self.first_density.array),
        )


def let_push(scene: Scene, first: Fit, effect: MassEffect, search: RefinementSettings | None) -> tuple[Scene, Fit]:
    """Find the tumor that explains the masks after it has pushed the brain.

    Args:
        scene: the brain as it is seen.
        first: the first model's answer in it.
        effect: see `MassEffect`.
        search: the first model's settings, of which pull and seed are kept; None keeps the first model's numbers.

    Returns:
        The scene with the brain at rest, and the best fit, measured on the fine grid.
    """
    couplings, settings = effect.model.coupling, effect.settings
    tumor = replace(first.estimate, coupling=sum(couplings) / 2)
    there = displacement_of(tumor, scene.coarse)
    tumor = _with_origin(tumor, scene.coarse, flow(-there, scene.coarse.atlas.grid.spacing))
    coarse = _at_rest(scene.coarse, there)
    for _ in range(TURNS - 1):
        if search is not None:
            tumor = _stand_in(tumor, first, coarse, search)
        there = displacement_of(tumor, coarse)
        coarse = _at_rest(coarse, there)
    if search is None:
        scene = _scene_at_rest(scene, coarse, there)
        return scene, scene.fine.compare([replace(tumor, origin=scene.fine.in_tissue(np.array(tumor.origin)))])[0]
    place = np.zeros(len(STEPS) + (couplings[0] < couplings[1]))
    finder = Search(tumor, search.pull, first, place, couplings)
    search = replace(search, population=settings.population)
    for step in ROUNDS:
        finder.run(coarse, -(-settings.evaluations // len(ROUNDS)), step, search)
        there = displacement_of(finder.best.estimate, coarse)
        coarse = _at_rest(coarse, there)
    scene = _scene_at_rest(scene, coarse, there)
    finder.run(scene.fine, settings.fine_evaluations, FINE_STEP, search)
    return scene, finder.best


def _stand_in(tumor: Estimate, first: Fit, evidence: Evidence, search: RefinementSettings) -> Estimate:
    """The tumor whose density without a push of its own, carried along by the last displacement, fits the masks."""
    if not tumor.coupling:
        return tumor
    finder = Search(replace(tumor, coupling=None), search.pull, first)
    finder.run(evidence, STAND_INS, STAND_IN_STEP, search)
    return replace(finder.best.estimate, coupling=tumor.coupling)


def displacement_of(estimate: Estimate, evidence: Evidence) -> Vectors:
    """The u [mm] of a tumor in the brain at rest, (3, x, y, z); one that grows too large stops pushing there."""
    moved = replace(estimate, origin=evidence.in_tissue(np.asarray(estimate.origin)))
    return grow([moved.parameters()], evidence.rest, evidence.hopeless, PUSH_ACCURACY).displacement[0]


def seen_place(estimate: Estimate, pushed: Pushed, scene: Scene) -> NDArray[np.float64]:
    """Where the tissue that a tumor began in is seen after the push, in the patient's world [mm], (3,)."""
    there = flow(pushed.displacement, scene.fine.atlas.grid.spacing)
    return scene.place_of(_with_origin(estimate, scene.fine, there))


def measure_push(scene: Scene, pushed: Pushed, first: Fit, patient: Patient, tissue: Volume) -> Push:
    """What the final simulation did to the brain.

    Args:
        scene: with the brain at rest.
        pushed: the final simulation, on the scene's fine grid.
        first: the first model's fit.
        patient: whose brain it is.
        tissue: labels of the brain as it is seen, on the T1's grid.
    """
    u, grid, t1 = pushed.displacement, scene.fine.atlas.grid, patient.t1
    there, back = (flow_onto(way, grid, t1.affine, t1.array.shape) for way in (u, -u))
    before = moved_volume(tissue, there, order=0)
    return Push(
        np.where(patient.brain, -back, 0).astype(np.float32),
        before.with_array(np.where(patient.brain, before.array, 0)),
        pushed.minimum_jacobian,
        pushed.folded,
        _agreement(scene.fine, pushed),
        pushed.ended == "duration",
        first,
        scene.deliver(grow([first.estimate.parameters()], scene.fine.atlas).density[0]),
    )


def describe_push(push: Push, fit: Fit | None) -> dict[str, Any]:
    """What parameters.json says of the displacement, and of how well both models explain the masks.

    Lengths are the patient's mm; `origin` is a fraction of the cube, the first model's in the brain as it is seen and
    the second's in the brain at rest (`origin_mm` of the answer is where that tissue is seen).
    """
    fits = {"fisher_kolmogorov": push.first, "mass_effect": fit}
    return {
        "furthest_mm": push.furthest,
        "minimum_jacobian": push.minimum_jacobian,
        "folded": push.folded,
        "agreement": push.agreement,
        "models": {name: _numbers(one) for name, one in fits.items() if one is not None},
    }


def _numbers(fit: Fit) -> dict[str, Any]:
    return asdict(fit.estimate) | {
        "core_threshold": fit.core_threshold,
        "edema_threshold": fit.edema_threshold,
        "core_dice": fit.core_dice,
        "edema_dice": fit.edema_dice,
        "loss": fit.loss,
    }


def _agreement(evidence: Evidence, pushed: Pushed) -> float:
    """Part of the places outside the visible edema that moved where pushed tissue and CSF are those that are seen."""
    atlas = evidence.atlas
    visible = np.zeros(atlas.grid.shape, dtype=bool)
    visible[atlas.tissue] = evidence.edema
    beside = atlas.brain & ~visible & (np.linalg.norm(pushed.displacement, axis=0) > MOVED)
    tissue = pushed.white_matter + pushed.gray_matter >= pushed.csf
    return float(np.mean(tissue[beside] == atlas.tissue[beside])) if beside.any() else 1.0


def _at_rest(evidence: Evidence, there: Vectors) -> Evidence:
    """The same masks, in the brain that `there` [mm, (3, x, y, z)] would bring to where it is seen."""
    spacing = evidence.atlas.grid.spacing
    rest = moved_atlas(evidence.atlas, flow(there, spacing))
    return evidence.starting_in(rest, flow(-there, spacing) / np.float32(spacing))


def _scene_at_rest(scene: Scene, coarse: Evidence, there: Vectors) -> Scene:
    """The scene with both its grids' brains at rest; `there` is of the coarse grid."""
    grid, fine = coarse.atlas.grid, scene.fine.atlas
    forth, back = flow(there, grid.spacing), flow(-there, grid.spacing)
    rest: Atlas = moved_atlas(fine, at_points(forth, grid, fine.grid.affine, fine.grid.shape))
    return replace(
        scene,
        coarse=coarse,
        fine=scene.fine.starting_in(rest),
        from_atlas=lambda found: _with_origin(scene.from_atlas(found), coarse, back),
        into_atlas=lambda found: scene.into_atlas(_with_origin(found, coarse, forth)),
    )


def _with_origin(estimate: Estimate, evidence: Evidence, by: Vectors) -> Estimate:
    """The estimate with its origin moved by a displacement [mm, (3, x, y, z)] of the evidence's grid."""
    origin: NDArray[np.float64] = np.clip(moved_origin(estimate.origin, by, evidence.atlas.grid), 0, 1)
    return replace(estimate, origin=(float(origin[0]), float(origin[1]), float(origin[2])))
