"""The second model: its simulations are learned from, and its predictions simulated with the tissue that they push."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine import Store, open_store
from engine.command import compose
from engine.generate import main as generate
from learn.comparison import evaluate
from learn.evaluate import main as judge
from learn.train import main as train
from learn.weights import load_weights


@pytest.fixture(scope="module")
def pushed_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store of pushing tumors with rows of every split."""
    path = tmp_path_factory.mktemp("pushed") / "pushed.zarr"
    given = [f"out={path}", "samples=16", "grid=quarter", "model=mass_effect", "seed=1", "backend=cpu"]
    generate(compose("generate", given))
    return path


@pytest.fixture(scope="module")
def pushed(pushed_path: Path) -> Store:
    return open_store(pushed_path)


class Oracle:
    """Answers with the truth of the first rows, its displacing coupling included or left to the store."""

    def __init__(self, store: Store, *more: str) -> None:
        self.columns = {name: store.parameters[name][:3] for name in ("mu1", "mu2", "origin", *more)}

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self.columns


@pytest.mark.parametrize("more", [(), ("coupling",)])
def test_the_truth_scores_perfectly_where_tissue_moves(pushed: Store, more: tuple[str, ...]) -> None:
    summary = evaluate(Oracle(pushed, *more), pushed, np.arange(3)).summary()  # type: ignore[arg-type]
    assert summary["mu1_relative_error_median"] == 0
    assert min(summary[f"dice_{t}_mean"] for t in (0.01, 0.1, 0.8)) > 0.99  # the store keeps float16


def test_two_networks_learn_it_and_are_judged_as_one(pushed: Store, pushed_path: Path, tmp_path: Path) -> None:
    small = ["network.filters=4", "batch_size=4", "epochs=1", "trainer.precision=32-true", "trainer.accelerator=cpu"]
    train(compose("train", [f"data={pushed_path}", "experiment=me_two_nets", f"out={tmp_path / 'nets'}", *small]))
    estimator = load_weights(tmp_path / "nets")
    assert len(estimator.parts) == 2 and estimator.metadata["model"] == "mass_effect"
    assert list(estimator.metadata["coupling"]) == list(pushed.attributes["coupling"])
    given = [f"data={pushed_path}", f"weights={tmp_path / 'nets'}", f"out={tmp_path / 'test'}", "figures=false"]
    judge(compose("evaluate", given))
    metrics = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert metrics["count"] == 1 and 0 <= metrics["dice_0.1_mean"] <= 1
