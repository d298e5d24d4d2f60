"""What a scanner shows of a tumor: threshold masks, and the one image that the network sees.

core y_T1Gd = c >= t_core; edema y_FLAIR = c >= t_edema (core included);
image = 0.666 y_T1Gd + 0.333 y_FLAIR, so its values are 0, 0.333 and 0.999.

Source: Ezhov et al., Learn-Morph-Infer (2023), section 2.3, and the authors' code for the weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CORE_THRESHOLD_RANGE = (0.5, 0.85)
EDEMA_THRESHOLD_RANGE = (0.05, 0.5)
"""Densities [1] at which T1Gd and FLAIR begin to show tumor; drawn uniformly and independently (the paper's)."""
CORE_WEIGHT = 0.666
EDEMA_WEIGHT = 0.333


def observe(
    density: NDArray[np.floating], core_threshold: float, edema_threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The masks (core, edema) of a density c [1] of any shape; the edema mask includes the core."""
    return density >= core_threshold, density >= min(edema_threshold, core_threshold)


def render_image(core: NDArray[np.bool_], edema: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The network's input from two masks, float32, the same shape; 0 outside `tissue`."""
    visible = np.where(core, np.float32(CORE_WEIGHT), np.float32(0)) + np.where(
        core | edema, np.float32(EDEMA_WEIGHT), np.float32(0)
    )
    return np.where(tissue, visible, np.float32(0))
