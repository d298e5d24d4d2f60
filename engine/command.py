"""Commands: Hydra configuration on the outside, one sentence and an exit code for whatever a user can mend.

The only place that imports Hydra.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.errors import InputError

BAD_INPUT = 2
INTERRUPTED, TERMINATED = 130, 143
"""What a shell says of a program that was ended by SIGINT, and by SIGTERM."""
_CONFIG_MODULE = "conf"
_SWEEPS = {"-m", "--multirun"}
_PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "optuna": "hydra_optuna_sweeper",
    "search": "hydra_optuna_sweeper",
}
"""Choices of a launcher or sweeper -> the plugin of Hydra that has them (extra `sweep`)."""
_LONGEST = 200
"""Bytes of a folder's name, of which file systems allow 255 and what is written into it needs some (ours)."""
_QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")
_PLAIN = re.compile(r"[A-Za-z0-9_./:+\-@%?|\\]*")
_STRUCTURED = re.compile(r"""\s*(["'\[{]|\$\{|\w+\().*""", re.DOTALL)


class RefusedTrial(CompactHydraException):
    """One run of a sweep was refused; the others go on. Hydra's own sweeper fails at its end, Optuna's counts it."""


Main = Callable[[DictConfig], "int | float | None"]


def run_command(main: Main, config_name: str) -> NoReturn:
    """Compose conf/<config_name>.yaml with the command line, run `main`, exit.

    Args:
        main: takes the configuration, returns an exit code (None: 0), or a float for a sweeper to minimize.
        config_name: name of a yaml in `conf`.
    """
    arguments = sys.argv[1:]
    if {"--help", "-h"} & set(arguments):
        print(help_text(main, config_name))
        sys.exit(0)
    sweeps = bool(_SWEEPS & set(arguments))
    quoted = [quote(argument, sweeps) for argument in arguments if argument not in _SWEEPS]
    try:
        _refuse_missing_plugins(arguments)
        if not any(argument.startswith("-") for argument in arguments):
            compose(config_name, quoted)  # says what is wrong in one sentence, before Hydra says it in many
    except InputError as error:
        _exit_with(error)
    sys.argv[1:] = [*["-m"] * sweeps, *quoted, *_QUIET]  # Hydra takes a flag only before or after all settings
    hydra.main(version_base="1.3", config_path=f"pkg://{_CONFIG_MODULE}", config_name=config_name)(
        lambda config: _guarded(main, config, sweeps)
    )()
    sys.exit(0)


def compose(config_name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration that a command would get, without running it.

    Raises:
        InputError: a key or value that the configuration does not have.
    """
    try:
        with hydra.initialize_config_module(_CONFIG_MODULE, version_base="1.3"):
            return hydra.compose(config_name, overrides or [])
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise InputError(f"{reason}; see --help for the keys of this command") from error


def require(config: DictConfig, key: str) -> Any:
    """The value of a key that has no default.

    Raises:
        InputError: it was not given.
    """
    value = None if OmegaConf.is_missing(config, key) else OmegaConf.select(config, key)
    if value is None:
        raise InputError(f"{key} is not given: add {key}=... to the command (see --help)")
    return value


def help_text(main: Main, config_name: str) -> str:
    """The docstring of the command's module, then its configuration with the comments that explain each key."""
    documentation = (sys.modules[main.__module__].__doc__ or "").strip()
    text = (resources.files(_CONFIG_MODULE) / f"{config_name}.yaml").read_text(encoding="utf-8")
    keys = re.sub(r"(?ms)^hydra:\n(?:[ \t].*\n?|\n)*", "", text).strip()
    return f"{documentation}\n\nKeys and defaults (give them as key=value):\n\n{keys}\n{_groups_text(text)}"


def _groups_text(text: str) -> str:
    """The default choice of every group that a configuration names, as its yaml explains it."""
    sections = []
    for group, choice in re.findall(r"(?m)^  - (\w+): (\w+)", text):
        body = (resources.files(_CONFIG_MODULE) / group / f"{choice}.yaml").read_text(encoding="utf-8").strip()
        lines = "\n".join(f"  {line}" for line in body.splitlines())
        sections.append(f"\n{group}={choice} (give its keys as {group}.key=value):\n{lines}\n")
    return "".join(sections)


def quote(argument: str, sweeps: bool = False) -> str:
    """Protect a value with ( ) , = # [ ] or accents, such as a path, from Hydra's grammar."""
    key, separator, value = argument.partition("=")
    if not separator or argument.startswith("-") or _PLAIN.fullmatch(value):
        return argument
    is_path = "/" in value or os.path.exists(value)
    if (_STRUCTURED.fullmatch(value) and not is_path) or value[:1] in "\"'$":
        return argument
    if sweeps and "," in value:
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped += "\\" * (len(value) - len(value.rstrip("\\")))
    return f"{key}='{escaped}'"


def _refuse_missing_plugins(arguments: list[str]) -> None:
    """Say which extra has the launcher or sweeper that was asked for.

    Raises:
        InputError: it is not installed.
    """
    for argument in arguments:
        group, _, choice = argument.partition("=")
        plugin = _PLUGINS.get(choice) if group in ("hydra/launcher", "hydra/sweeper") else None
        if plugin and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")):
            raise InputError(f'{argument} needs packages that are not installed: pip install -e ".[sweep]"')


def folder_name(choices: str) -> str:
    """The name of one folder for a run's choices: without the slashes of paths, and not longer than file systems allow.

    Args:
        choices: of the run, as Hydra lists them.
    """
    flat = re.sub(r"[/\\]+", "-", choices)
    if len(flat.encode()) <= _LONGEST:
        return flat
    kept = flat.encode()[:_LONGEST].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(choices.encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def _guarded(main: Main, config: DictConfig, sweeps: bool) -> float | None:
    """Run `main`; leave with its exit code unless that is 0, or give a sweeper its score."""
    try:
        result = main(config)
    except (InputError, OmegaConfBaseException) as error:
        sentence = " ".join(str(error).split())
        if not sweeps:
            _exit_with(InputError(sentence))
        print(f"error: {HydraConfig.get().job.override_dirname}: {sentence}", file=sys.stderr)
        raise RefusedTrial(sentence) from error
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if isinstance(result, int) and result:
        sys.exit(result)
    return result


def _exit_with(error: InputError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT)
