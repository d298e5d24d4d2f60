"""Stages are timed once, also those inside others."""

from __future__ import annotations

import time

import pytest

from morph.stopwatch import Stopwatch


def test_a_stage_inside_another_counts_once() -> None:
    told: list[str] = []
    watch = Stopwatch(told.append)
    start = time.perf_counter()
    with watch.stage("outer", "one"):
        time.sleep(0.1)
        with watch.stage("inner", "two"):
            time.sleep(0.2)
    total = time.perf_counter() - start
    assert told == ["one", "two"]
    assert sum(watch.seconds.values()) == pytest.approx(total, abs=0.03)
    assert watch.seconds["inner"] > watch.seconds["outer"]
