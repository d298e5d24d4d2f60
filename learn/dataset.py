"""Pairs of (image, target) from a store of simulations.

The store keeps densities; what a scanner would show of them is drawn here. Thresholds of a training sample change
from epoch to epoch, those of validation and test never do; both come from counter-based streams, so they depend
neither on the order of access nor on the number of workers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    InputError,
    Store,
    observe,
    random_stream,
    render_image,
)
from engine.progress import progress
from engine.threads import available_cores, run_in_order
from learn.augment import Augmentation
from learn.crop import Crop
from learn.targets import CORE_THRESHOLD, EDEMA_THRESHOLD, Targets

FIXED_SEED = 0
"""Seed of the thresholds of validation and test: the same for every network, so that scores compare."""
FIXED, DRAWN, AUGMENTED = 0, 1, 2
"""First counter of the streams (what, epoch, row): thresholds that never change, or change every epoch, and masks."""
LARGEST_CODE = 2.0
"""Encoded targets beyond this are refused: bounds are -1 and 1, and a tumor may lie a little outside (ours)."""
RANGES = {CORE_THRESHOLD: CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD: EDEMA_THRESHOLD_RANGE}
"""What thresholds are drawn from."""
THRESHOLDS = tuple(RANGES)
"""In the order in which they are drawn."""


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
        augmentation: how much the masks differ from exact ones; not with fixed thresholds.

    Raises:
        InputError: the store lacks a target, has values far outside the target's bounds, or is damaged.
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
        augmentation: Augmentation | None = None,
    ) -> None:
        self.augmentation, self.spacing = augmentation, store.grid.spacing
        self.store, self.rows, self.crop, self.seed = store, np.asarray(rows), crop, seed
        self.fixed_thresholds, self.epoch = fixed_thresholds, 0
        self.tissue = np.ascontiguousarray(crop.apply(tissue))
        columns = {name: values[self.rows] for name, values in store.parameters.items()}
        unknown_yet = {name: np.zeros(len(self.rows)) for name in THRESHOLDS}
        encoded = targets.encode(columns | unknown_yet)  # (n, outputs)
        refuse_far_targets(targets, encoded)
        self.encoded = torch.from_numpy(encoded)
        self.drawn = [(output, THRESHOLDS.index(n)) for output, n in enumerate(targets.names) if n in THRESHOLDS]
        self.targets = targets
        self.densities: NDArray[np.float16] | None = None
        self.densities = self._decode_all() if in_memory else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # (1, x, y, z), (outputs,)
        thresholds = self.thresholds(index)
        image = render_image(*self._masks(index, thresholds), self.tissue)
        target = self.encoded[index]
        if self.drawn:
            target = target.clone()
            for output, which in self.drawn:
                target[output] = float(self.targets.quantities[output].encode(thresholds[which]))
        return torch.from_numpy(image)[None], target

    def _masks(self, index: int, thresholds: tuple[float, float]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The masks (core, edema) of a sample, in training as they might be drawn."""
        if self.augmentation is None or self.fixed_thresholds:
            return observe_half(self._kept(index), thresholds)
        rng = random_stream(self.seed, AUGMENTED, self.epoch, int(self.rows[index]))
        return self.augmentation.masks(self.density(index), thresholds, self.spacing, rng)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's thresholds to draw."""
        self.epoch = epoch

    def thresholds(self, index: int) -> tuple[float, float]:
        """The (core, edema) thresholds of a sample in the current epoch."""
        row = int(self.rows[index])
        if self.fixed_thresholds:
            return fixed_thresholds(row)
        return draw_thresholds(random_stream(self.seed, DRAWN, self.epoch, row))

    def density(self, index: int) -> NDArray[np.float32]:
        """The cropped density [1] of a sample."""
        return self._kept(index).astype(np.float32)

    def _kept(self, index: int) -> NDArray[np.float16]:
        """The same as it is kept, from memory or from the store."""
        if self.densities is not None:
            return self.densities[index]
        return np.ascontiguousarray(self.crop.apply(self.store.field("density", int(self.rows[index]))))

    def _decode_all(self) -> NDArray[np.float16]:
        """Every density, read and decoded in as many threads as there are cores."""
        densities = np.empty((len(self.rows), *self.crop.shape), dtype=np.float16)

        def decode(index: int) -> None:
            densities[index] = self._kept(index)

        tasks = (partial(decode, index) for index in range(len(self.rows)))
        with progress("reading densities", len(self.rows)) as advance:
            for _ in run_in_order(tasks, available_cores()):
                advance(1)
        return densities


def refuse_far_targets(targets: Targets, encoded: NDArray[np.float32]) -> None:
    """Bounds only set a scale, but where the data are far outside it a network could not start to learn.

    Args:
        targets: what is predicted.
        encoded: the data's values, (n, outputs); those of thresholds, which are drawn, are not looked at.

    Raises:
        InputError: a quantity's values, or the range that a threshold is drawn from, are far outside its bounds, or no
            finite numbers on its scale.
    """
    for output, quantity in enumerate(targets.quantities):
        drawn = RANGES.get(quantity.name)
        values = encoded[:, output] if drawn is None else quantity.encode(drawn)
        if not np.isfinite(values).all():
            raise InputError(
                f"the data's {quantity.name} has values that its target cannot show: "
                "give scaling= another scale, or verify the store"
            )
        if values.size and np.abs(values).max() > LARGEST_CODE:
            low, high = quantity.decode([values.min(), values.max()])
            raise InputError(
                f"the data's {quantity.name} is {low:.4g} to {high:.4g}, the target's bounds are {quantity.bounds}: "
                "give bounds that hold the data"
            )


def fixed_thresholds(row: int) -> tuple[float, float]:
    """The (core, edema) thresholds with which a row of any store is validated and tested."""
    return draw_thresholds(random_stream(FIXED_SEED, FIXED, 0, row))


def draw_fixed_image(
    density: NDArray[np.floating],
    row: int,
    tissue: NDArray[np.bool_],
    spacing: float,
    augmentation: Augmentation | None = None,
) -> NDArray[np.float32]:
    """The image of a row under its fixed thresholds, float32, the same shape.

    Args:
        density: c [1], (x, y, z).
        row: of the store.
        tissue: where a tumor can be seen, bool (x, y, z).
        spacing: edge of a voxel [mm].
        augmentation: how the masks are drawn, the same for every network; None: exactly.
    """
    thresholds = fixed_thresholds(row)
    if augmentation is None:
        return render_image(*observe(density, *thresholds), tissue)
    masks = augmentation.masks(density, thresholds, spacing, random_stream(FIXED_SEED, AUGMENTED, 0, row))
    return render_image(*masks, tissue)


def observe_half(
    density: NDArray[np.float16], thresholds: tuple[float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`engine.observe` of a density in half precision, in a tenth of the time.

    As integers the bits of numbers >= 0 have the numbers' order, and are compared without a conversion.

    Args:
        density: c [1], >= 0, float16 of any shape.
        thresholds: of core and edema.
    """
    bits = density.view(np.int16)
    core, edema = (bits >= _bits_above(threshold) for threshold in (thresholds[0], min(thresholds)))
    return core, edema


def _bits_above(threshold: float) -> np.int16:
    """Bits of the lowest half precision number that is not below a threshold in single precision."""
    half = np.float16(threshold)
    if half < np.float32(threshold):
        half = np.nextafter(half, np.float16(np.inf))
    return half.view(np.int16)


def draw_thresholds(rng: np.random.Generator) -> tuple[float, float]:
    """A (core, edema) pair of thresholds."""
    return float(rng.uniform(*CORE_THRESHOLD_RANGE)), float(rng.uniform(*EDEMA_THRESHOLD_RANGE))
