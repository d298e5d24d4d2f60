"""Generate a data set of simulated tumors.

    python -m engine.generate samples=100 out=runs/fk.zarr grid=half
    python -m engine.generate samples=100 out=runs/me.zarr model=mass_effect
    python -m engine.generate samples=100000 shard=64 out=s3://bucket/fk.zarr cluster=local
    python -m engine.generate verify=runs/fk.zarr
    python -m engine.generate describe=runs/fk.zarr

Sample i is the first proposal of its own random stream that passes the size filter, so equal seeds give equal
stores whatever was interrupted and whoever computed: run the same command again to resume, on any cluster.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from engine.atlas import load_atlas
from engine.backends import BACKENDS, choose_backend
from engine.command import require, run_command
from engine.crew import Crew, this_process
from engine.errors import InputError
from engine.fill import fill
from engine.grid import GRIDS
from engine.layout import layout_of
from engine.locks import locked
from engine.model import MODELS, Model, model_of
from engine.places import is_url
from engine.recipe import describe, recipe_of
from engine.sampling import PRIORS
from engine.shards import Maker, RemoteWorkshop, Workshop, device_tasks
from engine.store import Store, create_store, open_store
from engine.time_steps import SCHEMES
from engine.verify import mend, verify

KINDS = ("single", "local", "address", "slurm")
"""Of clusters."""


def main(config: DictConfig) -> int:
    """Generate, verify, repair or describe; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if config.verify is not None:
        return verify(str(config.verify))
    if config.describe is not None:
        from engine.data_card import write_card  # matplotlib takes a second to import

        return write_card(str(config.describe), config.out)
    if config.repair is not None:
        return _repair(config, str(config.repair))
    return _generate(config, str(require(config, "out")))


def _generate(config: DictConfig, out: str) -> int:
    samples, shard, seed = (_whole(config, key, low) for key, low in (("samples", 1), ("shard", 1), ("seed", 0)))
    scheme = _known("scheme", config.scheme, SCHEMES)
    backend, model = _known("backend", config.backend, BACKENDS), _model(config)
    prior, grid = PRIORS[_known("prior", config.prior.name, PRIORS)], GRIDS[_known("grid", config.grid.name, GRIDS)]
    files = _atlas_files(config) if "files" in config.atlas else None
    atlas = load_atlas(files or config.atlas.name, grid)
    tasks = device_tasks(shard, layout_of(model.name).row_bytes(grid.shape))
    with locked(out), _crew(config, backend, tasks) as crew:
        store = create_store(out, samples, describe(atlas, prior, seed, scheme, shard, crew.machine, files, model))
        return fill(store, crew, _maker(config, store), None if config.summary is None else Path(str(config.summary)))


def _model(config: DictConfig) -> Model:
    chosen = OmegaConf.to_container(config.model)
    assert isinstance(chosen, dict)
    name = _known("model", chosen.pop("name", None), MODELS)
    return model_of({"model": name} | {str(key): value for key, value in chosen.items()})


def _repair(config: DictConfig, place: str) -> int:
    with locked(place):
        store = open_store(place, "r+")
        tasks = device_tasks(store.shard, store.layout.row_bytes(store.grid.shape))
        with _crew(config, str(store.attributes["backend"]), tasks) as crew:
            mend(store)
            return fill(store, crew, _maker(config, store))


@contextmanager
def _crew(config: DictConfig, backend: str, tasks: int) -> Iterator[Crew]:
    """The crew that conf/cluster names, whose processes have so many more tasks if they feed a device."""
    if _known("cluster", config.cluster.kind, KINDS) == "single":
        with this_process(choose_backend(backend), tasks) as crew:
            yield crew
    else:
        from engine.cluster import on_cluster  # Dask takes a second to import

        with on_cluster(config.cluster, backend, tasks) as crew:
            yield crew


def _maker(config: DictConfig, store: Store) -> Maker:
    backend = str(store.attributes["backend"])
    if config.cluster.kind == "single":
        return Workshop(store, recipe_of(store.attributes, backend))
    return RemoteWorkshop(_same_everywhere(store.place), backend)


def _same_everywhere(place: str) -> str:
    """A place as workers that run in other folders find it."""
    return place if is_url(place) else str(Path(place).resolve())


def _whole(config: DictConfig, key: str, lowest: int) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InputError(f"{key}={value} must be a whole number, at least {lowest}")
    return value


def _atlas_files(config: DictConfig) -> dict[str, str]:
    """Absolute paths of a user's own atlas, so that the store can be read from any folder."""
    return {key: str(Path(str(require(config.atlas.files, key))).resolve()) for key in config.atlas.files}


def _known(kind: str, name: Any, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    if name not in known:
        raise InputError(f"{kind} {name!r} is unknown: use {' or '.join(known)}")
    return str(name)


if __name__ == "__main__":
    run_command(main, "generate")
