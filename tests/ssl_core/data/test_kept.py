"""The copy that a study trains on: the same bits as were checked, no id in it, little memory, damage named."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_core.data.check import check_and_load, check_source
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.kept_rows import KeptRows
from ssl_core.data.patients import Patients, group
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError, StateError
from ssl_core.spec.data import (
    CategoricalColumn,
    Data,
    ImageData,
    ImageForm,
    NumericColumn,
    PairData,
    SignalData,
    TableData,
    TextData,
    TextForm,
)

TEXT = TextData(kind="text", words=6, codes=2, buckets=64)
IMAGE = ImageData(kind="image", height=8, width=12, pool=2)
SIGNAL = SignalData(kind="signal", channels=3, samples=8, rate_hz=1.0, units=("bpm",), typical=(20.0,))

TABLE = TableData(
    kind="table",
    numeric=tuple(NumericColumn(name=f"n{n}", typical=1.0) for n in range(10)),
    categorical=tuple(CategoricalColumn(name=f"c{n}", levels=("a",)) for n in range(4)),
)


PAIR = PairData(kind="pair", image=ImageForm(height=8, width=8, pool=2), text=TextForm(words=4, codes=2))


def some(data: Data, units: int = 5) -> Patients:
    generator = np.random.default_rng(3)
    owners = [f"Patient Nº{n}" for n in range(units) for _ in range(1 + n % 3)]
    if isinstance(data, TextData):
        return group(owners, generator.integers(-1, 64, (len(owners), 6, 2)).astype(np.int32))
    return group(owners, generator.standard_normal((len(owners), 24)).astype(np.float32))


def keep(path: Path, patients: Patients) -> Path:
    with path.open("wb") as stream:
        write_kept(stream, patients)
    return path


@pytest.mark.parametrize("data", [TEXT, IMAGE, SIGNAL, TABLE, PAIR])
def test_what_is_read_back_is_bit_by_bit_what_training_uses_and_names_nobody(tmp_path: Path, data: Data) -> None:
    patients = some(data)
    path = keep(tmp_path / "patients.npz", patients)
    again = read_kept(path, data)
    for name in ("tags", "offsets", "records"):
        mine, theirs = getattr(patients, name), getattr(again, name)
        assert isinstance(theirs, KeptRows) == (name == "records")
        theirs = np.asarray(theirs)
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()
    assert again.units == tuple(bytes(tag).hex() for tag in patients.tags)
    content = path.read_bytes()
    for unit in patients.units:
        for written in (unit.encode(), unit.encode("utf-32-le"), unit.encode("utf-16-le")):
            assert written not in content


@pytest.mark.parametrize("data", [TEXT, IMAGE])
def test_neither_writing_nor_reading_holds_the_records(tmp_path: Path, data: Data) -> None:
    width = 12 if data is TEXT else 24
    count = (64 << 20) // (4 * width)
    records: Any = np.zeros((count, 6, 2) if data is TEXT else (count, 24), np.int32 if data is TEXT else np.float32)
    tags = np.arange(16, dtype=np.uint8)[None]
    patients = Patients(("p",), tags, np.array([0, count], np.int64), records)
    path = tmp_path / "patients.npz"
    tracemalloc.start()
    try:
        keep(path, patients)
        assert tracemalloc.get_traced_memory()[1] < 0.35 * records.nbytes
        tracemalloc.reset_peak()
        again = read_kept(path, data)
        assert not again.records[np.array([count - 1, 0])].any()
        assert tracemalloc.get_traced_memory()[1] < 0.35 * records.nbytes
    finally:
        tracemalloc.stop()
    assert len(again.records) == count


def test_a_copy_that_was_cut_flipped_or_is_of_another_form_is_refused(tmp_path: Path) -> None:
    whole = keep(tmp_path / "patients.npz", some(IMAGE)).read_bytes()
    path = tmp_path / "damaged.npz"
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StateError, match="damaged"):
            read_kept(path, IMAGE)
    records = some(IMAGE).records.tobytes()
    place = whole.index(records[:64]) + 17
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(StateError, match="damaged"):
        read_kept(path, IMAGE)
    # Wherever one byte is wrong, the copy is refused or what is read is still right (names and dates of a zip file).
    right = read_kept(tmp_path / "patients.npz", IMAGE)
    for place in np.random.default_rng(5).integers(0, len(whole), 300).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        try:
            found = read_kept(path, IMAGE)
            same = [np.array_equal(getattr(found, n), getattr(right, n)) for n in ("tags", "offsets", "whole")]
        except StateError:
            continue
        assert all(same)
    for other in (TEXT, ImageData(kind="image", height=8, width=8), SIGNAL.model_copy(update={"channels": 2})):
        with pytest.raises(StateError, match="damaged; field: arrays"):
            read_kept(tmp_path / "patients.npz", other)
    with pytest.raises(StateError, match="no copy of the approved records"):
        read_kept(tmp_path / "none.npz", IMAGE)


@pytest.mark.parametrize("data", [TEXT, IMAGE])
def test_records_are_chosen_as_of_an_array(tmp_path: Path, data: Data) -> None:
    patients = some(data, 40)
    records = read_kept(keep(tmp_path / "patients.npz", patients), data).records
    (tmp_path / "patients.npz").unlink()
    generator = np.random.default_rng(1)
    count = len(patients.records)
    wanted: list[Any] = [generator.integers(-count, count, size) for size in (0, 1, 7, (3, 4))]
    for index in [*wanted, 3, -1, slice(None), slice(5, 2), slice(2, 50, 3), np.int64(4)]:
        mine, theirs = patients.records[index], records[index]
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
    for beyond in (count, -count - 1, np.array([0, count])):
        with pytest.raises(IndexError):
            _ = records[beyond]
    with pytest.raises(TypeError):
        _ = records[np.array([0.5])]


def test_what_is_damaged_after_it_was_opened_is_found_when_it_is_read(tmp_path: Path) -> None:
    patients = some(IMAGE)
    path = keep(tmp_path / "patients.npz", patients)
    found = read_kept(path, IMAGE)
    content = path.read_bytes()
    place = content.index(patients.records[3].tobytes()) + 5
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes([content[place] ^ 1]))
    assert np.array_equal(found.records[2], patients.records[2])
    with pytest.raises(StateError, match="damaged"):
        _ = found.records[3]


@pytest.mark.parametrize(
    "change",
    [
        {"records": np.array([{"a": 1}], dtype=object)},
        {"offsets": np.array([0, 1], np.int64)},
        {"offsets": np.zeros(0, np.int64)},
        {"offsets": np.array([0.0, 1.0])},
        {"tags": np.zeros((5, 8), np.uint8)},
        {"format": np.int64(1)},
        {"checksums": np.zeros(3, np.uint32)},
        {"checksums": np.zeros(10, np.int64)},
    ],
)
def test_arrays_that_make_no_units_are_refused_and_pickles_never_loaded(tmp_path: Path, change: dict[str, Any]) -> None:
    patients = some(IMAGE)
    sums = np.zeros(len(patients.records), np.uint32)
    arrays: dict[str, Any] = {"format": np.int64(2), "tags": patients.tags, "offsets": patients.offsets, "checksums": sums}
    arrays |= {"records": patients.records} | change
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path = tmp_path / "patients.npz"
    path.write_bytes(stream.getvalue())
    with pytest.raises(StateError, match="damaged"):
        read_kept(path, IMAGE)


def test_what_is_checked_and_what_is_trained_on_are_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t.csv"
    table.write_text("patient,text\np2,one two\np1,three four\np2,five six\n")
    (tmp_path / "source.toml").write_text(
        'kind = "table"\npath = "t.csv"\nformat = "csv"\npatient_column = "patient"\ntext_column = "text"\n'
    )
    source = read_source(tmp_path / "source.toml")
    plain = load_patients(source, TEXT)
    opened: list[Path] = []
    real = Path.open

    def counted(path: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counted)
    found = check_and_load(source, TEXT)
    assert opened == [table]
    assert found.report == check_source(source, TEXT)
    assert found.patients.units == plain.units and np.array_equal(found.patients.records, plain.records)
    table.write_text("patient,text\np2,\n")
    with pytest.raises(DataError, match="more records are bad"):
        check_and_load(source, TEXT)


def test_a_row_is_found_by_whole_numbers_of_any_width(tmp_path: Path) -> None:
    patients = some(SIGNAL, units=150)
    records = read_kept(keep(tmp_path / "k.npz", patients), SIGNAL).records
    assert len(records) > 256 and np.array_equal(records[np.array([3, 255], np.uint8)], patients.whole[[3, 255]])
