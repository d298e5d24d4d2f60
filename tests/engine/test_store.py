"""The store's contract: rows complete or absent, resumable, the same bytes whatever happened in between."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray
import zarr

from engine import GRIDS, PRIORS, InputError, Prior, load_atlas, open_store
from engine.acceptance import accept_rows
from engine.locks import locked
from engine.rows import split_of
from engine.store import create_store
from engine.verify import verify
from tests.engine.makers import ATLAS, BACKEND, PRIOR, about, assert_equal, generate, run

PINNED_SPLITS = [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
"""Of the first samples of seed 0: they must never move between versions."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Ten rows generated in one go."""
    return generate(tmp_path_factory.mktemp("stores") / "whole.zarr", 10)


def test_rows_are_what_their_parameters_grow(whole):
    from engine import simulate

    result = simulate([whole.row_parameters(3)], ATLAS)
    np.testing.assert_array_equal(result.density[0].astype(np.float16), whole.density(3).astype(np.float16))
    assert PRIOR.accepts(result.volumes[0])
    assert whole.complete.all()
    assert whole.parameters["mu1"][3] == pytest.approx(whole.row_parameters(3).mu1)


def test_every_row_is_the_first_acceptable_proposal(whole):
    from engine import simulate

    row = int(np.argmax(whole.proposals))
    earlier = [PRIOR.propose(5, row, p, ATLAS) for p in range(whole.proposals[row])]
    assert earlier
    volumes = simulate(earlier, ATLAS).volumes
    assert not any(PRIOR.accepts(v) for v in volumes)


def test_an_extended_store_equals_one_made_at_once(whole, tmp_path):
    generate(tmp_path / "grown.zarr", 6)
    assert_equal(generate(tmp_path / "grown.zarr", 10), whole)


def test_a_store_cut_short_between_shards_resumes_to_the_same_rows(whole, tmp_path):
    store = create_store(tmp_path / "cut.zarr", 10, about())
    rows, _ = accept_rows(range(4, 8), 5, "converged", ATLAS, PRIOR, BACKEND)
    store.write_shard(4, rows)
    assert open_store(tmp_path / "cut.zarr").complete.tolist() == [False] * 4 + [True] * 4 + [False] * 2
    assert_equal(generate(tmp_path / "cut.zarr", 10), whole)


class DiskFull:
    """An array whose place has no room left."""

    def __setitem__(self, key, value):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["density", "mu1", "origin", "split", "checksum", "complete"])
def test_a_shard_whose_write_fails_anywhere_stays_absent(tmp_path, name):
    store = create_store(tmp_path / "full.zarr", 4, about())
    rows, _ = accept_rows(range(4), 5, "converged", ATLAS, PRIOR, BACKEND)
    whole_array, store._arrays[name] = store._arrays[name], DiskFull()
    with pytest.raises(OSError, match="No space"):
        store.write_shard(0, rows)
    assert not open_store(tmp_path / "full.zarr").complete.any()
    store._arrays[name] = whole_array
    store.write_shard(0, rows)
    assert open_store(tmp_path / "full.zarr").complete.all()


def test_a_full_disk_is_one_sentence_that_counts_what_is_safe(tmp_path):
    store = create_store(tmp_path / "full.zarr", 4, about())
    store._arrays["density"] = DiskFull()
    with pytest.raises(InputError, match="No space left on device; 0 of 4 rows are complete"):
        run(store)


def test_other_physics_are_refused(whole):
    for changes in ({"seed": 6}, {"shard": 8}, {"scheme": "gliomasolver"}, {"instruction_set": "riscv64-scalar"}):
        with pytest.raises(InputError, match=next(iter(changes))):
            create_store(whole.place, 10, about() | changes)


@pytest.mark.parametrize(("samples", "lost"), [(4, ["complete"]), (10, ["complete", "split", "mu2"])])
def test_an_interrupted_creation_is_finished_at_any_size(whole, tmp_path, samples, lost):
    create_store(tmp_path / "new.zarr", 4, about())
    for name in lost:
        shutil.rmtree(tmp_path / "new.zarr" / name)
    with pytest.raises(InputError, match="complete"):
        open_store(tmp_path / "new.zarr")
    store = generate(tmp_path / "new.zarr", samples)
    assert store.complete.all()
    assert len(store.density(samples - 1)) == len(whole.density(samples - 1))
    assert verify(store.place) == 0


@pytest.mark.parametrize("name", ["density", "mu1", "checksum", "complete"])
@pytest.mark.parametrize("then", [6, 10])
def test_an_extension_killed_between_two_arrays_is_finished(whole, tmp_path, monkeypatch, name, then):
    generate(tmp_path / "torn.zarr", 6)
    resize = zarr.Array.resize

    def killed(array, shape):
        if array.basename == name:
            raise KeyboardInterrupt
        resize(array, shape)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zarr.Array, "resize", killed)
        create_store(tmp_path / "torn.zarr", 10, about())
    if name != "density":
        with pytest.raises(InputError, match="cut short"):
            open_store(tmp_path / "torn.zarr")
    store = generate(tmp_path / "torn.zarr", then)
    assert len(store) == then
    assert verify(store.place) == 0
    assert np.array_equal(store.density(5), whole.density(5))


def test_fewer_samples_than_begun_are_refused(whole):
    with pytest.raises(InputError, match="begun with 10 samples"):
        create_store(whole.place, 4, about())


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match="something else"):
        create_store(tmp_path, 4, about())
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_brain_too_small_for_any_tumor_is_refused_instead_of_searched_forever():
    with pytest.raises(InputError, match="ml of tissue"):
        Prior(size=(1e5, 1e6)).propose(0, 0, 0, ATLAS)
    with pytest.raises(InputError, match="no tissue"):
        Prior(size=(0.1, 60.0), origin_box=((0.0, 0.01),) * 3).propose(0, 0, 0, ATLAS)


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a store"):
        open_store(tmp_path / "nothing.zarr")
    other = generate(tmp_path / "old.zarr", 2)
    metadata = tmp_path / "old.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(InputError, match="schema 99"):
        open_store(other.place)


def test_xarray_reads_it_by_name(whole):
    data = xarray.open_zarr(whole.place, consolidated=False)
    assert data.density.dims == ("sample", "x", "y", "z")
    assert data.mu1.attrs["units"] == "mm"
    assert data.attrs["model"] == "fisher_kolmogorov"


def test_only_one_generator_writes_a_store(tmp_path):
    place = str(tmp_path / "locked.zarr")
    code = f"import time\nfrom engine.locks import locked\nwith locked({place!r}):\n"
    code += "    print('in', flush=True)\n    time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another generator"), locked(place):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with locked(place):
        pass


def test_splits_have_the_papers_shares_and_do_not_move():
    splits = np.array([split_of(0, i) for i in range(4000)])
    np.testing.assert_allclose(np.bincount(splits) / 4000, (0.80, 0.08, 0.12), atol=0.02)
    assert splits[:12].tolist() == PINNED_SPLITS


def test_the_papers_prior_keeps_to_its_box():
    atlas = load_atlas("sri24", GRIDS["quarter"])
    for i in range(50):
        tumor = PRIORS["paper"].propose(0, i, 0, atlas)
        for value, (low, high) in zip(tumor.origin, PRIORS["paper"].origin_box, strict=True):
            assert low <= value <= high
        assert 0.02 <= tumor.diffusivity <= 1.5
        assert atlas.tissue[tuple(np.round(atlas.grid.to_voxel(tumor.origin)).astype(int))]
