"""DICOM series made from arrays, as a scanner would write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lay(spacing: tuple[float, float, float], angles: tuple[float, float, float], corner: np.ndarray) -> np.ndarray:
    """(column, row, slice) -> world LPS [mm], (4, 4): axes turned by angles [degrees] around x, y and z."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = corner
    return affine


def write_series(folder: Path, array: np.ndarray, affine: np.ndarray, **changed: object) -> list[FileDataset]:
    """Write one file for each slice, named in another order than the slices lie.

    Args:
        folder: made if it is not there.
        array: (column, row, slice), whole numbers from 0.
        affine: (column, row, slice) -> world LPS [mm].
        changed: attributes that shall be different; a function of the slice's index gives each its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shared = {
        "PatientName": "Made^Up", "PatientID": "made-up-1", "PatientBirthDate": "", "PatientSex": "O",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1", "StudyDate": "20260101", "StudyTime": "120000",
        "StudyID": "7", "AccessionNumber": "", "ReferringPhysicianName": "",
        "SeriesInstanceUID": generate_uid(), "SeriesNumber": 3, "SeriesDescription": "T1 axial", "Modality": "MR",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.2", "PositionReferenceIndicator": "",
        "Manufacturer": "nobody", "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanningSequence": "GR",
        "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "3D", "EchoTime": 3, "RepetitionTime": 8,
        "EchoTrainLength": 1, "Rows": array.shape[1], "Columns": array.shape[0], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 0, "PixelSpacing": [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"],
        "SliceThickness": f"{spacing[2]:.6f}",
        "ImageOrientationPatient": [f"{v:.9f}" for v in (*directions[:, 0], *directions[:, 1])],
    }  # fmt: skip
    files = []
    for at in range(array.shape[2]):
        own = {
            "SOPInstanceUID": generate_uid(),
            "InstanceNumber": at + 1,
            "ImagePositionPatient": [f"{v:.6f}" for v in affine[:3] @ (0, 0, at, 1)],
            "PixelData": np.ascontiguousarray(array[:, :, at].T).astype("<u2").tobytes(),
        }
        files.append(_file({**shared, **own, **{k: v(at) if callable(v) else v for k, v in changed.items()}}))
        name = (700 * at + 3) % 1009
        files[-1].save_as(folder / f"IM{name:04d}", enforce_file_format=True)
    return files


def _file(values: dict[str, object]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, values["SOPInstanceUID"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = MRImageStorage
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset
