"""Settings of a command line, held against the types of the class that takes them: a wrong one is one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from engine import InputError

Settings = TypeVar("Settings")


def _whole(value: object) -> bool:
    return type(value) is int


def _finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _whole_list(value: object) -> bool:
    return isinstance(value, list) and all(_whole(item) for item in value)


KINDS: dict[Any, tuple[Callable[[object], bool], str]] = {
    int: (_whole, "a whole number"),
    float: (_finite, "a finite number"),
    str: (lambda value: isinstance(value, str), "a word"),
    tuple[int, ...]: (_whole_list, "a list of whole numbers, such as [50, 8]"),
}
"""How to recognize a value of a type, and what to call it."""


def build(kind: type[Settings], group: str, given: object, **fixed: Any) -> Settings:
    """Settings from a group of the configuration.

    Args:
        kind: a dataclass of settings.
        group: name of the group, for error messages.
        given: the group's keys and values.
        fixed: further fields, which do not come from the group.

    Raises:
        InputError: a key that the settings do not have, a value of another type, or what `kind` itself refuses.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{group}={given} is not understood: give its keys one by one, as {group}.KEY=VALUE")
    types = {name: hint for name, hint in get_type_hints(kind).items() if name not in fixed}
    for key, value in given.items():
        if key not in types:
            raise InputError(f"{group}.{key} is not known: there are {', '.join(types)}")
        fits, wanted = KINDS[types[key]]
        if not fits(value):
            raise InputError(f"{group}.{key}={value} is not {wanted}")
    return kind(**given, **fixed)
