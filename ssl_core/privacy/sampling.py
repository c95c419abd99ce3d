"""Step 2 of 12: the Poisson sample of a step: every unit enters by its own coin with the public probability q.

Comes in: unit tags uint8 [n, 16], q, the step's coins. Goes out: index int64 [B] of the sampled units, ascending; B is
random and may be 0. A unit's coin is a function of (step key, unit id) alone, so adding or removing a unit changes no
other unit's coin, and the chance is at most q exactly: floor(q 2^53) / 2^53 (ruling 17).
No permutation, no fixed batch size, no truncation: those would void the amplification that the accountant counts on
(Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ssl_core.errors import PrivacyError
from ssl_core.trust.random import UnitCoins

_COIN = "sample"
_DRAW = "draw"


def poisson_sample(tags: npt.NDArray[np.uint8], rate: float, coins: UnitCoins) -> npt.NDArray[np.int64]:
    """Index int64 [B] of the units whose coin, uniform in (0, 1], is at most `rate`; every unit throws one."""
    if not 0.0 < rate <= 1.0:
        raise PrivacyError("sampling rate is no probability", field="sampling_rate", value=rate, limit="(0, 1]")
    return np.flatnonzero(coins.uniform(tags, _COIN, 1)[:, 0] <= rate).astype(np.int64, copy=False)


def draw_coins(tags: npt.NDArray[np.uint8], coins: UnitCoins, count: int) -> npt.NDArray[np.float64]:
    """float64 [B, count] uniforms for the views of the sampled units; independent of the coins that sampled them."""
    return coins.uniform(tags, _DRAW, count)


def chunks(index: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Consecutive parts of `index` of at most `size` units: a large sample is split, never truncated."""
    for begin in range(0, len(index), size):
        yield index[begin : begin + size]
