"""Command: train the inverse network on a store of simulations.

    python -m learn.train data=runs/fk.zarr experiment=fk_joint out=runs/train

Writes `NAME_GRID.safetensors` with its model card (the best network by validation loss), `last.ckpt` after every
epoch, `settings.json` and `logs/`. An experiment of several networks trains one after the other, each in a folder of
its own; their weights lie together in `out`, which is then what `learn.evaluate weights=` takes.

Started again with the same settings it goes on after the last finished epoch and ends with the same weights as if it
had never stopped. With -m it trains once for every choice of values, such as seed=1,2, each in its own folder under
runs/sweep; a sweeper minimizes the best validation loss (of several networks: their mean).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import SIGTERMException

from engine import GRIDS, InputError, Store, open_store
from engine.command import TERMINATED, require, run_command
from engine.version import commit, package_version
from learn.augment import Augmentation
from learn.build import (
    build_network,
    build_trainer,
    read_network,
    read_settings,
    start_from,
    use_channels_last,
)
from learn.callbacks import ExportBest
from learn.crop import Crop
from learn.datamodule import TumorDataModule
from learn.mixture import Mixture
from learn.module import InverseModule, Optimization
from learn.precision import settle_precision
from learn.resume import decisive_settings, find_checkpoint, only_training
from learn.seen import data_seeds
from learn.settings import LARGEST_SEED, given_path, true_or_false, whole_number
from learn.targets import Targets
from learn.weights import SUFFIX, load_weights

LOWEST = {"epochs": 1, "batch_size": 1, "workers": 0, "components": 0, "fresh": 0}
"""Smallest values of whole-number settings."""


def main(cfg: DictConfig) -> float:
    """Train until `epochs` are done, continuing an earlier run of the same settings if there is one.

    Returns:
        The lowest validation loss, for a sweeper to minimize; of several networks the mean of theirs.
    """
    store = open_store(require(cfg, "data"))
    out = given_path(cfg, "out")
    refuse_wrong_numbers(cfg)
    settle_precision(cfg)
    if cfg.model != store.attributes["model"]:
        raise InputError(
            f"{cfg.name} learns from simulations of {cfg.model}, and {cfg.data} holds {store.attributes['model']}: "
            "choose an experiment= of that model, or other data="
        )
    networks = read_networks(cfg)
    losses = []
    for name, targets in networks.items():
        weights = out / f"{name}_{grid_name(store.grid.shape)}{SUFFIX}"
        folder = out if len(networks) == 1 else out / name
        with only_training(folder):
            losses.append(train_network(cfg, store, targets, folder, weights))
    return sum(losses) / len(losses)


def read_networks(cfg: DictConfig) -> dict[str, Targets]:
    """What each network of the experiment predicts, by name.

    Raises:
        InputError: `targets` names no networks, or quantities that cannot be learned.
    """
    if not cfg.targets:
        raise InputError("targets is empty: write targets=[mu1,mu2], or choose an experiment= of several networks")
    scaling = {} if cfg.scaling is None else cfg.scaling
    if not isinstance(scaling, Mapping):
        raise InputError(f"scaling={scaling} names no quantities: write scaling={{mu1: {{weight: 4}}}}")
    named = cfg.targets if isinstance(cfg.targets, DictConfig) else {cfg.name: cfg.targets}
    networks = {str(name): Targets.named(names, scaling) for name, names in named.items()}
    unused = set(scaling).difference(*(targets.names for targets in networks.values()))
    if len(unused) == len(scaling) > 0:
        raise InputError(f"scaling changes {', '.join(sorted(unused))}, which {cfg.name} does not predict")
    return networks


def train_network(cfg: DictConfig, store: Store, targets: Targets, folder: Path, weights: Path) -> float:
    """Train one network in `folder`, export it to `weights`, and return its lowest validation loss."""
    optimization = read_settings(Optimization, cfg.optimizer, "optimizer")
    augmentation = read_settings(Augmentation, cfg.augmentation, "augmentation")
    crop = choose_crop(cfg, store)
    data = TumorDataModule(
        store, targets, crop,
        batch_size=cfg.batch_size, seed=cfg.seed, cache_gb=cfg.cache_gb, workers=cfg.workers, count=cfg.count,
        fresh=cfg.fresh, augmentation=augmentation if augmentation.share else None,
    )  # fmt: skip
    resume = true_or_false(cfg, "resume")
    checkpoint = find_checkpoint(folder, decisive_settings(cfg, targets, store), resume)
    module = start_module(cfg, store, targets, crop, optimization)
    facts = training_facts(cfg, data, optimization)

    def describe(epoch: int, errors: dict[str, float]) -> dict[str, Any]:
        return store_facts(store) | {
            "name": weights.stem,
            "targets": targets.metadata(),
            "components": cfg.components,
            "crop": {"start": list(crop.start), "stop": list(crop.stop)},
            "training": facts | {"best_epoch": epoch},
            "accuracy": errors,
        }

    export = ExportBest(weights, describe)
    trainer = build_trainer(cfg, folder, optimization, export)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException:  # it carries no exit status, and a training that was ended is not a finished one
        sys.exit(TERMINATED)
    if not weights.exists():
        raise InputError(f"the training in {folder} is done, but {weights} is gone: delete {folder} and train again")
    print(f"trained {trainer.current_epoch} epochs; the best network is {weights}")
    return export.best


def choose_crop(cfg: DictConfig, store: Store) -> Crop:
    """What the network sees."""
    atlas = store.load_atlas()
    return Crop.around(atlas) if true_or_false(cfg, "crop") else Crop.whole(atlas)


def start_module(
    cfg: DictConfig, store: Store, targets: Targets, crop: Crop, optimization: Optimization
) -> InverseModule:
    """A network before its first batch, with random weights or those of `start`."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    atlas = store.load_atlas()
    mixture = Mixture(cfg.components, len(targets)) if cfg.components else None
    if mixture is not None and not np.all(targets.weights == 1):
        raise InputError("components= learns by likelihood, which takes no weights of targets: leave them out")
    network = build_network(targets=targets, atlas=atlas, crop=crop, mixture=mixture, **read_network(cfg))
    if cfg.start is not None:
        start_from(network, str(cfg.start), cfg.freeze, store)
    if true_or_false(cfg, "channels_last"):
        use_channels_last(network)
    return InverseModule(network, targets, atlas.grid.extent, optimization, mixture)


def refuse_wrong_numbers(cfg: DictConfig) -> None:
    """Check the numbers that no other part of a training checks.

    Raises:
        InputError: one of them is not a number, or out of range.
    """
    for key, lowest in LOWEST.items():
        whole_number(cfg, key, lowest)
    whole_number(cfg, "seed", 0, LARGEST_SEED)
    if cfg.count is not None:
        whole_number(cfg, "count", 1)
    if isinstance(cfg.cache_gb, bool) or not isinstance(cfg.cache_gb, int | float) or not cfg.cache_gb >= 0:
        raise InputError(f"cache_gb={cfg.cache_gb} must be a number of GB, 0 or more")
    if Path(str(require(cfg, "name"))).name != str(cfg.name):
        raise InputError(f"name={cfg.name} is no name of a file: give one without slashes")
    if true_or_false(cfg, "freeze") and cfg.start is None:
        raise InputError("freeze=true leaves the convolutions as they come: name the weights with start=")


def store_facts(store: Store) -> dict[str, Any]:
    """What a weights file repeats of its training store."""
    attributes = store.attributes
    kept = ("model", "coupling", "scheme", "physics_version", "atlas", "grid", "prior")
    return {key: attributes[key] for key in kept if key in attributes}


def training_facts(cfg: DictConfig, data: TumorDataModule, optimization: Optimization) -> dict[str, Any]:
    """How the network was trained, for its model card."""
    facts: dict[str, Any] = {
        "samples": {split: len(rows) for split, rows in data.rows.items()},
        "data_seed": data.store.attributes["seed"],
        "data_seeds": [data.store.attributes["seed"]],
        "seed": cfg.seed,
        "epochs": cfg.epochs,
        "batch_size": cfg.batch_size,
        "optimizer": asdict(optimization),
    }
    seeds = [cfg.seed] if cfg.fresh else []
    if cfg.fresh:
        facts["samples"]["train"] = cfg.epochs * cfg.fresh * cfg.batch_size * data.replicas
    if data.augmentation is not None:
        facts["augmentation"] = asdict(data.augmentation)
    if cfg.start is not None:
        facts["start"] = Path(cfg.start).stem + (", convolutions frozen" if cfg.freeze else "")
        before = load_weights(cfg.start).metadata
        facts["data_seeds"] += [seed for seed in data_seeds(before) if seed not in facts["data_seeds"]]
        seeds += before.get("training", {}).get("fresh_seeds", [])
    return facts | ({"fresh_seeds": seeds} if seeds else {}) | {"version": package_version(), "commit": commit()}


def grid_name(shape: tuple[int, int, int]) -> str:
    """`full`, `half`, `quarter`, or the number of voxels."""
    return next((name for name, grid in GRIDS.items() if grid.shape == shape), "x".join(map(str, shape)))


if __name__ == "__main__":
    run_command(main, "train")
