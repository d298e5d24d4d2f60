"""The paper's six experiments from evaluations of ours, beside its own numbers.

    python -m learn.evaluate data=runs/fk_half.zarr weights=runs/six/fk_joint out=runs/six/fk_joint/test
    python benches/experiments.py folder=runs/six json=result.json

Reads EXPERIMENT/test/metrics.json in the folder for every experiment that is there, and prints the rows of Table 2 as
Markdown, the paper's numbers in brackets.

Source: Ezhov et al., Learn-Morph-Infer (2023), Table 2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from report import arguments, publish

COLUMNS = ("mae_gray_matter", "mae_white_matter", "mae_csf", "dice_0.01_mean", "dice_0.1_mean", "dice_0.8_mean")
PAPER = {
    "fk_direct": (0.461, 0.463, 0.0, 0.607, 0.558, 0.423),
    "fk_two_nets": (0.059, 0.059, 0.0, 0.940, 0.928, 0.855),
    "fk_joint": (0.057, 0.057, 0.0, 0.943, 0.932, 0.861),
    "me_direct": (0.089, 0.087, 0.059, 0.846, 0.807, 0.737),
    "me_two_nets": (0.059, 0.057, 0.054, 0.877, 0.841, 0.772),
    "me_joint": (0.055, 0.054, 0.054, 0.886, 0.850, 0.783),
}
ALSO = ("mu1_relative_error_median", "mu2_relative_error_median", "origin_error_mm_median")


def main() -> None:
    """Collect and report."""
    settings = arguments({"folder": "runs/six", "json": None}, __doc__)
    found = {name: read(Path(settings.folder) / name / "test" / "metrics.json") for name in PAPER}
    found = {name: metrics for name, metrics in found.items() if metrics}
    if not found:
        print(
            f"error: {settings.folder} has no EXPERIMENT/test/metrics.json: run learn.evaluate first", file=sys.stderr
        )
        sys.exit(2)
    print(table(found))
    chosen = ("count", *COLUMNS, *[f"{name}_interval" for name in COLUMNS if name.endswith("_mean")], *ALSO)
    result = {name: {key: metrics[key] for key in chosen} for name, metrics in found.items()}
    ranking = {model: ranked(model, found) for model in ("fk", "me")}
    publish("Six experiments", result | {"ranking by dice_0.1_mean": ranking}, settings.json)


def read(path: Path) -> dict[str, Any]:
    """The numbers of an evaluation; empty if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


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


def ranked(model: str, found: dict[str, dict[str, Any]]) -> str:
    """The experiments of a model, best first."""
    mine = [name for name in found if name.startswith(f"{model}_")]
    return " > ".join(sorted(mine, key=lambda name: -found[name]["dice_0.1_mean"]))


if __name__ == "__main__":
    main()
