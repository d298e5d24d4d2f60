"""The tissue that is nearest to a place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas


def nearest_tissue(origin: Sequence[float], atlas: Atlas) -> tuple[float, float, float]:
    """`origin` itself where it lies in tissue, otherwise the nearest tissue voxel's center (fractions)."""
    ((x, y, z),) = nearest_tissues(np.array([origin], dtype=np.float64), atlas).tolist()
    return (x, y, z)


def nearest_tissues(origins: NDArray[np.float64], atlas: Atlas) -> NDArray[np.float64]:
    """`nearest_tissue` of many origins, float64 (n, 3)."""
    shape = np.array(atlas.grid.shape)
    voxels = np.floor(atlas.grid.to_voxel(origins) + 0.5).astype(int)
    is_in_grid = np.all((voxels >= 0) & (voxels < shape), axis=1)
    voxels = np.clip(voxels, 0, shape - 1)
    outside = ~(is_in_grid & atlas.tissue[tuple(voxels.T)])
    places = origins.copy()
    if outside.any():
        nearest = atlas.nearest_voxels[(slice(None), *voxels[outside].T)]
        places[outside] = atlas.grid.from_voxel(nearest.T)
    return places
