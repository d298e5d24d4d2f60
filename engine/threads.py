"""Work spread over threads: results in the order of the work, a few pieces held at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from engine.errors import InputError

Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use; LMI_THREADS lowers it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("LMI_THREADS", str(cores))
    if not wanted.isdigit():
        raise InputError(f"LMI_THREADS={wanted} is not a number of threads")
    return max(1, min(cores, int(wanted)))


def run_in_order(tasks: Iterable[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """What each task returns, in their order; at most two tasks a thread are drawn ahead of what is taken."""
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for task in tasks:
            running.append(pool.submit(task))
            if len(running) >= 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
