"""What two outlines leave open where more than one anatomy may be the patient's: an average over all of them.

Tumors are sampled in each anatomy (`morph.posterior`). Each anatomy counts by its evidence: how probable the outlines
are under it, all its tumors taken together, with equal odds beforehand. One in which a few tumors fit well can count
for less than one in which many fit fairly well. Intervals come from all tumors by their weights, maps from those that
carry nearly all of it.

The tumor that is delivered is the one that agrees best with all of these and with the masks, so that as little as
possible is lost whichever of them is the true one (`morph.ensemble`). It is one of them or the tumor at the mean of a
sample: in five dimensions few of some hundreds lie near the middle.

Source: Hoeting, Madigan, Raftery and Volinsky, Bayesian model averaging: a tutorial, Statistical Science 14 (1999)
382-417.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import simulate
from morph.ensemble import Ensemble, joined, representative
from morph.evidence import Estimate, Fit
from morph.posterior import STARVED, NothingPossibleError, PosteriorSettings, Tumors, describe_tumors, sample_tumors
from morph.prior import log_prior
from morph.sampler import normalized, quantiles
from morph.scene import Scene
from morph.uncertainty import LEVELS, Interval, Posterior
from morph.volume import Volume

QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
MATTERS = 0.05
"""Share from which on a tumor of an anatomy may be delivered, and it matters how well it was sampled (ours)."""


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
    ensemble = joined([gather(guess, where) for guess in guesses])
    probable = [guess.scene for guess in guesses if guess.share >= MATTERS]
    fits = zip(ensemble.held_against_masks(where), ensemble.scenes, strict=True)
    losses = np.array([fit.loss if scene in probable else np.inf for fit, scene in fits])
    best, agreement = representative(ensemble, losses)
    scene = ensemble.scenes[best]
    posterior = summarize(guesses, ensemble, where, scene, settings.seed)
    sampled = [guess.scene for guess in guesses]
    missed = tuple(scene.tumor_tissue for scene, _ in found if scene not in sampled)
    (fit,) = scene.fine.compare([ensemble.estimates[best]])
    return scene, fit, replace(posterior, agreement=agreement, missed=missed)


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


def gather(guess: Guess, where: NDArray[np.bool_]) -> Ensemble:
    """The tumors of a guess that carry weight, over the voxels `where` (x, y, z), and the one at their mean."""
    tumors, atlas = guess.tumors, guess.scene.fine.atlas
    kept = tumors.sample.weights[tumors.kept]
    estimates = [tumors.mapping.meant(place) for place in tumors.sample.places[tumors.kept]]
    density, weights = tumors.density, guess.share * kept / kept.sum()
    mean = tumors.sample.mean
    if np.isfinite(log_prior(*tumors.mapping.estimate(mean), tumors.mapping.fine)):
        estimates.append(tumors.mapping.meant(mean))
        (middle,) = simulate([estimates[-1].parameters()], atlas).density
        density = np.concatenate([density, middle[atlas.tissue].astype(np.float16)[None]])
        weights = np.append(weights, 0.0)
    everywhere = np.zeros((len(density), np.count_nonzero(where)), dtype=np.float16)
    everywhere[:, atlas.tissue[where]] = density
    return Ensemble(estimates, [guess.scene] * len(estimates), everywhere, weights)


def summarize(
    guesses: Sequence[Guess], ensemble: Ensemble, where: NDArray[np.bool_], scene: Scene, seed: int
) -> Posterior:
    """Maps on the patient's T1, by way of `scene`, and intervals; `where` are the ensemble's voxels (x, y, z)."""

    def show(values: NDArray[np.floating]) -> Volume:
        field = np.zeros(where.shape, dtype=np.float32)
        field[where] = values
        return scene.deliver(field)

    described = [describe_tumors(guess.tumors, guess.scene.to_world, seed) for guess in guesses]
    numbers = {name: np.concatenate([one[name] for one in described]) for name in described[0]}
    numbers["mu1"] = numbers["mu1"] * scene.scale
    weights = np.concatenate([guess.weights for guess in guesses])
    return Posterior(
        density_mean=show(ensemble.mean),
        density_std=show(ensemble.deviation),
        probability={level: show(ensemble.exceedance(level)) for level in LEVELS},
        intervals={name: interval(values, weights) for name, values in numbers.items()},
        agreement={},
        effective=min(guess.tumors.sample.effective for guess in guesses if guess.share >= MATTERS),
        numbers=numbers,
        weights=weights,
        tissue={guess.scene.tumor_tissue: guess.share for guess in guesses},
    )


def interval(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Interval:
    """Where a number (n,) of weighted tumors lies."""
    low, first, median, third, high = quantiles(values, weights, QUANTILES).tolist()
    return Interval(median, (first, third), (low, high))
