"""Before step 1, at the operator: public signals of a heart-like rhythm from a seed, with what they were made from.

Comes in: a seed, a number of records, and what a study says of its signals. Goes out: float32 [m, channels * samples],
already divided by the study's `typical` (a record's standard deviation lies around 1), as `Patients.records` of signals;
and the factors float32 [m, 10] in FACTORS' order, each brought to about -2 .. 2 by constants. A beat is a sum of Gaussian
waves (P, Q, R, S, T), as in McSharry et al., "A dynamical model for generating synthetic electrocardiogram signals" (IEEE
TBME 2003), section III. Different: waves are laid down directly, not by a differential equation; their sizes, widths and
places are drawn for each record far beyond what is normal; rhythms are regular, breathing, or irregular without P; beats
come early and wide; there are wander, white noise, bursts, hum, records without any beat, and tails of zeros. Channels see
the waves from different directions.

Records are made in blocks of BLOCK, each from its own generator, so that the first records do not depend on how many are
asked for; same seed, same bytes on one machine (see images.py). Refused: fewer than 25 samples a second or less than two
seconds, where no beat has a shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.errors import ConfigError
from ssl_core.spec.data import LEAST_RHYTHM_HZ, LEAST_RHYTHM_SECONDS, SignalData

BLOCK = 64
FACTORS = (
    "rate", "spread of intervals", "irregular without P", "P wave", "T wave", "S wave", "noise", "early beats", "width",
    "no beats",
)  # fmt: skip
_SLOWEST, _FASTEST = 35.0, 170.0
_SHORTEST = 0.22
# Seconds from the R peak: centre and width of P, Q, R, S, T at a normal interval; a beat's window.
_CENTRES = np.array([-0.16, -0.028, 0.0, 0.03, 0.26])
_WIDTHS = np.array([0.022, 0.008, 0.011, 0.012, 0.045])
_BEFORE, _AFTER = 0.32, 0.68
_R_SIZE = 5.0
_LEADS = 1903

Waves = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signals:
    """Records float32 [m, channels * samples] and the factors float32 [m, 10] that each was made from."""

    records: Waves
    factors: Waves


def procedural_signals(seed: int, count: int, data: SignalData) -> Signals:
    """The first `count` records of `seed`; `ConfigError` where the study's rate or length cannot hold a beat."""
    _check(data)
    records, factors = np.empty((count, data.values), np.float32), np.empty((count, len(FACTORS)), np.float32)
    # Where each channel looks from is of their number alone, as a study's leads are: what one seed is trained on another one
    # is examined by, or compared with. The first sees R upright.
    towards = np.random.default_rng([_LEADS, data.channels]).normal(0.0, 0.6, (3, data.channels))
    towards[:, 0] = 0.0
    towards[0] = 1.0
    for block, begin in enumerate(range(0, count, BLOCK)):
        waves, made = _block(np.random.default_rng([seed, 0, block]), data, towards)
        records[begin : begin + BLOCK] = waves[: count - begin].reshape(-1, data.values)
        factors[begin : begin + BLOCK] = made[: count - begin]
    return Signals(records, factors)


def _check(data: SignalData) -> None:
    seconds = data.samples / data.rate_hz
    remedy = "name a public corpus instead (--public)"
    if data.rate_hz < LEAST_RHYTHM_HZ:
        raise ConfigError(
            "procedural signals need more samples a second", field="data.rate_hz", value=data.rate_hz,
            limit=f"at least {LEAST_RHYTHM_HZ:g}", remedy=remedy,
        )  # fmt: skip
    if seconds < LEAST_RHYTHM_SECONDS:
        raise ConfigError(
            "procedural signals need longer records", field="data.samples", value=f"{seconds:g} s",
            limit=f"at least {LEAST_RHYTHM_SECONDS:g} s", remedy=remedy,
        )  # fmt: skip


def _block(rng: np.random.Generator, data: SignalData, towards: Floats) -> tuple[Waves, Floats]:
    """BLOCK records float32 [BLOCK, channels, samples] and their factors [BLOCK, 10]."""
    seconds = data.samples / data.rate_hz
    peaks, early, rhythm = _rhythm(rng, seconds)
    silent = rng.random(BLOCK) < 0.06
    sizes = _R_SIZE * np.exp(rng.normal(0.0, 0.35, BLOCK))
    shape = _Shape.draw(rng, rhythm.irregular)
    signals = _laid(rng, peaks, early, shape, sizes, data, towards).astype(np.float64) * ~silent[:, None, None]
    flutter = rhythm.irregular * rng.uniform(0.0, 0.12, BLOCK) * sizes
    signals += _flutter(rng, data, flutter * ~silent)
    noise = np.exp(rng.uniform(np.log(0.01), np.log(0.25), BLOCK)) * np.where(rng.random(BLOCK) < 0.12, 4.0, 1.0)
    noise = np.where(silent, np.maximum(noise, 0.3), noise)
    signals += _disturbance(rng, data, noise * sizes)
    signals *= np.where(rng.random(BLOCK) < 0.12, -1.0, 1.0)[:, None, None]
    _end_in_zeros(rng, signals)
    factors = np.stack(
        [
            (np.log(60.0 / rhythm.interval) - np.log(80.0)) / 0.35,
            (rhythm.spread - 0.08) / 0.08,
            2.0 * rhythm.irregular - 1.0,
            shape.size[:, 0] / 0.1 - 1.0,
            shape.size[:, 4] / 0.2 - 1.0,
            -shape.size[:, 3] / 0.2 - 1.0,
            (np.log(noise) - np.log(0.07)) / 1.2,
            4.0 * early.mean(axis=1),
            (shape.wide - 1.3) / 0.5,
            2.0 * silent - 1.0,
        ],
        axis=1,
    )
    # Of a record without beats nothing but that can be told.
    factors[:, [0, 1, 2, 3, 4, 5, 7, 8]] *= ~silent[:, None]
    return signals.astype(np.float32), np.clip(factors, -3.0, 3.0)


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """Mean interval in seconds, its relative spread, and whether it is irregular without P, each [BLOCK]."""

    interval: Floats
    spread: Floats
    irregular: npt.NDArray[np.bool_]


def _rhythm(rng: np.random.Generator, seconds: float) -> tuple[Floats, npt.NDArray[np.bool_], _Rhythm]:
    """Times of R peaks [BLOCK, beats], which of them come early bool [BLOCK, beats], and the rhythm."""
    beats = int(seconds * _FASTEST / 60.0 * 1.3) + 3
    rate = np.clip(np.exp(rng.normal(np.log(78.0), 0.3, BLOCK)), _SLOWEST, _FASTEST)
    interval = 60.0 / rate
    irregular = rng.random(BLOCK) < 0.3
    breathing = ~irregular & (rng.random(BLOCK) < 0.5)
    spread = np.where(irregular, rng.uniform(0.13, 0.3, BLOCK), rng.uniform(0.005, 0.03, BLOCK))
    depth = breathing * rng.uniform(0.03, 0.18, BLOCK)
    number = np.arange(beats)
    breath = np.sin(2.0 * np.pi * (rng.random(BLOCK)[:, None] + number * (interval * rng.uniform(0.15, 0.35, BLOCK))[:, None]))
    relative = 1.0 + depth[:, None] * breath + spread[:, None] * rng.normal(0.0, 1.0, (BLOCK, beats))
    frequent = np.where(rng.random(BLOCK) < 0.3, rng.uniform(0.02, 0.3, BLOCK), 0.0)
    early = rng.random((BLOCK, beats)) < frequent[:, None]
    early[:, 1:] &= ~early[:, :-1]
    # An early beat, and the pause that follows it.
    ahead = rng.uniform(0.25, 0.45, (BLOCK, 1)) * early
    relative -= ahead
    relative[:, 1:] += ahead[:, :-1]
    gaps = np.maximum(relative * interval[:, None], _SHORTEST)
    peaks = np.cumsum(gaps, axis=1) - gaps[:, :1] - (rng.random(BLOCK) * interval)[:, None]
    return peaks, early, _Rhythm(interval, np.hypot(spread, depth / np.sqrt(2.0)), irregular)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of P, Q, R, S, T: sizes relative to R, centres and widths in seconds, each [BLOCK, 5]; how wide the QRS is [BLOCK]."""

    size: Floats
    centre: Floats
    width: Floats
    wide: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, without_p: npt.NDArray[np.bool_]) -> _Shape:
        """A morphology for each record."""
        wide = np.where(rng.random(BLOCK) < 0.2, rng.uniform(1.6, 2.6, BLOCK), rng.uniform(0.8, 1.4, BLOCK))
        size = np.stack(
            [
                rng.uniform(0.0, 0.25, BLOCK) * ~without_p,
                -rng.uniform(0.0, 0.25, BLOCK),
                np.ones(BLOCK),
                -rng.exponential(0.2, BLOCK),
                rng.normal(0.22, 0.2, BLOCK),
            ],
            axis=1,
        )
        jitter = 1.0 + rng.normal(0.0, 0.15, (2, BLOCK, 5))
        stretch = np.stack([np.ones(BLOCK), wide, wide, wide, np.ones(BLOCK)], axis=1)
        width = np.maximum(_WIDTHS * jitter[1] * stretch, 0.004)
        return cls(size, _CENTRES * jitter[0] * stretch, width, wide)


def _laid(
    rng: np.random.Generator, peaks: Floats, early: npt.NDArray[np.bool_], shape: _Shape, sizes: Floats, data: SignalData,
    towards: Floats,
) -> Waves:  # fmt: skip
    """All beats laid down, float32 [BLOCK, channels, samples]."""
    rate, channels = data.rate_hz, data.channels
    before, after = int(_BEFORE * rate), int(_AFTER * rate)
    window = np.arange(-before, after)
    # Each wave points somewhere; the first coordinate is what the first channel sees.
    points = rng.normal(0.0, 0.5, (BLOCK, 5, 3))
    points[:, :, 0] = 1.0
    seen = (points @ towards) * shape.size[:, :, None] * sizes[:, None, None]
    # An early beat has no P, is wide, and its T points the other way.
    other = seen * np.array([0.0, 1.0, 1.0, 2.0, -1.5])[None, :, None] * rng.uniform(0.7, 1.5, (BLOCK, 1, 1))
    margin = before + after
    out = np.zeros((BLOCK, channels, data.samples + 2 * margin), np.float32)
    rows = np.arange(BLOCK)
    gaps = np.diff(peaks, axis=1, prepend=2.0 * peaks[:, :1] - peaks[:, 1:2])
    for beat in range(peaks.shape[1]):
        at = np.floor(peaks[:, beat] * rate).astype(np.int64)
        shown = rows[(at >= -after) & (at < data.samples + before)]
        if not len(shown):
            continue
        time = (window[None, :] - (peaks[shown, beat] * rate - at[shown])[:, None]) / rate
        odd = early[shown, beat][:, None]
        # T follows R at a distance that grows with the square root of the interval (Bazett).
        centre = shape.centre[shown] * np.where(odd, 1.5, 1.0)
        centre[:, 4] *= np.clip(np.sqrt(np.clip(gaps[shown, beat], _SHORTEST, 2.0)), 0.5, 1.3)
        width = shape.width[shown] * np.where(odd, 2.2, 1.0)
        curves = np.exp(-0.5 * (((time[:, None, :] - centre[:, :, None]) / width[:, :, None]).astype(np.float32)) ** 2)
        amplitude = np.where(odd[:, :, None], other[shown], seen[shown]).astype(np.float32)
        beats = np.einsum("bwt,bwc->bct", curves, amplitude)
        place = at[shown, None] + window[None, :] + margin
        out[shown[:, None, None], np.arange(channels)[None, :, None], place[:, None, :]] += beats
    return out[:, :, margin : margin + data.samples]


def _flutter(rng: np.random.Generator, data: SignalData, sizes: Floats) -> Floats:
    """The wave of an irregular rhythm without P: 4 to 9 a second, of wandering rate, `sizes` [BLOCK] high."""
    rate = rng.uniform(4.0, 9.0, (BLOCK, 1)) * (1.0 + 0.3 * _slow(rng, data, 1.0))
    phase = 2.0 * np.pi * (rng.random((BLOCK, 1)) + np.cumsum(rate, axis=1) / data.rate_hz)
    wave = (np.sin(phase) + 0.4 * np.sin(2.0 * phase)) * sizes[:, None]
    return wave[:, None, :] * rng.uniform(0.3, 1.0, (BLOCK, data.channels, 1))


def _disturbance(rng: np.random.Generator, data: SignalData, sizes: Floats) -> Floats:
    """Wander, white noise, bursts of it, and hum, [BLOCK, channels, samples]; white noise has standard deviation `sizes`."""
    shape = (BLOCK, data.channels, data.samples)
    burst = 1.0 + rng.uniform(0.0, 4.0, (BLOCK, 1)) * (_slow(rng, data, 0.5) > 1.2)
    out = rng.standard_normal(shape) * (sizes[:, None] * burst)[:, None, :]
    smooth = rng.random(BLOCK) < 0.5
    out[smooth, :, 1:] = 0.6 * (out[smooth, :, 1:] + out[smooth, :, :-1])
    wander = _slow(rng, data, 0.4) * np.exp(rng.normal(np.log(0.3), 1.0, (BLOCK, 1)))
    out += wander[:, None, :] * rng.uniform(0.3, 1.0, (BLOCK, data.channels, 1))
    hum = rng.choice([50.0, 60.0], (BLOCK, 1)) * np.arange(data.samples) / data.rate_hz
    loud = np.where(rng.random(BLOCK) < 0.1, rng.uniform(0.1, 0.6, BLOCK), 0.0)
    out += (np.sin(2.0 * np.pi * (hum + rng.random((BLOCK, 1)))) * loud[:, None])[:, None, :]
    return out


def _slow(rng: np.random.Generator, data: SignalData, hertz: float) -> Floats:
    """A slow curve a record with about `hertz` turns a second, standard deviation about 1, [BLOCK, samples]."""
    frequencies = rng.uniform(0.1, 1.0, (BLOCK, 4, 1)) * hertz
    time = np.arange(data.samples) / data.rate_hz
    waves = np.sin(2.0 * np.pi * (frequencies * time + rng.random((BLOCK, 4, 1))))
    slow: Floats = waves.sum(axis=1) / np.sqrt(2.0)
    return slow


def _end_in_zeros(rng: np.random.Generator, signals: Floats) -> None:
    """One record in seven is shorter than the study's, as a source pads it."""
    samples = signals.shape[2]
    kept = np.where(rng.random(BLOCK) < 1 / 7, rng.uniform(0.3, 1.0, BLOCK), 1.0) * samples
    signals *= (np.arange(samples) < kept[:, None])[:, None, :]
