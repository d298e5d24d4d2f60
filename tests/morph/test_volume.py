"""Contract of the file border: what is read is RAS, what is written lies as the T1 did, bad files are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine import InputError
from morph.volume import Volume, read_volume, read_with_frame, write_volume
from tests.morph.conftest import AFFINE, make_arrays, save

ORIENTATIONS = ("RAS", "LPS", "LAS", "PSR", "AIL")


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_reads_as_the_same_volume(tmp_path: Path, axes: str) -> None:
    t1 = make_arrays()["t1"]
    volume = read_volume(save(tmp_path / "t1.nii.gz", t1, axes=axes))
    np.testing.assert_array_equal(volume.array, t1)
    np.testing.assert_allclose(volume.affine, AFFINE)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_written_volumes_lie_as_the_t1_lies(tmp_path: Path, axes: str) -> None:
    path = save(tmp_path / "t1.nii.gz", make_arrays()["t1"], axes=axes)
    volume, frame = read_with_frame(path)
    write_volume(tmp_path / "copy.nii.gz", volume, frame)
    original, copy = nib.load(path), nib.load(tmp_path / "copy.nii.gz")
    assert nib.aff2axcodes(copy.affine) == tuple(axes)
    np.testing.assert_allclose(copy.affine, original.affine, atol=1e-5)
    np.testing.assert_array_equal(copy.get_fdata(), original.get_fdata())


def test_oblique_volumes_keep_their_affine(tmp_path: Path) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    path = save(tmp_path / "t1.nii.gz", make_arrays()["t1"], affine, axes="LPS")
    volume, frame = read_with_frame(path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    write_volume(tmp_path / "copy.nii.gz", volume, frame)
    np.testing.assert_allclose(nib.load(tmp_path / "copy.nii.gz").affine, nib.load(path).affine, atol=1e-5)


def test_world_and_voxel_coordinates_invert() -> None:
    volume = Volume(make_arrays()["t1"], AFFINE)
    voxels = np.array([[0.0, 0, 0], [3.5, 7, 2.25]])
    np.testing.assert_allclose(volume.to_voxel(volume.to_world(voxels)), voxels)
    np.testing.assert_allclose(volume.to_world([0, 0, 0]), AFFINE[:3, 3])


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "absent.nii.gz")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(broken)
    cut = save(tmp_path / "whole.nii.gz", make_arrays()["t1"])
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(cut)


def test_four_dimensions_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(make_arrays()["t1"][..., None], AFFINE), tmp_path / "series.nii.gz")
    with pytest.raises(InputError, match="is 4-D"):
        read_volume(tmp_path / "series.nii.gz")


def test_nan_is_refused(tmp_path: Path) -> None:
    t1 = make_arrays()["t1"]
    t1[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="1 NaN"):
        read_volume(save(tmp_path / "t1.nii.gz", t1))


def test_sheared_voxels_are_refused(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 1.0
    image = nib.Nifti1Image(make_arrays()["t1"], None)
    image.set_sform(sheared, code=1)
    nib.save(image, tmp_path / "t1.nii.gz")
    with pytest.raises(InputError, match="sheared"):
        read_volume(tmp_path / "t1.nii.gz")


def test_another_grid_than_the_t1s_is_refused(tmp_path: Path) -> None:
    arrays = make_arrays()
    t1 = read_volume(save(tmp_path / "t1.nii.gz", arrays["t1"]))
    with pytest.raises(InputError, match="has shape"):
        read_volume(save(tmp_path / "small.nii.gz", arrays["seg"][:-1]), like=t1)
    moved = AFFINE.copy()
    moved[0, 3] += 2.0
    with pytest.raises(InputError, match=r"2\.0 mm away"):
        read_volume(save(tmp_path / "moved.nii.gz", arrays["seg"], moved), like=t1)
    read_volume(save(tmp_path / "turned.nii.gz", arrays["seg"], axes="LPS"), like=t1)
