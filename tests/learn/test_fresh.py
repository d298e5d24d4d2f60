"""Fresh data: the engine as a data source, the same after a stop, never the samples of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine import InputError, Store, observe, render_image
from engine.command import compose
from learn.crop import Crop
from learn.fresh import FreshDataset, render
from learn.targets import Targets
from learn.train import main
from learn.weights import load_weights


def test_new_simulations_are_a_sources_own_and_the_same_after_a_stop(store: Store, joint: Targets) -> None:
    crop = Crop.around(store.load_atlas())
    first, second = (FreshDataset(store, joint, crop, seed=9, samples=4) for _ in range(2))
    first.set_epoch(1)
    second.set_epoch(1)
    ahead = first.__getitems__([0, 1, 2])
    for index in (2, 0):
        for one, other in zip(ahead[index], second[index], strict=True):
            assert torch.equal(one, other)
    image, target = ahead[0]
    assert image.shape == (1, *crop.shape)
    assert set(np.unique(image.numpy().astype(float).round(3))) <= {0.0, 0.333, 0.999}
    known = joint.encode(store.parameters)
    assert min(np.abs(known - target.numpy()).max(axis=1)) > 1e-3
    second.set_epoch(0)
    assert not torch.equal(second[0][1], target)
    with pytest.raises(InputError, match="give another seed="):
        FreshDataset(store, joint, crop, seed=0, samples=4)


def test_new_simulations_look_as_the_engine_shows_them(store: Store) -> None:
    """One row by both renderers."""
    density, tissue = store.density(0), store.load_atlas().tissue
    expected = render_image(*observe(density, 0.6, 0.3), tissue)
    found = render(torch.from_numpy(density)[None], np.array([[0.6, 0.3]]), torch.from_numpy(tissue))
    np.testing.assert_array_equal(found[0].numpy(), expected)


def test_training_on_new_simulations(store_path: Path, tmp_path: Path) -> None:
    small = ["network.filters=4", "trainer.precision=32-true", "trainer.accelerator=cpu", "epochs=1", "batch_size=4"]
    asked = [f"data={store_path}", f"out={tmp_path}", "fresh=1", "seed=5", *small]
    assert 0 < main(compose("train", asked)) < 10
    training = load_weights(tmp_path / "fk_joint_quarter.safetensors").metadata["training"]
    assert (training["fresh_seeds"], training["samples"]["train"]) == ([5], 4)
    with pytest.raises(InputError, match="neither count= nor augmentation="):
        main(compose("train", [*asked, "count=4"]))
    with pytest.raises(InputError, match="not by workers=2: use workers=0"):
        main(compose("train", [*asked, "workers=2"]))
