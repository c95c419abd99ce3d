"""What the statement says beside the sums: dates, pace, other disclosures, clocks that were set back."""

from __future__ import annotations

import datetime
import logging
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from ssl_core.chain import Chain
from ssl_core.errors import PrivacyError
from ssl_core.privacy import ledger_log
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.privacy.ledger import Ledger
from ssl_core.privacy.statement import Pace, most_found, rounded_down, rounded_up

DELTA = 1e-5
SMALL = Schedule(4.0, 0.1, 100)
MARCH = datetime.date(2026, 3, 2)


class Site:
    """A log and a clock that the test sets."""

    def __init__(self, path: Path) -> None:
        self.chain = Chain(path, create=True)
        self.day = MARCH

    def ledger(self, cohort: str = "all", limit: float = 10.0) -> Ledger:
        return Ledger(self.chain, max_epsilon=limit, delta=DELTA, cohort=cohort, today=lambda: self.day)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "chain.db")


def test_the_pace_is_what_was_spent_over_the_days_since_the_first_study(site: Site) -> None:
    ledger = site.ledger()
    assert ledger.statement().pace is None
    ledger.reserve("a" * 64, "first", SMALL, DELTA)
    assert ledger.statement().pace is None, "one study has no pace"
    ledger.reserve("b" * 64, "second", SMALL, DELTA)
    site.day += datetime.timedelta(days=50)
    assert ledger.statement().pace is None, "nor have two of one day"
    ledger.reserve("c" * 64, "third", SMALL, DELTA)
    site.day += datetime.timedelta(days=50)
    statement = ledger.statement()
    spent = statement.totals.spent
    last = site.day + datetime.timedelta(days=int(100 * statement.remaining / spent))
    assert statement.pace == Pace(
        studies=3, since="2026-03-02", days=100, epsilon_per_year=spent / 100 * 365.25, used_up_on=last.isoformat()
    )
    assert [entry.reserved_on for entry in statement.entries] == ["2026-03-02", "2026-03-02", "2026-04-21"]


def test_a_budget_that_is_used_up_ends_today_and_a_slow_one_not_in_a_century(site: Site) -> None:
    site.ledger().reserve("a" * 64, "first", SMALL, DELTA)
    site.day += datetime.timedelta(days=3650)
    site.ledger().reserve("b" * 64, "second", SMALL, DELTA)
    slow, over = site.ledger(limit=99.0).statement().pace, site.ledger(limit=0.1).statement()
    assert slow is not None and slow.used_up_on is None
    assert over.remaining == 0.0 and over.pace is not None and over.pace.used_up_on == site.day.isoformat()


def test_studies_that_cost_nothing_do_not_withhold_the_statement(site: Site) -> None:
    """A chance of being sampled far below delta: epsilon is 0, whoever chose the plan."""
    rare = Schedule(0.5, 1e-9, 2000)
    for name in "ab":
        site.ledger().reserve(name * 64, name, rare, DELTA)
        site.day += datetime.timedelta(days=50)
    statement = site.ledger().statement()
    assert statement.totals.spent == 0.0 and statement.remaining == 10.0
    assert statement.pace is not None and statement.pace.used_up_on is None


@pytest.mark.parametrize("value", [0.0, 1e-12, 0.1, 1.7532141040191203, 2.0004999, 9.9995, 10.0, 123.4565, 0.3 - 1e-16])
def test_what_was_spent_is_printed_rounded_up_and_what_remains_down(value: float) -> None:
    up, down = rounded_up(value), rounded_down(value)
    assert float(down) <= value <= float(up) and Decimal(up) - Decimal(down) <= Decimal("0.001")
    assert len(up.split(".")[1]) == 3 == len(down.split(".")[1])
    assert rounded_up(100 * 0.1753, 0) == "18" and rounded_up(7.931, 2) == "7.94"


def test_a_statistic_or_a_metric_is_charged_like_a_study_of_one_step(site: Site) -> None:
    """Nothing of the product releases one; whoever adds that has the entry to pay with."""
    ledger = site.ledger()
    gaussian = Schedule(8.0, 1.0, 1)
    quote = ledger.reserve("a" * 64, "mean-age", gaussian, DELTA, what="statistic")
    assert quote is not None and quote.spent_after == epsilon([gaussian], DELTA)
    ledger.reserve("b" * 64, "tuned", SMALL, DELTA, what="finetuning")
    assert [entry.what for entry in ledger.statement().entries] == ["statistic", "finetuning"]
    assert ledger.statement().totals.spent > quote.spent_after
    ledger.commit("a" * 64, 1, 1)
    with pytest.raises(PrivacyError, match="pass the steps"):
        ledger.commit("a" * 64, 2, 1)


def test_cohorts_are_charged_apart_and_a_study_belongs_to_one(site: Site) -> None:
    old, new = site.ledger("old"), site.ledger("new")
    quote = old.reserve("a" * 64, "study", SMALL, DELTA)
    assert quote is not None and quote.cohort == "old"
    assert new.quote(SMALL, DELTA).spent_before == 0.0 and old.quote(SMALL, DELTA).spent_before == quote.spent_after
    with pytest.raises(PrivacyError, match="another cohort"):
        new.reserve("a" * 64, "study", SMALL, DELTA)
    new.reserve("b" * 64, "study", SMALL, DELTA)
    site.ledger().commit("b" * 64, 3, 20)
    assert site.ledger().cohorts() == ("old", "new")
    (entry,) = new.statement().entries
    assert (entry.steps_started, entry.first_round, entry.last_round, entry.last_started_on) == (20, 3, 3, "2026-03-02")
    assert old.statement().entries[0].rounds_started == 0


def test_a_clock_that_was_set_back_is_warned_of_and_changes_no_charge(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    ledger = site.ledger()
    ledger.reserve("a" * 64, "first", SMALL, DELTA)
    assert ledger.clock_warnings() == () and not caplog.records
    site.day -= datetime.timedelta(days=31)
    (behind,) = ledger.clock_warnings()
    assert "2026-01-30" in behind and "2026-03-02" in behind
    assert ledger.statement().pace is None
    with caplog.at_level(logging.WARNING, "choral.ledger"):
        quote = ledger.reserve("b" * 64, "second", SMALL, DELTA)
    assert quote is not None and quote.spent_before > 0 and "2026-01-30" in caplog.text
    back, behind = ledger.clock_warnings()
    assert "set back: entry 2 is of 2026-01-30, entry 1 before it of 2026-03-02" in back
    site.day = datetime.date(2026, 4, 1)
    assert ledger.clock_warnings() == (back,), "right again, but the log keeps what happened"


def test_rows_bear_a_day_and_no_time(site: Site) -> None:
    ledger = site.ledger()
    ledger.reserve("a" * 64, "study", SMALL, DELTA, units="f" * 64)
    ledger.commit("a" * 64, 1, 10)
    assert [entry.body["date"] for entry in site.chain.entries()] == ["2026-03-02"] * 2
    assert site.chain.entries("reserve")[0].body["units"] == "f" * 64


def test_a_second_accountant_without_an_answer_withholds_no_statement(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.ledger().reserve("a" * 64, "study", SMALL, DELTA)

    def none(*_: object) -> float:
        raise PrivacyError("second accountant has no answer for this schedule")

    monkeypatch.setattr(ledger_log, "epsilon_prv", none)
    with caplog.at_level(logging.WARNING, "choral.ledger"):
        statement = site.ledger().statement()
    assert statement.accountants is not None and statement.accountants.prv is None and "no answer" in caplog.text
    assert statement.totals.spent > 0


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("delta", [3e-5, 1e-6])
def test_what_a_reader_is_told_holds_for_a_gaussian_mechanism_and_how_sure_one_becomes_does_not(
    sigma: float, delta: float
) -> None:
    """N(0, sigma^2) against N(1, sigma^2): delta(epsilon) by Balle and Wang (ICML 2018), theorem 8; a cut guesses best."""
    mu = 1 / sigma

    def excess(epsilon: float) -> float:
        log_delta = stats.norm.logsf(epsilon / mu - mu / 2)
        less = math.exp(epsilon + stats.norm.logsf(epsilon / mu + mu / 2) - log_delta)
        return float(log_delta + math.log1p(-less) - math.log(delta))

    epsilon = optimize.brentq(excess, 0.0, 100.0)
    wrongly = np.concatenate([np.logspace(-14, -1, 200), np.linspace(0.1, 1.0, 50), 1 - np.logspace(-9, -1, 100)])
    rightly = stats.norm.cdf(stats.norm.ppf(wrongly) + mu)
    assert (rightly <= [most_found(epsilon, delta, float(f)) * (1 + 1e-9) for f in wrongly]).all()
    # The bound is met where the likelihood ratio is e^epsilon: no smaller one would do. On the other side likewise.
    for threshold in (mu / 2 + epsilon / mu, mu / 2 - epsilon / mu):
        met = most_found(epsilon, delta, float(stats.norm.sf(threshold)))
        assert met == pytest.approx(float(stats.norm.sf(threshold - mu)), rel=1e-6)
    # "At most e^epsilon to one sure, but for a chance of delta" is false: the chance of more is several times delta.
    surer = float(stats.norm.sf(epsilon / mu - mu / 2))
    assert surer > 2 * delta


def test_of_nothing_spent_nobody_is_found_but_by_chance() -> None:
    assert most_found(0.0, 0.0, 0.01) == pytest.approx(0.01) and most_found(50.0, 1e-5, 0.01) <= 1.0
