"""Resuming: a training survives being killed, and continues nothing but itself."""

from __future__ import annotations

import copy
import csv
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine import InputError, Store
from engine.command import compose
from learn.checkpoints import SplitCheckpoints
from learn.module import InverseModule
from learn.resume import CHECKPOINT, decisive_settings, find_checkpoint, only_training
from learn.targets import Targets
from tests.learn.short_training import SMALL, WEIGHTS, train


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_and_resumed_ends_with_the_same_weights(
    finished: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    step = InverseModule.training_step

    def die_in_the_second_epoch(self: InverseModule, batch: object, index: int) -> torch.Tensor:
        if self.current_epoch == 1 and index == 1:
            raise RuntimeError("killed")
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(InverseModule, "training_step", die_in_the_second_epoch)
        with pytest.raises(RuntimeError, match="killed"):
            train(store_path, tmp_path, f"workers={workers}")
    assert (tmp_path / CHECKPOINT).exists()
    train(store_path, tmp_path, f"workers={workers}")
    expected, found = load_file(finished / WEIGHTS), load_file(tmp_path / WEIGHTS)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    states = [SplitCheckpoints().load_checkpoint(out / CHECKPOINT) for out in (finished, tmp_path)]
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name


def test_a_finished_training_is_left_alone(finished: Path, store_path: Path) -> None:
    before = (finished / WEIGHTS).read_bytes()
    score = train(store_path, finished)
    assert (finished / WEIGHTS).read_bytes() == before
    with next(finished.glob("logs/version_0/metrics.csv")).open() as file:
        losses = [float(line["val_loss"]) for line in csv.DictReader(file) if line["val_loss"]]
    assert score == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize(
    "change",
    ["seed=1", "epochs=4", "network.filters=5", "optimizer.learning_rate=0.1", "trainer.precision=bf16-mixed"],
)
def test_other_settings_do_not_continue_a_training(finished: Path, store_path: Path, change: str) -> None:
    with pytest.raises(InputError, match="choose another out="):
        train(store_path, finished, change)


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"prior": {"name": "paper"}}, {"physics_version": 0}, {"atlas": {"content_hash": "0" * 64}}],
)
def test_another_store_does_not_continue_a_training(
    finished: Path, store_path: Path, store: Store, joint: Targets, change: dict[str, object]
) -> None:
    config = compose("train", [f"data={store_path}", f"out={finished}", *SMALL])
    assert find_checkpoint(finished, decisive_settings(config, joint, store), resume=True)
    other = copy.copy(store)
    other.attributes = store.attributes | change
    with pytest.raises(InputError, match=f"had another data.{next(iter(change))}"):
        find_checkpoint(finished, decisive_settings(config, joint, other), resume=True)


def test_resume_false_does_not_overwrite(finished: Path, store_path: Path) -> None:
    with pytest.raises(InputError, match="holds a training already"):
        train(store_path, finished, "resume=false")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("settings.json", "{", "settings of the training in .* cannot be read: choose another out="),
        ("settings.json", None, "settings of the training in .* cannot be read"),
        ("last.ckpt.*", None, "is not whole .* start again in another out="),
        ("last.ckpt.*", "half", "is damaged: start again in another out="),
        ("last.ckpt", "{", "is not whole"),
    ],
)
def test_what_cannot_be_continued_is_said_before_the_data_are_read(
    finished: Path,
    store_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | None,
    words: str,
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    file = next(copied.glob(name))
    file.unlink()
    if content is not None:
        file.write_text(content)
    monkeypatch.delattr(Store, "field")
    with pytest.raises(InputError, match=words):
        train(store_path, copied)


def test_a_folder_takes_one_training_at_a_time(store_path: Path, tmp_path: Path) -> None:
    with only_training(tmp_path), pytest.raises(InputError, match="another training runs in"):
        train(store_path, tmp_path)


def test_a_finished_training_without_its_weights_is_no_success(
    finished: Path, store_path: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    (copied / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"is done, but .* is gone"):
        train(store_path, copied)
