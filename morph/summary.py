"""The table of a folder of patients: one row for each, as CSV for programs and on the screen for people."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.apart import CRASHED
from engine.command import BAD_INPUT
from morph.outputs import write_whole

SUMMARY = "summary.csv"
FALLBACK_DELIVERED = 3
"""Exit status of a case whose answer did not pass its checks."""


@dataclass(frozen=True)
class Row:
    """One case of the table.

    Attributes:
        case: name of its folder.
        status: `done`, `kept` (finished before), `bad input` or `crashed`.
        verdict: of the checks; empty where there is no answer, as all that follow.
        method: `network`, `refined` or `fallback`.
        mu1: [mm], of the patient; empty for a fallback, likewise `mu2` and both thresholds [1].
        core_dice: Dice of the simulated and the visible core, from the check; likewise `edema_dice`.
        objections: names of the checks that did not pass.
        seconds: that the case took.
        error: the sentence of a case without an answer.
    """

    case: str
    status: str
    verdict: str = ""
    method: str = ""
    mu1: float | None = None
    mu2: float | None = None
    core_threshold: float | None = None
    edema_threshold: float | None = None
    core_dice: float | None = None
    edema_dice: float | None = None
    objections: str = ""
    seconds: float | None = None
    error: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def describe(case: str, status: str, record: Mapping[str, Any]) -> Row:
    """The row of an answer, from what its parameters.json says."""
    numbers, thresholds = record["parameters"] or {}, record["thresholds"] or {}
    dice = {check["name"]: check["value"] for check in record["checks"]}
    objections = " ".join(check["name"] for check in record["checks"] if check["verdict"] != "pass")
    seconds = round(sum(record["seconds"].values()), 1)
    return Row(
        case, status, record["verdict"], record["method"], numbers.get("mu1"), numbers.get("mu2"),
        thresholds.get("core"), thresholds.get("edema"), dice.get("fit_core"), dice.get("fit_edema"), objections,
        seconds,
    )  # fmt: skip


def exit_status(rows: list[Row]) -> int:
    """The worst that happened to any case."""
    if any(row.status == "crashed" for row in rows):
        return CRASHED
    if any(row.status == "bad input" for row in rows):
        return BAD_INPUT
    return FALLBACK_DELIVERED if any(row.method == "fallback" for row in rows) else 0


def write_summary(path: Path, rows: list[Row]) -> None:
    """Write the table as CSV, whole or not at all."""

    def write(place: Path) -> None:
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)

    write_whole(path, write)


def show(console: Console, rows: list[Row]) -> None:
    """Print the table for people (Dice of core and edema), and below it what is to be said about a case."""
    table = Table(title="summary", title_justify="left")
    for heading in ("case", "status", "verdict", "method", "mu1 [mm]", "mu2", "Dice", "s"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "case")
    for row in rows:
        dice = f"{_cell(row.core_dice)}, {_cell(row.edema_dice)}" if row.core_dice is not None else ""
        numbers = (_cell(row.mu1), _cell(row.mu2), dice, _cell(row.seconds))
        table.add_row(row.case, row.status, row.verdict, row.method, *numbers)
    console.print(table)
    for row in rows:
        if row.error or row.objections:
            objections = f"objections of {row.objections.replace(' ', ', ')}"
            console.print(f"{row.case}: {row.error or objections}", markup=False, highlight=False)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
