"""Broken cases: each must end in the check that is meant for it, by name, and the untouched case in none.

    python benches/broken.py seed=3 json=result.json
    python benches/broken.py case=DIR other=DIR only=foci

The case is a digital twin, or a real patient (`case=`) with another one for the foreign mask (`other=`). A case passes
if its check warned or failed; `silent` counts those that ended without. Exit status 1 if there is any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from breaks import (
    Break,
    cut_off,
    empty_core,
    exchanged,
    exchanged_files,
    foreign,
    foreign_t1,
    half_core,
    in_ventricle,
    mirrored_with_t1_alone,
    of_images,
    of_masks,
    out_of_place,
    t1_mirrored,
    t1_moved,
    thick_slices,
    two_foci,
    wide_core,
    with_margin,
    with_skull,
    wrong_voxel_size,
)
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table

from engine import InputError, load_anatomy
from engine.command import compose
from morph.ants import AntsRegistration
from morph.inference import Brain, prepare_brain
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.twin import make_twin

REFUSED = "refused as exchanged"
"""In place of a check's name: the masks are refused with a sentence that says so."""
FOREIGN = ("flair_shows_edema", "flair_outside_masks")
STRANGE = ("flair_shows_patient", "t1gd_shows_patient")
CASES: dict[str, tuple[Break, tuple[str, ...]]] = {
    "untouched": (lambda patient, other: patient, ()),
    "mirrored masks": (of_masks(lambda mask: mask[::-1]), FOREIGN),
    "masks of another patient": (foreign, FOREIGN),
    "T1 of another brain": (foreign_t1, STRANGE),
    "T1 moved by 5 mm": (t1_moved, STRANGE),
    "T1 mirrored": (t1_mirrored, ("sides_agree",)),
    "two distant foci": (two_foci, ("tumor_foci",)),
    "a second focus with a speck of core": (partial(two_foci, radius=4.5), ("tumor_foci",)),
    "tumor in the ventricle": (in_ventricle, ("masks_in_tissue",)),
    "empty core": (empty_core, ("core_visible",)),
    "core and edema exchanged": (exchanged, ("core_inside_edema",)),
    "files of core and edema exchanged": (exchanged_files, (REFUSED,)),
    "mirrored masks, T1 alone": (mirrored_with_t1_alone, ("masks_can_be_checked",)),
    "half of the core, no T1Gd": (lambda p, other: replace(half_core(p, other), t1ce=None), ("core_can_be_checked",)),
    "cut off at the top": (cut_off, ("brain_complete",)),
    "cut off at the top, head tilted": (partial(cut_off, degrees=12), ("brain_complete",)),
    "slices of 5 mm": (thick_slices, ("voxel_size",)),
    "not skull-stripped": (with_skull, ("brain_volume",)),
    "masks 5 mm out of place": (partial(out_of_place, shift=(3.0, 3.0, 3.0)), ("masks_in_place",)),
    "edema with a margin": (partial(with_margin, margin=7.0), ("flair_shows_outline",)),
    "core with a margin": (partial(wide_core, margin=5.0), ("t1gd_shows_outline", "edema_beyond_core")),
    "half of the core left out": (half_core, ("t1gd_outside_core",)),
    "slices three quarters as thick": (partial(wrong_voxel_size, shares=(1, 1, 0.75)), ("registration_stretch",)),
    "wrong voxel size": (partial(wrong_voxel_size, shares=(0.7, 0.7, 0.7)), ("registration_scale",)),
    "facing backwards": (of_images(lambda array: array[:, ::-1]), ("orientation",)),
}
"""Name -> how to break a case, and the checks of which one at least must notice."""


def main() -> None:
    """Break the case in every way."""
    settings = arguments(
        {"seed": 3, "other_seed": 4, "case": None, "other": None, "only": None, "weights": "auto", "json": None},
        __doc__,
    )
    config = compose("run")
    patient, other = (
        make_twin(seed).patient if path is None else load_patient(find_case(path))
        for seed, path in ((settings.seed, settings.case), (settings.other_seed, settings.other))
    )
    brain = prepare_brain(load_anatomy("sri24"), settings.weights)
    rows = {}
    for name, (how, expected) in CASES.items():
        if settings.only is not None and settings.only not in name:
            continue
        rows[name] = judge(expected, *run(lambda how=how: how(patient, other), brain, config))
        Console().print(name, rows[name])
    Console().print(table(rows))
    silent = [name for name, row in rows.items() if not row["noticed"]]
    publish("Broken cases", {"machine": machine(), "silent": len(silent), "cases": [rows]}, settings.json)
    sys.exit(1 if silent else 0)


def run(make: Callable[[], Patient], brain: Brain, config: Any) -> tuple[str, dict[str, str]]:
    """The verdict on a case, and what did not pass."""
    search = RefinementSettings(**config.refinement)
    try:
        sampling = PosteriorSettings(**config.posterior)
        answer = run_pipeline(make(), brain, AntsRegistration(**config.registration), search, uncertainty=sampling)
    except InputError as refusal:
        return "refused", {REFUSED if "exchanged" in str(refusal) else str(refusal): "refused"}
    return answer.verdict, {check.name: check.verdict for check in answer.checks if check.verdict != "pass"}


def judge(expected: Sequence[str], verdict: str, raised: dict[str, str]) -> dict[str, Any]:
    """Whether a right check noticed; an untouched case must pass all."""
    noticed = not {*expected}.isdisjoint(raised) if expected else verdict == "pass"
    return {"expected": " or ".join(expected), "noticed": noticed, "verdict": verdict, "raised": raised}


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """A line a case."""
    shown = Table("case", "must be noticed by", "noticed", "verdict", "checks that did not pass", title="broken cases")
    for name, row in rows.items():
        raised = ", ".join(f"{check} ({verdict})" for check, verdict in row["raised"].items())
        shown.add_row(name, row["expected"] or "-", "yes" if row["noticed"] else "NO", row["verdict"], raised)
    return shown


if __name__ == "__main__":
    main()
