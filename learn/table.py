"""The results of an evaluation as files: a table for people, numbers for programs, a line for every sample."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import InputError
from learn.calibration import ENOUGH
from learn.comparison import Evaluation

Summary = Mapping[str, Any]


def write_results(
    out: Path, evaluation: Evaluation, summary: Summary, facts: Mapping[str, Any], seen: bool = False
) -> None:
    """Write `samples.csv`, `table.md` and, last, `metrics.json`; print the table.

    Args:
        out: folder.
        evaluation: scores of every sample.
        summary: its numbers, and what else belongs into `metrics.json`.
        facts: `data`, `data_seed`, `split`, `masks` and `weights`, for the head of the table, and what else is known.
        seen: the network has learned from some of the samples (`learn.seen`).

    Raises:
        InputError: `out` cannot be written.
    """
    table = format_table(summary, facts, seen)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "samples.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "predicted_mu1", "predicted_mu2", *evaluation.scores])
            invariants = [(tumor.mu1, tumor.mu2) for tumor in evaluation.tumors]
            scores = zip(*evaluation.scores.values(), strict=True)
            for row, pair, values in zip(evaluation.rows.tolist(), invariants, scores, strict=True):
                writer.writerow([row, *pair, *values])
        (out / "table.md").write_text(table)
        (out / "metrics.json").write_text(json.dumps({**facts, "seen": seen, **summary}, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}): choose another out=") from error
    print(table)


def format_table(summary: Summary, facts: Mapping[str, Any], seen: bool = False) -> str:
    """The summary as Markdown: means and medians with their 95% intervals side by side, counts below."""
    names = [key.removesuffix("_median") for key in summary if key.endswith("_median")]
    rows = [f"| {name} | {_number(summary, name, 'mean')} | {_number(summary, name, 'median')} |" for name in names]
    undefined = {key.removesuffix("_undefined"): n for key, n in summary.items() if key.endswith("_undefined")}
    notes = [f"{name} is undefined for {n} samples (nothing to compare)." for name, n in undefined.items() if n]
    notes.append(f"{summary['origins_moved_into_tissue']} predicted origins lay outside tissue and were moved.")
    if summary["invariants_clipped"]:
        notes.append(f"{summary['invariants_clipped']} predictions of mu1 or mu2 were clipped to be simulated.")
    if summary["simulations_not_converged"]:
        notes.append(f"The displacement of {summary['simulations_not_converged']} predictions did not converge.")
    if seen:
        notes.insert(
            0,
            f"The network learned from data of the same seed ({facts['data_seed']}), of which only split=test is "
            "unseen: this does not say how accurate it is.",
        )
    masks = "exact" if facts["masks"] == "exact" else "drawn"
    head = (
        f"{summary['count']} samples ({facts['split']}, {masks} masks) of {facts['data']}, weights {facts['weights']}"
    )
    title = ["| score | mean (95% interval) | median (95% interval) |", "|---|---|---|"]
    return "\n\n".join([head, "\n".join([*title, *rows]), *_coverage(summary), "\n".join(notes)]) + "\n"


def _coverage(summary: Summary) -> list[str]:
    """How often the predicted intervals hold the truth, where a distribution was predicted."""
    names = [key.removeprefix("coverage_0.5_") for key in summary if key.startswith("coverage_0.5_")]
    if not names:
        return []
    shares = {name: [summary[f"coverage_{level}_{name}"] for level in ("0.5", "0.9")] for name in names}
    rows = [f"| {name} | {half:.3f} | {most:.3f} |" for name, (half, most) in shares.items()]
    (low, high), (lowest, highest) = summary["chance_0.5"], summary["chance_0.9"]
    rows.append(f"| *by chance (95%)* | {low:.3f} to {high:.3f} | {lowest:.3f} to {highest:.3f} |")
    notes = [] if summary["count"] >= ENOUGH else [f"Fewer than {ENOUGH} samples say little about coverage."]
    return ["\n".join(["| quantity | in its 50% interval | in its 90% interval |", "|---|---|---|", *rows]), *notes]


def _number(summary: Summary, name: str, kind: str) -> str:
    value = summary.get(f"{name}_{kind}", summary.get(name))
    if value is None:
        return "-"
    low, high = summary[f"{name}_{kind}_interval"]
    return f"{value:.4g} ({low:.4g} to {high:.4g})"
