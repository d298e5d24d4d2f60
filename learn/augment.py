"""Masks that look like real segmentations, made from a simulated density: to train on, and to test on.

    - registration error: the tumor is shifted, and warped by a smooth field;
    - every outline is moved along its normal by a smooth field about a common offset (eroded here, dilated there), the
      core's and the edema's each by its own, so that the core need not lie inside the edema;
    - holes, and slices that nobody outlined.

A mask is c + m |∇c| >= threshold with the move m [mm]: to first order its outline lies m further out. A steep front
is moved by a voxel at most.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine import InputError, observe

CONTROL = 18.0
"""Distance [mm] between the control points of a smooth field: errors of neighboring places agree (ours)."""
LARGEST_RUN = 3
"""Slices that are missing together, at most (ours)."""
HOLE = (3.0, 9.0)
"""Radii of holes [mm] (ours)."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Augmentation:
    """How much real masks differ from simulated ones; the defaults change nothing.

    Attributes:
        share: of the samples that are changed at all.
        shift: standard deviation [mm] of the tumor's displacement along each axis; `warp` [mm] of its smooth part.
        outline: standard deviation [mm] of the local move of an outline, `offset` [mm] of its common move.
        holes: probability of a hole, for each mask; `missing` of missing slices, where the mask is.

    Raises:
        InputError: a value is negative or not a number, or a probability above 1.
    """

    share: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    outline: float = 0.0
    offset: float = 0.0
    holes: float = 0.0
    missing: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        for field in fields(self):
            value = getattr(self, field.name)
            highest = 1.0 if field.name in ("share", "holes", "missing") else np.inf
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                allowed = "from 0 to 1" if isfinite(highest) else ">= 0"
                raise InputError(f"augmentation.{field.name}={value} must be a number {allowed}")

    def masks(
        self, density: NDArray[np.floating], thresholds: tuple[float, float], spacing: float, rng: np.random.Generator
    ) -> tuple[Mask, Mask]:
        """The masks (core, edema) of a density as somebody might have drawn them.

        Args:
            density: c [1], (x, y, z).
            thresholds: of the core and of the edema.
            spacing: edge of a voxel [mm].
            rng: decides.
        """
        c = torch.from_numpy(np.ascontiguousarray(density, dtype=np.float32))
        if rng.random() >= self.share:
            return observe(density, *thresholds)
        if self.shift or self.warp:
            c = self._displaced(c, spacing, rng)
        steepness = torch.stack(torch.gradient(c, spacing=spacing)).square().sum(dim=0).sqrt()
        core, edema = (self._drawn(c, steepness, threshold, spacing, rng) for threshold in thresholds)
        return core, edema

    def _displaced(self, c: Tensor, spacing: float, rng: np.random.Generator) -> Tensor:
        """The density shifted and warped, linear between voxels."""
        sizes = torch.tensor(c.shape) * spacing
        smooth = torch.stack([_smooth_field(c.shape, spacing, rng) for _ in range(3)])
        move = self.warp * smooth + self.shift * torch.from_numpy(rng.standard_normal((3, 1, 1, 1))).float()
        places = torch.meshgrid(*((2 * torch.arange(n) + 1) / n - 1 for n in c.shape), indexing="ij")
        where = torch.stack(places) + 2 * move / sizes[:, None, None, None]
        # grid_sample names the last axis first
        taken = torch.nn.functional.grid_sample(
            c[None, None], where.flip(0).permute(1, 2, 3, 0)[None], align_corners=False
        )
        return taken[0, 0]

    def _drawn(self, c: Tensor, steepness: Tensor, threshold: float, spacing: float, rng: np.random.Generator) -> Mask:
        """One mask."""
        move = self.offset * float(rng.standard_normal()) + self.outline * _smooth_field(c.shape, spacing, rng)
        mask = (c + move * steepness >= threshold).numpy()
        if rng.random() < self.holes:
            _cut_hole(mask, spacing, rng)
        if rng.random() < self.missing:
            _drop_slices(mask, rng)
        return mask


def _smooth_field(shape: tuple[int, ...], spacing: float, rng: np.random.Generator) -> Tensor:
    """A random field of standard deviation about 1 at its control points, linear between them, float32 (x, y, z)."""
    points = [max(2, round(n * spacing / CONTROL) + 1) for n in shape]
    values = torch.from_numpy(rng.standard_normal((1, 1, *points))).float()
    return torch.nn.functional.interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _drop_slices(mask: Mask, rng: np.random.Generator) -> None:
    """Empty neighboring slices along an axis, the first of which holds part of the mask."""
    slices = np.moveaxis(mask, int(rng.integers(3)), 0)
    held = np.flatnonzero(slices.any(axis=(1, 2)))
    if len(held):
        first = int(rng.choice(held))
        slices[first : first + int(rng.integers(1, LARGEST_RUN + 1))] = False


def _cut_hole(mask: Mask, spacing: float, rng: np.random.Generator) -> None:
    """Remove a ball around a voxel of the mask."""
    inside = np.argwhere(mask)
    if not len(inside):
        return
    center, radius = inside[rng.integers(len(inside))], rng.uniform(*HOLE) / spacing
    axes = np.ogrid[tuple(slice(n) for n in mask.shape)]
    mask[sum((axis - place) ** 2 for axis, place in zip(axes, center, strict=True)) <= radius**2] = False
