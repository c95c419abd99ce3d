"""What looks like a person, and what does not; places, never texts; notes by file and line."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.source import read_source
from ssl_core.datacheck.identifiers import kinds_in, name_findings, note_findings
from ssl_core.spec.data import TextData


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("seen on 12.03.2021", {"date"}),
        ("2021-03-12 and 20210312", {"date"}),
        ("on 3 March 2021", {"date"}),
        ("mail jane.doe+x@mail.example.org", {"e-mail address"}),
        ("call +49 221 4780 123", {"telephone number"}),
        ("call (0221) 478-0123", {"telephone number"}),
        ("MRN 00482913", {"long number"}),
        ("Mrs Jones was seen by Dr. Müller", {"title with a name"}),
        ("normal heart 12 x 8 cm, T4 to T8, BP 120/80, 3/6 murmur", set()),
        ("the doctor is a woman", set()),
        ("", set()),
    ],
)
def test_usual_ways_of_writing_are_found(text: str, kinds: set[str]) -> None:
    assert set(kinds_in(text)) == kinds


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.text(string.digits + " .-/+()@MrDr\n", max_size=400))
def test_any_text_is_taken(text: str) -> None:
    assert all(count > 0 for count in kinds_in(text).values())


def test_a_long_run_of_separators_takes_no_time() -> None:
    kinds_in("1-" * 50_000)
    kinds_in("a@" * 50_000)
    kinds_in("(" * 100_000)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_notes_are_named_by_line_and_never_quoted(tmp_path: Path, form: str) -> None:
    texts = ["clear", "Mrs SECRET, born 01.02.1960", "clear", "", "Mr SECRET"]
    path = tmp_path / f"notes.{form}"
    if form == "csv":
        path.write_text("patient,text\n" + "".join(f'p,"{text}"\n' for text in texts))
    else:
        path.write_text("".join(json.dumps({"patient": "20200101", "text": text}) + "\n" for text in texts))
    (tmp_path / "s.toml").write_text(
        f'kind="table"\npath="{path.name}"\nformat="{form}"\npatient_column="patient"\ntext_column="text"\n'
    )
    found = {finding.what: finding for finding in note_findings(read_source(tmp_path / "s.toml"), TextData(kind="text"))}
    first = 2 if form == "csv" else 1
    assert found["notes with what looks like: title with a name"].places == (
        f"{path.name}, line {first + 1}",
        f"{path.name}, line {first + 4}",
    )
    assert found["notes with what looks like: date"].count == 1
    assert "SECRET" not in repr([finding.to_json() for finding in found.values()])


def test_names_of_files_are_shown_without_their_digits(tmp_path: Path) -> None:
    (tmp_path / "doe_19600102.csv").write_text("patient,text\np,clear\n")
    (tmp_path / "s.toml").write_text(
        'kind="table"\npath="doe_19600102.csv"\nformat="csv"\npatient_column="patient"\ntext_column="text"\n'
    )
    (finding,) = name_findings(read_source(tmp_path / "s.toml"))
    assert finding.what.endswith("date") and finding.places == ("doe_########.csv",)
