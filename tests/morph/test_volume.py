"""Contract of the file border: what is read is RAS, what is written lies as the T1 did, bad files are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine import InputError
from morph.volume import Volume, read_volume, read_with_frame, share_grid, write_vectors, write_volume
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
    whole = save(tmp_path / "whole.nii.gz", make_arrays()["t1"])
    for damage in (lambda data: data[:3000], lambda data: data[:2000] + bytes(64) + data[2064:]):
        (tmp_path / "damaged.nii.gz").write_bytes(damage(whole.read_bytes()))
        with pytest.raises(InputError, match="cannot be read"):
            read_volume(tmp_path / "damaged.nii.gz")


def test_broken_headers_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "t1.nii", make_arrays()["t1"])
    header = path.read_bytes()
    for offset in (70, 40):  # the type of the numbers, the count of dimensions
        path.write_bytes(header[:offset] + b"\x7f\x7f" + header[offset + 2 :])
        with pytest.raises(InputError, match="cannot be read") as refusal:
            read_volume(path)
        assert "\n" not in str(refusal.value)


def test_colors_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    colors = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array in (colors, np.zeros((4, 4, 4), dtype=np.complex64)):
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "t1.nii.gz")
        with pytest.raises(InputError, match="colors or complex"):
            read_volume(tmp_path / "t1.nii.gz")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(make_arrays()["t1"], AFFINE), tmp_path / "t1.mgz")
    with pytest.raises(InputError, match="is not a NIfTI image"):
        read_volume(tmp_path / "t1.mgz")


def test_a_guessed_orientation_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(make_arrays()["t1"], None)
    nib.save(image, tmp_path / "t1.nii.gz")
    with pytest.raises(InputError, match="how it is oriented"):
        read_volume(tmp_path / "t1.nii.gz")
    image.set_qform(AFFINE, code=1)
    nib.save(image, tmp_path / "t1.nii.gz")
    np.testing.assert_allclose(read_volume(tmp_path / "t1.nii.gz").affine, AFFINE)


@pytest.mark.parametrize(("unit", "taken"), [("mm", True), ("unknown", True), ("micron", False), ("meter", False)])
def test_only_millimeters_are_taken(tmp_path: Path, unit: str, taken: bool) -> None:
    image = nib.Nifti1Image(make_arrays()["t1"], AFFINE)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "t1.nii.gz")
    if taken:
        read_volume(tmp_path / "t1.nii.gz")
    else:
        with pytest.raises(InputError, match="not in mm"):
            read_volume(tmp_path / "t1.nii.gz")


def test_axes_are_right_handed_however_the_file_lies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # a rotation or a reflection
        affine = np.eye(4)
        affine[:3, :3] = axes * rng.uniform(0.5, 4, 3)
        nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.float32), affine), tmp_path / "t1.nii")
        assert np.linalg.det(read_volume(tmp_path / "t1.nii").affine) > 0


@pytest.mark.parametrize(("sform", "qform"), [(4, 1), (0, 1), (2, 0)])
def test_written_volumes_keep_the_world_of_the_t1(tmp_path: Path, sform: int, qform: int) -> None:
    image = nib.Nifti1Image(make_arrays()["t1"], None)
    image.set_sform(AFFINE, code=sform)
    image.set_qform(AFFINE, code=qform)
    nib.save(image, tmp_path / "t1.nii.gz")
    write_volume(tmp_path / "copy.nii.gz", *read_with_frame(tmp_path / "t1.nii.gz"))
    copy = nib.load(tmp_path / "copy.nii.gz").header
    assert (int(copy["sform_code"]), int(copy["qform_code"])) == (sform, qform)
    assert copy.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(copy.get_best_affine(), AFFINE)


def test_a_fourth_axis_is_refused_unless_it_holds_one_volume(tmp_path: Path) -> None:
    t1 = make_arrays()["t1"]
    for count in (1, 2):
        nib.save(nib.Nifti1Image(np.stack([t1] * count, axis=-1), AFFINE), tmp_path / f"{count}.nii.gz")
    volume, frame = read_with_frame(tmp_path / "1.nii.gz")
    assert volume.array.shape == frame.shape == t1.shape
    np.testing.assert_array_equal(volume.array, read_volume(save(tmp_path / "t1.nii.gz", t1)).array)
    with pytest.raises(InputError, match="is 4-D"):
        read_volume(tmp_path / "2.nii.gz")


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


def test_grids_are_told_apart(tmp_path: Path) -> None:
    arrays = make_arrays()
    t1 = read_volume(save(tmp_path / "t1.nii.gz", arrays["t1"]))
    moved = AFFINE.copy()
    moved[0, 3] += 2.0
    assert not share_grid(read_volume(save(tmp_path / "small.nii.gz", arrays["seg"][:-1])), t1)
    assert not share_grid(read_volume(save(tmp_path / "moved.nii.gz", arrays["seg"], moved)), t1)
    assert share_grid(read_volume(save(tmp_path / "turned.nii.gz", arrays["seg"], axes="LPS")), t1)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_vectors_lie_as_the_t1_and_point_along_the_world(tmp_path: Path, axes: str) -> None:
    path = save(tmp_path / "t1.nii.gz", make_arrays()["t1"], axes=axes)
    volume, frame = read_with_frame(path)
    vectors = np.stack([volume.array + component for component in range(3)])
    write_vectors(tmp_path / "vectors.nii.gz", vectors, frame)
    written, t1 = nib.load(tmp_path / "vectors.nii.gz"), nib.load(path)
    assert written.shape == (*t1.shape, 1, 3)
    assert written.header.get_intent()[0] == "displacement vector"
    np.testing.assert_allclose(written.affine, t1.affine, atol=1e-5)
    for component in range(3):
        np.testing.assert_allclose(written.get_fdata()[..., 0, component], t1.get_fdata() + component, rtol=1e-6)
