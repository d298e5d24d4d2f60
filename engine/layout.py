"""What a store holds for each model: parameter columns, other columns and fields, in one table.

A column has one entry a sample, a field one array on the grid a sample. A model adds what its parameter class and
its simulations have beyond the others; the store, its checksums and its data card follow from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any

import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from engine.errors import InputError
from engine.parameters import FisherKolmogorovParameters, MassEffectParameters
from engine.rows import SPLITS, VOLUME_THRESHOLDS

COMPRESSION = BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.shuffle)
"""Of fields: a write of 128³ stays below 20 ms (`benches/codecs.py`). Level 5 saves 6% more and takes 1.7 times as
long to encode, level 9 saves 12% and takes 50 times as long."""
UNITS = {
    "diffusivity": "mm2/day",
    "proliferation": "1/day",
    "duration": "day",
    "coupling": "kPa",
    "mu1": "mm",
    "mu2": "1",
}
"""Units of the scalar parameters."""


@dataclass(frozen=True)
class Column:
    """Entries of a sample: axes beyond the sample's with their lengths, type, and attributes for readers."""

    dtype: str
    attributes: Mapping[str, Any]
    axes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Field:
    """An array on the grid, float16 (sample, *axes, x, y, z)."""

    attributes: Mapping[str, Any]
    axes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a store of one model holds.

    Attributes:
        parameters: the class of a row's parameters; each of its scalar fields is a column.
        fields: arrays on the grid; `density` is always among them.
    """

    parameters: type[FisherKolmogorovParameters] | type[MassEffectParameters]
    fields: Mapping[str, Field]

    def row_bytes(self, grid: tuple[int, ...]) -> int:
        """Bytes of a sample's fields on a grid of this shape."""
        return sum(2 * prod((*values.axes.values(), *grid)) for values in self.fields.values())

    @property
    def own(self) -> tuple[str, ...]:
        """Scalar fields of the parameter class, from which a row's parameters are built again (with `origin`)."""
        return tuple(f.name for f in fields(self.parameters) if f.name != "origin")

    @property
    def scalars(self) -> tuple[str, ...]:
        """Scalar parameters that are columns."""
        return (*self.own, "mu1", "mu2")

    @property
    def columns(self) -> dict[str, Column]:
        """Every column, `complete` last: the order in which a shard is written."""
        scalars = {name: Column("float64", {"units": UNITS[name]}) for name in self.scalars}
        return scalars | _COMMON_COLUMNS

    @property
    def names(self) -> list[str]:
        """Every array of a store in the order in which a shard is written; `complete` is the last."""
        return [*self.fields, *self.columns]


_COMMON_COLUMNS = {
    "origin": Column("float64", {"units": "fraction of the grid"}, {"axis": 3}),
    "volumes": Column(
        "float64", {"units": "ml", "thresholds": list(VOLUME_THRESHOLDS)}, {"threshold": len(VOLUME_THRESHOLDS)}
    ),
    "proposal": Column("int64", {"long_name": "accepted draw of the sample's stream"}),
    "split": Column("int8", {"flag_values": list(range(len(SPLITS))), "flag_meanings": " ".join(SPLITS)}),
    "checksum": Column("uint32", {"long_name": "CRC-32 of the row"}),
    "complete": Column("bool", {"long_name": "whether the row is there"}),
}
_DENSITY = Field({"units": "1", "long_name": "tumor cell density"})
_DISPLACEMENT = Field({"units": "mm", "long_name": "displacement of the tissue along x, y and z"}, {"axis": 3})
LAYOUTS = {
    "fisher_kolmogorov": Layout(FisherKolmogorovParameters, {"density": _DENSITY}),
    "mass_effect": Layout(MassEffectParameters, {"density": _DENSITY, "displacement": _DISPLACEMENT}),
}


def layout_of(model: object) -> Layout:
    """The layout of a model by its name in a store's attributes.

    Raises:
        InputError: this version does not know the model.
    """
    if not isinstance(model, str) or model not in LAYOUTS:
        raise InputError(f"model {model!r} is unknown: this version has {' and '.join(LAYOUTS)}")
    return LAYOUTS[model]


def arrays_of(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    """Those arrays of a store's layout that are there, by name; nothing is listed, which object stores do slowly."""
    found = {name: group.get(name) for name in layout_of(group.attrs["model"]).names}
    return {name: array for name, array in found.items() if isinstance(array, zarr.Array)}


def add_missing_arrays(group: zarr.Group, samples: int) -> None:
    """Lay out the arrays that are not there yet: a creation cut short is finished, not refused.

    Rows that a resized array has and another lacks were never complete, so the longest length is the right one.
    """
    about: dict[str, Any] = dict(group.attrs)
    present = arrays_of(group)
    samples = max((array.shape[0] for array in present.values()), default=samples)
    grid, shard, layout = tuple(about["grid"]["shape"]), int(about["shard"]), layout_of(about["model"])
    for name, values in layout.fields.items():
        if name not in present:
            shape = (*values.axes.values(), *grid)
            group.create_array(
                name, shape=(samples, *shape), chunks=(1, *shape), shards=(shard, *shape), dtype="float16",
                compressors=COMPRESSION, dimension_names=("sample", *values.axes, "x", "y", "z"),
                attributes=dict(values.attributes),
            )  # fmt: skip
    for name, column in layout.columns.items():
        if name not in present:
            group.create_array(
                name, shape=(samples, *column.axes.values()), chunks=(shard, *column.axes.values()),
                dtype=column.dtype, dimension_names=("sample", *column.axes), attributes=dict(column.attributes),
            )  # fmt: skip
