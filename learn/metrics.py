"""How far a predicted tumor is from the true one.

Dice and MAE are computed as the authors of the paper do, so that Table 2 can be compared with; their MAE does not
see tumor predicted where there is none, so a symmetric MAE stands beside it.

Source: Ezhov et al., Learn-Morph-Infer (2023), Table 2, and the authors' evaluation code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from engine import Atlas, random_stream

DICE_THRESHOLDS = (0.01, 0.1, 0.8)
"""Densities [1] at which true and predicted tumors are compared (the paper's)."""
SUPPORT = 1e-4
"""Density and tissue fraction above which a voxel counts (the authors')."""
ABSOLUTE = ("core_threshold", "edema_threshold", "coupling")
"""Parameters whose error is a difference: they may be 0, or are fractions already."""
RESAMPLES = 1000
"""Of a bootstrap interval."""

Density = NDArray[np.floating]


def dice(true: Density, predicted: Density, threshold: float) -> float:
    """Overlap of {c >= threshold} over the whole volume, in [0, 1]; NaN if neither tumor reaches the threshold."""
    first, second = true >= threshold, predicted >= threshold
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else float("nan")


def mean_absolute_error(true: Density, predicted: Density, where: NDArray[np.bool_]) -> float:
    """Mean of |c_true - c_predicted| over the voxels `where`; NaN if there are none."""
    return float(np.abs(true[where] - predicted[where]).mean()) if where.any() else float("nan")


def density_errors(true: Density, predicted: Density, atlas: Atlas) -> dict[str, float]:
    """Every density score of one sample.

    Args:
        true: density [1], (x, y, z).
        predicted: density [1], (x, y, z).
        atlas: whose tissue fractions say where white matter, gray matter and CSF are.

    Returns:
        `dice_0.01`, `dice_0.1`, `dice_0.8`; `mae_white_matter` and `mae_gray_matter` over voxels of the tissue
        that the true tumor reaches, `mae_csf` over voxels of CSF that the predicted one reaches;
        `mae_symmetric` over brain that either reaches. NaN where there is nothing to compare.
    """
    scores = {f"dice_{threshold:g}": dice(true, predicted, threshold) for threshold in DICE_THRESHOLDS}
    reached, claimed = true > SUPPORT, predicted > SUPPORT
    scores["mae_white_matter"] = mean_absolute_error(true, predicted, reached & (atlas.white_matter > SUPPORT))
    scores["mae_gray_matter"] = mean_absolute_error(true, predicted, reached & (atlas.gray_matter > SUPPORT))
    scores["mae_csf"] = mean_absolute_error(true, predicted, claimed & (atlas.csf > SUPPORT))
    scores["mae_symmetric"] = mean_absolute_error(true, predicted, (reached | claimed) & atlas.brain)
    return scores


def parameter_errors(
    true: Mapping[str, NDArray], predicted: Mapping[str, NDArray], extent: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Errors of predicted parameters, one number a sample.

    Args:
        true: physical columns, (n,) each and `origin` (n, 3) as a fraction of the grid.
        predicted: the same; names that it lacks are left out.
        extent: edges of the grid [mm], (3,).

    Returns:
        `NAME_relative_error` = |predicted - true| / true, for `ABSOLUTE` names `NAME_error` = |predicted - true|,
        and `origin_error_mm`, the distance [mm]; (n,) each.
    """
    errors = {}
    for name, values in predicted.items():
        difference = np.asarray(values, dtype=np.float64) - true[name]
        if name == "origin":
            errors["origin_error_mm"] = np.linalg.norm(difference * extent, axis=1)
        elif name in ABSOLUTE:
            errors[f"{name}_error"] = np.abs(difference)
        else:
            errors[f"{name}_relative_error"] = np.abs(difference) / np.asarray(true[name])
    return errors


def summarize(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Scores of many samples as the flat numbers of `metrics.json`.

    Args:
        scores: name -> one value a sample, (n,); NaN where a sample had nothing to compare.

    Returns:
        Every score as `NAME_mean` and `NAME_median`, each with its 95% interval under bootstrap as `_interval`; the
        mean of an MAE stands under its own name. NaN samples stay out of these numbers and are counted in
        `NAME_undefined`. A score that is undefined for every sample is None with an interval of two, an MAE 0, as
        the paper prints its CSF column.
    """
    summary: dict[str, Any] = {}
    for name, values in scores.items():
        defined, is_mae = values[~np.isnan(values)], name.startswith("mae_")
        for kind, statistic in (("mean", np.mean), ("median", np.median)):
            key = name if is_mae and kind == "mean" else f"{name}_{kind}"
            empty = 0.0 if is_mae else None
            summary[key] = float(statistic(defined)) if defined.size else empty
            summary[f"{name}_{kind}_interval"] = bootstrap_interval(defined, statistic) if defined.size else [empty] * 2
        if name.startswith(("dice_", "mae_")):
            summary[f"{name}_undefined"] = int(values.size - defined.size)
    return summary


def bootstrap_interval(values: NDArray[np.float64], statistic: Callable[..., Any]) -> list[float]:
    """The 95% percentile interval of a statistic under resampling of the samples, [low, high].

    Args:
        values: one a sample, (n,), without NaN, at least one; of a single value the interval is that value.
        statistic: `np.mean`, `np.median` or the like, with `axis`.
    """
    if values.size < 2:
        return [float(values.sum())] * 2
    interval = bootstrap(
        (values,), statistic, n_resamples=RESAMPLES, method="percentile", random_state=random_stream(0), batch=100
    ).confidence_interval
    return [float(interval.low), float(interval.high)]
