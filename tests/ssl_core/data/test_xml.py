"""XML reports: paths, records, patients; hostile and damaged documents; the Indiana reports where they are beside us."""

from __future__ import annotations

import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssl_core.data import xml_files
from ssl_core.data.check import check_source
from ssl_core.data.declared_xml import XmlSource
from ssl_core.data.decoding import Bounds, _decode
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.data.words import encode, split
from ssl_core.data.xml_files import parse_xml
from ssl_core.data.xml_reports import XmlDecoder
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import TextData

HERE = Effort(workers=0)
TEXT = TextData(kind="text", words=8, codes=2, buckets=64)
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="P7"/><Abstract><AbstractText Label="IMPRESSION">Normal <b>heart</b> &amp; lungs.</AbstractText>
<AbstractText Label="FINDINGS">Café &#233;clair</AbstractText><AbstractText Label="INDICATION">Cough</AbstractText></Abstract>
<!-- a comment of no one --><?target nothing?></eCitation>
"""
PATHS = ["Abstract/AbstractText[@Label='FINDINGS']", ".//AbstractText[@Label='IMPRESSION']"]


def declare(folder: Path, **changes: Any) -> Source:
    body = {"kind": "xml", "path": "reports", "text": PATHS, "patient_from": "header", "patient_path": "uId/@id", **changes}
    (folder / "source.toml").write_text(tomli_w.dumps({k: v for k, v in body.items() if v is not None}), encoding="utf-8")
    return read_source(folder / "source.toml")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


def test_the_declared_elements_are_joined_in_their_order(tmp_path: Path, reports: Path) -> None:
    (reports / "a.xml").write_text(REPORT, encoding="utf-8")
    patients = load_patients(declare(tmp_path), TEXT, HERE)
    assert patients.units == ("P7",)
    assert np.array_equal(patients.records, encode([split("Café éclair Normal heart & lungs.")], TEXT))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings(tmp_path: Path, reports: Path, encoding: str) -> None:
    name = encoding.removesuffix("-sig")
    (reports / "a.xml").write_bytes(REPORT.replace("utf-8", name).encode(encoding))
    found = load_patients(declare(tmp_path), TEXT, HERE).records
    assert np.array_equal(found, encode([split("Café éclair Normal heart lungs")], TEXT))


@pytest.mark.parametrize(
    ("path", "owner"),
    [("@id", "root"), ("who", "inner"), ("who/@n", "5"), (".//deep/@n", "6"), ("absent", None), ("who/@absent", None),
     ("{urn:x}far", "space"), ("{urn:x}far/@{urn:x}at", "there")],
)  # fmt: skip
def test_where_a_patient_is_named(tmp_path: Path, path: str, owner: str | None) -> None:
    text = '<r id="root" xmlns:x="urn:x"><who n="5">inner</who><a><deep n="6"/></a><x:far x:at="there">space</x:far>w</r>'
    (tmp_path / "a.xml").write_text(text)
    declared = XmlSource(kind="xml", text=(".",), patient_from="header", patient_path=path)
    assert [found.owner for found in XmlDecoder(declared, TEXT)(tmp_path / "a.xml")] == [owner]


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [("word 7<", "word & 7<", Fault.UNREADABLE), ("<p>p7</p>", "<p>p7</p><r><p>p7</p></r>", Fault.SHAPE)],
)
def test_one_patients_damage_in_a_file_of_several_refuses_the_source(
    tmp_path: Path, reports: Path, good: str, bad: str, fault: Fault
) -> None:
    text = "".join(f"<r><p>p{number}</p><a>word {number}</a></r>" for number in range(30))
    (reports / "a.xml").write_text(f"<x>{text}</x>")
    (reports / "b.xml").write_text("<x><r><p>q</p><a>one</a></r></x>")
    rule = {"text": ["a"], "record": "r" if fault is Fault.UNREADABLE else ".//r", "patient_path": "p", "max_bad_share": 0.9}
    assert len(load_patients(declare(tmp_path, **rule), TEXT, HERE)) == 31
    (reports / "a.xml").write_text(f"<x>{text.replace(good, bad)}</x>")
    source = declare(tmp_path, **rule)
    assert read_records(source, TEXT, HERE).tallies[0].faults[fault] == 1
    for read in (check_source, load_patients):
        with pytest.raises(DataError, match="take others' records away"):
            read(source, TEXT, HERE)
    # A file of one report, or of one patient, takes nothing of others with it.
    (reports / "q").mkdir()
    for name in ("a.xml", "b.xml"):
        (reports / name).rename(reports / "q" / name)
    source = declare(tmp_path, **rule | {"patient_from": "folder", "patient_path": None})
    assert load_patients(source, TEXT, HERE).units == ("q",)
    (reports / "q" / "a.xml").write_text("<r><p>p7</p><a>word & 7</a></r>")
    source = declare(tmp_path, text=[".//a"], patient_path=".//p", max_bad_share=0.9)
    assert check_source(source, TEXT, HERE).files[0].faults == {Fault.UNREADABLE: 1}


def test_a_file_may_hold_many_records_and_rules_name_patients(tmp_path: Path, reports: Path) -> None:
    many = "".join(f"<report><id>{'q' if n % 3 else 'p'}</id><t>number {n}</t></report>" for n in range(12))
    (reports / "a.xml").write_text(f"<all><x/>{many}<report><t>whose</t></report><report><id>p</id></report></all>")
    source = declare(tmp_path, record="report", text=["t"], patient_path="id", max_bad_share=0.5)
    patients = load_patients(source, TEXT, HERE)
    assert patients.units == ("p", "q") and patients.counts().tolist() == [5, 8]
    assert np.array_equal(patients.records[0], encode([split("number 0")], TEXT)[0])
    reading = read_records(source, TEXT, HERE)
    assert reading.tallies[0].faults == {Fault.NO_PATIENT: 1, Fault.NO_WORDS: 1}
    # What is one of many in a file has no name but where a path says it; a file of one is named by its own.
    assert reading.names == [""] * 13
    named = read_records(
        declare(tmp_path, record="report", text=["t"], patient_path="id", id_path="t", max_bad_share=0.5), TEXT, HERE
    )
    assert named.names == [*(f"number {n}" for n in range(12)), ""] and named.order == reading.order
    whole = read_records(declare(tmp_path, text=[".//t"], patient_path="report[1]/id"), TEXT, HERE)
    assert whole.names == ["a.xml"] and whole.owners == ["p"]
    (reports / "p9").mkdir()
    (reports / "a.xml").rename(reports / "p9" / "a.xml")
    by_folder = declare(tmp_path, record="report", text=["t"], patient_from="folder", patient_path=None, max_bad_share=0.5)
    assert load_patients(by_folder, TEXT, HERE).units == ("p9",)


ENTITIES = [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(12)]
LAUGHS = f"<!DOCTYPE r [{''.join(ENTITIES)}]><r>&a11;</r>"
HOSTILE = {
    "billion laughs": LAUGHS,
    "external entity": '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
    "external subset": '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd"><r>words</r>',
    "parameter entity": '<!DOCTYPE r [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><r>words</r>',
    "plain doctype": "<!DOCTYPE r><r>words</r>",
    "unknown entity": "<r>&nbsp;words</r>",
    "deep": "<r>" * 100_000 + "</r>" * 100_000,
    "not closed": "<r><a>words</r>",
    "two roots": "<r>words</r><r/>",
    "nothing": "   ",
    "no xml": "just words",
    "unknown encoding": '<?xml version="1.0" encoding="no-such"?><r>words</r>',
    "zero byte": "<r>wo\0rds</r>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_or_damaged_is_unreadable_and_the_others_are_read(tmp_path: Path, reports: Path, name: str) -> None:
    (reports / "bad.xml").write_text(HOSTILE[name])
    (reports / "good.xml").write_text('<r id="p">good words</r>')
    source = declare(tmp_path, text=["."], patient_path="@id")
    reading = read_records(source, TEXT, HERE)
    assert reading.owners == ["p"] and reading.tallies[0].named == [("bad.xml", Fault.UNREADABLE)]
    with pytest.raises(ValueError, match=r"declaration or an entity|not well-formed|too many"):
        parse_xml(HOSTILE[name].encode())


def test_elements_and_sizes_are_bounded(tmp_path: Path, reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(parse_xml(b"<r>" + b"<a/>" * 500 + b"</r>")) == 500
    monkeypatch.setattr(xml_files, "MOST_ELEMENTS", 500)
    with pytest.raises(ValueError, match="too many"):
        parse_xml(b"<r>" + b"<a/>" * 500 + b"</r>")
    (reports / "a.xml").write_bytes(b"<r>" + b"w " * (1 << 19) + b"</r>")
    source = declare(tmp_path, text=["."], patient_path="@id", largest_mib=1)
    assert read_records(source, TEXT, HERE).tallies[0].faults == {Fault.TOO_LARGE: 1}
    with pytest.raises(DataError, match="no file of the folder belongs"):
        (reports / "a.xml").write_text("<r>words</r>")
        check_source(source, TEXT, HERE)


@example(3, "utf-16")
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.sampled_from(["utf-8", "utf-16", "iso-8859-1"]))
def test_no_exception_leaves_the_decoder(tmp_path_factory: Any, seed: int, encoding: str) -> None:
    rng = random.Random(seed)
    raw = bytearray(REPORT.replace("utf-8", encoding).encode(encoding))
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(raw))
        match rng.randrange(4):
            case 0:
                raw[place] = rng.randrange(256)
            case 1:
                del raw[place : place + rng.randrange(20)]
            case 2:
                raw[place:place] = raw[: rng.randrange(200)]
            case _:
                raw[place:place] = rng.choice([b"<", b"&", b"]]>", b"<![CDATA[", b"<!DOCTYPE a>", b"&#0;", b'"', b"\xff"])
        raw = raw or bytearray(b"<")
    path = tmp_path_factory.mktemp("fuzz") / "a.xml"
    path.write_bytes(raw)
    declared = XmlSource(kind="xml", text=tuple(PATHS), patient_from="header", patient_path="uId/@id")
    decoder = XmlDecoder(declared, TEXT)
    assert len(decoder(path)) == 1
    assert isinstance(_decode(decoder, Listed(path.name, path, None), Bounds(1 << 20, 5)), list)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"text": ["a["]}, "xml.etree"),
        ({"text": ["/a"]}, "xml.etree"),
        ({"text": []}, "text"),
        ({"patient_path": None}, "patient_path goes with"),
        ({"patient_path": "a[/@id"}, "xml.etree"),
        ({"patient_from": "folder"}, "patient_path goes with"),
    ],
)
def test_a_declaration_that_cannot_be_followed_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        declare(tmp_path, **changes)


def _indiana() -> Path | None:
    """The wheel that carries the reports of the Indiana University collection, beside the project."""
    return next(iter(sorted((Path(__file__).parents[3] / "data").glob("torchxrayvision-*.whl"))), None)


@pytest.mark.skipif(_indiana() is None, reason="data/torchxrayvision-*.whl is not beside the project (make demo fetches it)")
def test_the_indiana_reports_are_read_as_they_are(tmp_path: Path, reports: Path) -> None:
    wheel = _indiana()
    assert wheel is not None
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("NLMCXR_reports.tgz")]
        with packed.open(name) as stream, tarfile.open(fileobj=stream) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.endswith(".xml") else None
                if content is not None:
                    (reports / Path(member.name).name).write_bytes(content.read())
    paths = [f"MedlineCitation/Article/Abstract/AbstractText[@Label='{label}']" for label in ("FINDINGS", "IMPRESSION")]
    source = declare(tmp_path, text=paths, patient_from="pattern", patient_path=None, patient_pattern="^(?P<patient>[0-9]+)")
    reading = read_records(source, TEXT, HERE)
    found = dict(zip(reading.owners, reading.records, strict=True))
    assert len(reading.owners) == 3955 == len(found)
    empty = 0
    for path in sorted(reports.iterdir()):
        # Another parser, and a walk instead of paths.
        root = ElementTree.parse(path).getroot()  # noqa: S314 - a public file
        labelled = [each for each in root.iter("AbstractText") if each.get("Label") in ("FINDINGS", "IMPRESSION")]
        words = split(" ".join("".join(element.itertext()) for element in labelled))
        empty += not words
        assert np.array_equal(found[path.stem], encode([words], TEXT)[0])
    assert reading.tallies[0].faults == {Fault.NO_WORDS: empty} and 0 < empty < 100


def test_texts_of_two_patients_are_nobodys(tmp_path: Path) -> None:
    two = "<all>{}<r><id>p</id><t>one</t>{}</r></all>"
    other = "<r><id>q</id><t>two words</t></r>"
    path = tmp_path / "a.xml"
    path.write_text(two.format(other, ""))
    whole = XmlSource(kind="xml", text=(".//t",), patient_from="header", patient_path=".//id")
    assert [found.owner for found in XmlDecoder(whole, TEXT)(path)] == [None]
    path.write_text(two.format("", "<id> p</id>"))
    assert [found.owner for found in XmlDecoder(whole, TEXT)(path)] == ["p"]
    path.write_text(two.format("", other))
    each = XmlSource(kind="xml", text=(".//t",), record=".//r", patient_from="header", patient_path="id")
    outer, inner = XmlDecoder(each, TEXT)(path)
    assert (outer.owner, outer.content) == ("p", Fault.SHAPE)
    assert inner.owner == "q" and np.array_equal(inner.content, encode([["two", "words"]], TEXT)[0])
