"""Which model grows the tumors of a data set, and what it needs beyond the prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.errors import InputError
from engine.parameters import COUPLING, FisherKolmogorovParameters, MassEffectParameters, Parameters
from engine.sampling import Range, random_stream

MODELS = ("fisher_kolmogorov", "mass_effect")
PHYSICS_VERSIONS = {"fisher_kolmogorov": 2, "mass_effect": 3}
"""Raised when the same parameters give other numbers: stores of different versions are never mixed."""
_COUPLING_STREAM = 1


@dataclass(frozen=True)
class Model:
    """A model as a data set names it.

    Attributes:
        name: one of `MODELS`.
        coupling: gamma [kPa] of `mass_effect` is drawn uniformly between these; equal ones fix it.

    Raises:
        InputError: an unknown name, or couplings that are not two finite numbers >= 0 in order.
    """

    name: str = "fisher_kolmogorov"
    coupling: Range = (COUPLING, COUPLING)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        if self.name not in MODELS:
            raise InputError(f"model {self.name!r} is unknown: use {' or '.join(MODELS)}")
        low, high = self.coupling
        if not (isfinite(high) and 0 <= low <= high):
            raise InputError(f"coupling={self.coupling} kPa must be one number, or two in order, finite and >= 0")

    @property
    def has_mass_effect(self) -> bool:
        """Whether tumors push."""
        return self.name == "mass_effect"

    @property
    def physics_version(self) -> int:
        """Version of what its parameters mean, for stores and weights."""
        return PHYSICS_VERSIONS[self.name]

    @property
    def attributes(self) -> dict[str, Any]:
        """What a store says of its model."""
        return {"model": self.name} | ({"coupling": list(self.coupling)} if self.has_mass_effect else {})

    def tumor(self, growth: FisherKolmogorovParameters, seed: int, sample: int, proposal: int) -> Parameters:
        """A proposal of the prior as a tumor of this model; the coupling has a random stream of its own."""
        rng = random_stream(seed, sample, proposal, _COUPLING_STREAM)
        return self.with_coupling(growth, float(rng.uniform(*self.coupling)))

    def with_coupling(self, growth: FisherKolmogorovParameters, coupling: float | None = None) -> Parameters:
        """A tumor of this model with this growth; `coupling` [kPa] is by default the middle of what is drawn."""
        if not self.has_mass_effect:
            return growth
        chosen = sum(self.coupling) / 2 if coupling is None else coupling
        return MassEffectParameters(growth.diffusivity, growth.proliferation, growth.duration, growth.origin, chosen)

    def scene(self, atlas: Atlas) -> NDArray[np.bool_]:
        """Where a tumor of this model can be seen, bool (x, y, z): one that pushes also moves into what was CSF."""
        return atlas.brain if self.has_mass_effect else atlas.tissue


def model_of(attributes: Mapping[str, Any]) -> Model:
    """The model of a store with these attributes, or of a command's configuration.

    Raises:
        InputError: as `Model`.
    """
    coupling = attributes.get("coupling", COUPLING)
    try:
        low, high = (float(v) for v in (coupling if isinstance(coupling, list) else [coupling, coupling]))
    except (TypeError, ValueError) as error:
        raise InputError(f"coupling={coupling} kPa must be one number, or two such as [0, 25]") from error
    return Model(str(attributes.get("model", "fisher_kolmogorov")), (low, high))
