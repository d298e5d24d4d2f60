"""Named checks of an answer: nobody shall get a confident wrong one. Those of what goes in are in `input_checks`.

Each compares one number with two limits: beyond the first it warns, beyond the second the answer is rejected and a
fallback is delivered. Limits are ours, judged on a few digital twins and real patients and not calibrated: a sound
fit reaches Dice above .8, and one below .4 explains less than half of what is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, PRIORS
from engine.mass_effect import FOLDED_WARNING
from morph.evidence import MU1_RANGE, MU2_RANGE, Estimate, Fit
from morph.mass_effect import Push
from morph.patient import Patient
from morph.uncertainty import Posterior

Verdict = Literal["pass", "warn", "fail"]
SEVERITY: tuple[Verdict, ...] = ("pass", "warn", "fail")
EDGE_SHARE = 0.02
"""How close to the edge of its range a threshold may lie, as a share of the range (ours)."""
LEAST_GAIN = 0.01
"""What a push must take off the loss before it counts as helping: it is searched for longer than no push (ours)."""
FAMILIAR = 0.6
"""Mean Dice of the network's tumor with the masks below which they are unlike its training data (ours)."""
AGREED_LEAST = 0.9
"""Mean Dice with the other tumors that the masks allow, below which one tumor does not stand for them (ours: of twenty
digital twins two were below, and their Dice with the truth was .91 and .86; the others' .81 to .95)."""
VISIBLE = 0.1
"""Density [1] above which a voxel counts as invaded when the size of an answer is checked (ours)."""


@dataclass(frozen=True)
class Check:
    """One question asked of an answer.

    Attributes:
        name: stable, for programs.
        value: what was measured.
        limit: the limit that it was held against: the crossed one, or the first.
        verdict: `pass`, `warn` or `fail`.
        message: a sentence for people.
    """

    name: str
    value: float
    limit: float
    verdict: Verdict
    message: str


def at_least(name: str, value: float, warn: float, fail: float, subject: str) -> Check:
    """A check of a number that must not be small; NaN fails."""
    verdict: Verdict = "pass" if value >= warn else "warn" if value >= fail else "fail"
    limit = fail if verdict == "fail" else warn
    relation = "at least" if verdict == "pass" else "below"
    return Check(name, float(value), limit, verdict, f"{subject} is {value:.3g}, {relation} {limit:.3g}")


def at_most(name: str, value: float, warn: float, fail: float, subject: str) -> Check:
    """A check of a number that must not be large; NaN fails."""
    verdict: Verdict = "pass" if value <= warn else "warn" if value <= fail else "fail"
    limit = fail if verdict == "fail" else warn
    relation = "at most" if verdict == "pass" else "above"
    return Check(name, float(value), limit, verdict, f"{subject} is {value:.3g}, {relation} {limit:.3g}")


def check_answer(
    fit: Fit,
    density: NDArray[np.float32],
    focus: Patient,
    posterior: Posterior | None,
    matter: NDArray[np.bool_] | None,
) -> list[Check]:
    """Does the tumor explain the masks, with numbers that are possible and a density that is neither none nor all?

    Args:
        fit: of the tumor to the masks.
        density: c [1] on the patient's grid.
        focus: the patient with the masks of what was fitted.
        posterior: what else the masks allow; None where it was not asked for, no tumor was possible or too few were.
        matter: where the patient has tissue, bool (x, y, z), if that is known.
    """
    return [
        *check_fit(fit),
        *check_thresholds(fit),
        *check_ranges(fit.estimate),
        *check_patient_fit(density, fit, focus.masks.core, focus.masks.edema),
        *check_density(density, focus.brain if matter is None else matter),
        *check_posterior(posterior),
    ]


def check_fit(fit: Fit) -> list[Check]:
    """Does the simulated tumor look like the patient's?"""
    return [
        at_least("fit_core", fit.core_dice, 0.70, 0.40, "Dice of the simulated and the visible core"),
        at_least("fit_edema", fit.edema_dice, 0.70, 0.40, "Dice of the simulated and the visible edema"),
    ]


def check_thresholds(fit: Fit) -> list[Check]:
    """Do the thresholds lie inside their ranges, or did the fit want to leave them?"""
    checks = []
    for name, value, (low, high) in (
        ("threshold_core", fit.core_threshold, CORE_THRESHOLD_RANGE),
        ("threshold_edema", fit.edema_threshold, EDEMA_THRESHOLD_RANGE),
    ):
        inside = min(value - low, high - value) / (high - low)
        subject = f"distance of the fitted {value:.2f} from the edge of {low}-{high}, as a share of that range,"
        checks.append(at_least(name, inside, EDGE_SHARE, -np.inf, subject))
    return checks


def check_patient_fit(
    density: NDArray[np.float32], fit: Fit, core: NDArray[np.bool_], edema: NDArray[np.bool_]
) -> list[Check]:
    """Does what is delivered, on the patient's grid, look like the patient's own masks? All (x, y, z)."""
    checks = []
    for name, threshold, mask in (("core", fit.core_threshold, core), ("edema", fit.edema_threshold, edema)):
        shown = density >= threshold
        overlap = dice(shown, mask)
        checks.append(at_least(f"patient_{name}", overlap, 0.6, 0.3, f"Dice of the delivered and the visible {name}"))
    return checks


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """Dice of two masks, (x, y, z), 0 of empty ones."""
    return 2 * int((one & two).sum()) / max(int(one.sum() + two.sum()), 1)


def check_ranges(estimate: Estimate) -> list[Check]:
    """Do the tumor's numbers lie inside what a search may reach, or at its bounds?"""
    checks = []
    for name, value, (low, high) in (("mu1", estimate.mu1, MU1_RANGE), ("mu2", estimate.mu2, MU2_RANGE)):
        inside = min(np.log(value / low), np.log(high / value)) / np.log(high / low)
        subject = f"distance of {name} = {value:.3g} from the edge of {low}-{high}, as a share of that range,"
        checks.append(at_least(f"{name}_in_range", inside, EDGE_SHARE, -np.inf, subject))
    return checks


def check_network(estimate: Estimate | None, moved: float, is_needed: bool) -> list[Check]:
    """Did the network give a possible tumor, inside its ranges, with an origin in tissue? Without a search it must.

    Args:
        estimate: as the network gave it; None for no number, or none above 0.
        moved: distance [mm] of its origin from tissue.
        is_needed: whether nothing else can answer.
    """
    fail, subject = 1.0 if is_needed else -np.inf, "number of network answers that are finite and above 0"
    finite = at_least("network_finite", float(estimate is not None), 1.0, fail, subject)
    far = at_most("network_origin_in_tissue", moved, 8.0, np.inf, "distance in mm of the network's origin from tissue")
    if estimate is None:
        return [finite]
    inside = min(
        min(value / low, high / value) for value, (low, high) in ((estimate.mu1, MU1_RANGE), (estimate.mu2, MU2_RANGE))
    )
    subject = f"how far the network's mu1 = {estimate.mu1:.3g} and mu2 = {estimate.mu2:.3g} reach into their ranges"
    return [
        finite,
        at_least("network_in_range", inside, 1.0, -np.inf, f"{subject} (1: the end, where they are cut)"),
        far,
    ]


def check_explained(fit: Fit) -> Check:
    """Does the network's own tumor look like the masks? If not, they are unlike those that it was trained on."""
    dice, subject = (fit.core_dice + fit.edema_dice) / 2, "mean Dice of the network's core and edema with the visible"
    return at_least("network_explains_masks", dice, FAMILIAR, -np.inf, subject)


def check_density(density: NDArray[np.float32], brain: NDArray[np.bool_]) -> list[Check]:
    """Is the answer, on the patient's grid, a tumor: neither nothing nor all of the brain that can hold one?"""
    invaded = float(np.count_nonzero(density[brain] >= VISIBLE)) / max(int(brain.sum()), 1)
    return [
        at_least("density_not_empty", float(density.max()), VISIBLE, VISIBLE, "highest density"),
        at_most("density_not_everywhere", invaded, 0.5, 0.8, f"share of the tissue with density >= {VISIBLE}"),
    ]


def check_posterior(posterior: Posterior | None) -> list[Check]:
    """Was enough sampled, and how far do tumors that the masks allow agree with the one that is delivered?

    An answer alone is no sure answer, so one without a posterior comes with a warning, whoever went without.
    """
    effective = 0.0 if posterior is None or posterior.missed else posterior.effective
    sampled = at_least(
        "posterior_sampled",
        effective,
        30.0,
        -np.inf,
        "effective number of sampled tumors, 0 where a guess of the tissue, or each, was not sampled,",
    )
    if posterior is None:
        return [sampled]
    agreement = posterior.agreement[VISIBLE]
    subject = f"mean Dice, at density {VISIBLE}, of the delivered tumor with the others that the masks allow,"
    return [sampled, at_least("posterior_agreement", agreement, AGREED_LEAST, -np.inf, subject)]


def check_origin(moved: float) -> Check:
    """Did the origin, carried to the patient [mm outside the tissue], stay inside?"""
    return at_most("origin_in_tissue", moved, 2.0, 10.0, "distance in mm of the origin from the patient's tissue")


def check_size(volume: float) -> Check:
    """Is the tumor [ml at c >= 0.7] of a size that the network was trained on?"""
    low, high = PRIORS["whole_brain"].size
    name, subject = "size_in_prior", "volume in ml at density >= 0.7"
    if volume < low:
        return at_least(name, volume, low, 0.0, subject)
    return at_most(name, volume, high, np.inf, subject)


def check_push(push: Push, fit: Fit) -> list[Check]:
    """Can the displacement be believed, and does it help to explain the masks?"""
    gain = push.first.loss - fit.loss
    return [
        at_least("push_converged", float(push.converged), 1.0, 1.0, "number of displacements that were solved for"),
        at_most("push_folded", push.folded, FOLDED_WARNING, np.inf, "share of the brain that the tumor folds"),
        at_most("push_furthest", push.furthest, 20.0, np.inf, "longest displacement in mm"),
        at_least(
            "push_agreement", push.agreement, 0.8, -np.inf,
            "share of the pushed places beside the tumor that taking the push back and giving it again restores",
        ),
        at_least("push_gain", gain, LEAST_GAIN, -np.inf, "what pushing takes off the first model's loss"),
    ]  # fmt: skip


def check_rejected_push(failed: Sequence[str]) -> Check:
    """The tumor that pushes was rejected by these checks; the answer is the first model's."""
    check = at_least("push_accepted", 0.0, 1.0, -np.inf, "")
    reason = f"the tumor that pushes failed {', '.join(failed)}: the answer is that of growth alone"
    return replace(check, message=reason)


def check_estimate(estimate: Estimate, found: Estimate, extent: NDArray[np.float64]) -> list[Check]:
    """Do network and refinement agree, both in the atlas, whose cube has edges of `extent` [mm]?"""
    apart = float(np.linalg.norm((np.asarray(estimate.origin) - np.asarray(found.origin)) * extent))
    ratio = max(estimate.mu1 / found.mu1, found.mu1 / estimate.mu1)
    return [
        at_most("network_origin_distance", apart, 20.0, np.inf, "distance in mm of network and refined origin"),
        at_most("network_mu1_ratio", ratio, 2.5, np.inf, "ratio of network's and refined mu1"),
    ]


def worst(checks: Sequence[Check]) -> Verdict:
    """The verdict on the whole answer."""
    return max((check.verdict for check in checks), key=SEVERITY.index, default="pass")
