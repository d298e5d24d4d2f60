"""Keeps the results of the scripts beside it, and shows them as a table with what changed from run to run.

    python benches/gpu/collect.py folder=results/gpu

Every new result goes into `history.jsonl`, one line a script and run, and the table into the page `README.md` between
its two marks: the latest value of each quantity beside its aim and the value before. What became worse by more than
`WORSE` on the same kind of GPU is marked, and the program then ends with 1. Results of tiny runs are refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from report import arguments

HERE = Path(__file__).parent
SCRIPTS = ("check", "simulate", "generate", "train", "evaluate", "personalize")
MODELS = ("fisher_kolmogorov", "mass_effect")
"""What a script may have been run with; aims are the first one's."""
MARKS = ("<!-- results -->", "<!-- end of results -->")
NOTHING = "Nothing has been measured yet."
WORSE = 0.05
"""Part by which a quantity may be worse than before: rates vary by a few percent from run to run (chosen by us)."""


@dataclass(frozen=True)
class Quantity:
    """A number of a script's result that is worth a line.

    Attributes:
        path: its keys in the result.
        text: what it is, with its unit.
        better: `more`, `less`, or nothing where neither is.
        aim: what it should reach, if it is aimed at.
    """

    path: str
    text: str
    better: str = ""
    aim: float | None = None

    def meets(self, value: float) -> bool | None:
        """Whether the aim is met; None where there is none."""
        if self.aim is None:
            return None
        return value <= self.aim if self.better == "less" else value >= self.aim

    def is_worse(self, value: float, before: float) -> bool:
        """Whether it became worse by more than `WORSE`."""
        lost = {"more": before - value, "less": value - before, "": 0.0}[self.better]
        return lost > WORSE * abs(before)


QUANTITIES = {
    "check": (
        Quantity("tests.failed", "GPU tests that fail", "less", 0),
        Quantity("tests.tests", "GPU tests"),
        Quantity("parity.fisher_kolmogorov", "largest difference of densities from the CPU", "less", 1e-5),
        Quantity("parity.mass_effect_mean", "mean difference, mass effect", "less", 1e-5),
        Quantity("parity.mass_effect", "largest difference, mass effect"),
        Quantity("tools_not_clean", "tools of compute-sanitizer that found something or broke off", "less", 0),
    ),
    "simulate": (
        Quantity("fisher_kolmogorov.device.updates_per_second", "voxel updates a second", "more", 100e9),
        Quantity("limits.share_of_bandwidth", "share of the measured memory bandwidth", "more"),
        Quantity("limits.share_of_flops", "share of the measured arithmetic", "more"),
        Quantity("fisher_kolmogorov.times_the_cpu", "times the CPU of the same machine", "more"),
        Quantity("fisher_kolmogorov.device.per_second", "proposals a second", "more"),
        Quantity("fisher_kolmogorov.one_tumor_ms", "one typical tumor [ms]", "less"),
        Quantity("fisher_kolmogorov.refinement_seconds", "512 simulations of a refinement [s]", "less", 3.0),
        Quantity("mass_effect.device.per_second", "mass-effect simulations a second", "more", 30.0),
        Quantity("mass_effect.times_the_cpu", "times the CPU, mass effect", "more"),
    ),
    "generate": (
        Quantity("data_set.samples_per_second", "accepted samples a second at 128³, store included", "more", 500.0),
        Quantity("data_set.complete", "samples made in one command", "more", 100_000),
        Quantity("data_set.seconds", "seconds for them", "less", 300.0),
        Quantity("data_set.busy_share", "part of the time in which the device had work", "more", 0.8),
        Quantity("data_set.gigabytes", "size [GB]", "less", 30.0),
        Quantity("data_set.checked", "rows read again"),
        Quantity("data_set.damaged", "of them damaged", "less", 0),
        Quantity("data_set.processes", "processes on the GPU"),
    ),
    "train": (Quantity("samples_per_second", "training samples a second", "more", 600.0),),
    "evaluate": (
        Quantity("inference_ms.batch_1", "network, one image [ms]", "less", 3.0),
        Quantity("inference_ms.batch_32", "network, 32 images [ms]", "less"),
        Quantity("scores.count", "unseen simulations"),
        Quantity("scores.dice_0.01_mean", "mean Dice at c = .01", "more", 0.943),
        Quantity("scores.dice_0.1_mean", "mean Dice at c = .1", "more", 0.932),
        Quantity("scores.dice_0.8_mean", "mean Dice at c = .8", "more", 0.861),
        Quantity("scores.mu1_relative_error_median", "median relative error of mu1", "less"),
    ),
    "personalize": (
        Quantity("wall_seconds", "a twin from image to answer [s]", "less"),
        Quantity("seconds_refinement", "of which refinement [s]", "less"),
        Quantity("dice_0.1", "median Dice at c = .1", "more"),
    ),
}
"""By script. The aims are those of one H200; of the scores, the paper's experiment 3."""


def main() -> int:
    """Add new results, write the page, print what became worse; returns the exit code."""
    keys = {"folder": "results/gpu", "history": str(HERE / "history.jsonl"), "page": str(HERE / "README.md")}
    settings = arguments(keys, __doc__)
    history, page = Path(settings.history), Path(settings.page)
    known = read_history(history)
    fresh = [one for one in read_results(Path(settings.folder)) if one not in known]
    with history.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in fresh)
    text, worse = table(known + fresh)
    write_between(page, text)
    print(f"{len(fresh)} new results; {page} has the table")
    for line in worse:
        print(f"worse: {line}")
    return int(bool(worse))


def read_history(path: Path) -> list[dict[str, Any]]:
    """Every result that was kept, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_results(folder: Path) -> Iterator[dict[str, Any]]:
    """The scripts' results in a folder, each with its script's name."""
    for name in SCRIPTS:
        path = folder / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            if result.get("tiny"):
                print(f"{path} is of a tiny run, its numbers mean nothing: left out", file=sys.stderr)
            else:
                yield {"script": name, **result}


def table(history: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The latest values in Markdown, and a line for each that became worse."""
    lines, worse = (
        ["| script | quantity | value | aim | before | machine, commit, date |", "|---|---|---|---|---|---|"],
        [],
    )
    for name, model in product(SCRIPTS, MODELS):
        runs = [one for one in history if one["script"] == name and one.get("model", MODELS[0]) == model]
        title = name if model == MODELS[0] else f"{name}, {model}"
        for quantity in QUANTITIES[name]:
            quantity = quantity if model == MODELS[0] else replace(quantity, aim=None)
            values = [(run, number_at(run, quantity.path)) for run in runs]
            found = [(run, value) for run, value in values if value is not None]
            if not found:
                continue
            run, value = found[-1]
            before = next((v for r, v in reversed(found[:-1]) if _gpu(r) == _gpu(run)), None)
            is_worse = before is not None and quantity.is_worse(value, before)
            if is_worse:
                worse.append(f"{title}: {quantity.text}: {value:.4g}, before {before:.4g}")
            lines.append(_line(title, quantity, value, before, is_worse, run))
    return ("\n".join(lines) if len(lines) > 2 else NOTHING), worse


def _line(
    name: str, quantity: Quantity, value: float, before: float | None, is_worse: bool, run: Mapping[str, Any]
) -> str:
    met = {None: "", True: ", met", False: ", **missed**"}[quantity.meets(value)]
    sign = "at most" if quantity.better == "less" else "at least"
    aim = "" if quantity.aim is None else f"{sign} {quantity.aim:.4g}{met}"
    past = "" if before is None else f"{before:.4g}{' (**worse**)' if is_worse else ''}"
    about = run["machine"]
    where = f"{_gpu(run)}, {about.get('commit', '?')}, {str(about.get('date', '?'))[:10]}"
    return f"| {name} | {quantity.text} | {value:.4g} | {aim} | {past} | {where} |"


def _gpu(run: Mapping[str, Any]) -> str:
    """The kind of GPU, without its driver."""
    return str(run["machine"].get("gpu", "no GPU")).split(",")[0]


def number_at(result: Mapping[str, Any], path: str) -> float | None:
    """The number behind keys joined by dots, which keys may contain too; None where there is none."""
    if path in result:
        value = result[path]
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    head, _, rest = path.partition(".")
    inner = result.get(head)
    return number_at(inner, rest) if rest and isinstance(inner, Mapping) else None


def write_between(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    content = page.read_text()
    if any(content.count(mark) != 1 for mark in MARKS):
        sys.exit(f"error: {page} must have the marks {MARKS[0]} and {MARKS[1]} once each")
    head, _, rest = content.partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    page.write_text(f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{tail}")


if __name__ == "__main__":
    sys.exit(main())
