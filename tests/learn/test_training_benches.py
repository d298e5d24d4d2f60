"""The benches that train many networks: nothing is done twice, mixed up, or compared with what it cannot be."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from engine import InputError

ROWS = {"exact": 0.8, "drawn": 0.7, "test": 0.75}


class Commands:
    """Stands in for the project's commands: notes them, and leaves what they would leave."""

    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, str]]] = []
        self.rows = [4, 9, 13]

    def __call__(self, module: str, *overrides: str) -> None:
        given = dict(override.split("=", 1) for override in overrides)
        self.done.append((module, given))
        out = Path(given["out"])
        out.mkdir(parents=True, exist_ok=True)
        if module == "learn.train":
            return
        gain = 0.01 if "weighted" in given["weights"] else 0.0
        values = [ROWS[out.name] + gain + 0.001 * row for row in self.rows]
        lines = [
            f"{row},{value},{value},{value if row != 9 else 'nan'}"
            for row, value in zip(self.rows, values, strict=True)
        ]
        lines = ["row,dice_0.01,dice_0.1,dice_0.8", *lines]
        (out / "samples.csv").write_text("\n".join(lines) + "\n")
        numbers = dict.fromkeys(["mae_gray_matter", "mae_white_matter", "mae_csf"], 0.1)
        numbers |= {f"dice_{t}_mean": 0.8 for t in ("0.01", "0.1", "0.8")}
        numbers |= {f"dice_{t}_mean_interval": [0.7, 0.9] for t in ("0.01", "0.1", "0.8")}
        numbers |= dict.fromkeys(
            ["mu1_relative_error_median", "mu2_relative_error_median", "origin_error_mm_median"], 0.1
        )
        (out / "metrics.json").write_text(json.dumps(numbers | {"count": len(values)}))


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands):
    """Runs a bench with its arguments: `bench(name, *arguments)`; gives back its module."""
    monkeypatch.syspath_prepend(str(repository / "benches"))

    def start(name: str, *arguments: str) -> ModuleType:
        module = import_module(name)
        monkeypatch.setattr(module, "run", commands)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        module.main()
        return module

    return start


def test_experiments_are_done_once_and_with_one_budget(bench, commands, tmp_path: Path) -> None:
    folder = tmp_path / "six"
    (folder / "me_joint" / "test").mkdir(parents=True)  # an evaluation that did not come to its end
    given = [f"folder={folder}", f"json={tmp_path / 'six.json'}", "images=10000"]
    bench("experiments", *given, "only=[fk_joint,fk_two_nets]")
    trained = {one["experiment"]: one for module, one in commands.done if module == "learn.train"}
    assert trained.keys() == {"fk_joint", "fk_two_nets"}
    assert {one["epochs"] for one in trained.values()} == {"2"} and {one["count"] for one in trained.values()} == {
        "5000"
    }
    result = json.loads((tmp_path / "six.json").read_text())
    assert result["images"] == 10000 and "me_joint" not in result
    for threshold in ("0.01", "0.1", "0.8"):
        assert result["gains"][f"fk_joint over fk_two_nets at {threshold}"] == pytest.approx([0, 0, 0])
    commands.done.clear()
    bench("experiments", *given, "only=[fk_joint]")
    assert not commands.done
    with pytest.raises(SystemExit, match=r"was filled with images=10000: choose another folder="):
        bench("experiments", *given, "images=20000")
    with pytest.raises(SystemExit, match=r"only=\['fk_jiont'\]"):
        bench("experiments", *given, "only=[fk_jiont]")


def test_the_network_for_the_origin_is_taken_over_when_it_is_ready(bench, commands, tmp_path: Path) -> None:
    pair = tmp_path / "fk_two_nets"
    (pair / "fk_origin").mkdir(parents=True)
    (pair / "fk_origin" / "last.ckpt").write_text("trained")
    (pair / "fk_origin_half.safetensors").write_text("weights")
    direct = tmp_path / "fk_direct" / "fk_origin"
    module = bench("experiments", f"folder={tmp_path}", "only=[fk_direct]")
    assert not direct.exists()  # the pair is still in training
    (tmp_path / "fk_direct" / "test" / "metrics.json").unlink()
    bench("experiments", f"folder={tmp_path}", "only=[fk_two_nets,fk_direct]")
    assert (direct / "last.ckpt").read_text() == "trained"
    assert (direct.parent / "fk_origin_half.safetensors").read_text() == "weights"
    assert list(module.PAPER).index("fk_two_nets") < list(module.PAPER).index("fk_direct")


def test_experiments_on_different_samples_are_not_compared(bench, commands, tmp_path: Path) -> None:
    bench("experiments", f"folder={tmp_path}", "only=[fk_joint]")
    commands.rows = [4, 9, 14]
    with pytest.raises(SystemExit, match="tested on different samples"):
        bench("experiments", f"folder={tmp_path}", "only=[fk_two_nets]")


def test_an_ablation_is_compared_on_both_kinds_of_masks(bench, commands, tmp_path: Path, capsys) -> None:
    given = [f"folder={tmp_path / 'all'}", f"json={tmp_path / 'all.json'}", "seeds=[0,1]"]
    bench("ablations", *given, "only=[weighted,fresh]")
    result = json.loads((tmp_path / "all.json").read_text())
    for test, value in (("exact", 0.8), ("drawn", 0.7)):
        assert result["none"][f"gain_{test}"] == 0
        assert result["weighted"][f"gain_{test}"] == pytest.approx(0.01)
        assert result["weighted"][f"dice_0.1_{test}"] == pytest.approx(value + 0.01 + 0.026 / 3)
    trained = [one for module, one in commands.done if module == "learn.train"]
    assert [one["seed"] for one in trained] == ["0", "1", "1000", "1001", "0", "1"]
    assert {one["count"] for one in trained if one["ablation"] == "fresh"} == {"null"}
    tested = [one for module, one in commands.done if module == "learn.evaluate" and one["out"].endswith("drawn")]
    assert {one["augmentation.share"] for one in tested} == {"1"}
    assert "| weighted | 0.819 | +0.0100 (+0.0100 to +0.0100) |" in capsys.readouterr().out
    commands.done.clear()
    bench("ablations", *given, "only=[weighted]")
    assert not commands.done
    for wrong, words in (
        ("seeds=0", "must be a list"),
        ("seeds=[]", "give a list"),
        ("samples=100", "choose another folder"),
    ):
        with pytest.raises((SystemExit, InputError), match=words):
            bench("ablations", *given, wrong)


def test_settings_of_another_kind_fill_no_folder(bench, commands, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images=abc must be a whole number"):
        bench("experiments", f"folder={tmp_path / 'six'}", "images=abc")
    with pytest.raises(InputError, match="cannot be written"):
        bench("experiments", f"folder={tmp_path / 'six'}", f"json={tmp_path / 'nowhere' / 'six.json'}")
    assert not (tmp_path / "six").exists() and not commands.done
    bench("experiments", f"folder={tmp_path / 'six'}", "only=fk_joint,fk_two_nets")  # as words, without brackets
    assert {one.get("experiment") for _, one in commands.done} == {"fk_joint", "fk_two_nets", None}


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        ([], "[posterior.simulations=0]", ["posterior.simulations=0"]),
        (["a"], "a,b", ["a", "b"]),
        ([0], "0,1", None),
        (None, "true", True),
        (1, "true", None),
        (1.0, "2", 2),
        (True, "1", None),
    ],
)
def test_a_setting_is_of_its_defaults_kind(
    repository: Path, monkeypatch: pytest.MonkeyPatch, default: object, given: str, expected: object
) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    monkeypatch.setattr(sys, "argv", ["bench", f"key={given}"])
    arguments = import_module("report").arguments
    if expected is None:
        with pytest.raises(InputError, match="key="):
            arguments({"key": default}, "")
    else:
        assert arguments({"key": default}, "").key == expected
