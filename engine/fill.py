"""Fill a store: give every absent shard to an executor, whatever is behind it, until all are there.

A shard that fails is tried again among the others, and the last time alone, so that it is not blamed for what a
neighbor did to their worker; alone it may lose a few workers, which die for reasons of their own, before it counts as
what kills them. One that fails then too is looked into sample by sample; the rest is finished.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from engine.command import INTERRUPTED
from engine.crew import Crew, WorkerLost
from engine.errors import InputError
from engine.places import stored_bytes
from engine.progress import Advance, progress
from engine.shards import Maker, ShardReport
from engine.store import Store
from engine.tally import Tally, describe, write_summary

ATTEMPTS = 3
"""Times that a shard is tried."""
LOSSES = 3
"""Workers that a task may lose while nothing else runs before that is its own failure (chosen by us)."""
EXAMINED = 64
"""Proposals of a failing sample that are tried one by one to name the one that fails (accepted ones come sooner)."""
TENDED = 10.0
"""Seconds after which the crew looks whether all its members are there."""
FAILED = 1
"""Exit code when shards are missing in the end."""


def fill(store: Store, crew: Crew, maker: Maker, summary: Path | None = None) -> int:
    """Make every incomplete shard of a store; returns the exit code.

    Args:
        store: open for writing, and locked for this process.
        crew: runs the tasks; any order and any number of workers give the same store.
        maker: what the tasks do.
        summary: a file for the numbers of the final summary, as JSON.

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
    for rows, reason, times in failed:
        _say(f"failed {times} times: the shard of samples {rows.start} to {rows.stop - 1}: {_name(reason)}")
        _name_samples(rows, crew, maker)
    _summarize(store, tally, sum(len(rows) for rows, *_ in failed), summary)
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
) -> list[tuple[range, BaseException, int]]:
    """Run shards one after the other; returns those that failed, why, and how often in all."""
    failed = []
    for rows in shards:
        report, error, times = _run_one(crew, maker.make, rows)
        if error is None:
            done(report)
        else:
            failed.append((rows, error, ATTEMPTS - 1 + times))
    return failed


def _run_one(crew: Crew, task: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None, int]:
    """What one task returned, what it raised, and how often it was tried until it lost no worker, or `LOSSES`."""
    times = 0
    while True:
        result, error = _try_one(crew, task, *arguments)
        times += 1
        if times == LOSSES or not isinstance(error, WorkerLost):
            return result, error, times


def _try_one(crew: Crew, task: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
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


def _name_samples(rows: range, crew: Crew, maker: Maker) -> None:
    """Say which samples of a shard fail, and with which parameters."""
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


def _summarize(store: Store, tally: Tally, failed: int, summary: Path | None) -> None:
    seconds, backend = time.monotonic() - tally.started, str(store.attributes["backend"])
    print(f"{store.place}: {len(store) - failed} of {len(store)} rows complete, {tally.rows} new in {seconds:.0f} s")
    if tally.rows:
        print(describe(tally, backend))
    if summary is not None:
        write_summary(summary, tally.numbers(backend) | {"stored_bytes": stored_bytes(store.place)})


def _name(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
