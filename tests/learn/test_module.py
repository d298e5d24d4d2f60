"""Optimization: the schedules' shapes, the average, and settings that make no sense."""

from __future__ import annotations

import pytest
import torch

from engine import InputError
from learn.module import Optimization


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
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="optimizer"):
        Optimization(**settings)
