"""Step 1: decoded records to one `Reading`; many of them lie in a file."""

from pathlib import Path

import numpy as np
import pytest

from ssl_core.data import rows as rows_module
from ssl_core.data.decoding import Found
from ssl_core.data.folder_files import Listed
from ssl_core.data.gathering import gather, padding
from ssl_core.data.patients import group
from ssl_core.data.reading import Fault, Reading
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData, TextData

SIGNAL = SignalData(kind="signal", channels=1, samples=8, rate_hz=100, units=("mV",), typical=(1.0,))


def _record(value: float) -> np.ndarray:
    return np.full(8, value, np.float32)


def _read(scratch: Path | None = None) -> Reading:
    decoded = [
        (Listed("1.dcm", Path(), None), [Found("b", "2", _record(2)), Found("b", "1", _record(1))]),
        (Listed("2.dcm", Path(), "a"), [Found("header", "", _record(3)), Found(None, "", Fault.CODEC)]),
        (Listed("3.dcm", Path(), None), Fault.ENCRYPTED),
        (Listed("4.dcm", Path(), None), [Found(" ", "", _record(4))]),
        (Listed("5.dcm", Path(), "c"), []),
        (Listed("6.dcm", Path(), "d"), [Found("d", "", Fault.WRONG_KIND)]),
    ]
    return gather("folder", decoded, SIGNAL, scratch)


def test_the_rule_wins_over_the_header_and_what_belongs_to_nobody_is_left_out() -> None:
    reading = _read()
    assert reading.owners == ["b", "b", "a", "a", "c"] and reading.order == ["2", "1", "2.dcm", "2.dcm", "5.dcm"]
    assert reading.records[:, 0].tolist() == [2, 1, 3, 0, 0]
    assert reading.names == ["1.dcm", "1.dcm", "2.dcm", "2.dcm", "5.dcm"]
    (tally,) = reading.tallies
    assert tally.rows == 8
    assert tally.faults == {Fault.CODEC: 1, Fault.ENCRYPTED: 1, Fault.NO_PATIENT: 1, Fault.EMPTY: 1, Fault.WRONG_KIND: 1}
    assert ("3.dcm", Fault.ENCRYPTED) in tally.named
    assert group(reading.owners, reading.records, reading.order).records[:, 0].tolist() == [3, 0, 1, 2, 0]


def test_labels_name_a_record_by_what_its_file_says_else_by_the_files_name() -> None:
    decoded = [
        (Listed(f"a/1e\u0301{ending}.hea", Path(), "a"), [Found(None, "", _record(1), record=said)])
        for ending, said in (
            ("", None),
            (" ", None),
            ("", " UID.e\u0301 "),
            ("", ""),
            ("", "\u200b1"),
            ("\ufffd", None),
            ("", "\ud800"),
        )
    ]
    reading = gather("folder", decoded, SIGNAL, ending=".hea")
    # NFC, without space; what hides a character, or lost one, is no id.
    assert reading.names == ["a/1\u00e9", "a/1\u00e9", "UID.\u00e9", "", "", "", ""]


def test_records_beyond_memory_lie_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _read()
    monkeypatch.setattr(rows_module, "IN_MEMORY", 64)
    monkeypatch.setattr(rows_module, "_CHUNK", 64)
    reading = _read(tmp_path)
    assert isinstance(reading.records, np.memmap) and not list(tmp_path.iterdir())
    assert reading.records.tobytes() == plain.records.tobytes()
    patients = group(reading.owners, reading.records, reading.order, tmp_path)
    assert isinstance(patients.records, np.memmap) and not list(tmp_path.iterdir())
    assert patients.records.tobytes() == group(plain.owners, plain.records, plain.order).records.tobytes()


def test_a_record_of_another_form_is_a_fault_of_the_reader() -> None:
    with pytest.raises(DataError, match="another form"):
        gather("folder", [(Listed("1", Path(), "a"), [Found(None, "", np.zeros(9, np.float32))])], SIGNAL)


def test_padding_is_what_the_readers_of_tables_and_arrays_use() -> None:
    text = TextData(kind="text", words=4, codes=2)
    assert padding(text).tolist() == [[-1, -1]] * 4 and padding(text).dtype == np.int32
    assert not padding(SIGNAL).any() and padding(SIGNAL).dtype == np.float32


def test_what_a_file_says_counts_only_where_it_is_asked() -> None:
    found = [Found("7", "", _record(1))]
    reading = gather("folder", [(Listed("1", Path(), "7"), found), (Listed("2", Path(), None, says=False), found)], SIGNAL)
    assert reading.owners == ["7"] and reading.tallies[0].faults == {Fault.NO_PATIENT: 1}


def test_an_id_that_lost_a_character_or_hides_one_names_nobody() -> None:
    hidden = ["M\N{REPLACEMENT CHARACTER}ller", "p\N{ZERO WIDTH SPACE}1", "\ufeffp1", "p1\0", "p\t1"]
    found = [Found(owner, "", _record(1)) for owner in [*hidden, "Müller \N{NO-BREAK SPACE}1", "p1\n"]]
    reading = gather("folder", [(Listed("1", Path(), None), found)], SIGNAL)
    assert reading.owners == ["Müller \N{NO-BREAK SPACE}1", "p1"] and reading.tallies[0].faults == {Fault.NO_PATIENT: 5}
