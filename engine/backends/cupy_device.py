"""The current NVIDIA GPU through CuPy: the only place that imports it, once a GPU is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.backends import Span
from engine.backends.device import LAUNCH_LANES, Kernel
from engine.errors import InputError


def is_present() -> bool:
    """Whether CuPy and a GPU are there."""
    if find_spec("cupy") is None:
        return False
    try:
        _import_cupy()
    except InputError:
        return False
    return True


def _import_cupy() -> ModuleType:
    """CuPy, once it has found a GPU."""
    try:
        import cupy
    except ImportError as error:
        raise InputError(
            "backend=cuda needs an NVIDIA GPU and CuPy, and CuPy cannot be imported: "
            "pip install 'learn-morph-infer[gpu]', or use backend=cpu"
        ) from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise InputError(f"backend=cuda needs an NVIDIA GPU and its driver ({error}): use backend=cpu") from error
    return cupy


class CupyDevice:
    """The current NVIDIA GPU (CUDA_VISIBLE_DEVICES chooses it)."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            InputError: CuPy or a GPU is missing.
        """
        self._cupy = _import_cupy()
        self._functions: dict[str, Any] = {}
        self._lanes = [self._cupy.cuda.Stream(non_blocking=True) for _ in range(LAUNCH_LANES + 1)]
        self._beginning = self._cupy.cuda.Event()
        self._beginning.record()
        self._beginning.synchronize()
        self._began = time.monotonic()

    def ctas(self, kernel: Kernel) -> int:
        """See `Device`."""
        return kernel.ctas_per_sm * int(self._cupy.cuda.Device().attributes["MultiProcessorCount"])

    def free_memory(self) -> int:
        """See `Device`."""
        return self._cupy.cuda.Device().mem_info[0] + self._cupy.get_default_memory_pool().free_bytes()

    def upload(self, values: NDArray) -> Any:
        """See `Device`."""
        return self._cupy.asarray(values)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """See `Device`."""
        return self._cupy.zeros(shape, dtype)

    def scatter(self, rows: Any, places: Any, values: Any, out: Any) -> None:
        """See `Device`."""
        out[rows, places] = values

    def lane(self, number: int) -> AbstractContextManager[Any]:
        """See `Device`."""
        return self._lanes[number]

    def wait(self, launched: Any) -> Span:
        """See `Device`."""
        launched[1].synchronize()
        began, ended = (self._cupy.cuda.get_elapsed_time(self._beginning, event) / 1000 for event in launched)
        return self._began + began, self._began + ended

    def settle(self) -> None:
        """See `Device`."""
        self._cupy.cuda.get_current_stream().synchronize()

    def download(self, values: Any, dtype: DTypeLike = None) -> NDArray:
        """See `Device`."""
        return self._cupy.asnumpy(values if dtype is None else values.astype(dtype, copy=False))

    def count(self, values: Any, threshold: float) -> NDArray[np.int64]:
        """See `Device`."""
        return self._cupy.asnumpy((values >= np.float32(threshold)).sum(axis=1))

    def launch(self, kernel: Kernel, ctas: int, arguments: Sequence[Any]) -> Any:
        """See `Device`; a kernel is compiled when it is first launched."""
        if kernel.name not in self._functions:
            module = self._cupy.RawModule(code=kernel.code, options=kernel.options)
            self._functions[kernel.name] = module.get_function(kernel.name)
        lane = self._cupy.cuda.get_current_stream()
        began, ended = self._cupy.cuda.Event(), self._cupy.cuda.Event(block=True)
        began.record(lane)
        self._functions[kernel.name]((ctas,), (kernel.threads,), tuple(arguments))
        ended.record(lane)
        return began, ended
