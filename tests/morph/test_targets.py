"""Target volumes: exact where the answer is known, and what an oncologist relies on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from engine import InputError
from morph.answer import Personalization
from morph.checks import Check
from morph.distances import margin_distances
from morph.fallback import distance_density
from morph.foci import split_foci
from morph.outputs import MARK
from morph.patient import Patient
from morph.segmentation import Masks
from morph.targets import TargetSettings, fill_sulci, highest_density, target_volumes
from morph.uncertainty import Posterior
from morph.volume import Frame, Volume

Case = Callable[..., Path]
WALL = (5.0, 7.0)
"""Where a wall across x begins and ends [mm]."""


def coordinates(size: tuple[float, ...], spacing: np.ndarray) -> np.ndarray:
    """World coordinates [mm] of voxel centers around the origin, (3, x, y, z)."""
    return np.stack(
        np.meshgrid(*[(np.arange(n) - n // 2) * h for n, h in zip(size / spacing, spacing, strict=True)], indexing="ij")
    )


def maps(mean: Volume, probability: dict[float, Volume]) -> Posterior:
    """A posterior of which only its maps count."""
    return Posterior(mean, mean, probability, {}, {}, 10.0, {}, np.full(100, 0.01), {"maps": 1.0})


@pytest.fixture
def patient() -> Patient:
    """A block of brain at 2 mm with a core of 8 mm, a ventricle beside it, and a fissure at x > 10 mm."""
    x, y, z = coordinates((80, 80, 60), np.full(3, 2.0))
    brain = (abs(x) < 34) & (abs(y) < 34) & (abs(z) < 24)
    core = x**2 + y**2 + z**2 <= 64
    edema = x**2 + y**2 + z**2 <= 144
    t1 = Volume(np.where(brain, 100, 0).astype(np.float32), np.diag([2.0, 2, 2, 1]))
    return Patient("block", t1, Frame(t1.affine, t1.array.shape), Masks(core, edema))


def answer(
    patient: Patient, tissue: np.ndarray | None, method: str = "refined", posterior: Posterior | None = None
) -> Personalization:
    """A density that falls along x only, fastest towards +x."""
    x = coordinates((80, 80, 60), np.full(3, 2.0))[0]
    density = patient.t1.with_array(np.where(patient.brain, np.exp(-np.where(x > 0, x, -x / 4) / 10), 0))
    labels = None if tissue is None else patient.t1.with_array(tissue)
    checks = (Check("size", 1.0, 2.0, "pass", ""),)
    return Personalization(
        density=density, method=method, checks=checks, parameters=None, origin_mm=None, estimate=None, found=None,
        fit=None, space="patient", scale=1.0, seconds={}, tissue=labels, posterior=posterior,
    )  # fmt: skip


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0)])
def test_free_space_gives_the_exact_euclidean_distance(spacing: tuple[float, ...]) -> None:
    edges = np.array(spacing)
    place = coordinates((60, 60, 60), edges)
    core = (place**2).sum(axis=0) <= 36
    direct, around = margin_distances(core, np.ones_like(core), edges, 20.0)
    exact = ndimage.distance_transform_edt(~core, sampling=edges)
    np.testing.assert_allclose(direct[exact <= 20], exact[exact <= 20], rtol=1e-6)
    np.testing.assert_allclose(around[exact <= 20], exact[exact <= 20], rtol=1e-6)
    assert np.isinf(direct[exact > 20]).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0)])
@pytest.mark.parametrize("hole", [4.0, 10.0])
def test_behind_a_wall_the_way_leads_through_its_hole(spacing: tuple[float, ...], hole: float) -> None:
    edges = np.array(spacing)
    x, y, z = place = coordinates((61, 61, 31), edges)
    core = (place**2).sum(axis=0) < 0.01
    wall = (x >= WALL[0]) & (x <= WALL[1]) & (y < hole)
    direct, around = margin_distances(core, ~wall, edges, 25.0)
    before, after, edge = WALL[0] - 1, WALL[1] + 1, hole  # the outermost voxel centers that are no wall
    taut = np.hypot(before, edge) + (after - before) + np.hypot(x - after, y - edge)
    exact = np.hypot(taut, z)
    seen = (x > after) & (y < edge) & (exact < 24) & np.isfinite(around)
    assert np.count_nonzero(seen) > 300
    error = around[seen] - exact[seen]
    assert error.min() > -0.3 and error.max() < 1.3 and error.mean() < 0.8
    assert (around[seen] - direct[seen]).max() > 4
    assert np.isinf(around[wall]).all()


def test_a_closed_wall_lets_nothing_pass() -> None:
    place = coordinates((41, 41, 41), np.ones(3))
    core = (place**2).sum(axis=0) <= 9
    shell = np.abs(np.sqrt((place**2).sum(axis=0)) - 9) <= 1
    around = margin_distances(core, ~shell, np.ones(3), 20.0)[1]
    assert np.isinf(around[(place**2).sum(axis=0) > 121]).all()
    assert np.isfinite(around[(place**2).sum(axis=0) < 49]).all()
    enclosed = margin_distances(core, core, np.ones(3), 20.0)[1]
    np.testing.assert_array_equal(np.isfinite(enclosed), core)


def test_narrow_gaps_are_filled_and_wide_ones_are_not() -> None:
    reached = np.zeros((40, 20, 20), dtype=bool)
    reached[5:10], reached[13:18], reached[23:30] = True, True, True  # gaps of 3 and 5 voxels of 1 mm
    allowed = np.ones_like(reached)
    allowed[11, :5] = False
    filled = fill_sulci(reached, allowed, np.ones(3))
    assert filled[10:13, 6:].all() and not filled[11, :5].any()
    assert not filled[18:23].any() and not filled[:5].any() and not filled[30:].any()


def test_highest_densities_take_the_core_first_and_the_nearest_of_equals() -> None:
    density = np.array([[[0.1, 0.9, 0.5, 0.5, 0.5, 0.0]]], dtype=np.float32)
    core = density == np.float32(0.1)
    far = np.arange(6, dtype=np.float32)[::-1].reshape(1, 1, 6)
    chosen, lowest = highest_density(density, 4, core, density >= 0, (far,))
    np.testing.assert_array_equal(chosen[0, 0], [True, True, False, True, True, False])
    assert lowest == 0.5
    assert highest_density(density, 1, core, density >= 0, (far,))[1] is None


def test_margins_respect_ventricle_skull_and_core(patient: Patient) -> None:
    x, y, z = coordinates((80, 80, 60), np.full(3, 2.0))
    ventricle = (np.abs(x + 20) <= 6) & (np.abs(y) <= 20)
    tissue = np.where(patient.brain, np.where(ventricle, 1, 3), 0)
    masks = target_volumes(patient, answer(patient, tissue), TargetSettings()).masks
    straight = ndimage.distance_transform_edt(~patient.masks.core, sampling=2.0)
    for name, margin in (("ctv_15mm", 15), ("ctv_20mm", 20)):
        assert not (masks[name] & ventricle).any()
        assert not (masks[name] & ~patient.brain).any()
        assert (masks[name] >= patient.masks.core).all()
        assert (straight[masks[name]] <= margin).all()
        np.testing.assert_array_equal(masks[name][x > 0], ((straight <= margin) & patient.brain)[x > 0])
    assert (masks["ctv_20mm"] >= masks["ctv_15mm"]).all()
    drowned = np.where(patient.masks.core, 1, tissue)  # the tissue map calls the core CSF, the T1 is 0 in its middle
    dark = replace(patient, t1=patient.t1.with_array(np.where(x**2 + y**2 + z**2 <= 16, 0, patient.t1.array)))
    for mask in target_volumes(dark, answer(patient, drowned), TargetSettings()).masks.values():
        assert (mask >= patient.masks.core).all()


def test_the_density_volume_is_as_large_as_the_standard_one(patient: Patient) -> None:
    targets = target_volumes(patient, answer(patient, None), TargetSettings())
    standard, density = targets.masks["ctv_15mm"], targets.masks["ctv_density"]
    assert np.count_nonzero(standard) == np.count_nonzero(density)
    x = coordinates((80, 80, 60), np.full(3, 2.0))[0]
    assert x[density].mean() < x[standard].mean() - 2
    record = targets.record
    assert set(targets.masks) == {"ctv_15mm", "ctv_20mm", "ctv_density"} and record["ctv_probability"] is None
    assert "no posterior" in record["density"] and record["barriers"] == "outline of the brain"
    both = np.count_nonzero(standard & density)
    assert record["ctv_density"]["dice"] == pytest.approx(both / np.count_nonzero(standard), abs=1e-4)
    assert record["ctv_density"]["only_ctv_density_ml"] == record["ctv_density"]["only_ctv_15mm_ml"] > 0
    assert record["volumes_ml"]["core"] == pytest.approx(np.count_nonzero(patient.masks.core) * 0.008)


def test_a_posterior_gives_the_probability_volume(patient: Patient) -> None:
    _, y, z = coordinates((80, 80, 60), np.full(3, 2.0))
    like = patient.t1
    chance = np.where(patient.brain, np.clip(1 - abs(y) / 40, 0, 1), 1)  # 1 outside the brain, where nothing may be
    found = maps(like.with_array(np.exp(-abs(z))), {0.5: like.with_array(chance), 0.1: like.with_array(0 * chance)})
    sampled = answer(patient, None, posterior=found)
    targets = target_volumes(patient, sampled, TargetSettings(0.5, 0.75))
    expected = (abs(y) <= 10) & patient.brain | patient.masks.core
    np.testing.assert_array_equal(targets.masks["ctv_probability"], expected)
    assert targets.record["density"] == "mean of the posterior"
    assert targets.record["ctv_probability"]["threshold"] == 0.5
    assert z[targets.masks["ctv_density"]].std() < z[targets.masks["ctv_15mm"]].std()
    none = target_volumes(patient, sampled, TargetSettings(0.1, 1.0))
    np.testing.assert_array_equal(none.masks["ctv_probability"], patient.masks.core)


def test_a_second_focus_belongs_to_both_volumes_of_a_posterior(patient: Patient) -> None:
    x, y, z = coordinates((80, 80, 60), np.full(3, 2.0))
    second = (x - 24) ** 2 + (y - 24) ** 2 + z**2
    two = replace(patient, masks=Masks(patient.masks.core | (second <= 25), patient.masks.edema | (second <= 64)))
    nowhere = patient.t1.with_array(0 * x)
    found = maps(nowhere, {0.1: nowhere})
    others = split_foci(two.masks, two.t1).others
    assert others is not None
    both = found.with_others(distance_density(others, two.t1))  # as the pipeline leaves them
    masks = target_volumes(two, answer(two, None, posterior=both), TargetSettings()).masks
    around = (second > 25) & (second <= 36)
    assert masks["ctv_density"][around].all() and masks["ctv_probability"][around].all()
    first = target_volumes(patient, answer(patient, None, posterior=found), TargetSettings()).masks
    assert not first["ctv_probability"][around].any()


@pytest.mark.parametrize(
    ("settings", "said"), [({"threshold": 0.3}, "no map"), ({"probability": 0.0}, "no probability")]
)
def test_settings_without_a_map_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TargetSettings(**settings)


def test_the_command_writes_and_describes_them(tmp_path: Path, case: Case, tiny_command: Callable[..., int]) -> None:
    folder, out = case("LPS"), tmp_path / "out"
    assert tiny_command(f"case={folder}", f"out={out}") == 0
    record = json.loads((out / "parameters.json").read_text())["targets"]
    core = nib.load(out / "core.nii.gz").get_fdata() > 0
    voxel = np.prod(nib.load(out / "core.nii.gz").header.get_zooms()) / 1000
    for name in ("ctv_15mm", "ctv_20mm", "ctv_density"):
        image = nib.load(out / f"{name}.nii.gz")
        mask = image.get_fdata() > 0
        np.testing.assert_allclose(image.affine, nib.load(folder / "t1.nii.gz").affine)
        assert (mask >= core).all()
        assert record["volumes_ml"][name] == pytest.approx(mask.sum() * voxel, abs=1e-3)
    assert record["ctv_probability"] is not None and (out / "ctv_probability.nii.gz").exists()


def test_without_a_posterior_nothing_of_an_older_answer_is_left(
    tmp_path: Path, case: Case, tiny_command: Callable[..., int]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("ctv_probability.nii.gz", MARK):
        (out / name).write_bytes(b"of an older answer")
    assert tiny_command(f"case={case('RAS')}", f"out={out}", "posterior.simulations=0") == 0
    record = json.loads((out / "parameters.json").read_text())
    assert record["targets"]["ctv_probability"] is None and "no posterior" in record["targets"]["density"]
    assert not (out / "ctv_probability.nii.gz").exists()
    assert {check["name"]: check["verdict"] for check in record["checks"]}["posterior_sampled"] == "warn"
