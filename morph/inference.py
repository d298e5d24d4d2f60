"""The atlas with its trained network, and the network's answer to two masks on the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import GRIDS, Anatomy, Atlas, Grid, InputError, nearest_tissue, render_image
from engine.atlas import place
from engine.model import Model
from learn import Estimator, default_weights, load_weights
from morph.evidence import Estimate
from morph.volume import Volume

MODEL = "fisher_kolmogorov"
SCHEME = "converged"
"""What the pipeline simulates with; weights trained on anything else are refused."""
DRAWS = 500
"""From a network's distribution, to see how wide it is."""
HALF = 0.5
"""A coarse voxel belongs to a mask if at least half of it does, as a mean density would cross a threshold."""


@dataclass(frozen=True, eq=False)
class Brain:
    """The atlas in its three resolutions.

    Attributes:
        anatomy: native maps and T1, for the registration.
        coarse: for network and search.
        fine: for the final simulation.
        estimator: the network trained on `coarse`, or None to start from the masks alone.
    """

    anatomy: Anatomy
    coarse: Atlas
    fine: Atlas
    estimator: Estimator | None

    @property
    def t1(self) -> Volume:
        """The native T1."""
        return Volume(self.anatomy.t1, self.anatomy.affine)

    @property
    def maps(self) -> tuple[Volume, Volume, Volume]:
        """The native white matter, gray matter and CSF."""
        native = self.anatomy
        white, gray, csf = (Volume(m, native.affine) for m in (native.white_matter, native.gray_matter, native.csf))
        return white, gray, csf


def prepare_brain(anatomy: Anatomy, weights: str, fine: Grid = GRIDS["full"]) -> Brain:
    """Load the network and bring the anatomy onto its grid and the final one.

    Args:
        anatomy: native maps.
        weights: `auto` (the shipped ones), `none` (no network), or whatever `learn.load_weights` takes.
        fine: grid of the final simulation.

    Raises:
        InputError: no such weights, or weights that were trained for another model or another brain.
    """
    if weights == "none":
        return Brain(anatomy, place(anatomy, GRIDS["half"]), place(anatomy, fine), None)
    name = default_weights(MODEL, GRIDS["half"].shape) if weights == "auto" else weights
    estimator = load_weights(name)
    about = estimator.metadata
    if about["model"] != MODEL:
        raise InputError(f"the weights {name} were trained for the model {about['model']}: this pipeline needs {MODEL}")
    version = Model(MODEL).physics_version
    if about["scheme"] != SCHEME or about["physics_version"] != version:
        raise InputError(f"the weights {name} were trained on other physics than {SCHEME}, version {version}")
    missing = {"mu1", "mu2", "origin_x"} - set(estimator.targets.names)
    if missing:
        raise InputError(f"the weights {name} do not predict {', '.join(sorted(missing))}: give joint weights")
    coarse = place(anatomy, Grid(estimator.grid.shape, estimator.grid.spacing))
    if about["atlas"]["content_hash"] != coarse.content_hash:
        raise InputError(
            f"the weights {name} were trained on another brain ({about['atlas']['name']}) than {anatomy.name}: "
            "use that atlas, other weights, or weights=none"
        )
    return Brain(anatomy, coarse, place(anatomy, fine), estimator)


def majority(share: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which voxels of a simulation grid belong to a mask that fills this share of each, bool (x, y, z).

    Half of a voxel decides, as a voxel's mean density against a threshold does in training images. A mask too small
    for any majority keeps the voxel that it fills most.
    """
    return share >= min(HALF, float(share.max())) if share.max() > 0 else np.zeros(share.shape, dtype=bool)


def estimate_tumor(core: NDArray[np.bool_], edema: NDArray[np.bool_], brain: Brain) -> Estimate | None:
    """The network's answer to two masks on the coarse grid; None without a network, or if it is no possible tumor.

    A network that predicts a distribution answers with its mean and its spread.
    """
    if brain.estimator is None:
        return None
    image = render_image(core, edema, brain.coarse.tissue)
    answer = brain.estimator.predict(image[None])
    mu1, mu2, origin = float(answer["mu1"][0]), float(answer["mu2"][0]), answer["origin"][0]
    if not np.all(np.isfinite([mu1, mu2, *origin])) or min(mu1, mu2) <= 0:  # linear targets may come out negative
        return None
    spread = _spread(brain.estimator, image) if brain.estimator.is_distribution else None
    return Estimate(mu1, mu2, (float(origin[0]), float(origin[1]), float(origin[2])), spread=spread)


def _spread(estimator: Estimator, image: NDArray[np.float32]) -> tuple[float, ...] | None:
    """Of the distribution that a network predicts for one image, see `Estimate.spread`; None of no possible tumors."""
    drawn = estimator.sample(image[None], DRAWS)
    mu1, mu2, origins = drawn["mu1"][0], drawn["mu2"][0], drawn["origin"][0]
    possible = (mu1 > 0) & (mu2 > 0) & np.isfinite(origins).all(axis=1)
    if np.count_nonzero(possible) < DRAWS // 2:
        return None
    mu1, mu2 = mu1[possible], mu2[possible]
    columns = (np.log(mu1 * mu2), np.log(mu1 / mu2), *(origins[possible] * estimator.grid.extent).T)
    return tuple(float(column.std()) for column in columns)


def distance_to_tissue(estimate: Estimate, atlas: Atlas) -> float:
    """How far [mm] an estimate's origin lies from the nearest place where it can be one."""
    moved = np.asarray(nearest_tissue(estimate.origin, atlas)) - np.asarray(estimate.origin)
    return float(np.linalg.norm(moved * atlas.grid.extent))
