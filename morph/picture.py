"""The overview picture: three planes through the tumor, the masks' outlines above, the density below.

Radiological convention: the patient's right is on the left of axial and coronal planes, and marked so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from morph.patient import Patient
from morph.pipeline import Personalization

LEVELS = {0.01: "#4cc9f0", 0.1: "#80ed99", 0.8: "#ffffff"}
"""Densities whose contours are drawn (the paper's thresholds) and their colors."""
CORE_COLOR, EDEMA_COLOR = "#ff5d5d", "#ffd166"
LOWEST = 0.01
"""Densities below are not colored."""
MARGIN = 6
"""Voxels around brain and tumor that stay in view."""
MOST_WORRIES = 4
"""Checks that did not pass which the title names."""
BACKGROUND = "#111318"


@dataclass(frozen=True)
class Plane:
    """How one plane is cut and shown.

    Attributes:
        name: title.
        axis: the RAS axis that it cuts.
        sides: letters at the left, right, top and bottom edge.
        mirrored: whether the horizontal axis is turned, so that the patient's right is on the left.
    """

    name: str
    axis: int
    sides: tuple[str, str, str, str]
    mirrored: bool

    def cut(self, volume: NDArray, index: int, box: tuple[slice, ...]) -> NDArray:
        """The picture rows (from top) by columns (from left) of a volume (x, y, z)."""
        shown = np.take(volume[box], index - box[self.axis].start, axis=self.axis).T[::-1]
        return shown[:, ::-1] if self.mirrored else shown

    def aspect(self, spacing: NDArray[np.float64]) -> float:
        """Height over width of a voxel."""
        horizontal, vertical = (axis for axis in range(3) if axis != self.axis)
        return float(spacing[vertical] / spacing[horizontal])


PLANES = (
    Plane("axial", 2, ("R", "L", "A", "P"), mirrored=True),
    Plane("coronal", 1, ("R", "L", "S", "I"), mirrored=True),
    Plane("sagittal", 0, ("A", "P", "S", "I"), mirrored=True),
)


def draw_overview(path: Path, patient: Patient, answer: Personalization) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(13, 8.8), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.03, right=0.90, top=0.885, bottom=0.09, wspace=0.03, hspace=0.06)
    box = _bounding_box(patient.brain | patient.masks.edema)
    center = np.round(np.argwhere(patient.masks.core).mean(axis=0)).astype(int)
    upper, lower = _backgrounds(patient)
    overlay: AxesImage | None = None
    for column, plane in enumerate(PLANES):
        index = int(center[plane.axis])
        for row, (title, background) in enumerate((upper, lower)):
            axis = axes[row][column]
            _show(axis, plane, background, index, box, patient)
            axis.set_title(f"{plane.name}, {title}" if column == 0 else plane.name, color="white", fontsize=10)
        _outline(axes[0][column], plane, patient, index, box)
        overlay = _density(axes[1][column], plane, answer.density.array, index, box, patient)
    _explain(figure, overlay, patient, answer)
    figure.savefig(path, format="png", dpi=110, facecolor=BACKGROUND)


def _backgrounds(patient: Patient) -> tuple[tuple[str, NDArray], tuple[str, NDArray]]:
    """What lies under the masks, and what under the density."""
    contrast = patient.t1ce or patient.t1
    upper = ("T1Gd" if patient.t1ce else "T1", contrast.array)
    lower = ("FLAIR", patient.flair.array) if patient.flair else ("T1", patient.t1.array)
    return upper, lower


def _bounding_box(shown: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The view: it holds the core, and so its center, even where that lies beside the brain."""
    present = np.argwhere(shown)
    low = np.maximum(present.min(axis=0) - MARGIN, 0)
    high = np.minimum(present.max(axis=0) + 1 + MARGIN, shown.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _show(axis: Axes, plane: Plane, image: NDArray, index: int, box: tuple[slice, ...], patient: Patient) -> None:
    inside = image[patient.brain]
    low, high = np.percentile(inside, (1, 99.5))
    axis.imshow(
        plane.cut(image, index, box), cmap="gray", vmin=min(low, 0), vmax=high, aspect=plane.aspect(patient.t1.spacing)
    )
    axis.set_axis_off()
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))
    for letter, (x, y) in zip(plane.sides, places, strict=True):
        axis.text(x, y, letter, transform=axis.transAxes, color="#9aa4b2", fontsize=9, ha="center", va="center")


def _outline(axis: Axes, plane: Plane, patient: Patient, index: int, box: tuple[slice, ...]) -> None:
    for mask, color in ((patient.masks.edema, EDEMA_COLOR), (patient.masks.core, CORE_COLOR)):
        shown = plane.cut(mask, index, box)
        if shown.any():
            axis.contour(shown, levels=[0.5], colors=color, linewidths=1.3)


def _density(
    axis: Axes, plane: Plane, density: NDArray, index: int, box: tuple[slice, ...], patient: Patient
) -> AxesImage:
    shown = plane.cut(density, index, box)
    overlay = axis.imshow(
        np.ma.masked_less(shown, LOWEST), cmap=mpl.colormaps["inferno"], vmin=0, vmax=1, alpha=0.55,
        aspect=plane.aspect(patient.t1.spacing),
    )  # fmt: skip
    for level, color in LEVELS.items():
        if shown.min() < level <= shown.max():
            axis.contour(shown, levels=[level], colors=color, linewidths=1.1)
    return overlay


def _explain(figure: Figure, overlay: AxesImage | None, patient: Patient, answer: Personalization) -> None:
    """Title, legend and color bar."""
    if overlay is not None:
        bar = figure.colorbar(overlay, cax=figure.add_axes((0.92, 0.12, 0.015, 0.34)))
        bar.set_label("tumor cell density", color="white")
        bar.ax.tick_params(colors="white")
    handles = [
        Line2D([], [], color=CORE_COLOR, label="core (visible in T1Gd)"),
        Line2D([], [], color=EDEMA_COLOR, label="edema (visible in FLAIR)"),
        *(Line2D([], [], color=color, label=f"density {level:g}") for level, color in LEVELS.items()),
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.035),
        ncols=len(handles),
        frameon=False,
        labelcolor="white",
        fontsize=10,
    )
    figure.suptitle(_title(patient, answer), color="white", fontsize=12, y=0.975)
    figure.text(0.03, 0.012, "radiological convention: R is the patient's right", color="#9aa4b2", fontsize=9)
    figure.text(0.97, 0.012, "research use only", color="#9aa4b2", fontsize=9, ha="right")


def _title(patient: Patient, answer: Personalization) -> str:
    worries = [check.name for check in answer.checks if check.verdict != "pass"]
    shown = ", ".join(worries[:MOST_WORRIES]) + (", ..." if len(worries) > MOST_WORRIES else "")
    title = f"{patient.name}   method: {answer.method}   checks: {answer.verdict}" + (f" ({shown})" if worries else "")
    if answer.parameters is None or answer.fit is None:
        return f"{title}\ndistance to the masks only: the model's answer did not pass its checks"
    found, fit = answer.parameters, answer.fit
    return (
        f"{title}\nmu1 = {found.mu1:.1f} mm, mu2 = {found.mu2:.2f}, "
        f"fit: Dice of core {fit.core_dice:.2f}, of edema {fit.edema_dice:.2f}"
    )
