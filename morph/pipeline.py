"""The whole road of one patient: register, bring the masks to the atlas, infer, refine, bring the density back, check.

The atlas is where the tumor is solved for; what crosses between the spaces is a label volume one way, and a density
and an origin the other. mu1 is a length and scales with the affine part of the registration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import FisherKolmogorovParameters
from engine.simulate import SIZE_DENSITY
from morph.checks import (
    Check,
    Verdict,
    check_density,
    check_estimate,
    check_fit,
    check_inputs,
    check_masks,
    check_network,
    check_orientation,
    check_origin,
    check_patient_fit,
    check_ranges,
    check_registration,
    check_scale,
    check_size,
    check_thresholds,
    worst,
)
from morph.evidence import Estimate, Fit
from morph.fallback import distance_density
from morph.inference import Brain, distance_to_tissue, estimate_tumor, final_density, find_tumor, onto_grid
from morph.orientation import orientation_margin
from morph.patient import Patient
from morph.refine import RefinementSettings
from morph.registration import TUMOR_MARGIN, Registration, Warp, grow_mask, measure_agreement
from morph.volume import Volume

Announce = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Personalization:
    """An answer for one patient.

    Attributes:
        density: c [1] on the patient's T1 grid (RAS axes), 0 outside the brain.
        method: `network`, `refined` or `fallback`.
        checks: every question that was asked.
        parameters: the tumor with lengths in the patient's mm and the origin as a fraction of the atlas cube;
            None for a fallback.
        origin_mm: the origin in the patient's world [mm], (3,); None for a fallback.
        estimate: what the network said, in atlas space; None without one.
        fit: what the refinement found, in atlas space; None where it could not start.
        scale: patient mm per atlas mm, det(A)^(1/3).
        seconds: time of each stage.
    """

    density: Volume
    method: str
    checks: tuple[Check, ...]
    parameters: FisherKolmogorovParameters | None
    origin_mm: NDArray[np.float64] | None
    estimate: Estimate | None
    fit: Fit | None
    scale: float
    seconds: dict[str, float]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(self.checks)


@dataclass
class Stopwatch:
    """Times stages and says which one begins."""

    announce: Announce
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, sentence: str) -> Iterator[None]:
        """Time what happens inside."""
        self.announce(sentence)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def run_pipeline(
    patient: Patient,
    brain: Brain,
    registration: Registration,
    refinement: RefinementSettings,
    announce: Announce = lambda sentence: None,
) -> Personalization:
    """Personalize the tumor model to one patient.

    Args:
        patient: T1 and masks.
        brain: atlas and network.
        registration: how to bring both brains together.
        refinement: how to search.
        announce: is told each stage.

    Raises:
        InputError: the images cannot be registered.
    """
    watch = Stopwatch(announce)
    ignore = grow_mask(patient.masks.edema, patient.t1.spacing, TUMOR_MARGIN)
    with watch.stage("registration", "register the atlas to the patient"):
        warp = registration.register(patient.t1, brain.t1, ignore)
        checks = [
            *check_inputs(patient.masks.core, patient.masks.edema, patient.brain),
            check_orientation(orientation_margin(patient.t1, brain.t1, ignore)),
            *check_registration(measure_agreement(warp, patient.t1, brain.t1, ignore)),
            check_scale(warp.affine_scale),
        ]
    with watch.stage("masks", "bring the masks to the atlas"):
        masks = masks_on_atlas(patient, warp, brain)
        core, edema = (onto_grid(mask, brain.anatomy.affine, brain.coarse.grid) for mask in masks)
        checks.append(check_masks(edema, brain.coarse.tissue))
    if not (edema & brain.coarse.tissue).any():
        return _fallback(patient, checks, None, None, warp.affine_scale, watch)
    with watch.stage("network", "estimate the tumor"):
        estimate = estimate_tumor(core, edema, brain)
        if brain.estimator is not None:
            moved = 0.0 if estimate is None else distance_to_tissue(estimate, brain.coarse)
            checks += check_network(estimate, moved)
    with watch.stage("refinement", "refine the estimate"):
        fit = find_tumor(masks, estimate, brain, refinement)
        checks += [*check_fit(fit), *check_thresholds(fit), *check_ranges(fit.estimate)]
        if estimate is not None:
            checks.append(check_estimate(estimate, fit, brain.fine.grid.extent))
    with watch.stage("simulation", "simulate the tumor and bring it back"):
        density, origin_mm, found = _bring_back(fit, patient, warp, brain)
        checks += found
    if worst(checks) == "fail":
        return _fallback(patient, checks, estimate, fit, warp.affine_scale, watch)
    method = "refined" if refinement.evaluations else "network"
    parameters = FisherKolmogorovParameters.from_invariants(
        fit.estimate.mu1 * warp.affine_scale, fit.estimate.mu2, fit.estimate.origin
    )
    return Personalization(
        density, method, tuple(checks), parameters, origin_mm, estimate, fit, warp.affine_scale, watch.seconds
    )


def masks_on_atlas(patient: Patient, warp: Warp, brain: Brain) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Core and edema on the atlas' native grid, both in one nearest-neighbor step, bool (x, y, z)."""
    labels = patient.t1.with_array(patient.masks.core.astype(np.float32) + patient.masks.edema)
    warped = warp.to_atlas(labels, brain.t1, "nearest").array
    return warped > 1.5, warped > 0.5


def _bring_back(
    fit: Fit, patient: Patient, warp: Warp, brain: Brain
) -> tuple[Volume, NDArray[np.float64], list[Check]]:
    """Density on the T1's grid, origin in the patient's world [mm], and what the two look like there."""
    in_atlas = final_density(fit.estimate, brain)
    warped = warp.to_patient(in_atlas, patient.t1, "linear").array
    density = patient.t1.with_array(np.where(patient.brain, np.clip(warped, 0, 1), 0))
    origin = warp.points_to_patient(brain.fine.grid.to_world(fit.estimate.origin)[None])[0]
    solid = (in_atlas.array >= SIZE_DENSITY) & brain.fine.tissue
    volume = float(np.count_nonzero(solid)) * brain.fine.grid.voxel_volume
    checks = [
        *check_patient_fit(density.array, fit, patient.masks.core, patient.masks.edema),
        *check_density(density.array, patient.brain),
        check_origin(_distance_to_brain(origin, patient)),
        check_size(volume),
    ]
    return density, origin, checks


def _distance_to_brain(point: NDArray[np.float64], patient: Patient) -> float:
    """How far [mm] a world point lies outside the brain; infinite outside the image."""
    voxel = np.round(patient.t1.to_voxel(point)).astype(int)
    if np.any(voxel < 0) or np.any(voxel >= patient.brain.shape):
        return float("inf")
    return float(ndimage.distance_transform_edt(~patient.brain, sampling=patient.t1.spacing)[tuple(voxel)])


def _fallback(
    patient: Patient, checks: list[Check], estimate: Estimate | None, fit: Fit | None, scale: float, watch: Stopwatch
) -> Personalization:
    """A density that needs no model, for an answer that did not pass its checks."""
    with watch.stage("fallback", "the answer failed its checks: fall back to distances"):
        density = patient.t1.with_array(distance_density(patient.masks, patient.t1))
    return Personalization(density, "fallback", tuple(checks), None, None, estimate, fit, scale, watch.seconds)
