"""The bound of the mechanism audit: its score, and what happens to an audit that cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssl_core.audit import mechanism
from ssl_core.errors import PrivacyError
from ssl_core.privacy.accountant import Schedule, calibrate


@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_the_score_is_the_ratio_of_the_two_densities(rate):
    sums = np.random.default_rng(0).normal(0.3, 1.0, (5, 7))
    absent = stats.norm.pdf(sums, 0, 1.3)
    present = (1 - rate) * absent + rate * stats.norm.pdf(sums, 1, 1.3)
    found = mechanism.likelihood_ratio(sums, Schedule(1.3, rate, 5))
    np.testing.assert_allclose(found, np.log(present / absent).sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("schedule", mechanism.SCHEDULES.values())
def test_the_schedules_are_those_of_a_claim_of_four(schedule):
    assert calibrate(4.0, 1e-5, schedule.sampling_rate, schedule.steps) == pytest.approx(schedule.noise_multiplier, abs=2e-4)


def test_an_audit_whose_scores_say_nothing_declares_itself_broken(monkeypatch):
    def blind(sums, schedule):
        return np.random.default_rng().random(sums.shape[1])

    monkeypatch.setattr(mechanism, "likelihood_ratio", blind)
    with pytest.raises(PrivacyError, match="audit is broken"):
        mechanism.audit_mechanism()
