"""What an answer leaves open, as it is delivered: intervals of its numbers, and maps on the patient's T1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morph.volume import Volume

LEVELS = (0.01, 0.1, 0.5)
"""Densities whose exceedance has a map."""
AGREED = (0.01, 0.1, 0.8)
"""Densities at which tumors are compared: the paper's thresholds."""


@dataclass(frozen=True)
class Interval:
    """Where a number lies.

    Attributes:
        median: of its posterior.
        half: ends of the central 50%; `most` of the central 90%.
    """

    median: float
    half: tuple[float, float]
    most: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the outlines leave open.

    Attributes:
        density_mean: mean density of the sampled tumors, on the patient's T1; `density_std` its standard deviation.
        probability: density -> probability that it is exceeded, on the T1, for each of `LEVELS`.
        intervals: of mu1 [mm], mu2, origin_x, origin_y, origin_z [mm, patient's world], core_threshold,
            edema_threshold.
        agreement: density -> mean Dice of the delivered tumor with the others, for each of `AGREED`: about the
            Dice that the truth may be expected to give, were the model right (a little high: the tumor was chosen for
            it).
        effective: how many independent simulations the weighted ones are worth, of the guess that was sampled worst
            (see `tissue`; of those that count for anything).
        numbers: the same as in `intervals` for every sampled tumor, (n,) each.
        weights: of these tumors, (n,), sum 1.
        tissue: how probable each guess is of what the visible tumor is taken for (see `morph.tissue`), sum 1;
            only of those that were sampled.
        missed: guesses in which too few tumors were possible to sample any.
    """

    density_mean: Volume
    density_std: Volume
    probability: dict[float, Volume]
    intervals: dict[str, Interval]
    agreement: dict[float, float]
    effective: float
    numbers: dict[str, NDArray[np.float64]]
    weights: NDArray[np.float64]
    tissue: dict[str, float]
    missed: tuple[str, ...] = ()

    def rank(self, name: str, value: float) -> float:
        """Share of the sampled tumors whose number is below a value, 0 to 1."""
        return float(self.weights[self.numbers[name] < value].sum())

    def maps(self) -> dict[str, Volume]:
        """Every map by the name of its file."""
        exceeded = {f"probability_{level:g}": volume for level, volume in self.probability.items()}
        return {"density_mean": self.density_mean, "density_std": self.density_std, **exceeded}

    def describe(self) -> dict[str, Any]:
        """What parameters.json says of it; `simulations` are those of the fine grid, of all guesses."""
        intervals = {
            name: {"median": one.median, "interval_50": list(one.half), "interval_90": list(one.most)}
            for name, one in self.intervals.items()
        }
        return {
            "intervals": intervals,
            "expected_dice": {f"{level:g}": value for level, value in self.agreement.items()},
            "effective": self.effective,
            "simulations": len(self.weights),
            "tissue_probability": self.tissue,
        }

    def with_others(self, density: NDArray[np.float32]) -> Posterior:
        """The same beside other foci, whose density (x, y, z) was not sampled; the deviation leaves them out."""
        return replace(
            self,
            density_mean=self.density_mean.with_array(np.maximum(self.density_mean.array, density)),
            probability={
                level: volume.with_array(np.maximum(volume.array, density > level).astype(np.float32))
                for level, volume in self.probability.items()
            },
        )

    def on_whole(self, uncrop: Callable[[NDArray], Volume]) -> Posterior:
        """The same with its maps on the whole T1, of which they cover a box."""
        return replace(
            self,
            density_mean=uncrop(self.density_mean.array),
            density_std=uncrop(self.density_std.array),
            probability={level: uncrop(volume.array) for level, volume in self.probability.items()},
        )
