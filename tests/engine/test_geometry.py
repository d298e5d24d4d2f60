"""Geometry: grids, atlases and the anatomies that ship with packages."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import GRIDS, Atlas, Grid, InputError, load_anatomy, load_atlas
from engine.atlas import box_average


@given(st.tuples(*[st.floats(0, 1)] * 3), st.floats(0.5, 8), st.tuples(*[st.floats(-200, 200)] * 3))
def test_places_convert_back_and_forth(origin, spacing, corner):
    grid = Grid((12, 20, 16), spacing, corner)
    np.testing.assert_allclose(grid.from_world(grid.to_world(origin)), origin, atol=1e-9)
    np.testing.assert_allclose(grid.from_voxel(grid.to_voxel(origin)), origin, atol=1e-12)
    by_affine = grid.affine[:3, :3] @ grid.to_voxel(origin) + grid.affine[:3, 3]
    np.testing.assert_allclose(by_affine, grid.to_world(origin), atol=1e-9)


def test_all_named_grids_cover_one_cube():
    assert {tuple(np.round(grid.extent, 9)) for grid in GRIDS.values()} == {(230.4, 230.4, 230.4)}


@pytest.mark.parametrize("bad", [{"shape": (0, 4, 4)}, {"spacing": -1.0}, {"corner": (0, 0, float("nan"))}])
def test_impossible_grids_are_refused(bad):
    with pytest.raises(InputError, match="grid"):
        Grid(**bad)


def test_the_tissue_rule():
    white = np.array([[[0.6, 0.3, 0.1, 0.0]]], dtype=np.float32)
    gray = np.array([[[0.2, 0.2, 0.1, 0.0]]], dtype=np.float32)
    csf = np.array([[[0.2, 0.5, 0.8, 0.0]]], dtype=np.float32)
    atlas = Atlas(white, gray, csf, Grid((1, 1, 4), 1.0))
    np.testing.assert_allclose(atlas.white_matter[0, 0], [0.75, 0.6, 0, 0])
    np.testing.assert_allclose(atlas.gray_matter[0, 0], [0.25, 0.4, 0, 0])
    np.testing.assert_allclose(atlas.csf[0, 0], [0, 0, 1, 0])
    assert atlas.tissue[0, 0].tolist() == [True, True, False, False]
    assert atlas.brain[0, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("white", "said"), [(1.5, "outside"), (-0.1, "outside"), (float("nan"), "outside"), (0.0, "no voxel")]
)
def test_impossible_fractions_are_refused(white, said):
    field = np.full((4, 4, 4), white, dtype=np.float32)
    with pytest.raises(InputError, match=said):
        Atlas(field, np.zeros_like(field), np.zeros_like(field), Grid((4, 4, 4), 1.0))
    with pytest.raises(InputError, match="shape"):
        Atlas(field, field, field, Grid((5, 4, 4), 1.0))


def test_box_average_keeps_the_integral_and_a_constant():
    rng = np.random.default_rng(0)
    values = rng.random((30, 30, 30)).astype(np.float32)
    grid = Grid((10, 10, 10), 5.0, (-7.3, -9.1, -8.2))
    mean = box_average(values, np.eye(4), grid)
    assert mean.sum() * 125 == pytest.approx(values.sum(), rel=1e-5)
    ones = box_average(np.ones((99, 99, 99), np.float32), np.eye(4), Grid((3, 3, 3), 5.0, (9.7, 9.0, 9.0)))
    np.testing.assert_allclose(ones, 1, atol=1e-6)


def test_sri24_is_the_brain_that_its_authors_describe():
    anatomy = load_anatomy("sri24")
    assert (anatomy.t1 > 0).sum() / 1000 == pytest.approx(1452, abs=1)
    assert anatomy.white_matter.sum() / 1000 == pytest.approx(510, abs=15)
    assert anatomy.gray_matter.sum() / 1000 == pytest.approx(588, abs=15)
    # T1 and maps are stored in different orientations: white matter is the brightest on T1 once they agree.
    assert anatomy.t1[anatomy.white_matter > 0.9].mean() > 1.2 * anatomy.t1[anatomy.gray_matter > 0.9].mean()


@pytest.mark.parametrize("name", ["sri24", "mni152"])
def test_atlases_lie_where_the_priors_expect_them(name):
    atlas = load_atlas(name, GRIDS["half"])
    present = np.argwhere(atlas.brain)
    center = atlas.grid.from_voxel((present.min(0) + present.max(0)) / 2)
    np.testing.assert_allclose(center, (0.425, 0.5, 0.425), atol=0.012)
    assert 1000 < atlas.tissue.sum() * atlas.grid.voxel_volume < 1900
    assert load_atlas(name, GRIDS["half"]).content_hash == atlas.content_hash


def test_a_users_own_atlas_and_its_mistakes(tmp_path):
    brain = np.zeros((24, 26, 22), dtype=np.float32)
    brain[4:20, 4:22, 4:18] = 1
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    paths = {}
    for key, values in {"t1": 100 * brain, "white_matter": brain, "gray_matter": 0 * brain, "csf": 0 * brain}.items():
        paths[key] = str(tmp_path / f"{key}.nii.gz")
        nib.save(nib.Nifti1Image(values, affine), paths[key])
    atlas = load_atlas(paths, GRIDS["quarter"])
    assert atlas.tissue.sum() * atlas.grid.voxel_volume == pytest.approx(brain.sum() * 8e-3, rel=0.25)
    nib.save(nib.Nifti1Image(brain[:-1], affine), paths["csf"])
    with pytest.raises(InputError, match="share one grid"):
        load_atlas(paths, GRIDS["quarter"])
    with pytest.raises(InputError, match="does not exist"):
        load_atlas(paths | {"t1": str(tmp_path / "none.nii.gz")}, GRIDS["quarter"])
    with pytest.raises(InputError, match="gray_matter"):
        load_atlas({"t1": paths["t1"]}, GRIDS["quarter"])
    with pytest.raises(InputError, match="unknown"):
        load_anatomy("colin")
