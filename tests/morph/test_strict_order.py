"""A density with no two voxels alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine import InputError
from morph.strict_order import FLOOR, order_strictly

MM = np.ones(3)


@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(np.float32, (5, 4, 6), elements=st.sampled_from([0, 1e-14, 5e-5, FLOOR, 0.3, 0.30000001, 1])),
    st.integers(0, 2**32 - 1),
)
def test_values_are_distinct_positive_and_in_the_densitys_order(density: np.ndarray, seed: int) -> None:
    brain = np.random.default_rng(seed).random(density.shape) < 0.8
    brain[2, 2, 2], density[2, 2, 2] = True, 1
    ordered = order_strictly(density, brain, MM)
    values, given_ones = ordered[brain], density[brain]
    assert ordered.dtype == np.float32 and values.min() > 0 and np.all(ordered[~brain] == 0)
    assert np.unique(values).size == brain.sum()
    present = given_ones >= FLOOR
    rising = np.argsort(values)
    assert np.all(np.diff(np.where(present, given_ones, 0)[rising]) >= 0)
    assert np.all(values[~present] < FLOOR) and values.max() <= 1
    assert np.abs(values - given_ones)[present].max() < 1e-5


def test_beyond_the_support_the_nearer_voxel_is_the_higher() -> None:
    density = np.zeros((9, 1, 1), dtype=np.float32)
    density[4] = 0.5
    density[8] = 1e-5
    ordered = order_strictly(density, np.ones_like(density, dtype=bool), MM)[:, 0, 0]
    assert np.argmax(ordered) == 4 and ordered[4] == 0.5
    assert np.all(np.diff(ordered[:5]) > 0) and np.all(np.diff(ordered[4:]) < 0)
    assert ordered[8] > ordered[0]


def test_what_is_outside_follows_what_is_inside() -> None:
    density = np.zeros((9, 1, 1), dtype=np.float32)
    density[4] = 0.5
    inside = np.arange(9)[:, None, None] < 6
    ordered = order_strictly(density, inside, MM, beyond=True)[:, 0, 0]
    assert ordered[:6].min() > ordered[6] > ordered[7] > ordered[8] > 0
    np.testing.assert_array_equal(np.argsort(ordered)[3:], np.argsort(order_strictly(density, inside, MM)[:, 0, 0])[3:])


def test_of_equal_densities_the_deeper_is_the_higher() -> None:
    density = np.zeros((11, 11, 11), dtype=np.float32)
    density[3:8, 3:8, 3:8] = 1
    ordered = order_strictly(density, np.ones_like(density, dtype=bool), MM)
    assert ordered[5, 5, 5] == ordered.max() == 1
    assert ordered[density == 1].min() >= 1 - 125 * np.finfo(np.float32).eps


def test_a_million_voxels_of_full_density_stay_close_to_it() -> None:
    density = np.ones((100, 100, 100), dtype=np.float32)
    ordered = order_strictly(density, density > 0, MM)
    assert np.unique(ordered).size == density.size and ordered.min() > 0.94


def test_nothing_to_order_by_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to order"):
        order_strictly(np.zeros((3, 3, 3), np.float32), np.ones((3, 3, 3), bool), MM)
