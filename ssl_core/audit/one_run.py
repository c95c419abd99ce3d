"""Audit, the arithmetic: guesses about canaries -> a lower bound on epsilon, and PASS, FAIL or INCONCLUSIVE.

m canaries each took part by a fair coin of their own. r guesses were fixed beforehand: the r / 2 highest scores are
called in, the r / 2 lowest out, the others are left alone. Under (epsilon, delta)-DP by add-or-remove-one the number v
of right guesses is dominated by Binomial(r, e^eps / (1 + e^eps)), up to a term in m delta: Steinke, Nasr, Jagielski,
"Privacy Auditing with One (1) Training Run" (NeurIPS 2023), corollary 5.4 and appendix D. The canaries may depend on each
other in any way through the mechanism; only the coins must be independent.
With r right guesses of r the bound cannot pass a cap. A cap that is not above the claim can show nothing: INCONCLUSIVE.
Beside it the interval of Clopper and Pearson (Biometrika 1934) for a share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ssl_core.errors import PrivacyError

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]

CONFIDENCE = 0.95
_HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun:
    """What m canaries showed of one run whose accountant says `claim` at `delta`."""

    name: str
    claim: float
    delta: float
    canaries: int
    guesses: int
    correct: int
    confidence: float
    bound: float
    cap: float

    @property
    def outcome(self) -> Outcome:
        """FAIL: epsilon is above the claim, at this confidence; INCONCLUSIVE: it could not have been seen."""
        if self.cap <= self.claim:
            return "INCONCLUSIVE"
        return "FAIL" if self.bound > self.claim else "PASS"


def one_run(
    name: str, scores: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_], *, guesses: int, claim: float, delta: float
) -> OneRun:
    """Scores [m], higher where a canary seems to have taken part, and the coins [m], to the audit's result."""
    if scores.shape != inside.shape or scores.ndim != 1:
        raise PrivacyError("scores and coins differ in shape", field="scores", value=scores.shape, limit=inside.shape)
    if guesses % 2 or not 2 <= guesses <= len(scores):
        raise PrivacyError(
            "number of guesses does not fit the canaries", field="guesses", value=guesses, limit=f"even, 2 .. {len(scores)}"
        )
    # Not a number is the strongest sign that a release could give of who is in it, never the end of an audit.
    order = np.argsort(np.nan_to_num(scores, nan=np.inf), kind="stable")
    low, high = order[: guesses // 2], order[-guesses // 2 :]
    correct = int((~inside[low]).sum() + inside[high].sum())
    return OneRun(
        name=name,
        claim=claim,
        delta=delta,
        canaries=len(scores),
        guesses=guesses,
        correct=correct,
        confidence=CONFIDENCE,
        bound=epsilon_bound(len(scores), guesses, correct, delta),
        cap=epsilon_bound(len(scores), guesses, guesses, delta),
    )


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Greatest chance of `correct` or more right guesses under (epsilon, delta)-DP."""
    accuracy = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, accuracy))
    if correct == 0 or delta == 0.0:
        return min(tail, 1.0)
    near = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
    steepest = float((near / np.arange(1, correct + 1)).max())
    return min(tail + steepest * delta * 2 * canaries, 1.0)


def epsilon_bound(canaries: int, guesses: int, correct: int, delta: float, *, confidence: float = CONFIDENCE) -> float:
    """Largest epsilon that so many right guesses exclude, from below; 0 where they exclude none."""
    chance = 1.0 - confidence
    if p_value(canaries, guesses, correct, 0.0, delta) >= chance:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(canaries, guesses, correct, high, delta) < chance:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if p_value(canaries, guesses, correct, middle, delta) < chance:
            low = middle
        else:
            high = middle
    return low


def clopper_pearson(hits: int, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a share of which `hits` of `trials` were seen; each side errs with (1 - confidence) / 2."""
    if not 0 <= hits <= trials or trials < 1:
        raise PrivacyError("hits do not fit the trials", field="hits", value=hits, limit=f"0 .. {trials}")
    side = (1.0 - confidence) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(side, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1.0 - side, hits + 1, trials - hits))
    return low, high
