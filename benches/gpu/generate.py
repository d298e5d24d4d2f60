"""Generation on a GPU, the store included: how fast, how busy the device, how large.

    python benches/gpu/generate.py samples=100000 folder=/fast/disk json=generate.json

Short runs with several numbers of processes on one GPU come first; the data set is then made with the number that was
fastest, within the time that is left (what is there by then counts), and every row is read against its checksum.
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

from omegaconf import DictConfig
from report import arguments, machine, publish

from engine import open_store
from engine.verify import content, find_damage

DEFAULTS = {
    "backend": "cuda", "grid": "full", "tiny": False, "samples": 100_000, "trial": 4000, "processes": [1, 2, 4, 6],
    "shard": 64, "seed": 0, "seconds": 540, "folder": "runs", "json": None,
}  # fmt: skip
CHECKING = 60.0
"""Seconds that are kept for reading the store."""
LAST = 0.7
"""Part of the time that is kept for the data set; what the trials leave of theirs is added."""


def main() -> None:
    """Try, make, read and report."""
    settings = arguments(DEFAULTS, __doc__)
    end = time.monotonic() + settings.seconds
    if settings.tiny:
        settings.samples, settings.trial, settings.processes, settings.shard = 24, 8, [1, 2], 4
    folder = Path(settings.folder)
    result: dict[str, Any] = {"machine": machine(), "tiny": settings.tiny, "grid": settings.grid, "trials": {}}
    for processes in settings.processes:
        if time.monotonic() < end - LAST * settings.seconds:
            limit = end - LAST * settings.seconds - time.monotonic()
            found = make(settings, folder / "trial.zarr", settings.trial, processes, limit)
            if found is not None:
                result["trials"][f"processes_{processes}"] = found
    if not result["trials"]:
        sys.exit("error: not even one trial ended in time: give more seconds= or a smaller trial=")
    best = max(result["trials"].values(), key=lambda trial: trial["samples_per_second"])["processes"]
    place, limit = folder / f"generate-{settings.grid}.zarr", end - CHECKING - time.monotonic()
    found = make(settings, place, settings.samples, best, limit)
    stored = read(place)
    cut_short = {"seconds": limit, "processes": best, "samples_per_second": stored["complete"] / limit}
    result["data_set"] = (found or cut_short) | stored
    publish("Generation on a GPU", result, settings.json)


def make(settings: DictConfig, place: Path, samples: int, processes: int, limit: float) -> dict[str, Any] | None:
    """Make a new data set in at most `limit` seconds; the generator's numbers, or None where it was interrupted."""
    shutil.rmtree(place, ignore_errors=True)
    summary = place.with_suffix(".json")
    summary.unlink(missing_ok=True)
    keys = {key: settings[key] for key in ("grid", "backend", "shard", "seed")}
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


def read(place: Path) -> dict[str, Any]:
    """Rows, size and state of what lies in a store."""
    store = open_store(place)
    started = time.monotonic()
    damaged, complete = find_damage(store), int(store.complete.sum())
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return {
        "complete": complete, "wanted": len(store), "damaged": len(damaged), "gigabytes": size / 1e9,
        "kilobytes_per_sample": size / 1e3 / max(complete, 1), "content": content(store),
        "reading_seconds": time.monotonic() - started,
    }  # fmt: skip


if __name__ == "__main__":
    main()
