"""Which folders of a folder are patients, and which of their files are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.command import BAD_INPUT
from morph import batch, dicom_input
from morph.batch import find_files
from morph.layout import Layout
from tests.morph.batch_cases import ARRAYS, PATIENTS, Run, patients, rows, started  # noqa: F401
from tests.morph.conftest import AFFINE, save
from tests.morph.dicom_maker import LPS, write_series

# ruff: noqa: F811


def test_answers_among_the_derivatives_are_no_input(tmp_path: Path, tiny_command: Run, started: list[str]) -> None:
    dataset = tmp_path / "dataset"
    rated = dataset / "derivatives" / "raters" / "sub-01" / "anat"
    for folder in (rated, dataset / "sub-01" / "anat", dataset / "sub-02" / "ses-01" / "anat"):
        folder.mkdir(parents=True)
    save(dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz", ARRAYS["t1"])
    save(rated / "sub-01_dseg.nii.gz", ARRAYS["seg"])
    out = dataset / "derivatives" / "run1"
    for expected in (["sub-01"], []):
        started.clear()
        assert tiny_command(f"cases={dataset}", f"out={out}", "layout=bids") == BAD_INPUT
        assert started == expected
        assert find_files(dataset / "sub-01")["seg"] == rated / "sub-01_dseg.nii.gz"
        assert "sub-02 has sessions" in rows(out)["sub-02"]["error"]


def test_a_link_to_a_patient_is_called_as_the_link(tmp_path: Path, tiny_command: Run, started: list[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "patients" / "hidden").mkdir(parents=True)
    for role in ("t1", "seg"):
        save(tmp_path / "elsewhere" / f"{role}.nii.gz", ARRAYS[role])
    (tmp_path / "patients" / "p1").symlink_to(tmp_path / "elsewhere")
    out = tmp_path / "patients" / "answers"
    command = [f"cases={tmp_path / 'patients'}", f"out={out}", "layout=bids"]
    assert tiny_command(*command) == 0 and list(rows(out)) == ["p1"]
    (tmp_path / "elsewhere" / "t1.nii.gz").unlink()
    (tmp_path / "elsewhere" / "t1.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    assert tiny_command(*command) == BAD_INPUT
    assert "cannot be read" in rows(out)["p1"]["error"] and Layout(out, "sub-p1").place("density.nii.gz").is_file()


def test_no_patient_is_left_out_of_the_table(tmp_path: Path, patients: Path, tiny_command: Run) -> None:
    shutil.rmtree(patients / "b bad")
    shutil.rmtree(patients / "c fallback")
    (patients / "sub-9" / "anat").mkdir(parents=True)
    out = tmp_path / "out"
    assert tiny_command(f"cases={patients}", f"out={out}") == BAD_INPUT
    assert {name: row["status"] for name, row in rows(out).items()} == {
        "a good": "done", "d empty": "bad input", "sub-9": "bad input",
    }  # fmt: skip


def test_dicom_series_are_images_of_a_case(tmp_path: Path, tiny_command: Run, started: list[str]) -> None:
    folder, out = tmp_path / "patients", tmp_path / "out"
    for name in ("with labels", "alone"):
        write_series(folder / name / "T1", ARRAYS["t1"], LPS @ AFFINE)
    save(folder / "with labels" / "seg.nii.gz", ARRAYS["seg"])
    (folder / "notes").mkdir()
    (folder / "notes" / "about.txt").write_text("no image")
    assert tiny_command(f"cases={folder}", f"out={out}") == BAD_INPUT
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {"alone": "bad input", "with labels": "done"}
    assert "has no seg file" in found["alone"]["error"]
    assert (out / "with labels" / "rtstruct.dcm").is_file()
    assert tiny_command(f"cases={folder}", f"out={out}") == BAD_INPUT and started == ["with labels"]
    next((folder / "with labels" / "T1").iterdir()).unlink()
    tiny_command(f"cases={folder}", f"out={out}")
    assert started == ["with labels"] * 2


def test_a_file_wins_over_a_folder_of_its_name_and_raw_exports_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "p1"
    write_series(folder / "T1", ARRAYS["t1"], LPS @ AFFINE)
    write_series(folder / "dicom" / "1", ARRAYS["t1"], LPS @ AFFINE)
    for role in ("t1", "seg"):
        save(folder / f"{role}.nii.gz", ARRAYS[role])
    assert find_files(folder) == {role: folder / f"{role}.nii.gz" for role in ("t1", "seg")}
    write_series(folder / "dicom", ARRAYS["t1"], LPS @ AFFINE)
    assert find_files(folder)["dicom"] == folder / "dicom"


def test_a_file_that_cannot_be_looked_at_does_not_end_the_batch(
    tmp_path: Path, patients: Path, tiny_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    (patients / "no images" / "notes.lock").write_text("")
    monkeypatch.setattr(dicom_input, "is_dicom", refuse)
    monkeypatch.setattr(batch, "run_apart", lambda run, options: (2, "not now"))
    assert tiny_command(f"cases={patients}", f"out={tmp_path / 'out'}") == BAD_INPUT
    assert len(rows(tmp_path / "out")) == len(PATIENTS)


@pytest.mark.parametrize("layout", ["flat", "bids"])
def test_older_answers_are_no_patients(
    tmp_path: Path, patients: Path, tiny_command: Run, started: list[str], layout: str
) -> None:
    for name in ("b bad", "c fallback", "d empty"):
        shutil.rmtree(patients / name)
    for out in (patients / "older", tmp_path / "out"):
        assert tiny_command(f"cases={patients}", f"out={out}", f"layout={layout}") == 0
        assert list(rows(out)) == ["a good"]
