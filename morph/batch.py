"""A folder of patients: every case in a process of its own, and a table of what came out.

A case that cannot be read, is killed or crashes leaves its sentence in the table and the next one begins. A case that
is finished, from the same files, with the same configuration and code, is not run again, so the same command
resumes. The table, summary.csv, has what is finished from the beginning on and is written after every case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from engine import InputError
from engine.apart import Main, run_apart
from engine.command import BAD_INPUT, INTERRUPTED
from engine.version import code_hash
from morph.bids import find_subject
from morph.dicom_input import may_be_dicom
from morph.layout import DATASET, PARAMETERS, PRODUCTS, Layout, lay_out
from morph.outputs import MARK, file_hash
from morph.patient import SUFFIXES, TISSUES, find_case
from morph.summary import FALLBACK_DELIVERED, SUMMARY, Row, describe, exit_status, show, write_summary

PLACES = ("case", "cases", "out", "demo")
"""Settings that say which patient and where to, not how."""
ALONE = ("case", "name", "t1", "t1ce", "flair", "seg", "core", "edema", "brain", *TISSUES, "dicom")
"""Settings of a single patient, which a folder of patients has no use for."""
SET_ASIDE = ("code", "derivatives", "results", "sourcedata", "stimuli")
"""Folders of a BIDS dataset, or of answers, that are no patients."""


def run_batch(options: dict[str, Any], main: Main, hash_tools: Callable[[], Mapping[str, str]]) -> int:
    """Run every case of a folder.

    Args:
        options: configuration of `python -m morph.run`, with `cases`.
        main: runs one case with a configuration and returns its exit status.
        hash_tools: hashes atlas and weights (`morph.outputs.hash_brain`).

    Returns:
        0 if every case has an answer, 3 if some of them are fallbacks, 2 if some could not be read, 1 if some crashed.

    Raises:
        InputError: no cases, two of one name, or nothing can be written.
    """
    given = [f"{key}=" for key in ALONE if options[key] is not None] + ["demo="] * bool(options["demo"])
    if given:
        raise InputError(f"cases= is a folder of patients: leave out {', '.join(given)}")
    source = Path(str(options["cases"]))
    console, rows, summary = Console(), dict[str, Row](), _root(options, source) / SUMMARY
    folders, others = find_folders(source, _root(options, source))
    jobs = plan(source, folders, options)
    tools = hash_tools()
    if others:
        console.print(f"without images, left out: {', '.join(path.name for path in others)}")
    for folder, layout in jobs.items():
        if (row := look_at(folder, layout, options, tools)) is not None:
            rows[folder.name] = row
            console.print(f"{folder.name}: {row.status}")
    write_summary(summary, in_order(rows, jobs))
    try:
        for number, (folder, layout) in enumerate(jobs.items(), 1):
            if folder.name not in rows:
                console.print(f"[bold]case {number} of {len(jobs)}: {folder.name}[/bold]")
                rows[folder.name] = run_one(folder, layout, options, main)
                write_summary(summary, in_order(rows, jobs))
    finally:
        if rows:
            show(console, in_order(rows, jobs))
            console.print(f"written to {summary}; {len(jobs) - len(rows)} cases left")
    return exit_status(list(rows.values()))


def in_order(rows: Mapping[str, Row], jobs: Iterable[Path]) -> list[Row]:
    """The rows that are there, as the cases come."""
    return [rows[folder.name] for folder in jobs if folder.name in rows]


def find_folders(source: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of patients in a folder: subjects of a BIDS dataset and those with images; and the others.

    A folder whose images lie deeper is a patient's as well: that they are not found there belongs into the table. The
    folder of the answers, `root`, is none, nor is one that holds nothing but answers.

    Raises:
        InputError: there is no such folder, or none in it, or the answers would lie in a patient's folder.
    """
    if not source.is_dir():
        raise InputError(f"cases={source} is not a folder: give one with a folder for each patient")
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    folders = [path for path in folders if path.name not in SET_ASIDE and path.resolve() != root.resolve()]
    found = [path for path in folders if path.name.startswith("sub-") or _has_images(path, root)]
    if not found:
        raise InputError(f"cases={source} has no folder with images: give the folder that holds the patients' folders")
    for path in found:
        if root.resolve().is_relative_to(path.resolve()):
            raise InputError(f"out={root} would put the answers into {path.name}, among the images: choose another")
    return found, [path for path in folders if path not in found]


def find_files(folder: Path) -> dict[str, Path]:
    """The files of a patient's folder, with BraTS names or a BIDS subject's.

    Raises:
        InputError: something is missing or there twice.
    """
    return find_subject(folder) or find_case(folder)


def plan(source: Path, folders: list[Path], options: Mapping[str, Any]) -> dict[Path, Layout]:
    """Where each case's answer goes.

    Raises:
        InputError: two answers, or an answer and a patient's images, would share a folder.
    """
    root = _root(options, source)
    jobs: dict[Path, Layout] = {}
    for folder in folders:
        bids = options["layout"] == "bids"
        layout = lay_out(options["layout"], root if bids else root / folder.name, folder.name)
        clash = [other.name for other, planned in jobs.items() if planned == layout]
        if clash:
            raise InputError(f"{clash[0]} and {folder.name} would both be {layout.subject}: rename one of the folders")
        if layout.folder.resolve() == folder.resolve():
            raise InputError(f"out={root} would put the answers among the images: choose another folder")
        jobs[folder] = layout
    return jobs


def look_at(folder: Path, layout: Layout, options: Mapping[str, Any], tools: Mapping[str, str]) -> Row | None:
    """The row of a case that is finished or cannot be read; None if it is to be run."""
    try:
        kept = is_finished(layout, find_files(folder), options, tools)
    except InputError as error:
        return Row(folder.name, "bad input", error=str(error))
    except OSError as error:
        return Row(folder.name, "bad input", error=f"{error.filename or folder} cannot be read ({error.strerror})")
    return _row("kept", folder, layout) if kept else None


def run_one(folder: Path, layout: Layout, options: Mapping[str, Any], main: Main) -> Row:
    """Run one case and say what came out."""
    status, sentence = run_apart(main, {**options, "cases": None, "case": str(folder), "out": str(layout.root)})
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status not in (0, FALLBACK_DELIVERED):
        return Row(folder.name, "bad input" if status == BAD_INPUT else "crashed", error=sentence)
    return _row("done", folder, layout)


def _row(status: str, folder: Path, layout: Layout) -> Row:
    return describe(folder.name, status, json.loads(layout.place(PARAMETERS).read_text(encoding="utf-8")))


def is_finished(
    layout: Layout, files: Mapping[str, Path], options: Mapping[str, Any], tools: Mapping[str, str]
) -> bool:
    """Whether an answer from the same files, atlas and weights, with the same configuration and code, is there.

    All of its files must be, with the sidecars that they have in BIDS.

    Raises:
        OSError: a file of the patient cannot be read.
    """
    try:
        record = json.loads(layout.place(PARAMETERS).read_text(encoding="utf-8"))
        hashes, config, code = record["hashes"], record["config"], record["versions"]["code"]
        written = [layout.place(name) for name in record["files"]]
        written += [path for name in record["files"] for path in layout.sidecars(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    how, before = (
        {key: value for key, value in settings.items() if key not in PLACES}
        for settings in (json.loads(json.dumps(options)), config)
    )
    if how != before or code != code_hash() or not all(path.is_file() for path in written):
        return False
    return bool(hashes == {**{role: file_hash(path) for role, path in files.items()}, **tools})


def _root(options: Mapping[str, Any], source: Path) -> Path:
    if options["out"] is not None:
        return Path(str(options["out"]))
    return DATASET if options["layout"] == "bids" else Path("results") / source.resolve().name


def _has_images(folder: Path, root: Path) -> bool:
    """Whether a NIfTI or DICOM file lies in a folder, at any depth, that is no answer's; answers go to `root`."""
    answers = root.resolve() if root.resolve().is_relative_to(folder.resolve()) else None
    files = (path for path in folder.rglob("*") if answers is None or not path.resolve().is_relative_to(answers))
    images = (path for path in files if path.name.endswith(SUFFIXES) or may_be_dicom(path))
    return any(not _is_answers(path) for path in images)


def _is_answers(path: Path) -> bool:
    """Whether an answer left a file: in its folder, where other files may lie, or in one below."""
    folder = path.parent
    return path.name in PRODUCTS if (folder / MARK).exists() else (folder.parent / MARK).exists()
