"""What the network predicts: physical quantities and their scaling to [-1, 1].

A logarithmic scale makes equal relative errors cost the same, which is what matters for lengths such as mu1.
Bounds set the scale only; nothing is clipped, so every positive number can be encoded and decoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, InputError

AXES = ("x", "y", "z")
CORE_THRESHOLD, EDEMA_THRESHOLD = "core_threshold", "edema_threshold"
"""Names of the densities [1] at which T1Gd and FLAIR begin to show tumor; no columns of a store (learn.dataset)."""


@dataclass(frozen=True)
class Quantity:
    """One number that the network predicts.

    Attributes:
        name: a column of the store, `origin_x`, `origin_y`, `origin_z`, or a threshold.
        bounds: physical values that encode to -1 and 1, lower < upper; positive on a logarithmic scale.
        scale: `linear` or `log`.
        weight: how much its squared error counts in training, > 0.

    Raises:
        InputError: the scale is unknown, the bounds do not fit it, or the weight is not positive.
    """

    name: str
    bounds: tuple[float, float]
    scale: str = "linear"
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a scaling that cannot be inverted."""
        lower, upper = (float(value) for value in self.bounds)
        object.__setattr__(self, "bounds", (lower, upper))
        if self.scale not in ("linear", "log"):
            raise InputError(f"the scale of {self.name} is {self.scale!r}: it must be linear or log")
        if not (np.isfinite([lower, upper]).all() and lower < upper and (self.scale == "linear" or lower > 0)):
            raise InputError(f"the bounds of {self.name} are {self.bounds}: they do not span a {self.scale} scale")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not (number and np.isfinite(self.weight) and self.weight > 0):
            raise InputError(f"the weight of {self.name} is {self.weight}: it must be a number > 0")

    def encode(self, physical: ArrayLike) -> NDArray[np.float64]:
        """Physical values of any shape to the scale where the bounds are -1 and 1."""
        lower, upper = self._scaled(self.bounds)
        return 2.0 * (self._scaled(physical) - lower) / (upper - lower) - 1.0

    def decode(self, encoded: ArrayLike) -> NDArray[np.float64]:
        """The inverse of `encode`."""
        lower, upper = self._scaled(self.bounds)
        scaled = lower + (np.asarray(encoded, dtype=np.float64) + 1.0) * (upper - lower) / 2.0
        return np.exp(scaled) if self.scale == "log" else scaled

    def _scaled(self, values: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # the caller looks at what comes out
            return np.log(values) if self.scale == "log" else values


QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        # The published accepted samples reach 2.7-45 mm and 2.8-16.6 (measured on them), taken slightly wider.
        Quantity("mu1", (2.5, 50.0), "log"),
        Quantity("mu2", (2.5, 18.0), "log"),
        # The prior's own ranges [mm²/day, 1/day, day]: Ezhov et al. (2023), section 2.
        Quantity("diffusivity", (0.02, 1.5), "log"),
        Quantity("proliferation", (0.002, 0.2), "log"),
        Quantity("duration", (50.0, 1500.0), "log"),
        # What the mass-effect model is drawn from where the coupling varies [kPa] (engine.model; README).
        Quantity("coupling", (0.0, 25.0)),
        # Drawn uniformly from these (engine.imaging).
        Quantity(CORE_THRESHOLD, CORE_THRESHOLD_RANGE),
        Quantity(EDEMA_THRESHOLD, EDEMA_THRESHOLD_RANGE),
        # Where the brain lies in the cube [fraction of the extent]: its box is about 0.6, 0.75 and 0.6 wide.
        Quantity("origin_x", (0.1, 0.75)),
        Quantity("origin_y", (0.1, 0.9)),
        Quantity("origin_z", (0.1, 0.75)),
    )
}
"""Every quantity that a network can learn, declared once."""


def scaled_quantity(name: str, settings: Mapping[str, Any]) -> Quantity:
    """A declared quantity with its own `bounds`, `scale` or `weight`.

    Raises:
        InputError: the name or a setting is unknown, or the scaling cannot be inverted.
    """
    _refuse_unknown([name])
    if not isinstance(settings, Mapping) or settings.keys() - {"bounds", "scale", "weight"}:
        raise InputError(f"scaling.{name}={settings}: give bounds, scale or weight")
    declared = QUANTITIES[name]
    try:
        lower, upper = (float(value) for value in settings.get("bounds", declared.bounds))
    except (TypeError, ValueError) as error:
        raise InputError(f"the bounds of {name} are {settings['bounds']}: give two numbers") from error
    changes: dict[str, Any] = {**settings, "bounds": (lower, upper)}
    return replace(declared, **changes)


def _refuse_unknown(names: Iterable[Any]) -> None:
    unknown = [name for name in names if not isinstance(name, str) or name not in QUANTITIES]
    if unknown:
        raise InputError(f"unknown targets {unknown}: choose from {', '.join(QUANTITIES)}")


class Targets:
    """An ordered set of quantities: the meaning of a network's outputs.

    Args:
        quantities: in the order of the outputs, at least one, none twice.

    Raises:
        InputError: the set is empty, has duplicates, or holds only part of an origin.
    """

    def __init__(self, quantities: Iterable[Quantity]) -> None:
        self.quantities = tuple(quantities)
        self.names = tuple(quantity.name for quantity in self.quantities)
        if not self.names or len(set(self.names)) != len(self.names):
            raise InputError(f"targets {list(self.names)}: name at least one quantity, and each only once")
        if 0 < sum(name.startswith("origin_") for name in self.names) < len(AXES):
            raise InputError(f"targets {list(self.names)} hold only part of the origin: name all three axes")

    @classmethod
    def named(cls, names: Iterable[str], scaling: Mapping[str, Mapping[str, Any]] | None = None) -> Targets:
        """The set with these names, scaled as declared in `QUANTITIES`.

        Args:
            names: in the order of the outputs.
            scaling: bounds, scale or weight of some quantities, by name, instead of the declared ones.

        Raises:
            InputError: a name or a setting is unknown, or a scaling cannot be inverted.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise InputError(f"targets={names} is not a list: write targets=[mu1,mu2]")
        names, own = list(names), {name: scaled_quantity(name, s) for name, s in (scaling or {}).items()}
        _refuse_unknown(names)
        return cls(own.get(name, QUANTITIES[name]) for name in names)

    @classmethod
    def from_metadata(cls, entries: Iterable[Mapping[str, Any]]) -> Targets:
        """The inverse of `metadata`."""
        return cls(
            Quantity(e["name"], (e["bounds"][0], e["bounds"][1]), e["scale"], e.get("weight", 1.0)) for e in entries
        )

    def metadata(self) -> list[dict[str, Any]]:
        """The set as plain values for a JSON header."""
        return [
            {"name": q.name, "bounds": list(q.bounds), "scale": q.scale, "weight": q.weight} for q in self.quantities
        ]

    @property
    def weights(self) -> NDArray[np.float32]:
        """How much each output's squared error counts, with mean 1, float32 (outputs,)."""
        weights = np.array([q.weight for q in self.quantities], dtype=np.float32)
        return weights / weights.mean()

    def __len__(self) -> int:
        return len(self.quantities)

    @property
    def origin_outputs(self) -> tuple[int, ...]:
        """Which outputs are the origin's x, y, z; empty if it is not predicted."""
        names = [f"origin_{axis}" for axis in AXES]
        return tuple(self.names.index(name) for name in names) if names[0] in self.names else ()

    def encode(self, physical: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
        """Columns as the store has them (`origin` of shape (n, 3)) to network targets, float32 (n, outputs)."""
        columns = dict(physical)
        if "origin" in columns:
            origin = np.asarray(columns.pop("origin"))
            columns.update({f"origin_{axis}": origin[:, i] for i, axis in enumerate(AXES)})
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise InputError(f"the data have no {', '.join(missing)}: choose targets from {', '.join(columns)}")
        return np.stack([q.encode(columns[q.name]) for q in self.quantities], axis=1).astype(np.float32)

    def decode(self, encoded: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
        """Network outputs (n, outputs) to physical columns: name -> (n,), and `origin` -> (n, 3)."""
        columns = {q.name: q.decode(encoded[:, i]) for i, q in enumerate(self.quantities)}
        if self.origin_outputs:
            columns["origin"] = np.stack([columns.pop(f"origin_{axis}") for axis in AXES], axis=1)
        return columns
