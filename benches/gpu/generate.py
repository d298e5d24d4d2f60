"""Generation on a GPU, the store included: how fast, how busy the device, how large.

    python benches/gpu/generate.py samples=100000 folder=/fast/disk json=generate.json

Short runs with several numbers of processes on one GPU come first; the data set is then made with the number that was
fastest, within the time that is left (what is there by then counts), and as many rows as the time allows are read
against their checksums.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from report import arguments, machine, publish

from engine import Store, open_store
from engine.verify import content, find_damage

DEFAULTS = {
    "backend": "cuda", "model": "fisher_kolmogorov", "grid": "full", "tiny": False,
    "samples": 100_000, "trial": 4000, "processes": [1, 2, 4, 6],
    "shard": 64, "seed": 0, "seconds": 540, "folder": "runs", "json": None,
}  # fmt: skip
CHECKING, LEFT = 60.0, 10.0
"""Seconds that are kept for reading the store, and of them for the end of it."""
AT_A_TIME = 64
"""Shards that are read between two looks at the clock."""
LAST = 0.7
"""Part of the time that is kept for the data set; what the trials leave of theirs is added."""


def main() -> None:
    """Try, make, read and report."""
    settings = arguments(DEFAULTS, __doc__)
    end = time.monotonic() + settings.seconds
    if settings.tiny:
        settings.samples, settings.trial, settings.processes, settings.shard = 24, 8, [1, 2], 4
    folder = Path(settings.folder)
    result: dict[str, Any] = {
        "machine": machine(),
        "tiny": settings.tiny,
        "model": settings.model,
        "grid": settings.grid,
        "trials": {},
    }
    for processes in settings.processes:
        if time.monotonic() < end - LAST * settings.seconds:
            limit = end - LAST * settings.seconds - time.monotonic()
            found = make(settings, folder / "trial.zarr", settings.trial, processes, limit)
            if found is not None:
                result["trials"][f"processes_{processes}"] = found
    if not result["trials"]:
        sys.exit("error: not even one trial ended in time: give more seconds= or a smaller trial=")
    best = max(result["trials"].values(), key=lambda trial: trial["samples_per_second"])["processes"]
    place, limit = folder / f"generate-{settings.model}-{settings.grid}.zarr", end - CHECKING - time.monotonic()
    found = make(settings, place, settings.samples, best, limit)
    stored = describe(open_store(place), place)
    cut_short = {"seconds": limit, "processes": best, "samples_per_second": stored["complete"] / limit}
    result["data_set"] = (found or cut_short) | stored
    publish("Generation on a GPU", result, settings.json)  # should the reading be cut short
    result["data_set"] |= read(open_store(place), end)
    publish("Generation on a GPU", result, settings.json)


def make(settings: DictConfig, place: Path, samples: int, processes: int, limit: float) -> dict[str, Any] | None:
    """Make a new data set in at most `limit` seconds; the generator's numbers, or None where it was interrupted."""
    shutil.rmtree(place, ignore_errors=True)
    summary = place.with_suffix(".json")
    summary.unlink(missing_ok=True)
    keys = {key: settings[key] for key in ("model", "grid", "backend", "shard", "seed")}
    keys |= {"samples": samples, "out": place, "summary": summary}
    crew = ["cluster=local", "cluster.dashboard=0"] if processes > 1 else []
    if processes > 1:
        crew.append(f"cluster.{'per_device' if settings.backend == 'cuda' else 'workers'}={processes}")
    command = [sys.executable, "-m", "engine.generate", *(f"{key}={value}" for key, value in keys.items()), *crew]
    running = subprocess.Popen(command)
    try:
        code = running.wait(max(limit, 1.0))
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
        running.wait()
        return None
    if code:
        sys.exit(f"error: the generator ended with {code}")
    return dict(json.loads(summary.read_text()))


def describe(store: Store, place: Path) -> dict[str, Any]:
    """Rows, size and content of a store."""
    complete = int(store.complete.sum())
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return {
        "complete": complete, "wanted": len(store), "gigabytes": size / 1e9,
        "kilobytes_per_sample": size / 1e3 / max(complete, 1), "content": content(store),
    }  # fmt: skip


def read(store: Store, end: float) -> dict[str, Any]:
    """Read as many shards as the time allows, in random order, each row against its checksum."""
    started, there = time.monotonic(), store.complete
    checked, damaged = 0, 0
    shards = [store.shards[number] for number in np.random.default_rng(0).permutation(len(store.shards))]
    for first in range(0, len(shards), AT_A_TIME):
        if checked and time.monotonic() > end - LEFT:
            break
        some = shards[first : first + AT_A_TIME]
        damaged += len(find_damage(store, some))
        checked += sum(int(there[rows.start : rows.stop].sum()) for rows in some)
    return {"checked": checked, "damaged": damaged, "reading_seconds": time.monotonic() - started}


if __name__ == "__main__":
    main()
