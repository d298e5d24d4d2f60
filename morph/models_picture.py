"""Both models side by side: `models.png`, the first model's density above, the pushing one's below, and its push.

Arrows lead from where tissue was to where it is. Radiological convention, as in `morph.picture`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from morph.answer import Personalization
from morph.displacement import in_voxels
from morph.evidence import Fit
from morph.mass_effect import MOVED, Push, Vectors
from morph.patient import Patient
from morph.picture import BACKGROUND, LOWEST, PLANES, Plane, View, Wash, draw_plane, isolines, outlines, view_of

ARROW_DISTANCE = 7.0
"""Distance [mm] between arrows (ours)."""
ARROW_COLOR = "#7df9ff"
PUSH_COLORS = "viridis"


def draw_models(path: Path, patient: Patient, answer: Personalization, push: Push) -> None:
    """Write `models.png`.

    Args:
        path: where to.
        patient: whose T1 and masks lie below.
        answer: of the mass-effect model.
        push: what it did to the brain; holds the first model's answer.
    """
    figure = Figure(figsize=(13, 12.6), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    figure.subplots_adjust(left=0.03, right=0.90, top=0.91, bottom=0.04, wspace=0.03, hspace=0.10)
    view, t1 = view_of(patient, patient.brain | patient.masks.edema), patient.t1.array
    length = np.linalg.norm(push.displacement, axis=0)
    steps = in_voxels(push.displacement, patient.t1.affine)
    highest = max(push.furthest, MOVED)
    densities = (push.first_density.array, answer.density.array)
    for column, plane in enumerate(PLANES):
        for row, density in enumerate(densities):
            wash = Wash(density, LOWEST, 1.0)
            overlay = draw_plane(axes[row][column], plane, view, t1, isolines(density) + outlines(patient), wash)
        moved = draw_plane(
            axes[2][column], plane, view, t1, outlines(patient), Wash(length, MOVED, highest, PUSH_COLORS)
        )
        _arrows(axes[2][column], plane, view, steps)
    _bar(figure, overlay, "tumor cell density", 0.55)
    _bar(figure, moved, "displacement [mm]", 0.06)
    fits = ("growth alone (first model)", push.first), ("growth that pushes (mass effect)", answer.fit)
    for row, (title, fit) in enumerate(fits):
        axes[row][0].set_title(f"{title}: {_said(fit)}", color="white", fontsize=10, loc="left")
    axes[2][0].set_title(
        f"displacement, up to {push.furthest:.1f} mm; {push.folded:.2%} of the brain folded",
        color="white", fontsize=10, loc="left",
    )  # fmt: skip
    figure.suptitle(f"{patient.name}   both models over T1", color="white", fontsize=12, y=0.965, parse_math=False)
    figure.text(0.03, 0.012, "radiological convention: R is the patient's right", color="#9aa4b2", fontsize=9)
    figure.text(0.97, 0.012, "research use only", color="#9aa4b2", fontsize=9, ha="right")
    figure.savefig(path, format="png", dpi=110, facecolor=BACKGROUND)


def _said(fit: Fit | None) -> str:
    if fit is None:
        return "no fit"
    found = fit.estimate
    return (
        f"mu1 {found.mu1:.1f} mm, mu2 {found.mu2:.2f}, Dice of core {fit.core_dice:.2f}, of edema {fit.edema_dice:.2f}"
    )


def _bar(figure: Figure, overlay: AxesImage | None, label: str, bottom: float) -> None:
    if overlay is None:
        return
    bar = figure.colorbar(overlay, cax=figure.add_axes((0.92, bottom, 0.015, 0.22)))
    bar.set_label(label, color="white")
    bar.ax.tick_params(colors="white")


def _arrows(axis: Axes, plane: Plane, view: View, steps: Vectors) -> None:
    """The displacement in a plane, from steps [voxels, (3, x, y, z)], at its true length."""
    across, up = (steps[other] for other in range(3) if other != plane.axis)
    index = view.center[plane.axis]
    u = plane.cut(across, index, view.box) * (-1 if plane.mirrored else 1)
    v = -plane.cut(up, index, view.box)  # rows count downwards
    horizontal, vertical = (
        max(1, round(ARROW_DISTANCE / view.spacing[other])) for other in range(3) if other != plane.axis
    )
    rows, columns = np.mgrid[vertical // 2 : u.shape[0] : vertical, horizontal // 2 : u.shape[1] : horizontal]
    seen = np.hypot(u[rows, columns], v[rows, columns]) * view.spacing.min() > MOVED
    rows, columns = rows[seen], columns[seen]
    axis.quiver(
        columns, rows, u[rows, columns], v[rows, columns], angles="xy", scale_units="xy", scale=1, pivot="tip",
        color=ARROW_COLOR, width=0.004,
    )  # fmt: skip
