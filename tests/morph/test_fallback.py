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
from morph.fallback import DECAY, REACH, distance_density
from morph.foci import Unfitted
from morph.inference import Brain
from morph.mass_effect import MassEffect, PushSettings
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings
from morph.registration import RegistrationFailed
from morph.segmentation import Masks
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


class Wild(KnowingNetwork):
    """Its answer is no number."""

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return super().predict(images) | {"mu1": np.array([np.nan])}


@pytest.mark.parametrize(("search", "method", "said"), [(None, "fallback", "fail"), (SEARCH, "refined", "warn")])
def test_a_network_without_an_answer(
    patient: Patient, brain: Brain, search: RefinementSettings | None, method: str, said: str
) -> None:
    wild = replace(brain, estimator=Wild(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    answer = run_pipeline(patient, wild, SamePlace(), search)
    assert (answer.method, verdict(answer, "network_finite")) == (method, said)


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
