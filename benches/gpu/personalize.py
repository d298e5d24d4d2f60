"""The whole pipeline on digital twins: time of every stage and distance from the truth.

python benches/gpu/personalize.py seeds=[100,101,102] folder=DIR json=personalize.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, machine, publish

DEFAULTS = {
    "backend": "cuda", "grid": "full", "tiny": False, "seeds": [100, 101, 102, 103], "folder": "results/gpu/twins",
    "seconds": 540, "json": None,
}  # fmt: skip


def main() -> None:
    """Run the twins that the time allows and report medians."""
    settings = arguments(DEFAULTS, __doc__)
    end = time.monotonic() + settings.seconds
    folder, runs = Path(settings.folder), []
    for seed in [settings.seeds[0]] if settings.tiny else settings.seeds:
        took = max((run["wall_seconds"] for run in runs), default=0.0)
        if runs and time.monotonic() + took > end:
            break
        runs.append(run_twin(seed, folder / f"twin-{seed}", settings.tiny))
    result: dict[str, Any] = {"machine": machine(), "tiny": settings.tiny, "twins": len(runs)}
    for name in runs[0]:
        values = [run[name] for run in runs if name in run]
        result[name] = float(np.median(values))
    publish("Patients on a GPU", result, settings.json)


def run_twin(seed: int, out: Path, tiny: bool) -> dict[str, float]:
    """Seconds of each stage and in all, and the Dice of the answer with the truth."""
    fast = ["refinement.evaluations=12", "refinement.fine_evaluations=2"] if tiny else []
    started = time.monotonic()
    command = [sys.executable, "-m", "morph.run", "demo=true", f"seed={seed}", f"out={out}", *fast]
    if subprocess.run(command, check=False).returncode not in (0, 3):
        sys.exit(f"error: the twin with seed {seed} failed")
    found = {"wall_seconds": time.monotonic() - started}
    for stage, seconds in json.loads((out / "parameters.json").read_text())["seconds"].items():
        found[f"seconds_{stage}"] = float(seconds)
    twin = json.loads((out / "twin.json").read_text())
    return found | {key: float(value) for key, value in twin.items() if isinstance(value, float)}


if __name__ == "__main__":
    main()
