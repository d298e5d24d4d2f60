"""The checks notice: each kind of wrong input or answer ends in its own check, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import load_anatomy
from morph.checks import check_density, check_estimate, check_network, check_origin, check_patient_fit, check_ranges
from morph.evidence import Estimate, Fit
from morph.inference import Brain
from morph.input_checks import (
    check_inputs,
    check_masks,
    check_orientation,
    check_registration,
    check_scale,
    check_shown,
    check_tissue,
)
from morph.orientation import orientation_margin
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.quality import Quality
from morph.refine import RefinementSettings, refine
from morph.tissue import Tissue
from morph.volume import Volume
from tests.morph.same_place import SamePlace, place_on

Case = Callable[..., Path]
QUICK = RefinementSettings(evaluations=12, fine_evaluations=0)
NAMES = {
    "masks_in_brain", "edema_beyond_core", "brain_volume", "voxel_size", "brain_complete", "flair_shows_edema",
    "flair_shows_patient", "flair_outside_masks", "core_inside_edema", "tumor_foci", "registration_folding",
    "registration_displacement", "registration_white_matter", "orientation", "registration_found",
    "registration_brain_dice", "registration_correlation", "registration_scale", "masks_in_tissue", "masks_on_grid",
    "fit_core", "fit_edema", "threshold_core", "threshold_edema", "mu1_in_range", "mu2_in_range", "patient_core",
    "patient_edema", "density_not_empty", "density_not_everywhere", "origin_in_tissue", "core_visible",
    "size_in_prior", "brain_in_cube", "flair_shows_outline", "masks_in_place", "registration_stretch",
    "registration_tissue", "sides_agree", "core_can_be_checked", "posterior_sampled",
}  # fmt: skip


class Moved(SamePlace):
    """A registration that carries the atlas 40 mm to the side on the way to the patient."""

    def to_patient(self, volume: Volume, like: Volume, interpolation: str) -> Volume:
        shift = np.eye(4)
        shift[0, 3] = 40.0
        return place_on(Volume(volume.array, shift @ volume.affine), like, interpolation)  # type: ignore[arg-type]

    def points_to_patient(self, points: np.ndarray) -> np.ndarray:
        return points + np.array([120.0, 0.0, 0.0])


class Doubled(SamePlace):
    """A registration of a patient whose header claims twice the size."""

    affine_scale = 2.0


class Mirrored(SamePlace):
    """A registration that turned the brain inside out."""

    affine_scale = -1.0


@pytest.fixture
def patient(case: Case) -> Patient:
    return load_patient(find_case(case("RAS")))


def verdicts(patient: Patient, brain: Brain, registration: SamePlace) -> dict[str, str]:
    answer = run_pipeline(patient, brain, registration, QUICK)
    return {check.name: check.verdict for check in answer.checks} | {"method": answer.method}


def test_every_question_is_asked(patient: Patient, brain: Brain) -> None:
    found = verdicts(patient, brain, SamePlace())
    assert set(found) - {"method"} == NAMES
    assert "fail" not in found.values()
    for name in ("registration_brain_dice", "registration_scale", "masks_in_brain", "patient_edema"):
        assert found[name] == "pass", name


def test_a_lost_registration_is_noticed(patient: Patient, brain: Brain) -> None:
    found = verdicts(patient, brain, Moved())
    assert found["method"] == "fallback"
    assert found["registration_brain_dice"] == "fail"


@pytest.mark.parametrize("registration", [Doubled(), Mirrored()])
def test_a_wrong_voxel_size_is_noticed(patient: Patient, brain: Brain, registration: SamePlace) -> None:
    found = verdicts(patient, brain, registration)
    assert (found["registration_scale"], found["method"]) == ("fail", "fallback")


def test_a_brain_that_faces_backwards_is_noticed(patient: Patient, brain: Brain) -> None:
    turned = replace(
        patient,
        t1=patient.t1.with_array(patient.t1.array[::-1, ::-1].copy()),
        flair=patient.flair.with_array(patient.flair.array[::-1, ::-1].copy()),  # type: ignore[union-attr]
        masks=replace(patient.masks, core=patient.masks.core[::-1, ::-1], edema=patient.masks.edema[::-1, ::-1]),
    )
    found = verdicts(turned, brain, SamePlace())
    assert (found["orientation"], found["method"]) == ("fail", "fallback")


@pytest.mark.parametrize("axes", [(0, 1), (1,), (2,), (0, 2), (1, 2)])
def test_real_brains_are_told_from_turned_ones(axes: tuple[int, ...]) -> None:
    atlas, other = load_anatomy("sri24"), load_anatomy("mni152")
    fixed, straight = Volume(atlas.t1, atlas.affine), Volume(other.t1, other.affine)
    nothing = np.zeros(other.t1.shape, dtype=bool)
    turned = Volume(np.ascontiguousarray(np.flip(other.t1, axes)), other.affine)
    assert check_orientation(orientation_margin(straight, fixed, nothing)).verdict == "pass"
    assert check_orientation(orientation_margin(turned, fixed, nothing)).verdict == "fail"


def test_patients_lie_right(patients: Path) -> None:
    """An untouched patient does not warn; one that is turned to face backwards fails."""
    atlas = load_anatomy("sri24")
    fixed = Volume(atlas.t1, atlas.affine)
    for folder in sorted(path for path in patients.iterdir() if path.is_dir()):
        t1 = load_patient(find_case(folder)).t1
        hidden = np.zeros(t1.array.shape, dtype=bool)
        turned = t1.with_array(np.ascontiguousarray(t1.array[::-1, ::-1]))
        said = [check_orientation(orientation_margin(one, fixed, hidden)).verdict for one in (t1, turned)]
        assert said == ["pass", "fail"], folder.name


def test_masks_outside_the_brain_and_masks_that_say_one_thing() -> None:
    brain_mask = np.zeros((8, 8, 8), dtype=bool)
    brain_mask[:4] = True
    core = np.zeros_like(brain_mask)
    core[3:8] = True
    assert [check.verdict for check in check_inputs(core, core, brain_mask)] == ["fail", "warn"]
    edema = brain_mask
    assert [check.verdict for check in check_inputs(core & brain_mask, edema, brain_mask)] == ["pass", "pass"]


def test_numbers_at_the_bounds_and_answers_that_are_none() -> None:
    inside, outside = Estimate(10.0, 4.0, (0.5, 0.5, 0.5)), Estimate(50.0, 2.5, (0.5, 0.5, 0.5))
    assert [check.verdict for check in check_ranges(inside)] == ["pass", "pass"]
    assert [check.verdict for check in check_ranges(outside)] == ["warn", "warn"]
    assert [check.verdict for check in check_network(None, 0.0, False)] == ["warn"]
    assert [check.verdict for check in check_network(inside, 30.0, False)] == ["pass", "pass", "warn"]
    for wild in (replace(inside, mu1=90.0), replace(inside, mu2=0.5)):
        assert [check.verdict for check in check_network(wild, 0.0, False)] == ["pass", "warn", "pass"]
    assert [check_scale(s, 1.1)[0].verdict for s in (1.0, 0.9, 1.4, 0.5, -1.0)] == [
        "pass",
        "pass",
        "warn",
        "fail",
        "fail",
    ]
    assert [check_shown(shown).verdict for shown in (True, False)] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("name", "good", "doubtful", "wrong"),
    [
        ("registration_brain_dice", 0.97, 0.9, 0.7),
        ("registration_correlation", 0.6, 0.3, 0.1),
        ("registration_folding", 0.0, 0.01, 0.05),
        ("registration_displacement", 5.0, 20.0, 50.0),
    ],
)
def test_a_bad_registration_is_judged_by_each_of_its_numbers(
    name: str, good: float, doubtful: float, wrong: float
) -> None:
    field = {"registration_folding": "folded"}.get(name, name.removeprefix("registration_"))
    for value, verdict in ((good, "pass"), (doubtful, "warn"), (wrong, "fail"), (float("nan"), "fail")):
        quality = replace(Quality(0.6, 0.97, 0.0, 5.0), **{field: value})
        said = {check.name: check.verdict for check in check_registration(quality)}
        assert said == dict.fromkeys(said, "pass") | {name: verdict}


def test_a_tumor_on_no_tissue_and_white_matter_elsewhere() -> None:
    visible, matter = (np.zeros((10, 10, 10), dtype=bool) for _ in range(2))
    visible[:, :, :5] = True
    for share, verdict in ((8, "pass"), (5, "warn"), (2, "fail")):
        matter[:], matter[:share] = False, True
        assert check_masks(visible, matter).verdict == verdict
    white = np.zeros((10, 10, 10), dtype=np.float32)
    white[:5] = 1
    volume, none = Volume(white, np.eye(4)), np.zeros(white.shape, dtype=bool)
    for moved, verdict in ((0, "pass"), (2, "pass"), (3, "warn"), (5, "fail")):
        other = volume.with_array(np.roll(white, moved, 0))
        nothing = volume.with_array(0 * white)
        gray = (volume.with_array(1 - v.array) for v in (volume, other))
        tissue = [Tissue(v, g, nothing, "atlas") for v, g in zip((volume, other), gray, strict=True)]
        assert [check.verdict for check in check_tissue(*tissue, none)] == [verdict, "pass"]


def test_exchanged_maps_are_noticed() -> None:
    maps = [Volume(np.zeros((10, 10, 10), dtype=np.float32), np.eye(4)) for _ in range(3)]
    for part, ends in zip(maps, ((0, 4), (4, 8), (8, 10)), strict=True):
        part.array[slice(*ends)] = 1
    white, gray, csf = maps
    right, none = Tissue(white, gray, csf, "atlas"), np.zeros(white.array.shape, dtype=bool)
    for given, name in (
        ((gray, white, csf), "registration_white_matter"),
        ((white, csf, gray), "registration_tissue"),
        ((csf, gray, white), "registration_white_matter"),
    ):
        found = {check.name: check.verdict for check in check_tissue(right, Tissue(*given, "given"), none)}
        assert found[name] == "fail"


def test_a_brain_that_is_stretched_along_one_axis_is_doubted() -> None:
    said = [[check.verdict for check in check_scale(1.08, stretch)] for stretch in (1.13, 1.25)]
    assert said == [["pass", "pass"], ["pass", "warn"]]


def test_an_answer_that_is_nothing_or_everything_or_elsewhere() -> None:
    tissue = np.ones((10, 10, 10), dtype=bool)
    density = np.zeros(tissue.shape, dtype=np.float32)
    for filled, verdict in ((1, "pass"), (6, "warn"), (9, "fail")):
        density[:], density[:filled] = 0, 0.5
        assert [check.verdict for check in check_density(density, tissue)] == ["pass", verdict]
    assert [check.verdict for check in check_density(0 * density, tissue)] == ["fail", "pass"]
    assert [check_origin(away).verdict for away in (0.0, 5.0, 20.0, np.inf)] == ["pass", "warn", "fail", "fail"]


def test_a_network_and_a_fit_that_differ() -> None:
    one, extent = Estimate(10.0, 4.0, (0.5, 0.5, 0.5)), np.full(3, 200.0)
    for other, verdicts in (
        (replace(one, mu1=12.0), ["pass", "pass"]),
        (replace(one, mu1=30.0), ["pass", "warn"]),
        (replace(one, mu1=3.0, origin=(0.5, 0.5, 0.7)), ["warn", "warn"]),
    ):
        assert [check.verdict for check in check_estimate(one, other, extent)] == verdicts


def test_the_delivered_density_is_held_against_the_patients_own_masks() -> None:
    fit = Fit(Estimate(10.0, 4.0, (0.5, 0.5, 0.5)), 0.6, 0.2, 0.9, 0.9)
    core, edema = (np.zeros((6, 6, 6), dtype=bool) for _ in range(2))
    core[2:4], edema[1:5] = True, True
    density = np.where(core, 0.8, np.where(edema, 0.3, 0.0)).astype(np.float32)
    assert [check.value for check in check_patient_fit(density, fit, core, edema)] == [1.0, 1.0]
    assert [check.verdict for check in check_patient_fit(0 * density, fit, core, edema)] == ["fail", "fail"]


def test_a_search_never_ends_worse_than_it_began(brain: Brain) -> None:
    from engine import observe, simulate
    from morph.evidence import Evidence

    truth = Estimate(8.0, 4.0, (0.425, 0.5, 0.425))
    masks = [observe(simulate([truth.parameters()], a).density[0], 0.6, 0.3) for a in (brain.coarse, brain.fine)]
    coarse, fine = (Evidence(*m, a) for m, a in zip(masks, (brain.coarse, brain.fine), strict=True))
    found = refine(coarse, fine, truth, RefinementSettings(evaluations=12, fine_evaluations=12))
    assert found.loss < 0.02
