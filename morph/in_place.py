"""A patient whose own tissue maps are given: the tumor is solved in them, and nothing is registered.

Where the images lie on the atlas' own grid, the masks can be shown to the network as they are: its estimate costs
nothing, and a brain that fits the atlas only roughly still gives the search a good start. On any other grid the
search starts from the masks alone. Checks of a registration have nothing to check here, and the network, which sees a
brain that is not registered, is not held against the answer; the answer is held against the masks as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import InputError, simulate
from morph.checks import Check, Verdict, check_answer, check_explained, check_network, check_size, worst
from morph.edges import check_edges
from morph.evidence import Estimate
from morph.fallback import distance_density
from morph.foci import Foci, split_foci
from morph.inference import Brain, distance_to_tissue, estimate_tumor, majority
from morph.input_checks import (
    UNCHECKED,
    check_appearance,
    check_core,
    check_cube,
    check_foci,
    check_inputs,
    check_masks,
    check_nesting,
    check_shown,
    check_volume,
)
from morph.patient import Patient, crop
from morph.pipeline import MARGIN
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings, hold
from morph.registration import Interpolation
from morph.resample import average_onto, bounding_box, resample
from morph.scene import Scene, patient_scene, share_in_cube
from morph.solve import find_tumor
from morph.stopwatch import Announce
from morph.tissue import Tissue, show_tumor_as_tissue
from morph.volume import Volume, share_grid

Settings = tuple[RefinementSettings, PosteriorSettings | None]


class SameWorld:
    """The warp between a patient and an atlas that share one world."""

    affine_scale = 1.0
    affine_stretch = 1.0

    def to_atlas(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        """The volume on the grid of `like`."""
        return resample(volume, like, {"linear": 1, "nearest": 0}[interpolation])

    to_patient = to_atlas

    def points_to_atlas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same points [mm], (n, 3)."""
        return points

    points_to_patient = points_to_atlas


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found.

    Attributes:
        density: c [1] on the patient's grid, 0 outside the brain.
        method: `refined` or `fallback`.
        start: what the search started from, `network` or `masks`.
        checks: every question that was asked.
    """

    density: Volume
    method: str
    start: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(self.checks)


def personalize_in_place(
    patient: Patient,
    brain: Brain,
    refinement: RefinementSettings,
    announce: Announce,
    uncertainty: PosteriorSettings | None = None,
) -> Answer:
    """Find the tumor that explains the masks in the patient's own tissue.

    Args:
        patient: with its tissue; `t1` only says where the brain is.
        brain: atlas and network.
        refinement: how to search.
        announce: is told each stage.
        uncertainty: how to sample what the masks leave open; the density is then the mean over it, else the best fit's.

    Raises:
        InputError: the patient comes without tissue maps.
    """
    box = bounding_box(patient.brain | patient.masks.edema, MARGIN)
    near = crop(patient, box)
    if near.tissue is None:
        raise InputError("a patient can be solved in place only with its own tissue maps: give all three")
    start = "network" if brain.estimator is not None and share_grid(patient.t1, brain.t1) else "masks"
    answer = _personalize(near, near.tissue, brain, start, (refinement, uncertainty), announce)
    whole = np.zeros(patient.t1.array.shape, dtype=np.float32)
    whole[box] = answer.density.array
    return replace(answer, density=patient.t1.with_array(whole))


def _personalize(
    patient: Patient, tissue: Tissue, brain: Brain, start: str, settings: Settings, announce: Announce
) -> Answer:
    """The same in the box around the brain, with what the search starts from."""
    foci = split_foci(patient.masks, patient.t1)
    focus = replace(patient, masks=foci.largest)
    checks = [
        *check_inputs(patient.masks.core, patient.masks.edema, patient.brain),
        check_core(patient),
        *check_nesting(patient),
        check_volume(float(np.count_nonzero(patient.brain)) * patient.t1.voxel_volume),
        check_cube(share_in_cube(patient, brain.fine.grid)),
        check_foci(foci),
        check_masks(patient.masks.edema, tissue.matter),
        *(check_appearance(patient) if patient.t1ce is not None or patient.flair is not None else UNCHECKED.values()),
        *check_edges(patient),
    ]
    density, shown = None, show_tumor_as_tissue(tissue, patient.masks.edema & patient.brain)
    if worst(checks) != "fail":
        announce(f"search the tumor, starting from the {start}")
        scene = patient_scene(focus, SameWorld(), brain, shown)
        density = _solve(scene, focus, brain if start == "network" else None, settings, checks)
    if density is None or worst(checks) == "fail":
        announce("a check failed: fall back to distances")
        fallback = patient.t1.with_array(distance_density(patient.masks, patient.t1, shown.matter))
        return Answer(fallback, "fallback", start, tuple(checks))
    return Answer(_with_others(density, foci, shown.matter), "refined", start, tuple(checks))


def _solve(scene: Scene, focus: Patient, brain: Brain | None, settings: Settings, checks: list[Check]) -> Volume | None:
    """The density to order by; None where the coarse grids show nothing of the tumor."""
    checks.append(check_shown(scene.shows_tumor))
    if not scene.shows_tumor:
        return None
    estimate = None if brain is None else _ask_network(focus, brain, checks)
    start = None if estimate is None else scene.from_atlas(estimate)
    if start is not None:
        checks.append(check_explained(hold(start, scene.coarse)))
    solved = find_tumor([scene], start, *settings)
    fit, posterior = solved.fit, solved.posterior
    result = simulate([fit.estimate.parameters()], scene.fine.atlas)
    density = scene.deliver(result.density[0])
    checks += check_answer(fit, density.array, focus, posterior, scene.drawn.matter)
    checks.append(check_size(float(result.volumes[0])))
    return density if posterior is None else posterior.density_mean


def _ask_network(focus: Patient, brain: Brain, checks: list[Check]) -> Estimate | None:
    coarse = brain.coarse
    core, edema = (
        majority(average_onto(focus.t1.with_array(mask), coarse.grid)) for mask in (focus.masks.core, focus.masks.edema)
    )
    estimate = estimate_tumor(core, edema, brain)
    checks += check_network(estimate, 0.0 if estimate is None else distance_to_tissue(estimate, coarse), False)
    return None if estimate is None else estimate.within_ranges()


def _with_others(density: Volume, foci: Foci, matter: NDArray[np.bool_]) -> Volume:
    """The density, and a falloff with distance around the foci that the model did not explain."""
    if foci.others is None:
        return density
    like = density.with_array(np.ones_like(density.array))
    return density.with_array(np.maximum(density.array, distance_density(foci.others, like, matter)))
