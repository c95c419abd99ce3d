"""Records as units: keys, labels of them, several rows of one record, records without an id; no message holds an id."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_core.data.labels import label_units, read_labels
from ssl_core.data.outcomes import read_numbers
from ssl_core.data.patients import group
from ssl_core.data.reading import Reading, Tally
from ssl_core.data.record_units import group_records, owners, patient_of, record_key
from ssl_core.errors import DataError

OWNERS, NAMES = ["b", "a", "b", "a", "b"], ["2", "9", "1", "3", "2"]
ORDER = ["t3", "t1", "t1", "t2", "t4"]
RECORDS = np.arange(1, 6, dtype=np.float32)[:, None]


def made(names: list[str] | None = NAMES) -> Reading:
    return Reading(OWNERS, ORDER, RECORDS, (Tally("f"),), names)


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_one_id_are_one_record_in_the_order_of_the_patients(tmp_path: Path) -> None:
    records = group_records(made())
    assert records.units == tuple(record_key(*pair) for pair in (("a", "3"), ("a", "9"), ("b", "1"), ("b", "2")))
    assert [records.whole[a:b, 0].tolist() for a, b in zip(records.offsets, records.offsets[1:], strict=False)] == [
        [4], [2], [3], [1, 5],
    ]  # fmt: skip
    mean = pd.DataFrame({"owner": OWNERS, "name": NAMES, "value": RECORDS[:, 0]}).groupby(["owner", "name"])["value"].mean()
    np.testing.assert_allclose(records.mean_by_unit(records.whole)[:, 0], mean.to_numpy())
    assert [patient_of(unit) for unit in records.units] == ["a", "a", "b", "b"] and patient_of("a") == "a"
    assert owners(records.units).tolist() == [0, 0, 1, 1] and owners(()).tolist() == []
    path = write(tmp_path, "patient,image,mass\na,9,1\nb, 2 ,0\nb,7,1\nb,1,1\n")
    index, values = read_labels(path, record_column="image").align(records)
    assert index.tolist() == [1, 2, 3] and values[:, 0].tolist() == [1, 1, 0]
    assert label_units(path) == ("a", "b", "b", "b")
    assert Counter(map(patient_of, label_units(path, record_column="image"))) == {"a": 1, "b": 3}


def test_one_id_under_two_patients_is_two_records() -> None:
    records = group_records(Reading(["a", "b"], ["", ""], RECORDS[:2], (Tally("f"),), ["1", "1"]))
    assert len(records) == 2 and records.counts().tolist() == [1, 1]
    # Neither is parted elsewhere: an id has no such character.
    assert record_key("a", "b1") != record_key("ab", "1")


def test_records_without_an_id_are_units_that_no_label_names(tmp_path: Path) -> None:
    records = group_records(made(["2", "", "", "3", "2"]))
    assert len(records) == 4 and sorted(records.whole[:, 0].tolist()) == [1, 2, 3, 4, 5]
    path = write(tmp_path, "patient,image,mass\na,3,1\nb,2,0\nb,1,1\nb,\x00\x002,1\n")
    with pytest.raises(DataError, match="is empty in line 5"):
        read_labels(path, record_column="image")
    index, _ = read_labels(write(tmp_path, "patient,image,mass\na,3,1\nb,2,0\nb,1,1\n"), record_column="image").align(records)
    assert sorted(records.whole[records.offsets[index], 0].tolist()) == [1, 4]


@pytest.mark.parametrize("names", [None, [""] * 5])
def test_a_source_that_names_no_record_is_refused(names: list[str] | None) -> None:
    with pytest.raises(DataError, match=r"does not name its records.*record_column.*label patients"):
        group_records(made(names))


def test_classes_and_numbers_of_records(tmp_path: Path) -> None:
    path = write(tmp_path, "patient,image,kind,size\na,9,x,1.5\nb,2,y,-2\nb,1,z,0\na,3,x,7\n")
    records = group_records(made())
    labels = read_labels(path, record_column="image", class_column="kind")
    assert labels.names == labels.classes == ("x", "y", "z") and labels.exclusive
    assert labels.align(records)[1].argmax(axis=1).tolist() == [0, 0, 2, 1]
    assert read_numbers(path, ("size",), record_column="image").align(records)[1][:, 0].tolist() == [7, 1.5, 0, -2]
    assert read_numbers(write(tmp_path, "patient,size\na,1\n"), ("size",)).align(group(OWNERS, RECORDS))[0].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("patient,image,mass\na,SECRET,1\na,SECRET,1\n", {}, "names a record again in line 3"),
        ("patient,image,mass\na,,1\n", {}, "is empty"),
        ("patient,image,mass\na,SECRET,yes\n", {}, "neither 0 nor 1"),
        ("patient,image\na,SECRET\n", {}, "no label column"),
        ("patient,mass\na,1\n", {}, "'image'"),
        ("patient,image,mass\na,SECRET,1\na,SECRET2,0\n", {"record_column": None}, "names a patient again.*column of records"),
        ("patient,image,kind\na,SECRET,x\nb,SECRET2,y\n", {"class_column": "image"}, "ids are no classes"),
        ("patient,image,kind\na,SECRET,x\nb,SECRET2,y\n", {"class_column": "patient"}, "ids are no classes"),
        ("patient,image,kind\na,1,x\nb,2,SECRET\n", {"class_column": "kind", "classes": ("x", "y")}, "do not have in line 3"),
    ],
)
def test_bad_labels_of_records_are_refused(tmp_path: Path, text: str, how: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_labels(write(tmp_path, text), **{"record_column": "image"} | how)
    assert "SECRET" not in str(raised.value)


def test_a_column_of_more_classes_than_any_study_has_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "patient,kind\n" + "".join(f"p{n},SECRET{n // 2}\n" for n in range(2002)))
    with pytest.raises(DataError, match="too many classes") as raised:
        read_labels(path, class_column="kind")
    assert "SECRET" not in str(raised.value)
