"""Step 6 of 12, the arithmetic: epsilon of Poisson-subsampled Gaussian steps.

Comes in: `Schedule`s (sigma, q, steps) and delta. Goes out: epsilon. Of record is dp-accounting's privacy loss
distribution, pessimistic rounding (Koskela et al., AISTATS 2020; Doroshenko et al., PoPETS 2022), add-or-remove-one
unless the name says otherwise. Beside it: RDP (Mironov 2017; Mironov, Talwar, Zhang 2019) and, as a cross-check by
other code, Opacus' PRV (Gopi, Lee, Wutschitz, NeurIPS 2021). GDP is not offered: it reports too little, by up to 33 %.
The libraries take seconds to import, so they are imported where they are called.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ssl_core.errors import PrivacyError

# dp-accounting rounds up to its grid at every step: 5e-4 costs epsilon less than 3e-3 up to this many steps and is
# five times faster; beyond them its default is used.
_COARSE_GRID, _COARSE_STEPS, _FINE_GRID = 5e-4, 250, 1e-4
_PRV_ERROR = 0.01
_MOST_EXCESS = 1e-3
_MOST_DIFFERENCE = 0.02
_LEAST_SIGMA, _MOST_SIGMA = 0.3, 1000.0
_ORDERS = (*range(2, 65), 96, 128, 256, 512)


@dataclass(frozen=True, slots=True, order=True)
class Schedule:
    """`steps` noised steps, each a Poisson sample with rate q and noise sigma times the sensitivity."""

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_multiplier < math.inf:
            raise PrivacyError("noise multiplier is not positive", field="noise_multiplier", value=self.noise_multiplier)
        if not 0.0 < self.sampling_rate <= 1.0:
            raise PrivacyError("sampling rate is no probability", field="sampling_rate", value=self.sampling_rate)
        if self.steps < 0:
            raise PrivacyError("number of steps is negative", field="steps", value=self.steps)


def merge(schedules: Iterable[Schedule]) -> tuple[Schedule, ...]:
    """Equal (sigma, q) added up, empty ones left out, sorted: what the order of a log must not change."""
    steps: dict[tuple[float, float], int] = {}
    for schedule in schedules:
        key = (schedule.noise_multiplier, schedule.sampling_rate)
        steps[key] = steps.get(key, 0) + schedule.steps
    return tuple(sorted(Schedule(sigma, rate, count) for (sigma, rate), count in steps.items() if count))


def epsilon(schedules: Sequence[Schedule], delta: float) -> float:
    """Epsilon of all schedules together, fixed in advance, add-or-remove-one unit; 0 without a step."""
    return _pld(merge(schedules), _checked(delta), "ADD_OR_REMOVE_ONE")


def epsilon_replace_one(schedules: Sequence[Schedule], delta: float) -> float:
    """The same noise judged by replace-one adjacency, where one unit changes the sum by up to 2 C."""
    return _pld(merge(schedules), _checked(delta), "REPLACE_ONE")


def epsilon_rdp(schedules: Sequence[Schedule], delta: float, *, order: int | None = None) -> float:
    """By Renyi DP at one fixed `order`, as a filter needs it, else at the best of a list of whole orders."""
    return _rdp(merge(schedules), _checked(delta), order)


def epsilon_rdp_replace_one(schedules: Sequence[Schedule], delta: float) -> float:
    """By Renyi DP for replacing one unit = removing one and adding one: Mironov (CSF 2017), proposition 11, for a pair.

    D_a(P || R) <= (a - 1/2) / (a - 1) D_2a(P || Q) + D_(2a - 1)(Q || R). Loose; the libraries offer no closer one.
    """
    return _rdp_replace_one(merge(schedules), _checked(delta))


def epsilon_prv(schedules: Sequence[Schedule], delta: float) -> float:
    """By Opacus' PRV accountant, an upper bound that lies about 0.01 above the exact value."""
    return _prv(merge(schedules), _checked(delta))


def checked_epsilon(schedules: Sequence[Schedule], delta: float) -> float:
    """`epsilon`, after a second accountant by other people agreed; raises `PrivacyError` where it does not."""
    found, second = epsilon(schedules, delta), epsilon_prv(schedules, delta)
    difference = _MOST_DIFFERENCE * found + _PRV_ERROR
    if found > second + _MOST_EXCESS or second - found > difference:
        raise PrivacyError(
            "two accountants disagree",
            field="epsilon",
            value=f"PLD {found:.4f}, PRV {second:.4f}",
            limit=f"difference at most {difference:.4f}",
            remedy="do not run this schedule; report it",
        )
    return found


def calibrate(target: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Least noise multiplier, to four decimals, rounded up, with `epsilon` at most `target`; never below 0.3."""
    if not 0.0 < target < math.inf or steps < 1:
        raise PrivacyError("no noise can be found for this target", field="epsilon, steps", value=(target, steps))
    from scipy.optimize import brentq

    def excess(sigma: float) -> float:
        return epsilon([Schedule(sigma, sampling_rate, steps)], delta) - target

    def loose_excess(sigma: float) -> float:
        return epsilon_rdp([Schedule(sigma, sampling_rate, steps)], delta) - target

    if loose_excess(_MOST_SIGMA) > 0:
        raise PrivacyError("target needs too much noise", field="noise_multiplier", limit=_MOST_SIGMA)
    # RDP is fast and never below PLD, so its answer bounds the search from above.
    if loose_excess(_LEAST_SIGMA) <= 0:
        return _LEAST_SIGMA
    high = float(brentq(loose_excess, _LEAST_SIGMA, _MOST_SIGMA, rtol=1e-3)) * 1.01
    low = max(_LEAST_SIGMA, 0.8 * high)
    while excess(low) <= 0:
        if low == _LEAST_SIGMA:
            return low
        low, high = max(_LEAST_SIGMA, 0.8 * low), low
    ticks = math.ceil(float(brentq(excess, low, high, xtol=2e-5)) * 1e4)
    while excess(ticks / 1e4) > 0:
        ticks += 1
    return ticks / 1e4


def _checked(delta: float) -> float:
    if not 0.0 < delta < 1.0:
        raise PrivacyError("delta is no probability", field="delta", value=delta, limit="(0, 1)")
    return delta


def _event(schedule: Schedule) -> Any:
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(schedule.noise_multiplier)
    return dp_accounting.PoissonSampledDpEvent(schedule.sampling_rate, gaussian)


def _pld(merged: tuple[Schedule, ...], delta: float, adjacency: str) -> float:
    if not merged:
        return 0.0
    try:
        found = _composed(merged, adjacency).get_epsilon(delta)
    except (ArithmeticError, ValueError) as error:
        # A rate at the end of what floats can be, in a plan that somebody else wrote: an answer, like any other refusal.
        raise PrivacyError("accountant of record has no answer for this schedule", field="schedule") from error
    return _finite(found, "PLD")


@lru_cache(maxsize=128)
def _composed(merged: tuple[Schedule, ...], adjacency: str) -> Any:
    import dp_accounting
    from dp_accounting import pld

    relation = dp_accounting.NeighboringRelation[adjacency]
    few = sum(schedule.steps for schedule in merged) <= _COARSE_STEPS
    accountant = pld.PLDAccountant(relation, value_discretization_interval=_COARSE_GRID if few else _FINE_GRID)
    for schedule in merged:
        accountant.compose(_event(schedule), schedule.steps)
    return accountant


@lru_cache(maxsize=4096)
def _rdp(merged: tuple[Schedule, ...], delta: float, order: int | None) -> float:
    if not merged:
        return 0.0
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(_ORDERS if order is None else [order])
    for schedule in merged:
        accountant.compose(_event(schedule), schedule.steps)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=512)
def _rdp_replace_one(merged: tuple[Schedule, ...], delta: float) -> float:
    if not merged:
        return 0.0
    from dp_accounting.rdp import compute_epsilon
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = np.array(_ORDERS, np.float64)
    total = np.zeros(len(orders))
    for s in merged:
        fixed = {"q": s.sampling_rate, "noise_multiplier": s.noise_multiplier, "steps": s.steps}
        removed, added = (np.asarray(compute_rdp(orders=list(wanted), **fixed)) for wanted in (2 * orders, 2 * orders - 1))
        total += (orders - 0.5) / (orders - 1) * removed + added
    return _finite(compute_epsilon(_ORDERS, total, delta)[0], "RDP")


@lru_cache(maxsize=512)
def _prv(merged: tuple[Schedule, ...], delta: float) -> float:
    if not merged:
        return 0.0
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(s.noise_multiplier, s.sampling_rate, s.steps) for s in merged]
    try:
        # Opacus takes log(0) at q = 1 and then selects the other branch; its grid is sized by RDP, whose hint about
        # orders says nothing here.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = accountant.get_epsilon(delta, eps_error=_PRV_ERROR)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        raise PrivacyError("second accountant has no answer for this schedule", field="schedule") from error
    return _finite(found, "PRV")


def _finite(value: float, accountant: str) -> float:
    if not math.isfinite(value):
        raise PrivacyError(
            f"{accountant} gives no finite epsilon", field="epsilon", remedy="use more noise, less steps or a greater delta"
        )
    return float(value)
