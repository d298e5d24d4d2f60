"""From one grid to another by world coordinates: images onto the T1, volumes onto a simulation grid and back."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from engine import Grid
from engine.grid import block_mean
from morph.volume import Volume

EDGE = "grid-constant"
"""Beyond a volume's outermost voxel centers it fades to 0."""
COVERED = 0.05
"""Share of a voxel's surroundings that must be tissue for a density to be read there (ours)."""


def resample(volume: Volume, like: Volume, order: int) -> Volume:
    """A volume at the voxel centers of another, 0 outside its own field of view.

    Args:
        volume: what is wanted.
        like: where.
        order: 1 linear, 0 nearest neighbor (for labels).
    """
    array = _at(volume.array, volume.affine, like.affine, like.array.shape, order)
    return like.with_array(array)


def average_onto(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    """The mean of a volume over every voxel of a grid, float32 (x, y, z); the volume may be oblique.

    The mean is taken over equidistant samples, as many along an edge as keep them about a voxel of the volume apart.
    """
    weights = averaging_weights(volume.affine, volume.array.shape, grid)
    if weights is not None:
        return _weighted(volume.array, weights)
    samples, dense = _samples(volume.affine, grid)
    box = _touched(volume, grid, samples)
    affine = dense.affine.copy()
    affine[:3, 3] += dense.spacing * np.array([side.start for side in box])
    shape = tuple(side.stop - side.start for side in box)
    values = _at(volume.array, volume.affine, affine, shape, 1)
    result = np.zeros(grid.shape, dtype=np.float32)
    result[tuple(slice(side.start // samples, side.stop // samples) for side in box)] = block_mean(values, samples)
    return result


def averaging_weights(affine: NDArray, shape: tuple[int, ...], grid: Grid) -> list[sparse.sparray] | None:
    """Weights (n, x), (m, y) and (k, z) of a volume's planes in `average_onto`; None if the volume is tilted.

    Args:
        affine: of the volume.
        shape: (x, y, z) of the volume.
        grid: (n, m, k), over whose voxels the mean is wanted.
    """
    samples, dense = _samples(affine, grid)
    places = _places_along_axes(affine, dense.affine, dense.shape)
    if places is None:
        return None
    means = [sparse.kron(sparse.eye_array(n), np.full((1, samples), 1 / samples)) for n in grid.shape]
    return [mean @ _linear(p, n) for mean, p, n in zip(means, places, shape, strict=True)]


def _samples(affine: NDArray, grid: Grid) -> tuple[int, Grid]:
    """How many samples along an edge of a voxel keep them about a voxel of a volume apart, and their grid."""
    spacing = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    samples = max(ceil(grid.spacing / spacing - 1e-6), 1)
    return samples, Grid(tuple(n * samples for n in grid.shape), grid.spacing / samples, grid.corner)  # type: ignore[arg-type]


def bounding_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, grown by `margin` voxels and cut at the image's edge."""
    slices = []
    for axis, count in enumerate(mask.shape):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        slices.append(slice(max(int(present[0]) - margin, 0), min(int(present[-1]) + 1 + margin, count)))
    return tuple(slices)


def cut(volume: Volume, box: tuple[slice, ...]) -> Volume:
    """The part of a volume in a box of voxels, at its place in the world."""
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_world([side.start for side in box])
    return Volume(np.ascontiguousarray(volume.array[box]), affine)


def spread_density(density: NDArray[np.float32], inside: NDArray[np.bool_], grid: Grid, like: Volume) -> Volume:
    """A density of a grid on a patient's image.

    A density belongs to tissue: it is interpolated between tissue voxels alone, so that it does not fade towards the
    zeros of the CSF beside it.

    Args:
        density: c [1], (x, y, z) on `grid`.
        inside: its tissue, bool (x, y, z) on `grid`.
        grid: where it was simulated.
        like: where it is wanted.
    """
    tissue = inside.astype(np.float32)
    held, present = (_at(v, grid.affine, like.affine, like.array.shape, 1) for v in (density * tissue, tissue))
    known = present >= COVERED
    return like.with_array(np.clip(np.divide(held, present, out=np.zeros_like(held), where=known), 0, 1))


def _at(
    values: NDArray[np.float32], affine: NDArray, wanted: NDArray, shape: tuple[int, ...], order: int
) -> NDArray[np.float32]:
    """Values of a grid with `affine` at the voxel centers of a grid with the affine `wanted`."""
    places = _places_along_axes(affine, wanted, shape)
    if places is not None:
        weigh = _linear if order else _nearest
        return _weighted(values, [weigh(p, n) for p, n in zip(places, values.shape, strict=True)])
    step = np.linalg.inv(affine) @ wanted
    found = ndimage.affine_transform(values, step[:3, :3], step[:3, 3], output_shape=shape, order=order, mode=EDGE)
    return np.asarray(found)


def _places_along_axes(affine: NDArray, wanted: NDArray, shape: tuple[int, ...]) -> list[NDArray[np.float64]] | None:
    """Where the planes of a grid lie among those of another [voxels], an array per axis; None if they are tilted."""
    step = np.linalg.inv(affine) @ wanted
    scale = np.diag(step[:3, :3])
    if not np.allclose(step[:3, :3], np.diag(scale), atol=1e-7):
        return None
    places = [a * np.arange(n) + start for a, n, start in zip(scale, shape, step[:3, 3], strict=True)]
    return [np.round(along, 9) for along in places]  # a plane that coincides with another has no share of its neighbors


def _linear(places: NDArray[np.float64], count: int) -> sparse.csr_array:
    """Weights (n, count) of linear interpolation between `count` planes, beyond which all is 0."""
    below = np.floor(places).astype(np.int64)
    planes = np.stack([below, below + 1], axis=1)
    weights = 1 - np.abs(places[:, None] - planes)
    rows, inside = np.indices(planes.shape)[0], (planes >= 0) & (planes < count) & (weights > 0)
    return sparse.csr_array((weights[inside], (rows[inside], planes[inside])), shape=(len(places), count))


def _nearest(places: NDArray[np.float64], count: int) -> sparse.csr_array:
    """The same of the nearest plane alone."""
    return _linear(np.floor(places + 0.5), count)


def _weighted(values: NDArray[np.float32], weights: list[sparse.sparray]) -> NDArray[np.float32]:
    """Weighted sums of a volume's planes, float32 (n, m, k), with weights (n, x), (m, y) and (k, z)."""
    sums: NDArray[np.floating] = values
    for matrix in weights:  # the first axis becomes the last one
        turned = matrix @ sums.reshape(len(sums), -1)  # in double precision: half a voxel stays half a voxel
        sums = np.moveaxis(turned.reshape(-1, *sums.shape[1:]), 0, -1)
    return np.ascontiguousarray(sums, dtype=np.float32)


def _touched(volume: Volume, grid: Grid, samples: int) -> tuple[slice, ...]:
    """The box of dense samples, in whole voxels of the grid, outside which the volume is 0."""
    present = np.argwhere(volume.array != 0)
    if not len(present):
        return tuple(slice(0, samples) for _ in range(3))
    ends = np.stack([present.min(axis=0) - 1, present.max(axis=0) + 1])
    corners = np.array(np.meshgrid(*ends.T, indexing="ij")).reshape(3, -1).T
    voxels = grid.to_voxel(grid.from_world(volume.to_world(corners))) + 0.5
    low = np.clip(np.floor(voxels.min(axis=0)), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(voxels.max(axis=0)), low + 1, grid.shape).astype(int)
    return tuple(slice(int(a) * samples, int(b) * samples) for a, b in zip(low, high, strict=True))
