"""Whether the GPU gives the right answers.

    python benches/gpu/check.py json=check.json

Runs every test marked `gpu`; grows the same tumors on the GPU and on the CPU with both models and compares them; then
grows a few again under each tool of compute-sanitizer, where it is installed. The program fails where a test does, one
of the differences in `COMPARED` is larger than `MOST_DIFFERENT`, or a tool finds something.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, InputError, MassEffectParameters, load_atlas, simulate

MOST_DIFFERENT = 1e-5
"""Of densities on the GPU and on the CPU."""
COMPARED = ("fisher_kolmogorov", "mass_effect_mean")
"""Differences that the limit is for: a push is solved to a tolerance, with sums in another order, and its largest
difference depends on where an iteration ended."""
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
NOT_RUN = ("not installed", "nothing to watch", "no time")
FOUND = 99
"""Exit code of a tool that found something."""
DEFAULTS = {"backend": "cuda", "grid": "full", "tiny": False, "seconds": 540, "only": None, "json": None}


def main() -> None:
    """Check and report; `only=run` just grows a few tumors, for the sanitizer to watch."""
    settings = arguments(DEFAULTS, __doc__)
    if settings.only == "run":
        compare("quarter", settings.backend, 3)
        return
    end = time.monotonic() + settings.seconds
    result: dict[str, Any] = {"machine": machine(), "tiny": settings.tiny}
    result["parity"] = compare(settings.grid, settings.backend, 2 if settings.tiny else 24)
    result["tests"] = run_tests(0.6 * (end - time.monotonic()), settings.tiny)
    result["sanitizer"] = sanitize(end, settings.backend)
    ran = [said for said in result["sanitizer"].values() if said not in NOT_RUN]
    result |= {"tools_not_clean": sum(said != "clean" for said in ran)} if ran else {}
    publish("Check", result, settings.json)
    wrong = [name for name in COMPARED if not result["parity"].get(name, np.nan) <= MOST_DIFFERENT]
    wrong += [name for name in ("failed", "errors") if result["tests"][name]]
    wrong += [] if result["tests"]["tests"] else ["no test ran"]
    wrong += [name for name, value in result["sanitizer"].items() if value == "found something"]
    if wrong:
        sys.exit(f"error: not right: {', '.join(wrong)}")


def compare(grid: str, backend: str, count: int) -> dict[str, Any]:
    """Largest difference of densities [1], and of displacements [mm], between the backend and the CPU."""
    atlas, prior = load_atlas("sri24", GRIDS[grid]), PRIORS["whole_brain"]
    growths = [prior.propose(0, i, 0, atlas) for i in range(count)]
    stop = prior.size[1]
    first, second = (simulate(growths, atlas, backend=name, stop_volume=stop) for name in (backend, "cpu"))
    result: dict[str, Any] = {"tumors": count, "fisher_kolmogorov": _apart(first.density, second.density)}
    pushing = [MassEffectParameters(g.diffusivity, g.proliferation, g.duration, g.origin, 16.0) for g in growths[:4]]
    try:
        first, second = (simulate(pushing, atlas, backend=name, stop_volume=stop) for name in (backend, "cpu"))
    except InputError as error:
        return result | {"mass_effect": str(error)}
    result["mass_effect"] = _apart(first.density, second.density)
    result["mass_effect_mean"] = float(np.abs(first.density - second.density).mean())
    return result | {"displacement_mm": f"{_apart(first.displacement, second.displacement):.2g}"}


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max())


def run_tests(seconds: float, tiny: bool) -> dict[str, int]:
    """Counts of pytest's run over the tests that need a GPU; of a tiny run, those of one file that needs none."""
    chosen = ["-m", "gpu", "tests/engine", "tests/learn"] if not tiny else ["tests/engine/test_transport.py"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *chosen]
        try:
            subprocess.run(command, check=False, timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            print(f"the tests took more than {seconds:.0f} s", file=sys.stderr)
        if not report.exists():
            return {"tests": 0, "failed": 0, "errors": 1, "skipped": 0}
        suite = next(ElementTree.parse(report).iter("testsuite"))
    names = {"tests": "tests", "failed": "failures", "errors": "errors", "skipped": "skipped"}
    return {name: int(suite.get(key, 0)) for name, key in names.items()}


def sanitize(end: float, backend: str) -> dict[str, str]:
    """What each tool said of a small run: `clean`, `found something`, `no time`, or that it cannot run here."""
    tool = shutil.which("compute-sanitizer")
    if tool is None or backend == "cpu":
        return {"compute-sanitizer": "not installed" if tool is None else "nothing to watch"}
    said = {}
    for name in TOOLS:
        program = [sys.executable, __file__, "only=run", f"backend={backend}"]
        command = [tool, "--tool", name, "--error-exitcode", str(FOUND), *program]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=max(end - time.monotonic(), 1)
            )
        except subprocess.TimeoutExpired:
            said[name] = "no time"
            continue
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        said[name] = {0: "clean", FOUND: "found something"}.get(done.returncode, f"ended with {done.returncode}")
    return said


if __name__ == "__main__":
    main()
