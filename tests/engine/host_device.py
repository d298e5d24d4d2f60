"""A device that is no device: the CUDA kernel, compiled for the host by g++ and run there.

Run as a program, it repeats a pickled launch: that is how a sanitizer, which must be loaded first, gets to see one.
"""

from __future__ import annotations

import ctypes
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HOST = Path(__file__).with_name("cuda_on_host.cpp")
CTAS, THREADS = 3, 40
"""Of a launch in the tests."""


def build(source: Path, kernel: str, options: Sequence[str], folder: Path, *flags: str) -> Path:
    """Compile a kernel for the host; `options` are those of the CUDA build, of which the definitions apply."""
    library = folder / f"{kernel}.so"
    definitions = [f'-DSOURCE="{source}"', f"-DKERNEL={kernel}", *(o for o in options if o.startswith("-D"))]
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

    def __init__(self, library: Path, ctas: int, threads: int, memory: int = 2**30) -> None:
        self.library, self.ctas, self.threads, self.memory = library, ctas, threads, memory
        self.launches: list[tuple[int, list[Any]]] = []

    def free_memory(self) -> int:
        return self.memory

    def upload(self, values: NDArray) -> NDArray:
        return np.array(values, order="C")

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        return np.zeros(shape, dtype)

    def scatter(self, rows: NDArray, places: NDArray, values: NDArray, out: NDArray) -> None:
        out[rows, places] = values

    def download(self, values: NDArray) -> NDArray:
        return values.copy()

    def launch(self, ctas: int, arguments: Sequence[Any]) -> None:
        launch(self.library, ctas, self.threads, len(self.launches), arguments)
        self.launches.append((ctas, list(arguments)))


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as file:
        launch(Path(sys.argv[1]), *pickle.load(file))
