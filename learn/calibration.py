"""Whether predicted distributions mean what they say: where the truth lies among draws from them.

If they do, the rank of the truth among the draws is uniform, and an interval that claims 90% holds the truth in 90% of
the tumors (simulation-based calibration: Talts et al., 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from engine import Store
from engine.model import model_of
from learn.augment import Augmentation
from learn.comparison import BATCH, Columns, thresholds_of
from learn.dataset import draw_fixed_image
from learn.estimator import Estimator
from learn.targets import AXES

DRAWS = 500
"""From the distribution of every tumor."""
LEVELS = (0.5, 0.9)
"""Of the intervals whose coverage is counted."""
ENOUGH = 300
"""Samples below which chance alone moves a coverage by more than 6% (ours)."""


def ranks_of_truth(
    estimator: Estimator, store: Store, rows: NDArray[np.integer], augmentation: Augmentation | None = None
) -> Columns:
    """The share of draws below the truth, (n,) in [0, 1], of every quantity that the estimator predicts.

    Args:
        estimator: predicts a distribution.
        store: of the simulations, complete for `rows`.
        rows: which samples, int (n,).
        augmentation: how the masks that the estimator sees are drawn; None: exactly.
    """
    spacing = store.grid.spacing
    scene, columns = model_of(store.attributes).scene(store.load_atlas()), store.parameters
    parts: list[Columns] = []
    for batch in np.array_split(rows, range(BATCH, len(rows), BATCH)):
        images = [draw_fixed_image(store.density(int(row)), int(row), scene, spacing, augmentation) for row in batch]
        drawn = _flat(estimator.sample(np.stack(images), DRAWS, seed=int(batch[0])))
        truth = _flat({name: values[batch] for name, values in columns.items()} | thresholds_of(batch))
        parts.append({name: (values < truth[name][:, None]).mean(axis=1) for name, values in drawn.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def coverage(ranks: Columns) -> dict[str, Any]:
    """How often intervals hold the truth.

    Args:
        ranks: see `ranks_of_truth`.

    Returns:
        `coverage_LEVEL_NAME`: of the central interval of that level; `chance_LEVEL`: between which shares that of one
        number lies in 95% of such tests if the level is right. Empty without ranks.
    """
    found: dict[str, Any] = {
        f"coverage_{level}_{name}": float((np.abs(values - 0.5) <= level / 2).mean())
        for name, values in ranks.items()
        for level in LEVELS
    }
    counts = {len(values) for values in ranks.values()}
    for count in counts:
        found |= {f"chance_{level}": [float(n) / count for n in binom.interval(0.95, count, level)] for level in LEVELS}
    return found


def _flat(columns: Columns) -> Columns:
    """The columns with the axes of the origin one by one."""
    flat = {name: values for name, values in columns.items() if name != "origin"}
    if "origin" in columns:
        flat |= {f"origin_{axis}": columns["origin"][..., i] for i, axis in enumerate(AXES)}
    return flat
