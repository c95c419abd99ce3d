"""The isolation check with images and their reports: it writes both, some without the other half, and reads them itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_engines import PAIR

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import pairs as pairs_module
from ssl_core.data.pair_rows import parted
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import MODELS, Source, load_patients, read_records
from ssl_core.errors import PrivacyError
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic_files import SyntheticFolders, default_source
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import PairData

MakePlan = Callable[..., StudyPlan]
TEXT = {"kind": "table", "path": "t.csv", "format": "jsonl", "patient_column": "p", "text_column": "t", "record_column": "s"}
DECLARED: dict[str, dict[str, Any] | None] = {
    "npz": None,
    "npz-records": {"study_from": "field", "image": {"kind": "npz", "path": "a.npz", "record_field": "study"}},
    "uid": {"study_from": "uid", "image": {"kind": "dicom", "path": "a", "modalities": ["CR"]}},
    "accession": {"study_from": "accession", "image": {"kind": "dicom", "modalities": ["CR"]}},
    "pattern": {"study_from": "pattern", "study_pattern": "(?P<study>.)", "image": {"kind": "pictures"}},
    "index": {"study_from": "index", "image": {"kind": "nifti", "patient_from": "index", "index": "i.csv", "slices": 2}},
}


def declare(name: str) -> Any:
    given = DECLARED[name]
    return None if given is None else parse(MODELS["pairs"], {"kind": "pairs", "text": TEXT} | given, "source")


@pytest.mark.parametrize("name", DECLARED)
def test_pairs_are_read_as_the_site_declares_them(make_plan: MakePlan, name: str) -> None:
    report = check_isolation(make_plan(PAIR), speed=SpeedSpec(chunk=4), declared=declare(name))
    assert "not finite" in report.pairs and report.greatest_change <= TOLERANCE
    assert 0.9 < report.greatest_contribution <= 2.0


@pytest.mark.parametrize("name", DECLARED)
def test_the_files_hold_pairs_two_images_of_one_report_and_halves(tmp_path: Path, make_plan: MakePlan, name: str) -> None:
    data = make_plan(PAIR).data
    assert isinstance(data, PairData)
    generator = np.random.default_rng(1)
    rows: list[Any] = [("b", (generator.integers(0, 256, (8, 8)).astype(np.float32), f"word{n}")) for n in range(4)]
    declared = declare(name) or default_source(data)
    source = Source(tmp_path, WRITERS["pairs"](tmp_path, declared, data, rows))
    patients = load_patients(source, data, Effort(workers=0))
    _, codes, _ = parted(patients.whole, data)
    assert patients.units == ("b",) and len(patients.whole) == 3
    first, second, third = codes[:, 0].tolist()
    assert second == third and first != second
    tallies = read_records(source, data, Effort(workers=0)).tallies
    assert tallies[0].faults == {Fault.OTHER_PATIENT: 1} and tallies[1].unpaired == 1


def test_a_reader_that_joins_by_the_study_alone_fails(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pairs_module._read_reports

    def across(*given: Any) -> Any:
        reports = honest(*given)
        of_study = {study: words for (_, study), words in reports.words.items()}
        reports.words.update({link: of_study[link[1]] for link in reports.words})
        return reports

    monkeypatch.setattr(pairs_module, "_read_reports", across)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_isolation(make_plan(PAIR), speed=SpeedSpec(chunk=5))


def test_the_changed_patients_records_are_what_they_are_called(tmp_path: Path, make_plan: MakePlan) -> None:
    data = make_plan(PAIR).data
    folders = SyntheticFolders(tmp_path, data, default_source(data), 3)
    unit = folders.base().units[1]
    for kind, usable in (("changed", True), ("empty", False), ("longest", True), ("not finite", False)):
        patients = folders.with_other(unit, kind)  # type: ignore[arg-type]
        begin, end = patients.offsets[1:3]
        assert parted(patients.records[begin:end], data)[2].any() == usable
        assert end - begin > (100 if kind == "longest" else 2)
