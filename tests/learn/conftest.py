"""A real, small store: two dozen simulations in SRI24 at 32³."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import Store, open_store
from engine.command import compose
from engine.generate import main as generate
from learn.build import build_network
from learn.crop import Crop
from learn.network import InverseNetwork
from learn.targets import Targets
from learn.train import store_facts
from learn.weights import save_weights
from tests.learn.short_training import train

SAMPLES = 32


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store with rows of every split."""
    path = tmp_path_factory.mktemp("store") / "quarter.zarr"
    generate(compose("generate", [f"samples={SAMPLES}", f"out={path}", "grid=quarter", "backend=cpu"]))
    return path


@pytest.fixture(scope="session")
def store(store_path: Path) -> Store:
    return open_store(store_path)


@pytest.fixture(scope="session")
def joint() -> Targets:
    return Targets.named(["mu1", "mu2", "origin_x", "origin_y", "origin_z"])


@pytest.fixture
def make_network(store: Store) -> Callable[..., InverseNetwork]:
    """Builds an untrained network for the store: `make_network(names, anchored, filters)`."""

    def make(names: tuple[str, ...], anchored: bool = True, filters: int = 4) -> InverseNetwork:
        torch.manual_seed(0)
        atlas = store.load_atlas()
        return build_network(filters, anchored, Targets.named(names), atlas, Crop.around(atlas)).eval()

    return make


@pytest.fixture
def save_network(store: Store, make_network: Callable[..., InverseNetwork]) -> Callable[..., Path]:
    """Saves an untrained network for the store: `save_network(path, names, anchored, **metadata)`; None omits."""

    def save(path: Path, names: tuple[str, ...], anchored: bool = True, **changes: object) -> Path:
        crop = Crop.around(store.load_atlas())
        metadata = store_facts(store) | {
            "name": path.stem,
            "targets": Targets.named(names).metadata(),
            "crop": {"start": list(crop.start), "stop": list(crop.stop)},
            "training": {"epochs": 0},
        }
        metadata = {key: value for key, value in (metadata | changes).items() if value is not None}
        return save_weights(path, make_network(names, anchored), metadata)

    return save


@pytest.fixture
def image(store: Store) -> np.ndarray:
    """One image on the full grid, float32 (1, x, y, z)."""
    from learn.dataset import draw_fixed_image

    return draw_fixed_image(store.density(0), 0, store.load_atlas().tissue, store.grid.spacing)[None]


@pytest.fixture(scope="session")
def finished(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted training."""
    out = tmp_path_factory.mktemp("finished")
    train(store_path, out)
    return out
