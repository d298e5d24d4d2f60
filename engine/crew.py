"""Who does the work: a crew runs tasks, in this process or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from engine.backends import Backend
from engine.recipe import Machine, this_machine
from engine.shards import WRITERS


class WorkerLost(Exception):
    """The process that ran a task is gone, and the result with it; that need not be the task's fault."""


@dataclass(frozen=True)
class Crew:
    """Runs tasks.

    Attributes:
        executor: takes the tasks; one whose process dies raises `WorkerLost`.
        machine: what rounds the numbers of its members; they are all of one kind.
        stop: ends the running tasks or drops them, and forgets the waiting ones.
        tend: called now and then while tasks run; replaces members that are gone for good.
    """

    executor: Executor
    machine: Machine
    stop: Callable[[], None]
    tend: Callable[[], None]


@contextmanager
def this_process(backend: Backend, device_tasks: int) -> Iterator[Crew]:
    """A crew of threads of this process, so many more if it has a device to feed; they share its one solver."""
    tasks = WRITERS + (device_tasks if backend.name == "cuda" else 0)
    executor = ThreadPoolExecutor(tasks, thread_name_prefix="shard")
    stop = partial(executor.shutdown, wait=True, cancel_futures=True)
    try:
        yield Crew(executor, this_machine(backend), stop, tend=lambda: None)
    finally:
        stop()
