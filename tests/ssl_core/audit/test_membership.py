"""The membership test on scores whose areas and rates are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ssl_core.audit.membership import auroc_interval, infer_membership
from ssl_core.errors import PrivacyError


def drawn(count, shift, seed=0):
    source = np.random.default_rng(seed)
    inside = source.random(count) < 0.5
    return source.standard_normal(count) + shift * inside, inside


def test_area_is_scikit_learns_and_rates_are_those_beyond_the_threshold():
    scores, inside = drawn(4000, 1.5)
    found = infer_membership(scores, inside, delta=1e-5)
    assert found.auroc == pytest.approx(roc_auc_score(inside, scores))
    assert found.inside + found.outside == 4000
    true = stats.norm.sf(stats.norm.isf(0.01) - 1.5)
    assert found.true_positives_interval[0] < found.true_positives < found.true_positives_interval[1]
    assert found.true_positives == pytest.approx(true, abs=0.08)
    assert found.false_positives_interval[0] < 0.01 < found.false_positives_interval[1]
    low, high = found.true_positives_interval[0], found.false_positives_interval[1]
    assert found.bound == pytest.approx(math.log((low - 1e-5) / high)) and found.bound > 1.0


def test_chance_bounds_nothing_and_certainty_is_bounded_by_the_number_of_patients():
    nothing = infer_membership(*drawn(2000, 0.0), delta=1e-5)
    assert nothing.bound == 0.0 and nothing.auroc_interval[0] < 0.5 < nothing.auroc_interval[1]
    everything = infer_membership(*drawn(2000, 30.0), delta=1e-5)
    assert everything.auroc == everything.true_positives == 1.0
    assert 3.0 < everything.bound < math.log(2000)


def test_delong_is_the_plain_sum_over_pairs():
    source = np.random.default_rng(1)
    members, others = source.integers(0, 12, 40) + 2.0, source.integers(0, 12, 55) * 1.0
    pairs = np.sign(members[:, None] - others[None]) / 2 + 0.5
    error = math.sqrt(pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 55)
    low, high = auroc_interval(members, others)
    assert (low + high) / 2 == pytest.approx(pairs.mean())
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)


def test_delongs_interval_holds_the_true_area_as_often_as_it_says():
    true = stats.norm.cdf(1 / math.sqrt(2))
    source, missed = np.random.default_rng(2), 0
    for _ in range(400):
        low, high = auroc_interval(source.standard_normal(80) + 1, source.standard_normal(80))
        missed += not low <= true <= high
    assert stats.binomtest(missed, 400, 0.05).pvalue > 1e-4


def test_too_few_patients_are_refused():
    with pytest.raises(PrivacyError, match="too few"):
        infer_membership(*drawn(150, 1.0), delta=1e-5)
