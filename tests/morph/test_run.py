"""The whole chain on a tiny patient and a tiny atlas, and the command's way with bad input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import engine
from engine import Anatomy, InputError
from engine.command import compose
from morph import outputs, run
from morph.inference import Brain, onto_grid, prepare_brain
from morph.patient import find_case, load_patient
from morph.pipeline import Personalization, run_pipeline
from morph.refine import RefinementSettings
from morph.registration import Interpolation
from morph.twin import Twin
from morph.volume import Volume
from tests.morph.conftest import AFFINE, SHAPE, make_arrays, save

Case = Callable[..., Path]
SEARCH = RefinementSettings(evaluations=36, fine_evaluations=0)
WEIGHTLESS = ["weights=none", "refinement.evaluations=24", "refinement.fine_evaluations=0"]


class SamePlace:
    """A registration that finds patient and atlas on each other; both share one grid."""

    affine_scale = 1.25

    def register(self, patient: Volume, atlas: Volume, ignore: np.ndarray) -> SamePlace:
        return self

    def to_atlas(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        return _resample(volume, like, interpolation)

    to_patient = to_atlas

    def points_to_atlas(self, points: np.ndarray) -> np.ndarray:
        return points

    points_to_patient = points_to_atlas


def _resample(volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
    from scipy import ndimage

    voxels = volume.to_voxel(like.to_world(np.moveaxis(np.indices(like.array.shape), 0, -1)))
    order = {"linear": 1, "nearest": 0}[interpolation]
    return like.with_array(ndimage.map_coordinates(volume.array, np.moveaxis(voxels, -1, 0), order=order))


def tiny_anatomy(name: str = "tiny") -> Anatomy:
    t1 = make_arrays()["t1"]
    brain = (t1 > 0).astype(np.float32)
    return Anatomy(name, t1, 0.7 * brain, 0.3 * brain, 0 * brain, AFFINE)


@pytest.fixture(scope="module")
def brain() -> Brain:
    anatomy = tiny_anatomy()
    coarse = engine.atlas.place(anatomy, engine.Grid((28, 28, 28), 5.0))
    fine = engine.atlas.place(anatomy, engine.Grid((36, 36, 36), 4.0))
    return Brain(anatomy, coarse, fine, None)


@pytest.fixture
def answer(case: Case, brain: Brain) -> Personalization:
    return run_pipeline(load_patient(find_case(case("LPS"))), brain, SamePlace(), SEARCH)


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
    assert answer.fit is not None and answer.parameters is not None and answer.origin_mm is not None
    assert answer.parameters.mu1 == pytest.approx(1.25 * answer.fit.estimate.mu1)
    assert answer.parameters.mu2 == pytest.approx(answer.fit.estimate.mu2)
    assert make_arrays()["seg"][tuple(np.round(answer.density.to_voxel(answer.origin_mm)).astype(int))] > 0


def test_an_answer_that_explains_nothing_is_replaced(case: Case, brain: Brain) -> None:
    labels = np.zeros(SHAPE, dtype=np.float32)
    labels[4:19, 5:22, 5] = 4  # a thin sheet: no grown tumor looks like that
    patient = load_patient(find_case(case(seg=labels)))
    answer = run_pipeline(patient, brain, SamePlace(), SEARCH)
    assert (answer.method, answer.verdict, answer.parameters) == ("fallback", "fail", None)
    assert answer.density.array[patient.masks.core & patient.brain].min() > 0.6


def test_masks_are_reduced_by_majority() -> None:
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[:4, :4, :4] = True
    mask[4, 4, 4] = True
    grid = engine.Grid((4, 4, 4), 2.0, (-0.5, -0.5, -0.5))
    reduced = onto_grid(mask, np.eye(4), grid)
    assert reduced[:2, :2, :2].all()
    assert reduced.sum() == 8
    mask[:4, :4, :4] = False
    assert onto_grid(mask, np.eye(4), grid).sum() == 1
    assert onto_grid(np.zeros_like(mask), np.eye(4), grid).sum() == 0


def test_weights_of_another_brain_are_refused(tmp_path: Path, brain: Brain) -> None:
    with pytest.raises(InputError, match="there are no weights"):
        prepare_brain(brain.anatomy, str(tmp_path / "absent"))


class KnowingNetwork:
    """Stands in for trained weights: always gives one answer."""

    targets = SimpleNamespace(names=("mu1", "mu2", "origin_x", "origin_y", "origin_z"))
    files: tuple[Path, ...] = ()

    def __init__(self, grid: engine.Grid, content_hash: str, **changed: str) -> None:
        self.grid = grid
        self.metadata = {
            "name": "known",
            "model": "fisher_kolmogorov",
            "scheme": "converged",
            "atlas": {"name": "tiny", "content_hash": content_hash},
            **changed,
        }

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert images.shape == (1, *self.grid.shape)
        assert set(np.unique(images)) <= {np.float32(0), np.float32(0.333), np.float32(0.666) + np.float32(0.333)}
        return {"mu1": np.array([5.0]), "mu2": np.array([3.0]), "origin": np.array([[0.52, 0.42, 0.43]])}


def test_only_weights_of_this_brain_and_model_are_taken(monkeypatch: pytest.MonkeyPatch, brain: Brain) -> None:
    grid, content_hash = brain.coarse.grid, brain.coarse.content_hash
    for network, message in (
        (KnowingNetwork(grid, "other"), "another brain"),
        (KnowingNetwork(grid, content_hash, model="mass_effect"), "for the model mass_effect"),
        (KnowingNetwork(grid, content_hash, scheme="gliomasolver"), "other physics"),
    ):
        monkeypatch.setattr("morph.inference.load_weights", lambda name, network=network: network)
        with pytest.raises(InputError, match=message):
            prepare_brain(brain.anatomy, "known")
    monkeypatch.setattr("morph.inference.load_weights", lambda name: KnowingNetwork(grid, content_hash))
    assert prepare_brain(brain.anatomy, "known").coarse.content_hash == content_hash


def test_without_refinement_the_network_answers(case: Case, brain: Brain) -> None:
    knowing = replace(brain, estimator=KnowingNetwork(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    patient = load_patient(find_case(case()))
    answer = run_pipeline(patient, knowing, SamePlace(), RefinementSettings(evaluations=0))
    assert answer.estimate is not None and answer.fit is not None
    assert (answer.estimate.mu1, answer.estimate.mu2) == (5.0, 3.0)
    assert "network_origin_distance" in {check.name for check in answer.checks}


@pytest.fixture
def tiny_command(monkeypatch: pytest.MonkeyPatch, brain: Brain) -> Callable[..., int]:
    """The command in this process, on the tiny atlas and without ANTs."""
    monkeypatch.setattr(run.AntsRegistration, "register", lambda self, *images: SamePlace())
    monkeypatch.setattr(run, "prepare_brain", lambda anatomy, weights: brain)
    monkeypatch.setattr(run, "load_anatomy", tiny_anatomy)
    return lambda *overrides: run.main(compose("run", [*overrides, *WEIGHTLESS]))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS"])
def test_outputs_lie_on_the_patients_own_grid(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int], axes: str
) -> None:
    folder, out = case(axes), tmp_path / "out"
    assert tiny_command(f"case={folder}", f"out={out}") == 0
    t1, density = nib.load(folder / "t1.nii.gz"), nib.load(out / "density.nii.gz")
    np.testing.assert_allclose(density.affine, t1.affine)
    assert density.get_fdata()[t1.get_fdata() == 0].max() == 0
    assert (nib.load(out / "core.nii.gz").get_fdata() > 0).sum() == np.isin(make_arrays()["seg"], (1, 4)).sum()
    record = json.loads((out / "parameters.json").read_text())
    assert set(record["parameters"]) == {
        "mu1", "mu2", "diffusivity", "proliferation", "duration", "origin", "origin_mm",
    }  # fmt: skip
    assert {"thresholds", "checks", "verdict", "method", "versions", "hashes", "config", "seconds"} <= set(record)
    atlas_space = record["atlas_space"]
    assert record["parameters"]["mu1"] == pytest.approx(SamePlace.affine_scale * atlas_space["mu1"])
    assert record["parameters"]["origin"] == atlas_space["origin"]
    assert record["labels"] == {"core": [1, 4], "edema": [2]}
    assert set(record["checks"][0]) == {"name", "value", "limit", "verdict", "message"}
    assert (out / "overview.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == [
        "core.nii.gz", "density.nii.gz", "edema.nii.gz", "overview.png", "parameters.json",
    ]  # fmt: skip


def test_a_fallback_has_its_own_exit_status(tmp_path: Path, case: Case, tiny_command: Callable[..., int]) -> None:
    labels = np.zeros(SHAPE, dtype=np.float32)
    labels[4:19, 5:22, 5] = 4
    assert tiny_command(f"case={case(seg=labels)}", f"out={tmp_path / 'out'}") == run.FALLBACK_DELIVERED
    record = json.loads((tmp_path / "out" / "parameters.json").read_text())
    assert (record["method"], record["verdict"], record["parameters"]) == ("fallback", "fail", None)
    assert record["atlas_space"] is None and record["rejected"]["mu1"] > 0


def test_weights_are_recorded_by_their_content(
    tmp_path: Path, case: Case, brain: Brain, answer: Personalization
) -> None:
    knowing = KnowingNetwork(brain.coarse.grid, brain.coarse.content_hash)
    knowing.files = (tmp_path / "known.safetensors", tmp_path / "second.safetensors")
    for path in knowing.files:
        path.write_bytes(b"weights")
    patient = load_patient(find_case(case()))
    record = outputs.describe_answer(patient, answer, replace(brain, estimator=knowing), {})  # type: ignore[arg-type]
    expected = hashlib.sha256(b"weights").hexdigest()
    assert [record["hashes"][f"weights/{path.name}"] for path in knowing.files] == [expected, expected]


def test_a_demo_is_complete_when_its_parameters_are_there(
    tmp_path: Path,
    case: Case,
    tiny_command: Callable[..., int],
    answer: Personalization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient = load_patient(find_case(case()))
    assert answer.parameters is not None and answer.origin_mm is not None
    twin = Twin(patient, answer.parameters, answer.origin_mm, answer.density, (0.6, 0.3))
    monkeypatch.setattr(run, "make_twin", lambda seed: twin)
    written: list[str] = []
    write = outputs._write
    monkeypatch.setattr(outputs, "_write", lambda path, how: (written.append(path.name), write(path, how)))
    out = tmp_path / "out"
    tiny_command("demo=true", f"out={out}")
    assert "twin.json" in written and written[-1] == "parameters.json"
    records = [json.loads((out / name).read_text()) for name in ("twin.json", "parameters.json")]
    assert records[0]["seconds"] == records[1]["seconds"]
    tiny_command(f"case={case()}", f"out={out}")
    assert not (out / "twin.json").exists()


def test_mistyped_weights_leave_an_earlier_answer_alone(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = case(), tmp_path / "out"
    tiny_command(f"case={folder}", f"out={out}")
    monkeypatch.setattr(run, "prepare_brain", prepare_brain)
    with pytest.raises(InputError, match="there are no weights 7"):
        run.main(compose("run", [f"case={folder}", f"out={out}", "weights=7"]))
    assert (out / "parameters.json").exists()


def test_bad_input_leaves_no_finished_answer(tmp_path: Path, case: Case, tiny_command: Callable[..., int]) -> None:
    out = tmp_path / "out"
    folder = case()
    assert tiny_command(f"case={folder}", f"out={out}") == 0
    save(folder / "seg.nii.gz", make_arrays()["seg"][:-1])
    with pytest.raises(InputError, match="has shape"):
        tiny_command(f"case={folder}", f"out={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


def test_a_crash_while_writing_leaves_no_finished_answer(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = case(), tmp_path / "out"
    tiny_command(f"case={folder}", f"out={out}")

    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "draw_overview", full)
    with pytest.raises(InputError, match="No space left"):
        tiny_command(f"case={folder}", f"out={out}")
    assert not (out / "parameters.json").exists()
    assert not list(out.glob(".partial*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "no patient is given"),
        (["seg=absent.nii.gz", "out=out"], "no T1"),
        (["t1=absent.nii.gz", "seg=absent.nii.gz", "out=out"], "does not exist"),
        (["t1=absent.nii.gz", "seg=absent.nii.gz"], "with out=FOLDER"),
        (["t1=123", "seg=absent.nii.gz", "out=2024"], "123 does not exist"),
        (["case=absent"], "not a folder"),
        (["case=123"], "case=123 is not a folder"),
        (["demo=maybe"], "true or false"),
        *((["demo=true", f"seed={seed}"], "whole number from 0") for seed in (-1, "abc", 1.5, 2**31 - 1)),
        (["refinement.evaluations=many"], "evaluations=many is not a whole number"),
        (["refinement.pull=nan"], "pull=nan is not a finite number"),
        (["registration.iterations=5"], "iterations=5 is not a list"),
        (["registration.iterations=[5,a]"], "is not a list"),
        (["registration.metric=3"], "metric=3 is not a word"),
        (["+registration.speed=3"], "speed is not known"),
        (["demo=true", "t1=a.nii.gz"], "leave out t1="),
        (["nonsense=1"], "nonsense"),
        (["demo=true", "refinement.population=1"], "population"),
        (["demo=true", "registration.metric=none"], "metric"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        run.main(compose("run", overrides))
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_real_patients_are_readable(patients: Path) -> None:
    for folder in sorted(path for path in patients.iterdir() if path.is_dir()):
        patient = load_patient(find_case(folder))
        assert patient.t1.array.shape == (240, 240, 155)
        assert patient.masks.core.sum() * patient.t1.voxel_volume > 5
        assert (patient.masks.edema & ~patient.brain).sum() < 0.01 * patient.masks.edema.sum()
