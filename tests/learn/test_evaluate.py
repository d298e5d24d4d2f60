"""Evaluation: a perfect answer scores perfectly, a wrong one is counted, other physics is refused."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from engine import InputError, MassEffectParameters, SimulationResult, Store, simulate
from engine.command import compose
from engine.model import Model
from engine.version import package_version
from learn import comparison
from learn import evaluate as command
from learn.augment import Augmentation
from learn.comparison import evaluate, predicted_tumors, with_invariants
from learn.datamodule import split_rows, splits_of
from learn.evaluate import main
from learn.same_physics import refuse_other_physics
from learn.weights import load_weights

VERSION = Model().physics_version
JOINT = ("mu1", "mu2", "origin_x", "origin_y", "origin_z")
PROMISED = {
    "count", "dice_0.01_mean", "dice_0.1_mean", "dice_0.8_mean", "dice_0.01_median", "dice_0.1_median",
    "dice_0.8_median", "mae_white_matter", "mae_gray_matter", "mae_csf", "mae_symmetric",
    "mu1_relative_error_median", "mu2_relative_error_median", "origin_error_mm_median",
}  # fmt: skip


class Oracle:
    """Answers with the truth of the rows that it is asked about, in order."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self.columns = {name: store.parameters[name][rows] for name in ("mu1", "mu2", "origin")}

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self.columns


def test_the_truth_scores_perfectly(store: Store) -> None:
    rows = np.arange(6)
    summary = evaluate(Oracle(store, rows), store, rows).summary()  # type: ignore[arg-type]
    assert summary["count"] == 6
    assert summary["origins_moved_into_tissue"] == 0
    assert summary["mu1_relative_error_median"] == summary["origin_error_mm_median"] == 0
    assert min(summary[f"dice_{t}_mean"] for t in (0.01, 0.1, 0.8)) > 0.99  # the store keeps float16
    assert summary["mae_symmetric"] < 1e-3


def test_the_command_writes_what_other_tools_rely_on(
    store_path: Path, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    weights = save_network(tmp_path / "net", JOINT)
    arguments = [f"data={store_path}", f"weights={weights}", "split=all", "count=5"]
    main(compose("evaluate", [*arguments, f"out={tmp_path / 'out'}", f"publish={tmp_path / 'published'}"]))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics) >= PROMISED
    assert metrics["count"] == 5
    assert "mu1_relative_error" in (tmp_path / "out" / "table.md").read_text()
    for name in ("errors", "cases"):
        assert plt.imread(tmp_path / "out" / f"{name}.png").std() > 0.01
    assert len((tmp_path / "out" / "samples.csv").read_text().splitlines()) == 6
    published = load_weights(tmp_path / "published.safetensors").metadata
    assert published["name"] == "published"
    assert published["accuracy"]["count"] == 5
    assert published["accuracy"]["version"] == package_version() and published["accuracy"]["commit"]
    card = (tmp_path / "published.md").read_text()
    for words in ("## Limits", "Small tumors", "Brain stem and cerebellum", "Trained on exact masks"):
        assert words in card
    assert published["physics_version"] == VERSION


@pytest.mark.parametrize("seeds", [{"data_seed": 0}, {"data_seed": 7, "data_seeds": [7, 5, 0]}])
def test_only_unseen_samples_say_how_accurate_a_network_is(
    store_path: Path, save_network: Callable[..., Path], tmp_path: Path, seeds: dict[str, object]
) -> None:
    """What its own training saw, and what those of the weights saw that it began with."""
    weights = save_network(tmp_path / "net", JOINT, training=seeds)
    arguments = [f"data={store_path}", f"weights={weights}", f"out={tmp_path / 'out'}", "count=1", "figures=false"]
    for split in ("train", "val", "all"):
        with pytest.raises(InputError, match=f"split={split} of seed 0 has others: use split=test"):
            main(compose("evaluate", [*arguments, f"split={split}", f"publish={tmp_path / 'published'}"]))
    main(compose("evaluate", [*arguments, "split=val"]))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["split"], metrics["data_seed"], metrics["seen"]) == ("val", 0, True)
    assert "learned from data of the same seed (0)" in (tmp_path / "out" / "table.md").read_text()
    main(compose("evaluate", [*arguments, "split=test", f"publish={tmp_path / 'published'}"]))
    assert "of the same seed" not in (tmp_path / "out" / "table.md").read_text()
    assert load_weights(tmp_path / "published.safetensors").metadata["accuracy"]["data_seed"] == 0


def test_the_command_publishes(store_path: Path, save_network: Callable[..., Path], tmp_path: Path) -> None:
    """From a shell, too."""
    given = [f"data={store_path}", f"weights={save_network(tmp_path / 'net', JOINT)}", "count=1", "figures=false"]
    asked = [sys.executable, "-m", "learn.evaluate", *given, f"out={tmp_path / 'out'}", f"publish={tmp_path / 'new'}"]
    ended = subprocess.run(asked, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "## Limits" in (tmp_path / "new.md").read_text()


def test_weights_that_do_not_say_what_they_began_with_are_refused(
    store_path: Path, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    weights = save_network(tmp_path / "net", JOINT, training={"data_seed": 7, "start": "fk_joint_half"})
    with pytest.raises(InputError, match="began with fk_joint_half and do not say what those learned from"):
        main(compose("evaluate", [f"data={store_path}", f"weights={weights}", f"out={tmp_path / 'out'}"]))


def test_rows_that_trained_are_no_test_of_any_store_of_their_seed(store: Store) -> None:
    """The split of a row is a hash of seed and row, in stores of any length; an edited one is refused."""
    trained, tested = (set(split_rows(store, split).tolist()) for split in ("train", "test"))
    assert trained and tested and not trained & tested
    longer = splits_of(store.attributes["seed"], 10 * len(store))
    assert all(longer[row] == "train" for row in trained) and all(longer[row] == "test" for row in tested)
    edited = copy.copy(store)
    edited.attributes = store.attributes | {"seed": 8}
    with pytest.raises(InputError, match="are not those of its seed"):
        split_rows(edited, "test")


def test_drawn_masks_differ_from_exact_ones_and_are_the_same_for_everybody(store: Store) -> None:
    """Every network is asked about the same drawings."""
    seen: list[np.ndarray] = []

    class Watcher(Oracle):
        def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
            seen.append(images)
            return super().predict(images)

    rows, outlines = np.arange(4), Augmentation(share=1.0, outline=2.0, offset=1.0)
    for augmentation in (None, outlines, outlines):
        evaluate(Watcher(store, rows), store, rows, augmentation=augmentation)  # type: ignore[arg-type]
    exact, first, second = seen
    assert np.array_equal(first, second)
    assert all(np.any(a != b) for a, b in zip(exact, first, strict=True))


def test_what_is_measured_on_drawn_masks_is_not_published(
    store_path: Path, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    weights = save_network(tmp_path / "net", JOINT)
    given = [f"data={store_path}", f"weights={weights}", "split=all", "count=2", "augmentation=outlines"]
    main(compose("evaluate", [*given, f"out={tmp_path / 'out'}"]))
    assert "drawn masks" in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(InputError, match="accuracy on exact masks"):
        main(compose("evaluate", [*given, f"publish={tmp_path / 'published'}"]))


def test_origins_outside_tissue_are_moved_and_counted(store: Store) -> None:
    predicted = {"mu1": np.array([10.0, 10.0]), "mu2": np.array([4.0, 4.0])}
    inside = store.parameters["origin"][0]
    tumors, moved = predicted_tumors(predicted | {"origin": np.array([inside, [1.2, -0.1, 0.5]])}, store.load_atlas())
    assert moved == 1
    assert tumors[0].origin == pytest.approx(tuple(inside))
    assert all(0 <= place <= 1 for place in tumors[1].origin)


def test_predictions_that_are_no_tumor_are_brought_to_one(store: Store) -> None:
    origin = store.parameters["origin"][0]
    predicted = {"mu1": np.array([-1.0, 1e6]), "mu2": np.array([3.0, -2.0]), "origin": np.array([origin, origin])}
    tumors, _ = predicted_tumors(predicted, store.load_atlas())
    assert [tumor.mu1 for tumor in tumors] == pytest.approx([0.5, 100.0])
    assert [tumor.mu2 for tumor in tumors] == pytest.approx([3.0, 0.2])


def test_a_tumor_that_could_not_be_simulated_scores_as_no_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> SimulationResult:
        result = simulate(*arguments, **options)
        return replace(result, ended=("not_converged", *result.ended[1:]))

    monkeypatch.setattr(comparison, "simulate", fail)
    evaluation = evaluate(Oracle(store, np.arange(2)), store, np.arange(2))  # type: ignore[arg-type]
    assert evaluation.not_converged == 1
    assert evaluation.scores["dice_0.1"][0] == 0 and evaluation.scores["dice_0.1"][1] > 0.99


def test_direct_predictions_are_simulated_too(store: Store) -> None:
    predicted = {name: store.parameters[name][:1] for name in ("diffusivity", "proliferation", "duration", "origin")}
    (tumor,), _ = predicted_tumors(with_invariants(predicted), store.load_atlas())
    truth = store.row_parameters(0)
    assert (tumor.mu1, tumor.mu2, *tumor.origin) == pytest.approx((truth.mu1, truth.mu2, *truth.origin))


def test_direct_predictions_that_are_no_tumor_are_brought_to_one(store: Store) -> None:
    """On a linear scale a network may answer with less than nothing."""
    origin = store.parameters["origin"][0]
    direct = {"diffusivity": np.array([-0.1, -0.1]), "proliferation": np.array([0.02, -0.1])}
    direct |= {"duration": np.array([200.0, -5.0]), "origin": np.array([origin, origin])}
    tumors, _ = predicted_tumors(with_invariants(direct), store.load_atlas())
    assert [tumor.mu1 for tumor in tumors] == pytest.approx([0.5, 0.5])
    assert [tumor.mu2 for tumor in tumors] == pytest.approx([2.0, 0.2])


def test_predictions_of_a_pushing_tumor_push(store: Store) -> None:
    predicted = {name: store.parameters[name][:1] for name in ("mu1", "mu2", "origin")}
    atlas, model = store.load_atlas(), Model("mass_effect", (4.0, 20.0))
    for coupling, expected in ((None, 12.0), (-1.0, 0.0), (7.0, 7.0)):
        given = predicted if coupling is None else predicted | {"coupling": np.array([coupling])}
        (tumor,), _ = predicted_tumors(given, atlas, model)
        assert isinstance(tumor, MassEffectParameters)
        assert (tumor.coupling, tumor.mu1) == pytest.approx((expected, predicted["mu1"][0]))


@pytest.mark.parametrize(
    ("names", "words"), [(("origin",), "neither mu1, mu2"), (("mu1", "mu2"), "do not predict the origin")]
)
def test_half_a_tumor_is_refused(store: Store, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        predicted_tumors({name: store.parameters[name][:1] for name in names}, store.load_atlas())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "mass_effect"}, "model mass_effect"),
        ({"scheme": "gliomasolver"}, "scheme gliomasolver"),
        ({"physics_version": 0}, "physics version 0"),
        ({"atlas": {"name": "sri24", "content_hash": "0" * 64}}, "atlas 000000000000"),
        ({"grid": {"shape": [64, 64, 64], "spacing": 3.6, "corner": [0, 0, 0]}}, r"grid \[64, 64, 64\]"),
    ],
)
def test_weights_of_other_physics_are_refused(
    store_path: Path,
    save_network: Callable[..., Path],
    tmp_path: Path,
    change: dict[str, object],
    words: str,
) -> None:
    weights = save_network(tmp_path / "net", JOINT, **change)
    with pytest.raises(InputError, match=words):
        main(compose("evaluate", [f"data={store_path}", f"weights={weights}", f"out={tmp_path / 'out'}"]))
    assert not (tmp_path / "out").exists()


def test_a_store_of_other_physics_is_refused(store: Store, save_network: Callable[..., Path], tmp_path: Path) -> None:
    estimator = load_weights(save_network(tmp_path / "net", JOINT))
    other = copy.copy(store)
    other.attributes = store.attributes | {"physics_version": VERSION + 1}
    with pytest.raises(InputError, match=f"physics version {VERSION + 1}, this program has"):
        refuse_other_physics(estimator, other)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("count=0", "count=0 must be a whole number of at least 1"),
        ("count=-3", "count=-3 must"),
        ("count=few", "count=few must"),
        ("out=5", "out=5 is not a path"),
        ("weights=5", "weights=5 is not a path"),
        ("publish=5", "publish=5 is not a path"),
        ("publish=.", "not the name of a file"),
        ("out=FILE/out", "cannot write .* another out="),
        ("publish=FILE/net", "cannot write .* another publish="),
        ("weights=FOLDER", "publish= takes the weights of one network: these are 2"),
    ],
)
def test_a_wrong_value_is_refused_before_the_evaluation(
    store_path: Path,
    save_network: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    words: str,
) -> None:
    monkeypatch.delattr(command, "evaluate")
    (tmp_path / "file").write_text("")
    networks = {"growth": JOINT[:2], "origin": JOINT[2:]} if setting == "weights=FOLDER" else {"joint": JOINT}
    for name, targets in networks.items():
        save_network(tmp_path / "networks" / name, targets)
    given = {"weights": tmp_path / "networks", "publish": tmp_path / "new", "out": tmp_path / "out"}
    key, _, value = setting.partition("=")
    given[key] = value.replace("FILE", str(tmp_path / "file")).replace("FOLDER", str(tmp_path / "networks"))
    with pytest.raises(InputError, match=words):
        main(compose("evaluate", [f"data={store_path}", *(f"{name}={value}" for name, value in given.items())]))


def test_new_simulations_of_the_stores_seed_are_no_test(
    store_path: Path, save_network: Callable[..., Path], tmp_path: Path
) -> None:
    weights = save_network(tmp_path / "net", JOINT, training={"fresh_seeds": [7, 0]})
    with pytest.raises(InputError, match="give data= of another seed"):
        main(compose("evaluate", [f"data={store_path}", f"weights={weights}", f"out={tmp_path / 'out'}"]))
