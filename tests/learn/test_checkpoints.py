"""Checkpoints: small parts, whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine import InputError
from learn import checkpoints
from learn.checkpoints import SplitCheckpoints


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoints, "LARGEST_PART", 1000)
    path = tmp_path / "last.ckpt"
    for start in (0.0, 1.0):
        state = {"state_dict": {"weight": torch.arange(1000) + start}, "optimizer_states": [{"state": {0: start}}]}
        SplitCheckpoints().save_checkpoint(state, path)
    return path


def test_parts_are_small_and_only_the_last_are_kept(saved: Path) -> None:
    parts = list(saved.parent.glob("last.ckpt.*"))
    assert 4 < len(parts) < 12
    assert max(part.stat().st_size for part in parts) <= 1000
    loaded = SplitCheckpoints().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["weight"], torch.arange(1000) + 1.0)
    assert loaded["optimizer_states"] == [{"state": {0: 1.0}}]


def test_the_default_network_takes_few_parts() -> None:
    parameters = 1_792_837  # the paper's; with the optimizer's two moments and the average, four times
    assert -(-4 * 4 * parameters // checkpoints.LARGEST_PART) <= 8


def test_a_damaged_checkpoint_is_refused(saved: Path) -> None:
    part = next(saved.parent.glob("last.ckpt.*"))
    part.write_bytes(part.read_bytes()[::-1])
    with pytest.raises(InputError, match="damaged"):
        SplitCheckpoints().load_checkpoint(saved)
    part.unlink()
    with pytest.raises(InputError, match="not whole"):
        SplitCheckpoints().load_checkpoint(saved)
    saved.write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(InputError, match="not whole"):
        SplitCheckpoints().load_checkpoint(saved)
