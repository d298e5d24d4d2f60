"""Calibration: do the posterior's intervals hold the truth as often as they say?

    python benches/calibration.py count=300 json=calibration.json plot=calibration.png

With `json=` an interrupted run goes on where it was.

Tumors of the prior are grown in the atlas on the full grid (1.8 mm) and seen through two random thresholds, as outlines
drawn with errors of 1 mm (`benches/known_tumors.py`). The search and the posterior run as for a patient, on the half
and the full grid, and get only the outlines; but the sizes that a tumor can have are the prior's, which a patient with
a smaller core may fall below. The anatomy is known as a patient's is: outside the visible tumor from the T1, inside
from an atlas that a registration has put there with errors of some millimeters, or white matter throughout: the
posterior is an average over both (`morph.averaging`). `second_guess=false` leaves white matter throughout out, which
these tumors never grow in, and takes half the time. `anatomy=known` gives the true anatomy.

Cases that are sampled too poorly get no intervals, as a patient would get none, and are counted. Half of many other
cases should lie in their 50% interval, and the rank of the truth among the sampled tumors should be uniform.

That is only so where errors are what the likelihood takes them for: an outline is worth `observations=` independent
ones, so by default errors go together over as much of it as one observation stands for. `correlation=17` draws errors
that go together over that many mm on all outlines instead (the Gauss of the field that moves them). As the errors
change with `observations=`, these cases cannot choose it: with `correlation=` they can. Real registrations are in
`benches/twins.py`.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from known_tumors import Case, make_case
from matplotlib.figure import Figure
from omegaconf import DictConfig
from report import arguments, machine, publish
from rich.progress import track
from scipy.stats import binom, kstest

from engine import Atlas, load_anatomy
from morph.averaging import refuse_few, shares_of
from morph.evidence import Estimate, Evidence
from morph.inference import Brain, estimate_tumor, majority, prepare_brain
from morph.posterior import STARVED, NothingPossibleError, PosteriorSettings, describe_tumors, sample_tumors
from morph.prior import PRIOR
from morph.refine import RefinementSettings, search_coarsely, search_further
from morph.resample import average_onto
from morph.sampler import effective
from morph.solve import not_far_worse

SHARES = (0.5, 0.9)
DECISIVE = (
    "seed", "anatomy", "second_guess", "search", "simulations", "rounds", "fine_simulations", "observations",
    "correlation", "weights",
)  # fmt: skip
"""Settings that change a case."""


def main() -> None:
    """Sample the posterior of every case, and count how often its intervals hold the truth."""
    defaults = {
        "count": 300,
        "seed": 7,
        "anatomy": "registered",
        "second_guess": True,
        "search": RefinementSettings().evaluations,
        "simulations": PosteriorSettings().simulations,
        "rounds": PosteriorSettings().rounds,
        "fine_simulations": PosteriorSettings().fine_simulations,
        "observations": PosteriorSettings().observations,
        "correlation": None,
        "weights": "auto",
        "processes": 2,
        "plot": None,
        "json": None,
    }
    settings = arguments(defaults, __doc__)
    if settings.correlation is not None and not (
        isinstance(settings.correlation, int | float) and settings.correlation > 0
    ):
        sys.exit(f"error: correlation={settings.correlation} must be a length in mm, > 0")
    if settings.anatomy not in ("registered", "known"):
        sys.exit(f"error: anatomy={settings.anatomy}: choose from registered, known")
    judged = judge_cases(settings)
    cases = [case for case in judged if case["effective"] >= STARVED]
    if not cases:
        sys.exit("error: no case has a posterior: raise fine_simulations=")
    ranks = {name: np.array([case["ranks"][name] for case in cases]) for name in cases[0]["ranks"]}
    result = {name: count_covered(values) for name, values in ranks.items()}
    worth = [case["effective"] for case in cases]
    if settings.plot is not None:
        plot_ranks(ranks, Path(settings.plot))
    about = {"machine": machine(), "cases": len(cases), "without_posterior": len(judged) - len(cases)}
    about |= {"effective_median": float(np.median(worth))}
    each = {"effective": worth, "ranks": {k: v.tolist() for k, v in ranks.items()}}
    publish("Calibration", {**about, **result, **each}, settings.json)
    if settings.json is not None:
        left_by(settings.json).unlink()


def left_by(path: str) -> Path:
    """Where the cases of an unfinished run are."""
    return Path(f"{path}.part")


def judge_cases(settings: DictConfig) -> list[dict[str, Any]]:
    """Every case; those that an interrupted run with the same settings left beside `json` are not judged again."""
    asked = json.dumps({"commit": machine()["commit"], **{k: settings[k] for k in settings if k in DECISIVE}})
    cases: list[dict[str, Any]] = []
    kept = None if settings.json is None else left_by(settings.json)
    if kept is not None and kept.exists():
        first, *lines = kept.read_text().split("\n")[:-1]  # what follows the last line's end was not written to its end
        if first != asked:
            sys.exit(f"error: {kept} was left by a run with other settings or code: delete it or choose another json=")
        kept.write_text("\n".join([first, *lines, ""]))
        cases = [json.loads(line) for line in lines][: settings.count]
    elif kept is not None:
        kept.write_text(asked + "\n")
    work = [(int(settings.seed), number, dict(settings)) for number in range(len(cases), settings.count)]
    with ProcessPoolExecutor(settings.processes, initializer=use_one_core) as pool:
        for case in track(pool.map(judge_case, work), "calibrate", total=len(work)):
            cases.append(case)
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(case) + "\n")
    return cases


def use_one_core() -> None:
    """Leave the other cores to the other processes."""
    os.environ["LMI_THREADS"] = "1"
    torch.set_num_threads(1)


@lru_cache
def tools(weights: str) -> Brain:
    """The atlas on the half and on the full grid, and the network that starts the search."""
    return prepare_brain(load_anatomy("sri24"), weights)


def judge_case(work: tuple[int, int, dict[str, Any]]) -> dict[str, Any]:
    """One tumor: the rank of each true number among the sampled ones, 0 to 1."""
    seed, number, settings = work
    brain = tools(settings["weights"])
    case = make_case(seed, number, settings, brain)
    if not settings["second_guess"]:
        case = replace(case, anatomies=case.anatomies[:1])
    named = ("simulations", "rounds", "fine_simulations", "observations")
    sampling = PosteriorSettings(**{name: settings[name] for name in named}, seed=number)
    sampled = []
    for found, coarse, fine in search(case, brain, RefinementSettings(settings["search"], 0, seed=number)):
        with suppress(NothingPossibleError):
            tumors = sample_tumors(case.drawn, coarse, fine, found, sampling, PRIOR.size)
            refuse_few(tumors)
            sampled.append(tumors)
    if not sampled:
        return {"ranks": {}, "effective": 0.0}
    shares = shares_of(sampled)
    weights = np.concatenate([share * tumors.sample.weights for share, tumors in zip(shares, sampled, strict=True)])
    described = [describe_tumors(tumors, lambda world: world, number) for tumors in sampled]
    numbers = {name: np.concatenate([one[name] for one in described]) for name in case.truth}
    ranks = {name: float(weights[values < case.truth[name]].sum()) for name, values in numbers.items()}
    return {"ranks": ranks, "effective": effective(weights)}


def search(case: Case, brain: Brain, settings: RefinementSettings) -> list[tuple[Estimate, Atlas, Atlas]]:
    """What a patient's search finds in each anatomy that is sampled, and this on the half and the full grid."""
    core, edema = (majority(average_onto(mask, brain.coarse.grid)) for mask in (case.drawn.core, case.drawn.edema))
    start = estimate_tumor(core, edema, brain)
    every = [Evidence(core, edema, coarse) for coarse, _ in case.anatomies]
    searches = [search_coarsely(evidence, start, settings) for evidence in every]
    possible = not_far_worse([one.best.loss for one in searches])
    return [(search_further(searches[n], every[n], settings).estimate, *case.anatomies[n]) for n in possible]


def count_covered(ranks: np.ndarray) -> dict[str, Any]:
    """How often intervals hold the truth, whether that is within the error of so many cases, and if ranks are even."""
    covered: dict[str, Any] = {}
    for share in SHARES:
        held = int(np.count_nonzero(np.abs(ranks - 0.5) <= share / 2))
        low, high = binom.ppf([0.025, 0.975], len(ranks), share) / len(ranks)
        covered[f"interval_{share * 100:.0f}"] = held / len(ranks)
        covered[f"interval_{share * 100:.0f}_expected"] = [float(low), float(high)]
    return covered | {"ranks_uniform_p": float(kstest(ranks, "uniform").pvalue)}


def plot_ranks(ranks: dict[str, np.ndarray], path: Path) -> None:
    """Expected against observed coverage of central intervals, and a histogram of the ranks, for each number."""
    figure = Figure(figsize=(2.1 * len(ranks), 4.2), layout="constrained")
    axes = figure.subplots(2, len(ranks), sharey="row")
    shares = np.linspace(0, 1, 101)
    for column, (name, values) in enumerate(ranks.items()):
        held = [(np.abs(values - 0.5) <= share / 2).mean() for share in shares]
        low, high = binom.ppf([[0.025], [0.975]], len(values), shares) / len(values)
        axes[0, column].fill_between(shares, low, high, color="0.85", label="chance (95%)")
        axes[0, column].plot(shares, held, color="#1f77b4", label="observed")
        axes[0, column].set(title=name.replace("_", " "), xlabel="share in the interval")
        axes[1, column].hist(values, 10, range=(0, 1), color="#1f77b4")
        axes[1, column].axhline(len(values) / 10, color="0.5", lw=1)
        axes[1, column].set(xlabel="rank of the truth")
    axes[0, 0].set_ylabel("share of cases")
    axes[1, 0].set_ylabel("cases")
    axes[0, 0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
