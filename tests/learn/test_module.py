"""Optimization: the schedules' shapes, the average, and settings that make no sense."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine import InputError
from learn import callbacks
from learn.callbacks import ExportBest
from learn.module import InverseModule, Optimization
from learn.network import InverseNetwork
from learn.targets import Targets


def test_the_papers_rate_shrinks_by_its_factor_per_batch() -> None:
    paper = Optimization()
    assert (paper.learning_rate, paper.weight_decay) == (6e-5, 0.05)
    assert paper.rate(0, 100) == 1.0
    assert paper.rate(50, 100) == pytest.approx(0.999997**50)


def test_cosine_rises_then_falls_to_zero() -> None:
    cosine = Optimization(schedule="cosine", warmup=0.1)
    rates = [cosine.rate(step, 100) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


def test_the_average_follows_at_first_and_settles_later() -> None:
    optimization = Optimization(average=0.99)
    start, current = torch.tensor(0.0), torch.tensor(1.0)
    assert float(optimization.averaged(start, current, 0)) == pytest.approx(0.9)
    assert float(optimization.averaged(start, current, 10**6)) == pytest.approx(0.01)


def make_module(**settings: float) -> InverseModule:
    return InverseModule(InverseNetwork(1, 1), Targets.named(["mu1"]), np.ones(3), Optimization(**settings))


def test_the_average_waits_for_no_gradients() -> None:
    module = make_module(average=0.99)
    assert module.average is not None
    assert not any(parameter.requires_grad for parameter in module.average.parameters())
    assert all(parameter.requires_grad for parameter in module.network.parameters())


def test_only_a_lower_loss_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = []
    monkeypatch.setattr(callbacks, "save_weights", lambda path, network, metadata: exported.append(metadata))
    export, module = ExportBest(tmp_path / "net", lambda epoch, errors: errors), make_module()
    for loss in (float("nan"), 2.0, 3.0, float("nan"), 1.0, float("nan")):
        metrics = {"val_loss": torch.tensor(loss)}
        trainer = SimpleNamespace(callback_metrics=metrics, sanity_checking=False, is_global_zero=True, current_epoch=0)
        export.on_validation_end(trainer, module)  # type: ignore[arg-type]
    assert exported == [{"val_loss": 2.0}, {"val_loss": 1.0}]
    assert export.best == 1.0


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "staircase"},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"decay": 1.5},
        {"warmup": 1.0},
        {"average": 1.0},
        {"gradient_clip": -0.1},
        {"learning_rate": float("nan")},
        {"learning_rate": "fast"},
        {"average": None},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(InputError, match="optimizer"):
        Optimization(**settings)
