"""How far the default time steps are from time-converged on the same grid, and how far the grid is from a finer one.

    python benches/accuracy.py count=30 grid=full json=result.json
    python benches/accuracy.py count=10 study=true            # also 3.6, 1.8 and 0.9 mm against each other

For accepted tumors of the whole-brain prior: Dice at c = .01, .1, .8, relative L1 distance and volume ratio at .1 of
a scheme against the converged scheme with steps `finer` times shorter. The default must keep Dice >= 0.99 at all
three thresholds for 95% of the tumors; `gliomasolver` is the published solver's scheme. The grid study solves the same
tumors on each grid, averages the finer densities onto the coarser grid's voxels and compares there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, FisherKolmogorovParameters, Grid, load_atlas, nearest_tissue, simulate_stream
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from engine.grid import block_mean
from engine.time_steps import SCHEMES

THRESHOLDS = (0.01, 0.1, 0.8)
STUDY = (Grid((64, 64, 64), 3.6), Grid((128, 128, 128), 1.8), Grid((256, 256, 256), 0.9))


def main() -> None:
    """Measure and report."""
    keys = {"count": 30, "grid": "full", "finer": 8, "seed": 0, "study": False, "json": None}
    settings = arguments(keys, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    prior, backend = PRIORS["whole_brain"], choose_backend("auto")
    rows, _ = accept_rows(range(settings.count), settings.seed, "converged", atlas, prior, backend)
    tumors = [row["parameters"] for row in rows]
    pairs = {scheme: solve_both(tumors, atlas, scheme, settings.finer) for scheme in SCHEMES}
    result = {"machine": machine(), "grid": settings.grid, "tumors": settings.count, "finer": settings.finer}
    result |= {scheme: compare(both) for scheme, both in pairs.items()}
    if settings.study:
        result["grids"] = compare_grids(tumors)
    publish("Accuracy", result, settings.json)


Both = Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]


def solve_both(tumors: list[FisherKolmogorovParameters], atlas: Atlas, scheme: str, finer: float) -> Both:
    """Every tumor by a scheme, and converged in time."""
    yield from zip(densities(tumors, atlas, scheme, 1), densities(tumors, atlas, "converged", finer), strict=True)


def densities(
    tumors: list[FisherKolmogorovParameters], atlas: Atlas, scheme: str, accuracy: float
) -> Iterator[NDArray[np.float32]]:
    """One density after the other: 256³ voxels are not kept for many tumors."""
    for one in simulate_stream(tumors, atlas, scheme=scheme, accuracy=accuracy):
        density = np.zeros(atlas.grid.shape, dtype=np.float32)
        one.write(density)
        yield density


def compare(both: Both) -> dict[str, float]:
    """Medians, 5% quantiles and worst cases over the tumors."""
    scores, distances, ratios = [], [], []
    for density, reference in both:
        scores.append([dice(density, reference, threshold) for threshold in THRESHOLDS])
        distances.append(float(np.abs(density - reference).sum() / reference.sum()))
        ratios.append(float((density >= 0.1).sum() / max((reference >= 0.1).sum(), 1)))
    table = np.array(scores)
    result: dict[str, float] = {}
    for column, threshold in enumerate(THRESHOLDS):
        result[f"dice_{threshold}_median"] = float(np.median(table[:, column]))
        result[f"dice_{threshold}_q05"] = float(np.quantile(table[:, column], 0.05))
        result[f"dice_{threshold}_worst"] = float(table[:, column].min())
    result["share_dice_0.99"] = float((table.min(axis=1) >= 0.99).mean())
    result["relative_l1_median"] = float(np.median(distances))
    result["volume_ratio_median"] = float(np.median(ratios))
    return result


def compare_grids(tumors: list[FisherKolmogorovParameters]) -> dict[str, dict[str, float]]:
    """Every grid against the next finer one, on the coarser one's voxels."""
    atlases = [load_atlas("sri24", grid) for grid in STUDY]
    origins = [nearest_tissue(nearest_tissue(t.origin, atlases[0]), atlases[2]) for t in tumors]
    moved = [replace(tumor, origin=origin) for tumor, origin in zip(tumors, origins, strict=True)]
    usable = [t for t in moved if all(nearest_tissue(t.origin, atlas) == t.origin for atlas in atlases)]
    result = {}
    for coarse, fine in pairwise(atlases):
        averaged = (block_mean(density, 2) for density in densities(usable, fine, "converged", 1))
        both = zip(densities(usable, coarse, "converged", 1), averaged, strict=True)
        result[f"{coarse.grid.spacing} mm against {fine.grid.spacing} mm"] = compare(both) | {"tumors": len(usable)}
    return result


def dice(first: NDArray[np.float32], second: NDArray[np.float32], threshold: float) -> float:
    """Overlap of two densities at a threshold; 1 where both are empty."""
    a, b = first >= threshold, second >= threshold
    return 2 * int((a & b).sum()) / max(int(a.sum() + b.sum()), 1) if a.any() or b.any() else 1.0


if __name__ == "__main__":
    main()
