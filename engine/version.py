"""Which version of this program runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("engine", "learn", "morph", "conf")
SOURCES = (".py", ".cu", ".yaml")


def package_version() -> str:
    """The installed version, or `not installed` in a checkout that is only on the path."""
    try:
        return metadata.version("learn-morph-infer")
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """What git calls the checkout that runs, else what LMI_COMMIT says, else `unknown`."""
    folder = Path(__file__).parents[1]
    if (folder / ".git").exists():
        asked = ["git", "describe", "--always", "--dirty"]
        try:
            return subprocess.run(asked, capture_output=True, text=True, cwd=folder, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # no git, or a repository that it does not trust
            pass
    return os.environ.get("LMI_COMMIT", "unknown")


@cache
def code_hash() -> str:
    """Hash of the sources and settings of every package: two answers with the same were made by the same program."""
    root = Path(__file__).parents[1]
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in SOURCES)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
