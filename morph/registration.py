"""What the pipeline asks of a registration, whatever library does it.

A `Registration` takes the patient's T1 and the atlas' T1 and returns a `Warp`, which carries images and points
both ways. The patient is fixed and the atlas moves, as in the paper; the tumor is masked out of the metric in
every stage, because the atlas has nothing that could correspond to it.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import InputError
from morph.volume import Volume

Interpolation = Literal["linear", "nearest"]
TUMOR_MARGIN = 3.0
"""How far [mm] beyond the visible edema the metric looks away: blurred edges and compressed tissue (ours)."""


class RegistrationFailed(InputError):
    """No correspondence was found."""


class Warp(Protocol):
    """A found correspondence between one patient and one atlas."""

    @property
    def affine_scale(self) -> float:
        """det(A)^(1/3) of the affine part A: atlas -> patient; a length in the atlas times it is the patient's.

        Negative for an affine part that mirrors, which no check lets pass.
        """
        ...

    @property
    def affine_stretch(self) -> float:
        """How many times more A lengthens in one direction than in another, 1 or more."""
        ...

    def to_atlas(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        """A patient-space volume resampled on the grid of `like`, which lies in atlas space."""
        ...

    def to_patient(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        """An atlas-space volume resampled on the grid of `like`, which lies in patient space."""
        ...

    def points_to_atlas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient world points [mm], shape (n, 3), carried into the atlas' world."""
        ...

    def points_to_patient(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Atlas world points [mm], shape (n, 3), carried into the patient's world."""
        ...


class Registration(Protocol):
    """A way to find a `Warp`."""

    def register(self, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> Warp:
        """Bring the atlas' T1 onto the patient's.

        Args:
            patient: skull-stripped T1.
            atlas: skull-stripped T1.
            ignore: voxels of the patient that the metric does not see, bool (x, y, z).

        Raises:
            RegistrationFailed: none is found.
        """
        ...


def grow_mask(mask: NDArray[np.bool_], spacing: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """A mask and everything within `margin` [mm] of it, bool (x, y, z)."""
    if not mask.any():
        return mask.copy()
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= margin)
