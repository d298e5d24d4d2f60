"""Training of the inverse network: loss, optimizer, schedule, weight averaging, validation errors.

A network that predicts a point is fitted by squared error, one that predicts a distribution by likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from engine import InputError
from learn.datamodule import TumorDataModule
from learn.metrics import parameter_errors
from learn.mixture import Mixture
from learn.network import InverseNetwork
from learn.targets import Targets

SCHEDULES = ("exponential", "cosine")
LOOK_EVERY = 20
"""Batches between two looks at the loss, for which a GPU must be waited for."""


@dataclass(frozen=True)
class Optimization:
    """How the weights move. The defaults are the paper's (section 2.3).

    Attributes:
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        schedule: `exponential` multiplies the rate by `decay` after every batch; `cosine` brings it to 0 at the
            end of the last epoch.
        decay: factor per batch of the exponential schedule.
        warmup: share of all batches in which the rate first rises linearly.
        average: decay per batch of the moving average of the weights that is validated and exported, reached
            after the first few thousand batches; 0 uses the weights themselves.
        gradient_clip: largest norm of a gradient; 0 does not clip.
    """

    learning_rate: float = 6e-5
    weight_decay: float = 0.05
    schedule: str = "exponential"
    decay: float = 0.999997
    warmup: float = 0.0
    average: float = 0.0
    gradient_clip: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        numbers = {name: value for name, value in vars(self).items() if name != "schedule"}
        for name, value in numbers.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"optimizer.{name}={value} must be a finite number")
        if self.schedule not in SCHEDULES:
            raise InputError(f"optimizer.schedule={self.schedule} is unknown: choose from {', '.join(SCHEDULES)}")
        if self.learning_rate <= 0 or min(self.weight_decay, self.gradient_clip) < 0:
            raise InputError("the optimizer needs learning_rate > 0, weight_decay >= 0 and gradient_clip >= 0")
        if not (0 < self.decay <= 1 and 0 <= self.warmup < 1 and 0 <= self.average < 1):
            raise InputError("the optimizer needs 0 < decay <= 1, 0 <= warmup < 1 and 0 <= average < 1")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of batch `step` of `steps`, as a fraction of the highest."""
        warmup = self.warmup * steps
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.schedule == "exponential":
            return rise * self.decay**step
        progress = max(0.0, step - warmup) / max(1.0, steps - warmup)
        return rise * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def averaged(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """The moving average after one more batch, `count` batches after its start."""
        share = 9.0 / (10.0 + torch.as_tensor(count, dtype=average.dtype, device=average.device))
        return torch.lerp(average, current, share.clamp(min=1.0 - self.average))  # no number leaves the device


class InverseModule(pl.LightningModule):
    """Fits a network to encoded targets.

    Args:
        network: to train; parameters that need no gradient stay as they are.
        targets: meaning of its outputs, or of the quantities that they distribute.
        extent: edges of the grid [mm], (3,).
        optimization: how the weights move.
        mixture: how the outputs describe a distribution; None: they are the targets themselves.
    """

    loss_weights: Tensor

    def __init__(
        self,
        network: InverseNetwork,
        targets: Targets,
        extent: NDArray[np.float64],
        optimization: Optimization | None = None,
        mixture: Mixture | None = None,
    ) -> None:
        super().__init__()
        self.mixture = mixture
        self.register_buffer("loss_weights", torch.from_numpy(targets.weights), persistent=False)
        self.network, self.targets, self.extent = network, targets, extent
        self.optimization = optimization or Optimization()
        self.average: AveragedModel | None = None
        if self.optimization.average:
            self.average = AveragedModel(network, avg_fn=self.optimization.averaged).requires_grad_(False)
        self._validated: list[tuple[Tensor, Tensor]] = []

    @property
    def answering_network(self) -> InverseNetwork:
        """The network that is validated and exported."""
        chosen = self.network if self.average is None else self.average.module
        assert isinstance(chosen, InverseNetwork)
        return chosen

    def forward(self, image: Tensor) -> Tensor:
        """Outputs (B, outputs) of images (B, 1, x, y, z)."""
        return self.answering_network(image)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """What is minimized: weighted mean squared error, or negative log likelihood."""
        if self.mixture is not None:
            return self.mixture.loss(outputs, target)
        return (self.loss_weights * (outputs - target).square()).mean()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Loss of a batch.

        Raises:
            InputError: the loss is not finite.
        """
        image, target = batch
        loss = self.loss(self.network(image).float(), target)
        if index % LOOK_EVERY == 0:
            refuse_divergence(loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def on_train_epoch_end(self) -> None:
        """Leave no checkpoint of a training that diverged.

        Raises:
            InputError: the loss is not finite.
        """
        refuse_divergence(self.trainer.callback_metrics["train_loss"])

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Move the average after every step."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Keep predictions and targets for the errors of the epoch."""
        image, target = batch
        outputs = self(image).float()
        prediction = outputs if self.mixture is None else self.mixture.mean(outputs)
        self.log("val_loss", self.loss(outputs, target), prog_bar=True, batch_size=len(image), sync_dist=True)
        self._validated.append((prediction.cpu(), target.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the median physical errors."""
        predicted, true = (
            self.targets.decode(torch.cat(parts).numpy()) for parts in zip(*self._validated, strict=True)
        )
        self._validated.clear()
        for name, values in parameter_errors(true, predicted, self.extent).items():
            self.log(f"val_{name}", float(np.median(values)), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a rate that changes after every batch."""
        # Lightning's own estimate would open the training data before it knows which epoch a checkpoint has reached.
        data, epochs = self.trainer.datamodule, self.trainer.max_epochs  # type: ignore[attr-defined]
        assert isinstance(data, TumorDataModule) and epochs is not None
        optimizer, scheduler = self.optimizer_for(epochs * data.training_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_for(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        """The optimizer of a training of so many batches, and the schedule of its rate."""
        optimizer = torch.optim.AdamW(
            [parameter for parameter in self.network.parameters() if parameter.requires_grad],
            lr=self.optimization.learning_rate,
            weight_decay=self.optimization.weight_decay,
        )
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimization.rate(step, steps))


def refuse_divergence(loss: Tensor) -> None:
    """Stop a training whose loss is not finite.

    Raises:
        InputError: it is not.
    """
    if not torch.isfinite(loss):
        raise InputError("the training diverged: lower optimizer.learning_rate, or use trainer.precision=32-true")
