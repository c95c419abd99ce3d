"""Before step 1, at the operator: public heart and lung sounds from a seed, with what they were made from.

Comes in: a seed, a number of records, and what a study says of its sounds. Goes out: of each record float32 [samples], within
full scale, as a sound file holds them; or float32 [m, mels * frames], the log-mel pictures that the study's own reader makes
of such files (data/sounds.py); and the factors float32 [m, 15] in FACTORS' order, each brought to about -2 .. 2 by constants. A
record is one heart (heart_sounds.py) and one pair of lungs (lung_sounds.py), heard together where now the one, now the other is
louder, with a room's noise, knocks and hum. What is described there is published; how often anything occurs is not: it is so
often that a few labels show it.

Each record comes from a generator of its own, so that the first ones do not depend on how many are asked for; same seed, same
bytes on one machine (see images.py). Refused: fewer than 2,000 samples a second, which hold no fine crackle and not all
wheezes; less than two seconds, in which no rhythm shows; more than four million samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.data.sounds import log_mel
from ssl_core.errors import ConfigError
from ssl_core.procedural.heart_sounds import MURMURS, heart
from ssl_core.procedural.lung_sounds import ADDED, Breath, lungs
from ssl_core.procedural.noise import band_noise, pink_noise
from ssl_core.spec.sound import SoundData

FACTORS = (
    "heart rate", "uneven rhythm", "third sound", "fourth sound", *MURMURS, "breathing rate", *ADDED, "heart over lungs",
    "noise",
)  # fmt: skip
_LEAST_RATE, _LEAST_SECONDS, _MOST_SAMPLES = 2000.0, 2.0, 1 << 22
# Root mean square of breathing in, beside a first heart sound of 1, where neither is louder.
_BREATHING = 0.12
_MOST_DECIBELS = 12.0

Waves = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sounds:
    """Log-mel pictures float32 [m, mels * frames] and the factors float32 [m, 15] that each was made from."""

    records: Waves
    factors: Waves


def procedural_sounds(seed: int, count: int, data: SoundData) -> Sounds:
    """The pictures of the first `count` records of `seed`; `ConfigError` where the study's rate or length cannot hold them."""
    records, factors = np.empty((count, data.values), np.float32), np.empty((count, len(FACTORS)), np.float32)
    for number, (sound, made) in enumerate(made_sounds(seed, count, data)):
        records[number], factors[number] = log_mel(sound.astype(np.float64), data), made
    return Sounds(records, factors)


def made_sounds(seed: int, count: int, data: SoundData) -> Iterator[tuple[Waves, Waves]]:
    """The first `count` records of `seed`, one after the other: float32 [samples] within -1 .. 1, factors float32 [15]."""
    _check(data)
    return (_made(np.random.default_rng([seed, number]), data) for number in range(count))


def _check(data: SoundData) -> None:
    remedy = "name a public corpus instead (--public)"
    if data.rate_hz < _LEAST_RATE:
        raise ConfigError(
            "procedural sounds need more samples a second", field="data.rate_hz", value=data.rate_hz,
            limit=f"at least {_LEAST_RATE:g}", remedy=remedy,
        )  # fmt: skip
    if data.seconds < _LEAST_SECONDS:
        raise ConfigError(
            "procedural sounds need longer records", field="data.seconds", value=data.seconds,
            limit=f"at least {_LEAST_SECONDS:g}", remedy=remedy,
        )  # fmt: skip
    if data.samples > _MOST_SAMPLES:
        raise ConfigError(
            "procedural sounds cannot be so long at this rate", field="data.seconds", value=data.seconds,
            limit=f"at most {_MOST_SAMPLES / data.rate_hz:.6g}", remedy=remedy,
        )  # fmt: skip


def _made(rng: np.random.Generator, data: SoundData) -> tuple[Waves, Waves]:
    samples, rate = data.samples, data.rate_hz
    breath = Breath.draw(rng, samples / rate)
    beating = heart(rng, samples, rate, breath)
    breathing = lungs(rng, samples, rate, breath)
    decibels = rng.uniform(-_MOST_DECIBELS, _MOST_DECIBELS)
    louder = 10.0 ** (decibels / 40.0)
    sound = beating.sound * louder + _BREATHING * breathing.sound / louder
    noise = np.exp(rng.uniform(np.log(0.003), np.log(0.04)))
    sound += _room(rng, samples, rate, noise)
    # The level at which it was recorded, in decibels of full scale; some are overdriven.
    level = 10.0 ** (rng.uniform(-34.0, -16.0) / 20.0)
    sound *= level / np.sqrt(np.mean(np.square(sound)))
    factors = [
        np.log(beating.rate / 76.0) / 0.25,
        *(2.0 * flag - 1.0 for flag in (beating.uneven, beating.third, beating.fourth)),
        *(2.0 * (name in beating.murmurs) - 1.0 for name in MURMURS),
        np.log(breath.rate / 18.0) / 0.3,
        *(2.0 * (name in breathing.added) - 1.0 for name in ADDED),
        decibels / (0.5 * _MOST_DECIBELS),
        (np.log(noise) - np.log(0.011)) / 0.75,
    ]
    return np.clip(sound, -1.0, 1.0).astype(np.float32), np.clip(factors, -3.0, 3.0).astype(np.float32)


def _room(rng: np.random.Generator, samples: int, rate_hz: float, size: float) -> npt.NDArray[np.float64]:
    """A room's and a sensor's noise of root mean square `size`, now and then louder; in some, knocks, hum or voices."""
    out = pink_noise(rng, samples, rate_hz) * size
    drawn = rng.random(3)
    if drawn[0] < 0.15:
        for at in rng.integers(0, samples, rng.integers(1, 4)):
            # The skin brushes past, or a finger taps.
            tail = np.exp(-np.arange(min(samples - at, int(0.15 * rate_hz))) / (rng.uniform(0.005, 0.03) * rate_hz))
            out[at : at + len(tail)] += rng.uniform(0.1, 1.0) * tail * rng.standard_normal(len(tail))
    if drawn[1] < 0.1:
        hum = rng.choice([50.0, 60.0]) * np.arange(samples) / rate_hz + rng.random()
        out += rng.uniform(0.01, 0.08) * np.sin(2.0 * np.pi * hum)
    if drawn[2] < 0.1:
        loud = np.maximum(np.sin(2.0 * np.pi * (rng.uniform(0.3, 1.2) * np.arange(samples) / rate_hz + rng.random())), 0.0)
        out += rng.uniform(0.02, 0.08) * loud * band_noise(rng, samples, rate_hz, 250.0, 900.0)
    return out
