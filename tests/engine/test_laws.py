"""Laws: what every simulated tumor obeys, whatever its parameters and its brain."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benches.numpy_reference import solve
from engine import Atlas, FisherKolmogorovParameters, Grid, InputError, nearest_tissue, simulate, simulate_stream
from engine.backends.cpu import CpuBackend
from engine.domain import FACES, domain_of
from tests.conftest import build_ellipsoid_brain
from tests.engine.brains import Case, cases

BRAIN = build_ellipsoid_brain(20, 4.0)
TISSUE = np.argwhere(BRAIN.tissue)


LAW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@LAW
@given(cases())
def test_density_stays_between_zero_and_one_and_inside_tissue(backend, case):
    density = simulate([case.tumor], case.brain, backend=backend).density[0]
    assert density.min() >= 0
    assert density.max() <= 1
    assert not density[~case.brain.tissue].any()


@LAW
@given(cases())
def test_blocks_change_nothing_against_plain_numpy(backend, case):
    result = simulate([case.tumor], case.brain, backend=backend)
    np.testing.assert_allclose(result.density[0], solve(case.tumor, case.brain), atol=2e-6)
    assert result.volumes[0] == np.count_nonzero(result.density[0] >= 0.7) * case.brain.grid.voxel_volume


@LAW
@given(cases(), st.integers(0, 2**31))
def test_diffusion_alone_conserves_mass(backend, case, seed):
    still = replace(case.tumor, proliferation=0.0)
    rough = np.random.default_rng(seed).random(case.brain.grid.shape).astype(np.float32) * case.brain.tissue
    end = simulate([still], case.brain, backend=backend, initial=rough[None]).density[0]
    assert end.sum(dtype=np.float64) == pytest.approx(rough.sum(dtype=np.float64), rel=1e-5)


@LAW
@given(cases(), st.floats(0.01, 0.99))
def test_a_uniform_density_follows_the_logistic(backend, case, c0):
    tissue = case.brain.tissue
    end = simulate([case.tumor], case.brain, backend=backend, initial=np.where(tissue, c0, 0)[None]).density[0]
    expected = c0 / (c0 + (1 - c0) * np.exp(-case.tumor.proliferation * case.tumor.duration))
    np.testing.assert_allclose(end[tissue], expected, atol=1e-4)


@LAW
@given(cases(), st.sampled_from([2.0, 4.0, 0.5]))
def test_scaling_time_gives_the_same_tumor_bit_for_bit(backend, case, a):
    tumor = case.tumor
    scaled = FisherKolmogorovParameters(
        a * tumor.diffusivity, a * tumor.proliferation, tumor.duration / a, tumor.origin
    )
    first, second = simulate([tumor, scaled], case.brain, backend=backend).density
    assert np.array_equal(first, second)


@LAW
@given(cases(), st.permutations(range(3)), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_mirrored_and_turned_brains_give_mirrored_and_turned_tumors(backend, case, order, mirror):
    axes = [axis for axis, flip in enumerate(mirror) if flip]
    tumor, brain = case

    def move(values):
        return np.flip(values.transpose(order), axes)

    shape = tuple(brain.grid.shape[axis] for axis in order)
    moved = Atlas(*(move(v) for v in (brain.white_matter, brain.gray_matter, brain.csf)), Grid(shape, 4.0))
    origin = [tumor.origin[axis] for axis in order]
    origin = tuple(1 - o if flip else o for o, flip in zip(origin, mirror, strict=True))
    expected = move(simulate([tumor], brain, backend=backend).density[0])
    twin = simulate([replace(tumor, origin=origin)], moved, backend=backend).density[0]
    np.testing.assert_allclose(twin, expected, atol=2e-5)


@LAW
@given(cases())
def test_arithmetic_faces_are_at_least_harmonic_ones_and_open_the_same(case):
    harmonic, arithmetic = (domain_of(case.brain, mean).faces for mean in FACES)
    assert np.all(arithmetic >= harmonic * (1 - 1e-6))
    assert np.array_equal(arithmetic > 0, harmonic > 0)
    uniform = Atlas(case.brain.tissue * 1.0, 0 * case.brain.csf, case.brain.csf, case.brain.grid)
    assert np.array_equal(domain_of(uniform).faces, domain_of(uniform, "arithmetic").faces)


def test_nothing_crosses_a_closed_face(backend):
    white = np.ones((12, 6, 6), dtype=np.float32)
    white[6] = 0
    wall = np.zeros_like(white)
    wall[6] = 1
    atlas = Atlas(white, np.zeros_like(white), wall, Grid((12, 6, 6), 4.0))
    tumor = FisherKolmogorovParameters(1.0, 0.1, 300, (0.2, 0.5, 0.5))
    density = simulate([tumor], atlas, backend=backend).density[0]
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


def test_a_stream_may_look_at_what_came_out_before():
    durations, seen = [50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0], []

    def batch():
        for duration in durations:
            if seen and seen[-1].volume > 20.0:
                return
            origin = tuple(BRAIN.grid.from_voxel(TISSUE[700]).tolist())
            yield FisherKolmogorovParameters(0.3, 0.1, duration, origin)

    for one in simulate_stream(batch(), BRAIN, backend=CpuBackend(1)):
        seen.append(one)
    assert 1 < len(seen) < len(durations)
    assert seen[0].volume < seen[-1].volume


def test_densities_can_stay_where_they_were_computed(backend):
    case = Case(FisherKolmogorovParameters(0.3, 0.1, 60, tuple(BRAIN.grid.from_voxel(TISSUE[700]).tolist())), BRAIN)
    result = simulate([case.tumor] * 2, case.brain, backend=backend, on_device=True)
    assert np.array_equal(np.from_dlpack(result.density), simulate([case.tumor] * 2, case.brain).density)


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
    with pytest.raises(InputError, match="faces"):
        simulate([tumor], BRAIN, faces="geometric")
    with pytest.raises(InputError, match="scheme"):
        simulate([tumor], BRAIN, scheme="magic")
    with pytest.raises(InputError, match="shape"):
        simulate([tumor], BRAIN, initial=np.zeros((2, 3, 3, 3)))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        simulate([tumor], BRAIN, initial=np.full((1, *BRAIN.grid.shape), 2.0))


def test_a_batch_larger_than_memory_is_refused_before_it_starts(monkeypatch):
    tumor = FisherKolmogorovParameters(0.1, 0.1, 100, tuple(BRAIN.grid.from_voxel(TISSUE[0]).tolist()))
    monkeypatch.setattr(os, "sysconf", lambda name: 200)
    with pytest.raises(InputError, match="simulate_stream"):
        simulate([tumor] * 2, BRAIN)
    assert simulate([tumor], BRAIN).volumes.shape == (1,)
