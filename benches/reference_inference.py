"""The ceiling of any inference from two masks: how well a search does that has the simulator itself.

    python benches/reference_inference.py data=runs/fk_half.zarr count=40 json=result.json

For unseen samples, CMA-ES looks for the mu1, mu2 and origin whose simulation matches the core and edema masks that the
network would see, with the best thresholds of their ranges: the thresholds are as unknown to it as to the network.
Several starts; the one that matches best after a few generations goes on. It knows the store's model, and the coupling
of one with mass effect, where few `count=` and `evaluations=` are affordable without a GPU. What error remains is what
two masks leave open, and what the search missed: `matched` is the mean Dice of its masks with the given ones, 1 for the
true tumor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cma
import numpy as np
from numpy.typing import NDArray
from report import arguments, machine, publish

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    Atlas,
    FisherKolmogorovParameters,
    Store,
    nearest_tissue,
    observe,
    open_store,
    simulate,
)
from engine.model import Model, model_of
from engine.parameters import Parameters
from learn.datamodule import split_rows
from learn.dataset import fixed_thresholds
from learn.metrics import density_errors, parameter_errors, summarize
from learn.same_physics import refuse_old_physics

STARTS = ((1.0, 2.5), (1.6, 1.5), (1.6, 5.0))
"""Front path 2 mu1 mu2 over the radius of the core, and front width mu1 / mu2 [mm]."""
STEPS = np.array([0.25, 0.5, 6.0, 6.0, 6.0])
"""First steps in log(mu1 mu2), log(mu1 / mu2) and the origin [mm]."""
POPULATION = 12
CANDIDATES = 24
"""Thresholds that are tried in each range."""
TRIAL = 5
"""Generations of every start."""
LEAST = POPULATION * (TRIAL * len(STARTS) + 1)
"""Simulations of a search."""

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]
Found = tuple[Parameters, float]
Physics = tuple[Atlas, Model, str]
"""Brain, model and scheme of a store."""


def main() -> None:
    """Search for every sample and report the errors."""
    keys = {"data": "runs/fk_half.zarr", "split": "test", "count": 40, "evaluations": 600, "seed": 0, "json": None}
    settings = arguments(keys, __doc__)
    store = open_store(settings.data)
    refuse_old_physics(store)
    if settings.count < 1 or settings.evaluations < LEAST:
        sys.exit(f"error: count= must be >= 1 and evaluations= >= {LEAST}, what its starts take")
    model = model_of(store.attributes)
    if len(set(model.coupling)) > 1:
        sys.exit(f"error: couplings of {settings.data} differ: the search needs a store where it is known")
    rows = split_rows(store, settings.split)
    if settings.count > len(rows):
        sys.exit(f"error: count={settings.count}, but {settings.data} has {len(rows)} in {settings.split}")
    physics = store.load_atlas(), model, store.attributes["scheme"]
    scores: list[dict[str, float]] = []
    for row in map(int, rows[: settings.count]):
        scores.append(judge_row(store, row, physics, settings.evaluations, settings.seed + row))
        dice = " ".join(f"{scores[-1][f'dice_{level}']:.3f}" for level in ("0.01", "0.1", "0.8"))
        print(f"row {row}: matched {scores[-1]['matched']:.3f}, Dice {dice}")
    summary = summarize({name: np.array([score[name] for score in scores]) for name in scores[0]})
    facts = {"machine": machine(), "data": settings.data, "count": len(scores), "evaluations": settings.evaluations}
    publish("What two masks leave open", facts | summary, settings.json)


def judge_row(store: Store, row: int, physics: Physics, evaluations: int, seed: int) -> dict[str, float]:
    """Errors of the tumor that a search finds for one sample, and how well it matches the masks."""
    atlas, true = physics[0], store.density(row)
    tumor, matched = search(observe(true, *fixed_thresholds(row)), physics, evaluations, seed)
    (again,) = grow([tumor], physics)
    found = {"mu1": np.array([tumor.mu1]), "mu2": np.array([tumor.mu2]), "origin": np.array([tumor.origin])}
    columns = {name: store.parameters[name][[row]] for name in found}
    errors = parameter_errors(columns, found, atlas.grid.extent)
    return density_errors(true, again, atlas) | {k: float(v[0]) for k, v in errors.items()} | {"matched": matched}


def search(masks: Masks, physics: Physics, evaluations: int, seed: int) -> Found:
    """The tumor that matches the masks best, and the mean Dice of its own with them."""
    atlas = physics[0]
    core = masks[0] if masks[0].any() else masks[1]
    center = atlas.grid.to_world(atlas.grid.from_voxel(np.argwhere(core).mean(axis=0)))
    radius = (3 * core.sum() * atlas.grid.spacing**3 / (4 * np.pi)) ** (1 / 3)
    trials = []
    for number, (stretch, width) in enumerate(STARTS):
        start = np.array([np.log(stretch * radius / 2), np.log(width), *center])
        options = {"seed": seed * len(STARTS) + number + 1, "popsize": POPULATION, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(np.zeros(len(STEPS)), 1.0, options)
        trials.append((max(generations(strategy, start, masks, physics, TRIAL), key=better), start, strategy))
    found, start, strategy = max(trials, key=lambda trial: trial[0][1])
    rest = evaluations // POPULATION - TRIAL * len(STARTS)
    return max([found, *generations(strategy, start, masks, physics, rest)], key=better)


def generations(
    strategy: cma.CMAEvolutionStrategy, start: NDArray[np.float64], masks: Masks, physics: Physics, count: int
) -> Iterator[Found]:
    """The best of every generation."""
    atlas, model, _ = physics
    for _ in range(count):
        places = strategy.ask()
        tumors = [model.with_coupling(decode(start + place * STEPS, atlas)) for place in places]
        matches = [match(density, masks) for density in grow(tumors, physics)]
        strategy.tell(places, [1 - value for value in matches])
        yield max(zip(tumors, matches, strict=True), key=better)


def grow(tumors: list[Parameters], physics: Physics) -> NDArray[np.float32]:
    """Their densities; a tumor whose push was not found has none."""
    atlas, _, scheme = physics
    grown = simulate(tumors, atlas, scheme=scheme)
    grown.density[[how == "not_converged" for how in grown.ended]] = 0
    return grown.density


def better(found: Found) -> float:
    """What decides between tumors: how well they match."""
    return found[1]


def decode(place: NDArray[np.float64], atlas: Atlas) -> FisherKolmogorovParameters:
    """The tumor at (log mu1 mu2, log mu1 / mu2, origin [mm]); an origin outside tissue moves to the nearest."""
    path, width = np.exp(np.clip(place[:2], [0, -2], [7, 4]))
    origin = nearest_tissue(tuple(np.clip(atlas.grid.from_world(place[2:]), 0, 1)), atlas)
    return FisherKolmogorovParameters.from_invariants(np.sqrt(path * width), np.sqrt(path / width), origin)


def match(density: NDArray[np.float32], masks: Masks) -> float:
    """Mean Dice of both masks, each with the best threshold of its range."""
    values = []
    for mask, (low, high) in zip(masks, (CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE), strict=True):
        levels = np.linspace(low, high, CANDIDATES)
        inside, everywhere = density[mask], density[density >= low]
        above, common = ((part[:, None] >= levels).sum(axis=0) for part in (everywhere, inside))
        values.append(float((2 * common / np.maximum(above + mask.sum(), 1)).max()))
    return sum(values) / 2


if __name__ == "__main__":
    main()
