"""Generate a data set of simulated tumors.

    python -m engine.generate samples=100 out=runs/fk.zarr grid=half
    python -m engine.generate verify=runs/fk.zarr

Sample i is the first proposal of its own random stream that passes the size filter, so equal seeds give equal
stores whatever was interrupted: run the same command again to resume.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from llvmlite import binding
from omegaconf import DictConfig

from engine.acceptance import accept_rows
from engine.atlas import Atlas, load_atlas
from engine.backends import Backend, choose_backend
from engine.command import INTERRUPTED, require, run_command
from engine.errors import InputError
from engine.fisher_kolmogorov import PHYSICS_VERSION, SCHEMES
from engine.grid import GRIDS
from engine.progress import progress
from engine.sampling import PRIORS, Prior
from engine.store import SCHEMA_VERSION, Store, create_store, open_store


def main(config: DictConfig) -> int:
    """Generate, resume or verify; returns the exit code."""
    if config.verify is not None:
        return verify(config.verify)
    out = str(require(config, "out"))
    samples, shard, seed = (_whole(config, key, low) for key, low in (("samples", 1), ("shard", 1), ("seed", 0)))
    if config.scheme not in SCHEMES:
        raise InputError(f"scheme {config.scheme!r} is unknown: use {' or '.join(SCHEMES)}")
    prior, grid = _named("prior", config.prior.name, PRIORS), _named("grid", config.grid.name, GRIDS)
    files = _atlas_files(config) if "files" in config.atlas else None
    atlas = load_atlas(files or config.atlas.name, grid)
    backend = choose_backend(config.backend)
    about = describe(atlas, prior, seed, config.scheme, shard, backend, files)
    with locked(out):
        store = create_store(out, samples, about)
        return fill(store, atlas, prior, backend)


def fill(store: Store, atlas: Atlas, prior: Prior, backend: Backend) -> int:
    """Generate every incomplete shard of a store; returns the exit code."""
    complete = store.complete
    shards = [range(a, min(a + store.shard, len(store))) for a in range(0, len(store), store.shard)]
    waiting = [rows for rows in shards if not complete[rows.start : rows.stop].all()]
    have = int(sum(len(rows) for rows in shards) - sum(len(rows) for rows in waiting))
    started, proposals, written = time.monotonic(), 0, 0
    seed, scheme = int(store.attributes["seed"]), str(store.attributes["scheme"])
    try:
        with progress("generate", len(store), have) as advance:
            for rows in waiting:
                accepted, tried = accept_rows(rows, seed, scheme, atlas, prior, backend)
                _write(store, rows, accepted)
                proposals, written = proposals + tried, written + len(rows)
                rate = written / (time.monotonic() - started)
                advance(len(rows), f"{rate:.1f} samples/s, {100 * written / proposals:.0f}% of proposals accepted")
    except KeyboardInterrupt:
        print(f"interrupted: {have + written} of {len(store)} rows are complete; run the same command to resume")
        return INTERRUPTED
    seconds = time.monotonic() - started
    print(f"{store.place}: {len(store)} rows complete, {written} new in {seconds:.0f} s ({proposals} proposals)")
    return 0


def describe(
    atlas: Atlas, prior: Prior, seed: int, scheme: str, shard: int, backend: Backend, files: Any = None
) -> dict[str, Any]:
    """The attributes of a store: all that decides its content, and the versions that wrote it."""
    grid = atlas.grid
    about: Mapping[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "physics_version": PHYSICS_VERSION,
        "model": "fisher_kolmogorov",
        "scheme": scheme,
        "atlas": {"name": atlas.name, "content_hash": atlas.content_hash, "files": files},
        "grid": {"shape": list(grid.shape), "spacing": grid.spacing, "corner": list(grid.corner)},
        "prior": asdict(prior),
        "seed": int(seed),
        "shard": int(shard),
        "backend": backend.name,
        "instruction_set": instruction_set(),
        "code_version": metadata.version("learn-morph-infer"),
        "units": "mm, day; origin in fractions of the grid's extent, axes RAS",
    }
    return dict(about)


def instruction_set() -> str:
    """Architecture and widest vectors of this machine: NumPy's rounding of sin and exp depends on them."""
    features = binding.get_host_cpu_features()
    widest = next((name for name in ("avx512f", "avx2", "sve", "neon") if features.get(name)), "scalar")
    return f"{platform.machine()}-{widest}"


def verify(place: str) -> int:
    """Re-read every row against its checksum; returns 0 when all are complete and intact, 1 otherwise."""
    store = open_store(place)
    complete = store.complete
    damaged = [row for rows in store.shards for row in store.damaged(rows)]
    print(f"{place}: {int(complete.sum())} of {len(store)} rows complete, {len(damaged)} damaged")
    if damaged:
        print(f"damaged rows: {damaged}")
    return 0 if not damaged and bool(np.all(complete)) else 1


@contextmanager
def locked(place: str) -> Iterator[None]:
    """Let only one generator write a local store; the lock dies with its process.

    Raises:
        InputError: another generator writes it, or the place cannot be written.
    """
    if "://" in place:
        yield
        return
    lock = FileLock(place.rstrip("/") + ".lock")
    try:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another generator is writing {place}: wait for it, or write to another place") from error
    except OSError as error:
        raise InputError(f"cannot write the store {place}: {error.strerror or error}") from error
    with lock:
        yield


def _write(store: Store, rows: range, accepted: list[dict[str, Any]]) -> None:
    try:
        store.write_shard(rows.start, accepted)
    except OSError as error:
        done = int(store.complete.sum())
        raise InputError(
            f"cannot write the store {store.place}: {error.strerror or error}; {done} rows are complete, "
            "make room and run the same command again"
        ) from error


def _whole(config: DictConfig, key: str, lowest: int) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InputError(f"{key}={value} must be a whole number, at least {lowest}")
    return value


def _atlas_files(config: DictConfig) -> dict[str, str]:
    """Absolute paths of a user's own atlas, so that the store can be read from any folder."""
    return {key: str(Path(str(require(config.atlas.files, key))).resolve()) for key in config.atlas.files}


def _named(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise InputError(f"{kind} {name!r} is unknown: use {' or '.join(table)}")
    return table[name]


if __name__ == "__main__":
    run_command(main, "generate")
