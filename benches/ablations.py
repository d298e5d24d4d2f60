"""What each part of the training is worth: one thing changed at a time, tested on the same samples.

    python benches/ablations.py data=runs/fk_half.zarr folder=runs/ablations json=result.json

Every ablation of `conf/ablation` is trained as the joint experiment on `samples` simulations, `steps` images in all,
and tested twice: with exact masks, and with masks as people and programs draw them (`augmentation=outlines`). What is
printed is how much better than the experiment as it is (`none`) each one is, in Dice at 0.1, over the same test
samples. What is there already is not done again. The intervals are of the samples' choice; another seed of the
training is not in them: `seeds=[0,1]` trains each one twice, and the gain is of both together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from experiments import read, run
from numpy.typing import NDArray
from report import arguments, machine, publish

from learn.metrics import bootstrap_interval

CHOICES = Path(__file__).parents[1] / "conf" / "ablation"
BATCH = 32
PLAIN = "none"
TESTS = {"exact": "none", "drawn": "outlines"}
"""Name of a test -> the augmentation of its masks."""


def main() -> None:
    """Train, test and report."""
    names = sorted(path.stem for path in CHOICES.glob("*.yaml"))
    defaults = {
        "data": "runs/fk_half.zarr", "folder": "runs/ablations", "samples": 5000, "steps": 100000,
        "network": "small", "seeds": [0], "only": names, "json": None,
    }  # fmt: skip
    settings = arguments(defaults, __doc__)
    asked = [PLAIN, *(name for name in names if name in settings.only and name != PLAIN)]
    if set(settings.only) - set(names):
        sys.exit(f"error: only={list(settings.only)}: choose from {', '.join(names)}")
    common = [f"data={settings.data}", f"network={settings.network}", f"count={settings.samples}"]
    common += [f"batch_size={BATCH}", f"epochs={max(1, settings.steps // settings.samples)}"]
    for name in asked:
        for seed in settings.seeds:
            make(name, seed, Path(settings.folder), common, settings.samples)
    scores = {name: read_scores(name, settings.seeds, Path(settings.folder)) for name in asked}
    gains = {name: compare(scores[name], scores[PLAIN]) for name in asked}
    print(table(gains))
    publish("Ablations", {"machine": machine(), "steps": settings.steps, **gains}, settings.json)


def make(name: str, seed: int, folder: Path, common: list[str], samples: int) -> None:
    """Train one ablation and test it on both kinds of masks, unless that is done."""
    out = folder / name / f"seed{seed}"
    drawn = {test: augmentation for test, augmentation in TESTS.items() if not (out / test / "metrics.json").exists()}
    if drawn:
        given = [f"seed={seed}"]
        if name == "fresh":  # its simulations must not be the store's, and as many of them as there are samples
            given = [f"seed={seed + 1000}", f"fresh={samples // BATCH}", "count=null"]
        run("learn.train", "experiment=fk_joint", f"ablation={name}", *common, *given, f"out={out}")
    for test, augmentation in drawn.items():
        given = [common[0], f"weights={out}", "split=test", f"augmentation={augmentation}"]
        run("learn.evaluate", *given, f"out={out / test}", "figures=false")


def read_scores(name: str, seeds: list[int], folder: Path) -> dict[str, NDArray[np.float64]]:
    """Dice at 0.1 of every test sample, mean over the seeds, for each test."""
    scores = {}
    for test in TESTS:
        places = [folder / name / f"seed{seed}" / test for seed in seeds]
        each = [np.genfromtxt(place / "samples.csv", delimiter=",", names=True)["dice_01"] for place in places]
        if len({len(one) for one in each} | {read(place)["count"] for place in places}) != 1:
            sys.exit(f"error: {name} was tested on different numbers of samples: delete its test folders")
        scores[test] = np.mean(each, axis=0)
    return scores


def compare(scores: dict[str, NDArray[np.float64]], plain: dict[str, NDArray[np.float64]]) -> dict[str, object]:
    """Mean Dice at 0.1 and its gain over the plain training, with the gain's 95% interval, for each test."""
    result: dict[str, object] = {}
    for test, values in scores.items():
        gain = values - plain[test]
        result |= {f"dice_0.1_{test}": float(values.mean()), f"gain_{test}": float(gain.mean())}
        result[f"gain_{test}_interval"] = bootstrap_interval(gain, np.mean)
    return result


def table(gains: dict[str, dict[str, object]]) -> str:
    """Markdown."""
    lines = ["| ablation | " + " | ".join(f"{test} masks | gain (95%)" for test in TESTS) + " |", "|---" * 5 + "|"]
    for name, one in gains.items():
        cells = []
        for test in TESTS:
            low, high = one[f"gain_{test}_interval"]  # type: ignore[misc]
            cells += [f"{one[f'dice_0.1_{test}']:.3f}", f"{one[f'gain_{test}']:+.4f} ({low:+.4f} to {high:+.4f})"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
