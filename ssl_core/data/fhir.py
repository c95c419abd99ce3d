"""Step 1 of 12: reader of FHIR resources: DiagnosticReports as texts, Observations as wide rows.

Comes in: a declared folder (declared_fhir.py). Goes out: a `Reading`, int32 [m, words, codes] of one record a report, or
float32 [m, 2 N + C] (columns.py) of one record an encounter, or a day, of one patient in one file. A report's text is its
conclusion, then its presented forms of type text/plain, in their order. In one row the last value by time counts, at one time
the later one in the file. A number is read with the digits it is written with, as in a CSV file; one that is in another unit,
by comparison of the UCUM code as a text, or has a comparator ("<"), makes its record bad: nothing is converted, and nothing
left out without a word. A concept that is not declared is the undeclared level. What says entered-in-error or cancelled is not
there. Labels name a report by its resource's id, a row by the encounter as it is referred to, or by the day. A file without any
such resource is no bad file. Where subjects say whose a resource is, a file or line that cannot be read and an address that two
Patients share refuse the source (gathering.py): either may hide several patients. Raises `DataError` where columns or units are
not the plan's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from ssl_core.data.columns import level_codes, table_record
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.decoding import Found
from ssl_core.data.fhir_files import Resource, items, mapping, resources, tokens
from ssl_core.data.gathering import gather_folder
from ssl_core.data.reading import Effort, Fault, Reading, row_id
from ssl_core.data.table import words_of
from ssl_core.data.times import sortable
from ssl_core.data.wide_columns import check_wide_columns
from ssl_core.data.words import encode
from ssl_core.spec.data import TableData, TextData

UCUM = "http://unitsofmeasure.org"

_UNDECLARED = "\0"
"""A cell that no level can be: a level has no control characters."""
_CHARSETS = frozenset({"utf-8", "us-ascii", "iso-8859-1", "windows-1252"})


def read_reports(declared: FhirSource, folder: Path, data: TextData, effort: Effort) -> Reading:
    """Every DiagnosticReport of the declared codes; see the module docstring."""
    return _gathered(declared, folder, ReportDecoder(declared, data), data, effort)


def read_observations(declared: FhirSource, folder: Path, data: TableData, effort: Effort) -> Reading:
    """Every encounter or day with a declared Observation; see the module docstring."""
    _check_columns(declared, data)
    return _gathered(declared, folder, RowDecoder(declared, data), data, effort)


def _gathered(
    declared: FhirSource, folder: Path, decoder: ReportDecoder | RowDecoder, data: TextData | TableData, effort: Effort
) -> Reading:
    several = declared.patient_from == "header"
    return gather_folder(declared, folder, decoder, data, effort, several=several, nothing_is_fine=True)


def _resources(declared: FhirSource, path: Path, kind: str) -> Iterator[Resource | Fault]:
    return resources(path, kind, declared.patient_identifier, owned=declared.patient_from == "header")


@dataclass(frozen=True)
class ReportDecoder:
    """One file to one `Found` a report."""

    declared: FhirSource
    data: TextData

    def __call__(self, path: Path) -> Sequence[Found]:
        """The reports of a file."""
        out = []
        for found in report_texts(path, self.declared):
            if isinstance(found, Fault):
                out.append(Found(None, "", found))
                continue
            place, each, text = found
            words = text if isinstance(text, Fault) else words_of(text)
            content = words if isinstance(words, Fault) else encode([words], self.data)[0]
            name = f"{sortable(each.when)} {each.body.get('id')} {place:09d}"
            out.append(Found(each.owner, name, content, record=row_id(each.body.get("id")) or ""))
        return out


def report_texts(path: Path, declared: FhirSource) -> Iterator[tuple[int, Resource, str | Fault] | Fault]:
    """The DiagnosticReports of the declared codes of one file: their place among all of it, from 0, and what they say."""
    wanted = set(declared.reports.codes)
    for place, each in enumerate(_resources(declared, path, "DiagnosticReport")):
        if isinstance(each, Fault):
            yield each
        elif not wanted or wanted.intersection(tokens(each.body.get("code"))):
            yield place, each, _text(each.body)


def _text(body: dict[str, Any]) -> str | Fault:
    parts = [body["conclusion"]] if isinstance(body.get("conclusion"), str) else []
    for form in map(mapping, items(body.get("presentedForm"))):
        kind = Message()
        kind["content-type"] = str(form.get("contentType", "")).replace("\n", " ").replace("\r", " ")
        if kind.get_content_type() != "text/plain" or not str(form.get("contentType", "")).lower().startswith("text/plain"):
            continue
        charset = str(kind.get_param("charset") or "utf-8").lower()
        if charset not in _CHARSETS or not isinstance(form.get("data"), str):
            return Fault.UNREADABLE
        try:
            parts.append(base64.b64decode("".join(form["data"].split()), validate=True).decode(charset))
        except (binascii.Error, ValueError):
            return Fault.UNREADABLE
    return "\n".join(parts)


@dataclass(frozen=True)
class RowDecoder:
    """One file to one `Found` a patient and encounter, or day."""

    declared: FhirSource
    data: TableData

    def __call__(self, path: Path) -> Sequence[Found]:
        """The rows of a file."""
        levels = level_codes(self.data)
        return [
            Found(None, "", row)
            if isinstance(row, Fault)
            else Found(row.owner, row.name, row.fault or table_record(row.cells, self.data, levels, {""}), record=row.record)
            for row in observation_rows(path, self.declared, self.data)
        ]


@dataclass(slots=True)
class Row:
    """An encounter or a day: a cell for each column of the plan, as in a CSV file, and what it was taken from, or None.

    record: the encounter, as its reference is written, or the day.
    """

    owner: str | None
    name: str
    record: str
    cells: list[str]
    parts: list[dict[str, Any] | None]
    fault: Fault | None = None


def observation_rows(path: Path, declared: FhirSource, data: TableData) -> Iterator[Row | Fault]:
    """The rows of one file, after its faults, each in the order in which it begins."""
    places = {column.name: place for place, column in enumerate(data.columns)}
    columns = {code: name for name, column in declared.numbers.items() for code in column.codes}
    columns |= {code: name for name, column in declared.levels.items() for code in column.codes}
    events: dict[tuple[str | None, str, str], list[tuple[str, int, int, str | Fault, dict[str, Any]]]] = {}
    for number, each in enumerate(_resources(declared, path, "Observation")):
        if isinstance(each, Fault):
            yield each
            continue
        for part in (each.body, *map(mapping, items(each.body.get("component")))):
            for name in dict.fromkeys(columns[code] for code in tokens(part.get("code")) if code in columns):
                cell = _cell(declared, name, part)
                if cell is not None:
                    event = (sortable(each.when), number, places[name], cell, part)
                    events.setdefault((each.owner, *_row(declared, each)), []).append(event)
    for (owner, name, record), found in events.items():
        row = Row(owner, f"{min(event[0] for event in found)} {name}", record, [""] * len(places), [None] * len(places))
        row.fault = next((event[3] for event in found if isinstance(event[3], Fault)), None)
        for _, _, place, cell, part in sorted(found, key=lambda event: event[:2]):
            row.cells[place], row.parts[place] = str(cell), part
        yield row


def _row(declared: FhirSource, each: Resource) -> tuple[str, str]:
    """What orders the rows of a moment, and the row's id."""
    encounter = mapping(each.body.get("encounter")).get("reference")
    if declared.rows == "encounter" and isinstance(encounter, str) and encounter:
        return encounter, encounter
    day = each.when[:10]
    return f"day {day}", day


def _cell(declared: FhirSource, name: str, part: dict[str, Any]) -> str | Fault | None:
    """The value of an observation or component for column `name`; None where it has none."""
    if name in declared.levels:
        written = _levels(part)
        for level, texts in declared.levels[name].values.items():
            if any(text in texts for text in written):
                return level
        return _UNDECLARED if written or "valueCodeableConcept" in part else None
    if "valueQuantity" in part:
        return _number(mapping(part["valueQuantity"]), declared.numbers[name].ucum)
    if "valueInteger" in part:
        return str(part["valueInteger"]) if declared.numbers[name].ucum == "1" else Fault.UNITS
    return "?" if any(key.startswith("value") for key in part) else None


def _levels(part: dict[str, Any]) -> list[str]:
    """What an observation or component says of a level: its codings, texts, true or false."""
    written = [*tokens(part.get("valueCodeableConcept"))]
    written += [str(part[key]) for key in ("valueString", "valueInteger") if isinstance(part.get(key), str)]
    return [*written, str(part["valueBoolean"]).lower()] if isinstance(part.get("valueBoolean"), bool) else written


def as_written(part: dict[str, Any]) -> str:
    """The value of an observation or component, for the eye: a number with comparator and unit, else codes and texts."""
    quantity = mapping(part.get("valueQuantity"))
    if not quantity:
        # A concept without a coding is a level that nobody declared; its text says which.
        text = mapping(part.get("valueCodeableConcept")).get("text")
        return ", ".join(_levels(part)) or (text if isinstance(text, str) else "")
    cells = (quantity.get("comparator"), quantity.get("value"), quantity.get("code") or quantity.get("unit"))
    return " ".join(cell for cell in cells if isinstance(cell, str))


def undeclared_texts(path: Path, declared: FhirSource) -> Iterator[tuple[int, str]]:
    """Texts that stand for a declared column's level and are none: number of the Observation in the file, from 1, and text."""
    known = {code: {text for texts in column.values.values() for text in texts}
             for column in declared.levels.values() for code in column.codes}  # fmt: skip
    for number, each in enumerate(_resources(declared, path, "Observation"), start=1):
        for part in [] if isinstance(each, Fault) else (each.body, *map(mapping, items(each.body.get("component")))):
            text = part.get("valueString")
            asked = [known[code] for code in tokens(part.get("code")) if code in known]
            if isinstance(text, str) and asked and not any(text in levels for levels in asked):
                yield number, text


def _number(quantity: dict[str, Any], ucum: str) -> str | Fault | None:
    value = quantity.get("value")
    if value is None:
        return None
    code = quantity.get("code") if quantity.get("system") == UCUM else None
    if (quantity.get("unit") if "code" not in quantity else code) != ucum:
        return Fault.UNITS
    return f"{quantity.get('comparator') or ''}{value}" if isinstance(value, str) else "?"


def _check_columns(declared: FhirSource, data: TableData) -> None:
    units = {name: column.unit for name, column in declared.numbers.items()}
    check_wide_columns(
        data, numbers=("numbers", units), levels=("levels", {name: meant.values for name, meant in declared.levels.items()})
    )
