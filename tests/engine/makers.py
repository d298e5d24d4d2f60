"""Makers of shards that misbehave, and what the tests of generation share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import InputError, Prior, open_store
from engine.backends.cpu import CpuBackend
from engine.crew import this_process
from engine.fill import fill
from engine.recipe import Recipe, describe, this_machine
from engine.shards import RemoteWorkshop, ShardReport, Workshop
from engine.store import create_store
from tests.conftest import build_ellipsoid_brain

ATLAS = build_ellipsoid_brain(20, 4.0)
PRIOR = Prior(duration=(50.0, 300.0), size=(2.0, 60.0))
BACKEND = CpuBackend()
SEED = 5
RECIPE = Recipe(ATLAS, PRIOR, SEED, "converged", BACKEND)
COMMAND = [sys.executable, "-m", "engine.generate", "grid=quarter", "shard=4"]


def about(seed=SEED, shard=4, **changes):
    """Attributes of a store of the tiny brain."""
    return describe(ATLAS, PRIOR, seed, "converged", shard, this_machine(BACKEND)) | changes


def generate(place, samples, maker=Workshop, **changes):
    """A whole store of the tiny brain."""
    store = create_store(place, samples, about(**changes))
    assert run(store, maker(store, RECIPE)) == 0
    return open_store(place)


def run(store, maker=None):
    """Fill a store in this process."""
    with this_process(BACKEND, 0) as crew:
        return fill(store, crew, maker or Workshop(store, RECIPE))


def assert_equal(a, b):
    """Two stores hold the same."""
    for name in (*a.layout.columns, *a.layout.fields):
        assert np.array_equal(a._arrays[name][:], b._arrays[name][:]), name


def completed(place):
    """Rows that are there."""
    try:
        return int(open_store(place).complete.sum())
    except (FileNotFoundError, InputError):
        return 0


def run_until(place: Path, rows: int, sent: signal.Signals, more: Sequence[str] = ()) -> tuple[int, str, str]:
    """Start the command, send it a signal once it has `rows` rows, and give its exit code and what it said."""
    arguments = [*COMMAND, f"out={place}", *more]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and completed(place) < rows:
        time.sleep(0.01)
    running.send_signal(sent)
    out, err = running.communicate()
    return running.returncode, out, err


@dataclass(frozen=True, eq=False)
class Stumbling(Workshop):
    """Cannot make one sample, because of one of its proposals, the first `times` times."""

    sample: int = 5
    proposal: int = 2
    times: int = 99
    tried: list[range] = None  # type: ignore[assignment]

    def make(self, rows: range) -> ShardReport:
        if self.sample in rows:
            self.tried.append(rows)
            if len(self.tried) <= self.times:
                raise ZeroDivisionError("a step of no length")
        return super().make(rows)

    def check(self, sample: int) -> None:
        if sample == self.sample:
            raise ZeroDivisionError("a step of no length")
        super().check(sample)

    def attempt(self, sample: int, proposal: int) -> None:
        if (sample, proposal) == (self.sample, self.proposal):
            raise ZeroDivisionError("a step of no length")
        super().attempt(sample, proposal)


@dataclass(frozen=True)
class Deadly(RemoteWorkshop):
    """Kills its worker over one sample, if `folder` is given only so many times, a file there for each."""

    sample: int = 5
    folder: str | None = None
    times: int = 1

    def make(self, rows: range) -> ShardReport:
        if self.sample in rows:
            self._die()
        return super().make(rows)

    def check(self, sample: int) -> None:
        if sample == self.sample:
            self._die()

    def attempt(self, sample: int, proposal: int) -> None:
        if (sample, proposal) == (self.sample, 1):
            self._die()

    def _die(self) -> None:
        if self.folder is not None:
            Path(self.folder).mkdir(exist_ok=True)
            died = len(list(Path(self.folder).iterdir()))
            if died == self.times:
                return
            Path(self.folder, str(died)).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Telling(RemoteWorkshop):
    """Writes into a folder which device made which shard."""

    folder: str = ""

    def make(self, rows: range) -> ShardReport:
        device = os.environ.get("CUDA_VISIBLE_DEVICES")
        report = super().make(rows)
        Path(self.folder, str(rows.start)).write_text(f"{device} {os.getpid()} {os.environ.get('LMI_THREADS')}")
        return report


@dataclass(frozen=True)
class FakeCuda:
    """The CPU behind the name of the GPU, so that workers are given devices; equal to every other one."""

    name: str = "cuda"
    width: int = 4

    def take_busy(self):
        """See `engine.backends.Backend`."""

    def run(self, *arguments, **settings):
        """See `engine.backends.Backend`."""
        return CpuBackend(1).run(*arguments, **settings)
