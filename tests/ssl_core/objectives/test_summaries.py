"""What is predicted of a whole record: against scipy and loops over single numbers, and record by record."""

from __future__ import annotations

import math
import statistics
import warnings

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import correlate, periodogram

from ssl_core.objectives.summaries import summary, summary_size
from ssl_core.spec.data import ImageData, Picture, SignalData, SoundData
from ssl_core.warm_start.public import PublicUnits

IMAGE = ImageData(kind="image", height=64, width=64)
ODD = ImageData(kind="image", height=24, width=40, pool=2)
SMALL = ImageData(kind="image", height=8, width=20, pool=2)
SOUND = SoundData(kind="sound", rate_hz=1000, seconds=0.6, mels=16, high_hz=500, window=64, hop=32)
BEATS = SignalData(kind="signal", channels=2, samples=1000, rate_hz=100, units=("mV",), typical=(0.2,))


@pytest.mark.parametrize(
    ("data", "rows", "columns"), [(IMAGE, 8, 8), (ODD, 6, 8), (SMALL, 2, 5), (SOUND, 8, 8)], ids=["64", "odd", "small", "sound"]
)
def test_cells_of_a_picture_are_those_of_scipys_labels(data: Picture, rows: int, columns: int) -> None:
    height, width = data.height // data.pool, data.width // data.pool
    pictures = np.random.default_rng(1).normal(size=(3, 2, height, width)).astype(np.float32)
    pictures[0, 0, : height // 2] *= 5
    # The cell n of a side is the last that begins at or before a pixel; it begins at floor(n side / cells).
    row = [max(n for n in range(rows) if n * height // rows <= y) for y in range(height)]
    column = [max(n for n in range(columns) if n * width // columns <= x) for x in range(width)]
    labels = np.add.outer(np.array(row) * columns, np.array(column))
    assert min(np.bincount(labels.ravel())) >= 4
    found = summary(pictures.reshape(3, 2, height * width), data, 8)
    assert found.dtype == np.float32 and found.shape == (3, 2, 2 * rows * columns) == (3, 2, summary_size(data, 8))
    cells = np.arange(rows * columns)
    for place in np.ndindex(3, 2):
        picture = pictures[place].astype(np.float64)
        means, variances = ndimage.mean(picture, labels, cells), ndimage.variance(picture, labels, cells)
        np.testing.assert_allclose(found[place], [*means, *np.log(0.01 + variances) / 2], atol=1e-5)


def test_the_spectrum_of_a_signal_is_mean_and_deviation_of_scipys_periodograms() -> None:
    signal = np.random.default_rng(2).normal(size=(2, 1000)).astype(np.float32) * np.array([[0.3], [4.0]], np.float32)
    found = summary(signal.reshape(1, 2000), BEATS, 50)[0].reshape(2, -1)
    for channel, own in enumerate(found):
        _, power = periodogram(signal[channel].reshape(20, 50).astype(float), detrend="constant", return_onesided=False)
        halves = [[math.log(0.01 + value) / 2 for value in piece[1:26]] for piece in power]
        by_frequency = list(zip(*halves, strict=True))
        expected = [*map(statistics.fmean, by_frequency), *map(statistics.pstdev, by_frequency)]
        np.testing.assert_allclose(own[:50], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "samples", "window", "lags"),
    [(100, 1000, 5, range(5, 46)), (250.0, 3000, 12, range(6, 47)), (40, 96, 2, range(5, 24)), (4, 60, 1, range(1, 10))],
)
def test_the_rhythm_is_scipys_correlation_of_the_envelope_at_its_lags(
    rate: float, samples: int, window: int, lags: range
) -> None:
    data = BEATS.model_copy(update={"channels": 1, "samples": samples, "rate_hz": rate})
    signal = np.cumsum(np.random.default_rng(3).normal(size=samples)).astype(np.float32)
    found = summary(signal[None], data, 4)[0, 4:]
    steps = [abs(float(signal[n + 1]) - float(signal[n])) for n in range(samples - 1)]
    whole = [math.log(0.01 + statistics.fmean(steps[n : n + window])) for n in range(0, samples - window, window)]
    assert all(0.25 <= lag * window / rate <= 2.25 and lag <= len(whole) / 2 for lag in lags) and len(found) == len(lags)
    centred = np.array(whole) - statistics.fmean(whole)
    full = correlate(centred, centred, "full", method="direct")
    shares = full[len(whole) - 1 :] / (full[len(whole) - 1] + len(whole) / 1e6)
    np.testing.assert_allclose(found, [3 * shares[lag] for lag in lags], atol=1e-5)


def test_beats_at_75_a_minute_are_alike_after_eight_tenths_of_a_second() -> None:
    data = BEATS.model_copy(update={"channels": 1})
    signal = np.exp(-((np.arange(1000) % 80 - 40) ** 2) / 8.0).astype(np.float32)
    rhythm = summary(signal[None], data, 50)[0, 50:]
    assert (5 + np.argsort(rhythm)[-2:]) * 5 / 100 == pytest.approx([1.6, 0.8]) and rhythm.max() > 2.5


@pytest.mark.parametrize(("rate", "samples"), [(1 / 60, 120), (100, 40), (1e6, 8)], ids=["slow", "short", "fast"])
def test_a_signal_too_slow_or_too_short_for_a_beat_has_a_spectrum_alone(rate: float, samples: int) -> None:
    data = BEATS.model_copy(update={"samples": samples, "rate_hz": rate})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summary(np.ones((3, 2 * samples), np.float32), data, 4)
    assert found.shape == (3, 2 * 4) and summary_size(data, 4) == 8 and np.isfinite(found).all()


@pytest.mark.parametrize("data", [IMAGE, ODD, SOUND, BEATS], ids=["image", "odd", "sound", "signal"])
def test_a_record_is_summarised_alike_whoever_else_is_there_and_nothing_is_said(data: Picture | SignalData) -> None:
    records = np.random.default_rng(4).normal(size=(7, 3, data.values)).astype(np.float32)
    records[1, 0], records[2] = 0.0, 7.5
    wild = records.copy()
    wild[3:5] = np.array([np.nan, np.inf, 3e38], np.float32)[None, :, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together, beside = summary(records, data, 50), summary(wild, data, 50)
        alone = np.stack([[summary(one[None], data, 50)[0] for one in unit] for unit in records])
        none = summary(records[:0], data, 50)
    assert np.array_equal(together, alone) and np.isfinite(together).all()
    others = [0, 1, 2, 5, 6]
    assert np.array_equal(beside[others], together[others]) and np.isnan(beside[3, 0]).any()
    assert none.shape == (0, 3, summary_size(data, 50)) and none.dtype == np.float32


def test_entries_are_of_order_one_for_generated_records() -> None:
    """The mean square of who predicts nothing, and what differs from one record to the next."""
    for data, piece in ((IMAGE, 8), (BEATS.model_copy(update={"channels": 1, "samples": 3000}), 50)):
        found = summary(np.asarray(PublicUnits.from_seed(5, 64, data).patients.whole, np.float32), data, piece)
        assert 0.2 < np.square(found).mean() < 4 and 0.2 < found.std(axis=0).mean() < 2
