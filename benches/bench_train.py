"""How fast a network trains: samples a second, the share of the device's matrix rate, and what waits for what.

    python benches/bench_train.py network=paper grid=full batch=32 json=result.json
    python benches/bench_train.py network=anchored grid=half data=runs/fk_half.zarr augmentation=outlines workers=4

A step is a training's own: forward and backward of random masks in the cropped input (`crop=false`: the whole grid),
clipped gradients, the optimizer with its schedule, and the average of the weights, as `optimizer=` says.
`matrix_rate_share` is the network's multiplications and additions a second, in the fastest step, over those of the
fastest of several matrix products in the same precision (`precision=bf16` or `float32`; by default a training's) on the
same device. With `data=`, a store on the same grid, the loader of a training runs as well: `waiting_share` is the part
of the time in which the network waits for a batch of it.
`memory_gb` is the device's peak during steps, or on a CPU the process's; densities that are kept in memory come on top.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from report import arguments, machine, publish
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine import GRIDS, InputError, Store, load_atlas, open_store
from engine.command import compose
from learn.augment import Augmentation
from learn.build import build_network, read_network, read_settings, use_channels_last
from learn.crop import Crop
from learn.datamodule import TumorDataModule
from learn.module import InverseModule, Optimization
from learn.precision import AUTO, has_fast_bfloat16
from learn.settings import true_or_false, whole_number
from learn.targets import Targets

JOINT = ("mu1", "mu2", "origin_x", "origin_y", "origin_z")
MATRIX = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
"""Rows of the matrices whose fastest product is the device's rate."""
REPEATS = 5
"""Products of each size."""
PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
"""Where Linux keeps the peak of a process's memory."""
DEVICES = ("auto", "cpu", "cuda")
DEFAULTS = {
    "network": "paper", "grid": "full", "crop": True, "batch": 32, "steps": 10, "device": "auto", "precision": "auto",
    "optimizer": "cosine", "channels_last": False, "threads": 0, "data": None, "workers": 0, "augmentation": "none",
    "json": None,
}  # fmt: skip


class Training:
    """One batch after the other through a network, as in a training."""

    def __init__(self, module: InverseModule, device: torch.device, precision: str, steps: int) -> None:
        """`steps` is the length of the schedule that the learning rate follows."""
        self.module, self.device, self.precision = module, device, precision
        self.optimizer, self.scheduler = module.optimizer_for(steps)

    def step(self, image: Tensor, target: Tensor) -> None:
        """Forward, backward, and the weights' move."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.module.loss(self.module.network(image).float(), target)
        loss.backward()
        if self.module.optimization.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.module.network.parameters(), self.module.optimization.gradient_clip)
        self.optimizer.step()
        self.scheduler.step()
        self.module.on_train_batch_end(None, None, 0)


def main() -> None:
    """Measure and report."""
    settings = arguments(DEFAULTS, __doc__)
    refuse_unknown(settings)
    device = choose_device(settings.device)
    if settings.precision == AUTO:
        settings.precision = "bf16" if has_fast_bfloat16(device.type == "cuda") else "float32"
    if settings.threads:
        torch.set_num_threads(settings.threads)
    store = None if settings.data is None else open_on_grid(str(settings.data), settings.grid)
    atlas = load_atlas("sri24", GRIDS[settings.grid]) if store is None else store.load_atlas()
    crop, targets = Crop.around(atlas) if settings.crop else Crop.whole(atlas), Targets.named(JOINT)
    groups = ("network", "optimizer", "augmentation")
    choice = compose("train", [f"{group}={settings[group]}" for group in groups])
    network = build_network(targets=targets, atlas=atlas, crop=crop, **read_network(choice))
    if settings.channels_last:
        use_channels_last(network)
    optimization = read_settings(Optimization, choice.optimizer, "optimizer")
    module = InverseModule(network, targets, atlas.grid.extent, optimization).to(device)
    training = Training(module, device, settings.precision, 1000 * settings.steps)  # the rate hardly falls meanwhile
    image = torch.randint(0, 4, (settings.batch, 1, *crop.shape), device=device) * (0.999 / 3)
    target = torch.zeros(settings.batch, len(targets), device=device)

    forget_peak(device)
    with FlopCounterMode(display=False) as counter:
        training.step(image, target)
    seconds = measure(lambda: training.step(image, target), settings.steps, device)
    used = memory(device)
    rate = counter.get_total_flops() / seconds
    peak, size = matrix_rate(device, PRECISIONS[settings.precision])
    result = {
        "machine": machine(), "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(), "network": settings.network, "optimizer": settings.optimizer,
        "input": " x ".join(map(str, crop.shape)), "batch": settings.batch, "precision": settings.precision,
        "samples_per_second": settings.batch / seconds, "tflops": rate / 1e12,
        "gflops_per_sample": counter.get_total_flops() / settings.batch / 1e9, "matrix_tflops": peak / 1e12,
        "matrix_rows": size, "matrix_rate_share": rate / peak, "memory_gb": used,
    }  # fmt: skip
    if store is not None:
        augmentation = read_settings(Augmentation, choice.augmentation, "augmentation")
        data = TumorDataModule(
            store, targets, crop, settings.batch, count=settings.batch * (settings.steps + 1),
            workers=settings.workers, augmentation=augmentation if augmentation.share else None,
        )  # fmt: skip
        result |= {"workers": settings.workers, "augmentation": settings.augmentation} | with_data(data, training)
    publish("Training", result, settings.json)


def refuse_unknown(settings: DictConfig) -> None:
    """Check what nothing else checks.

    Raises:
        InputError: a precision, device or grid is unknown, or a number or a switch is none.
    """
    for key, known in (("precision", (AUTO, *PRECISIONS)), ("device", DEVICES), ("grid", tuple(GRIDS))):
        if settings[key] not in known:
            raise InputError(f"{key}={settings[key]} is unknown: choose from {', '.join(known)}")
    for key, lowest in (("batch", 1), ("steps", 1), ("threads", 0), ("workers", 0)):
        whole_number(settings, key, lowest)
    for key in ("crop", "channels_last"):
        true_or_false(settings, key)


def choose_device(name: str) -> torch.device:
    """The device of this name; `auto` is the GPU if there is one.

    Raises:
        InputError: there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: PyTorch finds no GPU here: use device=cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def open_on_grid(place: str, grid: str) -> Store:
    """A store on the grid that is measured.

    Raises:
        InputError: it is on another one.
    """
    store = open_store(place)
    if store.grid.shape != GRIDS[grid].shape:
        fitting = [name for name, other in GRIDS.items() if other.shape == store.grid.shape]
        mend = f"give grid={fitting[0]}" if fitting else "give a store on one of the named grids"
        raise InputError(f"data={place} has {store.grid.shape} voxels, grid={grid} has {GRIDS[grid].shape}: {mend}")
    return store


def measure(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds of the fastest step: what else a machine does only ever slows one."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate(device: torch.device, precision: torch.dtype) -> tuple[float, int]:
    """Multiplications and additions a second of the fastest matrix product, and the rows of its matrices."""
    found = []
    for n in MATRIX[device.type]:
        a, b = (torch.randn(n, n, device=device).to(precision) for _ in range(2))
        torch.mm(a, b)
        synchronize(device)
        seconds = measure(lambda a=a, b=b: torch.mm(a, b), REPEATS, device)  # type: ignore[misc]
        found.append((2 * n**3 / seconds, n))
    return max(found)


def with_data(data: TumorDataModule, training: Training) -> dict[str, float]:
    """Samples a second of a training's own loop, and the share of its time without a batch."""
    device = training.device
    data.setup("fit")
    batches = iter(data.train_dataloader())
    training.step(*(tensor.to(device) for tensor in next(batches)))
    synchronize(device)
    begin, waited, count = time.perf_counter(), 0.0, 0
    while True:
        start = time.perf_counter()
        pair = next(batches, None)
        waited += time.perf_counter() - start
        if pair is None:
            break
        training.step(*(tensor.to(device, non_blocking=True) for tensor in pair))
        synchronize(device)
        count += len(pair[0])
    total = time.perf_counter() - begin
    return {"samples_per_second_with_data": count / total, "waiting_share": waited / total}


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Let the peak of memory begin anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        RESET.write_text("5")  # proc(5): the peak of the resident set


def memory(device: torch.device) -> float:
    """Peak memory [GB]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if STATUS.exists():
        return 1024 * int(STATUS.read_text().split("VmHWM:")[1].split()[0]) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
