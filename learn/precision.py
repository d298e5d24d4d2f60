"""Which numbers a training computes in: bfloat16 where the device is fast with them, float32 elsewhere.

A processor without bfloat16 instructions imitates them: a network's step takes some 25 times as long as in float32.
"""

from __future__ import annotations

import torch
from omegaconf import DictConfig

AUTO = "auto"
MIXED, FULL = "bf16-mixed", "32-true"
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these, and a processor computes bfloat16 itself (x86, x86, ARM)."""


def settle_precision(cfg: DictConfig) -> None:
    """Replace `trainer.precision=auto` by what is fast here, so that the record of a training says what it was."""
    if cfg.trainer.precision != AUTO:
        return
    on_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    cfg.trainer.precision = MIXED if has_fast_bfloat16(on_gpu) else FULL
    if cfg.trainer.precision == FULL:
        print(f"{'this GPU' if on_gpu else 'this processor'} has no bfloat16: trainer.precision={FULL}")


def has_fast_bfloat16(on_gpu: bool) -> bool:
    """Whether the GPU, or else the processor, computes bfloat16 itself."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in INSTRUCTIONS)
