"""Step 1 of 12: what a site declares of an OMOP common data model (version 5.3 or 5.4) in SQLite or PostgreSQL.

    kind = "omop"                          [measurements.sodium]
    url_variable = "OMOP_URL"              concepts = [3019550]
    cdm_schema = "cdm"                     unit_concepts = [8753]
    rows = "visit"                         unit = "mmol/L"
    largest_mib = 4                        [conditions.diabetes]
    max_rows = 10_000_000                  "type 1" = [201254]
    seconds = 3600                         "type 2" = [201826]
    [notes]                                [otherwise]
    types = [44814637]                     diabetes = "none recorded"
    classes = [3017358]

The URL of the database (sqlite:///cdm.db, postgresql://user:password@host/name) never stands here: `url_variable` names an
environment variable that holds it, or `url_file` a file beside the TOML that nobody else on the machine may read. A SQLite
file lies in the TOML's folder or below it, and is no link that leads out; its path is relative to that folder, or whole.
`notes`, for text data: the note_type_concept_id and note_class_concept_id that are read; empty for all.
For tables: each column of the plan stands under `measurements` (a number, in the unit that `unit_concepts` stand for, which is
the plan's) or `conditions` (each level of the plan's column with the condition_concept_id that mean it). `otherwise` is the
level of a row with no such condition; without it the cell is missing. A row is a visit, or a day of a person; what belongs to
no visit is a row of its day.
A note may hold `largest_mib` (4) as UTF-8, a query give `max_rows` (10 million), the whole reading take `seconds` (an hour).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_core.data.declared import Declared, Inside
from ssl_core.spec.data import Shown, Unit
from ssl_core.spec.strict import StrictModel

Concepts = Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...], Field(max_length=1000)]
SomeConcepts = Annotated[Concepts, Field(min_length=1)]


class Notes(StrictModel):
    """Which notes are read; empty for all."""

    types: Concepts = ()
    classes: Concepts = ()


class Measured(StrictModel):
    """A numeric column: what is measured, and the only units in which it is read."""

    concepts: SomeConcepts
    unit_concepts: SomeConcepts
    unit: Unit | None = None


class OmopSource(Declared):
    """Tables note, measurement and condition_occurrence of an OMOP database."""

    kind: Literal["omop"]
    url_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    url_file: Inside | None = None
    cdm_schema: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] | None = None
    rows: Literal["visit", "day"] = "visit"
    notes: Notes = Notes()
    measurements: dict[str, Measured] = Field(default_factory=dict)
    conditions: dict[str, Annotated[dict[Shown, SomeConcepts], Field(min_length=1)]] = Field(default_factory=dict)
    otherwise: dict[str, Shown] = Field(default_factory=dict)
    largest_mib: Annotated[int, Field(ge=1, le=256)] = 4
    max_rows: Annotated[int, Field(ge=1, le=10**10)] = 10_000_000
    seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600.0

    @property
    def largest(self) -> int:
        """Bytes that one note may hold."""
        return self.largest_mib << 20

    @property
    def paths(self) -> tuple[str, ...]:
        """No file: a database."""
        return ()

    @property
    def patient_column(self) -> str:
        """Where a patient is named, in every table."""
        return "person_id"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if (self.url_variable is None) == (self.url_file is None):
            raise ValueError("one of url_variable and url_file says where the URL of the database is")
        both = self.measurements.keys() & self.conditions.keys()
        if both:
            raise ValueError(f"column {min(both)!r} stands under measurements and conditions")
        if not self.otherwise.keys() <= self.conditions.keys():
            raise ValueError("otherwise is for columns that stand under conditions")
        groups = [("measurements", [column.concepts for column in self.measurements.values()])]
        groups += [(f"conditions.{name}", list(levels.values())) for name, levels in self.conditions.items()]
        for what, concepts in groups:
            flat = [concept for group in concepts for concept in group]
            if len(set(flat)) != len(flat):
                raise ValueError(f"{what}: a concept stands there twice")
        return self
