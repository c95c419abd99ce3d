"""A signal array (fields signal, record, label) -> five sites by a keyed hash of the record (arrays.py).

Comes in: an npz file such as `ecg_cinc2017_100hz.npz`: signal int16 or float32 [m, samples] or [m, channels, samples], record
text [m], label text [m]; and what the study says of its signals. The file names neither rate nor units: the study's are
taken to be its own, and int16 to be thousandths of them (microvolts of a study in mV). Goes out: `DemoSites`. The array does
not say which records are of one patient, so each record is taken to be a patient: with two records of one person, the promise
of the demo's epsilon is to the record.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.demo_data.arrays import Labelled, Rows, Texts, texts, write_by_hash
from deploy.demo_data.sites import DemoSites, Sizes, write_signals
from ssl_core.data.npz import load_fields
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData

_KEY = b"choral-demo-signals-1"
_SCALE = 0.001


def write_sites(
    array: Path, folder: Path, data: SignalData, *, nominal_sizes: Sizes, classes: tuple[str, ...] | None = None
) -> DemoSites:
    """Write five sites under `folder` (new or empty); `classes` None evaluates every label that occurs."""
    fields = load_fields(array, array.name, ("signal", "record", "label"))
    raw = fields["signal"]
    signal = raw[:, None, :] if raw.ndim == 2 else raw
    if signal.dtype not in (np.int16, np.float32) or signal.shape[1:] != data.shape:
        raise DataError(
            "the demo's study of signals needs others",
            field="signal",
            value=f"{raw.dtype} {['m', *raw.shape[1:]]}",
            limit=f"int16 or float32 ['m', {data.channels}, {data.samples}]",
        )
    counts = signal.dtype == np.int16
    record, label = (texts(name, fields[name], len(signal)) for name in ("record", "label"))

    def write(place: Path, part: str, rows: Rows, owners: Texts) -> None:
        stem = "signals" if part == "source" else part
        write_signals(place, stem, f"{part}.toml", signal[rows], owners, data, scale=_SCALE if counts else None)

    labelled = Labelled("signals", array.name, _KEY, record, label)
    return write_by_hash(labelled, folder, write, nominal_sizes=nominal_sizes, classes=classes)
