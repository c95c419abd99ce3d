"""Audit, the negative control: the same audit of the same code with a tenth of the noise must FAIL.

Comes in: a plan. Goes out: the plan with noise / 10, which no plan file may say (config.py's least is 0.3) and which no
site is ever given; synthetic shadow sites alone are trained under it. An audit whose control does not FAIL where its cap
is above the claim sees nothing, so that its PASS would mean nothing: it declares itself broken by a `PrivacyError`.
"""

from __future__ import annotations

from ssl_core.audit.one_run import OneRun
from ssl_core.config import StudyPlan
from ssl_core.errors import PrivacyError

DIVISOR = 10.0


def weakened(plan: StudyPlan) -> StudyPlan:
    """`plan` with noise / 10; everything else, and so the claim that it is judged by, stays."""
    noise = plan.privacy.noise_multiplier / DIVISOR
    return plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"noise_multiplier": noise})})


def require_failed(control: OneRun) -> OneRun:
    """The control itself; `PrivacyError` when it passed although its cap is above the claim."""
    if control.outcome == "PASS":
        raise PrivacyError(
            "the audit is broken: a tenth of the noise went unseen, so it has no result",
            field=f"negative control of: {control.name}",
            value=f"lower bound {control.bound:.2f} ({control.correct} of {control.guesses} guesses right)",
            limit=f"above the claim {control.claim:.2f}; at most {control.cap:.2f} could have been found",
            remedy="do not trust this installation's privacy figures; report it",
        )
    return control
