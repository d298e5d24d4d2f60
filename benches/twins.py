"""Digital twins: how far the pipeline's answer is from a known truth, before and after refinement.

    python benches/twins.py count=20 json=result.json plot=ranks.png
    python benches/twins.py count=20 stages=[refined]
    python benches/twins.py count=20 stages=[refined] own_maps=true
    python benches/twins.py count=4 model=mass_effect
    python benches/twins.py count=4 brain=colin27                   # needs Debian's package mricron-data

Each twin is a tumor of the whole-brain prior grown in MNI152, or in one man's brain (`brain=colin27`), with masks at
random thresholds whose outlines are drawn with errors of 1 mm (`deviation=`); the pipeline sees that brain's images
and the drawn masks. Three stages are measured: `network` is the published pipeline (estimate solved in the atlas,
density warped back), `patient_space` solves the same estimate in the patient's tissue, `refined` searches there,
samples what the masks leave open and delivers the tumor that agrees best with the others and the masks; it is told
which share of the true numbers its intervals hold (`plot=` shows it as `benches/calibration.py` does), and which share
of the voxels with some probability the tumor reaches. Scores are taken in the patient's space.
With model=mass_effect the tumors push their brains aside, and a fourth stage, `mass_effect`, answers with that model;
the other three answer with the first one, and it is told how far each answer's displacement is from the true one.
own_maps=true gives the brain's true tissue maps as the patient's own, which the stages that solve in the patient use.
`seconds` are those of the pipeline's stages, the registration included: not imports, reading images or writing files.
An answer is `wrong` if its Dice at 0.1 is below 0.5, or if its volume at 0.1 is off by more than a factor of 3; a
fallback counts as an answer and is counted.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from calibration import plot_ranks
from omegaconf import OmegaConf
from reliability import count_reached, pooled
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table

from engine import load_anatomy
from engine.command import compose
from engine.model import Model, model_of
from engine.parameters import COUPLING
from morph.answer import Personalization
from morph.ants import AntsRegistration
from morph.colin27 import load_colin27
from morph.inference import Brain, prepare_brain
from morph.mass_effect import MassEffect, PushSettings
from morph.pipeline import run_pipeline
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.registration import Registration
from morph.twin import BRAIN, Twin, compare, make_twin
from morph.twin_images import DEVIATION
from morph.warp_cache import KeptRegistration

STAGES = {
    "network": ("atlas", False),
    "patient_space": ("patient", False),
    "refined": ("patient", True),
    "mass_effect": ("patient", True),
}
"""Stage -> where it solves, and whether it refines; the last one lets the tumor push."""
SCORES = (
    "dice_0.01",
    "dice_0.1",
    "dice_0.8",
    "mae_symmetric",
    "origin_error_mm",
    "mu1_relative_error",
    "mu2_relative_error",
)
PUSHES = ("displacement_mm", "displacement_error_mm")
PUSHED = 2.0
"""Displacement [mm] from which on a place counts when displacements are compared (ours)."""


def main() -> None:
    """Run every twin through every stage."""
    defaults = {
        "count": 20,
        "first": 0,
        "weights": "auto",
        "brain": BRAIN,
        "deviation": DEVIATION,
        "model": "fisher_kolmogorov",
        "coupling": COUPLING,
        "own_maps": False,
        "stages": list(STAGES),
        "plot": None,
        "json": None,
    }
    settings = arguments(defaults, __doc__)
    unknown = sorted(set(map(str, settings.stages)) - set(STAGES))
    if unknown or not settings.stages:
        sys.exit(f"error: stages= has {unknown[0] if unknown else 'none'}: choose from {', '.join(STAGES)}")
    if settings.plot is not None and "refined" not in settings.stages:
        sys.exit("error: plot= shows the posterior of the refined stage, which stages= leaves out")
    config = compose("run")
    brain = prepare_brain(load_anatomy("sri24"), settings.weights)
    anatomy = load_colin27() if settings.brain == "colin27" else load_anatomy(settings.brain)
    model = model_of(OmegaConf.to_container(settings))  # type: ignore[arg-type]
    asked = [
        stage for stage in STAGES if stage in settings.stages and (stage != "mass_effect" or model.has_mass_effect)
    ]
    stages = [stage for stage in asked if STAGES[stage][1] or brain.estimator is not None]
    if not stages:
        sys.exit("error: stages= leaves nothing to do: mass_effect needs model=mass_effect, others weights or a search")
    console = Console()
    rows: dict[str, list[dict[str, Any]]] = {stage: [] for stage in stages}
    for seed in range(settings.first, settings.first + settings.count):
        twin = make_twin(seed, anatomy, deviation=settings.deviation, model=model)
        with TemporaryDirectory() as folder:
            registration = KeptRegistration(AntsRegistration(**config.registration, seed=seed), Path(folder))
            registering = 0.0
            for stage in stages:
                answer = answer_twin(twin, stage, seed, registration, brain, settings.own_maps, model, config)
                registering = max(registering, answer.seconds.get("registration", 0.0))
                rows[stage].append(score(seed, twin, answer, registering))
                console.print(f"seed {seed} {stage}: " + ", ".join(f"{k} {show(rows[stage][-1][k])}" for k in SCORES))
    ranks = [row["ranks"] for row in rows.get("refined", []) if "ranks" in row]
    if settings.plot is not None and ranks:
        plot_ranks({name: np.array([one[name] for one in ranks]) for name in ranks[0]}, Path(settings.plot))
    result = {stage: summarize(rows[stage]) for stage in stages}
    console.print(table(rows))
    publish(
        "Digital twins",
        {"machine": machine(), "brain": anatomy.name, "own_maps": bool(settings.own_maps), **result},
        settings.json,
    )


def answer_twin(
    twin: Twin,
    stage: str,
    seed: int,
    registration: Registration,
    brain: Brain,
    own_maps: bool,
    model: Model,
    config: Any,
) -> Personalization:
    """What a stage answers."""
    space, refine = STAGES[stage]
    patient = replace(twin.patient, tissue=twin.tissue if own_maps else None)
    search = RefinementSettings(**config.refinement, seed=seed) if refine else None
    effect = MassEffect(model, PushSettings(**config.push)) if stage == "mass_effect" else None
    sampling = PosteriorSettings(**config.posterior, seed=seed) if refine else None
    return run_pipeline(patient, brain, registration, search, space, effect=effect, uncertainty=sampling)


def score(seed: int, twin: Twin, answer: Personalization, registering: float) -> dict[str, Any]:
    """One answer against the truth; the registration took `registering` seconds, though a later stage reused it."""
    scores = compare(twin, answer)
    volumes = [int(np.count_nonzero(v.array >= 0.1)) for v in (twin.density, answer.density)]
    factor = max(volumes) / max(min(volumes), 1)
    wrong = (scores["dice_0.1"] or 0) < 0.5 or factor > 3
    seconds = sum(answer.seconds.values()) - answer.seconds.get("registration", 0.0) + registering
    return {
        "seed": seed,
        **scores,
        **compare_push(twin, answer),
        **count_held(twin, answer),
        "wrong": wrong,
        "wrong_without_warning": wrong and answer.verdict == "pass",
        "verdict": answer.verdict,
        "raised": {check.name: check.value for check in answer.checks if check.verdict != "pass"},
        "method": answer.method,
        "tumor_tissue": answer.tumor_tissue,
        "seconds": seconds,
    }


def count_held(twin: Twin, answer: Personalization) -> dict[str, Any]:
    """What the posterior said, against the truth.

    Returns:
        Shares of the true numbers in their 50% and 90% intervals, their ranks, the Dice at 0.1 that was expected, how
        probable it was held that the visible tumor is white matter throughout, and for each map of probability how
        often it was right.
    """
    if answer.posterior is None:
        return {}
    tumor, (core, edema) = twin.parameters, twin.thresholds
    truth = {"mu1": tumor.mu1, "mu2": tumor.mu2, "core_threshold": core, "edema_threshold": edema}
    truth |= {f"origin_{axis}": twin.origin_mm[i] for i, axis in enumerate("xyz")}
    found = answer.posterior.intervals
    half = [found[name].half[0] <= value <= found[name].half[1] for name, value in truth.items()]
    most = [found[name].most[0] <= value <= found[name].most[1] for name, value in truth.items()]
    ranks = {name: answer.posterior.rank(name, value) for name, value in truth.items()}
    shares = {"held_50": float(np.mean(half)), "held_90": float(np.mean(most))}
    reliability = {
        f"{level:g}": count_reached(probability.array, twin.density.array > level, twin.patient.brain)
        for level, probability in answer.posterior.probability.items()
    }
    expected, white = answer.posterior.agreement[0.1], answer.posterior.tissue.get("white_matter", 0.0)
    told = {"expected_dice_0.1": expected, "white_matter_probability": white}
    return {**shares, "ranks": ranks, **told, "reliability": reliability}


def compare_push(twin: Twin, answer: Personalization) -> dict[str, float | None]:
    """Displacements [mm] where the true one is at least `PUSHED`: their mean, and the mean error of the answer's."""
    if twin.displacement is None:
        return {}
    length = np.linalg.norm(twin.displacement, axis=0)
    pushed = length >= PUSHED
    found = 0 if answer.push is None else answer.push.displacement
    error = np.linalg.norm(twin.displacement - found, axis=0)
    means = (float(field[pushed].mean()) if pushed.any() else None for field in (length, error))
    return dict(zip(PUSHES, means, strict=True))


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the twins that have such a number, how many are fallbacks or wrong, and each of them."""
    medians: dict[str, float | None] = {}
    pushes = [key for key in PUSHES if rows and key in rows[0]]
    for key in (*SCORES, *pushes, "seconds"):
        known = [row[key] for row in rows if row[key] is not None]
        medians[f"{key}_median"] = median(known) if known else None
    held = [row for row in rows if "held_50" in row]
    for key in ("held_50", "held_90", "expected_dice_0.1", "white_matter_probability") if held else ():
        medians[f"{key}_mean"] = float(np.mean([row[key] for row in held]))
    levels = held[0]["reliability"] if held else ()
    reliability = {level: pooled([row["reliability"][level] for row in held]) for level in levels}
    silent = sum(row["wrong_without_warning"] for row in rows)
    fallbacks = sum(row["method"] == "fallback" for row in rows)
    wrong = sum(row["wrong"] for row in rows)
    white = sum(row["tumor_tissue"] == "white_matter" for row in rows)
    counts = {"fallbacks": fallbacks, "wrong": wrong, "wrong_without_warning": silent, "in_white_matter": white}
    return {**medians, **counts, "reliability": reliability, "twins": rows}


def table(rows: dict[str, list[dict[str, Any]]]) -> Table:
    """Every refined twin on a line."""
    shown = Table("seed", *SCORES, "verdict", title=f"{list(rows)[-1]} answers")
    for row in rows[list(rows)[-1]]:
        shown.add_row(str(row["seed"]), *(show(row[key]) for key in SCORES), row["verdict"])
    return shown


def show(value: float | None) -> str:
    """A number for people."""
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
