"""`choral site ledger` on a terminal: first for whoever answers for the patients, then the numbers for specialists.

Comes in: a `SiteStatement`. Goes out: words and tables of rich, readable at 80 columns. Every epsilon stands with its
delta and its neighbouring relation. Nothing here is computed from a patient.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ssl_core.privacy.statement import (
    ADJACENCY,
    REPLACE_ONE,
    Epsilons,
    LedgerEntry,
    SiteStatement,
    Statement,
    most_found,
    rounded_down,
    rounded_up,
)

_WHAT = {"pretraining": "encoder", "finetuning": "private fine-tuning", "metric": "metric", "statistic": "statistic"}
_FIXED: dict[str, JustifyMethod] = {
    "approved": "left", "cost": "right", "of limit": "right", "rounds": "right", "last round": "left"
}  # fmt: skip
_WIDEST = 120
_BAR = 30


def print_statement(statement: SiteStatement) -> None:
    """To this terminal."""
    console = Console(highlight=False)
    console.print(render(statement), width=min(console.width, _WIDEST))


def render(statement: SiteStatement) -> RenderableType:
    """The whole page, top to bottom."""
    parts: list[RenderableType] = [
        Rule(Text(f"Privacy ledger of {statement.site}, {_long(statement.date)}", style="bold"), align="left"),
        Text(_introduction(statement)),
    ]
    parts += [Text(f"WARNING: {warning}", style="red") for warning in statement.warnings]
    for cohort in statement.cohorts:
        parts += [Text(""), *_for_everyone(cohort)]
    parts += [Text(""), Rule(Text("For specialists", style="bold"), align="left")]
    for cohort in statement.cohorts:
        parts += _for_specialists(cohort)
    parts.append(Text(_footnotes(statement)))
    return Group(*parts)


def _introduction(statement: SiteStatement) -> str:
    limit = statement.cohorts[0].limit
    return (
        "Whenever a study learns from patients, something about each of them could be inferred from what leaves this "
        "hospital. Random noise keeps that small; epsilon measures how much at most is left, and it adds up over a patient's "
        f"life. This hospital allows {limit:g} for each patient. Nothing spent is ever given back. Studies that would pass "
        "the limit are refused. A study is charged on the day of its approval, in full, whether or not it is finished."
    )


def _for_everyone(cohort: Statement) -> Iterator[RenderableType]:
    spent, limit = cohort.totals.spent, cohort.limit
    yield Text(f"Patients of cohort “{cohort.cohort}”", style="bold")
    filled = min(_BAR, math.ceil(_BAR * spent / limit))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column()
    facts.add_row("limit for life", f"{limit:g}")
    facts.add_row(
        "spent",
        Text.assemble(
            f"{rounded_up(spent)}  ", ("█" * filled, "yellow"), "░" * (_BAR - filled), f" {rounded_up(100 * spent / limit, 0)}%"
        ),
    )
    facts.add_row("remains", rounded_down(cohort.remaining))
    facts.add_row("until when", _until(cohort))
    facts.add_row("what that means", _meaning(cohort))
    yield Padding(facts, (0, 0, 0, 2))
    if cohort.entries:
        yield Padding(_studies(cohort), (0, 0, 0, 2))


def _studies(cohort: Statement) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left", pad_edge=False)
    table.caption = "Cost: of each study alone. Together they come to what is spent, by the rule below."
    table.add_column("study", overflow="fold")
    table.add_column("for")
    for name, justify in _FIXED.items():
        table.add_column(name, justify=justify, no_wrap=True)
    for entry in cohort.entries:
        table.add_row(
            entry.name,
            _WHAT[entry.what],
            entry.reserved_on or "-",
            rounded_up(entry.epsilon),
            f"{rounded_up(100 * entry.epsilon / cohort.limit, 0)}%",
            str(entry.rounds_started),
            entry.last_started_on or "-",
        )
    return table


def _until(cohort: Statement) -> str:
    pace = cohort.pace
    if not cohort.entries:
        return "nothing was spent so far"
    if cohort.remaining == 0:
        return "it is used up: no further study can be approved"
    if pace is None:
        days = {entry.reserved_on for entry in cohort.entries}
        few = "too few studies to tell: that takes two, approved on different days"
        return few if len(days) < 2 else "cannot be told from the dates of the log"
    so_far = f"{pace.studies} studies in {pace.days} days spent {rounded_up(cohort.totals.spent)}"
    if pace.used_up_on is None:
        return f"at the present pace not within a hundred years ({so_far})"
    return f"at the present pace until about {_month(pace.used_up_on)} ({so_far})"


def _meaning(cohort: Statement) -> str:
    # Not where nothing was spent: a study of epsilon 0 tells something of each patient with a chance of delta.
    if not cohort.entries:
        return "nothing that leaves this hospital tells of any of these patients"
    found = [_of_100(most_found(cohort.totals.spent, cohort.delta, wrongly)) for wrongly in (0.01, 0.001)]
    return (
        "somebody guesses, from all that left, whether a given patient took part. If he would say yes in at most 1 of 100 "
        f"cases where the patient's records were not used, he says yes in at most {found[0]} of "
        f"100 where they were (a blind guess: 1); if in at most 1 of 1 000, in at most {found[1]} of 100 (a blind guess: 0.1)"
    )


def _for_specialists(cohort: Statement) -> Iterator[RenderableType]:
    yield Text(f"Cohort “{cohort.cohort}”: epsilon by three accountants and both relations", style="bold")
    if cohort.accountants is None:
        yield Text("  no study so far")
        return
    table = Table(box=SIMPLE_HEAD, show_lines=True, pad_edge=False)
    for name in ("study: sigma, q, steps", "delta", f"{ADJACENCY}\nPLD / PRV / RDP", f"{REPLACE_ONE}\nPLD / RDP"):
        table.add_column(name, overflow="fold", justify="left" if name.startswith("study") else "right")
    for entry in cohort.entries:
        schedule = f"{entry.noise_multiplier:g}, {entry.sampling_rate:g}, {entry.steps} charged, {_started(entry)}"
        table.add_row(f"{entry.name} ({entry.study[:8]})\n{schedule}", *_numbers(entry.accountants))
    table.add_row("all, had they been fixed in advance", *_numbers(cohort.accountants))
    yield table
    totals = cohort.totals
    yield Text(
        f"Counts against the limit: {rounded_up(totals.spent)} of {cohort.limit:g} at delta {cohort.delta:g}, "
        f"{cohort.adjacency}. "
        f"By sum of studies {rounded_up(totals.by_sum)}, by RDP filter {rounded_up(totals.by_rdp)}; "
        f"{rounded_up(totals.if_fixed_in_advance)} had the plans been fixed in advance (PLD)."
    )
    for entry in cohort.entries:
        under = "a limit that was not recorded" if entry.admitted_under is None else entry.admitted_under
        yield Text(f"{entry.name} ({entry.study[:8]}) admitted under {under}.")


def _started(entry: LedgerEntry) -> str:
    rounds = "" if entry.last_round is None else f" in rounds {entry.first_round} to {entry.last_round}"
    return f"{entry.steps_started} started{rounds}"


def _numbers(e: Epsilons) -> tuple[str, str, str]:
    prv = "no answer" if e.prv is None else rounded_up(e.prv)
    add_or_remove = f"{rounded_up(e.pld)} / {prv} / {rounded_up(e.rdp)}"
    return f"{e.delta:g}", add_or_remove, f"{rounded_up(e.pld_replace_one)} / {rounded_up(e.rdp_replace_one)}"


def _footnotes(statement: SiteStatement) -> str:
    unit = statement.cohorts[0].unit
    return (
        f"Unit: the {unit}, with all records. PLD (dp-accounting) is the accountant of record; PRV (Opacus) is a check of it "
        "and knows no replace-one; RDP is an upper bound, for replace-one a loose one. The costs of studies do not add up to "
        f"what is spent: that is the {statement.rule} (of one study alone, its PLD), which holds though later studies were "
        "chosen after earlier results."
    )


def _of_100(share: float) -> str:
    """Rounded up, so that what is printed is a bound."""
    digits = 1 if share < 0.99 else 3
    return f"{math.ceil(100 * share * 10**digits) / 10**digits:g}"


def _long(day: str) -> str:
    date = datetime.date.fromisoformat(day)
    return f"{date.day} {date:%B %Y}"


def _month(day: str) -> str:
    return f"{datetime.date.fromisoformat(day):%B %Y}"
