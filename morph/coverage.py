"""Recurrence coverage: how much of a later recurrence lies in a plan of equal size, as PREDICT-GBM scores it.

The standard plan is the brain within 15 voxels of the core. A model's plan has as many voxels: those where its
prediction is highest. The score of either is the share of the recurrence inside.

PREDICT-GBM searches a threshold that gives that many voxels within 1%; ties at the threshold and zeros can make its
search fail. Here the number is exact, and such a prediction is refused.

Source: predict-gbm 0.1.0, evaluation/evaluate.py and evaluation/metrics.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import InputError

MARGIN = 15
"""Distance of the standard plan's edge from the core [voxels, of 1 mm in the benchmark]."""
Mask = NDArray[np.bool_]


def margin_plan(core: Mask, brain: Mask, margin: float = MARGIN) -> Mask:
    """The brain within a margin [voxels] of the core; all bool (x, y, z).

    Raises:
        InputError: the core is empty.
    """
    if not core.any():
        raise InputError("the core is empty: a margin around it is not defined")
    return np.asarray(ndimage.distance_transform_edt(~core) <= margin) & brain


def highest_plan(prediction: NDArray[np.float32], size: int) -> Mask:
    """The voxels with the highest prediction, bool (x, y, z).

    Args:
        prediction: of any scale, 0 where nothing is predicted, (x, y, z).
        size: how many voxels.

    Raises:
        InputError: fewer are positive, or the last one that fits equals the first one that does not.
    """
    positive = prediction[prediction > 0]
    if len(positive) < size or size < 1:
        raise InputError(f"the prediction is positive in {len(positive)} voxels: a plan of {size} cannot be chosen")
    if len(positive) == size:
        return prediction > 0
    last, next_one = -np.partition(-positive, (size - 1, size))[size - 1 : size + 1]
    if last == next_one:
        raise InputError(f"voxels {size} and {size + 1} of the prediction are equal ({last:g}): order it strictly")
    return prediction >= last


def recurrence_coverage(recurrence: Mask, plan: Mask) -> float:
    """Share of the recurrence inside the plan; 1 where there is none. Both bool (x, y, z)."""
    total = int(np.count_nonzero(recurrence))
    return int(np.count_nonzero(recurrence & plan)) / total if total else 1.0
