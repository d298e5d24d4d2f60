"""How far the default time steps are from time-converged, on the same grid.

    python benches/accuracy.py count=30 grid=half json=result.json

For accepted tumors of the whole-brain prior: Dice at c = .01, .1, .8, relative L1 distance and volume ratio at .1 of
a scheme against the converged scheme with steps `finer` times shorter. The default must keep Dice >= 0.99 at all
three thresholds for 95% of the tumors; `gliomasolver` is the published solver's scheme.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, FisherKolmogorovParameters, load_atlas, simulate
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from engine.time_steps import SCHEMES

THRESHOLDS = (0.01, 0.1, 0.8)


def main() -> None:
    """Measure and report."""
    settings = arguments({"count": 30, "grid": "half", "finer": 8, "seed": 0, "json": None}, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    rows, _ = accept_rows(
        range(settings.count), settings.seed, "converged", atlas, PRIORS["whole_brain"], choose_backend("auto")
    )
    tumors = [row["parameters"] for row in rows]
    reference = simulate(tumors, atlas, accuracy=settings.finer).density
    result = {"machine": machine(), "grid": settings.grid, "tumors": settings.count, "finer": settings.finer}
    for scheme in SCHEMES:
        result[scheme] = compare(tumors, atlas, scheme, reference)
    publish("Accuracy in time", result, settings.json)


def compare(
    tumors: list[FisherKolmogorovParameters], atlas: Atlas, scheme: str, reference: NDArray[np.float32]
) -> dict[str, float]:
    """Medians, 5% quantiles and worst cases of a scheme against the reference."""
    density = simulate(tumors, atlas, scheme=scheme).density
    scores = np.array([[dice(a, b, t) for t in THRESHOLDS] for a, b in zip(density, reference, strict=True)])
    distance = np.abs(density - reference).sum((1, 2, 3)) / reference.sum((1, 2, 3))
    ratio = (density >= 0.1).sum((1, 2, 3)) / (reference >= 0.1).sum((1, 2, 3))
    result: dict[str, float] = {}
    for column, threshold in enumerate(THRESHOLDS):
        result[f"dice_{threshold}_median"] = float(np.median(scores[:, column]))
        result[f"dice_{threshold}_q05"] = float(np.quantile(scores[:, column], 0.05))
    result["share_dice_0.99"] = float((scores.min(axis=1) >= 0.99).mean())
    result["relative_l1_median"] = float(np.median(distance))
    result["volume_ratio_median"] = float(np.median(ratio))
    return result


def dice(first: NDArray[np.float32], second: NDArray[np.float32], threshold: float) -> float:
    """Overlap of two densities at a threshold; 1 where both are empty."""
    a, b = first >= threshold, second >= threshold
    return 2 * int((a & b).sum()) / max(int(a.sum() + b.sum()), 1) if a.any() or b.any() else 1.0


if __name__ == "__main__":
    main()
