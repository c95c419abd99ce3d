"""Step 3 of 12: segments of a signal for the tasks that compare parts of one record, and which of them say anything.

Comes in: records float32 [B, K, channels * samples], channel after channel. Goes out: float32 [B, K, ..., channels, length].
A record has S places of samples // S samples each; a segment is `gap` samples shorter than its place and begins up to `gap`
late by a coin of its own, so that it fits whole. A segment in which no channel changes (the zeros after a short record, a
lead that is off) is absent: neither asked for nor compared with. So is a tile of an image that is all one shade (jigsaw.py).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ssl_core.objectives.base import choose


def begins(places: npt.NDArray[np.int64], coins: npt.NDArray[np.float64], part: int, gap: int) -> npt.NDArray[np.int64]:
    """First samples of segments at the numbers `places` [...] of places of `part` samples, by their coins [...]."""
    found: npt.NDArray[np.int64] = places * part + choose(coins, np.full(coins.shape, gap + 1, np.int64))
    return found


def cut(
    records: npt.NDArray[np.float32], begin: npt.NDArray[np.int64], *, channels: int, length: int
) -> npt.NDArray[np.float32]:
    """Records [B, K, channels * samples] to segments [B, K, ..., channels, length] from samples `begin` int64 [B, K, ...]."""
    lead, parts = records.shape[:2], begin.shape[2:]
    signals = records.reshape(*lead, channels, records.shape[2] // channels)
    times = (begin[..., None] + np.arange(length)).reshape(*lead, 1, math.prod(parts) * length)
    taken = np.take_along_axis(signals, times, axis=3).reshape(*lead, channels, *parts, length)
    return np.ascontiguousarray(np.moveaxis(taken, 2, -2))


def present(segments: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Segments [..., channels, length] to bool [...]: some channel changes."""
    found: npt.NDArray[np.bool_] = (segments != segments[..., :1]).any(axis=(-2, -1))
    return found


def asked(found: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Parts that are present, bool [B, K, S], to their weights in a unit's loss, float32 [B, K, S].

    A record counts 1 / K, in equal shares of its parts that are present; fewer than two of them ask nothing.
    """
    count = found.sum(axis=-1, keepdims=True)
    weights: npt.NDArray[np.float32] = np.where(found & (count >= 2), 1.0 / (found.shape[1] * np.maximum(count, 1)), 0.0)
    return weights.astype(np.float32)
