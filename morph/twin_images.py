"""What is seen of a digital twin: images with the tumor in them, and outlines as people and programs draw them.

The images serve the checks, which compare masks with images; their contrasts are rough. Every outline is moved along
its normal by a smooth random field, so that neighboring places err together. With 1 mm of standard deviation the Dice
between drawn and true outline is .93-.96 on four twins of 16-296 ml; two readers of a real tumor agree less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from morph.outlines import signed_distance
from morph.tissue import Tissue
from morph.volume import Volume

DEVIATION = 1.0
"""Standard deviation [mm] of the drawn outline about the true one (ours: a voxel of BraTS)."""
CORRELATION = 4.0
"""Gauss [mm] of the field that moves it: an error spans about a centimeter (ours)."""
T1_IN_CORE, T1_IN_EDEMA = 0.6, 0.85
"""What a tumor leaves of the T1's intensity (ours)."""
ENHANCEMENT = 1.2
"""Intensity of the core on T1Gd in units of the brightest healthy T1 (ours)."""
FLAIR = {"white_matter": 80.0, "gray_matter": 100.0, "csf": 20.0, "edema": 170.0}
"""Intensities on FLAIR (ours)."""


def draw_outline(
    mask: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    rng: np.random.Generator,
    deviation: float = DEVIATION,
    correlation: float = CORRELATION,
) -> NDArray[np.bool_]:
    """The mask with its outline moved, bool (x, y, z).

    Args:
        mask: the true one; an empty one stays empty.
        spacing: voxel edges [mm].
        rng: decides where.
        deviation: standard deviation of the move [mm].
        correlation: Gauss of the field that moves it [mm].
    """
    field = ndimage.gaussian_filter(rng.standard_normal(mask.shape), correlation / spacing)
    if not mask.any():
        return mask
    return np.asarray(signed_distance(mask, spacing) + deviation * field / field.std() > 0)


def paint_images(t1: Volume, tissue: Tissue, core: NDArray[np.bool_], edema: NDArray[np.bool_]) -> dict[str, Volume]:
    """T1, T1Gd (`t1ce`) and FLAIR of a brain with a tumor.

    Args:
        t1: of the healthy brain.
        tissue: its maps.
        core: true core, bool (x, y, z).
        edema: true edema, core included.
    """
    dark = np.where(core, T1_IN_CORE, np.where(edema, T1_IN_EDEMA, 1.0))
    white, gray, csf = (m.array for m in tissue.maps)
    flair = white * FLAIR["white_matter"] + gray * FLAIR["gray_matter"] + csf * FLAIR["csf"]
    brain, bright = t1.array > 0, float(np.quantile(t1.array[t1.array > 0], 0.99))
    contrast = np.where(core, ENHANCEMENT * bright, t1.array * dark)
    return {
        "t1": t1.with_array(t1.array * dark),
        "t1ce": t1.with_array(np.where(brain, contrast, 0)),
        "flair": t1.with_array(np.where(brain, np.where(edema, FLAIR["edema"], flair), 0)),
    }
