"""A tiny patient for the tests of morph: an ellipsoid with a tumor, written in any orientation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

if TYPE_CHECKING:
    from morph.inference import Brain

SHAPE = (22, 26, 20)
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4.0, 0, -55], [0, 0, 4.0, -38], [0, 0, 0, 1]])

Arrays = dict[str, np.ndarray]


def make_arrays() -> Arrays:
    """T1, labels (BraTS 2020) and FLAIR in RAS, float32 (x, y, z); no axis is like another."""
    x, y, z = (np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")).T / SHAPE).T
    brain = ((x - 0.5) / 0.42) ** 2 + ((y - 0.5) / 0.44) ** 2 + ((z - 0.5) / 0.40) ** 2 <= 1
    t1 = np.where(brain, 100 + 40 * np.sin(5 * x + 1) + 30 * np.cos(7 * y) + 20 * z, 0).astype(np.float32)
    distance = np.sqrt((x - 0.65) ** 2 + (y - 0.4) ** 2 + (z - 0.5) ** 2)
    labels = np.zeros(SHAPE, dtype=np.float32)
    labels[brain & (distance < 0.25)] = 2
    labels[brain & (distance < 0.15)] = 4
    labels[brain & (distance < 0.08)] = 1
    return {"t1": t1, "seg": labels, "flair": make_flair(t1, labels)}


def make_flair(t1: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """FLAIR, darker where a T1 is bright and much brighter in a tumor, float32 (x, y, z)."""
    return np.where(t1 > 0, 80 - 0.2 * t1 + 60.0 * (labels > 0), 0).astype(np.float32)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, axes: str = "RAS") -> Path:
    """Write a RAS array in another orientation of the same world."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    turned = apply_orientation(array, change)
    nib.save(nib.Nifti1Image(turned, affine @ inv_ornt_aff(change, array.shape)), path)
    return path


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Path]:
    """A function `(axes="RAS", **changed arrays)` that writes a patient's folder with BraTS names."""

    def write(axes: str = "RAS", **changed: np.ndarray) -> Path:
        folder = tmp_path / f"case_{axes}"
        folder.mkdir(exist_ok=True)
        for role, array in (make_arrays() | changed).items():
            save(folder / f"{role}.nii.gz", array, axes=axes)
        return folder

    return write


@pytest.fixture(scope="session")
def brain() -> Brain:
    """The tiny atlas."""
    from tests.morph.same_place import tiny_brain

    return tiny_brain()


@pytest.fixture
def tiny_command(monkeypatch: pytest.MonkeyPatch, brain: Brain) -> Callable[..., int]:
    """The command in this process, on the tiny atlas, without ANTs, without a network, and with a stub of a report."""
    from engine.command import compose
    from morph import outputs, run
    from tests.morph.same_place import SamePlace, tiny_anatomy

    quick = ["weights=none", "refinement.evaluations=24", "refinement.fine_evaluations=0"]
    quick += ["posterior.simulations=240", "posterior.rounds=6", "posterior.fine_simulations=60"]
    quick += ["posterior.observations=14"]
    monkeypatch.setattr(run.KeptRegistration, "register", lambda self, *images: SamePlace())
    monkeypatch.setattr(run, "prepare_brain", lambda anatomy, weights: brain)
    monkeypatch.setattr(run, "load_anatomy", tiny_anatomy)
    monkeypatch.setattr(outputs, "write_report", lambda path, **about: path.write_text(about["patient"].name))
    return lambda *overrides: run.main(compose("run", [*quick, *overrides]))
