"""Cases A to I were computed beforehand with three libraries and, where it says so, in closed form (G).

The nine settings of docs/privacy.md: PLD by dp-accounting's and an independent FFT accountant, both relations.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.rdp import compute_epsilon
from scipy.stats import norm

from ssl_core.errors import PrivacyError
from ssl_core.privacy import accountant
from ssl_core.privacy.accountant import (
    Schedule,
    calibrate,
    checked_epsilon,
    epsilon,
    epsilon_prv,
    epsilon_rdp,
    epsilon_rdp_replace_one,
    epsilon_replace_one,
    merge,
)

CASES = {
    "A": ([Schedule(1.1, 256 / 60000, 14062)], 1e-5, 2.3817, 4.2214, 2.392, 2.597),
    "B": ([Schedule(1.0, 0.01, 10000)], 1e-5, 6.1877, 10.8808, 6.198, 6.713),
    "C": ([Schedule(0.6, 0.001, 20000)], 1e-6, 3.7469, 4.3505, 3.757, 4.579),
    "D": ([Schedule(2.0, 0.05, 1000)], 1e-5, 3.6997, 7.5003, 3.710, 4.024),
    "E": ([Schedule(1.5, 0.02, 2500)], 1e-6, 3.6447, 6.8897, 3.655, 3.922),
    "F": ([Schedule(0.8, 0.01, 1000)], 1e-5, 3.1410, 4.2280, 3.151, 3.696),
    "G": ([Schedule(10.0, 1.0, 100)], 1e-5, 4.3772, 9.9973, 4.387, 4.729),
    "H": (
        [Schedule(1.0, 0.01, 2000), Schedule(1.2, 0.02, 1000), Schedule(0.8, 0.005, 4000)],
        1e-5,
        4.9037,
        8.3527,
        4.914,
        5.362,
    ),
    "I": ([Schedule(4.0, 0.1, 5000)], 1e-6, 9.7104, 22.3498, 9.721, 10.344),
}


@pytest.mark.parametrize("case", CASES)
def test_epsilon_of_known_schedules(case: str) -> None:
    schedules, delta, wanted, *_ = CASES[case]
    assert epsilon(schedules, delta) == pytest.approx(wanted, abs=0.002)


@pytest.mark.parametrize("case", CASES)
def test_replace_one_costs_more_and_lies_below_what_renyi_dp_says(case: str) -> None:
    schedules, delta, added, wanted, *_ = CASES[case]
    found = epsilon_replace_one(schedules, delta)
    assert found == pytest.approx(wanted, abs=0.002)
    assert added < found < epsilon_rdp_replace_one(schedules, delta)


@pytest.mark.parametrize("case", ["A", "D", "G", "H"])
def test_other_accountants_give_their_own_known_values(case: str) -> None:
    schedules, delta, pld, _, prv, rdp = CASES[case]
    assert epsilon_prv(schedules, delta) == pytest.approx(prv, abs=0.002)
    found = epsilon_rdp(schedules, delta)
    # Ours takes whole orders only, so it may lie a little higher.
    assert rdp - 0.002 <= found <= 1.02 * rdp
    assert epsilon_rdp(schedules, delta, order=8) >= found > pld
    assert checked_epsilon(schedules, delta) == pytest.approx(pld, abs=0.002)


def test_without_sampling_it_is_the_gaussian_mechanism_in_closed_form() -> None:
    """Balle and Wang (ICML 2018), theorem 8, with mu = sqrt(steps) / sigma."""
    found = epsilon([Schedule(10.0, 1.0, 100)], 1e-5)
    mu = math.sqrt(100) / 10.0
    delta = norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu)
    assert delta == pytest.approx(1e-5, rel=0.01)


def test_without_sampling_replacing_is_a_gaussian_of_twice_the_distance() -> None:
    """The same theorem at mu = 2 sqrt(steps) / sigma: G costs 9.9973."""
    found = epsilon_replace_one([Schedule(10.0, 1.0, 100)], 1e-5)
    delta = norm.cdf(1 - found / 2) - math.exp(found) * norm.cdf(-1 - found / 2)
    assert delta == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize(("sigma", "steps"), [(10.0, 100), (3.0, 4), (40.0, 1)])
def test_renyi_dp_of_a_replacement_is_no_less_than_the_closed_form(sigma: float, steps: int) -> None:
    """Without sampling, D_a of two Gaussians at distance 2 is 2 a / sigma^2 a step (Mironov 2017, proposition 7)."""
    orders = np.arange(2, 65)
    exact = compute_epsilon(orders, 2 * orders / sigma**2 * steps, 1e-5)[0]
    found = epsilon_rdp_replace_one([Schedule(sigma, 1.0, steps)], 1e-5)
    assert exact <= found <= 1.2 * exact + 0.1


def test_no_steps_cost_nothing_and_call_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_event", "_composed"):
        monkeypatch.setattr(accountant, name, None)
    for schedules in ([], [Schedule(1.0, 0.1, 0)]):
        for found in (epsilon, epsilon_replace_one, epsilon_rdp, epsilon_rdp_replace_one, epsilon_prv, checked_epsilon):
            assert found(schedules, 1e-5) == 0.0


def test_equal_entries_are_merged_and_order_does_not_matter() -> None:
    a, b = Schedule(3.0, 0.1, 30), Schedule(4.0, 0.2, 7)
    assert merge([a, b, a, Schedule(3.0, 0.5, 0)]) == (Schedule(3.0, 0.1, 60), b) == merge([b, a, a])
    assert epsilon([a, b, a], 1e-5) == epsilon([b, Schedule(3.0, 0.1, 60)], 1e-5)


def test_composition_is_never_the_sum_of_parts_but_bounded_by_it() -> None:
    a, b = Schedule(3.0, 0.1, 50), Schedule(4.0, 0.2, 20)
    both = epsilon([a, b], 2e-5)
    assert max(epsilon([a], 2e-5), epsilon([b], 2e-5)) < both < epsilon([a], 1e-5) + epsilon([b], 1e-5)


def test_accountants_that_disagree_stop_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = [Schedule(2.0, 0.05, 100)]
    true = epsilon(schedule, 1e-5)
    for wrong in (true - 0.002, 1.03 * true + 0.011):
        monkeypatch.setattr(accountant, "epsilon_prv", lambda schedules, delta, wrong=wrong: wrong)
        with pytest.raises(PrivacyError, match="disagree"):
            checked_epsilon(schedule, 1e-5)


def test_tiny_costs_do_not_count_as_a_disagreement() -> None:
    assert 0 < checked_epsilon([Schedule(50.0, 0.001, 3)], 1e-5) < 1e-3


def test_calibration_finds_the_least_noise() -> None:
    sigma = calibrate(1.0, 1e-5, 0.05, 100)
    assert epsilon([Schedule(sigma, 0.05, 100)], 1e-5) <= 1.0
    assert epsilon([Schedule(sigma - 2e-4, 0.05, 100)], 1e-5) > 1.0
    for target, steps in ((0.0, 10), (-1.0, 10), (1.0, 0), (1e-9, 10)):
        with pytest.raises(PrivacyError):
            calibrate(target, 1e-5, 0.05, steps)


@pytest.mark.parametrize(("rate", "delta"), [(5e-324, 1e-9), (0.1, 1e-30)])
def test_where_the_accountant_of_record_has_no_answer_a_plan_is_refused_like_any_other(rate: float, delta: float) -> None:
    """An operator's plan may hold any rate above 0: `choral site approve` says so, without a traceback."""
    for reckon in (epsilon, checked_epsilon):
        with pytest.raises(PrivacyError, match=r"no answer for this schedule|no finite epsilon"):
            reckon([Schedule(0.3, rate, 20)], delta)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [((0.0, 0.1, 1), "noise_multiplier"), ((1.0, 0.0, 1), "sampling_rate"), ((1.0, 1.5, 1), "sampling_rate"),
     ((1.0, 0.1, -1), "steps"), ((float("nan"), 0.1, 1), "noise_multiplier")],
)  # fmt: skip
def test_impossible_schedules_are_refused(arguments: tuple[float, float, int], field: str) -> None:
    with pytest.raises(PrivacyError, match=field):
        Schedule(*arguments)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_impossible_deltas_are_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match="delta"):
        epsilon([Schedule(1.0, 0.1, 1)], delta)
