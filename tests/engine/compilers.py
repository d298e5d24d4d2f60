"""Other compilers than the GPU's own look at a kernel: NVRTC, and g++ with ThreadSanitizer."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest

from engine.backends.device import Kernel
from tests.engine import host_device
from tests.engine.host_device import THREADS, build, on_host


def compile_cubin(kernel: Kernel, architecture: str) -> tuple[str, bytes]:
    """Compile a kernel with NVRTC; returns its log and the machine code."""
    try:
        paths = [file.locate() for file in files("nvidia-cuda-nvrtc") or () if file.name.startswith("libnvrtc.so")]
    except PackageNotFoundError:
        pytest.skip("the package nvidia-cuda-nvrtc is not installed")
    nvrtc, program = ctypes.CDLL(str(paths[0])), ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), kernel.code.encode(), b"kernel.cu", 0, None, None) == 0
    # As CuPy compiles it, and with the assembler's report in the log.
    options = [*kernel.options, "--device-as-default-execution-space", "--ptxas-options=-v"]
    options.append(f"--gpu-architecture={architecture}")
    failed = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    )
    log = _read(nvrtc, "ProgramLog", program).decode()
    assert not failed, log
    return log, _read(nvrtc, "CUBIN", program)


def _read(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    assert nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert nvrtc[f"nvrtcGet{what}"](program, text) == 0
    return text.raw


def run_under_sanitizer(kernel: Kernel, ctas: int, arguments: Sequence[Any], folder: Path) -> int:
    """Exit status of a launch with ThreadSanitizer, which takes the threads of a CTA for threads."""
    (runtime,) = subprocess.run(
        ["g++", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True
    ).stdout.split()
    if not Path(runtime).is_absolute():
        pytest.skip("this g++ has no ThreadSanitizer")
    (folder / "launch").write_bytes(pickle.dumps((ctas, THREADS, 0, arguments)))
    watched = build(on_host(kernel), folder, "-fsanitize=thread")
    command = [sys.executable, host_device.__file__, str(watched), str(folder / "launch")]
    done = subprocess.run(command, env={**os.environ, "LD_PRELOAD": runtime}, capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot map its memory on this kernel")
    print(done.stderr)
    return done.returncode
