"""Does the T1 lie the way its affine says, to quarter turns and mirror images?

A turned brain registers well enough to pass for a tilted one.

Both brains are cut to their bounding boxes and shrunk to a small cube, tumor left out. The patient's cube must
correlate better with the atlas as it is than with the atlas turned or mirrored in any of the other ways; left and
right are too alike to tell, so that mirror image is not among them.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from morph.volume import Volume

EDGE = 32
"""Voxels along an edge of the cube: about 5 mm each (ours)."""


def orientation_margin(patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> float:
    """Correlation of the two T1 as they lie, less the best in any other orientation.

    Args:
        patient: skull-stripped T1, RAS axes by its affine.
        atlas: skull-stripped T1, RAS axes.
        ignore: voxels of the patient that are not compared, bool (x, y, z).

    Returns:
        A number in [-2, 2]: 0.07 to 0.15 for brains that lie right (five patients and MNI152), and -0.07 or less for
        the same in any of the other 46 orientations.
    """
    ours, theirs = _shrink(patient.array, patient), _shrink(atlas.array, atlas)
    seen = _shrink(ignore.astype(np.float32), patient) < 0.5
    scores = {
        (order, mirrored): _correlation(ours, np.flip(theirs.transpose(order), mirrored), seen)
        for order in permutations(range(3))
        for mirrored in (tuple(a for a in range(3) if signs[a]) for signs in product((False, True), repeat=3))
    }
    straight = scores.pop(((0, 1, 2), ()))
    scores.pop(((0, 1, 2), (0,)))
    return straight - max(scores.values())


def _shrink(values: NDArray[np.float32], brain: Volume) -> NDArray[np.float64]:
    """Values within the brain's bounding box, smoothed and resampled to the cube."""
    present = np.argwhere(brain.array > 0)
    box = tuple(slice(a, b) for a, b in zip(present.min(axis=0), present.max(axis=0) + 1, strict=True))
    cut = values[box].astype(np.float64)
    smooth = ndimage.gaussian_filter(cut, np.array(cut.shape) / EDGE / 2)
    return ndimage.zoom(smooth, EDGE / np.array(cut.shape), order=1, mode="nearest", grid_mode=True)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64], seen: NDArray[np.bool_]) -> float:
    a, b = first[seen], second[seen]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
