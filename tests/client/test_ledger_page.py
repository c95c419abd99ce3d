"""The statement on a terminal: what must stand there, at 80 and at 120 columns."""

from __future__ import annotations

import datetime
import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from client.ledger_page import render
from ssl_core.chain import Chain
from ssl_core.privacy.accountant import Schedule
from ssl_core.privacy.ledger import RULE, Ledger
from ssl_core.privacy.statement import SiteStatement, rounded_down, rounded_up

DELTA = 3e-5
DAYS = (datetime.date(2026, 3, 2), datetime.date(2026, 9, 14), datetime.date(2026, 11, 21))


@pytest.fixture(scope="module")
def statement(tmp_path_factory: pytest.TempPathFactory) -> SiteStatement:
    chain = Chain(tmp_path_factory.mktemp("site") / "chain.db", create=True)

    def ledger(cohort: str, day: datetime.date) -> Ledger:
        return Ledger(chain, max_epsilon=10.0, delta=DELTA, cohort=cohort, today=lambda: day)

    ledger("old", DAYS[0]).reserve("a" * 64, "chest-reports", Schedule(1.2, 0.02, 400), 1e-5)
    ledger("old", DAYS[0]).commit("a" * 64, 1, 20)
    ledger("old", DAYS[1]).reserve("b" * 64, "chest-images", Schedule(2.0, 0.05, 500), 1e-5)
    ledger("new", DAYS[1]).reserve("c" * 64, "mean-age", Schedule(8.0, 1.0, 1), 1e-5, what="statistic")
    return SiteStatement(
        site="site-a",
        date=DAYS[2].isoformat(),
        rule=RULE,
        cohorts=tuple(ledger(name, DAYS[2]).statement() for name in ("old", "new", "empty")),
        warnings=(),
    )


def page(statement: SiteStatement, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render(statement))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_each_line_fits_and_no_word_or_number_is_cut(statement: SiteStatement, width: int) -> None:
    text = page(statement, width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for name in ("chest-reports", "chest-images", "mean-age", "2026-03-02", "2026-09-14"):
        assert name in text


def test_it_says_what_was_spent_by_which_study_what_remains_and_until_when(statement: SiteStatement) -> None:
    text = " ".join(page(statement, 120).split())
    old, new, _ = statement.cohorts
    assert old.pace is not None and old.pace.used_up_on is not None
    month = f"{datetime.date.fromisoformat(old.pace.used_up_on):%B %Y}"
    assert f"at the present pace until about {month} (2 studies in 264 days spent {rounded_up(old.totals.spent)})" in text
    assert f"remains {rounded_down(old.remaining)}" in text and f"remains {rounded_down(new.remaining)}" in text
    assert "limit for life 10" in text and "too few studies to tell" in text and "nothing was spent so far" in text
    for entry in (*old.entries, *new.entries):
        assert rounded_up(entry.epsilon) in text.split("For specialists")[0]
    assert "statistic" in text


def test_no_number_of_the_page_is_below_what_it_stands_for(statement: SiteStatement) -> None:
    """1.7532 and 3.7681, printed as 1.753 and 3.768, would claim more privacy than there is; so would 6.2319, as 6.232."""
    old = statement.cohorts[0]
    worn = replace(old, totals=replace(old.totals, spent=3.7681), remaining=6.2319)
    text = " ".join(page(replace(statement, cohorts=(worn,)), 120).split())
    assert "1.754 18%" in text and "spent 3.769" in text and "remains 6.231" in text
    assert "Counts against the limit: 3.769 of 10" in text


def test_where_studies_of_epsilon_0_were_charged_it_does_not_say_that_nothing_leaves(statement: SiteStatement) -> None:
    """With a chance of delta such a study may tell all: 3 in 10^5 here, and a guess is so much better than a blind one."""
    old = statement.cohorts[0]
    free = replace(old, totals=replace(old.totals, spent=0.0), remaining=old.limit)
    text = " ".join(page(replace(statement, cohorts=(free,)), 120).split())
    assert "nothing that leaves" not in text and "he says yes in at most 1.1 of 100" in text


def test_what_epsilon_means_is_a_bound_on_who_is_found(statement: SiteStatement) -> None:
    """Its formula is held against a Gaussian mechanism in test_statement.py; what is printed is rounded up, never down."""
    for spent in (0.01, 0.5, 1.753, 3.769, 10.0, 90.0):
        old = statement.cohorts[0]
        worn = replace(old, totals=replace(old.totals, spent=spent))
        text = " ".join(page(replace(statement, cohorts=(worn,)), 120).split())
        assert not re.search(r"\bsurer?\b|but for a chance", text)
        printed = re.findall(r"(?:he says yes|1 000,) in at most ([\d.]+) of 100", text)
        for share, wrongly in zip([float(number) / 100 for number in printed], (0.01, 0.001), strict=True):
            bounds = math.exp(spent) * wrongly + DELTA, 1 - math.exp(-spent) * (1 - wrongly - DELTA)
            assert min(bounds) <= share <= min(1.0, min(bounds) + 0.0011)
    empty = " ".join(page(replace(statement, cohorts=statement.cohorts[2:]), 120).split())
    assert "nothing that leaves this hospital tells of any of these patients" in empty


def test_specialists_see_three_accountants_and_both_relations(statement: SiteStatement) -> None:
    text = " ".join(page(statement, 120).split()).split("For specialists")[1]
    assert "add or remove one patient" in text and "replace one patient" in text and "PLD / PRV / RDP" in text
    for cohort in statement.cohorts[:2]:
        for e in (cohort.accountants, *(entry.accountants for entry in cohort.entries)):
            assert e is not None and e.prv is not None
            assert f"{rounded_up(e.pld)} / {rounded_up(e.prv)} / {rounded_up(e.rdp)}" in text
            assert f"{rounded_up(e.pld_replace_one)} / {rounded_up(e.rdp_replace_one)}" in text
    assert "20 started in rounds 1 to 1" in text and f"by the {RULE}" in text


def test_a_used_up_budget_a_missing_answer_and_a_warning_are_shown(statement: SiteStatement) -> None:
    old = statement.cohorts[0]
    assert old.accountants is not None
    worn = replace(old, remaining=0.0, accountants=replace(old.accountants, prv=None))
    text = " ".join(page(replace(statement, cohorts=(worn,), warnings=("the clock was set back",)), 100).split())
    assert "it is used up: no further study can be approved" in text and "no answer" in text
    assert "WARNING: the clock was set back" in text
    odd = replace(old, pace=None)
    assert "cannot be told from the dates" in " ".join(page(replace(statement, cohorts=(odd,)), 100).split())
