"""Stand-ins for tests of morph: an atlas that is the tiny patient's brain, a registration, a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy import ndimage

import engine
from engine import Anatomy
from engine.model import Model
from morph.answer import Personalization
from morph.inference import Brain
from morph.registration import Interpolation
from morph.volume import Volume
from tests.morph.conftest import AFFINE, make_arrays


class SamePlace:
    """A registration that finds patient and atlas on each other; both share one grid."""

    affine_scale = 1.25
    affine_stretch = 1.0

    def register(self, patient: Volume, atlas: Volume, ignore: np.ndarray) -> SamePlace:
        return self

    def to_atlas(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        return place_on(volume, like, interpolation)

    to_patient = to_atlas

    def points_to_atlas(self, points: np.ndarray) -> np.ndarray:
        return points

    points_to_patient = points_to_atlas


def place_on(volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
    voxels = volume.to_voxel(like.to_world(np.moveaxis(np.indices(like.array.shape), 0, -1)))
    order = {"linear": 1, "nearest": 0}[interpolation]
    return like.with_array(ndimage.map_coordinates(volume.array, np.moveaxis(voxels, -1, 0), order=order))


def tiny_anatomy(name: str = "tiny") -> Anatomy:
    t1 = make_arrays()["t1"]
    brain = (t1 > 0).astype(np.float32)
    return Anatomy(name, t1, 0.7 * brain, 0.3 * brain, 0 * brain, AFFINE)


def tiny_brain() -> Brain:
    """The tiny patient's brain as an atlas, on two grids of one cube."""
    anatomy = tiny_anatomy()
    coarse = engine.atlas.place(anatomy, engine.Grid((28, 28, 28), 5.0))
    fine = engine.atlas.place(anatomy, engine.Grid((56, 56, 56), 2.5))
    return Brain(anatomy, coarse, fine, None)


class KnowingNetwork:
    """Stands in for trained weights: always gives one answer."""

    is_distribution = False
    targets = SimpleNamespace(names=("mu1", "mu2", "origin_x", "origin_y", "origin_z"))
    files: tuple[Path, ...] = ()

    def __init__(self, grid: engine.Grid, content_hash: str, **changed: object) -> None:
        self.grid = grid
        self.metadata = {
            "name": "known",
            "model": "fisher_kolmogorov",
            "scheme": "converged",
            "physics_version": Model().physics_version,
            "atlas": {"name": "tiny", "content_hash": content_hash},
            **changed,
        }

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert images.shape == (1, *self.grid.shape)
        assert set(np.unique(images)) <= {np.float32(0), np.float32(0.333), np.float32(0.666) + np.float32(0.333)}
        return {"mu1": np.array([5.0]), "mu2": np.array([3.0]), "origin": np.array([[0.52, 0.42, 0.43]])}


def answer_with(density: Volume, **changed: object) -> Personalization:
    """An answer of which only the density, or what is named, matters."""
    blank: dict[str, object] = {
        "method": "fallback", "checks": (), "parameters": None, "origin_mm": None, "estimate": None, "found": None,
        "fit": None, "space": "patient", "scale": 1.0, "seconds": {"all": 1.0},
    }  # fmt: skip
    return Personalization(density, **(blank | changed))  # type: ignore[arg-type]
