"""Tumors whose truth is known, in the atlas, with outlines and anatomy as they are known of a patient.

A tumor of the prior grows in a brain that is the atlas moved by the errors of a registration. What is known of that
brain is what a patient's registration and T1 tell (`morph.tissue`): outside the visible tumor the T1 decides, with the
misplaced atlas as its prior, inside there is the misplaced atlas alone, or white matter throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, Atlas, Grid, random_stream
from engine.acceptance import accept_rows
from engine.backends import choose_backend
from morph.displacement import at_points, moved_volume
from morph.inference import Brain
from morph.outlines import Drawn
from morph.prior import PRIOR
from morph.resample import bounding_box, cut, resample, spread_density
from morph.scene import atlases_of
from morph.tissue import Tissue, classify, normalized, show_tumor_as_tissue, show_tumor_as_white_matter
from morph.twin import SMALLEST_CORE
from morph.twin_images import DEVIATION, draw_outline
from morph.volume import Volume

DRAWN = 2
"""Voxels of a drawn outline along the edge of one of the full grid: 0.9 mm."""
MARGIN = 30.0
"""Image [mm] around the largest edema that can be seen; tissue beyond it counts as far outside."""
MISPLACED = 1.5
"""Standard deviation [mm] along each axis of what the registration gets wrong (ours: the white matter and the misplaced
one then have a Dice of .83-.85, as the registered and the patient's own on a real patient)."""
SMOOTH = 10.0
"""Gauss [mm] of these errors (ours)."""
ROOM = 8
"""Voxels around the atlas' brain that a moved one stays in (ours)."""
ERRORS = 1
"""Counter of their random stream."""


@dataclass(frozen=True, eq=False)
class Case:
    """A known tumor and what is known of it.

    Attributes:
        truth: its numbers, origin in the world [mm].
        drawn: its outlines, and the tissue under them as it is known.
        anatomies: on the half and the full grid, each of the guesses that a patient's search makes.
    """

    truth: dict[str, float]
    drawn: Drawn
    anatomies: list[tuple[Atlas, Atlas]]


def make_case(seed: int, number: int, settings: dict[str, Any], brain: Brain) -> Case:
    """Grow a tumor and look at it.

    Args:
        seed: equal seeds and numbers make equal cases.
        number: of the case.
        settings: `anatomy` (registered or known), `observations` and `correlation` as in `benches/calibration.py`.
        brain: the atlas.
    """
    known = settings["anatomy"] == "known"
    t1, tissue = (None, None) if known else misplace(brain, random_stream(seed, number, ERRORS))
    factor = round(brain.coarse.grid.spacing / brain.fine.grid.spacing)
    true = brain.fine if tissue is None else atlases_of(tissue, brain.fine.grid, factor)[1]
    row = accept_rows(range(number, number + 1), seed, "converged", true, PRIOR, choose_backend("cpu"))[0][0]
    drawn, thresholds = draw(row["density"].astype(np.float32), true, random_stream(seed, number), settings)
    tumor, origin = row["parameters"], true.grid.to_world(row["parameters"].origin)
    truth = {"mu1": tumor.mu1, "mu2": tumor.mu2} | {f"origin_{axis}": float(origin[i]) for i, axis in enumerate("xyz")}
    truth |= {"core_threshold": thresholds[0], "edema_threshold": thresholds[1]}
    if t1 is None:
        return Case(truth, drawn, [(brain.coarse, brain.fine)])
    anatomies = [atlases_of(guess, brain.fine.grid, factor) for guess in see_as_a_patients(t1, drawn, brain)]
    return Case(truth, replace(drawn, matter=matter_of(anatomies[0][1], drawn.core)), anatomies)


def misplace(brain: Brain, rng: np.random.Generator) -> tuple[Volume, Tissue]:
    """T1 and tissue of the brain whose registration finds the atlas: the atlas moved by a smooth field."""
    grid = brain.fine.grid
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(grid.shape), SMOOTH / grid.spacing) for _ in "xyz"])
    field *= MISPLACED / field[:, brain.fine.brain].std()
    t1, *maps = around_the_brain(brain)
    vectors = at_points(field.astype(np.float32), grid, t1.affine, t1.array.shape)
    t1, white, gray, csf = (moved_volume(volume, vectors) for volume in (t1, *maps))
    return t1, normalized((white, gray, csf), t1.array > 0, "truth")


def around_the_brain(brain: Brain) -> list[Volume]:
    """The atlas' T1 and maps, cut to where the brain is and can be moved."""
    box = bounding_box(brain.t1.array > 0, ROOM)
    return [cut(volume, box) for volume in (brain.t1, *brain.maps)]


def see_as_a_patients(t1: Volume, drawn: Drawn, brain: Brain) -> list[Tissue]:
    """What T1 and misplaced atlas tell of a brain: each of the guesses that a patient's search makes."""
    inside = t1.array > 0
    visible = (resample(drawn.edema, t1, 0).array > 0.5) & inside
    white, gray, csf = around_the_brain(brain)[1:]
    seen = classify(t1, normalized((white, gray, csf), inside, "atlas"), visible)
    tissue = show_tumor_as_tissue(seen, visible)
    return [tissue, show_tumor_as_white_matter(tissue, visible)]


def matter_of(atlas: Atlas, image: Volume) -> np.ndarray:
    """Where an image that is drawn on has this brain's tissue."""
    start = np.round(atlas.grid.to_voxel(atlas.grid.from_world(image.affine[:3, 3]))).astype(int)
    box = tuple(slice(s, s + n // DRAWN) for s, n in zip(start, image.array.shape, strict=True))
    return np.kron(atlas.tissue[box], np.ones((DRAWN,) * 3, dtype=bool))


def draw(
    density: np.ndarray, atlas: Atlas, rng: np.random.Generator, settings: dict[str, Any]
) -> tuple[Drawn, tuple[float, float]]:
    """Core and edema as they would be drawn, and the thresholds that show them; again while the core is too small."""
    grid = atlas.grid
    box = bounding_box((density >= EDEMA_THRESHOLD_RANGE[0]) & atlas.tissue, round(MARGIN / grid.spacing))
    corner = np.array(grid.corner) + grid.spacing * np.array([side.start for side in box])
    shape = tuple(DRAWN * (side.stop - side.start) for side in box)
    drawn = Grid(shape, grid.spacing / DRAWN, tuple(corner))
    blank = Volume(np.zeros(shape, dtype=np.float32), drawn.affine)
    dense = spread_density(density, atlas.tissue, grid, blank).array
    inside = matter_of(atlas, blank)
    while True:
        thresholds = float(rng.uniform(*CORE_THRESHOLD_RANGE)), float(rng.uniform(*EDEMA_THRESHOLD_RANGE))
        core, edema = (move((dense >= threshold) & inside, blank, rng, settings) & inside for threshold in thresholds)
        if core.sum() * blank.voxel_volume >= SMALLEST_CORE:
            return Drawn(blank.with_array(core), blank.with_array(core | edema), inside), thresholds


def move(mask: np.ndarray, blank: Volume, rng: np.random.Generator, settings: dict[str, Any]) -> np.ndarray:
    """A mask with its outline drawn with errors.

    Errors that go together over a Gauss g make 4 pi g² of an outline one observation: g is r / sqrt(n) on a ball.
    """
    radius = (3 * mask.sum() * np.prod(blank.spacing) / (4 * np.pi)) ** (1 / 3)
    matched = radius / np.sqrt(settings["observations"])
    correlation = matched if settings["correlation"] is None else settings["correlation"]
    return draw_outline(mask, blank.spacing, rng, DEVIATION, correlation)
