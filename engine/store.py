"""Data sets of simulations: one Zarr v3 group, readable with xarray, whose rows are complete or absent.

Arrays (first axis: sample): the fields and columns of the model's layout (`engine.layout`). A field has one sample
a chunk and `shard` samples a shard; a column has one chunk a shard. The shard is the unit of commit: `complete` is
unset first and set last, and what is written has its final name only when it is whole. So shards can be written by
any number of processes at once, each its own.

The group's attributes say what was simulated; a store is only extended by the same physics (`engine.identity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from engine.atlas import Atlas, load_atlas
from engine.errors import InputError
from engine.grid import Grid
from engine.identity import identity_of, refuse_other_physics
from engine.intact import damaged, is_set, refuse_other_density, refuse_torn_columns
from engine.layout import Layout, add_missing_arrays, arrays_of, layout_of
from engine.parameters import Parameters
from engine.places import UNREACHABLE, delete, reason, refuse_other_content, sweep, zarr_store
from engine.rows import SPLITS, checksum, halve, tabulate

SCHEMA_VERSION = 1
UNCHECKED = ("checksum", "complete")
"""Columns that a row's checksum does not cover."""
DAMAGE = (RuntimeError, ValueError, KeyError, *UNREACHABLE)
"""What reading a chunk raises that is not what was written."""


class Store:
    """A data set; open one with `open_store` or `create_store`.

    Attributes:
        place: path or URL.
        attributes: what was simulated (see the module's docstring).
        layout: the columns and fields of its model.
    """

    def __init__(self, group: zarr.Group, place: str) -> None:
        """Wrap an open Zarr group."""
        # An empty chunk costs less to write than every chunk costs to be looked through for a number.
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._arrays: dict[str, zarr.Array[Any]] = arrays_of(group)
        self.place = place
        self.attributes: dict[str, Any] = dict(group.attrs)
        self.layout: Layout = layout_of(self.attributes["model"])

    def __len__(self) -> int:
        """Rows asked for, complete or not."""
        return int(self._arrays["complete"].shape[0])

    @property
    def identity(self) -> dict[str, Any]:
        """The attributes that decide what the rows are (`engine.identity`)."""
        return identity_of(self.attributes)

    @property
    def is_torn(self) -> bool:
        """Whether a kill in the middle of `extend` left arrays of unequal length."""
        return len({self._arrays[name].shape[0] for name in self.layout.names}) > 1

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        grid = self.attributes["grid"]
        return Grid(tuple(grid["shape"]), grid["spacing"], tuple(grid["corner"]))

    @property
    def shard(self) -> int:
        """Samples written and committed together."""
        return int(self.attributes["shard"])

    @property
    def shards(self) -> list[range]:
        """Rows of every shard."""
        return [range(first, min(first + self.shard, len(self))) for first in range(0, len(self), self.shard)]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which rows are there, bool (samples,); a mark that cannot be read counts as not there."""
        try:
            return is_set(self._arrays["complete"][:])
        except DAMAGE:
            return np.concatenate([self._marks(rows) for rows in self.shards])

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """Columns of all rows: float64 (samples,), and `origin` (samples, 3); torn ones are refused."""
        columns = {name: self._read(name) for name in (*self.layout.scalars, "origin")}
        refuse_torn_columns(self.place, columns, self.complete)
        return columns

    @property
    def split(self) -> NDArray[np.str_]:
        """`train`, `val` or `test` for every row."""
        return np.array(SPLITS)[self._read("split")]

    @property
    def volumes(self) -> NDArray[np.float64]:
        """Volume [ml] at `VOLUME_THRESHOLDS`, float64 (samples, thresholds)."""
        return self._read("volumes")

    @property
    def proposals(self) -> NDArray[np.int64]:
        """Which draw of each sample's stream was accepted."""
        return self._read("proposal")

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """CRC-32 of every row as it was written."""
        return self._read("checksum")

    def density(self, row: int, part: tuple[slice, slice, slice] | None = None) -> NDArray[np.float32]:
        """Density of a row [1], float32 (x, y, z), or only a `part` of the grid, which is converted in less time."""
        field = self.field("density", row)
        return (field if part is None else field[part]).astype(np.float32)

    def field(self, name: str, row: int) -> NDArray[np.float16]:
        """A field of a row as it is kept, float16 (*axes, x, y, z).

        Raises:
            InputError: it cannot be read; or a density has other volumes than were noted when it was written.
        """
        field = self._read(name, row)
        if name == "density":
            refuse_other_density(self.place, row, field, self._read("volumes", row), self.grid.voxel_volume)
        return field

    def row_parameters(self, row: int) -> Parameters:
        """The parameters that grew a row."""
        own = {name: float(self._read(name, row)) for name in self.layout.own}
        x, y, z = self._read("origin", row).tolist()
        return self.layout.parameters(**own, origin=(x, y, z))

    def load_atlas(self) -> Atlas:
        """The brain of this store, checked by its content.

        Raises:
            InputError: the atlas found here is not the one that was simulated in.
        """
        described = self.attributes["atlas"]
        atlas = load_atlas(described.get("files") or described["name"], Grid(self.grid.shape, self.grid.spacing))
        if atlas.content_hash != described["content_hash"]:
            raise InputError(f"the atlas {described['name']} found here differs from the one of store {self.place}")
        return atlas

    def write_shard(self, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commit the rows of one whole shard, `first` its first row; a kill at any moment leaves it absent.

        Each row has the layout's fields, `parameters`, `proposal` and `split`.
        """
        part = slice(first, first + len(rows))
        self._arrays["complete"][part] = False
        fields = {name: halve([row[name] for row in rows]) for name in self.layout.fields}
        table = tabulate(rows, self.layout.scalars, fields["density"], self.grid.voxel_volume)
        table["checksum"] = np.array([checksum(fields, table, i) for i in range(len(rows))], dtype=np.uint32)
        for name, values in (fields | table).items():
            self._arrays[name][part] = values
        self._arrays["complete"][part] = True

    def erase(self, rows: range) -> None:
        """Make a shard absent, whatever its files hold: its mark goes first."""
        for name in reversed(self.layout.names):
            array = self._arrays[name]
            corner = (rows.start // self.shard,) + (0,) * (array.ndim - 1)
            delete(self.place, f"{name}/{array.metadata.encode_chunk_key(corner)}")

    def extend(self, samples: int) -> None:
        """Make room for `samples` rows in all; existing rows stay, those of a cut last shard are redone.

        Arrays of unequal length, which a kill in the middle of this leaves behind, are brought to one length first.

        Raises:
            InputError: the store was begun with more rows.
        """
        begun = len(self)
        if samples < begun:
            raise InputError(f"store {self.place} was begun with {begun} samples: give samples={begun} or more")
        tail = begun % self.shard
        if samples > begun and tail:
            self._arrays["complete"][begun - tail :] = False
        for name in self.layout.names:
            array = self._arrays[name]
            if array.shape[0] != samples:
                array.resize((samples, *array.shape[1:]))

    def damaged(self, rows: range) -> list[int]:
        """Those of a shard's complete rows that cannot be read or do not match their checksum."""
        there = [row for row, mark in zip(rows, self._marks(rows), strict=True) if mark]
        try:
            table = {name: np.asarray(self._arrays[name][rows.start : rows.stop]) for name in self.layout.columns}
        except DAMAGE:
            return there
        return [row for row in there if not self._is_intact(row, {k: v[row - rows.start] for k, v in table.items()})]

    def _read(self, name: str, which: int | slice = slice(None)) -> NDArray:
        """Entries of an array; what cannot be read is a sentence."""
        try:
            return np.asarray(self._arrays[name][which])
        except DAMAGE as error:
            raise InputError(damaged(self.place, name, f"cannot be read ({reason(error)})")) from error

    def _is_intact(self, row: int, entries: Mapping[str, Any]) -> bool:
        """Whether a row's fields, and its entries in the columns, are what was written."""
        noted = {name: np.asarray(value)[None] for name, value in entries.items() if name not in UNCHECKED}
        try:
            fields = {name: np.asarray(self._arrays[name][row])[None] for name in self.layout.fields}
        except DAMAGE:
            return False
        return checksum(fields, noted, 0) == int(entries["checksum"])

    def _marks(self, rows: range) -> NDArray[np.bool_]:
        try:
            return is_set(self._arrays["complete"][rows.start : rows.stop])
        except DAMAGE:
            return np.zeros(len(rows), dtype=bool)


def open_store(place: str | Path, mode: str = "r") -> Store:
    """Open a data set for reading (`mode="r"`) or extending (`"r+"`).

    Raises:
        InputError: nothing there, not a store of simulations, or one of another schema.
    """
    group = _open_group(place, mode)
    missing = set(layout_of(group.attrs["model"]).names) - set(arrays_of(group))
    if missing:
        raise InputError(f"{place} lacks {sorted(missing)}: finish it with the python -m engine.generate that began it")
    store = Store(group, str(place))
    if mode == "r" and store.is_torn:
        raise InputError(f"{place} was cut short while it grew: run the python -m engine.generate that made it again")
    return store


def create_store(place: str | Path, samples: int, attributes: Mapping[str, Any]) -> Store:
    """Create a data set with room for `samples` rows, or open the one of the same physics and extend it.

    Raises:
        InputError: something else or a store of other physics lies there, or the place cannot be written.
    """
    try:
        if _exists(place):
            group = _open_group(place, "r+")
            refuse_other_physics(str(place), dict(group.attrs), attributes)
            sweep(place)
        else:
            refuse_other_content(place)
            group = zarr.create_group(zarr_store(place), zarr_format=3, attributes=dict(attributes))
        add_missing_arrays(group, samples)
        store = Store(group, str(place))
        store.extend(samples)
    except UNREACHABLE as error:
        raise InputError(f"cannot write the store {place}: {reason(error)}") from error
    return store


def _open_group(place: str | Path, mode: str) -> zarr.Group:
    try:
        group = zarr.open_group(zarr_store(place), mode="r+" if mode == "r+" else "r")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise InputError(f"{place} is not a store of simulations: make one with python -m engine.generate") from error
    except DAMAGE as error:
        raise InputError(f"{place} cannot be read: {reason(error)}") from error
    version = group.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(f"{place} has schema {version}, this version reads schema {SCHEMA_VERSION}")
    return group


def _exists(place: str | Path) -> bool:
    try:
        zarr.open_group(zarr_store(place), mode="r")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return False
    return True
