"""Conservative transport: mass, sign, order, and a quiet brain stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
