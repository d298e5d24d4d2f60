"""Truth: exact solutions, with the order of convergence that the model's docstring claims."""

from __future__ import annotations

import numpy as np
import pytest

from engine import Atlas, FisherKolmogorovParameters, Grid, InputError, simulate
from engine.fisher_kolmogorov import SEED_CENTER, SEED_WIDTH, seed_density
from engine.time_steps import LARGEST, factors_of, interval, schedule


def white_bar(n: int, length: float, width: int = 1) -> Atlas:
    """A bar of white matter of `length` [mm], closed on all sides."""
    shape = (n, width, width)
    white = np.ones(shape, dtype=np.float32)
    return Atlas(white, np.zeros(shape), np.zeros(shape), Grid(shape, length / n))


def centers(n: int, length: float) -> np.ndarray:
    return (np.arange(n) + 0.5) * length / n


def order(errors: list[float]) -> float:
    """Observed order between the two finest of a series of halvings."""
    return float(np.log2(errors[-2] / errors[-1]))


def test_a_cosine_mode_decays_at_its_rate_with_second_order():
    length, diffusivity, duration = 100.0, 0.5, 2000.0
    tumor = FisherKolmogorovParameters(diffusivity, 0.0, duration, (0.5, 0.5, 0.5))
    errors = []
    for n in (8, 16, 32):
        mode = np.cos(np.pi * centers(n, length) / length)
        start = (0.5 + 0.4 * mode)[None, :, None, None]
        exact = 0.5 + 0.4 * mode * np.exp(-diffusivity * (np.pi / length) ** 2 * duration)
        end = simulate([tumor], white_bar(n, length), initial=start, accuracy=8).density[0, :, 0, 0]
        errors.append(float(np.abs(end - exact).max()))
    assert errors[-1] < 2e-4
    assert order(errors) == pytest.approx(2.0, abs=0.15)


def wave(x: np.ndarray, t: float, diffusivity: float, rho: float) -> np.ndarray:
    """Ablowitz and Zeppetella (1979): the travelling wave of speed 5 / sqrt(6) in closed form."""
    z = x * np.sqrt(rho / diffusivity) - 5 / np.sqrt(6) * rho * t
    return (1 + np.exp(z / np.sqrt(6))) ** -2


def test_the_ablowitz_zeppetella_wave_arrives_with_second_order():
    length, diffusivity, rho, duration = 160.0, 0.3, 0.03, 200.0
    tumor = FisherKolmogorovParameters(diffusivity, rho, duration, (0.5, 0.5, 0.5))
    errors = []
    for n in (40, 80, 160):
        x = centers(n, length) - 50.0
        start = wave(x, 0.0, diffusivity, rho)[None, :, None, None]
        end = simulate([tumor], white_bar(n, length), initial=start).density[0, :, 0, 0]
        middle = slice(n // 4, 3 * n // 4)
        errors.append(float(np.abs(end - wave(x, duration, diffusivity, rho))[middle].max()))
    assert errors[-1] < 3e-3
    assert order(errors) > 1.7


def test_time_steps_converge_with_second_order():
    atlas = white_bar(64, 128.0)
    tumor = FisherKolmogorovParameters(0.2, 0.05, 300.0, (0.5, 0.5, 0.5))
    smooth = np.exp(-(((centers(64, 128.0) - 64) / 10) ** 2))[None, :, None, None]
    ends = [simulate([tumor], atlas, accuracy=a, initial=smooth).density[0].astype(np.float64) for a in (0.5, 1, 2, 32)]
    errors = [float(np.abs(end - ends[-1]).max()) for end in ends[:-1]]
    assert order(errors) == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(("diffusivity", "proliferation"), [(0.2, 0.05), (1.5, 0.01), (0.02, 0.1)])
def test_the_default_step_is_close_to_converged(diffusivity, proliferation):
    atlas = white_bar(64, 128.0, 16)
    tumor = FisherKolmogorovParameters(diffusivity, proliferation, 300.0, (0.5, 0.5, 0.5))
    default, fine = (simulate([tumor], atlas, accuracy=accuracy).density for accuracy in (1, 8))
    for threshold in (0.01, 0.1, 0.8):
        a, b = default >= threshold, fine >= threshold
        assert 2 * (a & b).sum() / max((a.sum() + b.sum()), 1) >= 0.98 or not b.any()


@pytest.mark.parametrize("accuracy", [0.1, 0.5, 1, 3])
@pytest.mark.parametrize(("spread", "growth"), [(0, 0), (0, 30), (700, 0), (200, 4), (3, 200), (0.01, 0.01)])
def test_every_schedule_is_stable_and_covers_the_whole_duration(spread, growth, accuracy):
    spacing, duration = 2.0, 100.0
    tumor = FisherKolmogorovParameters(spread * spacing**2 / duration, growth / duration, duration, (0.5, 0.5, 0.5))
    times = schedule(tumor, spacing, accuracy=accuracy)
    ends = np.flatnonzero(times.ahead > 0)
    assert len(ends) == times.steps
    assert -np.log(times.decays.astype(float)).sum() - np.log(float(times.first)) == pytest.approx(growth, rel=1e-5)
    for pairs in np.split(times.weights.astype(float), ends + 1)[:-1]:
        z = -np.linspace(0, LARGEST, 200)[:, None]
        assert np.prod(1 + pairs[:, 1] * z * (1 + pairs[:, 0] * z), axis=1).max() <= 1 + 1e-5
    assert times.weights[:, 1].sum(dtype=float) == pytest.approx(spread, rel=1e-5)


@pytest.mark.parametrize("accuracy", [0, 0.01, -1, float("nan"), float("inf")])
def test_an_accuracy_that_is_none_is_refused(accuracy):
    with pytest.raises(InputError, match="accuracy"):
        schedule(FisherKolmogorovParameters(0.1, 0.1, 100, (0.5, 0.5, 0.5)), 2.0, accuracy=accuracy)


@pytest.mark.parametrize("reach", [2.0, 4.0])
def test_the_front_has_the_speed_of_a_pulled_front(reach):
    diffusivity, rho = 0.5, 0.05
    width = np.sqrt(diffusivity / rho)
    n, spacing = int(220 * reach), width / reach
    atlas = Atlas(*(np.full((n, 1, 1), v, dtype=np.float32) for v in (1, 0, 0)), Grid((n, 1, 1), float(spacing)))
    times = np.array([60.0, 90.0]) / rho
    tumors = [FisherKolmogorovParameters(diffusivity, rho, t, (0.5 / n, 0.5, 0.5)) for t in times]
    fronts = []
    for density in simulate(tumors, atlas).density[:, :, 0, 0]:
        last = int(np.flatnonzero(density >= 0.5)[-1])
        fronts.append(spacing * (last + (density[last] - 0.5) / (density[last] - density[last + 1])))
    speed = (fronts[1] - fronts[0]) / (times[1] - times[0])
    path = 2 * np.sqrt(diffusivity * rho) * times - 1.5 * width * np.log(times)
    assert speed == pytest.approx((path[1] - path[0]) / (times[1] - times[0]), rel=0.02)


@pytest.mark.parametrize("stages", [2, 4, 6, 8, 10])
def test_the_factors_of_a_step_are_second_order_and_calm(stages):
    factors, reach = factors_of(stages), interval(stages)
    z = np.linspace(-reach, 0, 2001)
    product = np.prod([1 + b * z * (1 + a * z) for a, b in factors], axis=0)
    small = np.array([-1e-3, -2e-3])
    error = [np.exp(x) - np.prod([1 + b * x * (1 + a * x) for a, b in factors]) for x in small]
    assert np.log2(error[1] / error[0]) == pytest.approx(3.0, abs=0.1) or np.abs(error).max() < 1e-9
    assert product.min() > 0
    assert product.max() <= 1 + 1e-9


@pytest.mark.parametrize("spacing", [1.8, 3.6, 7.2])
@pytest.mark.parametrize("origin", [(0.5, 0.5, 0.5), (0.47, 0.52, 0.51)])
def test_the_seed_has_the_same_mass_on_every_grid(spacing, origin):
    n = round(57.6 / spacing)
    white = np.ones((n, n, n), dtype=np.float32)
    atlas = Atlas(white, np.zeros_like(white), np.zeros_like(white), Grid((n, n, n), spacing))
    r = np.linspace(0, SEED_CENTER + SEED_WIDTH, 4001)
    s = (r - SEED_CENTER) / SEED_WIDTH
    ball = np.where(s < -1, 1, 0.5 * (1 - s - np.sin(np.pi * s) / np.pi))
    exact = float(np.trapezoid(4 * np.pi * r**2 * ball, r))
    mass = float(seed_density(atlas, origin).sum(dtype=np.float64)) * spacing**3
    assert mass == pytest.approx(exact, rel=0.01)


def test_the_gliomasolver_scheme_converges_to_the_same_tumor_where_its_step_is_small():
    atlas = white_bar(64, 128.0)
    tumor = FisherKolmogorovParameters(1.0, 0.005, 400.0, (0.5, 0.5, 0.5))
    ours = simulate([tumor], atlas).density
    theirs = simulate([tumor], atlas, scheme="gliomasolver").density
    assert np.abs(ours - theirs).max() < 0.02
