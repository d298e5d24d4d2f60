"""What a run writes: files on the patient's own grid, complete or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from engine import InputError
from engine.command import compose
from morph import outputs, run
from morph.answer import Personalization
from morph.inference import Brain, prepare_brain
from morph.patient import find_case, load_patient
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings
from morph.tissue import Tissue
from morph.twin import Twin
from tests.morph.conftest import SHAPE, make_arrays, make_flair, save
from tests.morph.same_place import KnowingNetwork, SamePlace

Case = Callable[..., Path]


@pytest.fixture
def answer(case: Case, brain: Brain) -> Personalization:
    search = RefinementSettings(evaluations=12, fine_evaluations=0)
    return run_pipeline(load_patient(find_case(case("LPS"))), brain, SamePlace(), search)


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
    tissue = nib.load(out / "tissue.nii.gz").get_fdata()
    np.testing.assert_array_equal(tissue > 0, t1.get_fdata() > 0)
    assert tissue.max() == 3
    record = json.loads((out / "parameters.json").read_text())
    assert set(record["parameters"]) == {
        "mu1", "mu2", "diffusivity", "proliferation", "duration", "origin", "origin_mm",
    }  # fmt: skip
    assert {"thresholds", "checks", "verdict", "method", "versions", "hashes", "config", "seconds"} <= set(record)
    atlas_space = record["atlas_space"]
    assert record["parameters"]["mu1"] == pytest.approx(SamePlace.affine_scale * atlas_space["mu1"])
    assert (record["space"], record["tissue"]) == ("patient", "atlas")
    guesses = {"maps", "white_matter"}
    assert set(record["tumor_losses"]) == guesses and record["tumor_tissue"] in guesses
    probable = record["posterior"]["tissue_probability"]
    assert set(probable) == guesses and sum(probable.values()) == pytest.approx(1)
    assert record["labels"] == {"core": [1, 4], "edema": [2]}
    assert set(record["checks"][0]) == {"name", "value", "limit", "verdict", "message"}
    with Image.open(out / "overview.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 500
        assert len(set(picture.convert("L").resize((40, 40)).tobytes())) > 20
    assert sorted(path.name for path in out.iterdir()) == [
        outputs.MARK,
        "core.nii.gz", "ctv_15mm.nii.gz", "ctv_20mm.nii.gz", "ctv_density.nii.gz", "ctv_probability.nii.gz",
        "density.nii.gz", "density_mean.nii.gz", "density_std.nii.gz", "edema.nii.gz", "overview.png",
        "parameters.json", "probability_0.01.nii.gz", "probability_0.1.nii.gz", "probability_0.5.nii.gz",
        "report.html", "tissue.nii.gz",
    ]  # fmt: skip
    for path in out.glob("*.nii.gz"):
        assert_read_elsewhere(path, t1)


def assert_read_elsewhere(path: Path, t1: nib.Nifti1Image) -> None:
    """A reader that is not ours finds the same values at the same places of the world."""
    ours, image = nib.load(path), SimpleITK.ReadImage(str(path))
    assert image.GetSize() == t1.shape
    for voxel in ((0, 0, 0), (3, 5, 7)):
        place = (t1.affine @ (*voxel, 1))[:3] * (-1, -1, 1)  # RAS to LPS
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(voxel), place, atol=1e-3)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, np.asarray(ours.dataobj))


MARKED = ("density", "ctv_density", "ctv_15mm")


def test_a_fallback_has_its_own_exit_status(tmp_path: Path, case: Case, tiny_command: Callable[..., int]) -> None:
    labels = np.zeros(SHAPE, dtype=np.float32)
    labels[4:19, 5:22, 5] = 4
    flair = make_flair(make_arrays()["t1"], labels)
    assert tiny_command(f"case={case(seg=labels, flair=flair)}", f"out={tmp_path / 'out'}") == run.FALLBACK_DELIVERED
    record = json.loads((tmp_path / "out" / "parameters.json").read_text())
    assert (record["method"], record["verdict"], record["parameters"]) == ("fallback", "fail", None)
    assert record["atlas_space"] is None and record["rejected"]["mu1"] > 0
    said = {name: nib.load(tmp_path / "out" / f"{name}.nii.gz").header["descrip"].item().decode() for name in MARKED}
    assert said == {"density": outputs.FALLBACK, "ctv_density": outputs.FALLBACK, "ctv_15mm": ""}


def test_an_answer_without_a_registration_has_no_other_transforms_beside_it(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int]
) -> None:
    folder, kept = case(), tmp_path / "out" / "registration"
    kept.mkdir(parents=True)
    for name in ("affine.mat", "warp.nii.gz", "inverse_warp.nii.gz"):
        (kept / name).write_text("kept")
    save(folder / "flair.nii.gz", make_arrays()["flair"][::-1])
    assert tiny_command(f"case={folder}", f"out={tmp_path / 'out'}") == run.FALLBACK_DELIVERED
    assert len(list(kept.iterdir())) == 3  # nothing says that a registration of ours left them
    (kept / "registration.json").write_text("[]")
    assert tiny_command(f"case={folder}", f"out={tmp_path / 'out'}") == run.FALLBACK_DELIVERED
    assert not list(kept.iterdir())


def test_a_place_that_nobody_chose_keeps_the_answer_of_another_patient(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = case()
    assert tiny_command(f"case={folder}", "name=same") == 0
    before = Path("results/same/parameters.json").read_text()
    assert tiny_command(f"case={folder}", "name=same", "seed=1") == 0  # the same patient's may be replaced
    assert Path("results/same/parameters.json").read_text() != before
    save(folder / "t1.nii.gz", 2 * make_arrays()["t1"])
    with pytest.raises(InputError, match="answer of another T1"):
        tiny_command(f"case={folder}", "name=same")
    assert tiny_command(f"case={folder}", "name=same", "out=results/same") == 0  # somebody chose it


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
    brain = patient.t1.with_array(patient.brain)
    tissue = Tissue(brain, brain.with_array(0 * brain.array), brain.with_array(0 * brain.array), "truth")
    twin = Twin(patient, answer.parameters, answer.origin_mm, answer.density, (0.6, 0.3), tissue)
    monkeypatch.setattr(run, "make_twin", lambda seed, model: twin)
    written: list[str] = []
    write = outputs.write_whole
    monkeypatch.setattr(outputs, "write_whole", lambda path, how: (written.append(path.name), write(path, how)))
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
    save(folder / "seg.nii.gz", np.where(make_arrays()["seg"] == 2, np.float32(9), 0))
    with pytest.raises(InputError, match="unknown label 9"):
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
