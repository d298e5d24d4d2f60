"""Where a network is weak, measured on the samples of its evaluation: sentences for its model card."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from engine import Store
from engine.rows import VOLUME_THRESHOLDS
from learn.augment import Augmentation
from learn.build import read_settings
from learn.comparison import Evaluation, evaluate
from learn.estimator import Estimator

SCORE = "dice_0.1"
LEVEL = 0.1
"""Density [1] of the score, and of the volume by which tumors are called small."""
LOW = 0.1
"""Share of the origins that is called lowest: brain stem, cerebellum and base of the temporal lobes (ours)."""
FAIL = 0.5
"""Dice below which an answer is called wrong (ours)."""


def measured_limits(evaluation: Evaluation, estimator: Estimator, store: Store, backend: str = "auto") -> list[str]:
    """What a person must know before they rely on a network.

    The same samples are evaluated once more on masks as people and programs draw them
    (`augmentation=outlines augmentation.share=1`).

    Args:
        evaluation: on exact masks.
        estimator: the network.
        store: of the samples.
        backend: that simulates.
    """
    drawn = evaluate(estimator, store, evaluation.rows, backend, drawn_masks()).scores[SCORE]
    exact = evaluation.scores[SCORE]
    trained = estimator.metadata.get("training", {})
    return [
        _small(exact, store.volumes[evaluation.rows, VOLUME_THRESHOLDS.index(LEVEL)]),
        _low(exact, store.parameters["origin"][evaluation.rows, 2], store),
        f"Answers below a Dice of {FAIL:g} at c = {LEVEL:g}: {np.mean(exact < FAIL):.1%}; the worst has "
        f"{np.nanmin(exact):.2f}.",
        f"Trained on {'drawn' if trained.get('augmentation') else 'exact'} masks of simulations, tested on exact ones: "
        f"with masks as people and programs draw them, after a registration with errors, mean Dice at c = {LEVEL:g} is "
        f"{np.nanmean(drawn):.3f} in place of {np.nanmean(exact):.3f}. How accurate it is on patients is not known.",
    ]


def drawn_masks() -> Augmentation:
    """Masks as people and programs draw them, all of them changed."""
    settings = OmegaConf.create((resources.files("conf") / "augmentation" / "outlines.yaml").read_text("utf-8"))
    assert isinstance(settings, DictConfig)
    return replace(read_settings(Augmentation, settings, "augmentation"), share=1.0)


def _small(dice: NDArray[np.float64], volumes: NDArray[np.float64]) -> str:
    edges = np.quantile(volumes, [1 / 3, 2 / 3])
    third = np.searchsorted(edges, volumes)
    small, middle, large = (_mean(dice[third == number]) for number in range(3))
    return (
        f"Small tumors: of thirds by their volume at c = {LEVEL:g} (to {edges[0]:.0f} ml, to {edges[1]:.0f} ml, "
        f"above), mean Dice is {small}, {middle} and {large}."
    )


def _low(dice: NDArray[np.float64], height: NDArray[np.float64], store: Store) -> str:
    edge = np.quantile(height, LOW)
    low = height <= edge
    lowest = store.load_atlas().bounding_box()[2].start / store.grid.shape[2]
    above = (edge - lowest) * store.grid.extent[2]
    return (
        f"Brain stem and cerebellum: of tumors with the lowest {LOW:.0%} of the origins (up to {above:.0f} mm above "
        f"the brain's lowest point) mean Dice at c = {LEVEL:g} is {_mean(dice[low])}, of the others "
        f"{_mean(dice[~low])}."
    )


def _mean(values: NDArray[np.float64]) -> str:
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else "-"
