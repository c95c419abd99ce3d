"""What a warm start may train on: generated units in the study's shape, a public corpus, nothing of a hospital's."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_material import write_reports
from tests_recordings import DATA as ECG
from tests_recordings import waves, write_wfdb

from ssl_core.data.check import check_and_load
from ssl_core.data.source import read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import ImageData, SignalData, SoundData, TextData
from ssl_core.warm_start.public import PublicUnits

IMAGE = ImageData(kind="image", height=16, width=16, records_per_patient=3)
SIGNAL = SignalData(kind="signal", channels=2, samples=300, rate_hz=100, units=("mV",), typical=(0.2,), records_per_patient=2)
SOUND = SoundData(kind="sound", rate_hz=2000, seconds=2, mels=8, high_hz=1000, window=128, hop=64, records_per_patient=2)
TEXT = TextData(kind="text", words=8, codes=1, buckets=32)


def test_generated_units_have_as_many_records_as_a_study_draws_of_a_patient() -> None:
    for data in (IMAGE, SIGNAL, SOUND):
        made = PublicUnits.from_seed(4, 10, data)
        assert len(made.patients) == 10 and set(made.patients.counts()) == {data.records_per_patient}
        assert made.patients.records.shape == (10 * data.records_per_patient, data.values)
        assert made.origin["seed"] == 4 and made.origin["units"] == 10 and data.kind in made.origin["kind"]
        assert (made.factors is None) == (data.kind == "image")
        if made.factors is not None:
            assert len(made.factors) == len(made.patients.records)
            assert made.factors.shape[1] == len(made.origin["factors"])


def test_there_is_no_generated_text() -> None:
    with pytest.raises(ConfigError, match=r"no procedural text.*--public"):
        PublicUnits.from_seed(0, 10, TEXT)


def test_more_than_fits_in_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(ConfigError, match="would not fit in memory") as caught:
        PublicUnits.from_seed(0, 10**9, IMAGE)
    assert isinstance(caught.value.limit, int) and 0 < caught.value.limit < 10**9


def test_a_corpus_is_read_and_checked_as_a_hospitals_data_are(tmp_path: Path) -> None:
    source = write_reports(tmp_path, patients=9)
    made = PublicUnits.from_corpus(source, TEXT)
    expected = check_and_load(read_source(source), TEXT).patients
    assert np.array_equal(made.patients.records, expected.records) and made.factors is None
    content = hashlib.sha256((tmp_path / "reports.csv").read_bytes()).hexdigest()
    assert made.origin == {"kind": "public corpus of text", "units": 9, "sha256": {"reports.csv": content}}
    with pytest.raises(DataError, match="another kind"):
        PublicUnits.from_corpus(source, IMAGE)
    (tmp_path / "reports.csv").write_text("patient,text\np1,\n")
    with pytest.raises(DataError):
        PublicUnits.from_corpus(source, TEXT)


def test_a_database_is_no_public_corpus(tmp_path: Path) -> None:
    (tmp_path / "source.toml").write_text('kind = "omop"\nurl_variable = "NOBODY_SETS_THIS"\n[notes]\ntypes = [5]\n')
    with pytest.raises(ConfigError, match="cannot be shown to be public") as caught:
        PublicUnits.from_corpus(tmp_path / "source.toml", TEXT)
    assert (caught.value.field, caught.value.value) == ("--public", "omop") and caught.value.limit and caught.value.remedy


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_of_the_same_name_and_the_index_are_in_the_evidence(tmp_path: Path) -> None:
    for place, text in (("one", "first words"), ("two", "other words")):
        (tmp_path / "corpus" / place).mkdir(parents=True)
        (tmp_path / "corpus" / place / "r.xml").write_text(f"<r>{text}</r>")
    (tmp_path / "index.csv").write_text("file,patient\none/r.xml,a\ntwo/r.xml,b\n")
    source = tmp_path / "source.toml"
    source.write_text('kind = "xml"\npath = "corpus"\ntext = ["."]\npatient_from = "index"\nindex = "index.csv"\n')
    names = ["corpus/one/r.xml", "corpus/two/r.xml", "index.csv"]
    assert PublicUnits.from_corpus(source, TEXT).origin["sha256"] == {name: _hash(tmp_path / name) for name in names}


def test_the_signal_files_of_wfdb_are_in_the_evidence(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "ecg" / "p1", "r", waves())
    source = tmp_path / "source.toml"
    source.write_text('kind = "wfdb"\npath = "ecg"\nchannels = ["II", "V1"]\nunits = ["mV"]\n')
    names = [f"ecg/p1/{path.name}" for path in sorted((tmp_path / "ecg" / "p1").iterdir())]
    assert len(names) > 1
    found = PublicUnits.from_corpus(source, ECG).origin["sha256"]
    assert found == {name: _hash(tmp_path / name) for name in names}


@pytest.mark.parametrize("below", ["", "data", "data/more"])
def test_what_lies_in_a_hospitals_state_folder_is_refused(federation: Any, below: str) -> None:
    source = write_reports(federation.root / "site-a" / below, patients=4)
    with pytest.raises(ConfigError, match="hospital's state folder") as caught:
        PublicUnits.from_corpus(source, TEXT)
    assert caught.value.value == str(federation.root / "site-a")


def test_a_link_into_a_hospitals_state_folder_is_refused(federation: Any, tmp_path: Path) -> None:
    source = write_reports(federation.root / "site-a" / "data", patients=4)
    shutil.copytree(source.parent, tmp_path / "copied")
    assert len(PublicUnits.from_corpus(tmp_path / "copied" / "source.toml", TEXT).patients) == 4
    (tmp_path / "linked.toml").symlink_to(source)
    with pytest.raises((ConfigError, DataError)):
        PublicUnits.from_corpus(tmp_path / "linked.toml", TEXT)
