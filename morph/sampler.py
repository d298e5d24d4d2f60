"""Adaptive multiple importance sampling: points in proportion to a density that costs a simulation each.

Every round proposes points around the weighted mean of all earlier ones. A point is weighted against the mixture of
all proposals of all rounds, so none is wasted and early, wide rounds do no harm.

Source: Cornuet, Marin, Mira and Robert, Adaptive multiple importance sampling, Scandinavian Journal of Statistics 39
(2012) 798-812. That proposals are fitted to flattened weights where few points carry them is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect
from scipy.special import logsumexp
from scipy.stats import multivariate_t

Values = NDArray[np.float64]
Target = Callable[[Values], Values]
Proposal = tuple[Values, Values]
"""Mean (d,) and squared scales (d, d) of points to try."""
FREEDOM = 5.0
"""Degrees of freedom of the proposals: their tails are heavier than the target's (ours)."""
WIDENED = 1.2
"""Scale of a proposal over the standard deviation of the points that it is fitted to (ours)."""
ENOUGH = 40.0
"""Effective number of points that a proposal is fitted to: weights are flattened until it is reached; and below which
sampling goes on (ours)."""
NARROWEST = 0.02
"""Least scale of a proposal, in the coordinates' units (ours); its standard deviation is 1.29 times as large."""
LONGEST = 3
"""Sampling that goes on ends at this many times the points that were asked for (ours)."""


class NoneFoundError(ValueError):
    """No point that was tried has a density."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Weighted points of a density.

    Attributes:
        places: (n, d).
        log_density: of the target, not normalized, (n,); -inf where there is none.
        weights: sum to 1, (n,).
        log_evidence: logarithm of the density's integral over all places, as the points estimate it.
    """

    places: Values
    log_density: Values
    weights: Values
    log_evidence: float

    @property
    def effective(self) -> float:
        """How many independent points the weighted ones are worth."""
        return effective(self.weights)

    @property
    def mean(self) -> Values:
        """Weighted, (d,)."""
        return self.weights @ self.places

    def flattened(self) -> Sample:
        """The same points with weights that leave `ENOUGH` effective ones."""
        with np.errstate(divide="ignore"):
            return replace(self, weights=flattened(np.log(self.weights), ENOUGH))

    def proposal(self) -> Proposal:
        """Where to look for a density like this one."""
        return _fit(self.places, self.flattened().weights)


def pick(weights: Values, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of `count` points drawn by weight (n,), each as often as its weight says to within one (systematic)."""
    levels = (np.arange(count) + rng.uniform()) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), levels), len(weights) - 1)


def heaviest(weights: Values, share: float) -> NDArray[np.int64]:
    """Numbers of the fewest points that carry a share of all weight (n,), the heaviest first."""
    order = np.argsort(-weights, kind="stable")
    return order[: int(np.searchsorted(np.cumsum(weights[order]), share)) + 1]


def quantiles(values: Values, weights: Values, levels: Values) -> Values:
    """Weighted quantiles of one number (n,) of every point."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) - 0.5 * weights[order]
    return np.interp(levels, reached, values[order])


def explore(target: Target, first: Proposal, simulations: int, rounds: int, rng: np.random.Generator) -> Sample:
    """Sample a density.

    Args:
        target: points (n, d) -> log density (n,), -inf where there is none.
        first: of the first round.
        simulations: points in all; up to `LONGEST` times as many while they are worth too few (`ENOUGH`).
        rounds: that they are spread over.
        rng: decides all.

    Raises:
        NoneFoundError: no point of any round has a density.
    """
    mean, covariance = first
    places, found, logs = np.empty((0, len(mean))), np.empty(0), np.empty(0)
    proposals = []
    shares = np.diff(np.linspace(0, LONGEST * simulations, LONGEST * rounds + 1).astype(int))
    for number, count in enumerate(shares):
        if number >= rounds and not 0 < effective(normalized(logs)) < ENOUGH:
            break
        proposals.append(multivariate_t(mean, covariance, FREEDOM))
        proposed = np.reshape(proposals[-1].rvs(count, random_state=rng), (count, len(mean)))
        places, found = np.concatenate([places, proposed]), np.concatenate([found, target(proposed)])
        logs = found - _mixture(places, proposals, shares)
        if np.isfinite(logs).any():
            mean, covariance = _fit(places, flattened(logs, ENOUGH))
    if not np.isfinite(logs).any():
        raise NoneFoundError("no proposed point has a density")
    return Sample(places, found, normalized(logs), float(logsumexp(logs)) - np.log(len(logs)))


def normalized(logs: Values) -> Values:
    """Weights that sum to 1, of their logarithms; all are 0 where none is finite."""
    return np.exp(logs - logsumexp(logs)) if np.isfinite(logs).any() else np.zeros(len(logs))


def flattened(logs: Values, enough: float) -> Values:
    """Weights raised to the highest power up to 1 that leaves `enough` effective points, if there are as many."""
    present = np.isfinite(logs)

    def weights(power: float) -> Values:
        return normalized(np.where(present, power * np.where(present, logs, 0.0), -np.inf))

    def excess(power: float) -> float:
        return effective(weights(power)) - enough

    if excess(1.0) >= 0 or excess(0.0) <= 0:
        return weights(1.0 if excess(1.0) >= 0 else 0.0)
    return weights(float(bisect(excess, 0.0, 1.0, xtol=1e-4)))


def effective(weights: Values) -> float:
    """How many independent points weights are worth that sum to 1, or are all 0."""
    return float(1 / np.sum(weights**2)) if weights.any() else 0.0


def _mixture(places: Values, proposals: list, shares: NDArray[np.int64]) -> Values:
    """Logarithmic density (n,) of the mixture that all points so far were drawn from."""
    used = shares[: len(proposals)]
    logs = [p.logpdf(places) + np.log(n / used.sum()) for p, n in zip(proposals, used, strict=True)]
    return np.asarray(logsumexp(logs, axis=0))


def _fit(places: Values, weights: Values) -> Proposal:
    """Mean and squared scales of a proposal."""
    mean = weights @ places
    away = places - mean
    return mean, WIDENED**2 * (weights[:, None] * away).T @ away + NARROWEST**2 * np.eye(places.shape[1])
