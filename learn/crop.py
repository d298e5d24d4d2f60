"""The part of the grid that the network sees: the bounding box of the tissue.

A convolutional network sees the same in a box as in the whole cube, at a third of the voxels. Even corners keep
the strided first layer on the same voxels as without the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, InputError

STRIDE = 2
"""Stride of the network's first layer, to which the box is aligned."""


@dataclass(frozen=True)
class Crop:
    """A box of voxels, `start` included, `stop` excluded."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Refuse an empty box."""
        if not all(0 <= low < high for low, high in zip(self.start, self.stop, strict=True)):
            raise InputError(f"the crop from {self.start} to {self.stop} holds no voxels")

    @classmethod
    def around(cls, atlas: Atlas) -> Crop:
        """The tissue's bounding box, grown to even corners."""
        box = atlas.bounding_box()
        start = tuple(side.start - side.start % STRIDE for side in box)
        stop = tuple(min(side.stop + side.stop % STRIDE, n) for side, n in zip(box, atlas.grid.shape, strict=True))
        return cls((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    @classmethod
    def whole(cls, atlas: Atlas) -> Crop:
        """The whole grid, as in the paper."""
        return cls((0, 0, 0), atlas.grid.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return (self.stop[0] - self.start[0], self.stop[1] - self.start[1], self.stop[2] - self.start[2])

    def apply(self, values: Any) -> Any:
        """The box of an array or tensor whose last three axes are the grid's; a view."""
        x, y, z = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return values[..., x, y, z]


def atlas_context(atlas: Atlas, crop: Crop, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
    """What an anchored network knows of the atlas, float32 (5, *crop.shape).

    Args:
        coordinates: encoded place of every voxel of the grid, (3, x, y, z).
        atlas: whose white and gray matter [fraction] follow the coordinates.
        crop: the box to keep.
    """
    channels = np.concatenate([coordinates, atlas.white_matter[None], atlas.gray_matter[None]])
    return np.ascontiguousarray(crop.apply(channels), dtype=np.float32)


def memory_needed(samples: int, crop: Crop) -> float:
    """Memory [GB] that `samples` cropped densities take as float16."""
    return samples * float(np.prod(crop.shape)) * np.dtype(np.float16).itemsize / 1e9
