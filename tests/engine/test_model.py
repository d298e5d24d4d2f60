"""The choice of the model for a data set: what is drawn, kept and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import PRIORS, InputError, MassEffectParameters, simulate
from engine.acceptance import accept_rows
from engine.backends.cpu import CpuBackend
from engine.elasticity import NotConverged
from engine.model import Model, model_of
from engine.moving_brain import MovingBrain
from engine.recipe import Recipe, describe, this_machine
from engine.shards import Workshop
from engine.store import create_store
from tests.conftest import build_ellipsoid_brain

BRAIN = build_ellipsoid_brain(20, 5.0)
PRIOR = replace(PRIORS["whole_brain"], name="small", duration=(50.0, 200.0), size=(5.0, 60.0))
BACKEND = CpuBackend(2)


def test_a_mass_effect_row_is_its_parameters_simulated_and_kept_for_its_own_size():
    model = Model("mass_effect", (0.0, 25.0))
    rows, tried = accept_rows(range(3), 1, "converged", BRAIN, PRIOR, BACKEND, model=model)
    assert tried >= 3
    assert len({row["parameters"].coupling for row in rows}) == 3
    for row in rows:
        assert isinstance(row["parameters"], MassEffectParameters)
        assert 0 <= row["parameters"].coupling <= 25
        again = simulate([row["parameters"]], BRAIN, backend=BACKEND)
        assert np.array_equal(again.density[0].astype(np.float16), row["density"])
        assert np.array_equal(again.displacement[0].astype(np.float16), row["displacement"])
        assert PRIOR.accepts(again.volumes[0])


def test_screening_at_rest_changes_no_row():
    model = Model("mass_effect")
    screened, plain = (
        accept_rows(range(3), 2, "converged", BRAIN, PRIOR, BACKEND, screened=screen, model=model)[0]
        for screen in (True, False)
    )
    assert [row["proposal"] for row in screened] == [row["proposal"] for row in plain]


def test_a_proposal_that_does_not_converge_is_refused_and_the_data_set_goes_on(monkeypatch, capsys):
    model, settle = Model("mass_effect", (0.0, 25.0)), MovingBrain.settle
    plain, _ = accept_rows(range(2), 1, "converged", BRAIN, PRIOR, BACKEND, model=model)
    failing = plain[0]["parameters"]

    def fail_for_one(brain: MovingBrain):
        if brain.coupling == failing.coupling:
            raise NotConverged("the displacement reached a residual of 1.0e-01, not 1.0e-03")
        return settle(brain)

    monkeypatch.setattr(MovingBrain, "settle", fail_for_one)
    rows, _ = accept_rows(range(2), 1, "converged", BRAIN, PRIOR, BACKEND, model=model)
    assert rows[0]["proposal"] > plain[0]["proposal"]
    assert np.array_equal(rows[1]["density"], plain[1]["density"])
    said = capsys.readouterr().err
    assert f"sample 0: proposal {plain[0]['proposal']} refused, not converged: {failing}" in said


def test_the_first_model_draws_what_it_drew_before():
    growth = PRIOR.propose(3, 0, 0, BRAIN)
    assert Model().tumor(growth, 3, 0, 0) is growth
    assert Model("mass_effect").tumor(growth, 3, 0, 0).growth == growth


def test_a_store_of_the_second_model_round_trips(tmp_path: Path):
    model = Model("mass_effect", (4.0, 20.0))
    about = describe(BRAIN, PRIOR, 4, "converged", 2, this_machine(BACKEND), model=model)
    store = create_store(tmp_path / "me.zarr", 2, about)
    Workshop(store, Recipe(BRAIN, PRIOR, 4, "converged", BACKEND, model)).make(range(2))
    tumor = store.row_parameters(1)
    assert isinstance(tumor, MassEffectParameters)
    assert model.coupling[0] <= tumor.coupling <= model.coupling[1]
    again = simulate([tumor], BRAIN, backend=BACKEND)
    np.testing.assert_allclose(store.field("displacement", 1), again.displacement[0], atol=0.01)
    np.testing.assert_allclose(store.density(1), again.density[0], atol=1e-3)
    assert store.complete.all()
    with pytest.raises(InputError, match="coupling"):
        create_store(tmp_path / "me.zarr", 2, about | {"coupling": [1.0, 2.0]})


@pytest.mark.parametrize("coupling", [-1, [3, 2], [1, 2, 3], "stiff", float("inf"), [0, None]])
def test_couplings_that_cannot_be_drawn_are_refused(coupling):
    with pytest.raises(InputError, match="coupling"):
        model_of({"model": "mass_effect", "coupling": coupling})


def test_unknown_models_are_refused():
    with pytest.raises(InputError, match="mass_effect"):
        Model("swelling")


def test_a_pushing_tumor_is_seen_in_all_of_the_brain():
    assert np.array_equal(Model().scene(BRAIN), BRAIN.tissue)
    assert np.array_equal(Model("mass_effect").scene(BRAIN), BRAIN.brain)


def test_a_prediction_without_coupling_gets_the_middle_of_what_was_drawn():
    growth = PRIOR.propose(3, 0, 0, BRAIN)
    assert Model("mass_effect", (4.0, 20.0)).with_coupling(growth) == MassEffectParameters(
        growth.diffusivity, growth.proliferation, growth.duration, growth.origin, 12.0
    )
    assert Model().with_coupling(growth) is growth
