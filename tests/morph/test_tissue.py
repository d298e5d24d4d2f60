"""Tissue maps: fractions that sum to 1, corrected by the T1 outside the tumor and by the tumor inside."""

from __future__ import annotations

import numpy as np
import pytest

from morph.tissue import (
    Tissue,
    classify,
    normalized,
    show_tumor_as_tissue,
    show_tumor_as_white_matter,
    tissue_by_brightness,
)
from morph.volume import Volume

SIZE = (30, 30, 30)
MEANS = np.array([150.0, 100.0, 30.0])


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Class of each voxel: nested shells of white, gray and CSF, -1 outside."""
    distance = np.linalg.norm((np.indices(SIZE).T - 14.5).T, axis=0)
    return np.select([distance < 8, distance < 11, distance < 14], [0, 1, 2], -1)


@pytest.fixture(scope="module")
def t1(truth: np.ndarray) -> Volume:
    noise = np.random.default_rng(1).normal(0, 8, SIZE)
    return Volume(np.where(truth >= 0, MEANS[truth] + noise, 0).astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def prior(truth: np.ndarray, t1: Volume) -> Tissue:
    """The truth, moved by 2 voxels: what a registration leaves undone."""
    moved = np.roll(truth, 2, axis=1)
    white, gray, csf = (t1.with_array(moved == k) for k in range(3))
    return normalized((white, gray, csf), t1.array > 0, "atlas")


def classes(tissue: Tissue) -> np.ndarray:
    return np.argmax([m.array for m in tissue.maps], axis=0)


def sums(tissue: Tissue) -> np.ndarray:
    return np.sum([m.array for m in tissue.maps], axis=0)


def test_fractions_sum_to_one_in_the_brain(prior: Tissue, t1: Volume) -> None:
    np.testing.assert_allclose(sums(prior), t1.array > 0, atol=1e-6)
    np.testing.assert_allclose(sums(classify(t1, prior, t1.array < 0)), t1.array > 0, atol=1e-5)


def test_the_t1_corrects_a_misplaced_atlas(prior: Tissue, t1: Volume, truth: np.ndarray) -> None:
    brain = truth >= 0
    before = np.mean(classes(prior)[brain] == truth[brain])
    after = np.mean(classes(classify(t1, prior, np.zeros(SIZE, bool)))[brain] == truth[brain])
    assert before < 0.8
    assert after > 0.93


def test_hidden_tissue_stays_the_atlas(prior: Tissue, t1: Volume) -> None:
    hidden = np.zeros(SIZE, bool)
    hidden[:15] = True
    corrected = classify(t1, prior, hidden)
    np.testing.assert_array_equal(corrected.white_matter.array[:15], prior.white_matter.array[:15])
    assert (corrected.white_matter.array[15:] != prior.white_matter.array[15:]).any()


def test_a_flat_image_says_nothing(prior: Tissue, t1: Volume) -> None:
    flat = t1.with_array(np.where(t1.array > 0, 1.0, 0.0))
    assert classify(flat, prior, np.zeros(SIZE, bool)) is prior


def test_a_visible_tumor_is_tissue(prior: Tissue) -> None:
    visible = np.zeros(SIZE, bool)
    visible[10:20, 10:28, 10:20] = True
    shown = show_tumor_as_tissue(prior, visible)
    brain = sums(prior) > 0
    assert shown.matter[visible & brain].all()
    assert shown.csf.array[visible].max() == 0
    np.testing.assert_array_equal(shown.csf.array[~visible], prior.csf.array[~visible])
    white, known = shown.white_matter.array, visible & (prior.white_matter.array == 1)
    assert white[known].min() == 1


def test_a_visible_tumor_can_be_taken_for_white_matter(prior: Tissue) -> None:
    visible = np.zeros(SIZE, bool)
    visible[10:20, 10:28, 10:20] = True
    shown = show_tumor_as_white_matter(prior, visible)
    assert (shown.tumor, prior.tumor, shown.source) == ("white_matter", "maps", prior.source)
    for found, before, value in zip(shown.maps, prior.maps, (1, 0, 0), strict=True):
        assert np.all(found.array[visible] == value)
        np.testing.assert_array_equal(found.array[~visible], before.array[~visible])


def test_what_no_map_claims_is_csf(t1: Volume) -> None:
    nothing = t1.with_array(np.zeros(SIZE))
    tissue = normalized((nothing, nothing, nothing), t1.array > 0, "atlas")
    np.testing.assert_array_equal(tissue.csf.array, t1.array > 0)
    assert not tissue.matter.any()


def test_without_an_atlas_brightness_tells_tissue_from_csf() -> None:
    rng = np.random.default_rng(0)
    kind = np.zeros((30, 30, 30), dtype=int)
    kind[2:28, 2:28, 2:28], kind[5:25, 5:25, 5:25], kind[12:18, 12:18, 12:18] = 2, 3, 1
    t1 = Volume(np.where(kind, rng.normal(np.array([0, 60, 100, 130])[kind], 6), 0).astype(np.float32), np.eye(4))
    hidden = np.zeros(kind.shape, dtype=bool)
    hidden[20:24, 8:14, 8:14] = True
    found = tissue_by_brightness(t1, hidden)
    assert found.source == "brightness"
    np.testing.assert_allclose(sum(m.array for m in found.maps)[kind > 0], 1, rtol=1e-5)
    assert np.mean(found.labels[kind == 1] == 1) > 0.98
    assert np.mean(found.labels[(kind > 1) & ~hidden] == 1) < 0.01
    assert np.all(found.labels[hidden] == 2) and np.all(found.labels[kind == 0] == 0)
    flat = tissue_by_brightness(t1.with_array(1.0 * (kind > 0)), hidden)  # no classes to tell apart: no barriers
    assert np.all(flat.matter == (kind > 0))
