"""Which physics made a store: attributes that decide what its rows are, and that no other physics extends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.errors import InputError

IDENTITY = (
    "schema_version", "physics_version", "model", "coupling", "scheme", "atlas.content_hash", "grid", "prior", "seed",
    "shard", "backend", "instruction_set",
)  # fmt: skip
"""Attributes that must agree before a store is extended: rounding decides which proposals pass the size filter."""


def identity_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a store's attributes that decide what its rows are; with a dot in the key an entry of one."""
    return {key: _entry(attributes, key) for key in IDENTITY}


def refuse_other_physics(place: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to extend a store whose identity differs; the sentence names the first difference."""
    normal = json.loads(json.dumps(dict(wanted)))
    for key in IDENTITY:
        before, now = _entry(found, key), _entry(normal, key)
        if before != now:
            raise InputError(f"store {place} was made with {key}={before}, not {now}: write to another place")


def _entry(attributes: Mapping[str, Any], key: str) -> Any:
    """An attribute, or with a dot in the key an entry of one."""
    value: Any = attributes
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
