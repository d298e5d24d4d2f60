"""From a segmentation's labels, or from two mask files, to the two masks that the method looks at.

core = necrosis and enhancing tumor (what T1Gd shows); edema = everything (what FLAIR shows, core included).
BraTS up to 2020 writes 1 necrosis, 2 edema, 4 enhancing; from 2023 on enhancing is 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import InputError
from morph.volume import Volume

BRATS_2020 = {"core": (1, 4), "edema": (2,)}
BRATS_2023 = {"core": (1, 3), "edema": (2,)}
"""Source: the BraTS challenges' data descriptions; 3 was not in use before 2023."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Where the tumor is visible, on the patient's T1 grid (RAS axes).

    Attributes:
        core: bool (x, y, z), never empty.
        edema: bool (x, y, z), contains the core.
    """

    core: NDArray[np.bool_]
    edema: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse an empty core and let the edema contain the core."""
        if not self.core.any():
            raise InputError(
                "the core mask is empty: the method needs necrosis or enhancing tumor (labels 1 and 4, or 1 and 3)"
            )
        object.__setattr__(self, "edema", self.edema | self.core)


def masks_from_labels(
    segmentation: Volume, labels: Mapping[str, Sequence[int]] | str = "auto", name: str = "the segmentation"
) -> Masks:
    """Read the masks off a label volume.

    Args:
        segmentation: whole numbers, 0 is background.
        labels: `auto` to tell BraTS <= 2020 from BraTS >= 2023 by the labels that occur, or a mapping with the
            lists `core` and `edema`, taken literally.
        name: what error messages call it.

    Raises:
        InputError: an unknown label, a label that is no whole number, a malformed map, an empty core.
    """
    present = {float(value) for value in np.unique(segmentation.array)} - {0.0}
    fractional = sorted(value for value in present if not value.is_integer())
    if fractional:
        raise InputError(
            f"{name} holds the value {fractional[0]:g}, which is no label: was it resampled without nearest neighbor?"
        )
    table = _label_table(labels, present, name)
    known = {*table["core"], *table["edema"]}
    unknown = sorted(int(value) for value in present - known)
    if unknown:
        raise InputError(
            f"{name} holds the unknown label {unknown[0]}: known are core {sorted(table['core'])} and "
            f"edema {sorted(table['edema'])}; give yours with 'labels={{core: [1], edema: [2]}}'"
        )
    core = np.isin(segmentation.array, list(table["core"]))
    return Masks(core, core | np.isin(segmentation.array, list(table["edema"])))


def masks_from_files(core: Volume, edema: Volume | None) -> Masks:
    """Masks that were drawn apart: every voxel that is not 0 belongs to them; no edema means edema = core."""
    visible = core.array != 0
    return Masks(visible, visible if edema is None else visible | (edema.array != 0))


def _label_table(
    labels: Mapping[str, Sequence[int]] | str, present: set[float], name: str
) -> Mapping[str, Sequence[int]]:
    if not isinstance(labels, str):
        if set(labels) != {"core", "edema"}:
            raise InputError(f"labels has the entries {sorted(labels)}: it needs the two lists core and edema")
        return labels
    if labels != "auto":
        raise InputError(f"labels={labels!r} is not understood: use auto, or 'labels={{core: [1], edema: [2]}}'")
    if {3.0, 4.0} <= present:
        raise InputError(
            f"{name} holds the labels 3 and 4, of which no known scheme uses both for tumor: "
            "say which is which with 'labels={core: [1, 3], edema: [2]}'"
        )
    return BRATS_2023 if 3.0 in present else BRATS_2020
