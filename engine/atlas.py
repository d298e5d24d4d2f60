"""Tissue fractions on a simulation grid.

Tissue is where white and gray matter together are at least as much as CSF; there their fractions are
renormalized to sum 1 and CSF is 0. Elsewhere in the brain the voxel is CSF, and nothing diffuses. Maps are
box-averaged onto the grid before that rule.

The grid is placed so that the center of the brain's bounding box lies at (0.425, 0.5, 0.425) of the cube, where
the paper's origin ranges cover the brain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine.anatomy import Anatomy, load_anatomy
from engine.errors import InputError
from engine.grid import Grid, block_mean

BRAIN_CENTER = (0.425, 0.5, 0.425)
"""Where the center of the brain's bounding box lies in the cube [fraction of the extent]."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """A brain on a grid.

    Attributes:
        white_matter: fraction [1], float32 (x, y, z) on `grid`; likewise `gray_matter` and `csf`. Given as
            partial volumes in [0, 1] that sum to at most 1; kept after the tissue rule of this module.
        grid: where the voxels are.
        name: for people and for the attributes of a store.

    Raises:
        InputError: shapes do not match the grid, fractions leave [0, 1] or sum to more than 1, or no tissue.
    """

    white_matter: NDArray[np.float32]
    gray_matter: NDArray[np.float32]
    csf: NDArray[np.float32]
    grid: Grid = field(default_factory=Grid)
    name: str = "custom"

    def __post_init__(self) -> None:
        """Check the fractions and apply the tissue rule."""
        maps = [np.ascontiguousarray(m, dtype=np.float32) for m in (self.white_matter, self.gray_matter, self.csf)]
        for label, values in zip(("white_matter", "gray_matter", "csf"), maps, strict=True):
            if values.shape != self.grid.shape:
                raise InputError(f"{label} has shape {values.shape}, the grid has {self.grid.shape}")
            if not np.all((values >= 0) & (values <= 1 + 1e-5)):
                raise InputError(f"{label} has fractions outside [0, 1]")
        white, gray, csf = maps
        total = white + gray + csf
        if total.max() > 1.01:
            raise InputError(f"tissue fractions sum to {total.max():.3f} in a voxel: at most 1 is possible")
        matter = white + gray
        brain = total >= 0.5
        tissue = brain & (matter >= csf)
        if not tissue.any():
            raise InputError("the atlas has no voxel where white and gray matter outweigh CSF")
        share = np.divide(white, matter, out=np.zeros_like(white), where=tissue)
        object.__setattr__(self, "white_matter", share)
        object.__setattr__(self, "gray_matter", np.where(tissue, 1 - share, 0).astype(np.float32))
        object.__setattr__(self, "csf", (brain & ~tissue).astype(np.float32))

    @cached_property
    def tissue(self) -> NDArray[np.bool_]:
        """Where a tumor can grow, bool (x, y, z)."""
        return (self.white_matter + self.gray_matter) > 0.5

    @cached_property
    def nearest_voxels(self) -> NDArray[np.int32]:
        """For every voxel the nearest one in tissue, int32 (3, x, y, z)."""
        return ndimage.distance_transform_edt(~self.tissue, return_distances=False, return_indices=True)

    @cached_property
    def brain(self) -> NDArray[np.bool_]:
        """Tissue and CSF, bool (x, y, z)."""
        return self.tissue | (self.csf > 0.5)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the grid and the fractions: two atlases with equal hashes give equal simulations."""
        digest = hashlib.sha256(repr((self.grid.shape, self.grid.spacing)).encode())
        digest.update(np.round(self.grid.corner, 6).tobytes())
        for values in (self.white_matter, self.gray_matter, self.csf):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def coarsened(self) -> Atlas:
        """The same brain on voxels twice as wide; an odd axis gets a layer of nothing at its end."""
        grid = self.grid.coarsened(2)
        room = [(0, 2 * coarse - n) for coarse, n in zip(grid.shape, self.grid.shape, strict=True)]
        white, gray, csf = (block_mean(np.pad(m, room), 2) for m in (self.white_matter, self.gray_matter, self.csf))
        return Atlas(white, gray, csf, grid, f"{self.name} coarsened")

    def bounding_box(self, margin: int = 0) -> tuple[slice, slice, slice]:
        """The smallest box around the tissue, grown by `margin` voxels and cut at the grid's edge."""
        slices: list[slice] = []
        for axis in range(3):
            present = np.flatnonzero(self.tissue.any(axis=tuple(a for a in range(3) if a != axis)))
            low, high = int(present[0]) - margin, int(present[-1]) + 1 + margin
            slices.append(slice(max(low, 0), min(high, self.grid.shape[axis])))
        return slices[0], slices[1], slices[2]


def load_atlas(source: str | Mapping[str, str], grid: Grid | None = None) -> Atlas:
    """Bring a registered brain, or a user's own, onto a simulation grid.

    Args:
        source: `sri24`, `mni152`, or a mapping of four NIfTI paths (see `engine.anatomy.load_anatomy`).
        grid: shape and spacing (default 128³ at 1.8 mm); its corner is set here.

    Raises:
        InputError: the source cannot be read, or the brain does not fit into the grid.
    """
    anatomy = load_anatomy(source)
    return place(anatomy, grid or Grid())


def place(anatomy: Anatomy, grid: Grid) -> Atlas:
    """Box-average an anatomy's maps onto `grid`, moved so that the brain lies where the priors expect it."""
    present = np.argwhere(anatomy.t1 > 0)
    low, high = present.min(axis=0) - 0.5, present.max(axis=0) + 0.5
    center = anatomy.affine[:3, :3] @ ((low + high) / 2) + anatomy.affine[:3, 3]
    placed = grid.placed_at(center, BRAIN_CENTER)
    maps = [box_average(m, anatomy.affine, placed) for m in (anatomy.white_matter, anatomy.gray_matter, anatomy.csf)]
    corners = placed.from_world(_corners(anatomy.affine, low, high))
    if corners.min() < -1e-9 or corners.max() > 1 + 1e-9:
        raise InputError(f"the brain does not fit into a grid of {placed.extent} mm: use a larger one")
    return atlas_of(maps, placed, anatomy.name)


def atlas_of(maps: Sequence[NDArray[np.float32]], grid: Grid, name: str) -> Atlas:
    """A brain from white matter, gray matter and CSF, (x, y, z) each on a grid, which may sum to over 1."""
    total = np.maximum(sum(maps), 1.0)
    white, gray, csf = (np.clip(m / total, 0, 1) for m in maps)
    return Atlas(white, gray, csf, grid, name)


def box_average(values: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """The mean of a native map over every voxel of `grid`, exact for axis-aligned native voxels.

    Args:
        values: native map, (x, y, z), axes RAS; taken as constant over its voxels and 0 outside its volume.
        affine: its voxel index -> world RAS [mm]; diagonal up to translation.
        grid: where the means are wanted.

    Raises:
        InputError: the affine is oblique.
    """
    scale = np.diag(affine)[:3]
    if not np.allclose(affine[:3, :3], np.diag(scale), atol=1e-4 * scale.max()):
        raise InputError("the atlas files are oblique: resample them to an axis-aligned grid first")
    result = values.astype(np.float64)
    for axis in range(3):
        weights = _overlap(
            grid.shape[axis], grid.corner[axis], grid.spacing,
            values.shape[axis], affine[axis, 3] - 0.5 * scale[axis], scale[axis],
        )  # fmt: skip
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return result.astype(np.float32)


def _overlap(coarse: int, start: float, step: float, fine: int, fine_start: float, fine_step: float) -> NDArray:
    """Share of each coarse interval covered by each fine one, shape (coarse, fine)."""
    left = start + step * np.arange(coarse)[:, None]
    fine_left = fine_start + fine_step * np.arange(fine)[None, :]
    shared = np.minimum(left + step, fine_left + fine_step) - np.maximum(left, fine_left)
    return np.clip(shared, 0, None) / step


def _corners(affine: NDArray, low: NDArray, high: NDArray) -> NDArray[np.float64]:
    return np.stack([low, high]) @ affine[:3, :3].T + affine[:3, 3]
