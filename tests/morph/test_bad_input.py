"""Bad input to the command: exit status 2, one sentence on stderr, and nothing that looks like an answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.command import run_command
from morph import run
from tests.morph.conftest import AFFINE, make_arrays, save
from tests.morph.same_place import tiny_anatomy

ORIGINAL = make_arrays()
FAR = np.zeros((4, 4))
FAR[0, 3] = 200.0


def spoil_t1(folder: Path) -> None:
    save(folder / "t1.nii.gz", np.where(ORIGINAL["t1"] > 150, np.nan, ORIGINAL["t1"]).astype(np.float32))


def spoil_dimensions(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.stack([ORIGINAL["t1"]] * 2, axis=-1), AFFINE), folder / "t1.nii.gz")


def spoil_labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: (save(folder / "seg.nii.gz", change(ORIGINAL["seg"])), None)[1]


def other_weights(folder: Path) -> None:
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")


CASES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "missing file": (lambda folder: None, ["flair=absent.nii.gz"], "absent.nii.gz does not exist"),
    "another world": (lambda folder: save(folder / "seg.nii.gz", ORIGINAL["seg"], AFFINE + FAR), [], "beside the T1"),
    "unknown label": (spoil_labels(lambda seg: np.where(seg == 2, np.float32(9), seg)), [], "unknown label 9"),
    "no tumor": (spoil_labels(lambda seg: 0 * seg), [], "both masks are empty"),
    "NaN": (spoil_t1, [], "NaN"),
    "4-D": (spoil_dimensions, [], "4-D"),
    "unwritable out": (lambda folder: None, ["out=case/t1.nii.gz/out", "weights=none"], "cannot be written"),
    "unknown key": (lambda folder: None, ["nonsense=1"], "nonsense"),
    "no such weights": (lambda folder: None, ["weights=7"], "no weights 7"),
    "weights of another network": (other_weights, ["weights=case/other.safetensors"], "another program"),
    "labels that are no lists": (lambda folder: None, ["labels={core: 1, edema: 2}"], "list of whole numbers"),
    "no space": (lambda folder: None, ["space=moon"], "space=moon is unknown"),
    "a pushed atlas": (lambda folder: None, ["model=mass_effect", "space=atlas"], "use space=patient"),
    "a coupling that pulls": (lambda folder: None, ["model=mass_effect", "model.coupling=-1"], "finite and >= 0"),
    "empty FLAIR": (
        lambda folder: save(folder / "flair.nii.gz", 0 * ORIGINAL["t1"]),
        [],
        "flair.nii.gz is nowhere positive",
    ),
    "out among the inputs": (
        lambda folder: save(folder / "core.nii.gz", np.float32(np.isin(ORIGINAL["seg"], (1, 4)))),
        ["core=case/core.nii.gz", "edema=case/core.nii.gz", "out=case", "weights=none"],
        "would overwrite",
    ),
    "a file of one's own where an answer goes": (
        lambda folder: save(folder / "core.nii.gz", np.float32(np.isin(ORIGINAL["seg"], (1, 4)))),
        ["out=case", "weights=none"],
        "nothing says that an answer left it",
    ),
    "a name of a place": (lambda folder: None, ["name=a/b"], "cannot name a folder"),
    "no search": (lambda folder: None, ["model=mass_effect", "push.evaluations=0"], "push with 0"),
    "no labels": (lambda folder: None, ["labels=null"], "labels=None"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a patient in `case`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "case").mkdir()
    for role, array in ORIGINAL.items():
        save(tmp_path / "case" / f"{role}.nii.gz", array)
    return tmp_path / "case"


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_exit_2(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, arguments, said = CASES[name]
    spoil(folder)
    monkeypatch.setattr(run, "load_anatomy", tiny_anatomy)
    chosen = [] if any(argument.startswith("out=") for argument in arguments) else ["out=answer"]
    monkeypatch.setattr(sys, "argv", ["morph.run", "case=case", *arguments, *chosen])
    with pytest.raises(SystemExit) as ended:
        run_command(run.main, "run")
    stderr = capsys.readouterr().err
    assert ended.value.code == 2
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    assert said in stderr
    assert not list(folder.parent.rglob("parameters.json"))
    assert not (folder.parent / "answer").exists()


def test_the_real_command_does_the_same(folder: Path) -> None:
    spoil_t1(folder)
    ended = subprocess.run(
        [sys.executable, "-m", "morph.run", "case=case", "out=answer"],
        capture_output=True, text=True, cwd=folder.parent,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert not (folder.parent / "answer").exists()
