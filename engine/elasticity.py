"""Quasi-static displacement of a brain that a tumor pushes.

    ∇·(λ (∇·u) I + μ (∇u + ∇uᵀ)) = γ ∇c   in the brain,      u = 0 at the skull (the border of the brain)

λ and μ [kPa] differ from place to place. (The paper's printed equation 5 and the authors' code give λ the role of μ
and the other way round; an irrotational u cannot tell, a sheared one does.)

Space: finite volumes on a staggered grid (u_x on x faces, ...), normal stresses in cells, shear stresses on edges with
the mean of μ over the brain's cells around, twice as much along a flat skull, which is half a cell from what moves
along it; second order, first along the steps of a slanting skull. The operator is symmetric and minus it positive
definite, translations and rotations are free of stress, and in a uniform medium ∇·u = γ c / (λ + 2 μ) + const in every
cell of a box. Solver: conjugate gradients, preconditioned by one V-cycle of multigrid (`engine.multigrid`), to a
relative residual of `TOLERANCE`, from any first guess.

Source: Ezhov et al., Learn-Morph-Infer, Medical Image Analysis 83 (2023) 102672, equations 5-7, and the authors'
published code for the moduli.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.kernels.elasticity import advance, dot, turn
from engine.multigrid import Coarsening, Fields, Level, v_cycle

TOLERANCE = 1e-3
"""Relative residual |f - A u| / |f| at which a solve ends."""
MAX_ITERATIONS = 100


class NotConverged(ArithmeticError):
    """The displacement solve did not reach its tolerance; the message says how far it came."""


@dataclass(frozen=True)
class Material:
    """Stiffness of a tissue.

    Attributes:
        youngs_modulus: E [kPa], > 0.
        poisson_ratio: nu [1], in (-1, 0.5).

    Raises:
        InputError: a value is not physical.
    """

    youngs_modulus: float
    poisson_ratio: float

    def __post_init__(self) -> None:
        """Refuse what is not physical."""
        if not (isfinite(self.youngs_modulus) and self.youngs_modulus > 0):
            raise InputError(f"youngs_modulus is {self.youngs_modulus} kPa: it must be finite and > 0")
        if not -1 < self.poisson_ratio < 0.5:
            raise InputError(f"poisson_ratio is {self.poisson_ratio}: it must lie between -1 and 0.5, both excluded")

    @property
    def lame_lambda(self) -> float:
        """E nu / ((1 + nu) (1 - 2 nu)) [kPa]."""
        nu = self.poisson_ratio
        return self.youngs_modulus * nu / ((1 + nu) * (1 - 2 * nu))

    @property
    def lame_mu(self) -> float:
        """E / (2 (1 + nu)) [kPa]."""
        return self.youngs_modulus / (2 * (1 + self.poisson_ratio))


MATERIALS: Mapping[str, Material] = {
    "white_matter": Material(2.1, 0.4),
    "gray_matter": Material(2.1, 0.4),
    "csf": Material(0.1, 0.1),
    "tumor": Material(8.0, 0.45),
}
"""The authors' published code."""


def mix_lame(fractions: Mapping[str, Fields], density: Fields) -> tuple[Fields, Fields]:
    """λ, μ [kPa] of cells, (x, y, z): tissue by its share in the cell, and tumor in its place as c grows to 1.

    Args:
        fractions: `white_matter`, `gray_matter`, `csf` [1], (x, y, z), >= 0; only their shares count.
        density: c [1], (x, y, z), >= 0; above 1 it counts as 1.
    """
    c = np.minimum(density, 1)
    total = np.zeros_like(c)
    for values in fractions.values():
        total += values
    rest = np.divide(1 - c, total, where=total >= np.finfo(total.dtype).tiny, out=np.zeros_like(c))
    lam, mu = MATERIALS["tumor"].lame_lambda * c, MATERIALS["tumor"].lame_mu * c
    for name, values in fractions.items():
        share = rest * values
        lam += MATERIALS[name].lame_lambda * share
        mu += MATERIALS[name].lame_mu * share
    return lam, mu


class Elasticity:
    """The displacement solve in one brain; the Lame fields change from solve to solve.

    Attributes:
        free: 1 on the faces between two cells of the brain, 0 on the others, which are held; (3, x, y, z).
        spacing: h [mm].
        levels: the grids, finest first, and the `coarsenings` that lead from each to the next.
        iterations: of all solves so far.
    """

    def __init__(self, brain: NDArray[np.bool_], spacing: float, dtype: type = np.float32) -> None:
        """Prepare the grids for a brain, bool (x, y, z).

        Raises:
            InputError: the brain reaches into the outermost layer, where it could not be held.
        """
        inner = brain[1:-1, 1:-1, 1:-1]
        if brain.sum() != inner.sum():
            raise InputError("the brain reaches the edge of the elastic grid: leave a layer of cells around it")
        self.spacing = spacing
        self.levels = [Level(brain, dtype)]
        self.coarsenings: list[Coarsening] = []
        while self.levels[-1].can_coarsen:
            self.coarsenings.append(Coarsening(self.levels[-1].inside))
            self.levels.append(Level(self.coarsenings[-1].brain, dtype))
        self.free = self.levels[0].free
        self.iterations = 0

    def set_lame(self, lam: Fields, mu: Fields) -> None:
        """Take λ, μ [kPa] of the cells, (x, y, z); outside the brain they do not count."""
        self.levels[0].assemble(lam, mu)
        for coarsening, fine, coarse in zip(self.coarsenings, self.levels[:-1], self.levels[1:], strict=True):
            coarse.assemble(coarsening.mean(fine.lam), coarsening.mean(fine.mu))

    def push(self, pressure: Fields) -> Fields:
        """The force of a pressure such as γ c [kPa], (x, y, z): -h² times its gradient on the free faces."""
        force = np.zeros_like(self.free)
        for axis in range(3):
            force[axis] = self.spacing * (np.roll(pressure, 1, axis) - pressure)
        force *= self.free
        return force

    def apply(self, u: Fields) -> Fields:
        """-h² times the elastic operator on u [mm], (3, x, y, z), 0 on held faces."""
        out = np.zeros_like(self.free)
        self.levels[0].apply((u * self.free).astype(out.dtype), out)
        return -out

    def solve(self, force: Fields, guess: Fields | None = None, tolerance: float = TOLERANCE) -> Fields:
        """The displacement u [mm] with `apply(u)` = force, (3, x, y, z).

        Args:
            force: right side, such as `push` gives, (3, x, y, z).
            guess: first guess [mm], (3, x, y, z); the nearer, the fewer iterations. Default 0.
            tolerance: |force - A u| / |force| to reach.

        Raises:
            NotConverged: not reached within `MAX_ITERATIONS`.
        """
        fine, free, kind = self.levels[0], self.free, self.free.dtype.type
        r = force.astype(free.dtype) * free
        size = sqrt(_dot(r, r))
        u = np.zeros_like(r)
        if size > 0 and guess is not None:
            u[...] = guess * free
            fine.residual(r.copy(), u, r)
        direction, image, before, done = np.zeros_like(r), np.zeros_like(r), np.inf, 0
        while not sqrt(_dot(r, r)) <= tolerance * size:
            if done == MAX_ITERATIONS:
                reached = sqrt(_dot(r, r)) / size
                raise NotConverged(f"the displacement reached a residual of {reached:.1e}, not {tolerance:.1e}")
            fine.b[...] = r
            better = v_cycle(self.levels)
            now = _dot(r, better)
            turn(direction.ravel(), kind(now / before), better.ravel())
            fine.apply(direction, image)
            step = kind(-now / _dot(direction, image))
            advance(u.ravel(), r.ravel(), step, direction.ravel(), image.ravel())
            before, done = now, done + 1
        self.iterations += done
        return u


def _dot(a: Fields, b: Fields) -> float:
    return float(dot(a.ravel(), b.ravel()))
