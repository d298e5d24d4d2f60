"""The whole road of one patient: register, map the tissue, infer, refine, simulate, check, and fall back if wrong.

The network knows the atlas only, so the masks go there for its estimate. The tumor itself is searched and simulated
in the patient's own anatomy, or with `space=atlas` in the atlas (see `morph.scene`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine import InputError
from engine.parameters import Parameters
from morph.answer import Personalization
from morph.checks import (
    check_answer,
    check_estimate,
    check_explained,
    check_network,
    check_origin,
    check_push,
    check_rejected_push,
    check_size,
    worst,
)
from morph.evidence import Estimate, Fit
from morph.fallback import distance_density, tissue_without_atlas
from morph.foci import Unfitted, split_foci
from morph.growth import grow
from morph.inference import Brain, distance_to_tissue, estimate_tumor, majority
from morph.input_checks import (
    check_cube,
    check_foci,
    check_found,
    check_masks,
    check_orientation,
    check_patient,
    check_registration,
    check_scale,
    check_shown,
    check_tissue,
)
from morph.mass_effect import MassEffect, Push, let_push, measure_push, seen_place
from morph.orientation import orientation_margin
from morph.patient import Patient, crop, distance_outside
from morph.posterior import PosteriorSettings
from morph.quality import measure_quality
from morph.refine import RefinementSettings, hold
from morph.registration import TUMOR_MARGIN, Registration, RegistrationFailed, Warp, grow_mask
from morph.resample import average_onto, bounding_box
from morph.scene import Scene, atlas_scene, check_space, masks_on_atlas, patient_scene, share_in_cube, working_grid
from morph.segmentation import Masks
from morph.solve import find_tumor
from morph.stopwatch import Announce, Stopwatch
from morph.tissue import Tissue, classify, normalized, show_tumor_as_tissue, show_tumor_as_white_matter
from morph.uncertainty import Posterior
from morph.volume import Volume

MARGIN = 8
"""Voxels around brain and tumor within which a run looks at a patient's images (ours)."""


def run_pipeline(
    patient: Patient,
    brain: Brain,
    registration: Registration,
    refinement: RefinementSettings | None,
    space: str = "patient",
    announce: Announce = lambda sentence: None,
    effect: MassEffect | None = None,
    uncertainty: PosteriorSettings | None = None,
) -> Personalization:
    """Personalize the tumor model to one patient.

    Args:
        patient: T1 and masks.
        brain: atlas and network.
        registration: how to bring both brains together.
        refinement: how to search; None keeps the network's estimate.
        space: where to solve, `patient` or `atlas`.
        announce: is told each stage.
        effect: the mass-effect model, which starts from the first model's answer; None for the first model alone.
        uncertainty: how to sample what the masks leave open, of the first model and with a search only; None goes
            without.

    Raises:
        InputError: neither a network nor a search is wanted, or the tumor shall push the atlas.
    """
    check_space(space, effect is not None)
    if refinement is None and brain.estimator is None:
        raise InputError("refine=false keeps the network's answer, and there is no network: refine, or give weights")
    road = Road(patient, brain, space, Stopwatch(announce), effect, uncertainty if refinement and not effect else None)
    return road.travel(registration, refinement)


class Road:
    """The stages of one run, and what each leaves for the next."""

    def __init__(
        self,
        patient: Patient,
        brain: Brain,
        space: str,
        watch: Stopwatch,
        effect: MassEffect | None,
        uncertainty: PosteriorSettings | None,
    ) -> None:
        """Args: see `run_pipeline`. Only the largest focus of the tumor is fitted, in the box around the brain."""
        self.full, self.brain, self.space, self.watch, self.effect = patient.t1, brain, space, watch, effect
        self.uncertainty = uncertainty
        self.box = bounding_box(patient.brain | patient.masks.edema, MARGIN)
        self.whole = patient = crop(patient, self.box)
        foci = split_foci(patient.masks, patient.t1)
        self.others, self.patient = foci.others, replace(patient, masks=foci.largest)
        self.hidden = grow_mask(patient.masks.edema, patient.t1.spacing, TUMOR_MARGIN)
        share = share_in_cube(patient, brain.fine.grid)
        self.checks = [*check_patient(patient), check_cube(share), check_foci(foci)]
        self.scale: float | None = None
        self.tissue: Tissue | None = None
        self.estimate: Estimate | None = None
        self.posterior: Posterior | None = None
        self.losses: dict[str, float] = {}

    def travel(self, registration: Registration, refinement: RefinementSettings | None) -> Personalization:
        """Every stage in turn, as long as no check fails."""
        if worst(self.checks) == "fail":
            return self._fall_back()
        with self.watch.stage("registration", "register the atlas to the patient"):
            warp = self._register(registration)
        if warp is not None:
            with self.watch.stage("quality", "look at the registration"):
                self._look_at(warp)
        if warp is None or worst(self.checks) == "fail":
            return self._fall_back()
        with self.watch.stage("tissue", "map the patient's tissue"):
            scenes = self._build_scenes(warp)
            self.checks.append(check_shown(scenes[0].shows_tumor))
        if worst(self.checks) == "fail":
            return self._fall_back()
        with self.watch.stage("network", "estimate the tumor"):
            start = self._ask_network(warp, scenes[0], is_needed=refinement is None)
        if worst(self.checks) == "fail":
            return self._fall_back()
        with self.watch.stage("refinement", "search the tumor" if refinement else "keep the estimate"):
            solved = find_tumor(scenes, start, refinement, self.uncertainty)
            scene, first, self.posterior, self.losses = solved.scene, solved.fit, solved.posterior, solved.losses
            self.tissue = scene.tissue or self.tissue
        method = "refined" if refinement else "network"
        if self.effect is not None:
            with self.watch.stage("mass_effect", "let the tumor push"):
                rest, fit = let_push(scene, first, self.effect, refinement)
            return self._answer_pushed((scene, first), (rest, fit), method)
        with self.watch.stage("simulation", "simulate the tumor in full"):
            return self._answer(scene, first, first, method)

    def _register(self, registration: Registration) -> Warp | None:
        """The warp, if there is one."""
        warp, reason = None, None
        try:
            warp = registration.register(self.patient.t1, self.brain.t1, self.hidden)
            self.scale = warp.affine_scale
        except RegistrationFailed as failure:
            reason = str(failure)
        self.checks.append(check_found(reason))
        return warp

    def _look_at(self, warp: Warp) -> None:
        """Checks of the registration."""
        t1, atlas = self.patient.t1, self.brain.t1
        grid = working_grid(self.patient, self.brain.fine.grid)
        self.checks += [
            check_orientation(orientation_margin(t1, atlas, self.hidden)),
            *check_registration(measure_quality(warp, t1, atlas, self.hidden, grid)),
            *check_scale(warp.affine_scale, warp.affine_stretch),
        ]

    def _build_scenes(self, warp: Warp) -> list[Scene]:
        """The warped atlas, as the T1 and the visible tumor correct it, and what else may be inside the tumor."""
        patient = self.patient
        white, gray, csf = (warp.to_patient(m, patient.t1, "linear") for m in self.brain.maps)
        warped = normalized((white, gray, csf), patient.brain, "atlas")
        seen = patient.tissue or classify(patient.t1, warped, self.whole.masks.edema)
        self.checks += [check_masks(self.whole.masks.edema, warped.matter), *check_tissue(warped, seen, self.hidden)]
        self.tissue = show_tumor_as_tissue(seen, self.whole.masks.edema & patient.brain)
        if self.space == "atlas":
            return [atlas_scene(patient, warp, self.brain, masks_on_atlas(patient, warp, self.brain))]
        fitted = patient.masks.edema & patient.brain
        guesses = [] if patient.tissue else [show_tumor_as_white_matter(self.tissue, fitted)]
        first = patient_scene(patient, warp, self.brain, self.tissue)
        return [first, *(patient_scene(patient, warp, self.brain, guess, first.drawn) for guess in guesses)]

    def _ask_network(self, warp: Warp, scene: Scene, is_needed: bool) -> Estimate | None:
        """The network's estimate from the masks on the atlas, in the scene's space."""
        if self.brain.estimator is None:
            return None
        coarse = self.brain.coarse
        core, edema = (
            majority(average_onto(self.brain.t1.with_array(mask), coarse.grid))
            for mask in masks_on_atlas(self.patient, warp, self.brain)
        )
        self.estimate = estimate_tumor(core, edema, self.brain)
        moved = 0.0 if self.estimate is None else distance_to_tissue(self.estimate, coarse)
        self.checks += check_network(self.estimate, moved, is_needed)
        if self.estimate is None:
            return None
        self.estimate = self.estimate.within_ranges()
        start = scene.from_atlas(self.estimate)
        self.checks.append(check_explained(hold(start, scene.coarse)))
        return start

    def _answer_pushed(self, plain: tuple[Scene, Fit], pushed: tuple[Scene, Fit], method: str) -> Personalization:
        """The answer that pushes or, where that is rejected, the one that does not; each with its scene."""
        before = list(self.checks)
        with self.watch.stage("simulation", "simulate the tumor in full"):
            answer = self._answer(pushed[0], plain[1], pushed[1], method)
            if answer.method != "fallback":
                return answer
            failed = [check.name for check in answer.checks if check.verdict == "fail"]
            self.checks = [*before, check_rejected_push(failed)]
            self.watch.seconds.pop("fallback", None)
            return self._answer(plain[0], plain[1], plain[1], method)

    def _answer(self, scene: Scene, first: Fit, fit: Fit, method: str) -> Personalization:
        """The density of a fit on the T1's grid, if it passes its checks; `first` is the first model's fit."""
        found = scene.into_atlas(fit.estimate)
        result = grow([fit.estimate.parameters()], scene.fine.rest)
        density = scene.deliver(result.density[0])
        pushed = result.pushed[0] if result.pushed else None
        origin = seen_place(fit.estimate, pushed, scene) if pushed else scene.place_of(fit.estimate)
        self.checks += [
            *check_answer(fit, density.array, self.patient, self.posterior, self.matter),
            *([] if self.estimate is None else check_estimate(self.estimate, found, self.brain.fine.grid.extent)),
            check_origin(distance_outside(origin, self.patient.brain if self.matter is None else self.matter, density)),
            check_size(float(result.volumes[0]) * (found.mu1 / fit.estimate.mu1) ** 3),
        ]
        push = None
        if pushed and self.tissue is not None:
            labels = self.patient.t1.with_array(self.tissue.labels)
            push = measure_push(scene, pushed, first, self.patient, labels)
            push = replace(push, first_density=self._with_others(push.first_density))
            self.checks += check_push(push, fit)
        if worst(self.checks) == "fail":
            return self._fall_back(found, fit)
        if self.posterior is not None and self.others is not None:
            self.posterior = self.posterior.with_others(self._falloff(self.others))
        parameters = replace(fit.estimate, mu1=fit.estimate.mu1 * scene.scale).parameters()
        return self._finish(self._with_others(density), method, parameters, origin, found, fit, push)

    def _with_others(self, density: Volume) -> Volume:
        """The density, and a falloff with distance around the foci that the model did not explain."""
        if self.others is None:
            return density
        return density.with_array(np.maximum(density.array, self._falloff(self.others)))

    @property
    def matter(self) -> NDArray[np.bool_] | None:
        """Where the patient has tissue, bool (x, y, z); None as long as that is not known."""
        return None if self.tissue is None else self.tissue.matter

    def _falloff(self, masks: Masks | Unfitted) -> NDArray[np.float32]:
        """A density that needs no model."""
        return distance_density(masks, self.patient.t1, self.matter)

    def _fall_back(self, found: Estimate | None = None, fit: Fit | None = None) -> Personalization:
        """A density that needs no model, for an answer that did not pass its checks."""
        with self.watch.stage("fallback", "a check failed: fall back to distances"):
            self.tissue = self.tissue or tissue_without_atlas(self.whole, self.checks)
            density = self.whole.t1.with_array(self._falloff(self.whole.masks))
        return self._finish(density, "fallback", None, None, found, fit)

    def _finish(
        self,
        density: Volume,
        method: str,
        parameters: Parameters | None,
        origin: NDArray[np.float64] | None,
        found: Estimate | None,
        fit: Fit | None,
        push: Push | None = None,
    ) -> Personalization:
        """The answer on the whole T1."""
        known = self.tissue if method == "fallback" or self.space == "patient" else None
        tissue = None if known is None else self._uncrop(known.labels)
        return Personalization(
            self._uncrop(density.array), method, tuple(self.checks), parameters, origin, self.estimate, found, fit,
            self.space, self.scale, self.watch.seconds, tissue,
            "atlas" if known is None else known.source,
            None if parameters is None else "maps" if known is None else known.tumor, self.losses,
            None if push is None else push.on_whole(self._uncrop),
            None if parameters is None or self.posterior is None else self.posterior.on_whole(self._uncrop),
        )  # fmt: skip

    def _uncrop(self, array: NDArray) -> Volume:
        """Values in the box on the whole T1's grid, 0 beyond."""
        whole = np.zeros(self.full.array.shape, dtype=np.float32)
        whole[self.box] = array
        return self.full.with_array(whole)
