"""python -m morph.run case=DIR | cases=DIR | t1=... seg=... | t1=... core=... edema=... | demo=true: fit a tumor.

Reads a skull-stripped T1 and the tumor's masks, finds the tumor that explains them, and writes its density on the
patient's own grid with a picture and the parameters. Exit status: 0 the answer passed its checks (or warns), 2 bad
input, 3 the answer was rejected and a distance-based fallback is delivered; of a folder of patients (`cases=`) the
worst of its cases: 1 a crash, 2 bad input, 3 a fallback, 0 none of these.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from engine import InputError, load_anatomy
from engine.command import run_command
from engine.model import MODELS, model_of
from learn.settings import whole_number
from morph.answer import Personalization
from morph.ants import AntsRegistration
from morph.batch import find_files, run_batch
from morph.inference import Brain, prepare_brain
from morph.layout import DATASET, PARAMETERS, TWIN, Layout, lay_out
from morph.mass_effect import MassEffect, PushSettings
from morph.outputs import check_owner, hash_brain, prepare_folder, write_json, write_outputs
from morph.patient import TISSUES, Patient, load_patient
from morph.pipeline import run_pipeline
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.scene import check_space
from morph.settings import build
from morph.stopwatch import Stopwatch
from morph.summary import FALLBACK_DELIVERED
from morph.targets import TargetSettings, series_notes, target_volumes
from morph.twin import describe_twin, make_twin, print_scores
from morph.warp_cache import KeptRegistration

FILES = ("t1", "t1ce", "flair", "seg", "core", "edema", "brain", *TISSUES, "dicom")
LARGEST_SEED = 2**31 - 2
"""The search and ANTs get the seed plus 1, which ANTs reads as a signed number of 32 bits."""
COLORS = {"pass": "green", "warn": "yellow", "fail": "red"}


def main(config: DictConfig) -> int:
    """Run the command.

    Args:
        config: conf/run.yaml.

    Returns:
        The exit status.

    Raises:
        InputError: for whatever the user can mend.
    """
    seed = whole_number(config, "seed", 0, LARGEST_SEED)
    console = Console()
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    watch = Stopwatch(lambda sentence: console.print(f"[dim]... {sentence}[/dim]"))
    refinement = build(RefinementSettings, "refinement", options["refinement"], seed=seed)
    registration = build(AntsRegistration, "registration", options["registration"], seed=seed)
    effect, uncertainty = _effect(options), _uncertainty(options, seed)
    aims = build(TargetSettings, "targets", options["targets"])
    refine, space = _choices(options)
    if options["cases"] is not None:
        return run_batch(options, main, lambda: hash_brain(_brain(options)))
    files, twin = _files(options), None
    layout = _layout(options)
    if not options["demo"]:
        with watch.stage("input", "read the images"):
            patient = load_patient(files, options["labels"], _name(options))
    with watch.stage("atlas", "load atlas and network"):
        brain = _brain(options)
    if options["out"] is None and not options["demo"]:
        check_owner(layout, files)
    prepare_folder(layout, files.values())
    if options["demo"]:
        with watch.stage("input", "make a digital twin"):
            twin = make_twin(seed, model=effect.model if effect else None)
            patient = twin.patient
    kept = KeptRegistration(registration, layout.registration)
    answer = run_pipeline(
        patient, brain, kept, refinement if refine else None, space, watch.announce, effect, uncertainty
    )
    if "registration" not in answer.seconds:
        kept.forget()
    with watch.stage("targets", "draw target volumes"):
        targets = target_volumes(patient, answer, aims)
    answer.seconds.update(watch.seconds)
    watch.announce(f"write {layout.folder}")
    scores = None if twin is None else describe_twin(twin, answer, seed)
    if scores is not None:
        write_json(layout.place(TWIN), scores)
    write_outputs(layout, patient, answer, brain, targets, options, scores)
    if twin is not None:
        print_scores(console, twin, answer)
    if patient.series is not None:
        console.print(f"contours are drawn on a series of {patient.series.patient}", markup=False, highlight=False)
    for sentence in series_notes(targets.record):
        console.print(f"[yellow]{sentence}[/]")
    print_answer(console, patient, answer, layout)
    return FALLBACK_DELIVERED if answer.method == "fallback" else 0


def print_answer(console: Console, patient: Patient, answer: Personalization, layout: Layout) -> None:
    """Tell a person what came out and what to think of it."""
    table = Table(title=f"checks of {patient.name}", title_justify="left")
    for column in ("check", "verdict", "what was measured"):
        table.add_column(column)
    for check in answer.checks:
        table.add_row(check.name, f"[{COLORS[check.verdict]}]{check.verdict}[/]", check.message)
    console.print(table)
    found = answer.parameters
    if found is not None:
        console.print(f"mu1 = {found.mu1:.2f} mm, mu2 = {found.mu2:.2f}, method: {answer.method}")
        if answer.push is not None and answer.fit is not None:
            for name, fit in (("growth alone", answer.push.first), ("growth that pushes", answer.fit)):
                console.print(f"{name}: Dice of core {fit.core_dice:.3f}, of edema {fit.edema_dice:.3f}")
            console.print(f"tissue moved by up to {answer.push.furthest:.1f} mm")
    else:
        reason = "No tumor was fitted" if answer.found is None else "The model's answer failed its checks"
        console.print(f"[red]{reason}: the density comes from distances to the masks.[/red]")
    shown = (layout.place(name).relative_to(layout.root) for name in ("report.html", "density.nii.gz", PARAMETERS))
    console.print(f"written to {layout.root}: {', '.join(map(str, shown))}, ...")


def _brain(options: dict[str, Any]) -> Brain:
    """atlas= and weights=."""
    atlas = options["atlas"]
    return prepare_brain(load_anatomy(atlas.get("files") or atlas["name"]), str(options["weights"]))


def _files(options: dict[str, Any]) -> dict[str, str | Path]:
    """The patient's files, from a case folder and single paths; a single path wins. A demo has none."""
    single = {role: str(options[role]) for role in FILES if options[role] is not None}
    if options["demo"] not in (True, False):
        raise InputError(f"demo={options['demo']} is not understood: use true or false")
    if options["demo"]:
        given = [*(["case"] if options["case"] is not None else []), *single]
        if given:
            raise InputError(f"demo=true makes its own patient: leave out {', '.join(f'{key}=' for key in given)}")
        return {}
    found: dict[str, str | Path] = {} if options["case"] is None else dict(find_files(Path(str(options["case"]))))
    if {"core", "edema"} & set(single):
        found.pop("seg", None)
    if not found and not single:
        raise InputError(
            "no patient is given: use case=FOLDER with BraTS names, t1=FILE seg=FILE, cases=FOLDER, or demo=true"
        )
    return found | single


def _uncertainty(options: dict[str, Any], seed: int) -> PosteriorSettings | None:
    """posterior=; simulations=0 goes without."""
    given = options["posterior"]
    if isinstance(given, dict) and given.get("simulations") == 0:
        return None
    return build(PosteriorSettings, "posterior", given, seed=seed)


def _choices(options: dict[str, Any]) -> tuple[bool, str]:
    """refine= and space=."""
    refine, space = options["refine"], options["space"]
    if refine not in (True, False):
        raise InputError(f"refine={refine} is not understood: use true or false")
    return refine, space


def _effect(options: dict[str, Any]) -> MassEffect | None:
    """model= and push=; None for the first model."""
    settings = build(PushSettings, "push", options["push"])
    if not isinstance(options["model"], dict):
        raise InputError(f"model={options['model']} is unknown: use {' or '.join(MODELS)}")
    chosen = dict(options["model"])
    model = model_of({"model": chosen.pop("name", None), **chosen})
    effect = MassEffect(model, settings) if model.has_mass_effect else None
    check_space(options["space"], effect is not None)
    return effect


def _layout(options: dict[str, Any]) -> Layout:
    """Where layout= and out= put the files: by default results/NAME, or results/derivatives/learn-morph-infer."""
    kind = options["layout"]
    if options["out"] is None and options["case"] is None and not options["demo"]:
        raise InputError("single files have no name for a folder of results: say where to write them with out=FOLDER")
    out = None if options["out"] is None else Path(str(options["out"]))
    name = _name(options)
    usual = DATASET if kind == "bids" else Path("results") / name
    return lay_out(kind, out or usual, name)


def _name(options: dict[str, Any]) -> str:
    """The patient's: name=, that of the case's folder, or that of the first folder above the T1 that tells patients."""
    if options["name"] is not None:
        name = str(options["name"])
        if not name.strip() or "/" in name or name.startswith("."):
            raise InputError(f"name={name!r} cannot name a folder: use letters and digits")
        return name
    if options["demo"]:
        return "demo"
    if options["case"] is not None:
        return Path(os.path.abspath(str(options["case"]))).name  # of the link, as a batch has it
    folders = Path(os.path.abspath(str(options["t1"]))).parents
    telling = (path.name for path in folders if path.name != "anat" and not path.name.startswith("ses-"))
    return next(telling, "") or "patient"


if __name__ == "__main__":
    run_command(main, "run")
