"""The engine's scheme written as plainly as possible: float64 NumPy over the brain's box, no blocks.

The tests hold the engine equal to it, and the benchmark times the engine against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine import Atlas, FisherKolmogorovParameters
from engine.fisher_kolmogorov import seed_density
from engine.kernels.fisher_kolmogorov import CUTOFF
from engine.time_steps import schedule


def solve(parameters: FisherKolmogorovParameters, atlas: Atlas) -> NDArray[np.float64]:
    """Density at the end, float64 (x, y, z)."""
    times = schedule(parameters, atlas.grid.spacing)
    box = atlas.bounding_box()
    c = np.pad(seed_density(atlas, parameters.origin)[box].astype(np.float64), 1)
    mobility = np.pad(np.where(atlas.tissue, atlas.white_matter + 0.1 * atlas.gray_matter, 0.0)[box], 1)
    faces = [_faces(mobility, axis) for axis in range(3)]
    c = _react(c, times.first)
    for (a, b), decay, ahead in zip(times.weights, times.decays, times.ahead, strict=True):
        y = c + a * _divergence(c, faces)
        c = c + b * _divergence(y, faces)
        c = _react(c, decay)
        if ahead > 0:
            c[c < CUTOFF] = 0
    density = np.zeros(atlas.grid.shape)
    density[box] = c[1:-1, 1:-1, 1:-1]
    return density


def _react(c: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    return c / (c + (1 - c) * decay) if decay != 1 else c


def _divergence(c: NDArray[np.float64], faces: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    net = np.zeros_like(c)
    for axis, face in enumerate(faces):
        flux = face * (np.roll(c, -1, axis) - c)
        net += flux - np.roll(flux, 1, axis)
    return net


def _faces(mobility: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    other = np.roll(mobility, -1, axis)
    is_open = (mobility > 0) & (other > 0)
    return np.where(is_open, 2 * mobility * other / np.where(is_open, mobility + other, 1), 0)
