"""A training computes in what its device is fast with, and its record says what that was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.command import compose
from learn.precision import FULL, MIXED, settle_precision
from learn.train import main as train
from tests.learn.short_training import SMALL


def settled(monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], *overrides: str, gpu: bool | None = None) -> str:
    """What becomes of the default precision on a processor that is able to do this."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bool(gpu))
    config = compose("train", overrides)
    settle_precision(config)
    return str(config.trainer.precision)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True}, MIXED),
        ({"amx_bf16": True, "avx512_bf16": False}, MIXED),
        ({"bf16": True}, MIXED),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, FULL),
    ],
)
def test_a_processor_computes_in_what_it_is_fast_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], able: dict[str, bool], expected: str
) -> None:
    assert settled(monkeypatch, able) == expected
    assert ("this processor has no bfloat16" in capsys.readouterr().out) == (expected == FULL)


def test_a_gpu_is_asked_itself_unless_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(monkeypatch, {}, gpu=True) == MIXED
    assert settled(monkeypatch, {"bf16": True}, gpu=False) == FULL
    assert settled(monkeypatch, {}, "trainer.accelerator=cpu", gpu=True) == FULL


def test_what_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(monkeypatch, {}, "trainer.precision=bf16-mixed") == MIXED
    assert settled(monkeypatch, {"bf16": True}, "trainer.precision=32-true") == FULL


def test_the_record_says_what_a_training_computed_in(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    plain = [given for given in SMALL if not given.startswith("trainer.precision")]
    train(compose("train", [f"data={store_path}", f"out={tmp_path}", "count=8", *plain, "epochs=1"]))
    assert json.loads((tmp_path / "settings.json").read_text())["trainer.precision"] == FULL
