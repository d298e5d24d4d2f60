"""The likelihood of two outlines: distances, areas and thresholds against cases that are known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import Atlas, Grid, random_stream
from morph.outlines import FAR, LEAST_ERROR, PATCH, SHEET, Drawn, Outlines, _sheets, signed_distance
from morph.volume import Volume

GRID = Grid((40, 40, 40), 2.0)
N = 9.0
"""Observations."""


def ball(radius: float, spacing: float = 1.0) -> Volume:
    """A ball in the middle of the grid's cube, on a grid of its own."""
    side = round(80 / spacing)
    axis = (np.arange(side) + 0.5) * spacing - 40
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = GRID.affine[:3, 3] - GRID.spacing / 2 + spacing / 2
    return Volume((distance <= radius).astype(np.float32), affine)


def brain() -> Atlas:
    """Nothing but white matter."""
    ones, none = np.ones(GRID.shape, np.float32), np.zeros(GRID.shape, np.float32)
    return Atlas(ones, none, none, GRID, "ball")


def drawn(core: Volume, edema: Volume) -> Drawn:
    """Two masks, nothing but tissue."""
    return Drawn(core, edema, np.ones(core.array.shape, dtype=bool))


def front(radius: float, width: float = 3.0) -> np.ndarray:
    """A density that is 0.5 at `radius` [mm] from the middle."""
    axis = (np.arange(40) + 0.5) * 2 - 40
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    return (1 / (1 + np.exp((distance - radius) / width))).astype(np.float32)


def at(radius: float, threshold: float, width: float = 3.0) -> float:
    """Radius at which such a front reaches a threshold."""
    return radius - width * np.log(threshold / (1 - threshold))


def test_signed_distance_of_a_ball_is_its_own() -> None:
    mask = ball(20.0)
    distance = signed_distance(mask.array > 0, mask.spacing)
    axis = (np.arange(80) + 0.5) - 40
    exact = 20 - np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    assert np.abs(distance - exact)[exact > -15].max() < 1.0
    assert abs(np.mean((distance - exact)[np.abs(exact) < 3])) < 0.1


@pytest.mark.parametrize("shift", [-4.0, -2.0, 2.0, 4.0])
def test_misfit_of_a_shifted_front_is_its_squared_distance_over_the_outline(shift: float) -> None:
    outlines = Outlines(drawn(ball(18.0), ball(24.0)), brain(), N)
    threshold = int(np.argmin(np.abs(outlines.edema.thresholds - 0.3)))
    radius = 24.0 + shift
    density = front(radius - (at(0, 0.3)))
    # twice the integral of the distance to the outline over the shell between both spheres
    exact = 2 * abs(4 * np.pi * (radius**3 * (radius / 4 - 8) + 24.0**4 / 12))
    assert outlines.edema.misfits(density.ravel())[threshold] == pytest.approx(
        exact, rel=0.25
    )  # voxels of 2 mm are in or out


@pytest.mark.parametrize(("radius", "free"), [(20.0, True), (28.0, False)])
def test_an_edema_that_ends_where_the_core_ends_may_end_before(radius: float, free: bool) -> None:
    apart = Outlines(drawn(ball(18.0), ball(24.0)), brain(), N)
    whole = Outlines(drawn(ball(24.0), ball(24.0)), brain(), N)
    density = front(radius - at(0, 0.3)).ravel()
    threshold = int(np.argmin(np.abs(whole.edema.thresholds - 0.3)))
    bound, seen = whole.edema.misfits(density)[threshold], apart.edema.misfits(density)[threshold]
    assert bound == pytest.approx(0 if free else seen, rel=0.05, abs=1e-6 * seen) and seen > 0
    assert whole.edema.observations == pytest.approx(apart.edema.observations)


def test_only_the_shared_part_of_an_outline_says_less() -> None:
    edema = ball(24.0)
    x = np.indices(edema.array.shape)[0]
    core = edema.with_array(edema.array * (x > 40))  # one half of the edema
    half = Outlines(drawn(core, edema), brain(), N)
    whole = Outlines(drawn(ball(10.0), edema), brain(), N)
    density = front(20.0 - at(0, 0.3)).ravel()
    threshold = int(np.argmin(np.abs(half.edema.thresholds - 0.3)))
    share = half.edema.misfits(density)[threshold] / whole.edema.misfits(density)[threshold]
    assert share == pytest.approx(0.5, abs=0.06)


def test_outlines_are_worth_the_same_but_for_tiny_ones() -> None:
    outlines = Outlines(drawn(ball(5.0), ball(24.0)), brain(), N)
    assert outlines.core.observations == pytest.approx(4 * np.pi * 5.0**2 / PATCH, rel=0.2)
    assert outlines.edema.observations == N
    assert Outlines(drawn(ball(1.5), ball(24.0)), brain(), N).core.observations == 1


def edged(radius: float) -> tuple[Atlas, np.ndarray]:
    """Tissue where x < 0 and within a radius of the middle; the same on the grid of `ball`."""
    whole = brain()

    def inside(count: int, spacing: float) -> np.ndarray:
        axis = (np.arange(count) + 0.5) * spacing - 40
        x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
        return (x < 0) | (np.sqrt(x**2 + y**2 + z**2) <= radius)

    atlas = Atlas(np.where(inside(40, 2.0), whole.white_matter, 0), whole.gray_matter, whole.csf, GRID, "edged")
    return atlas, inside(80, 1.0)


@pytest.mark.parametrize("edge", [24.0, 25.0, 26.0])
def test_where_tissue_ends_there_is_no_outline_to_be_wrong_about(edge: float) -> None:
    """One half of the outline has tissue beyond it, the other half follows the edge of tissue, or nearly so."""
    free = Outlines(drawn(ball(18.0), ball(24.0)), brain(), N)
    atlas, matter = edged(edge)
    held = Outlines(replace(drawn(ball(18.0), ball(24.0)), matter=matter), atlas, N)
    assert held.edema.floor == pytest.approx(free.edema.floor / 2, rel=0.25)


def test_a_sheet_that_is_left_along_the_edge_of_tissue_is_no_error_of_the_front() -> None:
    """The front fills the half ball to the edge; the outline was drawn 2 mm inside of it on that side."""
    atlas, matter = edged(26.0)
    known = Outlines(replace(drawn(ball(18.0), ball(24.0)), matter=matter), atlas, N)
    taken = Outlines(drawn(ball(18.0), ball(24.0)), atlas, N)
    x, y, z = np.indices(GRID.shape)
    filled = (np.hypot(np.hypot(x - 19.5, y - 19.5), z - 19.5) <= 12) | (x >= 20)
    density = np.where(filled, 0.9, 0.0)[atlas.tissue].astype(np.float32)
    assert known.edema.misfits(density)[0] < 0.3 * taken.edema.misfits(density)[0]


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.0, 1.6, 2.0])
def test_what_is_a_sheet_is_told_in_millimetres_to_half_a_voxel(spacing: float) -> None:
    """Beside a block of mask lies tissue of some thickness, and then none."""
    edges = np.full(3, spacing)
    for count in range(1, 9):
        mask, beyond = (np.zeros((20, 24, 24), dtype=bool) for _ in range(2))
        mask[:6], beyond[6 : 6 + count] = True, True
        found = _sheets(mask, beyond, edges)[6 : 6 + count, 12, 12]
        if count * spacing < SHEET - spacing / 2:
            assert found.all()
        if count * spacing > SHEET + spacing:
            assert not found.any()


def test_where_no_image_is_tissue_is_far_from_any_outline() -> None:
    whole = ball(24.0)
    cut = Volume(whole.array[:, :, : whole.array.shape[2] // 2 + 1].copy(), whole.affine)
    distance = Outlines(drawn(cut, cut), brain(), N).core.distance.reshape(GRID.shape)
    assert np.all(distance[:, :, 22:] == -FAR)
    assert np.all(distance[:, :, :20] > -FAR)


def test_a_voxel_at_the_edge_is_as_far_from_the_outline_as_its_tissue() -> None:
    """Tissue in the left half of a voxel is inside, what is not tissue in the right half does not count."""
    mask = np.zeros((10, 8, 8), dtype=np.float32)
    mask[:7] = 1
    matter = np.zeros(mask.shape, dtype=bool)
    matter[:5], matter[8:] = True, True
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = 0.5
    ones = np.ones((5, 4, 4), np.float32)
    atlas = Atlas(ones, 0 * ones, 0 * ones, Grid((5, 4, 4), 2.0), "row")
    drawn = Drawn(Volume(mask, affine), Volume(mask, affine), matter)
    row = Outlines(drawn, atlas, N).core.distance.reshape(5, 4, 4)[:, 2, 2]
    assert row[:3] == pytest.approx([6.0, 4.0, 2.5])  # of the third voxel only the first half is tissue
    assert row[3] == 0 and row[4] == pytest.approx(-2.0)  # no tissue in the image: nothing is known


def test_the_right_front_is_the_most_probable_one_and_its_thresholds_too() -> None:
    width = 3.0
    outlines = Outlines(drawn(ball(at(20, 0.7)), ball(at(20, 0.2))), brain(), N)
    judged = {radius: outlines.judge(front(radius, width).ravel()) for radius in (16, 18, 20, 22, 24)}
    assert max(judged, key=lambda radius: judged[radius].log_likelihood) == 20
    assert outlines.core.thresholds[judged[20].core.argmax()] == pytest.approx(0.7, abs=0.06)
    assert outlines.edema.thresholds[judged[20].edema.argmax()] == pytest.approx(0.2, abs=0.06)


def test_fewer_observations_are_less_sure() -> None:
    fronts = [front(radius).ravel() for radius in (20, 24)]
    sure, unsure = (Outlines(drawn(ball(17.5), ball(24.0)), brain(), count) for count in (20.0, 5.0))
    gaps = [o.judge(fronts[0]).log_likelihood - o.judge(fronts[1]).log_likelihood for o in (sure, unsure)]
    assert gaps[0] > 2 * gaps[1] > 0


def test_no_tumor_at_all_is_judged_too() -> None:
    judged = Outlines(drawn(ball(18.0), ball(24.0)), brain(), N).judge(np.zeros(64000, np.float32))
    assert np.isfinite(judged.log_likelihood)
    noise = random_stream(0).uniform(size=64000).astype(np.float32)
    assert np.isfinite(Outlines(drawn(ball(18.0), ball(24.0)), brain(), N).judge(noise).log_likelihood)


def test_distances_in_slices_are_taken_to_the_faces_between_voxels() -> None:
    mask = np.zeros((30, 30, 12), dtype=bool)
    mask[8:22, 8:22, 4:8] = True
    distance = signed_distance(mask, np.array([1.0, 1.0, 5.0]))
    assert distance[15, 15, 7] == pytest.approx(2.5) and distance[15, 15, 8] == pytest.approx(-2.5)
    assert distance[8, 15, 5] == pytest.approx(0.5) and distance[7, 15, 5] == pytest.approx(-0.5)
    cubes = signed_distance(mask, np.ones(3))
    assert cubes[15, 15, 7] == pytest.approx(0.5) and cubes[5, 15, 5] == pytest.approx(-2.5)


def test_an_outline_at_the_edge_of_the_image_is_as_far_as_the_image_says() -> None:
    whole = ball(24.0)
    cut = Volume(whole.array[:, :, : whole.array.shape[2] // 2 + 1].copy(), whole.affine)
    atlas = brain()
    seen, known = Outlines(drawn(cut, cut), atlas, N), Outlines(drawn(whole, whole), atlas, N)
    x, y, z = np.indices(GRID.shape)
    ball_below_the_cut = (np.hypot(np.hypot(x - 19.5, y - 19.5), z - 19.5) * GRID.spacing <= 24) & (z <= 20)
    apart = np.abs(seen.core.distance - known.core.distance)[ball_below_the_cut[atlas.tissue]]
    assert apart.max() < 3.0


def test_a_misfit_is_twice_the_distances_of_what_is_missed_and_what_is_too_much() -> None:
    outlines, rng = Outlines(drawn(ball(18.0), ball(24.0)), brain(), N), np.random.default_rng(3)
    for outline in (outlines.core, outlines.edema):
        low, high = outline.thresholds[[0, -1]]
        for values in (
            rng.uniform(0, 1, outline.distance.shape).astype(np.float32),
            np.zeros(outline.distance.shape, np.float32),
            np.full(outline.distance.shape, low - 1e-4, np.float32),
            np.full(outline.distance.shape, high + 1e-4, np.float32),
        ):
            wrong = [(values >= t) != (outline.distance > 0) for t in outline.thresholds]
            expected = [2 * outline.voxel_volume * np.abs(outline.distance[apart]).sum() for apart in wrong]
            np.testing.assert_allclose(outline.misfits(values), expected, rtol=1e-9)


def test_the_least_error_of_an_outline_does_not_depend_on_the_grid() -> None:
    masks, atlas = drawn(ball(18.0), ball(24.0)), brain()
    ones = np.ones((20, 20, 20), np.float32)
    coarse = Atlas(ones, 0 * ones, 0 * ones, GRID.coarsened(2), "ball")
    floors = [Outlines(masks, one, N).edema.floor for one in (atlas, coarse)]
    assert floors[0] == pytest.approx(4 * np.pi * 24.0**2 * LEAST_ERROR**2, rel=0.1)
    assert floors[1] == pytest.approx(floors[0], rel=0.1)
