"""Label files: columns, classes, alignment, and refusals without a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssl_core.data.labels import read_labels
from ssl_core.data.patients import group
from ssl_core.errors import DataError


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_align_with_patients(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, "patient,heart,nodule\nc,1,0\n a ,0,1\nx,1,1\n"))
    assert labels.names == ("heart", "nodule") and not labels.exclusive and len(labels) == 3
    patients = group(["a", "b", "c"], np.zeros((3, 1), np.float32))
    index, values = labels.align(patients)
    assert index.tolist() == [0, 2] and values.tolist() == [[0, 1], [1, 0]]
    some = read_labels(tmp_path / "labels.csv", label_columns=("nodule",))
    assert some.values[:, 0].tolist() == [0, 1, 1]
    assert "heart" in repr(labels) and "'x'" not in repr(labels)


def test_classes_become_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "patient,kind\na,viral\nb,bacterial\nc,viral\n")
    two = read_labels(path, class_column="kind")
    assert two.names == ("viral",) and two.values[:, 0].tolist() == [1, 0, 1] and two.exclusive
    path = write(tmp_path, "patient,kind\na,z\nb,y\nc,x\n")
    three = read_labels(path, class_column="kind")
    assert three.names == ("x", "y", "z") and three.values.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    # Equal but for what an array of texts would cut off.
    path = write(tmp_path, "patient,kind\na,z\nb,z\0\nc,x\n")
    assert read_labels(path, class_column="kind").values.sum(axis=1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("cell", ["SECRET{}", "SECRET" * 40])
def test_ids_and_texts_are_no_classes(tmp_path: Path, cell: str) -> None:
    rows = [f"p{number},{cell.format(number) if number else 'a'}" for number in range(30)]
    with pytest.raises(DataError, match=r"ids, no classes|too long for the name of a class in line 3") as raised:
        read_labels(write(tmp_path, "\n".join(["patient,kind", *rows, ""])), class_column="kind")
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,heart\nSECRET,2\n", "neither 0 nor 1 in line 2"),
        ("patient,heart\nSECRET,1\n,0\n", "is empty in line 3"),
        ("patient,heart\nSECRET,1\nSECRET ,0\n", "names a patient again in line 3"),
        ("patient,heart\nSECRET,1,1\n", "line 2"),
        ("id,heart\nSECRET,1\n", "'patient'"),
        ("patient\nSECRET\n", "no label column"),
        (",patient,heart\n0,SECRET,1\n", "has no name"),
        ("patient,heart\n", "no rows"),
    ],
)
def test_bad_label_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_labels(write(tmp_path, text))
    assert "SECRET" not in str(raised.value)


def test_missing_or_undecodable_files_and_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"patient,heart\n\xff,1\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_labels(tmp_path / "labels.csv")
    path = write(tmp_path, "patient,kind\na,x\nb,x\n")
    with pytest.raises(DataError, match="less than two classes"):
        read_labels(path, class_column="kind")
    with pytest.raises(DataError, match="not both"):
        read_labels(path, class_column="kind", label_columns=("kind",))


@pytest.mark.parametrize(
    "table",
    [
        'patient,heart,note\nSECRETA,1,"x\nSECRETB,0,y"\nSECRETC,1,z\n',
        'patient,kind\nSECRETA,"x\nSECRETB,y"\nSECRETC,x\n',
    ],
)
def test_a_lost_quote_that_swallows_labels_is_named_by_line(tmp_path: Path, table: str) -> None:
    path = write(tmp_path, table)
    with pytest.raises(DataError, match=r"lines 2-3 of label file 'labels\.csv' are one row") as raised:
        read_labels(
            path, class_column=None if "heart" in table else "kind", label_columns=("heart",) if "heart" in table else None
        )
    assert "SECRET" not in str(raised.value)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)neither 0 nor 1 in line 5.*--class-column"):
        read_labels(write(tmp_path, "patient,heart\n\na,1\n\nb,2\n"))
