"""Before step 1, at the operator: the sounds of lungs that nobody has: breathing, crackles, wheezes, rhonchi.

Comes in: a generator, a number of samples and their rate. Goes out: `Breath`, when air goes in and out, and `Lungs` with
float64 [samples], breathing in about 1 in root mean square, and what was added. Breathing is noise that falls off above some
hundred hertz, softer and lower while breathing out: Pasterkamp, Kraman and Wodicka, "Respiratory sounds: advances beyond the
stethoscope" (Am. J. Respir. Crit. Care Med. 156, 1997). A crackle is the wave of Kiyokawa et al., "Auditory detection of
simulated crackles in breath sounds" (Chest 119, 2001): sin(4 pi t^a) (1 + cos(2 pi (sqrt(t) - 1/2))) / 2 over t of 0 to 1,
which is its two cycles long; a puts the first zero where the first half wave ends. Fine ones last less than 10 ms and come
late while breathing in, coarse ones last longer and come early, and while breathing out. Wheezes and rhonchi are tones with
overtones of 250 ms or more, above and below 200 Hz, mostly while breathing out: Sovijärvi et al., "Definition of terms for
applications of respiratory sounds" (Eur. Respir. Rev. 10, 2000). Different: rates, sizes and shares are drawn far beyond what
is normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.procedural.noise import band_noise, within

Floats = npt.NDArray[np.float64]

ADDED = ("fine crackles", "coarse crackles", "wheezes", "rhonchi")
_CRACKLES, _TONES = 0.28, 0.28
_SLOWEST, _FASTEST = 8.0, 45.0
_LEAST_TONE = 0.25


@dataclass(frozen=True, slots=True)
class Breath:
    """Breaths a minute; the times at which air begins to go in, to go out, and at which it rests, each [breaths]."""

    rate: float
    begin: Floats
    turn: Floats
    rest: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, seconds: float) -> Breath:
        """Breaths from before the record to after it."""
        rate = float(np.clip(np.exp(rng.normal(np.log(18.0), 0.3)), _SLOWEST, _FASTEST))
        period = 60.0 / rate
        count = int(seconds / period * 1.4) + 4
        lengths = period * (1.0 + rng.normal(0.0, 0.05, count)).clip(0.7, 1.3)
        begin = np.cumsum(lengths) - lengths[0] - period * (1.0 + rng.random())
        turn = begin + lengths * rng.uniform(0.33, 0.48)
        return cls(rate, begin, turn, turn + (lengths - (turn - begin)) * rng.uniform(0.6, 0.95))

    def inside(self, at: float) -> bool:
        """Is air going in at this time?"""
        return bool(((self.begin <= at) & (at < self.turn)).any())


@dataclass(frozen=True, slots=True)
class Lungs:
    """float64 [samples], and which of ADDED are there."""

    sound: Floats
    added: frozenset[str]


def lungs(rng: np.random.Generator, samples: int, rate_hz: float, breath: Breath) -> Lungs:
    """Lungs that breathe so, with what was drawn for them."""
    out = _breathing(rng, samples, rate_hz, breath)
    drawn, kind = rng.random(2), rng.integers(0, 2, 2)
    added = [ADDED[kind[0]]] if drawn[0] < _CRACKLES else []
    added += [ADDED[2 + kind[1]]] if drawn[1] < _TONES else []
    if drawn[0] < _CRACKLES:
        _crackles(rng, out, rate_hz, breath, fine=kind[0] == 0)
    if drawn[1] < _TONES:
        _tones(rng, out, rate_hz, breath, high=kind[1] == 0)
    return Lungs(out, frozenset(added))


def _breathing(rng: np.random.Generator, samples: int, rate_hz: float, breath: Breath) -> Floats:
    # Now and then as it is heard over the large airways: more and louder while breathing out.
    bronchial = rng.random() < 0.15
    high = rng.uniform(500.0, 900.0) if bronchial else rng.uniform(180.0, 420.0)
    softer = rng.uniform(0.8, 1.2) if bronchial else rng.uniform(0.15, 0.6)
    low = rng.uniform(50.0, 110.0)
    time = np.arange(samples) / rate_hz
    out = np.zeros(samples)
    for starts, ends, size, top in ((breath.begin, breath.turn, 1.0, high), (breath.turn, breath.rest, softer, 0.75 * high)):
        loud = np.zeros(samples)
        for start, end in zip(starts, ends, strict=True):
            part = within(start, end, rate_hz, samples)
            loud[part] = np.sqrt(np.maximum(np.sin(np.pi * (time[part] - start) / (end - start)), 0.0))
        out += size * loud * band_noise(rng, samples, rate_hz, low, top)
    return out


def _crackles(rng: np.random.Generator, out: Floats, rate_hz: float, breath: Breath, *, fine: bool) -> None:
    mean = rng.uniform(5.0, 20.0) if fine else rng.uniform(3.0, 9.0)
    size = np.exp(rng.uniform(np.log(3.0), np.log(20.0)))
    long = rng.uniform(0.004, 0.008) if fine else rng.uniform(0.011, 0.018)
    # The first half wave's share of the two cycles.
    power = np.log(0.25) / np.log(rng.uniform(0.11, 0.18))
    for begin, turn, rest in zip(breath.begin, breath.turn, breath.rest, strict=True):
        spans = [(begin + 0.5 * (turn - begin), turn)] if fine else [(begin, begin + 0.5 * (turn - begin)), (turn, rest)]
        for start, end in spans:
            for at in rng.uniform(start, end, rng.poisson(mean / len(spans))):
                _crackle(out, rate_hz, at, long * rng.uniform(0.8, 1.2), size * np.exp(rng.normal(0.0, 0.4)), power)


def _crackle(out: Floats, rate_hz: float, at: float, long: float, size: float, power: float) -> None:
    span = within(at, at + long, rate_hz, len(out))
    part = np.clip((np.arange(span.start, span.stop) / rate_hz - at) / long, 0.0, 1.0)
    out[span] += size * np.sin(4.0 * np.pi * part**power) * 0.5 * (1.0 + np.cos(2.0 * np.pi * (np.sqrt(part) - 0.5)))


def _tones(rng: np.random.Generator, out: Floats, rate_hz: float, breath: Breath, *, high: bool) -> None:
    """One to three tones, the same ones in every breath."""
    count = int(rng.integers(1, 4)) if high else 1
    hertz = rng.uniform(220.0, 800.0, count) if high else rng.uniform(80.0, 190.0, count)
    size = np.exp(rng.uniform(np.log(1.0), np.log(6.0)))
    overtones = rng.uniform(0.1, 0.4) if high else rng.uniform(0.4, 0.8)
    inwards = rng.random() < 0.3
    for begin, turn, rest in zip(breath.begin, breath.turn, breath.rest, strict=True):
        for start, end in [(turn, rest)] + ([(begin, turn)] if inwards else []):
            for pitch in hertz:
                length = max(_LEAST_TONE, (end - start) * rng.uniform(0.3, 0.9))
                at = start + max(0.0, end - start - length) * rng.random()
                _tone(out, rate_hz, at, length, pitch, rng.uniform(-0.2, 0.2), overtones, size / count)


def _tone(
    out: Floats, rate_hz: float, at: float, length: float, hertz: float, glide: float, overtones: float, size: float
) -> None:
    span = within(at, at + length, rate_hz, len(out))
    part = (np.arange(span.start, span.stop) / rate_hz - at) / length
    loud = size * np.clip(8.0 * np.minimum(part, 1.0 - part), 0.0, 1.0)
    turns = hertz * length * (part + 0.5 * glide * part**2)
    for number in (1, 2, 3):
        if number * hertz * (1.0 + abs(glide)) < rate_hz / 2:
            out[span] += loud * overtones ** (number - 1) * np.sin(2.0 * np.pi * number * turns)
