"""Training on a GPU: samples a second, and whether a stopped training goes on.

    python benches/gpu/train.py seconds=480 out=DIR json=train.json -- data=runs/fk.zarr out=DIR epochs=60

What follows `--` goes to `learn.train`. It is stopped when the time is over; the same command goes on from its last
finished epoch. The rate is that of whole epochs, validation included, the first one of a stretch left out.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, machine, publish

from engine import open_store
from learn.resume import LOCK

EPOCH = re.compile(r"epoch (\d+)/(\d+)")
DEFAULTS = {"seconds": 480, "tiny": False, "out": "results/gpu/train", "json": None}
LARGEST, MOST = 16 * 2**20, 8
"""Bytes of a file and number of files that a results folder should not exceed, so that it can be carried."""


def main() -> None:
    """Train for a while and report; a tiny run stops and goes on once."""
    if "--" not in sys.argv:
        sys.exit("error: give the settings of learn.train after --, such as -- data=runs/fk.zarr")
    at = sys.argv.index("--")
    given = sys.argv[at + 1 :]
    del sys.argv[at:]
    settings = arguments(DEFAULTS, __doc__)
    result: dict[str, Any] = {"machine": machine(), "tiny": settings.tiny, "settings": " ".join(given)}
    data = next((word.split("=", 1)[1] for word in given if word.startswith("data=")), None)
    if data is None:
        sys.exit("error: data= is missing after --: name a store of simulations")
    store = open_store(data)
    result |= {"model": store.attributes["model"], "samples": int((store.split == "train").sum())}
    epochs, first = train(given, settings.seconds, stop_after=1 if settings.tiny else None)
    if settings.tiny:
        again, _ = train(given, settings.seconds)
        result["resumed_at_epoch"] = again[0][0] if again else 0
        epochs += again
    result |= {"epochs": epochs[-1][0] if epochs else 0, "of": first}
    lengths = np.diff([moment for _, moment in epochs])
    if len(lengths):
        result["samples_per_second"] = result["samples"] / float(np.median(lengths))
    (Path(settings.out) / LOCK).unlink(missing_ok=True)
    result |= carried(Path(settings.out))
    publish("Training on a GPU", result, settings.json)


def train(given: list[str], seconds: float, stop_after: int | None = None) -> tuple[list[tuple[int, float]], int]:
    """Run `learn.train`; the epochs that ended, with their moments [s], and how many are wanted.

    Args:
        given: its settings.
        seconds: after which it is stopped.
        stop_after: stop it after so many epochs.
    """
    running = subprocess.Popen([sys.executable, "-m", "learn.train", *given], stdout=subprocess.PIPE, text=True)
    is_over = threading.Event()

    def stop() -> None:
        is_over.set()
        running.send_signal(signal.SIGTERM)

    timer = threading.Timer(seconds, stop)
    timer.start()
    ended, wanted = [], 0
    assert running.stdout is not None
    for line in running.stdout:
        print(line, end="", flush=True)
        if match := EPOCH.match(line):
            ended.append((int(match[1]), time.monotonic()))
            wanted = int(match[2])
            if len(ended) == stop_after:
                time.sleep(1.0)  # the checkpoint is written after the line
                running.send_signal(signal.SIGKILL)
    code = running.wait()
    timer.cancel()
    if code > 0 and not ended and not is_over.is_set():
        sys.exit(f"error: learn.train ended with {code}")
    return ended, wanted


def carried(folder: Path) -> dict[str, Any]:
    """Files that lie in the folder itself, and whether they and the result are few and small enough to be carried."""
    files = [file for file in folder.glob("*") if file.is_file()]
    largest = max((file.stat().st_size for file in files), default=0)
    return {
        "files": len(files),
        "largest_MiB": largest / 2**20,
        "can_be_carried": len(files) < MOST and largest < LARGEST,
    }


if __name__ == "__main__":
    main()
