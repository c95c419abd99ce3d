"""Step 6 of 12: what the ledger says to people: the quote of a study, and the statement of all studies.

Comes in: numbers from ledger.py. Goes out: frozen records, as JSON and as text. Every epsilon stands with its delta, its
unit and its neighbouring relation. Nothing here is computed from a patient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

UNIT = "patient"
ADJACENCY = "add or remove one patient"
COHORT = "all"


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
    """Cost of one study alone (PLD at the plan's delta), and the site's total before and after it by the cap's rule."""

    study_epsilon: float
    study_delta: float
    spent_before: float
    spent_after: float
    limit: float
    remaining: float
    delta: float
    adjacency: str = ADJACENCY
    unit: str = UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One study; `steps_started` are those of committed rounds, `steps` all that are charged.

    `admitted_under` is the limit in force at its RESERVE; None in rows that older versions wrote.
    """

    study: str
    name: str
    epsilon: float
    epsilon_replace_one: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    steps_started: int
    admitted_under: Limit | None
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
class Statement:
    """The ledger as people read it."""

    entries: tuple[LedgerEntry, ...]
    totals: Totals
    limit: float
    delta: float
    remaining: float
    cohort: str = COHORT
    adjacency: str = ADJACENCY
    unit: str = UNIT

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A few lines for a terminal."""
        lines = [
            f"Unit: {self.unit}, with all records. Neighbours: {self.adjacency}. Cohort: {self.cohort}.",
            *(
                f"{e.name} ({e.study[:8]}): epsilon {e.epsilon:.3f} at delta {e.delta:g}, {e.adjacency} "
                f"({e.epsilon_replace_one:.3f} replacing one); sigma {e.noise_multiplier:g}, q {e.sampling_rate:g}, "
                f"{e.steps} steps charged, {e.steps_started} started; admitted under "
                f"{'a limit that was not recorded' if e.admitted_under is None else e.admitted_under}"
                for e in self.entries
            ),
            f"Spent for life: epsilon {self.totals.spent:.3f} of {self.limit:g} at delta {self.delta:g}, "
            f"{self.adjacency}; {self.remaining:.3f} remains.",
            f"By sum of studies {self.totals.by_sum:.3f}; by RDP filter {self.totals.by_rdp:.3f}; "
            f"{self.totals.if_fixed_in_advance:.3f} had the plans been fixed in advance (PLD).",
        ]
        return "\n".join(lines)
