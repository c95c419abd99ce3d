"""The probe goes through the product's own round: what it says of a step is what the step did."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_core.audit.canary import CanaryModel, canaries, canary_plan, observe
from ssl_core.audit.control import require_failed, weakened
from ssl_core.audit.one_run import OneRun
from ssl_core.errors import PrivacyError
from ssl_core.privacy.bookkeeping import GAMMA
from ssl_core.privacy.engines import choose_engine


def test_a_canarys_gradient_is_its_record_in_every_engine():
    records = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    patients = canaries(records)
    model = CanaryModel(16, patients)
    views = model.draw(patients, np.arange(5), np.zeros((5, 0)))
    for choice in ("bookkeeping", "vmap", "reference"):
        rows = choose_engine(model, views, choice).rows(views)
        np.testing.assert_array_equal(torch.cat([row.reshape(5, -1) for row in rows], dim=1).numpy(), records)


def test_releases_are_the_clipped_sum_of_those_sampled_with_the_plans_noise():
    plan = canary_plan(size=64, sampling_rate=0.5, noise_multiplier=0.3, steps=200)
    records = np.zeros((3, 64), np.float32)
    records[0, 0], records[1, 40], records[2, 5] = 0.5, 7.0, -2.0
    seen = observe(plan, canaries(records), rounds=2)
    assert seen.sums.shape == (400, 64) and seen.sampled.shape == (400, 3)
    expected = np.zeros((400, 64))
    for unit, (place, value) in enumerate([(0, 0.5), (40, 1 / (1 + GAMMA)), (5, -1 / (1 + GAMMA))]):
        expected[:, place] = value * seen.sampled[:, unit]
    noise = seen.sums - expected
    assert abs(noise.std() - 0.3) < 0.01 and abs(noise.mean()) < 0.01


def test_empty_samples_are_steps_too():
    plan = canary_plan(size=64, sampling_rate=0.02, noise_multiplier=1.0, steps=40)
    sampled = observe(plan, canaries(np.zeros((2, 64), np.float32))).sampled
    assert sampled.shape == (40, 2) and (sampled.sum(axis=1) == 0).sum() > 20


def test_a_weakened_plan_differs_in_its_noise_alone():
    plan = canary_plan(size=64, sampling_rate=0.5, noise_multiplier=1.5, steps=2)
    weak = weakened(plan)
    assert weak.privacy.noise_multiplier == pytest.approx(0.15)
    assert plan.privacy.noise_multiplier == 1.5
    restored = weak.privacy.model_copy(update={"noise_multiplier": 1.5})
    assert weak.model_copy(update={"privacy": restored}) == plan


def control(**changes):
    body = {"name": "x", "claim": 4.0, "delta": 1e-5, "canaries": 1000, "guesses": 500, "correct": 400, "confidence": 0.95,
            "bound": 4.5, "cap": 5.0}  # fmt: skip
    return OneRun(**body | changes)


def test_a_control_that_passes_breaks_the_audit_and_one_that_cannot_tell_does_not():
    assert require_failed(control()).outcome == "FAIL"
    assert require_failed(control(cap=3.9, bound=3.9)).outcome == "INCONCLUSIVE"
    with pytest.raises(PrivacyError, match="audit is broken") as caught:
        require_failed(control(bound=2.0))
    assert "400 of 500" in str(caught.value) and caught.value.remedy
