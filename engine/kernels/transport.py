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
def _holds_any(row):  # type: ignore[no-untyped-def]
    """Whether any cell of a row is not 0."""
    found = False
    for k in range(row.size):
        found |= row[k] != 0
    return found


@njit(nogil=True, cache=True)
def _update_row(out, c, enters, leaves):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = c[k] + (enters[k] - leaves[k])


@njit(nogil=True, cache=True)
def _sweep_rows(c, nu, out, lines, across, count, along, n):  # type: ignore[no-untyped-def]
    """Move rows of `n` cells along `lines` lines of `count` rows; all arrays flat. Empty rows give nothing away.

    across, along: flat distance from a line to the next one, and from a row to the next one in its line.
    """
    enters, leaves = np.zeros(n, dtype=c.dtype), np.zeros(n, dtype=c.dtype)
    for line in range(lines):
        enters[:] = 0
        filled = _holds_any(c[line * across + along : line * across + along + n])
        for row in range(1, count - 2):
            k = line * across + row * along
            follows = _holds_any(c[k + along : k + along + n])
            if filled or follows:
                _flux_row(
                    leaves, c[k - along : k - along + n], c[k : k + n], c[k + along : k + along + n],
                    c[k + 2 * along : k + 2 * along + n], nu[k : k + n], nu[k + along : k + along + n],
                    nu[k + 2 * along : k + 2 * along + n],
                )  # fmt: skip
            else:
                leaves[:] = 0
            filled = follows
            _update_row(out[k : k + n], c[k : k + n], enters, leaves)
            enters, leaves = leaves, enters
        last = line * across + (count - 2) * along
        out[last : last + n] = c[last : last + n] + enters


@njit(nogil=True, cache=True)
def sweep_x(c, nu, out):  # type: ignore[no-untyped-def]
    """Write c moved along x by nu on the lower x faces, which is 0 at the outermost layer of cells; all (x, y, z)."""
    nx, ny, nz = c.shape
    _sweep_rows(c.ravel(), nu.ravel(), out.ravel(), ny, nz, nx, ny * nz, nz)


@njit(nogil=True, cache=True)
def sweep_y(c, nu, out):  # type: ignore[no-untyped-def]
    """The same along y."""
    nx, ny, nz = c.shape
    _sweep_rows(c.ravel(), nu.ravel(), out.ravel(), nx, ny * nz, ny, nz, nz)


@njit(nogil=True, cache=True)
def sweep_z(c, nu, out):  # type: ignore[no-untyped-def]
    """The same along z."""
    nx, ny, nz = c.shape
    flux = np.zeros(nz, dtype=c.dtype)
    for i in range(nx):
        for j in range(ny):
            row, speed = c[i, j], nu[i, j]
            if not _holds_any(row):
                out[i, j] = 0
                continue
            _flux_row(
                flux[2:-1], row[:-3], row[1:-2], row[2:-1], row[3:], speed[1:-2], speed[2:-1], speed[3:]
            )  # fmt: skip
            _update_row(out[i, j, 1:-1], row[1:-1], flux[1:-1], flux[2:])
