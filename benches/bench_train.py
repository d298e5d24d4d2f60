"""How fast a network trains: samples a second, the share of the device's matrix rate, and what waits for what.

    python benches/bench_train.py network=paper grid=full batch=32 json=result.json
    python benches/bench_train.py network=anchored grid=half data=runs/fk_half.zarr

Forward, backward and optimizer step on random masks of the cropped input. `matrix_rate_share` is the network's
multiplications and additions a second over those of one large matrix product in the same precision on the same
device. With `data=` the loader of a training runs as well: `waiting_share` is the part of the time in which the network
waits for a batch of it. `memory_gb` is the device's peak, or on a CPU the process's.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch
from omegaconf import DictConfig
from report import arguments, machine, publish
from torch.utils.flop_counter import FlopCounterMode

from engine import GRIDS, InputError, load_atlas, open_store
from engine.command import compose
from learn.build import build_network, use_channels_last
from learn.crop import Crop
from learn.datamodule import TumorDataModule
from learn.module import InverseModule
from learn.targets import Targets

JOINT = ("mu1", "mu2", "origin_x", "origin_y", "origin_z")
MATRIX = {"cpu": 2048, "cuda": 8192}
"""Rows of the matrices whose product is the device's rate."""


def main() -> None:
    """Measure and report."""
    keys = {
        "network": "paper", "grid": "full", "batch": 32, "steps": 10, "device": "auto", "precision": "bf16",
        "channels_last": False, "threads": 0, "data": None, "json": None,
    }  # fmt: skip
    settings = arguments(keys, __doc__)
    device = torch.device("cuda" if settings.device == "auto" and torch.cuda.is_available() else "cpu")
    device = device if settings.device == "auto" else torch.device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    refuse_unknown(settings)
    half = settings.precision == "bf16"
    atlas = load_atlas("sri24", GRIDS[settings.grid])
    crop, targets, choice = Crop.around(atlas), Targets.named(JOINT), compose("train", [f"network={settings.network}"])
    network = build_network(choice.network.filters, choice.network.anchored, targets, atlas, crop, choice.network.pool)
    if settings.channels_last:
        use_channels_last(network)
    module = InverseModule(network, targets, atlas.grid.extent).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.type == "cuda")
    image = torch.randint(0, 4, (settings.batch, 1, *crop.shape), device=device) * (0.999 / 3)
    target = torch.zeros(settings.batch, len(targets), device=device)

    def step(image: torch.Tensor = image, target: torch.Tensor = target) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = module.loss(module.network(image).float(), target)
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    seconds = measure(step, settings.steps, device)
    rate = counter.get_total_flops() / seconds
    peak = matrix_rate(device, torch.bfloat16 if half else torch.float32)
    result = {
        "machine": machine(), "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(), "network": settings.network, "input": " x ".join(map(str, crop.shape)),
        "batch": settings.batch, "precision": settings.precision, "samples_per_second": settings.batch / seconds,
        "gflops_per_sample": counter.get_total_flops() / settings.batch / 1e9, "tflops": rate / 1e12,
        "matrix_tflops": peak / 1e12, "matrix_rate_share": rate / peak, "memory_gb": memory(device),
    }  # fmt: skip
    if settings.data is not None:
        result |= with_data(settings.data, targets, settings.batch, settings.steps, device, step)
    publish("Training", result, settings.json)


def refuse_unknown(settings: DictConfig) -> None:
    """Check what nothing else checks.

    Raises:
        InputError: a precision or grid is unknown, or nothing is left to measure.
    """
    for key, known in (("precision", ("bf16", "float32")), ("grid", tuple(GRIDS))):
        if settings[key] not in known:
            raise InputError(f"{key}={settings[key]} is unknown: choose from {', '.join(known)}")
    if not (settings.batch >= 1 and settings.steps >= 1):
        raise InputError(f"batch={settings.batch} and steps={settings.steps} must be >= 1")


def measure(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Median seconds of a step."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Multiplications and additions a second of a large matrix product."""
    n = MATRIX[device.type]
    a, b = (torch.randn(n, n, device=device).to(precision) for _ in range(2))
    torch.mm(a, b)
    synchronize(device)
    return 2 * n**3 / measure(lambda: torch.mm(a, b), 5, device)


def with_data(
    place: str, targets: Targets, batch: int, steps: int, device: torch.device, step: Callable[..., None]
) -> dict[str, float]:
    """Samples a second of a training's own loop, and the share of its time without a batch."""
    store = open_store(place)
    data = TumorDataModule(store, targets, Crop.around(store.load_atlas()), batch_size=batch, count=batch * (steps + 1))
    data.setup("fit")
    batches = iter(data.train_dataloader())
    step(*(tensor.to(device) for tensor in next(batches)))
    synchronize(device)
    begin, waited, count = time.perf_counter(), 0.0, 0
    while True:
        start = time.perf_counter()
        pair = next(batches, None)
        waited += time.perf_counter() - start
        if pair is None:
            break
        step(*(tensor.to(device, non_blocking=True) for tensor in pair))
        synchronize(device)
        count += len(pair[0])
    total = time.perf_counter() - begin
    return {"samples_per_second_with_data": count / total, "waiting_share": waited / total}


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> float:
    """Peak memory [GB]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
