"""A device that is no device: the CUDA kernel, compiled for the host by g++ and run there.

Run as a program, it repeats a pickled launch: that is how a sanitizer, which must be loaded first, gets to see one.
"""

from __future__ import annotations

import ctypes
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends import Span
from engine.backends.device import Kernel

HOST = Path(__file__).with_name("cuda_on_host.cpp")
CTAS, THREADS = 3, 40
"""Of a launch in the tests."""


def on_host(kernel: Kernel) -> Kernel:
    """The kernel with few threads in a CTA, so that all of them have work in a small brain."""
    return replace(kernel, threads=THREADS)


def build(kernel: Kernel, folder: Path, *flags: str) -> Path:
    """Compile a kernel for the host; of the options of its CUDA build the definitions apply."""
    library, source = folder / f"{kernel.name}.so", folder / f"{kernel.name}.cu"
    source.write_text(kernel.code)
    definitions = [f'-DSOURCE="{source}"', f"-DKERNEL={kernel.name}"]
    definitions += [option for option in kernel.options if option.startswith("-D")]
    compiler = ["g++", "-std=c++17", "-O2", "-ffp-contract=off", "-pthread", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([*compiler, *flags, *definitions, str(HOST), "-o", str(library)], check=True)
    return library


def launch(library: Path, ctas: int, threads: int, seed: int, arguments: Sequence[Any]) -> None:
    """Run the kernel on arrays and NumPy scalars."""
    held = [
        ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else np.ctypeslib.as_ctypes(np.array(value))
        for value in arguments
    ]
    places = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
    assert ctypes.CDLL(str(library)).launch(ctas, threads, seed, places) == 0, "threads met different barriers"


class HostDevice:
    """Arrays are NumPy's; every launch draws another order of the threads."""

    def __init__(self, libraries: Mapping[str, Path], memory: int = 2**30) -> None:
        """`libraries`: kernel's name -> what `build` made of it with `THREADS`."""
        self.libraries, self.memory = libraries, memory
        self.launches: list[tuple[int, list[Any]]] = []
        self.downloaded: list[int] = []

    def ctas(self, kernel: Kernel) -> int:
        return CTAS

    def free_memory(self) -> int:
        return self.memory

    def upload(self, values: NDArray) -> NDArray:
        return np.array(values, order="C")

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        return np.zeros(shape, dtype)

    def scatter(self, rows: NDArray, places: NDArray, values: NDArray, out: NDArray) -> None:
        out[rows, places] = values

    def lane(self, number: int) -> AbstractContextManager[None]:
        return nullcontext()

    def wait(self, launched: Span) -> Span:
        return launched

    def settle(self) -> None:
        return

    def download(self, values: NDArray, dtype: DTypeLike = None) -> NDArray:
        copy = np.array(values, dtype)
        self.downloaded.append(copy.nbytes)
        return copy

    def count(self, values: NDArray, threshold: float) -> NDArray[np.int64]:
        return np.count_nonzero(values >= np.float32(threshold), axis=1)

    def launch(self, kernel: Kernel, ctas: int, arguments: Sequence[Any]) -> Span:
        began = time.monotonic()
        launch(self.libraries[kernel.name], ctas, THREADS, len(self.launches), arguments)
        self.launches.append((ctas, list(arguments)))
        return began, time.monotonic()


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as file:
        launch(Path(sys.argv[1]), *pickle.load(file))
