"""Work spread over threads: results in the order of the work, a few pieces held at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import islice
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
    """What each task returns, in their order; at most two tasks a thread are drawn ahead of what is taken.

    The first ones start at the call. Calls side by side share the threads, so tasks must not call this themselves.
    """
    pool, remaining = _pool(threads), iter(tasks)
    return _results(pool, remaining, deque(pool.submit(task) for task in islice(remaining, 2 * threads)))


def _results(
    pool: ThreadPoolExecutor, remaining: Iterator[Callable[[], Result]], running: deque[Future[Result]]
) -> Iterator[Result]:
    try:
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(task) for task in islice(remaining, 1))
    finally:
        wait([future for future in running if not future.cancel()])


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that are kept from call to call."""
    return ThreadPoolExecutor(threads, thread_name_prefix="simulation")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
