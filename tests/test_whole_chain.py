"""The whole road at 32³ on the real atlas: generate, train, evaluate, infer a patient, write the answer."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine import GRIDS, load_anatomy, open_store
from engine.command import compose
from engine.generate import main as generate
from learn.evaluate import main as evaluate
from learn.train import main as train
from morph.inference import prepare_brain
from morph.layout import Layout
from morph.outputs import prepare_folder, write_outputs
from morph.pipeline import run_pipeline
from morph.refine import RefinementSettings
from morph.targets import TargetSettings, target_volumes
from morph.twin import compare, make_twin
from tests.morph.same_place import SamePlace


class Identity(SamePlace):
    """The registration of the atlas to itself."""

    affine_scale = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 48 tumors at 32³ and a network trained on it for two epochs."""
    folder = tmp_path_factory.mktemp("chain")
    store = folder / "fk.zarr"
    assert generate(compose("generate", ["samples=48", "grid=quarter", f"out={store}"])) == 0
    settings = [
        "network.filters=4",
        "epochs=2",
        "batch_size=16",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
    ]
    train(compose("train", [f"data={store}", f"out={folder / 'train'}", *settings]))
    return folder


def test_an_evaluation_simulates_every_prediction_again(folder: Path) -> None:
    weights = folder / "train" / "fk_joint_quarter.safetensors"
    out = folder / "evaluation"
    evaluate(compose("evaluate", [f"data={folder / 'fk.zarr'}", f"weights={weights}", "split=train", f"out={out}"]))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["count"] == int((open_store(folder / "fk.zarr").split == "train").sum())
    assert 0 < metrics["dice_0.1_median"] <= 1
    assert metrics["mae_csf"] == 0
    assert "dice_0.1" in (out / "table.md").read_text()


def test_a_patient_gets_an_answer_from_these_weights(folder: Path) -> None:
    anatomy = load_anatomy("sri24")
    twin = make_twin(2, anatomy, GRIDS["quarter"])
    brain = prepare_brain(anatomy, str(folder / "train" / "fk_joint_quarter.safetensors"), GRIDS["half"])
    search = RefinementSettings(evaluations=60, fine_evaluations=0)
    answer = run_pipeline(twin.patient, brain, Identity(), search)
    assert answer.method == "refined"
    assert answer.estimate is not None
    assert (compare(twin, answer)["dice_0.1"] or 0) > 0.6
    prepare_folder(Layout(folder / "patient"))
    targets = target_volumes(twin.patient, answer, TargetSettings())
    write_outputs(Layout(folder / "patient"), twin.patient, answer, brain, targets, {})
    density = nib.load(folder / "patient" / "density.nii.gz")
    assert density.shape == twin.patient.t1.array.shape
    assert np.allclose(density.affine, twin.patient.t1.affine)
    assert twin.patient.name in (folder / "patient" / "report.html").read_text()
    assert json.loads((folder / "patient" / "parameters.json").read_text())["verdict"] in ("pass", "warn")
