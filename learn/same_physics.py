"""Networks and stores belong together only if both know the same physics on the same grid of the same brain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine import InputError, Store
from engine.model import model_of
from learn.estimator import Estimator


def refuse_old_physics(store: Store) -> None:
    """Only learn from, and compare with, what this program would simulate again.

    Raises:
        InputError: the store is of another version of the physics.
    """
    version, ours = store.attributes.get("physics_version"), model_of(store.attributes).physics_version
    if version != ours:
        raise InputError(
            f"the store {store.place} was simulated with physics version {version}, this program has version "
            f"{ours}: generate it again with python -m engine.generate"
        )


def refuse_other_physics(estimator: Estimator, store: Store) -> None:
    """Only bring a network together with simulations of the kind that it learned, and that are simulated here.

    Args:
        estimator: the network.
        store: the simulations.

    Raises:
        InputError: model, coupling, scheme, the version of the physics or what `refuse_other_brain` compares differ.
    """
    learned, given = estimator.metadata, store.attributes
    refuse_old_physics(store)
    kinds = {
        "model": (learned["model"], given["model"]),
        "coupling": (learned.get("coupling", given.get("coupling")), given.get("coupling")),
        "scheme": (learned["scheme"], given["scheme"]),
        "physics version": (learned["physics_version"], given["physics_version"]),
    }
    _refuse_differences(kinds, estimator, "weights")
    refuse_other_brain(estimator, store, "weights")


def refuse_other_brain(estimator: Estimator, store: Store, key: str) -> None:
    """Only bring a network together with simulations on the same voxels of the same brain.

    Args:
        estimator: the network.
        store: the simulations.
        key: the setting that chose the network, which the sentence names.

    Raises:
        InputError: grid or atlas differ.
    """
    learned, given = estimator.metadata, store.attributes
    kinds = {
        "grid": (list(learned["grid"]["shape"]), list(given["grid"]["shape"])),
        "spacing": (learned["grid"]["spacing"], given["grid"]["spacing"]),
        "atlas": (learned["atlas"]["content_hash"][:12], given["atlas"]["content_hash"][:12]),
    }
    _refuse_differences(kinds, estimator, key)


def _refuse_differences(kinds: Mapping[str, tuple[Any, Any]], estimator: Estimator, key: str) -> None:
    for kind, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise InputError(
                f"the weights {estimator.metadata['name']} were trained for {kind} {ours}, the store has {theirs}: "
                f"give {key}= that were trained on such a store"
            )
