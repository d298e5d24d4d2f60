"""Both backends, on any machine: the CUDA kernel runs on the host where there is no GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.backends import Backend
from engine.backends.cpu import CpuBackend
from engine.backends.cuda import GROWTH, CudaBackend
from tests.engine.host_device import HostDevice, build, on_host


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernel, compiled for the host."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    return build(on_host(GROWTH), tmp_path_factory.mktemp("kernel"))


@pytest.fixture(scope="session", params=["cpu", "cuda on the host"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    if request.param == "cpu":
        return CpuBackend()
    return CudaBackend(HostDevice({GROWTH.name: request.getfixturevalue("library")}))
