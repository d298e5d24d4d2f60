"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_INTERVAL = 15.0
"""Seconds between two lines in a log."""


class Advance(Protocol):
    """What long work calls as it gets on."""

    def __call__(self, count: int, note: str = "") -> None:
        """Tell that `count` more items are done, and what else is worth saying about them."""
        ...


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show that work advances from `done` to `total` items, on standard error."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=total, completed=done, note="")
            yield lambda count, note="": bar.update(task, advance=count, note=note)
    else:
        yield _Lines(title, total, done)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
    )  # fmt: skip


class _Lines:
    """Plain lines, the last one always."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self.first, self.started, self.spoken = done, time.monotonic(), time.monotonic()

    def __call__(self, count: int, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self.spoken < LOG_INTERVAL and self.done < self.total:
            return
        self.spoken = now
        rate = (self.done - self.first) / max(now - self.started, 1e-9)
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
        print(f"{self.title}: {self.done}/{self.total}{left} {note}".rstrip(), file=sys.stderr, flush=True)
