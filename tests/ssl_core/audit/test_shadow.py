"""The training audit on a small shadow site: what it finds, when it can say nothing, and when it is broken."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_core.audit import training
from ssl_core.audit.shadow import SCHEDULE, WORDS, make_site, shadow_plan
from ssl_core.audit.training import TrainingAuditSpec, audit_training
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.privacy.accountant import calibrate

SMALL = TrainingAuditSpec(canaries=900, guesses=300, ordinary=450, buckets=1280)


def test_the_healthy_study_passes_its_control_fails_and_members_show_without_noise():
    found = audit_training(SMALL)
    assert (found.run.outcome, found.control.outcome) == ("PASS", "FAIL")
    assert found.run.cap > found.run.claim > 3.99 and (found.run.canaries, found.run.guesses) == (900, 300)
    assert 0.0 < found.run.bound < 3.0, "the attack sees something, and less than the claim"
    assert found.control_membership.auroc_interval[0] > 0.52
    assert found.membership.bound <= found.run.claim


def test_a_cap_below_the_claim_is_inconclusive_and_not_broken():
    found = audit_training(TrainingAuditSpec(canaries=200, guesses=100, ordinary=450, buckets=512))
    assert found.run.cap < found.run.claim
    assert (found.run.outcome, found.control.outcome) == ("INCONCLUSIVE", "INCONCLUSIVE")


def test_losses_that_say_nothing_break_the_audit(monkeypatch):
    monkeypatch.setattr(training, "loss_differences", lambda site, plan, scored: np.random.default_rng().random(len(scored)))
    with pytest.raises(PrivacyError, match="audit is broken"):
        audit_training(SMALL)


def test_each_canary_has_a_code_of_its_own_and_ordinary_notes_have_none_of_them():
    site = make_site(256, canaries=50, ordinary=100)
    codes = site.patients.records[:, :, 0]
    assert codes.shape == (150, WORDS) and len(site.inside) == 150
    assert sorted(set(codes[:50].ravel())) == list(range(206, 256))
    assert (codes[:50] == codes[:50, :1]).all() and codes[50:].max() < 206
    assert not np.array_equal(site.inside, make_site(256, canaries=50, ordinary=100).inside)


def test_a_table_that_is_too_small_is_refused():
    with pytest.raises(ConfigError, match="hash table"):
        make_site(128, canaries=100, ordinary=10)


def test_the_schedule_is_that_of_a_claim_of_four():
    assert shadow_plan(512).privacy.noise_multiplier == SCHEDULE.noise_multiplier
    found = calibrate(4.0, 1e-5, SCHEDULE.sampling_rate, SCHEDULE.steps)
    assert found == pytest.approx(SCHEDULE.noise_multiplier, abs=2e-4)
