"""Before step 1, at the operator: the sounds of a heart that nobody has: first and second sounds, extra ones, murmurs.

Comes in: a generator, a number of samples and their rate, the breathing (lung_sounds.py). Goes out: `Heart` with float64
[samples], the first sound about 1 high, and what it was made from. A sound of a valve is a few Gaussian windows times a wave,
as in Almasi, Shamsollahi and Senhadji, "A dynamical model for generating synthetic phonocardiogram signals" (EMBC 2011);
different: laid down directly, sizes and places are drawn far beyond what is normal. From the first to the second sound it
takes .486 s less .0021 s for each beat a minute: Weissler, Harris and Schoenfeld, "Systolic time intervals in heart failure
in man" (Circulation 37, 1968), from Q to the second sound, less .06 s from Q to the first. The second sound splits wider
while breathing in. Murmurs are noise of a band under an envelope: ejection, rising and falling; holosystolic, even from sound
to sound (Leatham, "Systolic murmurs", Circulation 17, 1958); early diastolic, falling from the second sound on; a rumble, low,
from mid diastole, louder before the next beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssl_core.procedural.lung_sounds import Breath
from ssl_core.procedural.noise import band_noise, within

Floats = npt.NDArray[np.float64]

MURMURS = ("ejection", "holosystolic", "early diastolic", "rumble")
_SYSTOLIC, _DIASTOLIC = 0.28, 0.24
_EXTRA = 0.15
_SLOWEST, _FASTEST = 40.0, 160.0
# Hertz of each murmur: the lowest and the highest that its lower and its upper edge can be.
_BANDS = {
    "ejection": ((50.0, 100.0), (220.0, 450.0)),
    "holosystolic": ((90.0, 180.0), (350.0, 600.0)),
    "early diastolic": ((140.0, 250.0), (400.0, 700.0)),
    "rumble": ((25.0, 45.0), (90.0, 150.0)),
}
_WINDOW = 4.0


@dataclass(frozen=True, slots=True)
class Heart:
    """float64 [samples]; beats a minute; whether intervals wander; the names of its murmurs; third and fourth sound."""

    sound: Floats
    rate: float
    uneven: bool
    murmurs: frozenset[str]
    third: bool
    fourth: bool


def heart(rng: np.random.Generator, samples: int, rate_hz: float, breath: Breath) -> Heart:
    """A heart of its own rate, valves and murmurs."""
    rate = float(np.clip(np.exp(rng.normal(np.log(76.0), 0.25)), _SLOWEST, _FASTEST))
    uneven = bool(rng.random() < 0.2)
    present = frozenset(_murmurs(rng))
    third, fourth = (bool(drawn < _EXTRA) for drawn in rng.random(2))
    firsts, seconds = _beats(rng, samples / rate_hz, rate, uneven)
    out = np.zeros(samples)
    voice = _Voice.draw(rng)
    for first, second in zip(firsts, seconds, strict=True):
        voice.lay(out, rate_hz, first, second, breath.inside(second))
    if third:
        _extra(rng, out, rate_hz, seconds + rng.uniform(0.12, 0.18))
    if fourth:
        _extra(rng, out, rate_hz, firsts - rng.uniform(0.09, 0.14))
    for name in MURMURS:
        if name in present:
            low, high = (rng.uniform(*edge) for edge in _BANDS[name])
            noise = band_noise(rng, samples, rate_hz, low, high, steep=3)
            out += (
                noise * _envelope(rng, name, samples, rate_hz, firsts, seconds) * np.exp(rng.uniform(np.log(0.06), np.log(0.4)))
            )
    return Heart(out, rate, uneven, present, third, fourth)


def _murmurs(rng: np.random.Generator) -> list[str]:
    """None, one or two: of a systolic and a diastolic one each of its two kinds."""
    drawn, kind = rng.random(2), rng.integers(0, 2, 2)
    found = [MURMURS[kind[0]]] if drawn[0] < _SYSTOLIC else []
    return found + ([MURMURS[2 + kind[1]]] if drawn[1] < _DIASTOLIC else [])


def _beats(rng: np.random.Generator, seconds: float, rate: float, uneven: bool) -> tuple[Floats, Floats]:
    """Times of the first and the second sounds, from before the record to after it."""
    interval = 60.0 / rate
    count = int(seconds / interval * 1.6) + 5
    gaps = interval * np.maximum(1.0 + rng.normal(0.0, 0.2 if uneven else 0.02, count), 0.5)
    firsts = np.cumsum(gaps) - gaps[0] - interval * (1.0 + rng.random())
    systole = np.clip((0.486 - 0.0021 * 60.0 / gaps) * rng.uniform(0.92, 1.08), 0.14, 0.6 * gaps)
    return firsts, firsts + systole


@dataclass(frozen=True, slots=True)
class _Voice:
    """Of the four valves (mitral, tricuspid; aortic, pulmonary): sizes, hertz, widths in seconds, phases, each [4]."""

    size: Floats
    hertz: Floats
    width: Floats
    phase: Floats
    apart: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Voice:
        second = rng.uniform(0.4, 1.3)
        return cls(
            size=np.array([1.0, rng.uniform(0.3, 0.8), second, second * rng.uniform(0.3, 0.8)]),
            hertz=rng.uniform([30.0, 40.0, 45.0, 40.0], [75.0, 95.0, 120.0, 100.0]),
            width=rng.uniform([0.016, 0.012, 0.009, 0.009], [0.03, 0.025, 0.018, 0.018]),
            phase=rng.uniform(0.0, 2.0 * np.pi, 4),
            # The tricuspid after the mitral valve; the pulmonary after the aortic one, breathing out and in.
            apart=np.array([rng.uniform(0.015, 0.03), rng.uniform(0.0, 0.025), rng.uniform(0.03, 0.06)]),
        )

    def lay(self, out: Floats, rate_hz: float, first: float, second: float, inside: bool) -> None:
        """Add one beat's two sounds to `out`."""
        times = (first, first + self.apart[0], second, second + self.apart[2 if inside else 1])
        for valve, at in enumerate(times):
            _wave(out, rate_hz, at, self.size[valve], self.hertz[valve], self.width[valve], self.phase[valve])


def _wave(out: Floats, rate_hz: float, at: float, size: float, hertz: float, width: float, phase: float) -> None:
    part = within(at - _WINDOW * width, at + _WINDOW * width, rate_hz, len(out))
    if part.start < part.stop:
        time = np.arange(part.start, part.stop) / rate_hz - at
        out[part] += size * np.exp(-0.5 * np.square(time / width)) * np.cos(2.0 * np.pi * hertz * time + phase)


def _extra(rng: np.random.Generator, out: Floats, rate_hz: float, times: Floats) -> None:
    """A third or a fourth sound: low and soft."""
    size, hertz, width = rng.uniform(0.12, 0.4), rng.uniform(22.0, 50.0), rng.uniform(0.014, 0.024)
    for at in times:
        _wave(out, rate_hz, at, size, hertz, width, 0.0)


def _envelope(rng: np.random.Generator, name: str, samples: int, rate_hz: float, firsts: Floats, seconds: Floats) -> Floats:
    """How loud the murmur is at each sample, 0 to 1."""
    peak, rest = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.9)
    shapes: dict[str, Callable[[Floats], Floats]] = {
        "ejection": lambda part: np.minimum(part / peak, (1.0 - part) / (1.0 - peak)),
        "holosystolic": lambda part: np.clip(8.0 * np.minimum(part, 1.0 - part), 0.0, 1.0),
        "early diastolic": lambda part: np.clip(1.0 - part / rest, 0.0, 1.0),
        "rumble": lambda part: np.clip(6.0 * (part - 0.2), 0.0, 0.5) + np.clip(2.5 * (part - 0.75), 0.0, 0.5),
    }
    diastolic = name in MURMURS[2:]
    starts, ends = (seconds[:-1], firsts[1:]) if diastolic else (firsts, seconds)
    margin = 0.03 if name == "ejection" else 0.0
    out = np.zeros(samples)
    for start, end in zip(starts + margin, ends - margin, strict=True):
        part = within(start, end, rate_hz, samples)
        out[part] = shapes[name]((np.arange(part.start, part.stop) / rate_hz - start) / (end - start))
    return out
