"""Real patients: how well the answer's own threshold sets match the masks, on the patient's grid.

    python benches/patients.py folder=DIR out=results/patients json=result.json
    python benches/patients.py folder=DIR "run=[posterior.simulations=0]"       # the best fit instead of what is likely

`folder` holds one folder a case with BraTS names. Every case goes through `python -m morph.run` as a user would run
it, with the settings `run`; the density that it wrote is cut at the thresholds that it reports and compared with core
and whole tumor. `wall_seconds` is the whole command, with imports, reading and writing; `seconds` its stages. The
report must be there, and not be tiny.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from report import arguments, machine, publish
from rich.console import Console
from rich.table import Table

from morph.patient import find_case
from morph.volume import read_volume

COLUMNS = (
    "dice_core", "dice_whole", "verdict", "objections", "method", "tumor_tissue", "mu1", "mu2", "outside_brain",
    "wall_seconds", "seconds", "refinement_seconds",
)  # fmt: skip
MEASURED = ("dice_core", "dice_whole", "wall_seconds", "seconds", "refinement_seconds")
LEAST_REPORT = 50_000
"""Bytes of a report with its pictures, of which each has thousands (ours)."""


def main() -> None:
    """Run every case of the folder."""
    keys: dict[str, Any] = {"folder": None, "out": "results/patients", "weights": "auto", "run": [], "json": None}
    settings = arguments(keys, __doc__)
    if settings.folder is None or not Path(settings.folder).is_dir():
        sys.exit("error: folder= is not a folder of cases")
    rows: dict[str, dict[str, Any]] = {}
    for case in sorted(path for path in Path(settings.folder).iterdir() if path.is_dir()):
        out = Path(settings.out) / case.name
        command = [sys.executable, "-m", "morph.run", f"case={case}", f"out={out}", f"weights={settings.weights}"]
        command += [str(one) for one in settings.run]
        start = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True)
        wall = time.perf_counter() - start
        if ended.returncode not in (0, 3):
            sys.exit(f"error: {case.name}: {ended.stderr.strip()}")
        rows[case.name] = score(case, out, wall)
    Console().print(table(rows))
    fitted = [row for row in rows.values() if row["method"] != "fallback"]
    if not fitted:
        sys.exit("error: every case ended in a fallback")
    about = {"machine": machine(), "run": [str(one) for one in settings.run]}
    publish("Real patients", {**about, **summarize(list(rows.values())), "cases": [rows]}, settings.json)


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the cases that were fitted, the slowest case, and how often each verdict was given."""
    fitted = [row for row in rows if row["method"] != "fallback"]
    medians = {f"{key}_median": median(row[key] for row in fitted) for key in MEASURED}
    verdicts = dict(Counter(row["verdict"] for row in rows))
    slowest = max(row["wall_seconds"] for row in rows)
    white = sum(row["tumor_tissue"] == "white_matter" for row in rows)
    counts = {"verdicts": verdicts, "fallbacks": len(rows) - len(fitted), "in_white_matter": white}
    return {**medians, "wall_seconds_max": slowest, **counts}


def score(case: Path, out: Path, wall: float) -> dict[str, Any]:
    """What one answer says, and its overlap with the masks; a fallback has none, it is built from them."""
    report = out / "report.html"
    if not report.is_file() or report.stat().st_size < LEAST_REPORT:
        sys.exit(f"error: {case.name}: report.html is missing, or too small for its pictures")
    answer = json.loads((out / "parameters.json").read_text())
    density, core, edema = (read_volume(out / f"{name}.nii.gz").array for name in ("density", "core", "edema"))
    t1 = read_volume(find_case(case)["t1"]).array
    thresholds = answer["thresholds"]
    parameters = answer["parameters"] or {"mu1": None, "mu2": None}
    return {
        "dice_core": dice(density >= thresholds["core"], core > 0) if thresholds else None,
        "dice_whole": dice(density >= thresholds["edema"], edema > 0) if thresholds else None,
        "verdict": answer["verdict"],
        "objections": [check["name"] for check in answer["checks"] if check["verdict"] != "pass"],
        "method": answer["method"],
        "tumor_tissue": answer["tumor_tissue"],
        "white_matter_probability": (answer["posterior"] or {}).get("tissue_probability", {}).get("white_matter"),
        "mu1": parameters["mu1"],
        "mu2": parameters["mu2"],
        "outside_brain": int(np.count_nonzero(density[t1 <= 0])),
        "wall_seconds": wall,
        "seconds": sum(answer["seconds"].values()),
        "refinement_seconds": answer["seconds"].get("refinement"),
    }


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Overlap of two masks."""
    return 2 * int((first & second).sum()) / max(int(first.sum() + second.sum()), 1)


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """A line a case."""
    shown = Table("case", *COLUMNS, title="fitted density against the patient's masks")
    for name, row in rows.items():
        shown.add_row(name, *(show(row[key]) for key in COLUMNS))
    return shown


def show(value: Any) -> str:
    """A cell for people."""
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
