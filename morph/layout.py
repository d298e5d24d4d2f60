"""Every file that an answer may have, once: its flat name, its place in a BIDS dataset and what it shows.

`Layout` says where a file goes. Flat is one folder for each patient; with a subject it is the folder of a BIDS
derivatives dataset, where many patients lie side by side (see `morph.bids` for what else such a dataset needs).

A new output needs a line in `PRODUCTS` and its writer in `morph.outputs`.

Source of names and entities: BIDS 1.11, Derivatives, Imaging data types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine import InputError

PIPELINE = "learn-morph-infer"
DATASET = Path("results/derivatives") / PIPELINE
"""Where BIDS datasets of answers are written unless out= says otherwise."""
LAYOUTS = ("flat", "bids")
PARAMETERS = "parameters.json"
TWIN = "twin.json"
REGISTRATION = "registration"
Kind = Literal["share", "mask", "labels", "other"]


@dataclass(frozen=True)
class Product:
    """One file of an answer.

    Attributes:
        bids: its place below the dataset, `{}` being sub-LABEL.
        about: what it shows, for its sidecar.
        kind: `share` (values from 0 to 1), `mask` and `labels` are images with a sidecar, `other` is anything else.
    """

    bids: str
    about: str
    kind: Kind = "other"


def _image(entities: str, about: str, kind: Kind) -> Product:
    return Product(f"{{}}/anat/{{}}_space-orig_{entities}.nii.gz", about, kind)


PRODUCTS = {
    "density.nii.gz": _image(
        "label-tumor_desc-density_probseg", "Tumor cell density, as a fraction of the carrying capacity", "share"
    ),
    "core.nii.gz": _image("label-core_mask", "Tumor core (what T1Gd shows), as it was used", "mask"),
    "edema.nii.gz": _image("label-edema_mask", "Edema with the core (what FLAIR shows), as it was used", "mask"),
    "tissue.nii.gz": _image(
        "seg-tissue_dseg", "Tissue that the tumor was solved on, or that a fallback went around", "labels"
    ),
    "density_mean.nii.gz": _image(
        "label-tumor_desc-mean_probseg", "Mean density of the tumors that the masks allow", "share"
    ),
    "density_std.nii.gz": _image("label-tumor_desc-std_probseg", "Standard deviation of those densities", "share"),
    "probability_0.01.nii.gz": _image(
        "label-tumor_desc-above0p01_probseg", "Probability that the density exceeds 0.01", "share"
    ),
    "probability_0.1.nii.gz": _image(
        "label-tumor_desc-above0p1_probseg", "Probability that the density exceeds 0.1", "share"
    ),
    "probability_0.5.nii.gz": _image(
        "label-tumor_desc-above0p5_probseg", "Probability that the density exceeds 0.5", "share"
    ),
    "ctv_15mm.nii.gz": _image(
        "label-CTV_desc-15mm_mask", "Margin of 15 mm around the core, or around an edema without one", "mask"
    ),
    "ctv_20mm.nii.gz": _image(
        "label-CTV_desc-20mm_mask", "Margin of 20 mm around the core, or around an edema without one", "mask"
    ),
    "ctv_density.nii.gz": _image(
        "label-CTV_desc-density_mask", "Highest densities, as much volume as the standard margin", "mask"
    ),
    "ctv_probability.nii.gz": _image(
        "label-CTV_desc-probability_mask",
        "Where the model's density exceeds a level with a chosen probability, and the core",
        "mask",
    ),
    "rtstruct.dcm": Product("{}/rt/{}_rtstruct.dcm", "Contours as a DICOM structure set"),
    "segmentation.dcm": Product("{}/rt/{}_segmentation.dcm", "Masks as a DICOM segmentation"),
    "tissue_before.nii.gz": _image("seg-tissue_desc-before_dseg", "Tissue before the tumor pushed it", "labels"),
    "displacement.nii.gz": Product(
        "{}/registration/{}_displacement.nii.gz",
        "How far what is now at a voxel was moved, mm RAS: it came from x - d",
    ),
    "models.png": Product("{}/figures/{}_models.png", "Both models' densities, and the displacement"),
    "overview.png": Product("{}/figures/{}_overview.png", "Three planes with masks and density contours"),
    "report.html": Product("{}.html", "Report for people"),
    TWIN: Product("{}/{}_twin.json", "Distance of a digital twin's answer from the truth"),
    PARAMETERS: Product("{}/{}_parameters.json", "Parameters, checks, verdict, versions and configuration"),
}
"""Flat name -> the file. `parameters.json` is the mark of a finished answer and is written last."""


@dataclass(frozen=True)
class Layout:
    """Where an answer's files go.

    Attributes:
        root: the answer's folder, or with a subject the dataset's.
        subject: `sub-LABEL` for BIDS; None for flat.
    """

    root: Path
    subject: str | None = None

    def place(self, name: str) -> Path:
        """Where the file with this flat name goes; the folder may not exist yet."""
        product = PRODUCTS[name]
        if self.subject is None:
            return self.root / name
        return self.root / product.bids.format(self.subject, self.subject)

    def beside(self, name: str, ending: str) -> Path:
        """The file that describes an image: the same place with another ending."""
        image = self.place(name)
        return image.with_name(image.name.removesuffix(".nii.gz") + ending)

    def sidecars(self, name: str) -> list[Path]:
        """What stands beside the file with this flat name: nothing in the flat layout."""
        kind = PRODUCTS[name].kind
        if self.subject is None or kind == "other":
            return []
        return [self.beside(name, ending) for ending in ((".json", ".tsv") if kind == "labels" else (".json",))]

    def every_file(self) -> Iterator[Path]:
        """All places where an answer may have a file, its mark of completion first."""
        for name in sorted(PRODUCTS, key=lambda name: name != PARAMETERS):
            yield self.place(name)
            yield from self.sidecars(name)

    @property
    def registration(self) -> Path:
        """The folder of the transforms."""
        return self.root / (self.subject or "") / REGISTRATION

    @property
    def folder(self) -> Path:
        """The folder that is this patient's alone."""
        return self.root / (self.subject or "")


def lay_out(kind: object, root: Path, name: str) -> Layout:
    """The layout that was asked for.

    Args:
        kind: one of `LAYOUTS`.
        root: see `Layout`.
        name: the patient's, for the subject's label.

    Raises:
        InputError: another word, or a name that leaves no label.
    """
    if kind not in LAYOUTS:
        raise InputError(f"layout={kind} is unknown: use {' or '.join(LAYOUTS)}")
    return Layout(root, subject_of(name)) if kind == "bids" else Layout(root)


def subject_of(name: str) -> str:
    """`sub-LABEL` from a patient's name: BIDS allows letters and digits only.

    Raises:
        InputError: nothing is left of the name.
    """
    label = re.sub(r"[^a-zA-Z0-9]", "", name.removeprefix("sub-"))
    if not label:
        raise InputError(f"the patient's name {name!r} has no letter or digit for a BIDS subject: rename its folder")
    return f"sub-{label}"
