"""Everything that may go wrong in a long generation, on real data: the store must come out the same every time.

    python benches/faults.py samples=200 kills=20 grid=quarter folder=/tmp/faults json=result.json

One process makes the store; then the same samples are made by Dask workers, by a process killed (SIGKILL) at random
moments and resumed, by one interrupted (SIGINT) while it makes rows, by workers of which one is killed again and
again, and after single bytes were spoiled and repaired. The content (SHA-256 of the rows' checksums, each row read and
verified) must be equal in all of them; the program fails where it is not.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from omegaconf import DictConfig
from report import arguments, machine, publish

from engine import InputError, open_store
from engine.verify import content, find_damage

DEFAULTS = {
    "samples": 200, "kills": 20, "interruptions": 3, "workers": 2, "flips": 20, "grid": "quarter", "shard": 8,
    "seed": 0, "folder": None, "json": None,
}  # fmt: skip
INTERRUPTED = 130


def main() -> None:
    """Make the store in every way and compare."""
    settings = arguments(DEFAULTS, __doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(settings.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run_all(settings, folder)
    publish("Faults", result, settings.json)
    contents = {entry["content"] for entry in result.values() if "content" in entry}
    if len(contents) != 1:
        sys.exit(f"error: the stores differ: {contents}")


def run_all(settings: DictConfig, folder: Path) -> dict[str, Any]:
    """What became of every way to make the store."""
    rng = np.random.default_rng(settings.seed)
    result: dict[str, Any] = {"machine": machine()}
    places = {name: folder / f"{name}.zarr" for name in ("single", "workers", "killed", "interrupted", "dying")}
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
    started = time.monotonic()
    finish(settings, places["single"])
    seconds = time.monotonic() - started
    result["single"] = say("single", examine(places["single"]))
    finish(settings, places["workers"], cluster(settings))
    result["workers"] = say("workers", examine(places["workers"]))
    moments = partial(rng.uniform, 0.0, 0.5 * seconds)
    working = [bool(n % 2) for n in range(settings.kills)]
    result["killed"] = say("killed", disturb(settings, places["killed"], signal.SIGKILL, moments, working))
    working = [True] * settings.interruptions
    result["interrupted"] = say(
        "interrupted", disturb(settings, places["interrupted"], signal.SIGINT, moments, working)
    )
    result["dying"] = say("dying", kill_workers(settings, places["dying"], rng))
    result["spoiled"] = say("spoiled", spoil(settings, places["killed"], rng))
    return result


def say(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What came out of one way, as soon as it is known."""
    print(f"{name}: {entry}", flush=True)
    return entry


def command(settings: DictConfig, place: Path, more: tuple[str, ...] = ()) -> list[str]:
    """The generator's command line."""
    keys = [f"{key}={settings[key]}" for key in ("samples", "grid", "shard", "seed")]
    return [sys.executable, "-m", "engine.generate", *keys, "backend=cpu", f"out={place}", *more]


def cluster(settings: DictConfig) -> tuple[str, ...]:
    """Settings for workers of this machine."""
    return ("cluster=local", f"cluster.workers={settings.workers}", "cluster.dashboard=0")


def finish(settings: DictConfig, place: Path, more: tuple[str, ...] = ()) -> None:
    """Run the generator to its end."""
    subprocess.run(command(settings, place, more), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def examine(place: Path) -> dict[str, Any]:
    """Rows and content of a store that must be whole."""
    store = open_store(place)
    if not store.complete.all() or find_damage(store):
        sys.exit(f"error: {place} is not whole")
    return {"rows": len(store), "content": content(store)}


def disturb(
    settings: DictConfig, place: Path, sent: signal.Signals, moments: Callable[[], float], working: list[bool]
) -> dict[str, Any]:
    """Send a signal again and again, resume every time, and finish; a store that is whole too early is begun anew.

    Args:
        settings: of this program.
        place: of the store.
        sent: the signal.
        moments: draws when it is sent [s].
        working: for every signal, whether that counts from the first new rows of a run, not from its start.
    """
    rows, contents = [], set[str]()
    while len(rows) < len(working):
        before = completed(place)
        running = subprocess.Popen(command(settings, place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while working[len(rows)] and running.poll() is None and completed(place) == before:
            time.sleep(0.1)
        code = strike(running, sent, moments())
        after = completed(place)
        if after < before:
            sys.exit("error: rows that were complete are gone")
        if after and find_damage(open_store(place)):
            sys.exit("error: a complete row is damaged")
        rows += [after] if code else []
        if after == settings.samples:
            contents.add(examine(place)["content"])
            shutil.rmtree(place)
    finish(settings, place)
    result = examine(place)
    if contents - {result["content"]}:
        sys.exit(f"error: the stores differ: {contents}")
    return result | {"signals": len(rows), "rows_after_each": rows}


def strike(running: subprocess.Popen, sent: signal.Signals, moment: float) -> int:
    """Send a signal after a while [s] to a generator; returns how it ended, 0 if it was done before."""
    try:
        code = running.wait(moment)
    except subprocess.TimeoutExpired:
        running.send_signal(sent)
        code = running.wait()
    if code not in (0, -sent, INTERRUPTED):
        sys.exit(f"error: the generator ended with {code}")
    return code


def kill_workers(settings: DictConfig, place: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a random worker process now and then, until the store is there.

    Each time after new rows: a shard that runs alone (`engine.fill`) then loses one worker, and may lose more.
    """
    log = place.with_suffix(".log")
    with log.open("w") as said:
        running = subprocess.Popen(command(settings, place, cluster(settings)), stdout=said, stderr=said)
    killed, seen = 0, 0
    while running.poll() is None:
        time.sleep(float(rng.uniform(0.2, 1.0)))
        rows = completed(place)
        if rows > seen and killed < settings.kills // 4:
            seen, killed = rows, killed + kill_one(running.pid, rng)
    if running.returncode:
        sys.exit(f"error: the generator ended with {running.returncode}:\n{log.read_text()}")
    return examine(place) | {"workers_killed": killed}


def kill_one(process: int, rng: np.random.Generator) -> int:
    """Kill one worker of a generator, if it has any; returns how many were killed."""
    try:
        children = psutil.Process(process).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if workers:
            workers[int(rng.integers(len(workers)))].kill()
    except psutil.NoSuchProcess:
        return 0
    return int(bool(workers))


def spoil(settings: DictConfig, place: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Flip single bytes of a whole store's chunks; each must be found and mended."""
    files = [file for file in sorted(place.rglob("c/*")) if file.is_file()]
    files += [file for file in sorted((place / "density" / "c").rglob("0")) if file.is_file()] * 4
    found = 0
    for _ in range(settings.flips):
        file = files[int(rng.integers(len(files)))]
        data = bytearray(file.read_bytes())
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        file.write_bytes(data)
        store = open_store(place)
        found += bool(find_damage(store)) or not store.complete.all()
        repair = [sys.executable, "-m", "engine.generate", f"repair={place}"]
        subprocess.run(repair, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return examine(place) | {"bytes_flipped": settings.flips, "found": found}


def completed(place: Path) -> int:
    """Rows that are there."""
    try:
        return int(open_store(place).complete.sum())
    except InputError:
        return 0


if __name__ == "__main__":
    main()
