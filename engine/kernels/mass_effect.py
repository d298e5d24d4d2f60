"""What couples growth and displacement, cell by cell, for the CPU in Numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from engine.domain import GRAY_MATTER_SHARE

_GRAY = np.float32(GRAY_MATTER_SHARE)
_ZERO = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def mobility(white, gray, csf, out):  # type: ignore[no-untyped-def]
    """Write out = D / D_w of the current tissue, by the rule of the atlas: 0 where CSF outweighs it; all flat."""
    for i in range(out.size):
        matter = white[i] + gray[i]
        is_tissue = (matter > _ZERO) and (matter >= csf[i])
        out[i] = (white[i] + _GRAY * gray[i]) / matter if is_tissue else _ZERO


@njit(nogil=True, cache=True, error_model="numpy")
def faces(mobility, sx, sy, out):  # type: ignore[no-untyped-def]
    """Harmonic mean of D / D_w at the face of every flat voxel with its neighbors along x, y and z; out (3, size)."""
    strides = (sx, sy, 1)
    for axis in range(3):
        stride = strides[axis]
        row, here, there = out[axis, : mobility.size - stride], mobility[: mobility.size - stride], mobility[stride:]
        for i in range(row.size):
            a, b = np.float64(here[i]), np.float64(there[i])
            product = a * b
            row[i] = np.float32((product + product) / (a + b)) if product > 0 else _ZERO


@njit(nogil=True, cache=True)
def _add_row(out, row):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] += row[k]


@njit(nogil=True, cache=True)
def coarsen(fine, factor, share, out):  # type: ignore[no-untyped-def]
    """Write out = share times the sum of the factor³ voxels of every coarse cell."""
    nx, ny, nz = out.shape
    row = np.zeros(fine.shape[2], dtype=fine.dtype)
    for i in range(nx):
        for j in range(ny):
            row[:] = 0
            for a in range(factor):
                for b in range(factor):
                    _add_row(row, fine[i * factor + a, j * factor + b])
            for k in range(nz):
                total = fine.dtype.type(0)
                for c in range(factor):
                    total += row[k * factor + c]
                out[i, j, k] = total * share[i, j, k]
