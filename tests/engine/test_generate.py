"""Filling a store: what runs at once, what is tried again, what is said of a sample that cannot be made."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine import InputError, open_store
from engine.command import compose
from engine.fill import ATTEMPTS
from engine.generate import main
from engine.shards import Workshop
from engine.store import create_store
from tests.engine.makers import RECIPE, Stumbling, about, assert_equal, generate, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("stores") / "whole.zarr", 12)


def test_a_shard_is_written_while_the_next_one_is_solved(tmp_path, whole):
    """The first write ends only when the second shard is being solved: one after the other would never end."""
    solving = threading.Event()

    class Watched(type(RECIPE)):
        def accept(self, rows):
            if rows.start == 4:
                solving.set()
            return RECIPE.accept(rows)

    class Slow(type(whole)):
        def write_shard(self, first, rows):
            assert first != 0 or solving.wait(60), "the solver waited for the writer"
            super().write_shard(first, rows)

    store = create_store(tmp_path / "overlap.zarr", 12, about())
    store.__class__ = Slow
    recipe = Watched(RECIPE.atlas, RECIPE.prior, RECIPE.seed, RECIPE.scheme, RECIPE.backend)
    assert run(store, Workshop(store, recipe)) == 0
    assert_equal(open_store(store.place), whole)


def test_a_failing_shard_is_reported_by_sample_and_the_rest_is_finished(tmp_path, capsys):
    store = create_store(tmp_path / "failing.zarr", 12, about())
    maker = Stumbling(store, RECIPE, tried=[])
    assert run(store, maker) == 1
    assert maker.tried == [range(4, 8)] * ATTEMPTS
    assert open_store(store.place).complete.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    said = capsys.readouterr()
    assert "failed 3 times: the shard of samples 4 to 7: ZeroDivisionError: a step of no length" in said.err
    assert f"sample 5, proposal 2, {RECIPE.propose(5, 2)}" in said.err
    assert "sample 4" not in said.err.replace("samples 4", "")
    assert "8 of 12 rows complete" in said.out


def test_a_shard_that_fails_twice_is_made_the_third_time(tmp_path, whole):
    store = create_store(tmp_path / "twice.zarr", 12, about())
    maker = Stumbling(store, RECIPE, times=2, tried=[])
    assert run(store, maker) == 0
    assert len(maker.tried) == 3
    assert_equal(open_store(store.place), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_a_density_that_no_tumor_can_have_is_never_written(tmp_path, capsys, value):
    class Broken(type(RECIPE)):
        def accept(self, rows):
            accepted, tried = RECIPE.accept(rows)
            for sample, row in zip(rows, accepted, strict=True):
                if sample == 6:
                    row["density"][3, 3, 3] = value
            return accepted, tried

    store = create_store(tmp_path / "broken.zarr", 8, about())
    recipe = Broken(RECIPE.atlas, RECIPE.prior, RECIPE.seed, RECIPE.scheme, RECIPE.backend)
    assert run(store, Workshop(store, recipe)) == 1
    assert open_store(store.place).complete.tolist() == [True] * 4 + [False] * 4
    assert "density of sample 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backend=gpu", "backend 'gpu' is unknown"),
        ("scheme=fast", "scheme 'fast' is unknown"),
        ("cluster.kind=cloud", "cluster 'cloud' is unknown"),
        ("samples=0", "samples=0 must be a whole number"),
        ("out=ftp://somewhere/fk.zarr", "ftp:// is not a place for a store"),
        ("out=/sys/fk.zarr", "cannot write the store /sys/fk.zarr"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, override, message):
    settings = ["grid=quarter", "samples=4", *([] if "out=" in override else [f"out={tmp_path}/fk.zarr"]), override]
    with pytest.raises(InputError, match=message):
        main(compose("generate", settings))
