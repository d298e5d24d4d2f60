"""A known tumor in the tiny brain, as the posterior's tests see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine import Atlas, simulate
from morph.evidence import Estimate, Evidence
from morph.inference import majority
from morph.outlines import Drawn
from morph.resample import average_onto
from morph.scene import Scene
from morph.twin_images import draw_outline
from morph.volume import Volume
from tests.morph.same_place import tiny_brain

TRUTH = Estimate(7.0, 4.0, (0.44, 0.47, 0.5))
THRESHOLDS = (0.7, 0.2)


def draw_masks(density: np.ndarray, atlas: Atlas) -> tuple[Volume, Volume]:
    """Core and edema of a tumor with errors of 1 mm."""
    rng, spacing = np.random.default_rng(0), np.full(3, atlas.grid.spacing)
    core, edema = (draw_outline((density >= t) & atlas.tissue, spacing, rng) & atlas.tissue for t in THRESHOLDS)
    seen = [mask.astype(np.float32) for mask in (core, core | edema)]
    return Volume(seen[0], atlas.grid.affine), Volume(seen[1], atlas.grid.affine)


def with_gray_right_of_origin(atlas: Atlas) -> Atlas:
    """The same brain with gray matter to the right of the known tumor's origin, and white to the left."""
    across = (np.arange(atlas.grid.shape[0]) + 0.5) / atlas.grid.shape[0]
    gray = np.where((across > TRUTH.origin[0])[:, None, None], atlas.tissue, 0).astype(np.float32)
    return replace(atlas, white_matter=atlas.tissue - gray, gray_matter=gray)


def all_white(atlas: Atlas) -> Atlas:
    """The same brain with white matter only."""
    return replace(atlas, white_matter=1.0 * atlas.tissue, gray_matter=0.0 * atlas.tissue)


def known_scene(seen_in: tuple[Atlas, Atlas] | None = None, grown_in: Atlas | None = None) -> Scene:
    """The tiny atlas with the masks of a known tumor, solved on the fine grid and drawn with errors of 1 mm.

    Args:
        seen_in: brain on the coarse and the fine grid that is taken for the tumor's; the tiny one by default.
        grown_in: brain on the fine grid that it grew in; likewise.
    """
    brain = tiny_brain()
    coarse, fine = seen_in or (brain.coarse, brain.fine)
    density = simulate([TRUTH.parameters()], grown_in or brain.fine).density[0]
    drawn = draw_masks(density, fine)
    on_coarse = [majority(average_onto(mask, coarse.grid)) for mask in drawn]

    def deliver(values: np.ndarray) -> Volume:
        return Volume(values.copy(), fine.grid.affine)

    evidence = Evidence(*on_coarse, coarse), Evidence(*(m.array > 0 for m in drawn), fine)
    return Scene(
        "patient", *evidence, Drawn(*drawn, fine.tissue), 1.0, deliver,
        lambda points: points, lambda found: found, lambda found: found,
    )  # fmt: skip
