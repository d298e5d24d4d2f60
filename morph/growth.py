"""How the tumors of a patient are grown: in which brain, and when a simulation is given up.

The first model grows them in the brain as it is seen. The mass-effect model grows them in the brain as it was before
they pushed it, and what it gives is compared with what is seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from engine import Atlas, SimulationResult, simulate
from engine.parameters import Parameters


def grow(
    tumors: Sequence[Parameters], anatomy: Atlas, stop_volume: float | None = None, accuracy: float = 1.0
) -> SimulationResult:
    """Simulate a batch without a warning of folds: that is a check's business.

    Args:
        tumors: of one model.
        anatomy: the brain that they start in.
        stop_volume: volume [ml at c >= 0.7] beyond which a simulation is given up.
        accuracy: time steps are this many times shorter than the default's.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the displacement folds", UserWarning)
        return simulate(tumors, anatomy, stop_volume=stop_volume, accuracy=accuracy)
