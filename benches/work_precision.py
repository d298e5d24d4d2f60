"""What an accuracy in time costs with different integrators: the work-precision curve behind the default's constants.

    python benches/work_precision.py count=12 grid=full out=results/work_precision.png json=result.json

Every integrator solves the same accepted tumors with a series of step sizes. Work is the number of voxel updates (a
tissue voxel computed in one stage), the same for all; error is 1 - the lowest Dice at c = .01, .1 and .8 against steps
eight times finer than the default's, and of the tumors the worst in twenty is shown. All use the exact logistic:

- Euler: Strang splitting around forward Euler diffusion, first order;
- midpoint: the same around two stages, second order;
- RKL2, equal steps: up to ten stages, one short step for the seed;
- RKL2: the engine's scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
from accuracy import THRESHOLDS, dice
from numpy.typing import NDArray
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, FisherKolmogorovParameters, load_atlas, time_steps
from engine.acceptance import accept_rows
from engine.backends import Job, Size, choose_backend
from engine.domain import domain_of
from engine.fisher_kolmogorov import seed_voxels
from engine.simulate import SIZE_DENSITY
from engine.time_steps import LARGEST, SAFETY, Schedule, interval, schedule

ACCURACIES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
EULER_REACTIONS = (0.32, 0.16, 0.08, 0.04, 0.02)

Integrator = Callable[[FisherKolmogorovParameters, float], Schedule]


def main() -> None:
    """Measure, draw and report."""
    keys = {"count": 12, "grid": "full", "out": "results/work_precision.png", "json": None}
    settings = arguments(keys, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    rows, _ = accept_rows(
        range(settings.count), 0, "converged", atlas, PRIORS["whole_brain"], choose_backend("auto")
    )  # fmt: skip
    tumors = [row["parameters"] for row in rows]
    reference = [density for density, _ in solve(tumors, atlas, partial(stabilized, 8.0))]
    curves = {
        name: [measure(tumors, atlas, one, reference) for one in series] for name, series in integrators().items()
    }
    draw(curves, Path(settings.out))
    publish("Work and precision", {"machine": machine(), "grid": settings.grid, "tumors": len(tumors)} | {
        f"{name} {n}": point for name, points in curves.items() for n, point in enumerate(points)
    }, settings.json)  # fmt: skip


def integrators() -> dict[str, list[Integrator]]:
    """Every integrator with its series of step sizes."""
    return {
        "Euler": [partial(euler, reaction) for reaction in EULER_REACTIONS],
        "midpoint": [partial(stabilized, accuracy, MOST_STAGES=2) for accuracy in ACCURACIES],
        "RKL2, equal steps": [partial(stabilized, accuracy, GROWTH=1e9) for accuracy in ACCURACIES],
        "RKL2": [partial(stabilized, accuracy) for accuracy in ACCURACIES],
    }


def stabilized(accuracy: float, tumor: FisherKolmogorovParameters, spacing: float, **constants: float) -> Schedule:
    """The engine's steps with some of its constants changed."""
    with patch.dict(vars(time_steps), constants):
        return schedule(tumor, spacing, accuracy=accuracy)


def euler(reaction: float, tumor: FisherKolmogorovParameters, spacing: float) -> Schedule:
    """Equal steps of forward Euler, as pairs whose first stage does nothing."""
    spread, growth = tumor.mu1**2 / spacing**2, tumor.mu2**2
    steps = max(int(np.ceil(LARGEST * spread / (SAFETY * interval(2)))), int(np.ceil(growth / reaction)), 1)
    half = np.exp(-growth / steps / 2)
    ahead = np.full(steps, half, dtype=np.float32)
    ahead[-1] = 1
    weights = np.tile(np.array([0, spread / steps], dtype=np.float32), (steps, 1))
    return Schedule(steps, weights, (half * ahead).astype(np.float32), ahead, np.float32(half), True)


def solve(
    tumors: list[FisherKolmogorovParameters], atlas: Atlas, integrator: Integrator
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Flat densities and updates; a stage that does nothing is not counted."""
    domain = domain_of(atlas)
    schedules = [integrator(tumor, atlas.grid.spacing) for tumor in tumors]
    jobs = (
        Job(lambda tumor=tumor: domain.pack(*seed_voxels(atlas, tumor.origin)), times)  # type: ignore[misc]
        for tumor, times in zip(tumors, schedules, strict=True)
    )
    for outcome, times in zip(choose_backend("cpu").run(domain, jobs, Size(SIZE_DENSITY)), schedules, strict=True):
        yield outcome.density(np.float32), int(outcome.updates * np.count_nonzero(times.weights) / times.weights.size)


def measure(
    tumors: list[FisherKolmogorovParameters],
    atlas: Atlas,
    integrator: Integrator,
    reference: list[NDArray[np.float32]],
) -> dict[str, float]:
    """Mean work and the error that one tumor in twenty exceeds."""
    errors, updates = [], []
    for (density, spent), exact in zip(solve(tumors, atlas, integrator), reference, strict=True):
        errors.append(1 - min(dice(density, exact, threshold) for threshold in THRESHOLDS))
        updates.append(spent)
    return {"updates_mean": float(np.mean(updates)), "error_q95": float(np.quantile(errors, 0.95))}


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One line an integrator, and the limit of what is accepted."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, points in curves.items():
        axes.loglog([p["updates_mean"] for p in points], [p["error_q95"] for p in points], "o-", label=name)
    axes.axhline(0.01, color="gray", linestyle=":", label="Dice 0.99")
    axes.set(xlabel="voxel updates a tumor", ylabel="1 - lowest Dice, worst of twenty")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
