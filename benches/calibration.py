"""Calibration: do the posterior's intervals hold the truth as often as they say?

    python benches/calibration.py count=300 json=calibration.json plot=calibration.png

With `json=` an interrupted run goes on where it was.

Tumors of the prior are grown in the atlas on the full grid (1.8 mm) and seen through two random thresholds, as outlines
drawn with errors of 1 mm. The search and the posterior run as for a patient, on the half and the full grid, and get
only the outlines; but the sizes that a tumor can have are the prior's, which a patient with a smaller core may fall
below. The anatomy is known as a patient's is: outside the visible tumor from the T1, inside from an atlas that a
registration has put there with errors of some millimeters. `anatomy=known` gives the true one. The second guess that a
patient's search makes, white matter throughout the visible tumor (`morph.solve`), is not made here.

Cases that are sampled too poorly get no intervals, as a patient would get none, and are counted. Half of many other
cases should lie in their 50% interval, and the rank of the truth among the sampled tumors should be uniform.

That is only so where errors are what the likelihood takes them for: an outline is worth `observations=` independent
ones, so by default errors go together over as much of it as one observation stands for. `correlation=17` draws errors
that go together over that many mm on all outlines instead (the Gauss of the field that moves them). As the errors
change with `observations=`, these cases cannot choose it: with `correlation=` they can. Real registrations are in
`benches/twins.py`.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from report import arguments, machine, publish
from rich.progress import track
from scipy import ndimage
from scipy.stats import binom, kstest

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    Atlas,
    Grid,
    load_anatomy,
    random_stream,
)
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from morph.evidence import Evidence
from morph.inference import Brain, estimate_tumor, majority, prepare_brain
from morph.outlines import Drawn
from morph.posterior import STARVED, NothingPossibleError, PosteriorSettings, describe_tumors, sample_tumors
from morph.prior import PRIOR
from morph.refine import RefinementSettings, refine
from morph.resample import average_onto, bounding_box, spread_density
from morph.twin import SMALLEST_CORE
from morph.twin_images import DEVIATION, draw_outline
from morph.volume import Volume

DRAWN = 2
"""Voxels of a drawn outline along the edge of one of the full grid: 0.9 mm."""
MARGIN = 30.0
"""Image [mm] around the largest edema that can be seen; tissue beyond it counts as far outside."""
MISPLACED = 1.5
"""Standard deviation [mm] along each axis of what the registration gets wrong (ours: the white matter and the misplaced
one then have a Dice of .83-.84, as the registered and the patient's own on a real patient)."""
SMOOTH = 10.0
"""Gauss [mm] of these errors (ours)."""
ERRORS = 1
"""Counter of their random stream."""
SHARES = (0.5, 0.9)
DECISIVE = (
    "seed", "anatomy", "search", "simulations", "rounds", "fine_simulations", "observations", "correlation", "weights",
)  # fmt: skip
"""Settings that change a case."""


def main() -> None:
    """Sample the posterior of every case, and count how often its intervals hold the truth."""
    defaults = {
        "count": 300,
        "seed": 7,
        "anatomy": "registered",
        "search": RefinementSettings().evaluations,
        "simulations": PosteriorSettings().simulations,
        "rounds": PosteriorSettings().rounds,
        "fine_simulations": PosteriorSettings().fine_simulations,
        "observations": PosteriorSettings().observations,
        "correlation": None,
        "weights": "auto",
        "processes": 2,
        "plot": None,
        "json": None,
    }
    settings = arguments(defaults, __doc__)
    if settings.correlation is not None and not (
        isinstance(settings.correlation, int | float) and settings.correlation > 0
    ):
        sys.exit(f"error: correlation={settings.correlation} must be a length in mm, > 0")
    if settings.anatomy not in ("registered", "known"):
        sys.exit(f"error: anatomy={settings.anatomy}: choose from registered, known")
    judged = judge_cases(settings)
    cases = [case for case in judged if case["effective"] >= STARVED]
    if not cases:
        sys.exit("error: no case has a posterior: raise fine_simulations=")
    ranks = {name: np.array([case["ranks"][name] for case in cases]) for name in cases[0]["ranks"]}
    result = {name: count_covered(values) for name, values in ranks.items()}
    effective = [case["effective"] for case in cases]
    if settings.plot is not None:
        plot_ranks(ranks, Path(settings.plot))
    about = {"machine": machine(), "cases": len(cases), "without_posterior": len(judged) - len(cases)}
    about |= {"effective_median": float(np.median(effective))}
    each = {"effective": effective, "ranks": {k: v.tolist() for k, v in ranks.items()}}
    publish("Calibration", {**about, **result, **each}, settings.json)
    if settings.json is not None:
        left_by(settings.json).unlink()


def left_by(path: str) -> Path:
    """Where the cases of an unfinished run are."""
    return Path(f"{path}.part")


def judge_cases(settings: DictConfig) -> list[dict[str, Any]]:
    """Every case; those that an interrupted run with the same settings left beside `json` are not judged again."""
    asked = json.dumps({"commit": machine()["commit"], **{k: settings[k] for k in settings if k in DECISIVE}})
    cases: list[dict[str, Any]] = []
    kept = None if settings.json is None else left_by(settings.json)
    if kept is not None and kept.exists():
        first, *lines = kept.read_text().split("\n")[:-1]  # what follows the last line's end was not written to its end
        if first != asked:
            sys.exit(f"error: {kept} was left by a run with other settings or code: delete it or choose another json=")
        kept.write_text("\n".join([first, *lines, ""]))
        cases = [json.loads(line) for line in lines][: settings.count]
    elif kept is not None:
        kept.write_text(asked + "\n")
    work = [(int(settings.seed), number, dict(settings)) for number in range(len(cases), settings.count)]
    with ProcessPoolExecutor(settings.processes, initializer=use_one_core) as pool:
        for case in track(pool.map(judge_case, work), "calibrate", total=len(work)):
            cases.append(case)
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(case) + "\n")
    return cases


def use_one_core() -> None:
    """Leave the other cores to the other processes."""
    os.environ["LMI_THREADS"] = "1"
    torch.set_num_threads(1)


@lru_cache
def tools(weights: str) -> Brain:
    """The atlas on the half and on the full grid, and the network that starts the search."""
    return prepare_brain(load_anatomy("sri24"), weights)


def judge_case(work: tuple[int, int, dict[str, Any]]) -> dict[str, Any]:
    """One tumor: the rank of each true number among the sampled ones, 0 to 1."""
    seed, number, settings = work
    brain = tools(settings["weights"])
    truth, drawn, coarse, fine = make_case(seed, number, settings, brain)
    shares = [majority(average_onto(mask, coarse.grid)) for mask in (drawn.core, drawn.edema)]
    start = estimate_tumor(shares[0], shares[1], brain)
    evidence = Evidence(shares[0], shares[1], coarse)
    found = refine(evidence, evidence, start, RefinementSettings(settings["search"], 0, seed=number))
    named = ("simulations", "rounds", "fine_simulations", "observations")
    sampling = PosteriorSettings(**{name: settings[name] for name in named}, seed=number)
    try:
        tumors = sample_tumors(drawn, coarse, fine, found.estimate, sampling, PRIOR.size)
    except NothingPossibleError:
        return {"ranks": {}, "effective": 0.0}
    weights = tumors.sample.weights
    numbers = describe_tumors(tumors, lambda world: world, number)
    ranks = {name: float(weights[values < truth[name]].sum()) for name, values in numbers.items()}
    return {"ranks": ranks, "effective": tumors.sample.effective}


def make_case(
    seed: int, number: int, settings: dict[str, Any], brain: Brain
) -> tuple[dict[str, float], Drawn, Atlas, Atlas]:
    """The true numbers of a tumor, what is drawn of it, and the anatomy that is known on the half and the full grid."""
    known = settings["anatomy"] == "known"
    true = brain.fine if known else misplace(brain.fine, random_stream(seed, number, ERRORS))
    row = accept_rows(range(number, number + 1), seed, "converged", true, PRIOR, choose_backend("cpu"))[0][0]
    drawn, thresholds = draw(row["density"].astype(np.float32), true, random_stream(seed, number), settings)
    tumor, place = row["parameters"], true.grid.to_world(row["parameters"].origin)
    truth = {"mu1": tumor.mu1, "mu2": tumor.mu2} | {f"origin_{axis}": float(place[i]) for i, axis in enumerate("xyz")}
    truth |= {"core_threshold": thresholds[0], "edema_threshold": thresholds[1]}
    if known:
        return truth, drawn, brain.coarse, brain.fine
    seen = see_as_a_patients(true, brain.fine, drawn)
    return truth, replace(drawn, matter=matter_of(seen, drawn.core)), seen.coarsened(), seen


def misplace(atlas: Atlas, rng: np.random.Generator) -> Atlas:
    """The brain whose registration finds this one: moved by a smooth field."""
    spacing, shape = atlas.grid.spacing, atlas.grid.shape
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), SMOOTH / spacing) for _ in range(3)])
    at = np.indices(shape) + MISPLACED / spacing * field / field[:, atlas.brain].std()
    maps = [ndimage.map_coordinates(m, at, order=1) for m in (atlas.white_matter, atlas.gray_matter, atlas.csf)]
    total = np.maximum(sum(maps), 1)
    return Atlas(*(m / total for m in maps), atlas.grid, "misplaced")


def see_as_a_patients(true: Atlas, found: Atlas, drawn: Drawn) -> Atlas:
    """The true brain outside the visible tumor, inside what the registration found, and there no CSF."""
    visible = average_onto(drawn.edema, true.grid) >= 0.5
    white = np.where(visible, found.white_matter, true.white_matter)
    gray = np.where(visible, 1 - found.white_matter, true.gray_matter)
    return Atlas(white, gray, np.where(visible, 0, true.csf), true.grid, "registered")


def matter_of(atlas: Atlas, image: Volume) -> np.ndarray:
    """Where an image that is drawn on has this brain's tissue."""
    start = np.round(atlas.grid.to_voxel(atlas.grid.from_world(image.affine[:3, 3]))).astype(int)
    box = tuple(slice(s, s + n // DRAWN) for s, n in zip(start, image.array.shape, strict=True))
    return np.kron(atlas.tissue[box], np.ones((DRAWN,) * 3, dtype=bool))


def draw(
    density: np.ndarray, atlas: Atlas, rng: np.random.Generator, settings: dict[str, Any]
) -> tuple[Drawn, tuple[float, float]]:
    """Core and edema as they would be drawn, and the thresholds that show them; again while the core is too small."""
    grid = atlas.grid
    box = bounding_box((density >= EDEMA_THRESHOLD_RANGE[0]) & atlas.tissue, round(MARGIN / grid.spacing))
    corner = np.array(grid.corner) + grid.spacing * np.array([side.start for side in box])
    shape = tuple(DRAWN * (side.stop - side.start) for side in box)
    drawn = Grid(shape, grid.spacing / DRAWN, tuple(corner))
    blank = Volume(np.zeros(shape, dtype=np.float32), drawn.affine)
    dense = spread_density(density, atlas.tissue, grid, blank).array
    inside = matter_of(atlas, blank)
    while True:
        thresholds = float(rng.uniform(*CORE_THRESHOLD_RANGE)), float(rng.uniform(*EDEMA_THRESHOLD_RANGE))
        core, edema = (move((dense >= threshold) & inside, blank, rng, settings) & inside for threshold in thresholds)
        if core.sum() * blank.voxel_volume >= SMALLEST_CORE:
            return Drawn(blank.with_array(core), blank.with_array(core | edema), inside), thresholds


def move(mask: np.ndarray, blank: Volume, rng: np.random.Generator, settings: dict[str, Any]) -> np.ndarray:
    """A mask with its outline drawn with errors.

    Errors that go together over a Gauss g make 4 pi g² of an outline one observation: g is r / sqrt(n) on a ball.
    """
    radius = (3 * mask.sum() * np.prod(blank.spacing) / (4 * np.pi)) ** (1 / 3)
    matched = radius / np.sqrt(settings["observations"])
    correlation = matched if settings["correlation"] is None else settings["correlation"]
    return draw_outline(mask, blank.spacing, rng, DEVIATION, correlation)


def count_covered(ranks: np.ndarray) -> dict[str, Any]:
    """How often intervals hold the truth, whether that is within the error of so many cases, and if ranks are even."""
    covered: dict[str, Any] = {}
    for share in SHARES:
        held = int(np.count_nonzero(np.abs(ranks - 0.5) <= share / 2))
        low, high = binom.ppf([0.025, 0.975], len(ranks), share) / len(ranks)
        covered[f"interval_{share * 100:.0f}"] = held / len(ranks)
        covered[f"interval_{share * 100:.0f}_expected"] = [float(low), float(high)]
    return covered | {"ranks_uniform_p": float(kstest(ranks, "uniform").pvalue)}


def plot_ranks(ranks: dict[str, np.ndarray], path: Path) -> None:
    """Expected against observed coverage of central intervals, and a histogram of the ranks, for each number."""
    figure = Figure(figsize=(2.1 * len(ranks), 4.2), layout="constrained")
    axes = figure.subplots(2, len(ranks), sharey="row")
    shares = np.linspace(0, 1, 101)
    for column, (name, values) in enumerate(ranks.items()):
        held = [(np.abs(values - 0.5) <= share / 2).mean() for share in shares]
        low, high = binom.ppf([[0.025], [0.975]], len(values), shares) / len(values)
        axes[0, column].fill_between(shares, low, high, color="0.85", label="chance (95%)")
        axes[0, column].plot(shares, held, color="#1f77b4", label="observed")
        axes[0, column].set(title=name.replace("_", " "), xlabel="share in the interval")
        axes[1, column].hist(values, 10, range=(0, 1), color="#1f77b4")
        axes[1, column].axhline(len(values) / 10, color="0.5", lw=1)
        axes[1, column].set(xlabel="rank of the truth")
    axes[0, 0].set_ylabel("share of cases")
    axes[1, 0].set_ylabel("cases")
    axes[0, 0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
