"""The inverse network: from one three-valued image of a tumor to the parameters that grew it.

    image (B, 1, x, y, z)
      -> convolution k7 s2 -> 4 blocks of 4 convolutions k3 with a skip over the block, halved after blocks 1-3
      -> global average -> linear -> (B, outputs), scaled to [-1, 1] (learn.targets)

With 64 filters, 5 outputs and one input channel these are the paper's 1,792,837 parameters.

Global pooling forgets where things are, so the *anchored* form adds what the paper's network must guess:
  - a context of the atlas (coordinates, white and gray matter) enters the first layer; it is the same for every
    image, so its convolution is computed once a batch;
  - sizes, surfaces, centers and spreads of both masks, computed directly from the image, and the places where the
    features of the second block are strongest join the pooled features;
  - the origin is predicted as an offset from the center of the core.

Source: Ezhov et al., Learn-Morph-Infer (2023), section 2.3 and the authors' code; the anchored form is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BLOCKS = 4
KERNEL = 3
MIDDLE = 1
"""The block whose features, 14 mm apart at 3.6 mm, still say where things are."""
CONVOLUTIONS_PER_BLOCK = 4
LEAST_SIZE = 15
"""Voxels along an axis that survive the stem's stride and a halving after each block but the last."""
COORDINATES = 3
"""The first channels of a context: where each voxel is, in the encoded units of the origin's targets."""
MOMENTS = 2 * (2 + 2 * COORDINATES)
"""Log volume, log surface, center and spread of the core and of the edema mask."""
CORE_CENTER = slice(2, 2 + COORDINATES)
"""Where the moments hold the center of the core: 13 mm (median) from the origin, the edema's is at 17 mm."""
CORE_LEVEL, EDEMA_LEVEL = 0.5, 0.1
"""Image values that separate 0, 0.333 and 0.999 (engine.imaging)."""


class Block(nn.Module):
    """Four convolutions k3 with ReLU and a skip over all of them; `still` starts it as the skip alone.

    Where the number of channels changes, the skip is a convolution k1.
    """

    def __init__(self, before: int, filters: int, still: bool) -> None:
        super().__init__()
        channels = [before] + [filters] * (CONVOLUTIONS_PER_BLOCK - 1)
        convolutions = [nn.Conv3d(entering, filters, KERNEL, padding=1) for entering in channels]
        self.convolutions = nn.ModuleList(convolutions)
        self.skip = nn.Identity() if before == filters else nn.Conv3d(before, filters, 1, bias=False)
        self.apply(initialize)
        if still:
            nn.init.zeros_(convolutions[-1].weight)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, before, x, y, z) to features (B, filters, x, y, z)."""
        skipped = self.skip(features)
        for convolution in self.convolutions:
            features = torch.relu(convolution(features))
        return features + skipped


class InverseNetwork(nn.Module):
    """Predicts encoded tumor parameters from an image.

    Args:
        filters: channels of every convolution, or of each block's in turn, >= 1. Early blocks work on many
            voxels and late ones on few, so growing numbers buy more for the same time.
        outputs: number of predicted quantities, >= 1.
        context: atlas channels (channels, x, y, z), float32, coordinates first; None builds the paper's network.
            Images must then have exactly the context's size.
        origin_outputs: which outputs are the origin's x, y, z (anchored form only), maybe several times over; empty
            if none is.
        pool: the convolutions see means over pool³ voxels, >= 1; the moments see every voxel.
    """

    context: Tensor | None
    head: nn.Linear | nn.Sequential

    def __init__(
        self,
        filters: int | Sequence[int] = 64,
        outputs: int = 5,
        context: Tensor | None = None,
        origin_outputs: tuple[int, ...] = (),
        pool: int = 1,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.filters = (filters,) * BLOCKS if isinstance(filters, int) else tuple(filters)
        self.outputs, self.origin_outputs = outputs, tuple(origin_outputs)
        first, last = self.filters[0], self.filters[-1]
        self.anchored = context is not None
        self.stem = nn.Conv3d(1, first, kernel_size=7, stride=2, padding=3)
        pairs = zip((first, *self.filters[:-1]), self.filters, strict=True)
        self.blocks = nn.ModuleList(Block(before, after, still=self.anchored) for before, after in pairs)
        self.register_buffer("context", context)
        self.stem.apply(initialize)
        if context is None:
            self.head = nn.Linear(last, outputs)
            self.head.apply(initialize)
        else:
            self.context_stem = nn.Conv3d(len(context), first, kernel_size=7, stride=2, padding=3, bias=False)
            self.context_stem.apply(initialize)
            pooled = 2 * last + COORDINATES * self.filters[MIDDLE] + MOMENTS
            self.head = head_with_moments(pooled, 4 * last, outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Encoded predictions (B, outputs) of images (B, 1, x, y, z)."""
        features, middle = self.trunk(image)  # (B, filters, x/16, y/16, z/16), (B, filters, x/4, y/4, z/4)
        average = features.mean(dim=(2, 3, 4))  # (B, filters)
        if self.context is None:
            return self.head(average)
        moments = image_moments(image, self.context[:COORDINATES])  # (B, 16)
        peak = features.amax(dim=(2, 3, 4))  # (B, filters)
        places = feature_places(middle, self.context[:COORDINATES])  # (B, filters, 3)
        offsets = places - moments[:, None, CORE_CENTER]
        outputs = self.head(torch.cat([average, peak, offsets.flatten(1), moments], dim=1)).float()
        return self.anchor(outputs, moments)

    def trunk(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutional features of an image, after the last and after the second block."""
        features = self.stem(self.pooled(image))  # (B, filters, x/2, y/2, z/2)
        if self.context is not None:
            features = features + self.context_stem(self.pooled(self.context[None]))
        features = torch.relu(features)
        for number, block in enumerate(self.blocks):
            features = in_trusted_precision(block, features)
            if number == MIDDLE:
                middle = features
            if number < BLOCKS - 1:
                features = torch.max_pool3d(features, kernel_size=2)
        return features, middle

    def pooled(self, image: Tensor) -> Tensor:
        """Means over pool³ voxels."""
        return image if self.pool == 1 else torch.nn.functional.avg_pool3d(image, self.pool)

    def anchor(self, outputs: Tensor, moments: Tensor) -> Tensor:
        """Add the center of the core to the origin's outputs."""
        if not self.origin_outputs:
            return outputs
        shift = torch.zeros_like(outputs)
        shift[:, list(self.origin_outputs)] = moments[:, CORE_CENTER].repeat(1, len(self.origin_outputs) // COORDINATES)
        return outputs + shift


def in_trusted_precision(block: nn.Module, features: Tensor) -> Tensor:
    """A block's output; in float32, whatever autocast says, where the features are thinner than the kernel.

    There oneDNN 3.x (torch 2.13, CPU) returns bfloat16 weight gradients that are off by 100% or not finite; a
    test compares them with float32. These features are small, so the time lost is too.
    """
    if min(features.shape[2:]) >= KERNEL:
        return block(features)
    with torch.autocast(features.device.type, enabled=False):
        return block(features.float())


def feature_places(features: Tensor, coordinates: Tensor) -> Tensor:
    """Where each feature is strongest: the mean place under a softmax over all voxels, (B, filters, 3) float32.

    Unlike a mean of features, this keeps positions, and finer than the voxels.

    Args:
        features: (B, filters, x, y, z).
        coordinates: (3, X, Y, Z), encoded, averaged here onto the features' voxels.
    """
    x, y, z = features.shape[2:]
    places = torch.nn.functional.adaptive_avg_pool3d(coordinates, (x, y, z)).flatten(1)  # (3, voxels)
    weights = features.float().flatten(2).softmax(dim=2)  # (B, filters, voxels)
    with torch.autocast(features.device.type, enabled=False):
        return weights @ places.T


def image_moments(image: Tensor, coordinates: Tensor) -> Tensor:
    """Log volume, log surface, center and spread of the core, then of the edema mask.

    Args:
        image: (B, 1, x, y, z), values 0, 0.333 and 0.999.
        coordinates: (3, x, y, z), encoded.

    Returns:
        (B, 16) float32, all of order one: log10 of the numbers of voxels and of their outer faces, center and
        standard deviation along x, y, z. An empty mask counts as one voxel at 0.
    """
    with torch.autocast(image.device.type, enabled=False):
        places = coordinates.float().flatten(1)  # (3, voxels)
        basis = torch.cat([torch.ones_like(places[:1]), places, places.square()]).T  # (voxels, 7)
        parts = []
        for level in (CORE_LEVEL, EDEMA_LEVEL):
            mask = (image[:, 0] > level).float()  # (B, x, y, z)
            faces = torch.stack([mask.diff(dim=axis).abs().sum(dim=(1, 2, 3)) for axis in (1, 2, 3)])  # (3, B)
            sums = mask.flatten(1) @ basis  # (B, 7)
            count = sums[:, :1].clamp(min=1.0)
            surface = faces.sum(dim=0)[:, None].clamp(min=1.0)
            center = sums[:, 1:4] / count
            spread = (sums[:, 4:7] / count - center.square()).clamp(min=0.0).sqrt()
            parts += [count.log10() - 2.0, surface.log10() - 2.0, center, 4.0 * spread]
        return torch.cat(parts, dim=1)


def head_with_moments(pooled: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers over average, peak, places and moments.

    It starts with the answer 0: the center of the core, and the middle of every bound.
    """
    last = nn.Linear(hidden, outputs)
    head = nn.Sequential(
        nn.Linear(pooled, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(),
        last,
    )  # fmt: skip
    head.apply(initialize)
    nn.init.zeros_(last.weight)
    return head


def initialize(layer: nn.Module) -> None:
    """He initialization of one layer, zero bias."""
    if isinstance(layer, nn.Conv3d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
