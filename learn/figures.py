"""Figures of an evaluation. The only place of this package that imports matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray
from scipy.stats import binom

from engine import Atlas, Store, simulate
from learn.comparison import Columns, Evaluation
from learn.dataset import fixed_thresholds
from learn.metrics import DICE_THRESHOLDS

DPI = 110
MU1_TICKS, MU2_TICKS = (3, 5, 10, 20, 40), (3, 4, 5, 7, 10, 15)
LOWEST = 0.01
"""Densities [1] below are not painted."""
BRIGHTNESS = {"white_matter": 0.75, "gray_matter": 0.45, "csf": 0.15}
"""Of the tissues behind a density."""
RANK_BINS = 10
"""Of a rank histogram."""
OUTLIER = 0.98
"""Quantile of the errors at which the color scale ends."""


def draw_errors(evaluation: Evaluation, store: Store, path: Path) -> None:
    """Error of the simulated answers over the true mu1 and mu2, seen from above and in 3-D (the paper's figure 5)."""
    mu1, mu2 = (store.parameters[name][evaluation.rows] for name in ("mu1", "mu2"))
    error, overlap = evaluation.scores["mae_symmetric"], 1 - evaluation.scores["dice_0.1"]
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    for place, (values, title) in enumerate(
        ((error, "mean absolute error where either tumor is"), (overlap, "1 - Dice at c = 0.1")), start=1
    ):
        axis = figure.add_subplot(1, 3, place)
        points = axis.scatter(mu1, mu2, c=values, s=9, cmap="viridis", vmin=0, vmax=_top(values))
        axis.set(xlabel="true mu1 [mm]", ylabel="true mu2 [1]", title=title, xscale="log", yscale="log")
        for side, ticks in ((axis.xaxis, MU1_TICKS), (axis.yaxis, MU2_TICKS)):
            side.set_major_locator(FixedLocator(ticks))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter("{x:g}")
        figure.colorbar(points, ax=axis, extend="max")
    solid: Any = figure.add_subplot(1, 3, 3, projection="3d")
    solid.scatter(np.log(mu1), np.log(mu2), error, c=error, s=7, cmap="viridis", vmin=0, vmax=_top(error))
    solid.set(xlabel="true mu1 [mm]", ylabel="true mu2 [1]", title="mean absolute error", zlim=(0, np.nanmax(error)))
    solid.set_xticks(np.log(MU1_TICKS[::2]), MU1_TICKS[::2])
    solid.set_yticks(np.log(MU2_TICKS[::2]), MU2_TICKS[::2])
    solid.view_init(elev=22, azim=-60)
    figure.savefig(path, dpi=DPI)


def choose_cases(evaluation: Evaluation) -> dict[str, int]:
    """Positions of the best, the median and the worst sample by the mean of their Dice."""
    table = np.stack([evaluation.scores[f"dice_{threshold:g}"] for threshold in DICE_THRESHOLDS])
    order = np.argsort(-np.nanmean(table, axis=0), kind="stable")
    return {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}


def draw_cases(evaluation: Evaluation, store: Store, backend: str, path: Path) -> None:
    """True and predicted density of the best, the median and the worst case (the paper's figure 3)."""
    cases = choose_cases(evaluation)
    atlas, scheme = store.load_atlas(), store.attributes["scheme"]
    tumors = [evaluation.tumors[position] for position in cases.values()]
    grown = simulate(tumors, atlas, backend=backend, scheme=scheme)
    again = grown.density
    again[[how == "not_converged" for how in grown.ended]] = 0  # as it was scored
    figure = Figure(figsize=(11.5, 3.4 * len(cases)), layout="constrained")
    grid = figure.subplots(len(cases), 3, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for axes, (name, position), predicted in zip(grid, cases.items(), again, strict=True):
        row = int(evaluation.rows[position])
        true = store.density(row)
        z = int(np.argmax((true + predicted).sum(axis=(0, 1))))
        thresholds = sorted(fixed_thresholds(row))
        _paint(axes[0], true[..., z], atlas, z, thresholds)
        _paint(axes[1], predicted[..., z], atlas, z, thresholds)
        difference = axes[2].imshow(
            (predicted - true)[..., z].T, origin="lower", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
        )
        figure.colorbar(difference, ax=axes[2], shrink=0.8)
        dice = ", ".join(f"{evaluation.scores[f'dice_{t:g}'][position]:.2f}" for t in DICE_THRESHOLDS)
        tumor, columns = evaluation.tumors[position], store.parameters
        axes[0].set_title(
            f"{name}: row {row}, mu1 {columns['mu1'][row]:.1f} mm, mu2 {columns['mu2'][row]:.1f}", fontsize=9
        )
        axes[1].set_title(f"predicted: mu1 {tumor.mu1:.1f} mm, mu2 {tumor.mu2:.1f}", fontsize=9)
        axes[2].set_title(f"predicted - true; Dice {dice} at .01, .1, .8", fontsize=9)
    figure.savefig(path, dpi=DPI)


def draw_calibration(ranks: Columns, path: Path) -> None:
    """How often the truth has which rank among draws; flat where a distribution means what it says."""
    lines = -(-len(ranks) // 4)
    figure = Figure(figsize=(12, 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, 4, squeeze=False).ravel()
    for axis in axes[len(ranks) :]:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes, ranks.items(), strict=False):
        expected = len(values) / RANK_BINS
        low, high = binom.ppf([0.025, 0.975], len(values), 1 / RANK_BINS)
        axis.axhspan(low, high, color="0.85")
        axis.axhline(expected, color="0.5", linewidth=1)
        axis.hist(values, bins=np.linspace(0, 1, RANK_BINS + 1), histtype="step", color="#4477aa", linewidth=1.5)
        axis.set(title=name, xlabel="rank of the truth among draws", ylim=(0, None))
    figure.savefig(path, dpi=DPI)


def _paint(axis: Axes, density: NDArray[np.floating], atlas: Atlas, z: int, levels: list[float]) -> None:
    """A slice of a density over the tissue, with its outlines at the thresholds of the true one's image."""
    tissue = sum(weight * getattr(atlas, name)[..., z] for name, weight in BRIGHTNESS.items())
    axis.imshow(np.asarray(tissue).T, origin="lower", cmap="gray", vmin=0, vmax=1)
    shown = np.ma.masked_less(density.T, LOWEST)
    axis.imshow(shown, origin="lower", cmap="inferno", vmin=0, vmax=1, alpha=0.8, interpolation="nearest")
    drawn = [level for level in levels if density.min() < level < density.max()]
    if drawn:
        axis.contour(density.T, levels=drawn, colors="white", linewidths=0.8)


def _top(values: NDArray[np.float64]) -> float:
    return float(np.nanquantile(values, OUTLIER)) or 1.0
