"""Acceptance: the screen only saves time, and what it rejects would have been rejected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import GRIDS, PRIORS, Atlas, Grid, load_atlas
from engine.acceptance import accept_rows
from engine.backends.cpu import CpuBackend
from tests.conftest import build_ellipsoid_brain

FINE = build_ellipsoid_brain(48, 2.0)
PRIOR = replace(PRIORS["whole_brain"], duration=(50.0, 300.0), size=(5.0, 80.0))


@pytest.mark.parametrize("rows", [range(12), range(40, 45)])
def test_the_screen_changes_no_row(rows):
    screened, tried = accept_rows(rows, 3, "converged", FINE, PRIOR, CpuBackend(2), screened=True)
    plain, tried_without = accept_rows(rows, 3, "converged", FINE, PRIOR, CpuBackend(1), screened=False)
    assert [row["proposal"] for row in screened] == [row["proposal"] for row in plain]
    assert tried == tried_without == sum(row["proposal"] + 1 for row in plain)
    for one, other in zip(screened, plain, strict=True):
        assert np.array_equal(one["density"], other["density"])


def test_rows_do_not_depend_on_which_are_asked_for_together():
    together, _ = accept_rows(range(8), 5, "converged", FINE, PRIOR, CpuBackend(2))
    alone, _ = accept_rows(range(6, 7), 5, "converged", FINE, PRIOR, CpuBackend(2))
    assert np.array_equal(alone[0]["density"], together[6]["density"])


def test_a_tumor_that_only_just_reaches_the_size_density_is_not_screened_out():
    """This one has 7.9 ml at c >= 0.7 on voxels of 3.6 mm, and 14.8 ml on those of 1.8 mm."""
    atlas = load_atlas("sri24", GRIDS["full"])
    (row,), _ = accept_rows(range(829, 830), 0, "converged", atlas, PRIORS["whole_brain"], CpuBackend(1))
    assert row["proposal"] == 0


@pytest.mark.parametrize("shape", [(24, 25, 26), (7, 8, 9)])
def test_a_coarsened_brain_covers_the_same_place(shape):
    white = np.zeros(shape, dtype=np.float32)
    white[2:6, 2:6, 2:6] = 1
    atlas = Atlas(white, 0 * white, 0 * white, Grid(shape, 2.0, (1.0, 2.0, 3.0)))
    coarse = atlas.coarsened()
    assert coarse.grid.corner == atlas.grid.corner
    assert coarse.grid.spacing == 4.0
    assert np.array_equal(np.argwhere(coarse.tissue).min(axis=0), [1, 1, 1])
    assert coarse.tissue.sum() * 8 == atlas.tissue.sum()
