"""Innermost loops of the Fisher-Kolmogorov model for the CPU, in Numba with explicit vectors.

LLVM does not vectorize this loop by itself: it reads seven places of c and six of the faces, and cannot prove
that the output does not overlap them. `_make_sweep` therefore emits the vector instructions of one block directly.
Multiplications and additions are fused where that is written, and nowhere else, so every voxel's value is the same on
every machine that follows IEEE 754, whatever its vector width.

Blocks are active once they, or a block that shares an open face with them, hold anything but 0. At the end of a step
a value below `CUTOFF` is set to 0, so computing only active blocks gives bit for bit what computing all of them gives.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from engine.domain import LANES

CUTOFF = 1e-14
"""Densities below this are 0, which bounds the active region; a pulled front slows by pi²/(2 ln² CUTOFF) = 0.5%."""
CHECK_EVERY = 2
"""Time steps between two looks at the tumor's size."""

_CUTOFF = np.float32(CUTOFF)
_ONE = np.float32(1)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDICES = ir.VectorType(ir.IntType(32), LANES)
_ZEROS, _ONES = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_VECTOR, [1.0] * LANES)


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    empty = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, empty, ir.Constant(_INDICES, [0] * LANES))


def _fused(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Vectors a b + c, rounded once."""
    fma = builder.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), ir.FunctionType(_VECTOR, [_VECTOR] * 3))
    return builder.call(fma, (a, b, c))


def _pointer(builder: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    return builder.bitcast(builder.gep(base, [index]), _VECTOR.as_pointer())


def _load(builder: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    value = builder.load(_pointer(builder, base, index))
    value.align = 4
    return value


def _flux_divergence(builder, c, faces, i, strides, v):  # type: ignore[no-untyped-def]
    """Sum over the six faces of face * (neighbor - v)."""
    total = None
    for face, stride in zip(faces, strides, strict=True):
        for here, there in ((i, builder.add(i, stride)), (builder.sub(i, stride), builder.sub(i, stride))):
            openness, rise = _load(builder, face, here), builder.fsub(_load(builder, c, there), v)
            total = builder.fmul(openness, rise) if total is None else _fused(builder, openness, rise, total)
    return total


def _react_exactly(builder, diffused, before, q):  # type: ignore[no-untyped-def]
    """Logistic over a step, v / (v + (1 - v) q) with q = exp(-rho dt)."""
    return builder.fdiv(diffused, _fused(builder, builder.fsub(_ONES, diffused), _splat(builder, q), diffused))


def _react_by_euler(builder, diffused, before, q):  # type: ignore[no-untyped-def]
    """GliomaSolver's forward Euler from the old value, v + q c (1 - c) with q = rho dt."""
    rate = builder.fmul(before, builder.fsub(_ONES, before))
    return _fused(builder, _splat(builder, q), rate, diffused)


def _keep_in_range(builder, value):  # type: ignore[no-untyped-def]
    """0 below `CUTOFF`, 1 above 1."""
    cutoff = ir.Constant(_VECTOR, [float(_CUTOFF)] * LANES)
    value = builder.select(builder.fcmp_ordered("<", value, cutoff), _ZEROS, value)
    return builder.select(builder.fcmp_ordered(">", value, _ONES), _ONES, value)


def _make_sweep(react, beside):  # type: ignore[no-untyped-def]
    """One block of out = base + k div(faces grad c); with `react` also the reaction at the end of a step.

    base is c itself unless `beside`, then it is what `out` holds.
    """

    @intrinsic
    def sweep(typing, c, out, fx, fy, fz, i, sx, sy, k, q):  # type: ignore[no-untyped-def]
        arguments = (c, out, fx, fy, fz, types.intp, types.intp, types.intp, types.float32, types.float32)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            arrays = [
                context.make_array(t)(context, builder, v).data
                for t, v in zip(signature.args[:5], values[:5], strict=True)
            ]
            i, sx, sy, k, q = values[5:]
            center = _load(builder, arrays[0], i)
            base = _load(builder, arrays[1], i) if beside else center
            net = _flux_divergence(builder, arrays[0], arrays[2:], i, (sx, sy, ir.Constant(i.type, 1)), center)
            value = _fused(builder, _splat(builder, k), net, base)
            if react is not None:
                value = _keep_in_range(builder, react(builder, value, center, q))
            builder.store(value, _pointer(builder, arrays[1], i)).align = 4
            return context.get_dummy_value()

        return types.void(*arguments), generate

    return sweep


_half_of_pair = _make_sweep(None, beside=False)
_rest_of_pair = _make_sweep(None, beside=True)
_rest_of_step = _make_sweep(_react_exactly, beside=True)
_step_by_euler = _make_sweep(_react_by_euler, beside=False)


@intrinsic
def _fma(typing, a, b, c):  # type: ignore[no-untyped-def]
    """Numbers a b + c, rounded once."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


# What is known of the active blocks, by place in `counters`.
_ACTIVE, _WAITING, _VOXELS, _ORDERED = 0, 1, 2, 3


@njit(nogil=True, cache=True)
def _start(c, starts, fill, state, active, frontier, counters):  # type: ignore[no-untyped-def]
    """Mark the blocks that hold something."""
    for b in range(starts.size):
        for i in range(starts[b], starts[b] + LANES):
            if c[i] != 0 and not state[b]:
                state[b] = True
                active[counters[_ACTIVE]] = starts[b]
                frontier[counters[_ACTIVE]] = b
                counters[_ACTIVE] += 1
                counters[_VOXELS] += fill[b]
    counters[_WAITING] = counters[_ACTIVE]


@njit(nogil=True, cache=True)
def _activate_around(c, starts, fill, links, offsets, state, active, frontier, counters):  # type: ignore[no-untyped-def]
    """Wake the neighbors of every frontier block that holds something, and keep the active list about in order."""
    known, waiting, kept = counters[_WAITING], counters[_WAITING], 0
    for f in range(known):
        b = frontier[f]
        filled = False
        for i in range(starts[b], starts[b] + LANES):
            filled |= c[i] != 0
        if not filled:
            frontier[kept] = b
            kept += 1
            continue
        for n in range(offsets[b], offsets[b + 1]):
            other = links[n]
            if not state[other]:
                state[other] = True
                active[counters[_ACTIVE]] = starts[other]
                counters[_ACTIVE] += 1
                counters[_VOXELS] += fill[other]
                frontier[waiting] = other
                waiting += 1
    for f in range(known, waiting):
        frontier[kept] = frontier[f]
        kept += 1
    counters[_WAITING] = kept
    if counters[_ACTIVE] > counters[_ORDERED] + counters[_ORDERED] // 4:
        _list_in_order(starts, state, active)
        counters[_ORDERED] = counters[_ACTIVE]


@njit(nogil=True, cache=True)
def _list_in_order(starts, state, active):  # type: ignore[no-untyped-def]
    """Write the active list again in flat order, so that neighbors are computed soon after each other."""
    count = 0
    for b in range(starts.size):
        if state[b]:
            active[count] = starts[b]
            count += 1


@njit(nogil=True, cache=True)
def _react_all(c, q):  # type: ignore[no-untyped-def]
    """Half a logistic step everywhere."""
    for i in range(c.size):
        if c[i] > 0:
            c[i] = min(c[i] / _fma(_ONE - c[i], q, c[i]), _ONE)  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def _count_at_least(c, active, threshold):  # type: ignore[no-untyped-def]
    """Voxels of the active blocks with c >= threshold."""
    total = 0
    for start in active:
        for i in range(start, start + LANES):
            total += c[i] >= threshold
    return total


@njit(nogil=True, cache=True)
def _is_large(c, active, counters, step, stop_count, seen):  # type: ignore[no-untyped-def]
    """Whether more than `stop_count` voxels hold `seen`; looked at every few steps, and only where possible."""
    if step % CHECK_EVERY != 0 or counters[_VOXELS] <= stop_count:
        return False
    return _count_at_least(c, active[: counters[_ACTIVE]], seen) > stop_count


@njit(nogil=True, cache=True)
def evolve(c, faces, starts, fill, links, offsets, sx, sy, weights, decays, ahead, first, stop_count, size):  # type: ignore[no-untyped-def]
    """Advance c (size,) in place by pairs of stages, scheme `converged`.

    What follows the domain's arrays is as in `engine.time_steps.Schedule`. The simulation stops as too big once more
    than `stop_count` voxels hold at least `size` at the end of a step.

    Returns:
        tissue-voxel updates, voxels with c >= size at the end, whether it was stopped.
    """
    fx, fy, fz = faces[0], faces[1], faces[2]
    y = np.zeros_like(c)
    state, counters = np.zeros(starts.size, dtype=np.bool_), np.zeros(4, dtype=np.int64)
    active, frontier = np.empty(starts.size, dtype=np.int64), np.empty(starts.size, dtype=np.int32)
    _start(c, starts, fill, state, active, frontier, counters)
    _react_all(c, first)
    updates, steps, pair, stopped = 0, 0, 0, False
    while pair < decays.size and not stopped:
        _activate_around(c, starts, fill, links, offsets, state, active, frontier, counters)
        for n in range(counters[_ACTIVE]):
            _half_of_pair(c, y, fx, fy, fz, active[n], sx, sy, weights[pair, 0], _ONE)
        updates += counters[_VOXELS]
        _activate_around(y, starts, fill, links, offsets, state, active, frontier, counters)
        if ahead[pair] > 0:
            for n in range(counters[_ACTIVE]):
                _rest_of_step(y, c, fx, fy, fz, active[n], sx, sy, weights[pair, 1], decays[pair])
            steps += 1
            seen = size / (size + (_ONE - size) * ahead[pair])
            stopped = pair + 1 < decays.size and _is_large(c, active, counters, steps, stop_count, seen)
        else:
            for n in range(counters[_ACTIVE]):
                _rest_of_pair(y, c, fx, fy, fz, active[n], sx, sy, weights[pair, 1], _ONE)
        updates += counters[_VOXELS]
        pair += 1
    if stopped:
        _react_all(c, _ONE / ahead[pair - 1])
    return updates, _count_at_least(c, active[: counters[_ACTIVE]], size), stopped


@njit(nogil=True, cache=True)
def evolve_by_euler(c, faces, starts, fill, links, offsets, sx, sy, weights, stop_count, size):  # type: ignore[no-untyped-def]
    """The same for scheme `gliomasolver`: forward Euler of both terms."""
    fx, fy, fz = faces[0], faces[1], faces[2]
    old, new = c, np.zeros_like(c)
    state, counters = np.zeros(starts.size, dtype=np.bool_), np.zeros(4, dtype=np.int64)
    active, frontier = np.empty(starts.size, dtype=np.int64), np.empty(starts.size, dtype=np.int32)
    _start(c, starts, fill, state, active, frontier, counters)
    updates, steps, stopped = 0, 0, False
    while steps < len(weights) and not stopped:
        _activate_around(old, starts, fill, links, offsets, state, active, frontier, counters)
        for n in range(counters[_ACTIVE]):
            _step_by_euler(old, new, fx, fy, fz, active[n], sx, sy, weights[steps, 0], weights[steps, 1])
        old, new = new, old
        updates += counters[_VOXELS]
        steps += 1
        stopped = steps < len(weights) and _is_large(old, active, counters, steps, stop_count, size)
    c[:] = old
    return updates, _count_at_least(c, active[: counters[_ACTIVE]], size), stopped
