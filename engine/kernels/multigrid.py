"""Between one grid of the multigrid cycle and the next coarser one, for the CPU, in Numba.

Displacements are carried along one axis at a time: a component is staggered along its own axis and centered in cells
along the others. The restriction is the transpose of the prolongation.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def _axpy_row(out, weight, row):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] += weight * row[k]


@njit(nogil=True, cache=True)
def _spread_along_z(row, staggered, out):  # type: ignore[no-untyped-def]
    """Linear interpolation of a row onto twice as many places: faces if staggered, otherwise cell centers."""
    half, quarter, most = row.dtype.type(0.5), row.dtype.type(0.25), row.dtype.type(0.75)
    if staggered:
        for k in range(row.size - 1):
            out[2 * k] = row[k]
            out[2 * k + 1] = half * (row[k] + row[k + 1])
        out[2 * row.size - 2] = row[row.size - 1]
    else:
        for k in range(row.size - 1):
            out[2 * k + 1] = most * row[k] + quarter * row[k + 1]
            out[2 * k + 2] = most * row[k + 1] + quarter * row[k]


@njit(nogil=True, cache=True)
def _collect_along_z(row, staggered, out):  # type: ignore[no-untyped-def]
    """The transpose of `_spread_along_z`."""
    half, quarter, most = row.dtype.type(0.5), row.dtype.type(0.25), row.dtype.type(0.75)
    for k in range(1, out.size - 1):
        if staggered:
            out[k] = row[2 * k] + half * (row[2 * k - 1] + row[2 * k + 1])
        else:
            out[k] = most * (row[2 * k] + row[2 * k + 1]) + quarter * (row[2 * k - 1] + row[2 * k + 2])


@njit(nogil=True, cache=True)
def _taps(staggered, i):  # type: ignore[no-untyped-def]
    """The two coarse places, with weights, that fine place i is interpolated from."""
    parent = i // 2
    if staggered:
        return parent, parent + i % 2, 0.5, 0.5
    return parent, parent + 2 * (i % 2) - 1, 0.75, 0.25


@njit(nogil=True, cache=True)
def _add_row(out, row, mask):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] += row[k] * mask[k]


@njit(nogil=True, cache=True)
def prolong_add(coarse, fine, free, rows):  # type: ignore[no-untyped-def]
    """Add the interpolated coarse displacement to the fine one on its free faces; (3, x, y, z) all.

    rows (x, y): which rows along z have free faces.
    """
    _, nx, ny, nz = fine.shape
    mixed = np.zeros(coarse.shape[3], dtype=fine.dtype)
    row = np.zeros(nz, dtype=fine.dtype)
    for axis in range(3):
        for i in range(1, nx - 1):
            ia, ib, wa, wb = _taps(axis == 0, i)
            for j in range(1, ny - 1):
                if not rows[i, j]:
                    continue
                ja, jb, va, vb = _taps(axis == 1, j)
                mixed[:] = 0
                _axpy_row(mixed, fine.dtype.type(wa * va), coarse[axis, ia, ja])
                _axpy_row(mixed, fine.dtype.type(wb * va), coarse[axis, ib, ja])
                _axpy_row(mixed, fine.dtype.type(wa * vb), coarse[axis, ia, jb])
                _axpy_row(mixed, fine.dtype.type(wb * vb), coarse[axis, ib, jb])
                _spread_along_z(mixed, axis == 2, row)
                _add_row(fine[axis, i, j], row, free[axis, i, j])


@njit(nogil=True, cache=True)
def restrict(fine, free, rows, coarse):  # type: ignore[no-untyped-def]
    """Write coarse = half the transpose of the interpolation of `fine`, on the coarse free faces.

    The mean over a coarse face's neighborhood (1/8 of the transpose), times 4 because A carries the square of h.
    """
    _, nx, ny, nz = coarse.shape
    mixed = np.zeros(fine.shape[3], dtype=fine.dtype)
    row = np.zeros(nz, dtype=fine.dtype)
    for axis in range(3):
        for i in range(1, nx - 1):
            for j in range(1, ny - 1):
                if not rows[i, j]:
                    continue
                mixed[:] = 0
                for a in range(-1, 2 if axis == 0 else 3):
                    wa = (1.0 - 0.5 * abs(a)) if axis == 0 else (0.75 if a == 0 or a == 1 else 0.25)
                    for b in range(-1, 2 if axis == 1 else 3):
                        wb = (1.0 - 0.5 * abs(b)) if axis == 1 else (0.75 if b == 0 or b == 1 else 0.25)
                        _axpy_row(mixed, fine.dtype.type(0.5 * wa * wb), fine[axis, 2 * i + a, 2 * j + b])
                _collect_along_z(mixed, axis == 2, row)
                coarse[axis, i, j] = row * free[axis, i, j]


@njit(nogil=True, cache=True)
def coarse_mean(values, share, out):  # type: ignore[no-untyped-def]
    """Write out = share times the sum of the 2x2x2 cells of every coarse cell; share: 1 / number in the brain."""
    nx, ny, nz = out.shape
    for i in range(nx):
        for j in range(ny):
            a, b = values[2 * i, 2 * j], values[2 * i, 2 * j + 1]
            c, d = values[2 * i + 1, 2 * j], values[2 * i + 1, 2 * j + 1]
            for k in range(nz):
                low, high = 2 * k, 2 * k + 1
                total = (a[low] + a[high]) + (b[low] + b[high]) + (c[low] + c[high]) + (d[low] + d[high])
                out[i, j, k] = total * share[i, j, k]
