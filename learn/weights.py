"""Trained networks as files: one .safetensors that says everything about itself, and a model card beside it.

The header's JSON holds what is needed to use the network (architecture, targets, grid, crop) and what it was
trained on (model, scheme, atlas, prior, training). Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine import InputError
from learn.crop import Crop
from learn.estimator import Estimator, TrainedNetwork
from learn.model_card import model_card
from learn.network import InverseNetwork
from learn.targets import Targets

SHIPPED = Path(__file__).parent / "weights_shipped"
SUFFIX = ".safetensors"
HEADER = "learn_morph_infer"
"""Key of the JSON in the file's header; a file without it holds other weights."""
REQUIRED = ("name", "architecture", "targets", "grid", "crop", "model", "scheme", "physics_version", "atlas")


def save_weights(path: str | Path, network: InverseNetwork, metadata: Mapping[str, Any]) -> Path:
    """Write a network and its model card, each whole or not at all.

    Args:
        path: of the .safetensors file; the suffix may be left out. The card goes beside it as .md.
        network: what to save.
        metadata: JSON values with the keys of `REQUIRED`; `architecture` is filled in here.

    Returns:
        The path of the .safetensors file.
    """
    path = weights_path(path)
    header = {
        **metadata,
        "architecture": {
            "filters": network.filters,
            "outputs": network.outputs,
            "origin_outputs": list(network.origin_outputs),
            "pool": network.pool,
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    card = model_card(header, sum(p.numel() for p in network.parameters()))
    _write_whole(path, save(tensors, metadata={HEADER: json.dumps(header)}))
    _write_whole(path.with_suffix(".md"), card.encode())
    return path


def weights_path(path: str | Path) -> Path:
    """The path with the suffix of weights, which may be left out."""
    path = Path(path)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def load_weights(source: str | Path) -> Estimator:
    """The estimator of shipped weights, of a file, or of a folder of files that complement each other.

    Args:
        source: name of shipped weights such as `fk_joint_half`, or a path.

    Raises:
        InputError: there is no such file, or it is not a usable network of this project.
    """
    path = Path(source)
    shipped = SHIPPED / f"{source}{SUFFIX}"
    if path.is_dir():
        files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise InputError(f"the folder {path} has no {SUFFIX} files: name a folder of trained weights")
    elif path.is_file():
        files = [path]
    elif shipped.is_file():
        files = [shipped]
    else:
        names = ", ".join(shipped_weights()) or "none"
        raise InputError(f"there are no weights {source}: give a {SUFFIX} file, a folder, or a name of {names}")
    return Estimator(tuple(_load_file(file) for file in files))


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON header of a weights file.

    Raises:
        InputError: the file is corrupted or holds other weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
        metadata = json.loads(header) if header else {}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as weights ({error}): it is damaged, or not {SUFFIX}") from error
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise InputError(f"{path} holds weights of another program (no {missing[0]}): use learn.train's files")
    return metadata


def _load_file(path: Path) -> TrainedNetwork:
    metadata = read_metadata(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        architecture = metadata["architecture"]
        network = InverseNetwork(
            filters=architecture["filters"],
            outputs=architecture["outputs"],
            context=tensors.get("context"),
            origin_outputs=tuple(architecture["origin_outputs"]),
            pool=architecture.get("pool", 1),
        )
        network.load_state_dict(tensors)
        targets = Targets.from_metadata(metadata["targets"])
        crop = Crop(tuple(metadata["crop"]["start"]), tuple(metadata["crop"]["stop"]))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the network that its header describes: train it again") from error
    return TrainedNetwork(network.eval(), targets, crop, metadata, path)


def shipped_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def default_weights(model: str, grid_shape: tuple[int, int, int]) -> str:
    """Name of the shipped weights for a model on a grid; of several the first by name, which `fk_joint` is.

    Raises:
        InputError: none are shipped for it.
    """
    for name in shipped_weights():
        metadata = read_metadata(SHIPPED / f"{name}{SUFFIX}")
        if metadata["model"] == model and tuple(metadata["grid"]["shape"]) == tuple(grid_shape):
            return name
    shape = " x ".join(str(n) for n in grid_shape)
    raise InputError(f"no weights for {model} at {shape} voxels are shipped: train some and give weights=FILE")
