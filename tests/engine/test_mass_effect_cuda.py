"""The mass-effect model's CUDA kernel: it compiles for every GPU, and equals its CPU twin, both without a GPU."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import (
    GRIDS,
    PRIORS,
    Atlas,
    InputError,
    MassEffectParameters,
    SimulationResult,
    elasticity,
    load_atlas,
    simulate,
)
from engine.acceptance import accept_rows
from engine.backends.cpu import CpuBackend
from engine.backends.cuda import GROWTH, CudaBackend
from engine.elasticity import Elasticity, v_cycle
from engine.mass_effect_on_device import LEVEL_FIELDS, PUSH, lay_out_levels
from engine.model import Model
from tests.conftest import build_ellipsoid_brain
from tests.engine import host_device
from tests.engine.brains import random_brain, random_tumors
from tests.engine.compilers import compile_cubin, run_under_sanitizer
from tests.engine.host_device import HostDevice, build, on_host
from tests.engine.test_elasticity import lame_fields, ragged_brain

ORIGIN = (0.60, 0.55, 0.5)
FIELDS = ("density", "white_matter", "gray_matter", "csf", "displacement")


@pytest.fixture(scope="module")
def push_library(tmp_path_factory) -> Path:
    """The kernel, compiled for the host."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    return build(on_host(PUSH), tmp_path_factory.mktemp("push"))


@pytest.fixture
def device(push_library) -> HostDevice:
    return HostDevice({PUSH.name: push_library})


@pytest.fixture
def exact_sums(monkeypatch) -> None:
    """The CPU sums over a whole grid as the kernel does, in double precision."""
    monkeypatch.setattr(elasticity, "_dot", lambda a, b: float(np.multiply(a, b, dtype=np.float64).sum()))


def both(batch: list[MassEffectParameters], atlas: Atlas, device: HostDevice, **options):
    return (simulate(batch, atlas, backend=backend, **options) for backend in (CpuBackend(), CudaBackend(device)))


def assert_same(expected: SimulationResult, result: SimulationResult) -> None:
    """Every number is equal, to the last bit."""
    for name in FIELDS:
        assert np.array_equal(getattr(result, name), getattr(expected, name)), name
    assert result.ended == expected.ended
    for name in ("updates", "solves", "iterations", "minimum_jacobian", "folded"):
        assert [getattr(p, name) for p in result.pushed] == [getattr(p, name) for p in expected.pushed], name


def pushes(seed: int, atlas: Atlas, count: int) -> list[MassEffectParameters]:
    """Short tumors of any kind; the first one does not push."""
    return [
        MassEffectParameters(0.2 * tumor.diffusivity, 0.1 + tumor.proliferation, 30.0, tumor.origin, 4.0 * n)
        for n, tumor in enumerate(random_tumors(seed, atlas, count))
    ]


@pytest.mark.parametrize("seed", range(2))
def test_the_kernel_equals_its_twin_bit_for_bit(seed, device, exact_sums):
    atlas = random_brain(seed)
    expected, result = both(pushes(seed, atlas, host_device.CTAS + 1), atlas, device, stop_volume=1.0)
    assert_same(expected, result)
    assert len(device.launches) == 1
    assert max(p.solves for p in result.pushed) > 10
    assert set(result.ended) == {"duration", "too_big"}


@pytest.mark.parametrize("spacing", [2.0, 1.0])
def test_a_displacement_on_coarser_voxels_is_carried_alike(spacing, device, exact_sums):
    atlas = build_ellipsoid_brain(24, spacing)
    tumor = MassEffectParameters(0.004 * spacing**2, 0.15, 60, ORIGIN)
    expected, result = both([tumor], atlas, device)
    assert_same(expected, result)
    assert np.abs(result.displacement).max() > 0.1 * spacing


def test_any_initial_density_is_advanced_alike(device, exact_sums):
    atlas = random_brain(5)
    initial = np.random.default_rng(5).random((2, *atlas.grid.shape)).astype(np.float32)
    initial[1] = 0
    expected, result = both(pushes(5, atlas, 2), atlas, device, initial=initial)
    assert_same(expected, result)


def test_with_the_cpus_own_sums_the_difference_is_rounding(device):
    atlas = build_ellipsoid_brain(24, 4.5)
    batch = [MassEffectParameters(0.15, 0.10, 100, ORIGIN, coupling) for coupling in (6.0, 16.0)]
    expected, result = both(batch, atlas, device)
    for name in FIELDS:
        scale = max(1.0, float(np.abs(getattr(expected, name)).max()))
        assert np.abs(getattr(result, name) - getattr(expected, name)).max() <= 1e-5 * scale, name
    assert [p.iterations for p in result.pushed] == [p.iterations for p in expected.pushed]


def test_a_solve_that_does_not_converge_ends_its_own_simulation_only(device, exact_sums, monkeypatch):
    monkeypatch.setattr(elasticity, "MAX_ITERATIONS", 1)
    atlas = build_ellipsoid_brain(24, 4.5)
    batch = [MassEffectParameters(0.15, 0.10, 60, ORIGIN, coupling) for coupling in (16.0, 0.0, 8.0)]
    with pytest.warns(UserWarning, match="2 of 3 tumors could not be solved for"):
        expected, result = both(batch, atlas, device)
    assert_same(expected, result)
    assert result.ended == ("not_converged", "duration", "not_converged")


def test_a_batch_larger_than_memory_is_cut(push_library, exact_sums):
    atlas = random_brain(1)
    device = HostDevice({PUSH.name: push_library}, memory=6_000_000)
    expected, result = both(pushes(1, atlas, 4), atlas, device)
    assert_same(expected, result)
    assert len(device.launches) > 1


def test_a_brain_larger_than_memory_is_refused(push_library):
    atlas = random_brain(1)
    backend = CudaBackend(HostDevice({PUSH.name: push_library}, memory=100_000))
    with pytest.raises(InputError, match="device memory"):
        simulate(pushes(1, atlas, 1), atlas, backend=backend)


@pytest.fixture(scope="module")
def solve_library(tmp_path_factory) -> Path:
    """The displacement solve by itself, in double precision, compiled for the host."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    parts = Path(__file__).with_name("solve_parts.cu")
    constants = {**PUSH.constants, "REAL": "double"}
    kernel = replace(PUSH, name="solve_part", sources=(*PUSH.sources, parts), constants=constants)
    return build(on_host(kernel), tmp_path_factory.mktemp("solve"))


@pytest.mark.parametrize("shape", [(16, 20, 24), (32, 16, 16)])
def test_the_solve_equals_its_twin_in_double_precision_too(shape, solve_library, exact_sums):
    rng = np.random.default_rng(8)
    brain = ragged_brain(rng, shape)
    solver = Elasticity(brain, 3.0, np.float64)
    lam, mu = lame_fields(rng, shape)
    solver.set_lame(lam, mu)
    force = solver.push(np.where(brain, rng.random(shape), 0))
    solver.levels[0].b[...] = force
    u, _ = run_part(solve_library, solver, force, lam, mu, part=0)
    assert np.array_equal(u, v_cycle(solver.levels))
    u, iterations = run_part(solve_library, solver, force, lam, mu, part=1)
    np.testing.assert_allclose(u, solver.solve(force, tolerance=1e-6), rtol=0, atol=1e-13)
    assert iterations == solver.iterations > 5


def run_part(library: Path, solver: Elasticity, force, lam, mu, part: int) -> tuple[np.ndarray, int]:
    """What the kernel makes of it, and in how many iterations."""
    u, report = np.zeros_like(force), np.zeros(1, np.int64)
    own = np.zeros(LEVEL_FIELDS * sum(level.inside.size for level in solver.levels))
    numbers = (np.int32(len(solver.levels)), np.int32(part), np.float64(1e-6), np.int32(elasticity.MAX_ITERATIONS))
    arrays = [u, force.copy(), lam, mu, *lay_out_levels(solver), own, np.zeros_like(u)]
    host_device.launch(library, 1, host_device.THREADS, part, [*arrays, *numbers, report])
    return u, int(report[0])


def test_a_data_set_of_the_kernel_is_the_cpus(push_library, library, exact_sums):
    device = HostDevice({PUSH.name: push_library, GROWTH.name: library})
    prior = replace(PRIORS["whole_brain"], name="small", duration=(50.0, 100.0), size=(3.0, 60.0))
    brain, model = build_ellipsoid_brain(16, 6.0), Model("mass_effect", (0.0, 25.0))
    expected, rows = (
        accept_rows(range(2), 1, "converged", brain, prior, backend, screened=True, model=model)
        for backend in (CpuBackend(), CudaBackend(device))
    )
    assert rows[1] == expected[1]
    for row, other in zip(rows[0], expected[0], strict=True):
        assert (row["proposal"], row["parameters"]) == (other["proposal"], other["parameters"])
        assert np.array_equal(row["density"], other["density"])
        assert np.array_equal(row["displacement"], other["displacement"])


def test_a_sanitizer_sees_no_race(tmp_path):
    atlas = random_brain(3, shortest=13)  # two grids
    recorder = HostDevice({})
    recorder.launch = lambda kernel, ctas, arguments: recorder.launches.append((ctas, list(arguments))) or (0.0, 0.0)
    batch = [replace(tumor, duration=4.0) for tumor in pushes(3, atlas, 2)]
    simulate(batch, atlas, backend=CudaBackend(recorder))
    ((ctas, arguments),) = recorder.launches
    assert run_under_sanitizer(PUSH, ctas, arguments, tmp_path) == 0


@pytest.mark.parametrize(
    "architecture",
    [pytest.param("sm_80", marks=pytest.mark.slow), "sm_90", pytest.param("sm_100", marks=pytest.mark.slow)],
)
def test_nvrtc_compiles_the_kernel(architecture):
    log, code = compile_cubin(PUSH, architecture)
    assert PUSH.name.encode() in code
    assert GROWTH.name.encode() + b"\0" not in code
    assert "warning" not in log, log
    assert "Used 80 registers" in log, log


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu_in_a_brain():
    atlas = load_atlas("sri24", GRIDS["half"])
    batch = pushes(0, atlas, 8)
    expected, result = (simulate(batch, atlas, backend=name, stop_volume=200.0) for name in ("cpu", "cuda"))
    assert result.ended == expected.ended
    for first, second in zip(result.pushed, expected.pushed, strict=True):
        assert np.abs(first.displacement - second.displacement).max() < 0.02
        assert np.abs(first.density - second.density).mean() < 1e-5
