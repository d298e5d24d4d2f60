"""What each part of the training is worth: one thing changed at a time, tested on the same samples.

    python benches/ablations.py data=runs/fk_half.zarr folder=runs/ablations json=result.json

Every ablation of `conf/ablation` is trained as the joint experiment on `images` images of `samples` simulations, with
the network `network`, and tested twice: with exact masks, and with masks as people and programs draw them, all after a
registration with errors (`augmentation=outlines augmentation.share=1`). What is printed is how much better than without
a change (`none`) each one is, in Dice at 0.1, over the same test samples. What is there already is not done again;
results of another budget are refused. The intervals are of the samples' choice; another seed of the training is not in
them: `seeds=[0,1]` trains each one twice, and the gain is of both together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from experiments import Scores, claim, is_tested, read_samples, run
from omegaconf import OmegaConf
from report import arguments, machine, publish

from learn.metrics import bootstrap_interval

CHOICES = Path(__file__).parents[1] / "conf" / "ablation"
BATCH = 32
PLAIN = "none"
TESTS = {"exact": ["augmentation=none"], "drawn": ["augmentation=outlines", "augmentation.share=1"]}
"""Name of a test -> how its masks are drawn."""


def main() -> None:
    """Train, test and report."""
    names = sorted(path.stem for path in CHOICES.glob("*.yaml"))
    defaults = {
        "data": "runs/fk_half.zarr", "folder": "runs/ablations", "samples": 5000, "images": 100000,
        "network": "small", "seeds": [0], "only": names, "json": None,
    }  # fmt: skip
    settings = arguments(defaults, __doc__)
    asked = [PLAIN, *(name for name in names if name in settings.only and name != PLAIN)]
    if set(settings.only) - set(names):
        sys.exit(f"error: only={list(settings.only)}: choose from {', '.join(names)}")
    seeds = OmegaConf.to_container(settings)["seeds"]  # type: ignore[call-overload]
    if not seeds:
        sys.exit(f"error: seeds={settings.seeds}: give a list, such as seeds=[0,1]")
    folder = Path(settings.folder)
    budget = {key: settings[key] for key in ("data", "samples", "images", "network")}
    claim(folder, budget)
    common = [f"data={settings.data}", f"network={settings.network}", f"count={settings.samples}"]
    common += [f"batch_size={BATCH}", f"epochs={max(1, settings.images // settings.samples)}"]
    for name in asked:
        for seed in seeds:
            make(name, folder / name / f"seed{seed}", seed, common, settings.samples)
    scores = {
        name: [{test: read_samples(folder / name / f"seed{seed}" / test) for test in TESTS} for seed in seeds]
        for name in asked
    }
    gains = {name: compare(scores[name], scores[PLAIN]) for name in asked}
    print(table(gains))
    publish("Ablations", {"machine": machine(), **budget, "seeds": seeds, **gains}, settings.json)


def make(name: str, out: Path, seed: int, common: list[str], samples: int) -> None:
    """Train one ablation and test it on both kinds of masks, unless that is done."""
    missing = {test: masks for test, masks in TESTS.items() if not is_tested(out, test)}
    if missing:
        given = [f"seed={seed}"]
        if name == "fresh":  # its simulations must not be the store's, and as many of them as there are samples
            given = [f"seed={seed + 1000}", f"fresh={samples // BATCH}", "count=null"]
        run("learn.train", "experiment=fk_joint", f"ablation={name}", *common, *given, f"out={out}")
    for test, masks in missing.items():
        run("learn.evaluate", common[0], f"weights={out}", "split=test", *masks, f"out={out / test}", "figures=false")


def compare(scores: list[dict[str, Scores]], plain: list[dict[str, Scores]]) -> dict[str, Any]:
    """Mean Dice at 0.1 and its gain over the plain training, with the gain's 95% interval, for each test.

    Args:
        scores: of each seed.
        plain: of the same seeds, without a change.
    """
    result: dict[str, Any] = {}
    for test in TESTS:
        rows = [one[test][0] for one in (*scores, *plain)]
        if not all(np.array_equal(rows[0], other) for other in rows):
            sys.exit(f"error: the {test} tests are of different samples: delete those of another test set")
        mine, theirs = (np.mean([one[test][1] for one in each], axis=0) for each in (scores, plain))
        result |= {f"dice_0.1_{test}": float(mine.mean()), f"gain_{test}": float((mine - theirs).mean())}
        result[f"gain_{test}_interval"] = bootstrap_interval(mine - theirs, np.mean)
    return result


def table(gains: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| ablation | " + " | ".join(f"{test} masks | gain (95%)" for test in TESTS) + " |", "|---" * 5 + "|"]
    for name, one in gains.items():
        cells = []
        for test in TESTS:
            low, high = one[f"gain_{test}_interval"]
            cells += [f"{one[f'dice_0.1_{test}']:.3f}", f"{one[f'gain_{test}']:+.4f} ({low:+.4f} to {high:+.4f})"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
