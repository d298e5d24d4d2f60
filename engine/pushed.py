"""What becomes of a tumor and of the brain that it pushes aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.cutout import Cutout

Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pushed:
    """What became of a tumor and its brain; fields are float32 on the atlas' grid.

    Attributes:
        density: c [1], (x, y, z).
        white_matter: fraction [1] after the displacement, (x, y, z); likewise `gray_matter` and `csf`. Where matter
            is compressed they sum to more than 1.
        displacement: u [mm] at the voxels' centers, (3, x, y, z), axes RAS.
        minimum_jacobian: lowest det(I + ∇u) in the brain [1].
        folded: part of the brain where it is not positive [1].
        ended: `duration`, `too_big` or `not_converged`; fields are where it stood then.
        updates: tissue-voxel updates of growth.
        solves: displacement solves, and `iterations` of all of them together.
    """

    density: Field
    white_matter: Field
    gray_matter: Field
    csf: Field
    displacement: Field
    minimum_jacobian: float
    folded: float
    ended: str
    updates: int
    solves: int
    iterations: int

    @property
    def highest_density(self) -> float:
        """Largest c [1]: above 1 where compression has lifted it there."""
        return float(self.density.max())


@dataclass(frozen=True)
class Counts:
    """What a simulation took; the names are those of `Pushed`."""

    updates: int
    solves: int
    iterations: int


def pushed_of(cutout: Cutout, fields: Sequence[Field], carried: Field, ended: str, counts: Counts) -> Pushed:
    """A result on the atlas' grid.

    Args:
        cutout: the box.
        fields: density, white matter, gray matter and CSF of the box [1], (x, y, z) each.
        carried: how far the tissue has been carried, on the coarse lower faces [mm], (3, X, Y, Z).
        ended: see `Pushed`.
        counts: what it took.
    """
    density, white, gray, csf = (cutout.embed(field) for field in fields)
    faces = cutout.refine(carried)
    centers = np.stack([(u + np.roll(u, -1, axis)) / 2 for axis, u in enumerate(faces)])
    minimum, folded = _folding(cutout, carried)
    return Pushed(
        density, white, gray, csf, cutout.embed(centers), minimum, folded, ended, counts.updates, counts.solves,
        counts.iterations,
    )  # fmt: skip


def _folding(cutout: Cutout, u: Field) -> tuple[float, float]:
    """The lowest det(I + ∇u) over the brain's coarse cells, and the part of them where it is not positive."""
    h = cutout.coarse_spacing
    centers = [(v + np.roll(v, -1, axis)) / 2 for axis, v in enumerate(u)]
    jacobian = np.empty((*u.shape[1:], 3, 3))
    for i in range(3):
        for j in range(3):
            along = np.roll(u[i], -1, i) - u[i] if i == j else np.gradient(centers[i], axis=j)
            jacobian[..., i, j] = (i == j) + along / h
    determinant = np.linalg.det(jacobian[cutout.coarse_brain])
    return float(determinant.min()), float(np.mean(determinant <= 0))
