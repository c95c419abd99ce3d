"""Looks at a record: against plain loops, at the ends of their coins, and harmless for what is not finite."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.spec.data import ImageData, SignalData

IMAGE = ImageData(kind="image", height=12, width=20, pool=2)
SIGNAL = SignalData(kind="signal", channels=2, samples=50, rate_hz=10.0, units=("mV",), typical=(1.0,))
STILL = Augmentation(crop=1.0, gain=0.0, noise=0.0, flip=False)
ALL = Augmentation(crop=0.4, gain=0.5, noise=0.2, flip=True)


def coins(count: int, seed: int = 0) -> np.ndarray:
    out: np.ndarray = 1.0 - np.random.default_rng(seed).random((count, COINS))
    return out


@pytest.mark.parametrize("data", [IMAGE, SIGNAL], ids=["image", "signal"])
def test_nothing_changes_when_nothing_may(data: ImageData | SignalData) -> None:
    size = 60 if data is IMAGE else 100
    records = np.random.default_rng(1).normal(size=(9, size)).astype(np.float32)
    assert np.array_equal(augmented(records, coins(9), data, STILL), records)


def test_a_part_of_an_image_agrees_with_a_plain_loop() -> None:
    image, given = np.random.default_rng(2).normal(size=(6, 10)), coins(40)
    records = np.repeat(image.reshape(1, 60).astype(np.float32), 40, axis=0)
    shown = augmented(records, given, IMAGE, Augmentation(crop=0.4, gain=0.0, noise=0.0, flip=True))
    for view, coin in zip(shown.reshape(40, 6, 10), given, strict=True):
        share = 0.4 + 0.6 * coin[0]
        wanted = np.empty((6, 10))
        for row in range(6):
            for column in range(10):
                y = coin[1] * (1 - share) * 6 + (row + 0.5) * share - 0.5
                x = coin[2] * (1 - share) * 10 + (column + 0.5) * share - 0.5
                y, x = min(max(y, 0.0), 5.0), min(max(x, 0.0), 9.0)
                low = [np.interp(x, np.arange(10), image[int(y)]), np.interp(x, np.arange(10), image[min(int(y) + 1, 5)])]
                wanted[row, column if coin[3] > 0.5 else 9 - column] = low[0] + (y - int(y)) * (low[1] - low[0])
        np.testing.assert_allclose(view, wanted, atol=1e-5)
    assert {bool(coin[3] > 0.5) for coin in given} == {True, False}


def test_a_stretch_of_a_signal_is_shown_unstretched_at_another_time() -> None:
    signal = np.arange(1, 101, dtype=np.float32)
    given = coins(200)
    shown = augmented(np.repeat(signal[None], 200, axis=0), given, SIGNAL, ALL._replace(gain=0.0, noise=0.0))
    moved, signs = set(), set()
    for view, coin in zip(shown.reshape(200, 2, 50), given, strict=True):
        kept = np.flatnonzero(view[0])
        assert len(kept) == np.ceil((0.4 + 0.6 * coin[0]) * 50) and np.array_equal(kept, np.arange(kept[0], kept[-1] + 1))
        first = abs(int(view[0, kept[0]]))
        sign = 1.0 if coin[3] > 0.5 else -1.0
        for channel in (0, 1):
            assert np.array_equal(view[channel, kept], sign * np.arange(first, first + len(kept)) + sign * 50 * channel)
            assert not np.delete(view[channel], kept).any()
        moved.add(first - 1 - int(kept[0]))
        signs.add(sign)
    assert len(moved) > 10 and signs == {1.0, -1.0}


def test_gain_level_and_noise_are_of_the_declared_size() -> None:
    zero, one = np.zeros((4000, 60), np.float32), np.ones((4000, 60), np.float32)
    given = coins(4000)
    level = augmented(zero, given, IMAGE, STILL._replace(gain=0.3))
    assert (level == level[:, :1]).all() and 0.29 < np.abs(level).max() <= 0.3 and abs(level.mean()) < 0.02
    louder = augmented(one, given, IMAGE, STILL._replace(gain=0.3)) - level
    assert 0.29 < np.abs(np.log(louder)).max() <= 0.3 + 1e-5
    noise = augmented(zero, given, IMAGE, STILL._replace(noise=0.2))
    assert noise.std() == pytest.approx(0.2, rel=0.02) and abs(noise.mean()) < 0.005
    assert len({row.tobytes() for row in noise}) > 3500
    wave = augmented(np.zeros((4000, 100), np.float32), given, SIGNAL, STILL._replace(gain=0.3)).reshape(4000, 2, 50)
    assert np.array_equal(wave[:, 0], wave[:, 1]) and 0.29 < np.abs(wave).max() <= 0.3
    rates = np.abs(np.fft.rfft(wave[:, 0], axis=1))
    assert (rates.argmax(axis=1) <= 4).all()


@pytest.mark.parametrize("data", [IMAGE, SIGNAL], ids=["image", "signal"])
@pytest.mark.parametrize("value", [2.0**-53, 0.5, 1.0])
def test_every_coin_is_legal_and_records_do_not_meet(data: ImageData | SignalData, value: float) -> None:
    size = 60 if data is IMAGE else 100
    records = np.random.default_rng(3).normal(size=(2, 3, size)).astype(np.float32)
    together = augmented(records, np.full((2, 3, COINS), value), data, ALL)
    assert together.shape == records.shape and together.dtype == np.float32 and np.isfinite(together).all()
    alone = augmented(records[1:, 2:], np.full((1, 1, COINS), value), data, ALL)
    assert np.array_equal(alone[0, 0], together[1, 2])


@pytest.mark.parametrize("data", [IMAGE, SIGNAL], ids=["image", "signal"])
def test_what_is_not_finite_raises_no_warning_and_stays_in_its_row(data: ImageData | SignalData) -> None:
    size = 60 if data is IMAGE else 100
    records = np.random.default_rng(4).normal(size=(4, size)).astype(np.float32)
    given = coins(4)
    clean = augmented(records, given, data, ALL)
    records[1], records[2] = np.nan, np.where(np.arange(size) % 2, np.inf, 3e38)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spoilt = augmented(records, given, data, ALL)
    assert np.array_equal(spoilt[[0, 3]], clean[[0, 3]]) and not np.isfinite(spoilt[1]).all()
