"""What a CUDA kernel is, and where it runs: all that the engine asks of a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends import Span

MEMORY_SHARE = 0.9
"""Part of the free device memory that a launch may take (chosen by us, room for the driver's own)."""

LAUNCH_LANES = 4
"""Lanes that launches take in turn: those of two calls side by side, two each (chosen by us)."""
COPY_LANE = LAUNCH_LANES
"""The lane in which results are quantized and copied."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel in plain CUDA C.

    Attributes:
        name: of its function.
        sources: files that are compiled as one, in this order.
        threads: in a CTA (a CUDA thread block).
        ctas_per_sm: CTAs that share a multiprocessor.
        constants: what its sources want defined beside THREADS and CTAS_PER_SM.
    """

    name: str
    sources: tuple[Path, ...]
    threads: int
    ctas_per_sm: int
    constants: Mapping[str, int | float | str]

    @property
    def code(self) -> str:
        """All of its source."""
        return "\n".join(path.read_text() for path in self.sources)

    @property
    def options(self) -> tuple[str, ...]:
        """Options of every build: nothing fused but what is written so, and the constants of its twin."""
        constants = {"THREADS": self.threads, "CTAS_PER_SM": self.ctas_per_sm, **self.constants}
        return ("--fmad=false", *(f"-D{name}={value}" for name, value in constants.items()))


class Device(Protocol):
    """Where kernels run; arrays are whatever `upload` and `zeros` return."""

    def ctas(self, kernel: Kernel) -> int:
        """CTAs of a kernel that run at a time."""
        ...

    def free_memory(self) -> int:
        """Bytes that can be allocated."""
        ...

    def upload(self, values: NDArray) -> Any:
        """A copy on the device."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """A new array on the device."""
        ...

    def scatter(self, rows: Any, places: Any, values: Any, out: Any) -> None:
        """Set out[rows, places] = values; the three are of one length."""
        ...

    def lane(self, number: int) -> AbstractContextManager[Any]:
        """What is begun inside is done in its own order, beside what is done in other lanes."""
        ...

    def wait(self, launched: Any) -> Span:
        """Wait for the end of a launch; when it was under way."""
        ...

    def settle(self) -> None:
        """Wait for what was begun where this is called: in the lane, or in none."""
        ...

    def download(self, values: Any, dtype: DTypeLike = None) -> NDArray:
        """A copy on the host once what was begun before in the lane is done, cast on the device before if so asked."""
        ...

    def count(self, values: Any, threshold: float) -> NDArray[np.int64]:
        """How many entries of each row are at least `threshold`, on the host."""
        ...

    def launch(self, kernel: Kernel, ctas: int, arguments: Sequence[Any]) -> Any:
        """Start a kernel; may return before it is done. Returns what `wait` takes."""
        ...
