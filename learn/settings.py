"""What a command was given, checked before it costs anything: a wrong value is one sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from engine import InputError
from engine.command import require

LARGEST_SEED = 2**32 - 1
"""What NumPy's global generator takes."""


def whole_number(cfg: DictConfig, key: str, lowest: int, highest: int | None = None) -> int:
    """An integer setting.

    Raises:
        InputError: it is not an integer, or not from `lowest` to `highest`.
    """
    value = cfg[key]
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
    if not fits or (highest is not None and value > highest):
        wanted = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise InputError(f"{key}={value} must be a whole number {wanted}")
    return value


def true_or_false(cfg: DictConfig, key: str) -> bool:
    """A switch, such as `freeze` or `network.anchored`.

    Raises:
        InputError: it is neither true nor false; a word such as `no` would count as true.
    """
    value = OmegaConf.select(cfg, key)
    if not isinstance(value, bool):
        raise InputError(f"{key}={value} must be true or false")
    return value


def given_path(cfg: DictConfig, key: str) -> Path:
    """A path that was given.

    Raises:
        InputError: it is missing, empty, or a number.
    """
    value = require(cfg, key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={value} is not a path: give one, such as {key}=./{value or 'NAME'}")
    return Path(value)


def require_writable(folder: Path, key: str) -> None:
    """Make a folder, and make sure that files can be written there.

    Raises:
        InputError: it cannot be written; the sentence names the `key` that chose it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): choose another {key}=") from error
