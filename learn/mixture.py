"""A distribution instead of a point: a mixture of Gaussians with full covariances over the encoded targets.

A network with `Mixture.outputs` outputs describes, for every image, weights, means and Cholesky factors of the
components. It is trained by likelihood; its point estimate is the mixture's mean.

Source: Bishop, Mixture density networks (1994); full covariances by torch.distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from engine import InputError

SMALLEST_SCALE = 0.005
"""Of a Cholesky factor's diagonal, in encoded units (a mean range is 2): a finer answer is not believed (ours)."""
FIRST_SCALE = -1.0
"""softplus of it is the diagonal at the start, 0.31: about the spread of a target (ours)."""
SPREAD = 0.2
"""Standard deviation of the first means, which tells the components apart (ours)."""


@dataclass(frozen=True)
class Mixture:
    """How the outputs of a network describe a distribution.

    Attributes:
        components: number of Gaussians, >= 1.
        quantities: number of targets, >= 1.

    Raises:
        InputError: one of them is not a positive whole number.
    """

    components: int
    quantities: int

    def __post_init__(self) -> None:
        """Refuse a mixture of nothing."""
        if not all(isinstance(n, int) and n >= 1 for n in (self.components, self.quantities)):
            raise InputError(f"components={self.components} must be a whole number >= 1, or 0 for a point")

    @property
    def outputs(self) -> int:
        """Numbers that describe one distribution: weights, means, Cholesky factors."""
        q = self.quantities
        return self.components * (1 + q + q * (q + 1) // 2)

    def mean_outputs(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """Which outputs are the means of these targets, component after component."""
        return tuple(self.components + k * self.quantities + i for k in range(self.components) for i in positions)

    def first_bias(self) -> Tensor:
        """Bias of the last layer at the start, (outputs,): components of equal weight with means that differ."""
        bias = torch.zeros(self.outputs)
        means = slice(self.components, self.components * (1 + self.quantities))
        bias[means] = SPREAD * torch.randn(self.components * self.quantities)
        return bias

    def distribution(self, outputs: Tensor) -> MixtureSameFamily:
        """The distributions over encoded targets that outputs (B, outputs) describe, in float32."""
        k, q = self.components, self.quantities
        weights, means, factors = outputs.float().split([k, k * q, k * q * (q + 1) // 2], dim=1)
        rows, columns = torch.tril_indices(q, q, device=outputs.device)
        cholesky = outputs.new_zeros((len(outputs), k, q, q), dtype=torch.float32)
        cholesky[:, :, rows, columns] = factors.reshape(len(outputs), k, -1)
        diagonal = torch.nn.functional.softplus(cholesky.diagonal(dim1=2, dim2=3) + FIRST_SCALE) + SMALLEST_SCALE
        cholesky = cholesky.tril(-1) + torch.diag_embed(diagonal)
        gaussians = MultivariateNormal(means.reshape(-1, k, q), scale_tril=cholesky, validate_args=False)
        return MixtureSameFamily(Categorical(logits=weights, validate_args=False), gaussians, validate_args=False)

    def mean(self, outputs: Tensor) -> Tensor:
        """The point estimate (B, quantities)."""
        return self.distribution(outputs).mean

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean negative log likelihood a quantity of targets (B, quantities)."""
        return -self.distribution(outputs).log_prob(target).mean() / self.quantities
