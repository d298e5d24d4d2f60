"""From a segmentation's labels, or from two mask files, to the two masks that the method looks at.

core = necrosis and enhancing tumor (what T1Gd shows); edema = everything (what FLAIR shows, core included).
1 is necrosis and 2 edema in every BraTS; what 3 and 4 mean depends on its year (`BRATS_2020`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import InputError
from morph.volume import Volume

Labels = Mapping[str, Sequence[int]]
BRATS_2020: Labels = {"core": (1, 4), "edema": (2,)}
BRATS_2023: Labels = {"core": (1, 3), "edema": (2,)}
"""Source: the BraTS challenges' data descriptions. 2017-2020: 4 is enhancing tumor, 3 not in use. 2012-2016: the same,
but 3 is non-enhancing core. From 2023 on: 3 is enhancing tumor, and in 2024 (after treatment) 4 a resection cavity."""
WITHIN, SMALLER, SPECKS = 0.95, 0.95, 0.05
"""An edema that has this share of itself in the core, and a size between these shares of the core's, is taken for a
core in exchange for it (ours): one as large was drawn a little tighter, and a smaller one is stray."""
EXAMPLE = "'labels={core: [1, 4], edema: [2]}'"


@dataclass(frozen=True, eq=False)
class Masks:
    """Where the tumor is visible, on the patient's T1 grid (RAS axes).

    Attributes:
        core: bool (x, y, z); empty where nothing enhances and no necrosis is seen, which the model cannot explain.
        edema: bool (x, y, z), never empty, contains the core; equal to it where nothing else is visible.
        labels: which labels were taken for core and edema; None for masks that were drawn apart.
    """

    core: NDArray[np.bool_]
    edema: NDArray[np.bool_]
    labels: Labels | None = None

    def __post_init__(self) -> None:
        """Refuse masks that show nothing and let the edema contain the core."""
        object.__setattr__(self, "edema", self.edema | self.core)
        if not self.edema.any():
            raise InputError("both masks are empty: give those of a visible tumor, or name its labels with labels=")

    @property
    def target(self) -> NDArray[np.bool_]:
        """What margins go around, bool (x, y, z): the core, or without one all that is visible."""
        return self.core if self.core.any() else self.edema


def masks_from_labels(
    segmentation: Volume, labels: Labels | str = "auto", name: str = "the segmentation", recent: bool = False
) -> Masks:
    """Read the masks off a label volume.

    Args:
        segmentation: whole numbers, 0 is background.
        labels: `auto` to tell BraTS <= 2020 from BraTS >= 2023 by the labels that occur, or a mapping with the
            lists `core` and `edema`, taken literally.
        name: what error messages call it.
        recent: whether the files are named as from BraTS 2023 on, where 4 is no tumor.

    Raises:
        InputError: an unknown or ambiguous label, a label that is no whole number, a malformed map, no tumor.
    """
    present = {float(value) for value in np.unique(segmentation.array)} - {0.0}
    fractional = sorted(value for value in present if not value.is_integer())
    if fractional:
        raise InputError(
            f"{name} holds the value {fractional[0]:g}, which is no label: was it resampled without nearest neighbor?"
        )
    table = _guess_table(present, name, recent) if labels == "auto" else _given_table(labels)
    known = {*table["core"], *table["edema"]}
    unknown = sorted(int(value) for value in present - known)
    if unknown:
        raise InputError(
            f"{name} holds the unknown label {unknown[0]}: known are core {sorted(table['core'])} and "
            f"edema {sorted(table['edema'])}; give yours with {EXAMPLE}"
        )
    core = np.isin(segmentation.array, list(table["core"]))
    return Masks(core, core | np.isin(segmentation.array, list(table["edema"])), table)


def masks_from_files(core: Volume, edema: Volume, names: tuple[str, str] = ("core", "edema")) -> Masks:
    """Masks that were drawn apart.

    Args:
        core: 0 and one positive value.
        edema: likewise, with or without the core.
        names: what error messages call them.

    Raises:
        InputError: an image that is no mask, two empty ones, or exchanged ones.
    """
    drawn, visible = (_drawn(mask, name) for mask, name in zip((core, edema), names, strict=True))
    both, first, second = (np.count_nonzero(mask) for mask in (drawn & visible, drawn, visible))
    if both >= WITHIN * second and SPECKS * first <= second < SMALLER * first:
        raise InputError(
            f"the edema {names[1]} is a part of the core {names[0]}: are the two exchanged? "
            "If FLAIR shows no more than the core, give the core's file twice"
        )
    return Masks(drawn, visible)


def _drawn(mask: Volume, name: str) -> NDArray[np.bool_]:
    """Where a mask is not 0, bool (x, y, z)."""
    values = np.unique(mask.array)
    values = values[values != 0]
    if len(values) > 1 or (values < 0).any():
        raise InputError(
            f"{name} is no mask, it holds {len(values)} values other than 0 ({values[0]:g} is one): "
            "give 0 and one positive value, or a label volume as seg=FILE"
        )
    return mask.array != 0


def _given_table(labels: object) -> Labels:
    """The user's own map, checked."""
    if not isinstance(labels, Mapping):
        raise InputError(f"labels={labels} is not understood: use auto, or {EXAMPLE}")
    if set(labels) != {"core", "edema"}:
        raise InputError(f"labels has the entries {sorted(map(str, labels))}: it needs the two lists core and edema")
    for key, values in labels.items():
        if not isinstance(values, list | tuple) or not all(type(value) is int and value != 0 for value in values):
            raise InputError(f"labels.{key} is {values}: it must be a list of whole numbers, such as {EXAMPLE}")
    return {key: tuple(values) for key, values in labels.items()}


def _guess_table(present: set[float], name: str, recent: bool) -> Labels:
    if {3.0, 4.0} <= present:
        raise InputError(
            f"{name} holds the labels 3 and 4: 4 is enhancing tumor until BraTS 2020 and a resection cavity in 2024; "
            "if all of it is tumor, say so with 'labels={core: [1, 3, 4], edema: [2]}'"
        )
    if recent and 4.0 in present:
        raise InputError(
            f"{name} holds the label 4 beside files named as from BraTS 2023 on, where it may be a resection cavity: "
            f"if it is enhancing tumor, say so with {EXAMPLE}"
        )
    return BRATS_2023 if 3.0 in present else BRATS_2020
