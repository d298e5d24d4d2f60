"""A tumor that pushes, for a patient: nothing without coupling, and the way back from what is displaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from engine import Atlas, InputError, observe
from engine.model import Model
from morph.answer import Personalization
from morph.displacement import flow, look_up, moved_atlas
from morph.evidence import Estimate, Evidence
from morph.growth import grow
from morph.inference import Brain
from morph.mass_effect import MassEffect, PushSettings, let_push
from morph.models_picture import draw_models
from morph.outlines import Drawn
from morph.outputs import describe_answer
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings, Search
from morph.scene import Scene
from morph.volume import Volume
from tests.morph.conftest import make_arrays, save
from tests.morph.same_place import SamePlace

TUMOR = Estimate(6.0, 3.2, (0.62, 0.45, 0.5), 16.0)
SEARCH = RefinementSettings(evaluations=36, fine_evaluations=0)
QUICK = PushSettings(evaluations=8, fine_evaluations=0, population=4)


def effect(*couplings: float) -> MassEffect:
    return MassEffect(Model("mass_effect", (couplings[0], couplings[-1])), QUICK)


@pytest.fixture(scope="module")
def pushed_brain(atlas: Atlas) -> tuple[Atlas, np.ndarray, np.ndarray]:
    """What is seen of a brain that a tumor pushed, its density, and u."""
    result = grow([TUMOR.parameters()], atlas)
    pushed = result.pushed[0]
    total = pushed.white_matter + pushed.gray_matter + pushed.csf
    shares = [
        np.divide(m, total, out=np.zeros_like(m), where=total > 0)
        for m in (pushed.white_matter, pushed.gray_matter, pushed.csf)
    ]
    seen = Atlas(*(np.where(atlas.brain, m, 0) for m in shares), atlas.grid, "pushed")
    return seen, pushed.density, pushed.displacement


def test_forth_and_back_is_where_it_began(pushed_brain: tuple[Atlas, np.ndarray, np.ndarray]) -> None:
    seen, _, u = pushed_brain
    spacing = seen.grid.spacing
    forth, back = flow(u, spacing), flow(-u, spacing)
    assert np.abs(u).max() > 2
    home = forth + np.stack([look_up(part, forth / np.float32(spacing)) for part in back])
    assert np.abs(home)[:, seen.brain].mean() < 0.1 * np.abs(u)[:, seen.brain].mean()
    np.testing.assert_array_equal(flow(0 * u, spacing), 0 * u)


def test_a_constant_displacement_flows_as_far() -> None:
    u = np.ones((3, 8, 9, 10), dtype=np.float32) * np.array([3.0, -5.0, 0.5], dtype=np.float32)[:, None, None, None]
    np.testing.assert_allclose(flow(u, 2.0), u, rtol=1e-5)


def test_a_flow_carries_tissue_as_the_model_does(
    atlas: Atlas, pushed_brain: tuple[Atlas, np.ndarray, np.ndarray]
) -> None:
    seen, _, u = pushed_brain
    carried = moved_atlas(atlas, flow(-u, atlas.grid.spacing))
    left = np.count_nonzero(atlas.tissue != seen.tissue)
    assert left > 20
    assert np.count_nonzero(carried.tissue != seen.tissue) < 0.5 * left
    wrong_way = moved_atlas(atlas, flow(u, atlas.grid.spacing))
    assert np.count_nonzero(wrong_way.tissue != seen.tissue) > left


def test_a_brain_is_brought_back_to_rest(atlas: Atlas, pushed_brain: tuple[Atlas, np.ndarray, np.ndarray]) -> None:
    seen, _, u = pushed_brain
    rest = moved_atlas(seen, flow(u, atlas.grid.spacing))
    np.testing.assert_array_equal(rest.brain, atlas.brain)
    assert np.count_nonzero(rest.tissue != atlas.tissue) < 0.5 * np.count_nonzero(seen.tissue != atlas.tissue)
    assert moved_atlas(seen, 0 * u) is seen


def test_a_tumor_that_pushes_is_compared_where_it_is_seen(
    atlas: Atlas, pushed_brain: tuple[Atlas, np.ndarray, np.ndarray]
) -> None:
    seen, density, _ = pushed_brain
    core, edema = (mask & seen.tissue for mask in observe(density, 0.6, 0.2))
    evidence = Evidence(core, edema, seen).starting_in(atlas)
    fit = evidence.compare([TUMOR])[0]
    assert min(fit.core_dice, fit.edema_dice) > 0.99
    alone = Evidence(core, edema, seen).compare([replace(TUMOR, coupling=None)])[0]
    assert fit.loss < alone.loss - 0.03


def test_a_tumor_that_fills_the_brain_is_given_up(atlas: Atlas) -> None:
    small = np.zeros(atlas.grid.shape, dtype=bool)
    small[tuple(np.argwhere(atlas.tissue)[0])] = True
    fit = Evidence(small, small, atlas).compare([TUMOR])[0]
    assert fit.core_dice == fit.edema_dice == 0


def scene_of(evidence: Evidence) -> Scene:
    """A scene whose grids are both the evidence's."""
    nothing = Volume(np.zeros(evidence.atlas.grid.shape, dtype=np.float32), evidence.atlas.grid.affine)
    return Scene(
        "patient", evidence, evidence, Drawn(nothing, nothing, evidence.atlas.tissue), 1.0, nothing.with_array,
        lambda points: points, lambda found: found, lambda found: found,
    )  # fmt: skip


def test_without_coupling_the_first_model_answers(atlas: Atlas) -> None:
    density = grow([replace(TUMOR, coupling=None).parameters()], atlas).density[0]
    evidence = Evidence(*observe(density, 0.6, 0.2), atlas)
    first = evidence.compare([Estimate(5.6, 3.3, (0.6, 0.47, 0.5))])[0]
    scene, fit = let_push(scene_of(evidence), first, effect(0.0), None)
    assert fit == replace(first, estimate=replace(first.estimate, coupling=0.0), updates=fit.updates)
    assert scene.fine.rest is atlas
    alone, pushing = (grow([f.estimate.parameters()], atlas).density for f in (first, fit))
    np.testing.assert_array_equal(pushing, alone)


def test_a_search_ends_no_worse_than_the_first_model(
    atlas: Atlas, pushed_brain: tuple[Atlas, np.ndarray, np.ndarray]
) -> None:
    seen, density, _ = pushed_brain
    evidence = Evidence(*(mask & seen.tissue for mask in observe(density, 0.6, 0.2)), seen)
    first = evidence.compare([replace(TUMOR, mu1=6.4, coupling=None)])[0]
    scene, fit = let_push(scene_of(evidence), first, effect(16.0), replace(SEARCH, pull=0.0))
    assert fit.loss < first.loss
    assert fit.estimate.coupling == 16.0
    assert np.count_nonzero(scene.fine.rest.tissue != atlas.tissue) < np.count_nonzero(seen.tissue != atlas.tissue)
    there = scene.from_atlas(scene.into_atlas(fit.estimate))
    np.testing.assert_allclose(there.origin, fit.estimate.origin, atol=0.01)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    folder = tmp_path_factory.mktemp("patient")
    for role, array in make_arrays().items():
        save(folder / f"{role}.nii.gz", array, axes="LPS")
    return load_patient(find_case(folder))


@pytest.fixture(scope="module")
def answer(patient: Patient, brain: Brain) -> Personalization:
    return run_pipeline(patient, brain, SamePlace(), SEARCH, effect=effect(16.0))


def test_a_tumor_pushes_the_patients_brain(answer: Personalization) -> None:
    assert answer.method == "refined" and answer.push is not None and answer.parameters is not None
    assert answer.parameters.coupling == 16.0  # type: ignore[union-attr]
    names = {check.name for check in answer.checks}
    assert {"push_converged", "push_folded", "push_furthest", "push_agreement", "push_gain"} <= names
    displacement, labels = answer.push.displacement, make_arrays()["seg"]
    assert displacement.shape == (3, *labels.shape) and np.isfinite(displacement).all()
    assert answer.push.furthest > 0.3
    assert np.abs(displacement[:, make_arrays()["t1"] == 0]).max() == 0
    rim = (labels == 2) & (np.linalg.norm(displacement, axis=0) > 0.2)
    outward = np.argwhere(rim) - np.argwhere(labels == 4).mean(axis=0)
    assert np.mean(np.sum(outward * displacement[:, rim].T, axis=1) > 0) > 0.8


def test_a_coupling_is_searched_for_within_its_range(atlas: Atlas) -> None:
    evidence = Evidence(atlas.tissue, atlas.tissue, atlas)
    fit = evidence.compare([TUMOR])[0]
    search = Search(TUMOR, 0.0, fit, np.zeros(6), (0.0, 25.0))
    couplings = [search.decode(np.array([0, 0, 0, 0, 0, step]), evidence).coupling for step in (-9.0, 0.4, 9.0)]
    assert couplings == pytest.approx([0.0, 16 + 0.4 * 0.25 * 25, 25.0])
    fixed = Search(TUMOR, 0.0, fit)
    assert fixed.decode(np.zeros(5), evidence).coupling == 16.0


def test_a_tumor_does_not_push_the_atlas(patient: Patient, brain: Brain) -> None:
    with pytest.raises(InputError, match="space=patient"):
        run_pipeline(patient, brain, SamePlace(), SEARCH, "atlas", effect=effect(16.0))


@pytest.mark.parametrize("wrong", [{"evaluations": 0}, {"fine_evaluations": -1}, {"population": 3}])
def test_impossible_searches_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="push with"):
        PushSettings(**wrong)


def test_a_run_writes_what_the_push_did(
    tmp_path: Path, patient: Patient, answer: Personalization, brain: Brain
) -> None:
    assert answer.push is not None
    record = describe_answer(patient, answer, brain, {})
    assert (record["model"], record["parameters"]["coupling"]) == ("mass_effect", 16.0)
    assert record["atlas_space"]["coupling"] == 16.0
    assert record["push"]["furthest_mm"] == pytest.approx(answer.push.furthest)
    models = record["push"]["models"]
    assert models["fisher_kolmogorov"]["coupling"] is None and models["mass_effect"]["coupling"] == 16.0
    assert all(0.5 < model["core_dice"] <= 1 for model in models.values())
    draw_models(tmp_path / "models.png", patient, answer, answer.push)
    assert (tmp_path / "models.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_answers_with_both_models(
    tmp_path: Path, patient: Patient, tiny_command: Callable[..., int]
) -> None:
    out, t1 = tmp_path / "out", patient.files["t1"]
    quick = ["model=mass_effect", "push.evaluations=4", "push.population=4", "push.fine_evaluations=0"]
    assert tiny_command(f"case={t1.parent}", f"out={out}", *quick) == 0
    assert {"displacement.nii.gz", "tissue_before.nii.gz", "models.png"} <= {path.name for path in out.iterdir()}
    vectors, seen = nib.load(out / "displacement.nii.gz"), nib.load(t1)
    assert vectors.shape == (*seen.shape, 1, 3)
    elsewhere = SimpleITK.ReadImage(str(out / "displacement.nii.gz"))
    lengths = np.linalg.norm(SimpleITK.GetArrayFromImage(elsewhere), axis=-1).T
    np.testing.assert_allclose(lengths, np.linalg.norm(vectors.get_fdata()[..., 0, :], axis=-1), rtol=1e-5)
    before = SimpleITK.ReadImage(str(out / "tissue_before.nii.gz"))
    assert before.GetSize() == seen.shape and set(np.unique(SimpleITK.GetArrayFromImage(before))) <= {0, 1, 2, 3}
    record = json.loads((out / "parameters.json").read_text())
    assert record["push"]["furthest_mm"] == pytest.approx(np.linalg.norm(vectors.get_fdata(), axis=-1).max(), rel=1e-5)
    assert record["config"]["model"] == {"name": "mass_effect", "coupling": 16.0}
