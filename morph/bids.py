"""What makes a folder of answers a BIDS derivatives dataset: its description, and a sidecar beside every image.

Images lie on the grid of the T1 that was given, in BIDS' words in the space `orig`. What BIDS has no name for (the
report, pictures, DICOM, transforms, the record of parameters) lies where other BIDS apps put such files and is named
in `.bidsignore`.

Source: BIDS 1.11, Derivatives: Common data types and metadata; Imaging data types.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from engine import InputError
from engine.version import package_version
from morph.layout import PIPELINE, PRODUCTS, Layout

BIDS_VERSION = "1.11.1"
DESCRIPTION = "dataset_description.json"
HOMELESS = ("*.html", "*.csv", "figures", "registration", "rt", "sub-*/*.json")
"""Patterns for .bidsignore. One that ends in a slash does not hide a folder from the validator."""
TISSUE_LABELS = (
    ("index", "name", "abbreviation", "mapping"),
    ("1", "Cerebrospinal Fluid", "CSF", "3"),
    ("2", "Gray Matter", "GM", "1"),
    ("3", "White Matter", "WM", "2"),
)
"""What the labels of tissue.nii.gz mean, and which of BIDS' common labels each is."""
README = """\
Estimated tumor cell densities, one subject a patient, made with learn-morph-infer. Research use only.
Verdict, checks, parameters and configuration of each answer: sub-*/sub-*_parameters.json.
"""
SOURCES = {
    "core.nii.gz": ("seg", "core"),
    "edema.nii.gz": ("seg", "edema"),
    "tissue.nii.gz": ("t1", "white_matter", "gray_matter", "csf"),
}
"""Which given files an image was made from; all others were made from these three."""


def describe(
    layout: Layout, written: Collection[str], files: Mapping[str, Path], record: Mapping[str, Any]
) -> dict[Path, str]:
    """The texts that stand beside an answer: a sidecar for each image, and what its dataset does not have yet.

    Args:
        layout: of a subject.
        written: flat names of the files that this answer has.
        files: what the patient was read from, by role.
        record: what parameters.json says.
    """
    description = {
        "Name": "Personalized models of brain tumor growth",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": PIPELINE, "Version": package_version()}],
    }
    texts = {
        layout.root / "README": README,
        layout.root / ".bidsignore": "\n".join(HOMELESS) + "\n",
        layout.root / DESCRIPTION: _json(description),
    }
    texts = {path: text for path, text in texts.items() if not path.exists()}
    labels = "".join("\t".join(row) + "\n" for row in TISSUE_LABELS)
    texts |= {layout.beside(name, ".tsv"): labels for name in written if PRODUCTS[name].kind == "labels"}
    return texts | {path: _json(said) for path, said in _sidecars(layout, written, files, record).items()}


def _sidecars(
    layout: Layout, written: Collection[str], files: Mapping[str, Path], record: Mapping[str, Any]
) -> dict[Path, dict[str, Any]]:
    own = [f"bids::{layout.place(name).relative_to(layout.root).as_posix()}" for name in SOURCES if name in written]
    sidecars = {}
    for name in written:
        product = PRODUCTS[name]
        if product.kind == "other":
            continue
        given = [files[role].resolve().as_uri() for role in SOURCES.get(name, ()) if role in files]
        sidecar: dict[str, Any] = {
            "Description": product.about,
            "SpatialReference": "orig",
            "Sources": given if name in SOURCES else own,
        }
        if name not in SOURCES:
            sidecar["Manual"] = False
        if product.kind == "share":
            sidecar |= {"Units": "1", "Method": record["method"], "Verdict": record["verdict"]}
            if record["thresholds"] is not None:
                sidecar["Thresholds"] = record["thresholds"]
        if product.kind == "mask":
            sidecar["Type"] = "ROI" if "ctv" in name else "Lesion"
        sidecars[layout.beside(name, ".json")] = sidecar
    return sidecars


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def find_subject(folder: Path) -> dict[str, Path] | None:
    """The images of a subject of a BIDS dataset, by role; None for a folder that is none.

    The tumor comes from the dataset's derivatives, any but this pipeline's: one `*_dseg.nii.gz` with labels, or
    `*_label-core_mask.nii.gz` and `*_label-edema_mask.nii.gz`.

    Args:
        folder: `DATASET/sub-LABEL`, whose images are in `anat`.

    Raises:
        InputError: no T1 or no tumor, several files for one role, or several sessions.
    """
    if not folder.name.startswith("sub-"):
        return None
    if not (folder / "anat").is_dir():
        if any(folder.glob("ses-*")):
            raise InputError(
                f"{folder} has sessions: choose one, give its files as t1=, seg= or core= and edema=, and name= it"
            )
        return None
    images = sorted((folder / "anat").glob("*.nii*"))
    datasets = [path for path in sorted((folder.parent / "derivatives").glob("*")) if not _is_ours(path)]
    derived = [path for dataset in datasets for path in sorted((dataset / folder.name / "anat").glob("*.nii*"))]
    found = {
        "t1": [path for path in images if _stem(path).endswith("_T1w") and "_ce-" not in path.name],
        "t1ce": [path for path in images if _stem(path).endswith("_T1w") and "_ce-" in path.name],
        "flair": [path for path in images if _stem(path).endswith("_FLAIR")],
        "core": [path for path in derived if _stem(path).endswith("_label-core_mask")],
        "edema": [path for path in derived if _stem(path).endswith("_label-edema_mask")],
        "seg": [path for path in derived if _stem(path).endswith("_dseg")],
    }
    for role in ("seg",) if found["core"] and found["edema"] else ("core", "edema") if found["seg"] else ():
        del found[role]
    for role, paths in found.items():
        if len(paths) > 1:
            raise InputError(f"{folder} has {len(paths)} files for {role} ({paths[0].name}, {paths[1].name}): keep one")
    if not found["t1"]:
        raise InputError(f"{folder / 'anat'} has no T1: expected a name that ends in _T1w.nii.gz")
    if not (found.get("seg") or (found.get("core") and found.get("edema"))):
        raise InputError(
            f"{folder.parent / 'derivatives'} has no tumor for {folder.name}: expected one _dseg.nii.gz, or "
            "_label-core_mask.nii.gz and _label-edema_mask.nii.gz"
        )
    return {role: paths[0] for role, paths in found.items() if paths}


def _is_ours(dataset: Path) -> bool:
    """Whether this pipeline made a dataset of derivatives."""
    try:
        about = json.loads((dataset / DESCRIPTION).read_text(encoding="utf-8"))
        makers = [maker["Name"] for maker in about["GeneratedBy"]]
    except (OSError, ValueError, KeyError, TypeError):
        makers = []
    return PIPELINE in (dataset.name, *makers)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
