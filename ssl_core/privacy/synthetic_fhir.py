"""Synthetic records as FHIR resources, one a line; for the isolation check.

Comes in: a folder, a declaration, the plan's data and rows. Goes out: one file of all patients, and the declaration that
reads it: the site's own but for where the files are. A patient's Patients stand before his records, which name him in turn by
id, by the address of a bundle's entry and, where an identifier is declared, by an address on a server of his own and by that
identifier. Each row is a DiagnosticReport, or Observations of one encounter on a day of its own; a row without any value is a
number of an empty text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from ssl_core.data.declared import Declared
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.fhir import UCUM
from ssl_core.privacy.synthetic_rows import Content, Row, numbered
from ssl_core.spec.data import Data, TableData

_FIRST_DAY = date(2001, 1, 1)
_SHARED_ID = "1"


def write_fhir(folder: Path, declared: FhirSource, data: Data, rows: Sequence[Row]) -> Declared:
    """Write `records.ndjson`."""
    with (folder / "records.ndjson").open("w", encoding="utf-8") as stream:
        for unit, number, content in numbered(rows):
            if number == 1:
                for line in _patients(declared, unit):
                    stream.write(json.dumps(line) + "\n")
            subjects = _subjects(declared, unit)
            subject = subjects[number % len(subjects)]
            day = (_FIRST_DAY + timedelta(days=number)).isoformat()
            for body in _written(declared, data, content, f"Encounter/{unit}-{number}"):
                stream.write(json.dumps({"status": "final", "subject": subject, "effectiveDateTime": day, **body}) + "\n")
    # Whatever rule says whose a file is: here one file holds all patients, who are told apart by the subjects alone.
    where = {"path": ".", "files": ("*.ndjson",), "patient_from": "header", "patient_pattern": None, "index": None}
    return declared.model_copy(update=where)


def _subjects(declared: FhirSource, unit: str) -> list[dict[str, Any]]:
    """Ways in which a resource can name its patient: by id, by the address of a bundle's entry, by his identifier."""
    found: list[dict[str, Any]] = [{"reference": f"Patient/{unit}"}, {"reference": _urn(unit)}]
    if declared.patient_identifier is not None:
        found += [{"reference": _address(unit)}, {"identifier": {"system": declared.patient_identifier, "value": unit}}]
    return found


def _patients(declared: FhirSource, unit: str) -> Iterator[dict[str, Any]]:
    """His Patients: one by itself and two in a bundle; the last has an id that another server's Patients have too."""
    more: dict[str, Any] = {}
    if declared.patient_identifier is not None:
        more = {"identifier": [{"system": declared.patient_identifier, "value": unit}]}
    yield {"resourceType": "Patient", "id": unit, **more}
    entries = [{"fullUrl": _urn(unit), "resource": {"resourceType": "Patient", "id": unit, **more}}]
    if more:
        entries.append({"fullUrl": _address(unit), "resource": {"resourceType": "Patient", "id": _SHARED_ID, **more}})
    yield {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _urn(unit: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_OID, unit)}"


def _address(unit: str) -> str:
    return f"https://{unit}.example/fhir/Patient/{_SHARED_ID}"


def _concept(token: str) -> dict[str, Any]:
    system, _, code = token.partition("|")
    return {"coding": [{"system": system, "code": code}]}


def _written(declared: FhirSource, data: Data, content: Content, encounter: str) -> Iterator[dict[str, Any]]:
    if not isinstance(data, TableData):
        code = {"code": _concept(declared.reports.codes[0])} if declared.reports.codes else {}
        words = str(content)
        half = len(words) // 2
        form = {"contentType": "text/plain; charset=utf-8", "data": base64.b64encode(words[half:].encode()).decode()}
        yield {"resourceType": "DiagnosticReport", "conclusion": words[:half], "presentedForm": [form], **code}
        return
    common = {"resourceType": "Observation", "encounter": {"reference": encounter}}
    cells = dict(zip((column.name for column in data.columns), map(str, content), strict=True))
    empty = not any(cells.values())
    for name, number in declared.numbers.items():
        if cells[name] or empty:
            quantity = {"value": cells[name], "system": UCUM, "code": number.ucum}
            yield {**common, "code": _concept(number.codes[0]), "valueQuantity": quantity}
    for name, levels in declared.levels.items():
        if cells[name]:
            written = levels.values.get(cells[name], ("?",))[0]
            value = {"valueCodeableConcept": _concept(written)} if "|" in written else {"valueString": written}
            yield {**common, "code": _concept(levels.codes[0]), **value}
