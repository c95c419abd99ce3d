"""Outcomes that are numbers or times: read, aligned, refused without a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl_core.data.labels import label_units
from ssl_core.data.outcomes import read_numbers, read_survival
from ssl_core.data.patients import group
from ssl_core.errors import DataError

PATIENTS = group(["a", "b", "c"], np.zeros((3, 1), np.float32))


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_align_with_patients(tmp_path: Path) -> None:
    path = write(tmp_path, "patient,age,note,ef\nc,-1.5e1,x,60\nzz,3,x,50\n a ,7,x,.5\n")
    numbers = read_numbers(path, ("age", "ef"))
    index, values = numbers.align(PATIENTS)
    assert index.tolist() == [0, 2] and values.tolist() == [[7, 0.5], [-15, 60]]
    assert numbers.names == ("age", "ef") and len(numbers) == 3 and "zz" not in repr(numbers)
    assert label_units(path) == ("c", "zz", "a")


def test_survival_aligns_with_patients(tmp_path: Path) -> None:
    survival = read_survival(write(tmp_path, "patient,days,died\nb,12.5,1\nq,3,1\na,400,0\n"), "days", "died")
    index, time, event = survival.align(PATIENTS)
    assert (index.tolist(), time.tolist(), event.tolist()) == ([0, 1], [400, 12.5], [False, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,days,died\nSECRET,0,1\n", "not above 0 in line 2"),
        ("patient,days,died\nSECRET,1,2\n", "neither 0 nor 1 in line 2"),
        ("patient,days,died\nSECRET,nan,1\n", "no number in line 2"),
        ("patient,days,died\nSECRET,1e400,1\n", "no number"),
        ("patient,days,died\nSECRET,,1\n", "no number"),
        ("patient,days,died\nSECRET,1,1\nSECRET ,2,0\n", "again in line 3"),
        ("patient,days,died\n,1,1\n", "is empty in line 2"),
        ("patient,days,died\nSECRET,1,0\n", "no event"),
        ("patient,days\nSECRET,1\n", "'died'"),
    ],
)
def test_bad_outcomes_are_refused_without_a_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_survival(write(tmp_path, text), "days", "died")
    assert "SECRET" not in str(raised.value)
    with pytest.raises(DataError):
        read_numbers(tmp_path / "labels.csv", ())
