"""From settings to what trains: the network, its optimization, Lightning's trainer."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from engine import Atlas, InputError, Store
from learn.augment import Augmentation
from learn.callbacks import EpochReport, ExportBest
from learn.checkpoints import SplitCheckpoints
from learn.crop import Crop, atlas_context
from learn.mixture import Mixture
from learn.module import Optimization
from learn.network import BLOCKS, LEAST_SIZE, InverseNetwork
from learn.resume import CHECKPOINT
from learn.same_physics import refuse_other_brain
from learn.settings import true_or_false
from learn.targets import AXES, QUANTITIES, Targets
from learn.weights import load_weights

Settings = TypeVar("Settings", Optimization, Augmentation)


def build_network(
    filters: int | Sequence[int],
    anchored: bool,
    targets: Targets,
    atlas: Atlas,
    crop: Crop,
    pool: int = 1,
    mixture: Mixture | None = None,
) -> InverseNetwork:
    """The paper's network, or the anchored one with its context of the atlas.

    Args:
        filters: of every block, or of each in turn.
        anchored: whether it knows the atlas.
        targets: what it predicts.
        atlas: the brain.
        crop: the box that it sees.
        pool: voxels that the convolutions see as one, along each axis.
        mixture: makes the outputs describe a distribution over the targets.

    Raises:
        InputError: widths or pool are not possible.
    """
    widths = list(filters) if isinstance(filters, Sequence) else [filters] * BLOCKS
    if len(widths) != BLOCKS or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise InputError(f"network.filters={filters}: give one positive number, or one for each of {BLOCKS} blocks")
    if not (isinstance(pool, int) and 1 <= pool <= min(crop.shape)):
        raise InputError(f"network.pool={pool}: give a whole number of voxels from 1 to {min(crop.shape)}")
    if min(crop.shape) // pool < LEAST_SIZE:
        raise InputError(
            f"the network halves its input four times and needs {LEAST_SIZE} voxels along each axis, but network.pool="
            f"{pool} leaves {min(crop.shape) // pool} of {min(crop.shape)}: use a smaller pool or a finer grid"
        )
    outputs = mixture.outputs if mixture else len(targets)
    if not anchored:
        return distributed(InverseNetwork(widths, outputs, pool=pool), mixture)
    shape = atlas.grid.shape
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    places = atlas.grid.from_voxel(voxels)  # (x, y, z, 3)
    scales = QUANTITIES | {quantity.name: quantity for quantity in targets.quantities}
    coordinates = np.stack([scales[f"origin_{axis}"].encode(places[..., i]) for i, axis in enumerate(AXES)])
    context = torch.from_numpy(atlas_context(atlas, crop, coordinates))
    origins = mixture.mean_outputs(targets.origin_outputs) if mixture else targets.origin_outputs
    return distributed(InverseNetwork(widths, outputs, context, origins, pool), mixture)


def read_network(cfg: DictConfig) -> dict[str, Any]:
    """The settings of `network` as arguments of `build_network`.

    Raises:
        InputError: one of them is unknown or missing, or `anchored` is neither true nor false.
    """
    known = ("filters", "anchored", "pool")
    unknown = [str(name) for name in cfg.network if name not in known]
    if unknown:
        raise InputError(f"network has no setting {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: cfg.network[name] for name in known} | {"anchored": true_or_false(cfg, "network.anchored")}


def read_trainer(cfg: DictConfig) -> dict[str, Any]:
    """The settings of `trainer` as arguments of Lightning's.

    Raises:
        InputError: one of them is unknown; others of Lightning's would break what is counted in batches and epochs.
    """
    known = ("accelerator", "devices", "num_nodes", "precision")
    unknown = [str(name) for name in cfg.trainer if name not in known]
    if unknown:
        raise InputError(f"trainer has no setting {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: cfg.trainer[name] for name in known}


def distributed(network: InverseNetwork, mixture: Mixture | None) -> InverseNetwork:
    """The network, whose last layer starts with a mixture's first bias if there is one."""
    if mixture is not None:
        last = network.head[-1] if isinstance(network.head, nn.Sequential) else network.head
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(mixture.first_bias())
    return network


def start_from(network: InverseNetwork, source: str, freeze: bool, store: Store) -> None:
    """Take over the tensors of trained weights that fit: everything but the last layer, if the networks are alike.

    The weights may be of another model: what an outline shows is much the same.

    Args:
        network: changed in place.
        source: as of `learn.load_weights`.
        freeze: leave the convolutions as they come, and train the head only.
        store: that the training learns from.

    Raises:
        InputError: the weights are several networks, were trained on another grid or brain, or their convolutions or
            what these see are others than this network's.
    """
    estimator = load_weights(source)
    if len(estimator.parts) > 1:
        raise InputError(f"start={source} holds {len(estimator.parts)} networks: give one")
    refuse_other_brain(estimator, store, "start")
    if estimator.network.pool != network.pool:
        raise InputError(
            f"start={source} sees means over {estimator.network.pool}³ voxels, this network over {network.pool}³: "
            f"give network.pool={estimator.network.pool}"
        )
    own, given = network.state_dict(), estimator.network.state_dict()
    if "context" in own and "context" in given and own["context"].shape != given["context"].shape:
        raise InputError(f"start={source} sees another part of the grid than this network: give the same crop=")
    if "context" in own and "context" in given and not torch.equal(own["context"], given["context"]):
        raise InputError(f"start={source} was trained with other scales of the origin: give the same in scaling=")
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    lacking = [name for name in own if not name.startswith("head") and name not in fitting]
    if lacking:
        raise InputError(
            f"start={source} has another {lacking[0]} than this network: give weights of the same network="
        )
    network.load_state_dict(fitting, strict=False)
    if freeze:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("head"))


def use_channels_last(network: InverseNetwork) -> None:
    """Lay the convolutions out in the memory order in which GPUs compute bf16 fastest; the answers stay."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


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
    settings = read_trainer(cfg)
    try:
        return pl.Trainer(
            **settings,
            max_epochs=cfg.epochs,
            gradient_clip_val=optimization.gradient_clip or None,
            callbacks=callbacks,
            plugins=[SplitCheckpoints()],
            logger=CSVLogger(out, name="logs"),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"Lightning refuses the trainer's settings: {' '.join(str(error).split())}") from error


def read_settings(kind: type[Settings], settings: DictConfig, key: str) -> Settings:
    """A group of settings from the configuration.

    Args:
        kind: what it becomes.
        settings: the group.
        key: its name.

    Raises:
        InputError: a setting is unknown or out of its range.
    """
    known = [field.name for field in fields(kind)]
    unknown = [str(name) for name in settings if name not in known]
    if unknown:
        raise InputError(f"{key} has no setting {', '.join(unknown)}: choose from {', '.join(known)}")
    return kind(**{str(name): value for name, value in settings.items()})
