"""FHIR R4 resources written after the specification (hl7.org/fhir/R4: Bundle, DiagnosticReport, Observation)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData

LOINC, SNOMED, UCUM, MRN = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org", "https://a.example/mrn"


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": "https://a.example/local", "code": "x"}, {"system": system, "code": code}], "text": "shown"}


def patient(identity: str, number: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": identity, "identifier": [{"system": MRN, "value": number}]}


def report(identity: str, subject: dict[str, Any] | None, conclusion: str | None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "resourceType": "DiagnosticReport", "id": identity, "status": "final", "code": concept(LOINC, "18748-4"),
        "effectiveDateTime": "2024-05-01T10:00:00+02:00", "issued": "2024-05-02T08:00:00Z",
    }  # fmt: skip
    body |= {"subject": subject} if subject else {}
    return body | ({"conclusion": conclusion} if conclusion is not None else {}) | more


def form(text: str, kind: str = "text/plain; charset=utf-8", charset: str = "utf-8") -> dict[str, Any]:
    return {"contentType": kind, "data": base64.b64encode(text.encode(charset)).decode()}


def quantity(value: float, code: str, **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": "as shown", "system": UCUM, "code": code, **more}


def observation(identity: str, owner: str, code: str, when: str, encounter: str | None, **value: Any) -> dict[str, Any]:
    body = {
        "resourceType": "Observation", "id": identity, "status": "final", "code": concept(LOINC, code),
        "subject": {"reference": f"Patient/{owner}"}, "effectiveDateTime": when, **value,
    }  # fmt: skip
    return body | ({"encounter": {"reference": f"Encounter/{encounter}"}} if encounter else {})


def bundle(*bodies: dict[str, Any], addresses: tuple[str, ...] = ()) -> dict[str, Any]:
    entries = [{"resource": body} for body in bodies]
    entries = [{"fullUrl": url, **entry} for url, entry in zip(addresses, entries, strict=False)] + entries[len(addresses) :]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def to_me(reference: str) -> dict[str, Any]:
    return {"reference": reference}


LATIN = "text/plain;charset=ISO-8859-1"
UUID = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"

REPORTS: list[dict[str, Any]] = [
    bundle(
        patient("p1", "00017"),
        report("r1", to_me(UUID), "No acute disease", presentedForm=[form("lungs clear"), form("%PDF", "application/pdf")]),
        report("r2", to_me("Patient/p1/_history/3"), "earlier one", effectiveDateTime="2024-05-01T07:00:00Z"),
        report("r3", to_me(UUID), "said in error", status="entered-in-error"),
        addresses=(UUID, "https://a.example/DiagnosticReport/r1", "https://a.example/DiagnosticReport/r2"),
    ),
    report("r4", to_me("https://a.example/fhir/Patient/p2"), None, presentedForm=[form("café", LATIN, "latin-1")]),
    report("r5", to_me("#me"), "contained", contained=[patient("me", "00018")]),
    report("r6", None, "of nobody"),
    report("r7", to_me("Group/g"), "of a group"),
    report("r8", {"identifier": {"system": MRN, "value": "00019"}}, "by number alone"),
    report("r9", to_me("Patient/p2"), "of another code", code=concept(LOINC, "11502-2")),
    report("r10", to_me("Patient/p2"), None),
]  # fmt: skip

PRESSURE: dict[str, Any] = {
    "component": [
        {"code": concept(LOINC, "8480-6"), "valueQuantity": quantity(128, "mm[Hg]")},
        {"code": concept(LOINC, "8462-4"), "valueQuantity": quantity(84, "mm[Hg]")},
    ]
}
SODIUM, PULSE, SMOKING = "2951-2", "8867-4", "72166-2"
TABLE = TableData(
    kind="table",
    numeric=(
        NumericColumn(name="sodium", unit="mmol/L", centre=140, typical=4),
        NumericColumn(name="systolic", unit="mmHg", centre=120, typical=10),
        NumericColumn(name="pulse", typical=10),
    ),
    categorical=(CategoricalColumn(name="smoking", levels=("never", "former")),),
)
COLUMNS: dict[str, Any] = {
    "numbers": {
        "sodium": {"codes": [f"{LOINC}|{SODIUM}"], "ucum": "mmol/L", "unit": "mmol/L"},
        "systolic": {"codes": [f"{LOINC}|8480-6"], "ucum": "mm[Hg]", "unit": "mmHg"},
        "pulse": {"codes": [f"{LOINC}|{PULSE}"], "ucum": "/min"},
    },
    "levels": {
        "smoking": {
            "codes": [f"{LOINC}|{SMOKING}"],
            "values": {"never": [f"{SNOMED}|266919005", "false"], "former": [f"{SNOMED}|8517006", "ex"]},
        }
    },
}
OBSERVATIONS: list[dict[str, Any]] = [
    observation("o1", "7", SODIUM, "2024-01-01T08:00:00Z", "e1", valueQuantity=quantity(136, "mmol/L")),
    observation("o2", "7", SODIUM, "2024-01-01T08:00:00-05:00", "e1", valueQuantity=quantity(148.0, "mmol/L")),
    observation("o3", "7", SODIUM, "2024-01-01T12:00:00Z", "e1", valueQuantity=quantity(100, "mmol/L")),
    observation("o4", "7", SMOKING, "2024-01-01", "e1", valueCodeableConcept=concept(SNOMED, "266919005")),
    observation("o5", "7", "85354-9", "2023-01-01", "e0", **PRESSURE),
    observation("o6", "7", PULSE, "2024-02-02", None, valueQuantity=quantity(80, "/min")),
    observation("o7", "7", SMOKING, "2024-02-02", None, valueCodeableConcept=concept(SNOMED, "1")),
    observation("o8", "8", SODIUM, "2024-01-01", "e3", valueQuantity=quantity(330, "mg/dL")),
    observation("o9", "8", SODIUM, "2024-01-02", "e4", valueQuantity=quantity(120, "mmol/L", comparator="<")),
    observation("o10", "8", SODIUM, "2024-01-03", "e5", dataAbsentReason=concept(SNOMED, "unknown")),
    observation("o11", "9", "1-1", "2024-01-03", "e6", valueQuantity=quantity(1, "mmol/L")),
    observation("o12", "8", PULSE, "2024-01-04", "e7", valueQuantity=quantity(70, "/min"), status="entered-in-error"),
]


def write_lines(path: Path, bodies: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies), encoding="utf-8")
