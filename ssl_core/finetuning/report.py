"""Step 13: what is said of a model that was fitted to a site's own labels, to a person or a script at the site.

Comes in: scores of the model and of the raw floor on the same test patients. Goes out: text, and plain values for JSON: counts
and scores, no id. An encoder that does not beat the floor is shown not to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ssl_core.finetuning.join import Joined, Match
from ssl_core.finetuning.model import NOTICE, Method, Outcome

Scores = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What every report says: on whom the model was fitted, and what found no partner; `records`: of labels of records."""

    folder: str
    encoder: str
    patients: int
    records: int | None
    match: Match
    test_match: Match | None = None
    notice: str = NOTICE

    @property
    def whom(self) -> str:
        """On how many."""
        return f"{self.patients} labelled patients" if self.records is None else (
            f"{self.records} labelled records of {self.patients} patients"
        )  # fmt: skip

    @property
    def how_to_apply(self) -> str:
        """The command that applies the model."""
        return f"To score other records with it: choral embed {self.folder} --source SOURCE.toml --out SCORES.csv"

    def unmatched(self) -> list[str]:
        """A line for each side on which labels and source are not the same."""
        one, many = ("patient", "patients") if self.records is None else ("record", "records")
        sides = (("fit on", self.match), ("test on", self.test_match))
        return [
            f"To {what}: {match.strangers} labels name no {one} of the source; {match.unlabelled} of its {many} have no label."
            for what, match in sides
            if match is not None and (match.strangers or match.unlabelled)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneReport(Fitted):
    """How a model does on the test patients, or their records; AUROC is None without a test set or without both classes.

    accuracy, floor_accuracy: of three classes or more, the balanced accuracy.
    """

    method: Method
    labels: tuple[str, ...]
    auroc: Scores
    floor_auroc: Scores
    accuracy: float | None = None
    floor_accuracy: float | None = None

    @property
    def macro(self) -> float | None:
        """Mean AUROC over the labels that could be scored."""
        return _mean(self.auroc)

    @property
    def floor_macro(self) -> float | None:
        """The same for the raw floor."""
        return _mean(self.floor_auroc)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"macro": self.macro, "floor_macro": self.floor_macro}

    def to_text(self) -> str:
        """The report for a person."""
        lines = [f"{self.method} on encoder {self.encoder}, {self.whom} -> {self.folder}", *self.unmatched()]
        if self.macro is None or self.floor_macro is None:
            lines.append("Not tested: no test patients were given, or none of the labels has both classes among them.")
        else:
            rows = [*zip(self.labels, self.auroc, self.floor_auroc, strict=True), ("macro AUROC", self.macro, self.floor_macro)]
            if self.accuracy is not None:
                rows.append(("balanced accuracy", self.accuracy, self.floor_accuracy))
            lines += _table("", rows)
            if self.macro <= self.floor_macro:
                lines.append("This model does not beat the raw floor: a linear model on the raw data does as well or better.")
        return "\n".join([*lines, self.how_to_apply, self.notice])


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReport(Fitted):
    """How a head does on test patients: R^2 of each column, or the concordance; None without a test set."""

    outcome: Outcome
    columns: tuple[str, ...]
    score: Scores
    floor: Scores

    def to_json(self) -> dict[str, Any]:
        """For scripts at the site."""
        return asdict(self)

    def to_text(self) -> str:
        """The report for a person."""
        lines = [f"linear head for {self.outcome} on encoder {self.encoder}, {self.whom} -> {self.folder}", *self.unmatched()]
        if self.score[0] is None:
            lines.append("Not tested: no test patients were given, or nothing differs among them.")
        else:
            what = "R^2" if self.outcome == "numbers" else "concordance"
            lines += _table(what, list(zip(self.columns, self.score, self.floor, strict=True)))
        return "\n".join([*lines, self.how_to_apply, self.notice])


def counted(fitted: Joined, tested: Joined | None, *, by_record: bool) -> dict[str, Any]:
    """The counts of a report."""
    return {
        "patients": len(fitted.patients()),
        "records": len(fitted.index) if by_record else None,
        "match": fitted.match,
        "test_match": None if tested is None else tested.match,
    }


def _table(what: str, rows: Sequence[tuple[str, float | None, float | None]]) -> list[str]:
    width = max(len(what), *(len(name) for name, _, _ in rows))
    lines = [f"{name:{width}}  {_shown(own)}  {_shown(floor)}" for name, own, floor in rows]
    return [f"{what:{width}}  model   raw floor", *lines]


def _mean(areas: Scores) -> float | None:
    known = [area for area in areas if area is not None]
    return sum(known) / len(known) if known else None


def _shown(value: float | None) -> str:
    return "  -   " if value is None else f"{value:6.3f}"
