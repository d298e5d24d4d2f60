"""Reports of a tiny patient for the tests, and a strict reader of HTML."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from engine import FisherKolmogorovParameters
from morph.answer import Personalization
from morph.checks import Check
from morph.evidence import Estimate, Fit
from morph.fallback import distance_density
from morph.mass_effect import Push
from morph.patient import Patient
from morph.report import write_report
from morph.segmentation import Masks
from morph.targets import TargetSettings, target_volumes
from morph.uncertainty import Interval, Posterior
from morph.volume import Frame, Volume
from tests.morph.conftest import AFFINE, make_arrays
from tests.morph.same_place import answer_with

NASTY = "<script>alert('x')</script> & \"Müller\" $x$"
"""A patient's name that would do harm where it is not escaped."""
VOID = {"meta", "link", "img", "br", "hr", "input"}
CHECKS = (
    Check("fit_core", 0.81, 0.7, "pass", "Dice of the simulated and the visible core is 0.81, at least 0.7"),
    Check("patient_core", 0.8, 0.6, "pass", "Dice of the delivered and the visible core is 0.8, at least 0.6"),
    Check("patient_edema", 0.9, 0.6, "pass", "Dice of the delivered and the visible edema is 0.9, at least 0.6"),
    Check("brain_volume", 1434.5, 2000.0, "pass", "volume of the T1's brain in ml is 1430, at most 2000"),
    Check("made_up_by_a_test", 0.5, float("inf"), "pass", "a check without words of its own"),
)
WARNING = Check("orientation", 0.07, 0.08, "warn", "lead of the T1's orientation is 0.07, below 0.08")
FAILURE = Check("registration_brain_dice", 0.7, 0.8, "fail", "Dice of the registered brain masks is 0.7, below 0.8")
SECOND = Check("tumor_foci", 3.0, 0.5, "warn", "volume in ml of a second focus is 3, above 0.5")
TWIN = {
    "truth": {
        "mu1": 6.5, "mu2": 3.25, "origin_mm": [16.0, -15.0, 2.0], "core_threshold": 0.6, "edema_threshold": 0.2,
    },
    "mu1_relative_error": 0.0769, "mu2_relative_error": 0.0769, "origin_error_mm": 2.5,
    "dice_0.01": 0.83, "dice_0.1": 0.91, "dice_0.8": None,
}  # fmt: skip


def make_patient(name: str = "someone") -> Patient:
    """A patient with T1 and FLAIR, tumor on the right."""
    arrays = make_arrays()
    t1 = Volume(arrays["t1"], AFFINE)
    masks = Masks(np.isin(arrays["seg"], (1, 4)), arrays["seg"] > 0)
    files = {"t1": Path(f"/data/{name}/t1.nii.gz")}
    return Patient(name, t1, Frame(AFFINE, t1.array.shape), masks, flair=t1.with_array(arrays["flair"]), files=files)


def make_answer(
    patient: Patient, *, fallback: bool = False, warns: bool = False, sampled: bool = False, pushes: bool = False
) -> Personalization:
    """A model's answer, with a posterior if `sampled`, or a fallback."""
    density = patient.t1.with_array(distance_density(patient.masks, patient.t1))
    if fallback:
        return answer_with(density, checks=(*CHECKS, FAILURE), found=Estimate(7.0, 3.5, (0.6, 0.4, 0.5)))
    estimate = Estimate(7.0, 3.5, (0.6, 0.4, 0.5))
    return answer_with(
        density,
        method="refined",
        checks=(*CHECKS, WARNING) if warns else CHECKS,
        parameters=FisherKolmogorovParameters.from_invariants(7.0, 3.5, (0.6, 0.4, 0.5)),
        origin_mm=np.array([17.0, -13.0, 1.0]),
        found=estimate,
        fit=Fit(estimate, 0.65, 0.31, 0.81, 0.9),
        tissue=patient.t1.with_array(3 * patient.brain),
        push=make_push(density, estimate) if pushes else None,
        posterior=make_posterior(density) if sampled else None,
        tumor_tissue="maps",
        tumor_losses={"maps": 0.15, "white_matter": 0.16},
    )


def make_push(density: Volume, estimate: Estimate) -> Push:
    """A displacement of up to 7.5 mm to the right."""
    vectors = np.zeros((3, *density.array.shape), dtype=np.float32)
    vectors[0] = 7.5 * density.array / density.array.max()
    return Push(vectors, density, 0.8, 0.0, 0.9, True, Fit(estimate, 0.65, 0.31, 0.8, 0.9), density)


def make_posterior(density: Volume) -> Posterior:
    """What an ensemble would say."""

    def interval(median: float, spread: float) -> Interval:
        low, high = median - spread, median + spread
        return Interval(median, (low, high), (low - spread, high + spread))

    deviation = density.with_array(0.5 * density.array * (1 - density.array))
    probability = {level: density.with_array(np.clip(density.array / (2 * level), 0, 1)) for level in (0.01, 0.1, 0.5)}
    intervals = {
        "mu1": interval(7.2, 1.0), "mu2": interval(3.4, 0.25),
        "origin_x": interval(17, 2), "origin_y": interval(-13, 2),
        "origin_z": interval(1, 2),
        "core_threshold": interval(0.66, 0.04), "edema_threshold": interval(0.3, 0.06),
    }  # fmt: skip
    numbers, weights = {name: np.zeros(1000) for name in intervals}, np.full(1000, 1e-3)
    tissue = {"maps": 0.7, "white_matter": 0.3}
    agreement = {0.1: 0.87, 0.8: 0.7}
    return Posterior(density, deviation, probability, intervals, agreement, 120.0, numbers, weights, tissue)


def make_record(patient: Patient, answer: Personalization) -> dict[str, Any]:
    """What parameters.json says, as far as the report reads it."""
    return {
        "versions": {"code": "0123456789abcdef", "learn-morph-infer": "1.2.3", "torch": None},
        "hashes": {"t1": "ab" * 32, "weights/known.safetensors": "cd" * 32},
        "labels": None,
        "weights": "known",
        "seconds": {"registration": 12.5, "refinement": 25.0},
        "config": {"seed": 7, "out": f"results/{patient.name}"},
    }


def write_case(path: Path, name: str = "someone", twin: bool = False, cut: bool = False, **kind: bool) -> Path:
    """The report of a kind of answer, see `make_answer`; `cut` by a DICOM series, with a second focus."""
    patient = make_patient(name)
    answer = make_answer(patient, **kind)
    targets = target_volumes(patient, answer, TargetSettings())
    if cut:
        targets.record["cut_off_by_series"], targets.record["changed_by_series"] = {"ctv_20mm": 0.25}, {"core": -1.0}
        answer = replace(answer, checks=(*answer.checks, SECOND))
    write_report(path, patient, answer, make_record(patient, answer), targets, TWIN if twin else None)
    return path


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Every element of a page in its order; refuses what is not closed, or closed where it was not open."""

    def __init__(self, html: str) -> None:
        """Args: the page's text."""
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}"
        element = Element(tag, {name: value or "" for name, value in attributes}, inside=[e.tag for e in self.open])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1].tag == tag, f"</{tag}> inside {[e.tag for e in self.open]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements with this tag and these attributes (`class_` for class)."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]

    def section(self, name: str) -> Element:
        """The section with this id."""
        (found,) = self.all("section", id=name)
        return found
