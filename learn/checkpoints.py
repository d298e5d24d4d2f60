"""Checkpoints that can be carried: parts under 16 MiB beside a small file that names them.

`last.ckpt` is JSON with the names and checksums of its parts. It is replaced when all new parts are there and the old
ones go after that, so a training that is killed at any moment finds a whole checkpoint.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from engine import InputError

LARGEST_PART = 15 * 2**20
"""Bytes of a part: what many ways to carry files between machines allow is 16 MiB."""


class SplitCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints in parts; read without running anything that they contain."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the parts, then the file that names them, then remove the parts of the one before."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        parts = [content[start : start + LARGEST_PART] for start in range(0, len(content), LARGEST_PART)]
        sums = [hashlib.sha256(part).hexdigest() for part in parts]
        names = [f"{path.name}.{total[:12]}" for total in sums]
        for name, part in zip(names, parts, strict=True):
            path.with_name(name).write_bytes(part)
        fresh = path.with_name(path.name + ".partial")
        fresh.write_text(json.dumps({"parts": names, "sha256": sums}))
        fresh.replace(path)
        for old in path.parent.glob(f"{path.name}.*"):
            if old.name not in names:
                old.unlink()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            InputError: a part is missing or damaged.
        """
        content = read_parts(Path(path))
        return torch.load(io.BytesIO(content), map_location=map_location or "cpu", weights_only=True)


def read_parts(path: Path) -> bytes:
    """The content of a checkpoint.

    Args:
        path: of the file that names its parts.

    Raises:
        InputError: a part is missing or damaged.
    """
    try:
        manifest = json.loads(path.read_text())
        parts = [path.with_name(name).read_bytes() for name in manifest["parts"]]
        sums = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the checkpoint {path} is not whole ({error}): start again in another out=") from error
    if [hashlib.sha256(part).hexdigest() for part in parts] != sums:
        raise InputError(f"the checkpoint {path} is damaged: start again in another out=")
    return b"".join(parts)
