"""The registration keeps places: points and images travel together, both ways, in every orientation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ants
import numpy as np
import pytest
from scipy import ndimage

from engine import Grid, InputError
from morph.ants import AntsRegistration, AntsWarp, _resampled
from morph.quality import measure_quality
from morph.registration import RegistrationFailed, grow_mask
from morph.volume import Volume

SCALE, SHIFT = 0.9, np.array([6.0, -4.0, 3.0])
SIZE, SPACING = 40, 4.0
GRID = Grid((40, 40, 40), 4.0, (-80.0, -80.0, -80.0))


def lumpy_brain(affine: np.ndarray, lengths: float = 1.0, shift: np.ndarray | float = 0.0) -> Volume:
    """A brain of smooth lumps at fixed world places, its lengths multiplied and its center shifted [mm]."""
    voxels = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), axis=-1)
    place = ((voxels @ affine[:3, :3].T + affine[:3, 3]) - shift) / lengths
    brain = np.sum((place / [60.0, 70.0, 55.0]) ** 2, axis=-1) <= 1
    lumps = sum(
        height * np.exp(-np.sum((place - center) ** 2, axis=-1) / (2 * width**2))
        for height, width, center in (
            (90, 14, (25, 20, 10)), (-50, 12, (-20, 30, -5)), (70, 10, (-25, -30, 15)), (60, 12, (15, -35, -20)),
        )
    )  # fmt: skip
    return Volume((brain * (100 + lumps)).astype(np.float32), affine)


def centered(turn: np.ndarray | None = None) -> np.ndarray:
    """An affine whose grid is centered on the world's zero."""
    affine = np.eye(4)
    affine[:3, :3] = SPACING * (np.eye(3) if turn is None else turn)
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, (SIZE - 1) / 2)
    return affine


@pytest.fixture(scope="module")
def atlas() -> Volume:
    return lumpy_brain(centered())


@pytest.fixture(scope="module")
def patient() -> Volume:
    return lumpy_brain(centered(), SCALE, SHIFT)


@pytest.fixture(scope="module")
def warp(patient: Volume, atlas: Volume) -> AntsWarp:
    return AntsRegistration(spacing=4.0, iterations=(20, 5)).register(patient, atlas, np.zeros((SIZE,) * 3, bool))


POINTS = np.array([[20.0, 15, 5], [-20, 25, 0], [0, -25, 10]])


def test_points_go_where_the_brain_goes(warp: AntsWarp) -> None:
    expected = POINTS * SCALE + SHIFT
    assert np.linalg.norm(warp.points_to_patient(POINTS) - expected, axis=1).max() < 2.0
    assert np.linalg.norm(warp.points_to_atlas(expected) - POINTS, axis=1).max() < 2.0


def test_points_return_from_a_round_trip(warp: AntsWarp) -> None:
    assert np.abs(warp.points_to_atlas(warp.points_to_patient(POINTS)) - POINTS).max() < 0.5


def test_the_affine_part_scales_lengths(warp: AntsWarp) -> None:
    assert warp.affine_scale == pytest.approx(SCALE, rel=0.03)
    assert warp.affine_stretch == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_images_travel_with_the_points(warp: AntsWarp, atlas: Volume, patient: Volume, interpolation: str) -> None:
    ball = atlas.with_array(
        np.linalg.norm(atlas.to_world(np.indices(atlas.array.shape).T).T.T - POINTS[0], axis=-1).T < 15
    )
    for moved, like, expected in (
        (warp.to_patient(ball, patient, interpolation), patient, warp.points_to_patient(POINTS[:1])[0]),  # type: ignore[arg-type]
        (warp.to_atlas(ball, atlas, interpolation), atlas, warp.points_to_atlas(POINTS[:1])[0]),  # type: ignore[arg-type]
    ):
        center = like.to_world(ndimage.center_of_mass(moved.array))
        assert np.linalg.norm(center - expected) < 2.0


def test_the_agreement_is_measured(warp: AntsWarp, atlas: Volume, patient: Volume) -> None:
    ignore = np.linalg.norm(np.indices((SIZE,) * 3).T - np.array([25.0, 23, 21]), axis=-1).T < 3
    quality = measure_quality(warp, patient, atlas, ignore, GRID)
    assert quality.brain_dice > 0.93
    assert quality.correlation > 0.7
    assert quality.folded == 0
    assert quality.displacement < 3


class Folded(AntsWarp):
    """A warp that maps both halves of the brain onto one."""

    def to_patient(self, volume: Volume, like: Volume, interpolation: str) -> Volume:
        places = like.to_world(np.moveaxis(np.indices(like.array.shape), 0, -1))
        places[..., 0] = np.abs(places[..., 0])
        voxels = np.moveaxis(volume.to_voxel(places), -1, 0)
        return like.with_array(ndimage.map_coordinates(volume.array, voxels, order=1))


def test_folding_and_displacement_are_measured(atlas: Volume, patient: Volume) -> None:
    ignore = np.zeros((SIZE,) * 3, bool)
    ignore[8:12, 18:22, 18:22] = True
    quality = measure_quality(Folded((), ()), patient, atlas, ignore, GRID)
    assert quality.folded > 0.3
    assert quality.displacement > 10


def test_oblique_images_agree_with_straight_ones(atlas: Volume) -> None:
    angle = 0.35
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = lumpy_brain(centered(turn), SCALE, SHIFT)
    found = AntsRegistration(spacing=4.0, iterations=(20, 5)).register(oblique, atlas, np.zeros((SIZE,) * 3, bool))
    assert np.linalg.norm(found.points_to_patient(POINTS) - (POINTS * SCALE + SHIFT), axis=1).max() < 2.0


def test_masked_voxels_do_not_pull(patient: Volume, atlas: Volume) -> None:
    spoiled = patient.array.copy()
    hole = np.linalg.norm(np.indices(spoiled.shape).T - np.array([25.0, 23, 21]), axis=-1).T < 4
    spoiled[hole] = 400
    settings = AntsRegistration(spacing=4.0, iterations=(20, 5))
    worst = []
    for ignore in (grow_mask(hole, patient.spacing, 4.0), np.zeros_like(hole)):
        found = settings.register(patient.with_array(spoiled), atlas, ignore)
        worst.append(np.linalg.norm(found.points_to_patient(POINTS) - (POINTS * SCALE + SHIFT), axis=1).max())
    assert worst[0] < 0.75 * worst[1]


def test_the_affine_part_does_not_see_what_is_masked(patient: Volume, atlas: Volume) -> None:
    """Half of the brain is that of a brain 24 mm further on; without a mask in the affine stage all of it follows."""
    moved = np.roll(patient.array, 6, 1)
    half = (np.indices(moved.shape)[0] > 22) & ((moved > 0) | (patient.array > 0))
    spoiled = patient.with_array(np.where(half, moved, patient.array))
    found = AntsRegistration(spacing=4.0, iterations=(0,)).register(
        spoiled, atlas, grow_mask(half, patient.spacing, 4.0)
    )
    errors = np.linalg.norm(found.points_to_patient(POINTS) - (POINTS * SCALE + SHIFT), axis=1)
    assert errors.max() < 4  # 18 where only the deformable stage is masked


def test_the_seed_decides_the_sampling(patient: Volume, atlas: Volume) -> None:
    places = [
        AntsRegistration(spacing=4.0, iterations=(5,), seed=seed)
        .register(patient, atlas, np.zeros((SIZE,) * 3, bool))
        .points_to_patient(POINTS)
        for seed in (1, 1, 2)
    ]
    assert np.abs(places[0] - places[1]).max() < 0.02  # ITK sums in the order of its threads
    assert np.abs(places[0] - places[2]).max() > 0.02


@pytest.mark.parametrize("left", [[0], [10**12, 0]])
def test_a_full_disk_is_called_one(
    patient: Volume, atlas: Volume, monkeypatch: pytest.MonkeyPatch, left: list[int]
) -> None:
    free = iter(left)

    def give_up(**settings: object) -> None:
        raise RuntimeError("cannot write")

    monkeypatch.setattr("morph.ants.shutil.disk_usage", lambda folder: SimpleNamespace(free=next(free)))
    monkeypatch.setattr("morph.ants.ants.registration", give_up)
    with pytest.raises(InputError, match="MB left") as refusal:
        AntsRegistration(spacing=8.0).register(patient, atlas, np.zeros((SIZE,) * 3, bool))
    assert not isinstance(refusal.value, RegistrationFailed)


def test_masks_grow_by_millimeters() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = True
    grown = grow_mask(mask, np.array([1.0, 2.0, 4.0]), 2.0)
    assert grown.sum() == 1 + 2 * 2 + 2 * 1  # itself, two voxels each way along x, one along y, none along z


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "CC"}, "radius of 1 to 10 voxels"),
        ({"metric": "CC", "metric_parameter": 0}, "radius of 1 to 10 voxels"),
        ({"metric_parameter": 0}, "metric_parameter >= 1"),
        ({"gradient_step": 0.0}, "gradient_step > 0"),
        ({"flow_sigma": -1.0}, "flow_sigma >= 0"),
        ({"metric": "MI"}, "use mattes or CC"),
    ],
)
def test_settings_that_ants_would_misread_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AntsRegistration(**wrong)


@pytest.mark.parametrize(
    ("edges", "expected"), [((0.5, 0.5, 5.0), (2, 2, 5)), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (3, 3, 3))]
)
def test_only_edges_that_are_too_short_are_made_longer(edges: tuple[float, ...], expected: tuple[float, ...]) -> None:
    image = ants.from_numpy(np.ones((24, 24, 12), np.float32), spacing=edges)
    np.testing.assert_allclose(_resampled(image, 2.0).spacing, expected)
