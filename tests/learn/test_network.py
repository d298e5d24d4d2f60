"""The network: the paper's size, what a crop changes, where the anchored form starts, and that it can learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine import Store
from learn.crop import Crop
from learn.dataset import TumorDataset
from learn.network import CORE_CENTER, InverseNetwork, image_moments
from learn.targets import Targets

JOINT = ("mu1", "mu2", "origin_x", "origin_y", "origin_z")


def make_image(*shape: int) -> torch.Tensor:
    """A box of edema with a box of core inside."""
    image = torch.zeros(1, 1, *shape)
    image[..., 8:16, 8:16, 8:16] = 0.333
    image[..., 10:13, 10:14, 10:15] = 0.999
    return image


def test_the_papers_network_has_its_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in InverseNetwork().parameters()) == 1_792_837


@pytest.mark.parametrize("outputs", [2, 3, 5])
def test_any_image_size_gives_all_outputs(outputs: int) -> None:
    network = InverseNetwork(filters=2, outputs=outputs)
    assert network(torch.zeros(3, 1, 32, 40, 24)).shape == (3, outputs)


def test_a_crop_at_multiples_of_the_stride_sees_the_same_features() -> None:
    torch.manual_seed(0)
    network = InverseNetwork(filters=2).eval()
    image = torch.rand(1, 1, 64, 64, 64)
    with torch.inference_mode():
        whole = network.stem(image)
        part = network.stem(image[..., 16:48, 8:56, 2:62])
    # Two features at each border see the padding instead of the voxels beyond it.
    torch.testing.assert_close(part[..., 2:-2, 2:-2, 2:-2], whole[..., 10:22, 6:26, 3:29])


def test_moments_of_a_known_image() -> None:
    x, y, z = torch.meshgrid(*[torch.arange(20.0)] * 3, indexing="ij")
    moments = image_moments(make_image(20, 20, 20), torch.stack([x, y, z]))[0]
    assert moments.shape == (16,)
    core, edema = moments[:8], moments[8:]
    np.testing.assert_allclose(core[0], np.log10(3 * 4 * 5) - 2, atol=1e-6)
    np.testing.assert_allclose(core[1], np.log10(2 * (3 * 4 + 4 * 5 + 5 * 3)) - 2, atol=1e-6)
    np.testing.assert_allclose(core[CORE_CENTER], [11, 11.5, 12], atol=1e-5)
    np.testing.assert_allclose(core[5:] / 4, [np.std(range(3)), np.std(range(4)), np.std(range(5))], atol=1e-3)
    np.testing.assert_allclose(edema[CORE_CENTER], [11.5, 11.5, 11.5], atol=1e-5)


def test_moments_of_an_empty_image_are_finite() -> None:
    assert torch.isfinite(image_moments(torch.zeros(2, 1, 4, 4, 4), torch.rand(3, 4, 4, 4))).all()


def test_the_anchored_network_starts_at_the_center_of_the_core(
    make_network: Callable[..., InverseNetwork], store: Store, joint: Targets, image: np.ndarray
) -> None:
    crop = Crop.around(store.load_atlas())
    with torch.inference_mode():
        encoded = make_network(JOINT)(torch.from_numpy(crop.apply(image).copy())[:, None])
    predicted = joint.decode(encoded.numpy())
    core = np.argwhere(image[0] > 0.5).mean(axis=0)
    np.testing.assert_allclose(predicted["origin"][0], store.grid.from_voxel(core), atol=1e-4)


@pytest.mark.parametrize("anchored", [False, True])
def test_it_overfits_four_samples(
    make_network: Callable[..., InverseNetwork], store: Store, joint: Targets, anchored: bool
) -> None:
    atlas = store.load_atlas()
    data = TumorDataset(store, np.arange(4), joint, atlas.tissue, Crop.around(atlas), fixed_thresholds=True)
    image, target = torch.stack([data[i][0] for i in range(4)]), data.encoded
    network = make_network(JOINT, anchored, filters=16).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(60):
        loss = (network(image) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 2e-3


def test_bfloat16_gradients_are_close_to_float32(make_network: Callable[..., InverseNetwork]) -> None:
    """The last features of this network are thinner than the kernel, where oneDNN alone gets them wrong."""
    network = make_network(JOINT, anchored=False)
    image = make_image(32, 48, 32).repeat(13, 1, 1, 1, 1)
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = network(image)
        output.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    difference = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert float(difference) < 0.1
