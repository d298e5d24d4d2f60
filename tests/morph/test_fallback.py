"""What is delivered where no answer can be trusted: margins, around barriers where they are known; and when that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from engine.model import Model
from morph.answer import Personalization
from morph.checks import Check
from morph.distances import margin_distances
from morph.evidence import MU1_RANGE
from morph.fallback import DECAY, REACH, distance_density
from morph.foci import Unfitted
from morph.inference import Brain
from morph.mass_effect import MassEffect, PushSettings
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings
from morph.registration import RegistrationFailed
from morph.segmentation import Masks
from morph.targets import TargetSettings, target_volumes
from morph.tissue import Tissue
from morph.volume import Volume
from tests.morph.same_place import KnowingNetwork, SamePlace

Case = Callable[..., Path]
SEARCH = RefinementSettings(evaluations=12, fine_evaluations=0)


@pytest.fixture
def patient(case: Case) -> Patient:
    return load_patient(find_case(case("RAS")))


def verdict(answer: Personalization, name: str) -> str:
    return {check.name: check.verdict for check in answer.checks}[name]


def test_the_fallback_decays_from_the_masks() -> None:
    axis = np.abs(np.arange(41) - 20.0)
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    t1 = Volume((distance < 18).astype(np.float32), np.eye(4))
    density = distance_density(Masks(distance < 5, distance < 9), t1)
    ray = density[20:, 20, 20]
    assert np.all(np.diff(ray) <= 1e-6)
    assert ray[4] > 0.675 > ray[5] > 0.275 > ray[10] > 0
    assert density[t1.array == 0].max() == 0
    assert density.max() <= 1


def test_the_fallback_is_a_margin_at_every_level() -> None:
    x, y, z = np.indices((40, 40, 40)) - 19.5
    brain = (x / 19) ** 2 + (y / 17) ** 2 + (z / 18) ** 2 < 1
    edema = (np.abs(x - 2) < 5) & (np.abs(y) < 7) & (np.abs(z + 3) < 4)
    core = edema & (x > 1)
    spacing = np.array([1.0, 1.5, 2.0])
    t1 = Volume(brain.astype(np.float32), np.diag([*spacing, 1.0]))
    density = distance_density(Masks(core, edema), t1)
    distance = ndimage.distance_transform_edt(~edema, sampling=spacing)
    for margin in (2.6, 7.7, 14.97):  # between the distances that occur
        level = 0.275 * np.exp(-margin / DECAY)
        np.testing.assert_array_equal(density > level, brain & (distance < margin))


def test_known_barriers_are_gone_around() -> None:
    brain = np.ones((40, 30, 10), dtype=bool)
    core, edema, csf = (np.zeros_like(brain) for _ in range(3))
    edema[10:16, 12:18, 3:7], core[12:14, 14:16, 4:6], csf[18:20, :25] = True, True, True
    t1 = Volume(brain.astype(np.float32), np.eye(4))
    density = distance_density(Masks(core, edema), t1, ~csf)
    around = margin_distances(edema, ~csf | edema, np.ones(3), REACH)[1]
    outside = ~edema
    np.testing.assert_allclose(density[outside], 0.275 * np.exp(-around / DECAY)[outside], rtol=1e-5)
    assert density[csf].max() == 0
    assert 0 < density[22, 15, 5] < 0.1 * distance_density(Masks(core, edema), t1)[22, 15, 5]


def test_an_edema_without_a_core_is_covered() -> None:
    edema = np.zeros((20, 20, 20), dtype=bool)
    edema[8:12, 8:12, 8:12] = True
    density = distance_density(Unfitted(~edema & False, edema), Volume(np.ones(edema.shape, np.float32), np.eye(4)))
    np.testing.assert_allclose(density[edema], 0.275, rtol=1e-6)
    assert 0 < density[14, 10, 10] < 0.275


class Lost(SamePlace):
    """A registration that finds nothing."""

    def register(self, patient: Volume, atlas: Volume, ignore: np.ndarray) -> SamePlace:
        raise RegistrationFailed("ANTs could not register the T1 to the atlas")


def test_a_registration_that_finds_nothing_leaves_the_fallback(patient: Patient, brain: Brain) -> None:
    answer = run_pipeline(patient, brain, Lost(), SEARCH)
    assert (answer.method, verdict(answer, "registration_found")) == ("fallback", "fail")
    assert "ANTs" in next(check.message for check in answer.checks if check.verdict == "fail")
    assert answer.density.array[patient.masks.core].min() > 0.6


def test_own_tissue_maps_are_used_without_a_registration(patient: Patient, brain: Brain) -> None:
    beside = ndimage.binary_dilation(patient.masks.edema, iterations=2) & ~patient.masks.edema & patient.brain
    csf = (beside & (np.indices(beside.shape)[0] > 10)).astype(np.float32)
    rest = patient.brain.astype(np.float32) - csf
    own = replace(patient, tissue=Tissue(*(patient.t1.with_array(m) for m in (rest, 0 * rest, csf)), "patient"))
    plain, answer = (run_pipeline(one, brain, Lost(), SEARCH) for one in (patient, own))
    assert answer.tissue is not None and np.all(answer.tissue.array[csf > 0] == 1)
    assert plain.density.array[csf > 0].min() > 0 == answer.density.array[csf > 0].max()


@pytest.mark.parametrize("space", ["patient", "atlas"])
def test_an_answer_that_is_rejected_leaves_a_fallback_with_barriers(
    patient: Patient, brain: Brain, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morph.pipeline.check_size", lambda volume: Check("size_in_prior", 0, 1, "fail", "no"))
    answer = run_pipeline(patient, brain, SamePlace(), SEARCH, space)
    assert (answer.method, answer.tissue_source) == ("fallback", "atlas")
    assert answer.tissue is not None and answer.density.array[answer.tissue.array < 2].max() == 0
    assert set(answer.seconds) > {"simulation", "fallback"}


def test_without_an_atlas_the_dark_parts_of_a_brain_are_barriers(patient: Patient, brain: Brain) -> None:
    beside = ndimage.binary_dilation(patient.masks.edema, iterations=2) & ~patient.masks.edema & patient.brain
    csf = beside & (np.indices(beside.shape)[0] > 10)
    dark = np.where(patient.brain, np.where(csf, 20, patient.t1.array), 0).astype(np.float32)
    affine = patient.t1.affine @ np.diag([1.7, 1.7, 1.7, 1.0])  # then the brain has a brain's volume
    large = replace(patient, t1=Volume(dark, affine), flair=None)
    answer = run_pipeline(large, brain, Lost(), SEARCH)
    assert (answer.method, answer.tissue_source) == ("fallback", "brightness")
    assert answer.tissue is not None and np.all(answer.tissue.array[csf] == 1)
    assert np.all(answer.tissue.array[patient.masks.edema & patient.brain] == 2)
    assert answer.density.array[csf].max() == 0
    small = run_pipeline(replace(large, t1=patient.t1.with_array(dark)), brain, Lost(), SEARCH)
    assert small.tissue is None and small.density.array[csf].min() > 0


def test_an_edema_alone_is_covered_and_said_to_have_no_core(patient: Patient, brain: Brain) -> None:
    bare = replace(patient, masks=Masks(np.zeros_like(patient.masks.core), patient.masks.edema))
    answer = run_pipeline(bare, brain, SamePlace(), SEARCH)
    failed = [check for check in answer.checks if check.verdict == "fail"]
    assert (answer.method, [check.name for check in failed]) == ("fallback", ["core_visible"])
    assert "no core is given" in failed[0].message
    visible = bare.masks.edema & bare.brain
    np.testing.assert_allclose(answer.density.array[visible], 0.275, rtol=1e-6)
    targets = target_volumes(bare, answer, TargetSettings())
    assert "no core" in targets.record["ctv_15mm"]["around"]
    distance = ndimage.distance_transform_edt(~bare.masks.edema, sampling=bare.t1.spacing)
    assert np.all(targets.masks["ctv_15mm"][(distance <= 15) & bare.brain])
    np.testing.assert_array_equal(targets.masks["ctv_15mm"], targets.masks["ctv_15mm"] & (bare.brain | visible))


class Wild(KnowingNetwork):
    """Its answer is no tumor."""

    mu1 = np.nan

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return super().predict(images) | {"mu1": np.array([self.mu1])}


@pytest.mark.parametrize("mu1", [np.nan, -3.0, 0.0])
@pytest.mark.parametrize(("search", "method", "said"), [(None, "fallback", "fail"), (SEARCH, "refined", "warn")])
def test_a_network_without_an_answer(
    patient: Patient,
    brain: Brain,
    search: RefinementSettings | None,
    method: str,
    said: str,
    mu1: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Wild, "mu1", mu1)
    wild = replace(brain, estimator=Wild(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    answer = run_pipeline(patient, wild, SamePlace(), search)
    assert (answer.method, verdict(answer, "network_finite")) == (method, said)


@pytest.mark.parametrize("space", ["patient", "atlas"])
def test_a_network_beyond_its_ranges_is_cut_to_them(
    patient: Patient, brain: Brain, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wild, "mu1", 0.01)
    wild = replace(brain, estimator=Wild(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    answer = run_pipeline(patient, wild, SamePlace(), None, space)
    assert verdict(answer, "network_in_range") == "warn"
    assert answer.estimate is not None and answer.estimate.mu1 == MU1_RANGE[0]


def test_masks_unlike_the_networks_tumor_are_said_to_be(patient: Patient, brain: Brain) -> None:
    class Elsewhere(KnowingNetwork):
        def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return super().predict(images) | {"origin": np.array([[0.35, 0.6, 0.55]])}

    for network, said in ((KnowingNetwork, "pass"), (Elsewhere, "warn")):
        knowing = replace(brain, estimator=network(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
        assert verdict(run_pipeline(patient, knowing, SamePlace(), SEARCH), "network_explains_masks") == said


def test_a_push_that_is_rejected_leaves_the_first_model(
    patient: Patient, brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = MassEffect(Model("mass_effect", (16.0, 16.0)), PushSettings(4, 0, 4))
    alone = run_pipeline(patient, brain, SamePlace(), SEARCH)
    monkeypatch.setattr("morph.pipeline.check_push", lambda push, fit: [Check("push_converged", 0, 1, "fail", "no")])
    answer = run_pipeline(patient, brain, SamePlace(), SEARCH, effect=effect)
    assert (answer.method, answer.push) == ("refined", None)
    assert verdict(answer, "push_accepted") == "warn"
    assert "push_converged" in next(check.message for check in answer.checks if check.name == "push_accepted")
    np.testing.assert_array_equal(answer.density.array, alone.density.array)
