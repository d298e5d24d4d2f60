"""Tissue and tumor carried along by a moving brain.

    ∂q/∂t + ∇·(q v) = 0      in the brain,      v = 0 at the skull

for q the tumor density and each tissue fraction. Space and time: finite volumes, one axis after the other in
alternating order (Strang), van Leer's limited slope traced back half a step at every face; second order where q is
smooth. What leaves a cell enters its neighbor, so each sum is conserved to rounding; q >= 0 stays >= 0 because no
sub-step moves anything further than `COURANT` cells along an axis. Rows that hold nothing are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from engine.kernels import transport as kernels

Field = NDArray[np.float32]

COURANT = 0.5
"""Furthest move of a sub-step along an axis [cells]; the scheme is positive up to this (worst case: 0.94 leaves)."""
_SWEEPS = (kernels.sweep_x, kernels.sweep_y, kernels.sweep_z)


class Transport:
    """Moves fields in place over one grid.

    Attributes:
        substeps: taken so far.
    """

    def __init__(self, open_faces: NDArray) -> None:
        """Prepare for a brain.

        Args:
            open_faces: whether matter may cross the lower face of a cell along each axis, (3, x, y, z); no face of
                the outermost layer of cells may be open.
        """
        self._open = open_faces.astype(np.float32)
        self._other = np.zeros(open_faces.shape[1:], dtype=np.float32)
        self.substeps = 0

    def move(self, fields: Sequence[Field], shift: NDArray[np.floating]) -> list[Field]:
        """The fields, float32 (x, y, z), carried by `shift` [cells] of the lower faces, (3, x, y, z).

        The arrays given are used as scratch.
        """
        shift = (shift * self._open).astype(np.float32)
        furthest = float(np.abs(shift).max())
        count = ceil(furthest / COURANT)
        moved = list(fields)
        if count:
            shift /= np.float32(count)
        for _ in range(count):
            order = (0, 1, 2) if self.substeps % 2 == 0 else (2, 1, 0)
            self.substeps += 1
            moved = [self._sweep(field, shift, order) for field in moved]
        return moved

    def _sweep(self, field: Field, shift: Field, order: tuple[int, int, int]) -> Field:
        source, target = field, self._other
        for axis in order:
            _SWEEPS[axis](source, shift[axis], target)
            source, target = target, source
        self._other = target
        return source


def faces_inside(brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether both cells of each lower face are brain, bool (3, x, y, z)."""
    return np.stack([brain & np.roll(brain, 1, axis) for axis in range(3)])
