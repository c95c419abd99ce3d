"""Step 6 of 12: what the ledger says: the quote of a study, and the statement of all studies, cohort by cohort.

Comes in: numbers from ledger.py. Goes out: frozen records, as JSON; `client/ledger_page.py` prints them for people. Every
epsilon stands with its delta, its unit and its neighbouring relation. Nothing here is computed from a patient: schedules
are the plan's, dates are those of approvals and of rounds that started.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Literal

UNIT = "patient"
ADJACENCY = "add or remove one patient"
REPLACE_ONE = "replace one patient"
COHORT = "all"
Disclosure = Literal["pretraining", "finetuning", "metric", "statistic"]
_LONGEST_DAYS = 365 * 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a site allowed for life, and by which rule it is held, when it admitted a study."""

    max_epsilon: float
    delta: float
    rule: str

    def __str__(self) -> str:
        return f"epsilon {self.max_epsilon:g} at delta {self.delta:g} for life, by the {self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Cost of one study alone (PLD at the plan's delta), and its cohort's total before and after it by the cap's rule."""

    study_epsilon: float
    study_delta: float
    spent_before: float
    spent_after: float
    limit: float
    remaining: float
    delta: float
    cohort: str = COHORT
    adjacency: str = ADJACENCY
    unit: str = UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Epsilons:
    """The same schedules by three accountants, at one delta, for both neighbouring relations.

    PLD is the one of record. PRV (Opacus) has add-or-remove-one alone, and is None where it has no answer.
    """

    delta: float
    pld: float
    prv: float | None
    rdp: float
    pld_replace_one: float
    rdp_replace_one: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One study. `steps` are charged from `reserved_on` on; the others are of the rounds that started (void ones too).

    `admitted_under` is the limit in force at its RESERVE; None, like the dates, in rows that older versions wrote.
    """

    study: str
    name: str
    what: Disclosure
    epsilon: float
    epsilon_replace_one: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    steps_started: int
    rounds_started: int
    first_round: int | None
    last_round: int | None
    reserved_on: str | None
    last_started_on: str | None
    admitted_under: Limit | None
    accountants: Epsilons
    adjacency: str = ADJACENCY
    unit: str = UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Epsilon of a list of studies by each rule; `spent` is what counts against the limit."""

    spent: float
    by_sum: float
    by_rdp: float
    if_fixed_in_advance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """All that was spent, over the days since the first study; `used_up_on` is None when a century would not do."""

    studies: int
    since: str
    days: int
    epsilon_per_year: float
    used_up_on: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The ledger of one cohort; `pace` is None where the log tells of none: see `pace_of`."""

    entries: tuple[LedgerEntry, ...]
    totals: Totals
    accountants: Epsilons | None
    limit: float
    delta: float
    remaining: float
    pace: Pace | None
    cohort: str = COHORT
    adjacency: str = ADJACENCY
    unit: str = UNIT

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatement:
    """Every cohort of a site; `warnings` are about the log's dates."""

    site: str
    date: str
    rule: str
    cohorts: tuple[Statement, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def rounded_up(value: float, digits: int = 3) -> str:
    """For people: of what was spent, or of what a study costs, never less than it is, so that what is printed is a bound."""
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_CEILING))


def rounded_down(value: float, digits: int = 3) -> str:
    """The same of what remains: never more than it is."""
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def most_found(epsilon: float, delta: float, wrongly: float) -> float:
    """The greatest chance of saying rightly that a patient took part, where it is said of an absent one by a chance `wrongly`.

    From both sides of (epsilon, delta)-DP for adding or removing one: Kairouz, Oh, Viswanath, "The Composition Theorem for
    Differential Privacy" (ICML 2015), theorem 2.1. What it does not bound is how sure somebody can become: with a chance that
    may be many times delta, a release shifts odds by more than e^epsilon.
    """
    return min(math.exp(epsilon) * wrongly + delta, 1.0 - math.exp(-epsilon) * (1.0 - wrongly - delta))


def pace_of(entries: Sequence[LedgerEntry], spent: float, remaining: float, today: datetime.date) -> Pace | None:
    """The pace so far; None with fewer than two studies, all on one day, without dates, or with dates to come."""
    days = [datetime.date.fromisoformat(entry.reserved_on) for entry in entries if entry.reserved_on is not None]
    if len(days) < max(2, len(entries)) or min(days) == max(days) or max(days) > today:
        return None
    elapsed = (today - min(days)).days
    # A chance of being sampled that is far below delta costs nothing: studies may have spent 0.
    left = remaining / spent * elapsed if spent else math.inf
    return Pace(
        studies=len(days),
        since=min(days).isoformat(),
        days=elapsed,
        epsilon_per_year=spent / elapsed * 365.25,
        used_up_on=(today + datetime.timedelta(days=int(left))).isoformat() if left <= _LONGEST_DAYS else None,
    )
