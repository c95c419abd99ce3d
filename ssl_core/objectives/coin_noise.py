"""Step 3 of 12: Gaussian noise for a view, from one coin of the unit.

Comes in: coins float64 [...] in (0, 1], multiples of 2^-53 as `draw_coins` gives them. Goes out: float32 [..., count], mean 0
and variance 1. A coin for every value would cost an AES key schedule each; so one coin, times 2^53, is the key of Philox4x64-10
(Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3), a block function of (key,
counter) without state: counters 1, 2, ... give words w of 32 bits, lower half first, and noise is the inverse normal
distribution function of (w + 1/2) / 2^32, at most 6.3 in size.

Sensitivity. (1) Entry b is a function of coin b alone, and that coin of (step key, unit id): so `draw` keeps its promise
(objectives/base.py, 1). (2) Nothing is released but through clipping and noise, neither of which comes from here: the proof
asks of a view's coins only that they are the unit's own, not that nobody could foresee them. (3) So a generator that is not
cryptographic, and 2^53 keys, cost usefulness at most, never privacy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

_BITS = 53


def gaussian(coins: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float32]:
    """Coins [...] to normal values float32 [..., count], entry by entry."""
    out = np.empty((coins.size, count), np.float32)
    for row, key in zip(out, np.ldexp(coins.ravel(), _BITS), strict=True):
        words = np.random.Philox(key=int(key)).random_raw((count + 1) // 2).astype("<u8").view("<u4")
        row[:] = ndtri((words[:count] + 0.5) * 2.0**-32)
    return out.reshape(*coins.shape, count)
