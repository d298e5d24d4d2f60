"""Where a store may lie: a folder, or an object store named by a URL (S3, Google Cloud, Azure, memory).

Everything is written whole under its final name, so a reader or a killed writer never sees half a chunk: a file is
renamed into place, an object appears with its last byte.

The only place that imports obstore. Credentials and endpoints are read from the environment, as obstore documents
them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import MemoryStore, from_url
from zarr.storage import LocalStore, ObjectStore

from engine.errors import InputError

LEASE_OBJECT = "generator.lock"
"""The object that says who writes a store at a URL."""
SCHEMES = ("s3", "gs", "az", "memory")
"""Kinds of URL; `memory` lives and dies with the process."""
UNREACHABLE = (OSError, BaseError)
"""What a place raises that cannot be read or written."""
TAKEN = (AlreadyExistsError, PreconditionError)
"""What a conditional write raises when somebody else was faster."""
_PARTIAL = "*.partial"
"""Files that Zarr had not yet renamed into place."""


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL and not a path."""
    return "://" in str(place)


def reason(error: Exception) -> str:
    """Why a place could not be read or written, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@lru_cache(maxsize=32)
def object_store(url: str) -> Any:
    """The obstore object behind a URL, its root the URL's path.

    Raises:
        InputError: no such kind of URL, or what it needs is missing.
    """
    scheme = url.split("://", 1)[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InputError(f"{url}: {scheme}:// is not a place for a store: use a path or one of {known}")
    try:
        return MemoryStore() if scheme == "memory" else from_url(url)
    except BaseError as error:
        raise InputError(f"{url} cannot be used: {reason(error)}") from error


def zarr_store(place: str | Path) -> LocalStore | ObjectStore:
    """What Zarr reads and writes at a place."""
    return ObjectStore(object_store(str(place))) if is_url(place) else LocalStore(str(place))


def refuse_other_content(place: str | Path) -> None:
    """Refuse to scatter arrays among files that are no store.

    Raises:
        InputError: the folder, or the URL's prefix, is not empty.
    """
    if is_url(place):
        found = (entry["path"] for page in object_store(str(place)).list(chunk_size=2) for entry in page)
        occupied = any(path != LEASE_OBJECT for path in found)
    else:
        folder = Path(place)
        occupied = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if occupied:
        raise InputError(f"{place} holds something else: name a new or empty folder")


def sweep(place: str | Path) -> None:
    """Delete the unfinished files that a killed writer left; only its lock's holder may do this."""
    if not is_url(place):
        for file in Path(place).rglob(_PARTIAL):
            file.unlink(missing_ok=True)


def delete(place: str | Path, key: str) -> None:
    """Remove one file or object of a store, if it is there."""
    if is_url(place):
        object_store(str(place)).delete(key)
    else:
        Path(place, key).unlink(missing_ok=True)


def stored_bytes(place: str | Path) -> int:
    """Bytes that a store takes at its place."""
    if is_url(place):
        return sum(entry["size"] for page in object_store(str(place)).list() for entry in page)
    return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
