"""A CSV file whose first line does not name a column: what is said of it, and that nothing of the line is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_core.data.label_table import read_label_table
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import TextData

WRONG = {
    "semicolons": (b"patient;text\np1;lung\n", "parted by semicolons: export the file parted by commas"),
    "tabs": (b"patient\ttext\np1\tlung\n", "parted by tabs"),
    "bars": (b"patient|text\np1|lung\n", "parted by bars"),
    "quoted": (b'"patient";"text"\n"p1";"lung"\n', "parted by commas"),
    "utf-16": ("patient,text\np1,lung\n".encode("utf-16"), "no UTF-8"),
    "latin-1": ("Patiënt,text\np1,lung\n".encode("latin-1"), "no UTF-8"),
    "capitals": (b"Patient ,text\np1,lung\n", "other capitals, or with a space"),
    "twice": (b"patient,patient,text\np1,p1,lung\n", "a name of its own"),
    "headless": (b"secret-7,lung opacity\nsecret-8,normal\n", "must name its columns"),
    "empty": (b"", "must name its columns"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_source_is_told_what_may_be_wrong_with_its_first_line(tmp_path: Path, case: str) -> None:
    content, remedy = WRONG[case]
    (tmp_path / "r.csv").write_bytes(content)
    (tmp_path / "s.toml").write_text(
        'kind = "table"\nformat = "csv"\npath = "r.csv"\npatient_column = "patient"\ntext_column = "text"\n'
    )
    with pytest.raises(DataError, match=r"column .patient. is|header of file") as refusal:
        load_patients(read_source(tmp_path / "s.toml"), TextData(kind="text", words=4, codes=2, buckets=64))
    assert refusal.value.remedy is not None and remedy in refusal.value.remedy
    assert "secret" not in str(refusal.value) and "lung" not in str(refusal.value)


@pytest.mark.parametrize("case", sorted(set(WRONG) - {"empty"}))
def test_so_is_a_file_of_labels(tmp_path: Path, case: str) -> None:
    content, remedy = WRONG[case]
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError) as refusal:
        read_label_table(tmp_path / "l.csv").units("patient")
    assert refusal.value.remedy is not None and remedy.removeprefix("no ") in refusal.value.remedy
    assert "secret" not in str(refusal.value) and "lung" not in str(refusal.value)
