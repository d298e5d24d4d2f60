"""Generation on a device: it has work queued while the host judges and writes, and only rows are copied from it."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from engine import open_store, simulate
from engine.acceptance import Acceptance, accept_rows
from engine.backends import cuda
from engine.backends.cpu import CpuBackend
from engine.backends.cuda import GROWTH, CudaBackend
from engine.crew import this_process
from engine.domain import domain_of
from engine.fill import fill
from engine.layout import layout_of
from engine.model import Model
from engine.recipe import Recipe, describe, this_machine
from engine.shards import DEVICE_SAMPLES, HELD_BYTES, Workshop, device_tasks
from engine.store import create_store
from engine.tally import covered
from tests.conftest import build_ellipsoid_brain
from tests.engine.brains import random_tumors
from tests.engine.fake_cupy import MULTIPROCESSORS, NULL, RawModule, fake_cupy
from tests.engine.host_device import HostDevice, on_host
from tests.engine.makers import ATLAS, PRIOR, SEED, generate

SAMPLES, SHARD = 96, 4
PATIENCE = 0.5
"""Seconds that a wave takes at most, so that a busy machine has time to queue another beside it."""


class Watched(HostDevice):
    """Notes of every launch whose end is waited for how large it was, and how many others are under way then.

    A wave is computed at once here; on a GPU it is under way for a while, and the host has `PATIENCE` to queue another.
    """

    def __init__(self, library):
        super().__init__({GROWTH.name: library})
        self.waits, self.widest = [], 0

    def launch(self, kernel, ctas, arguments):
        return *super().launch(kernel, ctas, arguments), len(arguments[0])

    def wait(self, launched):
        began, ended, size = launched
        self.widest = max(self.widest, size)
        until = time.monotonic() + PATIENCE * (size == self.widest)
        while len(self.launches) - len(self.waits) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        self.waits.append((size, len(self.launches) - len(self.waits) - 1))
        return began, ended


class Beside(HostDevice):
    """Computes in a thread of its own, every launch for some time, as a GPU does beside its host."""

    def __init__(self, library, seconds):
        super().__init__({GROWTH.name: library})
        self.seconds, self.queue = seconds, ThreadPoolExecutor(1)

    def launch(self, kernel, ctas, arguments):
        return self.queue.submit(self._compute, kernel, ctas, arguments)

    def _compute(self, kernel, ctas, arguments):
        began, _ = super().launch(kernel, ctas, arguments)
        time.sleep(max(0.0, self.seconds - (time.monotonic() - began)))
        return began, time.monotonic()

    def wait(self, launched: Future):
        return launched.result()


def begin(place, backend, samples=SAMPLES):
    return create_store(place, samples, describe(ATLAS, PRIOR, SEED, "converged", SHARD, this_machine(backend)))


def make(store, backend, summary=None):
    """The store's rows, made in this process."""
    with this_process(backend, SAMPLES // SHARD) as crew:
        assert fill(store, crew, Workshop(store, Recipe(ATLAS, PRIOR, SEED, "converged", backend)), summary) == 0
    return open_store(store.place)


def test_a_device_has_another_wave_queued_when_one_ends_and_copies_only_rows(library, tmp_path, capsys):
    device = Watched(library)
    backend = CudaBackend(device)
    store = make(begin(tmp_path / "device.zarr", backend), backend, tmp_path / "summary" / "numbers.json")
    full = [others for size, others in device.waits if size == backend.width]
    assert len(full) > 20, "waves before the samples run out"
    assert all(full[:20])
    row = 2 * domain_of(ATLAS).tissue.size
    assert sum(size == row for size in device.downloaded) == SAMPLES
    assert max(device.downloaded) == row
    numbers = json.loads((tmp_path / "summary" / "numbers.json").read_text())
    assert (numbers["rows"], numbers["processes"], numbers["devices"]) == (SAMPLES, 1, 1)
    assert 0 < numbers["busy_share"] <= 1
    assert f"device busy {100 * numbers['busy_share']:.0f}%" in capsys.readouterr().out
    expected = generate(tmp_path / "host.zarr", SAMPLES)
    for name in (*store.layout.columns, *store.layout.fields):
        assert np.array_equal(store._arrays[name][:], expected._arrays[name][:]), name


@pytest.mark.slow
def test_a_device_is_busy_while_shards_are_judged_and_written(library, tmp_path, monkeypatch, capsys):
    """A launch takes half a second; drawing a wave and writing its shards take a quarter each."""
    backend = CudaBackend(Beside(library, 0.5))
    monkeypatch.setattr(Acceptance, "_draw", _after(0.25, Acceptance._draw))
    store = begin(tmp_path / "beside.zarr", backend, 2 * SAMPLES)
    monkeypatch.setattr(type(store), "write_shard", _after(0.25 * SHARD / backend.width, type(store).write_shard))
    make(store, backend)
    share = int(re.search(r"device busy (\d+)%", capsys.readouterr().out)[1])
    print(f"device busy {share}%")
    assert share >= 80


def _after(seconds, call):
    def late(*arguments):
        time.sleep(seconds)
        return call(*arguments)

    return late


@pytest.mark.parametrize("width", [1, 5, 64])
def test_rows_are_the_same_whoever_searches_beside_them_and_in_whatever_waves(width):
    brain = build_ellipsoid_brain(40, 2.0)
    backend = CpuBackend(2)
    backend.width = width
    acceptance = Acceptance(SEED, "converged", brain, PRIOR, backend, Model())
    assert acceptance.screened
    parts = [range(first, first + 3) for first in range(0, 12, 3)]
    with ThreadPoolExecutor(len(parts)) as pool:
        together = list(pool.map(acceptance.accept, parts))
    for part, (rows, tried) in zip(parts, together, strict=True):
        alone, tried_alone = accept_rows(part, SEED, "converged", brain, PRIOR, CpuBackend(1))
        assert tried == tried_alone
        for row, other in zip(rows, alone, strict=True):
            assert row["proposal"] == other["proposal"]
            assert np.array_equal(row["density"], other["density"])


def test_what_goes_wrong_in_a_wave_reaches_everybody_who_waits_for_it_and_nobody_later():
    backend, gone = CpuBackend(1), threading.Event()
    acceptance = Acceptance(SEED, "converged", ATLAS, PRIOR, backend, Model())
    run = backend.run

    def fail(*arguments):
        if gone.is_set():
            return run(*arguments)
        raise OSError("the device fell off the bus")

    backend.run = fail
    with ThreadPoolExecutor(3) as pool:
        failed = [pool.submit(acceptance.accept, range(i, i + 2)) for i in (0, 2, 4)]
        assert all(isinstance(future.exception(60), OSError) for future in failed)
    gone.set()
    rows, _ = acceptance.accept(range(2))
    assert len(rows) == 2


def test_what_touches_cupy_works_in_lanes(library, monkeypatch):
    """With a CuPy of NumPy arrays, whose streams are noted: no launch in the null stream, nor two in a row in one."""
    kernel = on_host(GROWTH)
    monkeypatch.setattr(cuda, "GROWTH", kernel)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy({kernel.name: library}))
    backend = CudaBackend()
    assert backend.width == cuda.SIMULATIONS_PER_CTA * kernel.ctas_per_sm * MULTIPROCESSORS
    batch = random_tumors(5, ATLAS, 9)
    result = simulate(batch, ATLAS, backend=backend)
    again = simulate(batch, ATLAS, backend=backend, on_device=True)
    expected = simulate(batch, ATLAS, backend="cpu")
    assert np.array_equal(result.density, expected.density)
    assert np.array_equal(again.density, expected.density)
    streams = [stream for stream, _, _ in RawModule.launches]
    assert len(streams) == 2
    assert streams[0] is not streams[1]
    assert all(stream.non_blocking for stream in streams)
    assert NULL.synchronized, "what was copied on the device is waited for before its memory is given away"
    spans = backend.take_busy()
    assert len(spans) == 2
    assert all(0 < last - first < 60 for first, last in spans)
    assert abs(spans[-1][1] - time.monotonic()) < 60, "the clock of this host"


@pytest.mark.gpu
def test_the_gpu_quantizes_as_numpy_does():
    device, rng = CudaBackend().device, np.random.default_rng(0)
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)  # every one from 0 to 1
    values = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2, rng.random(100_000, dtype=np.float32)])
    with device.lane(0):
        found = device.download(device.upload(values), np.float16)
        counted = device.count(device.upload(values[None]), 0.5)
    assert np.array_equal(found.view(np.uint16), values.astype(np.float16).view(np.uint16))
    assert counted.tolist() == [np.count_nonzero(values >= 0.5)]


@pytest.mark.gpu
def test_the_gpu_makes_the_rows_of_the_cpu(tmp_path):
    backend = CudaBackend()
    made = make(begin(tmp_path / "device.zarr", backend), backend)
    expected = generate(tmp_path / "host.zarr", SAMPLES)
    assert np.array_equal(made.proposals, expected.proposals)
    for row in range(SAMPLES):
        assert np.abs(made.density(row) - expected.density(row)).max() <= 1e-3


def test_a_device_gets_as_many_tasks_as_keep_it_busy_and_memory_holds():
    grid = (128, 128, 128)
    first, second = (layout_of(name).row_bytes(grid) for name in ("fisher_kolmogorov", "mass_effect"))
    assert (first, second) == (2 * 128**3, 2 * 4 * 128**3)
    assert device_tasks(16, 1) == DEVICE_SAMPLES // 16
    for row in (first, second):
        assert 0.9 * HELD_BYTES < device_tasks(16, row) * 16 * row <= HELD_BYTES
    assert device_tasks(10**6, first) == 1


def test_time_that_several_launches_share_counts_once():
    spans = [(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (9.0, 20.0)]
    assert covered(spans, 0.0, 10.0) == 3 + 1 + 1
    assert covered(spans, 1.5, 5.5) == 1.5 + 0.5
    assert covered([], 0.0, 1.0) == 0


def test_busy_time_is_told_once():
    backend = CudaBackend.__new__(CudaBackend)
    backend._lock, backend._busy = threading.Lock(), [(1.0, 2.0)]
    assert backend.take_busy() == [(1.0, 2.0)]
    assert backend.take_busy() == []
    assert cuda.AHEAD >= 2
