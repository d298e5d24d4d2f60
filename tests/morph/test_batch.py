"""A folder of patients: survives bad cases, resumes, and says what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from engine import InputError
from engine.command import BAD_INPUT, INTERRUPTED, compose, quote
from morph import batch
from morph.batch import find_files
from morph.layout import Layout
from morph.run import main
from tests.morph.batch_cases import ARRAYS, Run, patients, rows, started  # noqa: F401
from tests.morph.conftest import save

# ruff: noqa: F811


def test_bad_cases_leave_their_sentence_and_good_ones_are_kept(
    tmp_path: Path, patients: Path, tiny_command: Run, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert tiny_command(f"cases={patients}", f"out={out}") == BAD_INPUT
    assert started == ["a good", "b bad", "c fallback"]
    table = rows(out)
    said = capsys.readouterr().out
    assert "b bad: " in said and "d empty: bad input" in said and "3 of 4" in said
    assert [row["status"] for row in table.values()] == ["done", "bad input", "done", "bad input"]
    assert "unknown label 9" in table["b bad"]["error"] and "no seg file" in table["d empty"]["error"]
    record = json.loads((out / "a good" / "parameters.json").read_text())
    assert float(table["a good"]["mu1"]) == record["parameters"]["mu1"]
    assert float(table["a good"]["core_threshold"]) == record["thresholds"]["core"]
    assert float(table["a good"]["core_dice"]) > 0.4
    assert (table["c fallback"]["method"], table["c fallback"]["mu1"]) == ("fallback", "")
    objections = [check["name"] for check in record["checks"] if check["verdict"] != "pass"]
    assert table["a good"]["objections"].split() == objections
    assert table["c fallback"]["objections"] and not table["b bad"]["objections"]

    started.clear()
    save(patients / "b bad" / "seg.nii.gz", ARRAYS["seg"])
    save(patients / "d empty" / "seg.nii.gz", ARRAYS["seg"])
    assert tiny_command(f"cases={patients}", f"out={out}") == batch.FALLBACK_DELIVERED
    assert started == ["b bad", "d empty"]
    assert [row["status"] for row in rows(out).values()] == ["kept", "done", "kept", "done"]
    assert rows(out)["a good"]["mu1"] == table["a good"]["mu1"]


@pytest.fixture
def answered(tmp_path: Path, patients: Path, tiny_command: Run, started: list[str]) -> Path:
    """Two patients with answers; from here on cases are only noted, not run."""
    shutil.rmtree(patients / "b bad")
    shutil.rmtree(patients / "c fallback")
    save(patients / "d empty" / "seg.nii.gz", ARRAYS["seg"])
    assert tiny_command(f"cases={patients}", f"out={tmp_path / 'out'}") == 0
    return tmp_path / "out"


def test_another_file_or_setting_is_another_answer(
    patients: Path, answered: Path, tiny_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    monkeypatch.setattr(batch, "run_apart", lambda run, options: (again.append(options["case"]), (2, "not now"))[1])
    flair = patients / "a good" / "flair.nii.gz"
    for change, expected in (("nothing", 0), ("setting", 2), ("image", 1), ("gone", 1), ("code", 2), ("weights", 2)):
        again.clear()
        before = flair.read_bytes()
        with monkeypatch.context() as patch:
            if change == "image":
                save(flair, 2 * ARRAYS["flair"])
            if change == "gone":
                flair.unlink()
            if change == "code":
                patch.setattr(batch, "code_hash", lambda: "another")
            if change == "weights":
                patch.setattr("morph.run.hash_brain", lambda brain: {"atlas": "another"})
            tiny_command(f"cases={patients}", f"out={answered}", f"seed={int(change == 'setting')}")
        flair.write_bytes(before)
        assert len(again) == expected, change


def test_an_answer_that_lacks_a_file_is_not_finished(
    patients: Path, answered: Path, tiny_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    monkeypatch.setattr(batch, "run_apart", lambda run, options: (again.append(options["case"]), (2, "not now"))[1])
    for name in ("density.nii.gz", "report.html", "ctv_20mm.nii.gz", "parameters.json"):
        again.clear()
        before = (answered / "a good" / name).read_bytes()
        (answered / "a good" / name).unlink()
        tiny_command(f"cases={patients}", f"out={answered}")
        (answered / "a good" / name).write_bytes(before)
        assert [Path(case).name for case in again] == ["a good"], name


def test_a_crash_leaves_its_sentence_and_the_next_case_begins(
    tmp_path: Path, patients: Path, tiny_command: Run, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = batch.run_apart

    def crash_first(run: Callable[[DictConfig], int], options: dict[str, object]) -> tuple[int, str]:
        return (1, "killed by SIGKILL") if str(options["case"]).endswith("a good") else launch(run, options)

    monkeypatch.setattr(batch, "run_apart", crash_first)
    assert tiny_command(f"cases={patients}", f"out={tmp_path / 'out'}") == 1
    table = rows(tmp_path / "out")
    assert (table["a good"]["status"], table["a good"]["error"]) == ("crashed", "killed by SIGKILL")
    assert table["c fallback"]["status"] == "done"


def test_an_interruption_keeps_what_is_finished(
    tmp_path: Path, patients: Path, tiny_command: Run, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run_case = batch.run_apart
    answers = iter([run_case, lambda run, options: (INTERRUPTED, "")])
    monkeypatch.setattr(batch, "run_apart", lambda *arguments: next(answers)(*arguments))
    with pytest.raises(KeyboardInterrupt):
        tiny_command(f"cases={patients}", f"out={out}")
    assert (out / "a good" / "parameters.json").exists()
    finished = rows(out)
    assert finished["a good"]["status"] == "done" and "c fallback" not in finished
    (patients / "0 new").mkdir()
    for role, array in ARRAYS.items():
        save(patients / "0 new" / f"{role}.nii.gz", array)
    monkeypatch.setattr(batch, "run_apart", lambda run, options: (INTERRUPTED, ""))
    with pytest.raises(KeyboardInterrupt):
        tiny_command(f"cases={patients}", f"out={out}")
    assert rows(out)["a good"] == finished["a good"] | {"status": "kept"}  # though the first case is not done


def test_a_dataset_in_bids_comes_out_in_bids(tmp_path: Path, tiny_command: Run, started: list[str]) -> None:
    dataset, out = tmp_path / "dataset", tmp_path / "out"
    for subject in ("sub-01", "sub-02"):
        (dataset / subject / "anat").mkdir(parents=True)
        (dataset / "derivatives" / "raters" / subject / "anat").mkdir(parents=True)
        save(dataset / subject / "anat" / f"{subject}_T1w.nii.gz", ARRAYS["t1"])
        save(dataset / subject / "anat" / f"{subject}_FLAIR.nii.gz", ARRAYS["flair"])
        masks = {"core": np.isin(ARRAYS["seg"], (1, 4)), "edema": ARRAYS["seg"] > 0}
        for label, mask in masks.items():
            place = dataset / "derivatives" / "raters" / subject / "anat" / f"{subject}_label-{label}_mask.nii.gz"
            save(place, mask.astype(np.float32))
    assert set(find_files(dataset / "sub-01")) == {"t1", "flair", "core", "edema"}
    assert tiny_command(f"cases={dataset}", f"out={out}", "layout=bids") == 0
    assert started == ["sub-01", "sub-02"] and list(rows(out)) == started
    assert all(Layout(out, subject).place("density.nii.gz").is_file() for subject in started)
    started.clear()
    assert tiny_command(f"cases={dataset}", f"out={out}", "layout=bids") == 0
    assert started == []
    Layout(out, "sub-01").beside("density.nii.gz", ".json").unlink()
    assert tiny_command(f"cases={dataset}", f"out={out}", "layout=bids") == 0
    assert started == ["sub-01"] and Layout(out, "sub-01").beside("density.nii.gz", ".json").is_file()
    raters = dataset / "derivatives" / "raters" / "sub-02" / "anat"
    (raters / "sub-02_label-core_mask.nii.gz").unlink()
    with pytest.raises(InputError, match="has no tumor for sub-02"):
        find_files(dataset / "sub-02")
    save(raters / "sub-02_dseg.nii.gz", ARRAYS["seg"])
    assert set(find_files(dataset / "sub-02")) == {"t1", "flair", "seg"}


@pytest.mark.parametrize(("given", "expected"), [
    ("patient-7/t1.nii.gz", "patient-7"),
    ("sub-7/anat/sub-7_T1w.nii.gz", "sub-7"),
    ("sub-7/ses-2/anat/sub-7_T1w.nii.gz", "sub-7"),
])  # fmt: skip
def test_a_patient_is_called_by_the_folder_that_tells_patients_apart(
    tmp_path: Path, tiny_command: Run, given: str, expected: str
) -> None:
    t1, seg = tmp_path / given, tmp_path / "seg.nii.gz"
    t1.parent.mkdir(parents=True)
    save(t1, ARRAYS["t1"])
    save(seg, ARRAYS["seg"])
    for name, settings in ((expected, []), ("somebody", ["name=somebody"])):
        out = tmp_path / name
        assert tiny_command(f"t1={t1}", f"seg={seg}", f"out={out}", "layout=bids", *settings) == 0
        subject = f"sub-{name.removeprefix('sub-').replace('-', '')}"
        assert Layout(out, subject).place("report.html").read_text() == name  # the stub writes the patient's name


@pytest.mark.parametrize(("settings", "message"), [
    (["cases=absent"], "cases=absent is not a folder"),
    (["cases=patients/no images"], "no folder with images"),
    (["cases=patients", "case=x"], "leave out case="),
    (["cases=patients", "demo=true"], "leave out demo="),
    (["cases=patients", "out=patients"], "among the images"),
    (["cases=patients", "out=patients/a good/answers"], "into a good, among the images"),
    (["cases=patients", "layout=tree"], "layout=tree is unknown"),
])  # fmt: skip
def test_what_cannot_be_a_batch_is_refused(
    tmp_path: Path, patients: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        main(compose("run", [quote(setting) for setting in settings]))


def test_subjects_of_one_name_are_refused(tmp_path: Path, tiny_command: Run) -> None:
    for name in ("p-1", "p_1"):
        (tmp_path / "two" / name).mkdir(parents=True)
        save(tmp_path / "two" / name / "t1.nii.gz", ARRAYS["t1"])
    with pytest.raises(InputError, match="p-1 and p_1 would both be sub-p1"):
        tiny_command(f"cases={tmp_path / 'two'}", f"out={tmp_path / 'out'}", "layout=bids")
