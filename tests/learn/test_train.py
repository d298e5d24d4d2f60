"""Training: it learns, it survives being killed, it refuses to mix settings, and every yaml composes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine import InputError
from engine.command import compose
from learn.module import InverseModule
from learn.train import CHECKPOINT, main
from learn.weights import load_weights

CONF = Path(__file__).parents[2] / "conf"
SMALL = ["network.filters=4", "batch_size=8", "epochs=3", "trainer.precision=32-true", "trainer.accelerator=cpu"]
WEIGHTS = "fk_joint_quarter.safetensors"


def train(store_path: Path, out: Path, *overrides: str) -> None:
    main(compose("train", [f"data={store_path}", f"out={out}", *SMALL, *overrides]))


@pytest.fixture(scope="module")
def finished(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    out = tmp_path_factory.mktemp("finished")
    train(store_path, out)
    return out


def test_training_leaves_usable_weights(finished: Path, image: np.ndarray) -> None:
    estimator = load_weights(finished / WEIGHTS)
    assert estimator.metadata["training"]["epochs"] == 3
    assert 0 < estimator.predict(image)["mu1"][0] < 100
    assert (finished / WEIGHTS).with_suffix(".md").is_file()
    assert list(finished.glob("logs/*/metrics.csv"))


def test_killed_and_resumed_ends_with_the_same_weights(
    finished: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = InverseModule.training_step

    def die_in_the_second_epoch(self: InverseModule, batch: object, index: int) -> torch.Tensor:
        if self.current_epoch == 1 and index == 1:
            raise RuntimeError("killed")
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(InverseModule, "training_step", die_in_the_second_epoch)
        with pytest.raises(RuntimeError, match="killed"):
            train(store_path, tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    train(store_path, tmp_path)
    expected, found = load_file(finished / WEIGHTS), load_file(tmp_path / WEIGHTS)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    states = [torch.load(out / CHECKPOINT, weights_only=True) for out in (finished, tmp_path)]
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name


def test_a_finished_training_is_left_alone(finished: Path, store_path: Path) -> None:
    before = (finished / WEIGHTS).read_bytes()
    train(store_path, finished)
    assert (finished / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("change", ["seed=1", "epochs=4", "network.filters=5", "optimizer.learning_rate=0.1"])
def test_other_settings_do_not_continue_a_training(finished: Path, store_path: Path, change: str) -> None:
    with pytest.raises(InputError, match="choose another out="):
        train(store_path, finished, change)


def test_resume_false_does_not_overwrite(finished: Path, store_path: Path) -> None:
    with pytest.raises(InputError, match="holds a training already"):
        train(store_path, finished, "resume=false")


def test_a_place_that_cannot_be_written_is_refused(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        train(store_path, tmp_path / "file" / "out")


def test_data_must_be_given() -> None:
    with pytest.raises(InputError, match="data"):
        main(compose("train", []))


def test_divergence_is_said_in_a_sentence(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged"):
        train(store_path, tmp_path, "optimizer.learning_rate=1e30", "optimizer.gradient_clip=0")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes(name: str) -> None:
    config = compose("train", [f"experiment={name}"])
    assert config.targets
    assert config.name == name


@pytest.mark.parametrize("group", ["network", "optimizer"])
def test_every_choice_of_a_group_composes(group: str) -> None:
    for path in (CONF / group).glob("*.yaml"):
        assert compose("train", [f"{group}={path.stem}"])[group]


def test_the_paper_experiment_is_the_papers() -> None:
    config = compose("train", ["experiment=paper_joint"])
    assert (config.network.filters, config.network.anchored, config.batch_size) == (64, False, 32)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (6e-5, 0.05)
    assert (config.optimizer.schedule, config.optimizer.decay) == ("exponential", 0.999997)
