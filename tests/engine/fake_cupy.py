"""As much of CuPy as the engine uses, on NumPy: the kernels run on the host, and streams are noted."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from tests.engine.host_device import launch

MULTIPROCESSORS = 2


class Stream:
    """A context manager, as CuPy's is; the innermost one is current."""

    entered: ClassVar[list[Stream]] = []

    def __init__(self, non_blocking=False):
        self.non_blocking, self.synchronized = non_blocking, 0

    def __enter__(self):
        Stream.entered.append(self)
        return self

    def __exit__(self, *error):
        assert Stream.entered.pop() is self

    def synchronize(self):
        self.synchronized += 1


NULL = Stream()


def current() -> Stream:
    return Stream.entered[-1] if Stream.entered else NULL


class Event:
    """Recorded in the null stream unless another is named, as CuPy's is."""

    def __init__(self, block=False):
        self.block, self.stream, self.moment = block, None, None

    def record(self, stream=NULL):
        self.stream, self.moment = stream, time.monotonic()

    def synchronize(self):
        assert self.moment is not None, "waited for before it was recorded"


class RawModule:
    """Hands out a kernel that was compiled for the host, whatever its code."""

    libraries: ClassVar[dict[str, Path]] = {}
    launches: ClassVar[list[tuple[Stream, int, int]]] = []

    def __init__(self, code, options):
        assert "--fmad=false" in options
        assert code

    def get_function(self, name):
        def run(grid, block, arguments):
            RawModule.launches.append((current(), grid[0], block[0]))
            launch(RawModule.libraries[name], grid[0], block[0], len(RawModule.launches), arguments)

        return run


def fake_cupy(libraries: dict[str, Path]) -> SimpleNamespace:
    """The module; `libraries` are what `build` made of the kernels."""
    RawModule.libraries, RawModule.launches, Stream.entered = libraries, [], []
    device = SimpleNamespace(attributes={"MultiProcessorCount": MULTIPROCESSORS}, mem_info=(2**30, 2**31))
    cuda = SimpleNamespace(
        Stream=Stream, Event=Event, Device=lambda: device, get_current_stream=current,
        get_elapsed_time=lambda first, last: 1000 * (last.moment - first.moment),
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError),
    )  # fmt: skip
    return SimpleNamespace(
        cuda=cuda, RawModule=RawModule, asarray=np.array, zeros=np.zeros, asnumpy=np.array,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0),
    )  # fmt: skip
