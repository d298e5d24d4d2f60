"""The mapping between two grids: the stand-in shows on the coarse grid what the fine grid shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import Atlas, Grid, simulate
from engine.atlas import place
from engine.grid import block_mean
from morph.evidence import Estimate
from morph.resample import average_onto
from morph.space_mapping import SpaceMapping, _averaging, map_space
from morph.volume import Volume
from tests.morph.same_place import tiny_anatomy, tiny_brain

NARROW = Estimate(4.0, 4.5, (0.44, 0.47, 0.5))
"""A front of .9 mm on voxels of 5 and 2.5 mm."""
COARSE, FINE = tiny_brain().coarse, tiny_brain().fine


@pytest.fixture(scope="module")
def mapping() -> SpaceMapping:
    return map_space(COARSE, FINE, NARROW)


def volume_off(shown: Estimate, meant: Estimate) -> float:
    """Relative difference of the volumes where c >= 0.25."""
    coarse = simulate([shown.parameters()], COARSE).density[0]
    fine = simulate([meant.parameters()], FINE).density[0]
    return float(np.sum(coarse >= 0.25) * 8 / np.sum(fine >= 0.25) - 1)


def distance(shown: Estimate, meant: Estimate) -> float:
    """Sum of squared differences of the densities on the coarse grid."""
    coarse = simulate([shown.parameters()], COARSE).density[0]
    fine = averaged(simulate([meant.parameters()], FINE).density[0])
    return float(((coarse[COARSE.tissue] - fine) ** 2).sum())


def averaged(density: np.ndarray) -> np.ndarray:
    """Mean over the tissue of each coarse voxel, (n,)."""
    return (block_mean(density, 2) / np.maximum(block_mean(FINE.tissue.astype(np.float32), 2), 1e-6))[COARSE.tissue]


def test_a_narrow_front_is_too_fast_on_the_coarse_grid_and_its_stand_in_is_not(mapping: SpaceMapping) -> None:
    meant = mapping.center
    assert volume_off(meant, meant) > 0.15
    stand_in = mapping.stand_in(np.zeros(5))
    assert abs(volume_off(stand_in, meant)) < 0.05
    assert distance(stand_in, meant) < 0.2 * distance(meant, meant)


def test_what_the_search_found_is_the_stand_in_of_the_center(mapping: SpaceMapping) -> None:
    stand_in = mapping.stand_in(np.zeros(5))
    assert stand_in.mu1 * stand_in.mu2 == pytest.approx(NARROW.mu1 * NARROW.mu2, rel=0.03)
    assert np.linalg.norm((np.array(stand_in.origin) - NARROW.origin) * FINE.grid.extent) < 1.0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-0.4, 0.4])
def test_it_follows_the_path_and_the_width_of_the_front(mapping: SpaceMapping, axis: int, sign: float) -> None:
    at = sign * np.eye(5)[axis]
    mu1, mu2, origin = mapping.estimate(at)
    meant = Estimate(mu1, mu2, tuple(origin.tolist()))
    assert distance(mapping.stand_in(at), meant) < 0.1 * distance(meant, meant)
    if sign < 0 and axis == 1:  # the narrower the front, the more is to be mended
        fixed = replace(mapping, slope=np.zeros((5, 5)))
        assert distance(mapping.stand_in(at), meant) < 0.7 * distance(fixed.stand_in(at), meant)


@pytest.mark.parametrize("at", [np.zeros(5), np.array([0.2, -0.2, 0.1, 0.1, -0.1])])
def test_the_odds_mend_what_numbers_cannot(at: np.ndarray) -> None:
    mapping = map_space(COARSE, FINE, Estimate(9.0, 3.6, NARROW.origin))
    mu1, mu2, origin = mapping.estimate(at)
    meant = averaged(simulate([Estimate(mu1, mu2, tuple(origin.tolist())).parameters()], FINE).density[0])
    shown = simulate([mapping.stand_in(at).parameters()], COARSE).density[0][COARSE.tissue]
    corrected = mapping.correct(shown)
    assert corrected.min() >= 0 and corrected.max() <= 1
    left = ((corrected - meant) ** 2).sum() / ((shown - meant) ** 2).sum()
    assert left < (0.5 if at.any() else 1e-6)


def test_one_grid_needs_no_mapping() -> None:
    mapping = map_space(FINE, FINE, NARROW)
    for shown in (mapping.center, mapping.stand_in(np.zeros(5))):
        assert shown.origin == NARROW.origin
        assert (shown.mu1, shown.mu2) == pytest.approx((NARROW.mu1, NARROW.mu2), rel=1e-12)
    assert not mapping.odds.any() and not mapping.slope.any()


def test_grids_that_are_not_blocks_of_each_other_are_compared_too() -> None:
    odd = place(tiny_anatomy(), Grid((40, 40, 40), 3.5))
    mapping = map_space(odd, FINE, Estimate(9.0, 3.6, NARROW.origin))
    assert np.isfinite(mapping.offset).all() and np.abs(mapping.offset).max() < 3


def slab(grid: Grid) -> Atlas:
    """Tissue in some whole blocks of 2 voxels."""
    tissue = np.zeros(grid.shape, dtype=np.float32)
    tissue[6:10, 2:, 4:8] = 1
    return Atlas(tissue, 0 * tissue, 0 * tissue, grid, "slab")


def everywhere(grid: Grid) -> Atlas:
    ones = np.ones(grid.shape, dtype=np.float32)
    return Atlas(ones, 0 * ones, 0 * ones, grid, "all")


@pytest.mark.parametrize(("spacing", "corner"), [(1.27, (22.1, 2.5, -19.0)), (1.298, (47.3, 39.0, 32.2))])
def test_a_coarse_voxel_beside_the_tissue_has_no_share_of_it(spacing: float, corner: tuple[float, ...]) -> None:
    """These grids' planes coincide up to rounding."""
    fine, coarse = Grid((16, 16, 16), spacing, corner), Grid((8, 8, 8), 2 * spacing, corner)  # type: ignore[arg-type]
    averaging = _averaging(slab(fine), everywhere(coarse))
    present = block_mean(slab(fine).white_matter, 2).ravel() > 0
    np.testing.assert_array_equal(averaging.present, present)
    density = np.random.default_rng(0).uniform(size=fine.shape).astype(np.float32)
    expected = np.where(present, block_mean(density, 2).ravel(), 0)
    np.testing.assert_allclose(averaging.of(density), expected, atol=1e-6)


def test_a_density_is_averaged_over_the_tissue_of_any_grid() -> None:
    fine, coarse = Grid((18, 18, 18), 1.8, (3.3, -7.1, 0.9)), Grid((9, 9, 9), 3.7, (3.3, -7.1, 0.9))
    brain = slab(fine)
    averaging = _averaging(brain, everywhere(coarse))
    density = np.random.default_rng(0).uniform(size=fine.shape).astype(np.float32)
    tissue = brain.white_matter
    held, share = (average_onto(Volume(v, fine.affine), coarse).ravel() for v in (density * tissue, tissue))
    assert 0 < averaging.present.sum() < averaging.present.size
    expected = np.divide(held, share, out=np.zeros_like(held), where=averaging.present)
    np.testing.assert_allclose(averaging.of(density), expected, atol=2e-6)


def test_a_tumor_that_fills_the_brain_on_both_grids_tells_nothing_and_breaks_nothing() -> None:
    mapping = map_space(COARSE, FINE, Estimate(20.0, 12.0, NARROW.origin))
    assert np.isfinite(mapping.offset).all() and np.isfinite(mapping.odds).all()
