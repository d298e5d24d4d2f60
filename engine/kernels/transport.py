"""Innermost loops of the conservative transport for the CPU, in Numba; every loop along z is made of whole vectors.

A sweep moves what lies in the cells along one axis by a Courant number nu [cells] on every lower face. The value that
crosses a face is reconstructed half a step ahead with van Leer's slope, and what leaves one cell enters the next.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def _flux_row(flux, c0, c1, c2, c3, below, nu, above):  # type: ignore[no-untyped-def]
    """Flux through the lower faces of the cells of row c2, whose neighbors along the axis are c0, c1 and c3."""
    half, unit, zero = np.float32(0.5), np.float32(1), np.float32(0)
    for k in range(flux.size):
        n = nu[k]
        a, b, c = c1[k] - c0[k], c2[k] - c1[k], c3[k] - c2[k]
        low = (a + a) * (b / (a + b)) if min(a, b) > zero or max(a, b) < zero else zero
        high = (b + b) * (c / (b + c)) if min(b, c) > zero or max(b, c) < zero else zero
        from_below = (c1[k] + half * (unit - n) * low) * (unit - half * (n - below[k]))
        from_above = (c2[k] - half * (unit + n) * high) * (unit - half * (above[k] - n))
        flux[k] = n * max(from_below if n > zero else from_above, zero)


@njit(nogil=True, cache=True)
def _update_row(out, c, enters, leaves):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = c[k] + (enters[k] - leaves[k])


@njit(nogil=True, cache=True)
def sweep_x(c, nu, out):  # type: ignore[no-untyped-def]
    """Write c moved along x by nu on the lower x faces, which is 0 at the outermost layer of cells; all (x, y, z)."""
    nx, ny, nz = c.shape
    enters, leaves = np.zeros(nz, dtype=c.dtype), np.zeros(nz, dtype=c.dtype)
    for j in range(ny):
        enters[:] = 0
        for i in range(1, nx - 2):
            _flux_row(
                leaves, c[i - 1, j], c[i, j], c[i + 1, j], c[i + 2, j], nu[i, j], nu[i + 1, j], nu[i + 2, j]
            )  # fmt: skip
            _update_row(out[i, j], c[i, j], enters, leaves)
            enters, leaves = leaves, enters
        out[nx - 2, j] = c[nx - 2, j] + enters


@njit(nogil=True, cache=True)
def sweep_y(c, nu, out):  # type: ignore[no-untyped-def]
    """The same along y."""
    nx, ny, nz = c.shape
    enters, leaves = np.zeros(nz, dtype=c.dtype), np.zeros(nz, dtype=c.dtype)
    for i in range(nx):
        enters[:] = 0
        for j in range(1, ny - 2):
            _flux_row(
                leaves, c[i, j - 1], c[i, j], c[i, j + 1], c[i, j + 2], nu[i, j], nu[i, j + 1], nu[i, j + 2]
            )  # fmt: skip
            _update_row(out[i, j], c[i, j], enters, leaves)
            enters, leaves = leaves, enters
        out[i, ny - 2] = c[i, ny - 2] + enters


@njit(nogil=True, cache=True)
def sweep_z(c, nu, out):  # type: ignore[no-untyped-def]
    """The same along z."""
    nx, ny, nz = c.shape
    flux = np.zeros(nz, dtype=c.dtype)
    for i in range(nx):
        for j in range(ny):
            row, speed = c[i, j], nu[i, j]
            _flux_row(
                flux[2:-1], row[:-3], row[1:-2], row[2:-1], row[3:], speed[1:-2], speed[2:-1], speed[3:]
            )  # fmt: skip
            _update_row(out[i, j, 1:-1], row[1:-1], flux[1:-1], flux[2:])
