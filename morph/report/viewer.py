"""The interactive viewer: nilearn's brainsprite of the density over the T1, as one HTML document without network.

It is shown in the radiological convention by mirroring the images before nilearn sees them: nilearn's own
`radiological=True` opens at the mirrored slice and tells mirrored coordinates (its issue 6134), and a fix will turn
the same call around. For the same reason the letters at the edges are ours and no coordinates are shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn.plotting import view_img
from numpy.typing import NDArray

from morph.patient import Patient
from morph.picture import BACKGROUND, DENSITY_COLORS, LOWEST, MARGIN, contrast_image
from morph.resample import bounding_box, cut, resample
from morph.volume import Volume

VIEW_SPACING = 1.0
"""Edge [mm] of the viewer's voxels: those of a usual T1; finer ones would only make the file larger."""
OPACITY = 0.6
ELEMENT = "density"
"""Ending of the ids of the viewer's elements, where nilearn draws random ones."""


@dataclass(frozen=True)
class Viewer:
    """An HTML document for an `iframe`.

    Attributes:
        html: the document.
        ratio: height over width of its canvas.
    """

    html: str
    ratio: float


def build_viewer(patient: Patient, density: Volume) -> Viewer:
    """The density over T1Gd, or T1, cut through the core.

    Args:
        patient: whose images.
        density: c [1] on the patient's T1 grid.
    """
    grid = viewing_grid(patient)
    image, shown = (resample(volume, grid, 1) for volume in (contrast_image(patient)[1], density))
    core = np.argwhere(patient.masks.target).mean(axis=0)
    voxel = np.round(grid.to_voxel(patient.t1.to_world(core)))
    nx, ny, nz = grid.array.shape
    low, high = np.percentile(image.array[image.array > 0], (1, 99.5))
    gray = np.clip((image.array - min(low, 0)) / max(high - min(low, 0), 1e-6), 0, 1)
    view = view_img(
        _mirrored(np.clip(shown.array, 0, 1)),
        bg_img=_mirrored(gray),
        cut_coords=(nx - 1 - voxel[0], voxel[1], voxel[2]),
        threshold=LOWEST,
        cmap=DENSITY_COLORS,
        symmetric_cmap=False,
        vmin=0.0,
        vmax=1.0,
        opacity=OPACITY,
        black_bg=True,
        annotate=False,
        show_lr=False,
        resampling_interpolation="nearest",
    )
    return Viewer(_self_contained(view.get_standalone(), (nx, ny, nz)), max(ny, nz) / (2 * nx + ny))


def viewing_grid(patient: Patient) -> Volume:
    """Cubic voxels along the T1's axes over brain and tumor; the values do not matter."""
    box = cut(patient.t1, bounding_box(patient.brain | patient.masks.edema, MARGIN))
    shape = tuple(int(n) for n in np.ceil(np.array(box.array.shape) * box.spacing / VIEW_SPACING))
    affine = box.affine.copy()
    affine[:3, :3] *= VIEW_SPACING / box.spacing
    return Volume(np.zeros(shape, dtype=np.float32), affine)


def _mirrored(array: NDArray[np.float32]) -> nib.Nifti1Image:
    """An image whose first axis runs from the patient's right to the left, in voxels."""
    return nib.Nifti1Image(np.ascontiguousarray(array[::-1], dtype=np.float32), np.eye(4))


def _self_contained(html: str, shape: tuple[int, int, int]) -> str:
    """The document without its icon from the network and its random ids, with our letters and style."""
    html = re.sub(r"<link rel=\"icon\"[^>]*>", '<link rel="icon" href="data:,">', html)
    drawn = re.search(r"div_viewer-(\w+)", html)
    if drawn is not None:
        html = html.replace(drawn[1], ELEMENT)
    html = html.replace('<input type="range"', '<input type="range" aria-label="Opacity of the density, percent"')
    html = html.replace('value="100"', f'value="{100 * OPACITY:.0f}"')
    html = html.replace(f'id="demo-{ELEMENT}"></span>', f'id="demo-{ELEMENT}">{100 * OPACITY:.0f}</span>')
    html = html.replace('"crosshair": true', '"crosshair": true, "colorCrosshair": "#7dd3fc", "sizeFont": 0.045')
    html = html.replace("</head>", f"<style>{_STYLE}</style></head>")
    return html.replace("</canvas>", "</canvas>" + _letters(shape), 1)


def _letters(shape: tuple[int, int, int]) -> str:
    """The sides of the three planes, sagittal, coronal and axial, which lie beside each other."""
    nx, ny, _ = shape
    ends = np.cumsum([0, ny, nx, nx]) / (2 * nx + ny)
    marks = []
    sides = (("P", "A"), ("R", "L"), ("R", "L"))
    for (left, right), start, stop in zip(sides, ends[:-1], ends[1:], strict=True):
        marks.append(f'<b style="left:calc({100 * start:.2f}% + 4px)">{left}</b>')
        marks.append(f'<b style="left:calc({100 * stop:.2f}% - 14px)">{right}</b>')
    return f'<div class="sides" aria-hidden="true">{"".join(marks)}</div>'


_STYLE = (
    f"html{{background:{BACKGROUND};color:#e6e9ee;font:14px/1.4 system-ui,sans-serif;color-scheme:dark}}"
    f"body{{margin:0;overflow:hidden}}#div_viewer-{ELEMENT}{{position:relative}}canvas{{display:block;cursor:crosshair}}"
    ".hidden{display:none}.sides{position:absolute;top:6px;left:0;right:0;height:0;color:#b6bfcb;pointer-events:none}"
    ".sides b{position:absolute;font-weight:600}input[type=range]{flex:0 1 16rem}p{margin:12px 0 12px 12px}"
)
