"""The benchmark's container: its files in, a strictly ordered density out, a sentence where something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import voxel_sizes

from engine import InputError
from engine.command import BAD_INPUT
from morph import predict_gbm
from morph.in_place import SameWorld, personalize_in_place
from morph.inference import Brain
from morph.posterior import PosteriorSettings
from morph.predict_gbm import RIM, find_cases, find_files, read_case
from morph.refine import RefinementSettings
from morph.registration import grow_mask
from morph.strict_order import FLOOR
from morph.volume import read_volume
from tests.morph.conftest import AFFINE, SHAPE, make_arrays, save
from tests.morph.same_place import KnowingNetwork

ARRAYS = make_arrays()
BRAIN = ARRAYS["t1"] > 0
LABELS = np.where(ARRAYS["seg"] == 4, 3, ARRAYS["seg"]).astype(np.float32)
QUICK = {
    RefinementSettings: RefinementSettings(evaluations=24, fine_evaluations=0),
    PosteriorSettings: PosteriorSettings(simulations=240, rounds=6, fine_simulations=60, observations=14.0),
}
SEARCH = QUICK[RefinementSettings]
MAPS = {"wm": 0.7 * BRAIN, "gm": 0.3 * BRAIN, "csf": 0.0 * BRAIN}
Run = Callable[..., int]


def write_case(folder: Path, axes: str = "RAS", name: str = "00000", **changed: np.ndarray | None) -> Path:
    """A patient as the benchmark hands it over; a role that is changed to None is left out."""
    case = folder / f"Patient-{name}"
    case.mkdir(parents=True)
    for role, array in (MAPS | {"tumorseg": LABELS} | changed).items():
        if array is not None:
            save(case / f"{name}-{role}.nii.gz", array.astype(np.float32), axes=axes)
    return folder


@pytest.fixture
def run(tmp_path: Path, brain: Brain, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The container's command in this process on a written case, with the tiny atlas and a short search."""
    monkeypatch.setattr(predict_gbm, "prepare_brain", lambda anatomy, weights: brain)
    monkeypatch.setattr(predict_gbm, "load_anatomy", lambda name: None)
    monkeypatch.setattr(predict_gbm, "build", lambda kind, *arguments, **fixed: QUICK[kind])
    monkeypatch.setenv("LMI_OUTPUT", str(tmp_path / "io1"))

    def start(axes: str = "RAS", **changed: np.ndarray | None) -> int:
        monkeypatch.setenv("LMI_INPUT", str(write_case(tmp_path / "io0", axes, **changed)))
        return predict_gbm.main()

    return start


def delivered(folder: Path, inside: np.ndarray = BRAIN) -> np.ndarray:
    """The output in RAS, held against the contract."""
    image = nib.load(folder / "io1" / "00000.nii.gz")
    given = nib.load(folder / "io0" / "Patient-00000" / "00000-tumorseg.nii.gz")
    assert image.get_data_dtype() == np.float32 and image.shape == given.shape
    np.testing.assert_allclose(image.affine, given.affine)
    values = read_volume(folder / "io1" / "00000.nii.gz").array
    assert values[inside].min() > 0 and np.unique(values[inside]).size == inside.sum()
    if list((folder / "io0" / "Patient-00000").glob("*-brain_mask.*")):
        assert np.all(values[~inside] == 0)
        return values
    shown = list((folder / "io0" / "Patient-00000").glob("*-t1c.*"))
    reach = grow_mask(inside, voxel_sizes(AFFINE), 0.0 if shown else RIM)
    assert np.unique(values).size == values.size and 0 < values[~inside].min() < values[~inside].max() < FLOOR
    assert values[~reach].max() < values[reach].min()
    return values


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS"])
def test_the_contract_holds_in_every_orientation(tmp_path: Path, run: Run, axes: str) -> None:
    assert run(axes) == 0
    values = delivered(tmp_path)
    assert values[LABELS == 1].min() > np.median(values[LABELS == 2]) > FLOOR > values[BRAIN].min()


@pytest.mark.parametrize(("changed", "inside"), [
    ({"tumorseg": np.where(LABELS > 0, 2, 0)}, BRAIN),
    ({"tumorseg": np.where(LABELS == 2, 0, LABELS)}, BRAIN),
    ({"tumorseg": np.where(np.indices(SHAPE)[0] == 5, BRAIN * 3, LABELS)}, BRAIN),
    ({"brain_mask": BRAIN & (np.indices(SHAPE)[2] > 4)}, BRAIN & (np.indices(SHAPE)[2] > 4)),
    ({"t1c": ARRAYS["t1"] * (1 + (LABELS > 2)), "flair": ARRAYS["flair"]}, BRAIN),
    ({"t1c": np.where(np.indices(SHAPE)[0] % 7 == 0, -0.5 * ~BRAIN, ARRAYS["t1"] * (1 + (LABELS > 2)))}, BRAIN),
], ids=["edema alone", "no edema", "second focus", "brain mask", "images", "negative and dark voxels"])  # fmt: skip
def test_what_may_be_missing_or_more(
    tmp_path: Path, run: Run, changed: dict[str, np.ndarray], inside: np.ndarray
) -> None:
    assert run(**changed) == 0
    delivered(tmp_path, inside)


def test_a_fallback_is_an_answer(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    csf = np.where(LABELS > 0, 1.0, MAPS["csf"])
    assert run(csf=csf, wm=MAPS["wm"] * (csf == 0), gm=MAPS["gm"] * (csf == 0)) == 0
    values = delivered(tmp_path)
    assert "fallback, verdict fail" in capsys.readouterr().out
    assert values[LABELS == 3].min() > values[LABELS == 2].max()


@pytest.mark.parametrize(("changed", "message"), [
    ({"tumorseg": 0 * LABELS}, "tumorseg.nii.gz is empty: the method needs a visible tumor"),
    ({"tumorseg": np.where(LABELS == 2, 7, LABELS)}, "unknown label 7"),
    ({"gm": 255 * MAPS["gm"]}, "from 0 to 76.5: give fractions from 0 to 1"),
    ({"csf": None}, "has no 00000-csf.nii.gz: each patient needs wm, gm, csf, tumorseg"),
    ({"gm": MAPS["gm"][:-1]}, "lies on another grid than 00000-wm.nii.gz"),
    ({"brain_mask": 0 * BRAIN}, "shows no brain"),
    ({"tumorseg": np.where(BRAIN, 0, 3), "brain_mask": BRAIN}, "outside the brain"),
])  # fmt: skip
def test_bad_input_is_one_sentence_and_no_output(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], changed: dict[str, np.ndarray], message: str
) -> None:
    assert run(**changed) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "io1").exists()


def test_maps_that_miss_the_tumor_and_the_brains_rim_leave_no_zeros(tmp_path: Path, run: Run) -> None:
    narrow = BRAIN & (LABELS == 0) & (np.indices(SHAPE)[0] > 5)
    assert run(wm=0.7 * narrow, gm=0.3 * narrow) == 0
    values = read_volume(tmp_path / "io1" / "00000.nii.gz").array
    rim = grow_mask(narrow | (LABELS > 0), voxel_sizes(AFFINE), RIM)
    assert values.min() > 0 and np.unique(values).size == values.size and rim.sum() > np.count_nonzero(narrow)
    assert values[rim].min() > values[~rim].max()
    assert values[LABELS == 3].min() > np.median(values[BRAIN & rim])


def test_a_brain_that_exceeds_the_cube_gets_the_fallback(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morph.in_place.share_in_cube", lambda patient, grid: 0.97)
    assert run() == 0
    said = capsys.readouterr().out
    assert "inside the cube" in said and "fallback, verdict fail" in said
    delivered(tmp_path)


def test_help_is_help_and_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict_gbm.main(["--help"]) == 0
    assert "LMI_INPUT" in capsys.readouterr().out
    assert predict_gbm.main(["in=data"]) == BAD_INPUT
    assert "in=data is not understood" in capsys.readouterr().err


def test_a_bad_patient_does_not_stop_the_others(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "io0", name="00001")
    write_case(tmp_path / "io0", name="00002")
    (tmp_path / "io0" / "Patient-00002" / "00002-csf.nii.gz").unlink()
    (tmp_path / "io1").mkdir()
    (tmp_path / "io1" / "00002.nii.gz").write_bytes(b"an older answer")
    assert run(tumorseg=0 * LABELS) == BAD_INPUT
    said = capsys.readouterr().err
    assert "error: 00000: " in said and "error: 00002: " in said and "has no 00002-csf.nii.gz" in said
    assert [path.name for path in (tmp_path / "io1").iterdir()] == ["00001.nii.gz"]


def test_an_empty_input_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder Patient-ID"):
        find_cases(tmp_path)


def test_on_the_atlas_own_grid_the_network_starts_the_search(tmp_path: Path, brain: Brain) -> None:
    network = KnowingNetwork(brain.coarse.grid, brain.coarse.content_hash)
    knowing = replace(brain, estimator=network)  # type: ignore[arg-type]
    (folder,) = find_cases(write_case(tmp_path)).values()
    patient = read_case("00000", find_files(folder, "00000"))
    answer = personalize_in_place(patient, knowing, SEARCH, lambda sentence: None)
    assert answer.start == "network" and "network_finite" in {check.name for check in answer.checks}
    elsewhere = replace(patient.t1, affine=AFFINE + np.array([[0, 0, 0, 9.0], *[[0] * 4] * 3]))
    maps = [replace(m, affine=elsewhere.affine) for m in patient.tissue.maps]  # type: ignore[union-attr]
    tissue = replace(patient.tissue, white_matter=maps[0], gray_matter=maps[1], csf=maps[2])  # type: ignore[type-var]
    moved = replace(patient, t1=elsewhere, tissue=tissue)
    assert personalize_in_place(moved, knowing, SEARCH, lambda sentence: None).start == "masks"
    with pytest.raises(InputError, match="only with its own tissue maps"):
        personalize_in_place(replace(patient, tissue=None), knowing, SEARCH, lambda sentence: None)


def test_the_command_asks_the_network_on_the_atlas_own_grid(
    brain: Brain, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    knowing = replace(brain, estimator=KnowingNetwork(brain.coarse.grid, brain.coarse.content_hash))  # type: ignore[arg-type]
    monkeypatch.setattr(predict_gbm, "prepare_brain", lambda anatomy, weights: knowing)
    assert run("LPS") == 0
    assert "starting from the network" in capsys.readouterr().out


def test_one_world_needs_no_warp(brain: Brain) -> None:
    volume = brain.t1.with_array(LABELS)
    for moved in (
        SameWorld().to_atlas(volume, brain.t1, "nearest"),
        SameWorld().to_patient(volume, brain.t1, "linear"),
    ):
        np.testing.assert_array_equal(moved.array, LABELS)


def test_the_containers_command_reads_and_writes_the_folders_that_it_is_told(tmp_path: Path) -> None:
    csf = np.where(LABELS > 0, 1.0, MAPS["csf"])
    write_case(tmp_path / "io0", csf=csf, wm=MAPS["wm"] * (csf == 0), gm=MAPS["gm"] * (csf == 0))
    write_case(tmp_path / "io0", name="00001", csf=None)
    folders = {"LMI_INPUT": str(tmp_path / "io0"), "LMI_OUTPUT": str(tmp_path / "io1")}
    command = [sys.executable, "-m", "morph.predict_gbm"]
    ended = subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, check=False)
    assert ended.returncode == BAD_INPUT
    assert ended.stderr.startswith("error: 00001: ") and ended.stderr.count("\n") == 1
    assert "Patient-00001 has no 00001-csf.nii.gz: each patient needs wm, gm, csf, tumorseg" in ended.stderr
    delivered(tmp_path)
    assert [path.name for path in (tmp_path / "io1").iterdir()] == ["00000.nii.gz"]
