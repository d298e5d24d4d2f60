"""One generator at a time writes a store.

A local store has a lock file beside it, which its process takes with it when it dies. In an object store there is
no such thing: a generator puts an object there that must not exist yet, and renews it; one that has not been renewed
for `LEASE` seconds belongs to a dead generator and is taken over. Both are safe against a generator that is cut off
and comes back: equal rows have equal bytes, whoever writes them.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.errors import InputError
from engine.places import LEASE_OBJECT, TAKEN, UNREACHABLE, is_url, object_store, reason

LEASE = 30.0
"""Seconds for which an object stays somebody's; long against a request, short against a human's patience (ours)."""
RENEWALS = 5
"""Times that a lease is renewed before it would run out."""


@contextmanager
def locked(place: str | Path) -> Iterator[None]:
    """Let only this generator write a store until the block ends.

    Raises:
        InputError: another generator writes it, or the place cannot be written.
    """
    with _leased(str(place)) if is_url(place) else _file_locked(Path(place)):
        yield


@contextmanager
def file_locked(path: Path, what: str, busy: str) -> Iterator[None]:
    """Hold a lock file until the block ends; the folder is made.

    Args:
        path: of the lock.
        what: cannot be written where the lock cannot, such as `the store fk.zarr`.
        busy: what to say when somebody holds it.

    Raises:
        InputError: somebody holds it, or it cannot be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(busy) from error
    except OSError as error:
        raise InputError(f"cannot write {what}: {reason(error)}") from error
    with lock:
        yield


def _file_locked(place: Path) -> AbstractContextManager[None]:
    return file_locked(place.with_name(place.name + ".lock"), f"the store {place}", str(_busy(place)))


@contextmanager
def _leased(url: str) -> Iterator[None]:
    store, owner = object_store(url), json.dumps({"host": platform.node(), "process": os.getpid()}).encode()
    try:
        tag = _take(store, url, owner)
    except UNREACHABLE as error:
        raise InputError(f"cannot write the store {url}: {reason(error)}") from error
    ended, tags = threading.Event(), [tag]
    renewing = threading.Thread(target=_renew, args=(store, owner, tags, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(*UNREACHABLE):
            if store.head(LEASE_OBJECT)["e_tag"] == tags[-1]:
                store.delete(LEASE_OBJECT)


def _take(store: Any, url: str, owner: bytes) -> str:
    """Put the lease, or wait until one that is there has run out; returns its tag."""
    with suppress(*TAKEN):
        return store.put(LEASE_OBJECT, owner, mode="create")["e_tag"]
    seen = store.head(LEASE_OBJECT)["e_tag"]
    print(f"{url} has a lease: seeing for {LEASE:.0f} s whether its generator lives", flush=True)
    threading.Event().wait(LEASE)
    try:
        return store.put(LEASE_OBJECT, owner, mode={"e_tag": seen})["e_tag"]
    except (*TAKEN, FileNotFoundError) as error:
        raise _busy(url) from error


def _renew(store: Any, owner: bytes, tags: list[str], ended: threading.Event) -> None:
    """Put the lease anew from time to time; end when it is somebody else's."""
    while not ended.wait(LEASE / RENEWALS):
        try:
            tags.append(store.put(LEASE_OBJECT, owner, mode={"e_tag": tags[-1]})["e_tag"])
        except TAKEN:
            return
        except UNREACHABLE:
            continue  # a network that comes back within the lease has done no harm


def _busy(place: str | Path) -> InputError:
    return InputError(f"another generator is writing {place}: wait for it, or write to another place")
