"""Which proposals become rows: the first of every sample's random stream that passes the size filter.

Most proposals are far too big or too small, and on fine grids a run on voxels twice as wide says so at a twentieth of
the cost. It is biased, so it only rejects, and only what is out of the filter's range by more than `SCREEN_MARGINS`:
the accepted rows are the same with and without it (`benches/screen.py`).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from engine.atlas import Atlas
from engine.backends import Backend
from engine.model import Model
from engine.parameters import FisherKolmogorovParameters, Parameters
from engine.rows import split_of
from engine.sampling import Prior
from engine.simulate import Simulated, nearest_tissue, simulate_stream

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
LOOK_AHEAD = 6
"""Proposals of a sample that are screened together; which one is accepted does not depend on it."""

Candidate = tuple[int, Parameters]


@dataclass
class Draws:
    """The proposals of some samples that are still worth a full run, in order.

    Attributes:
        screened: whether a coarser run, or one without mass effect, comes first.
        following: sample -> the proposal that is drawn next.
        waiting: sample -> candidates (number, parameters) that passed the screen.
    """

    seed: int
    scheme: str
    atlas: Atlas
    prior: Prior
    backend: Backend
    screened: bool
    following: dict[int, int]
    model: Model = field(default_factory=Model)
    waiting: dict[int, deque[Candidate]] = field(default_factory=dict)

    def refill(self, samples: Sequence[int]) -> None:
        """Give every sample at least one candidate."""
        empty = [i for i in samples if not self.waiting.get(i)]
        while empty:
            drawn = [(i, p) for i in empty for p in range(self.following[i], self.following[i] + LOOK_AHEAD)]
            batch = [self.prior.propose(self.seed, i, p, self.atlas) for i, p in drawn]
            passed = self._screen(batch) if self.screened else [True] * len(batch)
            for (i, p), parameters, ok in zip(drawn, batch, passed, strict=True):
                self.following[i] = p + 1
                if ok:
                    tumor = self.model.tumor(parameters, self.seed, i, p)
                    self.waiting.setdefault(i, deque()).append((p, tumor))
            empty = [i for i in empty if not self.waiting.get(i)]

    def _screen(self, batch: Sequence[FisherKolmogorovParameters]) -> list[bool]:
        """Whether each may pass the size filter, judged at rest, and on fine grids on voxels twice as wide."""
        is_fine = self.atlas.grid.spacing < FINEST_UNSCREENED
        coarse, margins = (_coarsened(self.atlas), SCREEN_MARGINS) if is_fine else (self.atlas, (1.0, 1.0))
        low, high = (margin * size for margin, size in zip(margins, self.prior.size, strict=True))
        low *= MASS_EFFECT_MARGIN if self.model.has_mass_effect else 1
        origins = [coarse.grid.from_world(self.atlas.grid.to_world(one.origin)).tolist() for one in batch]
        places = [nearest_tissue(origin, coarse) for origin in origins]
        near = [_is_near(a, b, coarse) for a, b in zip(origins, places, strict=True)]
        moved = [replace(parameters, origin=place) for parameters, place in zip(batch, places, strict=True)]
        runs = simulate_stream(moved, coarse, backend=self.backend, scheme=self.scheme, stop_volume=high)
        fits = [one.ended == "duration" and _is_larger(one, low, coarse) and one.volume <= high for one in runs]
        return [ok or not comparable for ok, comparable in zip(fits, near, strict=True)]


def accept_rows(
    rows: range,
    seed: int,
    scheme: str,
    atlas: Atlas,
    prior: Prior,
    backend: Backend,
    screened: bool | None = None,
    model: Model | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """The first accepted proposal of every sample in `rows`, and how many proposals were looked at up to those.

    Args:
        rows: samples.
        seed: of the random streams.
        scheme: time steps, see `engine.simulate`.
        atlas: the brain.
        prior: what proposals are drawn from, and the size filter.
        backend: where they are simulated.
        screened: whether proposals are screened on voxels twice as wide (default: on fine grids), or without mass
            effect (default: if the model has it).
        model: what grows (default: the first model).
    """
    model = model or Model()
    if screened is None:
        screened = atlas.grid.spacing < FINEST_UNSCREENED or model.has_mass_effect
    draws = Draws(seed, scheme, atlas, prior, backend, screened, dict.fromkeys(rows, 0), model)
    accepted: dict[int, dict[str, Any]] = {}
    while pending := [i for i in rows if i not in accepted]:
        draws.refill(pending)
        _run_candidates(pending, draws, accepted)
    return [accepted[i] for i in rows], sum(int(row["proposal"]) + 1 for row in accepted.values())


def _run_candidates(pending: Sequence[int], draws: Draws, accepted: dict[int, dict[str, Any]]) -> None:
    """Run candidates of the samples until each is accepted or has none left; a rejected one makes room for the next."""
    ready, running = deque(pending), deque[tuple[int, Candidate]]()

    def feed() -> Iterator[Parameters]:
        while ready:
            sample = ready.popleft()
            running.append((sample, draws.waiting[sample].popleft()))
            yield running[-1][1][1]

    atlas, prior = draws.atlas, draws.prior
    stream = simulate_stream(feed(), atlas, backend=draws.backend, scheme=draws.scheme, stop_volume=prior.size[1])
    for one in stream:
        sample, (proposal, parameters) = running.popleft()
        if one.ended == "duration" and prior.accepts(one.volume):
            density = np.zeros(atlas.grid.shape, dtype=np.float32)
            one.write(density)
            split = split_of(draws.seed, sample)
            row = {"density": density, "parameters": parameters, "proposal": proposal, "split": split}
            accepted[sample] = row | ({"displacement": one.pushed.displacement} if one.pushed else {})
            continue
        if one.ended == "not_converged":
            print(f"sample {sample}: proposal {proposal} refused, not converged: {parameters}", file=sys.stderr)
        if draws.waiting[sample]:
            ready.append(sample)


def _is_larger(one: Simulated, volume: float, atlas: Atlas) -> bool:
    """Whether a tumor has at least this volume [ml] where c >= `SCREEN_DENSITY`."""
    if one.volume >= volume:
        return True
    density = np.zeros(atlas.grid.shape, dtype=np.float32)
    one.write(density)
    return float(np.count_nonzero(density >= SCREEN_DENSITY)) * atlas.grid.voxel_volume >= volume


@lru_cache(maxsize=4)
def _coarsened(atlas: Atlas) -> Atlas:
    return atlas.coarsened()


def _is_near(first: Sequence[float], second: Sequence[float], atlas: Atlas) -> bool:
    """Whether two origins are at most a voxel's diagonal apart: then their tumors have about the same size."""
    apart = (np.asarray(first) - np.asarray(second)) * np.asarray(atlas.grid.shape)
    return float(np.linalg.norm(apart)) <= np.sqrt(3)
