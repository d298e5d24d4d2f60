"""Command: how good a network's answers are on unseen simulations.

    python -m learn.evaluate data=runs/fk.zarr weights=runs/train/fk_joint_half.safetensors out=runs/evaluate

Every sample's image (fixed thresholds) goes through the network; every prediction is simulated again and compared
with the true tumor. Writes `metrics.json`, `table.md` and `samples.csv` (one line a sample).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from engine import (
    Atlas,
    FisherKolmogorovParameters,
    InputError,
    Store,
    nearest_tissue,
    open_store,
    simulate,
)
from engine.command import require, run_command
from engine.model import model_of
from engine.progress import progress
from learn.datamodule import refuse_old_physics, split_rows
from learn.dataset import draw_fixed_image
from learn.metrics import density_errors, parameter_errors, summarize
from learn.settings import given_path, require_writable, whole_number
from learn.weights import Estimator, default_weights, load_weights, save_weights, weights_path

BATCH = 32
"""Samples predicted and simulated together."""

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of every sample.

    Attributes:
        rows: of the store, int (n,).
        scores: name -> (n,), NaN where a sample had nothing to compare.
        moved: number of predicted origins outside tissue, simulated from the nearest tissue.
    """

    rows: NDArray[np.intp]
    scores: Columns
    moved: int

    def summary(self) -> dict[str, float | int]:
        """The numbers of `metrics.json`."""
        return {"count": len(self.rows), "origins_moved_into_tissue": self.moved} | summarize(self.scores)


def main(cfg: DictConfig) -> None:
    """Evaluate, write the results and print the table."""
    store = open_store(require(cfg, "data"))
    count = None if cfg.count is None else whole_number(cfg, "count", 1)
    rows = split_rows(store, cfg.split)[:count]
    out = given_path(cfg, "out")
    estimator = load_weights(choose_weights(cfg, store))
    refuse_other_physics(estimator, store)
    published = None if cfg.publish is None else given_path(cfg, "publish")
    if published is not None:
        refuse_unpublishable(published, estimator)
    require_writable(out, "out")
    evaluation = evaluate(estimator, store, rows, cfg.backend)
    facts = {"data": str(cfg.data), "split": cfg.split, "weights": estimator.metadata["name"]}
    write_results(out, evaluation, facts)
    if published is not None:
        publish(published, estimator, evaluation, cfg.split, store)


def choose_weights(cfg: DictConfig, store: Store) -> str | Path:
    """The given weights, or those that are shipped for the store's grid."""
    if cfg.weights is not None:
        return given_path(cfg, "weights")
    return default_weights(store.attributes["model"], tuple(store.attributes["grid"]["shape"]))


def refuse_other_physics(estimator: Estimator, store: Store) -> None:
    """Only compare a network with simulations of the kind that it learned, and that are simulated here.

    Raises:
        InputError: model, scheme, grid, atlas or the version of the physics differ.
    """
    learned, given = estimator.metadata, store.attributes
    refuse_old_physics(store)
    version = given["physics_version"]
    kinds = {
        "model": (learned["model"], given["model"]),
        "scheme": (learned["scheme"], given["scheme"]),
        "physics version": (learned.get("physics_version", version), version),
        "grid": (list(learned["grid"]["shape"]), list(given["grid"]["shape"])),
        "spacing": (learned["grid"]["spacing"], given["grid"]["spacing"]),
        "atlas": (learned["atlas"]["content_hash"][:12], given["atlas"]["content_hash"][:12]),
    }
    for kind, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise InputError(
                f"the weights {learned['name']} were trained for {kind} {ours}, the store has {theirs}: "
                "give weights= that were trained on such a store"
            )


def evaluate(estimator: Estimator, store: Store, rows: NDArray[np.integer], backend: str = "auto") -> Evaluation:
    """Predict, simulate again, compare.

    Args:
        estimator: predicts the origin and either mu1, mu2 or diffusivity, proliferation, duration.
        store: of the simulations, complete for `rows`.
        rows: which samples, int (n,).
        backend: that simulates the predictions.

    Raises:
        InputError: the estimator does not predict a whole tumor.
    """
    atlas, model = store.load_atlas(), model_of(store.attributes)
    scene = model.scene(atlas)
    columns = store.parameters
    parts: list[Columns] = []
    moved = 0
    with progress("evaluate", len(rows)) as advance:
        for batch in np.array_split(rows, range(BATCH, len(rows), BATCH)):
            true = np.stack([store.density(int(row)) for row in batch])
            images = [draw_fixed_image(density, int(row), scene) for row, density in zip(batch, true, strict=True)]
            predicted = estimator.predict(np.stack(images))
            growths, outside = predicted_tumors(predicted, atlas)
            couplings = predicted["coupling"].clip(0).tolist() if "coupling" in predicted else [None] * len(growths)
            tumors = [model.with_coupling(*both) for both in zip(growths, couplings, strict=True)]
            again = simulate(tumors, atlas, backend=backend, scheme=store.attributes["scheme"]).density
            parts.append(
                parameter_errors(
                    {name: values[batch] for name, values in columns.items()}, predicted, atlas.grid.extent
                )
                | _stack([density_errors(t, p, atlas) for t, p in zip(true, again, strict=True)])
            )
            moved += outside
            advance(len(batch))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Evaluation(np.asarray(rows), scores, moved)


def predicted_tumors(
    predicted: Mapping[str, NDArray[np.float64]], atlas: Atlas
) -> tuple[list[FisherKolmogorovParameters], int]:
    """Predictions as growth that can be simulated, and how many origins had to be moved into tissue.

    Raises:
        InputError: a quantity is missing.
    """
    if "origin" not in predicted:
        raise InputError("the weights do not predict the origin: give a folder with a network for it as well")
    origins = [nearest_tissue(tuple(origin), atlas) for origin in predicted["origin"].tolist()]
    moved = sum(not np.allclose(new, old) for new, old in zip(origins, predicted["origin"].tolist(), strict=True))
    if {"mu1", "mu2"} <= predicted.keys():
        numbers = zip(predicted["mu1"].tolist(), predicted["mu2"].tolist(), origins, strict=True)
        return [FisherKolmogorovParameters.from_invariants(*number) for number in numbers], moved
    growth = ("diffusivity", "proliferation", "duration")
    if set(growth) <= predicted.keys():
        columns = [predicted[name].tolist() for name in growth]
        return [FisherKolmogorovParameters(*number) for number in zip(*columns, origins, strict=True)], moved
    raise InputError("the weights predict neither mu1, mu2 nor diffusivity, proliferation, duration")


def write_results(out: Path, evaluation: Evaluation, facts: Mapping[str, Any]) -> None:
    """Write `samples.csv`, `table.md` and, last, `metrics.json`; print the table.

    Raises:
        InputError: `out` cannot be written.
    """
    summary = evaluation.summary()
    table = format_table(summary, facts)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "samples.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", *evaluation.scores])
            writer.writerows(zip(evaluation.rows.tolist(), *evaluation.scores.values(), strict=True))
        (out / "table.md").write_text(table)
        (out / "metrics.json").write_text(json.dumps({**facts, **summary}, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}): choose another out=") from error
    print(table)


def format_table(summary: Mapping[str, float | int], facts: Mapping[str, Any]) -> str:
    """The summary as Markdown: means and medians side by side, counts below."""
    rows = []
    for name in [key.removesuffix("_mean") for key in summary if key.endswith("_mean")]:
        rows.append(f"| {name} | {summary[f'{name}_mean']:.4g} | {summary[f'{name}_median']:.4g} |")
    rows += [f"| {key} | {value:.4g} | |" for key, value in summary.items() if key in MAE]
    undefined = {key.removesuffix("_undefined"): n for key, n in summary.items() if key.endswith("_undefined")}
    notes = [f"{name} is undefined for {n} samples (nothing to compare)." for name, n in undefined.items() if n]
    moved = summary["origins_moved_into_tissue"]
    notes.append(f"{moved} predicted origins lay outside tissue and were moved to the nearest.")
    head = f"{summary['count']} samples ({facts['split']}) of {facts['data']}, weights {facts['weights']}"
    return "\n".join([head, "", "| score | mean | median |", "|---|---|---|", *rows, "", *notes]) + "\n"


MAE = ("mae_white_matter", "mae_gray_matter", "mae_csf", "mae_symmetric")


def refuse_unpublishable(path: Path, estimator: Estimator) -> None:
    """Check what `publish` needs, before the evaluation takes its time.

    Raises:
        InputError: the estimator has several networks, whose accuracy belongs to all of them together, or the file
            cannot be written.
    """
    if len(estimator.parts) > 1:
        raise InputError(f"publish= takes the weights of one network: these are {len(estimator.parts)}")
    if not path.name or weights_path(path).is_dir():
        raise InputError(f"publish={path} is not the name of a file: give one, such as publish=./fk_joint_half")
    require_writable(path.parent, "publish")


def publish(path: Path, estimator: Estimator, evaluation: Evaluation, split: str, store: Store) -> None:
    """Save a network again with its measured accuracy, and the store's physics, in header and model card."""
    metadata = {
        **estimator.metadata,
        "name": weights_path(path).stem,
        "physics_version": store.attributes["physics_version"],
        "accuracy": {"split": split, **evaluation.summary()},
    }
    print(f"published {save_weights(path, estimator.network, metadata)}")


def _stack(scores: list[dict[str, float]]) -> Columns:
    return {name: np.array([score[name] for score in scores]) for name in scores[0]}


if __name__ == "__main__":
    run_command(main, "evaluate")
