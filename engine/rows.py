"""What a row of a store says of its sample: columns, split and checksum."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.sampling import random_stream

SPLITS = ("train", "val", "test")
SPLIT_SHARES = (0.80, 0.08, 0.12)
"""Shares of the paper's 80,000 / 8,000 / 12,000."""
VOLUME_THRESHOLDS = (0.01, 0.1, 0.5, 0.7, 0.8)
COLUMNS = ("diffusivity", "proliferation", "duration", "mu1", "mu2")


def split_of(seed: int, sample: int) -> int:
    """Index into `SPLITS` of a sample: a hash of (seed, sample), so that a larger store keeps the same splits."""
    draw = random_stream(seed, sample, 2**31).random()
    return int(np.searchsorted(np.cumsum(SPLIT_SHARES)[:-1], draw, side="right"))


def tabulate(
    rows: Sequence[Mapping[str, Any]], density: NDArray[np.float16], voxel_volume: float
) -> dict[str, NDArray]:
    """The columns of some rows with their densities, float16 (rows, x, y, z), on voxels of `voxel_volume` [ml]."""
    table: dict[str, NDArray] = {
        name: np.array([getattr(row["parameters"], name) for row in rows], dtype=np.float64) for name in COLUMNS
    }
    table["origin"] = np.array([row["parameters"].origin for row in rows], dtype=np.float64)
    counts = [[np.count_nonzero(field >= t) for t in VOLUME_THRESHOLDS] for field in density]
    table["volumes"] = np.array(counts, dtype=np.float64) * voxel_volume
    table["proposal"] = np.array([row["proposal"] for row in rows], dtype=np.int64)
    table["split"] = np.array([row["split"] for row in rows], dtype=np.int8)
    return table


def checksum(density: NDArray[np.float16], table: Mapping[str, NDArray], row: int) -> int:
    """CRC-32 of a row: its density (x, y, z) and its entries in the table, in the order of their names."""
    value = zlib.crc32(np.ascontiguousarray(density).tobytes())
    for name in sorted(table):
        value = zlib.crc32(np.ascontiguousarray(table[name][row]).tobytes(), value)
    return value
