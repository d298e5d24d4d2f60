"""The part of a brain that costs anything: a box around the tissue, cut into short blocks of voxels.

The box is stored flat with one voxel of empty padding, so that the six neighbors of voxel i are i ± 1, i ± sy and
i ± sx without a test. Tissue voxels are covered, in flat order, by disjoint blocks of `LANES` voxels: a block is
the unit of work and of activity. What a block covers beside tissue has no open face and stays 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.errors import InputError

LANES = 8
"""Voxels in a block: one 256-bit vector of float32, measured as fast as 16 and wasting less."""
GRAY_MATTER_SHARE = 0.1
"""Diffusivity in gray matter relative to white (the paper: D = D_w (p_w + p_g / 10))."""


class Voxels(NamedTuple):
    """Some voxels of a domain: places in its flat arrays, int64 (n,), and what is there, float32 (n,)."""

    places: NDArray[np.int64]
    values: NDArray[np.float32]


FACES = ("harmonic", "arithmetic")
"""Means of the diffusivity at a face: `harmonic` as two resistances in series (GliomaSolver's and ours), `arithmetic`
(TumorGrowthToolkit's) for comparisons."""


@dataclass(frozen=True, eq=False)
class Domain:
    """A brain prepared for the solver.

    Attributes:
        box: slices of the full grid that hold the tissue.
        shape: padded shape of the box (x, y, z).
        faces: relative diffusivity D / D_w of the face between a voxel and its +x, +y, +z neighbor,
            float32 (3, size); 0 where either side is not tissue.
        tissue: bool (size,).
        starts: flat index of the first voxel of each block, int64 (blocks,).
        fill: tissue voxels in each block, int32 (blocks,).
        links, link_offsets: for block b, links[link_offsets[b]:link_offsets[b + 1]] are the blocks it touches.
        spacing: h [mm].
    """

    box: tuple[slice, slice, slice]
    shape: tuple[int, int, int]
    faces: NDArray[np.float32]
    tissue: NDArray[np.bool_]
    starts: NDArray[np.int64]
    fill: NDArray[np.int32]
    links: NDArray[np.int32]
    link_offsets: NDArray[np.int64]
    spacing: float

    @property
    def strides(self) -> tuple[int, int]:
        """Flat distance of neighbors along x and along y (along z it is 1)."""
        return self.shape[1] * self.shape[2], self.shape[2]

    def pack(self, voxels: NDArray[np.intp], values: NDArray[np.floating]) -> Voxels:
        """Flat places and values of tissue voxels (n, 3) of the full grid."""
        low = np.array([part.start for part in self.box])
        places = (voxels - low + (1, 1, 0)) @ np.array([*self.strides, 1])
        return Voxels(places.astype(np.int64), values.astype(np.float32))

    def unpack(self, flat: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write a flat field into a full-grid array that is 0 outside the box; both on the same device."""
        padded = flat[: int(np.prod(self.shape))].reshape(self.shape)
        out[self.box] = padded[1:-1, 1:-1, :-1]


@lru_cache(maxsize=8)
def domain_of(atlas: Atlas, mean: str = "harmonic") -> Domain:
    """The domain of an atlas, kept for the next call.

    Raises:
        InputError: `mean` is none of `FACES`.
    """
    if mean not in FACES:
        raise InputError(f"faces={mean!r} is unknown: use {' or '.join(FACES)}")
    box = atlas.bounding_box()
    tissue = _pad(atlas.tissue[box])
    mobility = _pad((atlas.white_matter + GRAY_MATTER_SHARE * atlas.gray_matter)[box])
    shape = tissue.shape
    flat_tissue, flat_mobility = _flatten(tissue), _flatten(np.where(tissue, mobility, 0).astype(np.float32))
    strides = (shape[1] * shape[2], shape[2], 1)
    faces = np.stack([_face(flat_mobility, stride, mean) for stride in strides])
    starts, block_of = _cover(flat_tissue, LANES)
    links, offsets = _link(starts, block_of, np.array(strides), faces, LANES)
    fill = np.bincount(block_of[flat_tissue], minlength=len(starts)).astype(np.int32)
    return Domain(
        box, shape, faces, flat_tissue, starts, fill, links, offsets, atlas.grid.spacing
    )  # fmt: skip


def _pad(values: NDArray) -> NDArray:
    """One empty voxel around; along z one is enough, it is the end of one row and the start of the next."""
    return np.pad(values, ((1, 1), (1, 1), (0, 1)))


def _flatten(values: NDArray) -> NDArray:
    """Flat, with room for the last block to read past the end."""
    return np.concatenate([values.ravel(), np.zeros(2 * LANES, dtype=values.dtype)])


def _face(mobility: NDArray[np.float32], stride: int, mean: str) -> NDArray[np.float32]:
    """Diffusivity between every voxel and its neighbor, 0 where either is not tissue."""
    here = mobility.astype(np.float64)
    there = np.concatenate([here[stride:], np.zeros(stride)])
    is_open = (here > 0) & (there > 0)
    value = 2 * here * there / np.where(is_open, here + there, 1) if mean == "harmonic" else (here + there) / 2
    return np.where(is_open, value, 0).astype(np.float32)


@njit(cache=True)
def _cover(tissue, lanes):  # type: ignore[no-untyped-def]
    """Greedy disjoint blocks over the tissue, and the block of every voxel (-1: none)."""
    starts = np.empty(tissue.size, dtype=np.int64)
    block_of = np.full(tissue.size, -1, dtype=np.int32)
    count, free = 0, 0
    for i in range(tissue.size):
        if tissue[i]:
            if i >= free:
                starts[count] = i
                count += 1
                free = i + lanes
            block_of[i] = count - 1
    return starts[:count].copy(), block_of


@njit(cache=True)
def _link(starts, block_of, strides, faces, lanes):  # type: ignore[no-untyped-def]
    """Blocks that share an open face, in compressed rows."""
    offsets = np.zeros(starts.size + 1, dtype=np.int64)
    links = np.empty(starts.size * 6 * lanes, dtype=np.int32)
    seen = np.full(starts.size, -1, dtype=np.int64)
    count = 0
    for b in range(starts.size):
        seen[b] = b
        for i in range(starts[b], starts[b] + lanes):
            for axis in range(3):
                for side in range(2):
                    j = i + strides[axis] if side == 0 else i - strides[axis]
                    face = i if side == 0 else j
                    if face >= 0 and faces[axis, face] > 0 and seen[block_of[j]] != b:
                        seen[block_of[j]] = b
                        links[count] = block_of[j]
                        count += 1
        offsets[b + 1] = count
    return links[:count].copy(), offsets
