"""What every benchmark shares: key=value arguments, the machine it ran on, a table and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from engine import InputError
from engine.version import commit

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
"""What a setting must be, by its default."""


def arguments(defaults: dict[str, Any], documentation: str | None) -> DictConfig:
    """The program's settings: `defaults`, overridden by key=value on the command line.

    From here on bad input ends the program with one sentence.

    Raises:
        InputError: a value is of another kind than its default, or `json` has no folder to lie in.
    """
    sys.excepthook = _say
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((documentation or "").strip(), "\n\nKeys and defaults:\n" + OmegaConf.to_yaml(OmegaConf.create(defaults)))
        sys.exit(0)
    settings = OmegaConf.create(defaults)
    OmegaConf.set_struct(settings, True)
    try:
        merged = OmegaConf.merge(settings, OmegaConf.from_dotlist(sys.argv[1:]))
    except OmegaConfBaseException:
        print(f"error: the keys of this program are {', '.join(defaults)}, given as key=value", file=sys.stderr)
        sys.exit(2)
    assert isinstance(merged, DictConfig)
    for key, default in defaults.items():
        merged[key] = _like(key, OmegaConf.to_container(merged)[key], default)  # type: ignore[index, call-overload]
    if merged.get("json") is not None and not Path(merged.json).absolute().parent.is_dir():
        raise InputError(f"json={merged.json} cannot be written: there is no such folder")
    return merged


def _like(key: str, value: Any, default: Any) -> Any:
    """A value of the default's kind; a list of words may be given as word,word.

    Raises:
        InputError: it is of another kind.
    """
    if isinstance(default, list):
        values = value.split(",") if isinstance(value, str) else value
        if isinstance(values, list) and all(_is_like(one, default[0] if default else None) for one in values):
            return values
        raise InputError(f"{key}={value} must be a list such as {default}")
    if not _is_like(value, default):
        raise InputError(f"{key}={value} must be {KINDS[type(default)]}")
    return value


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(value, bool) or isinstance(default, bool):
        return default is None or type(value) is type(default)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return not isinstance(default, int) or isinstance(value, int)


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what a user can mend as a sentence, anything else with its traceback; the exit status is 1."""
    if issubclass(kind, InputError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def machine() -> dict[str, Any]:
    """What a number was measured on: processor, cores, GPU if there is one, commit, date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu: dict[str, str] = {}
    if shutil.which("nvidia-smi") is not None:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()
        gpu = {"gpu": names[0]} if names else {}
    return gpu | {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def publish(title: str, result: dict[str, Any], path: str | None) -> None:
    """Print a table of the result's numbers and write all of it as JSON if a path is given."""
    table = Table("quantity", "value", title=title)
    for key, value in _flat(result):
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if path is not None:
        Path(path).write_text(json.dumps(result, indent=2) + "\n")


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            rows.append((prefix + key, value))
    return rows
