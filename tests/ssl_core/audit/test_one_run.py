"""Bounds against what the paper prints, its own loop, scipy's interval, and mechanisms whose epsilon is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssl_core.audit.one_run import OneRun, clopper_pearson, epsilon_bound, one_run, p_value
from ssl_core.errors import PrivacyError


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "printed"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_the_numbers_of_the_paper(canaries, guesses, correct, delta, printed):
    """arXiv:2305.08846: appendix D (rounded), section 7 (cut off)."""
    assert epsilon_bound(canaries, guesses, correct, delta) == pytest.approx(printed, abs=1e-3)


@pytest.mark.parametrize(("guesses", "cap"), [(100, 3.47), (500, 5.09)])
def test_the_caps_of_the_design_note(guesses, cap):
    assert epsilon_bound(1000, guesses, guesses, 1e-5) == pytest.approx(cap, abs=5e-3)


def plain_p_value(m, r, v, eps, delta):
    """The loop of the paper's appendix D, written out."""
    q = 1 / (1 + math.exp(-eps))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    alpha, below = 0.0, 0.0
    for i in range(1, v + 1):
        below += mass[v - i]
        alpha = max(alpha, below / i)
    return min(1.0, sum(mass[v:]) + alpha * delta * 2 * m)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_p_value_is_that_of_the_plain_loop(data):
    r = data.draw(st.integers(1, 60))
    v = data.draw(st.integers(0, r))
    m = data.draw(st.integers(r, 500))
    eps, delta = data.draw(st.floats(0, 6)), data.draw(st.sampled_from([0.0, 1e-6, 1e-3]))
    assert p_value(m, r, v, eps, delta) == pytest.approx(plain_p_value(m, r, v, eps, delta), abs=1e-9)


def test_the_bound_is_where_the_p_value_crosses_and_rises_with_right_guesses():
    bounds = [epsilon_bound(500, 200, v, 1e-5) for v in range(100, 201, 10)]
    assert bounds == sorted(bounds) and bounds[0] == 0.0
    assert p_value(500, 200, 170, epsilon_bound(500, 200, 170, 1e-5), 1e-5) == pytest.approx(0.05, abs=1e-6)


def test_randomised_response_is_bounded_below_its_epsilon_nineteen_times_in_twenty():
    """The mechanism for which the bound is tight: the coin of each canary, told truly with e^eps / (1 + e^eps)."""
    source, epsilon = np.random.default_rng(3), 2.0
    wrong = 0
    for _ in range(400):
        inside = source.random(200) < 0.5
        told = inside ^ (source.random(200) > 1 / (1 + math.exp(-epsilon)))
        wrong += epsilon_bound(200, 200, int((told == inside).sum()), 0.0) > epsilon
    assert wrong <= stats.binom.isf(1e-6, 400, 0.05)


def test_guesses_are_the_extremes_and_what_is_not_a_number_is_a_sign_of_being_in():
    inside = np.array([True, False, True, False, True, False])
    scores = np.array([3.0, -3.0, 0.1, 0.2, np.nan, -np.inf])
    found = one_run("x", scores, inside, guesses=4, claim=1.0, delta=0.0)
    assert (found.correct, found.guesses, found.canaries) == (4, 4, 6)
    assert found.bound == found.cap


def outcome(**changes):
    body = {"name": "x", "claim": 4.0, "delta": 1e-5, "canaries": 1000, "guesses": 500, "correct": 400, "confidence": 0.95,
            "bound": 1.0, "cap": 5.0}  # fmt: skip
    return OneRun(**body | changes).outcome


def test_outcomes():
    assert outcome() == "PASS"
    assert outcome(bound=4.1) == "FAIL"
    assert outcome(bound=4.0) == "PASS", "a bound is passed, not met"
    assert outcome(bound=3.0, cap=4.0) == "INCONCLUSIVE"


@pytest.mark.parametrize("guesses", [0, 3, 8])
def test_guesses_that_do_not_fit_are_refused(guesses):
    with pytest.raises(PrivacyError, match="guesses"):
        one_run("x", np.zeros(6), np.zeros(6, bool), guesses=guesses, claim=1.0, delta=0.0)


def test_scores_and_coins_must_fit():
    with pytest.raises(PrivacyError, match="shape"):
        one_run("x", np.zeros(6), np.zeros(5, bool), guesses=2, claim=1.0, delta=0.0)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 17), (500, 1000)])
def test_clopper_pearson_is_scipys_exact_interval(hits, trials):
    other = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, trials) == pytest.approx((other.low, other.high))


def test_clopper_pearson_refuses_more_hits_than_trials():
    with pytest.raises(PrivacyError, match="hits"):
        clopper_pearson(3, 2)
