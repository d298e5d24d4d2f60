"""Pairs of (image, target) from a store of simulations.

The store keeps densities; what a scanner would show of them is drawn here. Thresholds of a training sample change
from epoch to epoch, those of validation and test never do; both come from counter-based streams, so they depend
neither on the order of access nor on the number of workers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    Store,
    observe,
    random_stream,
    render_image,
)
from engine.progress import progress
from learn.crop import Crop
from learn.targets import Targets

FIXED_SEED = 0
"""Seed of the thresholds of validation and test: the same for every network, so that scores compare."""
FIXED, DRAWN = 0, 1
"""First counter of the streams (what, epoch, row): thresholds that never change, or change every epoch."""


class TumorDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and targets of some rows of a store.

    Args:
        store: an open store, complete for `rows`.
        rows: indices of samples, int (n,).
        targets: what to predict.
        tissue: where a tumor can be seen on the full grid, bool (x, y, z); images are 0 outside.
        crop: the box that the network sees.
        seed: of the thresholds drawn in every epoch.
        fixed_thresholds: True for validation and test.
        in_memory: decode every density once and keep it (float16, cropped); otherwise read the store each time.
    """

    def __init__(
        self,
        store: Store,
        rows: NDArray[np.integer],
        targets: Targets,
        tissue: NDArray[np.bool_],
        crop: Crop,
        seed: int = 0,
        fixed_thresholds: bool = False,
        in_memory: bool = False,
    ) -> None:
        self.store, self.rows, self.crop, self.seed = store, np.asarray(rows), crop, seed
        self.fixed_thresholds, self.epoch = fixed_thresholds, 0
        self.tissue = np.ascontiguousarray(crop.apply(tissue))
        columns = {name: values[self.rows] for name, values in store.parameters.items()}
        self.encoded = torch.from_numpy(targets.encode(columns))  # (n, outputs)
        self.densities = self._decode_all() if in_memory else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # (1, x, y, z), (outputs,)
        core, edema = observe(self.density(index), *self.thresholds(index))
        image = render_image(core, edema, self.tissue)
        return torch.from_numpy(image)[None], self.encoded[index]

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's thresholds to draw."""
        self.epoch = epoch

    def thresholds(self, index: int) -> tuple[float, float]:
        """The (core, edema) thresholds of a sample in the current epoch."""
        row = int(self.rows[index])
        if self.fixed_thresholds:
            return fixed_thresholds(row)
        return _draw(random_stream(self.seed, DRAWN, self.epoch, row))

    def density(self, index: int) -> NDArray[np.float32]:
        """The cropped density [1] of a sample."""
        if self.densities is not None:
            return self.densities[index].astype(np.float32)
        return np.ascontiguousarray(self.crop.apply(self.store.density(int(self.rows[index]))))

    def _decode_all(self) -> NDArray[np.float16]:
        densities = np.empty((len(self.rows), *self.crop.shape), dtype=np.float16)
        with progress("reading densities", len(self.rows)) as advance:
            for index, row in enumerate(self.rows):
                densities[index] = self.crop.apply(self.store.density(int(row)))
                advance(1)
        return densities


def fixed_thresholds(row: int) -> tuple[float, float]:
    """The (core, edema) thresholds with which a row of any store is validated and tested."""
    return _draw(random_stream(FIXED_SEED, FIXED, 0, row))


def draw_fixed_image(density: NDArray[np.floating], row: int, tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The image of a row under its fixed thresholds, float32, the same shape."""
    return render_image(*observe(density, *fixed_thresholds(row)), tissue)


def _draw(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(*CORE_THRESHOLD_RANGE)), float(rng.uniform(*EDEMA_THRESHOLD_RANGE))
