"""Data sets of simulations: one Zarr v3 group, readable with xarray, whose rows are complete or absent.

Arrays (first axis: sample): `density` float16 (sample, x, y, z), one sample a chunk, `shard` samples a shard;
float64 columns `diffusivity`, `proliferation`, `duration`, `mu1`, `mu2`, `origin` (sample, axis) and `volumes`
(sample, threshold); `proposal`, which draw of the sample's stream was accepted; `split`, 0 train, 1 val, 2 test;
`checksum`, CRC-32 of the row; `complete`, written last, one chunk a shard. The shard is the unit of commit.

The group's attributes say what was simulated; a store is only extended by the same physics (`IDENTITY`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from engine.atlas import Atlas, load_atlas
from engine.errors import InputError
from engine.grid import Grid
from engine.parameters import FisherKolmogorovParameters
from engine.rows import COLUMNS, SPLITS, VOLUME_THRESHOLDS, checksum, tabulate

SCHEMA_VERSION = 1
IDENTITY = (
    "schema_version", "physics_version", "model", "scheme", "atlas.content_hash", "grid", "prior", "seed", "shard",
    "backend", "instruction_set",
)  # fmt: skip
"""Attributes that must agree before a store is extended: rounding decides which proposals pass the size filter."""
_COLUMN_LAYOUT: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "diffusivity": ({}, "float64", {"units": "mm2/day"}),
    "proliferation": ({}, "float64", {"units": "1/day"}),
    "duration": ({}, "float64", {"units": "day"}),
    "mu1": ({}, "float64", {"units": "mm"}),
    "mu2": ({}, "float64", {"units": "1"}),
    "origin": ({"axis": 3}, "float64", {"units": "fraction of the grid"}),
    "volumes": (
        {"threshold": len(VOLUME_THRESHOLDS)}, "float64", {"units": "ml", "thresholds": list(VOLUME_THRESHOLDS)}
    ),
    "proposal": ({}, "int64", {"long_name": "accepted draw of the sample's stream"}),
    "split": ({}, "int8", {"flag_values": [0, 1, 2], "flag_meanings": "train val test"}),
    "checksum": ({}, "uint32", {"long_name": "CRC-32 of the row"}),
    "complete": ({}, "bool", {"long_name": "whether the row is there"}),
}  # fmt: skip
"""Columns beside `density`: width of further axes, type and attributes."""
_DAMAGE = (RuntimeError, ValueError, KeyError, OSError)


class Store:
    """A data set; open one with `open_store` or `create_store`.

    Attributes:
        place: path or URL.
        attributes: what was simulated (see the module's docstring).
    """

    def __init__(self, group: zarr.Group, place: str) -> None:
        """Wrap an open Zarr group."""
        self._group = group
        self._arrays: dict[str, zarr.Array[Any]] = {name: array for name, array in group.arrays()}
        self.place = place
        self.attributes: dict[str, Any] = dict(group.attrs)

    def __len__(self) -> int:
        """Rows asked for, complete or not."""
        return int(self._arrays["complete"].shape[0])

    @property
    def identity(self) -> dict[str, Any]:
        """The attributes that decide what the rows are (`IDENTITY`)."""
        return {key: _entry(self.attributes, key) for key in IDENTITY}

    @property
    def is_torn(self) -> bool:
        """Whether a kill in the middle of `extend` left arrays of unequal length."""
        return len({self._arrays[name].shape[0] for name in ("density", *_COLUMN_LAYOUT)}) > 1

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
    def complete(self) -> NDArray[np.bool_]:
        """Which rows are there, bool (samples,)."""
        return np.asarray(self._arrays["complete"][:], dtype=bool)

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """Columns of all rows: float64 (samples,), and `origin` (samples, 3)."""
        return {name: np.asarray(self._arrays[name][:]) for name in (*COLUMNS, "origin")}

    @property
    def split(self) -> NDArray[np.str_]:
        """`train`, `val` or `test` for every row."""
        return np.array(SPLITS)[np.asarray(self._arrays["split"][:])]

    @property
    def volumes(self) -> NDArray[np.float64]:
        """Volume [ml] at `VOLUME_THRESHOLDS`, float64 (samples, thresholds)."""
        return np.asarray(self._arrays["volumes"][:])

    @property
    def proposals(self) -> NDArray[np.int64]:
        """Which draw of each sample's stream was accepted."""
        return np.asarray(self._arrays["proposal"][:])

    def density(self, row: int) -> NDArray[np.float32]:
        """Density of a row [1], float32 (x, y, z)."""
        return np.asarray(self._arrays["density"][row], dtype=np.float32)

    def row_parameters(self, row: int) -> FisherKolmogorovParameters:
        """The parameters that grew a row."""
        diffusivity, proliferation, duration = (
            float(np.asarray(self._arrays[name][row])) for name in ("diffusivity", "proliferation", "duration")
        )
        x, y, z = np.asarray(self._arrays["origin"][row]).tolist()
        return FisherKolmogorovParameters(diffusivity, proliferation, duration, (x, y, z))

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

        Each row has `density` (x, y, z), `parameters`, `proposal` and `split`.
        """
        part = slice(first, first + len(rows))
        self._arrays["complete"][part] = False
        density = np.stack([np.asarray(row["density"], dtype=np.float16) for row in rows])
        table = tabulate(rows, density, self.grid.voxel_volume)
        self._arrays["density"][part] = density
        for name, values in table.items():
            self._arrays[name][part] = values
        self._arrays["checksum"][part] = [checksum(d, table, i) for i, d in enumerate(density)]
        self._arrays["complete"][part] = True

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
        for name in ("density", *_COLUMN_LAYOUT):
            array = self._arrays[name]
            if array.shape[0] != samples:
                array.resize((samples, *array.shape[1:]))

    def damaged_rows(self) -> list[int]:
        """Complete rows that cannot be read or do not match their checksum."""
        damaged = []
        columns = [name for name in _COLUMN_LAYOUT if name not in ("checksum", "complete")]
        for row in np.flatnonzero(self.complete):
            try:
                table = {name: np.asarray(self._arrays[name][row])[None] for name in columns}
                density = np.asarray(self._arrays["density"][row])
                intact = checksum(density, table, 0) == int(np.asarray(self._arrays["checksum"][row]))
            except _DAMAGE:
                intact = False
            if not intact:
                damaged.append(int(row))
        return damaged


def open_store(place: str | Path, mode: str = "r") -> Store:
    """Open a data set for reading (`mode="r"`) or extending (`"r+"`).

    Raises:
        InputError: nothing there, not a store of simulations, or one of another schema.
    """
    group = _open_group(place, mode)
    missing = {"density", *_COLUMN_LAYOUT} - set(group.array_keys())
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
            _refuse_other_physics(str(place), dict(group.attrs), attributes)
        else:
            _refuse_other_content(place)
            group = zarr.create_group(str(place), zarr_format=3, attributes=dict(attributes))
        _add_missing_arrays(group, samples)
        store = Store(group, str(place))
        store.extend(samples)
    except OSError as error:
        raise InputError(f"cannot write the store {place}: {error.strerror or error}") from error
    return store


def _refuse_other_content(place: str | Path) -> None:
    """Refuse to scatter arrays among the files of a folder that is no store."""
    folder = Path(place)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{place} holds something else: name a new or empty folder")


def _refuse_other_physics(place: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to extend a store whose identity differs; the sentence names the first difference."""
    normal = json.loads(json.dumps(dict(wanted)))
    for key in IDENTITY:
        before, now = _entry(found, key), _entry(normal, key)
        if before != now:
            raise InputError(f"store {place} was made with {key}={before}, not {now}: write to another place")


def _entry(attributes: Mapping[str, Any], key: str) -> Any:
    """An attribute, or with a dot in the key an entry of one."""
    value: Any = attributes
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _open_group(place: str | Path, mode: str) -> zarr.Group:
    try:
        group = zarr.open_group(str(place), mode="r+" if mode == "r+" else "r")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise InputError(f"{place} is not a store of simulations: make one with python -m engine.generate") from error
    version = group.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(f"{place} has schema {version}, this version reads schema {SCHEMA_VERSION}")
    return group


def _exists(place: str | Path) -> bool:
    try:
        zarr.open_group(str(place), mode="r")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return False
    return True


def _add_missing_arrays(group: zarr.Group, samples: int) -> None:
    """Lay out the arrays that are not there yet: a creation cut short is finished, not refused.

    Rows that a resized array has and another lacks were never complete, so the longest length is the right one.
    """
    about: dict[str, Any] = dict(group.attrs)
    lengths = [array.shape[0] for _, array in group.arrays()]
    samples = max(lengths, default=samples)
    shape, shard = tuple(about["grid"]["shape"]), int(about["shard"])
    present = set(group.array_keys())
    if "density" not in present:
        group.create_array(
            "density", shape=(samples, *shape), chunks=(1, *shape), shards=(shard, *shape), dtype="float16",
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.shuffle),
            dimension_names=("sample", "x", "y", "z"), attributes={"units": "1", "long_name": "tumor cell density"},
        )  # fmt: skip
    for name, (width, dtype, about) in _COLUMN_LAYOUT.items():
        if name not in present:
            group.create_array(
                name, shape=(samples, *width.values()), chunks=(shard, *width.values()), dtype=dtype,
                dimension_names=("sample", *width), attributes=about,
            )  # fmt: skip
