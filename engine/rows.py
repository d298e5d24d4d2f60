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


def split_of(seed: int, sample: int) -> int:
    """Index into `SPLITS` of a sample: a hash of (seed, sample), so that a larger store keeps the same splits."""
    draw = random_stream(seed, sample, 2**31).random()
    return int(np.searchsorted(np.cumsum(SPLIT_SHARES)[:-1], draw, side="right"))


def tabulate(
    rows: Sequence[Mapping[str, Any]], scalars: Sequence[str], density: NDArray[np.float16], voxel_volume: float
) -> dict[str, NDArray]:
    """The columns of some rows.

    Args:
        rows: each with `parameters`, `proposal` and `split`.
        scalars: parameters that are columns.
        density: c [1] of the rows, >= 0, float16 (rows, x, y, z).
        voxel_volume: of one voxel [ml].
    """
    table: dict[str, NDArray] = {
        name: np.array([getattr(row["parameters"], name) for row in rows], dtype=np.float64) for name in scalars
    }
    table["origin"] = np.array([row["parameters"].origin for row in rows], dtype=np.float64)
    table["volumes"] = np.array([_voxels_at_thresholds(field) for field in density], dtype=np.float64) * voxel_volume
    table["proposal"] = np.array([row["proposal"] for row in rows], dtype=np.int64)
    table["split"] = np.array([row["split"] for row in rows], dtype=np.int8)
    return table


def _voxels_at_thresholds(density: NDArray[np.float16]) -> list[int]:
    """Voxels at or above each of `VOLUME_THRESHOLDS`.

    As integers the bits of half precision numbers have the order of the numbers, as far as they are >= 0, and are
    compared in a tenth of the time.
    """
    bits = density.view(np.int16)
    return [int(np.count_nonzero(bits >= np.float16(t).view(np.int16))) for t in VOLUME_THRESHOLDS]


def halve(samples: Sequence[NDArray[np.floating]]) -> NDArray[np.float16]:
    """A field of some samples, each (..., x, y, z), in half precision (samples, ..., x, y, z).

    NumPy converts slowly, so only the slab of each that is not 0 is converted.
    """
    result = np.zeros((len(samples), *samples[0].shape), np.float16)
    for field, half in zip(samples, result, strict=True):
        bits = field.view(np.uint16) if field.dtype == np.float16 else field
        x = _occupied(bits, -3)
        y = _occupied(bits[..., x, :, :], -2)
        half[..., x, y, :] = field[..., x, y, :]
    return result


def _occupied(field: NDArray, axis: int) -> slice:
    """The shortest range of an axis beyond which a field is 0; of half precision the bits, which are faster to test."""
    lines = np.flatnonzero(field.any(axis=tuple(a for a in range(field.ndim) if a != field.ndim + axis)))
    return slice(int(lines[0]), int(lines[-1]) + 1) if len(lines) else slice(0)


def checksum(fields: Mapping[str, NDArray], table: Mapping[str, NDArray], row: int) -> int:
    """CRC-32 of a row: its entries in the fields, then in the columns, each in the order of their names."""
    value = 0
    for part in (fields, table):
        for name in sorted(part):
            value = zlib.crc32(np.ascontiguousarray(part[name][row]).data, value)
    return value
