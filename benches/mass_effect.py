"""How far the mass-effect model's defaults are from finer ones, and what a simulation costs.

    python benches/mass_effect.py count=5 grid=half json=result.json

For tumors that the whole-brain prior accepts without mass effect and that fit the size filter with it: Dice at
c = .01, .1, .8, relative L1 distance of the density and mean distance of the displacement in the tumor [mm], each
variant against intervals and time steps `finer` times shorter solved to a residual of 1e-5. The variants shorten
intervals and time steps, sharpen the residual, and put the displacement on finer and coarser voxels (those with the
reference's time steps and residual, so that nothing but the voxel differs). A displacement on voxels that are not
coarser than the density's cannot be refined: on such grids that variant is left out. Seconds are of one thread.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, MassEffectParameters, load_atlas, simulate
from engine import mass_effect as model
from engine.mass_effect import Pushed, run

THRESHOLDS = (0.01, 0.1, 0.8)
VOXEL = "displacement_spacing"
VARIANTS: dict[str, dict[str, float]] = {
    "default": {},
    "half as many intervals": {"accuracy": 0.5},
    "twice as many intervals": {"accuracy": 2},
    "residual 1e-5": {"tolerance": 1e-5},
    "residual 1e-2": {"tolerance": 1e-2},
    "displacement on half the voxel": {VOXEL: model.DISPLACEMENT_SPACING / 2},
    "displacement on twice the voxel": {VOXEL: 2 * model.DISPLACEMENT_SPACING},
}


def main() -> None:
    """Measure and report."""
    keys = {"count": 5, "grid": "half", "coupling": 16.0, "finer": 4, "seed": 0, "json": None}
    settings = arguments(keys, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    best = {"accuracy": float(settings.finer), "tolerance": 1e-5}
    variants = {name: setting | (best if VOXEL in setting else {}) for name, setting in VARIANTS.items()}
    variants = {name: setting for name, setting in variants.items() if differs(setting, atlas)}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for tumor in accepted(atlas, settings.count, settings.seed, settings.coupling):
        exact = run(tumor, atlas, **best)  # type: ignore[arg-type]
        for name, setting in variants.items():
            started = time.perf_counter()
            result = run(tumor, atlas, **setting)  # type: ignore[arg-type]
            if {exact.ended, result.ended} != {"duration"}:
                sys.exit(f"error: {name}: a displacement of {tumor} could not be solved for")
            rows[name].append(compare(result, exact) | {"seconds": time.perf_counter() - started})
    summary: dict[str, Any] = {
        name: {key: float(np.median([row[key] for row in found])) for key in found[0]} for name, found in rows.items()
    }
    publish("Mass effect", {"machine": machine(), **dict(settings), **summary, "rows": [rows]}, settings.json)


def differs(setting: dict[str, float], atlas: Atlas) -> bool:
    """Whether a variant's displacement lies on other voxels than the default's, if it is told to."""
    wanted = setting.get(VOXEL, model.DISPLACEMENT_SPACING)
    return VOXEL not in setting or model.cutout_for(atlas, wanted).factor != model.cutout_for(atlas).factor


def accepted(atlas: Atlas, count: int, seed: int, coupling: float) -> list[MassEffectParameters]:
    """Tumors of the prior's size with mass effect."""
    prior, found, sample = PRIORS["whole_brain"], [], 0
    while len(found) < count:
        sample += 1
        growth = prior.propose(seed, sample, 0, atlas)
        alone = simulate([growth], atlas, stop_volume=prior.size[1])
        if alone.ended[0] != "duration" or not prior.accepts(alone.volumes[0]):
            continue
        tumor = MassEffectParameters(
            growth.diffusivity, growth.proliferation, growth.duration, growth.origin, coupling
        )  # fmt: skip
        pushed = run(tumor, atlas, stop_volume=prior.size[1])
        if pushed.ended == "duration":
            found.append(tumor)
    return found


def compare(result: Pushed, exact: Pushed) -> dict[str, float]:
    """How far a result is from an exact one, and how it was reached."""
    c, reference = result.density, exact.density
    numbers = {f"dice_{t}": dice(c, reference, t) for t in THRESHOLDS}
    apart = np.linalg.norm(result.displacement - exact.displacement, axis=0)
    return numbers | {
        "density_l1": float(np.abs(c - reference).sum() / reference.sum()),
        "displacement_mm": float(apart[reference > 0.01].mean()),
        "furthest_mm": float(np.abs(exact.displacement).max()),
        "highest_density": float(c.max()),
        "folded": result.folded,
        "solves": result.solves,
        "iterations": result.iterations,
    }


def dice(first: np.ndarray, second: np.ndarray, threshold: float) -> float:
    """Overlap of what holds at least a threshold."""
    a, b = first >= threshold, second >= threshold
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


if __name__ == "__main__":
    main()
