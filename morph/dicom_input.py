"""DICOM series as images: one folder of single-frame slices that fill a box, in one frame of reference.

DICOM's world is LPS, ours is RAS: x and y change their sign. Slices are ordered by their position, never by number or
name, and geometry and values (rescale slope and intercept) are read by pydicom and highdicom. What is not one regular
series is refused: several series, missing, repeated or tilted slices, multi-frame objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import highdicom
import numpy as np
from highdicom.spatial import get_series_volume_positions
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.misc import is_dicom

from engine import InputError
from morph.resample import bounding_box, cut, resample
from morph.volume import Frame, Volume, lay_in_ras, read_with_frame

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns",
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip
"""Without one of these a slice has no place, or nothing can be said about it in DICOM."""
ALIKE = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "FrameOfReferenceUID")
"""What all slices of a series share."""
SAME_GAP = 0.01
"""Relative difference of two slices' distances that counts as none: rounded positions (highdicom's default)."""
SAME_DIRECTION = 1e-3
"""Likewise of two slices' direction cosines, and of the stack's and the slices' normal (ours)."""

UNREADABLE = (
    AttributeError, BytesLengthException, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What pydicom and highdicom raise for files that are damaged, of a kind they do not know, or without pixels."""


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one series, without their pixels.

    Attributes:
        folder: where they lie.
        files: in the order of the slices.
        headers: likewise.
    """

    folder: Path
    files: tuple[Path, ...]
    headers: tuple[Dataset, ...]

    @property
    def frame_of_reference(self) -> str:
        """Identifies the world that positions are given in."""
        return str(self.headers[0].FrameOfReferenceUID)

    @property
    def patient(self) -> str:
        """Whose it is: name and ID, as far as they are said."""
        first = self.headers[0]
        return f"{first.get('PatientName') or 'no name'} ({first.get('PatientID') or 'no ID'})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        first = self.headers[0]
        return int(first.Columns), int(first.Rows), len(self.headers)

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """(column, row, slice) -> world RAS [mm], float64 (4, 4)."""
        first, last = self.headers[0], self.headers[-1]
        ends = np.array(first.ImagePositionPatient, dtype=float), np.array(last.ImagePositionPatient, dtype=float)
        geometry = highdicom.VolumeGeometry.from_attributes(
            image_position=first.ImagePositionPatient,
            image_orientation=first.ImageOrientationPatient,
            rows=first.Rows,
            columns=first.Columns,
            pixel_spacing=first.PixelSpacing,
            spacing_between_slices=float(np.linalg.norm(ends[1] - ends[0])) / (len(self.headers) - 1),
            number_of_frames=len(self.headers),
            coordinate_system="PATIENT",
        )
        return _ras(geometry.affine)

    def missed(self, mask: Volume) -> float:
        """Part of a mask that the series does not show [1]; the mask lies on any grid in its world."""
        voxels = mask.to_world(np.argwhere(mask.array > 0))
        places = (voxels - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        inside = np.all((places >= -0.5) & (places <= np.array(self.shape) - 0.5), axis=1)
        return float(1 - inside.mean()) if len(inside) else 0.0

    def shares(self, mask: Volume) -> NDArray[np.float32]:
        """Share of each voxel of the series that belongs to a mask, read at its center, (column, row, slice)."""
        whole = Volume(np.zeros(self.shape, dtype=np.float32), self.affine)
        if not mask.array.any():
            return whole.array
        around = bounding_box(mask.array > 0, 1)
        ends = np.array([(side.start - 1, side.stop) for side in around])
        corners = whole.to_voxel(mask.to_world(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T))
        low = np.clip(np.floor(corners.min(axis=0)), 0, np.array(self.shape) - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)) + 1, low + 1, self.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        whole.array[box] = resample(cut(mask, around), cut(whole, box), 1).array
        return whole.array


def may_be_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do; one that cannot be looked at does not."""
    try:
        return path.is_file() and is_dicom(path)
    except OSError:
        return False


def read_image(path: Path) -> tuple[Volume, Frame, Series | None]:
    """Read a NIfTI file, or the DICOM series in a folder.

    Raises:
        InputError: see `morph.volume.read_volume`, `read_series` and `read_slices`.
    """
    if path.is_dir():
        series = read_series(path)
        return *read_slices(series), series
    if path.is_file() and is_dicom(path):
        raise InputError(f"{path} is a single DICOM file: give the folder that holds its whole series")
    return *read_with_frame(path), None


def read_series(folder: Path) -> Series:
    """Read the headers of the only series in a folder; files that are no DICOM images are passed over.

    Raises:
        InputError: there is no series, or more than one, or it is no regular stack of single-frame slices.
    """
    with _reading(folder):
        found = dict(_headers(folder))
        if not found:
            raise InputError(f"{folder} holds no DICOM images: give the folder that the slices of one series lie in")
        names = Counter(_name(header) for header in found.values())
        if len(names) > 1:
            listed = "; ".join(f"{name} ({count} files)" for name, count in sorted(names.items()))
            raise InputError(f"{folder} holds {len(names)} DICOM series, {listed}: give a folder with one of them")
        headers = list(found.values())
        _check_headers(folder, headers)
        order = _order(folder, headers)
    files = list(found)
    return Series(folder, tuple(files[i] for i in order), tuple(headers[i] for i in order))


def read_slices(series: Series) -> tuple[Volume, Frame]:
    """The pixels of a series as a volume, with rescale slope and intercept applied.

    Raises:
        InputError: pixels are missing, in color, or compressed in a way that cannot be read here.
    """
    with _reading(series.folder):
        stack = highdicom.get_volume_from_series(
            [dcmread(file) for file in series.files],
            dtype=np.float64,
            rtol=SAME_GAP,
            perpendicular_tol=SAME_DIRECTION,
            orientation_tol=SAME_DIRECTION,
        )
    if stack.array.ndim != 3:
        raise InputError(f"{series.folder} holds color images: give one number for each voxel")
    array = np.ascontiguousarray(stack.array.T, dtype=np.float32)
    return lay_in_ras(series.folder, array, _ras(stack.affine)), Frame(_ras(stack.affine), array.shape)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what the libraries raise for damaged or unusual files into one sentence.

    Values of a header are decoded when they are asked for, so that looking at them can raise as reading files can.
    """
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{folder}: its DICOM files cannot be read ({reason}): are they complete? If so, convert them to NIfTI"
        ) from error


def _headers(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    """The DICOM images right in a folder, without their pixels; structure sets, reports and other files are none."""
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        try:
            header = dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if "Rows" in header and "SeriesInstanceUID" in header:
            yield path, header


def _name(header: Dataset) -> str:
    """A series as a person knows it, and its identifier."""
    words = (header.get("Modality"), header.get("SeriesNumber"), header.get("SeriesDescription"))
    return f"{' '.join(str(word) for word in words if word)} {header.SeriesInstanceUID}".strip()


def _check_headers(folder: Path, headers: list[Dataset]) -> None:
    """Refuse objects that are no slices, and slices that are not alike."""
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise InputError(
            f"{folder} holds a multi-frame DICOM object: give single-frame slices, or convert it to NIfTI (dcm2niix)"
        )
    for keyword in NEEDED:
        without = sum(not header.get(keyword) for header in headers)
        if without:
            raise InputError(f"{folder}: {without} of {len(headers)} slices have no {keyword}: export the series again")
    if len(headers) < 2:
        raise InputError(f"{folder} holds a single slice: give the folder of the whole series")
    for keyword in ALIKE:
        values = np.array([np.ravel(np.array(header[keyword].value)) for header in headers])
        same = values == values[0]
        if values.dtype.kind == "f":
            same = np.isclose(values, values[0], rtol=0, atol=SAME_DIRECTION)
        if not same.all():
            raise InputError(
                f"{folder}: {np.count_nonzero(~same.all(axis=1))} of {len(headers)} slices have another {keyword} than "
                "the first: is a localizer or another scan among them?"
            )


def _order(folder: Path, headers: list[Dataset]) -> list[int]:
    """Which header is the first slice, the second, ... along the stack.

    Raises:
        InputError: the positions are no regular stack.
    """
    spacing, places = get_series_volume_positions(
        headers, rtol=SAME_GAP, perpendicular_tol=SAME_DIRECTION, orientation_tol=SAME_DIRECTION
    )
    if spacing is None or places is None:
        raise InputError(f"{folder}: {_what_is_wrong(headers)}")
    return list(np.argsort(places))


def _what_is_wrong(headers: list[Dataset]) -> str:
    """Why positions are no regular stack, in words."""
    across, down = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=float)
    heights = np.sort(positions @ np.cross(across, down))
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() <= SAME_GAP * max(usual, SAME_GAP):
        return "two of its slices lie at the same place: is it a series in time, or were files copied twice?"
    widest = int(np.argmax(gaps))
    if gaps[widest] > (1 + SAME_GAP) * usual:
        return (
            f"a slice is missing, {gaps[widest]:.2f} mm lie between the slices at {heights[widest]:.2f} and "
            f"{heights[widest + 1]:.2f} mm where others are {usual:.2f} mm apart: export the whole series"
        )
    return "its slices are no right-angled box (a tilted gantry, or uneven distances): resample it to NIfTI first"


def _ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """From highdicom's (slice, row, column) -> LPS to (column, row, slice) -> RAS."""
    return RAS_FROM_LPS @ affine[:, [2, 1, 0, 3]]
