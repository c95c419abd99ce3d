"""Step 1 of 12: reader of npz signal arrays; values are scaled by constants of the plan and the declaration alone.

Comes in: a declared npz file with signals float32 (in the declared units) or int16 (counts, times the declared `scale`)
[m, channels, samples], for one channel also [m, samples], and patients text or integer [m]. Goes out: a `Reading` with
float32 [m, channels * samples], channel after channel: (value in units - centre) / typical, no statistic of any record.
A zero row stands for a signal with a sample that is missing or not finite (beyond 1e30 too), and for one in which no
channel ever changes. Raises `DataError` for what concerns the whole file: it cannot be read, lacks a field, an array has
another shape or type, or the declared rate or units are not the plan's: nothing is resampled or converted unasked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_core.data.declared import SignalSource
from ssl_core.data.npz import fields_of, names_of, owners_of
from ssl_core.data.npz_arrays import Form, NpzArrays
from ssl_core.data.reading import Fault, Reading, Tally
from ssl_core.data.scaling import check_units, scaled
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData


def read_signals(source: SignalSource, files: tuple[Path, ...], data: SignalData) -> Reading:
    """All signals of the one declared file; see the module docstring."""
    _same_meaning(source, data)
    (path,) = files
    with NpzArrays(path, source.path, source.largest) as arrays:
        _check(source, arrays.form(source.signal_field), data)
        fields = arrays.read(fields_of(source, source.signal_field))
    signals = fields[source.signal_field]
    if signals.ndim == 2:
        signals = signals[:, None, :]
    owners = owners_of(source, fields[source.patient_field], len(signals))
    records, broken, flat = scaled(signals, data, source.scale or (1.0,), source.missing)
    kept = np.array([bool(owner) for owner in owners], np.bool_)
    tally = Tally(source.path, rows=len(signals))
    for fault, bad in ((Fault.NO_PATIENT, ~kept), (Fault.MISSING, broken & kept), (Fault.FLAT, flat & kept)):
        if bad.any():
            tally.faults[fault] = int(bad.sum())
    names = names_of(source, fields, kept)
    return Reading([o for o in owners if o], [""] * int(kept.sum()), records[kept], (tally,), names)


def _same_meaning(source: SignalSource, data: SignalData) -> None:
    """Refuse a source whose rate or units are not the plan's."""
    if source.rate_hz != data.rate_hz:
        raise DataError(
            "the source is sampled at another rate than the study asks for",
            field="rate_hz",
            value=source.rate_hz,
            limit=data.rate_hz,
            remedy="resample the file to the study's rate",
        )
    check_units(source.units, data, "convert the file; for int16, declare a scale into these units")
    if source.scale is not None and len(source.scale) not in (1, data.channels):
        raise DataError(
            "scale must have one entry, or one a channel", field="scale", value=len(source.scale), limit=data.channels
        )


def _check(source: SignalSource, signals: Form, data: SignalData) -> None:
    """Refuse an array of another shape or type than [m, channels, samples], or with a scale that is missing or too much."""
    shape = signals.shape
    if len(shape) == 2 and data.channels == 1:
        shape = (shape[0], 1, shape[1])
    counts = signals.dtype == np.int16
    if shape[1:] != (data.channels, data.samples) or not (counts or signals.dtype == np.float32):
        raise DataError(
            f"array {source.signal_field!r} of file {source.path!r} has another shape or type than the study asks for",
            field="signal_field",
            value=f"{signals.dtype} {['m', *shape[1:]]}",
            limit=f"float32 or int16 ['m', {data.channels}, {data.samples}]",
        )
    if counts != (source.scale is not None):
        raise DataError(
            f"array {source.signal_field!r} of file {source.path!r} is {signals.dtype}",
            field="scale",
            value="missing" if counts else "declared",
            remedy="declare scale: units per count" if counts else "leave scale out: float32 is in units already",
        )
    if source.missing is not None and not counts:
        raise DataError("missing is for int16; float32 says NaN", field="missing", value=source.missing, remedy="leave it out")
