"""A main in a process of its own; this module is imported there, so it imports little."""

from __future__ import annotations

import os
import signal

import pytest
from omegaconf import DictConfig

from engine.apart import CRASHED, run_apart
from engine.command import BAD_INPUT
from engine.errors import InputError


def end_somehow(config: DictConfig) -> int:
    """Ends as it is told."""
    if config.how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.how == "crashed":
        raise RuntimeError("nobody expected this")
    if config.how == "refused":
        raise InputError("give another")
    return int(config.how)


@pytest.mark.parametrize(("how", "status", "sentence"), [
    ("killed", CRASHED, "ended by SIGKILL"),
    ("crashed", CRASHED, "the program failed"),
    ("refused", BAD_INPUT, "give another"),
    ("3", 3, ""),
])  # fmt: skip
def test_a_process_of_its_own_ends_in_a_status_and_a_sentence(how: str, status: int, sentence: str) -> None:
    ended, said = run_apart(end_somehow, {"how": how})
    assert ended == status and sentence in said and bool(said) == bool(sentence)
