"""Before step 1, at the operator: what generated sounds are laid down with: noise of a band of frequencies, samples of a span.

Comes in: a generator and the band's edges in hertz. Goes out: float64 [samples] of root mean square 1. The amplitude of a
frequency f is that of Butterworth's filters (Wireless Engineer 7, 1930), 1 / sqrt(1 + (f / high)^2n) above and likewise below,
n = 2^(steep - 1).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def band_noise(rng: np.random.Generator, samples: int, rate_hz: float, low: float, high: float, *, steep: int = 2) -> Floats:
    """Gaussian noise from `low` to `high` hertz; `steep`: see above."""
    hertz = np.maximum(np.fft.rfftfreq(samples, 1.0 / rate_hz), 1e-3)
    above, below = hertz / high, low / hertz
    for _ in range(steep):
        above, below = np.square(above), np.square(below)
    # White noise is as white in frequency, so one transform is enough.
    parts = rng.standard_normal((2, len(hertz)))
    found = np.fft.irfft((parts[0] + 1j * parts[1]) / np.sqrt((1.0 + above) * (1.0 + below)), samples)
    out: Floats = found / np.sqrt(np.mean(np.square(found)))
    return out


def pink_noise(rng: np.random.Generator, samples: int, rate_hz: float) -> Floats:
    """Noise whose power falls with one over the frequency, from 10 hertz on; root mean square 1."""
    hertz = np.maximum(np.fft.rfftfreq(samples, 1.0 / rate_hz), 10.0)
    parts = rng.standard_normal((2, len(hertz)))
    found = np.fft.irfft((parts[0] + 1j * parts[1]) / np.sqrt(hertz), samples)
    out: Floats = found / np.sqrt(np.mean(np.square(found)))
    return out


def within(start: float, end: float, rate_hz: float, samples: int) -> slice:
    """The samples from `start` to `end` in seconds, `end` left out, of a record of so many."""
    first, last = (min(max(math.ceil(at * rate_hz), 0), samples) for at in (start, end))
    return slice(first, last)
