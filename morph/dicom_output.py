"""Masks as DICOM: an RT Structure Set of contours and a Segmentation, both on the slices of a reference series.

Both carry the patient, study and frame of reference of that series, so that a planning system or a viewer lays them
on it. Both say that they are for research only, derived, and not approved. Masks that lie on another grid than the
series' are read at the centers of its voxels, linearly; contours follow the level of one half there.

The structure set is written with pydicom, in implicit little endian, where a contour may have any length (explicit
encodings end at 64 kB). The segmentation is highdicom's. Source: DICOM PS3.3 2024d, A.19 and C.8.8 (structure set),
A.51 (segmentation).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import Code, codes
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from engine.version import package_version
from morph.contours import LEVEL, outlines
from morph.dicom_input import RAS_FROM_LPS, Series
from morph.layout import PIPELINE, PRODUCTS
from morph.volume import Volume

RESEARCH = "Research use only, derived by a tumor model"
"""Stands in every description."""
SERIES_NUMBERS = (9001, 9002)
"""Of structure set and segmentation: after the scanner's own (ours)."""
DECIMALS = 3
"""Of contour points [mm]."""
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
"""What DICOM requires of every object, empty where it is not known."""
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: how a structure set names the class of the study it refers to."""


@dataclass(frozen=True)
class Region:
    """How a mask is called in DICOM.

    Attributes:
        role: RT ROI interpreted type; empty where none fits.
        category: of the segment; likewise `kind`, its type.
        color: red, green and blue from 0 to 255.
        given: drawn by whoever gave the masks, not by us.
    """

    role: str
    category: Code
    kind: Code
    color: tuple[int, int, int]
    given: bool = False


LONGEST_TEXT = 1024
"""Characters of a value with VR ST. Source: DICOM PS3.5, 6.2."""
_TARGET, _CTV = codes.DCM.RTTarget, Code("228792002", "SCT", "CTV")
REGIONS = {
    "core": Region("GTV", _TARGET, Code("228791009", "SCT", "GTV"), (228, 26, 28), given=True),
    "edema": Region("", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Edema, (255, 200, 40), given=True),
    "ctv_15mm": Region("CTV", _TARGET, _CTV, (255, 255, 255)),
    "ctv_20mm": Region("CTV", _TARGET, _CTV, (170, 170, 170)),
    "ctv_density": Region("CTV", _TARGET, _CTV, (0, 200, 230)),
    "ctv_probability": Region("CTV", _TARGET, _CTV, (200, 80, 255)),
}
"""Name of a mask -> what it is; the standard's context groups 9534 (RT targets) and 7159 (lesions)."""


def write_structures(
    path: Path, series: Series, masks: Mapping[str, Volume], note: str, fallback: bool = False
) -> None:
    """Write an RT Structure Set.

    Args:
        path: where to.
        series: what the contours are drawn on.
        masks: names from `REGIONS` -> 0 and 1 on any grid in the series' world.
        note: what whoever looks at a region must know, for every description.
        fallback: the density is no model's; label and name say so, for a planning system shows no descriptions.
    """
    now = datetime.now()
    dataset = _new_object(series, now)
    dataset.StructureSetLabel = "LMI FALLBACK" if fallback else "LMI RESEARCH"
    dataset.StructureSetDescription = _short(f"{RESEARCH}. {note}")
    dataset.StructureSetDate, dataset.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_series(series)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    for number, (name, mask) in enumerate(masks.items(), 1):
        region = REGIONS[name]
        dataset.StructureSetROISequence.append(
            _item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=series.frame_of_reference,
                ROIName=_shown_name(name, fallback),
                ROIDescription=_about(name, note),
                ROIGenerationAlgorithm="" if region.given else "AUTOMATIC",
            )
        )
        drawn = _item(ROIDisplayColor=list(region.color), ReferencedROINumber=number)
        if contours := _contours(series, series.shares(mask)):  # a region between two slices has none
            drawn.ContourSequence = contours
        dataset.ROIContourSequence.append(drawn)
        dataset.RTROIObservationsSequence.append(
            _item(
                ObservationNumber=number,
                ReferencedROINumber=number,
                RTROIInterpretedType=region.role,
                ROIInterpreter="",
            )
        )
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.save_as(path, enforce_file_format=True)


def write_segmentation(
    path: Path, series: Series, masks: Mapping[str, Volume], note: str, fallback: bool = False
) -> None:
    """Write a Segmentation with one binary segment for each mask; the arguments are those of `write_structures`."""
    stack = np.stack([series.shares(mask).T >= LEVEL for mask in masks.values()], axis=-1)
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=_shown_name(name, fallback),
            segmented_property_category=REGIONS[name].category,
            segmented_property_type=REGIONS[name].kind,
            algorithm_type="SEMIAUTOMATIC" if REGIONS[name].given else "AUTOMATIC",
            algorithm_identification=_algorithm(REGIONS[name].given),
            tracking_uid=generate_uid(),
            tracking_id=name,
            display_color=highdicom.color.CIELabColor.from_rgb(*REGIONS[name].color),
        )
        for number, name in enumerate(masks, 1)
    ]
    for segment, name in zip(segments, masks, strict=True):
        segment.SegmentDescription = _about(name, note)
    highdicom.seg.Segmentation(
        source_images=[_complete(header) for header in series.headers],
        pixel_array=stack.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBERS[1],
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=PIPELINE,
        manufacturer_model_name=PIPELINE,
        software_versions=package_version(),
        device_serial_number="0",
        content_label="LMI_RESEARCH",
        content_description=RESEARCH,
        series_description=RESEARCH,
    ).save_as(path)


def _complete(header: Dataset) -> Dataset:
    """A copy with everything that DICOM requires of patient and study, empty where somebody took it out."""
    complete = deepcopy(header)
    for keyword in (*PATIENT, *STUDY):
        if keyword not in complete:
            setattr(complete, keyword, "")
    return complete


def _new_object(series: Series, now: datetime) -> FileDataset:
    """A structure set with everything but its structures."""
    first = series.headers[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    if "SpecificCharacterSet" in first:
        dataset.SpecificCharacterSet = first.SpecificCharacterSet
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    for keyword in (*PATIENT, *STUDY):
        setattr(dataset, keyword, first.get(keyword, ""))
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBERS[0], 1
    dataset.SeriesDescription, dataset.OperatorsName = RESEARCH, ""
    dataset.Manufacturer = dataset.ManufacturerModelName = PIPELINE
    dataset.SoftwareVersions = package_version()
    dataset.FrameOfReferenceUID = series.frame_of_reference
    dataset.PositionReferenceIndicator = first.get("PositionReferenceIndicator", "")
    return dataset


def _referenced_series(series: Series) -> Dataset:
    """Frame of reference, study, series and slices that the contours lie on."""
    images = [_image(header) for header in series.headers]
    first = series.headers[0]
    referenced = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[referenced],
    )
    return _item(FrameOfReferenceUID=series.frame_of_reference, RTReferencedStudySequence=[study])


def _contours(series: Series, shares: NDArray[np.float32]) -> list[Dataset]:
    """The outlines of a region, from its share of each voxel (column, row, slice)."""
    to_patient = RAS_FROM_LPS @ series.affine
    contours: list[Dataset] = []
    for at in np.flatnonzero((shares >= LEVEL).any(axis=(0, 1))):
        for polygon in outlines(shares[:, :, at]):
            points = np.column_stack([polygon, np.full(len(polygon), at)]) @ to_patient[:3, :3].T + to_patient[:3, 3]
            contours.append(
                _item(
                    ContourNumber=len(contours) + 1,
                    ContourImageSequence=[_image(series.headers[at])],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.{DECIMALS}f}" for value in points.ravel()],
                )
            )
    return contours


def _image(header: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _algorithm(given: bool) -> highdicom.AlgorithmIdentificationSequence:
    """Who drew a mask: we do not know it of those that were given."""
    if given:
        return highdicom.AlgorithmIdentificationSequence("outline as given", codes.DCM.ManualProcessing, "unknown")
    return highdicom.AlgorithmIdentificationSequence(PIPELINE, codes.DCM.MorphologicalOperations, package_version())


def _shown_name(name: str, fallback: bool) -> str:
    """What a region is called where it is chosen."""
    return f"{name}_fallback" if fallback and name == "ctv_density" else name


def _about(name: str, note: str) -> str:
    """Description of a region."""
    return _short(f"{PRODUCTS[f'{name}.nii.gz'].about}. {RESEARCH}. {note}")


def _short(text: str) -> str:
    """A text that DICOM's short ones (VR ST) can hold."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
