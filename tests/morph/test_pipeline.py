"""The whole road on a tiny patient and a tiny atlas, in both spaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import InputError
from morph.answer import Personalization
from morph.inference import Brain, prepare_brain
from morph.outputs import describe_answer
from morph.patient import find_case, load_patient
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings
from morph.report.tables import list_facts
from morph.resample import resample
from morph.tissue import Tissue
from morph.volume import Volume
from tests.morph.conftest import AFFINE, SHAPE, make_arrays, make_flair, save
from tests.morph.same_place import KnowingNetwork, SamePlace

Case = Callable[..., Path]
SEARCH = RefinementSettings(evaluations=36, fine_evaluations=0)


@pytest.fixture(params=["patient", "atlas"])
def answer(request: pytest.FixtureRequest, case: Case, brain: Brain) -> Personalization:
    return run_pipeline(load_patient(find_case(case("LPS"))), brain, SamePlace(), SEARCH, request.param)


def test_an_answer_lies_in_the_patients_brain(answer: Personalization) -> None:
    t1 = make_arrays()["t1"]
    density = answer.density.array
    assert answer.method == "refined"
    assert density.shape == SHAPE
    assert density.min() >= 0 and density.max() <= 1
    assert density[t1 == 0].max() == 0
    labels = make_arrays()["seg"]
    assert density[labels == 4].mean() > 0.5 > density[(labels == 0) & (t1 > 0)].mean()


def test_lengths_are_scaled_to_the_patient(answer: Personalization) -> None:
    assert answer.found is not None and answer.parameters is not None and answer.origin_mm is not None
    assert answer.parameters.mu1 == pytest.approx(1.25 * answer.found.mu1)
    assert answer.parameters.mu2 == pytest.approx(answer.found.mu2)
    assert make_arrays()["seg"][tuple(np.round(answer.density.to_voxel(answer.origin_mm)).astype(int))] > 0


@pytest.mark.parametrize(("chosen", "tumor", "label"), [(0, "maps", 2), (1, "white_matter", 3)])
def test_the_answer_shows_what_the_visible_tumor_was_taken_for(
    monkeypatch: pytest.MonkeyPatch, case: Case, brain: Brain, chosen: int, tumor: str, label: int
) -> None:
    monkeypatch.setattr("morph.solve.choose", lambda losses: chosen)
    patient = load_patient(find_case(case()))
    gray = np.where(make_arrays()["seg"] > 0, 0.9, brain.anatomy.gray_matter).astype(np.float32)
    anatomy = replace(brain.anatomy, gray_matter=gray, white_matter=(make_arrays()["t1"] > 0) - gray)
    answer = run_pipeline(patient, replace(brain, anatomy=anatomy), SamePlace(), SEARCH)
    assert (answer.method, answer.tumor_tissue) == ("refined", tumor) and answer.tissue is not None
    assert np.all(answer.tissue.array[patient.masks.edema & patient.brain] == label)
    record = describe_answer(patient, answer, brain, {})
    assert record["tumor_tissue"] == tumor and set(record["tumor_losses"]) == {"maps", "white_matter"}
    facts = dict(list_facts(patient, answer, record))
    assert facts["solved in"].endswith("white matter") == (tumor == "white_matter")


def test_own_maps_are_not_overruled(case: Case, brain: Brain) -> None:
    patient = load_patient(find_case(case()))
    maps = (patient.t1.with_array(share * patient.brain) for share in (0.6, 0.4, 0.0))
    answer = run_pipeline(replace(patient, tissue=Tissue(*maps, "given")), brain, SamePlace(), SEARCH)
    assert set(answer.tumor_losses) == {"maps"} and (answer.tissue_source, answer.tumor_tissue) == ("given", "maps")


def test_only_the_focus_that_is_fitted_can_be_all_white(
    monkeypatch: pytest.MonkeyPatch, case: Case, brain: Brain
) -> None:
    monkeypatch.setattr("morph.solve.choose", lambda losses: 1)
    labels = make_arrays()["seg"]
    labels[5:8, 17:20, 8:11] = 4
    gray = np.where(labels > 0, 0.9, brain.anatomy.gray_matter).astype(np.float32)
    anatomy = replace(brain.anatomy, gray_matter=gray, white_matter=(make_arrays()["t1"] > 0) - gray)
    patient = load_patient(find_case(case(seg=labels, flair=make_flair(make_arrays()["t1"], labels))))
    answer = run_pipeline(patient, replace(brain, anatomy=anatomy), SamePlace(), SEARCH)
    assert answer.tumor_tissue == "white_matter" and answer.tissue is not None
    assert np.all(answer.tissue.array[labels > 0] == np.where(make_arrays()["seg"] > 0, 3, 2)[labels > 0])


def test_an_unknown_space_is_refused(case: Case, brain: Brain) -> None:
    with pytest.raises(InputError, match="space=moon"):
        run_pipeline(load_patient(find_case(case())), brain, SamePlace(), SEARCH, "moon")


def test_a_second_focus_is_not_fitted_but_covered(case: Case, brain: Brain) -> None:
    labels = make_arrays()["seg"]
    labels[5:8, 17:20, 8:11] = 4
    flair = make_flair(make_arrays()["t1"], labels)
    patient = load_patient(find_case(case(seg=labels, flair=flair)))
    answer = run_pipeline(patient, brain, SamePlace(), SEARCH)
    assert {check.name: check.verdict for check in answer.checks}["tumor_foci"] == "warn"
    assert answer.method == "refined"
    assert answer.density.array[6, 18, 9] > 0.5


def test_an_answer_that_explains_nothing_is_replaced(case: Case, brain: Brain) -> None:
    labels = np.zeros(SHAPE, dtype=np.float32)
    labels[4:19, 5:22, 5] = 4  # a thin sheet: no grown tumor looks like that
    flair = make_flair(make_arrays()["t1"], labels)
    patient = load_patient(find_case(case(seg=labels, flair=flair)))
    answer = run_pipeline(patient, brain, SamePlace(), SEARCH)
    assert (answer.method, answer.verdict, answer.parameters) == ("fallback", "fail", None)
    assert {check.name: check.verdict for check in answer.checks}["fit_core"] == "fail"
    assert answer.density.array[patient.masks.core & patient.brain].min() > 0.6


def test_weights_that_are_not_there_are_refused(tmp_path: Path, brain: Brain) -> None:
    with pytest.raises(InputError, match="there are no weights"):
        prepare_brain(brain.anatomy, str(tmp_path / "absent"))


def test_only_weights_of_this_brain_and_model_are_taken(monkeypatch: pytest.MonkeyPatch, brain: Brain) -> None:
    grid, content_hash = brain.coarse.grid, brain.coarse.content_hash
    for network, message in (
        (KnowingNetwork(grid, "other"), "another brain"),
        (KnowingNetwork(grid, content_hash, model="mass_effect"), "for the model mass_effect"),
        (KnowingNetwork(grid, content_hash, scheme="gliomasolver"), "other physics"),
        (KnowingNetwork(grid, content_hash, physics_version=0), "other physics"),
    ):
        monkeypatch.setattr("morph.inference.load_weights", lambda name, network=network: network)
        with pytest.raises(InputError, match=message):
            prepare_brain(brain.anatomy, "known")
    monkeypatch.setattr("morph.inference.load_weights", lambda name: KnowingNetwork(grid, content_hash))
    assert prepare_brain(brain.anatomy, "known").coarse.content_hash == content_hash


@pytest.mark.parametrize("space", ["patient", "atlas"])
def test_without_refinement_the_network_answers(case: Case, brain: Brain, space: str) -> None:
    knowing = replace(brain, estimator=KnowingNetwork(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    patient = load_patient(find_case(case()))
    answer = run_pipeline(patient, knowing, SamePlace(), None, space)
    assert answer.estimate is not None and answer.fit is not None
    assert (answer.estimate.mu1, answer.estimate.mu2) == (5.0, 3.0)
    assert answer.fit.estimate.mu1 == pytest.approx(5.0 * (SamePlace.affine_scale if space == "patient" else 1.0))
    assert "network_origin_distance" in {check.name for check in answer.checks}


class Unsure(KnowingNetwork):
    """Answers with a distribution: mu1 alone is open."""

    is_distribution = True

    def sample(self, images: np.ndarray, count: int) -> dict[str, np.ndarray]:
        answer = self.predict(images)
        mu1 = np.tile(np.exp([1.0, 1.4]), count // 2)
        mu1[:3] = -1.0  # no tumor
        return {"mu1": mu1[None]} | {name: np.repeat(answer[name][:, None], count, 1) for name in ("mu2", "origin")}


def test_a_network_that_is_unsure_says_how_much(case: Case, brain: Brain) -> None:
    unsure = replace(brain, estimator=Unsure(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    answer = run_pipeline(load_patient(find_case(case())), unsure, SamePlace(), None)
    assert answer.estimate is not None and answer.estimate.spread is not None
    assert answer.estimate.spread[:2] == pytest.approx([0.2, 0.2], rel=0.01)
    assert answer.estimate.spread[2:] == pytest.approx([0, 0, 0], abs=1e-9)
    recorded = describe_answer(load_patient(find_case(case())), answer, unsure, {})["network"]["spread"]
    assert recorded["log_mu1_mu2"] == answer.estimate.spread[0] and len(recorded) == 5


def test_without_network_and_search_there_is_no_answer(case: Case, brain: Brain) -> None:
    with pytest.raises(InputError, match="refine=false keeps the network's answer"):
        run_pipeline(load_patient(find_case(case())), brain, SamePlace(), None)


def test_a_mask_that_the_images_contradict_ends_before_the_registration(case: Case, brain: Brain) -> None:
    flair = make_arrays()["t1"] * (2 - (make_arrays()["seg"] > 0))
    answer = run_pipeline(load_patient(find_case(case(flair=flair))), brain, SamePlace(), SEARCH)
    assert {check.name: check.verdict for check in answer.checks}["flair_shows_edema"] == "fail"
    assert (answer.method, answer.scale) == ("fallback", None)
    assert "registration" not in answer.seconds


def test_every_orientation_gives_one_answer(case: Case, brain: Brain) -> None:
    answers = [
        run_pipeline(load_patient(find_case(case(a))), brain, SamePlace(), SEARCH) for a in ("RAS", "LPS", "LAS")
    ]
    for other in answers[1:]:
        np.testing.assert_array_equal(other.density.array, answers[0].density.array)
        np.testing.assert_allclose(other.origin_mm, answers[0].origin_mm)


def test_an_oblique_image_gives_the_same_answer(tmp_path: Path, case: Case, brain: Brain) -> None:
    straight = load_patient(find_case(case()))
    angle = 0.3
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ AFFINE @ np.diag([0.75, 0.75, 0.75, 1.0])
    affine[:3, 3] += (-1, -8, -14)
    like = Volume(np.zeros((34, 44, 42), np.float32), affine)
    folder = tmp_path / "oblique"
    folder.mkdir()
    for role, order in (("t1", 0), ("seg", 0), ("flair", 0)):
        array = resample(Volume(make_arrays()[role], AFFINE), like, order).array
        save(folder / f"{role}.nii.gz", array, affine, axes="LPS")
    oblique = load_patient(find_case(folder))
    assert oblique.brain.sum() * oblique.t1.voxel_volume == pytest.approx(
        straight.brain.sum() * straight.t1.voxel_volume, rel=0.03
    )
    search = RefinementSettings(evaluations=144, fine_evaluations=0)
    first, second = (run_pipeline(patient, brain, SamePlace(), search) for patient in (straight, oblique))
    moved = resample(second.density, straight.t1, 1).array
    for threshold in (0.1, 0.6):
        a, b = first.density.array >= threshold, moved >= threshold
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
    assert first.origin_mm is not None and second.origin_mm is not None
    assert np.linalg.norm(first.origin_mm - second.origin_mm) < 8
