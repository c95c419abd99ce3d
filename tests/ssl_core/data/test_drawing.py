"""Draws by what a label file says, of one row a patient or one a record; held against pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ssl_core.data.drawing import NONE, Asked, draw, labelled
from ssl_core.data.label_table import LabelTable, read_label_table
from ssl_core.errors import DataError


def table(folder: Path, frame: pd.DataFrame) -> LabelTable:
    frame.to_csv(folder / "l.csv", index=False)
    return read_label_table(folder / "l.csv")


def frame(patients: int = 90) -> pd.DataFrame:
    """Rows of records: one class a patient, several machines."""
    rows = [
        (f"p{number:03d}", f"r{record}", "abc"[number % 7 % 3], "XYZ"[(number * 5 + record * record) % 3])
        for number in range(patients)
        for record in range(1 + number % 4)
    ]
    return pd.DataFrame(rows, columns=["patient", "record", "finding", "machine"])


def test_classes_are_counted_as_pandas_counts_them(tmp_path: Path) -> None:
    rows = frame()
    held = table(tmp_path, rows)
    asked = Asked(by="label", column="finding", sites=3, alpha=0.5, seed=1, least=5)
    made = draw(asked, labelled(held), held)
    first = rows.drop_duplicates("patient").set_index("patient")["finding"]
    parts = pd.Series(dict(made.assignment.parts))
    expected = pd.crosstab(parts, first.loc[parts.index])
    assert made.classes is not None
    assert pd.DataFrame(made.classes).T.fillna(0).astype(int).to_dict() == expected.to_dict()
    assert made.assignment.parameters["column"] == "finding"
    shuffled = table(tmp_path, rows.sample(frac=1, random_state=1))
    assert draw(asked, labelled(shuffled)[::-1], shuffled).assignment == made.assignment


def test_strata_are_met_in_each_class(tmp_path: Path) -> None:
    held = table(tmp_path, frame())
    made = draw(Asked(by="parts", column="finding", shares={"a": 0.5, "b": 0.5}, key="k"), labelled(held), held)
    assert made.classes is not None
    assert all(abs(made.classes["a"][name] - made.classes["b"][name]) <= 1 for name in "abc")


def test_a_patient_belongs_to_the_domain_of_most_of_his_records(tmp_path: Path) -> None:
    rows = frame()
    held = table(tmp_path, rows)
    made = draw(Asked(by="domain", column="machine"), labelled(held), held)
    # The first of the modes, which pandas sorts.
    expected = rows.groupby("patient")["machine"].agg(lambda cells: cells.mode().iloc[0])
    assert dict(made.assignment.parts) == expected.to_dict() and made.classes is None


def test_patients_of_the_source_without_a_label_are_a_class_of_their_own(tmp_path: Path) -> None:
    rows = frame()
    rows.loc[rows["patient"] == "p000", "finding"] = ""
    held = table(tmp_path, rows)
    units = [f"p{number:03d}" for number in range(20)] + ["unlabelled-1", "unlabelled-2"]
    made = draw(Asked(by="label", column="finding", sites=2, alpha=100, seed=1), units, held)
    assert made.classes is not None and set(made.assignment.parts) == set(units)
    assert sum(counts.get(NONE, 0) for counts in made.classes.values()) == 3
    with pytest.raises(DataError, match="no domain"):
        draw(Asked(by="domain", column="machine"), units, held)
    with pytest.raises(DataError, match="no patient of the label file"):
        draw(Asked(by="label", column="finding", sites=2, alpha=1, seed=1), ["other-1", "other-2"], held)


def test_what_cannot_be_drawn_is_refused_without_a_cell(tmp_path: Path) -> None:
    many = pd.DataFrame(
        {"patient": range(200), "number": [f"SECRET{n}" for n in range(200)], "text": "x" * 201, "finding": "x"}
    )
    ids = pd.DataFrame({"patient": [f"SECRET{n}" for n in range(30)], "mrn": [f"m-SECRET{n}" for n in range(30)]})
    alone = pd.DataFrame({"patient": range(40), "machine": ["x"] * 38 + ["SECRET", "SECRET2"]})
    pairs = pd.DataFrame({"patient": range(20), "finding": [f"f{n // 2}" for n in range(20)]})
    two = pd.DataFrame({"patient": ["SECRET", "b", "SECRET"], "finding": ["x", "y", "SECRETz"]})
    for rows, asked, message in (
        (many, Asked(by="label", column="number", sites=2, alpha=1, seed=1), "they are ids, no classes"),
        (ids, Asked(by="label", column="mrn", sites=2, alpha=1, seed=1), "they are ids, no classes"),
        (ids, Asked(by="domain", column="patient"), "they are ids, no classes"),
        (ids.head(5), Asked(by="parts", column="patient", shares={"a": 0.5, "b": 0.5}, key="k"), "they are ids, no classes"),
        (alone, Asked(by="domain", column="machine", least=2), "domains have too few patients; field: domains; value: 2"),
        (pairs, Asked(by="parts", column="finding", shares={"a": 0.8, "b": 0.2}, key="k"), "take a column of fewer classes"),
        (pairs, Asked(by="parts", shares={"a": 0.5, "b": 0.5}, key="\udcff"), "is no text"),
        (many, Asked(by="domain", column="text"), "too long"),
        (two, Asked(by="label", column="finding", sites=2, alpha=1, seed=1), "another class than a row before in line 4"),
        (two, Asked(by="label", column="none", sites=2, alpha=1, seed=1), "not there exactly once"),
        (two, Asked(by="parts", shares={"a": 1 - 1e-12, "b": 1e-12}, key="k"), "parts have no patient"),
        (two, Asked(by="label", sites=2, alpha=1, seed=1), "no label file to draw by"),
    ):
        held = table(tmp_path, rows)
        with pytest.raises(DataError, match=message) as raised:
            draw(asked, labelled(held), held)
        assert "SECRET" not in str(raised.value)
