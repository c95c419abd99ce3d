"""What training costs here: the planner's own engine, batch and memory; the plan's steps and rounds; made-up patients alone.

No test asserts a time: the clock is made up where one matters.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tests_tasks import plan

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data.patients import Patients
from ssl_core.datacheck import training_cost as module
from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.datacheck.training_cost import TrainingCost, training_cost
from ssl_core.objectives.build import build_model
from ssl_core.privacy.planner import choose_pace

KINDS = [
    ("text", "hashed-words", "masked-words"),
    ("image", "vit", "masked-autoencoding"),
    ("image", "vit", "simclr-buckets"),
    ("table", "table-transformer", "masked-features"),
    ("pair", "two-tower", "caption"),
]
LONG = 1e6
"""Seconds in which any model of these is found an engine and a batch; what is measured is bounded by the sample alone."""


def small(kinds: tuple[str, str, str] = KINDS[1], **changes: Any) -> StudyPlan:
    """Nano models; at site b a step takes 3 of 60 patients."""
    body = plan(kinds, 1).model_dump(mode="json")
    body["sites"] = [{"name": name, "nominal_size": size} for name, size in (("a", 200), ("b", 60), ("c", 100))]
    return parse(StudyPlan, body | changes, "plan")


def cost(asked: StudyPlan, seconds: float = LONG, site: str | None = None, **speed: Any) -> TrainingCost:
    found = training_cost(asked, SpeedSpec(**speed), seconds=seconds, site=site)
    assert isinstance(found, TrainingCost)
    return found


@pytest.mark.parametrize("kinds", KINDS)
def test_engine_batch_and_memory_are_the_planners_and_the_sums_are_right(kinds: tuple[str, str, str]) -> None:
    asked = small(kinds, rounds={"rounds": 7, "steps_per_round": 11, "max_void": 3})
    found = cost(asked, site="b")
    pace = choose_pace(build_model(asked), asked.data, SpeedSpec(), torch.device("cpu"))
    assert (found.engine, found.batch, found.memory) == (pace.engine.name, pace.size, pace.need)
    assert pace.need is not None and f"{pace.need / (1 << 20):,.0f} of " in pace.why
    assert (found.site, found.patients, found.sample) == ("b", 60, pytest.approx(3.0))
    assert found.step_seconds > 0 and found.round_seconds == 11 * found.step_seconds
    assert found.study_seconds == 7 * found.round_seconds and found.void_rounds == 3
    said = json.loads(json.dumps(found.to_json()))
    assert said["seconds_in_all"] == said["rounds"] * said["steps_a_round"] * said["seconds_a_step"]
    assert said["physical_batch"] == pace.size and said["peak_bytes"] == pace.need


@pytest.mark.parametrize("kinds", KINDS)
def test_a_model_that_is_too_large_for_the_time_is_timed_by_one_patient(
    kinds: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("this takes long for a large model")

    asked = small(kinds)
    need = cost(asked).memory
    monkeypatch.setattr(module, "choose_pace", never)
    monkeypatch.setattr(module, "train_round", never)
    found = cost(asked, seconds=1e-9)
    assert (found.engine, found.batch) == (None, None) and found.search_seconds > 1e-9
    assert found.memory is not None and need is not None and 0 < found.memory <= need
    assert found.step_seconds > 0 and found.study_seconds == 2 * 2 * found.step_seconds


def test_without_a_site_of_the_plan_the_largest_counts() -> None:
    for site in (None, "somebody"):
        found = cost(small(), 1e-9, site)
        assert (found.site, found.patients, found.sample) == (None, 200, pytest.approx(10.0))


def test_the_sites_own_batch_is_taken_and_its_memory_not_foreseen() -> None:
    found = cost(small(), chunk=5, engine="vmap")
    assert (found.engine, found.batch, found.memory) == ("vmap", 5, None)


@pytest.mark.parametrize("seconds", [0.5, 5.0, LONG])
def test_a_step_is_what_a_patient_adds_times_the_expected_sample(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """By a clock that a loop of our own moves on: 2 s a step, 0.25 s a patient; the measured step itself is bounded."""
    now, taken = 0.0, []

    def train(*, patients: Patients, plan: StudyPlan, nominal_size: int, **_: Any) -> None:
        nonlocal now
        taken.append(len(patients))
        # Everybody is sampled, for one step, and the groups are those of so many patients.
        assert (plan.privacy.sampling_rate, plan.rounds.steps_per_round) == (1.0, 1)
        assert nominal_size == max(1, len(patients))
        now += 2 + 0.25 * len(patients)

    monkeypatch.setattr(module, "train_round", train)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    asked = small(sites=[{"name": name, "nominal_size": 1000} for name in "abc"])
    assert cost(asked, seconds).step_seconds == pytest.approx(2 + 0.25 * 50)
    assert taken[-1] == {0.5: 1, 5.0: 6, LONG: 50}[seconds]
    # Records of many bytes bound it, too.
    monkeypatch.setattr(module, "_MOST_BYTES", 20 * 4 * asked.data.values * 4)  # type: ignore[union-attr]
    assert cost(asked, LONG).step_seconds == pytest.approx(2 + 0.25 * 50) and taken[-1] == 20


@pytest.mark.parametrize("seconds", [1e-9, LONG])
def test_what_this_machine_cannot_train_is_a_finding(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for speed, words in (({"device": "cuda"}, "no CUDA device"), ({"memory_gib": 1e-6}, "one patient of this study")):
        for site, weight in ((None, Weight.WARNING), ("a", Weight.REFUSED)):
            found = training_cost(small(), SpeedSpec(**speed), seconds=seconds, site=site)
            assert isinstance(found, Finding) and found.weight is weight
            assert words in found.what and "speed." in found.what and found.remedy


def test_an_engine_that_does_not_fit_is_a_finding() -> None:
    found = training_cost(small(KINDS[0]), SpeedSpec(engine="bookkeeping"), seconds=LONG, site="a")
    assert isinstance(found, Finding) and "does not fit this model" in found.what and "auto" in found.remedy


@pytest.mark.parametrize("seconds", [1e-9, LONG])
def test_nobody_but_made_up_patients_is_drawn_and_threads_are_as_before(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    asked, drawn = small(), list[str]()
    kind = type(build_model(asked))
    honest = kind.draw

    def spy(self: Any, patients: Patients, index: np.ndarray, uniforms: np.ndarray) -> Any:
        drawn.extend(patients.units)
        return honest(self, patients, index, uniforms)

    monkeypatch.setattr(kind, "draw", spy)
    before = torch.get_num_threads()
    cost(asked, seconds)
    assert drawn and all(unit.startswith("synthetic-") for unit in drawn) and torch.get_num_threads() == before
