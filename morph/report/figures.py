"""The pictures of the report: rows of three planes, each with its legend and words for those who cannot see it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from morph.mass_effect import MOVED, Push
from morph.patient import Patient
from morph.picture import (
    CORE_COLOR,
    DENSITY_COLORS,
    EDEMA_COLOR,
    LEVELS,
    LOWEST,
    PLANES,
    Line,
    View,
    Wash,
    contrast_image,
    draw_panel,
    fluid_image,
    isolines,
    outlines,
    view_of,
)
from morph.volume import Volume

CLOSE = 12.0
"""Tissue [mm] around what is shown in a close-up (ours)."""
CHANCES = {0.1: "#4cc9f0", 0.5: "#80ed99", 0.9: "#ffffff"}
"""Probabilities whose contours are drawn, and their colors."""
PROBED = 0.1
"""Density [1] of the probability map that is drawn (one of those that the posterior has)."""
SPREAD_COLORS = "viridis"
TARGET_COLORS = ("#ff9f1c", "#4cc9f0", "#c77dff", "#f1f5f9")
"""Standard margins first, density-based volumes after them."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a line of a color, dashed or not, or the stops of a color map that spans 0 to `label`."""

    color: str
    label: str
    dashed: bool = False
    ramp: str = ""


@dataclass(frozen=True)
class Panel:
    """One plane: a data URI, its size in pixels, and words for it."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Figure:
    """Three planes through the same place."""

    title: str
    panels: tuple[Panel, ...]
    keys: tuple[Key, ...]


OUTLINES = (Key(CORE_COLOR, "core (T1Gd)"), Key(EDEMA_COLOR, "edema (FLAIR)"))
DENSITIES = tuple(Key(color, f"density {level:g}") for level, color in LEVELS.items())


def draw_masks_and_density(patient: Patient, density: Volume) -> list[Figure]:
    """The whole brain: outlines as they were used, and the density."""
    view = view_of(patient, patient.brain | patient.masks.edema)
    (upper, contrast), (lower, fluid) = contrast_image(patient), fluid_image(patient)
    wash = Wash(density.array, LOWEST, 1.0)
    ramp = Key("", "1", ramp=gradient(DENSITY_COLORS))
    return [
        _figure(f"Outlines over {upper}", view, contrast, outlines(patient), OUTLINES),
        _figure(f"Density over {lower}", view, fluid, isolines(density.array), (ramp, *DENSITIES), wash),
    ]


def draw_isolines(patient: Patient, density: Volume) -> list[Figure]:
    """Close-ups: the density's isolines and the outlines over T1 and, where given, FLAIR."""
    view = _close_up(patient, density.array >= min(LEVELS))
    images = {"T1": patient.t1} | dict([fluid_image(patient)])
    dashed = [Line(line.field, line.level, line.color, "dashed") for line in outlines(patient)]
    keys = (*DENSITIES, *(Key(key.color, key.label, dashed=True) for key in OUTLINES))
    lines = [*dashed, *isolines(density.array)]
    return [_figure(f"Isolines over {name}", view, image, lines, keys) for name, image in images.items()]


def draw_targets(patient: Patient, targets: Mapping[str, NDArray[np.bool_]]) -> Figure:
    """Close-up: target volumes, bool (x, y, z) by their titles, over the image that shows the core."""
    view = _close_up(patient, np.logical_or.reduce(list(targets.values())))
    colors = dict(zip(targets, TARGET_COLORS, strict=False))
    lines = [outlines(patient)[1], *(Line(targets[title], 0.5, color) for title, color in colors.items())]
    name, image = contrast_image(patient)
    keys = (OUTLINES[0], *(Key(color, title) for title, color in colors.items()))
    return _figure(f"Target volumes over {name}", view, image, lines, keys)


def draw_uncertainty(patient: Patient, deviation: Volume, probability: Volume) -> list[Figure]:
    """Close-ups: standard deviation of the density, and contours of P(c > `PROBED`)."""
    view = _close_up(patient, probability.array >= min(CHANCES))
    high = max(float(deviation.array.max()), LOWEST)
    ramp = Key("", f"{high:.2f}", ramp=gradient(SPREAD_COLORS))
    lines = [Line(probability.array, chance, color) for chance, color in CHANCES.items()]
    keys = tuple(Key(color, f"probability {chance:g}") for chance, color in CHANCES.items())
    name, image = fluid_image(patient)
    wash = Wash(deviation.array, LOWEST, high, SPREAD_COLORS)
    edema = (Line(patient.masks.edema, 0.5, EDEMA_COLOR, "dashed"), Key(EDEMA_COLOR, OUTLINES[1].label, dashed=True))
    return [
        _figure(f"Standard deviation of the density over {name}", view, image, [edema[0]], (ramp, edema[1]), wash),
        _figure(
            f"Probability that the density exceeds {PROBED:g}, over {name}", view, image, [*lines, edema[0]],
            (*keys, edema[1]),
        ),
    ]  # fmt: skip


def draw_push(patient: Patient, push: Push) -> list[Figure]:
    """The whole brain: how far tissue was moved, and the density of growth that does not push."""
    view, high = view_of(patient, patient.brain | patient.masks.edema), max(push.furthest, MOVED)
    length, first = np.linalg.norm(push.displacement, axis=0), push.first_density.array
    far = Key("", f"{high:.1f} mm", ramp=gradient(SPREAD_COLORS))
    ramp = Key("", "1", ramp=gradient(DENSITY_COLORS))
    moved, alone = Wash(length, MOVED, high, SPREAD_COLORS), Wash(first, LOWEST, 1.0)
    return [
        _figure("Displacement over T1", view, patient.t1, outlines(patient), (far, *OUTLINES), moved),
        _figure("Density without displacement, over T1", view, patient.t1, isolines(first), (ramp, *DENSITIES), alone),
    ]


def gradient(colors: str, steps: int = 9) -> str:
    """A color map as the stops of a CSS gradient."""
    return ", ".join(to_hex(color) for color in mpl.colormaps[colors](np.linspace(0, 1, steps)))


def _close_up(patient: Patient, shown: NDArray[np.bool_]) -> View:
    visible = (shown & patient.brain) | patient.masks.edema
    return view_of(patient, visible, round(CLOSE / float(patient.t1.spacing.min())))


def _figure(
    title: str, view: View, image: Volume, lines: Sequence[Line], keys: tuple[Key, ...], wash: Wash | None = None
) -> Figure:
    shown = ", ".join(key.label if not key.ramp else "a color scale" for key in keys)
    panels = []
    for plane in PLANES:
        webp, width, height = draw_panel(plane, view, image.array, lines, wash)
        left, right, _, _ = plane.sides
        alt = f"{title}: {plane.name} plane through the center of the core, with {shown}; {left} left, {right} right"
        uri = "data:image/webp;base64," + b64encode(webp).decode("ascii")
        panels.append(Panel(uri, alt, width, height))
    return Figure(title, tuple(panels), keys)
