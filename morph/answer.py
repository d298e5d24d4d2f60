"""An answer for one patient, as the pipeline hands it to whatever writes and draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.parameters import Parameters
from morph.checks import Check, Verdict, worst
from morph.evidence import Estimate, Fit
from morph.mass_effect import Push
from morph.uncertainty import Posterior
from morph.volume import Volume


@dataclass(frozen=True, eq=False)
class Personalization:
    """An answer for one patient.

    Attributes:
        density: c [1] on the patient's T1 grid (RAS axes), 0 outside the brain.
        method: `network`, `refined` or `fallback`.
        checks: every question that was asked.
        parameters: the tumor with lengths in the patient's mm and the origin as a fraction of the cube of `space`;
            None for a fallback.
        origin_mm: the origin in the patient's world [mm], (3,); None for a fallback.
        estimate: what the network said, in the atlas; None without one.
        found: the tumor that was found, in the atlas; None where the search could not start.
        fit: the same in the space where it was found.
        space: where it was solved, `patient` or `atlas`.
        scale: patient mm per atlas mm, det(A)^(1/3); None where a check failed before the registration.
        seconds: time of each stage.
        tissue: labels of the tissue that it was solved on (see `Tissue.labels`), on the T1's grid, or that a
            fallback went around; None where the atlas' tissue was solved on, or none is known.
        tissue_source: `atlas`, `given`, or of a fallback `brightness` (see `morph.tissue`).
        tumor_tissue: what the visible tumor was taken for, `maps` or `white_matter`; None for a fallback.
        tumor_losses: what the search lost, on the coarse grid, with each of them that was tried.
        posterior: what the masks leave open; None for a fallback and where it was not asked for.
        push: what the mass-effect model did to the brain; None for the first model.
    """

    density: Volume
    method: str
    checks: tuple[Check, ...]
    parameters: Parameters | None
    origin_mm: NDArray[np.float64] | None
    estimate: Estimate | None
    found: Estimate | None
    fit: Fit | None
    space: str
    scale: float | None
    seconds: dict[str, float]
    tissue: Volume | None = None
    tissue_source: str = "atlas"
    tumor_tissue: str | None = None
    tumor_losses: Mapping[str, float] = field(default_factory=dict)
    push: Push | None = None
    posterior: Posterior | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(self.checks)
