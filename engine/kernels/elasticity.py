"""Innermost loops of the displacement solve for the CPU, in Numba; every long loop is made of whole vectors.

Staggered grid: u[0] lives on the lower x face of a cell, u[1] on its lower y face, u[2] on its lower z face, all
stored as (x, y, z) of the cells. Normal stresses live in the cells, the shear stress xy on the edge that a cell's
lower x and y faces share, and so on. Everything is in units of the cell: A is -h² times the elastic operator.

Planes of constant x are taken as one flat run each, fields as (x, y z): where a run passes from one row along z to
the next it meets the outermost layers, which are held and have no stiffness. `span` (2, x) says which part of a plane
holds brain; the rest is 0 and not visited. Stresses are kept for three planes at a time. There is no stress in the
last row of y: a skull right below it holds what lies along it less than it should. The finest grid keeps two layers
there (`engine.cutout`); on coarser ones it hardly matters to the preconditioner.
"""

from __future__ import annotations

import numpy as np
from numba import njit

STRESSES = 6
"""Normal x, y, z, shear xy, xz, yz."""


@njit(nogil=True, cache=True)
def _pressure(lam, x, x_up, y, y_up, z, z_up, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = lam[k] * ((x_up[k] - x[k]) + (y_up[k] - y[k]) + (z_up[k] - z[k]))


@njit(nogil=True, cache=True)
def _normal(pressure, mu, u, u_up, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = pressure[k] + (mu[k] + mu[k]) * (u_up[k] - u[k])


@njit(nogil=True, cache=True)
def _shear(mu, a, a_below, b, b_below, out):  # type: ignore[no-untyped-def]
    """The shear stress mu (difference of u_a along b + difference of u_b along a)."""
    for k in range(out.size):
        out[k] = mu[k] * ((a[k] - a_below[k]) + (b[k] - b_below[k]))


@njit(nogil=True, cache=True)
def _stress_plane(u, lam, mu, edge, span, nz, i, pressure, stress):  # type: ignore[no-untyped-def]
    """All stresses of plane i, out: stress (6, y z)."""
    stress[...] = 0
    low, high = span[0, i], span[1, i]
    if low >= high:
        return
    here, down, left = slice(low, high), slice(low - nz, high - nz), slice(low - 1, high - 1)
    x, y, z = u[0, i, here], u[1, i, here], u[2, i, here]
    if i + 1 < lam.shape[0]:
        x_up, y_up, z_up = u[0, i + 1, here], u[1, i, low + nz : high + nz], u[2, i, low + 1 : high + 1]
        p, m = pressure[here], mu[i, here]
        _pressure(lam[i, here], x, x_up, y, y_up, z, z_up, p)
        _normal(p, m, x, x_up, stress[0, here])
        _normal(p, m, y, y_up, stress[1, here])
        _normal(p, m, z, z_up, stress[2, here])
    _shear(edge[0, i, here], x, u[0, i, down], y, u[1, i - 1, here], stress[3, here])
    _shear(edge[1, i, here], x, u[0, i, left], z, u[2, i - 1, here], stress[4, here])
    _shear(edge[2, i, here], y, u[1, i, left], z, u[2, i, down], stress[5, here])


@njit(nogil=True, cache=True)
def _divergence(normal, normal_below, a, a_above, b, b_above, out):  # type: ignore[no-untyped-def]
    """Minus the divergence of the stress: differences of one normal stress and of both shear stresses."""
    for k in range(out.size):
        out[k] = (normal_below[k] - normal[k]) + (a[k] - a_above[k]) + (b[k] - b_above[k])


@njit(nogil=True, cache=True)
def _force_plane(below, stress, above, low, high, nz, force):  # type: ignore[no-untyped-def]
    """A u of a plane, force (3, y z), from the stresses of the plane and of the planes around it."""
    here, up, right = slice(low, high), slice(low + nz, high + nz), slice(low + 1, high + 1)
    down, left = slice(low - nz, high - nz), slice(low - 1, high - 1)
    xy, xz, yz = stress[3], stress[4], stress[5]
    _divergence(stress[0, here], below[0, here], xy[here], xy[up], xz[here], xz[right], force[0, here])
    _divergence(stress[1, here], stress[1, down], xy[here], above[3, here], yz[here], yz[right], force[1, here])
    _divergence(stress[2, here], stress[2, left], xz[here], above[4, here], yz[here], yz[up], force[2, here])


@njit(nogil=True, cache=True)
def _room(plane, like):  # type: ignore[no-untyped-def]
    """Scratch of a walk through the planes: force (3, y z), pressure (y z) and the stresses of three planes."""
    force, pressure = np.zeros((3, plane), dtype=like.dtype), np.zeros(plane, dtype=like.dtype)
    return force, pressure, np.zeros((3, STRESSES, plane), dtype=like.dtype)


@njit(nogil=True, cache=True)
def _force_at(u, lam, mu, edge, span, nz, i, pressure, stress, force):  # type: ignore[no-untyped-def]
    """The force of plane i, whose own stresses and those below are known; returns the cells that it reaches."""
    _stress_plane(u, lam, mu, edge, span, nz, i + 1, pressure, stress[(i + 1) % 3])
    low, high = span[0, i], span[1, i]
    if low < high:
        _force_plane(stress[(i - 1) % 3], stress[i % 3], stress[(i + 1) % 3], low, high, nz, force)
    return low, high


@njit(nogil=True, cache=True)
def _subtract(b, force, free, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = (b[k] - force[k]) * free[k]


@njit(nogil=True, cache=True)
def residual(b, u, lam, mu, edge, free, span, nz, out):  # type: ignore[no-untyped-def]
    """Write out = b - A u on the free faces; b, u, edge, free, out (3, x, y z), lam, mu (x, y z)."""
    _, nx, plane = b.shape
    force, pressure, stress = _room(plane, b)
    _stress_plane(u, lam, mu, edge, span, nz, 1, pressure, stress[1])
    for i in range(1, nx - 1):
        low, high = _force_at(u, lam, mu, edge, span, nz, i, pressure, stress, force)
        if low < high:
            for a in range(3):
                _subtract(b[a, i, low:high], force[a, low:high], free[a, i, low:high], out[a, i, low:high])


@njit(nogil=True, cache=True)
def _chebyshev(b, force, scale, keep, add, u, step):  # type: ignore[no-untyped-def]
    for k in range(u.size):
        step[k] = keep * step[k] + add * (scale[k] * (b[k] - force[k]))
        u[k] += step[k]


@njit(nogil=True, cache=True)
def relax(b, u, lam, mu, edge, scale, span, nz, keep, add, step):  # type: ignore[no-untyped-def]
    """One Chebyshev step in place: step = keep step + add scale (b - A u), u += step.

    scale: 1 / diag(A), 0 on held faces. A plane of u changes only after the stresses above it are known.
    """
    _, nx, plane = b.shape
    force, pressure, stress = _room(plane, b)
    _stress_plane(u, lam, mu, edge, span, nz, 1, pressure, stress[1])
    for i in range(1, nx - 1):
        low, high = _force_at(u, lam, mu, edge, span, nz, i, pressure, stress, force)
        if low < high:
            for a in range(3):
                _chebyshev(
                    b[a, i, low:high], force[a, low:high], scale[a, i, low:high], keep, add,
                    u[a, i, low:high], step[a, i, low:high],
                )  # fmt: skip


@njit(nogil=True, cache=True)
def relax_first(b, u, scale, step, add):  # type: ignore[no-untyped-def]
    """The first Chebyshev step from u = 0; all flat."""
    for k in range(u.size):
        step[k] = add * (scale[k] * b[k])
        u[k] = step[k]


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _dot_run(a, b):  # type: ignore[no-untyped-def]
    total = a[0] * b[0]
    for k in range(1, a.size):
        total += a[k] * b[k]
    return total


@njit(nogil=True, cache=True)
def dot(a, b):  # type: ignore[no-untyped-def]
    """Sum of a b over two flat arrays; runs of 512 are summed in float64."""
    total = 0.0
    for start in range(0, a.size, 512):
        total += _dot_run(a[start : start + 512], b[start : start + 512])
    return total


@njit(nogil=True, cache=True)
def turn(direction, keep, better):  # type: ignore[no-untyped-def]
    """Write direction = keep direction + better; all flat."""
    for k in range(direction.size):
        direction[k] = direction[k] * keep + better[k]


@njit(nogil=True, cache=True)
def advance(u, r, step, direction, image):  # type: ignore[no-untyped-def]
    """Add step direction to u and step image to r; all flat."""
    for k in range(u.size):
        u[k] += step * direction[k]
        r[k] += step * image[k]


@njit(nogil=True, cache=True, error_model="numpy")
def assemble(lam, mu, edge_share, free, edge, scale):  # type: ignore[no-untyped-def]
    """Fill edge, mu on each edge, and scale = 1 / diag(A); (3, x, y, z) each.

    lam, mu: 0 outside the brain; edge_share: what makes mu on an edge from the sum of the cells around it.
    """
    nx, ny, nz = lam.shape
    one, zero = lam.dtype.type(1), lam.dtype.type(0)
    for i in range(1, nx):
        for j in range(1, ny):
            for k in range(1, nz):
                m, below = mu[i, j, k], mu[i - 1, j - 1, k]
                edge[0, i, j, k] = (m + mu[i - 1, j, k] + mu[i, j - 1, k] + below) * edge_share[0, i, j, k]
                below = mu[i - 1, j, k - 1]
                edge[1, i, j, k] = (m + mu[i - 1, j, k] + mu[i, j, k - 1] + below) * edge_share[1, i, j, k]
                below = mu[i, j - 1, k - 1]
                edge[2, i, j, k] = (m + mu[i, j - 1, k] + mu[i, j, k - 1] + below) * edge_share[2, i, j, k]
    for i in range(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                here = lam[i, j, k] + mu[i, j, k] + mu[i, j, k]
                x = here + lam[i - 1, j, k] + mu[i - 1, j, k] + mu[i - 1, j, k]
                y = here + lam[i, j - 1, k] + mu[i, j - 1, k] + mu[i, j - 1, k]
                z = here + lam[i, j, k - 1] + mu[i, j, k - 1] + mu[i, j, k - 1]
                xy, xz, yz = edge[0, i, j, k], edge[1, i, j, k], edge[2, i, j, k]
                x += xy + edge[0, i, j + 1, k] + xz + edge[1, i, j, k + 1]
                y += xy + edge[0, i + 1, j, k] + yz + edge[2, i, j, k + 1]
                z += xz + edge[1, i + 1, j, k] + yz + edge[2, i, j + 1, k]
                scale[0, i, j, k] = one / x if free[0, i, j, k] > zero else zero
                scale[1, i, j, k] = one / y if free[1, i, j, k] > zero else zero
                scale[2, i, j, k] = one / z if free[2, i, j, k] > zero else zero
