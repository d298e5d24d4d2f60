"""Digital twins: how far the pipeline's answer is from a known truth, before and after refinement.

    python benches/twins.py count=10 json=result.json

Each twin is a tumor of the whole-brain prior grown in MNI152, with masks at random thresholds; the pipeline sees
only that brain's T1 and the masks. Scores are taken in the patient's space. An answer is `wrong` if its Dice at 0.1
is below 0.5, or if its volume at 0.1 is off by more than a factor of 3; a fallback counts as an answer and is counted.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table

from engine import load_anatomy
from engine.command import compose
from morph.ants import AntsRegistration
from morph.inference import prepare_brain
from morph.pipeline import Personalization, run_pipeline
from morph.refine import RefinementSettings
from morph.twin import Twin, compare, make_twin

STAGES = ("network", "refined")
SCORES = ("dice_0.01", "dice_0.1", "dice_0.8", "origin_error_mm", "mu1_relative_error", "mu2_relative_error")


class Remembering:
    """A registration that answers the second question about one patient with the first one's warp.

    Attributes:
        seconds: what the first answer took; it belongs to every stage.
    """

    def __init__(self, registration: AntsRegistration) -> None:
        self.registration, self.patient, self.warp, self.seconds = registration, None, None, 0.0

    def register(self, patient: Any, atlas: Any, ignore: Any) -> Any:
        """See `morph.registration.Registration`."""
        if self.patient is not patient:
            started = time.perf_counter()
            self.patient, self.warp = patient, self.registration.register(patient, atlas, ignore)
            self.seconds = time.perf_counter() - started
        return self.warp


def main() -> None:
    """Run every twin through every stage."""
    settings = arguments({"count": 10, "first": 0, "weights": "auto", "json": None}, __doc__)
    config = compose("run")
    brain = prepare_brain(load_anatomy("sri24"), settings.weights)
    console, rows = Console(), {stage: [] for stage in STAGES}
    for seed in range(settings.first, settings.first + settings.count):
        twin = make_twin(seed)
        registration = Remembering(AntsRegistration(**config.registration, seed=seed))
        for stage in STAGES:
            chosen = dict(config.refinement) | ({"evaluations": 0} if stage == "network" else {})
            answer = run_pipeline(twin.patient, brain, registration, RefinementSettings(**chosen, seed=seed))
            reused = registration.seconds if stage != STAGES[0] else 0.0
            rows[stage].append(score(seed, twin, answer, reused))
            console.print(f"seed {seed} {stage}: " + ", ".join(f"{k} {show(rows[stage][-1][k])}" for k in SCORES))
    result = {stage: summarize(rows[stage]) for stage in STAGES}
    console.print(table(rows))
    publish("Digital twins", {"machine": machine(), **result}, settings.json)


def score(seed: int, twin: Twin, answer: Personalization, reused: float) -> dict[str, Any]:
    """One answer against the truth; `reused` seconds were spent before and count as well."""
    scores = compare(twin, answer)
    volumes = [int(np.count_nonzero(v.array >= 0.1)) for v in (twin.density, answer.density)]
    factor = max(volumes) / max(min(volumes), 1)
    wrong = (scores["dice_0.1"] or 0) < 0.5 or factor > 3
    seconds = sum(answer.seconds.values()) + reused
    return {
        "seed": seed,
        **scores,
        "wrong": wrong,
        "verdict": answer.verdict,
        "method": answer.method,
        "seconds": seconds,
    }


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the twins that have such a number, how many are fallbacks or wrong, and each of them."""
    medians: dict[str, float | None] = {}
    for key in (*SCORES, "seconds"):
        known = [row[key] for row in rows if row[key] is not None]
        medians[f"{key}_median"] = median(known) if known else None
    fallbacks = sum(row["method"] == "fallback" for row in rows)
    return {**medians, "fallbacks": fallbacks, "wrong": sum(row["wrong"] for row in rows), "twins": rows}


def table(rows: dict[str, list[dict[str, Any]]]) -> Table:
    """Every refined twin on a line."""
    shown = Table("seed", *SCORES, "verdict", title="refined answers")
    for row in rows["refined"]:
        shown.add_row(str(row["seed"]), *(show(row[key]) for key in SCORES), row["verdict"])
    return shown


def show(value: float | None) -> str:
    """A number for people."""
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
