"""What in a text looks like a person, and what does not; names of files without their digits."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.source import read_source
from ssl_core.datacheck.identifiers import KINDS, kinds_in, name_findings


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
    assert set(kinds_in(text)) <= set(KINDS)


def test_a_long_run_of_separators_takes_no_time() -> None:
    kinds_in("1-" * 50_000)
    kinds_in("a@" * 50_000)
    kinds_in("(" * 100_000)


@pytest.mark.parametrize("place", [0, 99_990, 100_000, 199_996, 1_000_000])
def test_a_long_text_is_searched_to_its_end(place: int) -> None:
    text = "word " * (place // 5)
    assert kinds_in(text + "seen on 12.03.2021") == ("date",) and kinds_in(text + "word " * 9) == ()


def test_names_of_files_are_shown_without_their_digits(tmp_path: Path) -> None:
    (tmp_path / "doe_19600102.csv").write_text("patient,text\np,clear\n")
    (tmp_path / "s.toml").write_text(
        'kind="table"\npath="doe_19600102.csv"\nformat="csv"\npatient_column="patient"\ntext_column="text"\n'
    )
    (finding,) = name_findings(read_source(tmp_path / "s.toml"))
    assert finding.what.endswith("date") and finding.places == ("doe_########.csv",)
