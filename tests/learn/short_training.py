"""A short training of a small network, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from engine.command import compose
from learn.train import main

SMALL = ["network.filters=4", "batch_size=8", "epochs=3", "trainer.precision=32-true", "trainer.accelerator=cpu"]
WEIGHTS = "fk_joint_quarter.safetensors"


def train(store_path: Path, out: Path, *overrides: str) -> float:
    """Its best validation loss."""
    return main(compose("train", [f"data={store_path}", f"out={out}", *SMALL, *overrides]))
