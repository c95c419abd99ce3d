"""Step 1 of 12: signals in units to the plan's scale, each record by itself; what all readers of signals share.

Comes in: signals real [m, channels, samples], in the plan's units once multiplied by `scale`. Goes out: float32
[m, channels * plan's samples], channel after channel: (value in units - centre) / typical, zeros after the end of a shorter
signal; and which records are bad. No statistic of any record is formed. `check_channels` and `check_units` raise `DataError`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData

_CHUNK = 256
_LARGEST = 1e30


def check_channels(declared: int, data: SignalData) -> None:
    """Refuse a source that names another number of channels than the plan has."""
    if declared != data.channels:
        raise DataError(
            "the source names more or fewer channels than the study asks for",
            field="channels",
            value=declared,
            limit=data.channels,
        )


def check_units(declared: tuple[str, ...], data: SignalData, remedy: str) -> None:
    """Refuse a source in other units than the plan's; one for all channels is as good as one a channel."""
    mine, asked = (units if len(set(units)) > 1 else units[:1] for units in (declared, data.units))
    if mine != asked:
        raise DataError(
            "the source is in other units than the study asks for",
            field="units",
            value=", ".join(declared),
            limit=", ".join(data.units),
            remedy=remedy,
        )


def scaled(
    signals: npt.NDArray[np.generic], data: SignalData, scale: tuple[float, ...] = (1.0,), missing: int | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows float32 [m, channels * samples], all zero where bad; missing or not finite bool [m]; flat bool [m].

    scale: plan's units per unit of `signals`, one or one a channel; missing: the count that stands for no sample.
    """
    factor, centre, typical = (np.array(each)[:, None] for each in (scale, data.centre, data.typical))
    out = np.zeros((len(signals), data.channels, data.samples), np.float32)
    broken, flat = np.zeros(len(signals), np.bool_), np.zeros(len(signals), np.bool_)
    for begin in range(0, len(signals), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        part = np.asarray(signals[rows], np.float64)
        # Bad samples are replaced before any arithmetic, so that no warning depends on a record.
        bad = ~np.isfinite(part) | (np.abs(np.nan_to_num(part)) > _LARGEST)
        if missing is not None:
            bad |= part == missing
        values = (np.where(bad, 0.0, part) * factor - centre) / typical
        broken[rows] = (bad | (np.abs(values) > _LARGEST)).any(axis=(1, 2))
        flat[rows] = (part == part[:, :, :1]).all(axis=(1, 2)) & ~broken[rows]
        values[broken[rows] | flat[rows]] = 0.0
        out[rows, :, : values.shape[2]] = values
    return out.reshape(len(signals), data.values), broken, flat
