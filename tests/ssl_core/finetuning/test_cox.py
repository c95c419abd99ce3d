"""Cox's head against plain loops and a published fit; Harrell's index against every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import DataError
from ssl_core.finetuning.cox import concordance, fit_cox, log_likelihood

# Freireich et al., Blood 1963: weeks in remission of 21 leukaemia patients on placebo and 21 on 6-mercaptopurine.
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_LEFT = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]

rows = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(1, 5), st.booleans()), min_size=2, max_size=14
)  # score, time, event: small numbers, so that many tie


def unpack(drawn: list[tuple[int, int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    score, time, event = zip(*drawn, strict=True)
    return np.array(score, np.float64), np.array(time, np.float64), np.array(event, np.bool_)


def plain(score: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    out = 0.0
    for i in range(len(score)):
        if event[i]:
            out += score[i] - math.log(sum(math.exp(score[j]) for j in range(len(score)) if time[j] >= time[i]))
    return out


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows)
def test_likelihood_and_slope_are_those_of_plain_loops(drawn: list[tuple[int, int, bool]]) -> None:
    score, time, event = unpack(drawn)
    value, slope = log_likelihood(score, time, event)
    assert value == pytest.approx(plain(score, time, event), abs=1e-9)
    for place in range(len(score)):
        step = np.zeros(len(score))
        step[place] = 1e-5
        near = (plain(score + step, time, event) - plain(score - step, time, event)) / 2e-5
        assert slope[place] == pytest.approx(near, abs=1e-5)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(rows)
def test_concordance_counts_every_pair(drawn: list[tuple[int, int, bool]]) -> None:
    score, time, event = unpack(drawn)
    right = pairs = 0.0
    for i in range(len(score)):
        for j in range(len(score)):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                right += 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
    found = concordance(score, time, event)
    assert found is None if not pairs else found == pytest.approx(right / pairs)


def test_the_published_fit_of_the_leukaemia_trial() -> None:
    time = np.array([*PLACEBO, *TREATED, *TREATED_LEFT], np.float64)
    event = np.array([True] * 30 + [False] * 12)
    placebo = np.array([1.0] * 21 + [0.0] * 21)[:, None]
    head = fit_cox(placebo, time, event, penalties=np.array([1e-9]))
    # Breslow's ties: log hazard ratio 1.509 (Kleinbaum and Klein, Survival Analysis, chapter 3).
    assert head.weight[0] == pytest.approx(1.509, abs=2e-3)
    assert fit_cox(placebo, time, event, penalties=np.array([1e3])).weight[0] < 0.05


def test_a_known_risk_is_found_among_many_features_and_large_ones_do_not_overflow() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 30))
    risk = 1.5 * x[:, 0] - 1.0 * x[:, 1]
    life, left = draw.exponential(np.exp(-risk)), draw.exponential(2.0, 400)
    time, event = np.minimum(life, left) + 1e-6, life <= left
    head = fit_cox(x[:300], time[:300], event[:300])
    found = concordance(head.scores(x[300:]), time[300:], event[300:])
    assert found is not None and found > 0.8
    assert np.abs(head.weight[:2]).min() > 3 * np.abs(head.weight[2:]).mean()
    again = fit_cox(x[:300] * 1e4, time[:300], event[:300])
    assert np.isfinite(again.weight).all()


def test_what_does_not_fit_is_refused() -> None:
    x, time, event = np.zeros((30, 2)), np.ones(30), np.ones(30, np.bool_)
    for call in (
        lambda: fit_cox(x[:3], time, event),
        lambda: fit_cox(np.full((30, 2), np.nan), time, event),
        lambda: fit_cox(x, time, np.arange(30) < 9),
    ):
        with pytest.raises(DataError):
            call()
    assert concordance(np.zeros(2), np.ones(2), np.zeros(2, np.bool_)) is None
