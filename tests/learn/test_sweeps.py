"""Sweeps with Hydra's launchers and Optuna's sweeper, from a shell: one readable folder a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from engine.command import compose

CONF = Path(__file__).parents[2] / "conf"
REASON = "needs the extra sweep"
SMALL = ["batch_size=8", "epochs=1", "trainer.precision=32-true", "trainer.accelerator=cpu"]


def sweep(store: Path, folder: Path, *overrides: str) -> list[str]:
    """`learn.train -m` in a folder of its own; the names of the folders that it leaves weights in."""
    asked = [sys.executable, "-m", "learn.train", f"data={store}", *SMALL, "-m", *overrides]
    path = os.pathsep.join([str(CONF.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=folder, env=environment)
    assert ended.returncode == 0, ended.stderr
    weights = folder.glob("runs/sweep/*/fk_joint_quarter.safetensors")
    return sorted(path.parent.name for path in weights)


@pytest.mark.parametrize(
    ("launcher", "plugin", "settings"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher", ["hydra.launcher.timeout_min=5"]),
    ],
)
def test_a_launcher_trains_every_choice(
    store_path: Path, tmp_path: Path, launcher: str, plugin: str, settings: list[str]
) -> None:
    pytest.importorskip(plugin, reason=REASON)
    given = ["network.filters=4", "seed=1,2", f"hydra/launcher={launcher}", *settings]
    one, two = sweep(store_path, tmp_path, *given)
    assert "seed=1" in one and two == one.replace("seed=1", "seed=2")


def test_a_search_looks_for_the_lowest_loss(store_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason=REASON)
    search = OmegaConf.load(CONF / "hydra" / "sweeper" / "search.yaml")
    config = compose("train", ["hydra/sweeper=search"])
    for key in search.params:
        assert OmegaConf.select(config, key.removeprefix("+")) is not None or key == "+sweep"
    assert len(sweep(store_path, tmp_path, "hydra/sweeper=search", "hydra.sweeper.n_trials=2")) == 2
    found = OmegaConf.load(tmp_path / "runs" / "sweep" / "optimization_results.yaml")
    assert {"optimizer.learning_rate", "optimizer.weight_decay", "network.filters"} <= set(found.best_params)
