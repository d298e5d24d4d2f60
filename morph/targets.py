"""Volumes that radiotherapy could aim at: the standard margins, and those that follow the estimated density.

`ctv_15mm`, `ctv_20mm`: the brain tissue within 15 mm (ESTRO-EANO 2023) and 20 mm (ESTRO-ACROP 2016) of the core, on
the way that a cell would have to go: around CSF (ventricles, cisterns and fissures of the tissue map, the falx as far
as the map shows a fissure) and never outside the brain. With nothing in the way that is exactly the voxels whose
centers lie within the margin of a core voxel's center. Sulci narrower than `SULCUS` are filled, as by hand.
Without a core they go around all that is visible, and the record says so.
`ctv_density`: as many voxels as ctv_15mm, those with the highest density; of equal ones the nearest to the core.
`ctv_probability`: where P(c > threshold) reaches a chosen probability. The core belongs to each of them, and around
foci that the model does not explain the density is the falloff with distance that is delivered there.

How distances are measured: `morph.distances`.

Source: Niyazi et al., ESTRO-EANO guideline on target delineation and radiotherapy details for glioblastoma,
Radiotherapy and Oncology 184 (2023) 109663; Niyazi et al., ESTRO-ACROP guideline, likewise 118 (2016) 35-42.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine import InputError
from morph.answer import Personalization
from morph.contours import LEVEL
from morph.distances import Mask, margin_distances
from morph.patient import Patient
from morph.resample import bounding_box
from morph.uncertainty import LEVELS

MARGINS = {"ctv_15mm": 15.0, "ctv_20mm": 20.0}
"""Names of the standard volumes and their margins [mm]."""
CORE = "the core"
"""What margins go around, in words, wherever there is one."""
STANDARD = "ctv_15mm"
"""The one that ctv_density is as large as."""
SULCUS = 4.0
"""Width [mm] up to which CSF between tissue of a margin belongs to it (ours)."""
CHANGED = 0.1
"""Relative change of a volume by the voxels of a DICOM series that is worth a word (ours)."""
TISSUE = 2
"""Labels of a tissue map from which on it is no CSF (see `morph.tissue.Tissue.labels`)."""


@dataclass(frozen=True)
class TargetSettings:
    """The group `targets` of conf/run.yaml.

    Attributes:
        threshold: density of ctv_probability, one of `morph.uncertainty.LEVELS`.
        probability: how likely it must be exceeded, in (0, 1].
    """

    threshold: float = 0.1
    probability: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what has no map."""
        if self.threshold not in LEVELS:
            known = ", ".join(f"{value:g}" for value in LEVELS)
            raise InputError(f"targets.threshold={self.threshold:g} has no map of its probability: use one of {known}")
        if not 0 < self.probability <= 1:
            raise InputError(f"targets.probability={self.probability:g} is no probability: give one above 0, up to 1")


@dataclass(frozen=True, eq=False)
class Targets:
    """Target volumes of one patient.

    Attributes:
        masks: name -> bool (x, y, z) on the T1's grid; `ctv_probability` only with a posterior.
        record: their volumes and overlaps, for parameters.json.
    """

    masks: dict[str, Mask]
    record: dict[str, Any]


def target_volumes(patient: Patient, answer: Personalization, settings: TargetSettings) -> Targets:
    """Every target volume of an answer.

    Args:
        patient: masks and brain.
        answer: the tissue map, where there is one, and the posterior; without one there is no ctv_probability, and
            ctv_density follows the delivered density.
        settings: see there.
    """
    posterior = answer.posterior
    core, brain = patient.masks.target, patient.brain | patient.masks.target
    around_what = CORE if patient.masks.core.any() else "the whole visible tumor, for there is no core"
    spacing = patient.t1.spacing
    tissue = brain if answer.tissue is None else brain & (answer.tissue.array >= TISSUE) | core
    direct, around = margin_distances(core, tissue, spacing, max(MARGINS.values()))
    masks = {
        name: fill_sulci((around <= margin) & tissue, (direct <= margin) & brain, spacing)
        for name, margin in MARGINS.items()
    }
    density = answer.density.array
    if posterior is not None:
        density = posterior.density_mean.array
        likely = posterior.probability[settings.threshold].array >= settings.probability
        masks["ctv_probability"] = likely & brain | core
    size = int(np.count_nonzero(masks[STANDARD]))
    masks["ctv_density"], lowest = highest_density(density, size, core, brain, (around, direct))
    record = {
        "barriers": _barriers(answer),
        **{name: {"around": around_what} for name in MARGINS},
        "density": _density_source(answer),
        "volumes_ml": {name: _volume(mask, patient) for name, mask in _named(patient, masks).items()},
        "ctv_density": {"as_large_as": STANDARD, "lowest_density": lowest, **_compare("ctv_density", masks, patient)},
        "ctv_probability": None
        if posterior is None
        else {
            "threshold": settings.threshold,
            "probability": settings.probability,
            **_compare("ctv_probability", masks, patient),
        },
    }
    record |= _on_series(_named(patient, masks), patient)
    return Targets(masks, record)


def _on_series(masks: Mapping[str, Mask], patient: Patient) -> dict[str, dict[str, float]]:
    """How a DICOM series shows volumes: the part of each beyond its end [1], and how its voxels change the rest [1]."""
    cut, changed = dict[str, float](), dict[str, float]()
    if patient.series is not None:
        unit = float(abs(np.linalg.det(patient.series.affine[:3, :3])))
        for name, mask in masks.items():
            volume = patient.t1.with_array(mask)
            missed = patient.series.missed(volume)
            drawn = unit * float(np.count_nonzero(patient.series.shares(volume) >= LEVEL))
            change = drawn / (1000 * max(_volume(mask, patient) * (1 - missed), 1e-3)) - 1
            cut |= {name: missed} if missed > 0 else {}
            changed |= {name: change} if abs(change) > CHANGED and mask.any() else {}
    return {"cut_off_by_series": cut, "changed_by_series": changed}


def series_notes(record: Mapping[str, Any]) -> list[str]:
    """What whoever uses the volumes or their DICOM contours must know, in sentences; `record` is that of `Targets`."""
    cut, changed = record["cut_off_by_series"], record["changed_by_series"]
    around = record.get(STANDARD, {}).get("around", CORE)
    return [
        *([] if around == CORE else [f"{' and '.join(MARGINS)} go around {around}"]),
        *(
            f"{name}: the DICOM series does not show {share:.0%} of it, so it is cut off there"
            for name, share in cut.items()
        ),
        *(
            f"{name}: on the voxels of the DICOM series its volume changes by {change:+.0%}"
            for name, change in changed.items()
        ),
    ]


def fill_sulci(reached: Mask, allowed: Mask, spacing: NDArray[np.float64]) -> Mask:
    """A volume with the narrow gaps in it closed (`SULCUS`), inside what is allowed; all bool (x, y, z)."""
    box = bounding_box(reached, int(np.ceil(SULCUS / spacing.min())))
    wide = ndimage.distance_transform_edt(~reached[box], sampling=spacing) <= SULCUS / 2
    closed = ndimage.distance_transform_edt(np.pad(wide, 1, mode="edge"), sampling=spacing) > SULCUS / 2
    filled = reached.copy()
    filled[box] |= closed[1:-1, 1:-1, 1:-1] & allowed[box]
    return filled


def highest_density(
    density: NDArray[np.float32], size: int, core: Mask, allowed: Mask, distances: tuple[NDArray, ...]
) -> tuple[Mask, float | None]:
    """The core and the voxels with the highest density, `size` in all.

    Args:
        density: c [1], (x, y, z).
        size: voxels, at least the core's and at most those allowed.
        core: always taken, bool (x, y, z).
        allowed: where to choose from, bool (x, y, z), with the core.
        distances: break ties, the first one first, each (x, y, z).

    Returns:
        The voxels, bool (x, y, z), and the lowest density outside the core; None where that is empty.
    """
    ranked = np.where(core, np.inf, density)
    level = np.partition(ranked[allowed], -size)[-size]
    chosen = allowed & (ranked > level)
    tied = np.argwhere(allowed & (ranked == level))
    order = np.lexsort([distance[tuple(tied.T)] for distance in reversed(distances)])
    chosen[tuple(tied[order[: size - np.count_nonzero(chosen)]].T)] = True
    return chosen, float(level) if np.isfinite(level) else None


def _barriers(answer: Personalization) -> str:
    """What margins go around, in words."""
    if answer.tissue is None:
        return "outline of the brain"
    csf = "dark parts of the T1" if answer.tissue_source == "brightness" else "CSF of the tissue map"
    return f"outline of the brain, {csf}"


def _density_source(answer: Personalization) -> str:
    """Which density was used, in words."""
    if answer.posterior is not None:
        return "mean of the posterior"
    if answer.method == "fallback":
        return "falloff with distance (fallback): no posterior, hence no ctv_probability"
    return f"delivered density ({answer.method}): no posterior, hence no ctv_probability"


def _named(patient: Patient, masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """The masks that were given, and the targets."""
    return {"core": patient.masks.core, "edema": patient.masks.edema, **masks}


def _volume(mask: Mask, patient: Patient) -> float:
    """Volume [ml]."""
    return round(float(np.count_nonzero(mask)) * patient.t1.voxel_volume, 3)


def _compare(name: str, masks: Mapping[str, Mask], patient: Patient) -> dict[str, float]:
    """Overlap of a volume with the standard one."""
    ours, standard = masks[name], masks[STANDARD]
    total = int(np.count_nonzero(ours) + np.count_nonzero(standard))
    return {
        "dice": round(2 * int(np.count_nonzero(ours & standard)) / total, 4),
        f"only_{name}_ml": _volume(ours & ~standard, patient),
        f"only_{STANDARD}_ml": _volume(standard & ~ours, patient),
    }
