"""What two outlines leave open where more than one anatomy may be the patient's: an average over all of them.

Tumors are sampled in each anatomy (`morph.posterior`). Each anatomy counts by its evidence: how probable the outlines
are under it, all its tumors taken together, with equal odds beforehand. One in which a few tumors fit well can count
for less than one in which many fit fairly well. Intervals come from all sampled tumors, maps from some of them, drawn
by weight: the ensemble.

The tumor that is delivered is the one that agrees best with all of the ensemble and with the masks, so that as little
as possible is lost whichever of them is the true one (`morph.ensemble`). It is one of them or, mostly, the tumor at the
mean of a sample or its most probable one: in five dimensions few of some dozens lie near the middle.

Source: Hoeting, Madigan, Raftery and Volinsky, Bayesian model averaging: a tutorial, Statistical Science 14 (1999)
382-417.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import random_stream
from morph.ensemble import Ensemble, grow_ensemble, held_against, representative
from morph.evidence import Estimate, Fit
from morph.posterior import (
    MEMBERS,
    STARVED,
    NothingPossibleError,
    PosteriorSettings,
    Tumors,
    describe_tumors,
    sample_tumors,
)
from morph.prior import log_prior
from morph.sampler import normalized, pick, quantiles
from morph.scene import Scene
from morph.uncertainty import LEVELS, Interval, Posterior
from morph.volume import Volume

QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
MATTERS = 0.05
"""Share from which on it matters how well an anatomy was sampled (ours)."""


@dataclass(frozen=True, eq=False)
class Guess:
    """An anatomy that may be the patient's, and the tumors in it.

    Attributes:
        scene: the anatomy.
        tumors: sampled in it.
        weights: of these tumors among those of all guesses, (n,).
    """

    scene: Scene
    tumors: Tumors
    weights: NDArray[np.float64]

    @property
    def share(self) -> float:
        """How probable the anatomy is."""
        return float(self.weights.sum())


@dataclass(frozen=True, eq=False)
class Candidates:
    """Tumors that may be delivered.

    Attributes:
        tumors: on the fine grid.
        fits: the same, held against the masks.
        scenes: the anatomy of each.
        ensemble: those of them that were drawn by weight.
    """

    tumors: Ensemble
    fits: list[Fit]
    scenes: list[Scene]
    ensemble: Ensemble


def find_posterior(
    found: Sequence[tuple[Scene, Estimate]], settings: PosteriorSettings
) -> tuple[Scene, Fit, Posterior]:
    """What the outlines leave open, and the tumor to deliver with its anatomy.

    Args:
        found: anatomies that may be the patient's, all on the same grids with the same masks, each with what the search
            on the coarse grid found there.
        settings: see there.

    Raises:
        NothingPossibleError: in every anatomy none of the simulated tumors is possible at all, or too few carry all the
            weight.
    """
    guesses = weigh(found, settings)
    where = np.logical_or.reduce([guess.scene.fine.atlas.tissue for guess in guesses])
    grown = grow_candidates(guesses, where, settings)
    losses = np.array([fit.loss for fit in grown.fits])
    best, agreement = representative(grown.tumors, grown.ensemble, losses)
    scene = grown.scenes[best]
    posterior = summarize(guesses, grown.ensemble, where, scene, settings.seed)
    sampled = [guess.scene for guess in guesses]
    missed = tuple(scene.tumor_tissue for scene, _ in found if scene not in sampled)
    return scene, grown.fits[best], replace(posterior, agreement=agreement, missed=missed)


def weigh(found: Sequence[tuple[Scene, Estimate]], settings: PosteriorSettings) -> list[Guess]:
    """Tumors of every anatomy in which enough are possible, each anatomy weighed by its evidence.

    Raises:
        NothingPossibleError: in none of them.
    """
    sampled, nothing = [], None
    for scene, estimate in found:
        try:
            tumors = sample_tumors(scene.drawn, scene.coarse.atlas, scene.fine.atlas, estimate, settings)
            refuse_few(tumors)
            sampled.append((scene, tumors))
        except NothingPossibleError as error:
            nothing = error
    if nothing is not None and not sampled:
        raise nothing
    shares = shares_of([tumors for _, tumors in sampled])
    return [Guess(scene, t, share * t.sample.weights) for (scene, t), share in zip(sampled, shares, strict=True)]


def refuse_few(tumors: Tumors) -> None:
    """Refuse a sample that is worth too few tumors to say anything of the others, or how probable they all are.

    Raises:
        NothingPossibleError: it is.
    """
    if tumors.sample.effective < STARVED:
        raise NothingPossibleError(
            f"the sampled tumors are worth {tumors.sample.effective:.1f} independent ones, too few for a posterior: "
            "raise posterior.fine_simulations"
        )


def shares_of(sampled: Sequence[Tumors]) -> NDArray[np.float64]:
    """How probable each of several anatomies is by the tumors that were sampled in it, (n,)."""
    return normalized(np.array([tumors.sample.log_evidence for tumors in sampled]))


def with_centers(tumors: Tumors, drawn: NDArray[np.int64]) -> list[Estimate]:
    """The tumors of these numbers, and before them the mean, if possible, and the most probable one.

    The latter only where it is not one of those that were drawn, which are not compared with themselves.
    """
    mapping, sample = tumors.mapping, tumors.sample
    best = int(np.argmax(sample.log_density))
    places = sample.places[drawn if best in drawn else [best, *drawn]]
    is_possible = np.isfinite(log_prior(*mapping.estimate(sample.mean), mapping.fine))
    return [mapping.meant(place) for place in ([sample.mean, *places] if is_possible else places)]


def grow_candidates(guesses: Sequence[Guess], where: NDArray[np.bool_], settings: PosteriorSettings) -> Candidates:
    """The ensemble and the tumors in the middle of each guess, over the voxels `where` (x, y, z)."""
    weights = np.concatenate([guess.weights for guess in guesses])
    drawn = pick(weights, settings.members, random_stream(settings.seed, MEMBERS))
    ends = np.cumsum([0, *(len(guess.weights) for guess in guesses)])
    grown, members, fits, scenes = [], [], [], []
    for guess, first, end in zip(guesses, ends, ends[1:], strict=False):
        chosen = drawn[(drawn >= first) & (drawn < end)] - first
        if len(chosen):
            some = grow_ensemble(with_centers(guess.tumors, chosen), guess.scene.fine.atlas, where)
            grown.append(some)
            members.append(some.last(len(chosen)))
            fits += held_against(some, guess.scene, where)
            scenes += [guess.scene] * len(some.estimates)
    return Candidates(Ensemble.of(grown), fits, scenes, Ensemble.of(members))


def summarize(
    guesses: Sequence[Guess], ensemble: Ensemble, where: NDArray[np.bool_], scene: Scene, seed: int
) -> Posterior:
    """Maps on the patient's T1, by way of `scene`, and intervals; `where` are the ensemble's voxels (x, y, z)."""

    def show(values: NDArray[np.floating]) -> Volume:
        field = np.zeros(where.shape, dtype=np.float32)
        field[where] = values
        return scene.deliver(field)

    density = ensemble.density
    described = [describe_tumors(guess.tumors, guess.scene.to_world, seed) for guess in guesses]
    numbers = {name: np.concatenate([one[name] for one in described]) for name in described[0]}
    numbers["mu1"] = numbers["mu1"] * scene.scale
    weights = np.concatenate([guess.weights for guess in guesses])
    return Posterior(
        density_mean=show(density.mean(axis=0)),
        density_std=show(density.std(axis=0)),
        probability={level: show((density > level).mean(axis=0)) for level in LEVELS},
        intervals={name: interval(values, weights) for name, values in numbers.items()},
        agreement={},
        effective=min(guess.tumors.sample.effective for guess in guesses if guess.share >= MATTERS),
        members=len(ensemble.estimates),
        numbers=numbers,
        weights=weights,
        tissue={guess.scene.tumor_tissue: guess.share for guess in guesses},
    )


def interval(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Interval:
    """Where a number (n,) of weighted tumors lies."""
    low, first, median, third, high = quantiles(values, weights, QUANTILES).tolist()
    return Interval(median, (first, third), (low, high))
