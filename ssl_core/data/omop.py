"""Step 1 of 12: reader of an OMOP common data model: notes as texts, measurements and conditions as wide rows.

Comes in: a declared database (declared_omop.py). Goes out: a `Reading`, int32 [m, words, codes] of one record a note, or
float32 [m, 2 N + C] (columns.py) of one record a visit, or a day of a person, in which something declared was recorded. In one
row the last value by time counts, at one time that of the greatest id; conditions likewise. A number is read as the same text
in a CSV file is. A record in which a value stands in another unit than declared is bad, as is one with a value that is no
number: nothing is converted, and nothing left out without a word. A row without a person belongs to nobody. A person's
records come in the order of their dates. Rows are streamed, ordered by person, in one read-only transaction (database.py).
Raises `DataError` for what concerns the whole source, and where columns or units are not the plan's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_core.data.columns import level_codes, table_record
from ssl_core.data.database import check_table, connected, stream
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.optional import needed
from ssl_core.data.reading import Effort, Fault, Reading, Tally, owned
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


class _Event(NamedTuple):
    """One row of measurement (`value` is there) or condition_occurrence."""

    person: object
    visit: object
    when: str
    identity: str
    concept: int
    value: object
    unit: object


def read_notes(declared: OmopSource, folder: Path, data: TextData, effort: Effort) -> Reading:
    """Every note of the declared types and classes; see the module docstring."""
    tally, owners, order = Tally("note"), list[str](), list[str]()
    with connected(declared, folder) as connection, Rows(encode([[]], data)[0], effort.scratch) as rows:
        for owner, row in owned(note_rows(connection, declared), tally):
            words = words_of(row[1])
            if isinstance(words, Fault):
                tally.faults[words] += 1
            owners.append(owner)
            order.append(f"{sortable(row[3] if row[2] is None else row[2])} {row[4]!s:>20}")
            rows.add(encode([[] if isinstance(words, Fault) else words], data)[0])
        return Reading(owners, order, rows.array(), (tally,))


def note_rows(connection: Any, declared: OmopSource) -> Iterator[Any]:
    """The notes of the declared types and classes: person, text, time, date, id; one person's after another's."""
    alchemy = needed("sqlalchemy", "databases")
    check_table(connection, declared.cdm_schema, "note", TABLES["note"])
    note = _table(alchemy, declared, "note")
    found = alchemy.select(note.c.person_id, note.c.note_text, note.c.note_datetime, note.c.note_date, note.c.note_id)
    for column, concepts in (
        ("note_type_concept_id", declared.notes.types),
        ("note_class_concept_id", declared.notes.classes),
    ):
        found = found.where(note.c[column].in_(concepts)) if concepts else found
    return stream(connection, found.order_by(note.c.person_id))


def read_visits(declared: OmopSource, folder: Path, data: TableData, effort: Effort) -> Reading:
    """Every visit or day with a declared measurement or condition; see the module docstring."""
    _check_columns(declared, data)
    tally, owners, order = Tally("measurement, condition_occurrence"), list[str](), list[str]()
    blank, levels = np.zeros(data.values, np.float32), level_codes(data)
    with connected(declared, folder) as connection, Rows(blank, effort.scratch) as rows:
        events = _events(connection, declared)
        for owner, (_, name, cells) in owned(_wide(declared, data, events), tally):
            record = cells if isinstance(cells, Fault) else table_record(cells, data, levels, {""})
            if isinstance(record, Fault):
                tally.faults[record] += 1
                record = blank
            owners.append(owner)
            order.append(name)
            rows.add(record)
        return Reading(owners, order, rows.array(), (tally,))


def _check_columns(declared: OmopSource, data: TableData) -> None:
    units = {name: measured.unit for name, measured in declared.measurements.items()}
    levels = {
        name: (*concepts, *([declared.otherwise[name]] if name in declared.otherwise else []))
        for name, concepts in declared.conditions.items()
    }
    check_wide_columns(data, numbers=("measurements", units), levels=("conditions", levels))


def _table(alchemy: Any, declared: OmopSource, name: str) -> Any:
    return alchemy.table(name, *map(alchemy.column, TABLES[name]), schema=declared.cdm_schema)


def _events(connection: Any, declared: OmopSource) -> Iterator[_Event]:
    """What is declared of measurements and conditions, person after person."""
    alchemy = needed("sqlalchemy", "databases")
    parts = []
    if declared.measurements:
        check_table(connection, declared.cdm_schema, "measurement", TABLES["measurement"])
        c = _table(alchemy, declared, "measurement").c
        concepts = [concept for column in declared.measurements.values() for concept in column.concepts]
        parts.append(
            alchemy.select(
                c.person_id, c.visit_occurrence_id, c.measurement_datetime, c.measurement_date, c.measurement_id,
                c.measurement_concept_id, c.value_as_number, c.unit_concept_id, alchemy.literal_column("1"),
            ).where(c.measurement_concept_id.in_(concepts), c.value_as_number.is_not(None))
        )  # fmt: skip
    if declared.conditions:
        check_table(connection, declared.cdm_schema, "condition_occurrence", TABLES["condition_occurrence"])
        c = _table(alchemy, declared, "condition_occurrence").c
        concepts = [concept for levels in declared.conditions.values() for group in levels.values() for concept in group]
        parts.append(
            alchemy.select(
                c.person_id, c.visit_occurrence_id, c.condition_start_datetime, c.condition_start_date,
                c.condition_occurrence_id, c.condition_concept_id, alchemy.cast(alchemy.null(), alchemy.Numeric),
                alchemy.cast(alchemy.null(), alchemy.Integer), alchemy.literal_column("0"),
            ).where(c.condition_concept_id.in_(concepts))
        )  # fmt: skip
    # By its place: the two tables call their columns differently.
    statement = alchemy.union_all(*parts).order_by(alchemy.text("1"))
    for person, visit, moment, day, identity, concept, value, unit, measured in stream(connection, statement):
        number = (value if measured else None, unit)
        yield _Event(person, visit, sortable(day if moment is None else moment), f"{identity!s:>20}", int(concept), *number)


def _wide(
    declared: OmopSource, data: TableData, events: Iterable[_Event]
) -> Iterator[tuple[object, str, tuple[str, ...] | Fault]]:
    """Person, name that orders a person's rows, cells in the plan's order or why there are none."""
    places = {column.name: place for place, column in enumerate(data.columns)}
    numbers = {c: (places[name], m) for name, m in declared.measurements.items() for c in m.concepts}
    levels: dict[int, list[tuple[int, str]]] = {}
    for name, meant in declared.conditions.items():
        for level, concepts in meant.items():
            for concept in concepts:
                levels.setdefault(concept, []).append((places[name], level))
    start = [declared.otherwise.get(column.name, "") for column in data.columns]
    for person, own in groupby(events, key=lambda event: event.person):
        rows: dict[str, list[str]] = {}
        first: dict[str, str] = {}
        bad: set[str] = set()
        for event in sorted(own, key=lambda event: (event.when, event.identity)):
            by_visit = declared.rows == "visit" and event.visit is not None
            key = f"visit {event.visit!s:>20}" if by_visit else f"day {event.when[:10]}"
            cells = rows.setdefault(key, start.copy())
            first.setdefault(key, event.when)
            if event.value is not None:
                place, measured = numbers[event.concept]
                cells[place] = _cell(event.value)
                if str(event.unit) not in map(str, measured.unit_concepts):
                    bad.add(key)
                continue
            for place, level in levels[event.concept]:
                cells[place] = level
        for key, cells in rows.items():
            yield person, f"{first[key]} {key}", Fault.UNITS if key in bad else tuple(cells)


def _cell(value: object) -> str:
    """A number as a CSV file would hold it; anything else that a database without types holds, as it is."""
    return repr(value) if isinstance(value, float) else str(value) if isinstance(value, Number | str) else "?"
