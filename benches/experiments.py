"""The paper's six experiments, trained and tested with the same budget, beside its own numbers.

    python -m engine.generate samples=6500 grid=half seed=1 out=runs/fk_six.zarr
    python -m engine.generate samples=2000 grid=half seed=2 model=mass_effect out=runs/me_half.zarr
    python benches/experiments.py fk=runs/fk_six.zarr me=runs/me_half.zarr folder=runs/six json=six.json
    python benches/experiments.py ablation=paper_scale folder=runs/scale only=fk_two_nets,fk_direct

Every network learns from `images` images in all, drawn from `fk_samples` or `me_samples` simulations: mass effect, with
fewer of them, in more epochs. `only=fk_joint,fk_two_nets` is a part of the work; what is there already is not done
again, and an interrupted training goes on; results of another budget are refused. The origin of the direct experiment
is predicted by the same network as that of the two networks (same targets, data and seed), which is copied instead of
trained twice. `ablation=paper_scale` scales the targets as the paper does: linearly. On our logarithmic scales the
mean of log mu1 is half the sum of the means of log diffusivity and log duration, so a network loses less by predicting
these two.

Prints the rows of Table 2 as Markdown, the paper's numbers in brackets, and for each model how much better one
experiment is than the next, over the same test samples. The intervals are of the samples' choice; another seed of the
training is not in them.

Source: Ezhov et al., Learn-Morph-Infer (2023), Table 2.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from report import arguments, machine, publish

from learn.metrics import DICE_THRESHOLDS, bootstrap_interval

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]
COLUMNS = ("mae_gray_matter", "mae_white_matter", "mae_csf", "dice_0.01_mean", "dice_0.1_mean", "dice_0.8_mean")
PAPER = {
    "fk_two_nets": (0.059, 0.059, 0.0, 0.940, 0.928, 0.855),
    "fk_direct": (0.461, 0.463, 0.0, 0.607, 0.558, 0.423),
    "fk_joint": (0.057, 0.057, 0.0, 0.943, 0.932, 0.861),
    "me_two_nets": (0.059, 0.057, 0.054, 0.877, 0.841, 0.772),
    "me_direct": (0.089, 0.087, 0.059, 0.846, 0.807, 0.737),
    "me_joint": (0.055, 0.054, 0.054, 0.886, 0.850, 0.783),
}
"""In the order in which they are trained here."""
RANKING = ("joint", "two_nets", "direct")
"""The paper's, best first."""
ALSO = ("mu1_relative_error_median", "mu2_relative_error_median", "origin_error_mm_median")


def main() -> None:
    """Train, test and report."""
    defaults = {
        "fk": "runs/fk_six.zarr", "me": "runs/me_half.zarr", "folder": "runs/six", "fk_samples": 5000,
        "me_samples": 1600, "images": 100000, "network": "small", "ablation": "none", "seed": 0, "only": list(PAPER),
        "json": None,
    }  # fmt: skip
    settings = arguments(defaults, __doc__)
    unknown = [name for name in settings.only if name not in PAPER]
    if unknown:
        sys.exit(f"error: only={unknown}: choose from {', '.join(PAPER)}")
    folder = Path(settings.folder)
    budget = {
        key: settings[key] for key in ("fk", "me", "fk_samples", "me_samples", "images", "network", "ablation", "seed")
    }
    claim(folder, budget)
    for name in (name for name in PAPER if name in settings.only):
        if not is_tested(folder / name):
            make(name, folder, settings)
    found = {name: read(folder / name / "test") for name in PAPER if is_tested(folder / name)}
    print(table(found))
    chosen = ("count", *COLUMNS, *[f"{name}_interval" for name in COLUMNS if name.endswith("_mean")], *ALSO)
    result = {name: {key: metrics[key] for key in chosen} for name, metrics in found.items()}
    gains = {name: gain for model in ("fk", "me") for name, gain in compare(model, folder, found).items()}
    for name, (mean, low, high) in gains.items():
        print(f"{name}: Dice higher by {mean:+.4f} (95%: {low:+.4f} to {high:+.4f})")
    publish("Six experiments", {"machine": machine(), **budget, **result, "gains": gains}, settings.json)


def claim(folder: Path, budget: dict[str, Any]) -> None:
    """Let only one budget fill a folder: leave if another one has begun to."""
    record = folder / "budget.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(budget, indent=2))
    before = json.loads(record.read_text())
    other = [key for key in budget if before.get(key) != budget[key]]
    if other:
        sys.exit(f"error: {folder} was filled with {other[0]}={before.get(other[0])}: choose another folder=")


def is_tested(out: Path, test: str = "test") -> bool:
    """Whether an evaluation has come to its end."""
    return (out / test / "metrics.json").exists()


def make(name: str, folder: Path, settings: DictConfig) -> None:
    """Train and test one experiment."""
    model, out = name[:2], folder / name
    data, count = settings[model], settings[f"{model}_samples"]
    pair = folder / f"{model}_two_nets"
    if name.endswith("_direct") and is_tested(pair) and not (out / f"{model}_origin").exists():
        copy_network(pair / f"{model}_origin", out)
    train = [f"experiment={name}", f"data={data}", f"count={count}", f"epochs={max(1, settings.images // count)}"]
    train += [f"network={settings.network}", f"ablation={settings.ablation}", f"seed={settings.seed}"]
    run("learn.train", *train, f"out={out}")
    run("learn.evaluate", f"data={data}", f"weights={out}", "split=test", f"out={out / 'test'}")


def copy_network(source: Path, out: Path) -> None:
    """A trained network's folder, and the weights that lie beside it; whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for weights in source.parent.glob(f"{source.name}_*"):
        shutil.copy(weights, out)
    part = out / f"{source.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part).rename(out / source.name)


def run(module: str, *overrides: str) -> None:
    """One command of the project; leave with its status if it fails."""
    ended = subprocess.run([sys.executable, "-m", module, *overrides], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def read(test: Path) -> dict[str, Any]:
    """The numbers of an evaluation."""
    return dict(json.loads((test / "metrics.json").read_text()))


def read_samples(test: Path, threshold: float = 0.1) -> Scores:
    """Row and Dice at a threshold of every sample of an evaluation, (n,) each."""
    columns = np.genfromtxt(test / "samples.csv", delimiter=",", names=True, ndmin=1)
    return columns["row"], columns[f"dice_{threshold:g}".replace(".", "")]


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: ours (the paper's)."""
    title = "| experiment | tests | MAE GM | MAE WM | MAE CSF | Dice .01 | Dice .1 | Dice .8 | mu1 | mu2 | origin |"
    lines = [title, "|---" * 11 + "|"]
    for name, metrics in found.items():
        cells = [f"{metrics[key]:.3f} ({theirs:.3f})" for key, theirs in zip(COLUMNS, PAPER[name], strict=True)]
        mu1, mu2, origin = (metrics[key] for key in ALSO)
        cells += [f"{mu1:.1%}", f"{mu2:.1%}", f"{origin:.1f} mm"]
        lines.append(f"| {name} | {metrics['count']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(model: str, folder: Path, found: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Mean gain in Dice of each experiment over the next of the paper's ranking, and its 95% interval."""
    names = [f"{model}_{kind}" for kind in RANKING if f"{model}_{kind}" in found]
    gains = {}
    for (better, worse), threshold in product(pairwise(names), DICE_THRESHOLDS):
        (rows, mine), (others, theirs) = (read_samples(folder / name / "test", threshold) for name in (better, worse))
        if not np.array_equal(rows, others):
            sys.exit(f"error: {better} and {worse} were tested on different samples: delete one's test folder")
        gain = (mine - theirs)[np.isfinite(mine - theirs)]
        gains[f"{better} over {worse} at {threshold:g}"] = [float(gain.mean()), *bootstrap_interval(gain, np.mean)]
    return gains


if __name__ == "__main__":
    main()
