"""PATIENTS: from a patient's T1 and tumor masks to a density on the patient's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine import load_anatomy
from morph.answer import Personalization
from morph.ants import AntsRegistration
from morph.inference import prepare_brain
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import run_pipeline
from morph.posterior import PosteriorSettings
from morph.refine import RefinementSettings
from morph.volume import Volume, read_volume

__all__ = [
    "AntsRegistration",
    "Patient",
    "Personalization",
    "PosteriorSettings",
    "RefinementSettings",
    "Volume",
    "find_case",
    "load_patient",
    "personalize",
    "read_volume",
    "run_pipeline",
]


def personalize(
    *,
    weights: str = "auto",
    atlas: str | Mapping[str, str] = "sri24",
    space: str = "patient",
    seed: int = 0,
    **files: str | Path,
) -> Personalization:
    """Personalize the tumor model to one patient with the default settings, without writing anything.

    Args:
        weights: `auto` (the shipped ones), `none`, or what `learn.load_weights` takes.
        atlas: what `engine.load_anatomy` takes.
        space: where to solve, `patient` or `atlas`.
        seed: of the registration's sampling and the search.
        files: `t1` and either `seg` or `core` and `edema`; see `load_patient` for the others.

    Raises:
        InputError: for whatever the caller can mend.
    """
    patient = load_patient(files)
    brain = prepare_brain(load_anatomy(atlas), weights)
    search, uncertainty = RefinementSettings(seed=seed), PosteriorSettings(seed=seed)
    return run_pipeline(patient, brain, AntsRegistration(seed=seed), search, space, uncertainty=uncertainty)
