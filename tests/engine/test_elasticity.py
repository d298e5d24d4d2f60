"""The displacement solve: the right operator, symmetric and positive, second order, and refused where unphysical."""

from __future__ import annotations

import numpy as np
import pytest

import engine.elasticity as elasticity
from engine import InputError
from engine.elasticity import MATERIALS, Elasticity, Material, NotConverged, mix_lame


def block(n: int, border: int = 1) -> np.ndarray:
    """A brain that fills a cube of n³ cells but for its border."""
    brain = np.zeros((n, n, n), dtype=bool)
    brain[border:-border, border:-border, border:-border] = True
    return brain


def ragged_brain(rng: np.random.Generator, shape: tuple[int, int, int] = (16, 20, 24)) -> np.ndarray:
    """An ellipsoid with holes and a rough skull."""
    place = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij"))
    return ((place / 0.42) ** 2).sum(0) + 0.3 * rng.random(shape) < 1


def lame_fields(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Any mixture of the materials, cell by cell."""
    share = rng.dirichlet([0.3] * len(MATERIALS), size=shape)
    lam = share @ [m.lame_lambda for m in MATERIALS.values()]
    return lam, share @ [m.lame_mu for m in MATERIALS.values()]


def test_lame_constants_are_the_textbook_ones():
    solid = Material(2.1, 0.4)
    assert solid.lame_lambda == pytest.approx(3.0)
    assert solid.lame_mu == pytest.approx(0.75)


def test_the_operator_is_symmetric_and_positive():
    rng = np.random.default_rng(1)
    brain = ragged_brain(rng)
    solver = Elasticity(brain, 3.0, np.float64)
    solver.set_lame(*lame_fields(rng, brain.shape))
    a, b = (rng.standard_normal((3, *brain.shape)) * solver.free for _ in range(2))
    assert np.vdot(a, solver.apply(b)) == pytest.approx(np.vdot(b, solver.apply(a)), rel=1e-12)
    assert np.vdot(a, solver.apply(a)) > 0


def test_the_preconditioner_is_symmetric_and_positive():
    rng = np.random.default_rng(2)
    brain = ragged_brain(rng, (32, 16, 16))
    solver = Elasticity(brain, 3.0, np.float64)
    solver.set_lame(*lame_fields(rng, brain.shape))
    a, b = (rng.standard_normal((3, *brain.shape)) * solver.free for _ in range(2))
    assert len(solver.levels) > 1

    def cycle(r):
        solver.levels[0].b[...] = r
        return elasticity.v_cycle(solver.levels).copy()

    assert np.vdot(a, cycle(b)) == pytest.approx(np.vdot(b, cycle(a)), rel=1e-10)
    assert np.vdot(a, cycle(a)) > 0


def test_translations_and_rotations_are_free_of_stress():
    rng = np.random.default_rng(3)
    n = 12
    solver = Elasticity(block(n), 2.0, np.float64)
    solver.set_lame(*lame_fields(rng, (n, n, n)))
    spin, shift = rng.standard_normal(3), rng.standard_normal(3)
    cells = np.stack(np.meshgrid(*[np.arange(n) + 0.5] * 3, indexing="ij"))
    u = np.empty((3, n, n, n))
    for axis in range(3):
        place = cells.copy()
        place[axis] -= 0.5
        u[axis] = shift[axis] + np.cross(spin, place, axisa=0, axisb=0, axisc=0)[axis]
    inner = (slice(None), *[slice(3, -3)] * 3)
    assert np.abs(solver.apply(u)[inner]).max() < 1e-10
    u[0] *= 1.01
    assert np.abs(solver.apply(u)[inner]).max() > 1e-2


def test_the_divergence_in_a_uniform_medium_is_the_pressure_over_the_p_wave_modulus():
    rng = np.random.default_rng(4)
    n, material, coupling = 24, Material(2.1, 0.4), 5.0
    solver = Elasticity(block(n), 3.0, np.float64)
    solver.set_lame(np.full((n,) * 3, material.lame_lambda), np.full((n,) * 3, material.lame_mu))
    c = np.zeros((n,) * 3)
    c[10:14, 10:14, 10:14] = rng.random((4, 4, 4))
    u = solver.solve(solver.push(coupling * c), tolerance=1e-10)
    divergence = sum((np.roll(u[a], -1, a) - u[a]) / 3.0 for a in range(3))
    expected = coupling * c / (material.lame_lambda + 2 * material.lame_mu)
    here, there = (slice(9, 15),) * 3, (12, 12, 12)
    background = divergence[9, 9, 9]  # the skull answers with a smooth pressure
    assert np.abs(divergence[here] - expected[here] - background).max() < 0.02 * expected[there]
    assert abs(background) < 0.1 * expected[there]


def manufactured(n: int, power: int) -> float:
    """Largest error of the solve against a displacement with shear in a medium whose λ and μ vary apart.

    It grows with the distance from the wall to the `power`: with 1 the medium is sheared right at the wall.
    """
    import sympy as sp

    x, y, z = symbols = sp.symbols("x y z")
    wall = (sp.sin(sp.pi * x) * sp.sin(sp.pi * y) * sp.sin(sp.pi * z)) ** power
    u = sp.Matrix([wall * (1 + y), wall * (sp.Rational(1, 2) - x * z), -wall * (x + sp.Rational(1, 5))])
    lam, mu = 2 + sp.sin(2 * x + y), 1 + sp.cos(x - 2 * z) / 2
    gradient = u.jacobian(symbols)
    stress = lam * gradient.trace() * sp.eye(3) + mu * (gradient + gradient.T)
    force = [-sum(sp.diff(stress[i, j], symbols[j]) for j in range(3)) for i in range(3)]
    h = 1.0 / n
    cells = np.stack(np.meshgrid(*[(np.arange(-1, n + 3) + 0.5) * h] * 3, indexing="ij"))
    brain = np.zeros((n + 4,) * 3, dtype=bool)
    brain[1 : n + 1, 1 : n + 1, 1 : n + 1] = True  # two layers behind it, as a cutout has
    solver = Elasticity(brain, h, np.float64)
    solver.set_lame(*(sp.lambdify(symbols, f, "numpy")(*cells) for f in (lam, mu)))
    exact, right = np.zeros((3, *cells.shape[1:])), np.zeros((3, *cells.shape[1:]))
    for axis in range(3):
        place = cells.copy()
        place[axis] -= h / 2
        exact[axis] = sp.lambdify(symbols, u[axis], "numpy")(*place) * solver.free[axis]
        right[axis] = sp.lambdify(symbols, force[axis], "numpy")(*place) * h**2
    return float(np.abs(solver.solve(right, tolerance=1e-8) - exact).max())


@pytest.mark.parametrize("power", [1, 2])
def test_a_manufactured_displacement_with_shear_is_met_with_second_order(power):
    errors = [manufactured(n, power) for n in (12, 28)]
    assert errors[1] < 0.01
    assert np.log2(errors[0] / errors[1]) / np.log2(28 / 12) == pytest.approx(2.0, abs=0.25)


def ragged_problem(seed):
    rng = np.random.default_rng(seed)
    brain = ragged_brain(rng)
    solver = Elasticity(brain, 3.0)
    solver.set_lame(*lame_fields(rng, brain.shape))
    force = solver.push(np.where(brain, rng.random(brain.shape), 0))
    return solver, force


def test_a_warm_start_saves_iterations_and_changes_the_answer_within_the_tolerance():
    solver, force = ragged_problem(5)
    cold = solver.solve(force)
    first = solver.iterations
    warm = solver.solve(1.02 * force, guess=cold)
    assert 0 < solver.iterations - first < first
    np.testing.assert_allclose(warm, 1.02 * solver.solve(force, tolerance=1e-6), atol=5e-3 * np.abs(cold).max())


def test_the_residual_is_what_was_asked_for():
    solver, force = ragged_problem(6)
    for tolerance in (1e-2, 1e-3, 1e-5):
        u = solver.solve(force, tolerance=tolerance)
        assert np.linalg.norm(force - solver.apply(u)) <= 1.05 * tolerance * np.linalg.norm(force)
        assert not u[solver.free == 0].any()


def test_more_iterations_than_allowed_are_not_taken(monkeypatch):
    rng = np.random.default_rng(7)
    brain = ragged_brain(rng)
    solver = Elasticity(brain, 3.0)
    solver.set_lame(*lame_fields(rng, brain.shape))
    monkeypatch.setattr(elasticity, "MAX_ITERATIONS", 1)
    with pytest.raises(NotConverged, match="residual"):
        solver.solve(solver.push(np.where(brain, rng.random(brain.shape), 0)), tolerance=1e-6)


def test_tumor_takes_the_place_of_tissue_in_the_mixture():
    one, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    half = {"white_matter": 2 * one, "gray_matter": none, "csf": 2 * one}  # compressed to twice its mass
    for c, expected in ((0.0, none), (1.0, one), (3.0, one)):
        lam, mu = mix_lame(half, c * one)
        tissue = (MATERIALS["white_matter"].lame_mu + MATERIALS["csf"].lame_mu) / 2
        assert mu == pytest.approx(np.where(expected > 0, MATERIALS["tumor"].lame_mu, tissue))
        assert lam[0, 0, 0] > 0


@pytest.mark.parametrize("values", [(0.0, 0.4), (-1.0, 0.4), (2.1, 0.5), (2.1, -1.0), (float("nan"), 0.4)])
def test_unphysical_materials_are_refused(values):
    with pytest.raises(InputError, match=r"youngs_modulus|poisson_ratio"):
        Material(*values)


def test_a_brain_without_room_for_a_skull_is_refused():
    with pytest.raises(InputError, match="edge"):
        Elasticity(np.ones((8, 8, 8), dtype=bool), 3.0)
