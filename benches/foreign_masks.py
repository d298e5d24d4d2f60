"""Wrong masks on right images: which of them do the checks of what goes in reject, warn about or let pass?

    python benches/foreign_masks.py twins=5 folder=DIR json=result.json

Every brain (digital twins `first` to `first` + `twins` - 1, and the patients in `folder`, with BraTS names) gets its
own masks, those with outlines moved by 1 and 2 mm, those shifted by some millimeters, with a margin around the edema or
with half of the core left out, core and edema exchanged, and the masks of all other brains of its kind, straight
and mirrored, and its own mirrored ones. The latter are also shown with T1Gd or FLAIR left out, and with T1 alone. Only
what is asked before the registration is asked, which takes seconds; a verdict is the worst of those checks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from breaks import half_core, out_of_place, with_margin
from report import arguments, machine, publish
from rich.console import Console
from rich.progress import track
from rich.table import Table

from morph.checks import SEVERITY, worst
from morph.edges import WAYS
from morph.foci import split_foci
from morph.input_checks import check_foci, check_patient
from morph.outlines import signed_distance
from morph.patient import Patient, crop, find_case, load_patient
from morph.resample import bounding_box
from morph.segmentation import Masks
from morph.twin import make_twin

MARGIN = 8
"""Voxels around the brain that are looked at, as in a run."""
MOVES = (-2.0, -1.0, 1.0, 2.0)
"""How far [mm] right outlines are moved outwards."""
SHIFTS, MARGINS = (3.0, 5.0, 8.0), (4.0, 7.0)
"""How far [mm] masks are shifted along axes and diagonals of space, by whole voxels, and how wide a margin an edema may
be given."""
LEFT_OUT: dict[str, dict[str, None]] = {
    "": {},
    ", no T1Gd": {"t1ce": None},
    ", no FLAIR": {"flair": None},
    ", T1 alone": {"t1ce": None, "flair": None},
}


def main() -> None:
    """Count the verdicts on every kind of masks."""
    settings = arguments({"twins": 5, "first": 20, "folder": None, "json": None}, __doc__)
    numbers = range(settings.first, settings.first + settings.twins)
    kinds = {"twins": [make_twin(seed).patient for seed in track(numbers, "grow twins")]}
    if settings.folder is not None:
        cases = sorted(path for path in Path(settings.folder).iterdir() if path.is_dir())
        kinds["patients"] = [load_patient(find_case(case)) for case in cases]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for brains in kinds.values():
        for whole in track(brains, "check"):
            for title, patient in variants(whole, brains):
                counts[title][worst([*check_patient(patient), check_foci(split_foci(patient.masks, patient.t1))])] += 1
    table = Table("masks", *SEVERITY, title="verdicts of the input checks")
    for title, found in counts.items():
        table.add_row(title, *(str(found[verdict]) for verdict in SEVERITY))
    Console().print(table)
    brains_looked_at = {kind: len(brains) for kind, brains in kinds.items()}
    rows: dict[str, Any] = {title: {v: found[v] for v in SEVERITY} for title, found in counts.items()}
    publish("Foreign masks", {"machine": machine(), "brains": brains_looked_at, "masks": rows}, settings.json)


def misdrawn(patient: Patient) -> Iterator[tuple[str, Patient]]:
    """Masks that are about right: shifted, the edema with a margin, half of the core left out."""
    for length in SHIFTS:
        for way in WAYS[np.abs(WAYS).sum(axis=1) != 2]:
            along = "an axis" if np.abs(way).sum() == 1 else "a diagonal"
            shift = length * way / np.linalg.norm(way)
            yield f"shifted by {length:g} mm along {along}", out_of_place(patient, patient, shift)
    for margin in MARGINS:
        yield f"edema with a margin of {margin:g} mm", with_margin(patient, patient, margin)
    for axis in range(3):
        yield "half of the core left out", half_core(patient, patient, axis)


def variants(whole: Patient, brains: list[Patient]) -> Iterator[tuple[str, Patient]]:
    """One brain with every kind of masks; foreign ones, on the same grid, are left out where they miss the brain."""
    box = bounding_box(whole.brain, MARGIN)
    patient = crop(whole, box)
    core, edema = patient.masks.core, patient.masks.edema
    yield "right", patient
    distances = [signed_distance(mask, patient.t1.spacing) for mask in (core, edema)]
    for move in MOVES:
        yield "right, moved", replace(patient, masks=Masks(*(distance > -move for distance in distances)))
    yield from misdrawn(patient)
    yield "core and edema exchanged", replace(patient, masks=Masks(edema & ~core, edema))
    for other in brains:
        for step in (1, -1):
            masks = Masks(other.masks.core[::step][box], other.masks.edema[::step][box])
            if (other is whole and step == 1) or not (masks.core & patient.brain).any():
                continue
            for title, without in LEFT_OUT.items():
                yield f"foreign or mirrored{title}", replace(patient, masks=masks, **without)


if __name__ == "__main__":
    main()
