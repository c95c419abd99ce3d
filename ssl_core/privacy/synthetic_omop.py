"""Synthetic records as an OMOP database in SQLite; for the isolation check.

Comes in: a folder, a declaration, the plan's data and rows. Goes out: the database, a file with its URL, and the declaration
that reads them: the site's own but for where the database is. Each row is a note, or a visit on a day of its own; a level that
the declaration gives no concept to is not written, a row without any value as a measurement of an empty text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from ssl_core.data.declared import Declared
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.omop import TABLES
from ssl_core.privacy.synthetic_rows import Content, Row, numbered
from ssl_core.spec.data import Data, TableData

_FIRST_DAY = date(2001, 1, 1)


def write_omop(folder: Path, declared: OmopSource, data: Data, rows: Sequence[Row]) -> Declared:
    """Write `records.db` and `records.url`."""
    path = folder / "records.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        identity = 0
        for unit, number, content in numbered(rows):
            day = (_FIRST_DAY + timedelta(days=number)).isoformat()
            for table, values in _written(declared, data, content, number):
                identity += 1
                known = {"person_id": unit, _first(table): identity, _day(table): day, **values}
                places = ", ".join("?" * len(known))
                connection.execute(f"INSERT INTO {table} ({', '.join(known)}) VALUES ({places})", list(known.values()))  # noqa: S608 - names of our own
        connection.commit()
    url = folder / "records.url"
    url.write_text("sqlite:///records.db", encoding="utf-8")
    url.chmod(0o600)
    # The site's bounds are those of its own database.
    bounds = {name: OmopSource.model_fields[name].default for name in ("largest_mib", "max_rows", "seconds")}
    return declared.model_copy(update={"url_variable": None, "url_file": "records.url", "cdm_schema": None, **bounds})


def _first(table: str) -> str:
    return TABLES[table][0]


def _day(table: str) -> str:
    return next(column for column in TABLES[table] if column.endswith("_date"))


def _written(declared: OmopSource, data: Data, content: Content, visit: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Table and columns of each of its rows."""
    if not isinstance(data, TableData):
        kinds = (("note_type_concept_id", declared.notes.types), ("note_class_concept_id", declared.notes.classes))
        yield "note", {"note_text": content} | {column: concepts[0] for column, concepts in kinds if concepts}
        return
    cells = dict(zip((column.name for column in data.columns), map(str, content), strict=True))
    empty = not any(cells.values())
    for name, measured in declared.measurements.items():
        if cells[name] or empty:
            yield "measurement", {
                "visit_occurrence_id": visit, "measurement_concept_id": measured.concepts[0], "value_as_number": cells[name],
                "unit_concept_id": measured.unit_concepts[0],
            }  # fmt: skip
    for name, levels in declared.conditions.items():
        if cells[name] in levels:
            yield "condition_occurrence", {"visit_occurrence_id": visit, "condition_concept_id": levels[cells[name]][0]}
