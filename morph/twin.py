"""Digital twins: a tumor with known parameters in another brain, for an answer that can be held against the truth.

The tumor grows in MNI152 on a grid of its own, finer than the pipeline's; its density is brought to the MNI152 T1's
own 1 mm grid, where two random thresholds make the masks, whose outlines are then drawn with errors. The pipeline
gets the T1 and the drawn masks, and T1Gd and FLAIR for its checks. MNI152 is an average of many brains: its T1 has
less noise and no bias, so the tissue outside the tumor is easier to tell than a patient's; `morph.colin27` is one
man's brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from engine import (
    CORE_THRESHOLD_RANGE,
    EDEMA_THRESHOLD_RANGE,
    PRIORS,
    Anatomy,
    Atlas,
    Grid,
    SimulationResult,
    load_anatomy,
    observe,
    random_stream,
    simulate,
)
from engine.atlas import place
from engine.mass_effect import FOLDED_WARNING
from engine.model import Model
from engine.parameters import Parameters
from learn.metrics import DICE_THRESHOLDS, SUPPORT, dice, mean_absolute_error
from morph.answer import Personalization
from morph.displacement import Vectors, flow, flow_onto, moved_origin, moved_volume
from morph.growth import grow
from morph.patient import Patient
from morph.resample import spread_density
from morph.segmentation import Masks
from morph.tissue import Tissue, normalized
from morph.twin_images import DEVIATION, draw_outline, paint_images
from morph.volume import Frame, Volume

BRAIN = "mni152"
TWIN_GRID = Grid((144, 144, 144), 1.6)
"""Where a twin grows: another grid than the pipeline's, so that both do not share their errors."""
SMALLEST_CORE = 1.0
"""Volume [ml] of core from which on a tumor counts as visible: a flat one may never reach its threshold (ours)."""
TUMOR_STREAM, THRESHOLD_STREAM = 0, 1
"""First counters of a twin's two random streams."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A patient whose tumor is known.

    Attributes:
        patient: what the pipeline may see.
        parameters: the tumor, origin as a fraction of its own brain's cube.
        origin_mm: where the tissue that the tumor began in is seen, in the patient's world [mm], (3,).
        density: c [1] on the patient's T1 grid, 0 outside the brain.
        thresholds: at which core and edema were cut.
        tissue: the brain's true maps on the T1's grid.
        displacement: how far the tissue now at a voxel was moved [mm], (3, x, y, z); None for the first model.
    """

    patient: Patient
    parameters: Parameters
    origin_mm: NDArray[np.float64]
    density: Volume
    thresholds: tuple[float, float]
    tissue: Tissue
    displacement: Vectors | None = None


def make_twin(
    seed: int,
    anatomy: Anatomy | None = None,
    grid: Grid = TWIN_GRID,
    deviation: float = DEVIATION,
    model: Model | None = None,
) -> Twin:
    """Draw a tumor of the whole-brain prior and of its sizes, and show what a scanner would see of it.

    Args:
        seed: equal seeds make equal twins.
        anatomy: the brain that it grows in; MNI152 by default.
        grid: of its simulation.
        deviation: of the drawn outlines from the true ones [mm], see `draw_outline`.
        model: what grows; the first model by default.
    """
    anatomy = anatomy or load_anatomy(BRAIN)
    atlas = place(anatomy, grid)
    rest = Volume(anatomy.t1, anatomy.affine)
    white, gray, csf = (rest.with_array(m) for m in (anatomy.white_matter, anatomy.gray_matter, anatomy.csf))
    tissue_at_rest = normalized((white, gray, csf), rest.array > 0, "truth")
    proposal = 0
    while True:
        parameters, result, proposal = _draw_tumor(seed, proposal, atlas, model or Model())
        t1, tissue, displacement = _pushed(rest, tissue_at_rest, atlas, result)
        density = spread_density(result.density[0], _tissue(result, atlas), atlas.grid, t1)
        density = density.with_array(np.where(tissue.matter, density.array, 0))
        rng = random_stream(seed, THRESHOLD_STREAM, proposal)
        thresholds = float(rng.uniform(*CORE_THRESHOLD_RANGE)), float(rng.uniform(*EDEMA_THRESHOLD_RANGE))
        core, edema = observe(density.array, *thresholds)
        if core.sum() * t1.voxel_volume >= SMALLEST_CORE:
            break
    images = paint_images(t1, tissue, core, edema)
    drawn = [draw_outline(mask, t1.spacing, rng, deviation) & (t1.array > 0) for mask in (core, edema)]
    header = nib.Nifti1Header()
    header["sform_code"] = 4  # MNI152 coordinates, NIfTI-1 standard
    frame = Frame(t1.affine, t1.array.shape, header)
    patient = Patient(f"twin {seed}", images["t1"], frame, Masks(drawn[0], drawn[1]), images["t1ce"], images["flair"])
    origin = atlas.grid.to_world(_seen_origin(parameters.origin, atlas.grid, result))
    return Twin(patient, parameters, origin, density, thresholds, tissue, displacement)


def _draw_tumor(seed: int, proposal: int, atlas: Atlas, model: Model) -> tuple[Parameters, SimulationResult, int]:
    """The first tumor from number `proposal` on whose size the prior keeps, and the number after it.

    One that pushes must also pass without pushing, which is quick to see, and not fold the brain.
    """
    prior = PRIORS["whole_brain"]
    while True:
        growth = prior.propose(seed, TUMOR_STREAM, proposal, atlas)
        parameters = model.tumor(growth, seed, TUMOR_STREAM, proposal)
        proposal += 1
        result = simulate([growth], atlas, stop_volume=prior.size[1])
        if not _is_kept(result):
            continue
        if model.has_mass_effect:
            result = grow([parameters], atlas, prior.size[1])
            if not _is_kept(result) or result.pushed[0].folded > FOLDED_WARNING:
                continue
        return parameters, result, proposal


def _is_kept(result: SimulationResult) -> bool:
    """Whether the only tumor of a batch grew to its end and to a size of the prior's."""
    return result.ended[0] == "duration" and PRIORS["whole_brain"].accepts(float(result.volumes[0]))


def _tissue(result: SimulationResult, atlas: Atlas) -> NDArray[np.bool_]:
    """Where there is tissue at the end of a simulation, bool (x, y, z)."""
    if not result.pushed:
        return atlas.tissue
    matter = result.white_matter[0] + result.gray_matter[0]
    return (matter >= result.csf[0]) & (matter > 0)


def _pushed(
    t1: Volume, tissue: Tissue, atlas: Atlas, result: SimulationResult
) -> tuple[Volume, Tissue, Vectors | None]:
    """T1 and tissue at rest, carried along by a tumor that pushes, and how far."""
    if not result.pushed:
        return t1, tissue, None
    brain = t1.array > 0
    back = flow_onto(-result.displacement[0], atlas.grid, t1.affine, t1.array.shape) * brain
    white, gray, csf = (moved_volume(m, back) for m in tissue.maps)
    seen = moved_volume(t1, back)
    seen = seen.with_array(np.where(brain, np.maximum(seen.array, t1.array[brain].min()), 0))
    return seen, normalized((white, gray, csf), brain, tissue.source), -back


def _seen_origin(origin: ArrayLike, grid: Grid, result: SimulationResult) -> NDArray[np.float64]:
    """An origin (fractions of the grid's extent) after the push of its own tumor, (3,)."""
    if not result.pushed:
        return np.asarray(origin, dtype=np.float64)
    return moved_origin(origin, flow(result.displacement[0], grid.spacing), grid)


def compare(twin: Twin, answer: Personalization) -> dict[str, float | None]:
    """How far an answer is from the truth, in the patient's space; None where the answer has no such number."""
    scores: dict[str, float | None] = {}
    for threshold in DICE_THRESHOLDS:
        value = dice(twin.density.array, answer.density.array, threshold)
        scores[f"dice_{threshold:g}"] = None if np.isnan(value) else value
    reached = np.maximum(twin.density.array, answer.density.array) > SUPPORT
    scores["mae_symmetric"] = mean_absolute_error(twin.density.array, answer.density.array, reached)
    found = answer.parameters
    if found is None or answer.origin_mm is None:
        return scores | {"origin_error_mm": None, "mu1_relative_error": None, "mu2_relative_error": None}
    scores["origin_error_mm"] = float(np.linalg.norm(answer.origin_mm - twin.origin_mm))
    scores["mu1_relative_error"] = abs(found.mu1 / twin.parameters.mu1 - 1)
    scores["mu2_relative_error"] = abs(found.mu2 / twin.parameters.mu2 - 1)
    return scores


def describe_twin(twin: Twin, answer: Personalization, seed: int) -> dict[str, object]:
    """What twin.json says: the scores, the truth, and the time of each stage."""
    truth = {
        "mu1": twin.parameters.mu1,
        "mu2": twin.parameters.mu2,
        "origin_mm": twin.origin_mm.tolist(),
        "core_threshold": twin.thresholds[0],
        "edema_threshold": twin.thresholds[1],
    }
    return {**compare(twin, answer), "seed": seed, "method": answer.method, "truth": truth, "seconds": answer.seconds}


def print_scores(console: Console, twin: Twin, answer: Personalization) -> None:
    """Tell a person how close the answer came, and how long each stage took."""
    scores, truth, found = compare(twin, answer), twin.parameters, answer.parameters
    table = Table(title="answer against the known truth, in the patient's space", title_justify="left")
    for column in ("quantity", "truth", "answer", "score"):
        table.add_column(column, justify="left" if column == "quantity" else "right")
    for threshold in DICE_THRESHOLDS:
        volumes = [
            f"{np.count_nonzero(v.array >= threshold) * v.voxel_volume:.0f} ml" for v in (twin.density, answer.density)
        ]
        table.add_row(f"density >= {threshold:g}", *volumes, _score("Dice {:.3f}", scores[f"dice_{threshold:g}"]))
    table.add_row(
        "mu1 [mm]", f"{truth.mu1:.2f}", "-" if found is None else f"{found.mu1:.2f}",
        _score("{:.1%} off", scores["mu1_relative_error"]),
    )  # fmt: skip
    table.add_row(
        "mu2", f"{truth.mu2:.2f}", "-" if found is None else f"{found.mu2:.2f}",
        _score("{:.1%} off", scores["mu2_relative_error"]),
    )  # fmt: skip
    table.add_row(
        "origin [mm]",
        _point(twin.origin_mm),
        _point(answer.origin_mm),
        _score("{:.1f} mm off", scores["origin_error_mm"]),
    )
    console.print(table)
    console.print(_stages(answer.seconds))


def _stages(seconds: Mapping[str, float]) -> Table:
    table = Table(title="time of each stage", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.1f}")
    table.add_row("total", f"{sum(seconds.values()):.1f}", style="bold")
    return table


def _score(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)


def _point(place_mm: NDArray[np.float64] | None) -> str:
    return "-" if place_mm is None else " ".join(f"{value:.0f}" for value in place_mm)
