"""What happens at the end of an epoch: one line for people, and the best network as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from learn.module import InverseModule
from learn.weights import save_weights


class EpochReport(pl.Callback):
    """Prints one line an epoch, which also reads well in the log of a background job."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print the epoch's numbers on the first process."""
        if not trainer.is_global_zero:
            return
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in _numbers(trainer.callback_metrics).items())
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {numbers}", flush=True)


class ExportBest(pl.Callback):
    """Writes the network with the lowest validation loss so far.

    Args:
        path: of the weights file.
        describe: the file's metadata, given the number of finished epochs and the validation errors.
    """

    def __init__(self, path: Path, describe: Callable[[int, dict[str, float]], dict[str, Any]]) -> None:
        self.path, self.describe, self.best = path, describe, float("inf")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Export if the loss improved; a loss that is not a number never does."""
        loss = float(trainer.callback_metrics["val_loss"])
        if trainer.sanity_checking or not loss < self.best:
            return
        self.best = loss
        if trainer.is_global_zero and isinstance(module, InverseModule):
            errors = _numbers({k: v for k, v in trainer.callback_metrics.items() if k.startswith("val_")})
            save_weights(self.path, module.answering_network, self.describe(trainer.current_epoch + 1, errors))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best = state_dict["best"]


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
