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

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from engine import GRIDS, Atlas, InputError, Store, open_store
from engine.command import require, run_command
from learn.callbacks import EpochReport, ExportBest
from learn.crop import Crop, atlas_context
from learn.datamodule import TumorDataModule
from learn.module import InverseModule, Optimization
from learn.network import BLOCKS, InverseNetwork
from learn.settings import LARGEST_SEED, given_path, whole_number
from learn.targets import AXES, QUANTITIES, Targets
from learn.weights import SUFFIX

CHECKPOINT = "last.ckpt"
DECISIVE = ("count", "network", "optimizer", "epochs", "batch_size", "seed")
"""Settings that change the trained weights: a training is only continued with the same ones."""
DECISIVE_TRAINER = ("precision", "devices", "num_nodes")
"""Settings of `trainer` that do, too."""
LOWEST = {"epochs": 1, "batch_size": 1, "workers": 0}
"""Smallest values of whole-number settings."""


def main(cfg: DictConfig) -> float:
    """Train until `epochs` are done, continuing an earlier run of the same settings if there is one.

    Returns:
        The lowest validation loss, for a sweeper to minimize; of several networks the mean of theirs.
    """
    store = open_store(require(cfg, "data"))
    out = given_path(cfg, "out")
    refuse_wrong_numbers(cfg)
    networks = read_networks(cfg)
    losses = []
    for name, targets in networks.items():
        weights = out / f"{name}_{grid_name(store.grid.shape)}{SUFFIX}"
        losses.append(train_network(cfg, store, targets, out if len(networks) == 1 else out / name, weights))
    return sum(losses) / len(losses)


def read_networks(cfg: DictConfig) -> dict[str, Targets]:
    """What each network of the experiment predicts, by name.

    Raises:
        InputError: `targets` names no networks, or quantities that cannot be learned.
    """
    if not isinstance(cfg.targets, DictConfig):
        return {cfg.name: Targets.named(cfg.targets)}
    if not cfg.targets:
        raise InputError("targets is empty: write targets=[mu1,mu2], or a name and such a list for every network")
    return {str(name): Targets.named(entries) for name, entries in cfg.targets.items()}


def train_network(cfg: DictConfig, store: Store, targets: Targets, folder: Path, weights: Path) -> float:
    """Train one network in `folder`, export it to `weights`, and return its lowest validation loss."""
    optimization = read_optimization(cfg.optimizer)
    atlas = store.load_atlas()
    crop = Crop.around(atlas)
    data = TumorDataModule(
        store, targets, crop,
        batch_size=cfg.batch_size, seed=cfg.seed, cache_gb=cfg.cache_gb, workers=cfg.workers, count=cfg.count,
    )  # fmt: skip
    checkpoint = find_checkpoint(folder, decisive_settings(cfg, targets, store), cfg.resume)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    network = build_network(cfg.network.filters, cfg.network.anchored, targets, atlas, crop)
    module = InverseModule(network, targets, atlas.grid.extent, optimization)
    facts = training_facts(cfg, data, optimization)

    def describe(epoch: int, errors: dict[str, float]) -> dict[str, Any]:
        return store_facts(store) | {
            "name": weights.stem,
            "targets": targets.metadata(),
            "crop": {"start": list(crop.start), "stop": list(crop.stop)},
            "training": facts | {"best_epoch": epoch},
            "accuracy": errors,
        }

    export = ExportBest(weights, describe)
    trainer = build_trainer(cfg, folder, optimization, export)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    print(f"trained {trainer.current_epoch} epochs; the best network is {weights}")
    return export.best


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
    if not isinstance(cfg.cache_gb, int | float):
        raise InputError(f"cache_gb={cfg.cache_gb} must be a number of GB")


def build_network(
    filters: int | Sequence[int], anchored: bool, targets: Targets, atlas: Atlas, crop: Crop
) -> InverseNetwork:
    """The paper's network, or the anchored one with its context of the atlas."""
    widths = list(filters) if isinstance(filters, Sequence) else [filters] * BLOCKS
    if len(widths) != BLOCKS or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise InputError(f"network.filters={filters}: give one positive number, or one for each of {BLOCKS} blocks")
    if not anchored:
        return InverseNetwork(widths, len(targets))
    shape = atlas.grid.shape
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    places = atlas.grid.from_voxel(voxels)  # (x, y, z, 3)
    scales = QUANTITIES | {quantity.name: quantity for quantity in targets.quantities}
    coordinates = np.stack([scales[f"origin_{axis}"].encode(places[..., i]) for i, axis in enumerate(AXES)])
    context = torch.from_numpy(atlas_context(atlas, crop, coordinates))
    return InverseNetwork(widths, len(targets), context, targets.origin_outputs)


def build_trainer(cfg: DictConfig, out: Path, optimization: Optimization, export: ExportBest) -> pl.Trainer:
    """A Lightning trainer that leaves a whole checkpoint after every epoch.

    Raises:
        InputError: Lightning does not accept a setting of `trainer`, such as an accelerator that is not there.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    keep_last = ModelCheckpoint(
        dirpath=out, filename=Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks: list[pl.Callback] = [export, keep_last, EpochReport()]
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar())
    try:
        return pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            num_nodes=cfg.trainer.num_nodes,
            precision=cfg.trainer.precision,
            max_epochs=cfg.epochs,
            gradient_clip_val=optimization.gradient_clip or None,
            callbacks=callbacks,
            logger=CSVLogger(out, name="logs"),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"Lightning refuses the trainer's settings: {' '.join(str(error).split())}") from error


def read_optimization(settings: DictConfig) -> Optimization:
    """The optimizer's settings from the configuration.

    Raises:
        InputError: a setting is unknown or out of its range.
    """
    known = [field.name for field in fields(Optimization)]
    unknown = [str(name) for name in settings if name not in known]
    if unknown:
        raise InputError(f"the optimizer has no setting {', '.join(unknown)}: choose from {', '.join(known)}")
    return Optimization(**{str(name): value for name, value in settings.items()})


def decisive_settings(cfg: DictConfig, targets: Targets, store: Store) -> dict[str, Any]:
    """What must not change between the stretches of one training."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    chosen = {"targets": targets.metadata()} | {name: settings[name] for name in DECISIVE}
    chosen |= {f"trainer.{name}": settings["trainer"][name] for name in DECISIVE_TRAINER}
    return chosen | {"samples": len(store)} | {f"data.{key}": value for key, value in store.identity.items()}


def find_checkpoint(out: Path, settings: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint to continue from, if there is one; records the settings of a new training.

    Raises:
        InputError: `out` holds a training with other settings, or one that must not be resumed.
    """
    checkpoint, record = out / CHECKPOINT, out / "settings.json"
    if checkpoint.exists():
        if not resume:
            raise InputError(f"{out} holds a training already: choose another out=, or continue it with resume=true")
        before = json.loads(record.read_text()) if record.exists() else {}
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise InputError(
                f"the training in {out} had another {changed[0]} ({before.get(changed[0])}, now "
                f"{settings[changed[0]]}): choose another out=, or give the same settings"
            )
        return checkpoint
    try:
        out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(settings, indent=2))
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}): choose another out=") from error
    return None


def store_facts(store: Store) -> dict[str, Any]:
    """What a weights file repeats of its training store."""
    attributes = store.attributes
    return {key: attributes[key] for key in ("model", "scheme", "physics_version", "atlas", "grid", "prior")}


def training_facts(cfg: DictConfig, data: TumorDataModule, optimization: Optimization) -> dict[str, Any]:
    """How the network was trained, for its model card."""
    return {
        "samples": {split: len(rows) for split, rows in data.rows.items()},
        "data_seed": data.store.attributes["seed"],
        "seed": cfg.seed,
        "epochs": cfg.epochs,
        "batch_size": cfg.batch_size,
        "optimizer": asdict(optimization),
    }


def grid_name(shape: tuple[int, int, int]) -> str:
    """`full`, `half`, `quarter`, or the number of voxels."""
    return next((name for name, grid in GRIDS.items() if grid.shape == shape), "x".join(map(str, shape)))


if __name__ == "__main__":
    run_command(main, "train")
