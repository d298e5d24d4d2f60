"""A known tumor in the tiny brain, as the posterior's tests see it."""

from __future__ import annotations

import numpy as np

from engine import simulate
from morph.evidence import Estimate, Evidence
from morph.outlines import Drawn
from morph.scene import Scene
from morph.volume import Volume
from tests.morph.same_place import tiny_brain

TRUTH = Estimate(7.0, 4.0, (0.44, 0.47, 0.5))
THRESHOLDS = (0.7, 0.2)


def known_scene() -> Scene:
    """The tiny atlas with the masks of a known tumor, solved on the fine grid."""
    brain = tiny_brain()
    coarse, fine = brain.coarse, brain.fine
    density = simulate([TRUTH.parameters()], fine).density[0]
    drawn = [Volume((density >= t).astype(np.float32), fine.grid.affine) for t in THRESHOLDS]
    on_coarse = [simulate([TRUTH.parameters()], coarse).density[0] >= t for t in THRESHOLDS]

    def deliver(values: np.ndarray) -> Volume:
        return Volume(values.copy(), fine.grid.affine)

    evidence = Evidence(*on_coarse, coarse), Evidence(*(m.array > 0 for m in drawn), fine)
    return Scene(
        "patient", *evidence, Drawn(*drawn, fine.tissue), 1.0, deliver,
        lambda points: points, lambda found: found, lambda found: found,
    )  # fmt: skip
