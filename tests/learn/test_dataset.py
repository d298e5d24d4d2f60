"""Images and targets: what a scanner would show, the same in any order, new thresholds every epoch."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, InputError, Store, observe, open_store, render_image
from learn.augment import Augmentation
from learn.comparison import evaluate
from learn.crop import Crop
from learn.datamodule import EpochSampler, TumorDataModule, split_rows
from learn.dataset import TumorDataset, observe_half
from learn.fresh import FreshDataset
from learn.targets import Targets


@pytest.fixture
def crop(store: Store) -> Crop:
    return Crop.around(store.load_atlas())


def make_dataset(store: Store, targets: Targets, crop: Crop, **options: object) -> TumorDataset:
    return TumorDataset(store, np.arange(len(store)), targets, store.load_atlas().tissue, crop, **options)  # type: ignore[arg-type]


def test_the_crop_holds_all_tissue_between_even_corners(store: Store, crop: Crop) -> None:
    tissue = store.load_atlas().tissue
    assert crop.apply(tissue).sum() == tissue.sum()
    assert all(corner % 2 == 0 for corner in (*crop.start, *crop.stop))


def test_an_empty_crop_is_refused() -> None:
    with pytest.raises(InputError, match="no voxels"):
        Crop((0, 4, 0), (2, 4, 2))


@pytest.mark.parametrize("in_memory", [False, True])
def test_image_and_target_are_those_of_the_row(store: Store, joint: Targets, crop: Crop, in_memory: bool) -> None:
    data = make_dataset(store, joint, crop, in_memory=in_memory)
    image, target = data[5]
    core, edema = observe(store.density(5), *data.thresholds(5))
    expected = crop.apply(render_image(core, edema, store.load_atlas().tissue))
    np.testing.assert_array_equal(image.numpy(), expected[None])
    assert image.dtype == torch.float32
    assert joint.decode(target.numpy()[None])["mu1"][0] == pytest.approx(store.parameters["mu1"][5], rel=1e-5)


def test_the_fast_look_at_a_density_sees_what_the_engine_shows(store: Store) -> None:
    """Also where a threshold lies between, on, or just beside numbers of half precision."""
    every = np.arange(np.float16(1.0).view(np.int16) + 1, dtype=np.int16).view(np.float16)  # all of [0, 1]
    rng = np.random.default_rng(0)
    on = np.float16(0.3)
    for core, edema in [*rng.uniform(0.05, 0.9, (50, 2)), (on, on), (np.nextafter(on, 1), np.nextafter(on, 0))]:
        for density in (every, store.field("density", 0)):
            expected = observe(density.astype(np.float32), float(core), float(edema))
            for mask, other in zip(observe_half(density, (float(core), float(edema))), expected, strict=True):
                np.testing.assert_array_equal(mask, other)


def test_training_thresholds_change_with_the_epoch_only(store: Store, joint: Targets, crop: Crop) -> None:
    data = make_dataset(store, joint, crop)
    first = [data.thresholds(i) for i in range(4)]
    data.set_epoch(1)
    second = [data.thresholds(i) for i in reversed(range(4))]
    assert not set(first) & set(second)
    data.set_epoch(0)
    assert [data.thresholds(i) for i in range(4)] == first


def test_fixed_thresholds_ignore_epoch_and_seed(store: Store, joint: Targets, crop: Crop) -> None:
    one, other = (make_dataset(store, joint, crop, fixed_thresholds=True, seed=seed) for seed in (0, 1))
    other.set_epoch(7)
    assert one.thresholds(3) == other.thresholds(3)


def test_thresholds_stay_in_their_ranges(store: Store, joint: Targets, crop: Crop) -> None:
    data = make_dataset(store, joint, crop)
    for index in range(len(data)):
        core, edema = data.thresholds(index)
        assert CORE_THRESHOLD_RANGE[0] <= core <= CORE_THRESHOLD_RANGE[1]
        assert EDEMA_THRESHOLD_RANGE[0] <= edema <= EDEMA_THRESHOLD_RANGE[1]


def test_the_sampler_tells_its_dataset_the_epoch(store: Store, joint: Targets, crop: Crop) -> None:
    data = make_dataset(store, joint, crop)
    sampler = EpochSampler(data, num_replicas=1, rank=0, shuffle=True, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        assert data.epoch == epoch
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]


def test_splits_are_disjoint_and_cover_the_store(store: Store) -> None:
    rows = [split_rows(store, split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(rows)) == list(split_rows(store, "all")) == list(range(len(store)))


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_the_cache_has_a_limit(store: Store, joint: Targets, crop: Crop, cache_gb: float) -> None:
    data = TumorDataModule(store, joint, crop, cache_gb=cache_gb)
    data.setup("fit")
    assert (data.datasets["train"].densities is not None) == (cache_gb > 0)


@pytest.mark.parametrize("batch_size", [5, 8, 100])
def test_the_batches_of_an_epoch_are_known_before_it(store: Store, joint: Targets, crop: Crop, batch_size: int) -> None:
    data = TumorDataModule(store, joint, crop, batch_size=batch_size)
    data.setup("fit")
    assert data.training_batches == len(data.train_dataloader())


def test_an_incomplete_store_is_refused(joint: Targets, crop: Crop) -> None:
    unfinished = SimpleNamespace(complete=np.array([True, False]), split=np.array(["train", "val"]))
    with pytest.raises(InputError, match="1 of 2 samples"):
        TumorDataModule(unfinished, joint, crop)  # type: ignore[arg-type]


def test_a_store_without_validation_samples_is_refused(joint: Targets, crop: Crop) -> None:
    tiny = SimpleNamespace(complete=np.array([True]), split=np.array(["train"]), attributes={"seed": 0})
    with pytest.raises(InputError, match="no val samples"):
        TumorDataModule(tiny, joint, crop)  # type: ignore[arg-type]


def test_an_unknown_split_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="split=exam"):
        split_rows(store, "exam")


def test_data_far_outside_a_targets_bounds_are_refused(store: Store, crop: Crop) -> None:
    narrow = Targets.named(["mu1"], {"mu1": {"bounds": [1.0, 1.1]}})
    with pytest.raises(InputError, match=r"the data's mu1 is .* the target's bounds are \(1.0, 1.1\)"):
        TumorDataset(store, np.arange(8), narrow, store.load_atlas().tissue, crop)


@pytest.mark.parametrize(
    ("name", "bounds", "words"),
    [("core_threshold", [0.9, 0.95], r"0\.5 to 0\.85"), ("edema_threshold", [0.9, 0.95], r"0\.05 to 0\.5")],
)
def test_bounds_far_from_what_a_threshold_is_drawn_from_are_refused(
    store: Store, crop: Crop, name: str, bounds: list[float], words: str
) -> None:
    far, near = (Targets.named([name], {name: {"bounds": given}}) for given in (bounds, [0.0, 1.0]))
    with pytest.raises(InputError, match=f"the data's {name} is {words}, the target's bounds"):
        make_dataset(store, far, crop)
    with pytest.raises(InputError, match=f"the data's {name} is {words}, the target's bounds"):
        FreshDataset(store, far, crop, seed=9, samples=4)
    assert len(make_dataset(store, near, crop)) == len(FreshDataset(store, near, crop, seed=9, samples=32))


def spoil(place: Path, kind: str, array: str = "density") -> None:
    """Lose the first file of an array, or overwrite it in the middle or at its end."""
    file = min(path for path in (place / array / "c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    at = {"middle": len(content) // 4, "end": len(content) - 8}.get(kind, 0)
    content[at : at + 8] = b"\xff" * 8
    file.unlink()
    if kind != "lost":
        file.write_bytes(content)


@pytest.fixture
def copied(store_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store_path, tmp_path / "copied.zarr"))


@pytest.mark.parametrize("kind", ["lost", "middle", "end"])
def test_a_store_that_lacks_or_spoiled_a_file_is_neither_learned_from_nor_scored(
    copied: Path, joint: Targets, crop: Crop, kind: str
) -> None:
    """Its marks say that it is complete."""
    spoil(copied, kind)
    damaged = open_store(copied)
    assert damaged.complete.all()
    mend = r"engine\.generate verify=.*copied\.zarr and mend them with .* repair=.*copied\.zarr"
    with pytest.raises(InputError, match=mend):
        make_dataset(damaged, joint, crop, in_memory=True)
    with pytest.raises(InputError, match=mend):
        [make_dataset(damaged, joint, crop)[index] for index in range(len(damaged))]
    with pytest.raises(InputError, match=mend):
        evaluate(None, damaged, np.arange(len(damaged)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mu1", "duration", "origin", "split", "volumes"])
def test_a_lost_column_is_not_read_as_zeros(copied: Path, joint: Targets, crop: Crop, name: str) -> None:
    """Without its split every row would be trained on."""
    spoil(copied, "lost", name)
    damaged = open_store(copied)
    with pytest.raises(InputError, match=r"repair=.*copied\.zarr"):
        TumorDataModule(damaged, joint, crop).setup("fit")


def test_thresholds_can_be_targets(store: Store, crop: Crop) -> None:
    data = make_dataset(store, Targets.named(["edema_threshold", "mu1", "core_threshold"]), crop)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        columns = data.targets.decode(data[3][1].numpy()[None])
        found = (columns["core_threshold"][0], columns["edema_threshold"][0])
        assert found == pytest.approx(data.thresholds(3), abs=1e-6)
        assert columns["mu1"][0] == pytest.approx(store.parameters["mu1"][3], rel=1e-5)


def test_drawn_masks_come_in_training_only_and_again(store: Store, joint: Targets, crop: Crop) -> None:
    augmentation = Augmentation(share=1.0, outline=4.0, missing=1.0)
    plain, drawn = make_dataset(store, joint, crop), make_dataset(store, joint, crop, augmentation=augmentation)
    assert not torch.equal(plain[3][0], drawn[3][0])
    assert torch.equal(drawn[3][0], make_dataset(store, joint, crop, augmentation=augmentation)[3][0])
    first = drawn[3][0]
    drawn.set_epoch(1)
    assert not torch.equal(first, drawn[3][0])
    fixed = [make_dataset(store, joint, crop, fixed_thresholds=True, augmentation=a) for a in (None, augmentation)]
    assert torch.equal(fixed[0][3][0], fixed[1][3][0])


def test_training_and_test_never_share_thresholds_or_samples(store: Store, joint: Targets, crop: Crop) -> None:
    rows = {split: set(split_rows(store, split).tolist()) for split in ("train", "val", "test")}
    assert not (rows["train"] & rows["test"] or rows["train"] & rows["val"] or rows["val"] & rows["test"])
    drawn, fixed = make_dataset(store, joint, crop, seed=0), make_dataset(store, joint, crop, fixed_thresholds=True)
    assert not {drawn.thresholds(i) for i in range(len(store))} & {fixed.thresholds(i) for i in range(len(store))}
