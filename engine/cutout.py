"""The part of an atlas that holds the brain, on two grids: that of the density, and a coarser one for displacements."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.domain import Domain, domain_of
from engine.errors import InputError
from engine.grid import Grid
from engine.kernels.mass_effect import coarsen
from engine.kernels.multigrid import prolong_add

ALIGNMENT = 4
"""The coarse box has a multiple of this many cells along each axis, so that multigrid can halve it twice."""

LAYERS_ABOVE = (1, 2, 1)
"""Empty coarse cells that are left at least at the upper end of each axis; the elastic kernels want two along y."""


class Cutout:
    """A brain cut out of its grid, with at least one coarse cell of empty space around it.

    Attributes:
        atlas: the brain on the box's own grid.
        factor: voxels along a coarse cell, a power of 2.
        low: the box's first voxel in the atlas' grid, int (3,); negative if the box begins outside.
        coarse_brain: coarse cells of which at least half is brain, bool (X, Y, Z).
        share: 1 / voxels of the brain in each coarse cell (1 where there are none), float32 (X, Y, Z).
        domain: all of the brain for the growth solver, its faces open everywhere.
    """

    def __init__(self, atlas: Atlas, factor: int) -> None:
        """Cut; the box may reach beyond the atlas' grid.

        Raises:
            InputError: the factor is not a power of 2.
        """
        if factor < 1 or factor & (factor - 1):
            raise InputError(f"a displacement voxel of {factor} voxels is not possible: use 1, 2, 4 or 8")
        places = np.argwhere(atlas.brain)
        self.factor = factor
        self.low = places.min(axis=0) - factor
        needed = -(-(places.max(axis=0) + 1 + factor * np.array(LAYERS_ABOVE) - self.low) // factor)
        coarse = -(-needed // ALIGNMENT) * ALIGNMENT
        self._full_shape = atlas.grid.shape
        shape = tuple(int(n) for n in coarse * factor)
        corner = np.asarray(atlas.grid.corner) + self.low * atlas.grid.spacing
        white, gray, csf = (_crop(m, self.low, shape) for m in (atlas.white_matter, atlas.gray_matter, atlas.csf))
        grid = Grid((shape[0], shape[1], shape[2]), atlas.grid.spacing, tuple(corner.tolist()))
        self.atlas = Atlas(white, gray, csf, grid, atlas.name)
        self.domain: Domain = _open_domain(self.atlas)
        inside = self.atlas.brain.astype(np.float32)
        ones = np.ones(tuple(coarse), dtype=np.float32)
        count = np.zeros_like(ones)
        coarsen(inside, factor, ones, count)
        self.coarse_brain = 2 * count >= factor**3
        self.share = (1 / np.maximum(count, 1)).astype(np.float32)

    @property
    def coarse_spacing(self) -> float:
        """Edge of a coarse cell [mm]."""
        return self.atlas.grid.spacing * self.factor

    def crop(self, field: NDArray) -> NDArray:
        """The box's part of a full-grid field (x, y, z)."""
        return _crop(field, self.low, self.atlas.grid.shape)

    def embed(self, field: NDArray) -> NDArray:
        """A full-grid field (..., x, y, z) that is 0 outside the box."""
        outer, inner = _overlap(self.low, field.shape[-3:], self._full_shape)
        full = np.zeros((*field.shape[:-3], *self._full_shape), dtype=field.dtype)
        full[..., outer[0], outer[1], outer[2]] = field[..., inner[0], inner[1], inner[2]]
        return full

    def coarsen(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means of a box field over the brain's part of every coarse cell, (X, Y, Z)."""
        mean = np.zeros_like(self.share)
        coarsen(field, self.factor, self.share, mean)
        return mean

    def refine(self, displacement: NDArray[np.float32]) -> NDArray[np.float32]:
        """A displacement of the coarse lower faces, (3, X, Y, Z), interpolated to the box's lower faces."""
        for _ in range(self.factor.bit_length() - 1):
            fine = np.zeros((3, *(2 * n for n in displacement.shape[1:])), dtype=np.float32)
            prolong_add(displacement, fine, np.ones_like(fine), np.ones(fine.shape[1:3], dtype=bool))
            displacement = fine
        return displacement


@lru_cache(maxsize=4)
def cutout_of(atlas: Atlas, factor: int) -> Cutout:
    """The cutout of an atlas, kept for the next call."""
    return Cutout(atlas, factor)


def _open_domain(atlas: Atlas) -> Domain:
    """The domain in which all of the brain is white matter."""
    brain, none = atlas.brain.astype(np.float32), np.zeros(atlas.grid.shape, dtype=np.float32)
    return domain_of(Atlas(brain, none, none, atlas.grid, atlas.name))


def _crop(field: NDArray, low: NDArray, shape: tuple[int, ...]) -> NDArray:
    outer, inner = _overlap(low, shape, field.shape)
    box = np.zeros(shape, dtype=field.dtype)
    box[inner] = field[outer]
    return box


def _overlap(low: NDArray, shape: tuple[int, ...], full: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Where the box lies in the full grid, and that part in the box."""
    start, stop = np.maximum(low, 0), np.minimum(low + np.asarray(shape), full)
    outer = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    inner = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
    return [outer, inner]
