"""Time steps of the Fisher-Kolmogorov model: how many, how long, and of which sub-steps each is made.

Scheme `converged` is Strang splitting, second order in time: half a step of the logistic solved exactly, a step of
diffusion, half a step of the logistic; halves that meet are merged. Diffusion is advanced by RKL2, the stabilized
second-order Runge-Kutta-Legendre method of s stages, whose step may be (s - 1)(s + 2) / 4 times an Euler step's. Its
stability polynomial is used as a product of s / 2 quadratic factors 1 + b z + a b z², z = dt L:

    y = c + a dt L c,    c <- c + b dt L y    ("a pair"),

so a pair needs one copy of c beside c, no matter how many stages a step has. A step spends on the front what it takes
to follow rho c (1 - c), and chooses s by stability. The first steps are short, because the seed is narrow.

Everything follows from mu1² / h² and mu2² alone, so (D, ρ, T) and (a D, a ρ, T / a) give the same steps bit for bit,
and the last step ends exactly at T.

Source of RKL2: Meyer, Balsara, Aslam, J. Comput. Phys. 257 (2014) 594-626. Factors of a stabilized method and the
importance of their order: Lebedev, Zh. Vychisl. Mat. Mat. Fiz. 29 (1989). Which order is ours, see `_calmest_order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import ceil, inf

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from engine.errors import InputError
from engine.parameters import FisherKolmogorovParameters

SCHEMES = ("converged", "gliomasolver")
REACTION = 0.4
"""Bound on rho dt (chosen by us: Dice against dt -> 0 stays >= .99 at c = .01, .1 and .8, benches/accuracy.py)."""
SAFETY = 0.95
"""Part of a method's stability interval that is used (chosen by us, room for rounding)."""
LARGEST = 12.0
"""Largest eigenvalue of -L h² / D_w: six faces of relative diffusivity 1 at most."""
GROWTH = 1.5
"""Each of the first steps is longer than the one before by this factor (chosen by us: 2 costs accuracy at c = .8)."""
MOST_STAGES = 10
"""With more, rounding in float32 is amplified 1,400 times and more, and little is gained (chosen by us)."""
GLIOMASOLVER_CFL = 0.99
"""Their 6 D_w dt / h²."""
LEAST_ACCURACY = 0.1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Time steps of one simulation as a kernel takes them.

    Attributes:
        steps: time steps in all.
        weights: a and b times D_w dt / h² of every pair, float32 (pairs, 2). Scheme `gliomasolver`: D_w dt / h² and
            rho dt of every step.
        decays: exp(-rho dt) of the reaction that follows a pair, 1 inside a step, float32 (pairs,).
        ahead: where a pair ends a step, exp(-rho dt / 2) of the half reaction of the next step that is merged into
            `decays`; 0 inside a step. float32 (pairs,).
        first: exp(-rho dt / 2) of the half reaction before the first pair.
        splits: whether the scheme is `converged`.
    """

    steps: int
    weights: NDArray[np.float32]
    decays: NDArray[np.float32]
    ahead: NDArray[np.float32]
    first: np.float32
    splits: bool

    @property
    def sweeps(self) -> int:
        """How often every active voxel is computed."""
        return self.weights.size if self.splits else self.steps


def schedule(
    parameters: FisherKolmogorovParameters, spacing: float, scheme: str = "converged", accuracy: float = 1.0
) -> Schedule:
    """Time steps for a tumor on voxels of `spacing` [mm].

    Args:
        parameters: the tumor.
        spacing: h [mm].
        scheme: `converged` or `gliomasolver`.
        accuracy: steps are this many times shorter than the default's; the error falls with its square.

    Raises:
        InputError: the scheme is unknown, or the accuracy is below 0.1 or not a number.
    """
    spread = parameters.diffusivity * parameters.duration / spacing**2
    growth = parameters.proliferation * parameters.duration
    if not LEAST_ACCURACY <= accuracy < inf:
        raise InputError(f"accuracy={accuracy} must be at least {LEAST_ACCURACY}: 1 is the default, 2 halves the steps")
    if scheme == "converged":
        return _split(spread, growth, accuracy)
    if scheme == "gliomasolver":
        steps = max(_ceil(6 * spread / GLIOMASOLVER_CFL * accuracy), 1)
        weights = np.tile(np.array([spread, growth]) / steps, (steps, 1)).astype(np.float32)
        ones = np.ones(steps, dtype=np.float32)
        return Schedule(steps, weights, ones, ones, np.float32(1), False)
    raise InputError(f"scheme {scheme!r} is unknown: use {' or '.join(SCHEMES)}")


def _split(spread: float, growth: float, accuracy: float) -> Schedule:
    runs = list(_equal_steps(spread, growth, accuracy))
    lengths = np.repeat([length for length, _ in runs], [count for _, count in runs])
    factors = [factors_of(_stages(spread * length)) * spread * length for length, _ in runs]
    weights = [np.tile(pairs, (count, 1)) for pairs, (_, count) in zip(factors, runs, strict=True)]
    ends = [np.tile(np.arange(1, len(pairs) + 1) == len(pairs), n) for pairs, (_, n) in zip(factors, runs, strict=True)]
    is_end = np.concatenate(ends)
    halves = np.exp(-growth * lengths / 2)
    after = np.append(halves[1:], 1.0)
    decays, ahead = np.ones(is_end.size, dtype=np.float32), np.zeros(is_end.size, dtype=np.float32)
    decays[is_end], ahead[is_end] = halves * after, after
    return Schedule(
        len(lengths), np.concatenate(weights).astype(np.float32), decays, ahead, np.float32(halves[0]), True
    )  # fmt: skip


def _equal_steps(spread: float, growth: float, accuracy: float) -> Iterator[tuple[float, int]]:
    """Lengths of the steps as fractions of T, and how many: short ones that grow, then equal ones that end at 1."""
    limit = SAFETY * interval(MOST_STAGES) / LARGEST
    full = 1.0 / max(_ceil(accuracy * growth / REACTION), _ceil(max(accuracy, 1) * spread / limit), 1)
    length = SAFETY * interval(2) / LARGEST / spread / max(accuracy, 1) if spread > 0 else inf
    passed = 0.0
    while length < full and passed + length < 1:
        yield length, 1
        passed += length
        length *= GROWTH
    rest = 1.0 - passed
    equal = _ceil(rest / full)
    yield rest / equal, equal


def _stages(spread: float) -> int:
    """The smallest even number of stages that is stable for D_w dt / h² = `spread`."""
    return next(
        (s for s in range(2, MOST_STAGES, 2) if LARGEST * spread <= SAFETY * interval(s) * (1 + 1e-9)), MOST_STAGES
    )


def interval(stages: int) -> float:
    """How far the real stability interval of RKL2 reaches."""
    return (stages - 1) * (stages + 2) / 2


@lru_cache(maxsize=16)
def factors_of(stages: int) -> NDArray[np.float64]:
    """The pairs (a, b) of RKL2 in the order in which they are applied, float64 (stages / 2, 2).

    The stability polynomial is 1 - w + w P(1 + 2 z / interval) with P Legendre's of degree s and
    w = (s² + s - 2) / (2 s (s + 1)); for even s its roots r come in conjugate pairs, and each gives a factor
    (1 - z / r)(1 - z / conj(r)).
    """
    weight = (stages**2 + stages - 2) / (2 * stages * (stages + 1))
    series = np.zeros(stages + 1)
    series[0], series[stages] = 1 - weight, weight
    roots = (legendre.legroots(series) - 1) * interval(stages) / 2
    roots = roots[roots.imag > 0]
    pairs = np.stack([-1 / (2 * roots.real), -2 * roots.real / np.abs(roots) ** 2], axis=1)
    return pairs[_calmest_order(pairs, interval(stages))]


def _calmest_order(pairs: NDArray[np.float64], reach: float) -> list[int]:
    """The order of factors in which a rounding error, wherever it is made, is amplified least; all are tried."""
    z = -np.linspace(0, reach, 401)
    halves = 1 + pairs[:, :1] * z
    wholes = 1 + pairs[:, 1:] * z * halves

    def amplification(order: Iterable[int]) -> float:
        chosen = list(order)
        before, worst = np.ones_like(z), 0.0
        for n, j in enumerate(chosen):
            after = np.prod(wholes[chosen[n + 1 :]], axis=0)
            inside = np.abs(before * halves[j]).max() * np.abs(pairs[j, 1] * z * after).max()
            before = before * wholes[j]
            worst = max(worst, inside, np.abs(before).max() * np.abs(after).max())
        return worst

    return list(min(permutations(range(len(pairs))), key=amplification))


def _ceil(value: float) -> int:
    """Ceiling that forgives rounding, so that equal products of a D and T / a give equal steps."""
    return ceil(value * (1 - 1e-12))
