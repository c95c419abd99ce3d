"""Step 6 of 12: the two kinds of rows that the ledger writes to the site's chain, as they are read back.

`reserve`: study, name, what, cohort, units (digest of the table of patients), unit, adjacency, sigma, q, steps, delta,
limit, date. `commit`: study, round, steps, date. Dates are UTC days, no times: the time between two rounds would tell how
many patients were sampled. Nothing that is charged depends on a date, so a clock that jumps is only warned of. Rows of
older versions lack what, units, limit or date. Raises `PrivacyError` for a row of another unit or relation.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ssl_core.chain import Chain, Entry
from ssl_core.errors import PrivacyError
from ssl_core.privacy.accountant import (
    Schedule,
    epsilon,
    epsilon_prv,
    epsilon_rdp,
    epsilon_rdp_replace_one,
    epsilon_replace_one,
)
from ssl_core.privacy.statement import ADJACENCY, UNIT, Epsilons, LedgerEntry, Limit

Row = dict[str, Any]
Today = Callable[[], datetime.date]

_RESERVE = "reserve"
_COMMIT = "commit"
_LOG = logging.getLogger("choral.ledger")


def utc_today() -> datetime.date:
    """The day by this machine's clock."""
    return datetime.datetime.now(datetime.UTC).date()


class LedgerLog:
    """The ledger's rows in an open chain."""

    def __init__(self, chain: Chain, today: Today) -> None:
        self.chain = chain
        self.today = today

    def reserved(self) -> dict[str, Row]:
        """The reservations of all cohorts, by study, in their order."""
        rows = [entry.body for entry in self.chain.entries(_RESERVE)]
        for row in rows:
            found = (row["unit"], row["adjacency"])
            if found != (UNIT, ADJACENCY):
                raise PrivacyError("ledger holds an entry of another kind", field="unit, adjacency", value=found)
        return {row["study"]: row for row in rows}

    def committed(self, study: str) -> list[Row]:
        """The rounds of `study` that started, in their order."""
        return [entry.body for entry in self.chain.entries(_COMMIT) if entry.body["study"] == study]

    def reserve(self, row: Row) -> None:
        """Append a reservation, dated today."""
        self.chain.append(_RESERVE, row | {"date": self._day()})

    def commit(self, row: Row) -> None:
        """Append the start of a round, dated today."""
        self.chain.append(_COMMIT, row | {"date": self._day()})

    def clock_warnings(self) -> tuple[str, ...]:
        """Where the log's dates fall, and whether this machine's clock stands before the latest of them."""
        dated = self._dated()
        found = [
            f"the clock of this machine was set back: entry {b.sequence} is of {b.body['date']}, "
            f"entry {a.sequence} before it of {a.body['date']}; charges do not depend on it"
            for a, b in pairwise(dated)
            if b.body["date"] < a.body["date"]
        ]
        behind = self._behind()
        return (*found, behind) if behind else tuple(found)

    def _day(self) -> str:
        behind = self._behind()
        if behind:
            _LOG.warning(behind)
        return self.today().isoformat()

    def _behind(self) -> str:
        today = self.today().isoformat()
        latest = max((entry.body["date"] for entry in self._dated()), default="")
        return f"the clock of this machine says {today}, and the ledger holds an entry of {latest}" if today < latest else ""

    def _dated(self) -> list[Entry]:
        both = (*self.chain.entries(_RESERVE), *self.chain.entries(_COMMIT))
        return sorted((entry for entry in both if "date" in entry.body), key=lambda entry: entry.sequence)


def schedule_of(row: Row) -> Schedule:
    """What a reservation is for."""
    return Schedule(row["noise_multiplier"], row["sampling_rate"], row["steps"])


def entry_of(row: Row, commits: list[Row]) -> LedgerEntry:
    """A reservation and the rounds that started under it, for the statement."""
    schedule = schedule_of(row)
    accountants = by_three_accountants([schedule], row["delta"])
    rounds = [commit["round"] for commit in commits]
    return LedgerEntry(
        study=row["study"],
        name=row["name"],
        what=row.get("what", "pretraining"),
        epsilon=accountants.pld,
        epsilon_replace_one=accountants.pld_replace_one,
        delta=row["delta"],
        noise_multiplier=schedule.noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        steps=schedule.steps,
        steps_started=sum(commit["steps"] for commit in commits),
        rounds_started=len(rounds),
        first_round=min(rounds, default=None),
        last_round=max(rounds, default=None),
        reserved_on=row.get("date"),
        last_started_on=commits[-1].get("date") if commits else None,
        admitted_under=Limit(**row["limit"]) if "limit" in row else None,
        accountants=accountants,
    )


def by_three_accountants(schedules: list[Schedule], delta: float) -> Epsilons:
    """PLD, PRV and RDP side by side, had the schedules been fixed in advance."""
    try:
        prv = epsilon_prv(schedules, delta)
    except PrivacyError as error:
        # It was asked when each study was admitted; a statement of what was spent is never withheld.
        _LOG.warning("PRV: %s", error)
        prv = None
    return Epsilons(
        delta=delta,
        pld=epsilon(schedules, delta),
        prv=prv,
        rdp=epsilon_rdp(schedules, delta),
        pld_replace_one=epsilon_replace_one(schedules, delta),
        rdp_replace_one=epsilon_rdp_replace_one(schedules, delta),
    )
