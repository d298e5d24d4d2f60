"""What a number means, once: symbols, units and the conversions between them.

A single scan fixes only mu1 = sqrt(D_w T) [mm], mu2 = sqrt(rho T) [1] and the origin: (D_w, rho, T) and
(a D_w, a rho, T / a) are the same tumor. An assumed front speed v = 2 sqrt(D_w rho) picks one of them:
D_w = mu1 v / (2 mu2), rho = mu2 v / (2 mu1), T = 2 mu1 mu2 / v.

Source: Ezhov et al., Learn-Morph-Infer, Medical Image Analysis 83 (2023) 102672.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Self

from engine.errors import InputError

DAYS_PER_YEAR = 365.0
FRONT_SPEED = 200.0 / DAYS_PER_YEAR
"""Front speed v [mm/day] assumed to tell D_w, rho and T apart: 200 mm/year (the paper's); no tumor depends on it."""
COUPLING = 16.0
"""Coupling gamma [kPa] of the mass-effect model unless said: the authors' demonstration."""


@dataclass(frozen=True)
class FisherKolmogorovParameters:
    """One tumor of the Fisher-Kolmogorov model.

    Attributes:
        diffusivity: D_w [mm²/day], diffusivity in white matter, finite, >= 0.
        proliferation: rho [1/day], finite, >= 0.
        duration: T [day], onset to scan, finite, > 0.
        origin: seed point, fraction of the grid's extent along x, y, z, each in [0, 1].

    Raises:
        InputError: a value is not physical. Ranges of a prior are not checked here; nothing is clipped.
    """

    diffusivity: float
    proliferation: float
    duration: float
    origin: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse what is not physical."""
        for name in ("diffusivity", "proliferation"):
            value = float(getattr(self, name))
            if not (isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}: it must be finite and >= 0")
            object.__setattr__(self, name, value)
        duration = float(self.duration)
        if not (isfinite(duration) and duration > 0):
            raise InputError(f"duration is {duration} days: it must be finite and > 0")
        object.__setattr__(self, "duration", duration)
        origin = tuple(float(v) for v in self.origin)
        if len(origin) != 3 or not all(0 <= v <= 1 for v in origin):
            raise InputError(f"origin {origin} is not three fractions of the grid in [0, 1]")
        object.__setattr__(self, "origin", origin)

    @property
    def mu1(self) -> float:
        """Diffusion length sqrt(D_w T) [mm]."""
        return sqrt(self.diffusivity * self.duration)

    @property
    def mu2(self) -> float:
        """Growth number sqrt(rho T) [1]."""
        return sqrt(self.proliferation * self.duration)

    @property
    def front_speed(self) -> float:
        """Asymptotic speed of the front in white matter, 2 sqrt(D_w rho) [mm/day]."""
        return 2.0 * sqrt(self.diffusivity * self.proliferation)

    @classmethod
    def from_invariants(
        cls, mu1: float, mu2: float, origin: tuple[float, float, float], front_speed: float = FRONT_SPEED
    ) -> Self:
        """The tumor with these identifiable numbers.

        Args:
            mu1: sqrt(D_w T) [mm], > 0.
            mu2: sqrt(rho T) [1], > 0.
            origin: seed point, fraction of the grid's extent.
            front_speed: v [mm/day], > 0; shifts D_w, rho and T but not the tumor.

        Raises:
            InputError: a number is not finite and positive.
        """
        for name, value in (("mu1", mu1), ("mu2", mu2), ("front_speed", front_speed)):
            if not (isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}: it must be finite and > 0")
        return cls(
            diffusivity=mu1 * front_speed / (2 * mu2),
            proliferation=mu2 * front_speed / (2 * mu1),
            duration=2 * mu1 * mu2 / front_speed,
            origin=origin,
        )


@dataclass(frozen=True)
class MassEffectParameters:
    """One tumor of the mass-effect model.

    Attributes:
        diffusivity: D_w [mm²/day]; `proliferation` rho [1/day], `duration` T [day] and `origin` likewise as in
            `FisherKolmogorovParameters`.
        coupling: gamma [kPa], how hard a full density pushes, finite, >= 0. The paper's demonstration has 16.

    Raises:
        InputError: a value is not physical.
    """

    diffusivity: float
    proliferation: float
    duration: float
    origin: tuple[float, float, float]
    coupling: float = COUPLING

    def __post_init__(self) -> None:
        """Refuse what is not physical."""
        growth = FisherKolmogorovParameters(self.diffusivity, self.proliferation, self.duration, self.origin)
        for name in ("diffusivity", "proliferation", "duration", "origin"):
            object.__setattr__(self, name, getattr(growth, name))
        coupling = float(self.coupling)
        if not (isfinite(coupling) and coupling >= 0):
            raise InputError(f"coupling is {coupling} kPa: it must be finite and >= 0")
        object.__setattr__(self, "coupling", coupling)

    @property
    def growth(self) -> FisherKolmogorovParameters:
        """The same tumor without mass effect."""
        return FisherKolmogorovParameters(self.diffusivity, self.proliferation, self.duration, self.origin)

    @property
    def mu1(self) -> float:
        """Diffusion length sqrt(D_w T) [mm]."""
        return self.growth.mu1

    @property
    def mu2(self) -> float:
        """Growth number sqrt(rho T) [1]."""
        return self.growth.mu2

    @property
    def front_speed(self) -> float:
        """Asymptotic speed of the front in white matter at rest, 2 sqrt(D_w rho) [mm/day]."""
        return self.growth.front_speed

    @classmethod
    def from_invariants(
        cls,
        mu1: float,
        mu2: float,
        origin: tuple[float, float, float],
        front_speed: float = FRONT_SPEED,
        coupling: float = COUPLING,
    ) -> Self:
        """The tumor with these identifiable numbers; see `FisherKolmogorovParameters.from_invariants`.

        Raises:
            InputError: a number is not finite and positive, or the coupling is negative.
        """
        growth = FisherKolmogorovParameters.from_invariants(mu1, mu2, origin, front_speed)
        return cls(growth.diffusivity, growth.proliferation, growth.duration, origin, coupling)


Parameters = FisherKolmogorovParameters | MassEffectParameters
"""One tumor of any model; its class says which."""
