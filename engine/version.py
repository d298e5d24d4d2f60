"""Which version of this program runs."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path


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
