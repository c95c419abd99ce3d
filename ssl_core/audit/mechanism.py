"""Audit 1: a lower bound on epsilon of the private step itself, white box, on worst-case gradients; seconds.

m canaries, canary j with gradient C e_j (norm exactly C, so that clipping has nothing to do: it has a check of its own),
each in by a fair coin. The product's training runs on those that are in; the auditor sees every noised gradient and
scores canary j by the likelihood ratio of coordinate j, "in" against "out", under the claimed q and sigma: the best
possible score when the claim is true (Neyman and Pearson 1933). The bound is that of one_run.py.
Two schedules, both worth epsilon = 4 at delta = 1e-5: one release of everybody, where a bound is sharpest, and 32 steps on
Poisson samples. A third attack is on tasks that compare patients: canaries that turn a bucket round, by 2 C, each in one
release (bucket_canary.py). All are run a second time with a tenth of the noise, which must FAIL (control.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.audit.bucket_canary import along, bucket_plan, observe_buckets, turning
from ssl_core.audit.canary import DELTA, canaries, canary_plan, observe
from ssl_core.audit.control import require_failed, weakened
from ssl_core.audit.one_run import OneRun, one_run
from ssl_core.privacy.accountant import Schedule, epsilon

CANARIES = 64 * 64
GUESSES = 1000
# noise_multiplier: what accountant.calibrate gives for epsilon = 4; the claim is computed anew each time.
SCHEDULES = {
    "one release of everybody": Schedule(1.0812, 1.0, 1),
    "32 Poisson-sampled steps": Schedule(1.8266, 0.25, 32),
}
BUCKETS = "one release of a bucket each"
BUCKET_CANARIES, BUCKET_GUESSES, BUCKET_ROUNDS = 1024, 400, 4


@dataclass(frozen=True, slots=True)
class MechanismAudit:
    """The bound for each schedule and for buckets, and the negative control of each."""

    runs: tuple[OneRun, ...]
    controls: tuple[OneRun, ...]


def audit_mechanism() -> MechanismAudit:
    """Both schedules and buckets, with their controls; `PrivacyError` when a control did not fail."""
    runs, controls = [], []
    everybody = next(iter(SCHEDULES.values()))
    for name, schedule, run in (*((*item, _units) for item in SCHEDULES.items()), (BUCKETS, everybody, _buckets)):
        claim = epsilon([schedule], DELTA)
        runs.append(run(name, schedule, claim, control=False))
        controls.append(require_failed(run(name, schedule, claim, control=True)))
    return MechanismAudit(tuple(runs), tuple(controls))


def _units(name: str, schedule: Schedule, claim: float, *, control: bool) -> OneRun:
    plan = canary_plan(
        size=CANARIES,
        sampling_rate=schedule.sampling_rate,
        noise_multiplier=schedule.noise_multiplier,
        steps=schedule.steps,
    )
    inside = np.random.default_rng().random(CANARIES) < 0.5
    patients = canaries(np.eye(CANARIES, dtype=np.float32)[inside])
    sums = observe(weakened(plan) if control else plan, patients).sums
    return one_run(name, likelihood_ratio(sums, schedule), inside, guesses=GUESSES, claim=claim, delta=DELTA)


def _buckets(name: str, schedule: Schedule, claim: float, *, control: bool) -> OneRun:
    plan = bucket_plan(schedule.noise_multiplier, BUCKET_CANARIES // BUCKET_ROUNDS)
    inside = np.random.default_rng().random((BUCKET_ROUNDS, plan.rounds.steps_per_round)) < 0.5
    sums = [along(observe_buckets(weakened(plan) if control else plan, turning(coins)).sums) for coins in inside]
    # A bucket is at -C without its canary and at C with it, under noise for 2 C: the same as 0 and C under noise for C.
    released = (np.concatenate(sums)[None, :] + 1.0) / 2.0
    scores = likelihood_ratio(released, schedule)
    return one_run(name, scores, inside.ravel(), guesses=BUCKET_GUESSES, claim=claim, delta=DELTA)


def likelihood_ratio(sums: npt.NDArray[np.float64], schedule: Schedule) -> npt.NDArray[np.float64]:
    """Noised coordinates [T, m] in units of C -> log of P(in) / P(out), [m]: a mixture 1 - q, q of N(0) and N(1)."""
    shifted = math.log(schedule.sampling_rate) + (2.0 * sums - 1.0) / (2.0 * schedule.noise_multiplier**2)
    stayed_out = math.log1p(-schedule.sampling_rate) if schedule.sampling_rate < 1.0 else -math.inf
    ratio: npt.NDArray[np.float64] = np.logaddexp(stayed_out, shifted).sum(axis=0)
    return ratio
