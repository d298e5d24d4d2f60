"""Pictures of a data set. The only place of this package that imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.atlas import Atlas
from engine.errors import InputError
from engine.rows import VOLUME_THRESHOLDS
from engine.store import Store

COLUMNS, LINES = 6, 4
"""Of the mosaic."""
CONTOURS = (0.1, 0.7)
"""Densities [1] with a line: about where FLAIR's edema and T1Gd's core end."""
SIZE = 0.7
"""Density [1] by whose volume the mosaic is ordered."""
DPI = 110


def draw_histograms(quantities: Mapping[str, tuple[NDArray[np.float64], str]], path: Path) -> None:
    """One histogram a quantity; `quantities`: values and unit by name."""
    lines = -(-len(quantities) // 4)
    figure = Figure(figsize=(11, 2.5 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, 4)).ravel()
    for axis in axes[len(quantities) :]:
        axis.set_axis_off()
    for axis, (name, (values, unit)) in zip(axes, quantities.items(), strict=False):
        axis.hist(values, bins=40, color="#4477aa")
        axis.axvline(float(np.median(values)), color="black", linewidth=1)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(unit, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=DPI)


def draw_mosaic(store: Store, rows: NDArray[np.intp], path: Path) -> None:
    """Axial slices through the origins of samples spread over all sizes, the smallest first."""
    sizes = store.volumes[rows, VOLUME_THRESHOLDS.index(SIZE)]
    order = rows[np.argsort(sizes, kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, COLUMNS * LINES).round().astype(int))]
    lines = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS, 2.25 * lines), layout="constrained", facecolor="black")
    axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    try:
        atlas: Atlas | None = store.load_atlas()
    except InputError:
        atlas = None  # the tumors are shown without their brain
    for axis in axes:
        axis.set_axis_off()
    for axis, row in zip(axes, chosen, strict=False):
        density, tumor = store.density(int(row)), store.row_parameters(int(row))
        z = int(np.clip(round(float(store.grid.to_voxel(tumor.origin)[2])), 0, density.shape[2] - 1))
        if atlas is not None:
            tissue = 0.75 * atlas.white_matter[..., z] + 0.45 * atlas.gray_matter[..., z] + 0.15 * atlas.csf[..., z]
            axis.imshow(tissue.T, origin="lower", cmap="gray", vmin=0, vmax=1)
        shown = density[..., z].T
        axis.imshow(np.ma.masked_less(shown, 0.01), origin="lower", cmap="inferno", vmin=0, vmax=1, alpha=0.75)
        axis.contour(shown, levels=[c for c in CONTOURS if c < shown.max()], colors="white", linewidths=0.6)
        volume = store.volumes[row, VOLUME_THRESHOLDS.index(SIZE)]
        label = f"{row}: {volume:.0f} ml, mu1 {tumor.mu1:.1f} mm, mu2 {tumor.mu2:.1f}"
        axis.set_title(label, fontsize=6.5, color="white")
    figure.savefig(path, dpi=DPI)
