"""Weights: what is saved is what is loaded, and nothing else is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import InputError, Store
from learn import weights
from learn.estimator import Estimator, TrainedNetwork
from learn.network import InverseNetwork
from learn.weights import HEADER, default_weights, load_weights, read_metadata

JOINT = ("mu1", "mu2", "origin_x", "origin_y", "origin_z")
GROWTH, ORIGIN = JOINT[:2], JOINT[2:]

Save = Callable[..., Path]


@pytest.mark.parametrize("anchored", [True, False])
def test_round_trip(
    save_network: Save,
    make_network: Callable[..., InverseNetwork],
    store: Store,
    image: np.ndarray,
    tmp_path: Path,
    anchored: bool,
) -> None:
    estimator = load_weights(save_network(tmp_path / "net.safetensors", JOINT, anchored))
    assert estimator.grid == store.grid
    assert estimator.targets.names == JOINT
    predicted = estimator.predict(image)
    assert {name: values.shape for name, values in predicted.items()} == {
        "mu1": (1,),
        "mu2": (1,),
        "origin": (1, 3),
    }
    with torch.inference_mode():
        cropped = torch.from_numpy(estimator.crop.apply(image).copy())[:, None]
        expected = make_network(JOINT, anchored)(cropped)
    np.testing.assert_allclose(predicted["mu1"], estimator.targets.decode(expected.numpy())["mu1"], rtol=1e-5)


def test_the_header_says_what_the_network_was_trained_on(save_network: Save, store: Store, tmp_path: Path) -> None:
    metadata = read_metadata(save_network(tmp_path / "net", JOINT))
    for key in ("model", "scheme", "physics_version", "atlas", "grid", "prior"):
        assert metadata[key] == store.attributes[key]


def test_a_card_is_written_whole_or_not_at_all(
    save_network: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_network(tmp_path / "net", JOINT)
    card = path.with_suffix(".md")
    before = card.read_text()
    replace = Path.replace

    def fail_at_the_card(self: Path, target: Path) -> Path:
        if target == card:
            raise OSError("killed")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_card)
    with pytest.raises(OSError, match="killed"):
        save_network(tmp_path / "net", JOINT, scheme="gliomasolver")
    assert card.read_text() == before


def test_weights_have_the_mode_of_any_new_file(save_network: Save, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (save_network(tmp_path / "net", JOINT), tmp_path / "plain")}
    assert len(modes) == 1


def test_the_model_card_tells_a_person(save_network: Save, tmp_path: Path) -> None:
    save_network(tmp_path / "net", JOINT, accuracy={"count": 500, "mu1_relative_error_median": 0.123456})
    card = (tmp_path / "net.md").read_text()
    for words in ("not a medical device", "fisher_kolmogorov", "sri24", "## Accuracy", "0.1235"):
        assert words in card


def test_a_folder_of_two_networks_is_one_estimator(save_network: Save, image: np.ndarray, tmp_path: Path) -> None:
    save_network(tmp_path / "growth", GROWTH)
    save_network(tmp_path / "origin", ORIGIN)
    estimator = load_weights(tmp_path)
    assert estimator.targets.names == JOINT
    assert [path.name for path in estimator.files] == ["growth.safetensors", "origin.safetensors"]
    assert set(estimator.predict(image)) == {"mu1", "mu2", "origin"}


def test_networks_that_do_not_belong_together_are_refused(save_network: Save, tmp_path: Path) -> None:
    save_network(tmp_path / "growth", GROWTH)
    save_network(tmp_path / "origin", ORIGIN, scheme="gliomasolver")
    with pytest.raises(InputError, match="differ in their scheme"):
        load_weights(tmp_path)
    save_network(tmp_path / "origin", ORIGIN, physics_version=0)
    with pytest.raises(InputError, match="differ in their physics_version"):
        load_weights(tmp_path)
    save_network(tmp_path / "origin", ORIGIN)
    assert load_weights(tmp_path).targets.names == JOINT
    save_network(tmp_path / "origin", JOINT)
    with pytest.raises(InputError, match="one network for each quantity"):
        load_weights(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no weights nothing"):
        load_weights("nothing")
    with pytest.raises(InputError, match=r"has no \.safetensors"):
        load_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02}q\x00."])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights(path)


def test_a_truncated_file_is_refused(save_network: Save, tmp_path: Path) -> None:
    path = save_network(tmp_path / "net", JOINT)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights(path)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="another program"):
        load_weights(tmp_path / "other.safetensors")


@pytest.mark.parametrize("damage", [{"filters": 8}, {"outputs": 3}, {"filters": None}])
def test_a_header_that_does_not_fit_is_refused(save_network: Save, tmp_path: Path, damage: dict[str, int]) -> None:
    path = save_network(tmp_path / "net", JOINT)
    metadata = read_metadata(path)
    metadata["architecture"] |= damage
    save_file(load_file(path), path, metadata={HEADER: json.dumps(metadata)})
    with pytest.raises(InputError, match="does not hold the network"):
        load_weights(path)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 16, 16, 16), np.float32), "images have shape"),
        (np.zeros((32, 32, 32), np.float32), "images have shape"),
        (np.full((1, 32, 32, 32), np.nan, np.float32), "outside"),
        (np.full((1, 32, 32, 32), 4.0, np.float32), "outside"),
    ],
)
def test_images_that_do_not_fit_are_refused(save_network: Save, tmp_path: Path, images: np.ndarray, words: str) -> None:
    estimator = load_weights(save_network(tmp_path / "net", JOINT))
    with pytest.raises(InputError, match=words):
        estimator.predict(images)


@pytest.mark.gpu
def test_a_network_answers_on_the_gpu_as_on_the_host(
    save_network: Save, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_network(tmp_path / "net", JOINT)
    there = load_weights(path)
    found = there.predict(image)
    assert next(there.network.parameters()).is_cuda
    monkeypatch.setattr("learn.estimator.computing_device", lambda: torch.device("cpu"))
    for name, values in load_weights(path).predict(image).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-2)  # convolutions may run in TF32 there


def test_shipped_weights_are_found_by_name_model_and_grid(
    save_network: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    save_network(tmp_path / "fk_joint_quarter", JOINT)
    assert default_weights("fisher_kolmogorov", (32, 32, 32)) == "fk_joint_quarter"
    assert isinstance(load_weights("fk_joint_quarter"), Estimator)
    assert isinstance(load_weights("fk_joint_quarter").parts[0], TrainedNetwork)
    with pytest.raises(InputError, match="16 x 16 x 16"):
        default_weights("fisher_kolmogorov", (16, 16, 16))
    with pytest.raises(InputError, match="mass_effect"):
        default_weights("mass_effect", (32, 32, 32))


@pytest.mark.parametrize("name", weights.shipped_weights())
def test_what_is_shipped_loads_and_has_a_measured_accuracy(name: str) -> None:
    metadata = load_weights(name).metadata
    assert metadata["accuracy"]["count"] >= {"fisher_kolmogorov": 500, "mass_effect": 200}[metadata["model"]]
    assert (weights.SHIPPED / f"{name}.safetensors").stat().st_size < 8e6
    card = (weights.SHIPPED / f"{name}.md").read_text()
    for score in ("dice_0.01_mean", "dice_0.1_mean", "dice_0.8_mean", "mu1_relative_error_median"):
        low, high = metadata["accuracy"][f"{score}_interval"]
        assert low < metadata["accuracy"][score] < high and f"{score}_interval" in card


def test_the_card_of_what_patients_start_from_says_who_measured_what_and_where_it_is_weak() -> None:
    assert default_weights("fisher_kolmogorov", (64, 64, 64)) == "fk_joint_half"
    metadata = load_weights("fk_joint_half").metadata
    accuracy, training = metadata["accuracy"], metadata["training"]
    assert accuracy["split"] == "test" and accuracy["data_seed"] == training["data_seed"]
    assert accuracy["version"] and accuracy["commit"] and "dirty" not in accuracy["commit"]
    limits = (weights.SHIPPED / f"{metadata['name']}.md").read_text().split("## Limits")[1]
    for words in ("Small tumors", "Brain stem", "Trained on exact masks", "not known"):
        assert words in limits
