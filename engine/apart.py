"""A command's `main` in a process of its own: whatever ends it ends only that process."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from omegaconf import DictConfig, OmegaConf

from engine.command import BAD_INPUT, INTERRUPTED
from engine.errors import InputError

CRASHED = 1
"""Python's own exit status after an exception that nobody caught."""
Main = Callable[[DictConfig], int]


def run_apart(main: Main, options: dict[str, Any]) -> tuple[int, str]:
    """Run `main` in a new process.

    Returns:
        Its exit status, and a sentence about what went wrong.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(main, options, sender))
    process.start()
    sender.close()
    try:
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join()
        raise
    status = process.exitcode or 0
    if status < 0:
        return CRASHED, f"the process was ended by {signal.Signals(-status).name} (SIGKILL: too little memory?)"
    try:
        return status, str(receiver.recv())
    except EOFError:
        return status, "the program ended without a message" if status == CRASHED else ""


def _work(main: Main, options: dict[str, Any], sender: Connection) -> None:
    """What the new process does."""
    try:
        with _Telling(sender):
            status = main(OmegaConf.create(options))
    except InputError:
        status = BAD_INPUT
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


class _Telling:
    """Sends a sentence about whatever leaves its block, which goes on its way."""

    def __init__(self, sender: Connection) -> None:
        self.sender = sender

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            self.sender.send(str(error))
        elif isinstance(error, Exception):
            first = next(iter(str(error).splitlines()), "")
            self.sender.send(f"the program failed ({type(error).__name__}: {first}): its traceback is above")
