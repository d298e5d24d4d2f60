"""The model card that stands beside a weights file: what a person must know before using the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTENT = (
    "Estimates the parameters of a brain tumor growth model from two tumor masks (T1Gd-visible core and "
    "FLAIR-visible edema) in atlas space. For research only; not a medical device. Outside the ranges of its "
    "training data its answers are not reliable: "
)
USE = {
    "fisher_kolmogorov": "`morph` checks and refines them.",
    "mass_effect": "`morph` does not use it.",
}
"""What becomes of the answers of each model's networks."""


def model_card(metadata: Mapping[str, Any], parameters: int) -> str:
    """Markdown text of a card.

    Args:
        metadata: the header of the weights (learn.weights); sections without content are left out.
        parameters: number of trainable parameters.
    """
    grid, atlas = metadata["grid"], metadata["atlas"]
    facts = {
        "model": metadata["model"],
        **({"coupling [kPa]": metadata["coupling"]} if metadata.get("coupling") else {}),
        "scheme": metadata["scheme"],
        "physics version": metadata["physics_version"],
        "atlas": f"{atlas['name']} ({atlas['content_hash'][:12]})",
        "grid": f"{' x '.join(map(str, grid['shape']))} at {grid['spacing']:g} mm",
        "predicts": _answer(metadata),
        "network": f"{metadata['architecture']['filters']} filters, {parameters:,} parameters",
        "prior": _inline(metadata.get("prior", "")),
    }
    sections = [f"# {metadata['name']}", INTENT + USE[metadata["model"]], _table(facts)]
    for title in ("training", "accuracy"):
        if metadata.get(title):
            sections += [f"## {title.capitalize()}", _table(metadata[title])]
    if metadata.get("limits"):
        sections += ["## Limits", "\n".join(f"- {sentence}" for sentence in metadata["limits"])]
    return "\n\n".join(sections) + "\n"


def _answer(metadata: Mapping[str, Any]) -> str:
    names = ", ".join(target["name"] for target in metadata["targets"])
    components = metadata.get("components", 0)
    return f"{names}, as a mixture of {components} Gaussians" if components else names


def _table(facts: Mapping[str, Any]) -> str:
    rows = [f"| {key} | {_inline(value)} |" for key, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_inline(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_inline(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
