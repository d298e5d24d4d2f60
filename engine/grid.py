"""Voxel geometry: a cube of isotropic voxels with its place in the world (RAS, mm)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A regular grid of isotropic voxels, its axes along the world's R, A and S.

    Attributes:
        shape: number of voxels (x, y, z), each >= 1.
        spacing: edge of a voxel [mm], > 0.
        corner: world position [mm] of the outer corner of voxel (0, 0, 0).

    A place inside the grid is written as an *origin* o in [0, 1]³, the fraction of the grid's extent; its
    continuous voxel coordinate is o N - 0.5 (integers are voxel centers).
    """

    shape: tuple[int, int, int] = (128, 128, 128)
    spacing: float = 1.8
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse a grid that has no voxels or no size."""
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"grid shape {self.shape} is not three positive integers")
        if not (np.isfinite(self.spacing) and self.spacing > 0):
            raise InputError(f"grid spacing {self.spacing} mm is not positive and finite")
        if len(self.corner) != 3 or not np.all(np.isfinite(self.corner)):
            raise InputError(f"grid corner {self.corner} is not three finite coordinates in mm")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing", float(self.spacing))
        object.__setattr__(self, "corner", tuple(float(v) for v in self.corner))

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index -> world RAS [mm], shape (4, 4)."""
        affine = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        affine[:3, 3] = np.asarray(self.corner) + 0.5 * self.spacing
        return affine

    @property
    def extent(self) -> NDArray[np.float64]:
        """Edge lengths of the whole grid [mm], shape (3,)."""
        return np.asarray(self.shape) * self.spacing

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel [ml]."""
        return self.spacing**3 / 1000.0

    def coarsened(self, factor: int) -> Grid:
        """The grid with voxels `factor` times as long; where that does not divide an axis, it reaches further."""
        x, y, z = (-(-n // factor) for n in self.shape)
        return replace(self, shape=(x, y, z), spacing=self.spacing * factor)

    def voxels_in(self, volume: float) -> int:
        """Whole voxels in a volume [ml]."""
        return int(volume / self.voxel_volume + 1e-9)

    def to_voxel(self, origin: ArrayLike) -> NDArray[np.float64]:
        """Continuous voxel coordinates of places given as fractions, shape (..., 3)."""
        return np.asarray(origin, dtype=np.float64) * np.asarray(self.shape) - 0.5

    def to_world(self, origin: ArrayLike) -> NDArray[np.float64]:
        """World coordinates [mm] of places given as fractions, shape (..., 3)."""
        return np.asarray(self.corner) + np.asarray(origin, dtype=np.float64) * self.extent

    def from_world(self, world: ArrayLike) -> NDArray[np.float64]:
        """Fractions of the extent of places given in world coordinates [mm], shape (..., 3)."""
        return (np.asarray(world, dtype=np.float64) - np.asarray(self.corner)) / self.extent

    def from_voxel(self, voxel: ArrayLike) -> NDArray[np.float64]:
        """Fractions of the extent of continuous voxel coordinates, shape (..., 3)."""
        return (np.asarray(voxel, dtype=np.float64) + 0.5) / np.asarray(self.shape)

    def placed_at(self, world: ArrayLike, fraction: ArrayLike) -> Grid:
        """The same grid moved so that the world point [mm] lies at `fraction` of its extent."""
        corner = np.asarray(world, dtype=np.float64) - np.asarray(fraction, dtype=np.float64) * self.extent
        return replace(self, corner=tuple(corner.tolist()))


def block_mean(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The mean over blocks of `factor`³ voxels, (x / factor, y / factor, z / factor)."""
    split = values.reshape([n for side in values.shape for n in (side // factor, factor)])
    return np.asarray(split.mean(axis=1).mean(axis=2).mean(axis=3))  # faster than over the three axes at once


GRIDS: dict[str, Grid] = {
    "full": Grid((128, 128, 128), 1.8),
    "half": Grid((64, 64, 64), 3.6),
    "quarter": Grid((32, 32, 32), 7.2),
}
"""Grids over the same 230.4 mm cube; the paper's is `full` (128³)."""
