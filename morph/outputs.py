"""The files of an answer, each written whole under another name and then renamed; parameters.json comes last.

What may be written is listed in `morph.layout`, with what each file is. Images lie on the patient's own T1 grid, in
its orientation and affine. A folder without parameters.json holds no finished answer.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine import InputError, MassEffectParameters
from engine.version import code_hash
from morph.answer import Personalization
from morph.bids import describe
from morph.checks import Check
from morph.dicom_output import write_segmentation, write_structures
from morph.evidence import Estimate
from morph.inference import Brain
from morph.layout import PARAMETERS, Layout
from morph.mass_effect import describe_push
from morph.models_picture import draw_models
from morph.patient import Patient
from morph.picture import draw_overview
from morph.report import write_report
from morph.targets import Targets, series_notes
from morph.volume import write_vectors, write_volume

Write = Callable[[Path], Any]
MARK = ".learn-morph-infer"
"""Empty file that says that what has an answer's names in this folder may be replaced by the next answer."""
FALLBACK = "FALLBACK: distance to the visible tumor, no growth model"
"""What the headers of a fallback's images say."""
SPREAD_NAMES = ("log_mu1_mu2", "log_mu1_over_mu2", "origin_x_mm", "origin_y_mm", "origin_z_mm")
"""Of `morph.evidence.Estimate.spread`, in order."""
DISTRIBUTIONS = (
    "learn-morph-infer", "numpy", "numba", "torch", "antspyx", "cma", "nibabel", "SimpleITK", "pydicom", "highdicom"
)  # fmt: skip


def prepare_folder(layout: Layout, given: Iterable[str | Path] = ()) -> None:
    """Make the output folder and take an older answer away, the mark of its completion first.

    Call it once everything that a user may have mistyped has been read.

    Args:
        layout: see there.
        given: files that the answer is made from.

    Raises:
        InputError: nothing can be written there, or a file would be lost that is given or not known to be an answer's.
    """
    folder = layout.folder
    inputs = {Path(path).resolve() for path in given}
    lost = inputs & {path.resolve() for path in layout.every_file()}
    if lost:
        raise InputError(f"out={layout.root} would overwrite {min(lost)}, which is an input: choose another folder")
    if folder.resolve() in inputs:
        raise InputError(f"out={layout.root} is the folder of an input series: choose another folder")
    if layout.subject is not None and any(path.is_relative_to(folder.resolve()) for path in inputs):
        raise InputError(f"out={layout.root} would put the answer among the images of {folder}: choose another folder")
    foreign = [path for path in layout.every_file() if path.exists()]
    if foreign and not (folder / MARK).exists():
        raise InputError(f"{foreign[0]} is there, and nothing says that an answer left it: choose another out=")
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.replace(folder / MARK)
        for path in layout.every_file():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"out={folder} cannot be written ({error.strerror}): choose another folder") from error


def check_owner(layout: Layout, files: Mapping[str, str | Path]) -> None:
    """Refuse to replace the answer of another T1; for places that nobody chose.

    Args:
        layout: where the answer shall go.
        files: of the patient, by role.

    Raises:
        InputError: the answer that is there was made from another T1.
    """
    try:
        before = json.loads(layout.place(PARAMETERS).read_text(encoding="utf-8"))["hashes"]["t1"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != file_hash(Path(files["t1"])):
        raise InputError(f"{layout.folder} holds the answer of another T1: say with out=FOLDER where this one goes")


def write_outputs(
    layout: Layout,
    patient: Patient,
    answer: Personalization,
    brain: Brain,
    targets: Targets,
    config: Mapping[str, Any],
    twin: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that an answer consists of.

    Args:
        layout: where to, see `prepare_folder`.
        patient: whose answer it is.
        answer: what was found.
        brain: atlas and network that were used.
        targets: volumes to aim at.
        config: the command's configuration, kept for the record.
        twin: what twin.json says, for a digital twin.
    """
    record = describe_answer(patient, answer, brain, config) | {"targets": targets.record}
    written = dict(list_files(patient, answer, targets))
    record["files"] = [*written, "report.html"]
    report = partial(write_report, patient=patient, answer=answer, record=record, targets=targets, twin=twin)
    written["report.html"] = report
    for name, write in written.items():
        write_whole(layout.place(name), write)
    if layout.subject is not None:
        for path, text in describe(layout, written, patient.files, record).items():
            write_whole(path, partial(Path.write_text, data=text, encoding="utf-8"))
    write_json(layout.place(PARAMETERS), record)


def list_files(patient: Patient, answer: Personalization, targets: Targets) -> Iterator[tuple[str, Write]]:
    """Every file of this answer but its records: its name in `morph.layout.PRODUCTS`, and what writes it."""
    t1, frame = patient.t1, patient.frame
    is_fallback = answer.method == "fallback"
    about = FALLBACK if is_fallback else ""
    yield "density.nii.gz", partial(write_volume, volume=answer.density, frame=frame, about=about)
    drawn = {"core": patient.masks.core, "edema": patient.masks.edema, **targets.masks}
    for name, mask in drawn.items():
        said = about if name == "ctv_density" else ""
        yield (
            f"{name}.nii.gz",
            partial(write_volume, volume=t1.with_array(mask), frame=frame, dtype=np.uint8, about=said),
        )
    if answer.tissue is not None:
        yield "tissue.nii.gz", partial(write_volume, volume=answer.tissue, frame=frame, dtype=np.uint8)
    if answer.posterior is not None:
        for name, volume in answer.posterior.maps().items():
            yield f"{name}.nii.gz", partial(write_volume, volume=volume, frame=frame)
    if answer.push is not None:
        before, vectors = answer.push.tissue_before, answer.push.displacement
        yield "tissue_before.nii.gz", partial(write_volume, volume=before, frame=frame, dtype=np.uint8)
        yield "displacement.nii.gz", partial(write_vectors, vectors=vectors, frame=frame)
        yield "models.png", partial(draw_models, patient=patient, answer=answer, push=answer.push)
    if patient.series is not None:
        masks = {name: t1.with_array(mask) for name, mask in drawn.items()}
        note = f"Verdict of its checks: {answer.verdict}. Density: {targets.record['density']}."
        note += "".join(f" {sentence}." for sentence in series_notes(targets.record))
        for name, write in (("rtstruct.dcm", write_structures), ("segmentation.dcm", write_segmentation)):
            yield name, partial(write, series=patient.series, masks=masks, note=note, fallback=is_fallback)
    yield "overview.png", partial(draw_overview, patient=patient, answer=answer)


def describe_answer(
    patient: Patient, answer: Personalization, brain: Brain, config: Mapping[str, Any]
) -> dict[str, Any]:
    """What parameters.json says.

    `parameters` has lengths in the patient's mm and the origin both as a fraction of the cube of `space` and in the
    patient's world; of a tumor that pushes the first is in the brain at rest and the second where that tissue is seen.
    `atlas_space` is the same tumor carried to the atlas, with lengths in its mm (where `tumor_tissue` is
    `white_matter` it needs that there, too, to grow as far); `network` is the network's estimate of it, and `rejected`
    a fit that did not pass its checks, both likewise in atlas space. `write_outputs` adds `targets` and `files`, the
    names of every file but the records.
    """
    delivered = answer.parameters is not None
    found = _estimate(answer.found)
    asked = (config.get("model") or {}).get("name") == "mass_effect"
    pushes = answer.push is not None or (asked and not delivered)  # a push that was rejected leaves the first model
    thresholds = None
    if answer.parameters is not None and answer.fit is not None:
        thresholds = {"core": answer.fit.core_threshold, "edema": answer.fit.edema_threshold}
    return {
        "model": "mass_effect" if pushes else "fisher_kolmogorov",
        "parameters": _parameters(answer),
        "atlas_space": found if delivered else None,
        "thresholds": thresholds,
        "posterior": None if answer.posterior is None else answer.posterior.describe(),
        "push": None if answer.push is None else describe_push(answer.push, answer.fit),
        "checks": [_check(check) for check in answer.checks],
        "verdict": answer.verdict,
        "method": answer.method,
        "space": answer.space,
        "tissue": answer.tissue_source,
        "tumor_tissue": answer.tumor_tissue,
        "tumor_losses": dict(answer.tumor_losses),
        "network": _estimate(answer.estimate),
        "rejected": None if delivered else found,
        "affine_scale": answer.scale,
        "versions": {"code": code_hash(), **{name: _version(name) for name in DISTRIBUTIONS}},
        "hashes": {
            **{name: file_hash(path) for name, path in patient.files.items()},
            **hash_brain(brain),
        },
        "labels": patient.masks.labels,
        "weights": None if brain.estimator is None else brain.estimator.metadata["name"],
        "config": dict(config),
        "seconds": answer.seconds,
    }


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write strict JSON, whole or not at all."""
    text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Write) -> None:
    """Write a file under another name and rename it.

    Args:
        path: where it shall be; its folder is made.
        write: is given the other name, which has the same ending.

    Raises:
        InputError: the disk does not take it.
    """
    unfinished = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): is the disk full?") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _parameters(answer: Personalization) -> dict[str, Any] | None:
    found = answer.parameters
    if found is None or answer.origin_mm is None:
        return None
    return {
        "mu1": found.mu1,
        "mu2": found.mu2,
        "diffusivity": found.diffusivity,
        "proliferation": found.proliferation,
        "duration": found.duration,
        "origin": list(found.origin),
        "origin_mm": answer.origin_mm.tolist(),
        **({"coupling": found.coupling} if isinstance(found, MassEffectParameters) else {}),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """Numbers in atlas space."""
    if estimate is None:
        return None
    numbers: dict[str, Any] = {"mu1": estimate.mu1, "mu2": estimate.mu2, "origin": list(estimate.origin)}
    if estimate.spread is not None:
        numbers["spread"] = dict(zip(SPREAD_NAMES, estimate.spread, strict=True))
    return numbers if estimate.coupling is None else numbers | {"coupling": estimate.coupling}


def _check(check: Check) -> dict[str, Any]:
    finite = {key: v if math.isfinite(v) else None for key, v in (("value", check.value), ("limit", check.limit))}
    return {"name": check.name, **finite, "verdict": check.verdict, "message": check.message}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def hash_brain(brain: Brain) -> dict[str, str]:
    """Hashes of the atlas and of the weights, by the names they have in parameters.json."""
    files = () if brain.estimator is None else brain.estimator.files
    return {"atlas": brain.fine.content_hash} | {f"weights/{path.name}": file_hash(path) for path in files}


def file_hash(path: Path) -> str:
    """SHA-256 of a file; of a DICOM series' folder, that of its files' hashes in the order of their names."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
