"""A brain's tissue told apart by brightness, and where Colin27 is looked for."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine import InputError
from morph.colin27 import PLACE, load_colin27


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A T1 of three shells, dark outside and bright inside, with noise; 0 beyond. And which shell is where, 1 to 3."""
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(-16, 16)] * 3, indexing="ij")), axis=0)
    shell = np.select([radius < 7, radius < 11, radius < 15], [3, 2, 1], 0)
    noise = np.random.default_rng(0).normal(0, 5, shell.shape)
    t1 = np.where(shell > 0, np.array([0, 40, 80, 110])[shell] + noise, 0).astype(np.float32)
    path = tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(t1, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path, shell


def test_tissue_is_told_apart_by_brightness(layers: tuple[Path, np.ndarray]) -> None:
    path, shell = layers
    brain = load_colin27(path)
    for map_, number in ((brain.csf, 1), (brain.gray_matter, 2), (brain.white_matter, 3)):
        assert map_[shell == number].mean() > 0.95
    total = brain.csf + brain.gray_matter + brain.white_matter
    np.testing.assert_allclose(total[shell > 0], 1, atol=1e-3)
    assert total[shell == 0].max() == 0
    assert brain.name == "colin27"


def test_a_missing_brain_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mricron-data"):
        load_colin27(tmp_path / "ch2bet.nii.gz")


@pytest.mark.skipif(not PLACE.exists(), reason="mricron-data is not installed")
def test_colin27_is_a_brain() -> None:
    brain = load_colin27()
    litres = [float(m.sum()) / 1e6 for m in (brain.csf, brain.gray_matter, brain.white_matter)]
    assert litres == pytest.approx([0.25, 0.79, 0.69], abs=0.05)
