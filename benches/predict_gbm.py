"""The PREDICT-GBM container's command on digital twins, without Docker: same entry point, same variables, same files.

    python benches/predict_gbm.py count=5 json=result.json
    python benches/predict_gbm.py count=5 atlas=sri24

Each twin is handed over as the benchmark does it: tissue maps and a segmentation on the grid of its brain (MNI152,
where the search starts from the masks; with atlas=sri24 the benchmark's own grid, where the network helps, in the
brain that it was trained in). The maps are the twin's true ones, better than a patient's would be.

The plan has as many voxels as the brain within 15 voxels of the core, those where the answer is highest. No twin
recurs, so two synthetic recurrences are read off the true density: `ideal` is the plan that the true density itself
would make, without the core, as far as the density reaches 1e-4; `unseen` is where it is at least 0.01 outside the
visible tumor. Coverage is the share of them in the plan; the margin plan of the same size stands beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table

from engine import load_anatomy
from morph.coverage import highest_plan, margin_plan, recurrence_coverage
from morph.strict_order import FLOOR, order_strictly
from morph.twin import Twin, make_twin
from morph.volume import read_volume, write_volume

UNSEEN = 0.01
"""Lowest density [1] that counts as unseen tumor (ours: the lowest at which the project scores)."""
PLANS = ("answer", "margin")
COLUMNS = ("seed", "ideal_answer", "ideal_margin", "unseen_answer", "unseen_margin", "plan_ml", "method", "seconds")


def main() -> None:
    """Hand over every twin and score what comes back."""
    settings = arguments({"count": 5, "first": 0, "atlas": "mni152", "json": None}, __doc__)
    anatomy = load_anatomy(settings.atlas)
    rows = []
    for seed in range(settings.first, settings.first + settings.count):
        twin = make_twin(seed, anatomy)
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "io0", Path(folder) / "io1"
            hand_over(twin, source / "Patient-00000", "00000")
            seconds, said = run(source, target)
            rows.append(score(seed, twin, read_volume(target / "00000.nii.gz").array, seconds, said))
        Console().print(", ".join(f"{key} {show(value)}" for key, value in rows[-1].items()))
    table = Table(*COLUMNS, title="coverage by plans of equal size")
    for row in rows:
        table.add_row(*(show(row[key]) for key in COLUMNS))
    Console().print(table)
    numbers = [key for key in COLUMNS[1:] if key != "method"]
    medians = {f"{key}_median": median(row[key] for row in rows) for key in numbers}
    fallbacks = sum(row["method"] == "fallback" for row in rows)
    publish(
        "PREDICT-GBM on twins", {"machine": machine(), **medians, "fallbacks": fallbacks, "twins": rows}, settings.json
    )


def hand_over(twin: Twin, folder: Path, name: str) -> None:
    """Write a twin as the benchmark's container gets a patient."""
    folder.mkdir(parents=True)
    patient = twin.patient
    seg = np.where(patient.masks.core, 3, np.where(patient.masks.edema, 2, 0))
    write_volume(folder / f"{name}-tumorseg.nii.gz", patient.t1.with_array(seg), patient.frame, np.uint8)
    for role, values in zip(("wm", "gm", "csf"), twin.tissue.maps, strict=True):
        write_volume(folder / f"{name}-{role}.nii.gz", values, patient.frame)


def run(source: Path, target: Path) -> tuple[float, str]:
    """The container's command: how long it took, and what it said."""
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "morph.predict_gbm"],
        env=os.environ | {"LMI_INPUT": str(source), "LMI_OUTPUT": str(target)},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        sys.exit(f"error: the command ended with {ended.returncode}: {ended.stderr.strip()}")
    return time.perf_counter() - start, ended.stdout


def score(seed: int, twin: Twin, answer: np.ndarray, seconds: float, said: str) -> dict[str, Any]:
    """Coverage by the answer's plan and by the margin."""
    patient, truth = twin.patient, twin.density.array
    brain, core = patient.brain, patient.masks.core
    if np.unique(answer[brain]).size != brain.sum() or answer[brain].min() <= 0:
        sys.exit(f"error: the answer for seed {seed} is not strictly ordered over the brain")
    plans = {"margin": margin_plan(core, brain)}
    size = int(plans["margin"].sum())
    plans["answer"] = highest_plan(answer, size)
    ideal = highest_plan(order_strictly(truth, brain, patient.t1.spacing), size)
    recurrences = {
        "ideal": ideal & ~core & (truth >= FLOOR),
        "unseen": (truth >= UNSEEN) & ~patient.masks.edema,
    }
    covered = {
        f"{name}_{plan}": recurrence_coverage(recurrence, plans[plan])
        for name, recurrence in recurrences.items()
        for plan in PLANS
    }
    method = "fallback" if "fallback, verdict" in said else "refined"
    return {"seed": seed, **covered, "plan_ml": size * patient.t1.voxel_volume, "method": method, "seconds": seconds}


def show(value: object) -> str:
    """A number for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
