"""How far a network's answers are from the tumors of a store: predict, simulate again, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, FisherKolmogorovParameters, InputError, Store, nearest_tissue, simulate
from engine.model import Model, model_of
from engine.parameters import Parameters
from engine.progress import progress
from engine.threads import available_cores, run_in_order
from learn.augment import Augmentation
from learn.dataset import draw_fixed_image, fixed_thresholds
from learn.estimator import Estimator
from learn.metrics import density_errors, parameter_errors, summarize
from learn.targets import CORE_THRESHOLD, EDEMA_THRESHOLD

BATCH = 32
"""Samples predicted and simulated together."""
SIMULATED = {"mu1": (0.5, 100.0), "mu2": (0.2, 40.0)}
"""Values [mm] and [1] between which predictions are simulated: half and twice the prior's ends (ours)."""

Columns = dict[str, NDArray[np.float64]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Evaluation:
    """Scores of every sample.

    Attributes:
        rows: of the store, int (n,).
        scores: name -> (n,), NaN where a sample had nothing to compare.
        tumors: the predictions, as they were simulated again.
        moved: number of predicted origins outside tissue, simulated from the nearest tissue.
        clipped: number of predictions with mu1 or mu2 beyond `SIMULATED`, simulated with its ends.
        not_converged: number of predictions whose displacement could not be solved for.
    """

    rows: NDArray[np.intp]
    scores: Columns
    tumors: tuple[Parameters, ...]
    moved: int
    clipped: int
    not_converged: int

    def summary(self) -> dict[str, Any]:
        """The numbers of `metrics.json`."""
        counts = {
            "count": len(self.rows),
            "origins_moved_into_tissue": self.moved,
            "invariants_clipped": self.clipped,
            "simulations_not_converged": self.not_converged,
        }
        return counts | summarize(self.scores)


def evaluate(
    estimator: Estimator,
    store: Store,
    rows: NDArray[np.integer],
    backend: str = "auto",
    augmentation: Augmentation | None = None,
) -> Evaluation:
    """Predict, simulate again, compare.

    Args:
        estimator: predicts the origin and either mu1, mu2 or diffusivity, proliferation, duration.
        store: of the simulations, complete for `rows`.
        rows: which samples, int (n,).
        backend: that simulates the predictions.
        augmentation: how the masks that the estimator sees are drawn; None: exactly.

    Raises:
        InputError: the estimator does not predict a whole tumor.
    """
    atlas, model = store.load_atlas(), model_of(store.attributes)
    scene, scheme, columns = model.scene(atlas), store.attributes["scheme"], store.parameters
    parts: list[Columns] = []
    tumors: list[Parameters] = []
    moved = clipped = not_converged = 0
    with progress("evaluate", len(rows)) as advance:
        for batch in np.array_split(rows, range(BATCH, len(rows), BATCH)):
            numbers = batch.tolist()
            true = np.stack(on_all_cores(store.density, numbers))
            draw = partial(draw_fixed_image, tissue=scene, spacing=atlas.grid.spacing, augmentation=augmentation)
            predicted = with_invariants(estimator.predict(np.stack(on_all_cores(draw, true, numbers))))
            some, outside = predicted_tumors(predicted, atlas, model)
            again = simulate(some, atlas, backend=backend, scheme=scheme)
            parameters = {name: values[batch] for name, values in columns.items()} | thresholds_of(batch)
            again.density[[how == "not_converged" for how in again.ended]] = 0  # no answer
            densities = on_all_cores(partial(density_errors, atlas=atlas), true, again.density)
            parts.append(parameter_errors(parameters, predicted, atlas.grid.extent) | _stack(densities))
            tumors += some
            moved += outside
            clipped += count_clipped(predicted)
            not_converged += again.ended.count("not_converged")
            advance(len(batch))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Evaluation(np.asarray(rows), scores, tuple(tumors), moved, clipped, not_converged)


def on_all_cores(work: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
    """What `work` returns for each of its arguments, in their order, from a thread a core."""
    tasks = (partial(work, *each) for each in zip(*arguments, strict=True))
    return list(run_in_order(tasks, available_cores()))


def thresholds_of(rows: NDArray[np.integer]) -> Columns:
    """The fixed thresholds of some rows as columns, (n,) each."""
    values = np.array([fixed_thresholds(int(row)) for row in rows]).reshape(-1, 2)
    return {CORE_THRESHOLD: values[:, 0], EDEMA_THRESHOLD: values[:, 1]}


def with_invariants(predicted: Columns) -> Columns:
    """Predicted columns, with mu1 [mm] and mu2 [1] where they follow from others."""
    if {"diffusivity", "proliferation", "duration"} <= predicted.keys():
        time, diffusivity, proliferation = (  # of a linear scale they may come out negative
            np.maximum(predicted[name], 0.0) for name in ("duration", "diffusivity", "proliferation")
        )
        return {"mu1": np.sqrt(diffusivity * time), "mu2": np.sqrt(proliferation * time)} | predicted
    return predicted


def predicted_tumors(
    predicted: Mapping[str, NDArray[np.float64]], atlas: Atlas, model: Model | None = None
) -> tuple[list[Parameters], int]:
    """Predictions as tumors that can be simulated, and how many origins had to be moved into tissue.

    mu1 and mu2 beyond `SIMULATED`, which a network with linear targets may say, are brought to its ends.

    Args:
        predicted: physical columns, `mu1`, `mu2` (`with_invariants`) and `origin`; `coupling` if it is predicted.
        atlas: the brain.
        model: what grows (default: the first model).

    Raises:
        InputError: a quantity is missing.
    """
    model = model or Model()
    if "origin" not in predicted:
        raise InputError("the weights do not predict the origin: give a folder with a network for it as well")
    if not {"mu1", "mu2"} <= predicted.keys():
        raise InputError("the weights predict neither mu1, mu2 nor diffusivity, proliferation, duration")
    places = predicted["origin"].tolist()
    origins = [nearest_tissue(tuple(place), atlas) for place in places]
    moved = sum(not np.allclose(new, old) for new, old in zip(origins, places, strict=True))
    mu1, mu2 = (np.clip(predicted[name], *bounds).tolist() for name, bounds in SIMULATED.items())
    numbers = zip(mu1, mu2, origins, strict=True)
    growths = [FisherKolmogorovParameters.from_invariants(*number) for number in numbers]
    couplings = predicted["coupling"].clip(0).tolist() if "coupling" in predicted else [None] * len(growths)
    return [model.with_coupling(*both) for both in zip(growths, couplings, strict=True)], moved


def count_clipped(predicted: Columns) -> int:
    """How many predictions have mu1 or mu2 beyond `SIMULATED`."""
    beyond = [(predicted[name] < low) | (predicted[name] > high) for name, (low, high) in SIMULATED.items()]
    return int(np.logical_or(*beyond).sum())


def _stack(scores: list[dict[str, float]]) -> Columns:
    return {name: np.array([score[name] for score in scores]) for name in scores[0]}
