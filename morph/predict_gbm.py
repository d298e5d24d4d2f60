"""python -m morph.predict_gbm: the container of the PREDICT-GBM benchmark, from its input folder to its output folder.

Reads `Patient-ID/ID-{gm,wm,csf,tumorseg}.nii.gz` (labels: 1 necrosis, 2 edema, 3 enhancing) for every patient below
`LMI_INPUT` (default /mlcube_io0), with `ID-{t1c,flair,brain_mask}.nii.gz` if they are there, and writes
`LMI_OUTPUT/ID.nii.gz` (default /mlcube_io1): the tumor cell density on the same grid, float32, strictly ordered over
the whole brain and 0 outside, as the benchmark's scorer needs it; where no mask says where the brain ends, the order
goes on outside. Exit status: 0 also where a check failed and a density by distances is delivered, 2 bad input (one
sentence; other patients are answered all the same), anything else a failure of the program. A patient without an answer
is left without a file, also where there was an older one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from engine import InputError, load_anatomy
from engine.command import BAD_INPUT, compose
from morph.in_place import Answer, personalize_in_place
from morph.inference import Brain, prepare_brain
from morph.outputs import FALLBACK, write_whole
from morph.patient import FRACTION_SLACK, Patient
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.registration import grow_mask
from morph.segmentation import BRATS_2023, Masks, masks_from_labels
from morph.settings import build
from morph.stopwatch import Announce
from morph.strict_order import order_strictly
from morph.tissue import normalized
from morph.volume import Frame, Volume, read_volume, read_with_frame, share_grid, write_volume

INPUT, OUTPUT = ("LMI_INPUT", "/mlcube_io0"), ("LMI_OUTPUT", "/mlcube_io1")
"""Environment variables of both folders, and where the benchmark mounts them."""
PREFIX = "Patient-"
TISSUES = ("wm", "gm", "csf")
NEEDED = (*TISSUES, "tumorseg")
OPTIONAL = ("t1c", "flair", "brain_mask")
RIM = 10.0
"""How far [mm] beyond the maps what lies nearer to the tumor still comes first, where nothing else shows the brain: the
scorer's may reach there (ours)."""


def main(given: Sequence[str] = ()) -> int:
    """Every patient of the input folder; returns the exit status. Of what may be given, only --help means anything."""
    if {"-h", "--help"} & set(given):
        print(__doc__)
        return 0
    if given:
        print(f"error: {given[0]} is not understood: give folders as {INPUT[0]} and {OUTPUT[0]}", file=sys.stderr)
        return BAD_INPUT
    try:
        source, target = (Path(os.environ.get(*variable)) for variable in (INPUT, OUTPUT))
        cases = find_cases(source)
        settings: dict[str, Any] = OmegaConf.to_container(compose("run"), resolve=True)  # type: ignore[assignment]
        refinement = build(RefinementSettings, "refinement", settings["refinement"], seed=settings["seed"])
        uncertainty = build(PosteriorSettings, "posterior", settings["posterior"], seed=settings["seed"])
        brain = prepare_brain(load_anatomy("sri24"), settings["weights"])
        for name in cases:
            _remove(target / f"{name}.nii.gz")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    status = 0
    for name, folder in cases.items():
        try:
            start = time.perf_counter()
            _say(name, "read the images")
            path, announce = target / f"{name}.nii.gz", partial(_say, name)
            patient = read_case(name, find_files(folder, name))
            answer = run_case(patient, brain, refinement, path, announce, uncertainty)
            for check in answer.checks:
                if check.verdict != "pass":
                    _say(name, f"{check.verdict}: {check.message}")
            _say(name, f"{answer.method}, verdict {answer.verdict}, {time.perf_counter() - start:.0f} s")
        except InputError as error:  # the others can still be answered
            print(f"error: {name}: {error}", file=sys.stderr)
            status = BAD_INPUT
    return status


def find_cases(folder: Path) -> dict[str, Path]:
    """The folder of every patient, by the patient's ID.

    Raises:
        InputError: there is none.
    """
    found = sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
    if not found:
        raise InputError(f"{folder} has no folder {PREFIX}ID: give the folder of patients with {INPUT[0]}=FOLDER")
    return {path.name.removeprefix(PREFIX): path for path in found}


def find_files(folder: Path, name: str) -> dict[str, Path]:
    """The files of a patient, by role.

    Raises:
        InputError: one that is needed is missing.
    """
    files = {role: folder / f"{name}-{role}.nii.gz" for role in (*NEEDED, *OPTIONAL)}
    missing = [files[role].name for role in NEEDED if not files[role].is_file()]
    if missing:
        raise InputError(f"{folder} has no {', '.join(missing)}: each patient needs {', '.join(NEEDED)}")
    return {role: file for role, file in files.items() if file.is_file()}


def read_case(name: str, files: dict[str, Path]) -> Patient:
    """One patient, whose `t1` is 1 in the brain and says no more.

    The brain is the given mask; without one it is where the T1Gd is positive and exceeds its lowest value, about as for
    the benchmark's scorer, and wherever the maps are positive or a tumor is seen. Without a core (labels 1 and 3) the
    edema is taken for it.

    Raises:
        InputError: a file is unreadable or lies on another grid, maps are no fractions, or there is no tumor.
    """
    volumes, frame = _read(files)
    inside = _brain(volumes)
    if not inside.any():
        raise InputError(f"{files['wm'].parent} shows no brain: its maps, its T1Gd or its mask are empty")
    masks = _masks(volumes["tumorseg"], files["tumorseg"])
    white, gray, csf = (volumes[role] for role in TISSUES)
    tissue = normalized((white, gray, csf), inside, "given")
    images = volumes.get("t1c"), volumes.get("flair")
    return Patient(name, white.with_array(inside), frame, masks, *images, tissue, files)


def run_case(
    patient: Patient,
    brain: Brain,
    refinement: RefinementSettings,
    path: Path,
    announce: Announce = print,
    uncertainty: PosteriorSettings | None = None,
) -> Answer:
    """Solve one patient and write the density.

    Args:
        patient: see `read_case`.
        brain: atlas and network.
        refinement: how to search.
        path: of the file to write.
        announce: is told each stage.
        uncertainty: see `morph.in_place`.

    Raises:
        InputError: the file cannot be written.
    """
    answer = personalize_in_place(patient, brain, refinement, announce, uncertainty)
    brain_of_scorer = patient.brain
    if not {"brain_mask", "t1c"} & set(patient.files):
        brain_of_scorer = grow_mask(patient.brain, patient.t1.spacing, RIM)
    is_told = "brain_mask" in patient.files
    ordered = order_strictly(answer.density.array, brain_of_scorer, patient.t1.spacing, beyond=not is_told)
    about = FALLBACK if answer.method == "fallback" else ""
    write_whole(path, partial(write_volume, volume=patient.t1.with_array(ordered), frame=patient.frame, about=about))
    return answer


def _read(files: dict[str, Path]) -> tuple[dict[str, Volume], Frame]:
    """The images by role, on one grid, and how they lie on disk."""
    like, frame = read_with_frame(files[TISSUES[0]])
    volumes = {role: read_volume(path) for role, path in files.items()}
    for role, volume in volumes.items():
        if not share_grid(volume, like):
            raise InputError(f"{files[role]} lies on another grid than {files[TISSUES[0]].name}: resample it first")
    for role in TISSUES:
        low, high = float(volumes[role].array.min()), float(volumes[role].array.max())
        if low < -FRACTION_SLACK or high > 1 + FRACTION_SLACK:
            raise InputError(f"{files[role]} holds values from {low:g} to {high:g}: give fractions from 0 to 1")
    return volumes, frame


def _brain(volumes: dict[str, Volume]) -> NDArray[np.bool_]:
    """Where the brain is, bool (x, y, z)."""
    if "brain_mask" in volumes:
        return volumes["brain_mask"].array > 0
    inside = (np.asarray(sum(volumes[role].array for role in TISSUES)) > 0) | (volumes["tumorseg"].array > 0)
    if "t1c" in volumes:
        inside |= volumes["t1c"].array > max(float(volumes["t1c"].array.min()), 0.0)
    return inside


def _masks(segmentation: Volume, path: Path) -> Masks:
    """Core and edema; an edema without a core is taken for the core."""
    visible = segmentation.array > 0
    if not visible.any():
        raise InputError(f"{path} is empty: the method needs a visible tumor")
    if np.all(np.isin(segmentation.array, (0, *BRATS_2023["edema"]))):
        return Masks(visible, visible, BRATS_2023)
    return masks_from_labels(segmentation, BRATS_2023, str(path))


def _remove(path: Path) -> None:
    """Take an older answer away: nobody shall take it for a new one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be replaced ({error.strerror}): choose another {OUTPUT[0]}=FOLDER") from error


def _say(name: str, sentence: str) -> None:
    print(f"{name}: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
