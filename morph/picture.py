"""Pictures of three planes: `overview.png`, with outlines above and the density below, and single panels.

Radiological convention: the patient's right is on the left of axial and coronal planes, and marked so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from morph.answer import Personalization
from morph.patient import Patient
from morph.resample import bounding_box
from morph.volume import Volume

LEVELS = {0.01: "#4cc9f0", 0.1: "#80ed99", 0.8: "#ffffff"}
"""Densities whose contours are drawn (the paper's thresholds) and their colors."""
CORE_COLOR, EDEMA_COLOR = "#ff5d5d", "#ffd166"
DENSITY_COLORS = "inferno"
LOWEST = 0.01
"""Densities below are not colored."""
MARGIN = 6
"""Voxels around brain and tumor that stay in view."""
MOST_WORRIES = 4
"""Checks that did not pass which the title names."""
BACKGROUND = "#111318"
PANEL_PIXELS, PANEL_DPI = 600, 110
"""Of a single panel's longer edge: some 1.5 times what a third of a desktop window shows."""
PANEL_SCALE = 1.5
"""Of a panel's letters and lines, which are shown at half its pixels."""
PANEL_WEBP = {"quality": 88, "method": 4, "use_sharp_yuv": True}
"""Thin lines keep their colors, and a panel takes some 30 kB."""


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


@dataclass(frozen=True, eq=False)
class View:
    """Where to look.

    Attributes:
        box: voxels in view.
        center: voxel that all planes go through, inside the box.
        spacing: voxel edges [mm], (3,).
        brain: bool (x, y, z), sets the gray levels.
    """

    box: tuple[slice, ...]
    center: tuple[int, int, int]
    spacing: NDArray[np.float64]
    brain: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Line:
    """A contour: where `field` (x, y, z) crosses `level`."""

    field: NDArray
    level: float
    color: str
    style: str = "solid"


@dataclass(frozen=True, eq=False)
class Wash:
    """Colors over an image where `field` (x, y, z) is at least `low`; the map `colors` spans 0 to `high`."""

    field: NDArray
    low: float
    high: float
    colors: str = DENSITY_COLORS


def view_of(patient: Patient, shown: NDArray[np.bool_], margin: int = MARGIN) -> View:
    """A box around `shown` and the core, bool (x, y, z), cut through the center of the core, or of a bare edema."""
    target = patient.masks.target
    x, y, z = (int(i) for i in np.round(np.argwhere(target).mean(axis=0)))
    box = bounding_box(shown | target, margin)
    return View(box, (x, y, z), patient.t1.spacing, patient.brain)


def outlines(patient: Patient) -> list[Line]:
    """The two masks as they were used."""
    return [Line(patient.masks.edema, 0.5, EDEMA_COLOR), Line(patient.masks.core, 0.5, CORE_COLOR)]


def isolines(density: NDArray[np.float32]) -> list[Line]:
    """The density (x, y, z) at the levels that are always drawn."""
    return [Line(density, level, color) for level, color in LEVELS.items()]


def contrast_image(patient: Patient) -> tuple[str, Volume]:
    """Where the core is seen best, and its name."""
    return ("T1Gd", patient.t1ce) if patient.t1ce else ("T1", patient.t1)


def fluid_image(patient: Patient) -> tuple[str, Volume]:
    """Where the edema is seen best, and its name."""
    return ("FLAIR", patient.flair) if patient.flair else ("T1", patient.t1)


def draw_plane(
    axis: Axes,
    plane: Plane,
    view: View,
    image: NDArray,
    lines: Sequence[Line],
    wash: Wash | None = None,
    scale: float = 1.0,
) -> AxesImage | None:
    """One plane of an image (x, y, z) in gray, with what lies over it; `scale` is that of letters and lines.

    Returns:
        What a color bar explains; None without a wash.
    """
    index, aspect, overlay = view.center[plane.axis], plane.aspect(view.spacing), None
    low, high = np.percentile(image[view.brain], (1, 99.5))
    gray = plane.cut(image, index, view.box)
    axis.imshow(gray, cmap="gray", vmin=min(low, 0), vmax=high, aspect=aspect, interpolation="bilinear")
    axis.set_axis_off()
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))
    for letter, (x, y) in zip(plane.sides, places, strict=True):
        text = axis.text(
            x, y, letter, transform=axis.transAxes, color="#c9d1db", size=9 * scale, ha="center", va="center"
        )
        text.set_path_effects([_casing(scale)])
    if wash is not None:
        colored = np.ma.masked_less(plane.cut(wash.field, index, view.box), wash.low)
        overlay = axis.imshow(
            colored, cmap=mpl.colormaps[wash.colors], vmin=0, vmax=wash.high, alpha=0.55, aspect=aspect
        )
    for line in lines:
        shown = plane.cut(line.field, index, view.box)
        if shown.min() < line.level <= shown.max():
            drawn = axis.contour(
                shown, levels=[line.level], colors=line.color, linewidths=1.3 * scale, linestyles=line.style
            )
            drawn.set_path_effects([_casing(scale)])
    return overlay


def _casing(scale: float) -> withStroke:
    """Darkens the edge of lines and letters, which lie over bright and dark tissue alike."""
    return withStroke(linewidth=2.4 * scale, foreground="#00000090")


def draw_panel(
    plane: Plane, view: View, image: NDArray, lines: Sequence[Line], wash: Wash | None = None
) -> tuple[bytes, int, int]:
    """One plane without any frame, see `draw_plane`: a WebP, the same for the same input, its width and height."""
    rows, columns = plane.cut(image, view.center[plane.axis], view.box).shape
    size = np.array([columns, rows * plane.aspect(view.spacing)], dtype=np.float64)
    figure = Figure(figsize=tuple(size * (PANEL_PIXELS / PANEL_DPI / size.max())), facecolor="black")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    draw_plane(axis, plane, view, image, lines, wash, PANEL_SCALE)
    file = BytesIO()
    figure.savefig(file, format="webp", dpi=PANEL_DPI, pil_kwargs=PANEL_WEBP)
    return file.getvalue(), *figure.canvas.get_width_height()


def draw_overview(path: Path, patient: Patient, answer: Personalization) -> None:
    """Write `overview.png`."""
    figure = Figure(figsize=(13, 8.8), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.03, right=0.90, top=0.885, bottom=0.09, wspace=0.03, hspace=0.06)
    view, density = view_of(patient, patient.brain | patient.masks.edema), answer.density.array
    upper, lower = contrast_image(patient), fluid_image(patient)
    overlay: AxesImage | None = None
    for column, plane in enumerate(PLANES):
        draw_plane(axes[0][column], plane, view, upper[1].array, outlines(patient))
        wash = Wash(density, LOWEST, 1.0)
        overlay = draw_plane(axes[1][column], plane, view, lower[1].array, isolines(density), wash)
        for row, (title, _) in enumerate((upper, lower)):
            named = f"{plane.name}, {title}" if column == 0 else plane.name
            axes[row][column].set_title(named, color="white", fontsize=10)
    _explain(figure, overlay, patient, answer)
    figure.savefig(path, format="png", dpi=110, facecolor=BACKGROUND)


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
    figure.suptitle(_title(patient, answer), color="white", fontsize=12, y=0.975, parse_math=False)
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
