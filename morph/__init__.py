"""PATIENTS: from a patient's T1 and tumor masks to a density on the patient's own grid."""

from morph.ants import AntsRegistration
from morph.patient import Patient, find_case, load_patient
from morph.pipeline import Personalization, run_pipeline
from morph.refine import RefinementSettings
from morph.volume import Volume, read_volume

__all__ = [
    "AntsRegistration",
    "Patient",
    "Personalization",
    "RefinementSettings",
    "Volume",
    "find_case",
    "load_patient",
    "read_volume",
    "run_pipeline",
]
