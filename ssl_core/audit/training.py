"""Audits 2 and 3: a whole private study at a shadow site, attacked through the losses of the model that it gave.

Audit 2 looks at the canaries: a lower bound on epsilon by one run (one_run.py), with the number of guesses fixed here.
Audit 3 looks at the ordinary patients (membership.py); from their scores is taken what the same study does to them when
it trains on other synthetic patients (Watson et al., "On the Importance of Difficulty Calibration in Membership Inference
Attacks", ICLR 2022, section 4), without which a patient's own difficulty hides most of what can be found. Both are done
again after a study with a tenth of the noise: the canaries must then FAIL (control.py), and the attack on ordinary patients
shows what it can do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_core.audit.canary import DELTA
from ssl_core.audit.control import require_failed, weakened
from ssl_core.audit.membership import Membership, infer_membership
from ssl_core.audit.one_run import OneRun, one_run
from ssl_core.audit.shadow import loss_differences, make_site, shadow_plan
from ssl_core.config import StudyPlan
from ssl_core.privacy.accountant import Schedule, epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAuditSpec:
    """How much is trained; fixed before a score is seen. `guesses` sets the cap: above 3 (e^claim + 1), or nothing shows."""

    canaries: int = 1500
    guesses: int = 500
    ordinary: int = 800
    buckets: int = 3072


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAudit:
    """The study as it is, and the control with a tenth of its noise."""

    run: OneRun
    control: OneRun
    membership: Membership
    control_membership: Membership


def audit_training(spec: TrainingAuditSpec | None = None) -> TrainingAudit:
    """Two studies, one of them weakened; `PrivacyError` when the control did not fail."""
    chosen = spec or TrainingAuditSpec()
    plan = shadow_plan(chosen.buckets)
    run, membership = _attack(plan, plan, chosen)
    control, control_membership = _attack(plan, weakened(plan), chosen)
    return TrainingAudit(run=run, control=require_failed(control), membership=membership, control_membership=control_membership)


def _attack(claimed: StudyPlan, trained: StudyPlan, spec: TrainingAuditSpec) -> tuple[OneRun, Membership]:
    privacy = claimed.privacy
    schedule = Schedule(privacy.noise_multiplier, privacy.sampling_rate, claimed.rounds.steps_per_round)
    site = make_site(spec.buckets, canaries=spec.canaries, ordinary=spec.ordinary)
    scores = loss_differences(site, trained, site.patients)
    coins = site.inside[: site.canaries]
    claim = epsilon([schedule], DELTA)
    run = one_run("shadow study, by its losses", scores[: site.canaries], coins, guesses=spec.guesses, claim=claim, delta=DELTA)
    # What a study on other patients does to the same losses is no sign of who was in this one.
    others = make_site(spec.buckets, canaries=spec.canaries, ordinary=spec.ordinary)
    ordinary = site.patients.take(np.arange(site.canaries, len(site.patients)))
    known = loss_differences(others, trained, ordinary)
    return run, infer_membership(scores[site.canaries :] - known, site.inside[site.canaries :], delta=DELTA)
