"""Answers laid out as a BIDS derivatives dataset, read by BIDS' own validator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine import InputError
from morph.bids import describe
from morph.layout import PARAMETERS, PRODUCTS, Layout, lay_out, subject_of
from morph.outputs import MARK, prepare_folder
from morph.summary import SUMMARY
from tests.morph.conftest import AFFINE, SHAPE, make_arrays, save

RECORD = {"method": "refined", "verdict": "pass", "thresholds": {"core": 0.7, "edema": 0.3}}
INTENDED = {"TOO_FEW_AUTHORS"}
"""Warnings that are the user's to answer: only they know the authors."""


def validate(dataset: Path) -> dict[str, set[str]]:
    """Codes of the issues that the validator finds, by severity."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    ended = subprocess.run([program, "--format", "json", dataset], capture_output=True, text=True, timeout=120)
    found: dict[str, set[str]] = {"error": set(), "warning": set()}
    for issue in json.loads(ended.stdout)["issues"]["issues"]:
        found[issue["severity"]].add(issue["code"])
    return found


@pytest.fixture
def dataset(tmp_path: Path) -> Layout:
    """A subject that has every file that there is."""
    layout = Layout(tmp_path / "dataset", "sub-a1")
    for name, product in PRODUCTS.items():
        path = layout.place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        if product.kind != "other":
            image = nib.Nifti1Image(np.ones(SHAPE, np.float32 if product.kind == "share" else np.uint8), AFFINE)
            image.header.set_xyzt_units("mm")
            nib.save(image, path)
    (layout.root / SUMMARY).write_text("case\n")
    layout.registration.mkdir(exist_ok=True)
    (layout.registration / "affine.mat").write_bytes(b"")
    for path, text in describe(layout, PRODUCTS, {"seg": tmp_path / "seg.nii.gz"}, RECORD).items():
        path.write_text(text)
    return layout


def test_every_product_passes_the_validator(dataset: Layout) -> None:
    found = validate(dataset.root)
    assert (found["error"], found["warning"] - INTENDED) == (set(), set())
    (dataset.root / "sub-a1" / "anat" / "stray.nii.gz").write_bytes(b"")
    assert validate(dataset.root)["error"]


def test_sidecars_say_what_an_image_is_and_comes_from(dataset: Layout, tmp_path: Path) -> None:
    density, core = (
        json.loads(dataset.beside(name, ".json").read_text()) for name in ("density.nii.gz", "core.nii.gz")
    )
    assert density["Thresholds"] == RECORD["thresholds"] and density["Method"] == "refined"
    assert core["Type"] == "Lesion" and core["Sources"] == [(tmp_path / "seg.nii.gz").resolve().as_uri()]
    for source in density["Sources"]:
        assert (dataset.root / source.removeprefix("bids::")).is_file()


def test_a_new_answer_leaves_nothing_of_an_older_one(dataset: Layout) -> None:
    description = dataset.root / "dataset_description.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"Authors": ["somebody"]}))
    with pytest.raises(InputError, match="nothing says that an answer left it"):
        prepare_folder(dataset)
    assert dataset.place("density.nii.gz").exists()
    (dataset.folder / MARK).touch()
    prepare_folder(dataset)
    left = {path.name for path in dataset.folder.rglob("*") if path.is_file()}
    assert left == {"affine.mat", MARK}
    assert description not in describe(dataset, ["density.nii.gz"], {}, RECORD)


def test_the_command_writes_either_layout(
    tmp_path: Path, case: Callable[..., Path], tiny_command: Callable[..., int]
) -> None:
    folder, out = case().rename(tmp_path / "patient_7-b"), tmp_path / "out"
    assert tiny_command(f"case={folder}", f"out={out}", "layout=bids") == 0
    layout = Layout(out, "sub-patient7b")
    assert json.loads(layout.place(PARAMETERS).read_text())["method"] == "refined"
    np.testing.assert_allclose(nib.load(layout.place("density.nii.gz")).affine, nib.load(folder / "t1.nii.gz").affine)
    assert validate(out)["error"] == set()


def test_answers_are_kept_out_of_a_raw_subject(tmp_path: Path, tiny_command: Callable[..., int]) -> None:
    folder = tmp_path / "raw" / "sub-1"
    folder.mkdir(parents=True)
    for role, array in make_arrays().items():
        save(folder / f"{role}.nii.gz", array)
    with pytest.raises(InputError, match="would put the answer among the images"):
        tiny_command(f"case={folder}", f"out={tmp_path / 'raw'}", "layout=bids")
    assert sorted(path.name for path in folder.rglob("*")) == ["flair.nii.gz", "seg.nii.gz", "t1.nii.gz"]


def test_names_are_distinct_in_either_layout() -> None:
    for layout in (Layout(Path("out")), Layout(Path("out"), "sub-1")):
        assert len(set(layout.every_file())) == len(list(layout.every_file()))


def test_what_cannot_be_laid_out_is_refused() -> None:
    with pytest.raises(InputError, match="layout=tree is unknown: use flat or bids"):
        lay_out("tree", Path("out"), "a")
    assert subject_of("sub-Brats18_TCIA01") == "sub-Brats18TCIA01"
    with pytest.raises(InputError, match="no letter or digit"):
        subject_of("--")
