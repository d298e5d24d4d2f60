"""Configuration: every yaml composes and describes something that can be built; sweeps leave readable folders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from engine import GRIDS, PRIORS, InputError, Store, load_anatomy
from engine.atlas import place
from engine.command import compose, help_text, run_command
from learn.augment import Augmentation
from learn.build import build_network, read_settings, read_trainer
from learn.crop import Crop
from learn.module import Optimization
from learn.network import LEAST_SIZE
from learn.targets import Targets
from learn.train import choose_crop, main, read_networks, refuse_wrong_numbers, start_module
from learn.weights import load_weights

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_is_a_training_that_can_begin(name: str) -> None:
    """At the half grid, on which the weights are that one of them begins with."""
    config = compose("train", [f"experiment={name}"])
    assert config.name == name
    refuse_wrong_numbers(config)
    read_trainer(config)
    attributes = load_weights("fk_joint_half").metadata
    atlas = place(load_anatomy("sri24"), GRIDS["half"])
    store: Any = SimpleNamespace(attributes=attributes, load_atlas=lambda: atlas)
    assert atlas.content_hash == attributes["atlas"]["content_hash"]
    optimization = read_settings(Optimization, config.optimizer, "optimizer")
    for targets in read_networks(config).values():
        crop = choose_crop(config, store)
        module = start_module(config, store, targets, crop, optimization)
        outputs = module.network(torch.zeros(1, 1, *crop.shape))
        assert outputs.shape == (1, module.mixture.outputs if module.mixture else len(targets))
        assert bool(config.components) == (module.mixture is not None)
        assert all(parameter.requires_grad for parameter in module.network.parameters())


@pytest.mark.parametrize("group", ["network", "optimizer", "augmentation"])
def test_every_choice_of_a_group_composes(group: str) -> None:
    """And what it describes can be built."""
    atlas = place(load_anatomy("sri24"), GRIDS["half"])
    for path in (CONF / group).glob("*.yaml"):
        config = compose("train", [f"{group}={path.stem}"])
        assert config[group]
        read_settings(Optimization, config.optimizer, "optimizer")
        read_settings(Augmentation, config.augmentation, "augmentation")
        network = config.network
        targets = Targets.named(config.targets)
        assert build_network(network.filters, network.anchored, targets, atlas, Crop.around(atlas), network.pool)


def test_a_network_that_would_halve_its_input_away_is_refused(store: Store) -> None:
    atlas, targets = store.load_atlas(), Targets.named(["mu1"])
    crop = Crop.around(atlas)
    pool = min(crop.shape) // LEAST_SIZE
    assert build_network(4, False, targets, atlas, crop, pool)(torch.zeros(1, 1, *crop.shape)).shape == (1, 1)
    with pytest.raises(InputError, match="needs 15 voxels"):
        build_network(4, False, targets, atlas, crop, pool + 1)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "ablation").glob("*.yaml")))
def test_an_ablation_changes_one_thing(name: str) -> None:
    plain, changed = compose("train"), compose("train", [f"ablation={name}"])
    different = {key for key in plain if plain[key] != changed[key]}
    expected = {
        "none": set(), "fresh": {"fresh", "seed"}, "outlines": {"augmentation"}, "no_anchor": {"network"},
        "paper_scale": {"scaling"}, "weighted": {"scaling"}, "no_crop": {"crop"}, "full_precision": {"trainer"},
        "channels_last": {"channels_last"},
    }  # fmt: skip
    assert different == expected.get(name, {"optimizer"})
    read_networks(changed)


@pytest.mark.parametrize("experiment", ["fk_direct", "fk_two_nets", "me_two_nets", "me_joint"])
def test_scales_and_weights_reach_every_experiment(experiment: str) -> None:
    """Whatever networks it has; one that predicts none of the changed quantities is refused, not left as it is."""
    paper = read_networks(compose("train", [f"experiment={experiment}", "ablation=paper_scale"]))
    scales = {q.name: q.scale for targets in paper.values() for q in targets.quantities}
    assert set(scales.values()) == {"linear"}
    if experiment == "fk_direct":
        with pytest.raises(InputError, match="scaling changes mu1, which fk_direct does not predict"):
            read_networks(compose("train", [f"experiment={experiment}", "ablation=weighted"]))
        return
    weighted = read_networks(compose("train", [f"experiment={experiment}", "ablation=weighted"]))
    weights = {q.name: q.weight for targets in weighted.values() for q in targets.quantities}
    assert weights.pop("mu1") == 4 and set(weights.values()) == {1.0}


def test_the_paper_experiment_is_the_papers() -> None:
    config = compose("train", ["experiment=paper_joint"])
    assert (config.network.filters, config.network.anchored, config.batch_size) == (64, False, 32)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (6e-5, 0.05)
    assert (config.optimizer.schedule, config.optimizer.decay) == ("exponential", 0.999997)
    targets = {quantity.name: quantity for quantity in Targets.named(config.targets, config.scaling).quantities}
    prior = PRIORS["paper"]
    time = np.array(prior.duration)
    assert {quantity.scale for quantity in targets.values()} == {"linear"}
    assert targets["mu1"].bounds == pytest.approx(np.sqrt(np.array(prior.diffusivity) * time))
    assert targets["mu2"].bounds == pytest.approx(np.sqrt(np.array(prior.proliferation) * time))
    assert tuple(targets[f"origin_{axis}"].bounds for axis in "xyz") == prior.origin_box


def test_a_sweep_trains_every_choice_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places: list[str] = []

    def note(config: DictConfig) -> float:
        places.append(config.out)
        return 0.5

    def sweep(*overrides: str) -> list[str]:
        places.clear()
        monkeypatch.setattr(sys, "argv", ["learn.train", "data=runs/fk.zarr", "-m", *overrides])
        with pytest.raises(SystemExit) as ended:
            run_command(note, "train")
        assert ended.value.code == 0
        return list(places)

    assert sweep("seed=1,2", "workers=1") == ["runs/sweep/seed=1", "runs/sweep/seed=2"]
    assert sweep("network=paper,anchored", "seed=3") == [
        "runs/sweep/network=paper,seed=3", "runs/sweep/network=anchored,seed=3"
    ]  # fmt: skip
    assert sweep("experiment=fk_direct,fk_joint") == [
        "runs/sweep/experiment=fk_direct", "runs/sweep/experiment=fk_joint"
    ]  # fmt: skip
    assert sweep("seed=1", "out=runs/a,runs/b") == ["runs/a", "runs/b"]
    assert sweep("start=/a/b/c,fk_joint_half") == ["runs/sweep/start=-a-b-c", "runs/sweep/start=fk_joint_half"]
    names = sweep("seed=1,2", f"start=/{'far/' * 60}")
    assert len({Path(name).name for name in names}) == 2
    assert all(Path(name).parent == Path("runs/sweep") and len(Path(name).name) < 220 for name in names)
    assert compose("train").out == "runs/train"


def test_a_refused_trial_does_not_end_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are trained, the refused one is named, and the command fails."""
    monkeypatch.chdir(tmp_path)
    trained: list[int] = []

    def train(config: DictConfig) -> float:
        if config.seed == 2:
            raise InputError("the training diverged")
        trained.append(config.seed)
        return 0.5

    monkeypatch.setattr(sys, "argv", ["learn.train", "-m", "data=runs/fk.zarr", "seed=1,2,3"])
    with pytest.raises(SystemExit) as ended:
        run_command(train, "train")
    assert ended.value.code not in (0, None)
    assert trained == [1, 3]
    said = capsys.readouterr().err
    assert "error: seed=2: the training diverged" in said and "Traceback" not in said


def test_help_shows_every_key() -> None:
    text = help_text(main, "train")
    for key in compose("train"):
        assert f"{key}:" in text, key
