"""Random small brains and tumors in them, and the strategies that draw both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from engine import Atlas, FisherKolmogorovParameters, Grid


def random_brain(seed: int, shortest: int = 9) -> Atlas:
    """Blobs of tissue, of every shape and partly apart, in a box with three different edges."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(shortest, shortest + 10, 3))
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 1.5, 1.5, 1.5))
    tissue = smooth[0] > np.quantile(smooth[0], 0.35)
    white = np.clip(0.5 + smooth[1] / smooth[1].std(), 0, 1)
    return Atlas(tissue * white, tissue * (1 - white), ~tissue * 1.0, Grid(shape, 4.0))


def random_tumors(seed: int, atlas: Atlas, count: int) -> list[FisherKolmogorovParameters]:
    rng = np.random.default_rng(seed)
    places = rng.choice(np.argwhere(atlas.tissue), count)
    return [
        FisherKolmogorovParameters(
            rng.uniform(0.02, 1.5), rng.uniform(0.002, 0.2), rng.uniform(50, 300),
            tuple(atlas.grid.from_voxel(place).tolist()),
        ) for place in places
    ]  # fmt: skip


class Case(NamedTuple):
    """A tumor and the brain that it grows in."""

    tumor: FisherKolmogorovParameters
    brain: Atlas


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A tumor of the paper's ranges (shorter), somewhere in the tissue of a random brain."""
    brain = random_brain(draw(st.integers(0, 200)))
    tissue = np.argwhere(brain.tissue)
    voxel = tissue[draw(st.integers(0, len(tissue) - 1))]
    origin = brain.grid.from_voxel(voxel).tolist()
    numbers = draw(st.floats(0.02, 1.5)), draw(st.floats(0.002, 0.2)), draw(st.floats(20, 200))
    return Case(FisherKolmogorovParameters(*numbers, tuple(origin)), brain)
