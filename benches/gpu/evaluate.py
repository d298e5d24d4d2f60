"""Time of a network's answer on the GPU, beside the scores that learn.evaluate wrote, if there are any yet.

python benches/gpu/evaluate.py weights=NAME metrics=DIR/metrics.json json=evaluate.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import arguments, machine, publish

from engine.command import require
from learn import Estimator
from learn.weights import load_weights

REPEATS = 50
BATCHES = (1, 32)


def main() -> None:
    """Time the network and gather the scores."""
    settings = arguments({"weights": None, "metrics": None, "json": None}, __doc__)
    result: dict[str, Any] = {
        "machine": machine(),
        "weights": str(settings.weights),
        "tiny": not torch.cuda.is_available(),
    }
    if settings.metrics is not None:
        scores = json.loads(Path(settings.metrics).read_text())
        result["scores"] = {key: value for key, value in scores.items() if isinstance(value, int | float)}
    estimator = load_weights(str(require(settings, "weights")))
    result["model"] = estimator.metadata["model"]
    result["inference_ms"] = {f"batch_{size}": milliseconds(estimator, size) for size in BATCHES}
    publish("Networks on a GPU", result, settings.json)


def milliseconds(estimator: Estimator, size: int) -> float:
    """Median time of a batch through the first network, images already where it computes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = estimator.network.to(device).eval()
    images = torch.zeros((size, 1, *estimator.crop.shape), device=device)
    times = []
    with torch.inference_mode():
        for _ in range(REPEATS if device.type == "cuda" else 3):
            started = time.perf_counter()
            network(images)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


if __name__ == "__main__":
    main()
