"""Numbers that a configuration repeats for its reader are those of the code."""

from __future__ import annotations

from engine.command import compose
from morph import AntsRegistration, RefinementSettings
from morph.mass_effect import PushSettings
from morph.posterior import PosteriorSettings
from morph.targets import TargetSettings


def test_the_commands_defaults_are_the_librarys() -> None:
    config = compose("run")
    assert AntsRegistration(**config.registration) == AntsRegistration()
    assert RefinementSettings(**config.refinement) == RefinementSettings()
    assert PushSettings(**config.push) == PushSettings()
    assert PosteriorSettings(**config.posterior) == PosteriorSettings()
    assert TargetSettings(**config.targets) == TargetSettings()


def test_the_papers_registration_composes() -> None:
    paper = AntsRegistration(**compose("run", ["registration=paper"]).registration)
    assert paper == AntsRegistration(
        spacing=0, metric="CC", metric_parameter=4, iterations=(50, 20), gradient_step=0.25, flow_sigma=3
    )
