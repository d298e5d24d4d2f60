"""Dask's workers make the same store, each with its own device, and may die while they do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from distributed import KilledWorker, LocalCluster
from omegaconf import OmegaConf

from engine import InputError, cluster, open_store
from engine.atlas import load_atlas
from engine.cluster import on_cluster, visible_devices, worker_environments
from engine.command import compose
from engine.crew import WorkerLost
from engine.fill import ATTEMPTS, fill
from engine.generate import main
from engine.grid import GRIDS
from engine.recipe import describe, recipe_of
from engine.sampling import PRIORS
from engine.shards import RemoteWorkshop, Workshop
from engine.store import create_store
from tests.engine.makers import Deadly, FakeCuda, Telling, assert_equal, completed, run, run_until

SAMPLES, SHARD = 24, 4
PAIR = OmegaConf.create({"kind": "local", "workers": 2, "per_device": 1, "dashboard": 0})

pytestmark = pytest.mark.xdist_group("cluster")


def begin(place, machine):
    """An empty store on the coarsest atlas."""
    atlas = load_atlas("sri24", GRIDS["quarter"])
    return create_store(place, SAMPLES, describe(atlas, PRIORS["whole_brain"], 3, "converged", SHARD, machine))


@pytest.fixture(scope="module")
def pair():
    """Two worker processes on this machine."""
    with on_cluster(PAIR, "cpu", SHARD) as crew:
        yield crew


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pair):
    """The store made by this process."""
    store = begin(tmp_path_factory.mktemp("stores") / "whole.zarr", pair.machine)
    assert run(store, Workshop(store, recipe_of(store.attributes, "cpu"))) == 0
    return open_store(store.place)


def test_workers_that_die_as_often_as_a_shard_may_lose_them_make_the_same_store(
    pair, whole, tmp_path, monkeypatch, capsys
):
    store = begin(tmp_path / "killed.zarr", pair.machine)
    monkeypatch.setattr("engine.fill.LOSSES", 2)
    deaths = ATTEMPTS - 1 + 2 - 1
    maker = Deadly(store.place, "cpu", sample=9, folder=str(tmp_path / "deaths"), times=deaths)
    assert fill(store, pair, maker) == 0
    assert len(list((tmp_path / "deaths").iterdir())) == deaths
    assert_equal(open_store(store.place), whole)
    assert "failed" not in capsys.readouterr().err


def test_a_sample_that_kills_its_workers_is_reported_and_the_rest_is_finished(
    pair, whole, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("engine.fill.LOSSES", 2)
    store = begin(tmp_path / "deadly.zarr", pair.machine)
    assert fill(store, pair, Deadly(store.place, "cpu", sample=9)) == 1
    said = capsys.readouterr().err
    assert f"failed {ATTEMPTS - 1 + 2} times: the shard of samples 8 to 11: WorkerLost: the worker process" in said
    assert "sample 9, proposal 1, FisherKolmogorovParameters(diffusivity=" in said
    complete = open_store(store.place).complete
    assert complete.sum() == SAMPLES - SHARD
    assert not complete[8:12].any()
    assert fill(store, pair, RemoteWorkshop(store.place, "cpu")) == 0
    assert_equal(open_store(store.place), whole)


def test_a_lost_worker_is_replaced_by_its_supervisor_and_a_lost_supervisor_by_the_crew():
    def ask(crew, tend):
        """Which process answers within a minute; asked again every 5 s or when it was lost."""
        ends = time.monotonic() + 60.0
        while time.monotonic() < ends:
            answer = crew.executor.submit(os.getpid)
            with suppress(TimeoutError):
                if not isinstance(answer.exception(5.0), WorkerLost):
                    return answer.result()
            tend()
        pytest.fail("no worker came back")

    hasty = {"distributed.deploy.lost-worker-timeout": "0.2s"}
    with dask.config.set(hasty), on_cluster(OmegaConf.merge(PAIR, {"workers": 1}), "cpu", SHARD) as crew:
        os.kill(ask(crew, lambda: None), signal.SIGKILL)
        second = ask(crew, lambda: None)
        here = crew.tend.args[0]
        here.sync(here.workers[0].close)
        assert ask(crew, crew.tend) != second


def test_every_worker_has_its_own_device_and_they_share_the_shards(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    told = tmp_path / "told"
    told.mkdir()
    backend = FakeCuda()
    with on_cluster(OmegaConf.merge(PAIR, {"workers": None}), backend, SHARD) as crew:
        assert crew.machine.backend == "cuda"
        store = begin(tmp_path / "devices.zarr", crew.machine)
        assert fill(store, crew, Telling(store.place, backend, folder=str(told))) == 0
    lines = [file.read_text().split() for file in told.iterdir()]
    assert len(lines) == SAMPLES // SHARD
    assert {device for device, *_ in lines} == {"4", "7"}
    assert len({(device, process) for device, process, _ in lines}) == 2
    for row in range(0, SAMPLES, 5):
        assert (open_store(store.place).field("density", row) == whole.field("density", row)).all()


def test_what_a_worker_finds_in_its_environment():
    assert [e["CUDA_VISIBLE_DEVICES"] for e in worker_environments("cuda", None, ["0", "1", "GPU-5"])] == [
        "0", "1", "GPU-5",
    ]  # fmt: skip
    assert worker_environments("cuda", 1, ["3", "4"]) == [{"CUDA_VISIBLE_DEVICES": "3"}]
    assert [e["CUDA_VISIBLE_DEVICES"] for e in worker_environments("cuda", None, ["0", "1"], 2)] == ["0", "1", "0", "1"]
    assert worker_environments("cpu", 2, ["3"]) == [{"LMI_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}] * 2
    with pytest.raises(InputError, match="2 GPUs are visible"):
        worker_environments("cuda", 3, ["0", "1"])
    with pytest.raises(InputError, match="none is visible"):
        worker_environments("cuda", None, [])
    with pytest.raises(InputError, match=r"cluster\.workers=0 must be a whole number"):
        worker_environments("cpu", 0, [])
    with pytest.raises(InputError, match=r"cluster\.per_device=0 must be a whole number"):
        worker_environments("cuda", None, ["0"], 0)


def test_devices_are_those_that_the_environment_or_the_driver_names(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-a")
    assert visible_devices() == ["2", "GPU-a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    driver = tmp_path / "nvidia-smi"
    driver.write_text(
        "#!/bin/sh\necho 'GPU 0: H200 (UUID: GPU-x)'\necho '  MIG 1g'\necho 'GPU 1: H200 (UUID: GPU-y)'\n"
    )
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_devices() == ["0", "1"]


def test_a_running_scheduler_is_joined_by_the_command(whole, tmp_path):
    workers = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with LocalCluster(**workers, protocol="tcp://") as running:
        settings = [
            f"samples={SAMPLES}", f"shard={SHARD}", "seed=3", "grid=quarter", "backend=cpu", "cluster=address",
            f"cluster.address='{running.scheduler_address}'", f"out={tmp_path / 'joined.zarr'}",
        ]  # fmt: skip
        assert main(compose("generate", settings)) == 0
    assert_equal(open_store(tmp_path / "joined.zarr"), whole)


def test_an_interruption_counts_what_the_workers_of_a_scheduler_still_finish(tmp_path):
    place = tmp_path / "stopped.zarr"
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as running:
        more = ["samples=400", "backend=cpu", "cluster=address", f"cluster.address='{running.scheduler_address}'"]
        code, out, err = run_until(place, 4, signal.SIGINT, more)
        assert code == 130
        assert "Traceback" not in out + err
        count = completed(place)
        assert 4 <= count < 400
        assert f"{count} of 400 rows are complete" in out
        time.sleep(1.0)
        assert completed(place) == count


def test_a_result_that_is_lost_with_its_worker_is_a_failure_and_not_silence():
    class Lost(SimpleNamespace):
        def add_done_callback(self, call):
            call(self)

        def result(self, timeout):
            raise KilledWorker("make-1", None, 0)

    client = SimpleNamespace(submit=lambda *task, pure: Lost(key="make-1", cancelled=lambda: False))
    answer = cluster._Tasks(client).submit(print)
    assert isinstance(answer.exception(1), WorkerLost)


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    for address, message in ((None, "cluster.address is not given"), ("tcp://127.0.0.1:9", "no Dask scheduler")):
        settings = OmegaConf.create({"kind": "address", "address": address})
        with pytest.raises(InputError, match=message), on_cluster(settings, "cpu", SHARD):
            pass


def test_slurm_jobs_are_workers(whole, tmp_path, monkeypatch):
    """With an sbatch that starts the job at once on this machine; the script that it is given is gone soon after."""
    (tmp_path / "sbatch").write_text(
        f'#!/bin/sh\ncd {tmp_path}\ncp "$1" job.sh\nsh job.sh >log 2>&1 &\necho Submitted batch job $!\n'
    )
    (tmp_path / "scancel").write_text('#!/bin/sh\nkill "$@"\n')
    for name in ("sbatch", "scancel"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = [
        sys.executable, "-m", "engine.generate", f"samples={SAMPLES}", f"shard={SHARD}", "seed=3", "grid=quarter",
        "backend=cpu", f"out={tmp_path / 'slurm.zarr'}", "cluster=slurm", "cluster.jobs=1", "cluster.cores=1",
        "cluster.gpus=1", "cluster.directives=['--constraint=avx512']", "cluster.interface=lo", "cluster.dashboard=0",
        "cluster.queue=long",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + Path(tmp_path, "log").read_text()
    assert_equal(open_store(tmp_path / "slurm.zarr"), whole)
    job = (tmp_path / "job.sh").read_text()
    for line in ("#SBATCH --gres=gpu:1", "#SBATCH --constraint=avx512", "#SBATCH -p long", "#SBATCH --mem=15G"):
        assert line in job


def test_slurm_that_is_not_here_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(InputError, match="needs sbatch"),
        on_cluster(compose("generate", ["cluster=slurm"]).cluster, "cpu", SHARD),
    ):
        pass
