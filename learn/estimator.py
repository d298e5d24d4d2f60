"""Trained networks in use: images of tumors in, physical parameters or draws from their distribution out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine import Grid, InputError
from learn.crop import Crop
from learn.mixture import Mixture
from learn.network import InverseNetwork
from learn.targets import Targets


def computing_device() -> torch.device:
    """Where networks answer: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
        """What the network says of images on the full grid (B, x, y, z): (B, outputs), float32, in the host's memory.

        It is computed on the GPU if there is one, where the network stays.
        """
        cropped = torch.from_numpy(np.ascontiguousarray(self.crop.apply(images), dtype=np.float32))
        device = computing_device()
        network = self.network.to(device)
        with torch.inference_mode():
            parts = [network(batch[:, None].to(device)).float().cpu() for batch in cropped.split(batch_size)]
        return torch.cat(parts)

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
            for key in ("grid", "atlas", "model", "coupling", "scheme", "physics_version"):
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
