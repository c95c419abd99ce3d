"""Step 1 of 12: one recording to records: channels chosen, units and rate brought to the plan's, pieces cut and scaled.

Comes in: channels float64 [samples] of one file with their units and rates, the declaration, the plan's data. Goes out:
`Found` records float32 [channels * samples], or a `Fault`. Nothing but the file, the declaration and the plan has a part in it.

A rate within 10 millionths of the plan's is the plan's. Resampling: scipy's polyphase filter (Kaiser window, beta 5, cut off
at the lower Nyquist rate), up / down in lowest terms, each at most 2,000; beyond its ends a recording goes on with its first
and last value. A sample that is missing makes those missing that the filter would mix it with. Pieces: of a recording of L
samples and pieces of n, W = min(windows, L // n), at least 1; piece i starts at floor(i (L - n) / (W - 1)), a single one in
the middle.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared_recordings import PiecesSource, RecordingSource
from ssl_core.data.decoding import Found
from ssl_core.data.reading import Fault
from ssl_core.data.scaling import check_channels, check_units, scaled
from ssl_core.spec.data import SignalData

Floats = npt.NDArray[np.float64]

_MOST_TERM = 2000
# EDF writes a duration in eight characters, so that a rate comes out a little beside itself.
_SAME_RATE = 1e-5
_BASES = ("V", "A", "Pa", "T", "W", "Hz")
# Both code points that are printed as the micro sign.
_PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "c": -2, "d": -1, "": 0, "h": 2, "k": 3, "M": 6}


@dataclass(frozen=True, slots=True)
class Channel:
    """Values float64 [samples] in `unit`, NaN where there is none."""

    values: Floats = field(repr=False)
    unit: str = field(repr=False)
    rate_hz: float = field(repr=False)


def check_meaning(source: RecordingSource, data: SignalData) -> None:
    """`DataError` where the declaration does not name the plan's channels and units."""
    check_channels(len(source.channels), data)
    check_units(source.units, data, "declare the study's units: files in another power of ten of them are converted")


def chosen(present: Sequence[Collection[str]], wanted: Sequence[Sequence[str]]) -> list[int] | Fault:
    """The places of the wanted channels; `present`: the names of each channel of the file.

    A channel is the one that bears the first of its alternative names that any bears; `CHANNELS` where none does, or several.
    """
    out = []
    for names in wanted:
        bearers = next((found for name in names if (found := [i for i, each in enumerate(present) if name in each])), [])
        if len(bearers) != 1:
            return Fault.CHANNELS
        out += bearers
    return out if len(set(out)) == len(out) else Fault.CHANNELS


def power_of_ten(unit: str, asked: str) -> int | None:
    """Powers of ten from `unit` to `asked` (mV, V: -3); None where they are not of one kind."""
    if unit == asked:
        return 0
    mine, theirs = _split(unit), _split(asked)
    return None if mine is None or theirs is None or mine[0] != theirs[0] else mine[1] - theirs[1]


def _split(unit: str) -> tuple[str, int] | None:
    for base in _BASES:
        prefix = unit.removesuffix(base)
        if prefix != unit and prefix in _PREFIXES:
            return base, _PREFIXES[prefix]
    return None


def most_samples(source: PiecesSource) -> int:
    """Samples of all channels of one recording: what the largest file would hold of 16 bits each."""
    return source.largest_mib << 19


def at_rate(values: Floats, rate_hz: float, source: PiecesSource, asked_hz: float) -> Floats | Fault:
    """Values float64 [samples] at `rate_hz` to [ceil(samples * up / down)] at the plan's rate."""
    if math.isclose(rate_hz, asked_hz, rel_tol=_SAME_RATE):
        return values
    if not source.resample or not 1e-3 <= rate_hz <= 1e7:
        return Fault.RATE
    ratio = Fraction(asked_hz).limit_denominator(10**6) / Fraction(rate_hz).limit_denominator(10**6)
    up, down = ratio.numerator, ratio.denominator
    if max(up, down) > _MOST_TERM:
        return Fault.RATE
    if len(values) * up // down > most_samples(source):
        return Fault.TOO_LARGE
    if not len(values):
        return values
    from scipy.signal import resample_poly

    # The filter would make infinities missing too, and warn; a sample beyond float32 is missing anyway.
    finite = np.where(np.abs(values) <= 1e30, values, np.nan)
    out: Floats = resample_poly(finite, up, down, padtype="edge")
    return out


def starts(length: int, samples: int, windows: int) -> list[int]:
    """Where the pieces of a recording start, by its length alone; see the module docstring."""
    count = min(windows, max(1, length // samples))
    spare = max(0, length - samples)
    return [spare // 2] if count == 1 else [number * spare // (count - 1) for number in range(count)]


def records(
    channels: Sequence[Channel], source: RecordingSource, data: SignalData, *, owner: str | None, start: str
) -> list[Found]:
    """The recording's pieces, channels in the plan's order; `start`: when it began, as text in the order of time."""
    fault: Fault | None = None
    factors: list[float] = []
    lines: list[Floats] = []
    units = data.units if len(data.units) > 1 else data.units * data.channels
    for channel, unit in zip(channels, units, strict=True):
        power = power_of_ten(channel.unit, unit)
        line = at_rate(channel.values, channel.rate_hz, source, data.rate_hz)
        if power is None or isinstance(line, Fault):
            fault = fault or (line if isinstance(line, Fault) and power is not None else Fault.UNITS)
            continue
        factors.append(10.0**power)
        lines.append(line)
    if fault is not None:
        return [Found(owner, start, fault)]
    length = min(len(line) for line in lines)
    if length == 0:
        return [Found(owner, start, Fault.EMPTY)]
    if length < data.samples and not source.pad:
        return [Found(owner, start, Fault.SHAPE)]
    places = starts(length, data.samples, source.windows)
    ends = [min(length, place + data.samples) for place in places]
    pieces = np.stack([[line[a:b] for line in lines] for a, b in zip(places, ends, strict=True)])
    rows, broken, flat = scaled(pieces, data, tuple(factors))
    faults = np.where(broken, 1, np.where(flat, 2, 0))
    return [Found(owner, start, (row, Fault.MISSING, Fault.FLAT)[bad]) for row, bad in zip(rows, faults.tolist(), strict=True)]
