"""What happened while a store was filled, in numbers and in words."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.backends import Span
from engine.errors import InputError
from engine.shards import ShardReport


@dataclass
class Tally:
    """Counts of what was made since the start."""

    rows: int = 0
    proposals: int = 0
    writing: float = 0.0
    busy: dict[str, list[Span]] = field(default_factory=dict)
    processes: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.monotonic)

    def add(self, report: ShardReport) -> None:
        """Count a shard."""
        self.rows += report.rows
        self.proposals += report.proposals
        self.writing += report.writing
        self.busy.setdefault(report.solver, []).extend(report.busy)
        self.processes.add(report.process)

    def __str__(self) -> str:
        """Rate and share of accepted proposals."""
        rate = self.rows / max(time.monotonic() - self.started, 1e-9)
        return f"{rate:.1f} samples/s, {100 * self.rows / max(self.proposals, 1):.1f}% of proposals accepted"

    def numbers(self, backend: str) -> dict[str, Any]:
        """What is worth comparing from run to run; `busy_share` is that of the devices, or of the processes on a CPU.

        Args:
            backend: its name.
        """
        now = time.monotonic()
        seconds = max(now - self.started, 1e-9)
        busy = sum(covered(spans, self.started, now) for spans in self.busy.values())
        return {
            "backend": backend,
            "rows": self.rows,
            "seconds": seconds,
            "samples_per_second": self.rows / seconds,
            "accepted_share": self.rows / max(self.proposals, 1),
            "processes": len(self.processes),
            "devices": len(self.busy),
            "busy_share": busy / (seconds * max(len(self.busy), 1)),
            "writing_ms": 1000 * self.writing / max(self.rows, 1),
        }


def covered(spans: Sequence[Span], start: float, stop: float) -> float:
    """Seconds between two times that at least one span covers."""
    total, reached = 0.0, start
    for first, last in sorted(spans):
        total += max(min(last, stop) - max(first, reached), 0.0)
        reached = max(reached, last)
    return total


def describe(tally: Tally, backend: str) -> str:
    """The last line of a generation."""
    numbers = tally.numbers(backend)
    solver, count = "device" if backend == "cuda" else "solver", numbers["processes"]
    return (
        f"{tally}; {count} process{'es' if count > 1 else ''}, {solver} busy {100 * numbers['busy_share']:.0f}%, "
        f"writing took {numbers['writing_ms']:.0f} ms a sample"
    )


def write_summary(path: Path, numbers: dict[str, Any]) -> None:
    """Write the numbers as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(numbers, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
