"""What the report says about verdicts and checks, in words for somebody who treats patients.

`CHECKS` names what each check asks and what to do where it does not pass; the numbers come with the check.
"""

from __future__ import annotations

from dataclasses import dataclass

from morph.answer import Personalization
from morph.checks import SEVERITY, Check

VERDICTS = {"pass": "passed", "warn": "warning", "fail": "failed"}
METHODS = {
    "refined": "growth model, fitted to both outlines",
    "network": "growth model, network's estimate without refinement",
    "fallback": "distance to the outlines only, no growth model",
}
TARGETS = {
    "ctv_15mm": "standard, 15 mm around {around}",
    "ctv_20mm": "standard, 20 mm around {around}",
    "ctv_density": "density-based, as large as 15 mm",
    "ctv_probability": "density above {threshold:g} with probability {probability:g}",
}
"""Target volumes by their names, in the order in which they are shown; braces name parts of their record."""
LIMITS = (
    "Research use only: this is not a medical device, and its answers are not validated for treatment. "
    "Beyond the visible edema no image confirms the density."
)
_MASKS = "Look at the outlines in the first pictures: are they this patient's, complete, and on the right side?"
_STRIP = "Give a skull-stripped T1 of the whole brain (HD-BET strips it), and see that its header has the voxel size."
_REGISTRATION = (
    "The atlas may lie badly on this brain: compare tissue.nii.gz with the T1, or give your own tissue maps "
    "(white_matter=, gray_matter=, csf=)."
)
_MODEL = (
    "The model may not describe this tumor (several foci, surgery, strong displacement): compare the isolines with "
    "the scans, and doubt the density where they part."
)
_PUSH = "Do not believe the displacement: run again without mass effect and compare."
_OTHER = "Tumor and anatomy may not belong together: is the T1 this patient's, of the same session, and registered?"
_OPEN = "Many different tumors fit these outlines: rely on the probability maps, not on this one density."
_RANGE = "The answer ran into the end of what the model is searched in: take the density far from the tumor with doubt."
_NETWORK = "Network and fit tell different stories: compare the isolines with the scans before you believe either."
CHECKS = {
    "masks_in_brain": ("Outlines lie inside the brain", _MASKS),
    "edema_beyond_core": (
        "Edema is larger than the core",
        "Was the same outline given twice, or core for edema? Outline FLAIR, too.",
    ),
    "core_visible": (
        "There is a core",
        "The model needs necrosis or enhancing tumor: without, margins go around the whole visible tumor. If there is "
        "a core, name its labels with labels= or give core=.",
    ),
    "core_inside_edema": (
        "Core lies inside the edema",
        "Core and edema seem exchanged: programs number labels differently, say which is which with labels=.",
    ),
    "brain_volume": ("Brain has a brain's volume", _STRIP),
    "brain_in_cube": ("Brain fits into the simulated cube", _STRIP),
    "voxel_size": ("Voxels are small enough", "Take the T1 with the thinnest slices, and outline on it."),
    "brain_complete": ("Brain is complete", "Take a T1 that covers the whole brain."),
    "flair_shows_patient": ("FLAIR shows the T1's patient", _OTHER),
    "t1gd_shows_patient": ("T1Gd shows the T1's patient", _OTHER),
    "sides_agree": ("Left and right are the same in all images", _OTHER),
    "flair_shows_edema": ("FLAIR is bright in the edema", _MASKS),
    "flair_outside_masks": (
        "FLAIR shows no tumor outside the edema",
        f"{_MASKS} Something else is bright on one side only: is it tumor that the outline leaves out?",
    ),
    "masks_can_be_checked": (
        "Images show whether the outlines are right",
        "Give FLAIR (flair=): without it, outlines of another patient or side can go unnoticed.",
    ),
    "core_can_be_checked": (
        "Images show whether the core is right",
        "Give T1Gd (t1ce=): without it, a core that is too small, too large or elsewhere goes unnoticed.",
    ),
    "t1gd_shows_core": (
        "T1Gd is bright in the core",
        f"{_MASKS} A core that does not enhance is dark, and only its edema tells where it lies.",
    ),
    "t1_shows_tumor": ("T1 is dark in the tumor", f"{_MASKS} Give T1Gd and FLAIR: they show it better."),
    "flair_shows_outline": (
        "Edema ends where FLAIR does",
        f"{_MASKS} An edema with a margin, a target volume, is fitted as if all of it were tumor.",
    ),
    "masks_in_place": (
        "Outlines lie in place",
        f"{_MASKS} Some millimeters away they would fit FLAIR better: is the affine of their file the images'?",
    ),
    "t1gd_shows_outline": (
        "Core ends where T1Gd does",
        f"{_MASKS} A core with a margin, or with edema in it, is fitted as if all of it were dense tumor.",
    ),
    "t1gd_outside_core": (
        "Core holds what enhances",
        f"{_MASKS} Part of the edema is as bright as the core: is enhancing tumor left out of it?",
    ),
    "tumor_foci": (
        "Tumor has one focus",
        "Only the largest focus is fitted; around others, a separate edema too, the density is a margin.",
    ),
    "series_shows_patient": (
        "DICOM series for contours shows this patient",
        "Look at the contours on that series before anybody uses them: the T1 must be registered to it, and it must be "
        "the same patient's.",
    ),
    "orientation": (
        "Head lies as the header says, left and right apart",
        "The image may be turned, or front and back or top and bottom swapped: check the T1's header.",
    ),
    "registration_found": ("Atlas could be registered", _STRIP),
    "registration_brain_dice": ("Atlas covers the brain", _REGISTRATION),
    "registration_correlation": ("Atlas looks like the brain", _REGISTRATION),
    "registration_folding": ("Registration does not fold", _REGISTRATION),
    "registration_displacement": ("Registration is gentle near the tumor", _REGISTRATION),
    "registration_scale": ("Brain and atlas have similar size", _STRIP),
    "registration_stretch": ("Brain and atlas have similar shape", _STRIP),
    "registration_tissue": ("Tissue agrees with the T1", f"{_REGISTRATION} Are two of your own exchanged?"),
    "registration_white_matter": ("White matter agrees with the T1", _REGISTRATION),
    "masks_in_tissue": ("Visible tumor lies on tissue", _REGISTRATION),
    "masks_on_grid": ("Tumor is large enough to be simulated", _MASKS),
    "network_finite": ("Network gave an answer", "None: the fit started from the outlines alone."),
    "network_in_range": (
        "Network's numbers lie in their ranges",
        "They were cut to the ranges: rely on the fit, and doubt an answer without one.",
    ),
    "network_explains_masks": (
        "Outlines look like a tumor that the network knows",
        "They are unlike its training tumors: rely on the fit, and on its own checks.",
    ),
    "network_origin_in_tissue": ("Network's origin lies in tissue", _NETWORK),
    "network_origin_distance": ("Network and fit agree on the origin", _NETWORK),
    "network_mu1_ratio": ("Network and fit agree on the spread", _NETWORK),
    "fit_core": ("Simulated core matches the outline", _MODEL),
    "fit_edema": ("Simulated edema matches the outline", _MODEL),
    "patient_core": ("Delivered core matches the outline", _MODEL),
    "patient_edema": ("Delivered edema matches the outline", _MODEL),
    "threshold_core": ("Core is seen at an ordinary density", _RANGE),
    "threshold_edema": ("Edema is seen at an ordinary density", _RANGE),
    "mu1_in_range": ("Spread lies inside its range", _RANGE),
    "mu2_in_range": ("Growth lies inside its range", _RANGE),
    "density_not_empty": ("There is a tumor", _MODEL),
    "density_not_everywhere": ("Tumor leaves part of the brain free", _MODEL),
    "origin_in_tissue": ("Origin lies in tissue", _MODEL),
    "push_accepted": ("Tumor that pushes was accepted", "Growth alone is shown: doubt both, the tumor is unusual."),
    "push_converged": ("Displacement was solved for", _PUSH),
    "push_folded": ("Tumor does not fold the brain", _PUSH),
    "push_furthest": ("Displacement is one that brains survive", _PUSH),
    "push_agreement": ("Displacement can be taken back", _PUSH),
    "push_gain": (
        "Pushing helps to explain the outlines",
        "The model without mass effect explains them about as well or better: use it.",
    ),
    "posterior_sampled": (
        "Enough tumors were sampled",
        "Intervals are rough, or there are none, and how sure the answer is, nobody knows: raise "
        "posterior.fine_simulations=. With posterior.simulations=0, refine=false or mass effect nothing is sampled.",
    ),
    "posterior_agreement": ("Tumors that fit the outlines agree", _OPEN),
    "size_in_prior": ("Size is one that the network knows", _RANGE),
}


@dataclass(frozen=True)
class Told:
    """A check in words.

    Attributes:
        check: what was measured.
        title: what it asks, as a claim that is true where it passed.
        advice: what to do where it did not; empty for a check without words of its own.
    """

    check: Check
    title: str
    advice: str

    @property
    def verdict(self) -> str:
        """In a word for people."""
        return VERDICTS[self.check.verdict]


@dataclass(frozen=True)
class Summary:
    """The verdict on an answer.

    Attributes:
        tone: `pass`, `warn` or `fail`: the color.
        headline: a few words that cannot be misread.
        meaning: what it means.
        action: what to do now.
    """

    tone: str
    headline: str
    meaning: str
    action: str


def tell(checks: tuple[Check, ...]) -> list[Told]:
    """Every check in words, the gravest first, otherwise in the order in which they were asked."""
    told = []
    for check in sorted(checks, key=lambda check: -SEVERITY.index(check.verdict)):
        title, advice = CHECKS.get(check.name, (check.name.replace("_", " ").capitalize(), ""))
        told.append(Told(check, title, advice))
    return told


def summarize(answer: Personalization) -> Summary:
    """The verdict in words."""
    counts = {verdict: sum(check.verdict == verdict for check in answer.checks) for verdict in SEVERITY}
    total = len(answer.checks)
    if answer.method == "fallback":
        outcome = "no tumor was fitted" if answer.found is None else "the model's answer was rejected"
        reason = f"{counts['fail']} of {total} checks failed, so {outcome}."
        if not counts["fail"]:
            reason = "The outlines vanish on the model's grid, so no tumor could be fitted."
        return Summary(
            "fail",
            "No model answer: distance-based fallback",
            f"{reason} What is delivered instead only knows the distance to the outlines: a margin in other words. "
            "It says nothing about how this tumor grows.",
            "Do not read it as an estimate of infiltration. Mend what is listed here and run again.",
        )
    if counts["warn"]:
        return Summary(
            "warn",
            "Estimate with warnings",
            f"{counts['warn']} of {total} checks warn. The growth model gave an answer, and part of it is doubtful.",
            "Read the warnings, then compare the outlines and isolines below with the scans.",
        )
    return Summary(
        "pass",
        "Estimate passed its checks",
        f"All {total} checks passed: the growth model reproduces what the outlines show. That is no proof of what lies "
        "beyond them.",
        "Compare the outlines and isolines below with the scans before you use the density.",
    )
