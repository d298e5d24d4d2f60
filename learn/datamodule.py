"""A store's splits as data loaders for Lightning."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, DistributedSampler

from engine import InputError, Store
from engine.model import model_of
from engine.rows import SPLITS, split_of
from learn.augment import Augmentation
from learn.crop import Crop, memory_needed
from learn.dataset import TumorDataset
from learn.fresh import FreshDataset
from learn.same_physics import refuse_old_physics
from learn.targets import Targets


class EpochSampler(DistributedSampler):
    """A shuffle that depends only on (seed, epoch), and tells its dataset which epoch it is.

    Lightning calls `set_epoch` before every epoch, which makes a training that was stopped and continued draw the
    same batches and thresholds as one that was not.
    """

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the shuffle and of the thresholds."""
        super().set_epoch(epoch)
        assert isinstance(self.dataset, TumorDataset | FreshDataset)
        self.dataset.set_epoch(epoch)


class TumorDataModule(pl.LightningDataModule):
    """Training and validation batches of a complete store.

    Args:
        store: an open store.
        targets: what to predict.
        crop: the box that the network sees.
        batch_size: samples a batch (a process).
        seed: of the shuffle and of the training thresholds.
        cache_gb: keep the densities in memory if they need less than this [GB], else read the store.
        workers: loader processes; 0 loads in the main process.
        count: train on only the first so many training samples; None: on all.
        fresh: train on so many batches of new simulations in every epoch, of the store's kind; 0: on its samples.
        augmentation: of the training images.

    Raises:
        InputError: the store is not complete, of another version of the physics, or has no validation samples or
            fewer training samples than wanted; new simulations are asked for together with what only a store has, or
            of loader processes.
    """

    def __init__(
        self,
        store: Store,
        targets: Targets,
        crop: Crop,
        batch_size: int = 32,
        seed: int = 0,
        cache_gb: float = 4.0,
        workers: int = 0,
        count: int | None = None,
        fresh: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.store, self.targets, self.crop = store, targets, crop
        self.batch_size, self.seed, self.cache_gb, self.workers = batch_size, seed, cache_gb, workers
        self.rows = {split: split_rows(store, split) for split in ("train", "val")}
        refuse_old_physics(store)
        if count is not None and count > len(self.rows["train"]):
            raise InputError(f"count={count}: the store has only {len(self.rows['train'])} training samples")
        self.rows["train"] = self.rows["train"][:count]
        self.fresh, self.augmentation = fresh, augmentation
        if fresh and (augmentation is not None or count is not None):
            raise InputError("fresh data take neither count= nor augmentation=: those change a store's samples")
        if fresh and workers:
            raise InputError(
                f"fresh data are simulated on all cores or the GPU, not by workers={workers}: use workers=0"
            )
        self.datasets: dict[str, TumorDataset | FreshDataset] = {}

    def setup(self, stage: str) -> None:
        """Open the datasets, once."""
        if self.datasets:
            return
        tissue = model_of(self.store.attributes).scene(self.store.load_atlas())
        samples = sum(len(rows) for split, rows in self.rows.items() if not (self.fresh and split == "train"))
        in_memory = memory_needed(samples, self.crop) <= self.cache_gb
        for split, rows in self.rows.items():
            if split == "train" and self.fresh:
                epoch = self.fresh * self.batch_size * self.replicas
                self.datasets[split] = FreshDataset(self.store, self.targets, self.crop, self.seed, epoch)
                continue
            self.datasets[split] = TumorDataset(
                self.store, rows, self.targets, tissue, self.crop,
                seed=self.seed, fixed_thresholds=split != "train", in_memory=in_memory, augmentation=self.augmentation,
            )  # fmt: skip

    @property
    def replicas(self) -> int:
        """Processes that share an epoch."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def training_batches(self) -> int:
        """Training batches of an epoch (a process)."""
        if self.fresh:
            return self.fresh
        return math.ceil(math.ceil(len(self.rows["train"]) / self.replicas) / self.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); new simulations come in their own order."""
        dataset, rank = self.datasets["train"], self.trainer.global_rank if self.trainer else 0
        sampler = EpochSampler(dataset, num_replicas=self.replicas, rank=rank, shuffle=not self.fresh, seed=self.seed)
        if self.trainer:
            # Lightning starts the first workers before it calls `set_epoch`, and before it moves `current_epoch` to
            # where a resumed training is: this is the counter that both follow.
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        pinned = torch.cuda.is_available() and not self.fresh  # new simulations may be on the GPU already
        return DataLoader(
            dataset, batch_size=self.batch_size, sampler=sampler, num_workers=self.workers, pin_memory=pinned
        )

    def val_dataloader(self) -> DataLoader:
        """In the store's order, fixed thresholds."""
        return DataLoader(self.datasets["val"], batch_size=self.batch_size, num_workers=self.workers)


def split_rows(store: Store, split: str) -> NDArray[np.intp]:
    """The rows of one split (train, val, test or all) of a complete store.

    The split is a hash of the store's seed and the row, which is asserted here: so a row of one split is never in
    another one of any store of that seed, however long each is.

    Raises:
        InputError: the store is not complete, its splits are not those of its seed, or the split is unknown or has no
            samples.
    """
    complete = np.asarray(store.complete)
    if not complete.all():
        raise InputError(
            f"the store has {int(complete.sum())} of {complete.size} samples: "
            "finish it with the engine.generate command that began it"
        )
    if split not in (*SPLITS, "all"):
        raise InputError(f"split={split} is unknown: choose from {', '.join(SPLITS)}, all")
    splits = np.asarray(store.split)
    if not np.array_equal(splits, splits_of(store.attributes["seed"], complete.size)):
        raise InputError(
            f"the splits of {store.place} are not those of its seed: look for damage with python -m engine.generate "
            f"verify={store.place} and mend it with python -m engine.generate repair={store.place}"
        )
    rows = np.arange(complete.size) if split == "all" else np.flatnonzero(splits == split)
    if rows.size == 0:
        raise InputError(f"the store has no {split} samples among its {complete.size}: generate more samples")
    return rows


@lru_cache(maxsize=4)
def splits_of(seed: int, samples: int) -> NDArray[np.str_]:
    """The split of every row of a store with this seed, (samples,)."""
    return np.array(SPLITS)[[split_of(seed, row) for row in range(samples)]]
