"""Continuing a training: what must not change between its stretches, and where the last one ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from engine import InputError, Store
from engine.locks import file_locked
from learn.checkpoints import read_parts
from learn.targets import Targets

CHECKPOINT = "last.ckpt"
LOCK = "training.lock"
"""Left beside the weights; only a running training needs it."""
DECISIVE = (
    "count", "fresh", "crop", "network", "components", "start", "freeze", "channels_last", "optimizer", "augmentation",
    "epochs", "batch_size", "seed",
)  # fmt: skip
"""Settings that change the trained weights: a training is only continued with the same ones."""
WHERE = ("accelerator",)
"""Settings of `trainer` that only say where."""


def decisive_settings(cfg: DictConfig, targets: Targets, store: Store) -> dict[str, Any]:
    """What must not change between the stretches of one training."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    chosen = {"targets": targets.metadata()} | {name: settings[name] for name in DECISIVE}
    chosen |= {f"trainer.{name}": value for name, value in settings["trainer"].items() if name not in WHERE}
    return chosen | {"samples": len(store)} | {f"data.{key}": value for key, value in store.identity.items()}


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Let only one training write a folder until the block ends; the other ranks of the same one are let through.

    Raises:
        InputError: another training runs there, or it cannot be written.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    busy = f"another training runs in {folder}: wait for it, or choose another out="
    with file_locked(folder / LOCK, f"to {folder}, choose another out=", busy):
        yield


def find_checkpoint(out: Path, settings: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint to continue from, if there is one; records the settings of a new training.

    Raises:
        InputError: `out` holds a training with other settings, one that must not be resumed, or one that is not whole.
    """
    checkpoint, record = out / CHECKPOINT, out / "settings.json"
    if checkpoint.exists():
        if not resume:
            raise InputError(f"{out} holds a training already: choose another out=, or continue it with resume=true")
        before = read_record(record)
        changed = [name for name in {**settings, **before} if before.get(name) != settings.get(name)]
        if changed:
            raise InputError(
                f"the training in {out} had another {changed[0]} ({before.get(changed[0])}, now "
                f"{settings.get(changed[0])}): choose another out=, or give the same settings"
            )
        read_parts(checkpoint)  # what cannot be continued is said before the data are read
        return checkpoint
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial = record.with_name(record.name + ".partial")
        partial.write_text(json.dumps(settings, indent=2))
        partial.replace(record)
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}): choose another out=") from error
    return None


def read_record(record: Path) -> dict[str, Any]:
    """The settings of a training that has begun.

    Raises:
        InputError: they are not there, or damaged.
    """
    try:
        return dict(json.loads(record.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"the settings of the training in {record} cannot be read: choose another out=") from error
