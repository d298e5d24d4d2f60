"""Fill a store: give every absent shard to an executor, whatever is behind it, until all are there.

A shard that fails is tried again among the others, and the last time alone, so that it is not blamed for what a
neighbor did to their worker. One that fails then too is looked into sample by sample; the rest is finished.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from engine.backends import Span
from engine.command import INTERRUPTED
from engine.crew import Crew
from engine.errors import InputError
from engine.progress import Advance, progress
from engine.shards import Maker, ShardReport
from engine.store import Store

ATTEMPTS = 3
"""Times that a shard is tried."""
EXAMINED = 64
"""Proposals of a failing sample that are tried one by one to name the one that fails (accepted ones come sooner)."""
TENDED = 10.0
"""Seconds after which the crew looks whether all its members are there."""
FAILED = 1
"""Exit code when shards are missing in the end."""


@dataclass
class Tally:
    """What happened so far."""

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

    def busy_share(self, now: float) -> float:
        """Part of the time since the start in which the solvers, or their devices, had work."""
        seconds = max(now - self.started, 1e-9) * max(len(self.busy), 1)
        return sum(covered(spans, self.started, now) for spans in self.busy.values()) / seconds

    def __str__(self) -> str:
        """Rate and share of accepted proposals."""
        rate = self.rows / max(time.monotonic() - self.started, 1e-9)
        return f"{rate:.1f} samples/s, {100 * self.rows / max(self.proposals, 1):.1f}% of proposals accepted"


def covered(spans: Sequence[Span], start: float, stop: float) -> float:
    """Seconds between two times that at least one span covers."""
    total, reached = 0.0, start
    for first, last in sorted(spans):
        total += max(min(last, stop) - max(first, reached), 0.0)
        reached = max(reached, last)
    return total


def fill(store: Store, crew: Crew, maker: Maker) -> int:
    """Make every incomplete shard of a store; returns the exit code.

    Args:
        store: open for writing, and locked for this process.
        crew: runs the tasks; any order and any number of workers give the same store.
        maker: what the tasks do.

    Raises:
        InputError: a task met something that the user can mend, such as a full disk.
    """
    complete = store.complete
    waiting = [rows for rows in store.shards if not complete[rows.start : rows.stop].all()]
    have = len(store) - sum(map(len, waiting))
    tally = Tally()
    try:
        with progress("generate", len(store), have) as advance:
            suspects = _run_crowd(waiting, crew, maker, partial(_count, tally, advance))
            failed = _run_alone(suspects, crew, maker, partial(_count, tally, advance))
    except InputError as error:
        raise InputError(f"{error}; {_count_complete(store)}") from error
    except KeyboardInterrupt:
        _stop(crew)
        print(f"interrupted: {_count_complete(store)}")
        return INTERRUPTED
    for rows, reason in failed:
        _report_failure(rows, reason, crew, maker)
    _summarize(store, tally, sum(len(rows) for rows, _ in failed))
    return FAILED if failed else 0


def _run_crowd(shards: Sequence[range], crew: Crew, maker: Maker, done: Callable[[ShardReport], None]) -> list[range]:
    """Run shards side by side, each `ATTEMPTS` - 1 times at most; returns those that failed every time."""
    finished: SimpleQueue[tuple[range, Future[ShardReport]]] = SimpleQueue()
    failures = dict.fromkeys(shards, 0)

    def submit(rows: range) -> None:
        crew.executor.submit(maker.make, rows).add_done_callback(lambda future: finished.put((rows, future)))

    for rows in shards:
        submit(rows)
    remaining, tended = len(shards), time.monotonic()
    while remaining:
        if time.monotonic() - tended > TENDED:
            crew.tend()
            tended = time.monotonic()
        try:
            rows, future = finished.get(timeout=TENDED)
        except Empty:
            continue
        error = _error_of(future)
        if error is None:
            done(future.result())
            remaining -= 1
            continue
        failures[rows] += 1
        if failures[rows] < ATTEMPTS - 1:
            submit(rows)
        else:
            remaining -= 1
    return [rows for rows in shards if failures[rows] >= ATTEMPTS - 1]


def _run_alone(
    shards: Sequence[range], crew: Crew, maker: Maker, done: Callable[[ShardReport], None]
) -> list[tuple[range, BaseException]]:
    """Run shards one after the other; returns those that failed, and why."""
    failed = []
    for rows in shards:
        report, error = _run_one(crew, maker.make, rows)
        if error is None:
            done(report)
        else:
            failed.append((rows, error))
    return failed


def _run_one(crew: Crew, task: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """What one task returned, and what it raised."""
    future = crew.executor.submit(task, *arguments)
    while True:
        try:
            error = _error_of(future, timeout=TENDED)
        except TimeoutError:
            crew.tend()
        else:
            return (future.result() if error is None else None), error


def _error_of(future: Future[Any], timeout: float | None = None) -> BaseException | None:
    """What a task raised, or None; what the user can mend stops everything."""
    try:
        error = future.exception(timeout)
    except CancelledError as gone:
        raise InputError("the cluster is gone: see its logs") from gone
    if isinstance(error, InputError):
        raise error
    return error


def _report_failure(rows: range, error: BaseException, crew: Crew, maker: Maker) -> None:
    """Say which samples of a shard fail, and with which parameters."""
    _say(f"failed {ATTEMPTS} times: the shard of samples {rows.start} to {rows.stop - 1}: {_name(error)}")
    for sample in rows:
        cause = _run_one(crew, maker.check, sample)[1]
        if cause is not None:
            proposal, cause = _failing_proposal(sample, cause, crew, maker)
            tumor = _run_one(crew, maker.propose, sample, proposal)[0]
            _say(f"  sample {sample}, proposal {proposal}, {tumor}: {_name(cause)}")


def _failing_proposal(sample: int, cause: BaseException, crew: Crew, maker: Maker) -> tuple[int, BaseException]:
    """The first proposal of a sample that fails by itself, and why; the very first one if none does."""
    for proposal in range(EXAMINED):
        reason = _run_one(crew, maker.attempt, sample, proposal)[1]
        if reason is not None:
            return proposal, reason
    return 0, cause


def _count(tally: Tally, advance: Advance, report: ShardReport) -> None:
    tally.add(report)
    advance(report.rows, str(tally))


def _count_complete(store: Store) -> str:
    done = int(store.complete.sum())
    return f"{done} of {len(store)} rows are complete; run the same command to resume"


def _stop(crew: Crew) -> None:
    """Let the running shards end, drop the waiting ones; a second interruption drops all at once."""
    _say("interrupted: ending the running shards (Ctrl-C again drops them)")
    try:
        crew.stop()
    except KeyboardInterrupt:
        _say("dropped the running shards; run the same command to resume")
        sys.stdout.flush()
        os._exit(INTERRUPTED)


def _summarize(store: Store, tally: Tally, failed: int) -> None:
    seconds = time.monotonic() - tally.started
    print(f"{store.place}: {len(store) - failed} of {len(store)} rows complete, {tally.rows} new in {seconds:.0f} s")
    if tally.rows:
        solver = "device" if store.attributes["backend"] == "cuda" else "solver"
        share, cost = 100 * tally.busy_share(time.monotonic()), 1000 * tally.writing / tally.rows
        count = len(tally.processes)
        print(
            f"{tally}; {count} process{'es' if count > 1 else ''}, {solver} busy {share:.0f}%, "
            f"writing took {cost:.0f} ms a sample"
        )


def _name(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
