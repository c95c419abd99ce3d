"""Records far from the plan's constants: each fault made on purpose is found, and good records give none."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_core.data.reading import Reading, Tally
from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.datacheck.outliers import outlier_findings
from ssl_core.spec.data import (
    CategoricalColumn,
    Data,
    EventData,
    ImageData,
    NumericColumn,
    SignalData,
    SoundData,
    TableData,
    TextData,
)  # fmt: skip

SIGNAL = SignalData(kind="signal", channels=2, samples=50, rate_hz=100, units=("mV",), typical=(1.0,))
IMAGE = ImageData(kind="image", height=16, width=16)
TEXT = TextData(kind="text", words=6, codes=1, buckets=32)
TABLE = TableData(
    kind="table",
    numeric=(NumericColumn(name="age", typical=20.0),),
    categorical=(CategoricalColumn(name="sex", levels=("f", "m")),),
)


def found(records: np.ndarray, data: Data) -> list[Finding]:
    reading = Reading(["p"] * len(records), [""] * len(records), records, (Tally("f"),))
    return outlier_findings(reading, data)


def signals() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 100)).astype(np.float32)


def test_good_signals_give_nothing_and_bad_records_are_left_aside() -> None:
    records = signals()
    records[3] = 0
    assert found(records, SIGNAL) == []
    assert found(np.zeros((4, 100), np.float32), SIGNAL) == [] == found(np.zeros((0, 100), np.float32), SIGNAL)


@pytest.mark.parametrize("factor", [1000, 1e-3])
def test_a_wrong_unit_of_all_signals_is_named(factor: float) -> None:
    findings = found(signals() * np.float32(factor), SIGNAL)
    assert any("half of all records" in each.what and "unit" in each.remedy for each in findings)


def test_one_other_gain_and_one_dead_channel_are_named_by_place() -> None:
    records = signals()
    records[4] *= 300
    records[9, 50:] = 0.25
    findings = {each.topic + each.what[:20]: each for each in found(records, SIGNAL)}
    far = [each for each in findings.values() if each.topic == "outliers"]
    assert [each.places for each in far] == [("record 5 as read",)] * 2
    (dead,) = [each for each in findings.values() if each.topic == "constant"]
    assert dead.places == ("record 10 as read",) and dead.weight is Weight.NOTE


def test_a_window_that_clamps_is_named() -> None:
    records = np.random.default_rng(1).normal(size=(10, 256)).astype(np.float32)
    assert found(records, IMAGE) == []
    records[2] = np.where(np.arange(256) < 100, -1, 1)
    (finding,) = found(records, IMAGE)
    assert (finding.count, finding.of, finding.places) == (1, 10, ("record 3 as read",))


def test_short_and_full_notes() -> None:
    records = np.full((3, 6, 1), -1, np.int32)
    records[0, :1], records[1, :6] = 3, 3
    short, full = found(records, TEXT)
    assert (short.count, short.of, short.places) == (1, 2, ("record 1 as read",))
    assert full.weight is Weight.NOTE and full.places == ("record 2 as read",)


def test_columns_in_another_unit_with_undeclared_levels_or_nothing_in_them() -> None:
    rows = np.stack([np.linspace(-2, 2, 50), np.ones(50), np.full(50, 2)], axis=1).astype(np.float32)
    assert found(rows, TABLE) == []
    months = rows.copy()
    months[:, 0] = 12 * 2.5
    months[:3, 2] = 1
    what = [each.what for each in found(months, TABLE)]
    assert any("'age': half of all values" in each for each in what) and any("'sex'" in each for each in what)
    slip = rows.copy()
    slip[:2, 0] = 49.0
    (finding,) = found(slip, TABLE)
    assert (finding.count, finding.of) == (2, 50) and "slip" in finding.remedy
    empty = rows.copy()
    empty[:, :2] = 0
    (absent,) = found(empty, TABLE)
    assert (absent.topic, absent.count) == ("missing", 50)


def test_events_are_looked_at_as_codes_and_never_as_numbers() -> None:
    data = EventData(kind="events", vocabulary=("a", "b", "c"), events=4)
    records = np.full((6, 4, 2), -1, np.int32)
    records[:, 0], records[:, 1] = (0, 0), (2, 6)
    assert found(records, data) == []
    records[2, 1] = -1
    records[4, :2, 0] = 3
    assert [(each.what[:30], each.places, each.weight) for each in found(records, data)] == [
        ("records most of whose events h", ("record 5 as read",), Weight.WARNING),
        ("records of one event, in which", ("record 3 as read",), Weight.NOTE),
    ]
    assert found(np.full((3, 4, 2), -1, np.int32), data) == [] == found(np.zeros((0, 4, 2), np.int32), data)


def test_sounds_that_are_nearly_silent_are_named() -> None:
    data = SoundData(kind="sound", rate_hz=1000, seconds=0.288, mels=8, high_hz=500, window=64, hop=32)
    records = np.random.default_rng(2).uniform(-1, 1, (5, data.values)).astype(np.float32)
    assert found(records, data) == []
    records[3, 2:] = -1.0
    records[4] = 0.0
    (finding,) = found(records, data)
    assert "silent" in finding.what and finding.places == ("record 4 as read",)
