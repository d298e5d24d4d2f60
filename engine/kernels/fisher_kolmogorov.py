"""Innermost loops of the Fisher-Kolmogorov model for the CPU, in Numba with explicit vectors.

LLVM does not vectorize this loop by itself: it reads seven places of c and six of the faces, and cannot prove
that the output does not overlap them. `_advance_block` therefore emits the vector instructions of one block
directly. There is no fused multiply-add and no reassociation, so every voxel's value is the same on every machine
that follows IEEE 754, whatever its vector width.

Blocks are active once they, or a block that shares an open face with them, hold anything above 0. A value below
`CUTOFF` is set to 0, so computing only active blocks gives bit for bit what computing all of them gives.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from engine.domain import LANES

CUTOFF = 1e-20
"""Densities below this are 0, which bounds the active region; a pulled front slows by pi²/(2 ln² CUTOFF) = 0.2%."""
CHECK_EVERY = 8
"""Steps between two looks at the tumor's size."""

_CUTOFF = np.float32(CUTOFF)
_ONE = np.float32(1)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDICES = ir.VectorType(ir.IntType(32), LANES)


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    empty = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, empty, ir.Constant(_INDICES, [0] * LANES))


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
        up, down = builder.add(i, stride), builder.sub(i, stride)
        rise = builder.fmul(_load(builder, face, i), builder.fsub(_load(builder, c, up), v))
        fall = builder.fmul(_load(builder, face, down), builder.fsub(v, _load(builder, c, down)))
        net = builder.fsub(rise, fall)
        total = net if total is None else builder.fadd(total, net)
    return total


def _react_exactly(builder, diffused, before, q):  # type: ignore[no-untyped-def]
    """Logistic over a step, v / (v + (1 - v) q) with q = exp(-rho dt)."""
    ones = ir.Constant(_VECTOR, [1.0] * LANES)
    rest = builder.fmul(builder.fsub(ones, diffused), _splat(builder, q))
    return builder.fdiv(diffused, builder.fadd(diffused, rest))


def _react_by_euler(builder, diffused, before, q):  # type: ignore[no-untyped-def]
    """GliomaSolver's forward Euler from the old value, v + q c (1 - c) with q = rho dt."""
    ones = ir.Constant(_VECTOR, [1.0] * LANES)
    rate = builder.fmul(before, builder.fsub(ones, before))
    return builder.fadd(diffused, builder.fmul(_splat(builder, q), rate))


def _make_advance_block(react):  # type: ignore[no-untyped-def]
    """One block forward: diffusion by forward Euler, then `react`; rounding is kept inside [0, 1]."""

    @intrinsic
    def advance_block(typing, c, out, fx, fy, fz, i, sx, sy, k, q):  # type: ignore[no-untyped-def]
        arguments = (c, out, fx, fy, fz, types.intp, types.intp, types.intp, types.float32, types.float32)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            arrays = [
                context.make_array(t)(context, builder, v).data
                for t, v in zip(signature.args[:5], values[:5], strict=True)
            ]
            i, sx, sy, k, q = values[5:]
            before = _load(builder, arrays[0], i)
            strides = (sx, sy, ir.Constant(i.type, 1))
            net = _flux_divergence(builder, arrays[0], arrays[2:], i, strides, before)
            diffused = builder.fadd(before, builder.fmul(_splat(builder, k), net))
            value = react(builder, diffused, before, q)
            zero, one = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_VECTOR, [1.0] * LANES)
            cutoff = ir.Constant(_VECTOR, [float(_CUTOFF)] * LANES)
            value = builder.select(builder.fcmp_ordered("<", value, cutoff), zero, value)
            value = builder.select(builder.fcmp_ordered(">", value, one), one, value)
            builder.store(value, _pointer(builder, arrays[1], i)).align = 4
            return context.get_dummy_value()

        return types.void(*arguments), generate

    return advance_block


_advance_exactly = _make_advance_block(_react_exactly)
_advance_by_euler = _make_advance_block(_react_by_euler)


@njit(nogil=True, cache=True)
def _activate_around(c, starts, fill, links, offsets, state, active, count, frontier, waiting, voxels):  # type: ignore[no-untyped-def]
    """Wake the neighbors of every frontier block that holds something; returns the three counts."""
    kept, known = 0, waiting
    for f in range(known):
        b = frontier[f]
        filled = False
        for i in range(starts[b], starts[b] + LANES):
            filled |= c[i] > 0
        if not filled:
            frontier[kept] = b
            kept += 1
            continue
        for n in range(offsets[b], offsets[b + 1]):
            other = links[n]
            if not state[other]:
                state[other] = True
                active[count] = starts[other]
                count += 1
                voxels += fill[other]
                frontier[waiting] = other
                waiting += 1
    for f in range(known, waiting):
        frontier[kept] = frontier[f]
        kept += 1
    return count, kept, voxels


@njit(nogil=True, cache=True)
def _react_all(c, q):  # type: ignore[no-untyped-def]
    for i in range(c.size):
        if c[i] > 0:
            c[i] = min(c[i] / (c[i] + (_ONE - c[i]) * q), _ONE)


@njit(nogil=True, cache=True)
def count_at_least(c, active, threshold):  # type: ignore[no-untyped-def]
    """Voxels of the active blocks with c >= threshold."""
    total = 0
    for a in range(active.size):
        for i in range(active[a], active[a] + LANES):
            total += c[i] >= threshold
    return total


@njit(nogil=True, cache=True)
def _start(c, starts, fill, state, active, frontier):  # type: ignore[no-untyped-def]
    """Mark the blocks that hold something; returns (active blocks, tissue voxels in them)."""
    count, voxels = 0, 0
    for b in range(starts.size):
        for i in range(starts[b], starts[b] + LANES):
            if c[i] > 0 and not state[b]:
                state[b] = True
                active[count] = starts[b]
                frontier[count] = b
                voxels += fill[b]
                count += 1
    return count, voxels


@njit(nogil=True, cache=True)
def evolve(c, faces, starts, fill, links, offsets, sx, sy, exact, steps, k, q, q_half, stop_count, stop_density):  # type: ignore[no-untyped-def]
    """Advance c (size,) in place; returns (steps done, tissue-voxel updates, stopped as too big).

    With `exact`: Strang splitting, half a logistic step, diffusion, half a logistic step, neighboring halves
    merged; q = exp(-rho dt), q_half = exp(-rho dt / 2), and `stop_density` is the density that the merged half
    step makes of the wanted one. Otherwise GliomaSolver's forward Euler of both terms, q = rho dt.
    """
    fx, fy, fz = faces[0], faces[1], faces[2]
    old, new = c, np.zeros_like(c)
    state = np.zeros(starts.size, dtype=np.bool_)
    active = np.empty(starts.size, dtype=np.int64)
    frontier = np.empty(starts.size, dtype=np.int32)
    count, voxels = _start(c, starts, fill, state, active, frontier)
    ordered, updates, done, stopped, waiting = 0, 0, 0, False, count
    if exact:
        _react_all(c, q_half)
    while done < steps and not stopped:
        count, waiting, voxels = _activate_around(
            old, starts, fill, links, offsets, state, active, count, frontier, waiting, voxels
        )
        if count > ordered + ordered // 4:
            active[:count].sort()
            ordered = count
        done += 1
        if exact:
            rate = q_half if done == steps else q
            for a in range(count):
                _advance_exactly(old, new, fx, fy, fz, active[a], sx, sy, k, rate)
        else:
            for a in range(count):
                _advance_by_euler(old, new, fx, fy, fz, active[a], sx, sy, k, q)
        old, new = new, old
        updates += voxels
        if done % CHECK_EVERY == 0 and done < steps and voxels > stop_count:
            stopped = count_at_least(old, active[:count], stop_density) > stop_count
    if exact and stopped:
        _react_all(old, _ONE / q_half)
    c[:] = old
    return done, updates, stopped
