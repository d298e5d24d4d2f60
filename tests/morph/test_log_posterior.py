"""Prior times likelihood of one tumor, by its stand-in on the coarse grid and on the fine grid itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import PRIORS, FisherKolmogorovParameters, simulate
from morph.evidence import Estimate
from morph.log_posterior import LogPosterior, most_probable
from morph.outlines import Drawn, Outlines
from morph.prior import log_prior
from morph.sampler import Sample, normalized
from morph.scene import Scene
from morph.space_mapping import _averaging, map_space
from morph.volume import Volume
from tests.morph.known_tumor import THRESHOLDS, TRUTH, draw_masks, known_scene

OBSERVATIONS = 14.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    return known_scene()


def test_a_tumor_without_a_dense_core_is_impossible_whatever_the_outlines_say(scene: Scene) -> None:
    outlines = Outlines(scene.drawn, scene.coarse.atlas, OBSERVATIONS)
    for tumor, possible in ((TRUTH, True), (Estimate(5.0, 2.6, TRUTH.origin), False)):
        mapping = map_space(outlines.atlas, outlines.atlas, tumor)
        log, seen = LogPosterior(outlines, outlines, mapping, (2.0, 420.0)).by_stand_ins(np.zeros((1, 5)))
        assert seen[0] is not None and np.isfinite(seen[0].log_likelihood)
        assert np.isfinite(log[0]) == possible
    core = float(np.count_nonzero(scene.drawn.core.array)) * scene.fine.atlas.grid.voxel_volume
    assert outlines.core.volume == pytest.approx(core, rel=0.1)


def test_a_narrow_front_is_judged_as_the_fine_grid_shows_it(scene: Scene) -> None:
    """The tumor that was drawn on the fine grid is far more probable than without the mapping, and near its best."""
    narrow, coarse, fine = Estimate(4.0, 4.5, TRUTH.origin), scene.coarse.atlas, scene.fine.atlas
    density = simulate([narrow.parameters()], fine).density[0]
    drawn = Drawn(*draw_masks(density, fine), fine.tissue)
    outlines = [Outlines(drawn, atlas, OBSERVATIONS) for atlas in (coarse, fine)]
    mapped, plain = map_space(coarse, fine, narrow).moved_to(np.zeros(5)), map_space(coarse, coarse, narrow)
    mapped = replace(mapped, center=narrow)  # the comparison was made a little beside it
    as_meant, as_coarse = (
        LogPosterior(*outlines, mapping, (1.0, 420.0)).by_stand_ins(np.zeros((1, 5)))[0] for mapping in (mapped, plain)
    )
    assert as_meant > as_coarse + 3
    shown = outlines[0].judge(_averaging(fine, coarse).of(density).astype(np.float32))
    prior = log_prior(narrow.mu1, narrow.mu2, np.array(narrow.origin), fine)
    assert prior + shown.log_likelihood == pytest.approx(as_meant, abs=1.0)


def test_both_grids_are_compared_where_the_fine_one_finds_tumors_probable(scene: Scene) -> None:
    outlines = [Outlines(scene.drawn, evidence.atlas, OBSERVATIONS) for evidence in (scene.coarse, scene.fine)]
    mapping = map_space(scene.coarse.atlas, scene.fine.atlas, TRUTH)
    log_posterior = LogPosterior(*outlines, mapping, (2.0, 420.0))
    places = np.random.default_rng(1).normal(0, 0.4, (60, 5))
    logs = log_posterior.by_stand_ins(places)[0]
    sample = Sample(places, logs, normalized(logs), 0.0)
    center = most_probable(log_posterior, sample, np.random.default_rng(2))
    mean = sample.weights @ places
    best, middle = log_posterior.on_fine_grid(np.stack([center, mean]))[0]
    assert np.isfinite(best) and best >= middle
    alike = replace(log_posterior, mapping=map_space(scene.coarse.atlas, scene.coarse.atlas, TRUTH))
    np.testing.assert_array_equal(most_probable(alike, sample, np.random.default_rng(2)), mean)


def test_the_prior_is_that_of_uniform_draws() -> None:
    prior, rng = PRIORS["whole_brain"], np.random.default_rng(0)
    drawn = [rng.uniform(*bounds, 200_000) for bounds in (prior.diffusivity, prior.proliferation, prior.duration)]
    x, y = 0.5 * np.log(drawn[0] * drawn[2]), 0.5 * np.log(drawn[1] * drawn[2])
    counts, ends_x, ends_y = np.histogram2d(x, y, bins=8, density=True)
    edges_x, edges_y = (np.linspace(e[0], e[-1], 8 * 20 + 1) for e in (ends_x, ends_y))
    fine_x, fine_y = ((e[1:] + e[:-1]) / 2 for e in (edges_x, edges_y))
    dense = np.exp(prior.log_density(np.exp(fine_x)[:, None], np.exp(fine_y)[None]))
    np.testing.assert_allclose(dense.reshape(8, 20, 8, 20).mean(axis=(1, 3)), counts, atol=0.03 * counts.max())
    tumor = FisherKolmogorovParameters(0.1, 0.05, 300, (0.5, 0.5, 0.5))
    assert np.isfinite(prior.log_density(tumor.mu1, tumor.mu2))
    assert prior.log_density(0.1, 4.0) == -np.inf == prior.log_density(10.0, 30.0)


def test_the_fine_grid_tells_at_which_density_an_outline_was_seen(scene: Scene) -> None:
    """Averaged over coarse voxels the foot of a narrow front looks further out, and the threshold higher."""
    narrow, coarse, fine = Estimate(4.0, 4.5, TRUTH.origin), scene.coarse.atlas, scene.fine.atlas
    density = simulate([narrow.parameters()], fine).density[0]
    core, edema = (Volume((density >= t).astype(np.float32), fine.grid.affine) for t in THRESHOLDS)
    outlines = [Outlines(Drawn(core, edema, fine.tissue), atlas, OBSERVATIONS) for atlas in (coarse, fine)]
    log_posterior = LogPosterior(*outlines, map_space(fine, fine, narrow), (1.0, 420.0))
    (judged,) = log_posterior.on_fine_grid(np.zeros((1, 5)))[1]
    averaged = outlines[0].judge(_averaging(fine, coarse).of(density).astype(np.float32))
    assert judged is not None
    seen, looks = (outlines[0].edema.thresholds[one.edema.argmax()] for one in (judged, averaged))
    assert seen == pytest.approx(THRESHOLDS[1], abs=0.011)
    assert looks > THRESHOLDS[1] + 0.015
