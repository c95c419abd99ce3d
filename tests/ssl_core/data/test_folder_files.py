"""Step 1: the files of a declared folder, and whose they are."""

from pathlib import Path
from typing import Any

import pytest

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.folder_files import list_files
from ssl_core.errors import DataError


def _source(**changes: Any) -> FolderSource:
    return FolderSource.model_validate({"kind": "pictures", "path": "data", "files": ("*.png",)} | changes)


def _make(root: Path, *names: str) -> None:
    for name in names:
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _owners(root: Path, **changes: Any) -> dict[str, str | None]:
    return {file.name: file.owner for file in list_files(_source(**changes), root)}


def test_each_rule_names_the_patient(tmp_path: Path) -> None:
    _make(tmp_path, "p1/a.png", "p1/deep/b.PNG", "p2/a.png", "loose_3.png", "p2/notes.txt")
    assert _owners(tmp_path) == {"p1/a.png": "p1", "p1/deep/b.PNG": "p1", "p2/a.png": "p2", "loose_3.png": None}
    assert _owners(tmp_path, patient_from="header")["p1/a.png"] is None
    pattern = {"patient_from": "pattern", "patient_pattern": r"(?P<patient>\d+)\.png$"}
    assert _owners(tmp_path, **pattern) == {"p1/a.png": None, "p1/deep/b.PNG": None, "p2/a.png": None, "loose_3.png": "3"}
    (tmp_path / "data" / "index.csv").write_text("file,patient\np1/a.png,é \nloose_3.png,é\n", encoding="utf-8")
    owners = _owners(tmp_path, patient_from="index", index="data/index.csv", files=("*",))
    assert owners["p1/a.png"] == owners["loose_3.png"] == "é" and owners["p2/a.png"] is None and "index.csv" not in owners


@pytest.mark.parametrize(
    ("text", "field"),
    [("file,patient\na.png,p1\na.png,p2\n", "index"), ("file,patient\na.png,\n", "index"), ("file\na.png\n", "patient_column")],
)
def test_an_index_that_cannot_be_right_is_refused(tmp_path: Path, text: str, field: str) -> None:
    _make(tmp_path, "a.png")
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        _owners(tmp_path, patient_from="index", index="index.csv")
    assert caught.value.field == field


def test_links_out_of_the_folder_are_listed_and_not_followed(tmp_path: Path) -> None:
    _make(tmp_path, "p1/a.png")
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.png").write_bytes(b"x")
    (tmp_path / "data" / "p1" / "out.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "data" / "p1" / "within.png").symlink_to(tmp_path / "data" / "p1" / "a.png")
    (tmp_path / "data" / "p1" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "data" / "p2").symlink_to(tmp_path / "other")
    listed = {file.name: file.inside for file in list_files(_source(), tmp_path)}
    assert listed == {"p1/a.png": True, "p1/within.png": True, "p1/out.png": False, "p1/broken.png": False}


def test_a_folder_that_is_missing_outside_or_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        list_files(_source(), tmp_path)
    _make(tmp_path, "a.txt")
    with pytest.raises(DataError, match="no file"):
        list_files(_source(), tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "data").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match="outside"):
        list_files(_source(), inner)


@pytest.mark.parametrize(
    "changes",
    [
        {"patient_from": "pattern"},
        {"patient_from": "index"},
        {"index": "index.csv"},
        {"patient_from": "pattern", "patient_pattern": "("},
        {"patient_from": "pattern", "patient_pattern": "(a)"},
        {"path": "../data"},
        {"files": ()},
    ],
)
def test_a_rule_that_says_too_little_or_too_much_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        _source(**changes)


def test_a_link_to_what_is_another_patients_is_not_followed(tmp_path: Path) -> None:
    _make(tmp_path, "p1/a.png", "p2/b.png")
    (tmp_path / "data" / "p1" / "b.png").symlink_to("../p2/b.png")
    (tmp_path / "index.csv").write_text("file,patient\np1/b.png,p1\np2/b.png,p2\n")
    indexed = {"patient_from": "index", "index": "index.csv"}
    for changes in ({}, {"patient_from": "pattern", "patient_pattern": "^(?P<patient>p.)"}, indexed):
        listed = {file.name: file.inside for file in list_files(_source(**changes), tmp_path)}
        assert listed == {"p1/a.png": True, "p1/b.png": False, "p2/b.png": True}
    assert all(file.inside and file.says for file in list_files(_source(patient_from="header"), tmp_path))


def test_a_link_in_a_circle_or_with_a_target_too_long_is_no_file(tmp_path: Path) -> None:
    _make(tmp_path, "p1/a.png")
    (tmp_path / "data" / "p1" / "b.png").symlink_to("b.png")
    (tmp_path / "data" / "p1" / "c.png").symlink_to("x" * 300)
    listed = {file.name: file.inside for file in list_files(_source(), tmp_path)}
    assert listed == {"p1/a.png": True, "p1/b.png": False, "p1/c.png": False}
