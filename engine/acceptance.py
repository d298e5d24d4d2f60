"""Which proposals become rows: the first of every sample's random stream that passes the size filter."""

from __future__ import annotations

from typing import Any

from engine.atlas import Atlas
from engine.backends import Backend
from engine.rows import split_of
from engine.sampling import Prior
from engine.simulate import simulate

WAVE = 32
"""Proposals simulated together; which one is accepted does not depend on it."""


def accept_rows(
    rows: range, seed: int, scheme: str, atlas: Atlas, prior: Prior, backend: Backend
) -> tuple[list[dict[str, Any]], int]:
    """The first accepted proposal of every sample in `rows`, and how many proposals were simulated."""
    following = dict.fromkeys(rows, 0)
    accepted: dict[int, dict[str, Any]] = {}
    tried = 0
    while len(accepted) < len(rows):
        pending = [i for i in rows if i not in accepted]
        each = max(1, WAVE // len(pending))
        wave = [(i, p) for i in pending for p in range(following[i], following[i] + each)]
        batch = [prior.propose(seed, i, p, atlas) for i, p in wave]
        result = simulate(batch, atlas, backend=backend, scheme=scheme, stop_volume=prior.size[1])
        for k, (i, p) in enumerate(wave):
            following[i] = p + 1
            kept = result.ended[k] == "duration" and prior.accepts(result.volumes[k])
            if kept and i not in accepted:
                density = result.density[k].copy()
                accepted[i] = {"density": density, "parameters": batch[k], "proposal": p, "split": split_of(seed, i)}
        tried += len(wave)
    return [accepted[i] for i in rows], tried
