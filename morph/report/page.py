"""`report.html`: everything about an answer on one page that needs no network, no server and no other file.

The page forbids itself every request (Content-Security-Policy). It holds no time of its own: the same answer makes
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from morph.answer import Personalization
from morph.patient import Patient
from morph.report import figures, tables
from morph.report.viewer import build_viewer
from morph.report.words import LIMITS, METHODS, TARGETS, VERDICTS, summarize, tell
from morph.targets import Targets, series_notes
from morph.uncertainty import Posterior

TEMPLATE, STYLE = "report.html.j2", "report.css"


def write_report(
    path: Path,
    patient: Patient,
    answer: Personalization,
    record: Mapping[str, Any],
    targets: Targets,
    twin: Mapping[str, Any] | None = None,
) -> None:
    """Write the report.

    Args:
        path: where to.
        patient: whose answer it is.
        answer: what was found.
        record: what parameters.json says.
        targets: volumes to aim at.
        twin: what twin.json says, for a digital twin.
    """
    loader = PackageLoader("morph", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    context = describe(patient, answer, record, targets, twin)
    css, _, _ = loader.get_source(environment, STYLE)
    html = environment.get_template(TEMPLATE).render(css=css, **context)
    path.write_text(html, encoding="utf-8")


def describe(
    patient: Patient,
    answer: Personalization,
    record: Mapping[str, Any],
    targets: Targets,
    twin: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the template lays out; see `write_report`."""
    told, posterior = tell(answer.checks), answer.posterior
    return {
        "name": patient.name,
        "version": record["versions"]["learn-morph-infer"],
        "fallback": answer.method == "fallback",
        "rejected": answer.parameters is None and answer.found is not None,
        "method": METHODS[answer.method],
        "summary": summarize(answer),
        "worries": [one for one in told if one.check.verdict != "pass"],
        "key_figures": tables.list_key_figures(patient, answer),
        "limits": LIMITS,
        "parameters": tables.list_parameters(answer, {} if posterior is None else posterior.intervals),
        "tissue": tables.tell_tissue(answer),
        "derived": tables.list_derived(answer),
        "truth": [] if twin is None else tables.compare_with_truth(answer, twin),
        "overview": figures.draw_masks_and_density(patient, answer.density),
        "viewer": build_viewer(patient, answer.density),
        "lacking": [name for name, image in (("T1Gd", patient.t1ce), ("FLAIR", patient.flair)) if image is None],
        "isolines": figures.draw_isolines(patient, answer.density),
        "push": [] if answer.push is None else figures.draw_push(patient, answer.push),
        "volumes": tables.list_volumes(answer.density),
        "targets": _describe_targets(patient, answer, targets),
        **_uncertainty(patient, posterior),
        "unsampled": any(one.check.name == "tumor_foci" and one.check.verdict != "pass" for one in told),
        "checks": told,
        "verdicts": VERDICTS,
        "number": tables.number,
        "facts": tables.list_facts(patient, answer, record),
        "sources": tables.list_sources(patient, record),
        "seconds": tables.list_seconds(record["seconds"]),
        "total": f"{sum(record['seconds'].values()):.0f}",
        "config": json.dumps(record["config"], indent=2, ensure_ascii=False),
    }


def _describe_targets(patient: Patient, answer: Personalization, targets: Targets) -> dict[str, Any]:
    """Picture, rows and overlap of the target volumes."""
    drawn = {name: title for name, title in TARGETS.items() if name in targets.masks}
    masks = {title.format(**targets.record.get(name, {})): targets.masks[name] for name, title in drawn.items()}
    overlap = targets.record["ctv_density"]
    return {
        "figure": figures.draw_targets(patient, masks),
        "rows": tables.compare_targets(masks, patient, answer),
        "dice": f"{overlap['dice']:.2f}",
        "apart": f"{overlap['only_ctv_density_ml']:.0f} ml",
        "barriers": targets.record["barriers"],
        "notes": series_notes(targets.record),
    }


def _uncertainty(patient: Patient, posterior: Posterior | None) -> dict[str, Any]:
    """The pictures and volumes of the posterior; empty without one."""
    if posterior is None:
        return {"uncertainty": [], "probable": [], "agreement": []}
    probability = posterior.probability[figures.PROBED]
    return {
        "uncertainty": figures.draw_uncertainty(patient, posterior.density_std, probability),
        "probable": tables.list_probable(probability, sorted(figures.CHANCES)),
        "agreement": tables.list_agreement(posterior),
    }
