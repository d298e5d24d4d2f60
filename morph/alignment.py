"""Do other images show the patient of the T1, and at the place where the T1 has it?

The tumor is drawn on FLAIR and T1Gd and solved in the anatomy of the T1, and contours are drawn onto a DICOM series
that somebody names. Each may be another patient's, or lie in a world that the T1 was not registered to. Both images
then tell little about each other, or more when one of them is moved. Mutual information needs no equal contrasts, so
any sequence will do, or a CT.

Source: Wells, Viola, Atsumi, Nakajima and Kikinis, Multi-modal volume registration by maximization of mutual
information, Medical Image Analysis 1 (1996) 35-51; how both are compared is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morph.appearance import mirrored_image
from morph.checks import Check, at_least
from morph.dicom_input import read_slices
from morph.patient import Patient
from morph.resample import bounding_box, resample
from morph.volume import Volume, share_grid

SHIFT = 8.0
"""How far [mm] the other image is moved to see whether it fits better there (ours)."""
EVERY = 3.0
"""Distance [mm] between the places that are compared (ours)."""
LEVELS = 32
"""Brightnesses that are told apart, equally frequent ones (ours)."""
LEAD = 1.2
"""Least ratio of the mutual information in place to the best 8 mm away. Ours: with the T1 of five patients FLAIR
reaches 1.5 to 2.3 and T1Gd 1.3 to 2.7; where the T1 is moved along an axis 1.0 to 2.2 by 2 mm, by 5 mm one of both at
least is below; with another patient's T1 .6 to 1.1."""
NO_LEAD = 1.0
"""Below it, an image tells more of the T1 8 mm away: if all do, the T1 is not theirs. Of the five foreign T1 four are
below."""
ASIDE = np.arange(-6.0, 6.1, 2.0)
"""How far [mm] an image is moved to the side to find where it tells most: where the middle is, nobody knows (ours)."""
SIDE, NO_SIDE = 1.0, 0.9
"""Least ratio of the mutual information to that of the mirrored image, and below which, if all are, the T1 is not
theirs. Ours: on five patients FLAIR reaches 1.9 to 2.8 and T1Gd 1.8 to 3.6; five digital twins in MNI152, whose sides
are alike, 1.1 to 1.5."""


def check_images(patient: Patient) -> list[Check]:
    """Do FLAIR and T1Gd, on which the masks are drawn, show the patient of the T1, where it lies?"""
    named = (("flair_", "FLAIR", patient.flair), ("t1gd_", "T1Gd", patient.t1ce))
    leads = {(name, text): lead_in_place(patient.t1, image) for name, text, image in named if image is not None}
    rejected = NO_LEAD if max(leads.values(), default=0.0) < NO_LEAD else -np.inf
    aside = "of the T1, over what it tells 8 mm away, (another patient, or not registered?)"
    checks = [
        at_least(f"{name}shows_patient", lead, LEAD, rejected, f"what {text} tells {aside}")
        for (name, text), lead in leads.items()
    ]
    if leads:
        sides = [lead_of_side(patient.t1, image) for _, _, image in named if image is not None]
        subject = "what FLAIR or T1Gd tells of the T1, over what it tells mirrored, (left and right exchanged?)"
        checks.append(at_least("sides_agree", min(sides), SIDE, NO_SIDE if max(sides) < NO_SIDE else -np.inf, subject))
    return checks


def check_series(patient: Patient) -> list[Check]:
    """Does the series for contours show this patient? Not asked where there is none, or the T1 is DICOM itself."""
    series, t1 = patient.series, patient.files.get("t1")
    if series is None or t1 is None or t1.is_dir():
        return []
    subject = (
        "what the DICOM series for contours tells of the T1, over what it tells 8 mm away, "
        "(another patient, or a T1 that is not registered to it?)"
    )
    return [at_least("series_shows_patient", lead_in_place(patient.t1, read_slices(series)[0]), LEAD, -np.inf, subject)]


def lead_in_place(t1: Volume, other: Volume) -> float:
    """Mutual information of two images in the brain as they lie, over the best where the other is moved along an axis.

    Args:
        t1: skull-stripped, RAS axes.
        other: any image in its world.

    Returns:
        A ratio, of the part of the brain that the other image shows; 0 where nothing of it is there.
    """
    placed = other.array if share_grid(other, t1) else resample(other, t1, 1).array
    if not placed.any():
        return 0.0
    steps, moves = (np.maximum(np.round(length / t1.spacing).astype(int), 1) for length in (EVERY, SHIFT))
    padded, shown = np.pad(placed, [(move, move) for move in moves]), bounding_box(placed != 0, 0)

    def seen(image: NDArray[np.float32], shift: NDArray[np.int64]) -> NDArray[np.float32]:
        starts = [side.start + by for side, by in zip(shown, shift, strict=True)]
        lengths = [side.stop - side.start for side in shown]
        return image[tuple(slice(a, a + n, step) for a, n, step in zip(starts, lengths, steps, strict=True))]

    told = seen(t1.array, np.zeros(3, dtype=np.int64))
    brain = told > 0
    if not brain.any():
        return 0.0
    here, *elsewhere = (
        mutual_information(told[brain], seen(padded, moves + shift)[brain])
        for shift in (np.zeros(3, dtype=np.int64), *np.diag(moves), *np.diag(-moves))
    )
    return here / max(elsewhere) if max(elsewhere) > 0 else 0.0


def lead_of_side(t1: Volume, image: Volume) -> float:
    """Mutual information of two images in the brain, over that where left and right of the other are exchanged.

    Either may lie some millimeters to the side: the best place counts.

    Args:
        t1: skull-stripped, RAS axes.
        image: on its grid.

    Returns:
        A ratio; infinite where a mirrored image tells nothing.
    """
    every = tuple(slice(None, None, max(round(EVERY / edge), 1)) for edge in t1.spacing)
    brain = t1.array > 0
    told, seen = t1.array[every][brain[every]], brain[every]
    shifts = {round(away / t1.spacing[0]) for away in ASIDE}
    straight, exchanged = (
        max(mutual_information(told, np.roll(other, shift, 0)[every][seen]) for shift in shifts)
        for other in (image.array, mirrored_image(image.array, brain))
    )
    return straight / exchanged if exchanged > 0 else np.inf


def mutual_information(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """What the brightness in one image tells of that in the other [nat], both (n,)."""
    one, two = (_levels(values) for values in (first, second))
    joint = np.bincount(one * LEVELS + two, minlength=LEVELS**2).reshape(LEVELS, LEVELS) / len(one)
    apart = joint.sum(axis=1)[:, None] * joint.sum(axis=0)[None]
    present = joint > 0
    return float((joint[present] * np.log(joint[present] / apart[present])).sum())


def _levels(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the level of each value, (n,)."""
    return np.searchsorted(np.quantile(values, np.linspace(0, 1, LEVELS + 1)[1:-1]), values)
