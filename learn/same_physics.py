"""Networks and stores belong together only if both know the same physics on the same grid of the same brain."""

from __future__ import annotations

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


def refuse_other_physics(estimator: Estimator, store: Store, key: str = "weights") -> None:
    """Only bring a network together with simulations of the kind that it learned, and that are simulated here.

    Args:
        estimator: the network.
        store: the simulations.
        key: the setting that chose the network, which the sentence names.

    Raises:
        InputError: model, coupling, scheme, grid, atlas or the version of the physics differ.
    """
    learned, given = estimator.metadata, store.attributes
    refuse_old_physics(store)
    kinds = {
        "model": (learned["model"], given["model"]),
        "coupling": (learned.get("coupling", given.get("coupling")), given.get("coupling")),
        "scheme": (learned["scheme"], given["scheme"]),
        "physics version": (learned["physics_version"], given["physics_version"]),
        "grid": (list(learned["grid"]["shape"]), list(given["grid"]["shape"])),
        "spacing": (learned["grid"]["spacing"], given["grid"]["spacing"]),
        "atlas": (learned["atlas"]["content_hash"][:12], given["atlas"]["content_hash"][:12]),
    }
    for kind, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise InputError(
                f"the weights {learned['name']} were trained for {kind} {ours}, the store has {theirs}: "
                f"give {key}= that were trained on such a store"
            )
