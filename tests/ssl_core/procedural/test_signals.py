"""Generated signals: the same bytes of a seed, and factors that say what somebody else's peak finder sees in the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import find_peaks

from ssl_core.errors import ConfigError
from ssl_core.procedural.signals import BLOCK, FACTORS, Signals, procedural_signals
from ssl_core.spec.data import SignalData


def study(**changes: Any) -> SignalData:
    given = {"kind": "signal", "channels": 1, "samples": 3000, "rate_hz": 100.0, "units": ("mV",), "typical": (0.2,)}
    return SignalData.model_validate(given | changes)


def factor(signals: Signals, name: str) -> npt.NDArray[np.float32]:
    column: npt.NDArray[np.float32] = signals.factors[:, FACTORS.index(name)]
    return column


@pytest.fixture(scope="module")
def signals() -> Signals:
    return procedural_signals(1, 512, study())


def test_the_same_seed_gives_the_same_bytes_and_the_first_records_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many = (procedural_signals(5, count, study(samples=500)) for count in (BLOCK + 1, 2 * BLOCK))
    again = procedural_signals(5, BLOCK + 1, study(samples=500))
    for name in ("records", "factors"):
        assert getattr(few, name).tobytes() == getattr(many, name)[: BLOCK + 1].tobytes() == getattr(again, name).tobytes()
    assert not np.array_equal(few.records, procedural_signals(6, BLOCK + 1, study(samples=500)).records)


@pytest.mark.parametrize(
    "changes", [{"channels": 12, "samples": 1000}, {"rate_hz": 500.0, "samples": 1001}, {"rate_hz": 25.0, "samples": 50}]
)
def test_they_are_records_of_the_studys_shape(changes: dict[str, Any]) -> None:
    data = study(**changes)
    made = procedural_signals(0, 70, data)
    assert made.records.shape == (70, data.values) and made.records.dtype == np.float32
    assert made.factors.shape == (70, len(FACTORS)) and np.abs(made.factors).max() <= 3.0
    assert np.isfinite(made.records).all() and made.records.any(axis=1).all()
    assert 0.2 < np.median(made.records.std(axis=1)) < 5.0


def test_two_seeds_have_their_leads_in_the_same_places() -> None:
    """So that what is trained on one meets in the other the same channels."""
    alike = []
    for seed in (0, 1):
        waves = procedural_signals(seed, 256, study(channels=4, samples=1000)).records.reshape(256, 4, 1000)
        alike.append(np.mean([np.corrcoef(record) for record in waves if record.any(axis=1).all()], axis=0))
    assert np.abs(alike[0] - alike[1]).max() < 0.1 and alike[0].min() < 0.8


def test_channels_see_one_heart_from_different_sides() -> None:
    records = procedural_signals(0, 64, study(channels=3)).records.reshape(64, 3, 3000)
    first, second = records[:, 0], records[:, 1]
    alike = [abs(np.corrcoef(a, b)[0, 1]) for a, b in zip(first, second, strict=True)]
    assert 0.3 < np.median(alike) < 0.99


@pytest.mark.parametrize(("changes", "field"), [({"rate_hz": 24.0}, "data.rate_hz"), ({"samples": 199}, "data.samples")])
def test_where_no_beat_has_a_shape_a_corpus_is_asked_for(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match="--public") as caught:
        procedural_signals(0, 1, study(**changes))
    assert caught.value.field == field


def intervals(record: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Seconds between the highest peaks, by scipy."""
    record = record * np.sign(np.abs(record.max()) - np.abs(record.min()))
    peaks, _ = find_peaks(record, height=0.6 * np.quantile(record, 0.999), distance=18)
    return np.diff(peaks) / 100.0


def test_the_factor_rate_is_the_rate_that_a_peak_finder_counts(signals: Signals) -> None:
    clean = (factor(signals, "noise") < -0.5) & (factor(signals, "no beats") < 0) & (factor(signals, "early beats") == 0)
    clean &= factor(signals, "irregular without P") < 0
    rates = 80.0 * np.exp(0.35 * factor(signals, "rate")[clean].astype(float))
    counted = np.array([60.0 / np.median(intervals(record)) for record in signals.records[clean]])
    assert clean.sum() > 40
    assert np.mean(np.abs(counted / rates - 1.0) < 0.05) > 0.8


def test_irregular_rhythms_are_irregular_to_a_peak_finder(signals: Signals) -> None:
    clean = (factor(signals, "noise") < 0.0) & (factor(signals, "no beats") < 0) & (factor(signals, "early beats") == 0)
    wild = factor(signals, "irregular without P") > 0

    def spread(chosen: npt.NDArray[np.bool_]) -> float:
        found = [intervals(record) for record in signals.records[chosen]]
        return float(np.median([gaps.std() / gaps.mean() for gaps in found if len(gaps) > 5]))

    assert spread(clean & wild) > 2 * spread(clean & ~wild)


def test_a_record_without_beats_tells_of_nothing_else(signals: Signals) -> None:
    silent = factor(signals, "no beats") > 0
    assert 0.02 < silent.mean() < 0.12
    told = [at for at, name in enumerate(FACTORS) if name not in ("no beats", "noise")]
    assert not signals.factors[silent][:, told].any()
    regular = ~silent & (factor(signals, "spread of intervals") < -0.6) & (factor(signals, "noise") < -0.5)
    steps = np.diff(signals.records, axis=1)
    power = np.abs(np.fft.rfft(steps, 8192, axis=1)) ** 2
    repeats = np.fft.irfft(power, axis=1)
    again = repeats[:, 35:170].max(axis=1) / repeats[:, 0]
    assert np.median(again[silent]) < 0.15 < 0.3 < np.median(again[regular])


def test_some_end_in_zeros_as_a_source_pads_them(signals: Signals) -> None:
    padded = (signals.records[:, -50:] == 0).all(axis=1)
    assert 0.07 < padded.mean() < 0.22
    assert signals.records[:, :800].any(axis=1).all()
