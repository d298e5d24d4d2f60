"""What a sample costs in a store: bytes, and time of one core to write and to read, for several codecs.

    python benches/codecs.py grid=full samples=32 json=result.json

Real densities are generated first. The codecs are timed alone, then the store as it is: `write` is everything that
follows the solver (half precision, volumes, checksum, compression, files), `read` a random density, `read_part` only
the brain's bounding box of one. The process is held on one core, writing is counted in processor time; files are
read from the page cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from report import arguments, machine, publish

from engine import GRIDS, PRIORS, Atlas, Store, load_atlas
from engine.backends.cpu import CpuBackend
from engine.layout import COMPRESSION
from engine.recipe import Recipe, describe, this_machine
from engine.store import create_store

CODECS = (
    ("zstd", 1, 1), ("zstd", 3, 1), ("zstd", 5, 1), ("zstd", 9, 1), ("zstd", 3, 2), ("zstd", 5, 2), ("zstd", 3, 0),
    ("lz4", 5, 1), ("lz4", 5, 2), ("lz4hc", 9, 1), ("zlib", 5, 1), ("blosclz", 5, 1),
)  # fmt: skip
"""Name, level, and shuffle: 0 none, 1 bytes, 2 bits."""
LARGE = 100_000
"""Samples of the data set whose size is told."""
SHUFFLES = ("plain", "shuffle", "bitshuffle")


def main() -> None:
    """Measure and report."""
    settings = arguments({"grid": "full", "samples": 32, "shard": 16, "seed": 0, "json": None}, __doc__)
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    recipe = Recipe(atlas, PRIORS["whole_brain"], settings.seed, "converged", CpuBackend())
    rows, _ = recipe.accept(range(settings.samples))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    blosc.set_nthreads(1)
    fields = [row["density"].astype(np.float16) for row in rows]
    result: dict[str, Any] = {"machine": machine(), "grid": settings.grid, "samples": settings.samples}
    result["chosen"] = f"{COMPRESSION.cname.value} {COMPRESSION.clevel} {COMPRESSION.shuffle.value}"
    for name, level, shuffle in CODECS:
        result[f"{name} {level} {SHUFFLES[shuffle]}"] = time_codec(blosc.Blosc(name, level, shuffle), fields)
    with tempfile.TemporaryDirectory() as folder:
        about = describe(atlas, recipe.prior, recipe.seed, recipe.scheme, settings.shard, this_machine(recipe.backend))
        store = create_store(Path(folder) / "bench.zarr", settings.samples, about)
        result["store"] = time_store(store, rows, atlas)
    publish("Storage", result, settings.json)


def time_codec(codec: blosc.Blosc, fields: list[NDArray[np.float16]]) -> dict[str, float]:
    """Size and times of a codec over some densities, means of the best of three."""
    encoded = [codec.encode(field) for field in fields]
    for field, data in zip(fields, encoded, strict=True):
        assert np.array_equal(np.frombuffer(codec.decode(data), np.float16), field.ravel())
    size = float(np.mean([len(data) for data in encoded]))
    return {
        "kB": size / 1e3,
        f"GB of {LARGE}": size * LARGE / 1e9,
        "encode_ms": float(np.mean([best(lambda f=field: codec.encode(f)) for field in fields])),
        "decode_ms": float(np.mean([best(lambda d=data: codec.decode(d)) for data in encoded])),
    }


def time_store(store: Store, rows: list[dict[str, Any]], atlas: Atlas) -> dict[str, float]:
    """Milliseconds a sample to write and to read through the store, and its bytes."""
    writing = []
    store.write_shard(0, [rows[i] for i in store.shards[0]])  # once for the libraries to wake up
    for shard in store.shards:
        started = time.process_time()  # of all threads: compression has its own
        store.write_shard(shard.start, [rows[i] for i in shard])
        writing.append(1000 * (time.process_time() - started) / len(shard))
    order = np.random.default_rng(0).permutation(len(store))
    box = atlas.bounding_box()
    size = sum(file.stat().st_size for file in Path(store.place).rglob("*") if file.is_file()) / len(store)
    return {
        "kB": size / 1e3,
        f"GB of {LARGE}": size * LARGE / 1e9,
        "write_ms": float(np.median(writing)),
        "read_ms": float(np.median([best(lambda r=int(row): store.density(r), 1) for row in order])),
        "read_part_ms": float(np.median([best(lambda r=int(row): store.density(r, box), 1) for row in order])),
    }


def best(call: Callable[[], Any], times: int = 3) -> float:
    """Shortest time of a call [ms]."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds)


if __name__ == "__main__":
    main()
