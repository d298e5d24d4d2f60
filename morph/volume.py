"""Reading and writing NIfTI volumes: inside the package every array has RAS axes, files keep their own.

A `Volume` is an array with the affine of its RAS-oriented axes. A `Frame` remembers how the patient's T1 lies on
disk, so that what is written comes back in its orientation and its affine, with the codes that say which world that
affine leads to; the rest of the header is new.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import ArrayLike, NDArray

from engine import InputError

AFFINE_TOLERANCE = 0.05
"""How far [mm] two files' voxel corners may lie apart and still count as the same grid: a rounded header (ours)."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two voxel axes: ANTs, like DICOM, knows only right-angled voxels (ours)."""

MILLIMETERS = (0, 2)
"""NIfTI-1 codes of the unit of length that are taken: unknown, which means mm everywhere, and mm."""
DISPLACEMENT_VECTOR = 1006
"""NIfTI-1 intent code of vectors that displace."""
UNREADABLE = (
    nib.filebasedimages.ImageFileError, HeaderDataError, ImageDataError, WrapStructError, zlib.error, OSError, EOFError,
    ValueError,
)  # fmt: skip
"""What nibabel raises for files that are damaged or no images."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Numbers on a patient's or an atlas' grid.

    Attributes:
        array: float32 (x, y, z), axes closest to R, A, S.
        affine: voxel index -> world RAS [mm], float64 (4, 4); may be oblique.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel edges [mm], shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel [ml]."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def with_array(self, array: ArrayLike) -> Volume:
        """Other numbers on the same grid, shape (x, y, z)."""
        return Volume(np.asarray(array, dtype=np.float32), self.affine)

    def to_world(self, voxel: ArrayLike) -> NDArray[np.float64]:
        """World RAS coordinates [mm] of continuous voxel coordinates, shape (..., 3)."""
        return np.asarray(voxel, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, world: ArrayLike) -> NDArray[np.float64]:
        """Continuous voxel coordinates of world points [mm], shape (..., 3)."""
        return (np.asarray(world, dtype=np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T


@dataclass(frozen=True, eq=False)
class Frame:
    """How a file lies on disk: what is needed to write another volume beside it.

    Attributes:
        affine: voxel index -> world RAS [mm] in the file's own axes, float64 (4, 4).
        shape: voxels along the file's own axes.
        header: the file's header, whose form codes are kept; None for a volume that never was a file.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    header: nib.Nifti1Header | None = None


def read_volume(path: str | Path) -> Volume:
    """Read one 3-D NIfTI image with RAS axes.

    Raises:
        InputError: the file is missing or unreadable, is not 3-D (further axes of length 1 do not count), holds NaN,
            infinity or no numbers, or does not say where its voxels lie in mm.
    """
    return _read(Path(path))[0]


def read_with_frame(path: str | Path) -> tuple[Volume, Frame]:
    """The same as `read_volume`, with how the file lies on disk.

    Raises:
        InputError: see `read_volume`.
    """
    volume, image = _read(Path(path))
    return volume, Frame(np.asarray(image.affine, dtype=np.float64), image.shape[:3], image.header)


def write_volume(path: Path, volume: Volume, frame: Frame, dtype: type = np.float32, about: str = "") -> None:
    """Write a volume that lies on the frame's grid, in the frame's own orientation and affine, in mm.

    Args:
        path: where to; the ending .nii.gz compresses.
        volume: RAS axes, on the grid of the frame.
        frame: from `read_with_frame`.
        dtype: type on disk.
        about: what a reader must know, for the header's description (at most 79 letters).
    """
    image = _image(volume.array.astype(dtype), frame)
    image.header["descrip"] = about.encode("ascii")
    nib.save(image, path)


def write_vectors(path: Path, vectors: NDArray[np.float32], frame: Frame) -> None:
    """Write world vectors as NIfTI's displacement vectors: shape (x, y, z, 1, 3), components R, A, S [mm].

    Args:
        path: where to; the ending .nii.gz compresses.
        vectors: components along the world's axes, (3, x, y, z), on the grid of the frame with RAS axes.
        frame: from `read_with_frame`.
    """
    image = _image(np.moveaxis(vectors, 0, -1)[..., None, :].astype(np.float32), frame)
    image.header.set_intent(DISPLACEMENT_VECTOR)
    nib.save(image, path)


def _image(array: NDArray, frame: Frame) -> nib.Nifti1Image:
    """An array with RAS axes, (x, y, z, ...), as an image that lies as the frame does."""
    image = nib.Nifti1Image(apply_orientation(array, inv_orientation(frame)), frame.affine)
    if frame.header is not None:
        image.set_sform(frame.affine, code=int(frame.header["sform_code"]))
        image.set_qform(frame.affine, code=int(frame.header["qform_code"]))
    image.header.set_xyzt_units("mm")
    return image


def inv_orientation(frame: Frame) -> NDArray[np.float64]:
    """The axis flips and swaps that lead from RAS axes to the frame's own, for `apply_orientation`."""
    to_ras = io_orientation(frame.affine)
    back = np.empty_like(to_ras)
    for axis, (target, flip) in enumerate(to_ras):
        back[int(target)] = (axis, flip)
    return back


def lay_in_ras(path: Path, array: NDArray[np.float32], affine: NDArray[np.float64]) -> Volume:
    """Turn numbers that lie any way into a volume with RAS axes.

    Args:
        path: where they were read, for error messages.
        array: (i, j, k).
        affine: (i, j, k) -> world RAS [mm], (4, 4).

    Raises:
        InputError: NaN or infinity, or axes that are not at right angles.
    """
    _check_affine(path, affine)
    if not np.all(np.isfinite(array)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise InputError(f"{path} holds {bad} NaN or infinite voxels: replace them (outside the brain by 0)")
    orientation = io_orientation(affine)
    canonical = np.ascontiguousarray(apply_orientation(array, orientation))
    return Volume(canonical, affine @ inv_ornt_aff(orientation, array.shape))


def _read(path: Path) -> tuple[Volume, nib.Nifti1Pair]:
    image, array = _load(path)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"{path} is {array.ndim}-D with shape {array.shape}: give one 3-D volume")
    _check_header(path, image.header)
    return lay_in_ras(path, array, np.asarray(image.affine, dtype=np.float64)), image


def _load(path: Path) -> tuple[nib.Nifti1Pair, NDArray[np.float32]]:
    """The image and its numbers as they lie on disk."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file: give the path of a NIfTI image (.nii, .nii.gz)")
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Pair):
            raise InputError(f"{path} is not a NIfTI image: convert it to .nii or .nii.gz")
        kind = image.get_data_dtype()
        if kind.kind not in "iuf":
            raise InputError(f"{path} holds colors or complex numbers ({kind}): give one number for each voxel")
        return image, np.asarray(image.dataobj, dtype=np.float32)
    except InputError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a NIfTI image ({reason}): is it complete?") from error


def _check_header(path: Path, header: nib.Nifti1Header) -> None:
    """Refuse a header that leaves open where the voxels lie, or says it in another unit."""
    if not (header["sform_code"] or header["qform_code"]):
        raise InputError(
            f"{path} does not say how it is oriented (its sform_code and qform_code are both 0): "
            "convert it again from its source, or set the right affine in its header"
        )
    if int(header["xyzt_units"]) % 8 not in MILLIMETERS:
        raise InputError(f"{path} is not in mm (its xyzt_units are {int(header['xyzt_units'])}): convert its header")


def _check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(affine)) or lengths.min() < 1e-3:
        raise InputError(f"{path} has no usable affine (voxel edges {lengths} mm): repair its header")
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        raise InputError(f"{path} has sheared voxels (its axes are not at right angles): resample it first")


def share_grid(volume: Volume, like: Volume) -> bool:
    """Whether two volumes have the same voxels, up to `AFFINE_TOLERANCE` at their corners."""
    if volume.array.shape != like.array.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.array.shape], indexing="ij")).reshape(3, -1).T
    apart = np.linalg.norm(volume.to_world(corners) - like.to_world(corners), axis=1).max()
    return bool(apart <= AFFINE_TOLERANCE)
