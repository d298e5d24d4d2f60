"""Is a store whole: every row there, every byte as it was written, and a sample that can be made again.

`find_damage` reads every row against its checksum; `mend` makes the shards of missing and damaged rows absent, so
that filling the store makes only them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.errors import InputError
from engine.places import UNREACHABLE, reason
from engine.progress import progress
from engine.recipe import recipe_of
from engine.rows import checksum, halve, tabulate
from engine.store import Store, open_store
from engine.threads import available_cores

FAULTY = 1
"""Exit code when something is missing or damaged."""


def verify(place: str) -> int:
    """Check a store and print what was found; returns the exit code."""
    store = open_store(place)
    complete = store.complete
    damaged = find_damage(store)
    print(f"{place}: {int(complete.sum())} of {len(store)} rows complete, {len(damaged)} damaged")
    if damaged:
        print(f"damaged rows: {', '.join(map(str, damaged))}")
    if damaged or not complete.all():
        print(f"mend it with: python -m engine.generate repair={place}")
        return FAULTY
    print(f"content {content(store)}")
    return remake(store, int(np.random.default_rng().integers(len(store))))


def find_damage(store: Store, shards: Sequence[range] | None = None) -> list[int]:
    """Complete rows, of all or some shards, that cannot be read or are not what was written, read on all cores."""
    damaged: list[int] = []
    shards = store.shards if shards is None else shards
    with ThreadPoolExecutor(available_cores()) as pool, progress("verify", sum(map(len, shards))) as advance:
        for rows, bad in zip(shards, pool.map(store.damaged, shards), strict=True):
            damaged += bad
            advance(len(rows))
    return damaged


def mend(store: Store) -> None:
    """Make the shards of damaged rows absent, and say how many.

    Raises:
        InputError: the place cannot be written.
    """
    damaged = set(find_damage(store))
    faulty = [rows for rows in store.shards if damaged & set(rows) or not store.complete[rows.start : rows.stop].all()]
    try:
        for rows in faulty:
            store.erase(rows)
    except UNREACHABLE as error:
        raise InputError(f"cannot write the store {store.place}: {reason(error)}") from error
    print(f"{store.place}: {len(faulty)} of {len(store.shards)} shards to be made again", flush=True)


def content(store: Store) -> str:
    """A short name of what a verified store holds: equal rows, equal names."""
    return hashlib.sha256(np.ascontiguousarray(store.checksums).tobytes()).hexdigest()[:16]


def remake(store: Store, row: int) -> int:
    """Make one row again and compare; returns the exit code.

    The same bytes are promised on the kind of machine that made the store, with the same physics; elsewhere this
    says why it made nothing.
    """
    try:
        recipe = recipe_of(store.attributes, store.attributes["backend"])
    except InputError as other:
        print(f"sample {row} not made again: {other}")
        return 0
    accepted, _ = recipe.accept(range(row, row + 1))
    fields = {name: halve([accepted[0][name]]) for name in store.layout.fields}
    table = tabulate(accepted, store.layout.scalars, fields["density"], store.grid.voxel_volume)
    same = checksum(fields, table, 0) == int(store.checksums[row])
    print(f"sample {row} made again: {'the same bytes' if same else 'OTHER bytes'}")
    return 0 if same else FAULTY
