"""WFDB headers that name segments: whose these are, where they lie, and what of one patient depends on another's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests_recordings import DATA, HERE, faults, read, waves, write_wfdb

from ssl_core.data.check import inspect_source
from ssl_core.data.declared_recordings import WfdbSource
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.source import Source, load_patients

BY_HEADER = {"patient_from": "header", "patient_comment": "subject"}


def declared(**more: Any) -> WfdbSource:
    return WfdbSource.model_validate({"kind": "wfdb", "channels": ("II", "V1"), "units": ("mV",)} | more)


def recorded(root: Path, **more: Any) -> Reading:
    return read(WfdbSource, root, kind="wfdb", **more)


def test_anothers_segment_changes_nothing_of_how_many_records_a_patient_has(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r/1 2 100 1300\nr_1 1300\n# subject: p1\n")
    write_wfdb(tmp_path, "other", waves(), comments=["subject: p1"])
    alone = recorded(tmp_path, **BY_HEADER)
    assert alone.owners == ["p1", "p1"] and faults(alone) == {Fault.UNREADABLE: 1}
    write_wfdb(tmp_path, "r_1", waves(), comments=["subject: p2"])
    together = recorded(tmp_path, **BY_HEADER)
    assert together.owners == ["p1", "p1", "p2"] and faults(together) == {Fault.OUTSIDE: 1}
    assert together.records[:2].tobytes() == alone.records.tobytes() and together.order[:2] == alone.order


@pytest.mark.parametrize("said", ["subject: p2", "subject: p1", None])
def test_a_segment_that_files_leave_out_is_read_for_its_own_patient_alone(tmp_path: Path, said: str | None) -> None:
    (tmp_path / "r.hea").write_text("r/1 2 100 1300\nr_1 1300\n# subject: p1\n")
    write_wfdb(tmp_path, "r_1", waves(), comments=[said] if said else None)
    reading = recorded(tmp_path, files=("r.hea",), **BY_HEADER)
    stolen = said == "subject: p2"
    assert reading.owners == ["p1"] and reading.records.any() != stolen
    assert faults(reading) == ({Fault.OUTSIDE: 1} if stolen else {})


def test_a_segment_that_is_nearer_to_anothers_header_is_not_read(tmp_path: Path) -> None:
    write_wfdb(tmp_path, "r_s1", waves())
    for name, who in (("r", "p1"), ("r_s", "p2")):
        (tmp_path / f"{name}.hea").write_text(f"{name}/1 2 100 1300\nr_s1 1300\n# subject: {who}\n")
    reading = recorded(tmp_path, **BY_HEADER)
    assert reading.owners == ["p1", "p2"] and faults(reading) == {Fault.TWO_PATIENTS: 1}
    assert reading.tallies[0].hiding == 1
    assert not reading.records[0].any() and reading.records[1].any()


@pytest.mark.parametrize(
    "where", ["sub/SECRETPATIENT", "../SECRETPATIENT", "/SECRETPATIENT", ".", "..", "a\0SECRETPATIENT", "~"]
)
@pytest.mark.parametrize("rule", [BY_HEADER, {"patient_from": "pattern", "patient_pattern": "^(?P<patient>r)"}])
def test_a_segment_in_another_place_is_refused_for_its_file_alone(tmp_path: Path, where: str, rule: dict[str, str]) -> None:
    write_wfdb(tmp_path, "r_good", waves(), comments=["subject: r"])
    (tmp_path / "r_bad.hea").write_text(f"r_bad/1 2 100 1300\n{where} 1300\n# subject: r\n")
    source = Source(tmp_path, declared(**rule, max_bad_share=0.5))
    # What wfdb itself cannot parse names no patient; the patient's other records are there all the same.
    records = 1 if rule is BY_HEADER and where in (".", "a\0SECRETPATIENT") else 2
    lines = inspect_source(source, DATA, HERE).lines()
    assert lines[0] == f"1 patients, {records} records, 0 equal to another patient's" and "SECRET" not in " ".join(lines)
    assert load_patients(source, DATA, HERE).counts().tolist() == [records]


def test_nothing_is_asked_of_a_header_that_is_no_file_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_wfdb(tmp_path, "secret", waves(), comments=["subject: p2"])
    write_wfdb(folder, "r_good", waves(), comments=["subject: p1"])
    os.mkfifo(folder / "r_pipe.hea")
    (folder / "r_link.hea").symlink_to(tmp_path / "secret.hea")
    for name in ("pipe", "link"):
        (folder / "r.hea").write_text(f"r/1 2 100 1300\nr_{name} 1300\n# subject: p1\n")
        reading = recorded(tmp_path, path="in", **BY_HEADER)
        # A link out of the folder is OUTSIDE wherever it is named; of a pipe nothing can be read.
        assert reading.owners == ["p1", "p1"] and faults(reading).get(Fault.OUTSIDE, 0) == (3 if name == "link" else 2)
