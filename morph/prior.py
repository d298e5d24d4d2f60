"""What a tumor can be before anything is seen of it: the prior that data sets are generated from.

D, rho and T are uniform in their ranges, the origin is anywhere in tissue, and sizes have limits. These give way to a
visible core that is small or large: a tumor with at least half and at most twice its volume is always possible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine import PRIORS, Atlas
from engine.fisher_kolmogorov import is_in_tissue
from engine.sampling import Range
from morph.evidence import MU1_RANGE, MU2_RANGE

PRIOR = PRIORS["whole_brain"]
DENSE = 0.7
"""Density [1] that limits of size count."""


def possible_sizes(core: float) -> Range:
    """Volumes [ml at c >= 0.7] between which a tumor with a visible core of so many ml can be."""
    return min(PRIOR.size[0], 0.5 * core), max(PRIOR.size[1], 2 * core)


def log_prior(mu1: float, mu2: float, origin: NDArray[np.float64], atlas: Atlas) -> float:
    """Logarithm of the density of a tumor, up to a constant; -inf where it cannot be.

    Args:
        mu1: sqrt(D_w T) [mm].
        mu2: sqrt(rho T) [1].
        origin: fraction of the grid's extent, wherever that is, (3,).
        atlas: the brain.
    """
    bounded = MU1_RANGE[0] <= mu1 <= MU1_RANGE[1] and MU2_RANGE[0] <= mu2 <= MU2_RANGE[1]
    return float(PRIOR.log_density(mu1, mu2)) if bounded and is_in_tissue(atlas, origin.tolist()) else -np.inf
