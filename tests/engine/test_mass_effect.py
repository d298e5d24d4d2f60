"""The mass-effect model: the first model without coupling, and what pushing must and must not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import engine.elasticity as elasticity
from engine import Atlas, FisherKolmogorovParameters, Grid, InputError, MassEffectParameters, simulate
from engine.backends.cpu import CpuBackend
from engine.mass_effect import run
from tests.conftest import build_ellipsoid_brain
from tests.engine.brains import random_brain, random_tumors

BRAIN = build_ellipsoid_brain(28, 4.0)
ORIGIN = (0.60, 0.55, 0.5)
TUMOR = MassEffectParameters(0.15, 0.10, 130, ORIGIN)
TISSUES = ("white_matter", "gray_matter", "csf")


@pytest.fixture(scope="module")
def pushed():
    return run(TUMOR, BRAIN)


def test_without_coupling_the_numbers_are_the_first_models():
    for seed in range(6):
        brain = random_brain(seed)
        for tumor in random_tumors(seed, brain, 2):
            alone = simulate([tumor], brain, backend="cpu").density[0]
            coupled = MassEffectParameters(
                tumor.diffusivity, tumor.proliferation, tumor.duration, tumor.origin, 0.0
            )  # fmt: skip
            assert np.array_equal(run(coupled, brain).density, alone)


def test_with_hardly_any_coupling_cutting_the_run_into_intervals_changes_rounding_only():
    alone = simulate([TUMOR.growth], BRAIN, backend="cpu", accuracy=2).density[0]
    hardly = MassEffectParameters(0.15, 0.10, 130, ORIGIN, 1e-9)
    result = run(hardly, BRAIN, accuracy=2)
    assert result.solves >= 10
    np.testing.assert_allclose(result.density, alone, atol=2e-6)


def test_every_tissue_keeps_its_mass(pushed):
    assert np.abs(pushed.displacement).max() > 3
    for name in TISSUES:
        before, after = (float(getattr(brain, name).sum(dtype=np.float64)) for brain in (BRAIN, pushed))
        assert after == pytest.approx(before, rel=1e-5)
        assert not getattr(pushed, name)[~BRAIN.brain].any()


def test_without_proliferation_the_tumor_keeps_its_mass_and_its_place_in_the_brain():
    rng = np.random.default_rng(0)
    start = (0.8 * rng.random(BRAIN.grid.shape) * BRAIN.tissue).astype(np.float32)
    still = MassEffectParameters(0.3, 0.0, 100, ORIGIN)
    result = run(still, BRAIN, initial=start)
    assert result.density.sum(dtype=np.float64) == pytest.approx(start.sum(dtype=np.float64), rel=1e-5)
    assert not result.density[~BRAIN.brain].any()


def test_density_is_never_negative_and_hardly_above_one(pushed):
    assert pushed.density.min() >= 0
    assert 0.9 < pushed.highest_density < 1.2
    assert pushed.highest_density == pushed.density.max()


def test_the_displacement_points_outward_on_the_rim_of_the_tumor(pushed):
    visible = pushed.density >= 0.5
    grown = np.zeros_like(visible)
    for axis in range(3):
        grown |= np.roll(visible, 1, axis) | np.roll(visible, -1, axis)
    rim = np.argwhere(grown & ~visible & BRAIN.brain)
    outward = rim - np.argwhere(visible).mean(0)
    along = np.einsum("na,an->n", outward, pushed.displacement[:, rim[:, 0], rim[:, 1], rim[:, 2]])
    assert len(rim) > 100
    assert np.mean(along > 0) >= 0.95


def test_the_displacement_grows_with_the_coupling_and_vanishes_at_the_skull(pushed):
    furthest = [np.abs(run(MassEffectParameters(0.15, 0.10, 130, ORIGIN, g), BRAIN).displacement).max() for g in (4, 8)]
    assert 0 < furthest[0] < furthest[1] < np.abs(pushed.displacement).max()
    outside = ~BRAIN.brain
    for axis in range(3):
        outside &= ~(np.roll(BRAIN.brain, 1, axis) | np.roll(BRAIN.brain, -1, axis))
    assert not pushed.displacement[:, outside].any()


def test_scaling_time_gives_the_same_tumor_bit_for_bit(pushed):
    scaled = MassEffectParameters(0.30, 0.20, 65, ORIGIN)
    result = run(scaled, BRAIN)
    assert np.array_equal(result.density, pushed.density)
    assert np.array_equal(result.displacement, pushed.displacement)


def test_a_mirrored_brain_gives_a_mirrored_displacement(pushed):
    maps = [np.flip(getattr(BRAIN, name), 0) for name in TISSUES]
    mirrored = Atlas(*maps, BRAIN.grid)
    result = run(MassEffectParameters(0.15, 0.10, 130, (1 - ORIGIN[0], *ORIGIN[1:])), mirrored)
    np.testing.assert_allclose(np.flip(result.displacement[0], 0), -pushed.displacement[0], atol=0.05)
    np.testing.assert_allclose(np.flip(result.displacement[1], 0), pushed.displacement[1], atol=0.05)
    assert np.abs(np.flip(result.density, 0) - pushed.density).mean() < 2e-4


def test_shorter_intervals_come_closer_to_still_shorter_ones():
    exact = run(TUMOR, BRAIN, accuracy=5, tolerance=1e-5)
    errors = []
    for accuracy in (0.5, 1, 2):
        result = run(TUMOR, BRAIN, accuracy=accuracy, tolerance=1e-5)
        errors.append(float(np.abs(result.displacement - exact.displacement).mean()))
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_a_wider_and_a_tighter_residual_give_the_same_brain(pushed):
    tight = run(TUMOR, BRAIN, tolerance=1e-6)
    assert tight.iterations > pushed.iterations
    assert np.abs(tight.displacement - pushed.displacement).max() < 0.05
    assert np.abs(tight.density - pushed.density).mean() < 1e-4


def test_the_displacement_on_a_finer_grid_is_about_the_same():
    fine = build_ellipsoid_brain(56, 2.0)
    same, coarse = (run(TUMOR, fine, displacement_spacing=h).displacement for h in (2.0, 4.0))
    assert np.abs(same - coarse).mean() < 0.1 * np.abs(same).mean()


def test_too_big_a_tumor_is_stopped_at_the_end_of_an_interval(pushed):
    volume = np.count_nonzero(pushed.density >= 0.7) * BRAIN.grid.voxel_volume
    stopped = run(TUMOR, BRAIN, stop_volume=volume / 3)
    assert (pushed.ended, stopped.ended) == ("duration", "too_big")
    assert stopped.updates < pushed.updates


def test_simulate_takes_both_models_and_keeps_the_order_of_the_batch(pushed):
    batch = [MassEffectParameters(0.15, 0.10, duration, ORIGIN) for duration in (130, 40, 80, 130)]
    result = simulate(batch, BRAIN, backend=CpuBackend(2))
    assert np.array_equal(result.density[0], pushed.density)
    assert np.array_equal(result.density[3], pushed.density)
    assert np.array_equal(result.displacement[0], pushed.displacement)
    assert result.displacement.shape == (4, 3, *BRAIN.grid.shape)
    assert np.array_equal(result.csf[0], pushed.csf)
    assert result.volumes[1] < result.volumes[2] < result.volumes[0]
    assert np.array_equal(simulate(batch[2:3], BRAIN, backend=CpuBackend(1)).density[0], result.density[2])


def test_batches_of_two_models_and_settings_of_the_other_model_are_refused():
    with pytest.raises(InputError, match="one model"):
        simulate([TUMOR, TUMOR.growth], BRAIN)
    with pytest.raises(InputError, match="scheme"):
        simulate([TUMOR], BRAIN, scheme="gliomasolver")


def test_a_solve_that_does_not_converge_ends_the_simulation(monkeypatch):
    monkeypatch.setattr(elasticity, "MAX_ITERATIONS", 1)
    assert run(TUMOR, BRAIN, tolerance=1e-8).ended == "not_converged"
    with pytest.warns(UserWarning, match="1 of 1 tumors could not be solved for"):
        assert simulate([TUMOR], BRAIN).ended == ("not_converged",)


@pytest.mark.parametrize("coupling", [-1.0, float("nan"), float("inf")])
def test_unphysical_couplings_are_refused(coupling):
    with pytest.raises(InputError, match="coupling"):
        MassEffectParameters(0.1, 0.1, 100, ORIGIN, coupling)


def test_unphysical_growth_is_refused_as_in_the_first_model():
    with pytest.raises(InputError, match="duration"):
        MassEffectParameters(0.1, 0.1, -1, ORIGIN)


def test_invariants_are_the_first_models():
    tumor = MassEffectParameters.from_invariants(4.0, 3.5, ORIGIN, coupling=8.0)
    assert tumor.growth == FisherKolmogorovParameters.from_invariants(4.0, 3.5, ORIGIN)
    assert (tumor.mu1, tumor.mu2, tumor.coupling) == (pytest.approx(4.0), pytest.approx(3.5), 8.0)


def test_a_brain_that_fills_its_grid_is_held_at_the_edge_of_the_grid():
    white = np.ones((12, 12, 12), dtype=np.float32)
    atlas = Atlas(white, 0 * white, 0 * white, Grid((12, 12, 12), 4.0))
    result = run(MassEffectParameters(0.1, 0.2, 60, (0.5, 0.5, 0.5)), atlas)
    assert result.ended == "duration"
    assert result.white_matter.sum(dtype=np.float64) == pytest.approx(white.size, rel=1e-5)
    assert np.abs(result.displacement[0, [0, -1]]).max() < np.abs(result.displacement[0]).max() / 2


def test_a_folded_brain_is_warned_of():
    tumor = MassEffectParameters(0.15, 0.10, 130, ORIGIN, 400.0)
    with pytest.warns(UserWarning, match="folds"):
        result = simulate([tumor], BRAIN)
    assert result.pushed[0].folded > 0.01


def test_a_ventricle_beside_the_tumor_is_compressed(pushed, tmp_path: Path):
    before, after = (BRAIN.csf >= 0.5).sum(), (pushed.csf >= 0.5).sum()
    assert after < 0.9 * before
    picture = draw_ventricle(pushed, tmp_path / "ventricle.png")
    assert picture.stat().st_size > 10_000


def draw_ventricle(pushed, path: Path) -> Path:
    """The slice through the origin at rest and pushed: CSF, density contours and the displacement."""
    from matplotlib.figure import Figure

    k = round(ORIGIN[2] * BRAIN.grid.shape[2])
    figure = Figure(figsize=(9, 4))
    for column, brain in enumerate((BRAIN, pushed)):
        axes = figure.add_subplot(1, 2, column + 1)
        axes.imshow((brain.white_matter + 0.6 * brain.gray_matter)[:, :, k].T, origin="lower", cmap="gray", vmax=1.2)
        axes.contour(brain.csf[:, :, k].T, [0.5], colors="cyan")
        axes.contour(pushed.density[:, :, k].T, [0.1, 0.7], colors=["gold", "red"])
        axes.set_title("pushed" if column else "at rest")
    x, y = np.meshgrid(*[np.arange(0, n, 2) for n in BRAIN.grid.shape[:2]], indexing="ij")
    u = pushed.displacement[:, ::2, ::2, k] / BRAIN.grid.spacing
    axes.quiver(x, y, u[0], u[1], color="lime", angles="xy", scale_units="xy", scale=1)
    figure.savefig(path, dpi=80)
    return path
