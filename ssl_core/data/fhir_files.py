"""Step 1 of 12: one file of FHIR resources (JSON): its resources, whose they are, when they were, what codes they have.

Comes in: a file, a bundle or a single resource, or one resource or bundle a line (.ndjson, .jsonl). Goes out: `Resource`s, and
one `Fault` for a line that is none, or a resource whose address is that of two patients. Decimals keep their digits, as texts.
A subject is found within the file alone: "Patient/7" and "https://a.example/fhir/Patient/7/_history/2" are patient 7;
"urn:uuid:..." is the Patient of the bundle's entry with that address, by its id. With a declared identifier system it is the
identifier of that system, of the reference itself or of the Patient that it leads to, in the bundle or contained; one that is
marked as old does not count, and several that differ name nobody. An address on a server never leads to a Patient that the
bundle gives another server's address. Without a system a contained Patient, whose id means nothing outside its resource, names
nobody; nor does a Group, a Device, or an address that nothing in the file has: a guess could give one patient two names, and a
patient with two names would be protected as two. An address that Patients with different names share, or that leads to another
one than the subject's own identifier names, is `TWO_PATIENTS`, which refuses the source (gathering.py): were the resource
nobody's, adding one patient would take another's resources away. An object with a key twice is no JSON here: its
subject could be either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Fault

_REFERENCE = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]{1,64})?")
_SERVER = re.compile("https?://", re.IGNORECASE)
_UNSAID = ("entered-in-error", "cancelled")
_WHEN = ("effectiveDateTime", "effectiveInstant", "issued", "date")


Names = frozenset[str]
"""What a Patient is called: its id, or its identifiers of a system."""


class _Patients:
    """The Patients of a file by the addresses that may mean them: of each address at most two that differ in their names.

    Whoever asks needs to know whether there is one name or several, and so a resource is answered in the same time however
    many Patients share its subject's address.
    """

    def __init__(self, system: str | None) -> None:
        self._system = system
        self._same: dict[Names, Names] = {}
        self._at: dict[str, set[Names]] = {}
        self._unserved: dict[str, set[Names]] = {}
        self._own: dict[tuple[str, str], set[Names]] = {}

    def add(self, address: str, body: dict[str, Any]) -> None:
        """One more; `address`: its own in the bundle, or "" for none."""
        names = _names(body, self._system)
        # One object for equal names: many of them are compared once, not by each resource.
        names = self._same.setdefault(names, names)
        for known in {address, f"Patient/{body.get('id')}"} - {""}:
            kept = [self._at.setdefault(known, set()), self._own.setdefault((known, address), set())]
            if not _SERVER.match(address):
                kept.append(self._unserved.setdefault(known, set()))
            for each in kept:
                if len(each) < 2:
                    each.add(names)

    def called(self, address: str, match: re.Match[str] | None) -> set[Names]:
        """Names of all that an address may mean: those that have it, and those of its id that no other server's address has."""
        found = set(self._at.get(address, ()))
        if match:
            here, known = address.partition("/_history/")[0], f"Patient/{match[1]}"
            if here.startswith("Patient/"):
                return found.union(self._at.get(known, ()))
            return found.union(self._own.get((known, here), ()), self._unserved.get(known, ()))
        return found


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


def resources(path: Path, kind: str, system: str | None, *, owned: bool) -> Iterator[Resource | Fault]:
    """Every resource of type `kind`, in the order of the file; ValueError or RecursionError where the file is no JSON.

    owned: what a resource says of its patient counts; else an address of two patients is no fault, and names nobody.
    """
    found: list[dict[str, Any]] = []
    patients = _Patients(system)
    for document in _documents(path):
        if isinstance(document, Fault):
            yield document
            continue
        for address, body in _entries(document):
            if body.get("resourceType") == "Patient":
                patients.add(address, body)
            elif body.get("resourceType") == kind and body.get("status") not in _UNSAID:
                found.append(body)
    for body in found:
        owner = _owner(body, patients, system)
        if not isinstance(owner, Fault):
            yield Resource(body, owner)
        else:
            yield owner if owned else Resource(body, None)


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
    return json.loads(raw, parse_float=str, parse_int=str, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _entries(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address, empty where there is none, and body of the resources of a document."""
    if document.get("resourceType") != "Bundle":
        yield "", document
        return
    for entry in map(mapping, items(document.get("entry"))):
        body = mapping(entry.get("resource"))
        if body.get("resourceType") == "Bundle":
            yield from _entries(body)
            continue
        address = entry.get("fullUrl")
        yield (address if isinstance(address, str) else ""), body


def _owner(body: dict[str, Any], patients: _Patients, system: str | None) -> str | Fault | None:
    subject = mapping(body.get("subject"))
    reference = subject.get("reference")
    address = reference if isinstance(reference, str) else ""
    match = _REFERENCE.fullmatch(address)
    own = _numbers([subject.get("identifier")], system)
    if address.startswith("#"):
        contained = [mapping(each) for each in items(body.get("contained"))]
        given = [each for each in contained if each.get("resourceType") == "Patient" and f"#{each.get('id')}" == address]
        # It is all in the resource itself: no other patient can take part in what it says.
        return None if system is None else _only(own.union(*(_names(each, system) for each in given)))
    if system is None and match:
        return match[1]
    found = patients.called(address, match)
    if len(found) > 1:
        return Fault.TWO_PATIENTS
    names = next(iter(found), frozenset())
    if names and not own <= names:
        return Fault.TWO_PATIENTS
    return _only(names or own)


def _names(patient: dict[str, Any], system: str | None) -> Names:
    if system is None:
        return frozenset({patient["id"]} if isinstance(patient.get("id"), str) else ())
    return _numbers(items(patient.get("identifier")), system)


def _numbers(identifiers: list[Any], system: str | None) -> Names:
    """The identifiers of a system that count; none without a system."""
    texts = (
        each.get("value")
        for each in map(mapping, identifiers)
        if system is not None and each.get("system") == system and each.get("use") != "old"
    )
    return frozenset(unit_id(text) for text in texts if isinstance(text, str)) - {""}


def _only(names: Names) -> str | None:
    return next(iter(names)) if len(names) == 1 else None
