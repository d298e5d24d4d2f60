"""Do the maps of probability mean what they say? Of the voxels with some probability, how many does the tumor reach?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Probabilities that part voxels into groups; the first and the last group are those that are all but decided."""
Counts = list[list[int]]


def count_reached(probability: NDArray[np.float32], reached: NDArray[np.bool_], inside: NDArray[np.bool_]) -> Counts:
    """Voxels of each group, and how many of them are reached.

    Args:
        probability: that a voxel is reached, (x, y, z).
        reached: whether it is, bool (x, y, z).
        inside: which voxels are asked about, bool (x, y, z).

    Returns:
        (groups, 2)
    """
    group = np.digitize(probability[inside], EDGES)
    voxels = np.bincount(group, minlength=len(EDGES) + 1)
    met = np.bincount(group, reached[inside], minlength=len(EDGES) + 1).astype(int)
    return [[int(all_), int(some)] for all_, some in zip(voxels, met, strict=True)]


def pooled(cases: Sequence[Counts]) -> list[dict[str, Any]]:
    """Groups over all cases, every case with equal weight: from, to, the share that was reached, and in how many cases.

    Voxels of one case go together: the number of cases, not that of voxels, says how sure a share is.
    """
    counts = np.array(cases, dtype=np.float64)
    ends = (0.0, *EDGES, 1.0)
    groups = []
    for number, (low, high) in enumerate(pairwise(ends)):
        voxels, met = counts[:, number].T
        present = voxels > 0
        share = float(np.mean(met[present] / voxels[present])) if present.any() else None
        groups.append({"from": low, "to": high, "reached": share, "cases": int(present.sum())})
    return groups
