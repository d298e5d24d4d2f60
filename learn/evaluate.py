"""Command: how good a network's answers are on unseen simulations.

    python -m learn.evaluate data=runs/fk.zarr weights=runs/train/fk_joint_half.safetensors out=runs/evaluate

Every sample's image (fixed thresholds) goes through the network; every prediction is simulated again and compared with
the true tumor. Writes `metrics.json`, `table.md`, `samples.csv` (one line a sample) and two figures: the error over mu1
and mu2, and the best, the median and the worst case. A network that predicts a distribution is also asked how often its
intervals hold the truth. Samples that trained a network, or chose its best epoch, are no test of it: the table says so,
and `publish=` refuses them. augmentation=outlines tests on masks as people and programs draw them, after a registration
with errors; augmentation.share=1 changes all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from engine import InputError, Store, open_store
from engine.command import require, run_command
from engine.version import commit, package_version
from learn.augment import Augmentation
from learn.build import read_settings
from learn.calibration import coverage, ranks_of_truth
from learn.comparison import evaluate
from learn.datamodule import split_rows
from learn.estimator import Estimator
from learn.figures import draw_calibration, draw_cases, draw_errors
from learn.limits import measured_limits
from learn.same_physics import refuse_other_physics
from learn.seen import has_seen, refuse_fresh_samples, refuse_seen_split
from learn.settings import given_path, require_writable, true_or_false, whole_number
from learn.table import write_results
from learn.weights import default_weights, load_weights, save_weights, weights_path


def main(cfg: DictConfig) -> None:
    """Evaluate, write the results and print the table."""
    store = open_store(require(cfg, "data"))
    count = None if cfg.count is None else whole_number(cfg, "count", 1)
    rows = split_rows(store, cfg.split)[:count]
    out = given_path(cfg, "out")
    estimator = load_weights(choose_weights(cfg, store))
    refuse_other_physics(estimator, store)
    published = None if cfg.publish is None else given_path(cfg, "publish")
    figures = true_or_false(cfg, "figures")
    augmentation = read_settings(Augmentation, cfg.augmentation, "augmentation")
    drawn = augmentation if augmentation.share else None
    if published is not None:
        refuse_unpublishable(published, estimator, drawn)
        refuse_seen_split(estimator, store, cfg.split)
    refuse_fresh_samples(estimator, store)
    require_writable(out, "out")
    evaluation = evaluate(estimator, store, rows, cfg.backend, drawn)
    summary = evaluation.summary()
    ranks = ranks_of_truth(estimator, store, rows, drawn) if estimator.is_distribution else {}
    if not ranks and any(part.mixture for part in estimator.parts):
        print("calibration is left out: several networks have no joint distribution", file=sys.stderr)
    summary |= coverage(ranks)
    facts = {"data": str(cfg.data), "split": cfg.split, "weights": estimator.name}
    facts |= {"data_seed": store.attributes["seed"], "version": package_version(), "commit": commit()}
    facts |= {"masks": "exact" if drawn is None else asdict(drawn)}
    write_results(out, evaluation, summary, facts, seen=has_seen(estimator, store, cfg.split))
    if figures:
        draw_errors(evaluation, store, out / "errors.png")
        draw_cases(evaluation, store, cfg.backend, out / "cases.png")
        if ranks:
            draw_calibration(ranks, out / "calibration.png")
    if published is not None:
        kept = {key: facts[key] for key in ("split", "data_seed", "version", "commit")}
        publish(published, estimator, kept | summary, measured_limits(evaluation, estimator, store, cfg.backend))


def choose_weights(cfg: DictConfig, store: Store) -> str | Path:
    """The given weights, or those that are shipped for the store's grid."""
    if cfg.weights is not None:
        return given_path(cfg, "weights")
    return default_weights(store.attributes["model"], tuple(store.attributes["grid"]["shape"]))


def refuse_unpublishable(path: Path, estimator: Estimator, drawn: Augmentation | None) -> None:
    """Check what `publish` needs, before the evaluation takes its time.

    Raises:
        InputError: the estimator has several networks, whose accuracy belongs to all of them together, its accuracy is
            measured on `drawn` masks, or the file cannot be written.
    """
    if drawn is not None:
        raise InputError("publish= takes the accuracy on exact masks: leave augmentation= out")
    if len(estimator.parts) > 1:
        raise InputError(f"publish= takes the weights of one network: these are {len(estimator.parts)}")
    if not path.name or weights_path(path).is_dir():
        raise InputError(f"publish={path} is not the name of a file: give one, such as publish=./fk_joint_half")
    require_writable(path.parent, "publish")


def publish(path: Path, estimator: Estimator, measured: Mapping[str, Any], limits: list[str]) -> None:
    """Save a network again with its measured accuracy and limits in header and model card.

    Args:
        path: of the new weights.
        estimator: of one network.
        measured: on which samples, by which program, and the numbers.
        limits: sentences.
    """
    metadata = {
        **estimator.metadata,
        "name": weights_path(path).stem,
        "accuracy": dict(measured),
        "limits": limits,
    }
    print(f"published {save_weights(path, estimator.network, metadata)}")


if __name__ == "__main__":
    run_command(main, "evaluate")
