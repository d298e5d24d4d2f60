"""What a network has seen already: only the rest says how accurate it is.

A data set's samples depend on its seed and their number alone, and so does the split of each (`engine.rows.split_of`,
asserted by `learn.datamodule.split_rows`). So of a data seed that a network learned from, directly or through the
weights that it began with, the test split is unseen, however long the stores are; of any other seed everything is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine import InputError, Store
from learn.estimator import Estimator

UNSEEN = "test"
"""The split that neither trains a network nor chooses its best epoch."""


def data_seeds(metadata: Mapping[str, Any]) -> list[int]:
    """Seeds of the stores that weights learned from, their own first, then those of the weights they began with.

    Args:
        metadata: the header of the weights.

    Raises:
        InputError: the weights began with others and do not say what those learned from.
    """
    training = metadata.get("training", {})
    if "data_seeds" in training:
        return list(training["data_seeds"])
    if "start" in training:
        raise InputError(
            f"the weights {metadata['name']} began with {training['start']} and do not say what those learned from: "
            "train them again"
        )
    return [training["data_seed"]] if "data_seed" in training else []


def seeds_of(estimator: Estimator) -> list[int]:
    """The data seeds of all networks of an estimator, see `data_seeds`."""
    return sorted({seed for part in estimator.parts for seed in data_seeds(part.metadata)})


def has_seen(estimator: Estimator, store: Store, split: str) -> bool:
    """Whether some samples of a store's split trained one of the networks, or chose its best epoch."""
    return store.attributes["seed"] in seeds_of(estimator) and split != UNSEEN


def refuse_fresh_samples(estimator: Estimator, store: Store) -> None:
    """Never test on what a network learned from new simulations, which know no splits.

    Raises:
        InputError: a network, or the one it began with, was trained on new simulations with the store's seed, which are
            the store's samples.
    """
    for part in estimator.parts:
        if store.attributes["seed"] in part.metadata.get("training", {}).get("fresh_seeds", []):
            raise InputError(
                f"the weights {part.metadata['name']} were trained on simulations of seed {store.attributes['seed']}, "
                f"which made {store.place} as well: give data= of another seed"
            )


def refuse_seen_split(estimator: Estimator, store: Store, split: str) -> None:
    """Only samples that neither trained a network nor chose its best epoch say how accurate it is.

    Raises:
        InputError: a network, or the one it began with, learned from a store of this seed, and the split is not its
            test split.
    """
    if has_seen(estimator, store, split):
        raise InputError(
            f"publish= takes the accuracy on unseen samples, and split={split} of seed {store.attributes['seed']} has "
            f"others: use split={UNSEEN}"
        )
