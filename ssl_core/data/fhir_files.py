"""Step 1 of 12: one file of FHIR resources (JSON): its resources, whose they are, when they were, what codes they have.

Comes in: a file, a bundle or a single resource, or one resource or bundle a line (.ndjson, .jsonl). Goes out: `Resource`s, and
one `Fault` for a line that is none. Decimals keep their digits, as texts. A subject is found within the file alone:
"Patient/7" and "https://a.example/fhir/Patient/7/_history/2" are patient 7; "urn:uuid:..." is the Patient of the bundle's entry
with that address, by its id. With a declared identifier system it is the identifier of that system, of the reference itself or
of the Patient that it leads to, in the bundle or contained. Otherwise a contained Patient, whose id means nothing outside its
resource, names nobody; nor does a Group, a Device, or an address that nothing in the file has: a guess could give one patient
two names, and a patient with two names would be protected as two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.data.reading import Fault

_REFERENCE = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]{1,64})?")
_UNSAID = ("entered-in-error", "cancelled")
_WHEN = ("effectiveDateTime", "effectiveInstant", "issued", "date")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource that is not entered in error: `body` as in the file, `owner` what names its patient, or None."""

    body: dict[str, Any]
    owner: str | None

    @property
    def when(self) -> str:
        """When it was observed, as written; empty where nothing says so."""
        period = mapping(self.body.get("effectivePeriod"))
        found = [self.body.get(_WHEN[0]), period.get("start"), period.get("end"), *(self.body.get(name) for name in _WHEN[1:])]
        return next((value for value in found if isinstance(value, str) and value), "")


def resources(path: Path, kind: str, system: str | None) -> Iterator[Resource | Fault]:
    """Every resource of type `kind`, in the order of the file; ValueError or RecursionError where the file is no JSON."""
    found: list[dict[str, Any]] = []
    patients: dict[str, dict[str, Any]] = {}
    for document in _documents(path):
        if isinstance(document, Fault):
            yield document
            continue
        for address, body in _entries(document):
            if body.get("resourceType") == "Patient":
                patients[address] = body
            elif body.get("resourceType") == kind and body.get("status") not in _UNSAID:
                found.append(body)
    for body in found:
        yield Resource(body, _owner(body, patients, system))


def mapping(value: object) -> dict[str, Any]:
    """A JSON object; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A JSON array; an empty one where there is none."""
    return value if isinstance(value, list) else []


def tokens(concept: object) -> list[str]:
    """The codings of a CodeableConcept as system|code."""
    codings = map(mapping, items(mapping(concept).get("coding")))
    return [f"{coding.get('system')}|{coding.get('code')}" for coding in codings]


def _documents(path: Path) -> Iterator[dict[str, Any] | Fault]:
    if path.suffix.lower() not in (".ndjson", ".jsonl"):
        document = _parsed(path.read_bytes())
        yield document if isinstance(document, dict) else Fault.SHAPE
        return
    with path.open("rb") as stream:
        for line in stream:
            if line.strip():
                try:
                    document = _parsed(line)
                except (ValueError, RecursionError):
                    yield Fault.UNREADABLE
                    continue
                yield document if isinstance(document, dict) else Fault.SHAPE


def _parsed(raw: bytes) -> Any:
    return json.loads(raw, parse_float=str, parse_int=str)


def _entries(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and body of the resources of a document."""
    if document.get("resourceType") != "Bundle":
        yield f"Patient/{document.get('id')}", document
        return
    for entry in map(mapping, items(document.get("entry"))):
        body = mapping(entry.get("resource"))
        if body.get("resourceType") == "Bundle":
            yield from _entries(body)
            continue
        address = entry.get("fullUrl")
        yield (address if isinstance(address, str) else ""), body
        if body.get("resourceType") == "Patient":
            yield f"Patient/{body.get('id')}", body


def _owner(body: dict[str, Any], patients: dict[str, dict[str, Any]], system: str | None) -> str | None:
    subject = mapping(body.get("subject"))
    reference = subject.get("reference")
    address = reference if isinstance(reference, str) else ""
    match = _REFERENCE.fullmatch(address)
    contained = (mapping(each) for each in items(body.get("contained")))
    local = {f"#{each.get('id')}": each for each in contained if each.get("resourceType") == "Patient"}
    target = local.get(address) or patients.get(address) or (patients.get(f"Patient/{match[1]}") if match else None) or {}
    if system is not None:
        given = [subject.get("identifier"), *items(target.get("identifier"))]
        values = [each.get("value") for each in map(mapping, given) if each.get("system") == system]
        return next((value for value in values if isinstance(value, str) and value.strip()), None)
    if match:
        return match[1]
    found = target.get("id") if address not in local else None
    return found if isinstance(found, str) else None
