"""The command's way with settings and files that a user can mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import InputError
from engine.command import compose
from morph import run
from morph.patient import find_case, load_patient


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "no patient is given"),
        (["seg=absent.nii.gz", "out=out"], "no T1"),
        (["t1=absent.nii.gz", "seg=absent.nii.gz", "out=out"], "does not exist"),
        (["t1=absent.nii.gz", "seg=absent.nii.gz"], "with out=FOLDER"),
        (["t1=123", "seg=absent.nii.gz", "out=2024"], "123 does not exist"),
        (["case=absent"], "not a folder"),
        (["case=123"], "case=123 is not a folder"),
        (["demo=maybe"], "true or false"),
        *((["demo=true", f"seed={seed}"], "whole number from 0") for seed in (-1, "abc", 1.5, 2**31 - 1)),
        (["refinement.evaluations=many"], "evaluations=many is not a whole number"),
        (["refinement.pull=nan"], "pull=nan is not a finite number"),
        (["registration.iterations=5"], "iterations=5 is not a list"),
        (["registration.iterations=[5,a]"], "is not a list"),
        (["registration.metric=3"], "metric=3 is not a word"),
        (["+registration.speed=3"], "speed is not known"),
        (["demo=true", "t1=a.nii.gz"], "leave out t1="),
        (["nonsense=1"], "nonsense"),
        (["demo=true", "space=moon"], "space=moon"),
        (["demo=true", "refine=perhaps"], "true or false"),
        (["demo=true", "refinement.population=1"], "population"),
        (["demo=true", "registration.metric=none"], "metric"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        run.main(compose("run", overrides))
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_real_patients_are_readable(patients: Path) -> None:
    for folder in sorted(path for path in patients.iterdir() if path.is_dir()):
        patient = load_patient(find_case(folder))
        assert patient.t1.array.shape == (240, 240, 155)
        assert patient.masks.core.sum() * patient.t1.voxel_volume > 5
        assert (patient.masks.edema & ~patient.brain).sum() < 0.01 * patient.masks.edema.sum()
