"""Priors, and random numbers that do not depend on who asks first.

Sample i tries proposals 0, 1, 2, ... of its own stream (seed, i) until one passes the size filter, so what it
becomes depends neither on the other samples nor on workers, order or interruptions.

Ranges: Ezhov et al., Learn-Morph-Infer (2023); the size filter is read off their accepted samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.atlas import Atlas
from engine.errors import InputError
from engine.parameters import FisherKolmogorovParameters

Range = tuple[float, float]


@dataclass(frozen=True)
class Prior:
    """Uniform ranges of the Fisher-Kolmogorov parameters, and the sizes that are kept.

    Attributes:
        name: for the attributes of a store.
        diffusivity: D_w [mm²/day]; `proliferation` rho [1/day]; `duration` T [day].
        origin_box: ranges of the origin (fractions), redrawn until in tissue; None: uniform over all tissue.
        size: kept volumes [ml] where c >= 0.7.
    """

    name: str = "whole_brain"
    diffusivity: Range = (0.02, 1.5)
    proliferation: Range = (0.002, 0.2)
    duration: Range = (50.0, 1500.0)
    origin_box: tuple[Range, Range, Range] | None = None
    size: Range = (10.0, 420.0)

    def propose(self, seed: int, sample: int, proposal: int, atlas: Atlas) -> FisherKolmogorovParameters:
        """Draw number `proposal` of sample `sample`.

        Raises:
            InputError: the atlas has no tissue in the origin's box, or less than the smallest tumor kept.
        """
        room = len(_tissue_voxels(atlas, None)) * atlas.grid.voxel_volume
        if room < self.size[0]:
            raise InputError(f"{atlas.name} has {room:.1f} ml of tissue, the smallest tumor kept has {self.size[0]} ml")
        rng = random_stream(seed, sample, proposal)
        diffusivity, proliferation, duration = (
            float(rng.uniform(*bounds)) for bounds in (self.diffusivity, self.proliferation, self.duration)
        )
        return FisherKolmogorovParameters(diffusivity, proliferation, duration, self._draw_origin(rng, atlas))

    def accepts(self, volume: float) -> bool:
        """Whether a tumor of this volume [ml at c >= 0.7] is kept."""
        return self.size[0] <= volume <= self.size[1]

    def log_density(self, mu1: ArrayLike, mu2: ArrayLike) -> NDArray[np.float64]:
        """Log density of (log mu1, log mu2) [1] before the size filter, any shape; -inf where no draw can be.

        With a = mu1² = D T and b = mu2² = rho T, the density of (a, b) is the integral of 1 / T² over the durations
        for which a / T and b / T lie in their ranges; (log mu1, log mu2) brings the factor 4 a b. Normalized.

        Args:
            mu1: sqrt(D T) [mm].
            mu2: sqrt(rho T) [1].
        """
        a, b = np.square(np.asarray(mu1, dtype=np.float64)), np.square(np.asarray(mu2, dtype=np.float64))
        ranges = (self.diffusivity, self.proliferation, self.duration)
        shortest = np.maximum(np.maximum(a / ranges[0][1], b / ranges[1][1]), ranges[2][0])
        longest = np.minimum(np.minimum(a / ranges[0][0], b / ranges[1][0]), ranges[2][1])
        volume = np.prod([high - low for low, high in ranges])
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = 4 * a * b * (1 / shortest - 1 / longest) / volume
            return np.where(longest > shortest, np.log(np.maximum(inside, 0)), -np.inf)

    def _draw_origin(self, rng: np.random.Generator, atlas: Atlas) -> tuple[float, float, float]:
        """A uniform point of a uniform tissue voxel of the box."""
        voxels = _tissue_voxels(atlas, self.origin_box)
        while True:
            voxel = voxels[rng.integers(len(voxels))]
            origin = atlas.grid.from_voxel(voxel + rng.uniform(-0.5, 0.5, size=3))
            if self.origin_box is None or _is_inside(origin, self.origin_box):
                return (float(origin[0]), float(origin[1]), float(origin[2]))


PRIORS: dict[str, Prior] = {
    "paper": Prior("paper", origin_box=((0.15, 0.70), (0.20, 0.80), (0.15, 0.70))),
    "whole_brain": Prior(),
}
"""`paper` is the literal box, which misses the frontal and occipital poles; shipped weights use `whole_brain`."""


def random_stream(seed: int, *counters: int) -> np.random.Generator:
    """A generator of its own for every (seed, counters): equal arguments, equal numbers, in any order of calls."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=counters)))


@lru_cache(maxsize=8)
def _tissue_voxels(atlas: Atlas, box: tuple[Range, Range, Range] | None) -> NDArray[np.int64]:
    """Tissue voxels that reach into the box, int64 (n, 3)."""
    voxels = np.argwhere(atlas.tissue)
    if box is None:
        return voxels
    low, high = (atlas.grid.to_voxel([edge[side] for edge in box]) for side in (0, 1))
    voxels = voxels[np.all((voxels + 0.5 >= low) & (voxels - 0.5 <= high), axis=1)]
    if not len(voxels):
        raise InputError(f"{atlas.name} has no tissue in the prior's origin box {box}: use prior=whole_brain")
    return voxels


def _is_inside(origin: NDArray[np.float64], box: tuple[Range, Range, Range]) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(origin, box, strict=True))
