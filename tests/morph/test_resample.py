"""Grids meet by world coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from engine import Grid
from engine.atlas import box_average
from engine.grid import block_mean
from morph.inference import majority
from morph.resample import average_onto, resample, spread_density
from morph.volume import Volume


@pytest.fixture(scope="module")
def lumps() -> Volume:
    """A smooth brain of 1.5 mm voxels that ends inside its image."""
    x, y, z = np.indices((24, 28, 20)) - np.array([11.5, 13.5, 9.5])[:, None, None, None]
    inside = (x / 9) ** 2 + (y / 11) ** 2 + (z / 7) ** 2 < 1
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = (-17.0, -20.0, -14.0)
    return Volume((inside * (3 + np.sin(x / 3) + np.cos(y / 4))).astype(np.float32), affine)


GRID = Grid((16, 16, 16), 3.0, (-24.0, -24.0, -24.0))


def test_means_are_those_of_exact_boxes(lumps: Volume) -> None:
    exact = box_average(lumps.array, lumps.affine, GRID)
    found = average_onto(lumps, GRID)
    assert np.abs(found - exact).mean() < 0.03 * exact.max()
    assert found.sum() == pytest.approx(exact.sum(), rel=0.01)


def read_point_by_point(volume: Volume, like: Volume, order: int) -> np.ndarray:
    """What SciPy finds at each voxel center of `like`; beyond the volume all is 0."""
    shape = like.array.shape
    voxels = np.indices(shape).reshape(3, -1)
    places = volume.to_voxel(like.to_world(voxels.T)).T
    return ndimage.map_coordinates(volume.array, places, order=order, mode="grid-constant").reshape(shape)


@pytest.mark.parametrize("edges", [(1.1, 0.7, 2.9), (-1.5, 1.5, -0.4)])
def test_straight_grids_are_read_as_interpolation_point_by_point_reads_them(
    lumps: Volume, edges: tuple[float, float, float]
) -> None:
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = [-edge * n / 2 for edge, n in zip(edges, (50, 90, 40), strict=True)]
    like = Volume(np.zeros((50, 90, 40), np.float32), affine)
    filled = lumps.array + 1  # it fades to 0 beyond its outermost voxels
    exact = read_point_by_point(lumps.with_array(filled), like, 1)
    assert (exact == 0).any() and exact.max() > 4
    assert np.abs(resample(lumps.with_array(filled), like, 1).array - exact).max() < 1e-5


def test_half_a_voxel_stays_half_a_voxel() -> None:
    array = np.zeros((48, 48, 48), np.float32)
    array[9:] = 1
    means = average_onto(Volume(array, np.eye(4)), Grid((12, 12, 12), 3.6, (-0.5, -0.5, -0.5)))
    assert means[2, 4, 4] == 0.5


def test_oblique_volumes_give_the_same_means(lumps: Volume) -> None:
    angle = 0.4
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned_affine = turn @ np.diag([1.0, 1.0, 1.0, 1.0]) @ lumps.affine
    blank = Volume(np.zeros((48, 48, 28), np.float32), turned_affine @ _shift(-12, -10, -4))
    oblique = resample(lumps, blank, 1)
    straight, slanted = average_onto(lumps, GRID), average_onto(oblique, GRID)
    assert np.corrcoef(straight.ravel(), slanted.ravel())[0, 1] > 0.99


def _shift(*voxels: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = voxels
    return affine


def test_coarse_means_are_means_of_fine_ones(lumps: Volume) -> None:
    fine = average_onto(lumps, GRID)
    coarse = block_mean(fine, 2)
    assert coarse.shape == GRID.coarsened(2).shape == (8, 8, 8)
    assert np.allclose(GRID.coarsened(2).extent, GRID.extent)
    assert coarse[3, 4, 2] == pytest.approx(fine[6:8, 8:10, 4:6].mean())


def test_masks_are_reduced_by_majority() -> None:
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[:4, :4, :4] = True
    mask[4, 4, 4] = True
    volume = Volume(mask.astype(np.float32), np.eye(4))
    grid = Grid((4, 4, 4), 2.0, (-0.5, -0.5, -0.5))
    reduced = majority(average_onto(volume, grid))
    assert reduced[:2, :2, :2].all()
    assert reduced.sum() == 8
    volume.array[:4, :4, :4] = 0
    assert majority(average_onto(volume, grid)).sum() == 1
    volume.array[...] = 0
    assert majority(average_onto(volume, grid)).sum() == 0


def test_a_density_does_not_fade_towards_csf() -> None:
    inside = np.zeros((16, 16, 16), dtype=bool)
    inside[4:9] = True
    density = np.where(inside, np.float32(0.7), 0).astype(np.float32)
    like = Volume(np.zeros((48, 48, 48), np.float32), Grid((48, 48, 48), 1.0, GRID.corner).affine)
    spread = spread_density(density, inside, GRID, like).array
    assert spread[12:27, 24, 24] == pytest.approx(0.7)
    assert spread[:9].max() == spread[30:].max() == 0


def test_labels_keep_their_values(lumps: Volume) -> None:
    labels = lumps.with_array(np.round(lumps.array))
    like = Volume(np.zeros((30, 30, 30), np.float32), np.diag([1.1, 1.1, 1.1, 1.0]) @ _shift(-15, -15, -15))
    found = resample(labels, like, 0).array
    assert set(np.unique(found)) <= set(np.unique(labels.array))
    assert np.array_equal(found, read_point_by_point(labels, like, 0))
