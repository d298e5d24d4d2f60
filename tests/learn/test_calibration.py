"""Calibration: honest distributions have uniform ranks, and too narrow ones are found out."""

from __future__ import annotations

import numpy as np
import pytest

from engine import Store
from learn.calibration import coverage, ranks_of_truth
from learn.comparison import thresholds_of


class Guess:
    """Draws around the truth plus an error of standard deviation 1; `width` is the spread that it claims."""

    def __init__(self, store: Store, width: float) -> None:
        self.truth, self.width = store.parameters, width
        self.rng, self.row = np.random.default_rng(0), 0

    def sample(self, images: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
        rows = slice(self.row, self.row + len(images))
        self.row += len(images)
        drawn = {}
        for name in ("mu1", "origin"):
            true = self.truth[name][rows]
            guess = true + self.rng.standard_normal(true.shape)
            drawn[name] = guess[:, None] + self.width * self.rng.standard_normal((len(images), count, *true.shape[1:]))
        return drawn


@pytest.mark.parametrize(("width", "lowest", "highest"), [(1.0, 0.8, 1.0), (0.1, 0.0, 0.5)])
def test_ranks_tell_honest_from_narrow(store: Store, width: float, lowest: float, highest: float) -> None:
    ranks = ranks_of_truth(Guess(store, width), store, np.arange(len(store)))  # type: ignore[arg-type]
    assert set(ranks) == {"mu1", "origin_x", "origin_y", "origin_z"}
    shares = coverage(ranks)
    named = {f"coverage_{level}_{name}" for level in (0.5, 0.9) for name in ranks}
    assert set(shares) == named | {"chance_0.5", "chance_0.9"}
    assert lowest <= np.mean([shares[f"coverage_0.9_{name}"] for name in ranks]) <= highest


def test_thresholds_are_those_of_the_images(store: Store) -> None:
    columns = thresholds_of(np.arange(200))
    assert columns["core_threshold"].min() > 0.5 > columns["edema_threshold"].max()
