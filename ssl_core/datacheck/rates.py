"""Step 1 of 12: the rates at which the recordings of a source were sampled, and whether its files differ in them.

Comes in: a `Source` of recordings or sounds and the plan's data. Goes out: a finding with the files counted by rate, or none.
Each reader says itself at which rates the channels stand that it would read (`rates` of its decoder), of the header alone, in
up to 200 files, evenly over the source, in worker processes with the bounds of any decoding (decoding.py). A file that is
damaged, or without these channels, is passed over: its reader counts it. Where a source resamples, files at several rates
become records without a word; but one at a lower rate than the study's holds nothing above half of it, and its patients would
differ from the others by their device (Nyquist).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ssl_core.data.declared_recordings import PiecesSource
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.dicom_waveforms import WaveformDecoder
from ssl_core.data.edf_files import EdfDecoder
from ssl_core.data.folder_files import evenly, list_files
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.sounds import SoundDecoder
from ssl_core.data.source import Source
from ssl_core.data.wfdb_files import WfdbDecoder
from ssl_core.datacheck.findings import Finding, Weight, first
from ssl_core.spec.data import Data, SignalData
from ssl_core.spec.sound import SoundData

_MOST = 200
_REMEDY = "with resample = true each would be brought to the study's rate; as it is, files at another rate are bad records"
_REMEDY_RESAMPLED = "each is brought to the study's rate by itself: nothing needs to be done"
_REMEDY_SLOW = (
    "each is brought to the study's rate by itself, but one at a lower rate holds nothing above half of it: see which devices "
    "these are, and whether the same patients are always recorded by them"
)


class _Says(Protocol):
    def rates(self, path: Path) -> Sequence[float]: ...


DECODERS: dict[str, Callable[[Any, Any], _Says]] = {
    "wfdb": WfdbDecoder,
    "edf": EdfDecoder,
    "dicom-waveform": WaveformDecoder,
    "sound": SoundDecoder,
}
"""Kind of the source -> who says the rates of a file."""


@dataclass(frozen=True, slots=True)
class _Rates:
    """Decoder: the rates of a file as one array, without a name."""

    says: _Says

    def __call__(self, path: Path) -> Sequence[Found]:
        rates = self.says.rates(path)
        return [Found(None, "", np.array(rates, np.float32))] if rates else []


def rate_findings(source: Source, data: Data, effort: Effort) -> list[Finding]:
    """One finding where the files of a source of recordings are at several rates; see the module docstring."""
    declared = source.declared
    if not isinstance(declared, PiecesSource) or not isinstance(data, SignalData | SoundData):
        return []
    files = evenly([file for file in list_files(declared, source.folder) if file.inside], _MOST)
    look = _Rates(DECODERS[declared.kind](declared, data))
    rates: dict[str, tuple[float, ...]] = {}
    for file, found in decode_all(files, look, Bounds.of(declared), workers=effort.workers):
        if not isinstance(found, Fault) and found and not isinstance(found[0].content, Fault):
            # EDF's rates come out a little beside themselves (recordings.py).
            rates[file.name] = tuple(sorted({float(f"{float(rate):.5g}") for rate in found[0].content}))
    return _mixed(rates, len(files), declared, data.rate_hz)


def _mixed(rates: dict[str, tuple[float, ...]], of: int, declared: PiecesSource, asked: float) -> list[Finding]:
    kinds = Counter(rates.values())
    if len(kinds) < 2:
        return []
    usual = max(kinds, key=lambda kind: (kinds[kind], kind))
    counted = ", ".join(f"{' and '.join(f'{rate:g}' for rate in kind)} Hz ({kinds[kind]})" for kind in sorted(kinds))
    slow = min(kind[0] for kind in kinds) < asked * (1 - 1e-4)
    remedy = _REMEDY_SLOW if declared.resample and slow else _REMEDY_RESAMPLED if declared.resample else _REMEDY
    return [
        Finding(
            "sampling rates", f"recordings at {counted}; the study asks for {asked:g} Hz", remedy,
            len(rates) - kinds[usual], of, first(name for name, kind in rates.items() if kind != usual),
            Weight.WARNING if slow or not declared.resample else Weight.NOTE,
        )
    ]  # fmt: skip
