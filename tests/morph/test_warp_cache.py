"""A registration is kept: the same images are not registered twice, others are, and damage is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from morph.ants import AntsRegistration, AntsWarp
from morph.registration import RegistrationFailed
from morph.volume import Volume
from morph.warp_cache import KeptRegistration
from tests.morph.test_registration import POINTS, SIZE, centered, lumpy_brain

NOTHING = np.zeros((SIZE,) * 3, bool)


@pytest.fixture(scope="module")
def atlas() -> Volume:
    return lumpy_brain(centered())


@pytest.fixture(scope="module")
def patient() -> Volume:
    return lumpy_brain(centered(), 0.9, np.array([6.0, -4.0, 3.0]))


@pytest.fixture
def kept(tmp_path: Path) -> KeptRegistration:
    return KeptRegistration(AntsRegistration(spacing=8.0, iterations=(5,)), tmp_path / "registration")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often ANTs was asked."""
    asked: list[int] = []
    register = AntsRegistration.register

    def counted(self: AntsRegistration, patient: Volume, atlas: Volume, ignore: np.ndarray) -> AntsWarp:
        asked.append(1)
        return register(self, patient, atlas, ignore)

    monkeypatch.setattr(AntsRegistration, "register", counted)
    return asked


def test_the_second_run_reads_the_first_ones_transforms(
    kept: KeptRegistration, runs: list[int], patient: Volume, atlas: Volume
) -> None:
    first, second = (kept.register(patient, atlas, NOTHING) for _ in range(2))
    assert len(runs) == 1
    np.testing.assert_array_equal(first.points_to_patient(POINTS), second.points_to_patient(POINTS))
    assert sorted(path.name for path in kept.folder.iterdir()) == [
        "affine.mat", "inverse_warp.nii.gz", "registration.json", "warp.nii.gz",
    ]  # fmt: skip
    assert np.abs(second.points_to_atlas(second.points_to_patient(POINTS)) - POINTS).max() < 1.0


def test_other_content_is_registered_anew(
    kept: KeptRegistration, runs: list[int], patient: Volume, atlas: Volume
) -> None:
    hidden, moved = NOTHING.copy(), np.eye(4)
    hidden[20, 20, 20], moved[0, 3] = True, 0.5
    brighter, elsewhere = ((v.with_array(v.array * 1.01), Volume(v.array, moved @ v.affine)) for v in (patient, atlas))
    others = [(patient, atlas, hidden), *((image, atlas, NOTHING) for image in brighter)]
    others += [(patient, image, NOTHING) for image in elsewhere]
    for number, images in enumerate([(patient, atlas, NOTHING), *others], 1):
        kept.register(*images)
        assert len(runs) == number
    kept.register(*others[-1])
    assert len(runs) == len(others) + 1
    replace(kept, registration=replace(kept.registration, seed=1)).register(*others[-1])
    assert len(runs) == len(others) + 2


def test_transforms_of_other_images_do_not_stay(kept: KeptRegistration, patient: Volume, atlas: Volume) -> None:
    kept.register(patient, atlas, NOTHING)
    with pytest.raises(RegistrationFailed):
        kept.register(patient.with_array(0 * patient.array), atlas, NOTHING)
    assert not list(kept.folder.iterdir())


def test_damaged_transforms_are_made_again(
    kept: KeptRegistration, runs: list[int], patient: Volume, atlas: Volume
) -> None:
    kept.register(patient, atlas, NOTHING)
    (kept.folder / "warp.nii.gz").write_bytes(b"damaged")
    kept.register(patient, atlas, NOTHING)
    (kept.folder / "registration.json").write_text("{}")
    kept.register(patient, atlas, NOTHING)
    assert len(runs) == 3
