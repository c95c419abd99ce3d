"""Audit 3: who was in it? The loss-difference attack on ordinary synthetic patients.

Comes in: scores of patients that were in the study and of others, higher where a patient seems to have been in it (Yeom et
al., "Privacy Risk in Machine Learning", CSF 2018, section III). Goes out: AUROC with a 95 % interval (DeLong, DeLong,
Clarke-Pearson, Biometrics 1988), and the rate of true positives where 1 % are false (Carlini et al., "Membership Inference
Attacks From First Principles", S&P 2022, section III: averages hide who is found).
The threshold is set on one half of the others and judged on the other half, so that both rates are plain shares with the
interval of Clopper and Pearson; together they bound epsilon from below: TPR <= e^eps FPR + delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ssl_core.audit.one_run import clopper_pearson
from ssl_core.errors import PrivacyError
from ssl_core.evaluation.auroc import auroc

Scores = npt.NDArray[np.float64]
Interval = tuple[float, float]

FALSE_POSITIVES = 0.01
_LEAST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the attack finds; intervals of 95 %."""

    inside: int
    outside: int
    auroc: float
    auroc_interval: Interval
    true_positives: float
    true_positives_interval: Interval
    false_positives: float
    false_positives_interval: Interval
    bound: float
    """Lower bound on epsilon, 95 %, from both intervals."""


def infer_membership(scores: Scores, inside: npt.NDArray[np.bool_], *, delta: float) -> Membership:
    """Scores float64 [n] and who was in it [n]; at least 100 of each."""
    members, others = scores[inside], scores[~inside]
    if min(len(members), len(others)) < _LEAST:
        raise PrivacyError(
            "too few patients for a membership test", field="patients", value=min(len(members), len(others)), limit=_LEAST
        )
    half = len(others) // 2
    threshold = float(np.quantile(others[:half], 1.0 - FALSE_POSITIVES, method="higher"))
    hits, trials = int((members > threshold).sum()), len(members)
    false, checked = int((others[half:] > threshold).sum()), len(others) - half
    # Both sides of both intervals err with 2.5 %: the bound below errs with 5 %.
    tpr, fpr = clopper_pearson(hits, trials), clopper_pearson(false, checked)
    above = tpr[0] - delta
    return Membership(
        inside=trials,
        outside=len(others),
        auroc=float(auroc(scores[:, None], inside[:, None].astype(np.int64))[0]),
        auroc_interval=auroc_interval(members, others),
        true_positives=hits / trials,
        true_positives_interval=tpr,
        false_positives=false / checked,
        false_positives_interval=fpr,
        bound=max(0.0, math.log(above / fpr[1])) if above > 0 else 0.0,
    )


def auroc_interval(members: Scores, others: Scores, *, confidence: float = 0.95) -> Interval:
    """DeLong's interval: the area is a mean of placements, whose variance over each group is taken from the ranks."""
    together = stats.rankdata(np.concatenate([members, others]))
    of_members = (together[: len(members)] - stats.rankdata(members)) / len(others)
    of_others = 1.0 - (together[len(members) :] - stats.rankdata(others)) / len(members)
    area = float(of_members.mean())
    error = math.sqrt(float(of_members.var(ddof=1)) / len(members) + float(of_others.var(ddof=1)) / len(others))
    reach = float(stats.norm.isf((1.0 - confidence) / 2)) * error
    return max(0.0, area - reach), min(1.0, area + reach)
