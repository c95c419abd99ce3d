"""Step 3 of 12: another look at a record, by its coins alone: part of it, mirrored, louder or fainter, shifted, with noise.

Comes in: records float32 [..., V] as in `Patients.records` and their coins float64 [..., COINS] in (0, 1]: the first PLACE
say which part is shown, the other LOOK how. Goes out: float32 [..., V], each a function of its own record and coins.
  images:  a part of at least `crop` of each side, resampled to the whole (bilinear); `flip` mirrors left and right
  signals: a stretch of at least `crop` of the time, at another time, zeros elsewhere; `flip` changes the sign
  both:    times exp(+- gain), plus an offset of +- gain (signals: a slow wave of that size, one to four turns in the
           record), plus noise of standard deviation `noise` in the record's units.
With `parts` a view shows a part of its own window of the record alone, of which `crop` is then a share; parts_of_records
cuts a record into windows that do not overlap.
Crop as in Chen et al., "A Simple Framework for Contrastive Learning" (ICML 2020), appendix A, without changing the shape of
the part; a signal is not stretched, since its rates mean something. Noise is read from a fixed public table at a place
that a coin chooses, so that a view costs seven coins and not one a pixel.
Nothing is said of values that are not finite, so that no warning depends on a record.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_core.objectives.base import choose
from ssl_core.spec.data import ImageData, SignalData
from ssl_core.spec.looks import grid_of

PLACE, LOOK = 4, 3
COINS = PLACE + LOOK

_MOST_TURNS = 4
_TABLE = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)

Floats = npt.NDArray[np.float32]
Coins = npt.NDArray[np.float64]
Windows = npt.NDArray[np.int64]


class Augmentation(NamedTuple):
    """How different a look may be; public constants of the plan."""

    crop: float
    gain: float
    noise: float
    flip: bool


def parts_of_records(data: ImageData | SignalData, count: int) -> Windows:
    """`count` windows that do not overlap, int64 [count, axes, 2]: first line and first beyond it, rows and columns or time."""
    if isinstance(data, SignalData):
        return _edges(data.samples, count)[:, None]
    rows, columns = grid_of(count)
    down, across = _edges(data.height // data.pool, rows), _edges(data.width // data.pool, columns)
    return np.stack((down.repeat(columns, axis=0), np.tile(across, (rows, 1))), axis=1)[:count]


def _edges(size: int, count: int) -> Windows:
    lines = np.arange(count + 1) * size // count
    return np.stack((lines[:-1], lines[1:]), axis=1)


def augmented(
    records: Floats, coins: Coins, data: ImageData | SignalData, how: Augmentation, parts: Windows | None = None
) -> Floats:
    """Records [..., V] and coins [..., COINS] to one look at each, float32 [..., V]; `parts` int64 [..., axes, 2]: windows."""
    flat, own = records.reshape(-1, records.shape[-1]), coins.reshape(-1, COINS)
    windows = parts_of_records(data, 1) if parts is None else parts
    windows = np.broadcast_to(windows, (*records.shape[:-1], *windows.shape[-2:])).reshape(-1, *windows.shape[-2:])
    with np.errstate(all="ignore"):
        if isinstance(data, ImageData):
            height, width = data.height // data.pool, data.width // data.pool
            shown = _part_of_images(flat.reshape(-1, height, width), own[:, :PLACE], windows, how)
            added = how.gain * (2.0 * own[:, PLACE + 1, None] - 1.0)
        else:
            shown = _part_of_signals(flat.reshape(-1, data.channels, data.samples), own[:, :PLACE], windows[:, 0], how)
            added = np.tile(_waves(own[:, PLACE + 1], data.samples, how.gain), (1, data.channels))
        louder = np.exp(how.gain * (2.0 * own[:, PLACE, None] - 1.0))
        noise = how.noise * _noise(own[:, PLACE + 2], flat.shape[1])
        looked: Floats = (shown.reshape(flat.shape) * louder + added + noise).astype(np.float32)
    return looked.reshape(records.shape)


def _part_of_images(images: Floats, coins: Coins, windows: Windows, how: Augmentation) -> Floats:
    """Images [m, h, w] to parts of their windows [m, 2, 2], drawn to the same size; a part is `share` of each side."""
    share = how.crop + (1.0 - how.crop) * coins[:, 0]
    rows = _between(images.shape[1], windows[:, 0], share, coins[:, 1])
    columns = _between(images.shape[2], windows[:, 1], share, coins[:, 2])
    if how.flip:
        columns = np.where(coins[:, 3, None] <= 0.5, columns[:, ::-1], columns)
    return _at(_at(images, rows, axis=1), columns, axis=2)


def _between(size: int, windows: Windows, share: Coins, coin: Coins) -> Coins:
    """Where the `size` pixels of each view lie along a side of the record, float64 [m, size], inside its window [m, 2]."""
    first, beyond = windows[:, :1], windows[:, 1:]
    extent = beyond - first
    begin = (coin * (1.0 - share))[:, None] * extent + first
    found: Coins = np.clip(begin + (np.arange(size) + 0.5) * (share[:, None] * (extent / size)) - 0.5, first, beyond - 1.0)
    return found


def _at(images: Floats, places: Coins, *, axis: int) -> Floats:
    """Linear interpolation of images [m, h, w] along `axis` at places [m, size]."""
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, images.shape[axis] - 1)
    far, below, above = (np.expand_dims(part, 3 - axis) for part in (places - below, below, above))
    near = np.take_along_axis(images, below, axis=axis)
    found: Floats = near + far.astype(np.float32) * (np.take_along_axis(images, above, axis=axis) - near)
    return found


def _part_of_signals(signals: Floats, coins: Coins, windows: Windows, how: Augmentation) -> Floats:
    """Signals [m, channels, samples] to a stretch of each one's window [m, 2] at another time, zeros elsewhere."""
    samples, extent = signals.shape[2], windows[:, 1] - windows[:, 0]
    kept = np.ceil((how.crop + (1.0 - how.crop) * coins[:, 0]) * extent).astype(np.int64)
    begin = (windows[:, 0] + choose(coins[:, 1], extent - kept + 1))[:, None]
    put = choose(coins[:, 2], samples - kept + 1)[:, None]
    time = np.arange(samples) - put
    source = np.clip(time + begin, 0, samples - 1)
    found = np.take_along_axis(signals, source[:, None, :], axis=2)
    sign = np.where(coins[:, 3, None] <= 0.5, -1.0, 1.0) if how.flip else np.ones((len(signals), 1))
    shown = np.where(((time >= 0) & (time < kept[:, None]))[:, None, :], found, np.float32(0))
    signed: Floats = (shown * sign[:, :, None]).astype(np.float32)
    return signed


def _waves(coins: Coins, samples: int, size: float) -> Coins:
    """A slow wave for each coin, float64 [m, samples]: one to _MOST_TURNS turns, and a phase from its last bits."""
    turns = 1.0 + (_MOST_TURNS - 1.0) * coins[:, None]
    phase = 2.0 * np.pi * np.modf(coins * 1024.0)[0][:, None]
    wave: Coins = size * np.sin(2.0 * np.pi * turns * np.arange(samples) / samples + phase)
    return wave


def _noise(coins: Coins, values: int) -> Floats:
    """float32 [m, values]: the fixed table from a place on, over its end to its beginning."""
    begin = choose(coins, np.full(coins.shape, len(_TABLE), np.int64))
    read: Floats = _TABLE[(begin[:, None] + np.arange(values)) % len(_TABLE)]
    return read
