"""Texts of every kind of source: what is planted there is found, by file and place; never quoted; clean text gives none."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tomli_w
from tests_fhir import LOINC, SNOMED, bundle, concept, form, observation, report, to_me

from ssl_core.data.decoding import Found
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import READERS, Source, read_source
from ssl_core.datacheck import notes
from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.datacheck.notes import NOTES, note_findings
from ssl_core.spec.data import (
    CategoricalColumn,
    Data,
    EventData,
    ImageForm,
    PairData,
    SignalData,
    TableData,
    TextData,
    TextForm,
)

TEXT = TextData(kind="text")
CLEAN = "the lungs are clear and the heart is 12 cm wide, BP 120/80"
PLANTED = {
    "title with a name": "seen by Dr. Quillfeather, lungs clear",
    "telephone number": "call +49 221 4780 123 about it",
    "long number": "hospital number 00482913, lungs clear",
    "date": "lungs as on 12.03.2021",
    "e-mail address": "write to quill@feather.example",
}
"""Kind of a pattern -> a text that holds one, and nothing of another kind."""
SECRETS = ("Quillfeather", "4780", "00482913", "12.03", "quill@")
TEXTS = [CLEAN, *PLANTED.values(), CLEAN]
"""Those planted are second to sixth."""


def declare(folder: Path, **body: Any) -> Source:
    (folder / "s.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return read_source(folder / "s.toml")


def table(folder: Path, texts: Sequence[str], form_: str) -> Source:
    path = folder / f"notes.{form_}"
    if form_ == "csv":
        path.write_text("patient,text\n" + "".join(f'p,"{text}"\n' for text in texts))
    elif form_ == "jsonl":
        path.write_text("".join(json.dumps({"patient": "20200101", "text": text}) + "\n" for text in texts))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"patient": ["20200101"] * len(texts), "text": texts}), path)
    return declare(folder, kind="table", path=path.name, format=form_, patient_column="patient", text_column="text")


def xml(folder: Path, texts: Sequence[str]) -> Source:
    (folder / "x").mkdir()
    records = "".join(f"<r><who>p</who><born>01.02.1960</born><say>{text}</say></r>" for text in texts)
    (folder / "x" / "a.xml").write_text(f"<all>{records}</all>")
    return declare(folder, kind="xml", path="x", record="r", text=["say"], patient_from="header", patient_path="who")


def fhir(folder: Path, texts: Sequence[str]) -> Source:
    """Half of them as a conclusion, half as a presented form; none of another code is read."""
    (folder / "x").mkdir()
    me = to_me("Patient/p")
    bodies = [
        report(f"r{n}", me, text) if n % 2 else report(f"r{n}", me, None, presentedForm=[form(text)])
        for n, text in enumerate(texts)
    ]
    (folder / "x" / "a.json").write_text(json.dumps(bundle(*bodies, report("o", me, TEXTS[1], code=concept(LOINC, "1-8")))))
    return declare(folder, kind="fhir", path="x", reports={"codes": [f"{LOINC}|18748-4"]})


def omop(folder: Path, texts: Sequence[str]) -> Source:
    with closing(sqlite3.connect(folder / "cdm.db")) as base, base:
        base.execute(
            "CREATE TABLE note (note_id bigint, person_id bigint, note_date date, note_datetime timestamp, "
            "note_type_concept_id integer, note_class_concept_id integer, note_text text)"
        )
        rows = [(n, 7, "2020-01-02", None, 5, 7, text) for n, text in enumerate(texts, 1)]
        base.executemany("INSERT INTO note VALUES (?, ?, ?, ?, ?, ?, ?)", [*rows, (99, 7, None, None, 6, 7, TEXTS[1])])
    (folder / "url").write_text("sqlite:///cdm.db")
    (folder / "url").chmod(0o600)
    return declare(folder, kind="omop", url_file="url", notes={"types": [5]})


MAKERS: dict[str, tuple[Callable[[Path, Sequence[str]], Source], str]] = {
    "csv": (lambda folder, texts: table(folder, texts, "csv"), "notes.csv, line {row}"),
    "jsonl": (lambda folder, texts: table(folder, texts, "jsonl"), "notes.jsonl, line {number}"),
    "parquet": (lambda folder, texts: table(folder, texts, "parquet"), "notes.parquet, row {number}"),
    "xml": (xml, "a.xml, record {number}"),
    "fhir": (fhir, "a.json, report {number}"),
    "omop": (omop, "note {number}"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_planted_is_found_and_never_quoted(tmp_path: Path, kind: str) -> None:
    make, place = MAKERS[kind]
    found = note_findings(make(tmp_path, TEXTS), TEXT, Effort(0))
    assert {each.what.removeprefix("notes with what looks like: ") for each in found} == set(PLANTED)
    for finding in found:
        number = 2 + list(PLANTED).index(finding.what.removeprefix("notes with what looks like: "))
        assert (finding.topic, finding.weight, finding.count, finding.of) == ("notes", Weight.WARNING, 1, len(TEXTS))
        assert finding.places == (place.format(number=number, row=number + 1),) and finding.remedy
    assert not said(found, SECRETS)


@pytest.mark.parametrize("kind", MAKERS)
def test_clean_texts_give_none(tmp_path: Path, kind: str) -> None:
    make, _ = MAKERS[kind]
    assert note_findings(make(tmp_path, [CLEAN] * 4), TEXT, Effort(0)) == []


def test_every_source_of_texts_is_searched() -> None:
    assert {kind for kind, data in READERS if data == "text"} == set(NOTES)


def test_files_are_searched_in_workers_and_those_that_cannot_be_are_named(tmp_path: Path) -> None:
    source = fhir(tmp_path, TEXTS)
    (tmp_path / "x" / "b.json").write_text('{"resourceType": "Quillfeather')
    (tmp_path / "x" / "c.json").write_bytes(b"")
    found = note_findings(source, TEXT, Effort(1))
    assert len(found) == len(PLANTED) + 1 and not said(found, SECRETS)
    assert (found[-1].count, found[-1].of, found[-1].places, found[-1].weight) == (1, 3, ("b.json",), Weight.NOTE)


def test_a_file_that_took_its_worker_over_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fhir(tmp_path, TEXTS)
    for forged in (
        [], [Found(None, "Quillfeather", np.zeros(1, np.int32))], [Found(None, "", np.zeros((1, 2), np.int32))],
        [Found(None, "", np.zeros((0, 6), np.int32))], [Found(None, "", np.zeros((1, 6), np.float32))], Fault.CRASHED,
    ):  # fmt: skip
        monkeypatch.setattr(notes, "decode_all", lambda files, *_, forged=forged, **__: ((file, forged) for file in files))
        (finding,) = note_findings(source, TEXT, Effort(0))
        assert finding.what == "files whose texts could not be searched" and not said([finding], SECRETS)
        assert finding.weight is (Weight.WARNING if forged is Fault.CRASHED else Weight.NOTE)


def test_an_id_that_is_no_number_is_not_shown(tmp_path: Path) -> None:
    source = omop(tmp_path, TEXTS)
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as base, base:
        base.execute("UPDATE note SET note_id = 'Quillfeather'")
    found = note_findings(source, TEXT, Effort(0))
    assert len(found) == len(PLANTED) and not said(found, SECRETS)


def test_of_pairs_the_reports_are_searched(tmp_path: Path) -> None:
    rows = {"patient": ["p"] * len(TEXTS), "study": [str(n) for n in range(len(TEXTS))], "text": TEXTS}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "r.parquet")
    text = {"kind": "table", "path": "r.parquet", "format": "parquet", "patient_column": "patient",
            "record_column": "study", "text_column": "text"}  # fmt: skip
    source = declare(tmp_path, kind="pairs", study_from="field", image={"kind": "npz", "path": "i.npz"}, text=text)
    data = PairData(kind="pair", image=ImageForm(height=16, width=16), text=TextForm())
    found = note_findings(source, data, Effort(0))
    assert len(found) == len(PLANTED) and found[0].places == ("r.parquet, row 5",)


LONG_CODE = "266919005"
"""As SNOMED writes them: no person."""


@pytest.mark.parametrize("form_", ["csv", "parquet"])
def test_free_text_where_a_code_is_asked_for(tmp_path: Path, form_: str) -> None:
    codes = ["admit", LONG_CODE, "called Mrs Quillfeather", "Dr. House", CLEAN]
    columns = {"patient": ["p"] * 5, "when": ["2024-01-01"] * 5, "code": codes}
    if form_ == "csv":
        lines = [",".join(f'"{cell}"' for cell in row) for row in zip(*columns.values(), strict=True)]
        (tmp_path / "e.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "e.parquet")
    source = declare(tmp_path, kind="events", path=f"e.{form_}", format=form_, patient_column="patient", time_column="when",
                     code_column="code")  # fmt: skip
    found = note_findings(source, EventData(kind="events", vocabulary=("admit", "Dr. House")), Effort(0))
    assert codes_said(found) == [("title with a name", 1, 5, (f"e.{form_}, {'row 3' if form_ == 'parquet' else 'line 4'}",))]


LEVELS = CategoricalColumn(name="smoking", levels=("never", "Mr Smoke"))
NUMBERS = CategoricalColumn(name="sex", levels=("f", "m"))


def test_free_text_where_a_level_is_asked_for(tmp_path: Path) -> None:
    rows = ["never,f", f"{LONG_CODE},m", "asked Mrs Quillfeather,f", "Mr Smoke,f", "NA of Mr Nobody,m", f'"{CLEAN}",m']
    (tmp_path / "c.csv").write_text("patient,SMOKES,sex,note\n" + "".join(f"p,{row},Mrs Unread\n" for row in rows))
    source = declare(tmp_path, kind="columns", path="c.csv", patient_column="patient", columns={"smoking": "SMOKES"},
                     missing=["NA of Mr Nobody"])  # fmt: skip
    data = TableData(kind="table", categorical=(LEVELS, NUMBERS))
    found = note_findings(source, data, Effort(0))
    assert codes_said(found) == [("title with a name", 1, 12, ("c.csv, line 4, column SMOKES",))]


def test_free_text_where_the_name_of_a_measurement_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("patient,when,name,value\np,1,Heart Rate,80\np,1,for Mrs Quillfeather,8\np,1,Dr. Beat,9\n")
    source = declare(tmp_path, kind="vitals", path="v.csv", patient_column="patient", time_column="when", time_unit="hours",
                     name_column="name", value_column="value", channels=["Dr. Beat"], units=["1/min"])  # fmt: skip
    data = SignalData(kind="signal", channels=1, samples=8, rate_hz=1 / 3600, units=("1/min",), typical=(20.0,))
    assert codes_said(note_findings(source, data, Effort(0))) == [("title with a name", 1, 3, ("v.csv, line 3",))]


def test_free_text_of_observations(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    values: list[dict[str, Any]] = [
        {"valueString": "never"}, {"valueString": "asked Mrs Quillfeather"}, {"valueString": LONG_CODE},
        {"valueCodeableConcept": concept(SNOMED, LONG_CODE)}, {"valueString": CLEAN},
    ]  # fmt: skip
    bodies = [observation(f"o{n}", "p", "72166-2", "2024-01-01", "e", **value) for n, value in enumerate(values)]
    other = observation("other", "p", "8-8", "2024-01-01", "e", valueString="Mrs Unread")
    (tmp_path / "x" / "a.ndjson").write_text("".join(json.dumps(body) + "\n" for body in [*bodies, other]))
    levels = {"smoking": {"codes": [f"{LOINC}|72166-2"], "values": {"never": ["never"]}}}
    source = declare(tmp_path, kind="fhir", path="x", levels=levels)
    data: Data = TableData(kind="table", categorical=(LEVELS, NUMBERS))
    assert codes_said(note_findings(source, data, Effort(0))) == [("title with a name", 1, 3, ("a.ndjson, observation 2",))]


def test_cells_of_label_files(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("patient,text\nMr A,fine\n")
    source = declare(tmp_path, kind="table", path="n.csv", format="csv", patient_column="patient", text_column="text")
    (tmp_path / "l.csv").write_text(f"patient,class,code\nMr A,benign,{LONG_CODE}\nMr B,as Dr. Quillfeather said,1\n")
    (finding,) = note_findings(source, TEXT, Effort(0), [tmp_path / "l.csv"])
    assert (finding.topic, finding.count, finding.of, finding.places) == ("labels", 1, 4, ("l.csv, line 3",))
    assert finding.weight is Weight.NOTE and not said([finding], SECRETS)


def codes_said(found: Sequence[Finding]) -> list[tuple[str, int, int, tuple[str, ...]]]:
    assert not said(found, SECRETS) and all(each.weight is Weight.NOTE and each.topic == "codes" for each in found)
    return [(each.what.rpartition(": ")[2], each.count, each.of, each.places) for each in found]


def said(found: Sequence[Finding], texts: Sequence[str]) -> bool:
    whole = json.dumps([finding.to_json() for finding in found]) + repr(found)
    return any(text in whole for text in texts)
