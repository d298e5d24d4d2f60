"""The bench of a training's speed: it times a training's own step on one grid, and says what it cannot do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import InputError

SMALL = ["network=anchored", "grid=quarter", "batch=2", "steps=1", "threads=1", "device=cpu"]


@pytest.fixture
def measure(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the bench with its arguments and gives back what it reports; matrices are tiny."""
    monkeypatch.syspath_prepend(str(repository / "benches"))
    bench = import_module("bench_train")
    monkeypatch.setattr(bench, "MATRIX", {"cpu": (32, 64)})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def start(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["bench_train", *SMALL, *arguments, f"json={tmp_path / 'found.json'}"])
        threads = torch.get_num_threads()
        try:
            bench.main()
        finally:
            torch.set_num_threads(threads)
        return dict(json.loads((tmp_path / "found.json").read_text()))

    return start


@pytest.mark.parametrize("crop", [True, False])
def test_a_step_is_timed_against_the_fastest_matrix_product(
    measure: Callable[..., dict[str, Any]], crop: bool, store_path: Path
) -> None:
    found = measure(f"crop={crop}", "optimizer=paper")
    assert found["samples_per_second"] > 0 and found["matrix_rows"] in (32, 64)
    assert found["matrix_rate_share"] == pytest.approx(found["tflops"] / found["matrix_tflops"])
    assert (found["input"] == "32 x 32 x 32") == (not crop)
    assert "waiting_share" not in found


def test_a_step_clips_averages_and_follows_the_schedule_as_in_training(
    measure: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = import_module("bench_train")
    made: list[Any] = []
    training = bench.Training
    monkeypatch.setattr(bench, "Training", lambda *given: made.append(training(*given)) or made[-1])
    clipped: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: (clipped.append(given[1]), clip(*given))[1])
    measure("optimizer=cosine")
    module, optimizer, scheduler = made[0].module, made[0].optimizer, made[0].scheduler
    assert clipped == [1.0, 1.0] and scheduler.last_epoch == 2
    assert int(module.average.n_averaged) == 2
    assert optimizer.param_groups[0]["weight_decay"] == module.optimization.weight_decay == 0.01


def test_what_waits_for_data_is_measured_with_the_loader_of_a_training(
    measure: Callable[..., dict[str, Any]], store_path: Path
) -> None:
    found = measure(f"data={store_path}", "augmentation=outlines", "workers=1", "steps=2")
    assert 0 <= found["waiting_share"] <= 1 and found["samples_per_second_with_data"] > 0
    assert (found["workers"], found["augmentation"]) == (1, "outlines")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grid=half", "data=STORE"], r"has \(32, 32, 32\) voxels, grid=half has \(64, 64, 64\): give grid=quarter"),
        (["device=abacus"], "device=abacus is unknown"),
        (["precision=int8"], "precision=int8 is unknown"),
        (["grid=huge"], "grid=huge is unknown"),
        (["network=nothing"], "nothing"),
        (["batch=0"], "batch=0 must be a whole number"),
        (["batch=many"], "batch=many must be a whole number"),
        (["crop=maybe"], "crop=maybe must be true or false"),
        (["data=STORE", "steps=100"], "count=202: the store has only"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    measure: Callable[..., dict[str, Any]], store_path: Path, arguments: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        measure(*(argument.replace("STORE", str(store_path)) for argument in arguments))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_sentence(measure: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="finds no GPU here: use device=cpu"):
        measure("device=cuda")
