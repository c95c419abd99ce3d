"""Whom an address in a FHIR file means: as a plain reference says that looks at every Patient, and without looking at each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_fhir import MRN, bundle, report

from ssl_core.data import fhir_files
from ssl_core.data.fhir_files import Resource, resources
from ssl_core.data.reading import Fault


def plain(document: dict[str, Any], system: str | None) -> list[str | Fault | None]:
    """The owner of every report, by a walk over all Patients for each: the rule of the module docstring, word by word."""
    entries = [(entry.get("fullUrl", ""), entry["resource"]) for entry in document["entry"]]
    patients = [(full, body) for full, body in entries if body["resourceType"] == "Patient"]

    def names(body: dict[str, Any]) -> set[str]:
        if system is None:
            return {body["id"]} if "id" in body else set()
        return {each["value"] for each in body.get("identifier", []) if each["system"] == system}

    def owner(body: dict[str, Any]) -> str | Fault | None:
        subject = body["subject"]
        address = subject.get("reference", "")
        match = re.fullmatch(r"(?:.*/)?Patient/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]{1,64})?", address)
        if system is None and match:
            return match[1]
        stated = [subject["identifier"]] if "identifier" in subject else []
        own = {each["value"] for each in stated if system is not None and each["system"] == system}
        found = []
        for full, each in patients:
            known = {full, f"Patient/{each.get('id')}"} - {""}
            meant = address in known
            if match and f"Patient/{match[1]}" in known:
                here = address.partition("/_history/")[0]
                meant = meant or here.startswith("Patient/") or full == here or not full.startswith("https://")
            if meant:
                found.append(names(each))
        if any(each != found[0] for each in found) or (found and found[0] and not own <= found[0]):
            return Fault.TWO_PATIENTS
        whole = own.union(*found)
        return whole.pop() if len(whole) == 1 else None

    return [owner(body) for _, body in entries if body["resourceType"] == "DiagnosticReport"]


ADDRESSES = ["", "urn:uuid:1", "Patient/1", "https://a.example/Patient/1", "https://b.example/Patient/1", "x/Patient/2"]
REFERENCES = [*ADDRESSES[1:], "Patient/2", "Patient/1/_history/3", "https://b.example/Patient/1/_history/2", "Group/1"]
NUMBERS = st.lists(st.builds(lambda value: {"system": MRN, "value": value}, st.sampled_from("ab")), max_size=2)


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    out: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 4))):
        body: dict[str, Any] = {"resourceType": "Patient", "identifier": draw(NUMBERS)}
        body |= {"id": draw(st.sampled_from("12"))} if draw(st.booleans()) else {}
        address = draw(st.sampled_from(ADDRESSES))
        out.append({"resource": body} | ({"fullUrl": address} if address else {}))
    for number in range(draw(st.integers(1, 3))):
        subject: dict[str, Any] = {"reference": draw(st.sampled_from(REFERENCES))} if draw(st.booleans()) else {}
        subject |= {"identifier": {"system": MRN, "value": draw(st.sampled_from("ab"))}} if draw(st.booleans()) else {}
        out.append({"resource": report(f"r{number}", None, "clear") | {"subject": subject}})
    return {"resourceType": "Bundle", "entry": draw(st.permutations(out))}


@settings(deadline=None, max_examples=400)
@given(documents(), st.sampled_from([None, MRN]))
def test_owners_are_those_of_a_walk_over_all_patients(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], system: str | None
) -> None:
    path = tmp_path_factory.mktemp("fhir") / "a.json"
    path.write_text(json.dumps(document))
    found = resources(path, "DiagnosticReport", system, owned=True)
    assert [each.owner if isinstance(each, Resource) else each for each in found] == plain(document, system)


def test_many_patients_and_reports_of_one_address_are_looked_at_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file made so that each report's address is that of every Patient: their product would be 4 million looks."""
    count, looked = 2000, []
    names = fhir_files._names
    monkeypatch.setattr(fhir_files, "_names", lambda body, system: looked.append(1) or names(body, system))
    patients = [
        {"resourceType": "Patient", "id": "1", "identifier": [{"system": MRN, "value": "7"}, {"system": "x", "value": str(n)}]}
        for n in range(count)
    ]
    reports = [report(str(number), {"reference": "Patient/1"}, "clear") for number in range(count)]
    (tmp_path / "a.json").write_text(json.dumps(bundle(*patients, *reports)))
    found = list(resources(tmp_path / "a.json", "DiagnosticReport", MRN, owned=True))
    assert [each.owner for each in found if isinstance(each, Resource)] == ["7"] * count
    assert len(looked) == count
