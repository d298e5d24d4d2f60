"""Mixtures: proper distributions, learned by likelihood, that say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import InputError
from learn.mixture import Mixture


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.randn(3, Mixture(4, 2).outputs, generator=torch.Generator().manual_seed(0))


def test_the_density_integrates_to_one(outputs: torch.Tensor) -> None:
    axis = torch.linspace(-9, 9, 361)
    points = torch.cartesian_prod(axis, axis)
    for one in outputs:
        distribution = Mixture(4, 2).distribution(one[None].expand(len(points), -1))
        mass = distribution.log_prob(points).exp().sum() * (axis[1] - axis[0]) ** 2
        assert float(mass) == pytest.approx(1.0, abs=2e-3)


def test_the_mean_is_that_of_draws(outputs: torch.Tensor) -> None:
    torch.manual_seed(0)
    mixture = Mixture(4, 2)
    drawn = mixture.distribution(outputs).sample((20_000,))
    torch.testing.assert_close(drawn.mean(dim=0), mixture.mean(outputs), atol=0.05, rtol=0)


def test_outputs_of_the_means_move_the_means(outputs: torch.Tensor) -> None:
    mixture = Mixture(4, 2)
    moved = outputs.clone()
    moved[:, list(mixture.mean_outputs((1,)))] += 0.5
    torch.testing.assert_close(mixture.mean(moved) - mixture.mean(outputs), torch.tensor([[0.0, 0.5]]).expand(3, 2))


def test_likelihood_finds_a_distribution_with_two_ends() -> None:
    """Half of the targets are near -1, half near +1, and the second quantity follows the first."""
    torch.manual_seed(0)
    mixture = Mixture(2, 2)
    first = torch.where(torch.rand(400) < 0.5, -1.0, 1.0) + 0.1 * torch.randn(400)
    target = torch.stack([first, 0.5 * first + 0.05 * torch.randn(400)], dim=1)
    bias = mixture.first_bias().requires_grad_()
    optimizer = torch.optim.Adam([bias], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = mixture.loss(bias.expand(400, -1), target)
        loss.backward()
        optimizer.step()
    drawn = mixture.distribution(bias.detach()[None]).sample((4000,))[:, 0].numpy()
    assert (np.abs(np.abs(drawn[:, 0]) - 1) < 0.4).mean() > 0.99
    assert abs((drawn[:, 0] > 0).mean() - float((first > 0).float().mean())) < 0.05
    assert np.corrcoef(drawn.T)[0, 1] > 0.98


@pytest.mark.parametrize("components", [0, -1, 1.5])
def test_impossible_mixtures_are_refused(components: float) -> None:
    with pytest.raises(InputError, match="components"):
        Mixture(components, 2)  # type: ignore[arg-type]
