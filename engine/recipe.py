"""All that decides the rows of a store: as its attributes, and as objects that compute the rows."""

from __future__ import annotations

import json
import platform
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, cast

from llvmlite import binding

from engine.acceptance import Acceptance
from engine.atlas import Atlas, load_atlas
from engine.backends import Backend, choose_backend
from engine.errors import InputError
from engine.grid import Grid
from engine.model import Model, model_of
from engine.parameters import Parameters
from engine.sampling import Prior
from engine.simulate import simulate
from engine.store import SCHEMA_VERSION
from engine.version import package_version


@dataclass(frozen=True)
class Machine:
    """What rounds the numbers: the backend's name, and the processor's instruction set."""

    backend: str
    instruction_set: str


def this_machine(backend: str | Backend) -> Machine:
    """The machine that calls this, with the backend that it would run."""
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    return Machine(runner.name, instruction_set())


def instruction_set() -> str:
    """Architecture and widest vectors of this machine: NumPy's rounding of sin and exp depends on them."""
    features = binding.get_host_cpu_features()
    widest = next((name for name in ("avx512f", "avx2", "sve", "neon") if features.get(name)), "scalar")
    return f"{platform.machine()}-{widest}"


def describe(
    atlas: Atlas,
    prior: Prior,
    seed: int,
    scheme: str,
    shard: int,
    machine: Machine,
    files: Any = None,
    model: Model | None = None,
) -> dict[str, Any]:
    """The attributes of a store: all that decides its content, and the version that wrote it."""
    grid = atlas.grid
    return {
        "schema_version": SCHEMA_VERSION,
        "physics_version": (model or Model()).physics_version,
        **(model or Model()).attributes,
        "scheme": scheme,
        "atlas": {"name": atlas.name, "content_hash": atlas.content_hash, "files": files},
        "grid": {"shape": list(grid.shape), "spacing": grid.spacing, "corner": list(grid.corner)},
        "prior": asdict(prior),
        "seed": int(seed),
        "shard": int(shard),
        **asdict(machine),
        "code_version": package_version(),
        "units": "mm, day; origin in fractions of the grid's extent, axes RAS",
    }


@dataclass(frozen=True, eq=False)
class Recipe:
    """What computes the rows of a store.

    Attributes:
        atlas: the brain.
        prior: where proposals come from, and the sizes that are kept.
        seed: of the random streams.
        scheme: of the time steps.
        backend: where simulations run.
        model: what grows.
    """

    atlas: Atlas
    prior: Prior
    seed: int
    scheme: str
    backend: Backend
    model: Model = field(default_factory=Model)
    acceptance: Acceptance = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Threads that accept rows do it together."""
        found = Acceptance(self.seed, self.scheme, self.atlas, self.prior, self.backend, self.model)
        object.__setattr__(self, "acceptance", found)

    def accept(self, rows: range) -> tuple[list[dict[str, Any]], int]:
        """The samples `rows`, and how many proposals were drawn for them; any number of threads may call this."""
        return self.acceptance.accept(rows)

    def propose(self, sample: int, proposal: int) -> Parameters:
        """One draw of a sample's stream."""
        growth = self.prior.propose(self.seed, sample, proposal, self.atlas)
        return self.model.tumor(growth, self.seed, sample, proposal)

    def attempt(self, sample: int, proposal: int) -> None:
        """Simulate one proposal, for what it raises."""
        tumor = self.propose(sample, proposal)
        simulate([tumor], self.atlas, backend=self.backend, scheme=self.scheme, stop_volume=self.prior.size[1])


def recipe_of(attributes: Mapping[str, Any], backend: str | Backend) -> Recipe:
    """What computes the rows of a store with these attributes on this machine; the last one is kept.

    Raises:
        InputError: this version or this machine would give other rows, or the atlas is not the store's.
    """
    return _recipe(json.dumps(dict(attributes), sort_keys=True), cast(Hashable, backend))


@lru_cache(maxsize=1)
def _recipe(text: str, backend: Any) -> Recipe:
    about = json.loads(text)
    runner = choose_backend(backend) if isinstance(backend, str) else backend
    ours = {"physics_version": model_of(about).physics_version, **asdict(this_machine(runner))}
    for key, value in ours.items():
        if about[key] != value:
            raise InputError(f"the store was made with {key}={about[key]}, here it is {value}: rows would differ")
    described, grid = about["atlas"], about["grid"]
    atlas = load_atlas(described["files"] or described["name"], Grid(tuple(grid["shape"]), grid["spacing"]))
    if atlas.content_hash != described["content_hash"]:
        raise InputError(f"the atlas {described['name']} found here differs from the store's")
    return Recipe(atlas, prior_of(about), about["seed"], about["scheme"], runner, model_of(about))


def prior_of(attributes: Mapping[str, Any]) -> Prior:
    """The prior of a store with these attributes."""
    return Prior(**{key: _tuples(value) for key, value in attributes["prior"].items()})


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
