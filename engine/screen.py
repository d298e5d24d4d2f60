"""Which proposals are worth a full run: most are far too big or too small, and a cheaper run says so.

On fine grids that is one on voxels twice as wide, at a twentieth of the cost; with mass effect one without. It is
biased, so it only rejects, and only what is out of the filter's range by more than `SCREEN_MARGINS`: the accepted rows
are the same with and without it (`benches/screen.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.backends import Backend
from engine.model import Model
from engine.nearest import nearest_tissues
from engine.parameters import FisherKolmogorovParameters
from engine.sampling import Prior
from engine.simulate import Simulated, simulate_stream

FINEST_UNSCREENED = 3.0
"""Grids with wider voxels [mm] are not screened: there the bias is not known, and a run costs little."""
SCREEN_MARGINS = (0.8, 2.0)
"""A screen rejects below this part of the smallest and above this part of the largest volume: volume at 3.6 mm over
volume at 1.8 mm was 1.09 in the median of 940 accepted tumors and 1.88 at most (`benches/screen.py`)."""
SCREEN_DENSITY = 0.5
"""Too small is judged at this density: where a tumor only just reaches 0.7, its volume there says nothing."""
MASS_EFFECT_MARGIN = 0.25
"""With mass effect the first model is the screen, and a tumor that pushes is 1.3 to 2.8 times as large as one that
does not (`benches/mass_effect.py`): the lower margin is multiplied by this."""


def pays(atlas: Atlas, model: Model) -> bool:
    """Whether a screen costs much less than what it screens."""
    return _is_fine(atlas) or model.has_mass_effect


def screen(
    batch: Sequence[FisherKolmogorovParameters],
    atlas: Atlas,
    prior: Prior,
    model: Model,
    backend: Backend,
    scheme: str,
) -> Iterator[bool]:
    """Whether each proposal may pass the size filter; the runs start at the call."""
    coarse, margins = (_coarsened(atlas), SCREEN_MARGINS) if _is_fine(atlas) else (atlas, (1.0, 1.0))
    low, high = (margin * size for margin, size in zip(margins, prior.size, strict=True))
    low *= MASS_EFFECT_MARGIN if model.has_mass_effect else 1
    origins = coarse.grid.from_world(atlas.grid.to_world([one.origin for one in batch]))
    places = nearest_tissues(origins, coarse)
    near = _are_near(origins, places, coarse)
    moved = [replace(one, origin=(x, y, z)) for one, (x, y, z) in zip(batch, places.tolist(), strict=True)]
    runs = simulate_stream(moved, coarse, backend=backend, scheme=scheme, stop_volume=high)
    return (
        _fits(one, low, high, coarse) or not is_comparable for one, is_comparable in zip(runs, near, strict=True)
    )  # fmt: skip


def _fits(one: Simulated, low: float, high: float, atlas: Atlas) -> bool:
    """Whether a tumor's volume [ml] is in a range, the lower end judged at `SCREEN_DENSITY`."""
    if one.ended != "duration" or one.volume > high:
        return False
    return one.volume >= low or one.count(SCREEN_DENSITY) * atlas.grid.voxel_volume >= low


def _is_fine(atlas: Atlas) -> bool:
    return atlas.grid.spacing < FINEST_UNSCREENED


@lru_cache(maxsize=4)
def _coarsened(atlas: Atlas) -> Atlas:
    return atlas.coarsened()


def _are_near(first: NDArray[np.float64], second: NDArray[np.float64], atlas: Atlas) -> NDArray[np.bool_]:
    """Whether origins (n, 3) are at most a voxel's diagonal apart: then their tumors have about the same size."""
    apart = np.linalg.norm((first - second) * np.asarray(atlas.grid.shape), axis=1)
    return np.asarray(apart <= np.sqrt(3))
