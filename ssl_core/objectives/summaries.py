"""Step 3 of 12: what masked autoencoding may predict of a whole record, from its seen patches: a function of that record alone.

Comes in: records float32 [..., V] as an encoder takes them. Goes out: float32 [..., S], S a function of the plan. A target by
hand in place of contents: for images as the histograms of a hidden square in Wei et al., "Masked Feature Prediction for
Self-Supervised Visual Pre-Training" (CVPR 2022), section 3, but of the whole image; for signals as the workers that predict a
power spectrum and prosody in Pascual et al., "Learning Problem-agnostic Speech Representations from Multiple Self-supervised
Tasks" (Interspeech 2019), section 2, but one vector a record, not one a frame.

  picture, sound: over a grid of 8 x 8 cells, fewer where a cell would have a side below 2 pixels: each cell's mean, then each
      cell's ln(0.01 + variance) / 2. Where 8 does not divide a side, sides of cells differ by one pixel.
  signal: of each channel by itself, one after the other: over its pieces, mean and standard deviation of log_power / 2
      (targets.py) at each frequency; then 3 times the autocorrelation, at lags of 0.25 to 2.25 s, of ln(0.01 + s), s the mean
      of |x_(n+1) - x_n| over twentieths of a second: a beat's rate, and how regular it is. Lags of more than half a record are
      left out. Of t such values e_i around their mean: sum of e_i e_(i + lag) / (sum of e_i^2 + t / 10^6).

The constants are fixed and make entries of order 1; nothing is fitted. Sums run over one record at a time, in float64, so that
how one is rounded depends on no other; nothing is said of values that are not finite, so that no warning depends on a record.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import torch

from ssl_core.objectives.targets import log_power
from ssl_core.spec.data import Picture, SignalData

Floats = npt.NDArray[np.float32]

_CELLS = 8
_LEAST_SIDE = 2
_LEAST = 1e-2
_WINDOWS_HZ = 20.0
_LAGS_SECONDS = (0.25, 2.25)
_LEAST_SQUARE = 1e-6
# Of generated beats an autocorrelation deviates by .3 from one record to the next, the mean at a frequency by .75.
_RHYTHM = 3.0


def summary(records: Floats, data: Picture | SignalData, piece: int) -> Floats:
    """Records [..., V] to float32 [..., S]; `piece`: samples of a piece of a signal. See the module docstring."""
    lead = records.shape[:-1]
    if not isinstance(data, SignalData):
        return _cells(records.reshape(*lead, data.height // data.pool, data.width // data.pool))
    channels = records.reshape(*lead, data.channels, data.samples)
    each = np.concatenate([_spectrum(channels, piece), _rhythm(channels, data.rate_hz)], axis=-1)
    return each.reshape(*lead, data.channels * each.shape[-1])


def summary_size(data: Picture | SignalData, piece: int) -> int:
    """S: how many numbers a summary has."""
    return len(summary(np.zeros(data.values, np.float32), data, piece))


def _cells(pictures: Floats) -> Floats:
    """Pictures [..., h, w] to [..., 2 * cells], row by row."""
    edges = []
    for side in pictures.shape[-2:]:
        count = min(_CELLS, max(side // _LEAST_SIDE, 1))
        edges.append(list(pairwise(side * number // count for number in range(count + 1))))
    means, deviations = [], []
    with np.errstate(all="ignore"):
        for (top, bottom), (left, right) in product(*edges):
            cell = pictures[..., top:bottom, left:right].astype(np.float64, order="C")
            flat = cell.reshape(*cell.shape[:-2], (bottom - top) * (right - left))
            means.append(flat.mean(axis=-1))
            deviations.append(np.log(_LEAST + flat.var(axis=-1)) / 2.0)
        return np.stack([*means, *deviations], axis=-1).astype(np.float32)


def _spectrum(channels: Floats, piece: int) -> Floats:
    """Channels [..., C, samples] to [..., C, 2 * (piece // 2)]: means at all frequencies, then standard deviations."""
    pieces = channels.reshape(*channels.shape[:-1], channels.shape[-1] // piece, piece)
    power = log_power(torch.from_numpy(pieces)).numpy()
    # The pieces last: numpy then adds up those of one record after those of another.
    halves = np.ascontiguousarray(power.swapaxes(-1, -2), np.float64) / 2.0
    with np.errstate(all="ignore"):
        return np.concatenate([halves.mean(axis=-1), halves.std(axis=-1)], axis=-1).astype(np.float32)


def _rhythm(channels: Floats, rate_hz: float) -> Floats:
    """Channels [..., C, samples] to [..., C, lags], the shortest lag first; of a slow or short signal no lag may be left."""
    lead, window = channels.shape[:-1], max(round(rate_hz / _WINDOWS_HZ), 1)
    count = (channels.shape[-1] - 1) // window
    shortest, longest = _LAGS_SECONDS
    lags = [lag for lag in range(1, count // 2 + 1) if shortest <= lag * window / rate_hz <= longest]
    if not lags:
        return np.zeros((*lead, 0), np.float32)
    with np.errstate(all="ignore"):
        used = count * window
        steps = np.subtract(channels[..., 1 : used + 1], channels[..., :used], dtype=np.float64)
        np.abs(steps, out=steps)
        envelope = np.log(_LEAST + steps.reshape(*lead, count, window).mean(axis=-1))
        centred = envelope - envelope.mean(axis=-1, keepdims=True)
        power = np.square(centred).sum(axis=-1) + count * _LEAST_SQUARE
        found = [(centred[..., lag:] * centred[..., :-lag]).sum(axis=-1) / power for lag in lags]
        return (_RHYTHM * np.stack(found, axis=-1)).astype(np.float32)
