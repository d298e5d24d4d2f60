"""The numbers of the report as rows of text, ready to be laid out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, MassEffectParameters
from engine.parameters import DAYS_PER_YEAR, FRONT_SPEED
from morph.answer import Personalization
from morph.evidence import MU1_RANGE, MU2_RANGE
from morph.patient import Patient
from morph.picture import LEVELS
from morph.report.words import METHODS
from morph.uncertainty import Interval, Posterior
from morph.volume import Volume

Row = tuple[str, ...]
RANGES = {
    "mu1": MU1_RANGE,
    "mu2": MU2_RANGE,
    "core_threshold": CORE_THRESHOLD_RANGE,
    "edema_threshold": EDEMA_THRESHOLD_RANGE,
}
"""What the bars of the intervals span; a place has no range."""

TISSUES = {"maps": "white and gray matter as in the atlas", "white_matter": "white matter throughout"}
"""What the inside of the visible tumor is taken for, in words."""


@dataclass(frozen=True)
class Bar:
    """An interval on its range, in percent of the bar's length: 90%, 50% and the median."""

    most: tuple[float, float]
    half: tuple[float, float]
    median: float


@dataclass(frozen=True)
class Parameter:
    """A row of the parameters: what it is in words, the answer, and its credible intervals where there are any."""

    symbol: str
    meaning: str
    value: str
    half: str = ""
    most: str = ""
    bar: Bar | None = None


def list_parameters(answer: Personalization, intervals: Mapping[str, Interval]) -> list[Parameter]:
    """The tumor's numbers, with the posterior's intervals by name; none for a fallback."""
    found, fit, origin = answer.parameters, answer.fit, answer.origin_mm
    if found is None or origin is None:
        return []
    rows = [
        ("mu1", "μ₁ = √(D·T)", "how far cells spread until the scan", found.mu1, "{:.1f}", " mm"),
        ("mu2", "μ₂ = √(ρ·T)", "how often they multiplied until the scan", found.mu2, "{:.2f}", ""),
        *(
            (f"origin_{axis}", f"origin {axis}", f"where it began; more is further {side}", value, "{:.0f}", " mm")
            for axis, side, value in zip("xyz", ("right", "forward", "up"), origin, strict=True)
        ),
    ]
    if fit is not None:
        seen = "density from which {} shows tumor"
        rows.append(("core_threshold", "core threshold", seen.format("T1Gd"), fit.core_threshold, "{:.2f}", ""))
        rows.append(("edema_threshold", "edema threshold", seen.format("FLAIR"), fit.edema_threshold, "{:.2f}", ""))
    if isinstance(found, MassEffectParameters):
        rows.append(("coupling", "γ", "how hard the tumor pushes", found.coupling, "{:.1f}", " kPa"))
    return [_parameter(intervals.get(row[0]), *row) for row in rows]


def list_derived(answer: Personalization) -> list[Row]:
    """What follows from the parameters: name, value."""
    found = answer.parameters
    if found is None:
        return []
    pushed = [] if answer.push is None else [("longest displacement of tissue", f"{answer.push.furthest:.1f} mm")]
    speed = f"assumed front speed of {FRONT_SPEED * DAYS_PER_YEAR:.0f} mm/year"
    return [
        ("width of the front, √(D/ρ) = μ₁/μ₂", f"{found.mu1 / found.mu2:.1f} mm"),
        (f"diffusivity D in white matter, by an {speed}", f"{found.diffusivity:.3g} mm²/day"),
        ("proliferation ρ, likewise", f"{found.proliferation:.3g} per day"),
        ("duration T until the scan, likewise", f"{found.duration:.0f} days"),
        *pushed,
    ]


def tell_tissue(answer: Personalization) -> str:
    """What the inside of the visible tumor may be, and how probable that is; empty where there was one guess only."""
    if answer.posterior is None or len(answer.tumor_losses) < 2:
        return ""
    shares = answer.posterior.tissue
    said = [f"{TISSUES[guess]} ({_roughly(shares.get(guess))})" for guess in answer.tumor_losses]
    taken = f" The answer is of {TISSUES[answer.tumor_tissue]}." if answer.tumor_tissue in TISSUES else ""
    return (
        "Inside the visible tumor no image shows the tissue. Intervals and maps count two guesses by how probable they "
        f"are: {', '.join(said)}.{taken}"
    )


def _roughly(share: float | None) -> str:
    """A probability that is not known to a percent."""
    if share is None:
        return "not sampled"
    return "below 5%" if share < 0.05 else "above 95%" if share > 0.95 else f"{share:.0%}"


def list_key_figures(patient: Patient, answer: Personalization) -> list[Row]:
    """The few numbers of the summary: name, value."""
    unit = patient.t1.voxel_volume
    rows = [
        ("visible core", milliliters(patient.masks.core, unit)),
        ("visible edema, core included", milliliters(patient.masks.edema, unit)),
        ("density above 0.1", milliliters(answer.density.array >= 0.1, unit)),
    ]
    checks = {check.name: check.value for check in answer.checks}
    if answer.method != "fallback" and {"patient_core", "patient_edema"} <= checks.keys():
        match = f"{checks['patient_core']:.0%} · {checks['patient_edema']:.0%}"
        return [*rows, ("overlap (Dice) with core · edema", match)]
    return [*rows, ("method", "distances only" if answer.method == "fallback" else answer.method)]


def list_volumes(density: Volume) -> list[Row]:
    """Volumes at the levels that are drawn: level, volume."""
    return [
        (f"density ≥ {level:g}", milliliters(density.array >= level, density.voxel_volume)) for level in sorted(LEVELS)
    ]


def compare_targets(targets: Mapping[str, NDArray[np.bool_]], patient: Patient, answer: Personalization) -> list[Row]:
    """Target volumes, bool (x, y, z) by their titles: title, volume, and what shares of three things are inside.

    These are the visible edema, all estimated cells (of the posterior's mean density, if there is one) and those beyond
    the visible edema; the last two are left out for a fallback.
    """
    cells = (answer.density if answer.posterior is None else answer.posterior.density_mean).array
    parts = [] if answer.method == "fallback" else [cells, np.where(patient.masks.edema, 0, cells)]
    totals = [max(float(part.sum()), 1e-9) for part in parts]
    rows = []
    for title, target in targets.items():
        shares = (f"{part[target].sum() / total:.1%}" for part, total in zip(parts, totals, strict=True))
        visible = f"{target[patient.masks.edema].mean():.1%}" if patient.masks.edema.any() else "-"
        rows.append((title, milliliters(target, patient.t1.voxel_volume), visible, *shares))
    return rows


def list_probable(probability: Volume, chances: Sequence[float]) -> list[Row]:
    """Volumes in which a probability is reached: probability, volume."""
    return [(f"{chance:g}", milliliters(probability.array >= chance, probability.voxel_volume)) for chance in chances]


def list_agreement(posterior: Posterior) -> list[Row]:
    """How far the answer agrees with the other tumors that the outlines allow: region, mean Dice."""
    return [(f"region with density ≥ {level:g}", f"{dice:.2f}") for level, dice in sorted(posterior.agreement.items())]


def compare_with_truth(answer: Personalization, twin: Mapping[str, Any]) -> list[Row]:
    """A digital twin's known tumor against the answer, from what twin.json says: quantity, truth, answer, score."""
    truth, found, fit = twin["truth"], answer.parameters, answer.fit
    rows: list[Row] = []
    if found is not None and answer.origin_mm is not None:
        mu1, mu2 = twin["mu1_relative_error"], twin["mu2_relative_error"]
        rows += [
            ("μ₁", f"{truth['mu1']:.1f} mm", f"{found.mu1:.1f} mm", f"{mu1:.0%} off"),
            ("μ₂", f"{truth['mu2']:.2f}", f"{found.mu2:.2f}", f"{mu2:.0%} off"),
            ("origin", _point(truth["origin_mm"]), _point(answer.origin_mm), f"{twin['origin_error_mm']:.1f} mm off"),
        ]
    if found is not None and fit is not None:
        for name, value in (("core", fit.core_threshold), ("edema", fit.edema_threshold)):
            true = truth[f"{name}_threshold"]
            rows.append((f"density from which the {name} shows", f"{true:.2f}", f"{value:.2f}", f"{value - true:+.2f}"))
    for level in sorted(LEVELS):
        dice = twin.get(f"dice_{level:g}")
        rows.append((f"region with density ≥ {level:g}", "", "", "-" if dice is None else f"Dice {dice:.2f}"))
    return rows


def list_seconds(seconds: Mapping[str, float]) -> list[Row]:
    """Stages: name, seconds, share of the longest in percent."""
    longest = max(seconds.values(), default=0.0) or 1.0
    return [(name, f"{value:.1f}", f"{100 * value / longest:.1f}") for name, value in seconds.items()]


def list_sources(patient: Patient, record: Mapping[str, Any]) -> list[Row]:
    """What went in: name, file, SHA-256."""
    return [(name, str(patient.files.get(name, "")), digest) for name, digest in record["hashes"].items()]


def list_facts(patient: Patient, answer: Personalization, record: Mapping[str, Any]) -> list[Row]:
    """How it was made: name, value."""
    labels = record["labels"]
    visible = ", visible tumor taken for white matter" if answer.tumor_tissue == "white_matter" else ""
    return [
        ("method", METHODS[answer.method]),
        ("solved in", f"{answer.space} space, tissue: {answer.tissue_source}{visible}"),
        ("weights", record["weights"] or "none"),
        *([] if patient.series is None else [("DICOM contours", f"on a series of {patient.series.patient}")]),
        ("labels", "masks were drawn apart" if labels is None else json.dumps(labels)),
        *((name, version or "not installed") for name, version in record["versions"].items()),
    ]


def milliliters(mask: NDArray[np.bool_], voxel_volume: float) -> str:
    """The volume of a mask with its unit."""
    return f"{np.count_nonzero(mask) * voxel_volume:.0f} ml"


def number(value: float) -> str:
    """Three digits, and no powers of ten for what has more before its point."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _parameter(
    found: Interval | None, name: str, symbol: str, meaning: str, value: float, form: str, unit: str
) -> Parameter:
    """One row, with its interval if there is one."""
    text = form.format(value) + unit
    if found is None:
        return Parameter(symbol, meaning, text)
    half, most = (f"{form.format(low)} to {form.format(high)}{unit}" for low, high in (found.half, found.most))
    bar = None if name not in RANGES else _bar(found.most, found.half, found.median, RANGES[name])
    return Parameter(symbol, meaning, text, half, most, bar)


def _bar(most: tuple[float, float], half: tuple[float, float], median: float, span: tuple[float, float]) -> Bar:
    places = np.clip((np.array([*most, *half, median]) - span[0]) / (span[1] - span[0]), 0, 1) * 100
    a, b, c, d, middle = (round(float(place), 1) for place in places)
    return Bar((a, b), (c, d), middle)


def _point(place: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{value:.0f}" for value in place) + " mm"
