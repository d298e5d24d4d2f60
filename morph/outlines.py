"""How probable the two observed outlines are if a simulated tumor is the true one.

An outline is drawn with errors, and a model's front is never quite where the tumor's is. Let d [mm] be the distance
from the simulated front to the observed outline along it, and S the integral of d² over the outline. Where the errors
have standard deviation s, an outline that is as good as n independent observations has
-2 log L = n S / (area s²) + n log s². Errors that go together over a length make n grow with the area as far as the
mean of d² is concerned. But a tumor's numbers move few, smooth modes of an outline: how large it is, where it lies. On
a large one most of n is in other modes; on a small one, where smooth errors are nearly the same everywhere, place and
shape are known better than n says. So n is the same for all outlines, but for small areas (`PATCH`).

S needs no front: it is twice the integral of the distance to the outline over the tissue that is inside one and outside
the other. Where an outline follows the edge of tissue it says nothing: that part of its area does not count, nor does a
thin sheet of tissue that it leaves along the edge, for in what is not tissue nothing weighs against it. And where core
and edema share an outline, the edema's was drawn there or was pushed out by the core's, which belongs to it: it only
says that the edema ends there or before. Taken at their word such outlines lie too far apart.

How large s is, nobody knows; with a flat prior of log s², L = (S + S_0)^(-n / 2), where S_0 stands for errors that no
outline is without: those of voxels and of the grid. So the misfit that remains widens the answer by itself. Counting
observations instead of modeling how errors go together makes it a working likelihood: `benches/calibration.py` and
`benches/twins.py` hold it against known tumors.

The densities at which T1Gd and FLAIR begin to show tumor are uniform in their ranges and independent, and L is their
mean over both.

Source: ours; the flat prior of a logarithm is Jeffreys'.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logsumexp

from engine import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, Atlas
from engine.sampling import Range
from morph.evidence import THRESHOLD_STEP
from morph.resample import average_onto, bounding_box
from morph.volume import Volume

LEAST_ERROR = 0.36
"""Standard deviation [mm] that no outline is without: sets S_0 (ours: ten tumors of the atlas at 3.6 mm against 1.8 mm,
after `morph.space_mapping`, were .2 to .5 mm off on average)."""
PATCH = 50.0
"""n is at most the area over this [mm²]: what the edge of tissue leaves free of an outline may say little (ours)."""
ISOTROPIC = 0.1
"""Difference of voxel edges, as a share of the shortest, up to which voxels count as cubes (ours)."""
FAR = np.float32(100.0)
"""Distance [mm] beyond which an outline counts as this far."""
SHEET = 2.5
"""Tissue between an outline and the edge of tissue, or between two parts of it, that is thinner [mm] says nothing
(ours: the outlines of digital twins are drawn with errors of 1 mm)."""
LEAST = 1e-3
"""Share of a voxel from which on what is in it counts."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn of a tumor, and the tissue under it, on one grid.

    Attributes:
        core: mask, (x, y, z), not empty; `edema` has the core in it.
        matter: where there is tissue, bool (x, y, z).
    """

    core: Volume
    edema: Volume
    matter: NDArray[np.bool_]

    @cached_property
    def distances(self) -> tuple[NDArray, NDArray]:
        """To the outlines of core and edema [mm], (x, y, z) each: every grid that they are brought onto needs them."""
        core, edema = (_distance_to(m.array > 0, self.matter, m.spacing) for m in (self.core, self.edema))
        return core, edema

    @cached_property
    def hidden(self) -> NDArray[np.bool_]:
        """Inside the edema, where the nearest part of its outline is the core's as well; bool (x, y, z)."""
        return _hidden(self.core.array > 0, self.edema.array > 0, self.core.spacing)


@dataclass(frozen=True, eq=False)
class Outline:
    """One observed outline on the tissue of a grid.

    Attributes:
        distance: to the outline [mm], positive inside, 0 where nothing is known, (n,) over the tissue voxels.
        thresholds: densities at which it may have been seen, (m,).
        observations: n, independent ones that it is taken to be worth.
        floor: S_0 [mm⁴].
        voxel_volume: [mm³].
    """

    distance: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    observations: float
    floor: float
    voxel_volume: float

    @property
    def volume(self) -> float:
        """Of the tissue inside [ml]."""
        return float(np.count_nonzero(self.distance > 0)) * self.voxel_volume / 1000

    @cached_property
    def depth_sum(self) -> float:
        """Sum of the distances of all tissue inside [mm]."""
        return float(np.maximum(self.distance, 0).sum())

    def misfits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """S [mm⁴] of a density (n,) cut at each of the thresholds, (m,)."""
        count = len(self.thresholds)
        step = self.thresholds[1] - self.thresholds[0]
        present = np.flatnonzero(values >= self.thresholds[0] - step)
        reached = np.floor((values[present] - self.thresholds[0]) / step + 1e-5).astype(np.int64) + 1
        inside = np.bincount(np.clip(reached, 0, count), self.distance[present], count + 1)[::-1].cumsum()[::-1][1:]
        return np.asarray(2 * self.voxel_volume * (self.depth_sum - inside))  # missed inside, and reached outside

    def log_likelihoods(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithmic L at each of the thresholds, (m,)."""
        return -0.5 * self.observations * np.log((self.misfits(values) + self.floor) / self.floor)


@dataclass(frozen=True, eq=False)
class Judgment:
    """What the outlines say of one simulated tumor.

    Attributes:
        log_likelihood: with the thresholds averaged over.
        core: log likelihood of the core's outline at each of its thresholds, (m,); `edema` likewise.
        density: the tumor's, over the tissue of the grid that is meant, (n,); None of those that cannot be, or that
            only show on another grid where to look.
    """

    log_likelihood: float
    core: NDArray[np.float64]
    edema: NDArray[np.float64]
    density: NDArray[np.float16] | None = None


class Outlines:
    """Both outlines of a patient on one grid."""

    def __init__(self, drawn: Drawn, atlas: Atlas, observations: float) -> None:
        """Bring two masks onto the tissue of a grid.

        Args:
            drawn: in the world of `atlas`.
            atlas: the brain that tumors are simulated in.
            observations: n, of each outline; fewer are less sure.
        """
        self.atlas = atlas
        core, edema = drawn.distances
        self.core = _outline(drawn, core, np.zeros_like(drawn.hidden), atlas, CORE_THRESHOLD_RANGE, observations)
        self.edema = _outline(drawn, edema, drawn.hidden, atlas, EDEMA_THRESHOLD_RANGE, observations)

    def judge(self, values: NDArray[np.float32]) -> Judgment:
        """A density over the tissue of the grid, (n,)."""
        core, edema = self.core.log_likelihoods(values), self.edema.log_likelihoods(values)
        total = sum(float(logsumexp(logs)) - np.log(len(logs)) for logs in (core, edema))
        return Judgment(total, core, edema)


def signed_distance(mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance [mm] of voxel centers to a mask's outline, positive inside, float32 (x, y, z).

    Args:
        mask: neither empty nor everything.
        spacing: voxel edges [mm], (3,).
    """
    box = bounding_box(mask, 1)  # what is nearest to the inside lies there
    outside, to_outside = _distance_and_step(~mask, spacing)
    inside, to_inside = _distance_and_step(mask[box], spacing)
    distance = np.asarray(to_outside - outside, dtype=np.float32)
    distance[box][mask[box]] = (inside - to_inside)[mask[box]]
    return distance


def _distance_and_step(mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[NDArray, NDArray | float]:
    """Distance [mm] to the nearest voxel center outside a mask, and the part of it beyond the face between both."""
    if np.ptp(spacing) <= ISOTROPIC * np.min(spacing):
        return ndimage.distance_transform_edt(mask, sampling=spacing), 0.5 * float(np.min(spacing))
    distance, nearest = ndimage.distance_transform_edt(mask, sampling=spacing, return_indices=True)
    way = (nearest - np.indices(mask.shape)) * spacing[:, None, None, None]
    step = np.linalg.norm(way * spacing[:, None, None, None], axis=0)
    return distance, 0.5 * np.divide(step, distance, out=np.zeros_like(distance), where=distance > 0)


def _distance_to(mask: NDArray[np.bool_], matter: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray:
    """Distance to a mask's outline [mm], (x, y, z), at most `FAR`; 0 where the outline says nothing."""
    distance = np.clip(signed_distance(mask, spacing), -FAR, FAR)
    distance[(distance >= -SHEET) & _sheets(mask, matter & ~mask, spacing)] = 0
    return distance


def _mean_on(distance: NDArray, drawn: Drawn, atlas: Atlas) -> NDArray[np.float64]:
    """Mean of a distance [mm] in every tissue voxel of a grid, (n,); far away where no image is.

    The mean is taken over the tissue of the image; where it has none, nothing is known, and the distance is 0.
    """
    fields = (drawn.matter * distance, drawn.matter, np.ones_like(distance))
    total, held, seen = (average_onto(drawn.core.with_array(f), atlas.grid)[atlas.tissue] for f in fields)
    elsewhere = np.where(seen > LEAST, 0, -FAR)
    return np.divide(total, held, out=elsewhere, where=held > LEAST).astype(np.float64)


def _hidden(core: NDArray[np.bool_], edema: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the nearest part of the edema's outline is the core's as well, inside the edema; bool (x, y, z)."""
    box = bounding_box(edema, 1)
    beside = ndimage.binary_dilation(core[box], np.ones((3, 3, 3)))
    nearest = ndimage.distance_transform_edt(edema[box], spacing, return_distances=False, return_indices=True)
    hidden = np.zeros_like(edema)
    hidden[box] = edema[box] & beside[tuple(nearest)]
    return hidden


def _sheets(mask: NDArray[np.bool_], beyond: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tissue around a mask in which no ball with a diameter of `SHEET` fits, bool (x, y, z), to half a voxel."""
    box = bounding_box(mask, int(np.ceil(3 * SHEET / spacing.min())))
    depth, to_face = _distance_and_step(beyond[box], spacing)
    middles = depth - to_face >= SHEET / 2
    away, to_face = _distance_and_step(~middles, spacing)
    sheets = np.zeros_like(mask)
    sheets[box] = beyond[box] & ((away - to_face > SHEET / 2) | ~middles.any())
    return sheets


def _outline(
    drawn: Drawn, away: NDArray, hidden: NDArray[np.bool_], atlas: Atlas, bounds: Range, observations: float
) -> Outline:
    """The outline that is so far `away` [mm], on the tissue of a grid; what is `hidden` may lie inside or outside."""
    count = round((bounds[1] - bounds[0]) / THRESHOLD_STEP) + 1
    spacing = atlas.grid.spacing
    distance = _mean_on(away, drawn, atlas)
    area = _area(distance, spacing)
    if hidden.any():
        distance = _mean_on(np.where(hidden, 0, away), drawn, atlas)
    floor = max(area, spacing**2) * LEAST_ERROR**2
    worth = max(min(observations, area / PATCH), 1.0)
    return Outline(distance, np.linspace(*bounds, count), worth, floor, spacing**3)


def _area(distance: NDArray[np.float64], spacing: float) -> float:
    """Area [mm²] of an outline, read off the shell of tissue beyond it: where tissue ends, no front can be seen."""
    beyond = float(np.count_nonzero((distance < 0) & (distance > -spacing))) * spacing**2
    within = float(np.count_nonzero((distance > 0) & (distance < spacing))) * spacing**2
    radius = np.sqrt((beyond + within) / 2 / (4 * np.pi))  # of a ball: the middle of its shell is half a voxel out
    return float(beyond / (1 + spacing / (2 * radius)) ** 2) if radius > 0 else 0.0
