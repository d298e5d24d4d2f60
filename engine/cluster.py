"""Crews of worker processes on Dask: on this machine, at a running scheduler, or brought up by Slurm.

A worker is a process with its own solver; it solves, compresses and writes whole shards itself, so neither densities
nor the atlas travel. On this machine there is one worker a core, or one or more a GPU, each of which sees only its own
device: several keep a fast GPU busy while one of them prepares, judges or compresses.

The only place that imports Dask.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import dask
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, Status
from distributed import Future as DaskFuture
from distributed import wait as wait_for
from omegaconf import DictConfig

from engine.backends import Backend
from engine.backends.cupy_device import is_present
from engine.crew import Crew, WorkerLost
from engine.errors import InputError
from engine.recipe import this_machine
from engine.shards import WRITERS
from engine.threads import available_cores

PATIENCE = 30.0
"""Seconds to wait for a scheduler that is said to run, and for its first worker (chosen by us)."""
STARTS = 3
"""Times that workers of this machine are started before that is given up."""
_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Run by every worker: Ctrl-C reaches a terminal's whole family, and the generator decides what it means."""
_OURS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.comm.timeouts.connect": PATIENCE,
    "distributed.admin.tick.limit": "60s",
}
"""Dask gives a task back when its worker dies, and `engine.fill` decides what happens then."""
_OURS_HERE = {"distributed.deploy.lost-worker-timeout": "1000 days", "distributed.scheduler.worker-ttl": None}
"""The supervisors of this machine's workers see them die, so nothing is concluded from time. Dask would end a
supervisor whose worker is away 15 s after it once died, also where a new one just starts, or has begun with a shard."""


@contextmanager
def on_cluster(settings: DictConfig, backend: str | Backend, device_tasks: int) -> Iterator[Crew]:
    """The crew that `settings` (conf/cluster) describe, until the block ends.

    Args:
        settings: kind of cluster, and what it needs.
        backend: that its workers use.
        device_tasks: tasks at once of a worker with a GPU, beyond those of one without.

    Raises:
        InputError: the settings make no cluster, or nobody answers.
    """
    with dask.config.set(_OURS), _client(settings, backend, device_tasks) as client:
        _tell(client)
        executor = _Tasks(client)
        machine = executor.submit(this_machine, backend).result()
        tend = partial(_replace_lost, client.cluster) if settings.kind == "local" else lambda: None
        yield Crew(executor, machine, partial(_dismiss, executor, client), tend)


@contextmanager
def _client(settings: DictConfig, backend: str | Backend, device_tasks: int) -> Iterator[Client]:
    if settings.kind == "address":
        with _joined(settings.address) as client:
            yield client
    elif settings.kind == "local":
        with (
            dask.config.set(_OURS_HERE),
            _started_here(settings, backend, device_tasks) as cluster,
            Client(cluster) as client,
        ):
            yield client
    else:
        with _queued(settings, device_tasks) as cluster, Client(cluster) as client:
            cluster.adapt(minimum_jobs=settings.jobs, maximum_jobs=settings.jobs)
            print(f"waiting for the first of {settings.jobs} Slurm jobs", flush=True)
            client.wait_for_workers(1)
            yield client


@contextmanager
def _joined(address: str | None) -> Iterator[Client]:
    if not address:
        raise InputError("cluster.address is not given: add cluster.address=tcp://HOST:8786, where dask scheduler runs")
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: start one with `dask scheduler`") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise InputError(f"the scheduler at {address} has no workers: start some with `dask worker`") from error
        yield client


def _started_here(settings: DictConfig, backend: str | Backend, device_tasks: int) -> SpecCluster:
    """Worker processes on devices or cores; one that dies is replaced, with the same device."""
    environments = worker_environments(backend, settings.workers, visible_devices(), settings.per_device)
    on_device = any(environment["CUDA_VISIBLE_DEVICES"] for environment in environments)
    options = {
        "nthreads": WRITERS + (device_tasks if on_device else 0), "memory_limit": 0, "silence_logs": logging.ERROR,
        "dashboard": False, "preload": [_DEAF],
    }  # fmt: skip
    workers = {
        name: {"cls": Nanny, "options": options | {"env": environment}} for name, environment in enumerate(environments)
    }
    scheduler = {"host": "127.0.0.1", "port": 0, "dashboard": True, "dashboard_address": f":{settings.dashboard}"}
    for left in reversed(range(STARTS)):
        try:
            return SpecCluster(
                workers=workers, scheduler={"cls": Scheduler, "options": scheduler}, silence_logs=logging.CRITICAL
            )
        except RuntimeError as error:
            if not left:
                raise InputError(f"no worker process starts on this machine: {error.__cause__ or error}") from error
    raise AssertionError("unreachable")


def worker_environments(
    backend: str | Backend, workers: int | None, devices: list[str], per_device: int = 1
) -> list[dict[str, str]]:
    """What every worker of this machine finds in its environment: one device, or one thread.

    Args:
        backend: `auto`, `cpu`, `cuda` or a backend.
        workers: how many (None: `per_device` a device, or one a core).
        devices: names of the GPUs that may be used.
        per_device: how many share a device.

    Raises:
        InputError: more workers than the devices take, no device for `cuda`, or not a number of workers.
    """
    for key, value in (("workers", 1 if workers is None else workers), ("per_device", per_device)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"cluster.{key}={value} must be a whole number, at least 1")
    name = backend if isinstance(backend, str) else backend.name
    if name == "cpu" or (name == "auto" and not is_present()):
        return [{"LMI_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} for _ in range(workers or available_cores())]
    if not devices:
        raise InputError("backend=cuda needs an NVIDIA GPU, and none is visible here: use backend=cpu")
    places = devices * per_device
    if workers is not None and workers > len(places):
        raise InputError(
            f"cluster.workers={workers}, but {len(devices)} GPUs are visible and each takes {per_device}: "
            "give fewer, or a larger cluster.per_device"
        )
    return [{"CUDA_VISIBLE_DEVICES": device} for device in places[:workers]]


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in found.stdout.splitlines()))]


class _Tasks(Executor):
    """Gives tasks to a cluster.

    Dask's own executor never answers where a worker dies between the end of a task and the fetching of its result.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: dict[Any, DaskFuture] = {}

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **settings: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`."""
        answer: Future[Any] = Future()
        asked = self._client.submit(task, *arguments, pure=False, **settings)
        self._asked[asked.key] = asked
        asked.add_done_callback(partial(self._hand_over, answer))
        return answer

    def _hand_over(self, answer: Future[Any], asked: DaskFuture) -> None:
        """Pass on what a task returned, what it raised, or that its worker is lost or does not answer."""
        self._asked.pop(asked.key, None)
        if asked.cancelled():
            answer.cancel()
            answer.set_running_or_notify_cancel()
            return
        try:
            result = asked.result(timeout=PATIENCE)
        except (KilledWorker, TimeoutError):
            answer.set_exception(WorkerLost("the worker process died, or its result did not arrive"))
        except BaseException as error:  # whatever it is belongs to who waits for the answer
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drop the tasks that no worker has begun, or all of them; wait for the others if so asked."""
        begun = {key for keys in self._client.processing().values() for key in keys} if wait else set()
        asked = list(self._asked.values())
        self._client.cancel([future for future in asked if future.key not in begun])
        wait_for([future for future in asked if future.key in begun])


def _dismiss(executor: _Tasks, client: Client) -> None:
    """Forget the tasks that wait.

    Workers of our own end with the shards that they are writing, or drop them; those of somebody else's scheduler are
    waited for until they have finished what they have begun.
    """
    executor.shutdown(wait=client.cluster is None)
    if client.cluster is not None:
        client.cluster.close()


def _replace_lost(cluster: Any) -> None:
    """Start workers of this machine anew whose supervisor gave up, such as one killed while it started."""
    cluster.loop.add_callback(_forget_closed, cluster)
    cluster.scale(len(cluster.worker_spec))


def _forget_closed(cluster: Any) -> None:
    """Take supervisors that gave up from a cluster's list, so that it starts others in their place."""
    for name, supervisor in list(cluster.workers.items()):
        if supervisor.status in (Status.closed, Status.failed):
            del cluster.workers[name]


def _queued(settings: DictConfig, device_tasks: int) -> Any:
    """A cluster whose workers are Slurm jobs, one worker a job; its cores are the threads of that worker's solver."""
    if shutil.which("sbatch") is None:
        raise InputError("cluster=slurm needs sbatch, and it is not here: run this on a node that submits Slurm jobs")
    interrupt = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, interrupt)  # its import made Ctrl-C an exit without a word
    directives = [*settings.directives, *([f"--gres=gpu:{settings.gpus}"] if settings.gpus else [])]
    return SLURMCluster(
        cores=settings.cores, memory=settings.memory, processes=1, queue=settings.queue, account=settings.account,
        walltime=settings.walltime, interface=settings.interface, job_extra_directives=directives,
        job_script_prologue=list(settings.prologue), log_directory=settings.logs,
        worker_extra_args=["--nthreads", str(WRITERS + (device_tasks if settings.gpus else 0))],
        scheduler_options={"dashboard_address": f":{settings.dashboard}"},
    )  # fmt: skip


def _tell(client: Client) -> None:
    """Where to look at the cluster."""
    if find_spec("bokeh") is None:
        print("no dashboard: pip install 'learn-morph-infer[dashboard]' brings it", flush=True)
    else:
        print(f"dashboard: {client.dashboard_link}", flush=True)
