"""Training: it learns, keeps what it learned from, and refuses what it cannot learn from."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from safetensors.torch import load_file

from engine import InputError, Store
from engine.command import TERMINATED, compose
from engine.version import commit, package_version
from learn.build import build_network, start_from, use_channels_last
from learn.crop import Crop
from learn.module import InverseModule, Optimization
from learn.network import InverseNetwork
from learn.seen import data_seeds
from learn.targets import Targets
from learn.train import main, training_facts
from learn.weights import load_weights
from tests.learn.short_training import WEIGHTS, train


def test_training_leaves_usable_weights(finished: Path, image: np.ndarray) -> None:
    estimator = load_weights(finished / WEIGHTS)
    assert estimator.metadata["training"]["epochs"] == 3
    assert 0 < estimator.predict(image)["mu1"][0] < 100
    assert (finished / WEIGHTS).with_suffix(".md").is_file()
    assert list(finished.glob("logs/*/metrics.csv"))


def test_a_place_that_cannot_be_written_is_refused(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        train(store_path, tmp_path / "file" / "out")


def test_two_networks_lie_together_and_answer_as_one(
    store_path: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "fk_direct", tmp_path / "fk_two_nets"
    train(store_path, first, "experiment=fk_direct", "epochs=1", "count=8")
    assert {path.name for path in first.glob("*.safetensors")} == {
        "fk_growth_direct_quarter.safetensors", "fk_origin_quarter.safetensors"
    }  # fmt: skip
    assert set(load_weights(first).predict(image)) == {"diffusivity", "proliferation", "duration", "origin"}
    assert load_weights(first).metadata["training"]["samples"]["train"] == 8

    # The network for the origin is the same training in both experiments: its folder can be taken over.
    shutil.copytree(first / "fk_origin", second / "fk_origin")
    shutil.copy(first / "fk_origin_quarter.safetensors", second)
    trained: list[tuple[str, ...]] = []
    step = InverseModule.training_step
    monkeypatch.setattr(
        InverseModule, "training_step", lambda self, *rest: (trained.append(self.targets.names), step(self, *rest))[1]
    )
    train(store_path, second, "experiment=fk_two_nets", "epochs=1", "count=8")
    assert set(trained) == {("mu1", "mu2")}
    assert set(load_weights(second).predict(image)) == {"mu1", "mu2", "origin"}


def test_a_distribution_is_trained_from_given_convolutions(
    finished: Path, store_path: Path, store: Store, tmp_path: Path, image: np.ndarray
) -> None:
    start = finished / WEIGHTS
    train(store_path, tmp_path, "experiment=fk_posterior", f"start={start}", "freeze=true", "epochs=1", "components=2")
    estimator = load_weights(tmp_path / "fk_posterior_quarter.safetensors")
    before, after = load_file(start), load_file(tmp_path / "fk_posterior_quarter.safetensors")
    for name in before:
        if not name.startswith("head"):
            assert torch.equal(before[name], after[name]), name
    assert estimator.is_distribution
    assert estimator.metadata["training"]["data_seeds"] == [0]
    drawn = estimator.sample(image, 5, seed=1)
    assert drawn["origin"].shape == (1, 5, 3)
    assert set(estimator.predict(image)) == set(drawn) == {"mu1", "mu2", "origin", "core_threshold", "edema_threshold"}
    assert all(np.array_equal(drawn[name], values) for name, values in estimator.sample(image, 5, seed=1).items())
    with pytest.raises(InputError, match="another stem"):
        train(store_path, tmp_path / "other", f"start={start}", "network.filters=5")
    pushed = copy.copy(store)
    pushed.attributes = store.attributes | {"model": "mass_effect", "physics_version": 9}
    start_from(load_weights(start).network, str(start), freeze=False, store=pushed)
    coarse = load_weights(start).network
    coarse.pool = 2
    with pytest.raises(InputError, match=r"give network\.pool=1"):
        start_from(coarse, str(start), freeze=False, store=store)
    with pytest.raises(InputError, match="other scales of the origin"):
        train(store_path, tmp_path / "other", f"start={start}", "ablation=paper_scale")
    with pytest.raises(InputError, match=r"were trained for grid .* give start="):
        train(store_path, tmp_path / "other", "start=fk_joint_half")
    with pytest.raises(InputError, match="name the weights with start="):
        train(store_path, tmp_path / "other", "freeze=true")
    with pytest.raises(InputError, match="predict a point"):
        load_weights(start).sample(image, 5)


def test_weights_keep_the_seeds_of_all_that_they_learned_from(
    finished: Path, store: Store, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    """Through any number of `start=`."""
    first = save_network(tmp_path / "first", ("mu1",), training={"data_seed": 3, "fresh_seeds": [4]})
    older = {"data_seed": 2, "data_seeds": [2, *data_seeds(load_weights(first).metadata)]}
    second = save_network(tmp_path / "second", ("mu1",), training=older)
    config = compose("train", [f"start={second}", "seed=9"])
    data = SimpleNamespace(store=store, rows={}, augmentation=None)
    facts = training_facts(config, data, Optimization())  # type: ignore[arg-type]
    assert facts["data_seeds"] == [0, 2, 3]
    with pytest.raises(InputError, match="do not say what those learned from"):
        data_seeds({"name": "old", "training": {"data_seed": 1, "start": "older"}})


def test_layout_in_memory_changes_no_answer(make_network: Callable[..., InverseNetwork], image: np.ndarray) -> None:
    network = make_network(("mu1", "mu2"), anchored=False)
    before = network(torch.from_numpy(image)[None])
    use_channels_last(network)
    torch.testing.assert_close(network(torch.from_numpy(image)[None]), before)


def test_without_the_crop_the_network_sees_the_whole_grid(
    store: Store, store_path: Path, tmp_path: Path, image: np.ndarray
) -> None:
    train(store_path, tmp_path, "crop=false", "epochs=1", "count=8")
    estimator = load_weights(tmp_path / WEIGHTS)
    assert tuple(estimator.metadata["crop"]["stop"]) == store.grid.shape
    assert np.isfinite(estimator.predict(image)["mu1"]).all()


def test_an_experiment_refuses_another_models_simulations(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"me_joint learns from simulations of mass_effect, and .* fisher_kolmogorov"):
        train(store_path, tmp_path, "experiment=me_joint")


def test_a_store_of_an_older_physics_is_refused(
    store: Store, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy.copy(store)
    other.attributes = store.attributes | {"physics_version": 0}
    monkeypatch.setattr("learn.train.open_store", lambda place: other)
    with pytest.raises(InputError, match="physics version 0, this program has"):
        train(store_path, tmp_path)
    assert not (tmp_path / "settings.json").exists()


def test_data_must_be_given() -> None:
    with pytest.raises(InputError, match="data"):
        main(compose("train", []))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("out=5", "out=5 is not a path"),
        ("batch_size=0", "batch_size=0 must be a whole number of at least 1"),
        ("epochs=0", "epochs=0 must"),
        ("epochs=1.5", r"epochs=1\.5 must"),
        ("workers=-1", "workers=-1 must"),
        ("count=0", "count=0 must"),
        ("count=5000", "count=5000: the store has only"),
        ("cache_gb=much", "cache_gb=much must"),
        ("seed=-1", "seed=-1 must be a whole number from 0 to 4294967295"),
        ("seed=4294967296", "seed=4294967296 must"),
        ("seed=null", "seed=None must"),
        ("+optimizer.momentum=0.9", "no setting momentum: choose from learning_rate"),
        ("optimizer.learning_rate=fast", r"optimizer\.learning_rate=fast must"),
        ("+network.depth=50", "network has no setting depth: choose from filters"),
        ("network.anchored=no", r"network\.anchored=no must be true or false"),
        ("freeze=yes", "freeze=yes must be true or false"),
        ("crop=no", "crop=no must be true or false"),
        ("resume=nope", "resume=nope must be true or false"),
        ("+trainer.accumulate_grad_batches=4", "trainer has no setting accumulate_grad_batches"),
        ("scaling=5", "scaling=5 names no quantities"),
        ("scaling={mu1:{weight:true}}", "weight of mu1 is True"),
        ("scaling={coupling:{weight:2}}", "coupling, which fk_joint does not predict"),
        ("network.filters=many", r"network\.filters=many"),
        ("network.filters=[8,8,8,0]", "one for each of 4 blocks"),
        ("trainer.accelerator=abacus", "Lightning refuses"),
        ("trainer.devices=[0,1]", "Lightning refuses"),
        ("name=a/b", "without slashes"),
        ("name=null", "name is not given"),
        ("cache_gb=nan", "a number of GB"),
        ("targets=mu1", "not a list"),
    ],
)
def test_a_wrong_value_is_one_sentence(store_path: Path, tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        train(store_path, tmp_path, setting)
    assert "\n" not in str(refused.value)


def test_a_training_that_was_ended_is_not_a_finished_one(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's answer to SIGTERM carries no exit status."""

    def end(*_: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(InverseModule, "on_train_batch_end", end)
    with pytest.raises(SystemExit) as ended:
        train(store_path, tmp_path)
    assert ended.value.code == TERMINATED


def test_a_card_says_which_program_trained_it(finished: Path) -> None:
    training = load_weights(finished / WEIGHTS).metadata["training"]
    assert training["version"] == package_version() and training["commit"] == commit() != ""


def test_divergence_is_said_in_a_sentence(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged"):
        train(store_path, tmp_path, "optimizer.learning_rate=1e30", "optimizer.gradient_clip=0")


def test_an_anchored_network_measures_places_as_its_targets_do(store: Store) -> None:
    atlas, names = store.load_atlas(), [f"origin_{axis}" for axis in "xyz"]
    targets = Targets.named(names, {name: {"bounds": [0, 1]} for name in names})
    context = build_network(4, True, targets, atlas, Crop.around(atlas)).context
    assert context is not None
    places = atlas.grid.from_voxel(np.array(Crop.around(atlas).start))
    np.testing.assert_allclose(targets.decode(context[:3, 0, 0, 0].numpy()[None])["origin"][0], places, atol=1e-6)
