"""The CUDA kernel: it compiles for every GPU, and equals its Numba twin bit for bit, both without a GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine import GRIDS, Atlas, FisherKolmogorovParameters, InputError, load_atlas, simulate
from engine.backends import choose_backend, cupy_device
from engine.backends.cuda import GROWTH, CudaBackend
from engine.backends.device import Kernel
from engine.domain import domain_of
from tests.engine import host_device
from tests.engine.brains import random_brain, random_tumors
from tests.engine.compilers import compile_cubin, run_under_sanitizer
from tests.engine.host_device import THREADS, HostDevice


@pytest.fixture
def device(library: Path) -> HostDevice:
    return HostDevice({GROWTH.name: library})


def assert_same(batch: list[FisherKolmogorovParameters], atlas: Atlas, device: HostDevice, **options) -> None:
    """Every number of the two backends is equal, to the last bit."""
    expected = simulate(batch, atlas, backend="cpu", **options)
    result = simulate(batch, atlas, backend=CudaBackend(device), **options)
    assert np.array_equal(result.density.view(np.int32), expected.density.view(np.int32))
    assert np.array_equal(result.updates, expected.updates)
    assert result.ended == expected.ended


@pytest.mark.parametrize("stop_volume", [None, 30.0])
@pytest.mark.parametrize("scheme", ["converged", "gliomasolver"])
@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_equals_its_numba_twin_bit_for_bit(seed, scheme, stop_volume, device):
    atlas = random_brain(seed)
    batch = random_tumors(seed, atlas, 3 * host_device.CTAS + 1)
    assert_same(batch, atlas, device, scheme=scheme, stop_volume=stop_volume)
    assert len(device.launches) == 1


def test_early_stops_are_among_the_cases(device):
    atlas = random_brain(0)
    ended = simulate(random_tumors(0, atlas, 10), atlas, backend=CudaBackend(device), stop_volume=30.0).ended
    assert set(ended) == {"duration", "too_big"}


def test_a_brain_with_several_words_of_blocks_a_thread_is_advanced_alike(device):
    atlas = random_brain(6, shortest=24)
    assert len(domain_of(atlas).starts) > 32 * THREADS
    batch = [replace(tumor, duration=40.0) for tumor in random_tumors(6, atlas, 3)]
    assert_same(batch, atlas, device)


def test_any_initial_density_is_advanced_alike(device):
    atlas = random_brain(5)
    batch = random_tumors(5, atlas, 4)
    initial = np.random.default_rng(5).random((4, *atlas.grid.shape)).astype(np.float32)
    initial[1], initial[2, :5] = 0, 0
    assert_same(batch, atlas, device, initial=initial)


def test_a_batch_larger_than_memory_is_cut(library):
    atlas = random_brain(1)
    batch = random_tumors(1, atlas, 7)
    device = HostDevice({GROWTH.name: library}, memory=450_000)
    result = simulate(batch, atlas, backend=CudaBackend(device))
    assert len(device.launches) > 2
    assert np.array_equal(result.density, simulate(batch, atlas, backend="cpu").density)


def test_a_brain_larger_than_memory_is_refused(library):
    atlas = random_brain(1)
    backend = CudaBackend(HostDevice({GROWTH.name: library}, memory=10_000))
    with pytest.raises(InputError, match="device memory"):
        simulate(random_tumors(1, atlas, 1), atlas, backend=backend)


def test_the_brain_stays_on_the_device_until_another_comes(device):
    backend = CudaBackend(device)
    for seed in (1, 1, 2, 1):
        atlas = random_brain(seed)
        batch = random_tumors(seed, atlas, 1)
        expected = simulate(batch, atlas, backend="cpu").density
        assert np.array_equal(simulate(batch, atlas, backend=backend).density, expected)


def test_a_sanitizer_sees_no_race(library, tmp_path):
    assert run_sanitized(GROWTH, library, tmp_path) == 0


@pytest.mark.slow
def test_the_sanitizer_misses_none_of_the_barriers(library, tmp_path):
    barrier, source = "__syncthreads();", GROWTH.code
    parts = source.split(barrier)
    assert len(parts) > 2
    for n in range(1, len(parts)):
        folder = tmp_path / str(n)
        folder.mkdir()
        broken = folder / "broken.cu"
        broken.write_text(barrier.join(parts[:n]) + barrier.join(["", *parts[n:]])[len(barrier) :])
        changed = replace(GROWTH, sources=(broken,))
        assert run_sanitized(changed, library, folder) != 0, f"barrier {n} of {GROWTH.sources}"


def run_sanitized(kernel: Kernel, library: Path, folder: Path) -> int:
    """Exit status of a small launch under ThreadSanitizer."""
    atlas = random_brain(3)
    recorder = HostDevice({kernel.name: library})
    recorder.launch = lambda kernel, ctas, arguments: recorder.launches.append((ctas, list(arguments)))
    simulate(random_tumors(3, atlas, 4), atlas, backend=CudaBackend(recorder), stop_volume=20.0)
    ((ctas, arguments),) = recorder.launches
    return run_under_sanitizer(kernel, ctas, arguments, folder)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_the_kernel_without_spilling(architecture):
    log, code = compile_cubin(GROWTH, architecture)
    assert GROWTH.name.encode() in code
    assert "warning" not in log, log
    assert "0 bytes spill stores, 0 bytes spill loads" in log, log


def test_without_cupy_a_sentence_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("engine.backends._cuda_backend", CudaBackend)
    with pytest.raises(InputError, match=r"backend=cuda needs an NVIDIA GPU and CuPy.*\[gpu\]"):
        choose_backend("cuda")


def test_without_a_gpu_a_sentence_says_so_and_auto_takes_the_cpu(monkeypatch):
    def count() -> int:
        raise RuntimeError("cudaErrorNoDevice")

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=RuntimeError)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    monkeypatch.setattr(cupy_device, "find_spec", lambda name: name)
    monkeypatch.setattr("engine.backends._cuda_backend", CudaBackend)
    with pytest.raises(InputError, match=r"needs an NVIDIA GPU and its driver \(cudaErrorNoDevice\)"):
        choose_backend("cuda")
    assert choose_backend("auto").name == "cpu"


def test_nothing_imports_cupy_before_it_is_needed():
    code = "import sys, engine.backends.cuda; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("stop_volume", [None, 60.0])
@pytest.mark.parametrize("scheme", ["converged", "gliomasolver"])
def test_the_gpu_agrees_with_the_cpu_in_a_brain(scheme, stop_volume):
    atlas = load_atlas("sri24", GRIDS["half"])
    batch = random_tumors(0, atlas, 24)
    result = simulate(batch, atlas, backend="cuda", scheme=scheme, stop_volume=stop_volume)
    expected = simulate(batch, atlas, backend="cpu", scheme=scheme, stop_volume=stop_volume)
    assert np.abs(result.density - expected.density).max() <= 1e-5
    assert result.ended == expected.ended


@pytest.mark.gpu
def test_the_gpu_gives_the_same_bits_again_and_in_any_batch():
    atlas = load_atlas("sri24", GRIDS["half"])
    batch = random_tumors(1, atlas, 40)
    first = simulate(batch, atlas, backend="cuda").density
    assert np.array_equal(first, simulate(batch, atlas, backend="cuda").density)
    assert np.array_equal(first[7], simulate(batch[7:8], atlas, backend="cuda").density[0])
