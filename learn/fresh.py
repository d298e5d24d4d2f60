"""Training samples simulated during training: no sample is seen twice, and nothing is written to a disk.

Sample i of epoch e is row e N + i of the data set that `engine.generate` would make with the training's seed and the
validation store's model, atlas, grid and prior; so a training that was stopped and continued sees the same samples.
On a GPU the accepted tumors of the first model are grown once more and stay there; on a CPU a network waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from engine import InputError, Prior, Store, random_stream, simulate
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from engine.imaging import CORE_WEIGHT, EDEMA_WEIGHT
from engine.model import model_of
from engine.parameters import Parameters
from learn.crop import Crop
from learn.dataset import DRAWN, draw_thresholds, refuse_far_targets
from learn.targets import CORE_THRESHOLD, EDEMA_THRESHOLD, Targets

ON_DEVICE = "cuda"
"""The backend whose densities are kept where they were computed."""


class FreshDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and targets of simulations that are made when they are asked for, batch by batch.

    Args:
        store: whose model, scheme, atlas, grid and prior are used; none of its rows is.
        targets: what to predict.
        crop: the box that the network sees.
        seed: of the random streams; not the store's.
        samples: of an epoch.
        backend: that simulates.

    Raises:
        InputError: the seed is the store's, whose samples would come again, or the bounds of a threshold do not hold
            the range that it is drawn from.
    """

    def __init__(
        self, store: Store, targets: Targets, crop: Crop, seed: int, samples: int, backend: str = "auto"
    ) -> None:
        attributes = store.attributes
        if attributes["seed"] == seed:
            raise InputError(f"seed={seed} made the store, whose test samples would be trained on: give another seed=")
        self.targets, self.crop, self.seed, self.samples, self.epoch = targets, crop, seed, samples, 0
        self.atlas, self.scheme, self.model = store.load_atlas(), attributes["scheme"], model_of(attributes)
        self.prior = read_prior(attributes["prior"])
        self.backend = choose_backend(backend)
        self.tissue = torch.from_numpy(np.ascontiguousarray(crop.apply(self.model.scene(self.atlas))))
        refuse_far_targets(targets, np.empty((0, len(targets)), np.float32))

    def __len__(self) -> int:
        return self.samples

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's samples to make."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # (1, x, y, z), (outputs,)
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """The samples of a batch; their indices are evenly spaced, as a sampler without shuffle gives them."""
        first = self.epoch * self.samples + indices[0]
        step = indices[1] - indices[0] if len(indices) > 1 else 1
        rows = range(first, first + step * len(indices), step)
        accepted, _ = accept_rows(rows, self.seed, self.scheme, self.atlas, self.prior, self.backend, model=self.model)
        tumors = [row["parameters"] for row in accepted]
        thresholds = np.array([draw_thresholds(random_stream(self.seed, DRAWN, 0, row)) for row in rows])
        encoded = torch.from_numpy(self.targets.encode(_columns(tumors, thresholds)))
        images = render(self._densities(accepted, tumors), thresholds, self.tissue)
        return list(zip(images[:, None], encoded, strict=True))

    def _densities(self, accepted: list[dict[str, Any]], tumors: list[Parameters]) -> Tensor:
        """The cropped densities (B, x, y, z), on the GPU if the backend is there."""
        if self.backend.name == ON_DEVICE and not self.model.has_mass_effect:  # what is pushed ends on the host
            grown = simulate(tumors, self.atlas, backend=self.backend, scheme=self.scheme, on_device=True)
            return self.crop.apply(torch.from_dlpack(grown.density))
        return torch.from_numpy(np.stack([self.crop.apply(row["density"]).astype(np.float32) for row in accepted]))


def render(density: Tensor, thresholds: np.ndarray, tissue: Tensor) -> Tensor:
    """`engine.observe` and `engine.render_image` of a batch on its device, float32 (B, x, y, z).

    Args:
        density: c [1], (B, x, y, z).
        thresholds: of core and edema, (B, 2).
        tissue: where a tumor can be seen, bool (x, y, z).
    """
    core, edema = (density >= density.new_tensor(t)[:, None, None, None] for t in (thresholds[:, 0], thresholds.min(1)))
    return (CORE_WEIGHT * core.float() + EDEMA_WEIGHT * edema.float()) * tissue.to(density.device)


def read_prior(attributes: dict[str, Any]) -> Prior:
    """A store's prior, from its attributes."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return Prior(**{field.name: frozen(attributes[field.name]) for field in fields(Prior)})


def _columns(tumors: Sequence[Parameters], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    names = ["diffusivity", "proliferation", "duration", "mu1", "mu2", "origin"]
    names += ["coupling"] if all(hasattr(tumor, "coupling") for tumor in tumors) else []
    columns = {name: np.array([getattr(tumor, name) for tumor in tumors]) for name in names}
    return columns | {CORE_THRESHOLD: thresholds[:, 0], EDEMA_THRESHOLD: thresholds[:, 1]}
