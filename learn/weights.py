"""Trained networks as files: one .safetensors that says everything about itself, and a model card beside it.

The header's JSON holds what is needed to use the network (architecture, targets, grid, crop) and what it was
trained on (model, scheme, atlas, prior, training). Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine import Grid, InputError
from learn.crop import Crop
from learn.mixture import Mixture
from learn.model_card import model_card
from learn.network import InverseNetwork
from learn.targets import Targets

SHIPPED = Path(__file__).parent / "weights_shipped"
SUFFIX = ".safetensors"
HEADER = "learn_morph_infer"
"""Key of the JSON in the file's header; a file without it holds other weights."""
REQUIRED = ("name", "architecture", "targets", "grid", "crop", "model", "scheme", "atlas")


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """One file: a network with the meaning of its input and output."""

    network: InverseNetwork
    targets: Targets
    crop: Crop
    metadata: dict[str, Any]
    path: Path

    @property
    def mixture(self) -> Mixture | None:
        """How the outputs describe a distribution; None if they are a point."""
        components = self.metadata.get("components", 0)
        return Mixture(components, len(self.targets)) if components else None

    def outputs(self, images: NDArray[np.float32], batch_size: int = 32) -> torch.Tensor:
        """What the network says of images on the full grid (B, x, y, z): (B, outputs), float32."""
        cropped = np.ascontiguousarray(self.crop.apply(images), dtype=np.float32)
        with torch.inference_mode():
            parts = [self.network(batch[:, None]) for batch in torch.from_numpy(cropped).split(batch_size)]
        return torch.cat(parts).float()

    def predict(self, images: NDArray[np.float32], batch_size: int = 32) -> dict[str, NDArray[np.float64]]:
        """Physical columns for images on the full grid, see `Estimator.predict`."""
        outputs = self.outputs(images, batch_size)
        point = outputs if self.mixture is None else self.mixture.mean(outputs)
        return self.targets.decode(point.numpy())

    def sample(self, images: NDArray[np.float32], count: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Draws from the distribution of each tumor, see `Estimator.sample`."""
        if self.mixture is None:
            raise InputError(f"the weights {self.metadata['name']} predict a point, not a distribution: use predict")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = self.mixture.distribution(self.outputs(images)).sample((count,)).transpose(0, 1)  # (B, count, q)
        columns = self.targets.decode(drawn.reshape(-1, len(self.targets)).numpy())
        return {name: values.reshape(len(images), count, *values.shape[1:]) for name, values in columns.items()}


@dataclass(frozen=True, eq=False)
class Estimator:
    """One network, or several that predict different quantities of the same tumor.

    Raises:
        InputError: the parts were trained for different grids, atlases or physics, or predict the same twice.
    """

    parts: tuple[TrainedNetwork, ...]

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        for part in self.parts[1:]:
            for key in ("grid", "atlas", "model", "scheme", "physics_version"):
                ours, theirs = self.metadata.get(key), part.metadata.get(key)
                if None not in (ours, theirs) and ours != theirs:
                    raise InputError(
                        f"weights {self.metadata['name']} and {part.metadata['name']} differ in their {key}: "
                        "keep only networks in a folder that were trained on the same store"
                    )
        names = [name for part in self.parts for name in part.targets.names]
        if len(set(names)) < len(names):
            raise InputError(f"the weights predict {', '.join(names)}: keep one network for each quantity")

    @property
    def name(self) -> str:
        """The names of all networks."""
        return " + ".join(part.metadata["name"] for part in self.parts)

    @property
    def is_distribution(self) -> bool:
        """Whether one network predicts a joint distribution, which `sample` draws from."""
        return len(self.parts) == 1 and self.parts[0].mixture is not None

    @property
    def network(self) -> InverseNetwork:
        """The first network."""
        return self.parts[0].network

    @property
    def targets(self) -> Targets:
        """All predicted quantities."""
        return Targets(quantity for part in self.parts for quantity in part.targets.quantities)

    @property
    def crop(self) -> Crop:
        """The box that the first network sees."""
        return self.parts[0].crop

    @property
    def metadata(self) -> dict[str, Any]:
        """The header of the first network."""
        return self.parts[0].metadata

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the networks were read from."""
        return tuple(part.path for part in self.parts)

    @property
    def grid(self) -> Grid:
        """The grid of the images."""
        grid = self.metadata["grid"]
        return Grid(tuple(grid["shape"]), grid["spacing"], tuple(grid["corner"]))

    def predict(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Physical parameters of tumors.

        Args:
            images: `engine.render_image` of each tumor on the full grid, (B, x, y, z).

        Returns:
            name -> (B,), such as `mu1` [mm] and `mu2` [1], and `origin` (B, 3) as a fraction of the grid.

        Raises:
            InputError: the images have another shape than the network's grid, or values outside [0, 1].
        """
        self._refuse_other_images(images)
        columns: dict[str, NDArray[np.float64]] = {}
        for part in self.parts:
            columns |= part.predict(images)
        return columns

    def sample(self, images: NDArray[np.float32], count: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Draws from the joint distribution of each tumor's parameters that a network predicts.

        Args:
            images: as of `predict`, (B, x, y, z).
            count: draws a tumor.
            seed: of the draws.

        Returns:
            name -> (B, count), `origin` (B, count, 3); the thresholds, too, if the network predicts them.

        Raises:
            InputError: as `predict`; or there are several networks, or one that predicts a point.
        """
        self._refuse_other_images(images)
        if len(self.parts) > 1:
            raise InputError(f"{len(self.parts)} networks have no joint distribution: give one that predicts all")
        return self.parts[0].sample(images, count, seed)

    def _refuse_other_images(self, images: NDArray[np.float32]) -> None:
        if images.ndim != 4 or images.shape[1:] != self.grid.shape:
            raise InputError(
                f"images have shape {images.shape}: the network {self.metadata['name']} needs "
                f"(batch, {', '.join(map(str, self.grid.shape))}) at {self.grid.spacing:g} mm"
            )
        if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise InputError("images have values outside [0, 1]: make them with engine.render_image")


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
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the network that its header describes: train it again") from error
    return TrainedNetwork(network.eval(), targets, crop, metadata, path)


def shipped_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def default_weights(model: str, grid_shape: tuple[int, int, int]) -> str:
    """Name of the shipped weights for a model on a grid.

    Raises:
        InputError: none are shipped for it.
    """
    for name in shipped_weights():
        metadata = read_metadata(SHIPPED / f"{name}{SUFFIX}")
        if metadata["model"] == model and tuple(metadata["grid"]["shape"]) == tuple(grid_shape):
            return name
    shape = " x ".join(str(n) for n in grid_shape)
    raise InputError(f"no weights for {model} at {shape} voxels are shipped: train some and give weights=FILE")
