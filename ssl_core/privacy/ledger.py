"""Step 6 of 12: what a site has spent of its patients' privacy, for life.

A view of the site's chain. RESERVE charges the whole schedule of a study at approval, once per plan hash, to one cohort of
patients, and says under which limit and for what: pretraining, or any other disclosure that is a Poisson-subsampled
Gaussian, such as a statistic (one step at q = 1). COMMIT says, durably and before training, which round starts; it never
passes the reserved steps and a round number is used once (ruling 6). Nothing is ever given back. A patient belongs to one
cohort for life (cohorts.py), so each cohort has the whole limit. Rows: ledger_log.py. Comes in: schedules. Goes out:
`Quote`, `Statement` (statement.py), or `BudgetError`.

The rule of the cap (E, D), fixed here and named in policy.toml. Later studies may be chosen after seeing what earlier
ones released, so composition must hold for adaptively chosen schedules; PLD of the log does not in general ("Privacy
Filters are Captured by Residues", arXiv 2602.15815). A study is reserved if, with it, one of these at least holds:
  sum   sum_k eps_k <= E, eps_k by PLD at delta_k = (D/2) / (k (k+1)) for the k-th study; the delta_k add up to D/2.
        Basic composition is a valid filter: Rogers et al., "Privacy Odometers and Filters" (NeurIPS 2016).
  rdp   at one of 8 fixed orders the Renyi costs of all studies, added up, give epsilon <= E at delta D/16.
        For each fixed order that is a valid filter: Feldman and Zrnic, "Individual Privacy Accounting via
        a Renyi Filter" (NeurIPS 2021).
  lone  there is one study only, and its PLD at delta D is <= E.
Why their smaller one may be taken: let S be any set of transcripts, and part it by the first rule that holds at the
end. On part r the site behaves exactly as one that uses rule r alone (costs only grow, so rule r held all along), hence
P(S_r) <= e^E P'(S_r) + D_r, and adding up P(S) <= e^E P'(S) + D as the D_r add up to D. "Lone" needs no share: whether
the first study passes it but no other rule depends on its public schedule, and then no second study can pass any.
Rounds of several studies may interleave: Haney et al., "Concurrent Composition ... with Adaptive Privacy-Loss
Parameters" (CCS 2023) for filters in (eps, delta) and in Renyi DP of fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from ssl_core.chain import Chain
from ssl_core.errors import BudgetError, PrivacyError
from ssl_core.privacy.accountant import Schedule, checked_epsilon, epsilon, epsilon_rdp
from ssl_core.privacy.ledger_log import LedgerLog, Row, Today, by_three_accountants, entry_of, schedule_of, utc_today
from ssl_core.privacy.statement import (
    ADJACENCY,
    COHORT,
    UNIT,
    Disclosure,
    Limit,
    Quote,
    Statement,
    Totals,
    pace_of,
    rounded_up,
)

__all__ = ["ORDERS", "RULE", "Admission", "Ledger", "Quote", "Statement"]

RULE = "smaller of RDP filter and sum"
ORDERS = (2, 3, 4, 6, 8, 12, 20, 32)


@dataclass(frozen=True, slots=True)
class Admission:
    """There is room for a study on top of the studies `reserved` (by plan hash); no quote where it is one of them."""

    reserved: tuple[str, ...]
    quote: Quote | None


class Ledger:
    """The budget (max_epsilon, delta) of one cohort of patients, over the site's open chain."""

    def __init__(
        self,
        chain: Chain,
        *,
        max_epsilon: float,
        delta: float,
        cohort: str = COHORT,
        today: Today = utc_today,
    ) -> None:
        if not 0.0 < max_epsilon < math.inf or not 0.0 < delta < 1.0:
            raise PrivacyError("lifetime budget is not valid", field="max_epsilon, delta", value=(max_epsilon, delta))
        self._chain = chain
        self._limit = max_epsilon
        self._delta = delta
        self._cohort = cohort
        self._log = LedgerLog(chain, today)

    def cohorts(self) -> tuple[str, ...]:
        """The cohorts of all reservations, in the order of their first one."""
        return tuple(dict.fromkeys(body["cohort"] for body in self._log.reserved().values()))

    def clock_warnings(self) -> tuple[str, ...]:
        """Where the log's dates fall, and whether this machine's clock stands before the latest of them."""
        return self._log.clock_warnings()

    def quote(self, schedule: Schedule, plan_delta: float) -> Quote:
        """What `schedule` would cost on top of everything reserved; reserves nothing."""
        return self._quote(self._schedules(self._log.reserved()), schedule, plan_delta)

    def admit(self, study: str, schedule: Schedule, plan_delta: float) -> Admission:
        """All that a RESERVE asks, while the log stays free; `BudgetError` says the numbers. Reserves nothing."""
        if schedule.steps < 1:
            raise PrivacyError("a study without steps cannot be reserved", field="steps", value=schedule.steps)
        reserved = self._log.reserved()
        if study in reserved:
            _same(reserved[study], schedule, plan_delta, self._cohort)
            return Admission(tuple(reserved), None)
        quote = self._quote(self._schedules(reserved), schedule, plan_delta)
        if quote.spent_after > self._limit:
            raise BudgetError(
                "study would pass this site's lifetime budget: it costs epsilon "
                f"{rounded_up(quote.study_epsilon)} at delta {plan_delta:g}, {rounded_up(quote.spent_before)} is spent by "
                "its patients",
                field="epsilon for life after this study",
                value=rounded_up(quote.spent_after),
                limit=f"{self._limit:g} at delta {self._delta:g} ({ADJACENCY})",
                remedy="ask for a study with more noise or fewer steps; the limit is a decision of the hospital",
            )
        checked_epsilon([schedule], plan_delta)
        return Admission(tuple(reserved), quote)

    def reserve(
        self,
        study: str,
        name: str,
        schedule: Schedule,
        plan_delta: float,
        *,
        what: Disclosure = "pretraining",
        units: str | None = None,
    ) -> Quote | None:
        """Charge a whole study. The same study again changes nothing (None); `BudgetError` says the numbers.

        `units`: the digest of the table of patients (cohorts.py) that this study's patients were written into.
        """
        with self.reserving(study, name, schedule, plan_delta, what=what, units=units) as quote:
            return quote

    @contextmanager
    def reserving(
        self,
        study: str,
        name: str,
        schedule: Schedule,
        plan_delta: float,
        *,
        what: Disclosure = "pretraining",
        units: str | None = None,
    ) -> Iterator[Quote | None]:
        """`reserve` with a block in the same transaction: both are kept, or neither where the block raises.

        The accountants work before the log is held. Inside, the budget is checked again by what the log then holds: when
        it still holds the studies that were reckoned with, the answer stands; when not, all is reckoned anew.
        """
        while True:
            admission = self.admit(study, schedule, plan_delta)
            with self._chain.transaction():
                if tuple(self._log.reserved()) != admission.reserved:
                    continue
                if admission.quote is not None:
                    self._append(study, name, schedule, plan_delta, what, units)
                yield admission.quote
                return

    def _append(
        self, study: str, name: str, schedule: Schedule, plan_delta: float, what: Disclosure, units: str | None
    ) -> None:
        limit = Limit(max_epsilon=self._limit, delta=self._delta, rule=RULE)
        body = {
            "study": study,
            "name": name,
            "what": what,
            "cohort": self._cohort,
            "units": units,
            "unit": UNIT,
            "adjacency": ADJACENCY,
            "noise_multiplier": schedule.noise_multiplier,
            "sampling_rate": schedule.sampling_rate,
            "steps": schedule.steps,
            "delta": plan_delta,
            "limit": asdict(limit),
        }
        self._log.reserve(body)

    def commit(self, study: str, round: int, steps: int) -> None:
        """Durable before it returns: `round` of `study` starts now and takes `steps` noised steps."""
        with self._chain.transaction():
            body = self._log.reserved().get(study)
            if body is None:
                raise PrivacyError("study has no reservation in the ledger", field="study", value=study)
            if round < 1 or steps < 1:
                raise PrivacyError("round or steps are not positive", field="round, steps", value=(round, steps))
            before = {commit["round"]: commit["steps"] for commit in self._log.committed(study)}
            if round in before:
                raise PrivacyError("round was started before; its number is never used again", field="round", value=round)
            started = sum(before.values())
            if started + steps > int(body["steps"]):
                raise PrivacyError(
                    "round would pass the steps that were reserved",
                    field="steps",
                    value=started + steps,
                    limit=body["steps"],
                    remedy="a longer study is a new plan with its own approval",
                )
            self._log.commit({"study": study, "round": round, "steps": steps})

    def statement(self) -> Statement:
        """Every study of the cohort, the totals by each rule, and the pace."""
        bodies = [body for body in self._log.reserved().values() if body["cohort"] == self._cohort]
        schedules = [schedule_of(body) for body in bodies]
        totals = self._totals(schedules)
        remaining = max(0.0, self._limit - totals.spent)
        entries = tuple(entry_of(body, self._log.committed(body["study"])) for body in bodies)
        return Statement(
            entries=entries,
            totals=totals,
            accountants=by_three_accountants(schedules, self._delta) if schedules else None,
            limit=self._limit,
            delta=self._delta,
            remaining=remaining,
            pace=pace_of(entries, totals.spent, remaining, self._log.today()),
            cohort=self._cohort,
        )

    def _quote(self, before: Sequence[Schedule], schedule: Schedule, plan_delta: float) -> Quote:
        after = self._totals([*before, schedule]).spent
        return Quote(
            study_epsilon=epsilon([schedule], plan_delta),
            study_delta=plan_delta,
            spent_before=self._totals(before).spent,
            spent_after=after,
            limit=self._limit,
            remaining=max(0.0, self._limit - after),
            delta=self._delta,
            cohort=self._cohort,
        )

    def _totals(self, schedules: Sequence[Schedule]) -> Totals:
        """See the module's docstring; `schedules` in the order of their reservation."""
        if not schedules:
            return Totals(spent=0.0, by_sum=0.0, by_rdp=0.0, if_fixed_in_advance=0.0)
        half = self._delta / 2
        by_sum = sum(epsilon([s], half / (k * (k + 1))) for k, s in enumerate(schedules, start=1))
        by_rdp = min(epsilon_rdp(schedules, half / len(ORDERS), order=order) for order in ORDERS)
        fixed = epsilon(schedules, self._delta)
        rules = (by_sum, by_rdp, fixed) if len(schedules) == 1 else (by_sum, by_rdp)
        return Totals(spent=min(rules), by_sum=by_sum, by_rdp=by_rdp, if_fixed_in_advance=fixed)

    def _schedules(self, reserved: dict[str, Row]) -> list[Schedule]:
        return [schedule_of(body) for body in reserved.values() if body["cohort"] == self._cohort]


def _same(body: Row, schedule: Schedule, plan_delta: float, cohort: str) -> None:
    found, asked = (schedule_of(body), body["delta"], body["cohort"]), (schedule, plan_delta, cohort)
    if found != asked:
        raise PrivacyError(
            "study was reserved with another schedule, or for another cohort",
            field="schedule, delta, cohort",
            value=asked,
            limit=found,
            remedy="a changed study is a new plan with its own hash",
        )
