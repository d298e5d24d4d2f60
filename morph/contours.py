"""Outlines of a region in the slices of an image, as closed polygons without holes.

The outline of a mask runs halfway between voxel centers inside and outside it (marching squares, contourpy), so that
filling a polygon at the voxel centers gives the mask back. A hole is joined to its outline by a cut of no width (a
"keyhole"): readers that unite polygons and readers that let them cancel out then see the same region.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Polygon = NDArray[np.float64]
LEVEL = 0.5
"""Share of a voxel from which on it counts as inside."""
BEND = 0.25
"""How far [voxels] a cut is bent aside: along a row it would run through the centers of voxels (ours)."""


def outlines(inside: NDArray[np.float32]) -> list[Polygon]:
    """The polygons around a region of one slice.

    Args:
        inside: share of each voxel that belongs to the region, (columns, rows).

    Returns:
        Each polygon's corners in continuous (column, row) coordinates, (n, 2), n >= 3, the first one not repeated.
    """
    padded = np.pad(inside, 1).T.astype(np.float64)
    filled = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(LEVEL, np.inf)
    polygons = []
    for points, offsets in zip(*filled, strict=True):
        rings = [_corners(points[start : stop - 1] - 1.0) for start, stop in pairwise(offsets)]
        polygons.append(_join([ring for ring in rings if len(ring) >= 3]))
    return [polygon for polygon in polygons if len(polygon) >= 3]


def _corners(ring: Polygon) -> Polygon:
    """A closed ring without points on the straight line between their neighbors."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[np.abs(turn) > 1e-9]


def _join(rings: list[Polygon]) -> Polygon:
    """One polygon from an outline and its holes, the nearest hole first, so that no cut crosses another hole."""
    if not rings:
        return np.empty((0, 2))
    outline, *holes = rings
    while holes:
        tree = cKDTree(outline)
        nearest = [tree.query(hole) for hole in holes]
        which = int(np.argmin([distance.min() for distance, _ in nearest]))
        distance, at = nearest[which]
        hole, first = holes.pop(which), int(np.argmin(distance))
        turned = np.roll(hole, -first, axis=0)
        place = int(at[first])
        way = turned[0] - outline[place]
        bend = (turned[:1] + outline[place]) / 2 + BEND * np.array([-way[1], way[0]]) / np.linalg.norm(way)
        outline = np.concatenate([outline[: place + 1], bend, turned, turned[:1], bend, outline[place:]])
    return outline
