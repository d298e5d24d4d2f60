"""Does what is read from a store look like what was written: cheap signs that every reader checks.

Zarr fills a file that is not there with zeros, so a lost one would be learned from, and scored, as an empty tumor.
Only `python -m engine.generate verify=` reads every byte against its checksum; here a density must have the volumes
that were noted when it was written, and a row's columns must belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.rows import VOLUME_THRESHOLDS

ROUNDING = 1e-9
"""Relative difference of columns that follow from each other (ours; they are float64)."""


def refuse_other_density(
    place: str, row: int, density: NDArray[np.float16], volumes: NDArray[np.float64], voxel_volume: float
) -> None:
    """Only let a density be used that has the volumes of its row.

    Args:
        place: of the store.
        row: of the density.
        density: c [1] as it is kept, float16 (x, y, z).
        volumes: of the row [ml], (thresholds,).
        voxel_volume: of one voxel [ml].

    Raises:
        InputError: it has others: a file is missing or damaged.
    """
    bits = density.view(np.int16)  # of numbers >= 0 they have the numbers' order, and compare faster
    voxels = [np.count_nonzero(bits >= np.float16(threshold).view(np.int16)) for threshold in VOLUME_THRESHOLDS]
    if not np.array_equal(np.rint(volumes / voxel_volume), voxels):
        raise InputError(damaged(place, f"row {row}", "does not have the volumes that it was written with"))


def refuse_torn_columns(place: str, columns: Mapping[str, NDArray[np.float64]], complete: NDArray[np.bool_]) -> None:
    """Only let parameters be used that belong together: of a lost file they are 0.

    Args:
        place: of the store.
        columns: physical parameters of all rows, (n,) each, and `origin` (n, 3).
        complete: which rows are there, bool (n,).

    Raises:
        InputError: those of a complete row do not.
    """
    time = columns["duration"]
    whole = columns["origin"].any(axis=1) & (time > 0)
    for name, rate in (("mu1", "diffusivity"), ("mu2", "proliferation")):
        whole &= (columns[name] > 0) & np.isclose(columns[name] ** 2, columns[rate] * time, rtol=ROUNDING, atol=0)
    torn = np.flatnonzero(complete & ~whole)
    if len(torn):
        raise InputError(damaged(place, f"row {torn[0]}", "has parameters that do not belong together"))


def is_set(marks: Any) -> NDArray[np.bool_]:
    """Marks as they were written: a byte that is neither 0 nor 1 is damaged, and unset."""
    return np.asarray(marks, dtype=bool).view(np.uint8) == 1


def damaged(place: str, what: str, how: str) -> str:
    """The sentence that says how to mend a store."""
    return (
        f"{what} of {place} {how}: the store is damaged, look for all such rows with python -m engine.generate "
        f"verify={place} and mend them with python -m engine.generate repair={place}"
    )
