"""Conservative transport: mass, sign, order, and a quiet brain stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels import transport as kernels
from engine.transport import Transport, faces_inside


def box(n: int) -> np.ndarray:
    brain = np.zeros((n, n, n), dtype=bool)
    brain[1:-1, 1:-1, 1:-1] = True
    return brain


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 6.0))
def test_any_move_keeps_every_mass_and_no_value_falls_below_zero(seed, size):
    rng = np.random.default_rng(seed)
    brain = box(12) & (rng.random((12, 12, 12)) < 0.9)
    fields = [(brain * rng.random(brain.shape) ** 8).astype(np.float32) for _ in range(2)]
    before = [field.sum(dtype=np.float64) for field in fields]
    shift = size * (2 * rng.random((3, *brain.shape)) - 1)
    moved = Transport(faces_inside(brain)).move(fields, shift)
    for mass, field in zip(before, moved, strict=True):
        assert field.sum(dtype=np.float64) == pytest.approx(mass, rel=1e-6)
        assert field.min() >= 0
        assert not field[~brain].any()


def test_no_move_changes_nothing():
    rng = np.random.default_rng(0)
    brain = box(10)
    field = rng.random(brain.shape).astype(np.float32) * brain
    kept = field.copy()
    transport = Transport(faces_inside(brain))
    assert np.array_equal(transport.move([field], np.zeros((3, *brain.shape)))[0], kept)
    assert transport.substeps == 0


def turned(n: int) -> float:
    """Mean error of a smooth blob that a whirl carries around by an eighth of a turn."""
    brain = box(n)
    x, y, z = ((np.stack(np.meshgrid(*[np.arange(n) + 0.5] * 3, indexing="ij")) / n) - 0.5) * 2
    angle, steps = np.pi / 4, n // 4

    def blob(a):
        return np.exp(-(((x - 0.35 * np.cos(a)) ** 2 + (y - 0.35 * np.sin(a)) ** 2 + z**2) / 0.18**2))

    shift = np.stack([-(y) * np.ones_like(x), x, np.zeros_like(x)]) * n / 2 * angle / steps
    transport, fields = Transport(faces_inside(brain)), [(blob(0.0) * brain).astype(np.float32)]
    for _ in range(steps):
        fields = transport.move(fields, shift)
    return float(np.abs(fields[0] - blob(angle)).mean())


def test_a_smooth_blob_is_carried_around_with_second_order():
    errors = [turned(n) for n in (32, 64)]
    assert np.log2(errors[0] / errors[1]) > 1.7


def test_compression_raises_a_density_as_the_volume_shrinks():
    n, strain = 32, -0.02
    brain = box(n)
    place = np.arange(n) - n / 2
    shift = np.zeros((3, n, n, n))
    shift[0] = strain * place[:, None, None]
    transport, fields, times = Transport(faces_inside(brain)), [brain.astype(np.float32)], 20
    for _ in range(times):
        fields = transport.move(fields, shift)
    inner = fields[0][12:20, 12:20, 12:20]
    np.testing.assert_allclose(inner, np.exp(-strain * times), rtol=2e-3)


def test_mirrored_moves_mirror_the_result():
    rng = np.random.default_rng(3)
    brain = box(10)
    field = rng.random(brain.shape).astype(np.float32) * brain
    shift = 0.4 * (2 * rng.random((3, *brain.shape)) - 1)
    expected = Transport(faces_inside(brain)).move([field.copy()], shift)[0]
    for axis in range(3):
        mirrored = np.flip(shift, axis + 1).copy()
        mirrored[axis] = -np.roll(mirrored[axis], 1, axis)  # a lower face becomes an upper one
        got = Transport(faces_inside(brain)).move([np.flip(field, axis).copy()], mirrored)[0]
        np.testing.assert_allclose(np.flip(got, axis), expected, atol=1e-6)


def swept(c: np.ndarray, nu: np.ndarray, axis: int) -> np.ndarray:
    """One sweep in plain NumPy and in the kernel's order of operations."""
    at = [np.roll(c, 2 - n, axis) for n in range(4)]
    below, above = np.roll(nu, 1, axis), np.roll(nu, -1, axis)
    a, b, d = at[1] - at[0], at[2] - at[1], at[3] - at[2]

    def limited(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        same = p * q > 0
        return np.where(same, (p + p) * (q / np.where(same, p + q, 1)), 0)

    half, one = np.float32(0.5), np.float32(1)
    from_below = (at[1] + half * (one - nu) * limited(a, b)) * (one - half * (nu - below))
    from_above = (at[2] - half * (one + nu) * limited(b, d)) * (one - half * (above - nu))
    flux = nu * np.maximum(np.where(nu > 0, from_below, from_above), 0)
    return c + (flux - np.roll(flux, -1, axis))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("filled", [0.0, 0.04, 0.5, 1.0])
def test_skipping_empty_rows_changes_nothing(filled, axis):
    rng = np.random.default_rng(4)
    brain = box(12)
    c = (brain * rng.random(brain.shape) * (rng.random((12, 12, 12)) < filled)).astype(np.float32)
    c[:, 7:] = 0
    nu = ((2 * rng.random(brain.shape) - 1) * faces_inside(brain)[axis]).astype(np.float32) * np.float32(0.5)
    out = np.full_like(c, np.nan)
    out[c == 0] = 0
    (kernels.sweep_x, kernels.sweep_y, kernels.sweep_z)[axis](c, nu, out)
    inner = (slice(1, -1),) * 3
    assert np.array_equal(out[inner], swept(c, nu, axis)[inner])
