"""Step 1 of 12: reader of an OMOP common data model: notes as texts, measurements and conditions as wide rows.

Comes in: a declared database (declared_omop.py). Goes out: a `Reading`, int32 [m, words, codes] of one record a note, or
float32 [m, 2 N + C] (columns.py) of one record a visit, or a day of a person, in which something declared was recorded. In one
row the last value by time counts, at one time that of the greatest id; conditions likewise. A number is read as the same text
in a CSV file is. A record in which a value stands in another unit than declared is bad, as is one with a value that is no
number: nothing is converted, and nothing left out without a word. A note of more bytes than declared is a bad record. A row
without a person belongs to nobody. A person's records come in the order of their dates; labels name them by note_id,
visit_occurrence_id or day. Rows are streamed in one read-only transaction (database.py), those of tables ordered by person:
PostgreSQL sorts them where it sorts, SQLite in memory, 128 bytes of cells a row on average and at most max_rows of them.
Raises `DataError` for what concerns the whole source, and where columns or units are not the plan's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_core.data.columns import level_codes, table_record
from ssl_core.data.database import Base, check_sortable, check_table, connected, stream, table_of
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.optional import needed
from ssl_core.data.reading import Effort, Fault, Reading, Tally, owned, row_id
from ssl_core.data.rows import Rows
from ssl_core.data.table import words_of
from ssl_core.data.times import sortable
from ssl_core.data.wide_columns import check_wide_columns
from ssl_core.data.words import encode
from ssl_core.spec.data import TableData, TextData

TABLES: dict[str, tuple[str, ...]] = {
    "note": (
        "note_id", "person_id", "note_date", "note_datetime", "note_type_concept_id", "note_class_concept_id", "note_text",
    ),
    "measurement": (
        "measurement_id", "person_id", "visit_occurrence_id", "measurement_date", "measurement_datetime",
        "measurement_concept_id", "value_as_number", "unit_concept_id",
    ),
    "condition_occurrence": (
        "condition_occurrence_id", "person_id", "visit_occurrence_id", "condition_start_date", "condition_start_datetime",
        "condition_concept_id",
    ),
}  # fmt: skip
"""What is read of the common data model, by table."""

# Bytes of notes that are fetched at once, and, on average, of the cells of a row that SQLite sorts in memory.
_AT_ONCE = 64 << 20
_BYTES_A_ROW = 128


class Event(NamedTuple):
    """One row of measurement (`value` is there) or condition_occurrence."""

    person: object
    visit: object
    when: str
    identity: str
    concept: int
    value: object
    unit: object

    @property
    def written(self) -> str:
        """What stands in the database, for the eye: a number and its unit's concept, or a condition's concept."""
        if self.value is None:
            return f"concept {self.concept}"
        return f"{_cell(self.value)}, {'without a unit' if self.unit is None else f'unit {self.unit}'}"


def read_notes(declared: OmopSource, folder: Path, data: TextData, effort: Effort) -> Reading:
    """Every note of the declared types and classes; see the module docstring."""
    tally, owners, order, names = Tally("note"), list[str](), list[str](), list[str]()
    with connected(declared, folder) as base, Rows(encode([[]], data)[0], effort.scratch) as rows:
        for owner, row in owned(note_rows(base, declared), tally):
            words = Fault.TOO_LARGE if row[5] else words_of(row[1])
            if isinstance(words, Fault):
                tally.faults[words] += 1
            owners.append(owner)
            order.append(note_order(row))
            names.append(row_id(row[4]) or "")
            rows.add(encode([[] if isinstance(words, Fault) else words], data)[0])
        return Reading(owners, order, rows.array(), (tally,), names)


def note_order(row: Any) -> str:
    """What puts a person's rows of `note_rows` into their order: time, or date where that is all, then the note's id."""
    return f"{sortable(row[3] if row[2] is None else row[2])} {row[4]!s:>20}"


def note_rows(base: Base, declared: OmopSource) -> Iterator[Any]:
    """The notes of the declared types and classes: person, text, time, date, id, is it too large (and so no text); as they lie.

    In no order of theirs: to sort them, SQLite would write every text to a file of its own.
    """
    alchemy = needed("sqlalchemy", "databases")
    check_table(base, "note", TABLES["note"])
    c = table_of(base, "note", TABLES["note"]).c
    size = base.size_of(c.note_text)
    text = alchemy.case((size <= declared.largest, c.note_text))
    found = alchemy.select(c.person_id, text, c.note_datetime, c.note_date, c.note_id, size > declared.largest)
    for column, concepts in (
        ("note_type_concept_id", declared.notes.types),
        ("note_class_concept_id", declared.notes.classes),
    ):
        found = found.where(c[column].in_(concepts)) if concepts else found
    return stream(base, found, max(1, _AT_ONCE // declared.largest))


def read_visits(declared: OmopSource, folder: Path, data: TableData, effort: Effort) -> Reading:
    """Every visit or day with a declared measurement or condition; see the module docstring."""
    _check_columns(declared, data)
    tally, owners, order, names = Tally("measurement, condition_occurrence"), list[str](), list[str](), list[str]()
    blank, levels = np.zeros(data.values, np.float32), level_codes(data)
    with connected(declared, folder) as base, Rows(blank, effort.scratch) as rows:
        for owner, (_, name, record, cells, _) in owned(visit_rows(base, declared, data), tally):
            values = cells if isinstance(cells, Fault) else table_record(cells, data, levels, {""})
            if isinstance(values, Fault):
                tally.faults[values] += 1
                values = blank
            owners.append(owner)
            order.append(name)
            names.append(record)
            rows.add(values)
        return Reading(owners, order, rows.array(), (tally,), names)


def _check_columns(declared: OmopSource, data: TableData) -> None:
    units = {name: measured.unit for name, measured in declared.measurements.items()}
    levels = {
        name: (*concepts, *([declared.otherwise[name]] if name in declared.otherwise else []))
        for name, concepts in declared.conditions.items()
    }
    check_wide_columns(data, numbers=("measurements", units), levels=("conditions", levels))


def _events(base: Base, declared: OmopSource) -> Iterator[Event]:
    """What is declared of measurements and conditions, person after person."""
    alchemy = needed("sqlalchemy", "databases")
    parts = []
    if declared.measurements:
        concepts = [concept for column in declared.measurements.values() for concept in column.concepts]
        check_table(base, "measurement", TABLES["measurement"])
        c = table_of(base, "measurement", TABLES["measurement"]).c
        parts.append(
            alchemy.select(
                c.person_id, c.visit_occurrence_id, c.measurement_datetime, c.measurement_date, c.measurement_id,
                c.measurement_concept_id, c.value_as_number, c.unit_concept_id, alchemy.literal_column("1").label("measured"),
            ).where(c.measurement_concept_id.in_(concepts), c.value_as_number.is_not(None))
        )  # fmt: skip
    if declared.conditions:
        concepts = [concept for levels in declared.conditions.values() for group in levels.values() for concept in group]
        check_table(base, "condition_occurrence", TABLES["condition_occurrence"])
        c = table_of(base, "condition_occurrence", TABLES["condition_occurrence"]).c
        parts.append(
            alchemy.select(
                c.person_id, c.visit_occurrence_id, c.condition_start_datetime, c.condition_start_date,
                c.condition_occurrence_id, c.condition_concept_id, alchemy.cast(alchemy.null(), alchemy.Numeric),
                alchemy.cast(alchemy.null(), alchemy.Integer), alchemy.literal_column("0").label("measured"),
            ).where(c.condition_concept_id.in_(concepts))
        )  # fmt: skip
    events = alchemy.union_all(*parts)
    check_sortable(base, events, _BYTES_A_ROW)
    # By its place: the two tables call their columns differently.
    statement = events.order_by(alchemy.text("1"))
    for person, visit, moment, day, identity, concept, value, unit, measured in stream(base, statement):
        number = (value if measured else None, unit)
        yield Event(person, visit, sortable(day if moment is None else moment), f"{identity!s:>20}", int(concept), *number)


def visit_rows(
    base: Base, declared: OmopSource, data: TableData
) -> Iterator[tuple[object, str, str, tuple[str, ...] | Fault, list[Event | None]]]:
    """Person, name that orders a person's rows, visit or day, cells in the plan's order or why there are none, whence each."""
    places = {column.name: place for place, column in enumerate(data.columns)}
    numbers = {c: (places[name], m) for name, m in declared.measurements.items() for c in m.concepts}
    levels: dict[int, list[tuple[int, str]]] = {}
    for name, meant in declared.conditions.items():
        for level, concepts in meant.items():
            for concept in concepts:
                levels.setdefault(concept, []).append((places[name], level))
    start = [declared.otherwise.get(column.name, "") for column in data.columns]
    for person, own in groupby(_events(base, declared), key=lambda event: event.person):
        rows: dict[str, list[str]] = {}
        taken: dict[str, list[Event | None]] = {}
        first: dict[str, str] = {}
        records: dict[str, str] = {}
        bad: set[str] = set()
        for event in sorted(own, key=lambda event: (event.when, event.identity)):
            by_visit = declared.rows == "visit" and event.visit is not None
            key = f"visit {event.visit!s:>20}" if by_visit else f"day {event.when[:10]}"
            cells = rows.setdefault(key, start.copy())
            origin = taken.setdefault(key, [None] * len(start))
            first.setdefault(key, event.when)
            records.setdefault(key, (row_id(event.visit) or "") if by_visit else event.when[:10])
            if event.value is not None:
                place, measured = numbers[event.concept]
                cells[place], origin[place] = _cell(event.value), event
                if str(event.unit) not in map(str, measured.unit_concepts):
                    bad.add(key)
                continue
            for place, level in levels[event.concept]:
                cells[place], origin[place] = level, event
        for key, cells in rows.items():
            yield person, f"{first[key]} {key}", records[key], Fault.UNITS if key in bad else tuple(cells), taken[key]


def _cell(value: object) -> str:
    """A number as a CSV file would hold it; anything else that a database without types holds, as it is."""
    return repr(value) if isinstance(value, float) else str(value) if isinstance(value, Number | str) else "?"
