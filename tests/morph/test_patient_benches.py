"""The benches of the pipeline report what their readers rely on: names of numbers, and what counts as wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from engine import GRIDS, InputError
from engine.command import compose
from morph.foci import split_foci
from morph.input_checks import check_foci, check_patient
from morph.patient import crop
from morph.pipeline import MARGIN
from morph.resample import bounding_box
from morph.twin import Twin, make_twin
from tests.morph.same_place import answer_with
from tests.morph.test_twin import anatomy, twin  # noqa: F401


@pytest.fixture
def twins(repository: Path, monkeypatch: pytest.MonkeyPatch, twin: Twin) -> ModuleType:  # noqa: F811
    """The bench, whose network misses the tumor without a warning, and whose other stages find it."""
    monkeypatch.syspath_prepend(str(repository / "benches"))
    module = import_module("twins")

    def answer(one: Twin, stage: str, *rest: object):
        shown = one.density if stage != "network" else one.density.with_array(0 * one.density.array)
        found = answer_with(shown, method="refined", parameters=one.parameters, origin_mm=one.origin_mm)
        return replace(found, seconds={"registration": 2.0, "refinement": 1.0 + (stage == "refined")})

    brains: list[object] = []
    monkeypatch.setattr(module, "prepare_brain", lambda *given: SimpleNamespace(estimator=object()))
    monkeypatch.setattr(module, "load_anatomy", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(module, "load_colin27", lambda: SimpleNamespace(name="colin27"))
    monkeypatch.setattr(module, "make_twin", lambda seed, brain, **more: brains.append(brain) or twin)
    monkeypatch.setattr(module, "answer_twin", answer)
    module.brains = brains
    return module


def run(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()


def test_twins_report_every_stage(twins: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(twins, monkeypatch, "count=3", f"json={tmp_path / 'twins.json'}")
    found = json.loads((tmp_path / "twins.json").read_text())
    assert found["brain"] == "mni152"
    for stage, dice, wrong, seconds in (("network", 0, 3, 3), ("patient_space", 1, 0, 3), ("refined", 1, 0, 4)):
        about = found[stage]
        assert [about[f"dice_{level}_median"] for level in ("0.01", "0.1", "0.8")] == [dice] * 3
        assert (about["wrong"], about["wrong_without_warning"], len(about["twins"])) == (wrong, wrong, 3)
        assert about["seconds_median"] == seconds  # a registration that a later stage reuses counts for it too
    assert "mass_effect" not in found


def test_twins_grow_in_the_brain_that_is_asked_for(twins: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run(twins, monkeypatch, "count=1", "brain=colin27", "stages=[refined]")
    assert [brain.name for brain in twins.brains] == ["colin27"]


@pytest.mark.parametrize(
    ("stages", "said"), [("[moon]", "moon: choose from network"), ("[]", "none: choose"), ("[mass_effect]", "nothing")]
)
def test_unknown_stages_are_refused(twins: ModuleType, monkeypatch: pytest.MonkeyPatch, stages: str, said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        run(twins, monkeypatch, f"stages={stages}")


def test_patients_tell_verdicts_and_the_slowest(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    bench = import_module("patients")
    row = {**dict.fromkeys(bench.COLUMNS, 1.0), "method": "refined", "verdict": "pass", "objections": []}
    slow = {**row, "verdict": "warn", "objections": ["tumor_foci"], "wall_seconds": 5.0}
    lost = {**row, "verdict": "fail", "method": "fallback", "dice_core": None, "wall_seconds": 3.0}
    told = bench.summarize([row, slow, slow, lost])
    assert told["verdicts"] == {"pass": 1, "warn": 2, "fail": 1}
    assert (told["wall_seconds_median"], told["wall_seconds_max"], told["fallbacks"]) == (5.0, 5.0, 1)
    assert [bench.show(slow[key]) for key in ("objections", "wall_seconds")] == ["tumor_foci", "5"]


def test_a_patient_without_a_report_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    score = import_module("patients").score
    for text in (None, "tiny"):
        if text is not None:
            (tmp_path / "report.html").write_text(text)
        with pytest.raises(SystemExit, match=r"report\.html"):
            score(tmp_path, tmp_path, 1.0)


def test_a_broken_case_must_end_in_its_own_check(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    judge = import_module("broken").judge
    assert judge(("tumor_foci",), "warn", {"tumor_foci": "2 foci"})["noticed"]
    assert judge(("voxel_size", "tumor_foci"), "warn", {"tumor_foci": "2 foci"})["noticed"]
    assert not judge(("foci",), "warn", {"tumor_foci": "2 foci"})["noticed"]
    assert not judge(("tumor_foci",), "fail", {"fit_core": "too low"})["noticed"]
    assert judge((), "pass", {})["noticed"]
    assert not judge((), "warn", {"voxel_size": "long"})["noticed"]


def test_broken_inputs_end_in_their_checks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    bench = import_module("broken")
    patient, other = (make_twin(seed, grid=GRIDS["half"]).patient for seed in (3, 4))
    later = {"masks_in_tissue", "registration_scale", "registration_stretch", "orientation"}
    for name, (how, expected) in bench.CASES.items():
        if later.intersection(expected):
            continue
        try:
            broken = how(patient, other)
        except InputError as refusal:
            assert bench.REFUSED in expected and "exchanged" in str(refusal), name
            continue
        broken = crop(broken, bounding_box(broken.brain | broken.masks.edema, MARGIN))  # as in a run
        asked = [*check_patient(broken), check_foci(split_foci(broken.masks, broken.t1))]
        raised = [check.name for check in asked if check.verdict != "pass"]
        assert set(raised).intersection(expected) if expected else not raised, (name, raised)


def test_twins_stages_are_what_they_are_called(
    repository: Path, monkeypatch: pytest.MonkeyPatch, twin: Twin  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(str(repository / "benches"))
    bench = import_module("twins")
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        bench, "run_pipeline",
        lambda patient, brain, register, search, space, effect, uncertainty: asked.append(
            (space, search is not None, uncertainty is not None, effect)
        ),
    )  # fmt: skip
    for stage in ("network", "patient_space", "refined"):
        bench.answer_twin(twin, stage, 5, None, None, False, None, compose("run"))
    assert asked == [("atlas", False, False, None), ("patient", False, False, None), ("patient", True, True, None)]


def test_maps_are_held_against_what_tumors_reach(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    reliability = import_module("reliability")
    probability, inside = np.array([0.0, 0.5, 0.5, 0.97, 1.0, 0.5]), np.array([1, 1, 1, 1, 1, 0], bool)
    one = reliability.count_reached(probability, np.array([0, 1, 0, 1, 1, 1], bool), inside)
    assert one == [[1, 0], [0, 0], [0, 0], [2, 1], [0, 0], [0, 0], [2, 2]]
    other = reliability.count_reached(probability, np.ones(6, bool), inside)
    groups = {group["from"]: group for group in reliability.pooled([one, other])}
    assert groups[0.4] == {"from": 0.4, "to": 0.6, "reached": 0.75, "cases": 2}
    assert groups[0.2]["reached"] is None and groups[0.95]["reached"] == 1.0


def test_patients_are_compared_at_their_own_thresholds(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "benches"))
    dice = import_module("patients").dice
    one, two = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert (dice(one, two), dice(one, one), dice(one & two, ~one & ~two & False)) == (0.5, 1.0, 0.0)
