"""A registration that is kept in a folder and not repeated for the same images and settings.

The folder holds the transforms both ways, as ANTs writes them, and `registration.json` with what they were made
from; any other T1, tumor, atlas, setting or version of ANTs makes them anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import InputError
from morph.ants import KEPT_NAMES, AntsRegistration, AntsWarp
from morph.volume import Volume

RECORD = "registration.json"
RULES = 2
"""To be raised when the same settings come to mean something else."""


@dataclass(frozen=True)
class KeptRegistration:
    """A registration with a memory.

    Attributes:
        registration: what to do the first time.
        folder: where its result is kept; made when needed.
    """

    registration: AntsRegistration
    folder: Path

    def register(self, patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> AntsWarp:
        """See `morph.registration.Registration`.

        Raises:
            RegistrationFailed: the images cannot be registered.
            InputError: the folder cannot be written.
        """
        made_from: dict[str, object] = {
            "images": _hash_images(patient, atlas, ignore),
            "settings": asdict(self.registration) | {"iterations": list(self.registration.iterations)},
            "antspyx": metadata.version("antspyx"),
            "rules": RULES,
        }
        kept = self._read(made_from)
        if kept is not None:
            return kept
        try:
            self._clear()
            self.folder.mkdir(parents=True, exist_ok=True)
            warp = self.registration.register(patient, atlas, ignore).kept_in(self.folder)
            record = {"made_from": made_from, "files": {path.name: _hash_file(path) for path in warp.files}}
            (self.folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written ({error.strerror}): choose another out=") from error
        return warp

    def forget(self) -> None:
        """Take away what another run's registration left, so that nobody takes it for this one's.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            if (self.folder / RECORD).exists():
                self._clear()
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written ({error.strerror}): choose another out=") from error

    def _record(self) -> dict[str, Any]:
        """What the kept transforms were made from; empty where that cannot be told."""
        try:
            found = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _clear(self) -> None:
        for name in (RECORD, *KEPT_NAMES):
            (self.folder / name).unlink(missing_ok=True)

    def _read(self, made_from: dict[str, object]) -> AntsWarp | None:
        """The kept warp, if it is the one that is asked for and whole."""
        try:
            record = self._record()
            if record["made_from"] != made_from:
                return None
            warp = AntsWarp.read(self.folder)
            return warp if all(_hash_file(path) == record["files"][path.name] for path in warp.files) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _hash_images(patient: Volume, atlas: Volume, ignore: NDArray[np.bool_]) -> str:
    digest = hashlib.sha256()
    for array in (patient.array, patient.affine, atlas.array, atlas.affine, np.packbits(ignore)):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
