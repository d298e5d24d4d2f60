"""A brain on its way: tumor density, tissue fractions and displacement, and the three things that change them.

`grow` advances the density in the anatomy as it stands, `settle` finds the displacement that belongs to the density,
`carry` moves density and tissue along. `engine.mass_effect` says in which order, and why.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.cutout import Cutout
from engine.elasticity import Elasticity, mix_lame
from engine.kernels import fisher_kolmogorov as growth_kernels
from engine.kernels import mass_effect as kernels
from engine.time_steps import Schedule
from engine.transport import Transport, faces_inside

Field = NDArray[np.float32]
_NEVER = np.iinfo(np.int64).max
TISSUES = ("white_matter", "gray_matter", "csf")


class MovingBrain:
    """One simulation's state on a cutout.

    Attributes:
        cutout: the box, and the brain at rest.
        coupling: gamma [kPa].
        c: density [1], (x, y, z).
        matter: white matter, gray matter and CSF [1], (x, y, z) each.
        u: displacement of the coarse lower faces that the last `settle` found [mm], (3, X, Y, Z).
        carried: displacement to which density and tissue have been moved, likewise.
        updates: tissue-voxel updates of growth so far; `solves` of the displacement.
    """

    def __init__(self, cutout: Cutout, coupling: float, density: Field, tolerance: float) -> None:
        """A brain at rest with a density, full-grid (x, y, z), in it; `tolerance` is of the displacement solves."""
        atlas = cutout.atlas
        self.cutout, self.coupling, self._tolerance = cutout, coupling, tolerance
        self.c: Field = cutout.crop(density)
        self.matter: list[Field] = [atlas.white_matter.copy(), atlas.gray_matter.copy(), atlas.csf.copy()]
        self._transport = Transport(faces_inside(atlas.brain))
        self._elasticity = Elasticity(cutout.coarse_brain, cutout.coarse_spacing)
        self._coarse_transport = Transport(self._elasticity.free)
        self.u = np.zeros_like(self._elasticity.free)
        self.carried = self.u
        self._places, self._brain = np.flatnonzero(cutout.domain.tissue), np.flatnonzero(atlas.brain)
        self._mobility = np.zeros_like(self.c)
        self._flat = np.zeros(cutout.domain.tissue.size, dtype=np.float32)
        self._faces = np.zeros_like(cutout.domain.faces)
        self.updates = self.solves = 0

    @property
    def iterations(self) -> int:
        """Iterations of all displacement solves."""
        return self._elasticity.iterations

    def grow(self, times: Schedule) -> None:
        """Diffusion and proliferation in the current tissue: the first model's kernel on the current faces."""
        domain = self.cutout.domain
        white, gray, csf = (m.ravel() for m in self.matter)
        kernels.mobility(white, gray, csf, self._mobility.ravel())
        mobility, c = self._mobility.ravel()[self._brain], self.c.ravel()
        self._flat[self._places] = mobility
        kernels.faces(self._flat, domain.strides[0], domain.strides[1], self._faces)
        tissue = mobility > 0
        inside, places = self._brain[tissue], self._places[tissue]
        density = np.zeros_like(self._flat)
        density[places] = c[inside]
        self.updates += growth_kernels.evolve(
            density, self._faces, domain.starts, domain.fill, domain.links, domain.link_offsets, *domain.strides,
            times.weights, times.decays, times.ahead, times.first, _NEVER, np.float32(1),
        )[0]  # fmt: skip
        c[inside] = density[places]

    def settle(self) -> Field:
        """Solve for `u`; returns by how much it changed [mm], (3, X, Y, Z).

        A coarse copy of the fields is moved to where they are expected, and u solved for; moved to where that takes
        them, and u solved for again. They were expected as far ahead again as `carry` has taken them.

        Raises:
            NotConverged: a solve does not reach its tolerance.
        """
        coarse = [self.cutout.coarsen(field) for field in (self.c, *self.matter)]
        before, place, expected = self.u, self.carried, 2 * self.carried - self.u
        for _ in range(2):
            shift = (expected - place) / np.float32(self._elasticity.spacing)
            coarse, place = self._coarse_transport.move(coarse, shift), expected
            expected = self._solve(coarse, expected)
        self.u = expected
        return self.u - before

    def _solve(self, fields: list[Field], guess: Field) -> Field:
        lam, mu = mix_lame(dict(zip(TISSUES, fields[1:], strict=True)), fields[0])
        self._elasticity.set_lame(lam, mu)
        self.solves += 1
        return self._elasticity.solve(
            self._elasticity.push(np.float32(self.coupling) * fields[0]), guess, self._tolerance
        )  # fmt: skip

    def carry(self, further: Field) -> None:
        """Move density and tissue to where `u` and a bit `further` [mm], (3, X, Y, Z), take them."""
        target = self.u + further
        shift = self.cutout.refine(target - self.carried) / np.float32(self.cutout.atlas.grid.spacing)
        self.c, *self.matter = self._transport.move([self.c, *self.matter], shift)
        self.carried = target
