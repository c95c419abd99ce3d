"""Step 1: units, rates, channels and pieces of one recording."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests_recordings import DATA, waves

from ssl_core.config import parse
from ssl_core.data.declared_recordings import EdfSource, SoundSource, WfdbSource
from ssl_core.data.reading import Fault
from ssl_core.data.recordings import Channel, at_rate, check_meaning, chosen, power_of_ten, records, starts
from ssl_core.errors import ConfigError, DataError


def declared(**more: Any) -> EdfSource:
    return EdfSource.model_validate({"kind": "edf", "channels": ("II", "V1"), "units": ("mV",)} | more)


def contents(values: np.ndarray, rate: float = 100, units: tuple[str, str] = ("mV", "mV"), **more: Any) -> list[Any]:
    channels = [Channel(line.copy(), unit, rate) for line, unit in zip(values.T, units, strict=True)]
    return [found.content for found in records(channels, declared(**more), DATA, owner=None, start="")]


@pytest.mark.parametrize(
    ("unit", "asked", "power"),
    [("uV", "mV", -3),
     ("µV", "mV", -3), ("μV", "V", -6), ("V", "mV", 3), ("mV", "mV", 0), ("kPa", "Pa", 3), ("mmHg", "mmHg", 0),
     ("mmHg", "Pa", None), ("MV", "mV", 9), ("", "mV", None), ("mv", "mV", None), ("mPa", "mV", None), ("fT", "pT", -3)],
)  # fmt: skip
def test_units_are_converted_by_powers_of_ten_alone(unit: str, asked: str, power: int | None) -> None:
    assert power_of_ten(unit, asked) == power


def test_a_channel_is_found_by_the_first_name_that_is_there() -> None:
    present = [{"I", "Lead I"}, {"II"}, {"V1"}, set[str]()]
    assert chosen(present, [["V1"], ["x", "Lead I"]]) == [2, 0]
    assert chosen(present, [["V9"]]) is Fault.CHANNELS
    assert chosen([{"II"}, {"II"}], [["II"]]) is Fault.CHANNELS
    # The first name decides, also where it is borne twice.
    assert chosen([{"II"}, {"II"}, {"I"}], [["II", "I"]]) is Fault.CHANNELS
    assert chosen(present, [["I"], ["Lead I"]]) is Fault.CHANNELS


def test_pieces_lie_evenly_and_never_over_one_another() -> None:
    assert starts(500, 500, 4) == [0] and starts(1300, 500, 1) == [400] and starts(300, 500, 3) == [0]
    assert (
        starts(1300, 500, 9) == [0, 800] and starts(1500, 500, 3) == [0, 500, 1000] and starts(2001, 500, 3) == [0, 750, 1501]
    )
    for length in range(1, 3000, 7):
        found = starts(length, 500, 4)
        assert all(b - a >= 500 for a, b in pairwise(found)) and found == starts(length, 500, 4)
        assert length < 500 or (found[0] >= 0 and found[-1] + 500 <= length)


def test_values_are_scaled_by_the_plans_constants_and_pieces_cut() -> None:
    values = waves()
    first, last = contents(values * [1, 1000], units=("mV", "uV"), windows=2)
    np.testing.assert_allclose(first.reshape(2, 500), values[:500].T / 0.5, rtol=1e-6)
    np.testing.assert_allclose(last.reshape(2, 500), values[800:].T / 0.5, rtol=1e-6)


def test_a_short_recording_is_refused_or_followed_by_zeros_as_declared() -> None:
    values = waves(400) + 3.0
    assert contents(values) == [Fault.SHAPE] and contents(values[:0], pad=True) == [Fault.EMPTY]
    (found,) = contents(values, pad=True, windows=3)
    np.testing.assert_allclose(found.reshape(2, 500)[:, :400], values.T / 0.5, rtol=1e-6)
    assert not found.reshape(2, 500)[:, 400:].any()
    # What follows the end is no change: the recording itself is flat.
    assert contents(np.full((400, 2), 3.0), pad=True) == [Fault.FLAT]


def test_each_piece_is_bad_by_itself() -> None:
    values = waves(1500)
    values[700, 1], values[1000:, :] = np.nan, 0.25
    good, missing, flat = contents(values, windows=3)
    assert isinstance(good, np.ndarray) and missing is Fault.MISSING and flat is Fault.FLAT
    values[0, 0] = np.inf
    assert contents(values, windows=3)[0] is Fault.MISSING


def test_other_units_and_rates_are_refused_unless_declared() -> None:
    values = waves(2600, 200)
    assert contents(values, 200) == [Fault.RATE] and contents(values, 100, ("mV", "mmHg")) == [Fault.UNITS]
    assert contents(values, 100.0 * (1 + 9e-6), windows=9) and contents(values, 100.01) == [Fault.RATE]
    for rate in (0.0, -1.0, math.nan, math.inf, 1e9, 100.0123):
        assert contents(values, rate, resample=True) == [Fault.RATE]
    (found,) = contents(values, 200, resample=True)
    truth = waves(1300, 100)
    assert np.abs(found.reshape(2, 500).T * 0.5 - truth[400:900]).max() < 0.06


@pytest.mark.parametrize("rate", [250.0, 360.0, 128.0, 44100.0, 62.4725])
def test_resampling_is_scipys_on_this_recording_alone(rate: float) -> None:
    samples = int(20 * rate)
    tone = np.sin(2 * np.pi * 3 * np.arange(samples) / rate) + 80.0
    found = at_rate(tone, rate, declared(resample=True), 100.0)
    if rate == 62.4725:
        assert found is Fault.RATE
        return
    assert isinstance(found, np.ndarray) and len(found) == 2000
    wanted = np.sin(2 * np.pi * 3 * np.arange(2000) / 100.0) + 80.0
    # The filter's ripple is a ten-thousandth of the level.
    assert np.abs(found - wanted)[100:-100].max() < 2e-4 * 81
    # The level goes on beyond the ends, so that the ends of a pressure do not fall to zero.
    assert np.abs(found - wanted).max() < 1.0


def test_a_missing_sample_is_missing_around_itself_alone() -> None:
    values = waves(5200, 400)
    values[2600] = np.nan, 1e35
    found = contents(values, 400, resample=True, windows=2)
    assert all(isinstance(each, np.ndarray) for each in found)
    values[100] = np.nan
    assert [isinstance(each, np.ndarray) for each in contents(values, 400, resample=True, windows=2)] == [False, True]


def test_too_many_samples_after_resampling_are_refused_before_they_are_made() -> None:
    assert at_rate(np.zeros(10_000), 1.0, declared(resample=True, largest_mib=1), 100.0) is Fault.TOO_LARGE


def test_channels_of_other_lengths_end_with_the_shortest() -> None:
    values = waves(1001)
    channels = [Channel(values[:, 0], "mV", 100), Channel(values[:1000, 1], "mV", 100)]
    (found,) = records(channels, declared(), DATA, owner="p", start="t")
    assert (found.owner, found.name) == ("p", "t")
    np.testing.assert_allclose(np.asarray(found.content).reshape(2, 500), values[250:750].T / 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ("II",)}, "more or fewer channels"),
        ({"units": ("uV",)}, "other units"),
        ({"units": ("mV", "uV")}, "other units"),
    ],
)
def test_a_declaration_that_is_not_the_plans_is_refused(changes: dict[str, Any], message: str) -> None:
    check_meaning(declared(units=("mV", "mV")), DATA)
    with pytest.raises(DataError, match=message):
        check_meaning(declared(**changes), DATA)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (EdfSource, {"channels": ["II", ["V1", "II"]]}, "once"),
        (EdfSource, {"channels": ["a label of more than 16"]}, "16 characters"),
        (EdfSource, {"channels": [[]]}, "channels"),
        (EdfSource, {"windows": 0}, "windows"),
        (WfdbSource, {"patient_from": "header"}, "patient_comment"),
        (WfdbSource, {"patient_comment": "id"}, "patient_comment"),
        (WfdbSource, {"patient_from": "header", "patient_comment": "id:"}, "patient_comment"),
        (SoundSource, {"patient_from": "header", "channels": None, "units": None}, "names no patient"),
    ],
)
def test_declarations_that_are_wrong_are_refused(model: Any, changes: dict[str, Any], message: str) -> None:
    kind = {EdfSource: "edf", WfdbSource: "wfdb", SoundSource: "sound"}[model]
    body = {"kind": kind, "channels": ["II", "V1"], "units": ["mV"]} | changes
    with pytest.raises(ConfigError, match=message):
        parse(model, {key: value for key, value in body.items() if value is not None}, "source")
