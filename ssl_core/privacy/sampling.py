"""Step 2 of 12: the Poisson sample of a step: every unit enters by its own coin with the public probability q.

Comes in: unit tags uint8 [n, 16], q, the step's coins. Goes out: index int64 [B] of the sampled units, ascending; B is
random and may be 0. A unit's coin is a function of (step key, unit id) alone, so adding or removing a unit changes no
other unit's coin, and the chance is at most q exactly: floor(q 2^53) / 2^53 (ruling 17).
No permutation, no fixed batch size, no truncation: those would void the amplification that the accountant counts on
(Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019).

What a device takes at once is a physical batch, and a unit's neighbours in it can change how its part of a sum is rounded
(bookkeeping.py). So a sample is parted into groups by a further coin of each unit, their number a public function of
plan and speed: one patient's absence leaves every other group as it was, to the last bit.
Buckets, whose units a `BucketModel` compares, are groups by a coin of their own that are never split: buckets.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ssl_core.errors import PrivacyError
from ssl_core.objectives.base import choose
from ssl_core.trust.random import UnitCoins

_COIN = "sample"
_DRAW = "draw"
_GROUP = "group"
_BUCKET = "bucket"
_FILL = 0.8


def poisson_sample(tags: npt.NDArray[np.uint8], rate: float, coins: UnitCoins) -> npt.NDArray[np.int64]:
    """Index int64 [B] of the units whose coin, uniform in (0, 1], is at most `rate`; every unit throws one.

    `PrivacyError` for coins that are not exactly ours: amplification by sampling holds for coins that nobody else can know.
    """
    if type(coins) is not UnitCoins:
        raise PrivacyError("coins are not ours", field="coins", value=type(coins).__name__, limit=UnitCoins.__name__)
    if not 0.0 < rate <= 1.0:
        raise PrivacyError("sampling rate is no probability", field="sampling_rate", value=rate, limit="(0, 1]")
    return np.flatnonzero(coins.uniform(tags, _COIN, 1)[:, 0] <= rate).astype(np.int64, copy=False)


def draw_coins(tags: npt.NDArray[np.uint8], coins: UnitCoins, count: int) -> npt.NDArray[np.float64]:
    """float64 [B, count] uniforms for the views of the sampled units; independent of the coins that sampled them."""
    return coins.uniform(tags, _DRAW, count)


def group_count(rate: float, nominal_size: int, size: int) -> int:
    """Into how many groups a sample at `rate` of a nominal site is parted, so that few have more than `size` units."""
    return max(1, math.ceil(rate * nominal_size / (_FILL * size)))


def group_room(rate: float, nominal_size: int, groups: int) -> int:
    """How many units each of so many groups has room for, so that few groups of a nominal site have more: a public number."""
    return max(1, math.ceil(rate * nominal_size / (_FILL * groups)))


def batches(
    index: npt.NDArray[np.int64], tags: npt.NDArray[np.uint8], coins: UnitCoins, *, groups: int, size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Parts of the sample `index` [B], whose units have `tags` uint8 [B, 16]: group by group, each at most `size` units.

    A larger group is split, never truncated; a group's order is that of `index`; empty groups give no part.
    """
    for _, part in _by_coin(index, coins.uniform(tags, _GROUP, 1)[:, 0], groups):
        for first in range(0, len(part), size):
            yield part[first : first + size]


def bucket_count(rate: float, nominal_size: int, bucket_size: int) -> int:
    """Into how many buckets of `bucket_size` units on the average a sample at `rate` of a nominal site falls."""
    return max(1, math.ceil(rate * nominal_size / bucket_size))


def buckets(
    index: npt.NDArray[np.int64], tags: npt.NDArray[np.uint8], coins: UnitCoins, *, count: int
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """(number in 0 .. count - 1, units) of each bucket that has units: the sample `index` [B] by a coin of each unit.

    Whole, whatever its size, in the order of `index`; a unit's bucket depends on no other unit.
    """
    return _by_coin(index, coins.uniform(tags, _BUCKET, 1)[:, 0], count)


def _by_coin(
    index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64], count: int
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """The parts of `index` [B], of equal chance by `uniforms` [B]; empty ones left out."""
    places = choose(uniforms, np.full(len(index), count, np.int64))
    order = places.argsort(kind="stable")
    bounds = np.searchsorted(places[order], np.arange(count + 1))
    for number, (begin, end) in enumerate(pairwise(bounds)):
        if begin < end:
            yield number, index[order[begin:end]]
