"""Laws: what every simulated tumor obeys, whatever its parameters and its brain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benches.numpy_reference import solve
from engine import Atlas, FisherKolmogorovParameters, Grid, InputError, nearest_tissue, simulate
from engine.backends.cpu import CpuBackend
from tests.conftest import build_ellipsoid_brain

BRAIN = build_ellipsoid_brain(20, 4.0)
TISSUE = np.argwhere(BRAIN.tissue)


@st.composite
def tumors(draw: st.DrawFn) -> FisherKolmogorovParameters:
    """A tumor of the paper's ranges (shorter), somewhere in tissue."""
    voxel = TISSUE[draw(st.integers(0, len(TISSUE) - 1))]
    return FisherKolmogorovParameters(
        diffusivity=draw(st.floats(0.02, 1.5)),
        proliferation=draw(st.floats(0.002, 0.2)),
        duration=draw(st.floats(50, 300)),
        origin=tuple(BRAIN.grid.from_voxel(voxel).tolist()),
    )


@settings(max_examples=30, deadline=None)
@given(tumors())
def test_density_stays_between_zero_and_one_and_inside_tissue(tumor):
    density = simulate([tumor], BRAIN).density[0]
    assert density.min() >= 0
    assert density.max() <= 1
    assert not density[~BRAIN.tissue].any()


@settings(max_examples=15, deadline=None)
@given(tumors())
def test_blocks_and_cutoff_change_nothing_against_plain_numpy(tumor):
    np.testing.assert_allclose(simulate([tumor], BRAIN).density[0], solve(tumor, BRAIN), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(tumors(), st.integers(0, 2**31))
def test_diffusion_alone_conserves_mass(tumor, seed):
    still = FisherKolmogorovParameters(tumor.diffusivity, 0.0, tumor.duration, tumor.origin)
    start = np.random.default_rng(seed).random(BRAIN.grid.shape).astype(np.float32) * BRAIN.tissue
    end = simulate([still], BRAIN, initial=start[None]).density[0]
    assert end.sum(dtype=np.float64) == pytest.approx(start.sum(dtype=np.float64), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.002, 0.2), st.floats(50, 300))
def test_a_uniform_density_follows_the_logistic(c0, rho, duration):
    tumor = FisherKolmogorovParameters(0.3, rho, duration, tuple(BRAIN.grid.from_voxel(TISSUE[0]).tolist()))
    start = np.where(BRAIN.tissue, c0, 0)[None]
    end = simulate([tumor], BRAIN, initial=start).density[0][BRAIN.tissue]
    expected = c0 / (c0 + (1 - c0) * np.exp(-rho * duration))
    np.testing.assert_allclose(end, expected, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(tumors(), st.sampled_from([2.0, 4.0, 0.5]))
def test_scaling_time_gives_the_same_tumor_bit_for_bit(tumor, a):
    scaled = FisherKolmogorovParameters(
        a * tumor.diffusivity, a * tumor.proliferation, tumor.duration / a, tumor.origin
    )
    first, second = simulate([tumor, scaled], BRAIN).density
    assert np.array_equal(first, second)


@settings(max_examples=10, deadline=None)
@given(tumors(), st.permutations(range(3)), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_mirrored_and_turned_brains_give_mirrored_and_turned_tumors(tumor, order, mirror):
    axes = [axis for axis, flip in enumerate(mirror) if flip]

    def move(values):
        return np.flip(values.transpose(order), axes)

    moved = Atlas(move(BRAIN.white_matter), move(BRAIN.gray_matter), move(BRAIN.csf), BRAIN.grid)
    origin = [tumor.origin[axis] for axis in order]
    origin = tuple(1 - o if flip else o for o, flip in zip(origin, mirror, strict=True))
    twin = FisherKolmogorovParameters(tumor.diffusivity, tumor.proliferation, tumor.duration, origin)
    expected = move(simulate([tumor], BRAIN).density[0])
    np.testing.assert_allclose(simulate([twin], moved).density[0], expected, atol=2e-5)


def test_nothing_crosses_a_closed_face():
    white = np.ones((12, 6, 6), dtype=np.float32)
    white[6] = 0
    wall = np.zeros_like(white)
    wall[6] = 1
    atlas = Atlas(white, np.zeros_like(white), wall, Grid((12, 6, 6), 4.0))
    tumor = FisherKolmogorovParameters(1.0, 0.1, 300, (0.2, 0.5, 0.5))
    density = simulate([tumor], atlas).density[0]
    assert density[:6].min() > 0.9
    assert not density[6:].any()


def test_results_do_not_depend_on_threads_or_batch():
    batch = [
        FisherKolmogorovParameters(d, 0.1, 120, tuple(BRAIN.grid.from_voxel(TISSUE[n]).tolist()))
        for d, n in ((0.1, 50), (0.9, 500), (0.4, 900), (1.4, 1200))
    ]
    one = simulate(batch, BRAIN, backend=CpuBackend(1)).density
    assert np.array_equal(one, simulate(batch, BRAIN, backend=CpuBackend(3)).density)
    assert np.array_equal(one[2], simulate(batch[2:3], BRAIN).density[0])


def test_a_tumor_stopped_as_too_big_would_have_stayed_too_big():
    batch = [
        FisherKolmogorovParameters(d, r, 200, tuple(BRAIN.grid.from_voxel(TISSUE[700]).tolist()))
        for d in (0.05, 0.3, 1.0) for r in (0.02, 0.05, 0.15)
    ]  # fmt: skip
    stopped, full = simulate(batch, BRAIN, stop_volume=60.0), simulate(batch, BRAIN)
    assert {"too_big", "duration"} == set(stopped.ended)
    for row, ended in enumerate(stopped.ended):
        assert (full.volumes[row] > 60.0) == (ended == "too_big" or stopped.volumes[row] > 60.0)
    assert stopped.updates.sum() < full.updates.sum()


def test_stopping_returns_a_completed_step():
    tumor = FisherKolmogorovParameters(0.5, 0.1, 300, tuple(BRAIN.grid.from_voxel(TISSUE[700]).tolist()))
    stopped = simulate([tumor], BRAIN, stop_volume=20.0)
    assert stopped.ended == ("too_big",)
    assert 20.0 < stopped.volumes[0] < simulate([tumor], BRAIN).volumes[0]


def test_an_origin_outside_tissue_is_refused_and_can_be_moved():
    outside = (0.42, 0.5, 0.55)
    with pytest.raises(InputError, match="outside tissue"):
        simulate([FisherKolmogorovParameters(0.1, 0.1, 100, outside)], BRAIN)
    moved = nearest_tissue(outside, BRAIN)
    assert simulate([FisherKolmogorovParameters(0.1, 0.1, 100, moved)], BRAIN).density.max() > 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((-0.1, 0.1, 100.0, (0.5, 0.5, 0.5)), "diffusivity"),
        ((0.1, float("nan"), 100.0, (0.5, 0.5, 0.5)), "proliferation"),
        ((0.1, 0.1, 0.0, (0.5, 0.5, 0.5)), "duration"),
        ((0.1, 0.1, 100.0, (0.5, 1.5, 0.5)), "origin"),
    ],
)
def test_unphysical_parameters_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        FisherKolmogorovParameters(*values)


def test_bad_calls_are_refused_in_a_sentence():
    tumor = FisherKolmogorovParameters(0.1, 0.1, 100, tuple(BRAIN.grid.from_voxel(TISSUE[0]).tolist()))
    with pytest.raises(InputError, match="backend"):
        simulate([tumor], BRAIN, backend="gpu9")
    with pytest.raises(InputError, match="scheme"):
        simulate([tumor], BRAIN, scheme="magic")
    with pytest.raises(InputError, match="shape"):
        simulate([tumor], BRAIN, initial=np.zeros((2, 3, 3, 3)))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        simulate([tumor], BRAIN, initial=np.full((1, *BRAIN.grid.shape), 2.0))
