"""Which options of the demo go together, and that every frozen plan is a plan at an epsilon of at most 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from tests_commands import run

from deploy import demo
from deploy.demo_choice import DemoChoice, Study
from ssl_core.config import StudyPlan, parse
from ssl_core.errors import ConfigError
from ssl_core.privacy.accountant import Schedule, epsilon

SOME = Path("x.npz")
CHOICES: dict[str, dict[str, Any]] = {
    "reports": {},
    "images": {"images": SOME, "classes": ("a", "b")},
    "signals": {"signals": SOME, "classes": ("a", "b")},
    "procedural-images": {"modality": "image"},
    "procedural-signals": {"modality": "signal", "procedural": True},
    "procedural-tables": {"modality": "table"},
    "procedural-sounds": {"modality": "sound"},
    "procedural-events": {"modality": "events"},
    "procedural-pairs": {"modality": "pair"},
}


def test_every_study_is_chosen_by_some_options() -> None:
    assert set(CHOICES) == set(get_args(Study))
    for study, options in CHOICES.items():
        choice = DemoChoice(**options)
        choice.check()
        assert choice.study == study
    assert DemoChoice(modality="text", procedural=True).study == "reports"
    assert DemoChoice(modality="image", images=SOME).study == "images"


@pytest.mark.parametrize("study", CHOICES)
def test_frozen_plans_are_plans_and_spend_at_most_8_over_their_rounds(study: str) -> None:
    choice = DemoChoice(**CHOICES[study])
    sites = [{"name": f"site-{number}", "nominal_size": size} for number, size in enumerate(choice.nominal_sizes)]
    plan = parse(StudyPlan, choice.plan() | {"sites": sites}, "study plan")
    privacy, steps = plan.privacy, plan.rounds.rounds * plan.rounds.steps_per_round
    spent = epsilon([Schedule(privacy.noise_multiplier, privacy.sampling_rate, steps)], privacy.delta)
    assert 6.5 < spent <= 8.0


@pytest.mark.parametrize("word", ["sound", "audio"])
def test_audio_is_another_word_for_sound(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[DemoChoice] = []

    def keep(choice: DemoChoice, out: Path) -> int:
        chosen.append(choice)
        return 0

    monkeypatch.setattr(demo, "run_demo", keep)
    done = run("demo", "--modality", word, "--warm", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    (choice,) = chosen
    choice.check()
    assert (choice.kind, choice.study) == ("sound", "procedural-sounds")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": SOME, "signals": SOME}, "choose one of --images and --signals"),
        ({"images": SOME, "procedural": True}, "choose one of --images and --procedural"),
        ({"signals": SOME, "procedural": True}, "choose one of --signals and --procedural"),
        ({"images": SOME, "modality": "signal"}, "--images goes with --modality image"),
        ({"signals": SOME, "modality": "text"}, "--signals goes with --modality signal"),
        ({"classes": ("a", "b")}, "--classes goes with"),
        ({"classes": ("a", "b"), "modality": "image"}, "--classes goes with"),
        ({"wheel": SOME, "modality": "table"}, "--wheel goes with"),
        ({"wheel": SOME, "procedural": True}, "--wheel goes with"),
        ({"wheel": SOME, "modality": "sound"}, "--wheel goes with"),
        ({"signals": SOME, "modality": "sound"}, "--signals goes with --modality signal"),
        ({"warm": True}, "no generated data"),
        ({"warm": True, "modality": "table"}, "no generated data"),
        ({"warm": True, "modality": "events"}, "no generated data"),
        ({"warm": True, "modality": "pair"}, "no generated data"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DemoChoice(**options).check()
