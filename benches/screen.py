"""Whether the coarse screen of proposals changes which rows are accepted, and how biased it is.

    python benches/screen.py count=2000 json=result.json

The same samples are drawn with and without the screen; every accepted proposal must be the same. For the accepted
tumors, the volume on voxels twice as wide over the volume on the grid itself tells the bias that the margins must hold.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, load_atlas, nearest_tissue, simulate_stream
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from engine.progress import progress
from engine.screen import SCREEN_MARGINS

PART = 20
"""Samples drawn together."""


def main() -> None:
    """Draw twice, compare, report."""
    settings = arguments({"count": 2000, "first": 0, "grid": "full", "seed": 0, "json": None}, __doc__)
    atlas, prior, backend = load_atlas("sri24", GRIDS[settings.grid]), PRIORS["whole_brain"], choose_backend("auto")
    coarse, last = atlas.coarsened(), settings.first + settings.count
    changed, ratios, seconds = [], [], {True: 0.0, False: 0.0}
    with progress("screen", settings.count) as advance:
        for first in range(settings.first, last, PART):
            rows, drawn = range(first, min(first + PART, last)), {}
            for screened in (True, False):
                started = time.perf_counter()
                drawn[screened], _ = accept_rows(rows, settings.seed, "converged", atlas, prior, backend, screened)
                seconds[screened] += time.perf_counter() - started
            pairs = zip(rows, drawn[True], drawn[False], strict=True)
            changed += [i for i, with_it, without in pairs if with_it["proposal"] != without["proposal"]]
            ratios += volume_ratios(drawn[False], atlas, coarse)
            advance(len(rows), f"{len(changed)} changed")
    low, median, high = np.quantile(ratios, (0, 0.5, 1))
    publish("Screen", {
        "machine": machine(), "grid": settings.grid,
        "first": settings.first, "rows": settings.count, "changed": len(changed),
        "volume_ratio_lowest": float(low), "volume_ratio_median": float(median), "volume_ratio_highest": float(high),
        "margins": f"{SCREEN_MARGINS[0]} to {SCREEN_MARGINS[1]}",
        "accepted_per_second": settings.count / seconds[True],
        "accepted_per_second_without": settings.count / seconds[False],
    }, settings.json)  # fmt: skip
    if changed:
        sys.exit(f"error: the screen changed the samples {changed}")


def volume_ratios(rows: list[dict], atlas, coarse) -> list[float]:  # type: ignore[no-untyped-def, type-arg]
    """Coarse volume at c >= 0.7 over the row's own, where the origin is in tissue of both."""
    tumors = [row["parameters"] for row in rows]
    places = [nearest_tissue(tumor.origin, coarse) for tumor in tumors]
    runs = simulate_stream([replace(t, origin=o) for t, o in zip(tumors, places, strict=True)], coarse)
    volumes = [float((row["density"] >= 0.7).sum()) * atlas.grid.voxel_volume for row in rows]
    pairs = zip(runs, volumes, tumors, places, strict=True)
    return [one.volume / volume for one, volume, tumor, place in pairs if tumor.origin == place]


if __name__ == "__main__":
    main()
