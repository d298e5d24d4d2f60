"""ANTs: registration, affine and then symmetric diffeomorphic (SyN, Avants et al., 2008), and tissue by brightness.

Images live in ITK's LPS world, ours in RAS; the two differ by the signs of x and y. ANTs' list of forward
transforms maps *points* of the fixed image (the patient) to the moving one (the atlas), which is what pulls the
atlas' *image* onto the patient; points and images thus travel in opposite directions through one list.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # before ITK is loaded; see `register`

import ants
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from engine import InputError
from morph.registration import Interpolation, RegistrationFailed
from morph.volume import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
KEPT_NAMES = ("affine.mat", "warp.nii.gz", "inverse_warp.nii.gz")
"""Files of a warp that is kept: the affine maps points of the patient to the atlas, `warp` images of the atlas to the
patient after it, `inverse_warp` images of the patient to the atlas before the affine's inverse."""
LARGEST_RADIUS = 10
"""Voxels of local cross-correlation: beyond it is no longer local, and takes hours (ours)."""
WARP_BYTES = 24
"""Bytes that both deformations take for a voxel of the registered image, not counting their compression."""
LITTLE = 1_000_000
"""Free bytes below which a disk counts as full after a registration: its files may have been cut off (ours)."""
INTERPOLATORS = {"linear": "linear", "nearest": "nearestNeighbor"}


@dataclass(frozen=True)
class AntsRegistration:
    """Settings of one registration; the shipped sets are conf/registration/*.yaml, the defaults are `fast`.

    Attributes:
        spacing: shorter voxel edges [mm] of both T1 are made as long as this before they are registered; 0 keeps them.
        metric: `mattes` (mutual information) or `CC` (local cross-correlation) for the deformable part.
        metric_parameter: number of bins of `mattes`, radius in voxels of `CC` (at most `LARGEST_RADIUS`).
        iterations: of the deformable part per resolution, coarse to fine.
        gradient_step: SyN's step.
        flow_sigma: variance of the Gauss that smooths the update [voxel²].
        seed: of the sampling of the affine metric.
    """

    spacing: float = 2.0
    metric: str = "mattes"
    metric_parameter: int = 32
    iterations: tuple[int, ...] = (50, 8)
    gradient_step: float = 0.4
    flow_sigma: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that ANTs would misread."""
        object.__setattr__(self, "iterations", tuple(int(n) for n in self.iterations))
        if self.metric not in ("mattes", "CC"):
            raise InputError(f"registration.metric is {self.metric!r}: use mattes or CC")
        if self.spacing < 0 or not self.iterations or min(self.iterations) < 0:
            raise InputError("registration needs spacing >= 0 mm and at least one number of iterations")
        if self.metric == "CC" and not 1 <= self.metric_parameter <= LARGEST_RADIUS:
            raise InputError(
                f"registration.metric_parameter is {self.metric_parameter}: with metric=CC it is a radius of 1 to "
                f"{LARGEST_RADIUS} voxels, of which 4 is usual"
            )
        if self.metric_parameter < 1 or self.gradient_step <= 0 or self.flow_sigma < 0:
            raise InputError("registration needs metric_parameter >= 1, gradient_step > 0 and flow_sigma >= 0")

    def register(self, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> AntsWarp:
        """Bring the atlas onto the patient (see `morph.registration.Registration`).

        Raises:
            RegistrationFailed: ANTs gives up, which it does on images that hold no brain.
            InputError: the temporary folder is full, which ANTs would take for a failure of its own.
        """
        fixed = _resampled(_to_ants(patient), self.spacing)
        moving = _resampled(_to_ants(atlas), self.spacing)
        seen = ants.resample_image_to_target(_to_ants(patient.with_array(~ignore)), fixed, "nearestNeighbor")
        folder = TemporaryDirectory(prefix="morph_warp_")
        _refuse_full_disk(folder.name, WARP_BYTES * int(np.prod(fixed.shape)))
        # The one door to --random-seed in antspyx 0.6: registration() swallows a random_seed argument unread. ITK
        # runs on one thread, and must: on several, sums in another order move the answer of the whole chain
        # (Dice at .1 of one twin between .86 and .93 from run to run).
        ants.config.set_ants_deterministic(on=True, seed_value=self.seed + 1)
        try:
            found = ants.registration(
                fixed=fixed, moving=moving, type_of_transform="SyN", outprefix=f"{folder.name}/",
                mask=seen, mask_all_stages=True, syn_metric=self.metric, syn_sampling=self.metric_parameter,
                reg_iterations=self.iterations, grad_step=self.gradient_step, flow_sigma=self.flow_sigma,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            _refuse_full_disk(folder.name, LITTLE)
            raise RegistrationFailed(
                f"ANTs could not register the T1 to the atlas ({error}): is it a brain?"
            ) from error
        _refuse_full_disk(folder.name, LITTLE)
        return AntsWarp(tuple(found["fwdtransforms"]), tuple(found["invtransforms"]), folder)


@dataclass(frozen=True)
class AntsWarp:
    """The whole transform lists that ANTs found, both ways (see `morph.registration.Warp`).

    Attributes:
        forward: files that pull an atlas image onto the patient: deformation, then affine.
        inverse: files that pull a patient image onto the atlas: affine (to be inverted), then inverse deformation.
        folder: holds the files and removes them when the warp is no longer in use; None where they are kept.
    """

    forward: tuple[str, ...]
    inverse: tuple[str, ...]
    folder: TemporaryDirectory[str] | None = None

    @classmethod
    def read(cls, folder: Path) -> AntsWarp:
        """The warp that `kept_in` left in a folder."""
        affine, warp, back = (str(folder / name) for name in KEPT_NAMES)
        return cls((warp, affine), (affine, back))

    def kept_in(self, folder: Path) -> AntsWarp:
        """The same warp from copies of its files in a folder that stays.

        Raises:
            OSError: the folder cannot be written.
        """
        for source, name in zip((self.forward[1], self.forward[0], self.inverse[1]), KEPT_NAMES, strict=True):
            shutil.copyfile(source, folder / name)
        return self.read(folder)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of it."""
        return tuple(Path(name) for name in dict.fromkeys(self.forward + self.inverse))

    @property
    def affine_scale(self) -> float:
        """det(A)^(1/3), A: atlas -> patient, negative if it mirrors."""
        return float(1.0 / np.cbrt(np.linalg.det(self._affine_to_atlas)))

    @property
    def affine_stretch(self) -> float:
        """The largest over the smallest singular value of A."""
        return float(np.linalg.cond(self._affine_to_atlas))

    @property
    def _affine_to_atlas(self) -> NDArray[np.float64]:
        """A's inverse, which the file holds for points, (3, 3)."""
        (path,) = [name for name in self.forward if name.endswith(".mat")]
        return np.asarray(ants.read_transform(path).parameters[:9]).reshape(3, 3)

    def to_atlas(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        """A patient-space volume on an atlas-space grid."""
        return _apply(self.inverse, self._inverted, volume, like, interpolation)

    def to_patient(self, volume: Volume, like: Volume, interpolation: Interpolation) -> Volume:
        """An atlas-space volume on a patient-space grid."""
        return _apply(self.forward, [False] * len(self.forward), volume, like, interpolation)

    def points_to_atlas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient world points [mm], shape (n, 3), in the atlas' world."""
        return _apply_to_points(self.forward, [False] * len(self.forward), points)

    def points_to_patient(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Atlas world points [mm], shape (n, 3), in the patient's world."""
        return _apply_to_points(self.inverse, self._inverted, points)

    @property
    def _inverted(self) -> list[bool]:
        return [name.endswith(".mat") for name in self.inverse]


def _refuse_full_disk(folder: str, least: int) -> None:
    """Raise an `InputError` if fewer bytes than `least` are free where a folder is."""
    free = shutil.disk_usage(folder).free
    if free < least:
        raise InputError(
            f"{Path(folder).parent} has {free / 1e6:.0f} MB left and the registration needs {least / 1e6:.0f} MB: "
            "free some, or set TMPDIR to another folder"
        )


def _apply(
    files: tuple[str, ...], inverted: list[bool], volume: Volume, like: Volume, interpolation: Interpolation
) -> Volume:
    result = ants.apply_transforms(
        fixed=_to_ants(like), moving=_to_ants(volume), transformlist=list(files), whichtoinvert=inverted,
        interpolator=INTERPOLATORS[interpolation],
    )  # fmt: skip
    return like.with_array(result.numpy())


def _apply_to_points(files: tuple[str, ...], inverted: list[bool], points: NDArray[np.float64]) -> NDArray[np.float64]:
    lps = np.asarray(points, dtype=np.float64) * np.diag(LPS)[:3]
    moved = ants.apply_transforms_to_points(
        3, pd.DataFrame(lps, columns=["x", "y", "z"]), list(files), whichtoinvert=inverted
    )
    return moved[["x", "y", "z"]].to_numpy(dtype=np.float64) * np.diag(LPS)[:3]


def segment_by_brightness(t1: Volume) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """CSF, gray and white matter of a T1 without skull, as shares that sum to 1 in the brain, float32 (x, y, z) each.

    Three classes from darkest to brightest, with neighbors that tend to be alike.

    Source: Avants, Tustison, Wu, Cook and Gee, An open source multivariate framework for n-tissue segmentation,
    Neuroinformatics 9 (2011) 381-400.
    """
    brain = t1.with_array((t1.array > 0).astype(np.float32))
    found = ants.atropos(_to_ants(t1), _to_ants(brain), i="kmeans[3]", m="[0.1,1x1x1]", c="[5,0]")
    shares = [share.numpy().astype(np.float32) for share in found["probabilityimages"]]
    brightness = [float((t1.array * share).sum() / share.sum()) for share in shares]
    dark, middle, bright = (shares[number] for number in np.argsort(brightness))
    return dark, middle, bright


def _to_ants(volume: Volume) -> ants.ANTsImage:
    """The same voxels at the same places: ITK wants origin, spacing and direction in LPS."""
    affine = LPS @ volume.affine
    spacing = volume.spacing
    return ants.from_numpy(
        volume.array,
        origin=affine[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=affine[:3, :3] / spacing,
    )


def _resampled(image: ants.ANTsImage, spacing: float) -> ants.ANTsImage:
    """Linear resampling of the voxel edges that are shorter than `spacing` [mm]."""
    if spacing <= min(image.spacing):
        return image
    edges = tuple(max(spacing, edge) for edge in image.spacing)
    return ants.resample_image(image, edges, use_voxels=False, interp_type=0)
