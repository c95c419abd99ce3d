"""Audit, all of it: what ran, what it found, in one record with one outcome.

Goes out: `AuditReport`. Everything is about synthetic patients, so that nothing here is a disclosure (ruling 23). FAIL
where any part failed; INCONCLUSIVE where the training audit's cap is not above the claim; PASS otherwise, which says that
these attacks found nothing and no more. `failures` stands in the order of the checks: the first of them names the fault.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ssl_core.audit.checks import Check, run_checks
from ssl_core.audit.inversion import ARMS, Arm, Trial, run_inversion
from ssl_core.audit.mechanism import MechanismAudit, audit_mechanism
from ssl_core.audit.one_run import OneRun, Outcome
from ssl_core.audit.training import TrainingAudit, TrainingAuditSpec, audit_training

MECHANISM = "mechanism audit"
TRAINING = "training audit"
MEMBERSHIP = "membership inference"

NOT_PROVEN = (
    "An audit finds faults; it never proves an epsilon. A lower bound below the claim is what a sound build gives, and what "
    "a build with a fault that these attacks do not reach gives too.",
    "The bounds on epsilon see gross faults: a third of the noise, not half of it (its scale alone is tested to 3 %). "
    "And a fault in one objective, encoder or device that the canaries do not use is not seen. The isolation check before "
    "each study and the tests of the source look at those.",
    "It runs this installation on this machine, on synthetic patients. It says nothing about what another site runs, about "
    "how long training takes, about the secure sum, or about what a hospital does with its own fine-tuned models.",
    "The accountant's figure is the claim that is attacked here; that it is computed rightly is shown by a second accountant.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """`training` is None after a quick audit."""

    mechanism: MechanismAudit
    checks: tuple[Check, ...]
    training: TrainingAudit | None
    inversion: tuple[Trial, ...]
    seconds: float

    @property
    def runs(self) -> tuple[OneRun, ...]:
        """Every bound on epsilon, without controls."""
        return self.mechanism.runs + (() if self.training is None else (self.training.run,))

    @property
    def controls(self) -> tuple[OneRun, ...]:
        """The negative control of each of `runs`, in their order."""
        return self.mechanism.controls + (() if self.training is None else (self.training.control,))

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of what failed, in the order in which it runs."""
        failed = [MECHANISM] if any(run.outcome == "FAIL" for run in self.mechanism.runs) else []
        failed += [check.name for check in self.checks if not check.passed]
        if self.training is not None and self.training.run.outcome == "FAIL":
            failed.append(TRAINING)
        if self.training is not None and self.training.membership.bound > self.training.run.claim:
            failed.append(MEMBERSHIP)
        return tuple(failed)

    @property
    def outcome(self) -> Outcome:
        """Of the whole audit; a broken audit has none, it raises."""
        if self.failures:
            return "FAIL"
        return "INCONCLUSIVE" if any(run.outcome == "INCONCLUSIVE" for run in self.runs) else "PASS"

    def likeness(self, arm: Arm) -> tuple[float, float]:
        """Median PSNR in dB and median SSIM of what the inversion found."""
        return median(t.psnr[arm] for t in self.inversion), median(t.ssim[arm] for t in self.inversion)

    def to_json(self) -> dict[str, Any]:
        """Plain types; an infinite PSNR, which means an equal picture, is null."""
        training = self.training
        return {
            "outcome": self.outcome,
            "failures": list(self.failures),
            "epsilon": [_run(run, control) for run, control in zip(self.runs, self.controls, strict=True)],
            "checks": [asdict(check) for check in self.checks],
            "membership": None if training is None else asdict(training.membership),
            "membership_with_a_tenth_of_the_noise": None if training is None else asdict(training.control_membership),
            "inversion": [
                {"arm": arm, "median_psnr_db": value if math.isfinite(value) else None, "median_ssim": like}
                for arm in ARMS
                for value, like in (self.likeness(arm),)
            ],
            "seconds": round(self.seconds, 1),
            "does_not_prove": list(NOT_PROVEN),
        }


def _run(run: OneRun, control: OneRun) -> dict[str, Any]:
    return asdict(run) | {"outcome": run.outcome, "negative_control": asdict(control) | {"outcome": control.outcome}}


def run_audit(*, quick: bool, spec: TrainingAuditSpec | None = None) -> AuditReport:
    """Mechanism audit, checks and inversion; unless `quick`, a shadow site is trained and attacked too.

    Raises `PrivacyError` when a negative control did not fail: such an audit has no result.
    """
    begin = time.monotonic()
    mechanism, checks = audit_mechanism(), run_checks()
    training = None if quick else audit_training(spec)
    inversion = run_inversion()
    return AuditReport(
        mechanism=mechanism, checks=checks, training=training, inversion=inversion, seconds=time.monotonic() - begin
    )
