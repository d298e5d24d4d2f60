"""What all tests share: few threads, a tiny brain, the patients if they are there, and the GPU mark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Set before the libraries are imported: pytest-xdist already keeps every core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest

if TYPE_CHECKING:
    from engine import Atlas

ROOT = Path(__file__).parents[1]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it, and so its children


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no NVIDIA driver on this machine")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def patients() -> Path:
    """The folder of real patients, one folder each with BraTS names; they cannot be shared publicly."""
    folder = ROOT.parent / "shared" / "data" / "patients"
    if not folder.is_dir():
        pytest.skip(f"no patient data at {folder}")
    return folder


@pytest.fixture(scope="session")
def make_atlas() -> Callable[..., Atlas]:
    """A function `(size, spacing)` that builds the tiny brain on a cube of `size`³ voxels."""
    return build_ellipsoid_brain


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """The tiny brain at 24³ and 4 mm."""
    return build_ellipsoid_brain()


def build_ellipsoid_brain(size: int = 24, spacing: float = 4.0) -> Atlas:
    """An ellipsoid with a white core, a gray shell and a CSF ventricle left of the middle.

    No axis is like another and left is not like right, so that a swapped or mirrored axis shows. White turns
    smoothly into gray.

    Args:
        size: voxels along each edge of the cube.
        spacing: edge of a voxel [mm].
    """
    import engine

    x, y, z = (np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")) + 0.5) / size
    radius = np.sqrt(((x - 0.5) / 0.38) ** 2 + ((y - 0.5) / 0.45) ** 2 + ((z - 0.5) / 0.41) ** 2)
    ventricle = ((x - 0.42) / 0.07) ** 2 + ((y - 0.5) / 0.16) ** 2 + ((z - 0.55) / 0.10) ** 2 <= 1
    brain = radius <= 1
    matter = brain & ~ventricle
    white = np.where(matter, np.clip((0.75 - radius) / 0.3 + 0.5, 0, 1), 0)
    return engine.Atlas(
        white_matter=white.astype(np.float32),
        gray_matter=np.where(matter, 1 - white, 0).astype(np.float32),
        csf=(brain & ventricle).astype(np.float32),
        grid=engine.Grid((size, size, size), spacing),
        name="ellipsoid",
    )
